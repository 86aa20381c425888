/* kernels/attn_ref.c -- the float fallback. */
#include "kernels/attn.h"

#include <math.h>

#define REAL float
#define EXP  expf
#define LOG  logf
#define TANH tanhf
#include "kernels/attn_tmpl.c"

void dc_attn_fwd_ref(dc_dev *dev, dc_view o, float *lse, dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    (void)dev;
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32 && k.type == DC_F32 && v.type == DC_F32);
    attn_fwd(o.data, lse, q.data, k.data, v.data, a);
}

void dc_attn_bwd_ref(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse,
                     dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    (void)dev;
    DC_ASSERT(dq.type == DC_F32 && dk.type == DC_F32 && dv.type == DC_F32 && d_o.type == DC_F32);
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32 && k.type == DC_F32 && v.type == DC_F32);
    attn_bwd(dq.data, dk.data, dv.data, d_o.data, o.data, lse, q.data, k.data, v.data, a);
}

void dc_attn_decode_ref(dc_dev *dev, dc_view o, dc_cview q, const dc_attn_kv *a)
{
    (void)dev;
    DC_ASSERT(o.type == DC_F32 && q.type == DC_F32);
    attn_decode(o.data, q.data, a);
}
