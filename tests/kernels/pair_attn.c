/* tests/kernels/pair_attn.c -- attention for AVX-512 in registers made of two of AVX2. */
#include "vec_pair.h"

#define dc_attn_overlay_avx512 kit_attn_overlay_pair
#include "kernels/attn_avx512.c"
