/* kernels/attn_avx2_bwd.c -- the backward of attention for AVX2 + FMA.
 *
 * A block of query rows meets a block of keys in a tile: p = exp(s - lse) and ds = p * (dp - delta), from which come
 *     dq += ds k,   dk += ds^T q,   dv += p^T do.
 * Two ways to walk the tiles:
 *   - by kv head: a task owns all tiles of a (document, kv head); 5 products a tile, but few tasks.
 *   - by block: tasks that own a block of keys give dk and dv, others that own a block of rows give dq; s and dp are
 *     computed twice, 7 products, but there are as many tasks as anyone has cores.
 * A tile adds the same products in the same order in both, so their bits are equal and the choice is free: it is the one whose
 * longest thread is expected to end first. */
#include "kernels/attn_avx2.h"

#include <math.h>

#include "core/pool.h"

enum { ROWS = 96, MAX_THREADS = 256 };

typedef struct job {
    float *dq, *dk, *dv;
    const float *d_o, *o, *lse, *q, *k, *v;
    const dc_attn *a;
    int64_t G, rows, keys; /* H / K, rows and keys a block */
    int64_t dkv_tasks;     /* by block: how many of the tasks come before those of dq */
} job;

typedef struct work {
    _Alignas(64) float q[ROWS * 128], d_o[ROWS * 128], dq[ROWS * 128]; /* q times scale (over softcap) */
    float kt[DC_KEYS * 128], vt[DC_KEYS * 128];                        /* transposed, in groups of 16 keys */
    float k[DC_KEYS * 128];                                            /* times scale */
    float dk[DC_KEYS * 128], dv[DC_KEYS * 128];
    float p[ROWS * DC_KEYS], ds[ROWS * DC_KEYS];
    float lse[ROWS], delta[ROWS];
} work;
_Static_assert(sizeof(work) <= DC_ATTN_STACK, "attention's scratch");

/* Where a task is: document from token t0 on with n tokens, kv head. */
typedef struct place {
    int64_t t0, n, kv;
} place;

static place document(const job *j, int64_t b, int64_t kv)
{
    return (place){j->a->cu_seqlens[b], j->a->cu_seqlens[b + 1] - j->a->cu_seqlens[b], kv};
}

/* Row r of the document as a row of q's [T * H]. */
DC_INLINE int64_t q_row(const job *j, place at, int64_t r)
{
    return (at.t0 + r / j->G) * j->a->H + at.kv * j->G + r % j->G;
}

static void load_rows(work *w, const job *j, place at, int64_t r0, int64_t n)
{
    const int64_t D = j->a->D, ld = dc_round_up(D, 8);
    const float scale = j->a->softcap > 0 ? j->a->scale / j->a->softcap : j->a->scale;
    for (int64_t r = 0; r < n; r++) {
        const int64_t row = q_row(j, at, r0 + r);
        const float *d_o = j->d_o + row * D, *o = j->o + row * D;
        dc_pack_row(w->q + r * ld, j->q + row * D, D, scale);
        dc_pack_row(w->d_o + r * ld, d_o, D, 1);
        __m256 sum = _mm256_setzero_ps();
        for (int64_t d = 0; d < D; d += 8) {
            const __m256i m = dc_mask8(D - d > 8 ? 8 : D - d);
            sum = _mm256_fmadd_ps(_mm256_maskload_ps(d_o + d, m), _mm256_maskload_ps(o + d, m), sum);
        }
        w->delta[r] = dc_sum8(sum);
        w->lse[r] = j->lse[row];
    }
}

/* Keys j0 .. j0 + nk; k itself only where dq is wanted. */
static void load_keys(work *w, const job *j, place at, int64_t j0, int64_t nk, int want_dq)
{
    const int64_t D = j->a->D, ld = dc_round_up(D, 8), stride = j->a->K * D, from = (at.t0 + j0) * stride + at.kv * D;
    dc_pack_columns(w->kt, 0, j->k + from, nk, stride, D);
    dc_pack_columns_end(w->kt, nk, D);
    dc_pack_columns(w->vt, 0, j->v + from, nk, stride, D);
    dc_pack_columns_end(w->vt, nk, D);
    for (int64_t i = 0; want_dq && i < nk; i++) dc_pack_row(w->k + i * ld, j->k + from + i * stride, D, j->a->scale);
}

