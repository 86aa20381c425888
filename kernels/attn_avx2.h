/* kernels/attn_avx2.h -- tiles of attention for AVX2 + FMA: packing, and the one micro-kernel that all products use.
 * Private to attn_avx2*.c.
 *
 * The query heads that share a kv head are taken together: row r of a document's q stands for token r / G, head kv * G + r % G, with
 * G = H / K. A block of keys is packed once for all of them. Blocks start at multiples of their size from the document's first
 * token, and every sum runs over blocks in ascending order: the bits of a document depend neither on the thread that computes it
 * nor on what it is packed with. */
#ifndef DC_KERNELS_ATTN_AVX2_H
#define DC_KERNELS_ATTN_AVX2_H

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "kernels/attn.h"
#include "kernels/vec_avx2.h"

#define DC_INLINE static inline __attribute__((always_inline))

void dc_attn_bwd_avx2(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse,
                      dc_cview q, dc_cview k, dc_cview v, const dc_attn *a);

enum {
    DC_MR = 6,    /* rows of the micro-kernel: 6 x 2 accumulators, 2 loads and a broadcast fill the 16 registers */
    DC_NR = 16,   /* its columns */
    DC_KEYS = 64, /* keys a block */
};

static inline int64_t dc_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t dc_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t dc_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

typedef enum dc_into { DC_SET, DC_ADD, DC_KEEP_ADD } dc_into;

/* C[rows, 8 vecs] = A B, C + A B or keep[row] * C + A B, where A(i, k) = a[i * rs + k * ks] and B(k, :) = b[k * ldb ..]. rows, vecs and
 * `into` are constants after inlining. An element is one chain of fused multiply-adds in the order of k, whatever the tile. */
DC_INLINE void dc_mul_tile(dc_into into, const int rows, const int vecs, int64_t n, const float *a, int64_t rs,
                           int64_t ks, const float *b, int64_t ldb, float *c, int64_t ldc, const float *keep)
{
    __m256 acc[DC_MR][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) acc[i][j] = _mm256_setzero_ps();
    for (int64_t k = 0; k < n; k++) {
        __m256 bv[2];
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) bv[j] = _mm256_loadu_ps(b + 8 * j);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const __m256 av = _mm256_broadcast_ss(a + i * rs);
#pragma GCC unroll 2
            for (int j = 0; j < vecs; j++) acc[i][j] = _mm256_fmadd_ps(av, bv[j], acc[i][j]);
        }
        a += ks, b += ldb;
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) {
            float *at = c + i * ldc + 8 * j;
            if (into == DC_ADD) acc[i][j] = _mm256_add_ps(_mm256_loadu_ps(at), acc[i][j]);
            if (into == DC_KEEP_ADD)
                acc[i][j] = _mm256_fmadd_ps(_mm256_loadu_ps(at), _mm256_broadcast_ss(keep + i), acc[i][j]);
            _mm256_storeu_ps(at, acc[i][j]);
        }
}

/* The same for a panel of up to six rows and any number of columns that is a multiple of 8. Block g of 16 columns of B starts at
 * b + g * group. */
DC_INLINE void dc_mul_panel(dc_into into, int rows, int64_t cols, int64_t n, const float *a, int64_t rs, int64_t ks,
                            const float *b, int64_t ldb, int64_t group, float *c, int64_t ldc, const float *keep)
{
    for (int64_t j = 0; j < cols; j += DC_NR, b += group) {
#define DC_ROWS(R) \
    case R: \
        if (cols - j >= DC_NR) dc_mul_tile(into, R, 2, n, a, rs, ks, b, ldb, c + j, ldc, keep); \
        else dc_mul_tile(into, R, 1, n, a, rs, ks, b, ldb, c + j, ldc, keep); \
        break;
        switch (rows) {
            DC_ROWS(1) DC_ROWS(2) DC_ROWS(3) DC_ROWS(4) DC_ROWS(5) DC_ROWS(6)
        }
#undef DC_ROWS
    }
}

/* Eight rows of eight floats become columns. */
DC_INLINE void dc_transpose8(__m256 r[8])
{
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

/* Columns [at, at + n) of out[group][D][16] from n rows of x, `stride` apart: B of q k^T. */
static inline void dc_pack_columns(float *out, int64_t at, const float *x, int64_t n, int64_t stride, int64_t D)
{
    for (int64_t j = 0; j < n;) {
        float *to = out + (at + j) / DC_NR * DC_NR * D + (at + j) % DC_NR;
        const float *from = x + j * stride;
        int64_t d = 0;
        if ((at + j) % 8 || j + 8 > n) {
            for (; d < D; d++) to[d * DC_NR] = from[d];
            j++;
            continue;
        }
        for (; d + 8 <= D; d += 8) {
            __m256 r[8];
            for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(from + i * stride + d);
            dc_transpose8(r);
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(to + (d + i) * DC_NR, r[i]);
        }
        for (; d < D; d++)
            for (int i = 0; i < 8; i++) to[d * DC_NR + i] = from[i * stride + d];
        j += 8;
    }
}

/* Columns [n, n rounded up to 16) of the same become 0. */
static inline void dc_pack_columns_end(float *out, int64_t n, int64_t D)
{
    if (n % DC_NR == 0) return;
    float *to = out + n / DC_NR * DC_NR * D;
    for (int64_t d = 0; d < D; d++)
        for (int64_t i = n % DC_NR; i < DC_NR; i++) to[d * DC_NR + i] = 0;
}

/* One row of D floats times `by`, with zeros up to a multiple of 8. */
DC_INLINE void dc_pack_row(float *out, const float *x, int64_t D, float by)
{
    const __m256 f = _mm256_set1_ps(by);
    int64_t d = 0;
    for (; d + 8 <= D; d += 8) _mm256_storeu_ps(out + d, _mm256_mul_ps(f, _mm256_loadu_ps(x + d)));
    if (d < D) _mm256_storeu_ps(out + d, _mm256_mul_ps(f, _mm256_maskload_ps(x + d, dc_mask8(D - d))));
}

/* out = by * x, or out += x when `add`. */
DC_INLINE void dc_unpack_row(float *out, const float *x, int64_t D, float by, int add)
{
    const __m256 f = _mm256_set1_ps(by);
    for (int64_t d = 0; d < D; d += 8) {
        const __m256i m = dc_mask8(D - d > 8 ? 8 : D - d);
        const __m256 y = _mm256_loadu_ps(x + d);
        _mm256_maskstore_ps(out + d, m, add ? _mm256_add_ps(_mm256_maskload_ps(out + d, m), y) : _mm256_mul_ps(f, y));
    }
}

/* Lanes c .. c+7 that are in [lo, hi). */
DC_INLINE __m256 dc_between(int64_t c, int64_t lo, int64_t hi)
{
    const __m256i at = _mm256_add_epi32(_mm256_set1_epi32((int32_t)c), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)lo), at),
                                                   _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)hi), at)));
}

/* What the rows of a panel see of a block of n keys from j0 on: columns [lo, hi); none when lo >= hi. Token t sees (t - window, t]. */
typedef struct dc_span64 {
    int64_t lo, hi;
} dc_span64;

DC_INLINE dc_span64 dc_sees(int64_t t_first, int64_t t_last, int64_t window, int64_t j0, int64_t n)
{
    const int64_t lo = window > 0 ? dc_max64(0, t_first - window + 1 - j0) : 0;
    return (dc_span64){lo, dc_min64(n, t_last + 1 - j0)};
}

#endif
#endif
