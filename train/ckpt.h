/* train/ckpt.h -- checkpoints: DIR/checkpoint-<step>/, complete or not there.
 *
 * Written to a staging directory, every file synced, manifest.json with sizes and hashes last, then renamed: a kill at any point leaves
 * the last good one. Holds parameters and AdamW's moments by global index (state.safetensors), and in state.json: step, position, rng keys, metrics so far
 * (as lines of metrics.jsonl), recipe, device path, format version. The newest checkpoint whose manifest holds is used; a damaged
 * one is named in a warning; one that the disk refuses to show is an error: the run must not begin anew over it. */
#ifndef DC_TRAIN_CKPT_H
#define DC_TRAIN_CKPT_H

#include <stdint.h>

#include "core/error.h"
#include "core/recipe.h"
#include "data/order.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_train_state {
    int64_t step;  /* optimizer steps done */
    int64_t micro; /* micro-batches done, for dropout's counter */
    int64_t tokens, trained_tokens;
    dc_position position;
    int64_t metrics_lines;           /* metrics.jsonl is cut behind them on resume */
    int64_t evaluated;               /* the last step that was evaluated */
    double loss, eval_loss, eval_kd; /* of the last step and the last evaluation; NaN: none */
    float *m, *v;                    /* AdamW moments of all parameters, flat in list order, on the device */
} dc_train_state;

int dc_ckpt_save(const char *dir, const dc_train_state *s, const dc_params *p, const dc_recipe *r, int64_t keep,
                 dc_error *err);
/* Fills *s (m, v are allocated by the caller) and the parameters. *found 0: there is none. A key of the recipe (NULL: none) that changed since is
 * refused when it is one of `stages` (letters of core/recipe.h). */
int dc_ckpt_load(const char *dir, int *found, dc_train_state *s, const dc_params *p, const dc_recipe *r,
                 const char *stages, dc_error *err);
/* The bytes one checkpoint takes: for the disk check and the plan. */
int64_t dc_ckpt_bytes(const dc_params *p);
/* Removes all checkpoints and metrics: --restart. */
int dc_ckpt_clear(const char *dir, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
