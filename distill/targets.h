/* distill/targets.h -- what is kept of a teacher's row of logits: draws, or the greatest entries. Host code, plain C: the same bits on every
 * processor for the same logits. */
#ifndef DC_DISTILL_TARGETS_H
#define DC_DISTILL_TARGETS_H

#include <stdint.h>

#include "core/error.h"
#include "distill/store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Work memory for one row at a time. */
typedef struct dc_target_scratch {
    float *e;       /* [V] exp((z - max) / t) */
    double *blocks; /* partial sums of e */
    double *draws;  /* [n_samples], or unused */
    float *heap_z;  /* [topk] */
    int32_t *heap_id;
    int64_t V;
} dc_target_scratch;

int dc_target_scratch_new(dc_target_scratch *s, const dc_store_info *info, dc_error *err);
void dc_target_scratch_release(dc_target_scratch *s); /* twice is safe */

/* One row's targets: at most n_samples (topk) entries, ids ascending. */
typedef struct dc_row_targets {
    int32_t *ids; /* room of max(n_samples, topk), the caller's */
    float *p;
    int64_t n;
    float entropy;            /* at `temperature`, nats */
    float logsumexp;          /* at temperature 1 */
    float ce;                 /* of the label, at temperature 1 */
    double mass;              /* full probability of the kept ids */
    double dot, full2, kept2; /* <full, kept>, |full|^2, |kept|^2: for the angle between them */
} dc_row_targets;

/* logits [V]; the draws are keyed by (info.seed, doc, row). DC_ENUMERIC when a logit is not finite. */
int dc_row_targets_make(dc_row_targets *out, dc_target_scratch *s, const float *logits, int32_t label,
                        const dc_store_info *info, int64_t doc, int64_t row, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
