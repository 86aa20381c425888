/* kernels/norm_tmpl.c -- RMSNorm in plain C, the specification of every faster one. Included by norm_ref.c and
 * norm_oracle.c after kernels/real_float.h or real_double.h. */

LINKAGE void FN(rmsnorm_fwd)(REAL *y, REAL *rstd, const REAL *x, WEIGHT weight, int64_t T, int64_t C, int64_t ldy,
                             int64_t ldx, REAL eps, REAL offset)
{
    for (int64_t t = 0; t < T; t++) {
        const REAL *xt = x + t * ldx;
        REAL *yt = y + t * ldy;
        REAL sum = 0;
        for (int64_t c = 0; c < C; c++) sum += xt[c] * xt[c];
        const REAL r = 1 / SQRT(sum / (REAL)C + eps);
        for (int64_t c = 0; c < C; c++) yt[c] = xt[c] * r * (offset + WEIGHT_AT(weight, c));
        if (rstd) rstd[t] = r;
    }
}

/* dweight first: dx may be dy. */
LINKAGE void FN(rmsnorm_bwd)(REAL *dx, REAL *dweight, const REAL *dy, const REAL *x, const REAL *rstd, WEIGHT weight,
                             int64_t T, int64_t C, int64_t ldy, int64_t ldx, REAL offset, int assign)
{
    if (dweight)
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = 0; c < C; c++) dweight[c] += dy[t * ldy + c] * x[t * ldx + c] * rstd[t];
    for (int64_t t = 0; t < T; t++) {
        const REAL *xt = x + t * ldx, *dyt = dy + t * ldy;
        REAL *dxt = dx + t * ldx;
        const REAL r = rstd[t];
        REAL dot = 0; /* sum_c g * x */
        for (int64_t c = 0; c < C; c++) dot += dyt[c] * (offset + WEIGHT_AT(weight, c)) * xt[c];
        const REAL k = dot * r * r / (REAL)C;
        for (int64_t c = 0; c < C; c++) {
            const REAL d = r * (dyt[c] * (offset + WEIGHT_AT(weight, c)) - xt[c] * k);
            dxt[c] = assign ? d : dxt[c] + d;
        }
    }
}
