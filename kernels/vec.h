/* kernels/vec.h -- a register of floats: 16 of them in files compiled for AVX-512, 8 with AVX2 + FMA; private to kernels/.
 * One source serves both widths: it counts in DC_LANES and uses what follows. Empty for other files, so that every header
 * compiles alone. Whoever defines DC_LANES brings the first part: tests make 16 lanes of two AVX2 registers. */
#ifndef DC_KERNELS_VEC_H
#define DC_KERNELS_VEC_H

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#include <stdint.h>

#define DC_INLINE static inline __attribute__((always_inline))

/* Lanes that are on. max and min return their second operand when either is NaN. _n: the first n lanes, none when n <= 0; the others are
 * neither read nor written, and loaded as 0. */
#if defined(DC_LANES)
#elif defined(__AVX512F__)

#define DC_LANES 16
typedef __m512 dc_vec;
typedef __mmask16 dc_mask;

DC_INLINE dc_vec dc_set(float x) { return _mm512_set1_ps(x); }
DC_INLINE dc_vec dc_load(const float *p) { return _mm512_loadu_ps(p); }
DC_INLINE void dc_store(float *p, dc_vec a) { _mm512_storeu_ps(p, a); }
DC_INLINE dc_vec dc_add(dc_vec a, dc_vec b) { return _mm512_add_ps(a, b); }
DC_INLINE dc_vec dc_sub(dc_vec a, dc_vec b) { return _mm512_sub_ps(a, b); }
DC_INLINE dc_vec dc_mul(dc_vec a, dc_vec b) { return _mm512_mul_ps(a, b); }
DC_INLINE dc_vec dc_div(dc_vec a, dc_vec b) { return _mm512_div_ps(a, b); }
DC_INLINE dc_vec dc_max(dc_vec a, dc_vec b) { return _mm512_max_ps(a, b); }
DC_INLINE dc_vec dc_min(dc_vec a, dc_vec b) { return _mm512_min_ps(a, b); }
DC_INLINE dc_vec dc_fma(dc_vec a, dc_vec b, dc_vec c) { return _mm512_fmadd_ps(a, b, c); }   /* a b + c */
DC_INLINE dc_vec dc_fnma(dc_vec a, dc_vec b, dc_vec c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a b */
DC_INLINE dc_vec dc_round(dc_vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
DC_INLINE dc_mask dc_lt(dc_vec a, dc_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
DC_INLINE dc_mask dc_nlt(dc_vec a, dc_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
DC_INLINE dc_mask dc_ne(dc_vec a, dc_vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
DC_INLINE dc_vec dc_where(dc_mask m, dc_vec a, dc_vec b) { return _mm512_mask_mov_ps(b, m, a); } /* m ? a : b */
DC_INLINE dc_vec dc_keep(dc_mask m, dc_vec a) { return _mm512_maskz_mov_ps(m, a); }              /* m ? a : 0 */

/* Lanes i with lo <= at + i < hi. */
DC_INLINE dc_mask dc_between(int64_t at, int64_t lo, int64_t hi)
{
    const int64_t low = lo - at, high = hi - at;
    const uint32_t from = low >= 16 ? 0 : low <= 0 ? 0xffff : 0xffffu << low;
    const uint32_t to = high >= 16 ? 0xffff : high <= 0 ? 0 : (1u << high) - 1;
    return (dc_mask)(from & to);
}

DC_INLINE dc_vec dc_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(dc_between(0, 0, n), p); }
DC_INLINE void dc_store_n(float *p, int64_t n, dc_vec a) { _mm512_mask_storeu_ps(p, dc_between(0, 0, n), a); }

/* a 2^n, rounded once; n is an integer in [-150, 128]. */
DC_INLINE dc_vec dc_ldexp(dc_vec a, dc_vec n) { return _mm512_scalef_ps(a, n); }

/* 2^n, the lowest 8 bits of t's representation being n + 127. */
DC_INLINE dc_vec dc_power(dc_vec t) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23)); }

/* The lower and the upper half combined. */
DC_INLINE __m256 dc_half_sum(dc_vec a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

DC_INLINE __m256 dc_half_max(dc_vec a)
{
    return _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

#else

#define DC_LANES 8
typedef __m256 dc_vec, dc_mask;

DC_INLINE dc_vec dc_set(float x) { return _mm256_set1_ps(x); }
DC_INLINE dc_vec dc_load(const float *p) { return _mm256_loadu_ps(p); }
DC_INLINE void dc_store(float *p, dc_vec a) { _mm256_storeu_ps(p, a); }
DC_INLINE dc_vec dc_add(dc_vec a, dc_vec b) { return _mm256_add_ps(a, b); }
DC_INLINE dc_vec dc_sub(dc_vec a, dc_vec b) { return _mm256_sub_ps(a, b); }
DC_INLINE dc_vec dc_mul(dc_vec a, dc_vec b) { return _mm256_mul_ps(a, b); }
DC_INLINE dc_vec dc_div(dc_vec a, dc_vec b) { return _mm256_div_ps(a, b); }
DC_INLINE dc_vec dc_max(dc_vec a, dc_vec b) { return _mm256_max_ps(a, b); }
DC_INLINE dc_vec dc_min(dc_vec a, dc_vec b) { return _mm256_min_ps(a, b); }
DC_INLINE dc_vec dc_fma(dc_vec a, dc_vec b, dc_vec c) { return _mm256_fmadd_ps(a, b, c); }
DC_INLINE dc_vec dc_fnma(dc_vec a, dc_vec b, dc_vec c) { return _mm256_fnmadd_ps(a, b, c); }
DC_INLINE dc_vec dc_round(dc_vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
DC_INLINE dc_mask dc_lt(dc_vec a, dc_vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
DC_INLINE dc_mask dc_nlt(dc_vec a, dc_vec b) { return _mm256_cmp_ps(a, b, _CMP_NLT_UQ); }
DC_INLINE dc_mask dc_ne(dc_vec a, dc_vec b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
DC_INLINE dc_vec dc_where(dc_mask m, dc_vec a, dc_vec b) { return _mm256_blendv_ps(b, a, m); }
DC_INLINE dc_vec dc_keep(dc_mask m, dc_vec a) { return _mm256_and_ps(m, a); }

DC_INLINE dc_mask dc_between(int64_t at, int64_t lo, int64_t hi)
{
    const __m256i i = _mm256_add_epi32(_mm256_set1_epi32((int32_t)at), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)lo), i),
                                                   _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)hi), i)));
}