/* One row of scores s and of dp = do . v becomes p and ds; 0 where the row does not see the key. */
DC_INLINE void row_gradient(float *p, float *ds, int64_t c0, int64_t c1, int64_t cols, dc_span64 sees, float lse,
                            float delta, float cap)
{
    const __m256 l = _mm256_set1_ps(lse), dl = _mm256_set1_ps(delta), capv = _mm256_set1_ps(cap);
    const __m256 one = _mm256_set1_ps(1.0f);
    const int all = sees.lo <= c0 && sees.hi >= c1;
    for (int64_t c = c0; c < c1; c += 8) {
        const __m256 x = _mm256_load_ps(p + c), th = cap > 0 ? dc_tanh8(x) : x;
        __m256 e = dc_exp8_flush(cap > 0 ? _mm256_fmsub_ps(capv, th, l) : _mm256_sub_ps(x, l));
        __m256 g = _mm256_mul_ps(e, _mm256_sub_ps(_mm256_load_ps(ds + c), dl));
        if (cap > 0) g = _mm256_mul_ps(g, _mm256_fnmadd_ps(th, th, one));
        if (!all) {
            const __m256 m = dc_between(c, sees.lo, sees.hi);
            e = _mm256_and_ps(e, m), g = _mm256_and_ps(g, m);
        }
        _mm256_store_ps(p + c, e);
        _mm256_store_ps(ds + c, g);
    }
    const __m256 zero = _mm256_setzero_ps(); /* the rest is read by panels of keys that reach over c0 or c1 */
    for (int64_t c = 0; c < c0; c += 8) _mm256_store_ps(p + c, zero), _mm256_store_ps(ds + c, zero);
    for (int64_t c = c1; c < cols; c += 8) _mm256_store_ps(p + c, zero), _mm256_store_ps(ds + c, zero);
}

/* p and ds of a tile, and dq += ds k when wanted. */
static void tile_rows(work *w, const job *j, int64_t r0, int64_t n, int64_t j0, int64_t nk, int want_dq)
{
    const dc_attn *a = j->a;
    const int64_t D = a->D, ld = dc_round_up(D, 8), G = j->G, cols = dc_round_up(nk, DC_NR);
    for (int64_t r = 0; r < n; r += DC_MR) {
        const int rows = (int)dc_min64(DC_MR, n - r);
        const dc_span64 all = dc_sees((r0 + r) / G, (r0 + r + rows - 1) / G, a->window, j0, nk);
        if (all.lo >= all.hi) continue;
        const int64_t c0 = all.lo / DC_NR * DC_NR, c1 = dc_round_up(all.hi, DC_NR);
        float *p = w->p + r * DC_KEYS, *ds = w->ds + r * DC_KEYS;
        dc_mul_panel(DC_SET, rows, c1 - c0, D, w->q + r * ld, ld, 1, w->kt + c0 * D, DC_NR, DC_NR * D, p + c0, DC_KEYS,
                     NULL);
        dc_mul_panel(DC_SET, rows, c1 - c0, D, w->d_o + r * ld, ld, 1, w->vt + c0 * D, DC_NR, DC_NR * D, ds + c0,
                     DC_KEYS, NULL);
        for (int i = 0; i < rows; i++) {
            const int64_t t = (r0 + r + i) / G, at = i * DC_KEYS;
            const dc_span64 sees = dc_sees(t, t, a->window, j0, nk);
            if (a->softcap > 0)
                row_gradient(p + at, ds + at, c0, c1, cols, sees, w->lse[r + i], w->delta[r + i], a->softcap);
            else row_gradient(p + at, ds + at, c0, c1, cols, sees, w->lse[r + i], w->delta[r + i], 0);
        }
        if (want_dq)
            dc_mul_panel(DC_ADD, rows, ld, all.hi - all.lo, ds + all.lo, DC_KEYS, 1, w->k + all.lo * ld, ld, DC_NR,
                         w->dq + r * ld, ld, NULL);
    }
}

