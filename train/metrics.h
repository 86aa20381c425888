/* train/metrics.h -- metrics.jsonl: one JSON line an optimizer step and one an evaluation, flushed as written.
 *
 * Keys of a step: step (from 1), loss (before the update), ce, kd (when distilling), grad_norm (before clipping), learning_rate, tokens,
 * trained_tokens, seconds (all three of this step). Of an evaluation: step, eval_loss, eval_ce, eval_kd, eval_accuracy, eval_tokens,
 * eval_seconds. */
#ifndef DC_TRAIN_METRICS_H
#define DC_TRAIN_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "train/objective.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_metrics {
    FILE *file;
    char *path; /* owned */
    int64_t lines;
} dc_metrics;

/* Opens DIR/metrics.jsonl for appending behind its first `lines` lines; what was behind them is cut: those steps come again. A file with
 * fewer, or none, is gone on with as it is, but for an unfinished line at its end. */
int dc_metrics_open(dc_metrics *m, const char *dir, int64_t lines, dc_error *err);

typedef struct dc_step_line {
    int64_t step, tokens;
    double denominator, grad_norm, learning_rate, seconds;
    dc_losses sums;
    int kd; /* the objective has a KD part */
} dc_step_line;

int dc_metrics_step(dc_metrics *m, const dc_step_line *line, dc_error *err);
int dc_metrics_eval(dc_metrics *m, int64_t step, const dc_losses *sums, int kd, double seconds, dc_error *err);
void dc_metrics_close(dc_metrics *m); /* twice is safe */

#ifdef __cplusplus
}
#endif
#endif
