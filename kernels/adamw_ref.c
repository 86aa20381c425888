/* kernels/adamw_ref.c -- AdamW, the float fallback. */
#include "kernels/real_float.h"

#include "kernels/adamw_tmpl.c"

void dc_adamw_ref(dc_dev *dev, float *p, float *m, float *v, const float *g, int64_t n, const dc_adamw *a)
{
    (void)dev;
    adamw_float(p, m, v, g, n, a);
}
