/* kernels/dropout_avx2.c -- dropout with eight Philox counters at a time: the bits of vec_ref.c's. */
#include "kernels/table.h"

#include <immintrin.h>

#include "core/pool.h"
#include "core/rng.h"

enum { BLOCK = 16384 };

typedef struct drop {
    float *y;
    const float *x;
    int64_t n;
    const dc_dropout *d;
    int accumulate;
    float scale;
} drop;

/* The upper and lower halves of the eight 64-bit products a * m. */
static inline __m256i multiply(__m256i a, __m256i m, __m256i *high)
{
    const __m256i even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

/* Counters first .. first + 7 of core/rng.h's dc_rng_u32x4: out[k] holds number k of each. */
static inline void philox8(__m256i out[4], const dc_dropout *d, uint32_t first)
{
    const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u), m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int)first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i c1 = _mm256_set1_epi32((int)*d->step), c2 = _mm256_set1_epi32((int)d->place);
    __m256i c3 = _mm256_set1_epi32(DC_RNG_DROPOUT);
    uint32_t k0 = (uint32_t)d->seed, k1 = (uint32_t)(d->seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m256i h0, h1;
        const __m256i l0 = multiply(c0, m0, &h0), l1 = multiply(c2, m1, &h1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(h1, c1), _mm256_set1_epi32((int)k0));
        c2 = _mm256_xor_si256(_mm256_xor_si256(h0, c3), _mm256_set1_epi32((int)k1));
        c1 = l1, c3 = l0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* From number k of counter i to element 4 i + k. */
static inline void transpose(__m256i u[4])
{
    const __m256i a = _mm256_unpacklo_epi32(u[0], u[1]), b = _mm256_unpackhi_epi32(u[0], u[1]);
    const __m256i c = _mm256_unpacklo_epi32(u[2], u[3]), d = _mm256_unpackhi_epi32(u[2], u[3]);
    const __m256i c04 = _mm256_unpacklo_epi64(a, c), c15 = _mm256_unpackhi_epi64(a, c);
    const __m256i c26 = _mm256_unpacklo_epi64(b, d), c37 = _mm256_unpackhi_epi64(b, d);
    u[0] = _mm256_permute2x128_si256(c04, c15, 0x20);
    u[1] = _mm256_permute2x128_si256(c26, c37, 0x20);
    u[2] = _mm256_permute2x128_si256(c04, c15, 0x31);
    u[3] = _mm256_permute2x128_si256(c26, c37, 0x31);
}

static void block(void *context, int64_t i)
{
    const drop *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    const __m256 p = _mm256_set1_ps(j->d->p), scale = _mm256_set1_ps(j->scale);
    int64_t at = s.low;
    for (; at < s.high; at += 32) {
        __m256i u[4];
        philox8(u, j->d, (uint32_t)(at / 4));
        transpose(u);
        for (int64_t k = 0; k < 4 && at + 8 * k < s.high; k++) {
            const int64_t e = at + 8 * k, left = s.high - e;
            const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int)left : 8),
                                                    _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            const __m256 r =
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(u[k], 8)), _mm256_set1_ps(1.0f / 16777216.0f));
            const __m256 kept = _mm256_and_ps(_mm256_mul_ps(_mm256_maskload_ps(j->x + e, mask), scale),
                                              _mm256_cmp_ps(r, p, _CMP_GE_OQ));
            const __m256 y = j->accumulate ? _mm256_add_ps(_mm256_maskload_ps(j->y + e, mask), kept) : kept;
            _mm256_maskstore_ps(j->y + e, mask, y);
        }
    }
}

static void dropout_avx2(dc_dev *dev, dc_view y, dc_cview x, int64_t n, const dc_dropout *d, int accumulate)
{
    (void)dev;
    drop j = {y.data, x.data, n, d, accumulate, d->p < 1 ? (float)(1 / (1 - (double)d->p)) : 0};
    dc_pool_for(dc_blocks(n, BLOCK), block, &j);
}

void dc_dropout_overlay_avx2(dc_ops *ops) { ops->dropout = dropout_avx2; }
