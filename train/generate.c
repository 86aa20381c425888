/* train/generate.c -- generation by the scorer: several sequences decoded together, the next prompt taken up when one ends. */
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/stop.h"
#include "train/score_private.h"

enum { PREFILL = 512, DEFAULT_BATCH = 16 };

/* A sequence in work. */
typedef struct slot {
    int64_t prompt;  /* its number, -1: free */
    int32_t seq;     /* in the KV cache */
    size_t fed;      /* prompt tokens given to the model */
    int32_t pending; /* the token to feed next, behind the prompt */
    int64_t here;    /* tokens in the batch being built */
} slot;

typedef struct result {
    dc_ids ids;
    int ended, ready;
} result;

typedef struct generator {
    dc_scorer *s;
    const dc_ids *prompts;
    size_t n, next, told; /* prompts; the next to take up; results told to the caller */
    const dc_generate_options *o;
    slot *slots;
    int64_t n_slots;
    result *results;
    dc_plan *plan;
    dc_kv *kv;
    int32_t *ids, *seqs, *cu;
    void *scratch;
    int (*done)(void *, size_t, const int32_t *, size_t, int, dc_error *);
    void (*token)(void *, int32_t);
    void *context;
} generator;

dc_generate_options dc_generate_defaults(void)
{
    return (dc_generate_options){.temperature = 0, .top_p = 1, .max_new_tokens = 256};
}

static int ends(const dc_scorer *s, int32_t id)
{
    size_t n;
    const int32_t *eog = dc_tokenizer_eog(s->tokenizer, &n);
    for (size_t i = 0; i < n; i++)
        if (eog[i] == id) return 1;
    return 0;
}

static int check_prompts(const generator *g, int64_t *longest, dc_error *err)
{
    const int64_t V = g->s->m->config.V;
    *longest = 0;
    if (g->o->max_new_tokens < 1) return dc_fail(err, DC_EUSAGE, "max_new_tokens must be at least 1");
    for (size_t i = 0; i < g->n; i++) {
        const int64_t need = (int64_t)g->prompts[i].n + g->o->max_new_tokens;
        if (!g->prompts[i].n) return dc_fail(err, DC_EMISMATCH, "prompt %zu is empty", i);
        if (need > g->s->max_context)
            return dc_fail(err, DC_EMISMATCH,
                           "prompt %zu has %zu tokens; with max_new_tokens %lld it passes the context of %lld", i,
                           g->prompts[i].n, (long long)g->o->max_new_tokens, (long long)g->s->max_context);
        for (size_t t = 0; t < g->prompts[i].n; t++)
            if (g->prompts[i].data[t] < 0 || g->prompts[i].data[t] >= V)
                return dc_fail(err, DC_EMISMATCH,
                               "prompt %zu: token %zu has id %d, outside the model's vocabulary of %lld", i, t,
                               g->prompts[i].data[t], (long long)V);
        if (need > *longest) *longest = need;
    }
    return DC_OK;
}

static int open_all(generator *g, dc_error *err)
{
    int rc = DC_OK;
    int64_t longest = 0;
    DC_TRY(check_prompts(g, &longest, err));
    g->n_slots = g->o->batch ? g->o->batch : DEFAULT_BATCH;
    if ((size_t)g->n_slots > g->n) g->n_slots = (int64_t)g->n;
    const size_t slots = (size_t)g->n_slots;
    const int64_t tokens = PREFILL > g->n_slots ? PREFILL : g->n_slots;
    const dc_plan_options plan = {
        .max_tokens = tokens, .max_docs = g->n_slots, .max_rows = g->n_slots, .adapter = g->s->run.adapter};
    const dc_kv_options kv = {.max_seqs = g->n_slots, .max_tokens = g->n_slots * (longest + 32)};
    DC_TRY(dc_plan_new(&g->plan, g->s->m, &plan, err));
    DC_TRY(dc_kv_new(&g->kv, g->s->m, &kv, err));
    DC_TRY(dc_scorer_room(g->s, g->n_slots, err));
    g->slots = dc_calloc(slots, sizeof *g->slots);
    g->results = dc_calloc(g->n, sizeof *g->results);
    g->ids = dc_malloc((size_t)tokens * sizeof *g->ids);
    g->seqs = dc_malloc(slots * sizeof *g->seqs);
    g->cu = dc_malloc((slots + 1) * sizeof *g->cu);
    g->scratch = dc_malloc((size_t)g->s->m->config.V * 8);
    if (!g->slots || !g->results || !g->ids || !g->seqs || !g->cu || !g->scratch)
        return dc_fail_memory(err, (size_t)tokens * sizeof *g->ids, "generation");
    for (int64_t i = 0; i < g->n_slots; i++) g->slots[i].prompt = -1;
done:
    return rc;
}

static void close_all(generator *g)
{
    for (size_t i = 0; g->results && i < g->n; i++) dc_ids_release(&g->results[i].ids);
    dc_kv_free(g->kv);
    dc_plan_free(g->plan);
    dc_free(g->slots);
    dc_free(g->results);
    dc_free(g->ids);
    dc_free(g->seqs);
    dc_free(g->cu);
    dc_free(g->scratch);
}

