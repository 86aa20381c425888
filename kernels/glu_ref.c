/* kernels/glu_ref.c -- gated activations, the float fallback. */
#include "kernels/real_float.h"

#include "kernels/glu_tmpl.c"

void dc_glu_fwd_ref(dc_dev *dev, dc_view y, dc_cview gate, dc_cview up, int64_t n, dc_act act)
{
    (void)dev;
    glu_fwd_float(y.data, gate.data, up.data, n, act);
}

void dc_glu_bwd_ref(dc_dev *dev, dc_view dgate, dc_view dup, dc_cview dy, dc_cview gate, dc_cview up, int64_t n,
                    dc_act act)
{
    (void)dev;
    glu_bwd_float(dgate.data, dup.data, dy.data, gate.data, up.data, n, act);
}
