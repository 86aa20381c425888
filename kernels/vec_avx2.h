/* kernels/vec_avx2.h -- functions of eight floats at a time, for files compiled with -mavx2 -mfma; private to kernels/.
 * Empty for other files, so that every header compiles alone. */
#ifndef DC_KERNELS_VEC_AVX2_H
#define DC_KERNELS_VEC_AVX2_H

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#include <stdint.h>

/* exp(x): x = n ln 2 + r with |r| <= ln(2) / 2, exp(r) = 1 + r + r^2 q(r), q of degree 4 fitted for the least largest relative error
 * (3e-9, far below a rounding), ln 2 in two parts so that r is exact. Measured over all floats: under 1.01 ulp for normal results; exp(0) is 1; exp(-inf)
 * is 0, exp(inf) inf, NaN stays NaN; results below the normal range are denormal, not flushed. 2^n is multiplied in two steps because n
 * reaches 128 and -150, which no exponent field holds. */
static inline __m256 dc_exp8(__m256 x)
{
    /* min and max return their second operand when either is NaN: x must be the second. */
    x = _mm256_max_ps(_mm256_set1_ps(-104.0f), x);
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), x);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e400p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 q = _mm256_set1_ps(0x1.6a23cep-10f);
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.123a20p-7f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.5558f2p-5f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.555492p-3f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.fffffcp-2f));
    const __m256 p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r), _mm256_set1_ps(1.0f));
    const __m256i k = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    const __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, a), b);
}

/* tanh(x) = 1 - 2 / (exp(2x) + 1): absolute error under 2e-7, +-1 at +-inf, NaN stays NaN. Near 0 the relative error
 * grows, which a gate or a soft cap does not notice. */
static inline __m256 dc_tanh8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f), e = dc_exp8(_mm256_add_ps(x, x));
    return _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
}

/* The first n of eight lanes, 0 <= n <= 8, as a mask for maskload and maskstore. */
static inline __m256i dc_mask8(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The eight lanes added pairwise, the largest of them. */
static inline float dc_sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float dc_max8(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#endif
#endif
