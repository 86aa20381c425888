/* kernels/loss_avx2.c -- cross-entropy and distillation for AVX2 + FMA.
 *
 * Two passes over a row. The first finds maxima and sums: per block of the vocabulary the largest value, then the exps relative to the largest so
 * far, in float lanes that go into a double every LANES elements; when a block raises the maximum the sums are scaled. The k entries of a
 * top-k row stay out of them (all minus the k would cancel) and join later. The second
 * writes  a1 exp(z - m) + a2 exp((z - m2) / t) - a3 exp((zt - mt) / t), as few of these exps as the row needs, then
 * corrects the entries that the targets name. Formulas: loss_tmpl.c. */
#include "kernels/loss.h"

#include <math.h>

#include "core/pool.h"
#include "kernels/vec_avx2.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = 4096, /* of the vocabulary: stays in the first-level cache between maximum and sum */
    LANES = 1024, /* elements between two additions to the double: 64 a lane with two accumulators */
    SAVED = BLOCK /* sparse entries that can be put aside at a time */
};

typedef struct row {
    float *z;
    const float *zt; /* teacher, dense */
    int64_t V, n;    /* n sparse entries */
    const int32_t *ids;
    const float *p;
    double t;
    int outside; /* the sums leave out the k entries: top-k, until they are joined */
    int32_t top1;
    float max, max_out, max_t;
    double s1, st, s_out, s_t, cross;
    double mass, p_tail;
    double a1, a2, a3; /* the second pass's factors; */
    float m2;          /* and what a2's exps are relative to */
} row;

/* Eight logits from z + i on, -inf beyond n. */
INLINE __m256 load(const float *z, int64_t i, int64_t n)
{
    if (i + 8 <= n) return _mm256_loadu_ps(z + i);
    const __m256i m = dc_mask8(n - i);
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_maskload_ps(z + i, m), _mm256_castsi256_ps(m));
}

static float block_max(const float *z, int64_t n)
{
    __m256 a = _mm256_set1_ps(-INFINITY), b = a;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        a = _mm256_max_ps(a, _mm256_loadu_ps(z + i));
        b = _mm256_max_ps(b, _mm256_loadu_ps(z + i + 8));
    }
    for (; i < n; i += 8) a = _mm256_max_ps(a, load(z, i, n));
    return dc_max8(_mm256_max_ps(a, b));
}

/* The teacher's largest logit where the student's is not masked. */
static float block_max_both(const float *zt, const float *z, int64_t n)
{
    const __m256 none = _mm256_set1_ps(-INFINITY);
    __m256 a = none;
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 seen = _mm256_cmp_ps(load(z, i, n), none, _CMP_NEQ_UQ);
        a = _mm256_max_ps(a, _mm256_blendv_ps(none, load(zt, i, n), seen));
    }
    return dc_max8(a);
}

static double sum_lanes(__m256 a, __m256 b)
{
    const __m256d s = _mm256_add_pd(
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))),
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(b)), _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1))));
    const __m128d h = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}

/* sum exp((z - m) / t). A rounded 1 / t would bend all terms the same way: 4e-7 of the sum at V = 151,936. */
INLINE double block_sum(const float *z, int64_t n, float m, float t, const int scaled)
{
    const __m256 mv = _mm256_set1_ps(m), tv = _mm256_set1_ps(t);
    double total = 0;
    for (int64_t from = 0; from < n; from += LANES) {
        const int64_t to = from + LANES < n ? from + LANES : n;
        __m256 a = _mm256_setzero_ps(), b = a;
        int64_t i = from;
        for (; i + 16 <= to; i += 16) {
            __m256 x = _mm256_sub_ps(_mm256_loadu_ps(z + i), mv), y = _mm256_sub_ps(_mm256_loadu_ps(z + i + 8), mv);
            if (scaled) x = _mm256_div_ps(x, tv), y = _mm256_div_ps(y, tv);
            a = _mm256_add_ps(a, dc_exp8_flush(x));
            b = _mm256_add_ps(b, dc_exp8_flush(y));
        }
        for (; i < to; i += 8) {
            const __m256 x = _mm256_sub_ps(load(z, i, to), mv);
            a = _mm256_add_ps(a, dc_exp8_flush(scaled ? _mm256_div_ps(x, tv) : x));
        }
        total += sum_lanes(a, b);
    }
    return total;
}

