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
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
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

/* exp(x) for x under 88, 0 below -87, in 15 instructions: half of dc_exp8. For sums of weights in (0, 1], of which many are masked (-inf)
 * or negligible: no denormals, whose arithmetic costs a hundred cycles a vector on many processors. NaN stays NaN. The same
 * polynomial; measured over all floats of its range: under 0.9 ulp. */
static inline __m256 dc_exp8_flush(__m256 x)
{
    const __m256 least = _mm256_set1_ps(-87.0f), there = _mm256_cmp_ps(x, least, _CMP_NLT_UQ);
    const __m256 magic = _mm256_set1_ps(0x1.8p23f); /* adding it leaves the integer in the low bits */
    x = _mm256_max_ps(least, x);
    const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(0x1.715476p+0f), magic), n = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e400p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 q = _mm256_set1_ps(0x1.6a23cep-10f);
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.123a20p-7f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.5558f2p-5f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.555492p-3f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(0x1.fffffcp-2f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(1.0f));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(1.0f));
    const __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(q), _mm256_slli_epi32(_mm256_castps_si256(t), 23));
    return _mm256_and_ps(_mm256_castsi256_ps(scaled), there);
}

/* tanh(x) = 1 - 2 / (exp(2x) + 1), below 1/2 x + x^3 q(x^2), q of degree 4 through Chebyshev's nodes (relative error 1.3e-9), because the
 * difference loses what small results have: a soft cap of 50 would turn it into 1e-5 of a score. Measured: under 1.9 ulp; +-1 at
 * +-inf, NaN stays NaN. */
static inline __m256 dc_tanh8(__m256 x)
{
    const __m256 one = _mm256_set1_ps(1.0f), e = dc_exp8(_mm256_add_ps(x, x)), z = _mm256_mul_ps(x, x);
    const __m256 large = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
    __m256 q = _mm256_set1_ps(-0x1.c7033cp-8f);
    q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(0x1.5fc692p-6f));
    q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-0x1.b9d2aep-5f));
    q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(0x1.111080p-3f));
    q = _mm256_fmadd_ps(q, z, _mm256_set1_ps(-0x1.555554p-2f));
    const __m256 small = _mm256_fmadd_ps(_mm256_mul_ps(x, z), q, x);
    return _mm256_blendv_ps(large, small, _mm256_cmp_ps(z, _mm256_set1_ps(0.25f), _CMP_LT_OQ));
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
