/* kernels/rope_ref.c -- rotary embedding, the float fallback. */
#include "kernels/real_float.h"

#include "kernels/rope_tmpl.c"

void dc_rope_ref(dc_dev *dev, dc_view x, const int32_t *pos, const float *inv_freq, int64_t T, int64_t H, int64_t D,
                 int64_t n_rot, int interleaved, float mscale, int sign)
{
    (void)dev;
    rope_float(x.data, pos, inv_freq, T, H, D, n_rot, interleaved, mscale, sign);
}
