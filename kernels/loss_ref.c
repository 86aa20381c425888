/* kernels/loss_ref.c -- the float fallback. */
#include "kernels/loss.h"

#include <math.h>

#include "core/pool.h"

#define REAL float
#define EXP  expf
#include "kernels/loss_tmpl.c"

typedef struct job {
    float *logits;
    const dc_loss *l;
} job;

static void one_row(void *context, int64_t m)
{
    const job *j = context;
    double ce, kd, lse;
    loss_row(j->logits + m * j->l->ld, j->l, m, &ce, &kd, &lse);
    if (j->l->ce) j->l->ce[m] = (float)ce;
    if (j->l->kd) j->l->kd[m] = (float)kd;
    if (j->l->lse) j->l->lse[m] = (float)lse;
}

void dc_loss_ref(dc_dev *dev, float *logits, const dc_loss *loss)
{
    (void)dev;
    job j = {logits, loss};
    dc_pool_for(loss->M, one_row, &j);
}
