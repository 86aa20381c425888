/* tests/kernels/pair_glu.c -- gated activations for AVX-512 in registers made of two of AVX2. */
#include "vec_pair.h"

#define dc_glu_overlay_avx512 kit_glu_overlay_pair
#include "kernels/glu_avx512.c"
