/* kernels/glu_avx512.c -- gated activations for AVX-512: glu_vec_tmpl.c in registers of sixteen floats. */
#include "kernels/glu_vec_tmpl.c"

void dc_glu_overlay_avx512(dc_ops *ops)
{
    ops->glu_fwd = vec_glu_fwd;
    ops->glu_bwd = vec_glu_bwd;
}
