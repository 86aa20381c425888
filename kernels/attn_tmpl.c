/* kernels/attn_tmpl.c -- attention in plain C, the specification of every faster one.
 *
 * Included by attn_ref.c (REAL float) and attn_oracle.c (REAL double), which define REAL, EXP, LOG and TANH. A row looks at its keys
 * twice, first for the largest score, so that no exp overflows and no row of scores is stored. */

/* Where keys (or values) are: in rows `stride` apart, or in pages of such rows. */
typedef struct rows {
    const REAL *base;
    const void *const *pages; /* NULL: base */
    int64_t page, head, stride;
} rows;

static const REAL *row(const rows *x, int64_t j)
{
    if (!x->pages) return x->base + j * x->stride;
    return (const REAL *)x->pages[j / x->page] + (j % x->page) * x->stride + x->head;
}

static REAL dot(const REAL *a, const REAL *b, int64_t n)
{
    REAL sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static REAL score(const REAL *q, const REAL *k, int64_t D, REAL scale, REAL softcap)
{
    const REAL s = scale * dot(q, k, D);
    return softcap > 0 ? softcap * TANH(s / softcap) : s;
}

/* The first key that token i sees. */
static int64_t first_key(int64_t i, int64_t window) { return window > 0 && i >= window ? i - window + 1 : 0; }

/* o = sum_j softmax(s)_j v_j over j in [lo, hi); returns log sum_j exp(s_j). */
static REAL attend(REAL *o, const REAL *q, const rows *k, const rows *v, int64_t lo, int64_t hi, int64_t D, REAL scale,
                   REAL softcap)
{
    REAL max = score(q, row(k, lo), D, scale, softcap), sum = 0;
    for (int64_t j = lo + 1; j < hi; j++) {
        const REAL s = score(q, row(k, j), D, scale, softcap);
        if (s > max) max = s;
    }
    for (int64_t d = 0; d < D; d++) o[d] = 0;
    for (int64_t j = lo; j < hi; j++) {
        const REAL p = EXP(score(q, row(k, j), D, scale, softcap) - max), *vj = row(v, j);
        sum += p;
        for (int64_t d = 0; d < D; d++) o[d] += p * vj[d];
    }
    for (int64_t d = 0; d < D; d++) o[d] /= sum;
    return max + LOG(sum);
}

static void zero(REAL *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = 0;
}

static void attn_fwd(REAL *o, REAL *lse, const REAL *q, const REAL *k, const REAL *v, const dc_attn *a)
{
    const int64_t H = a->H, K = a->K, D = a->D, end = a->cu_seqlens[a->B];
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t t0 = a->cu_seqlens[b], n = a->cu_seqlens[b + 1] - t0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                const int64_t at = (t0 + i) * H + h, kv = (t0 * K + h / (H / K)) * D;
                const rows ks = {.base = k + kv, .stride = K * D}, vs = {.base = v + kv, .stride = K * D};
                const REAL l = attend(o + at * D, q + at * D, &ks, &vs, first_key(i, a->window), i + 1, D,
                                      (REAL)a->scale, (REAL)a->softcap);
                if (lse) lse[at] = l;
            }
    }
    zero(o + end * H * D, (a->T - end) * H * D);
    if (lse) zero(lse + end * H, (a->T - end) * H);
}

/* What one query row adds, with s' = d(s capped)/d(s) = 1 - (s / softcap)^2:
 *     p = exp(s - lse),  ds = p * (do . v_j - delta) * s' * scale,
 *     dq += ds * k_j,  dk_j += ds * q,  dv_j += p * do. */
static void attend_bwd(REAL *dq, REAL *dk, REAL *dv, const REAL *d_o, const REAL *o, REAL lse, const REAL *q,
                       const REAL *k, const REAL *v, int64_t lo, int64_t hi, int64_t stride, const dc_attn *a)
{
    const int64_t D = a->D;
    const REAL delta = dot(d_o, o, D), scale = (REAL)a->scale, cap = (REAL)a->softcap;
    for (int64_t j = lo; j < hi; j++) {
        const REAL *kj = k + j * stride, *vj = v + j * stride;
        const REAL s = score(q, kj, D, scale, cap), p = EXP(s - lse);
        REAL ds = p * (dot(d_o, vj, D) - delta) * scale;
        if (cap > 0) ds *= 1 - s / cap * (s / cap);
        for (int64_t d = 0; d < D; d++) {
            dq[d] += ds * kj[d];
            dk[j * stride + d] += ds * q[d];
            dv[j * stride + d] += p * d_o[d];
        }
    }
}

static void attn_bwd(REAL *dq, REAL *dk, REAL *dv, const REAL *d_o, const REAL *o, const REAL *lse, const REAL *q,
                     const REAL *k, const REAL *v, const dc_attn *a)
{
    const int64_t H = a->H, K = a->K, D = a->D;
    zero(dq, a->T * H * D), zero(dk, a->T * K * D), zero(dv, a->T * K * D);
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t t0 = a->cu_seqlens[b], n = a->cu_seqlens[b + 1] - t0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = 0; h < H; h++) {
                const int64_t at = (t0 + i) * H + h, kv = (t0 * K + h / (H / K)) * D;
                attend_bwd(dq + at * D, dk + kv, dv + kv, d_o + at * D, o + at * D, lse[at], q + at * D, k + kv, v + kv,
                           first_key(i, a->window), i + 1, K * D, a);
            }
    }
}

static void attn_decode(REAL *o, const REAL *q, const dc_attn_kv *a)
{
    const int64_t H = a->H, D = a->D;
    for (int64_t s = 0; s < a->S; s++)
        for (int64_t t = a->cu_new[s]; t < a->cu_new[s + 1]; t++)
            for (int64_t h = 0; h < H; h++) {
                const int64_t i = a->kv_len[s] - (a->cu_new[s + 1] - t), at = (t * H + h) * D,
                              head = h / (H / a->K) * D;
                const rows ks = {NULL, a->k_pages + s * a->max_pages, a->page, head, a->K * D};
                const rows vs = {NULL, a->v_pages + s * a->max_pages, a->page, head, a->K * D};
                attend(o + at, q + at, &ks, &vs, first_key(i, a->window), i + 1, D, (REAL)a->scale, (REAL)a->softcap);
            }
}
