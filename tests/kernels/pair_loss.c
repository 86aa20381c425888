/* tests/kernels/pair_loss.c -- the loss for AVX-512 in registers made of two of AVX2. */
#include "vec_pair.h"

#define dc_loss_overlay_avx512 kit_loss_overlay_pair
#include "kernels/loss_avx512.c"