/* dk += ds^T q, dv += p^T do, six keys at a time, over the rows that see any of them. */
static void tile_keys(work *w, const job *j, int64_t r0, int64_t n, int64_t j0, int64_t nk)
{
    const int64_t ld = dc_round_up(j->a->D, 8), G = j->G, window = j->a->window;
    for (int64_t c = 0; c < nk; c += DC_MR) {
        const int keys = (int)dc_min64(DC_MR, nk - c);
        const int64_t lo = dc_max64(0, (j0 + c) * G - r0);
        const int64_t hi = window > 0 ? dc_min64(n, (j0 + c + keys - 1 + window) * G - r0) : n;
        if (lo >= hi) continue;
        const float *p = w->p + lo * DC_KEYS + c, *ds = w->ds + lo * DC_KEYS + c;
        dc_mul_panel(DC_ADD, keys, ld, hi - lo, p, 1, DC_KEYS, w->d_o + lo * ld, ld, DC_NR, w->dv + c * ld, ld, NULL);
        dc_mul_panel(DC_ADD, keys, ld, hi - lo, ds, 1, DC_KEYS, w->q + lo * ld, ld, DC_NR, w->dk + c * ld, ld, NULL);
    }
}

/* dk and dv of keys j0 .. j0 + keys; with want_dq also their part of dq, which is added to. */
static void backward_keys(work *w, const job *j, place at, int64_t j0, int want_dq)
{
    const dc_attn *a = j->a;
    const int64_t D = a->D, ld = dc_round_up(D, 8), nk = dc_min64(j->keys, at.n - j0);
    const int64_t end = a->window > 0 ? dc_min64(at.n, j0 + nk - 1 + a->window) : at.n; /* tokens that see them */
    load_keys(w, j, at, j0, nk, want_dq);
    memset(w->dk, 0, (size_t)(nk * ld) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(nk * ld) * sizeof *w->dv);
    for (int64_t r0 = j0 * j->G; r0 < end * j->G; r0 += j->rows) {
        const int64_t n = dc_min64(j->rows, at.n * j->G - r0);
        load_rows(w, j, at, r0, n);
        if (want_dq) memset(w->dq, 0, (size_t)(n * ld) * sizeof *w->dq);
        tile_rows(w, j, r0, n, j0, nk, want_dq);
        tile_keys(w, j, r0, n, j0, nk);
        for (int64_t r = 0; want_dq && r < n; r++)
            dc_unpack_row(j->dq + q_row(j, at, r0 + r) * D, w->dq + r * ld, D, 1, 1);
    }
    const float by = a->softcap > 0 ? a->softcap : 1;
    for (int64_t i = 0; i < nk; i++) {
        const int64_t to = ((at.t0 + j0 + i) * a->K + at.kv) * D;
        dc_unpack_row(j->dk + to, w->dk + i * ld, D, by, 0);
        dc_unpack_row(j->dv + to, w->dv + i * ld, D, 1, 0);
    }
}

static void backward_rows(work *w, const job *j, place at, int64_t r0)
{
    const dc_attn *a = j->a;
    const int64_t D = a->D, ld = dc_round_up(D, 8), n = dc_min64(j->rows, at.n * j->G - r0);
    const int64_t end = (r0 + n - 1) / j->G + 1;
    load_rows(w, j, at, r0, n);
    memset(w->dq, 0, (size_t)(n * ld) * sizeof *w->dq);
    for (int64_t j0 = dc_sees(r0 / j->G, 0, a->window, 0, 0).lo / j->keys * j->keys; j0 < end; j0 += j->keys) {
        /* As many keys as the other way packs, so that a tile is the same. */
        const int64_t nk = dc_min64(j->keys, at.n - j0);
        load_keys(w, j, at, j0, nk, 1);
        tile_rows(w, j, r0, n, j0, nk, 1);
    }
    for (int64_t r = 0; r < n; r++) dc_unpack_row(j->dq + q_row(j, at, r0 + r) * D, w->dq + r * ld, D, 1, 0);
}

