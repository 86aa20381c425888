/* kernels/attn_vec_bwd_tmpl.c -- the backward of attention in registers of DC_LANES floats; included behind attn_vec_tmpl.c.
 *
 * A block of query rows meets keys in a tile: p = exp(s - lse) and ds = p * (dp - delta), from which come
 *     dq += ds k,   dk += ds^T q,   dv += p^T do.
 * A task owns a block of keys of a document and kv head. It packs them, and walks over the blocks of rows that see them, from the
 * last to the first; dk and dv are its own. A block of dq gets a part from each task that its rows see, in the order of their keys: a
 * task adds its part when the one before in the chain says that it has added its own. Tasks begin in that order at the last block
 * of rows, so that each follows the one before at a distance and hardly ever waits; no product is computed twice. */
#include "kernels/attn_tile.h"

#include <math.h>
#include <sched.h>
#include <stdatomic.h>

#include "core/pool.h"

enum {
    BWD_ROWS = 96,
    BWD_KEYS =
        128, /* of width 64: more of them visit memory less often, but their 200 KB should stay in the second-level cache */
    SLOTS = 256
};

/* How far tasks are: slot i % SLOTS holds i * 2^32 + steps while task i runs, (i + 1) * 2^32 when it has ended; then the slot is
 * task i + SLOTS's. Tasks take their numbers as they begin and wait for lower ones alone, which are running: someone can always go on. */
typedef struct chain {
    _Atomic int64_t next, done[SLOTS];
} chain;

static void chain_wait(chain *c, int64_t task, int64_t steps)
{
    const int64_t wanted = task * (INT64_C(1) << 32) + steps;
    for (int tries = 0; atomic_load_explicit(&c->done[task % SLOTS], memory_order_acquire) < wanted; tries++) {
        _mm_pause();
        if (tries % 64 == 63) sched_yield(); /* more threads than cores */
    }
}

static int64_t chain_begin(chain *c)
{
    const int64_t task = atomic_fetch_add(&c->next, 1);
    if (task >= SLOTS) chain_wait(c, task - SLOTS, INT64_C(1) << 32);
    return task;
}

static void chain_step(chain *c, int64_t task, int64_t steps)
{
    atomic_store_explicit(&c->done[task % SLOTS], task * (INT64_C(1) << 32) + steps, memory_order_release);
}

static void chain_end(chain *c, int64_t task) { chain_step(c, task, INT64_C(1) << 32); }

typedef struct backward {
    float *dq, *dk, *dv;
    const float *d_o, *o, *lse, *q, *k, *v;
    const dc_attn *a;
    int64_t G, rows; /* H / K, rows a block */
    chain *chain;
} backward;

typedef struct bwd_work {
    _Alignas(64) float q[BWD_ROWS * DC_LD(128)]; /* times scale (over softcap) */
    float d_o[BWD_ROWS * DC_LD(128)], dq[BWD_ROWS * DC_LD(128)];
    float kt[BWD_KEYS * 64], vt[BWD_KEYS * 64]; /* transposed, in groups of DC_NR keys */
    float k[BWD_KEYS * DC_LD(64)], dk[BWD_KEYS * DC_LD(64)], dv[BWD_KEYS * DC_LD(64)];
    float p[BWD_ROWS * DC_LDS], ds[BWD_ROWS * DC_LDS];
    float lse[BWD_ROWS], delta[BWD_ROWS];
} bwd_work;
_Static_assert(sizeof(bwd_work) <= DC_ATTN_STACK, "attention's scratch");
_Static_assert(DC_LD(128) <= 2 * DC_LD(64) && DC_LD(256) <= 4 * DC_LD(64), "fewer keys that are as much wider");

/* Keys a task in a document of n tokens. */
static int64_t keys_a_task(int64_t D, int64_t n)
{
    const int64_t keys = D <= 64 ? BWD_KEYS : D <= 128 ? BWD_KEYS / 2 : BWD_KEYS / 4;
    return n <= 2 * BWD_KEYS ? dc_min64(keys, BWD_KEYS / 2) : keys;
}

