/* kernels/attn_vec_tmpl.c -- the forward of attention and decoding in registers of DC_LANES floats.
 *
 * Included by attn_avx2.c and attn_avx512.c, which put vec_fwd, vec_bwd and vec_decode into the table.
 *
 * A task is a block of query rows of one document (or sequence) and kv head. Per block of keys: pack k transposed and v; then, DC_MR rows at a
 * time, scores, online softmax and the product with v, so that scores never leave the first-level cache. A decoding step has so
 * few rows that packing a key would cost more than using it: then keys and values are read where they are. */
#include "kernels/attn_tile.h"

#include <math.h>

#include "core/pool.h"

enum {
    ROWS = 192, /* query rows a task: packing a key costs a tenth of using it so often */
    FEW = 12    /* rows up to which keys are not packed */
};

/* What a task attends with: a document's tensors, or the pages of a sequence. */
typedef struct source {
    const float *q, *k, *v; /* first token, first head of this kv head; k and v NULL when there are pages */
    float *o, *lse;
    const void *const *k_pages, *const *v_pages;
    int64_t page, head; /* tokens a page, where this kv head begins in a row of it */
    int64_t past;       /* tokens before the first row's */
    int64_t G, H, K, D, window;
    float scale, softcap;
} source;

typedef struct work {
    _Alignas(64) float q[ROWS * DC_LD(128)], o[ROWS * DC_LD(128)];
    float kt[DC_KEYS * DC_ATTN_MAX_D], v[DC_KEYS * DC_LD(DC_ATTN_MAX_D)];
    float s[DC_MR * DC_LDS];
    float max[ROWS], sum[ROWS * DC_LANES]; /* of the scores; of their exp, by lanes */
} work;
_Static_assert(DC_LD(DC_ATTN_MAX_D) <= 2 * DC_LD(128), "half as many rows that are twice as wide");
_Static_assert(sizeof(work) <= DC_ATTN_STACK, "attention's scratch");

static int64_t rows_a_task(int64_t D) { return D > 128 ? ROWS / 2 : ROWS; }

/* Keys j .. that lie in sequence: where they begin and, at most n, how many there are. */
DC_INLINE const float *keys_at(const float *base, const void *const *pages, const source *s, int64_t j, int64_t *n)
{
    if (base) return base + j * s->K * s->D;
    *n = dc_min64(*n, s->page - j % s->page);
    return (const float *)pages[j / s->page] + j % s->page * s->K * s->D + s->head;
}

/* Scores become weights: s = exp(s - max) in sees[i], 0 in the rest of [c0, c1); max and the lanes of sum move on; keep[i] is
 * what the row's earlier sums are multiplied with. */
DC_INLINE void softmax_panel(work *w, int64_t r, int rows, int64_t c0, int64_t c1, const dc_span64 *sees, float cap,
                             float keep[DC_LANES])
{
    const dc_vec none = dc_set(-INFINITY), capv = dc_set(cap);
    _Alignas(64) float base[DC_LANES] = {0}, old[DC_LANES] = {0};
    for (int i = 0; i < rows; i++) {
        float *s = w->s + i * DC_LDS;
        dc_vec max = none;
        const int all = sees[i].lo <= c0 && sees[i].hi >= c1;
        for (int64_t c = c0; c < c1; c += DC_LANES) {
            dc_vec x = dc_load(s + c);
            if (cap > 0) x = dc_mul(capv, dc_tanh(x));
            if (!all) x = dc_where(dc_between(c, sees[i].lo, sees[i].hi), x, none);
            if (cap > 0 || !all) dc_store(s + c, x);
            max = dc_max(max, x);
        }
        old[i] = w->max[r + i];
        const float m = dc_max_lanes(max), next = m > old[i] ? m : old[i];
        w->max[r + i] = next;
        base[i] = next == -INFINITY ? 0 : next; /* a row that has seen no key yet */
    }
    dc_store(keep, dc_exp_flush(dc_sub(dc_load(old), dc_load(base))));
    for (int i = 0; i < rows; i++) {
        float *s = w->s + i * DC_LDS, *sum = w->sum + (r + i) * DC_LANES;
        const dc_vec b = dc_set(base[i]);
        dc_vec total = dc_set(0);
        for (int64_t c = c0; c < c1; c += DC_LANES) {
            const dc_vec p = dc_exp_flush(dc_sub(dc_load(s + c), b));
            dc_store(s + c, p);
            total = dc_add(total, p);
        }
        dc_store(sum, dc_fma(dc_load(sum), dc_set(keep[i]), total));
    }
}

