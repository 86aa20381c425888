/* kernels/loss_avx2.c -- the loss for AVX2 + FMA: loss_vec_tmpl.c in registers of eight floats. */
#include "kernels/loss_vec_tmpl.c"

void dc_loss_overlay_avx2(dc_ops *ops) { ops->loss = vec_loss; }
