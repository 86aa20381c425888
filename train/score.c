/* train/score.c -- the scorer by decant's own forward: whole sequences. Generation stands in generate.c. */
#include "train/score_private.h"

#include <math.h>

#include "core/arena.h"
#include "core/stop.h"

int dc_scorer_new(dc_scorer **out, dc_model *m, const dc_tokenizer *t, int adapter, int64_t max_context, dc_error *err)
{
    dc_scorer *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a scorer");
    *s = (dc_scorer){.m = m,
                     .tokenizer = t,
                     .max_context = max_context ? max_context : m->config.max_position,
                     .run = {.adapter = adapter}};
    *out = s;
    return DC_OK;
}

void dc_scorer_free(dc_scorer *s)
{
    if (!s) return;
    dc_plan_free(s->plan);
    dc_dev_free(s->m->dev, s->logits);
    dc_free(s->host);
    dc_free(s->index);
    dc_free(s);
}

/* A plan for sequences of T tokens, made again when a longer one comes, and room for one chunk of logits. */
static int prepare(dc_scorer *s, int64_t T, dc_error *err)
{
    int rc = DC_OK;
    if (T < 1) return dc_fail(err, DC_EMISMATCH, "a sequence without tokens has no logits");
    if (T > s->max_context)
        return dc_fail(err, DC_EMISMATCH, "a sequence of %lld tokens is longer than the context of %lld", (long long)T,
                       (long long)s->max_context);
    if (!s->plan || dc_plan_options_of(s->plan)->max_tokens < T) {
        dc_plan_free(s->plan);
        s->plan = NULL;
        const int64_t bound = (T + 255) / 256 * 256;
        const dc_plan_options o = {.max_tokens = bound, .max_docs = 1, .max_rows = bound, .adapter = s->run.adapter};
        dc_free(s->index);
        s->index = dc_malloc((size_t)bound * 2 * sizeof *s->index);
        if (!s->index) return dc_fail_memory(err, (size_t)bound * 2 * sizeof *s->index, "row numbers");
        DC_TRY(dc_plan_new(&s->plan, s->m, &o, err));
    }
    DC_TRY(dc_scorer_room(s, dc_head_chunk(s->m, 32 << 20), err));
done:
    return rc;
}

int dc_scorer_room(dc_scorer *s, int64_t rows, dc_error *err)
{
    if (rows <= s->rows) return DC_OK;
    const size_t bytes = (size_t)rows * (size_t)s->m->config.V * sizeof(float);
    void *memory = NULL;
    dc_dev_free(s->m->dev, s->logits);
    dc_free(s->host);
    s->logits = NULL, s->rows = 0;
    s->host = dc_malloc(bytes);
    if (!s->host) return dc_fail_memory(err, bytes, "logits");
    const int rc = dc_dev_alloc(s->m->dev, &memory, bytes, "logits", err);
    if (rc != DC_OK) return rc;
    s->logits = memory, s->rows = rows;
    return DC_OK;
}

/* Forward of one sequence; its hidden rows are then in the plan's tap. */
static int forward(dc_scorer *s, const int32_t *ids, int64_t T, dc_error *err)
{
    int rc = prepare(s, T, err);
    if (rc != DC_OK) return rc;
    int32_t *pos = s->index, *rows = s->index + T;
    for (int64_t t = 0; t < T; t++) {
        pos[t] = rows[t] = (int32_t)t;
        if (ids[t] < 0 || ids[t] >= s->m->config.V)
            return dc_fail(err, DC_EMISMATCH, "token %lld has id %d, outside the model's vocabulary of %lld",
                           (long long)t, ids[t], (long long)s->m->config.V);
    }
    const int32_t cu[2] = {0, (int32_t)T};
    const dc_batch batch = {.T = T, .B = 1, .M = T, .ids = ids, .pos = pos, .cu_seqlens = cu, .rows = rows};
    rc = dc_stop_check("scoring", err);
    if (rc != DC_OK) return rc;
    dc_forward(s->plan, &batch, &s->run);
    return DC_OK;
}

/* Calls take() with logits (on the host) of rows [first, first + n) of a sequence, chunk by chunk. */
typedef void take_fn(void *context, const float *logits, int64_t first, int64_t n);

static int walk(dc_scorer *s, const int32_t *ids, int64_t T, take_fn *take, void *context, dc_error *err)
{
    const int64_t C = s->m->config.C, V = s->m->config.V;
    int rc = forward(s, ids, T, err);
    for (int64_t first = 0; rc == DC_OK && first < T; first += s->rows) {
        const int64_t n = T - first < s->rows ? T - first : s->rows;
        dc_head_fwd(s->m, s->logits, dc_view_read(dc_view_at(dc_plan_hidden(s->plan), first * C)), n, &s->run);
        dc_dev_download(s->m->dev, s->host, s->logits, (size_t)(n * V) * sizeof(float));
        rc = dc_dev_sync(s->m->dev, err);
        if (rc == DC_OK) take(context, s->host, first, n);
    }
    return rc;
}

typedef struct taker {
    int64_t V, T;
    float *logits;
    double *logprob;
    const int32_t *ids;
} taker;

static void take_logits(void *context, const float *logits, int64_t first, int64_t n)
{
    const taker *k = context;
    for (int64_t i = 0; i < n * k->V; i++) k->logits[first * k->V + i] = logits[i];
}

static void take_logprobs(void *context, const float *logits, int64_t first, int64_t n)
{
    const taker *k = context;
    for (int64_t t = first; t < first + n && t + 1 < k->T; t++) {
        const float *z = logits + (t - first) * k->V;
        double top = (double)z[0], sum = 0;
        for (int64_t v = 1; v < k->V; v++) top = (double)z[v] > top ? (double)z[v] : top;
        for (int64_t v = 0; v < k->V; v++) sum += exp((double)z[v] - top);
        k->logprob[t] = (double)z[k->ids[t + 1]] - top - log(sum);
    }
}

int dc_score_logits(dc_scorer *s, float *out, const int32_t *ids, int64_t T, dc_error *err)
{
    taker k = {.V = s->m->config.V, .T = T, .logits = out};
    return walk(s, ids, T, take_logits, &k, err);
}

int dc_score_logprobs(dc_scorer *s, double *logprob, const int32_t *ids, int64_t T, dc_error *err)
{
    taker k = {.V = s->m->config.V, .T = T, .logprob = logprob, .ids = ids};
    return walk(s, ids, T, take_logprobs, &k, err);
}

void dc_scorer_rates(const dc_scorer *s, int64_t *prefilled, double *prefill_seconds, int64_t *decoded,
                     double *decode_seconds)
{
    *prefilled = s->prefilled, *prefill_seconds = s->prefill_seconds;
    *decoded = s->decoded, *decode_seconds = s->decode_seconds;
}
