/* train/score.h -- the scorer: prompts in; log-probabilities, top-n and text out. eval, parity, cascade and rewards see only this. */
#ifndef DC_TRAIN_SCORE_H
#define DC_TRAIN_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "data/tokenizer.h"
#include "model/kv.h"
#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_scorer dc_scorer;

typedef struct dc_generate_options {
    float temperature, top_p;
    int64_t top_k, max_new_tokens;
    uint64_t seed;
    int64_t batch; /* sequences decoded together; 0: chosen */
} dc_generate_options;

dc_generate_options dc_generate_defaults(void);

/* By decant's own forward. Model and tokenizer must outlive it. `adapter` -1: the base. */
int dc_scorer_new(dc_scorer **out, dc_model *m, const dc_tokenizer *t, int adapter, int64_t max_context, dc_error *err);
void dc_scorer_free(dc_scorer *s);

/* All logits of one sequence to out [T, V], chunk by chunk. */
int dc_score_logits(dc_scorer *s, float *out, const int32_t *ids, int64_t T, dc_error *err);
/* log p(ids[t] | before) for t in [1, T) to logprob [T - 1]. */
int dc_score_logprobs(dc_scorer *s, double *logprob, const int32_t *ids, int64_t T, dc_error *err);
/* Continues each of n prompts until an end-of-generation token, which is not part of the result, or max_new_tokens. `done` is called
 * once for each prompt, in order; `token`, unless NULL, for every token of prompt 0 as it comes (streaming). */
int dc_score_generate(dc_scorer *s, const dc_ids *prompts, size_t n, const dc_generate_options *o,
                      int (*done)(void *context, size_t i, const int32_t *ids, size_t n_ids, int ended, dc_error *err),
                      void (*token)(void *context, int32_t id), void *context, dc_error *err);
/* Tokens prefilled and decoded, and seconds spent on each, so far. */
void dc_scorer_rates(const dc_scorer *s, int64_t *prefilled, double *prefill_seconds, int64_t *decoded,
                     double *decode_seconds);

#ifdef __cplusplus
}
#endif
#endif