static double block_sum_1(const float *z, int64_t n, float m) { return block_sum(z, n, m, 1, 0); }
static double block_sum_t(const float *z, int64_t n, float m, float t) { return block_sum(z, n, m, t, 1); }

/* e = exp((zt - mt) / t) and e * (zt - z), 0 where either side is masked: 0 * (finite - inf) would be NaN. */
INLINE void add_cross(__m256 z, __m256 zt, __m256 mt, __m256 t, const int scaled, __m256 *sum, __m256 *cross)
{
    const __m256 x = _mm256_sub_ps(zt, mt), seen = _mm256_cmp_ps(z, _mm256_set1_ps(-INFINITY), _CMP_NEQ_UQ);
    const __m256 e = _mm256_and_ps(seen, dc_exp8_flush(scaled ? _mm256_div_ps(x, t) : x));
    const __m256 there = _mm256_cmp_ps(e, _mm256_setzero_ps(), _CMP_NEQ_UQ);
    *sum = _mm256_add_ps(*sum, e);
    *cross = _mm256_fmadd_ps(e, _mm256_and_ps(there, _mm256_sub_ps(zt, z)), *cross);
}

/* The teacher's sum, relative to mt, and added to *cross  sum exp((zt - mt) / t) * (zt - z). */
INLINE double block_cross(const float *zt, const float *z, int64_t n, float mt, float t, const int scaled,
                          double *cross)
{
    const __m256 mv = _mm256_set1_ps(mt), tv = _mm256_set1_ps(t);
    double total = 0;
    for (int64_t from = 0; from < n; from += LANES) {
        const int64_t to = from + LANES < n ? from + LANES : n;
        __m256 a = _mm256_setzero_ps(), b = a, ca = a, cb = a;
        int64_t i = from;
        for (; i + 16 <= to; i += 16) {
            add_cross(_mm256_loadu_ps(z + i), _mm256_loadu_ps(zt + i), mv, tv, scaled, &a, &ca);
            add_cross(_mm256_loadu_ps(z + i + 8), _mm256_loadu_ps(zt + i + 8), mv, tv, scaled, &b, &cb);
        }
        for (; i < to; i += 8) add_cross(load(z, i, to), load(zt, i, to), mv, tv, scaled, &a, &ca);
        total += sum_lanes(a, b);
        *cross += sum_lanes(ca, cb);
    }
    return total;
}

static double block_cross_1(const float *zt, const float *z, int64_t n, float mt, double *cross)
{
    return block_cross(zt, z, n, mt, 1, 0, cross);
}

static double block_cross_t(const float *zt, const float *z, int64_t n, float mt, float t, double *cross)
{
    return block_cross(zt, z, n, mt, t, 1, cross);
}

/* The logits of the entries in [lo, hi) go to `saved`, in the list's order; -inf in their place when `hide`. */
static void save(row *r, int64_t lo, int64_t hi, float *saved, int hide)
{
    int64_t k = 0;
    for (int64_t e = 0; e < r->n; e++)
        if (r->ids[e] >= lo && r->ids[e] < hi) {
            saved[k++] = r->z[r->ids[e]];
            if (hide) r->z[r->ids[e]] = -INFINITY;
        }
}

static void restore(row *r, int64_t lo, int64_t hi, const float *saved)
{
    int64_t k = 0;
    for (int64_t e = 0; e < r->n; e++)
        if (r->ids[e] >= lo && r->ids[e] < hi) r->z[r->ids[e]] = saved[k++];
}

/* A part of the vocabulary that has no more than SAVED entries; as a rule all of it. */
static int64_t window(const row *r) { return r->n <= SAVED ? r->V : SAVED; }

/* How far *max is below m, which then takes its place. */
static double raise(float *max, float m)
{
    if (!(m > *max)) return 0;
    const double drop = (double)*max - (double)m;
    *max = m;
    return drop;
}

