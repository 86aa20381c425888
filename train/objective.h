/* train/objective.h -- the seam between the loop and what is minimized.
 *
 * An objective reads the plan's hidden rows, walks them with the head in chunks, and sets their gradient. It declares its
 * denominator, which the loop sums over micro-batches and ranks before the first backward, so that accumulation does not change
 * the result. Cross-entropy lives here; divergences in distill/; the loop knows none of them. */
#ifndef DC_TRAIN_OBJECTIVE_H
#define DC_TRAIN_OBJECTIVE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/order.h"
#include "model/head.h"
#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sums over rows, undivided; the loop divides by the denominator. */
typedef struct dc_losses {
    double loss;   /* everything included */
    double ce, kd; /* parts, not weighted against each other */
    double rows;   /* rows that counted */
    double top1;   /* rows whose greatest logit is the label */
    double weight; /* the denominator's share of this batch */
} dc_losses;

typedef struct dc_objective dc_objective;

struct dc_objective {
    const char *name; /* "cross_entropy", "forward_kl" */
    int has_kd;       /* its losses have a kd part */
    /* What this micro-batch adds to the denominator (its trained tokens, weighted). */
    int (*measure)(dc_objective *self, const dc_packed *batch, double *weight, dc_error *err);
    /* After a forward of `batch`: adds to *out, and with `gradient` sets the plan's hidden gradient, divided by `denominator`. */
    int (*run)(dc_objective *self, dc_plan *plan, const dc_packed *batch, const dc_run *run, double denominator,
               int gradient, dc_losses *out, dc_error *err);
    /* Device bytes it holds beside the plan: for the forecast. */
    size_t (*bytes)(const dc_objective *self);
    void (*free)(dc_objective *self);
};

/* Cross-entropy over the vocabulary. `chunk_bytes`: about how much a chunk of logits may take, 0: as suits the device. */
int dc_objective_cross_entropy(dc_objective **out, dc_model *m, int64_t chunk_bytes, dc_error *err);

/* The `measure` of objectives that count each row by its weight. */
int dc_objective_weigh(dc_objective *self, const dc_packed *batch, double *weight, dc_error *err);
/* The batch of a packed micro-batch. */
dc_batch dc_batch_of(const dc_packed *p);

#ifdef __cplusplus
}
#endif
#endif
