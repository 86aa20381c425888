/* kernels/attn_tile.h -- tiles of attention in registers of DC_LANES floats: packing, and the one micro-kernel that all products use.
 * Private to attn_vec*_tmpl.c.
 *
 * The query heads that share a kv head are taken together: row r of a document's q stands for token r / G, head kv * G + r % G, with
 * G = H / K. A block of keys is packed once for all of them. Blocks start at multiples of their size from the document's first
 * token, and every sum runs over blocks in a fixed order: the bits of a document depend neither on the thread that computes it
 * nor on what it is packed with. */
#ifndef DC_KERNELS_ATTN_TILE_H
#define DC_KERNELS_ATTN_TILE_H

#include "kernels/vec.h"

#if defined(DC_LANES)

#include <string.h>

#include "kernels/attn.h"

/* The micro-kernel's rows and columns: 6 x 2 registers of AVX2's 16, 12 x 2 of AVX-512's 32, so that two loads and a broadcast find room. */
enum { DC_MR = DC_LANES == 16 ? 12 : 6, DC_NR = 2 * DC_LANES };
enum { DC_KEYS = 64 /* keys a tile */, DC_LINE = 16 /* floats */ };

static inline int64_t dc_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t dc_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t dc_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* The distance between rows of n floats, in floats: an odd number of cache lines, so that a column of them is spread over all sets of a
 * cache. */
#define DC_LD(n) (((n) + DC_LINE - 1) / DC_LINE / 2 * 2 * DC_LINE + DC_LINE)
enum { DC_LDS = DC_LD(DC_KEYS) }; /* of scores */

typedef enum dc_into { DC_SET, DC_ADD, DC_KEEP_ADD } dc_into;

/* C[rows, vecs registers] = A B, C + A B or keep[row] * C + A B, where A(i, k) = a[i * rs + k * ks] and B(k, :) = b[k * ldb ..]. rows, vecs
 * and `into` are constants after inlining. An element is one chain of fused multiply-adds in the order of k, whatever the tile. */
DC_INLINE void dc_mul_tile(dc_into into, const int rows, const int vecs, int64_t n, const float *a, int64_t rs,
                           int64_t ks, const float *b, int64_t ldb, float *c, int64_t ldc, const float *keep)
{
    dc_vec acc[DC_MR][2];
    const float *row[DC_MR / 3]; /* every third: an address can hold the distance to the two between */
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) acc[i][j] = dc_set(0);
#pragma GCC unroll 4
    for (int i = 0; 3 * i < rows; i++) row[i] = a + 3 * i * rs;
    for (int64_t k = 0; k < n; k++) {
        dc_vec bv[2];
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) bv[j] = dc_load(b + DC_LANES * j);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const dc_vec av = dc_set(row[i / 3][i % 3 * rs]);
#pragma GCC unroll 2
            for (int j = 0; j < vecs; j++) acc[i][j] = dc_fma(av, bv[j], acc[i][j]);
        }
#pragma GCC unroll 4
        for (int i = 0; 3 * i < rows; i++) row[i] += ks;
        b += ldb;
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vecs; j++) {
            float *at = c + i * ldc + DC_LANES * j;
            if (into == DC_ADD) acc[i][j] = dc_add(dc_load(at), acc[i][j]);
            if (into == DC_KEEP_ADD) acc[i][j] = dc_fma(dc_load(at), dc_set(keep[i]), acc[i][j]);
            dc_store(at, acc[i][j]);
        }
}

/* The same for a panel of up to DC_MR rows and any number of columns that is a multiple of DC_LANES. Block g of DC_NR columns of B starts
 * at b + g * group. */