static int64_t blocks(const job *j, int64_t b, int64_t each, int64_t size)
{
    return (((int64_t)j->a->cu_seqlens[b + 1] - j->a->cu_seqlens[b]) * each + size - 1) / size;
}

/* By kv head: tasks count documents, then kv heads. */
static void head_task(void *context, int64_t i)
{
    work w;
    const job *j = context;
    const place at = document(j, i / j->a->K, i % j->a->K);
    for (int64_t r = 0; r < at.n; r++)
        memset(j->dq + ((at.t0 + r) * j->a->H + at.kv * j->G) * j->a->D, 0, (size_t)(j->G * j->a->D) * sizeof *j->dq);
    for (int64_t j0 = 0; j0 < at.n; j0 += j->keys) backward_keys(&w, j, at, j0, 1);
}

/* By block: tasks count blocks of keys from the first (which most rows see), then blocks of rows from the last; within
 * a block kv heads. */
static void block_task(void *context, int64_t i)
{
    work w;
    const job *j = context;
    const int rows = i >= j->dkv_tasks;
    const int64_t each = rows ? j->G : 1, size = rows ? j->rows : j->keys;
    int64_t b = 0;
    if (rows) i -= j->dkv_tasks;
    while (i >= blocks(j, b, each, size) * j->a->K) i -= blocks(j, b++, each, size) * j->a->K;
    const place at = document(j, b, i % j->a->K);
    if (rows) backward_rows(&w, j, at, (blocks(j, b, each, size) - 1 - i / j->a->K) * size);
    else backward_keys(&w, j, at, i / j->a->K * size, 0);
}

/* When would the last of `threads` threads end that take the tasks by kv head as they get free? In units in which by block takes
 * 7 / 5 of the total over the threads. */
static int by_head(const dc_attn *a, int64_t threads)
{
    double busy[MAX_THREADS] = {0}, total = 0, last = 0;
    if (threads > MAX_THREADS) return 0;
    for (int64_t i = 0; i < a->B * a->K; i++) {
        const double n = a->cu_seqlens[i / a->K + 1] - a->cu_seqlens[i / a->K];
        int64_t first = 0;
        for (int64_t t = 1; t < threads; t++)
            if (busy[t] < busy[first]) first = t;
        busy[first] += n * n, total += n * n;
        if (busy[first] > last) last = busy[first];
    }
    return last <= total * 1.4 / (double)threads;
}

void dc_attn_bwd_avx2(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse,
                      dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    if (a->D > DC_ATTN_MAX_D) {
        dc_attn_bwd_ref(dev, dq, dk, dv, d_o, o, lse, q, k, v, a);
        return;
    }
    DC_ASSERT(dq.type == DC_F32 && dk.type == DC_F32 && dv.type == DC_F32 && d_o.type == DC_F32);
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32 && k.type == DC_F32 && v.type == DC_F32);
    const int wide = a->D > 128;
    job j = {dq.data,
             dk.data,
             dv.data,
             d_o.data,
             o.data,
             lse,
             q.data,
             k.data,
             v.data,
             a,
             a->H / a->K,
             wide ? ROWS / 2 : ROWS,
             wide ? DC_KEYS / 2 : DC_KEYS,
             0};
    if (by_head(a, dc_pool_threads())) {
        dc_pool_for(a->B * a->K, head_task, &j);
    } else {
        int64_t dq_tasks = 0;
        for (int64_t b = 0; b < a->B; b++) {
            j.dkv_tasks += blocks(&j, b, 1, j.keys) * a->K;
            dq_tasks += blocks(&j, b, j.G, j.rows) * a->K;
        }
        dc_pool_for(j.dkv_tasks + dq_tasks, block_task, &j);
    }
    const int64_t end = a->cu_seqlens[a->B] * a->D, rest = a->T * a->D - end;
    memset(j.dq + end * a->H, 0, (size_t)(rest * a->H) * sizeof *j.dq);
    memset(j.dk + end * a->K, 0, (size_t)(rest * a->K) * sizeof *j.dk);
    memset(j.dv + end * a->K, 0, (size_t)(rest * a->K) * sizeof *j.dv);
}