static void add_block(row *r, int64_t lo, int64_t n, int want_t)
{
    const float *z = r->z + lo, m = block_max(z, n), t = (float)r->t;
    if (m > r->max) r->top1 = (int32_t)lo;
    const double drop = raise(&r->max, m);
    if (drop != 0) r->s1 *= exp(drop), r->st *= exp(drop / r->t);
    const float base = r->max == -INFINITY ? 0 : r->max; /* all masked so far; a NaN still shows in the sum */
    r->s1 += block_sum_1(z, n, base);
    if (want_t && r->t != 1) r->st += block_sum_t(z, n, base, t);
    if (!r->zt) return;
    const double drop_t = raise(&r->max_t, block_max_both(r->zt + lo, z, n));
    if (drop_t != 0) r->s_t *= exp(drop_t / r->t), r->cross *= exp(drop_t / r->t);
    const float base_t = r->max_t == -INFINITY ? 0 : r->max_t;
    r->s_t += r->t == 1 ? block_cross_1(r->zt + lo, z, n, base_t, &r->cross)
                        : block_cross_t(r->zt + lo, z, n, base_t, t, &r->cross);
}

/* Maxima and sums, without the k entries of a top-k row. top1 is the block of the first largest one. */
static void first_pass(row *r, int want_t)
{
    float saved[SAVED];
    r->max = r->max_t = -INFINITY;
    for (int64_t lo = 0; lo < r->V; lo += window(r)) {
        const int64_t hi = lo + window(r) < r->V ? lo + window(r) : r->V;
        if (r->outside) save(r, lo, hi, saved, 1);
        for (int64_t i = lo; i < hi; i += BLOCK) add_block(r, i, hi - i < BLOCK ? hi - i : BLOCK, want_t);
        if (r->outside) restore(r, lo, hi, saved);
    }
    if (r->t == 1) r->st = r->s1;
    if (r->max == -INFINITY && isnan(r->s1)) r->max = NAN;
}

/* From the block to the entry. */
static void find_top1(row *r)
{
    int64_t i = r->top1;
    while (i < r->V && r->z[i] != r->max) i++;
    r->top1 = i < r->V ? (int32_t)i : 0;
}

/* Adds the k entries to the sums over the rest, which stay in s_out, relative to max_out. */
static void join(row *r)
{
    r->max_out = r->max, r->s_out = r->st;
    float max = r->max;
    for (int64_t e = 0; e < r->n; e++) {
        const float z = r->z[r->ids[e]];
        if (z > max || isnan(z)) max = z, r->top1 = r->ids[e];
        if (z == max && r->ids[e] < r->top1) r->top1 = r->ids[e];
    }
    if (max == -INFINITY) return;
    if (r->max != -INFINITY) {
        r->s1 *= exp((double)r->max - (double)max);
        r->st *= exp(((double)r->max - (double)max) / r->t);
    }
    r->max = max;
    for (int64_t e = 0; e < r->n; e++) {
        const double d = (double)r->z[r->ids[e]] - (double)max;
        r->s1 += exp(d);
        r->st += exp(d / r->t);
    }
}

/* KD of sparse targets without the teacher's entropy: sum p (log p - log q) when `with_log_p`, else sum -p log q. *total is sum p. */
static double kd_entries(row *r, int with_log_p, double *total)
{
    double kd = 0;
    const double log_st = log(r->st);
    r->mass = *total = 0;
    for (int64_t e = 0; e < r->n; e++) {
        const float z = r->z[r->ids[e]];
        const double p = (double)r->p[e];
        *total += p;
        if (z == -INFINITY || p <= 0) continue;
        r->mass += p;
        kd += p * ((with_log_p ? log(p) : 0) - ((double)z - (double)r->max) / r->t + log_st);
    }
    return kd;
}

static double kd_sampled(row *r, const dc_loss *l, int64_t m)
{
    double total;
    const double kd = kd_entries(r, 0, &total);
    return r->n && l->entropy && !isnan(l->entropy[m]) ? kd - (double)l->entropy[m] : kd;
}

static double kd_topk(row *r)
{
    double total, kd = kd_entries(r, 1, &total);
    r->p_tail = total < 1 && r->max_out != -INFINITY ? 1 - total : 0;
    if (r->p_tail > 0)
        kd += r->p_tail * (log(r->p_tail) - log(r->s_out) + log(r->st) - ((double)r->max_out - (double)r->max) / r->t);
    r->mass += r->p_tail;
    return kd;
}

static double kd_dense(row *r)
{
    if (r->max_t == -INFINITY && !isnan(r->s_t)) return 0;
    return r->cross / r->s_t / r->t + ((double)r->max - (double)r->max_t) / r->t + log(r->st) - log(r->s_t);
}

