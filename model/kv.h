/* model/kv.h -- sequences: a KV cache in pages, forks for shared prefixes, batched decoding of ragged sequences.
 *
 * A page holds `page` tokens of one layer's keys and values. fork shares the pages of a sequence, counted by reference; whoever first
 * writes to a shared, partly filled one takes a copy. Weights and deltas are those of the model: decoding needs nothing prepared. */
#ifndef DC_MODEL_KV_H
#define DC_MODEL_KV_H

#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_kv_options {
    int64_t max_seqs,
        max_tokens; /* sequences at once; tokens over all of them (always room for these, at times for a few more) */
    int64_t page;   /* tokens a page; 0: 32 */
} dc_kv_options;

int dc_kv_new(dc_kv **out, dc_model *m, const dc_kv_options *options, dc_error *err);
void dc_kv_free(dc_kv *kv);
size_t dc_kv_bytes(const dc_kv *kv);

/* A new empty sequence, or a copy of one up to its present length: its number, or -1 when all are taken. */
int32_t dc_kv_open(dc_kv *kv);
int32_t dc_kv_fork(dc_kv *kv, int32_t seq);
void dc_kv_close(dc_kv *kv, int32_t seq);
void dc_kv_cut(dc_kv *kv, int32_t seq, int64_t length); /* forgets tokens from `length` on */
int64_t dc_kv_length(const dc_kv *kv, int32_t seq);

/* Runs the new tokens of B different sequences (one or more each, at most the plan's max_tokens together: a longer prompt goes in
 * pieces) and leaves the hidden state of the last token of each in the plan's tap ([B, C]). The plan is one without backward. Pages are
 * taken here; DC_ENOMEM when they are out: nothing has changed then. */
int dc_forward_kv(dc_plan *p, dc_kv *kv, const int32_t *seqs, const int32_t *ids, const int32_t *cu_new, int64_t B,
                  const dc_run *run, dc_error *err);

/* Choosing the next token from logits [V] (host memory): temperature 0 is the lowest id of the greatest logit; else softmax at
 * temperature, cut by top_k (0: all) and top_p (1: all); the draw is a function of (seed, key, index). */
typedef struct dc_sampler {
    float temperature, top_p;
    int64_t top_k;
    uint64_t seed, key;
} dc_sampler;
int32_t dc_sample(const dc_sampler *s, const float *logits, int64_t V, uint32_t index,
                  void *scratch /* [V] of 8 bytes */);

#ifdef __cplusplus
}
#endif
#endif
