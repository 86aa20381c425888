/* tests/kernels/pair_gemm.c -- the product's kernel for AVX-512 in registers made of two of AVX2. */
#include "vec_pair.h"

#define dc_gemm_kernel_avx512 gemm_kernel_wide
#include "kernels/gemm_tile_avx512.c"
