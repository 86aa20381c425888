/* model/plan.h -- the forward and backward pass as one list of steps, its memory laid out before it runs.
 *
 * The config's switches become steps: an op, its operands as indices into a table of buffers, sizes as symbols of the batch (tokens,
 * loss rows) with a bound. Forward runs the list; backward runs its mirror, each op's _bwd beside its _fwd; there is no autograd
 * engine. A buffer is kept for the backward, or made again in it from what was kept (norm outputs, gated products;
 * whole layers with `checkpoint`): the program with these repeats in place is fixed when the plan is made, every buffer's life is
 * known, and one arena of exactly the size that dc_plan_bytes says holds them all. Running allocates nothing.
 *
 * Batches are packed: documents one behind another in [T, C], attention never crosses a document, positions restart. Only
 * the M rows with a loss reach the head (model/head.h), which no plan holds: logits never exist for all of them. Behind the last
 * layer's attention, where no row looks at another, those rows alone are computed. */
#ifndef DC_MODEL_PLAN_H
#define DC_MODEL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_kv dc_kv;

/* What one pass works on; all arrays on the host, valid during the call. */
typedef struct dc_batch {
    int64_t T, B, M;
    const int32_t *ids;        /* [T], each in [0, V) */
    const int32_t *pos;        /* [T] */
    const int32_t *cu_seqlens; /* [B + 1] */
    const int32_t *rows;       /* [M] rows of [0, T) whose hidden state is wanted, ascending */
    /* decoding: the B "documents" are the new tokens of these sequences of `kv`; NULL: none */
    dc_kv *kv;
    const int32_t *seqs; /* [B] */
} dc_batch;

typedef struct dc_run {
    int adapter;                 /* which delta is active; -1: the base alone */
    int training;                /* dropout on */
    uint64_t seed;               /* of dropout */
    uint32_t step;               /* micro-batch counter of dropout */
    const uint32_t *device_step; /* private: `step` where the device's ops read it; a plan sets it */
} dc_run;

typedef struct dc_plan_options {
    int64_t max_tokens, max_docs, max_rows; /* bounds of T, B, M; max_rows 0: max_tokens */
    int adapter;                            /* the delta the plan must be able to train or run; -1: none */
    int backward;                           /* keep what a backward needs */
    int checkpoint;                         /* keep only each layer's input */
} dc_plan_options;

typedef struct dc_plan dc_plan;

/* DC_ENOMEM with the figures when the arena does not fit in the machine's memory. Deltas and gradients are read through the model at
 * each run, but which exist is fixed here. */
int dc_plan_new(dc_plan **out, dc_model *m, const dc_plan_options *options, dc_error *err);
void dc_plan_free(dc_plan *p); /* NULL is fine */
dc_model *dc_plan_model(const dc_plan *p);
const dc_plan_options *dc_plan_options_of(const dc_plan *p);
size_t dc_plan_bytes(const dc_plan *p); /* the arena */
/* The bytes a plan would take, without making it. */
int dc_plan_forecast(size_t *bytes, dc_model *m, const dc_plan_options *options, dc_error *err);
/* The list for a person: step, op, operands, shapes, bytes, kept or made again. */
void dc_plan_print(const dc_plan *p, dc_str *out);

/* Forward. Leaves the hidden states (final norm applied) of the batch's rows in the tap. Bounds exceeded or an id outside
 * the vocabulary are our bugs: loaders check. M may be 0. run->adapter is the plan's own or -1. Polls nothing. Queued: the batch may change
 * at once, and what fails on the device comes out of the next dc_dev_sync. */
void dc_forward(dc_plan *p, const dc_batch *b, const dc_run *run);
/* The tap of the last forward: [M, C], and its gradient [M, C] (NULL data without backward), which an objective sets whole. */
dc_view dc_plan_hidden(const dc_plan *p);
dc_view dc_plan_hidden_grad(const dc_plan *p);
/* Backward of the last forward, once: adds to the gradients of the active delta and of trained weights. The tap is gone then. Queued too. */
void dc_backward(dc_plan *p);

/* Runs the last forward again, to the first step whose output is not finite: fills `what` with "model.layers.11.mlp.down_proj output,
 * row 388" (of the T rows) and returns 1, or 0 when all is finite. Slow, and no backward may follow: for the message after a non-finite
 * loss. After a decoding pass, whose cache has moved on, only the tap is looked at. */
int dc_plan_find_nonfinite(dc_plan *p, dc_str *what);

/* What each kind of step took since the last call, for bench and --profile; n of at most room. Bytes are what operands and results are: what
 * crosses memory when no cache helps. */
typedef struct dc_profile_row {
    const char *name;
    double seconds, flops, bytes;
    int64_t calls;
} dc_profile_row;
void dc_plan_profile(dc_plan *p, int on);
size_t dc_plan_profile_rows(dc_plan *p, dc_profile_row *rows, size_t room);

#ifdef __cplusplus
}
#endif
#endif