DC_INLINE dc_vec dc_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, _mm256_castps_si256(dc_between(0, 0, n)));
}

DC_INLINE void dc_store_n(float *p, int64_t n, dc_vec a)
{
    _mm256_maskstore_ps(p, _mm256_castps_si256(dc_between(0, 0, n)), a);
}

/* In two steps, the first exact: no exponent field holds 2^128 or 2^-150. */
DC_INLINE dc_vec dc_ldexp(dc_vec a, dc_vec n)
{
    const __m256i k = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    const __m256i x = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i y = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(x)), _mm256_castsi256_ps(y));
}

DC_INLINE dc_vec dc_power(dc_vec t) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23)); }

DC_INLINE __m256 dc_half_sum(dc_vec a) { return a; }
DC_INLINE __m256 dc_half_max(dc_vec a) { return a; }

#endif

/* The lanes added pairwise, the largest of them. */
DC_INLINE float dc_sum_lanes(dc_vec a)
{
    const __m256 v = dc_half_sum(a);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

DC_INLINE float dc_max_lanes(dc_vec a)
{
    const __m256 v = dc_half_max(a);
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* exp(r) = 1 + r + r^2 q(r) for |r| <= ln(2) / 2, q of degree 4 fitted for the least largest relative error (3e-9, far below a
 * rounding). */
DC_INLINE dc_vec dc_exp_q(dc_vec r)
{
    dc_vec q = dc_set(0x1.6a23cep-10f);
    q = dc_fma(q, r, dc_set(0x1.123a20p-7f));
    q = dc_fma(q, r, dc_set(0x1.5558f2p-5f));
    q = dc_fma(q, r, dc_set(0x1.555492p-3f));
    return dc_fma(q, r, dc_set(0x1.fffffcp-2f));
}

/* x - n ln 2, ln 2 in two parts so that it is exact. */
DC_INLINE dc_vec dc_exp_r(dc_vec x, dc_vec n)
{
    return dc_fnma(n, dc_set(0x1.7f7d1cp-20f), dc_fnma(n, dc_set(0x1.62e400p-1f), x));
}

/* exp(x) = 2^n exp(r), x = n ln 2 + r. Measured over all floats: under 1.01 ulp for normal results; exp(0) is 1; exp(-inf) is 0, exp(inf) inf, NaN
 * stays NaN; results below the normal range are denormal, not flushed. */
DC_INLINE dc_vec dc_exp(dc_vec x)
{
    x = dc_min(dc_set(89.0f), dc_max(dc_set(-104.0f), x)); /* x second: NaN passes */
    const dc_vec n = dc_round(dc_mul(x, dc_set(0x1.715476p+0f))), r = dc_exp_r(x, n);
    return dc_ldexp(dc_add(dc_fma(dc_mul(r, r), dc_exp_q(r), r), dc_set(1.0f)), n);
}

/* exp(x) for x under 88, 0 below -87, in half the instructions of dc_exp. For sums of weights in (0, 1], of which many are masked (-inf)
 * or negligible: no denormals, whose arithmetic costs a hundred cycles a vector on many processors. NaN stays NaN. The same
 * polynomial; measured over all floats of its range: under 0.9 ulp. */
DC_INLINE dc_vec dc_exp_flush(dc_vec x)
{
    /* Adding magic leaves n + 127 in the low bits. */
    const dc_vec least = dc_set(-87.0f), magic = dc_set(0x1.8p23f + 127), one = dc_set(1.0f);
    const dc_mask there = dc_nlt(x, least);
    x = dc_max(least, x);
    const dc_vec t = dc_fma(x, dc_set(0x1.715476p+0f), magic), r = dc_exp_r(x, dc_sub(t, magic));
    return dc_keep(there, dc_mul(dc_fma(dc_fma(dc_exp_q(r), r, one), r, one), dc_power(t)));
}

/* tanh(x) = 1 - 2 / (exp(2x) + 1), below 1/2 x + x^3 q(x^2), q of degree 4 through Chebyshev's nodes (relative error 1.3e-9), because the
 * difference loses what small results have: a soft cap of 50 would turn it into 1e-5 of a score. Measured: under 1.9 ulp; +-1 at
 * +-inf, NaN stays NaN. */
DC_INLINE dc_vec dc_tanh(dc_vec x)
{
    const dc_vec one = dc_set(1.0f), e = dc_exp(dc_add(x, x)), z = dc_mul(x, x);
    const dc_vec large = dc_sub(one, dc_div(dc_set(2.0f), dc_add(e, one)));
    dc_vec q = dc_set(-0x1.c7033cp-8f);
    q = dc_fma(q, z, dc_set(0x1.5fc692p-6f));
    q = dc_fma(q, z, dc_set(-0x1.b9d2aep-5f));
    q = dc_fma(q, z, dc_set(0x1.111080p-3f));
    q = dc_fma(q, z, dc_set(-0x1.555554p-2f));
    return dc_where(dc_lt(z, dc_set(0.25f)), dc_fma(dc_mul(x, z), q, x), large);
}

#endif
#endif