/* The factors of the second pass. An entry outside the k gets mass q - p_tail exp((z - max_out) / t) / s_out: both terms are multiples of
 * one exp, unless the outside is so improbable that exp((z - max) / t) would vanish; then the first term does. */
static void factors(row *r, const dc_loss *l, double w_ce, double w_kd)
{
    r->a1 = w_ce / r->s1, r->a2 = r->a3 = 0, r->m2 = r->max;
    if (w_kd == 0) return;
    r->a2 = w_kd * r->mass / r->st;
    if (l->kind == DC_KD_DENSE) r->a3 = w_kd / r->s_t;
    if (l->kind == DC_KD_TOPK_TAIL && r->p_tail > 0) {
        const double gap = ((double)r->max_out - (double)r->max) / r->t;
        if (gap > -40) r->a2 -= w_kd * r->p_tail / r->s_out * exp(-gap);
        else r->a2 = -w_kd * r->p_tail / r->s_out, r->m2 = r->max_out;
    }
    if (r->t == 1 && r->m2 == r->max) r->a1 += r->a2, r->a2 = 0;
}

/* The factors in all lanes. */
typedef struct lanes {
    __m256 a1, a2, a3, m1, m2, mt, t;
} lanes;

enum { CE_TERM = 1, KD_TERM = 2, DENSE_TERM = 4, SCALED = 8 };

/* a1 exp(z - m) + a2 exp((z - m2) / t) - a3 exp((zt - mt) / t), of which `terms` says what there is. */
INLINE __m256 gradient8(const lanes *l, __m256 z, __m256 zt, const int terms)
{
    __m256 g = _mm256_setzero_ps();
    if (terms & CE_TERM) g = _mm256_mul_ps(l->a1, dc_exp8_flush(_mm256_sub_ps(z, l->m1)));
    if (terms & KD_TERM) {
        const __m256 x = _mm256_sub_ps(z, l->m2);
        g = _mm256_fmadd_ps(l->a2, dc_exp8_flush(terms & SCALED ? _mm256_div_ps(x, l->t) : x), g);
    }
    if (terms & DENSE_TERM) {
        const __m256 x = _mm256_sub_ps(zt, l->mt), seen = _mm256_cmp_ps(z, _mm256_set1_ps(-INFINITY), _CMP_NEQ_UQ);
        const __m256 e = dc_exp8_flush(terms & SCALED ? _mm256_div_ps(x, l->t) : x);
        g = _mm256_sub_ps(g, _mm256_mul_ps(l->a3, _mm256_and_ps(e, seen))); /* not fused: equal sides give 0 */
    }
    return g;
}

INLINE void gradient_block(const row *r, int64_t lo, int64_t n, const int terms)
{
    const lanes l = {_mm256_set1_ps((float)r->a1), _mm256_set1_ps((float)r->a2), _mm256_set1_ps((float)r->a3),
                     _mm256_set1_ps(r->max),       _mm256_set1_ps(r->m2),        _mm256_set1_ps(r->max_t),
                     _mm256_set1_ps((float)r->t)};
    float *z = r->z + lo;
    const float *zt = terms & DENSE_TERM ? r->zt + lo : z;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(z + i, gradient8(&l, _mm256_loadu_ps(z + i), _mm256_loadu_ps(zt + i), terms));
    if (i < n) _mm256_maskstore_ps(z + i, dc_mask8(n - i), gradient8(&l, load(z, i, n), load(zt, i, n), terms));
}

static void gradient_terms(const row *r, int64_t lo, int64_t n)
{
    const int terms = (r->a1 != 0 ? CE_TERM : 0) | (r->a2 != 0 ? KD_TERM : 0) | (r->a3 != 0 ? DENSE_TERM : 0);
    switch (terms | (r->t != 1 ? SCALED : 0)) {
#define CASE(n_) \
    case n_: gradient_block(r, lo, n, n_); break;
        CASE(0)
        CASE(1)
        CASE(2)
        CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15)
#undef CASE
    }
}

