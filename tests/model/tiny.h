/* tests/model/tiny.h -- small random models, adapters and batches, and the plain double forward that judges them. */
#ifndef DC_TESTS_MODEL_TINY_H
#define DC_TESTS_MODEL_TINY_H

#include "model/plan.h"

/* GQA and an own head; biases and a tied head; norms of heads whose width is not C / H; every other switch of the config. */
typedef enum tiny_kind { LLAMA, QWEN2, QWEN3, ODD, TINY_KINDS } tiny_kind;

dc_dev *tiny_dev(void);
/* All weights random, large enough to matter. Frozen: no weight has a gradient. */
dc_model *tiny_model(dc_dev *dev, tiny_kind kind, int frozen);
void tiny_zero_grad(dc_model *m);

/* A delta on each linear i of the model with wanted(i), or on all when wanted is NULL, as adapter `slot`. */
typedef struct tiny_adapter {
    dc_delta *deltas; /* [n linears], R 0: none */
    dc_joint *joints; /* [n linears], in use where a group begins; they own A and dA */
    size_t n;
    dc_model *m;
    int slot;
} tiny_adapter;
tiny_adapter tiny_adapter_new(dc_model *m, int slot, int64_t R, float dropout, int (*wanted)(size_t linear));
void tiny_adapter_zero_grad(const tiny_adapter *a);
void tiny_adapter_free(tiny_adapter *a);

enum { TINY_T = 64, TINY_B = 4 };
typedef struct tiny_batch {
    dc_batch b; /* its arrays are those below */
    int32_t ids[TINY_T], pos[TINY_T], cu_seqlens[TINY_B + 1], rows[TINY_T];
} tiny_batch;
/* Documents of the given lengths (ended by 0); every `stride`-th row is wanted. `f` must not be moved. */
void tiny_batch_init(tiny_batch *f, const dc_model *m, const int *lengths, int stride);

double tiny_uniform(uint64_t *state); /* [-1, 1) */
void tiny_fill(float *x, int64_t n, double scale, uint64_t seed);

/* ---- the judge: loops in double, no plan, no kernels ---- */

/* Hidden states behind the final norm of all rows [T, C]; the caller frees. Dropout masks are taken from the device's op. */
double *naive_hidden(const dc_model *m, const dc_batch *b, const dc_run *run);
/* Logits [V] of one hidden row. */
void naive_logits(double *logits, const dc_model *m, const double *hidden);
/* From now on the number at this address counts as `by` more; NULL ends that. For central differences. */
void naive_poke(const float *at, double by);

#endif
