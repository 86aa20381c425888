/* kernels/glu_avx2.c -- gated activations for AVX2 + FMA, in threads. The exact GELU stays the reference's, block
 * by block: its erf has no vector form here. Formulas: glu_tmpl.c. */
#include "kernels/table.h"

#include <immintrin.h>

#include "core/pool.h"
#include "kernels/vec_avx2.h"

enum { BLOCK = 8192 };

typedef struct glu {
    float *y, *dgate, *dup;
    const float *dy, *gate, *up;
    int64_t n;
    dc_act act;
} glu;

/* act(x), and its derivative. */
static inline __m256 activated(__m256 x, dc_act act, __m256 *slope)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 z = x, dz = one;
    if (act == DC_ACT_GELU_TANH) {
        const __m256 a = _mm256_set1_ps(1.59576912160573071176f), x2 = _mm256_mul_ps(x, x);
        const __m256 ab = _mm256_set1_ps((float)(0.044715 * 1.59576912160573071176));
        z = _mm256_mul_ps(x, _mm256_fmadd_ps(ab, x2, a));
        dz = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(3.0f), ab), x2, a);
    }
    const __m256 e = dc_exp8(_mm256_xor_ps(z, _mm256_set1_ps(-0.0f)));
    const __m256 s = _mm256_div_ps(one, _mm256_add_ps(one, e)), value = _mm256_mul_ps(x, s);
    *slope = _mm256_fmadd_ps(_mm256_mul_ps(value, _mm256_sub_ps(one, s)), dz, s);
    return value;
}

static __m256 load(const float *p, __m256i mask, int whole)
{
    return whole ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, mask);
}

static void store(float *p, __m256 v, __m256i mask, int whole)
{
    if (whole) _mm256_storeu_ps(p, v);
    else _mm256_maskstore_ps(p, mask, v);
}

static inline void fwd_span(const glu *j, dc_span s, dc_act act)
{
    for (int64_t i = s.low; i < s.high; i += 8) {
        const int whole = i + 8 <= s.high;
        const __m256i mask = dc_mask8(s.high - i);
        __m256 slope;
        const __m256 value = activated(load(j->gate + i, mask, whole), act, &slope);
        store(j->y + i, _mm256_mul_ps(value, load(j->up + i, mask, whole)), mask, whole);
    }
}

static void fwd_block(void *context, int64_t i)
{
    const glu *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    switch (j->act) { /* a constant for each copy of the loop */
    case DC_ACT_SILU: fwd_span(j, s, DC_ACT_SILU); break;
    case DC_ACT_GELU_TANH: fwd_span(j, s, DC_ACT_GELU_TANH); break;
    default:
        dc_glu_fwd_ref(NULL, (dc_view){j->y + s.low, DC_F32}, (dc_cview){j->gate + s.low, DC_F32},
                       (dc_cview){j->up + s.low, DC_F32}, s.high - s.low, j->act);
    }
}

static void glu_fwd_avx2(dc_dev *dev, dc_view y, dc_cview gate, dc_cview up, int64_t n, dc_act act)
{
    (void)dev;
    glu j = {.y = y.data, .gate = gate.data, .up = up.data, .n = n, .act = act};
    dc_pool_for(dc_blocks(n, BLOCK), fwd_block, &j);
}

static inline void bwd_span(const glu *j, dc_span s, dc_act act)
{
    for (int64_t i = s.low; i < s.high; i += 8) {
        const int whole = i + 8 <= s.high;
        const __m256i mask = dc_mask8(s.high - i);
        __m256 slope;
        const __m256 value = activated(load(j->gate + i, mask, whole), act, &slope);
        const __m256 d = load(j->dy + i, mask, whole), u = load(j->up + i, mask, whole);
        store(j->dgate + i, _mm256_mul_ps(_mm256_mul_ps(d, u), slope), mask, whole);
        store(j->dup + i, _mm256_mul_ps(d, value), mask, whole);
    }
}

static void bwd_block(void *context, int64_t i)
{
    const glu *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    switch (j->act) {
    case DC_ACT_SILU: bwd_span(j, s, DC_ACT_SILU); break;
    case DC_ACT_GELU_TANH: bwd_span(j, s, DC_ACT_GELU_TANH); break;
    default:
        dc_glu_bwd_ref(NULL, (dc_view){j->dgate + s.low, DC_F32}, (dc_view){j->dup + s.low, DC_F32},
                       (dc_cview){j->dy + s.low, DC_F32}, (dc_cview){j->gate + s.low, DC_F32},
                       (dc_cview){j->up + s.low, DC_F32}, s.high - s.low, j->act);
    }
}

static void glu_bwd_avx2(dc_dev *dev, dc_view dgate, dc_view dup, dc_cview dy, dc_cview gate, dc_cview up, int64_t n,
                         dc_act act)
{
    (void)dev;
    glu j = {.dgate = dgate.data, .dup = dup.data, .dy = dy.data, .gate = gate.data, .up = up.data, .n = n, .act = act};
    dc_pool_for(dc_blocks(n, BLOCK), bwd_block, &j);
}

void dc_glu_overlay_avx2(dc_ops *ops)
{
    ops->glu_fwd = glu_fwd_avx2;
    ops->glu_bwd = glu_bwd_avx2;
}