/* Where a task is: document from token t0 on with n tokens, kv head, keys j0 .. j0 + nk of blocks of `keys`. */
typedef struct place {
    int64_t t0, n, kv, keys, j0, nk;
} place;

/* Tasks count documents, then blocks of keys from the first (which most rows see), then kv heads: the task before in a chain is
 * number i - K. */
static place bwd_place(const dc_attn *a, int64_t i)
{
    for (int64_t b = 0;; b++) {
        const int64_t n = a->cu_seqlens[b + 1] - a->cu_seqlens[b], keys = keys_a_task(a->D, n);
        const int64_t tasks = (n + keys - 1) / keys * a->K, j0 = i / a->K * keys;
        if (i < tasks) return (place){a->cu_seqlens[b], n, i % a->K, keys, j0, dc_min64(keys, n - j0)};
        i -= tasks;
    }
}

static int64_t bwd_tasks(const dc_attn *a)
{
    int64_t sum = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t n = a->cu_seqlens[b + 1] - a->cu_seqlens[b], keys = keys_a_task(a->D, n);
        sum += (n + keys - 1) / keys * a->K;
    }
    return sum;
}

/* Row r of the document as a row of q's [T * H]. */
DC_INLINE int64_t q_row(const backward *j, const place *at, int64_t r)
{
    return (at->t0 + r / j->G) * j->a->H + at->kv * j->G + r % j->G;
}

static void load_rows(bwd_work *w, const backward *j, const place *at, int64_t r0, int64_t n)
{
    const int64_t D = j->a->D, ld = DC_LD(D);
    const float scale = j->a->softcap > 0 ? j->a->scale / j->a->softcap : j->a->scale;
    for (int64_t r = 0; r < n; r++) {
        const int64_t row = q_row(j, at, r0 + r);
        const float *d_o = j->d_o + row * D, *o = j->o + row * D;
        dc_pack_row(w->q + r * ld, j->q + row * D, D, scale);
        dc_pack_row(w->d_o + r * ld, d_o, D, 1);
        dc_vec sum = dc_set(0);
        int64_t d = 0;
        for (; d + DC_LANES <= D; d += DC_LANES) sum = dc_fma(dc_load(d_o + d), dc_load(o + d), sum);
        if (d < D) sum = dc_fma(dc_load_n(d_o + d, D - d), dc_load_n(o + d, D - d), sum);
        w->delta[r] = dc_sum_lanes(sum);
        w->lse[r] = j->lse[row];
    }
    memset(w->dq, 0, (size_t)(n * ld) * sizeof *w->dq);
}

/* Rows r .. r + n, those from `least` on. */
static void prefetch_rows(const backward *j, const place *at, int64_t r, int64_t n, int64_t least)
{
    const int64_t D = j->a->D, end = r + n;
    for (r = dc_max64(r, least); r < end; r++) {
        const int64_t row = q_row(j, at, r) * D;
        dc_prefetch(j->q + row, D), dc_prefetch(j->d_o + row, D), dc_prefetch(j->o + row, D);
        dc_prefetch(j->dq + row, D);
    }
}

static void load_keys(bwd_work *w, const backward *j, const place *at)
{
    const int64_t D = j->a->D, ld = DC_LD(D), stride = j->a->K * D;
    const int64_t from = (at->t0 + at->j0) * stride + at->kv * D;
    dc_pack_columns(w->kt, 0, j->k + from, at->nk, stride, D);
    dc_pack_columns_end(w->kt, at->nk, D);
    dc_pack_columns(w->vt, 0, j->v + from, at->nk, stride, D);
    dc_pack_columns_end(w->vt, at->nk, D);
    for (int64_t i = 0; i < at->nk; i++) dc_pack_row(w->k + i * ld, j->k + from + i * stride, D, 1);
    memset(w->dk, 0, (size_t)(at->nk * ld) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(at->nk * ld) * sizeof *w->dv);
}

