/* tests/cuda/op_attn_cuda.c -- attention on the device against the double oracle: documents at the edges of tiles, heads that share keys, windows,
 * caps, pages; and calls that are wrong by little, which must be noticed. */
#include "cuda_kit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/attn.h"

enum { MAX_B = 12 };

typedef struct shape {
    int64_t H, K, D, window;
    float softcap;
    int64_t B;
    int32_t cu[MAX_B + 1];
    int64_t extra; /* rows behind the last document */
} shape;

/* Tiles have 16 to 128 rows and 16 to 64 keys; rows are tokens times H / K. */
static const shape shapes[] = {
    {2, 2, 32, 0, 0, 8, {0, 1, 16, 32, 49, 112, 176, 241, 371}, 0},
    {9, 3, 64, 0, 0, 5, {0, 65, 65, 80, 145, 146}, 3},
    {8, 1, 64, 20, 0, 4, {0, 0, 17, 17, 80}, 0},
    {1, 1, 64, 0, 30, 2, {0, 130, 193}, 2},
    {3, 1, 80, 70, 0, 2, {0, 130, 145}, 0},
    {2, 1, 96, 0, 0, 2, {0, 64, 127}, 1},
    {6, 2, 128, 0, 0, 3, {0, 65, 66, 83}, 0},
    {1, 1, 128, 33, 5, 1, {0, 130}, 0},
    {3, 1, 256, 0, 0, 2, {0, 50, 67}, 2},
    {1, 1, 256, 40, 20, 1, {0, 65}, 0},
    {3, 3, 17, 5, 0, 3, {0, 16, 31, 64}, 1},
    {4, 2, 131, 0, 0, 1, {0, 35}, 0},
};
enum { SHAPES = CK_COUNT(shapes) };

typedef struct tensors {
    ck_array q, k, v, o, lse, d_o, dq, dk, dv;
    int32_t *cu;
    dc_attn a;
} tensors;

/* q and k are uniform in [-2, 2): scores reach about 6. o and lse are the oracle's, rounded. */
static tensors tensors_new(dc_dev *dev, const shape *s)
{
    const int64_t T = s->cu[s->B] + s->extra, nq = T * s->H * s->D, nk = T * s->K * s->D;
    tensors t = {.cu = ck_ints(dev, s->cu, s->B + 1)};
    t.a = (dc_attn){s->cu, t.cu, T, s->B, s->H, s->K, s->D, (float)(1 / sqrt((double)s->D)), s->softcap, s->window};
    t.q = ck_activation(dev, nq, 2), t.k = ck_activation(dev, nk, 2), t.v = ck_activation(dev, nk, 1);
    t.d_o = ck_activation(dev, nq, 1);
    t.dq = ck_activation(dev, nq, 9), t.dk = ck_activation(dev, nk, 9), t.dv = ck_activation(dev, nk, 9);
    double *o = calloc((size_t)nq, sizeof *o), *lse = calloc((size_t)(T * s->H), sizeof *lse);
    assert_true(o && lse);
    dc_attn_fwd_oracle(o, lse, t.q.d, t.k.d, t.v.d, &t.a);
    t.o = ck_from(dev, dev->activation, nq, o), t.lse = ck_from(dev, DC_F32, T * s->H, lse);
    free(o), free(lse);
    return t;
}

static void tensors_free(tensors t)
{
    const ck_array all[] = {t.q, t.k, t.v, t.o, t.lse, t.d_o, t.dq, t.dk, t.dv};
    ck_free_ints(t.q.dev, t.cu);
    for (size_t i = 0; i < CK_COUNT(all); i++) ck_free(all[i]);
}

static void forward(dc_dev *dev, tensors *t, const dc_attn *a, float *lse)
{
    dev->op.attn_fwd(dev, ck_view(t->o), lse, ck_cview(t->q), ck_cview(t->k), ck_cview(t->v), a);
}

static void backward(dc_dev *dev, tensors *t, const dc_attn *a)
{
    dev->op.attn_bwd(dev, ck_view(t->dq), ck_view(t->dk), ck_view(t->dv), ck_cview(t->d_o), ck_cview(t->o), t->lse.data,
                     ck_cview(t->q), ck_cview(t->k), ck_cview(t->v), a);
}

/* ---- bounds ---- */

/* In fp32: scores of at most 6 are sums of D products, see tests/kernels/op_attn.c; a weight's error is its score's. */
static double score_bound(const shape *s)
{
    return FLT_EPSILON * (3 * sqrt((double)s->D) + log2((double)s->cu[s->B]) + 8);
}

