/* kernels/vec_ref.c -- ops on vectors: sums, searches, dropout. Threads take blocks of fixed size. */
#include "kernels/table.h"

#include <math.h>
#include <string.h>

#include "core/pool.h"
#include "core/rng.h"

typedef struct vec {
    float *y;
    const float *a, *b;
    float alpha;
    int64_t n;
} vec;

enum { BLOCK = 16384 };

static void run(vec v, void (*block)(void *, int64_t)) { dc_pool_for(dc_blocks(v.n, BLOCK), block, &v); }

static void add_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    for (int64_t k = s.low; k < s.high; k++) v->y[k] = v->a[k] + v->b[k];
}

void dc_add_ref(dc_dev *dev, dc_view y, dc_cview a, dc_cview b, int64_t n)
{
    (void)dev;
    run((vec){y.data, a.data, b.data, 1, n}, add_block);
}

static void axpy_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    for (int64_t k = s.low; k < s.high; k++) v->y[k] += v->alpha * v->a[k];
}

void dc_axpy_ref(dc_dev *dev, float *y, const float *x, float alpha, int64_t n)
{
    (void)dev;
    run((vec){y, x, NULL, alpha, n}, axpy_block);
}

static void fill_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    for (int64_t k = s.low; k < s.high; k++) v->y[k] = v->alpha;
}

void dc_fill_ref(dc_dev *dev, dc_view y, float value, int64_t n)
{
    (void)dev;
    run((vec){y.data, NULL, NULL, value, n}, fill_block);
}

static void narrow_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    memcpy(v->y + s.low, v->a + s.low, (size_t)(s.high - s.low) * sizeof *v->y);
}

void dc_narrow_ref(dc_dev *dev, dc_view y, const float *x, int64_t n)
{
    (void)dev; /* whose activations are floats */
    run((vec){y.data, x, NULL, 1, n}, narrow_block);
}

static void softcap_fwd_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    for (int64_t k = s.low; k < s.high; k++) v->y[k] = v->alpha * tanhf(v->y[k] / v->alpha);
}

void dc_softcap_fwd_ref(dc_dev *dev, float *x, int64_t n, float cap)
{
    (void)dev;
    run((vec){x, NULL, NULL, cap, n}, softcap_fwd_block);
}

static void softcap_bwd_block(void *context, int64_t i)
{
    const vec *v = context;
    const dc_span s = dc_block(i, v->n, BLOCK);
    for (int64_t k = s.low; k < s.high; k++) {
        const float t = v->a[k] / v->alpha;
        v->y[k] *= 1 - t * t;
    }
}

void dc_softcap_bwd_ref(dc_dev *dev, float *dx, const float *y, int64_t n, float cap)
{
    (void)dev;
    run((vec){dx, y, NULL, cap, n}, softcap_bwd_block);
}

typedef struct sums {
    const float *x;
    int64_t n, block;
    double part[DC_PARTIALS];
    int64_t first[DC_PARTIALS];
} sums;

static void sumsq_block(void *context, int64_t i)
{
    sums *s = context;
    const dc_span k = dc_block(i, s->n, s->block);
    double lane[4] = {0}; /* four sums, so that additions overlap */
    int64_t at = k.low;
    for (; at + 4 <= k.high; at += 4)
        for (int l = 0; l < 4; l++) lane[l] += (double)s->x[at + l] * (double)s->x[at + l];
    for (; at < k.high; at++) lane[0] += (double)s->x[at] * (double)s->x[at];
    s->part[i] = (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static double sumsq(const float *x, int64_t n)
{
    sums s = {.x = x, .n = n, .block = dc_sum_block(n)};
    const int64_t blocks = dc_blocks(n, s.block);
    dc_pool_for(blocks, sumsq_block, &s);
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) sum += s.part[i];
    return sum;
}

void dc_sumsq_ref(dc_dev *dev, double *out, const dc_floats *items, size_t n_items)
{
    (void)dev;
    for (size_t i = 0; i < n_items; i++) out[i] = sumsq(items[i].data, items[i].n);
}

static void nonfinite_block(void *context, int64_t i)
{
    sums *s = context;
    const dc_span k = dc_block(i, s->n, s->block);
    s->first[i] = -1;
    enum { STRIDE = 1024 }; /* a stretch is tested as a whole, then searched */
    for (int64_t at = k.low; at < k.high; at += STRIDE) {
        const int64_t end = at + STRIDE < k.high ? at + STRIDE : k.high;
        uint32_t bad = 0;
        for (int64_t j = at; j < end; j++) {
            uint32_t u;
            memcpy(&u, s->x + j, sizeof u);
            bad |= (u & 0x7f800000u) == 0x7f800000u;
        }
        for (int64_t j = at; bad && j < end; j++) {
            if (isfinite(s->x[j])) continue;
            s->first[i] = j;
            return;
        }
    }
}

void dc_nonfinite_ref(dc_dev *dev, int64_t *out, dc_cview x, int64_t n)
{
    (void)dev;
    sums s = {.x = x.data, .n = n, .block = dc_sum_block(n)};
    const int64_t blocks = dc_blocks(n, s.block);
    dc_pool_for(blocks, nonfinite_block, &s);
    *out = -1;
    for (int64_t i = 0; i < blocks && *out < 0; i++) *out = s.first[i];
}

typedef struct columns {
    float *out;
    const float *x;
    int64_t T, C;
} columns;

enum { COLUMNS = 64 };

/* In double: a sum over thousands of tokens loses no digit, and this is bound by memory. */
static void colsum_block(void *context, int64_t i)
{
    const columns *c = context;
    const dc_span s = dc_block(i, c->C, COLUMNS);
    double sum[COLUMNS] = {0};
    for (int64_t t = 0; t < c->T; t++) {
        const float *x = c->x + t * c->C + s.low;
        for (int64_t k = 0; k < s.high - s.low; k++) sum[k] += (double)x[k];
    }
    for (int64_t k = s.low; k < s.high; k++) c->out[k] += (float)sum[k - s.low];
}

void dc_colsum_ref(dc_dev *dev, float *out, dc_cview x, int64_t T, int64_t C)
{
    (void)dev;
    columns c = {out, x.data, T, C};
    dc_pool_for(dc_blocks(C, COLUMNS), colsum_block, &c);
}

typedef struct drop {
    float *y;
    const float *x;
    int64_t n;
    const dc_dropout *d;
    int accumulate;
} drop;

static void dropout_block(void *context, int64_t i)
{
    const drop *j = context;
    const dc_dropout *d = j->d;
    const dc_span s = dc_block(i, j->n, BLOCK);
    const float scale = d->p < 1 ? (float)(1 / (1 - (double)d->p)) : 0;
    for (int64_t k = s.low; k < s.high; k += 4) {
        uint32_t u[4];
        dc_rng_u32x4(u, d->seed, DC_RNG_DROPOUT, (uint64_t)*d->step << 32 | (uint64_t)(k / 4), d->place);
        const int64_t lanes = s.high - k < 4 ? s.high - k : 4;
        for (int64_t l = 0; l < lanes; l++) {
            const float kept = dc_rng_f32(u[l]) >= d->p ? j->x[k + l] * scale : 0;
            j->y[k + l] = j->accumulate ? j->y[k + l] + kept : kept;
        }
    }
}

void dc_dropout_ref(dc_dev *dev, dc_view y, dc_cview x, int64_t n, const dc_dropout *d, int accumulate)
{
    (void)dev;
    drop j = {y.data, x.data, n, d, accumulate};
    dc_pool_for(dc_blocks(n, BLOCK), dropout_block, &j);
}
