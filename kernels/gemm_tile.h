/* kernels/gemm_tile.h -- the parts of the own matrix product that know a processor: kernels, which keep a tile of C in
 * registers, and the packing of what they read; private to kernels/ and its tests. */
#ifndef DC_KERNELS_GEMM_TILE_H
#define DC_KERNELS_GEMM_TILE_H

#include "kernels/gemm.h"
#include "kernels/quant.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Some rows of C over one block of K. With acc = sum_k a[m,k] b[k,n] in the order of k, one fused multiply-add each,
 *     c = alpha acc, or c = fma(alpha, acc, c) when `accumulate`;   then c = c + bias.
 * So the bits of an element are those of its row and column, whatever stands beside it in a tile, and all kernels give
 * the same.
 *
 * Element (m, k) of op(A) is at a + m * a_row + k * a_k; (k, n) of op(B) at b + k * b_k + n for the kernel's first
 * `columns` columns, b_panel floats behind for the next. No column beyond N is read or written. */
typedef struct dc_gemm_rows {
    float *c;
    const float *a, *b;
    int64_t N, K, ldc, a_row, a_k, b_k, b_panel;
    const float *bias; /* [N] or NULL */
    float alpha;
    int accumulate;
} dc_gemm_rows;

/* A tile is `rows` x `columns`; run takes m rows, 1 <= m <= rows. */
typedef struct dc_gemm_kernel {
    void (*run)(const dc_gemm_rows *r, int64_t m);
    int64_t rows, columns;
} dc_gemm_kernel;

/* No `run` where the processor is another. AVX-512 needs DC_FEATURES_AVX512 (kernels/table.h). */
extern const dc_gemm_kernel dc_gemm_kernel_avx2, dc_gemm_kernel_avx512;

/* A part of a matrix [K, N] as panels: columns n + p * take .. of it become panel p, `width` floats (a multiple of 8)
 * for each of K rows. Missing columns of the last panel are zeros; between take and width stands anything.
 * `trans`: the matrix is stored [N, K]. A stored type is read at blocks: k must begin one when `trans`; n may lie
 * anywhere. */
typedef struct dc_gemm_pack {
    float *out;
    dc_cview matrix;
    dc_row_read_fn *read; /* of its type; NULL for F32 */
    int64_t ld, k, n, K, N, take, width;
    int trans;
} dc_gemm_pack;

enum { DC_GEMM_BLOCK = 320, DC_PACK_COLUMNS = 1024 }; /* the most of K and of N at once */

void dc_gemm_pack_avx2(const dc_gemm_pack *p);

/* Floats from one panel to the next. The line between them keeps panels of a round size out of each other's way in a
 * cache, which finds its sets by the address modulo a power of two. */
static inline int64_t dc_gemm_panel(int64_t K, int64_t width) { return K * width + 16; }

#ifdef __cplusplus
}
#endif
#endif
