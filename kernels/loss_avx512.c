/* kernels/loss_avx512.c -- the loss for AVX-512: loss_vec_tmpl.c in registers of sixteen floats. */
#include "kernels/loss_vec_tmpl.c"

void dc_loss_overlay_avx512(dc_ops *ops) { ops->loss = vec_loss; }
