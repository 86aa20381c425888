/* kernels/glu_avx2.c -- gated activations for AVX2 + FMA: glu_vec_tmpl.c in registers of eight floats. */
#include "kernels/glu_vec_tmpl.c"

void dc_glu_overlay_avx2(dc_ops *ops)
{
    ops->glu_fwd = vec_glu_fwd;
    ops->glu_bwd = vec_glu_bwd;
}
