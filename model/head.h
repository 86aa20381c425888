/* model/head.h -- the output head, by chunks of rows, so that logits of all positions never exist at once.
 *
 * An objective walks over the M hidden rows of a plan in chunks: logits of the chunk, its loss op (logits become their gradient in
 * place), back to the hidden rows' gradient; d(head) only when the head is trained. */
#ifndef DC_MODEL_HEAD_H
#define DC_MODEL_HEAD_H

#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* logits [n, V] of hidden [n, C], scale and softcap of the family applied. */
void dc_head_fwd(dc_model *m, float *logits, dc_cview hidden, int64_t n, const dc_run *run);
/* From d(loss)/d(logits) [n, V] (destroyed): dhidden [n, C] is set; the head's gradient, if trained, accumulated. `logits` are the forward's, and may be
 * NULL when the family has no softcap. */
void dc_head_bwd(dc_model *m, dc_view dhidden, float *dlogits, const float *logits, dc_cview hidden, int64_t n,
                 const dc_run *run);
/* Rows a chunk of about `bytes` bytes of logits holds, at least 1; 0: as many as suit the device. Chosen from the shape and the kind of device
 * alone. */
int64_t dc_head_chunk(const dc_model *m, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
