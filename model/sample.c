/* model/sample.c -- the next token from logits.
 *
 * Cuts take the most probable tokens one by one from a heap, so that a vocabulary of 150,000 costs one pass and a few steps
 * rather than a sort. Order as in HF's processors: temperature, then top_k, then top_p of what top_k left. */
#include "model/kv.h"

#include <math.h>
#include <stddef.h>

#include "core/rng.h"

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

/* NaN counts as -inf: it is never chosen before a number. */
static int before(candidate a, candidate b)
{
    const float x = isnan(a.logit) ? -INFINITY : a.logit, y = isnan(b.logit) ? -INFINITY : b.logit;
    return x > y || (x == y && a.id < b.id);
}

static void sift(candidate *c, int64_t n, int64_t i)
{
    const candidate moved = c[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(c[child + 1], c[child])) child++;
        if (!before(c[child], moved)) break;
        c[i] = c[child];
    }
    c[i] = moved;
}

/* Moves the best of the first n to place n - 1. */
static candidate pop(candidate *c, int64_t n)
{
    const candidate best = c[0];
    c[0] = c[n - 1];
    if (n > 1) sift(c, n - 1, 0);
    c[n - 1] = best;
    return best;
}

static int32_t greedy(const float *logits, int64_t V)
{
    candidate best = {logits[0], 0};
    for (int64_t i = 1; i < V; i++) {
        const candidate c = {logits[i], (int32_t)i};
        if (before(c, best)) best = c;
    }
    return best.id;
}

static double weight(float logit, float top, double temperature)
{
    return isnan(logit) ? 0 : exp(((double)logit - (double)top) / temperature);
}

/* Walks the kept candidates, c[V - 1] the best, down to c[V - n], until `share` of their mass lies behind. */
static int32_t walk(const candidate *c, int64_t V, int64_t n, double share, float top, double temperature)
{
    double mass = 0, past = 0;
    for (int64_t i = 1; i <= n; i++) mass += weight(c[V - i].logit, top, temperature);
    for (int64_t i = 1; i <= n; i++) {
        past += weight(c[V - i].logit, top, temperature);
        if (past > share * mass) return c[V - i].id;
    }
    return c[V - 1].id;
}

static int32_t cut_and_draw(const dc_sampler *s, candidate *c, int64_t V, float top, double all, double share)
{
    const int64_t most = s->top_k > 0 && s->top_k < V ? s->top_k : V;
    const double t = s->temperature;
    for (int64_t i = V / 2; i-- > 0;) sift(c, V, i);
    int64_t popped = 0, n = 0;
    if (most < V)
        for (all = 0; popped < most; popped++) all += weight(pop(c, V - popped).logit, top, t);
    /* The fewest whose mass reaches top_p, at least one. */
    for (double past = 0; n < most && (n == 0 || s->top_p >= 1 || past < s->top_p * all); n++) {
        if (n == popped) pop(c, V - popped++);
        past += weight(c[V - 1 - n].logit, top, t);
    }
    return walk(c, V, n, share, top, t);
}

int32_t dc_sample(const dc_sampler *s, const float *logits, int64_t V, uint32_t index, void *scratch)
{
    const int32_t best = greedy(logits, V);
    const float top = logits[best];
    if (!(s->temperature > 0) || !isfinite(top)) return best;
    uint32_t u[4];
    dc_rng_u32x4(u, s->seed, DC_RNG_SAMPLE, s->key, index);
    const double share = dc_rng_f64(u[0], u[1]);
    double all = 0;
    for (int64_t i = 0; i < V; i++) all += weight(logits[i], top, s->temperature);
    if ((s->top_k > 0 && s->top_k < V) || s->top_p < 1) {
        candidate *c = scratch;
        for (int64_t i = 0; i < V; i++) c[i] = (candidate){logits[i], (int32_t)i};
        return cut_and_draw(s, c, V, top, all, share);
    }
    double past = 0;
    for (int64_t i = 0; i < V; i++) {
        past += weight(logits[i], top, s->temperature);
        if (past > share * all) return (int32_t)i;
    }
    return best;
}