/* Scores of up to three rows with four keys, D a multiple of DC_LANES. */
DC_INLINE void score_tile(const int rows, float *s, const float *q, int64_t ldq, const float *const k[4], int64_t D)
{
    dc_vec acc[3][4];
#pragma GCC unroll 3
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) acc[i][j] = dc_set(0);
    for (int64_t d = 0; d < D; d += DC_LANES)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const dc_vec kv = dc_load(k[j] + d);
#pragma GCC unroll 3
            for (int i = 0; i < rows; i++) acc[i][j] = dc_fma(dc_load(q + i * ldq + d), kv, acc[i][j]);
        }
#pragma GCC unroll 3
    for (int i = 0; i < rows; i++) {
        const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(dc_half_sum(acc[i][0]), dc_half_sum(acc[i][1])),
                                           _mm256_hadd_ps(dc_half_sum(acc[i][2]), dc_half_sum(acc[i][3])));
        _mm_storeu_ps(s + i * DC_LDS, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
    }
}

/* Scores of a panel with unpacked keys j0 + [0, n), n rounded up to DC_LANES by repeating the last. */
static void score_few(work *w, const source *x, const float *q, int rows, int64_t j0, int64_t n)
{
    const int64_t ld = DC_LD(x->D);
    for (int64_t c = 0; c < dc_round_up(n, DC_LANES); c += 4) {
        const float *k[4];
        for (int i = 0; i < 4; i++) {
            int64_t one = 1;
            k[i] = keys_at(x->k, x->k_pages, x, j0 + dc_min64(c + i, n - 1), &one);
        }
        for (int r = 0; r < rows; r += 3) {
            const float *qr = q + r * ld;
            float *s = w->s + r * DC_LDS + c;
            if (rows - r >= 3) score_tile(3, s, qr, ld, k, x->D);
            else if (rows - r == 2) score_tile(2, s, qr, ld, k, x->D);
            else score_tile(1, s, qr, ld, k, x->D);
        }
    }
}

/* o = keep * o + s v with unpacked values j0 + [lo, hi). */
static void add_values(work *w, const source *x, float *o, int rows, int64_t j0, int64_t lo, int64_t hi,
                       const float *keep)
{
    const int64_t stride = x->K * x->D, ld = DC_LD(x->D);
    for (int64_t c = lo; c < hi;) {
        int64_t n = hi - c;
        const float *v = keys_at(x->v, x->v_pages, x, j0 + c, &n), *s = w->s + c;
        if (c == lo) dc_mul_keep(rows, x->D, n, s, DC_LDS, v, stride, o, ld, keep);
        else dc_mul_add(rows, x->D, n, s, DC_LDS, 1, v, stride, o, ld);
        c += n;
    }
}

static void pack_keys(work *w, const source *x, int64_t j0, int64_t nk)
{
    const int64_t D = x->D, ld = DC_LD(D), stride = x->K * D;
    for (int64_t j = 0; j < nk;) {
        int64_t n = nk - j;
        const float *k = keys_at(x->k, x->k_pages, x, j0 + j, &n), *v = keys_at(x->v, x->v_pages, x, j0 + j, &n);
        dc_pack_columns(w->kt, j, k, n, stride, D);
        for (int64_t i = 0; i < n; i++) dc_pack_row(w->v + (j + i) * ld, v + i * stride, D, 1);
        j += n;
    }
    dc_pack_columns_end(w->kt, nk, D);
}

/* Keys and values j .. end - 1, where they are in rows. */
static void prefetch_keys(const source *x, int64_t j, int64_t end)
{
    for (const int64_t stride = x->K * x->D; x->k && j < end; j++) {
        dc_prefetch(x->k + j * stride, x->D);
        dc_prefetch(x->v + j * stride, x->D);
    }
}

