/* kernels/loss_cuda.cu -- cross-entropy and distillation for CUDA.
 *
 * A row is cut into parts of PART logits and a block takes one part, in both kernels: a row of 151,936 is the work of 19 blocks, few rows fill a
 * card, and the order of every sum hangs on V alone.
 *   stats_*     holds its part in registers: the largest logit first, then the sums of exps relative to it; writes a `part`. Sparse
 *               entries of the part are added by the same block. Top-k keeps them out of the other sums (all minus the k would cancel).
 *   gradient_*  begins with its first warp, which adds up the row's parts (80 bytes each, cached); the block of part 0 writes the results. Then
 *               the block replaces its logits by
 *                   a1 exp(z - m) + a2 exp((z - m2) / t) - a3 exp((zt - mt) / t) - w_kd p.
 * Formulas: loss_tmpl.c.
 *
 * Bytes: logits are read twice and written once, 12 an entry (dense: 20 with the teacher's). Rows go in slices that a second-level cache of
 * 40 MB or more holds, where the second reading costs no DRAM: 8 (dense: 12) is the roofline. Exps: 2 an entry, at t other than 1
 * 4, dense 1 and 1 more; at 16 a clock and multiprocessor they take half the time of the bytes.
 *
 * Error of a sum of exps, relative, in units of 2^-24: 4 of ex2 and 1 of its correction (exp_at), |z - max| of the difference, 8 of a
 * thread's chain of 8, 2 to join its four chains; from there on double. */
#include "kernels/cuda.cuh"
#include "kernels/cuda_dev.h"

#include <math.h>

enum {
    THREADS = 256,
    WARPS = THREADS / DC_WARP,
    VECTORS = 8, /* of four logits, a thread's share */
    PART = 4 * VECTORS * THREADS,
    SLICE = 32 << 20, /* bytes of logits between two launches */
    NO_ID = INT32_MAX
};

/* log2(e) / t in two floats. */
typedef struct rate {
    float hi, lo;
} rate;

/* What a part of a row adds up to. max[0]: of its logits, for top-k of those outside the k entries; max[1]: for top-k of the k entries,
 * for a dense teacher of its logits where z is not masked. S1 and ST are relative to max[0], the others with an exp to max[1]. */
enum { S1, ST, MASS, PZ, TOTAL, P_LOG_P, S1_IN, ST_IN, SUMS, S_T = MASS, CROSS = PZ };

typedef struct part {
    double sum[SUMS]; /* as many as n_sums says */
    float max[2];
    float label;  /* its logit, when it is in this part */
    int32_t top1; /* the lowest id of the largest */
} part;

typedef struct job {
    dc_loss l;
    float *logits;
    part *parts;   /* [rows of the slice, n_parts] */
    int64_t first; /* row of the slice */
    int32_t n_parts;
    rate at_1, at_t;
} job;

/* The part of a row that is the block's: n logits from number lo of row m. */
typedef struct place {
    int64_t m;
    int32_t part, lo, n;
    float *z;
    const float *zt; /* teacher, dense */
} place;

typedef float share[VECTORS][4];

#define EACH_OF_SHARE _Pragma("unroll") for (int i = 0; i < VECTORS; i++) _Pragma("unroll") for (int k = 0; k < 4; k++)

DC_DEVICE int is_sparse(dc_kd_kind kind) { return kind == DC_KD_SAMPLED || kind == DC_KD_TOPK_TAIL; }
DC_DEVICE int n_sums(dc_kd_kind kind) { return kind == DC_KD_NONE ? 1 : kind == DC_KD_TOPK_TAIL ? SUMS : 4; }
DC_DEVICE int masked(float z) { return z == -INFINITY; }

/* The larger one, NaN when one is: a row with a NaN must not look like one without. */
DC_DEVICE float larger(float a, float b)
{
#ifdef DC_CUDA_EMULATED
    return a > b || a != a ? a : b;
#else
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
#endif
}

