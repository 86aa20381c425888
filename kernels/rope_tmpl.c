/* kernels/rope_tmpl.c -- rotary embedding in plain C; see norm_tmpl.c for how it is used. */

LINKAGE void FN(rope)(REAL *x, const int32_t *pos, const float *inv_freq, int64_t T, int64_t H, int64_t D,
                      int64_t n_rot, int interleaved, REAL mscale, int sign)
{
    const int64_t half = n_rot / 2, step = interleaved ? 2 : 1, apart = interleaved ? 1 : half;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < half; i++) {
            const double a = (double)pos[t] * (double)inv_freq[i] * sign;
            const REAL c = (REAL)cos(a), s = (REAL)sin(a);
            for (int64_t h = 0; h < H; h++) {
                REAL *at = x + (t * H + h) * D + i * step;
                const REAL u = at[0], v = at[apart];
                at[0] = (u * c - v * s) * mscale;
                at[apart] = (u * s + v * c) * mscale;
            }
        }
    }
}
