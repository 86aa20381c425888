/* data/order.h -- which documents make which micro-batch: a pure function of (seed, epoch, position).
 *
 * Document order is a keyed permutation of the set; a source's weight says how often an epoch shows it; packing is best-fit
 * decreasing over a fixed window of documents in that order. The whole data position is three integers, so a resume is exact and
 * costs nothing, for any number of threads or ranks. */
#ifndef DC_DATA_ORDER_H
#define DC_DATA_ORDER_H

#include <stdint.h>

#include "core/error.h"
#include "data/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_loader_options {
    uint64_t seed;
    int shuffle;        /* 0: file order */
    int packing;        /* 0: one document a sequence */
    int64_t max_length; /* tokens of a packed sequence; no document is longer */
    int64_t batch_size; /* sequences a micro-batch */
    int64_t window;     /* documents considered together for packing; 0: 1024 */
    const double *
        weights; /* [n_weights] by source: how many times an epoch shows its documents (0.5: half of them, the other half in
                                the next epoch); NULL, or a source beyond them: once */
    size_t n_weights;
    int64_t ranks, rank; /* micro-batch i of the global order goes to rank i % ranks */
} dc_loader_options;

/* One micro-batch: documents one behind another. All arrays belong to the loader and are valid until the next call. */
typedef struct dc_packed {
    int64_t T, B, M;
    const int32_t *ids;        /* [T] */
    const int32_t *pos;        /* [T] from 0 in each document */
    const int32_t *cu_seqlens; /* [B + 1] */
    const int32_t *rows;       /* [M] rows whose next token is a target, ascending */
    const int32_t *labels;     /* [M] that next token */
    const float *weight;       /* [M] the document's loss weight */
    const int64_t *docs;       /* [B] document numbers in the set */
    const int32_t
        *cu_rows; /* [B + 1] document b owns rows cu_rows[b] .. cu_rows[b+1] of M: the keys of stored targets */
} dc_packed;

/* Where a loader stands. */
typedef struct dc_position {
    int64_t epoch, window, bin;
} dc_position;

typedef struct dc_loader dc_loader;

int dc_loader_new(dc_loader **out, dc_set *set, const dc_loader_options *options, dc_error *err);
void dc_loader_free(dc_loader *l); /* NULL is fine */
/* The next micro-batch; a new epoch begins by itself: *epoch_ended tells that this one was the last of its epoch (may be NULL); with several
 * ranks, that the epoch ended among those that the ranks take now, so that all say the same. The last one of a window may have fewer sequences.
 * After a failure the loader stands where it stood. */
int dc_loader_next(dc_loader *l, dc_packed *out, int *epoch_ended, dc_error *err);
dc_position dc_loader_position(const dc_loader *l);
/* A position behind the end of its window or epoch (the set was larger then) is the beginning of the next one. */
void dc_loader_seek(dc_loader *l, dc_position position);
/* Micro-batches of one epoch (walks the lengths once). */
int64_t dc_loader_epoch_batches(dc_loader *l);
/* Bounds of T, B, M over all micro-batches: for the plan. */
void dc_loader_bounds(dc_loader *l, int64_t *T, int64_t *B, int64_t *M);

#ifdef __cplusplus
}
#endif
#endif
