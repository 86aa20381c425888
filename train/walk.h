/* train/walk.h -- the walk over hidden rows by chunks that every objective with the head shares.
 *
 * For each chunk: head forward, the caller's targets, loss op, head backward into the plan's hidden gradient. Owns one chunk of logits
 * and the rows' small arrays on the device; allocates nothing while running. */
#ifndef DC_TRAIN_WALK_H
#define DC_TRAIN_WALK_H

#include "train/objective.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_walk dc_walk;

/* `chunk_bytes`: about how much the chunk of logits may take, 0: as suits the device. */
int dc_walk_new(dc_walk **out, dc_model *m, int64_t chunk_bytes, dc_error *err);
void dc_walk_free(dc_walk *w); /* NULL is fine */
size_t dc_walk_bytes(const dc_walk *w);
int64_t dc_walk_chunk(const dc_walk *w); /* most rows a chunk has */

/* Completes `loss` for rows [first, first + n) of the batch: kind, temperature, targets (on the device). What it points at must stay until
 * the next call. */
typedef int dc_walk_targets_fn(void *context, dc_loss *loss, int64_t first, int64_t n, dc_error *err);

typedef struct dc_walk_options {
    double ce_scale, kd_scale; /* loss = ce_scale * CE + kd_scale * KD, per row, times the row's weight */
    double denominator;
    int gradient;
    dc_walk_targets_fn *targets; /* NULL: cross-entropy alone */
    void *context;
} dc_walk_options;

/* Adds undivided sums to *out. */
int dc_walk_run(dc_walk *w, dc_plan *plan, const dc_packed *batch, const dc_run *run, const dc_walk_options *o,
                dc_losses *out, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