/* 2^x to 2 ulp (the CUDA guide's figure for exp2f); 0 where that is subnormal. */
DC_DEVICE float exp2_flush(float x)
{
#ifdef DC_CUDA_EMULATED
    return x < -126.0f ? 0.0f : exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* exp(x / t), 0 for a masked entry and for NaN, which the maxima keep. What rounding takes from the exponent, up to 2^-24 |x|, comes back as a
 * factor: a rounded log2(e) / t alone would bend all terms of a sum the same way. */
DC_DEVICE float exp_at(float x, rate c)
{
    x = fmaxf(x, -1e30f); /* a finite product */
    const float y = __fmul_rn(x, c.hi), e = exp2_flush(y);
    return fmaf(e, 0.693147181f * fmaf(x, c.lo, fmaf(x, c.hi, -y)), e);
}

DC_DEVICE double warp_sum(double x)
{
#pragma unroll
    for (int lanes = DC_WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(DC_FULL_WARP, x, lanes);
    return x;
}

DC_DEVICE float warp_larger(float x)
{
#pragma unroll
    for (int lanes = DC_WARP / 2; lanes > 0; lanes /= 2) x = larger(x, __shfl_xor_sync(DC_FULL_WARP, x, lanes));
    return x;
}

DC_DEVICE place place_of(const job *j)
{
    place at;
    const int64_t row = blockIdx.x / (unsigned)j->n_parts;
    at.m = j->first + row;
    at.part = (int32_t)(blockIdx.x % (unsigned)j->n_parts);
    at.lo = at.part * PART;
    at.n = j->l.V - at.lo < PART ? (int32_t)(j->l.V - at.lo) : PART;
    at.z = j->logits + at.m * j->l.ld + at.lo;
    at.zt = j->l.kind == DC_KD_DENSE ? j->l.teacher + at.m * j->l.V + at.lo : nullptr;
    return at;
}

/* The thread's i-th vector begins at this logit of the part. */
DC_DEVICE int32_t vector_at(int i) { return 4 * (i * THREADS + (int32_t)threadIdx.x); }

DC_DEVICE int in_vectors(const float *p, int32_t n) { return n == PART && reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/* The thread's share of the part, -inf beyond n. Which logits it has does not hang on how the row is aligned. */
DC_DEVICE void load(share z, const float *p, int32_t n)
{
    if (in_vectors(p, n)) {
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            const float4 v = *reinterpret_cast<const float4 *>(p + vector_at(i));
            z[i][0] = v.x, z[i][1] = v.y, z[i][2] = v.z, z[i][3] = v.w;
        }
    } else {
        EACH_OF_SHARE z[i][k] = vector_at(i) + k < n ? p[vector_at(i) + k] : -INFINITY;
    }
}

DC_DEVICE void store(float *p, const share z, int32_t n)
{
    if (in_vectors(p, n)) {
#pragma unroll
        for (int i = 0; i < VECTORS; i++)
            *reinterpret_cast<float4 *>(p + vector_at(i)) = make_float4(z[i][0], z[i][1], z[i][2], z[i][3]);
    } else {
        EACH_OF_SHARE if (vector_at(i) + k < n) p[vector_at(i) + k] = z[i][k];
    }
}

/* target[i] = p of the entry that names logit i of the part, -1 where none does. Complete after the block's next barrier. */
DC_DEVICE void scatter_targets(float *target, const dc_loss *l, const place *at)
{
#pragma unroll
    for (int i = 0; i < VECTORS; i++)
        *reinterpret_cast<float4 *>(target + vector_at(i)) = make_float4(-1.0f, -1.0f, -1.0f, -1.0f);
    __syncthreads();
    for (int64_t e = l->first[at->m] + threadIdx.x; e < l->first[at->m + 1]; e += THREADS) {
        const int32_t i = l->ids[e] - at->lo;
        if (i >= 0 && i < at->n) target[i] = l->p[e];
    }
}

/* ---- first kernel: what a part adds up to ---- */

/* The entries that name logits of the part: sum p, and over those that the student does not mask sum p, sum p z, sum p log p. */
DC_DEVICE void sum_entries(double *sum, const dc_loss *l, const place *at, dc_kd_kind kind)
{
    for (int64_t e = l->first[at->m] + threadIdx.x; e < l->first[at->m + 1]; e += THREADS) {
        const int32_t i = l->ids[e] - at->lo;
        if (i < 0 || i >= at->n) continue;
        const float z = at->z[i];
        const double p = (double)l->p[e];
        if (kind == DC_KD_TOPK_TAIL) sum[TOTAL] += p;
        if (masked(z) || p <= 0) continue;
        sum[MASS] += p;
        sum[PZ] += p * (double)z;
        if (kind == DC_KD_TOPK_TAIL) sum[P_LOG_P] += p * log(p);
    }
}

DC_DEVICE double join(const float s[4]) { return (double)((s[0] + s[1]) + (s[2] + s[3])); }

/* The thread's sums of exps, relative to the part's maxima. */
DC_DEVICE void sum_exps(double *sum, const share z, const share zt, const float *target, const float max[2],
                        const job *j, dc_kd_kind kind)
{
    const int scaled = kind != DC_KD_NONE && j->l.temperature != 1.0f;
    float s1[4] = {0, 0, 0, 0}, st[4] = {0, 0, 0, 0}, a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
    EACH_OF_SHARE
    {
        const int in = kind == DC_KD_TOPK_TAIL && target[vector_at(i) + k] >= 0;
        const float x = z[i][k] - max[in], e1 = exp_at(x, j->at_1), et = scaled ? exp_at(x, j->at_t) : e1;
        s1[k] += in ? 0 : e1, st[k] += in ? 0 : et;
        if (kind == DC_KD_TOPK_TAIL) a[k] += in ? e1 : 0, b[k] += in ? et : 0;
        if (kind == DC_KD_DENSE) {
            const float teacher = masked(z[i][k]) ? 0 : exp_at(zt[i][k] - max[1], j->at_t);
            a[k] += teacher;
            b[k] = fmaf(teacher, teacher != 0 ? zt[i][k] - z[i][k] : 0, b[k]); /* 0 * inf would be NaN */
        }
    }
    sum[S1] = join(s1);
    if (kind != DC_KD_NONE) sum[ST] = join(st);
    if (kind == DC_KD_TOPK_TAIL) sum[S1_IN] = join(a), sum[ST_IN] = join(b);
    if (kind == DC_KD_DENSE) sum[S_T] = join(a), sum[CROSS] = join(b);
}

/* max[0], max[1] of the thread's share. */
DC_DEVICE void largest(float max[2], const share z, const share zt, const float *target, dc_kd_kind kind)
{
    max[0] = max[1] = -INFINITY;
    EACH_OF_SHARE
    {
        const int in = kind == DC_KD_TOPK_TAIL && target[vector_at(i) + k] >= 0;
        max[0] = larger(max[0], in ? -INFINITY : z[i][k]);
        if (kind == DC_KD_TOPK_TAIL) max[1] = larger(max[1], in ? z[i][k] : -INFINITY);
        if (kind == DC_KD_DENSE) max[1] = larger(max[1], masked(z[i][k]) ? -INFINITY : zt[i][k]);
    }
}

/* The lowest id of the part's largest logit, if the thread has it. A NaN is the largest. */
DC_DEVICE int32_t find(const share z, float max, int32_t lo)
{
    int32_t id = NO_ID;
    EACH_OF_SHARE if (z[i][k] == max || z[i][k] != z[i][k]) id = min(id, lo + vector_at(i) + k);
    return id;
}

DC_DEVICE void stats(const job *j, dc_kd_kind kind)
{
    DC_DYNAMIC_SHARED(float, target);
    DC_SHARED(float, warp_max, [2][WARPS]);
    DC_SHARED(double, warp_sums, [SUMS][WARPS]);
    DC_SHARED(int32_t, warp_top1, [WARPS]);
    const place at = place_of(j);
    const int lane = (int)threadIdx.x % DC_WARP, warp = (int)threadIdx.x / DC_WARP;
    share z, zt;
    load(z, at.z, at.n);
    if (kind == DC_KD_DENSE) load(zt, at.zt, at.n);
    if (kind == DC_KD_TOPK_TAIL) {
        scatter_targets(target, &j->l, &at);
        __syncthreads();
    }

    float max[2];
    largest(max, z, zt, target, kind);
    const float mine = kind == DC_KD_TOPK_TAIL ? larger(max[0], max[1]) : max[0];
    for (int i = 0; i < 2; i++) {
        max[i] = warp_larger(max[i]);
        if (lane == 0) warp_max[i][warp] = max[i];
    }
    __syncthreads();
    for (int i = 0; i < 2; i++)
        for (int w = 0; w < WARPS; w++) max[i] = larger(max[i], warp_max[i][w]);

    double sum[SUMS] = {0, 0, 0, 0, 0, 0, 0, 0};
    sum_exps(sum, z, zt, target, max, j, kind);
    if (is_sparse(kind)) sum_entries(sum, &j->l, &at, kind);
#pragma unroll
    for (int i = 0; i < n_sums(kind); i++) {
        const double s = warp_sum(sum[i]);
        if (lane == 0) warp_sums[i][warp] = s;
    }
    const float most = kind == DC_KD_TOPK_TAIL ? larger(max[0], max[1]) : max[0];
    int32_t top1 = mine == most || mine != mine ? find(z, most, at.lo) : NO_ID;
    top1 = __reduce_min_sync(DC_FULL_WARP, top1);
    if (lane == 0) warp_top1[warp] = top1;
    __syncthreads();

    part *out = j->parts + blockIdx.x;
    if ((int)threadIdx.x < n_sums(kind)) {
        double s = 0;
        for (int w = 0; w < WARPS; w++) s += warp_sums[threadIdx.x][w];
        out->sum[threadIdx.x] = s;
    }
    if (threadIdx.x == 0) {
        for (int w = 0; w < WARPS; w++) top1 = min(top1, warp_top1[w]);
        const int32_t label = j->l.labels ? j->l.labels[at.m] - at.lo : -1;
        out->max[0] = max[0], out->max[1] = max[1];
        out->top1 = top1;
        if (label >= 0 && label < at.n) out->label = at.z[label];
    }
}

static DC_KERNEL(THREADS) stats_none(job j) { stats(&j, DC_KD_NONE); }
static DC_KERNEL(THREADS) stats_sampled(job j) { stats(&j, DC_KD_SAMPLED); }
static DC_KERNEL(THREADS) stats_topk(job j) { stats(&j, DC_KD_TOPK_TAIL); }
static DC_KERNEL(THREADS) stats_dense(job j) { stats(&j, DC_KD_DENSE); }

/* ---- second kernel: what the row adds up to, its results, its gradient ---- */

typedef struct row {
    int64_t m;
    int32_t label, top1; /* label -1: none */
    float z_label;
    float max, max_out, max_t;
    double s1, st, s_out, s_t,
        cross; /* at temperature 1, the others at t; out: outside the k entries; t: the teacher's */
    double mass, pz, total, p_log_p, p_tail;
    double w_ce, w_kd;
} row;

/* Sums of the row's parts; all lanes of a warp come here and get the same. */
DC_DEVICE void sum_parts(row *r, const job *j, dc_kd_kind kind)
{
    const part *parts = j->parts + (r->m - j->first) * j->n_parts;
    const int lane = (int)threadIdx.x % DC_WARP, topk = kind == DC_KD_TOPK_TAIL;
    float max[2] = {-INFINITY, -INFINITY};
    for (int32_t i = lane; i < j->n_parts; i += DC_WARP)
        max[0] = larger(max[0], parts[i].max[0]), max[1] = larger(max[1], parts[i].max[1]);
    r->max_out = warp_larger(max[0]), r->max_t = warp_larger(max[1]);
    r->max = topk ? larger(r->max_out, r->max_t) : r->max_out;

    double sum[SUMS] = {0, 0, 0, 0, 0, 0, 0, 0}, out = 0;
    int32_t top1 = NO_ID;
    for (int32_t i = lane; i < j->n_parts; i += DC_WARP) {
        const part *p = parts + i;
        const float x = p->max[0] - r->max, most = topk ? larger(p->max[0], p->max[1]) : p->max[0];
        if (most == r->max || most != most) top1 = min(top1, p->top1);
        sum[S1] += p->sum[S1] * (double)exp_at(x, j->at_1);
        if (kind != DC_KD_NONE) sum[ST] += p->sum[ST] * (double)exp_at(x, j->at_t);
        if (is_sparse(kind)) sum[MASS] += p->sum[MASS], sum[PZ] += p->sum[PZ];
        if (topk) {
            const float in = p->max[1] - r->max;
            sum[S1] += p->sum[S1_IN] * (double)exp_at(in, j->at_1);
            sum[ST] += p->sum[ST_IN] * (double)exp_at(in, j->at_t);
            sum[TOTAL] += p->sum[TOTAL], sum[P_LOG_P] += p->sum[P_LOG_P];
            out += p->sum[ST] * (double)exp_at(p->max[0] - r->max_out, j->at_t);
        }
        if (kind == DC_KD_DENSE) {
            const double e = (double)exp_at(p->max[1] - r->max_t, j->at_t);
            sum[S_T] += p->sum[S_T] * e, sum[CROSS] += p->sum[CROSS] * e;
        }
    }
    r->top1 = __reduce_min_sync(DC_FULL_WARP, top1);
    r->s1 = warp_sum(sum[S1]);
    r->st = kind != DC_KD_NONE ? warp_sum(sum[ST]) : 0;
    r->mass = is_sparse(kind) ? warp_sum(sum[MASS]) : 1;
    r->pz = is_sparse(kind) ? warp_sum(sum[PZ]) : 0;
    r->total = topk ? warp_sum(sum[TOTAL]) : 0;
    r->p_log_p = topk ? warp_sum(sum[P_LOG_P]) : 0;
    r->s_out = topk ? warp_sum(out) : 0;
    r->s_t = kind == DC_KD_DENSE ? warp_sum(sum[S_T]) : 0;
    r->cross = kind == DC_KD_DENSE ? warp_sum(sum[CROSS]) : 0;
}

/* The row's sums, tail and weights; a weight is 0 where there is nothing to pull at. */
DC_DEVICE row row_of(const job *j, int64_t m, dc_kd_kind kind)
{
    const dc_loss *l = &j->l;
    row r;
    r.m = m;
    r.label = l->labels && l->labels[m] >= 0 ? l->labels[m] : -1;
    sum_parts(&r, j, kind);
    r.z_label = r.label >= 0 ? j->parts[(m - j->first) * j->n_parts + r.label / PART].label : 0;
    r.p_tail = kind == DC_KD_TOPK_TAIL && r.total < 1 && !masked(r.max_out) ? 1 - r.total : 0;
    r.w_ce = l->w_ce && r.label >= 0 && !masked(r.max) ? (double)l->w_ce[m] : 0;
    r.w_kd = l->w_kd && kind != DC_KD_NONE && !masked(r.max) && !(kind == DC_KD_DENSE && masked(r.max_t))
                 ? (double)l->w_kd[m] * (double)l->kd_scale / (double)l->temperature
                 : 0;
    r.mass += r.p_tail;
    return r;
}

/* KD of the row, without kd_scale. */
DC_DEVICE double divergence(const row *r, const job *j, dc_kd_kind kind)
{
    const double t = (double)j->l.temperature, max = (double)r->max;
    if (kind == DC_KD_NONE || masked(r->max)) return 0;
    if (kind == DC_KD_DENSE)
        return masked(r->max_t) ? 0 : r->cross / r->s_t / t + (max - (double)r->max_t) / t + log(r->st) - log(r->s_t);
    const double entries = r->mass - r->p_tail;
    double kd = r->p_log_p + entries * log(r->st) - (r->pz - entries * max) / t;
    if (r->p_tail > 0) kd += r->p_tail * (log(r->p_tail) - log(r->s_out) + log(r->st) - ((double)r->max_out - max) / t);
    if (kind == DC_KD_SAMPLED && j->l.entropy && j->l.first[r->m] < j->l.first[r->m + 1] && !isnan(j->l.entropy[r->m]))
        kd -= (double)j->l.entropy[r->m];
    return kd;
}

DC_DEVICE void write_results(const row *r, const job *j, dc_kd_kind kind)
{
    const dc_loss *l = &j->l;
    const double lse = masked(r->max) ? -INFINITY : (double)r->max + log(r->s1);
    double ce = 0;
    if (r->label >= 0) ce = masked(r->max) ? INFINITY : log(r->s1) - ((double)r->z_label - (double)r->max);
    if (l->lse) l->lse[r->m] = (float)lse;
    if (l->ce) l->ce[r->m] = (float)ce;
    if (l->kd) l->kd[r->m] = (float)(divergence(r, j, kind) * (double)l->kd_scale);
    if (l->top1) l->top1[r->m] = r->top1;
}

/* The gradient's factors, [0] outside of the k entries of top-k and [1] there; the other kinds know [0] alone. */
typedef struct factors {
    float a1[2], a2[2], a3, m1, m2[2], mt;
    float w_kd;
    float label; /* what the label's gradient is lowered by */
    int two;     /* whether the second term is there */
} factors;

/* Outside the k entries the gradient is w_kd times mass q - p_tail exp((z - max_out) / t) / s_out: both multiples of one exp, unless the
 * outside is so improbable that exp((z - max) / t) would vanish; then the first term does. */
DC_DEVICE factors factors_of(const row *r, const job *j, dc_kd_kind kind)
{
    const double t = (double)j->l.temperature, q = r->w_kd != 0 ? r->w_kd * r->mass / r->st : 0;
    double a1[2], a2[2] = {q, q};
    factors f;
    a1[0] = a1[1] = r->w_ce != 0 ? r->w_ce / r->s1 : 0;
    f.m1 = f.m2[0] = f.m2[1] = r->max;
    if (r->p_tail > 0 && r->w_kd != 0) {
        const double gap = ((double)r->max_out - (double)r->max) / t, tail = r->w_kd * r->p_tail / r->s_out;
        if (gap > -40) a2[0] -= tail * exp(-gap);
        else a2[0] = -tail, f.m2[0] = r->max_out;
    }
    if (t == 1 && f.m2[0] == r->max)
        for (int in = 0; in < 2; in++) a1[in] += a2[in], a2[in] = 0;
    for (int in = 0; in < 2; in++) f.a1[in] = (float)a1[in], f.a2[in] = (float)a2[in];
    f.a3 = kind == DC_KD_DENSE && r->w_kd != 0 ? (float)(r->w_kd / r->s_t) : 0;
    f.mt = r->max_t;
    f.w_kd = (float)r->w_kd;
    f.label = r->label >= 0 && !masked(r->z_label) ? (float)r->w_ce : 0;
    f.two = a2[0] != 0 || a2[1] != 0;
    return f;
}

/* z = the gradient there. */
DC_DEVICE void turn(share z, const share zt, const float *target, const factors *f, const job *j, dc_kd_kind kind,
                    int two)
{
    EACH_OF_SHARE
    {
        const float x = z[i][k], p = is_sparse(kind) ? target[vector_at(i) + k] : -1;
        const int in = kind == DC_KD_TOPK_TAIL && p >= 0;
        float g = f->a1[in] * exp_at(x - f->m1, j->at_1);
        if (two) g = fmaf(f->a2[in], exp_at(x - f->m2[in], j->at_t), g);
        if (kind == DC_KD_DENSE) /* not fused: equal sides give 0 */
            g = __fsub_rn(g, __fmul_rn(f->a3, exp_at(zt[i][k] - f->mt, j->at_t)));
        if (is_sparse(kind) && p > 0) g -= f->w_kd * p;
        z[i][k] = masked(x) ? 0 : g;
    }
}

DC_DEVICE void gradient(const job *j, dc_kd_kind kind)
{
    DC_DYNAMIC_SHARED(float, target);
    DC_SHARED(factors, f, [1]);
    const place at = place_of(j);
    if (is_sparse(kind)) scatter_targets(target, &j->l, &at);
    if (threadIdx.x < DC_WARP) {
        const row r = row_of(j, at.m, kind);
        if (threadIdx.x == 0) f[0] = factors_of(&r, j, kind);
        if (threadIdx.x == 0 && at.part == 0) write_results(&r, j, kind);
    }
    __syncthreads();
    share z, zt; /* not before: row_of needs the registers, and up to five blocks a multiprocessor hide its time */
    load(z, at.z, at.n);
    if (kind == DC_KD_DENSE) load(zt, at.zt, at.n);
    if (f->two) turn(z, zt, target, f, j, kind, 1);
    else turn(z, zt, target, f, j, kind, 0);
    store(at.z, z, at.n);
    const int32_t label = j->l.labels ? j->l.labels[at.m] - at.lo : -1;
    if (label >= 0 && label < at.n && label / 4 % THREADS == (int32_t)threadIdx.x)
        at.z[label] -= f->label; /* the thread that has just stored it */
}

static DC_KERNEL(THREADS) gradient_none(job j) { gradient(&j, DC_KD_NONE); }
static DC_KERNEL(THREADS) gradient_sampled(job j) { gradient(&j, DC_KD_SAMPLED); }
static DC_KERNEL(THREADS) gradient_topk(job j) { gradient(&j, DC_KD_TOPK_TAIL); }
static DC_KERNEL(THREADS) gradient_dense(job j) { gradient(&j, DC_KD_DENSE); }

/* Results alone: a warp a row. */
static DC_KERNEL(DC_WARP) results(job j)
{
    const row r = row_of(&j, j.first + blockIdx.x, j.l.kind);
    if (threadIdx.x == 0) write_results(&r, &j, j.l.kind);
}

/* ---- launches ---- */

static rate rate_of(double t)
{
    const double c = 1.4426950408889634 / t;
    const float hi = (float)c;
    return rate{hi, (float)(c - (double)hi)};
}

/* Rows m .. m + n of the job. */
static void launch(dc_dev *dev, const job *j, unsigned n)
{
    static const struct {
        void (*stats)(job), (*gradient)(job);
    } kernels[] = {{stats_none, gradient_none},
                   {stats_sampled, gradient_sampled},
                   {stats_topk, gradient_topk},
                   {stats_dense, gradient_dense}};
    const dc_kd_kind kind = j->l.kind;
    const cudaStream_t stream = dc_cuda_stream(dev);
    const unsigned blocks = n * (unsigned)j->n_parts;
    const size_t targets = PART * sizeof(float);
    DC_LAUNCH(kernels[kind].stats, blocks, THREADS, kind == DC_KD_TOPK_TAIL ? targets : 0, stream, *j);
    dc_cuda_launched(dev, "loss");
    if (j->l.no_gradient) DC_LAUNCH(results, n, DC_WARP, 0, stream, *j);
    else
        DC_LAUNCH(kernels[kind].gradient, blocks, THREADS,
                  kind == DC_KD_SAMPLED || kind == DC_KD_TOPK_TAIL ? targets : 0, stream, *j);
    dc_cuda_launched(dev, "loss");
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void loss_cuda(dc_dev *dev, float *logits, const dc_loss *l)
{
    const int64_t n_parts = (l->V + PART - 1) / PART, row_bytes = n_parts * (int64_t)sizeof(part);
    const int64_t room = (int64_t)dc_cuda_scratch_room(dev) / row_bytes;
    const int64_t cached = SLICE / (l->V * (int64_t)sizeof(float) * (l->kind == DC_KD_DENSE ? 2 : 1));
    const int64_t rows = least(least(cached > 0 ? cached : 1, room), l->M);
    DC_ASSERT(rows > 0);
    job j = {*l, logits, nullptr, 0, (int32_t)n_parts, rate_of(1), rate_of((double)l->temperature)};
    j.parts = static_cast<part *>(dc_cuda_scratch(dev, (size_t)(rows * row_bytes)));
    for (; j.first < l->M; j.first += rows) launch(dev, &j, (unsigned)least(rows, l->M - j.first));
}

void dc_loss_overlay_cuda(dc_ops *ops) { ops->loss = loss_cuda; }