/* One row of scores s and of dp = do . v becomes p and ds; 0 where the row does not see the key. */
DC_INLINE void row_gradient(float *p, float *ds, int64_t c0, int64_t c1, int64_t cols, dc_span64 sees, float lse,
                            float delta, float cap)
{
    const dc_vec l = dc_set(lse), dl = dc_set(delta), capv = dc_set(cap), one = dc_set(1), zero = dc_set(0);
    const int all = sees.lo <= c0 && sees.hi >= c1;
    for (int64_t c = c0; c < c1; c += DC_LANES) {
        const dc_vec x = dc_load(p + c), th = cap > 0 ? dc_tanh(x) : x;
        dc_vec e = dc_exp_flush(dc_sub(cap > 0 ? dc_mul(capv, th) : x, l));
        dc_vec g = dc_mul(e, dc_sub(dc_load(ds + c), dl));
        if (cap > 0) g = dc_mul(g, dc_fnma(th, th, one));
        if (!all) {
            const dc_mask m = dc_between(c, sees.lo, sees.hi);
            e = dc_keep(m, e), g = dc_keep(m, g);
        }
        dc_store(p + c, e);
        dc_store(ds + c, g);
    }
    /* The rest is read by panels of keys that reach over c0 or c1. */
    for (int64_t c = 0; c < c0; c += DC_LANES) dc_store(p + c, zero), dc_store(ds + c, zero);
    for (int64_t c = c1; c < cols; c += DC_LANES) dc_store(p + c, zero), dc_store(ds + c, zero);
}

/* A tile: rows r0 .. r0 + n, and of the task's keys those from j on, nk of them. */
typedef struct tile {
    int64_t r0, n, j, nk;
} tile;

/* p and ds of a tile, and dq += ds k. */
static void tile_rows(bwd_work *w, const backward *b, const place *at, const tile *t)
{
    const dc_attn *a = b->a;
    const int64_t D = a->D, ld = DC_LD(D), G = b->G, cols = dc_round_up(t->nk, DC_LANES), j0 = at->j0 + t->j;
    for (int64_t r = 0; r < t->n; r += DC_MR) {
        const int rows = (int)dc_min64(DC_MR, t->n - r);
        if (t->j == 0) prefetch_rows(b, at, t->r0 + r - b->rows, rows, at->j0 * G);
        const dc_span64 all = dc_sees((t->r0 + r) / G, (t->r0 + r + rows - 1) / G, a->window, j0, t->nk);
        if (all.lo >= all.hi) continue;
        const int64_t c0 = all.lo / DC_NR * DC_NR, c1 = dc_round_up(all.hi, DC_LANES), from = (t->j + c0) * D;
        float *p = w->p + r * DC_LDS, *ds = w->ds + r * DC_LDS;
        dc_mul_set(rows, c1 - c0, D, w->q + r * ld, ld, w->kt + from, DC_NR, DC_NR * D, p + c0, DC_LDS);
        dc_mul_set(rows, c1 - c0, D, w->d_o + r * ld, ld, w->vt + from, DC_NR, DC_NR * D, ds + c0, DC_LDS);
        for (int i = 0; i < rows; i++) {
            const int64_t token = (t->r0 + r + i) / G, row = i * DC_LDS;
            const dc_span64 sees = dc_sees(token, token, a->window, j0, t->nk);
            const float lse = w->lse[r + i], delta = w->delta[r + i];
            if (a->softcap > 0) row_gradient(p + row, ds + row, c0, c1, cols, sees, lse, delta, a->softcap);
            else row_gradient(p + row, ds + row, c0, c1, cols, sees, lse, delta, 0);
        }
        dc_mul_add(rows, dc_round_up(D, DC_LANES), all.hi - all.lo, ds + all.lo, DC_LDS, 1, w->k + (t->j + all.lo) * ld,
                   ld, w->dq + r * ld, ld);
    }
}

