/* kernels/loss_vec_tmpl.c -- cross-entropy and distillation in registers of DC_LANES floats.
 *
 * Included by loss_avx2.c and loss_avx512.c, which put vec_loss into the table.
 *
 * Two passes over a row. The first finds maxima and sums: per block of the vocabulary the largest value, then the exps relative to the largest so
 * far, in float lanes that go into a double every LANES elements; when a block raises the maximum the sums are scaled. The k entries of a
 * top-k row stay out of them (all minus the k would cancel) and join later. The second
 * writes  a1 exp(z - m) + a2 exp((z - m2) / t) - a3 exp((zt - mt) / t), as few of these exps as the row needs, then
 * corrects the entries that the targets name. Formulas: loss_tmpl.c. */
#include "kernels/loss.h"

#include <math.h>

#include "core/pool.h"
#include "kernels/vec.h"

enum {
    BLOCK = 4096, /* of the vocabulary: stays in the first-level cache between maximum and sum */
    LANES = 1024, /* elements between two additions to the double: 64 a lane with two accumulators of 8 */
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

/* Logits from z + i on, -inf beyond n. */
DC_INLINE dc_vec load(const float *z, int64_t i, int64_t n)
{
    if (i + DC_LANES <= n) return dc_load(z + i);
    return dc_where(dc_between(i, 0, n), dc_load_n(z + i, n - i), dc_set(-INFINITY));
}

static float block_max(const float *z, int64_t n)
{
    dc_vec a = dc_set(-INFINITY), b = a;
    int64_t i = 0;
    for (; i + 2 * DC_LANES <= n; i += 2 * DC_LANES) {
        a = dc_max(a, dc_load(z + i));
        b = dc_max(b, dc_load(z + i + DC_LANES));
    }
    for (; i < n; i += DC_LANES) a = dc_max(a, load(z, i, n));
    return dc_max_lanes(dc_max(a, b));
}

/* The teacher's largest logit where the student's is not masked. */
static float block_max_both(const float *zt, const float *z, int64_t n)
{
    const dc_vec none = dc_set(-INFINITY);
    dc_vec a = none;
    for (int64_t i = 0; i < n; i += DC_LANES) {
        const dc_mask seen = dc_ne(load(z, i, n), none);
        a = dc_max(a, dc_where(seen, load(zt, i, n), none));
    }
    return dc_max_lanes(a);
}

/* All lanes of both, in double. */
static double sum_lanes(dc_vec a, dc_vec b)
{
    float x[2 * DC_LANES];
    dc_store(x, a), dc_store(x + DC_LANES, b);
    __m256d s = _mm256_setzero_pd();
    for (int i = 0; i < 2 * DC_LANES; i += 4) s = _mm256_add_pd(s, _mm256_cvtps_pd(_mm_loadu_ps(x + i)));
    const __m128d h = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}

/* sum exp((z - m) / t). A rounded 1 / t would bend all terms the same way: 4e-7 of the sum at V = 151,936. */
DC_INLINE double block_sum(const float *z, int64_t n, float m, float t, const int scaled)
{
    const dc_vec mv = dc_set(m), tv = dc_set(t);
    double total = 0;
    for (int64_t from = 0; from < n; from += LANES) {
        const int64_t to = from + LANES < n ? from + LANES : n;
        dc_vec a = dc_set(0), b = a;
        int64_t i = from;
        for (; i + 2 * DC_LANES <= to; i += 2 * DC_LANES) {
            dc_vec x = dc_sub(dc_load(z + i), mv), y = dc_sub(dc_load(z + i + DC_LANES), mv);
            if (scaled) x = dc_div(x, tv), y = dc_div(y, tv);
            a = dc_add(a, dc_exp_flush(x));
            b = dc_add(b, dc_exp_flush(y));
        }
        for (; i < to; i += DC_LANES) {
            const dc_vec x = dc_sub(load(z, i, to), mv);
            a = dc_add(a, dc_exp_flush(scaled ? dc_div(x, tv) : x));
        }
        total += sum_lanes(a, b);
    }
    return total;
}

static double block_sum_1(const float *z, int64_t n, float m) { return block_sum(z, n, m, 1, 0); }
static double block_sum_t(const float *z, int64_t n, float m, float t) { return block_sum(z, n, m, t, 1); }

/* e = exp((zt - mt) / t) and e * (zt - z), 0 where either side is masked: 0 * (finite - inf) would be NaN. */
DC_INLINE void add_cross(dc_vec z, dc_vec zt, dc_vec mt, dc_vec t, const int scaled, dc_vec *sum, dc_vec *cross)
{
    const dc_vec x = dc_sub(zt, mt);
    const dc_mask seen = dc_ne(z, dc_set(-INFINITY));
    const dc_vec e = dc_keep(seen, dc_exp_flush(scaled ? dc_div(x, t) : x));
    const dc_mask there = dc_ne(e, dc_set(0));
    *sum = dc_add(*sum, e);
    *cross = dc_fma(e, dc_keep(there, dc_sub(zt, z)), *cross);
}

/* The teacher's sum, relative to mt, and added to *cross  sum exp((zt - mt) / t) * (zt - z). */
DC_INLINE double block_cross(const float *zt, const float *z, int64_t n, float mt, float t, const int scaled,
                             double *cross)
{
    const dc_vec mv = dc_set(mt), tv = dc_set(t);
    double total = 0;
    for (int64_t from = 0; from < n; from += LANES) {
        const int64_t to = from + LANES < n ? from + LANES : n;
        dc_vec a = dc_set(0), b = a, ca = a, cb = a;
        int64_t i = from;
        for (; i + 2 * DC_LANES <= to; i += 2 * DC_LANES) {
            add_cross(dc_load(z + i), dc_load(zt + i), mv, tv, scaled, &a, &ca);
            add_cross(dc_load(z + i + DC_LANES), dc_load(zt + i + DC_LANES), mv, tv, scaled, &b, &cb);
        }
        for (; i < to; i += DC_LANES) add_cross(load(z, i, to), load(zt, i, to), mv, tv, scaled, &a, &ca);
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
    dc_vec a1, a2, a3, m1, m2, mt, t;
} lanes;

enum { CE_TERM = 1, KD_TERM = 2, DENSE_TERM = 4, SCALED = 8 };

/* a1 exp(z - m) + a2 exp((z - m2) / t) - a3 exp((zt - mt) / t), of which `terms` says what there is. */
DC_INLINE dc_vec gradient_lanes(const lanes *l, dc_vec z, dc_vec zt, const int terms)
{
    dc_vec g = dc_set(0);
    if (terms & CE_TERM) g = dc_mul(l->a1, dc_exp_flush(dc_sub(z, l->m1)));
    if (terms & KD_TERM) {
        const dc_vec x = dc_sub(z, l->m2);
        g = dc_fma(l->a2, dc_exp_flush(terms & SCALED ? dc_div(x, l->t) : x), g);
    }
    if (terms & DENSE_TERM) {
        const dc_vec x = dc_sub(zt, l->mt);
        const dc_mask seen = dc_ne(z, dc_set(-INFINITY));
        const dc_vec e = dc_exp_flush(terms & SCALED ? dc_div(x, l->t) : x);
        g = dc_sub(g, dc_mul(l->a3, dc_keep(seen, e))); /* not fused: equal sides give 0 */
    }
    return g;
}

DC_INLINE void gradient_block(const row *r, int64_t lo, int64_t n, const int terms)
{
    const lanes l = {dc_set((float)r->a1), dc_set((float)r->a2), dc_set((float)r->a3), dc_set(r->max),
                     dc_set(r->m2),        dc_set(r->max_t),     dc_set((float)r->t)};
    float *z = r->z + lo;
    const float *zt = terms & DENSE_TERM ? r->zt + lo : z;
    int64_t i = 0;
    for (; i + DC_LANES <= n; i += DC_LANES)
        dc_store(z + i, gradient_lanes(&l, dc_load(z + i), dc_load(zt + i), terms));
    if (i < n) dc_store_n(z + i, n - i, gradient_lanes(&l, load(z, i, n), load(zt, i, n), terms));
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

static void vec_loss(dc_dev *dev, float *logits, const dc_loss *loss)
{
    (void)dev;
    job j = {logits, loss};
    dc_pool_for(loss->M, loss_row, &j);
}
