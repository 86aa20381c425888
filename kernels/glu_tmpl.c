/* kernels/glu_tmpl.c -- gated activations in plain C; see norm_tmpl.c for how it is used. */

/* act(x) and, unless it is NULL, its derivative:
 *     silu       x s(x),                     s + x s (1 - s),       s(x) = 1 / (1 + exp(-x));
 *     gelu_tanh  x s(2u), u = a (x + b x^3),  s + 2 x s (1 - s) u',  a = sqrt(2 / pi), b = 0.044715 (Hendrycks and
 *                Gimpel 2016, arXiv 1606.08415; (1 + tanh u) / 2 = s(2u), which does not cancel for negative x);
 *     gelu_erf   x P(x),                     P + x exp(-x^2 / 2) / sqrt(2 pi),   P(x) = (1 + erf(x / sqrt 2)) / 2. */
static REAL activated(REAL x, dc_act act, REAL *slope)
{
    if (act == DC_ACT_GELU_ERF) {
        const REAL p = (REAL)0.5 * (1 + ERF(x * (REAL)0.70710678118654752440));
        if (slope) *slope = p + x * EXP(x * x * (REAL)-0.5) * (REAL)0.39894228040143267794;
        return x * p;
    }
    REAL z = x, dz = 1; /* the sigmoid's argument and its derivative */
    if (act == DC_ACT_GELU_TANH) {
        const REAL a = (REAL)1.59576912160573071176,
                   ab = (REAL)(0.044715 * 1.59576912160573071176); /* twice sqrt(2 / pi) */
        z = x * (a + ab * x * x);
        dz = a + 3 * ab * x * x;
    }
    const REAL s = 1 / (1 + EXP(-z));
    if (slope) *slope = s + x * s * (1 - s) * dz;
    return x * s;
}

LINKAGE void FN(glu_fwd)(REAL *y, const REAL *gate, const REAL *up, int64_t n, dc_act act)
{
    for (int64_t i = 0; i < n; i++) y[i] = activated(gate[i], act, (REAL *)0) * up[i];
}

LINKAGE void FN(glu_bwd)(REAL *dgate, REAL *dup, const REAL *dy, const REAL *gate, const REAL *up, int64_t n,
                         dc_act act)
{
    for (int64_t i = 0; i < n; i++) {
        REAL slope;
        const REAL value = activated(gate[i], act, &slope), d = dy[i], u = up[i];
        dgate[i] = d * u * slope;
        dup[i] = d * value;
    }
}
