/* train/loop.h -- the training loop: micro-batches, accumulation, clipping, optimizer, evaluation, metrics, checkpoints, stops.
 *
 * Knows parameters, an objective and a loader; nothing of LoRA or distillation. Losses are summed in double and divided by the trained tokens of the
 * whole accumulated batch. A non-finite loss or gradient is DC_ENUMERIC naming step and tensor, with the last good checkpoint. Signals
 * are polled between micro-batches (with several ranks between steps, where they agree): the loop saves and returns DC_ESTOPPED. */
#ifndef DC_TRAIN_LOOP_H
#define DC_TRAIN_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/recipe.h"
#include "data/order.h"
#include "train/comm.h"
#include "train/objective.h"
#include "train/params.h"
#include "train/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_train_options {
    int64_t max_steps; /* optimizer steps; or, when 0, epochs */
    double num_train_epochs;
    int64_t gradient_accumulation_steps;
    double max_grad_norm;     /* 0: no clipping */
    dc_adamw adamw;           /* lr is the schedule's; step and grad_scale are the loop's */
    dc_schedule schedule;     /* total_steps is the loop's */
    double warmup_ratio;      /* of all steps, rounded up, when schedule.warmup_steps is 0 */
    int64_t save_steps;       /* 0: at the end and on a signal only */
    int64_t save_total_limit; /* at least 2 */
    int64_t eval_steps;       /* 0: at the end only, when there is an evaluation set */
    int eval_on_start;        /* also before the first step */
    int64_t logging_steps;
    uint64_t seed;
} dc_train_options;

/* Fills from `prefix` ("train" or "teacher.train") of a recipe. */
void dc_train_options_from_recipe(dc_train_options *out, const dc_recipe *r, const char *prefix);

typedef struct dc_trainer {
    dc_plan *plan;
    dc_params *params;
    dc_objective *objective;
    dc_loader *loader;
    dc_loader *eval_loader;       /* or NULL */
    dc_objective *eval_objective; /* or NULL: `objective` */
    int adapter;                  /* of dc_run; -1: full training */
    const char *dir;              /* DIR/metrics.jsonl, DIR/checkpoint-N */
    const char *stage;            /* name on the screen: "train" */
    const dc_recipe *recipe;      /* kept in checkpoints */
    const char *recipe_stages;    /* "T": stages whose keys must not have changed on resume (core/recipe.h) */
    dc_train_options options;
    int restart; /* ignore checkpoints */
    /* The ranks that train together, each with a loader of its own part; NULL: this one alone. Rank 0 writes metrics and checkpoints. */
    dc_comm *comm;
} dc_trainer;

typedef struct dc_train_result {
    int64_t steps, tokens, trained_tokens;
    double seconds;                  /* of this process */
    double loss, eval_loss, eval_kd; /* of the last step; NaN: none */
    int resumed;                     /* began from a checkpoint */
} dc_train_result;

/* Runs to the end or to a stop. Resumes from the newest good checkpoint in dir by itself. */
int dc_train(const dc_trainer *t, dc_train_result *out, dc_error *err);
/* One pass over a loader's epoch without gradients: sums, over all ranks of `comm` (NULL: alone). */
int dc_evaluate(dc_plan *plan, dc_objective *objective, dc_loader *loader, int adapter, const char *stage,
                dc_comm *comm, dc_losses *out, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