/* Rows [0, n) of the task (rows r0 .. of the source) against the block of keys j0 .. j0 + nk; end: the last block's. */
static void attend_block(work *w, const source *x, int64_t r0, int64_t n, int64_t j0, int64_t nk, int64_t end, int few)
{
    const int64_t D = x->D, ld = DC_LD(D), G = x->G, window = x->window;
    for (int64_t r = 0; r < n; r += DC_MR) {
        const int rows = (int)dc_min64(DC_MR, n - r);
        const int64_t t0 = x->past + (r0 + r) / G, t1 = x->past + (r0 + r + rows - 1) / G, next = j0 + DC_KEYS;
        prefetch_keys(x, next + r * DC_KEYS / n, dc_min64(end, next + (r + rows) * DC_KEYS / n));
        const dc_span64 all = dc_sees(t0, t1, window, j0, nk);
        if (all.lo >= all.hi) continue;
        const int64_t c0 = few ? 0 : all.lo / DC_NR * DC_NR, c1 = dc_round_up(all.hi, DC_LANES);
        dc_span64 sees[DC_MR];
        for (int i = 0; i < rows; i++) {
            const int64_t t = x->past + (r0 + r + i) / G;
            sees[i] = dc_sees(t, t, window, j0, nk);
        }
        _Alignas(64) float keep[DC_LANES];
        float *q = w->q + r * ld, *o = w->o + r * ld;
        if (few) score_few(w, x, q, rows, j0, all.hi);
        else dc_mul_set(rows, c1 - c0, D, q, ld, w->kt + c0 * D, DC_NR, DC_NR * D, w->s + c0, DC_LDS);
        if (x->softcap > 0) softmax_panel(w, r, rows, c0, c1, sees, x->softcap, keep);
        else softmax_panel(w, r, rows, c0, c1, sees, 0, keep);
        if (few) add_values(w, x, o, rows, j0, all.lo, all.hi, keep);
        else
            dc_mul_keep(rows, dc_round_up(D, DC_LANES), all.hi - all.lo, w->s + all.lo, DC_LDS, w->v + all.lo * ld, ld,
                        o, ld, keep);
    }
}

/* Rows r0 .. r0 + n of a source: o and lse. */
static void attend_rows(const source *x, int64_t r0, int64_t n)
{
    work w;
    const int64_t D = x->D, ld = DC_LD(D), G = x->G;
    const float scale = x->softcap > 0 ? x->scale / x->softcap : x->scale;
    const int few = n <= FEW && D % DC_LANES == 0;
    for (int64_t r = 0; r < n; r++) {
        dc_pack_row(w.q + r * ld, x->q + ((r0 + r) / G * x->H + (r0 + r) % G) * D, D, scale);
        w.max[r] = -INFINITY;
    }
    memset(w.o, 0, (size_t)(n * ld) * sizeof *w.o);
    memset(w.sum, 0, (size_t)n * DC_LANES * sizeof *w.sum);
    const int64_t first = dc_sees(x->past + r0 / G, 0, x->window, 0, 0).lo, end = x->past + (r0 + n - 1) / G + 1;
    for (int64_t j0 = first / DC_KEYS * DC_KEYS; j0 < end; j0 += DC_KEYS) {
        const int64_t nk = dc_min64(DC_KEYS, end - j0);
        if (!few) pack_keys(&w, x, j0, nk);
        attend_block(&w, x, r0, n, j0, nk, end, few);
    }
    for (int64_t r = 0; r < n; r++) {
        const int64_t at = (r0 + r) / G * x->H + (r0 + r) % G;
        const float sum = dc_sum_lanes(dc_load(w.sum + r * DC_LANES));
        dc_unpack_row(x->o + at * D, w.o + r * ld, D, 1 / sum, 0);
        if (x->lse) x->lse[at] = w.max[r] + logf(sum);
    }
}

typedef struct forward {
    float *o, *lse;
    const float *q, *k, *v;
    const dc_attn *a;
} forward;

/* Blocks of rows in document or sequence b, whose rows are cu[b] .. cu[b + 1] of G heads each. */
static int64_t blocks(const int32_t *cu, int64_t b, int64_t G, int64_t D)
{
    return (((int64_t)cu[b + 1] - cu[b]) * G + rows_a_task(D) - 1) / rows_a_task(D);
}

