/* tests/kernels/vec_pair.h -- the registers of kernels/vec.h for 16 lanes, made of two of AVX2: what AVX-512 computes, on processors that
 * lack it. Included before kernels/vec.h. */
#ifndef DC_TESTS_KERNELS_VEC_PAIR_H
#define DC_TESTS_KERNELS_VEC_PAIR_H

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#include <stdint.h>

#define DC_LANES 16
#define PAIR     static inline __attribute__((always_inline))

typedef struct dc_pair {
    __m256 lo, hi;
} dc_vec, dc_mask;

/* A function of one, two or three registers, half by half. */
#define PAIR_1(name, expression) \
    PAIR __m256 half_##name(__m256 a) { return expression; } \
    PAIR dc_vec name(dc_vec a) { return (dc_vec){half_##name(a.lo), half_##name(a.hi)}; }
#define PAIR_2(name, expression) \
    PAIR __m256 half_##name(__m256 a, __m256 b) { return expression; } \
    PAIR dc_vec name(dc_vec a, dc_vec b) { return (dc_vec){half_##name(a.lo, b.lo), half_##name(a.hi, b.hi)}; }
#define PAIR_3(name, expression) \
    PAIR __m256 half_##name(__m256 a, __m256 b, __m256 c) { return expression; } \
    PAIR dc_vec name(dc_vec a, dc_vec b, dc_vec c) \
    { \
        return (dc_vec){half_##name(a.lo, b.lo, c.lo), half_##name(a.hi, b.hi, c.hi)}; \
    }

PAIR_1(dc_round, _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
PAIR_2(dc_add, _mm256_add_ps(a, b))
PAIR_2(dc_sub, _mm256_sub_ps(a, b))
PAIR_2(dc_mul, _mm256_mul_ps(a, b))
PAIR_2(dc_div, _mm256_div_ps(a, b))
PAIR_2(dc_max, _mm256_max_ps(a, b))
PAIR_2(dc_min, _mm256_min_ps(a, b))
PAIR_2(dc_lt, _mm256_cmp_ps(a, b, _CMP_LT_OQ))
PAIR_2(dc_nlt, _mm256_cmp_ps(a, b, _CMP_NLT_UQ))
PAIR_2(dc_ne, _mm256_cmp_ps(a, b, _CMP_NEQ_UQ))
PAIR_2(dc_keep, _mm256_and_ps(a, b))
PAIR_3(dc_fma, _mm256_fmadd_ps(a, b, c))
PAIR_3(dc_fnma, _mm256_fnmadd_ps(a, b, c))
PAIR_3(dc_where, _mm256_blendv_ps(c, b, a))
PAIR_1(dc_power, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23)))

/* a 2^n: the exact 2^(n / 2) first. */
PAIR __m256 half_power(__m256i k)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
}
PAIR_2(dc_ldexp,
       _mm256_mul_ps(_mm256_mul_ps(a, half_power(_mm256_srai_epi32(_mm256_cvtps_epi32(b), 1))),
                     half_power(_mm256_sub_epi32(_mm256_cvtps_epi32(b), _mm256_srai_epi32(_mm256_cvtps_epi32(b), 1)))))

PAIR dc_vec dc_set(float x) { return (dc_vec){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PAIR dc_vec dc_load(const float *p) { return (dc_vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PAIR void dc_store(float *p, dc_vec a) { _mm256_storeu_ps(p, a.lo), _mm256_storeu_ps(p + 8, a.hi); }
PAIR __m256 dc_half_sum(dc_vec a) { return _mm256_add_ps(a.lo, a.hi); }
PAIR __m256 dc_half_max(dc_vec a) { return _mm256_max_ps(a.lo, a.hi); }

PAIR dc_mask dc_between(int64_t at, int64_t lo, int64_t hi)
{
    float on[16];
    for (int i = 0; i < 16; i++) on[i] = lo <= at + i && at + i < hi ? -1.0f : 0.0f;
    const dc_vec m = dc_load(on);
    return dc_ne(m, dc_set(0));
}

PAIR dc_vec dc_load_n(const float *p, int64_t n)
{
    float x[16] = {0};
    for (int64_t i = 0; i < n && i < 16; i++) x[i] = p[i];
    return dc_load(x);
}

PAIR void dc_store_n(float *p, int64_t n, dc_vec a)
{
    float x[16];
    dc_store(x, a);
    for (int64_t i = 0; i < n && i < 16; i++) p[i] = x[i];
}

#endif
#endif