/* Fills the next batch: what is left of each prompt as far as PREFILL goes, else one token a sequence. Returns its sequences. */
static int64_t build(generator *g, int64_t *tokens, int *prefill)
{
    const int64_t room = PREFILL > g->n_slots ? PREFILL : g->n_slots;
    int64_t B = 0, T = 0, waiting = g->n_slots;
    *prefill = 0;
    g->cu[0] = 0;
    for (int64_t i = 0; i < g->n_slots; i++) {
        slot *k = &g->slots[i];
        waiting--;
        k->here = 0;
        if (k->prompt < 0 && g->next < g->n) {
            *k = (slot){.prompt = (int64_t)g->next++, .seq = dc_kv_open(g->kv)};
            DC_ASSERT(k->seq >= 0);
        }
        if (k->prompt < 0) continue;
        const dc_ids *prompt = &g->prompts[k->prompt];
        if (k->fed < prompt->n) {
            const int64_t left = (int64_t)(prompt->n - k->fed),
                          most = room - T - waiting; /* the others need one place each */
            k->here = left < most ? left : most;
            memcpy(g->ids + T, prompt->data + k->fed, (size_t)k->here * sizeof *g->ids);
            k->fed += (size_t)k->here;
            *prefill = 1;
        } else {
            g->ids[T] = k->pending;
            k->here = 1;
        }
        T += k->here;
        g->seqs[B++] = k->seq;
        g->cu[B] = (int32_t)T;
    }
    *tokens = T;
    return B;
}

/* Takes the next token of a sequence from its logits. */
static void advance(generator *g, slot *k, const float *logits)
{
    result *r = &g->results[k->prompt];
    const dc_sampler sampler = {.temperature = g->o->temperature,
                                .top_p = g->o->top_p,
                                .top_k = g->o->top_k,
                                .seed = g->o->seed,
                                .key = (uint64_t)k->prompt};
    const int32_t id = dc_sample(&sampler, logits, g->s->m->config.V, (uint32_t)r->ids.n, g->scratch);
    r->ended = ends(g->s, id);
    if (!r->ended) {
        dc_ids_push(&r->ids, id);
        if (g->token && k->prompt == 0) g->token(g->context, id);
    }
    k->pending = id;
    if (r->ended || r->ids.failed || (int64_t)r->ids.n >= g->o->max_new_tokens) {
        r->ready = 1;
        dc_kv_close(g->kv, k->seq);
        k->prompt = -1;
    }
}

static int tell(generator *g, dc_error *err)
{
    while (g->told < g->n && g->results[g->told].ready) {
        result *r = &g->results[g->told];
        if (r->ids.failed) return dc_fail_memory(err, r->ids.n * sizeof(int32_t), "generated tokens");
        const int rc = g->done ? g->done(g->context, g->told, r->ids.data, r->ids.n, r->ended, err) : DC_OK;
        dc_ids_release(&r->ids);
        g->told++;
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

static int round_of(generator *g, dc_error *err)
{
    const int64_t V = g->s->m->config.V;
    int64_t T;
    int prefill, rc = dc_stop_check("generation", err);
    if (rc != DC_OK) return rc;
    const double began = dc_now();
    const int64_t B = build(g, &T, &prefill);
    rc = dc_forward_kv(g->plan, g->kv, g->seqs, g->ids, g->cu, B, &g->s->run, err);
    if (rc != DC_OK) return rc;
    dc_head_fwd(g->s->m, g->s->logits, dc_view_read(dc_plan_hidden(g->plan)), B, &g->s->run);
    dc_dev_download(g->s->m->dev, g->s->host, g->s->logits, (size_t)(B * V) * sizeof(float));
    rc = dc_dev_sync(g->s->m->dev, err);
    if (rc != DC_OK) return rc;
    int64_t b = 0;
    for (int64_t i = 0; i < g->n_slots; i++) {
        slot *k = &g->slots[i];
        if (!k->here) continue;
        if (k->fed == g->prompts[k->prompt].n) advance(g, k, g->s->host + b * V);
        b++;
    }
    const double seconds = dc_now() - began;
    if (prefill) g->s->prefilled += T, g->s->prefill_seconds += seconds;
    else g->s->decoded += T, g->s->decode_seconds += seconds;
    return tell(g, err);
}

int dc_score_generate(dc_scorer *s, const dc_ids *prompts, size_t n, const dc_generate_options *o,
                      int (*done)(void *context, size_t i, const int32_t *ids, size_t n_ids, int ended, dc_error *err),
                      void (*token)(void *context, int32_t id), void *context, dc_error *err)
{
    generator g = {.s = s, .prompts = prompts, .n = n, .o = o, .done = done, .token = token, .context = context};
    if (!n) return DC_OK;
    int rc = open_all(&g, err);
    while (rc == DC_OK && g.told < n) rc = round_of(&g, err);
    close_all(&g);
    return rc;
}
