/* kernels/adamw_ref.c -- AdamW in float. Bound by memory: the compiler's loop, in threads, is as fast as it gets. */
#include "kernels/real_float.h"

#include "core/pool.h"

#include "kernels/adamw_tmpl.c"

typedef struct job {
    float *p, *m, *v;
    const float *g;
    int64_t n;
    const dc_adamw *a;
} job;

enum { BLOCK = 16384 };

static void block(void *context, int64_t i)
{
    const job *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    adamw_float(j->p + s.low, j->m + s.low, j->v + s.low, j->g + s.low, s.high - s.low, j->a);
}

void dc_adamw_ref(dc_dev *dev, float *p, float *m, float *v, const float *g, int64_t n, const dc_adamw *a)
{
    (void)dev;
    job j = {p, m, v, g, n, a};
    dc_pool_for(dc_blocks(n, BLOCK), block, &j);
}
