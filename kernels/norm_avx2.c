/* kernels/norm_avx2.c -- RMSNorm for AVX2 + FMA, in threads by rows; the gradient of the weight by columns. */
#include "kernels/table.h"

#include <immintrin.h>
#include <math.h>

#include "core/pool.h"
#include "kernels/vec.h"

static __m256 weight8(dc_cview w, int64_t i)
{
    switch ((int)w.type) {
    case DC_F16: return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)w.data + i)));
    case DC_BF16: {
        const __m128i h = _mm_loadu_si128((const __m128i *)((const uint16_t *)w.data + i));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    }
    default: return _mm256_loadu_ps((const float *)w.data + i);
    }
}

typedef struct norm {
    float *out, *rstd_out, *dweight;
    const float *dy, *x, *rstd;
    dc_cview weight;
    int64_t T, C, ldy, ldx;
    float eps, offset;
    int assign;
} norm;

static void fwd_row(const norm *j, int64_t t)
{
    const float *x = j->x + t * j->ldx;
    float *y = j->out + t * j->ldy;
    const int64_t C = j->C;
    __m256 s0 = _mm256_setzero_ps(), s1 = _mm256_setzero_ps(); /* two hide the latency of the multiply-add */
    int64_t c = 0;
    for (; c + 16 <= C; c += 16) {
        const __m256 a = _mm256_loadu_ps(x + c), b = _mm256_loadu_ps(x + c + 8);
        s0 = _mm256_fmadd_ps(a, a, s0);
        s1 = _mm256_fmadd_ps(b, b, s1);
    }
    float sum = dc_sum_lanes(_mm256_add_ps(s0, s1));
    for (; c < C; c++) sum += x[c] * x[c];
    const float r = 1.0f / sqrtf(sum / (float)C + j->eps);
    const __m256 rv = _mm256_set1_ps(r), offset = _mm256_set1_ps(j->offset);
    for (c = 0; c + 8 <= C; c += 8) {
        const __m256 w = _mm256_add_ps(offset, weight8(j->weight, c));
        _mm256_storeu_ps(y + c, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + c), rv), w));
    }
    for (; c < C; c++) y[c] = x[c] * r * (j->offset + dc_weight_at(j->weight, c));
    if (j->rstd_out) j->rstd_out[t] = r;
}

static void fwd_block(void *context, int64_t i)
{
    const norm *j = context;
    const dc_span s = dc_block(i, j->T, dc_rows_a_block(j->C));
    for (int64_t t = s.low; t < s.high; t++) fwd_row(j, t);
}

static void rmsnorm_fwd_avx2(dc_dev *dev, dc_view y, float *rstd, dc_cview x, dc_cview weight, int64_t T, int64_t C,
                             int64_t ldy, int64_t ldx, float eps, float offset)
{
    (void)dev;
    norm j = {.out = y.data,
              .rstd_out = rstd,
              .x = x.data,
              .weight = weight,
              .T = T,
              .C = C,
              .ldy = ldy,
              .ldx = ldx,
              .eps = eps,
              .offset = offset};
    dc_pool_for(dc_blocks(T, dc_rows_a_block(C)), fwd_block, &j);
}

/* dx: first sum_c g * x, then the row. Each element of dy is read before its dx is written: they may be one buffer. */
static void bwd_row(const norm *j, int64_t t)
{
    const float *x = j->x + t * j->ldx, *dy = j->dy + t * j->ldy;
    float *dx = j->out + t * j->ldx;
    const int64_t C = j->C;
    const __m256 offset = _mm256_set1_ps(j->offset);
    __m256 sum = _mm256_setzero_ps();
    int64_t c = 0;
    for (; c + 8 <= C; c += 8) {
        const __m256 g = _mm256_mul_ps(_mm256_loadu_ps(dy + c), _mm256_add_ps(offset, weight8(j->weight, c)));
        sum = _mm256_fmadd_ps(g, _mm256_loadu_ps(x + c), sum);
    }
    float dot = dc_sum_lanes(sum);
    for (; c < C; c++) dot += dy[c] * (j->offset + dc_weight_at(j->weight, c)) * x[c];
    const float r = j->rstd[t], k = dot * r * r / (float)C;
    const __m256 rv = _mm256_set1_ps(r), kv = _mm256_set1_ps(k);
    for (c = 0; c + 8 <= C; c += 8) {
        const __m256 g = _mm256_mul_ps(_mm256_loadu_ps(dy + c), _mm256_add_ps(offset, weight8(j->weight, c)));
        __m256 d = _mm256_mul_ps(rv, _mm256_fnmadd_ps(_mm256_loadu_ps(x + c), kv, g));
        if (!j->assign) d = _mm256_add_ps(d, _mm256_loadu_ps(dx + c));
        _mm256_storeu_ps(dx + c, d);
    }
    for (; c < C; c++) {
        const float d = r * (dy[c] * (j->offset + dc_weight_at(j->weight, c)) - x[c] * k);
        dx[c] = j->assign ? d : dx[c] + d;
    }
}

static void bwd_block(void *context, int64_t i)
{
    const norm *j = context;
    const dc_span s = dc_block(i, j->T, dc_rows_a_block(j->C));
    for (int64_t t = s.low; t < s.high; t++) bwd_row(j, t);
}

enum { COLUMNS = 32, STRETCH = 128 };

/* A slice of columns over all tokens, summed by stretches: the rounding of a sum over thousands of tokens stays
 * small. */
static void dweight_block(void *context, int64_t i)
{
    const norm *j = context;
    const dc_span s = dc_block(i, j->C, COLUMNS);
    const int64_t n = s.high - s.low;
    float total[COLUMNS] = {0};
    for (int64_t t0 = 0; t0 < j->T; t0 += STRETCH) {
        const int64_t end = t0 + STRETCH < j->T ? t0 + STRETCH : j->T;
        float sum[COLUMNS] = {0};
        for (int64_t t = t0; t < end; t++) {
            const float *x = j->x + t * j->ldx + s.low, *dy = j->dy + t * j->ldy + s.low, r = j->rstd[t];
            for (int64_t c = 0; c < n; c++) sum[c] += dy[c] * x[c] * r;
        }
        for (int64_t c = 0; c < n; c++) total[c] += sum[c];
    }
    for (int64_t c = 0; c < n; c++) j->dweight[s.low + c] += total[c];
}

static void rmsnorm_bwd_avx2(dc_dev *dev, dc_view dx, float *dweight, dc_cview dy, dc_cview x, const float *rstd,
                             dc_cview weight, int64_t T, int64_t C, int64_t ldy, int64_t ldx, float offset, int assign)
{
    (void)dev;
    norm j = {.out = dx.data,
              .dweight = dweight,
              .dy = dy.data,
              .x = x.data,
              .rstd = rstd,
              .weight = weight,
              .T = T,
              .C = C,
              .ldy = ldy,
              .ldx = ldx,
              .offset = offset,
              .assign = assign};
    if (dweight) dc_pool_for(dc_blocks(C, COLUMNS), dweight_block, &j); /* before dx takes dy's place */
    dc_pool_for(dc_blocks(T, dc_rows_a_block(C)), bwd_block, &j);
}

void dc_norm_overlay_avx2(dc_ops *ops)
{
    ops->rmsnorm_fwd = rmsnorm_fwd_avx2;
    ops->rmsnorm_bwd = rmsnorm_bwd_avx2;
}