/* The entries' own gradients, from their logits before this pass. */
static void fix_entries(row *r, int64_t lo, int64_t hi, const float *saved, double w_ce, double w_kd)
{
    int64_t k = 0;
    for (int64_t e = 0; e < r->n; e++) {
        if (r->ids[e] < lo || r->ids[e] >= hi) continue;
        const double d = (double)saved[k++] - (double)r->max;
        double g = 0;
        if (d != -INFINITY) {
            if (w_ce != 0) g += w_ce * exp(d) / r->s1;
            if (w_kd != 0) g += w_kd * (r->mass * exp(d / r->t) / r->st - (double)r->p[e]);
        }
        r->z[r->ids[e]] = (float)g;
    }
}

static void second_pass(row *r, const dc_loss *l, int64_t label, double w_ce, double w_kd)
{
    float saved[SAVED];
    if (w_ce == 0 && w_kd == 0) {
        for (int64_t i = 0; i < r->V; i++) r->z[i] = 0;
        return;
    }
    factors(r, l, w_ce, w_kd);
    for (int64_t lo = 0; lo < r->V; lo += window(r)) {
        const int64_t n = lo + window(r) < r->V ? window(r) : r->V - lo;
        const int on_label = label >= lo && label < lo + n && r->z[label] != -INFINITY;
        if (r->n) save(r, lo, lo + n, saved, 0);
        gradient_terms(r, lo, n);
        if (r->n) fix_entries(r, lo, lo + n, saved, w_ce, w_kd);
        if (on_label) r->z[label] -= (float)w_ce;
    }
}

typedef struct job {
    float *logits;
    const dc_loss *l;
} job;

static double kd_of(row *r, const dc_loss *l, int64_t m)
{
    double kd = 0;
    if (l->kind == DC_KD_SAMPLED) kd = kd_sampled(r, l, m);
    if (l->kind == DC_KD_TOPK_TAIL) kd = kd_topk(r);
    if (l->kind == DC_KD_DENSE) kd = kd_dense(r);
    return kd * (double)l->kd_scale;
}

static row row_of(const job *j, int64_t m)
{
    const dc_loss *l = j->l;
    row r = {.z = j->logits + m * l->ld, .V = l->V, .t = (double)l->temperature, .mass = 1};
    if (l->kind == DC_KD_SAMPLED || l->kind == DC_KD_TOPK_TAIL) {
        r.n = l->first[m + 1] - l->first[m];
        r.ids = l->ids + l->first[m], r.p = l->p + l->first[m];
        r.outside = l->kind == DC_KD_TOPK_TAIL;
    }
    if (l->kind == DC_KD_DENSE) r.zt = l->teacher + m * l->V;
    return r;
}

static void loss_row(void *context, int64_t m)
{
    const job *j = context;
    const dc_loss *l = j->l;
    row r = row_of(j, m);
    const int64_t label = l->labels ? l->labels[m] : -1;
    double w_ce = l->w_ce && label >= 0 ? (double)l->w_ce[m] : 0, w_kd = l->w_kd ? (double)l->w_kd[m] : 0;
    if (l->kind == DC_KD_NONE || (l->kind == DC_KD_SAMPLED && !r.n)) w_kd = 0;
    double kd = 0, ce = label >= 0 ? INFINITY : 0, lse;
    if (w_ce != 0 || w_kd != 0 || l->ce || l->kd || l->lse || l->top1) {
        first_pass(&r, l->kind != DC_KD_NONE);
        if (l->top1) find_top1(&r);
        if (r.outside) join(&r);
    }
    lse = (double)r.max;
    if (r.max == -INFINITY) {
        w_ce = w_kd = 0;
    } else {
        lse += log(r.s1);
        if (label >= 0) ce = log(r.s1) - ((double)r.z[label] - (double)r.max);
        kd = kd_of(&r, l, m);
        if (r.zt && r.max_t == -INFINITY && !isnan(r.s_t)) w_kd = 0;
    }
    if (l->ce) l->ce[m] = (float)ce;
    if (l->kd) l->kd[m] = (float)kd;
    if (l->lse) l->lse[m] = (float)lse;
    if (l->top1) l->top1[m] = r.top1;
    if (!l->no_gradient) second_pass(&r, l, label, w_ce, w_kd * (double)l->kd_scale / r.t);
}

static void loss_avx2(dc_dev *dev, float *logits, const dc_loss *loss)
{
    (void)dev;
    job j = {logits, loss};
    dc_pool_for(loss->M, loss_row, &j);
}

void dc_loss_overlay_avx2(dc_ops *ops) { ops->loss = loss_avx2; }
