/* kernels/gemm_tile_avx512.c -- tiles of 14 x 32: 28 sums, two vectors of B, one number of A in 32 registers. */
#define ROWS   14
#define KERNEL dc_gemm_kernel_avx512
#include "kernels/gemm_tile_tmpl.c"