/* Weights rounded to bf16 are off by half an ulp each, and so is their mean of values below 1, at most; then o is rounded. */
static double forward_bound(dc_dev *dev, const shape *s)
{
    return score_bound(s) + (dev->activation == DC_BF16 ? ck_eps(dev) : 0);
}

/* fp32 as in tests/kernels/op_attn.c. In bf16 each term of a sum has one factor, a weight or ds, that is off by half an ulp, and terms are up to
 * a few times the largest sum, but few are, and their errors are independent: two ulps with the rounding of the sum. */
static double backward_bound(dc_dev *dev, const shape *s, double largest)
{
    const double n = (double)(s->cu[s->B] * s->H / s->K);
    const double single = FLT_EPSILON * (3 * sqrt((double)s->D) + sqrt(n) + 8);
    return (single + (dev->activation == DC_BF16 ? 2 * ck_eps(dev) : 0)) * fmax(largest, 1);
}

/* ---- the forward ---- */

static void forward_equals_oracle(dc_dev *dev)
{
    double worst = 0, worst_lse = 0;
    for (size_t i = 0; i < SHAPES; i++) {
        tensors t = tensors_new(dev, &shapes[i]);
        dc_attn_fwd_oracle(t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
        for (int with_lse = 1; with_lse >= 0; with_lse--) {
            forward(dev, &t, &t.a, with_lse ? t.lse.data : NULL);
            worst = fmax(worst, ck_worst(t.o) / forward_bound(dev, &shapes[i]));
            worst_lse = fmax(worst_lse, ck_worst(t.lse) / score_bound(&shapes[i]));
        }
        tensors_free(t);
    }
    print_message("attn_fwd: worst %.3f of the bound, lse %.3f\n", worst, worst_lse);
    assert_true(worst <= 1 && worst_lse <= 1);
}

/* What lies behind the documents is not read, and becomes 0; keys behind a document do not reach it. */
static void rows_outside_documents_are_zero(dc_dev *dev)
{
    static const shape s = {6, 2, 64, 0, 0, 2, {0, 20, 33}, 40};
    tensors t = tensors_new(dev, &s);
    const ck_array q = t.q, k = t.k;
    const int64_t end = s.cu[s.B], outside[] = {end * 6 * 64, end * 2 * 64, end * 2 * 64, end * 6};
    for (int64_t i = end * 6 * 64; i < q.n; i++) t.q.d[i] = t.d_o.d[i] = NAN;
    for (int64_t i = end * 2 * 64; i < k.n; i++) t.k.d[i] = t.v.d[i] = NAN;
    tensors n = t;
    n.q = ck_from(dev, q.type, q.n, q.d), n.d_o = ck_from(dev, q.type, q.n, t.d_o.d);
    n.k = ck_from(dev, k.type, k.n, k.d), n.v = ck_from(dev, k.type, k.n, t.v.d);
    backward(dev, &n, &n.a);
    dc_attn_bwd_oracle(t.dq.d, t.dk.d, t.dv.d, t.d_o.d, t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
    forward(dev, &n, &n.a, n.lse.data);
    const ck_array all[] = {t.dq, t.dk, t.dv, t.lse, t.o};
    for (size_t i = 0; i < CK_COUNT(all); i++) {
        assert_true(ck_worst(all[i]) < 0.1); /* no NaN anywhere */
        double *got = malloc((size_t)all[i].n * sizeof *got);
        assert_non_null(got);
        ck_get(all[i], got);
        for (int64_t j = outside[i % 4]; j < all[i].n; j++) assert_true(got[j] == 0);
        free(got);
    }
    ck_free(n.q), ck_free(n.k), ck_free(n.v), ck_free(n.d_o);
    tensors_free(t);
}

/* A trainer must see a NaN, and scores of hundreds are no reason for one. */
static void nan_and_large_scores(dc_dev *dev)
{
    static const shape s = {2, 1, 16, 0, 0, 1, {0, 200}, 0};
    tensors t = tensors_new(dev, &s);
    double o[200 * 2 * 16], lse[400];
    ck_array keep = t.q;
    for (int64_t i = 0; i < t.q.n; i++) keep.d[i] *= 200;
    t.q = ck_from(dev, dev->activation, keep.n, keep.d);
    forward(dev, &t, &t.a, t.lse.data);
    backward(dev, &t, &t.a);
    ck_get(t.o, o);
    for (int64_t i = 0; i < t.o.n; i++) assert_true(fabs(o[i]) <= 1.01);
    ck_get(t.dq, o);
    for (int64_t i = 0; i < t.o.n; i++) assert_true(isfinite(o[i]));
    ck_free(t.k);
    t.k.d = NULL;
    double k[200 * 16] = {0};
    k[140 * 16 + 3] = NAN; /* token 140 */
    t.k = ck_from(dev, dev->activation, 200 * 16, k);
    forward(dev, &t, &t.a, t.lse.data);
    ck_get(t.o, o), ck_get(t.lse, lse);
    for (int64_t i = 0; i < 200 * 2; i++)
        assert_true(isnan(lse[i]) == (i >= 280) && (i < 256 || i >= 280 ? isnan(o[i * 16]) == (i >= 280) : 1));
    ck_free(keep);
    tensors_free(t);
}

/* Where documents begin is read on the device: a graph may be replayed with others. */
static void the_host_s_table_is_not_read(dc_dev *dev)
{
    static const int32_t other[] = {0, 5, 90, 90, 90, 146};
    tensors t = tensors_new(dev, &shapes[1]);
    t.a.cu_seqlens = other;
    forward(dev, &t, &t.a, t.lse.data);
    assert_true(ck_worst(t.o) <= forward_bound(dev, &shapes[1]));
    tensors_free(t);
}

static void wider_heads_are_refused(dc_dev *dev)
{
    static const shape s = {1, 1, 264, 0, 0, 1, {0, 2}, 0};
    tensors t = tensors_new(dev, &s);
    dc_error err = {0};
    forward(dev, &t, &t.a, NULL);
    assert_int_not_equal(dc_dev_sync(dev, &err), DC_OK);
    assert_non_null(strstr(err.message, "attn_fwd, heads wider than 256"));
    tensors_free(t);
}

/* Or the tests of attention would not be of the kernels that such a card is to use. */
static void warpgroups_are_used(dc_dev *dev)
{
    const char *const set = getenv("DC_CUDA_WGMMA"), *const path = dc_dev_path(dev);
    if (dev->activation != DC_BF16 || !strstr(path, "sm_90") || (set && !strcmp(set, "off"))) return;
    if (!strstr(path, "wgmma")) fail_msg("%s: no products by warpgroups", path);
}

void cuda_test_attn_fwd(dc_dev *dev)
{
    warpgroups_are_used(dev);
    wider_heads_are_refused(dev);
    forward_equals_oracle(dev);
    rows_outside_documents_are_zero(dev);
    nan_and_large_scores(dev);
    the_host_s_table_is_not_read(dev);
}

/* ---- the backward ---- */

static void backward_equals_oracle(dc_dev *dev)
{
    double worst = 0;
    for (size_t i = 0; i < SHAPES; i++) {
        tensors t = tensors_new(dev, &shapes[i]);
        dc_attn_bwd_oracle(t.dq.d, t.dk.d, t.dv.d, t.d_o.d, t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
        backward(dev, &t, &t.a);
        const ck_array g[] = {t.dq, t.dk, t.dv};
        for (int k = 0; k < 3; k++)
            worst = fmax(worst, ck_worst(g[k]) / backward_bound(dev, &shapes[i], ck_largest(g[k])));
        tensors_free(t);
    }
    print_message("attn_bwd: worst %.3f of the bound\n", worst);
    assert_true(worst <= 1);
}

/* Wrong calls: a mask that is off by one key or one token, numbers that are off, an lse that is. */
static void faults_are_noticed(dc_dev *dev)
{
    static const shape s = {4, 2, 64, 8, 4, 2, {0, 60, 90}, 0};
    static const int32_t moved[] = {0, 61, 90};
    const double off = dev->activation == DC_BF16 ? 1.5 : 1.001;
    tensors t = tensors_new(dev, &s);
    int32_t *cu = ck_ints(dev, moved, 3);
    double least = INFINITY;
    dc_attn_fwd_oracle(t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
    dc_attn_bwd_oracle(t.dq.d, t.dk.d, t.dv.d, t.d_o.d, t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
    for (int fault = 0; fault < 6; fault++) {
        dc_attn a = t.a;
        if (fault == 0) a.window++;
        if (fault == 1) a.window--; /* a key skipped */
        if (fault == 2) a.scale *= (float)off;
        if (fault == 3) a.softcap *= (float)(off * off);
        if (fault == 4) a.cu_device = cu;
        if (fault == 5) a.softcap = 0;
        forward(dev, &t, &a, NULL);
        least = fmin(least, ck_worst(t.o) / forward_bound(dev, &s));
        backward(dev, &t, &a);
        const ck_array g[] = {t.dq, t.dk, t.dv};
        for (int k = 0; k < 3; k++) least = fmin(least, ck_worst(g[k]) / backward_bound(dev, &s, ck_largest(g[k])));
    }
    print_message("attention: wrong calls score %.1f times the bound or more\n", least);
    assert_true(least > 10);
    ck_free_ints(dev, cu);
    tensors_free(t);
}

static void same_bits(ck_array a, int64_t from, ck_array b)
{
    double *x = malloc((size_t)a.n * sizeof *x), *y = malloc((size_t)b.n * sizeof *y);
    assert_true(x && y);
    ck_get(a, x), ck_get(b, y);
    for (int64_t i = 0; i < b.n; i++) assert_true(x[from + i] == y[i]);
    free(x), free(y);
}

/* The middle document of three, alone: same bits. */
static void company_does_not_change_bits(dc_dev *dev)
{
    static const shape pack = {6, 2, 24, 0, 0, 3, {0, 37, 130, 150}, 2}, single = {6, 2, 24, 0, 0, 1, {0, 93}, 0};
    const int64_t q0 = 37 * 6 * 24, k0 = 37 * 2 * 24, nq = 93 * 6 * 24, nk = 93 * 2 * 24;
    tensors t = tensors_new(dev, &pack), s = tensors_new(dev, &single);
    ck_free(s.q), ck_free(s.k), ck_free(s.v), ck_free(s.d_o);
    s.q = ck_from(dev, dev->activation, nq, t.q.d + q0), s.d_o = ck_from(dev, dev->activation, nq, t.d_o.d + q0);
    s.k = ck_from(dev, dev->activation, nk, t.k.d + k0), s.v = ck_from(dev, dev->activation, nk, t.v.d + k0);
    forward(dev, &t, &t.a, t.lse.data), forward(dev, &s, &s.a, s.lse.data);
    backward(dev, &t, &t.a), backward(dev, &s, &s.a);
    same_bits(t.o, q0, s.o), same_bits(t.lse, 37 * 6, s.lse);
    same_bits(t.dq, q0, s.dq), same_bits(t.dk, k0, s.dk), same_bits(t.dv, k0, s.dv);
    tensors_free(t), tensors_free(s);
}

void cuda_test_attn_bwd(dc_dev *dev)
{
    backward_equals_oracle(dev);
    faults_are_noticed(dev);
    company_does_not_change_bits(dev);
}

/* ---- decoding ---- */

enum { MAX_S = 6 };

typedef struct decoding {
    int64_t H, K, D, page;
    int64_t S;
    int32_t n_new[MAX_S], kv_len[MAX_S];
} decoding;

/* One token and several, a prompt, nothing; caches of one part and of several; pages that divide the groups of keys and ones that do not. */
static const decoding decodings[] = {
    {9, 3, 64, 32, 5, {1, 3, 0, 25, 1}, {1, 66, 12, 40, 530}},
    {8, 1, 64, 7, 3, {1, 4, 5}, {300, 65, 17}},
    {4, 4, 80, 16, 3, {1, 40, 2}, {64, 41, 270}},
    {3, 1, 128, 33, 3, {2, 12, 1}, {259, 30, 257}},
    {2, 1, 256, 64, 3, {1, 17, 1}, {70, 33, 300}},
    {4, 2, 17, 5, 2, {1, 30}, {290, 31}},
};

typedef struct cache {
    ck_array q, o, k, v;
    int32_t cu_new[MAX_S + 1];
    const void **pages[4]; /* k and v on the device, k and v of the oracle */
    dc_attn_kv a;
} cache;

/* Pages lie in any order; sequences share their first page. Tables are `max_pages` wide, with nothing behind the last page. */
static cache cache_new(dc_dev *dev, const decoding *d, int64_t max_pages, float softcap, int64_t window)
{
    cache c = {.cu_new = {0}};
    int64_t used = 0, at = 0;
    for (int64_t s = 0; s < d->S; s++) {
        c.cu_new[s + 1] = c.cu_new[s] + d->n_new[s];
        used += (d->kv_len[s] + d->page - 1) / d->page;
    }
    const int64_t size = d->page * d->K * d->D, n = (int64_t)c.cu_new[d->S] * d->H * d->D;
    const size_t bytes = (size_t)dc_dtype_bytes(dev->activation, size);
    c.q = ck_activation(dev, n, 2), c.o = ck_activation(dev, n, 9);
    c.k = ck_activation(dev, used * size, 2), c.v = ck_activation(dev, used * size, 1);
    for (int i = 0; i < 4; i++) {
        c.pages[i] = calloc((size_t)(d->S * max_pages), sizeof *c.pages[i]);
        assert_non_null(c.pages[i]);
    }
    for (int64_t s = 0; s < d->S; s++)
        for (int64_t j = 0; j * d->page < d->kv_len[s]; j++, at++) {
            const int64_t p = j ? used - 1 - at : 0, to = s * max_pages + j;
            c.pages[0][to] = (char *)c.k.data + (size_t)p * bytes,
            c.pages[1][to] = (char *)c.v.data + (size_t)p * bytes;
            c.pages[2][to] = c.k.d + p * size, c.pages[3][to] = c.v.d + p * size;
        }
    c.a = (dc_attn_kv){.S = d->S, .H = d->H, .K = d->K, .D = d->D, .page = d->page, .max_pages = max_pages};
    c.a.kv_len = d->kv_len;
    c.a.scale = (float)(1 / sqrt((double)d->D)), c.a.softcap = softcap, c.a.window = window;
    return c;
}

static void cache_free(cache c)
{
    for (int i = 0; i < 4; i++) free(c.pages[i]);
    ck_free(c.q), ck_free(c.o), ck_free(c.k), ck_free(c.v);
}

/* The device's answer, with lengths that may differ from the oracle's, as a share of the bound. */
static double decode_share(dc_dev *dev, cache *c, const int32_t *kv_len)
{
    static const shape bound = {.B = 1, .cu = {0, 600}};
    shape b = bound;
    b.D = c->a.D;
    c->a.cu_new = c->cu_new;
    c->a.k_pages = c->pages[2], c->a.v_pages = c->pages[3];
    dc_attn_decode_oracle(c->o.d, c->q.d, &c->a);
    dc_attn_kv a = c->a;
    a.k_pages = c->pages[0], a.v_pages = c->pages[1], a.kv_len = kv_len;
    dev->op.attn_decode(dev, ck_view(c->o), ck_cview(c->q), &a);
    return ck_worst(c->o) / forward_bound(dev, &b);
}

static void decode_equals_oracle(dc_dev *dev)
{
    double worst = 0, fault = INFINITY;
    for (size_t i = 0; i < CK_COUNT(decodings); i++)
        for (int variant = 0; variant < 2; variant++) {
            const decoding *d = &decodings[i];
            cache c = cache_new(dev, d, 120, variant ? 10.0f : 0, variant ? 21 : 0);
            int32_t early[MAX_S];
            worst = fmax(worst, decode_share(dev, &c, d->kv_len));
            memcpy(early, d->kv_len, sizeof early);
            early[1]--; /* one position too early */
            fault = fmin(fault, decode_share(dev, &c, early));
            cache_free(c);
        }
    print_message("attn_decode: worst %.3f of the bound, a fault %.1f\n", worst, fault);
    assert_true(worst <= 1);
    assert_true(fault > 10);
}

/* Tables of more than DC_CUDA_STAGE bytes: sequences go in slices. */
static void wide_tables_are_sliced(dc_dev *dev)
{
    static const decoding d = {3, 1, 8, 64, 4, {1, 12, 1, 1}, {20, 12, 300, 3}};
    cache c = cache_new(dev, &d, 50000, 0, 0);
    assert_true(decode_share(dev, &c, d.kv_len) <= 1);
    cache_free(c);
}

/* A sequence's bits are its own: the third of the first list, alone. */
static void company_does_not_change_decoding(dc_dev *dev)
{
    static const decoding d = {3, 1, 64, 32, 3, {1, 30, 2}, {9, 30, 700}};
    cache c = cache_new(dev, &d, 40, 0, 0);
    const int64_t from = 31 * 3 * 64, n = 2 * 3 * 64;
    ck_array q = ck_from(dev, dev->activation, n, c.q.d + from), o = ck_activation(dev, n, 9);
    static const int32_t cu_new[] = {0, 2};
    decode_share(dev, &c, d.kv_len);
    dc_attn_kv a = c.a;
    a.S = 1, a.cu_new = cu_new, a.kv_len = d.kv_len + 2, a.k_pages = c.pages[0] + 80, a.v_pages = c.pages[1] + 80;
    dev->op.attn_decode(dev, ck_view(o), ck_cview(q), &a);
    same_bits(c.o, from, o);
    ck_free(q), ck_free(o);
    cache_free(c);
}

void cuda_test_attn_decode(dc_dev *dev)
{
    decode_equals_oracle(dev);
    wide_tables_are_sliced(dev);
    company_does_not_change_decoding(dev);
}
