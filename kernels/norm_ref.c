/* kernels/norm_ref.c -- RMSNorm, the float fallback. */
#include "kernels/real_float.h"

#include "kernels/norm_tmpl.c"

void dc_rmsnorm_fwd_ref(dc_dev *dev, dc_view y, float *rstd, dc_cview x, dc_cview weight, int64_t T, int64_t C,
                        int64_t ldy, int64_t ldx, float eps, float offset)
{
    (void)dev;
    rmsnorm_fwd_float(y.data, rstd, x.data, weight, T, C, ldy, ldx, eps, offset);
}

void dc_rmsnorm_bwd_ref(dc_dev *dev, dc_view dx, float *dweight, dc_cview dy, dc_cview x, const float *rstd,
                        dc_cview weight, int64_t T, int64_t C, int64_t ldy, int64_t ldx, float offset, int assign)
{
    (void)dev;
    rmsnorm_bwd_float(dx.data, dweight, dy.data, x.data, rstd, weight, T, C, ldy, ldx, offset, assign);
}
