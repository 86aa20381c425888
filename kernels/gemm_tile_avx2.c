/* kernels/gemm_tile_avx2.c -- tiles of 6 x 16: twelve sums, two vectors of B, one number of A in sixteen registers. */
#define ROWS   6
#define KERNEL dc_gemm_kernel_avx2
#include "kernels/gemm_tile_tmpl.c"
