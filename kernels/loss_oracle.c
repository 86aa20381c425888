/* kernels/loss_oracle.c -- the double oracle; linked into tests only. */
#include "kernels/loss.h"

#include <math.h>

#define REAL double
#define EXP  exp
#include "kernels/loss_tmpl.c"

void dc_loss_oracle(double *logits, double *ce, double *kd, double *lse, const dc_loss *loss)
{
    for (int64_t m = 0; m < loss->M; m++) {
        double c, k, l;
        loss_row(logits + m * loss->ld, loss, m, &c, &k, &l);
        if (ce) ce[m] = c;
        if (kd) kd[m] = k;
        if (lse) lse[m] = l;
    }
}
