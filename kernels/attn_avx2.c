/* kernels/attn_avx2.c -- attention for AVX2 + FMA: attn_vec*_tmpl.c in registers of eight floats. */
#include "kernels/attn_vec_tmpl.c"

#include "kernels/attn_vec_bwd_tmpl.c"

void dc_attn_overlay_avx2(dc_ops *ops)
{
    ops->attn_fwd = vec_fwd;
    ops->attn_bwd = vec_bwd;
    ops->attn_decode = vec_decode;
}
