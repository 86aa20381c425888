/* kernels/gemm_lanes.h -- vectors of DC_LANES floats for gemm_tile_tmpl.c: 8 with AVX2, 16 with AVX-512, or, where
 * that is not to be executed, 16 as two of AVX2, which give the same bits; private to kernels/. Empty for files
 * that do not say how many, so that every header compiles alone. */
#ifndef DC_KERNELS_GEMM_LANES_H
#define DC_KERNELS_GEMM_LANES_H

#if defined(DC_LANES) && defined(__AVX2__) && defined(__FMA__)

#include "kernels/vec_avx2.h"

#define DC_INLINE static inline __attribute__((always_inline))

#if DC_LANES == 16 && defined(__AVX512F__)

typedef __m512 lanes;

DC_INLINE __mmask16 first_lanes(int n) { return (__mmask16)((1u << n) - 1); }
DC_INLINE lanes lanes_zero(void) { return _mm512_setzero_ps(); }
DC_INLINE lanes lanes_all(float x) { return _mm512_set1_ps(x); }
DC_INLINE lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
DC_INLINE lanes lanes_load_first(const float *p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
DC_INLINE void lanes_store(float *p, lanes x) { _mm512_storeu_ps(p, x); }
DC_INLINE void lanes_store_first(float *p, lanes x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }
DC_INLINE lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
DC_INLINE lanes lanes_mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
DC_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }

#elif DC_LANES == 16

typedef struct lanes {
    __m256 low, high;
} lanes;

DC_INLINE int in_low(int n) { return n < 8 ? n : 8; }
DC_INLINE lanes lanes_zero(void) { return (lanes){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
DC_INLINE lanes lanes_all(float x) { return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
DC_INLINE lanes lanes_load(const float *p) { return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
DC_INLINE lanes lanes_load_first(const float *p, int n)
{
    return (lanes){_mm256_maskload_ps(p, dc_mask8(in_low(n))), _mm256_maskload_ps(p + 8, dc_mask8(n - in_low(n)))};
}
DC_INLINE void lanes_store(float *p, lanes x)
{
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
DC_INLINE void lanes_store_first(float *p, lanes x, int n)
{
    _mm256_maskstore_ps(p, dc_mask8(in_low(n)), x.low);
    _mm256_maskstore_ps(p + 8, dc_mask8(n - in_low(n)), x.high);
}
DC_INLINE lanes lanes_add(lanes a, lanes b)
{
    return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
DC_INLINE lanes lanes_mul(lanes a, lanes b)
{
    return (lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
DC_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

#else

typedef __m256 lanes;

DC_INLINE lanes lanes_zero(void) { return _mm256_setzero_ps(); }
DC_INLINE lanes lanes_all(float x) { return _mm256_set1_ps(x); }
DC_INLINE lanes lanes_load(const float *p) { return _mm256_loadu_ps(p); }
DC_INLINE lanes lanes_load_first(const float *p, int n) { return _mm256_maskload_ps(p, dc_mask8(n)); }
DC_INLINE void lanes_store(float *p, lanes x) { _mm256_storeu_ps(p, x); }
DC_INLINE void lanes_store_first(float *p, lanes x, int n) { _mm256_maskstore_ps(p, dc_mask8(n), x); }
DC_INLINE lanes lanes_add(lanes a, lanes b) { return _mm256_add_ps(a, b); }
DC_INLINE lanes lanes_mul(lanes a, lanes b) { return _mm256_mul_ps(a, b); }
DC_INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm256_fmadd_ps(a, b, c); }

#endif
#endif
#endif