/* dk += ds^T q, dv += p^T do, a panel of keys at a time, over the rows that see any of them. */
static void tile_keys(bwd_work *w, const backward *b, const place *at, const tile *t)
{
    const int64_t ld = DC_LD(b->a->D), cols = dc_round_up(b->a->D, DC_LANES), window = b->a->window;
    for (int64_t c = 0; c < t->nk; c += DC_MR) {
        const int keys = (int)dc_min64(DC_MR, t->nk - c);
        const int64_t j = at->j0 + t->j + c, to = (t->j + c) * ld;
        const int64_t lo = dc_max64(0, j * b->G - t->r0);
        const int64_t hi = window > 0 ? dc_min64(t->n, (j + keys - 1 + window) * b->G - t->r0) : t->n;
        if (lo >= hi) continue;
        const float *p = w->p + lo * DC_LDS + c, *ds = w->ds + lo * DC_LDS + c;
        dc_mul_add(keys, cols, hi - lo, p, 1, DC_LDS, w->d_o + lo * ld, ld, w->dv + to, ld);
        dc_mul_add(keys, cols, hi - lo, ds, 1, DC_LDS, w->q + lo * ld, ld, w->dk + to, ld);
    }
}

/* The last block of rows that sees a key below `end`, which it counts from. */
static int64_t last_block(const backward *j, const place *at, int64_t end)
{
    const int64_t tokens = j->a->window > 0 ? dc_min64(at->n, end - 1 + j->a->window) : at->n;
    return (tokens * j->G - 1) / j->rows;
}

static void backward_task(void *context, int64_t unused)
{
    (void)unused;
    bwd_work w;
    const backward *j = context;
    const dc_attn *a = j->a;
    const int64_t task = chain_begin(j->chain), D = a->D, ld = DC_LD(D);
    const place at = bwd_place(a, task);
    load_keys(&w, j, &at);
    const int64_t last = last_block(j, &at, at.j0 + at.nk), last_before = last_block(j, &at, at.j0);
    for (int64_t i = last; i >= at.j0 * j->G / j->rows; i--) {
        const int64_t start = i * j->rows, r0 = dc_max64(start, at.j0 * j->G);
        const int64_t n = dc_min64(start + j->rows, at.n * j->G) - r0;
        load_rows(&w, j, &at, r0, n);
        for (int64_t c = 0; c < at.nk; c += DC_KEYS) {
            const tile t = {r0, n, c, dc_min64(DC_KEYS, at.nk - c)};
            tile_rows(&w, j, &at, &t);
            tile_keys(&w, j, &at, &t);
        }
        const int first = dc_sees(start / j->G, 0, a->window, 0, 0).lo / at.keys * at.keys == at.j0;
        if (!first) chain_wait(j->chain, task - a->K, last_before - i + 1);
        for (int64_t r = 0; r < n; r++)
            dc_unpack_row(j->dq + q_row(j, &at, r0 + r) * D, w.dq + r * ld, D, a->scale, !first);
        chain_step(j->chain, task, last - i + 1);
    }
    chain_end(j->chain, task);
    const float by = a->softcap > 0 ? a->softcap : 1;
    for (int64_t i = 0; i < at.nk; i++) {
        const int64_t to = ((at.t0 + at.j0 + i) * a->K + at.kv) * D;
        dc_unpack_row(j->dk + to, w.dk + i * ld, D, by, 0);
        dc_unpack_row(j->dv + to, w.dv + i * ld, D, 1, 0);
    }
}

static void vec_bwd(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse,
                    dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    if (a->D > DC_ATTN_MAX_D) {
        dc_attn_bwd_ref(dev, dq, dk, dv, d_o, o, lse, q, k, v, a);
        return;
    }
    DC_ASSERT(dq.type == DC_F32 && dk.type == DC_F32 && dv.type == DC_F32 && d_o.type == DC_F32);
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32 && k.type == DC_F32 && v.type == DC_F32);
    const int64_t rows = a->D > 128 ? BWD_ROWS / 2 : BWD_ROWS;
    chain c = {0};
    backward j = {dq.data, dk.data, dv.data, d_o.data, o.data, lse, q.data, k.data, v.data, a, a->H / a->K, rows, &c};
    dc_pool_for(bwd_tasks(a), backward_task, &j);
    const int64_t end = a->cu_seqlens[a->B] * a->D, rest = a->T * a->D - end;
    memset(j.dq + end * a->H, 0, (size_t)(rest * a->H) * sizeof *j.dq);
    memset(j.dk + end * a->K, 0, (size_t)(rest * a->K) * sizeof *j.dk);
    memset(j.dv + end * a->K, 0, (size_t)(rest * a->K) * sizeof *j.dv);
}
