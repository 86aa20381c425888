/* tests/kernels/gemm_wide.c -- the kernel for AVX-512 in AVX2's registers: its code runs where its instructions cannot.
 * Compiled with -mavx2 -mfma. */
#define dc_gemm_kernel_avx512 gemm_kernel_wide
#include "kernels/gemm_tile_avx512.c"