DC_INLINE void dc_mul_panel(dc_into into, int rows, int64_t cols, int64_t n, const float *a, int64_t rs, int64_t ks,
                            const float *b, int64_t ldb, int64_t group, float *c, int64_t ldc, const float *keep)
{
    for (int64_t j = 0; j < cols; j += DC_NR, b += group) {
#define DC_ROWS(R) \
    case R: \
        if (cols - j >= DC_NR) dc_mul_tile(into, R, 2, n, a, rs, ks, b, ldb, c + j, ldc, keep); \
        else dc_mul_tile(into, R, 1, n, a, rs, ks, b, ldb, c + j, ldc, keep); \
        break
        switch (rows) {
            DC_ROWS(1);
            DC_ROWS(2);
            DC_ROWS(3);
            DC_ROWS(4);
            DC_ROWS(5);
            DC_ROWS(6);
#if DC_LANES == 16
            DC_ROWS(7);
            DC_ROWS(8);
            DC_ROWS(9);
            DC_ROWS(10);
            DC_ROWS(11);
            DC_ROWS(12);
#endif
        }
#undef DC_ROWS
    }
}

/* c = a b, where a's rows are lda apart. */
static __attribute__((noinline)) void dc_mul_set(int rows, int64_t cols, int64_t n, const float *a, int64_t lda,
                                                 const float *b, int64_t ldb, int64_t group, float *c, int64_t ldc)
{
    dc_mul_panel(DC_SET, rows, cols, n, a, lda, 1, b, ldb, group, c, ldc, NULL);
}

/* c = keep c + a b. */
static __attribute__((noinline)) void dc_mul_keep(int rows, int64_t cols, int64_t n, const float *a, int64_t lda,
                                                  const float *b, int64_t ldb, float *c, int64_t ldc, const float *keep)
{
    dc_mul_panel(DC_KEEP_ADD, rows, cols, n, a, lda, 1, b, ldb, DC_NR, c, ldc, keep);
}

/* c += a b. */
static __attribute__((noinline)) void dc_mul_add(int rows, int64_t cols, int64_t n, const float *a, int64_t rs,
                                                 int64_t ks, const float *b, int64_t ldb, float *c, int64_t ldc)
{
    dc_mul_panel(DC_ADD, rows, cols, n, a, rs, ks, b, ldb, DC_NR, c, ldc, NULL);
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

/* Columns [at, at + n) of out[group][D][DC_NR] from n rows of x, `stride` apart: B of q k^T. */
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

/* Columns [n, n rounded up to DC_NR) of the same become 0: nobody reads their products, but denormal ones would be slow. */
static inline void dc_pack_columns_end(float *out, int64_t n, int64_t D)
{
    if (n % DC_NR == 0) return;
    float *to = out + n / DC_NR * DC_NR * D;
    for (int64_t d = 0; d < D; d++)
        for (int64_t i = n % DC_NR; i < DC_NR; i++) to[d * DC_NR + i] = 0;
}

/* One row of D floats times `by`, with zeros up to a multiple of DC_LANES. */
DC_INLINE void dc_pack_row(float *out, const float *x, int64_t D, float by)
{
    const dc_vec f = dc_set(by);
    int64_t d = 0;
    for (; d + DC_LANES <= D; d += DC_LANES) dc_store(out + d, dc_mul(f, dc_load(x + d)));
    if (d < D) dc_store(out + d, dc_mul(f, dc_load_n(x + d, D - d)));
}

/* out = by * x, or out += by * x when `add`. */
DC_INLINE void dc_unpack_row(float *out, const float *x, int64_t D, float by, int add)
{
    const dc_vec f = dc_set(by);
    int64_t d = 0;
    for (; d + DC_LANES <= D; d += DC_LANES) {
        const dc_vec y = dc_load(x + d);
        dc_store(out + d, add ? dc_fma(f, y, dc_load(out + d)) : dc_mul(f, y));
    }
    if (d == D) return;
    const dc_vec y = dc_load(x + d);
    dc_store_n(out + d, D - d, add ? dc_fma(f, y, dc_load_n(out + d, D - d)) : dc_mul(f, y));
}

/* n floats from p on are wanted soon: rows of heads lie apart, which the processor's own guesses do not see. */
DC_INLINE void dc_prefetch(const float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += DC_LINE) _mm_prefetch((const char *)(p + i), _MM_HINT_T1);
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
