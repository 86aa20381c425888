/* kernels/adamw_tmpl.c -- AdamW in plain C; see norm_tmpl.c for how it is used.
 *
 * torch.optim.AdamW's single-tensor form: p.mul_(1 - lr wd), exp_avg.lerp_(g, 1 - b1),
 * exp_avg_sq.mul_(b2).addcmul_(g, g, 1 - b2), p.addcdiv_(exp_avg, exp_avg_sq.sqrt() / sqrt(1 - b2^t) + eps, -lr /
 * (1 - b1^t)), each scalar formed in double and rounded once, products and sums in that order. */

LINKAGE void FN(adamw)(REAL *p, REAL *m, REAL *v, const REAL *g, int64_t n, const dc_adamw *a)
{
    const REAL decay = (REAL)(1 - a->lr * a->weight_decay), toward = (REAL)(1 - a->beta1);
    const REAL beta2 = (REAL)a->beta2, square = (REAL)(1 - a->beta2), eps = (REAL)a->eps, scale = (REAL)a->grad_scale;
    const REAL root = (REAL)sqrt(1 - pow(a->beta2, (double)a->step));
    const REAL step = (REAL)(-a->lr / (1 - pow(a->beta1, (double)a->step)));
    for (int64_t i = 0; i < n; i++) {
        const REAL gi = g[i] * scale, pi = p[i] * decay;
        /* lerp_ goes from the nearer end. */
        m[i] = toward < (REAL)0.5 ? m[i] + toward * (gi - m[i]) : gi - (gi - m[i]) * (1 - toward);
        v[i] = v[i] * beta2 + square * gi * gi;
        p[i] = pi + step * m[i] / (SQRT(v[i]) / root + eps);
    }
}