/* Tasks count documents, then blocks from the last (which sees most keys) to the first, then kv heads: from i the document, kv head and
 * first row. */
static void locate(const int32_t *cu, int64_t K, int64_t G, int64_t D, int64_t i, int64_t *b, int64_t *kv, int64_t *r0)
{
    *b = 0;
    for (int64_t n; i >= (n = blocks(cu, *b, G, D) * K); (*b)++) i -= n;
    *kv = i % K;
    *r0 = (blocks(cu, *b, G, D) - 1 - i / K) * rows_a_task(D);
}

static int64_t tasks(const int32_t *cu, int64_t B, int64_t K, int64_t G, int64_t D)
{
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++) n += blocks(cu, b, G, D) * K;
    return n;
}

static void forward_task(void *context, int64_t i)
{
    const forward *f = context;
    const dc_attn *a = f->a;
    const int64_t G = a->H / a->K, D = a->D;
    int64_t b, kv, r0;
    locate(a->cu_seqlens, a->K, G, D, i, &b, &kv, &r0);
    const int64_t t0 = a->cu_seqlens[b], n = (a->cu_seqlens[b + 1] - t0) * G, at = t0 * a->H + kv * G;
    const source x = {.q = f->q + at * D,
                      .k = f->k + (t0 * a->K + kv) * D,
                      .v = f->v + (t0 * a->K + kv) * D,
                      .o = f->o + at * D,
                      .lse = f->lse ? f->lse + at : NULL,
                      .G = G,
                      .H = a->H,
                      .K = a->K,
                      .D = D,
                      .window = a->window,
                      .scale = a->scale,
                      .softcap = a->softcap};
    attend_rows(&x, r0, dc_min64(rows_a_task(D), n - r0));
}

static void vec_fwd(dc_dev *dev, dc_view o, float *lse, dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    if (a->D > DC_ATTN_MAX_D) {
        dc_attn_fwd_ref(dev, o, lse, q, k, v, a);
        return;
    }
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32 && k.type == DC_F32 && v.type == DC_F32);
    forward f = {o.data, lse, q.data, k.data, v.data, a};
    dc_pool_for(tasks(a->cu_seqlens, a->B, a->K, a->H / a->K, a->D), forward_task, &f);
    const int64_t end = a->cu_seqlens[a->B] * a->H, rest = a->T * a->H - end;
    memset(f.o + end * a->D, 0, (size_t)(rest * a->D) * sizeof *f.o);
    if (lse) memset(lse + end, 0, (size_t)rest * sizeof *lse);
}

typedef struct decode {
    float *o;
    const float *q;
    const dc_attn_kv *a;
} decode;

static void decode_task(void *context, int64_t i)
{
    const decode *c = context;
    const dc_attn_kv *a = c->a;
    const int64_t G = a->H / a->K, D = a->D;
    int64_t s, kv, r0;
    locate(a->cu_new, a->K, G, D, i, &s, &kv, &r0);
    const int64_t t0 = a->cu_new[s], tokens = a->cu_new[s + 1] - t0, at = (t0 * a->H + kv * G) * D;
    const source x = {.q = c->q + at,
                      .o = c->o + at,
                      .k_pages = a->k_pages + s * a->max_pages,
                      .v_pages = a->v_pages + s * a->max_pages,
                      .page = a->page,
                      .head = kv * D,
                      .past = a->kv_len[s] - tokens,
                      .G = G,
                      .H = a->H,
                      .K = a->K,
                      .D = D,
                      .window = a->window,
                      .scale = a->scale,
                      .softcap = a->softcap};
    attend_rows(&x, r0, dc_min64(rows_a_task(D), tokens * G - r0));
}

static void vec_decode(dc_dev *dev, dc_view o, dc_cview q, const dc_attn_kv *a)
{
    if (a->D > DC_ATTN_MAX_D) {
        dc_attn_decode_ref(dev, o, q, a);
        return;
    }
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32);
    decode c = {o.data, q.data, a};
    dc_pool_for(tasks(a->cu_new, a->S, a->K, a->H / a->K, a->D), decode_task, &c);
}
