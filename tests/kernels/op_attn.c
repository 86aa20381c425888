/* tests/kernels/op_attn.c -- attention: every path against the double oracle, the oracle against finite differences, and the same bits
 * whatever the number of threads and the company in the pack. */
#include "kit.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/pool.h"
#include "kernels/attn.h"

enum { MAX_B = 6 };

typedef struct shape {
    int64_t H, K, D, window;
    float softcap;
    int64_t B;
    int32_t cu[MAX_B + 1];
    int64_t extra; /* rows behind the last document */
} shape;

/* Every tail of the tiles: heads that share, widths that are no multiple of 8 or 16, documents of one token, empty ones, windows smaller and larger
 * than a block of 64 keys, blocks of rows that begin within a token (192 % 7, 96 % 5). The last ones have chains of tasks in the backward: documents of
 * very different lengths, one head that all threads share, windows that end within a block of keys or of rows, and more tasks than a
 * chain remembers. */
static const shape shapes[] = {
    {4, 2, 8, 0, 0, 1, {0, 1}, 0},
    {9, 3, 64, 0, 0, 3, {0, 130, 131, 200}, 0},
    {3, 1, 16, 0, 30, 2, {0, 70, 75}, 5},
    {7, 1, 24, 20, 0, 2, {0, 97, 190}, 0},
    {5, 1, 12, 0, 0, 4, {0, 3, 3, 20, 100}, 3},
    {2, 2, 80, 1, 0, 1, {0, 67}, 0},
    {4, 4, 17, 70, 5, 1, {0, 210}, 0},
    {1, 1, 128, 64, 0, 1, {0, 260}, 0},
    {14, 2, 64, 0, 0, 1, {0, 90}, 0},
    {4, 1, 256, 100, 50, 2, {0, 130, 150}, 0},
    {200, 1, 8, 0, 0, 1, {0, 9}, 0},
    {3, 3, 300, 0, 0, 1, {0, 20}, 0},
    {3, 1, 20, 0, 0, 5, {0, 1, 420, 420, 437, 703}, 2},
    {1, 1, 16, 0, 0, 1, {0, 900}, 0},
    {2, 1, 96, 150, 0, 2, {0, 330, 700}, 0},
    {5, 5, 33, 129, 20, 1, {0, 400}, 0},
    {3, 1, 8, 7, 0, 1, {0, 450}, 0},
    {90, 90, 4, 0, 0, 1, {0, 130}, 0},
};
enum { SHAPES = KIT_COUNT(shapes) };

typedef struct tensors {
    kit_array q, k, v, o, lse, d_o, dq, dk, dv;
    dc_attn a;
} tensors;

/* q and k are uniform in [-2, 2): scores reach about 6. */
static tensors tensors_new(const shape *s)
{
    const int64_t T = s->cu[s->B] + s->extra, nq = T * s->H * s->D, nk = T * s->K * s->D;
    tensors t = {
        .a = {s->cu, s->cu, T, s->B, s->H, s->K, s->D, (float)(1 / sqrt((double)s->D)), s->softcap, s->window}};
    t.q = kit_new(nq, 2), t.k = kit_new(nk, 2), t.v = kit_new(nk, 1);
    t.d_o = kit_new(nq, 1);
    t.o = kit_new(nq, 9), t.lse = kit_new(T * s->H, 9); /* to be overwritten */
    t.dq = kit_new(nq, 9), t.dk = kit_new(nk, 9), t.dv = kit_new(nk, 9);
    return t;
}

static void tensors_free(tensors t)
{
    kit_free(t.q), kit_free(t.k), kit_free(t.v), kit_free(t.o), kit_free(t.lse), kit_free(t.d_o);
    kit_free(t.dq), kit_free(t.dk), kit_free(t.dv);
}

static void forward(const dc_ops *ops, tensors *t, const dc_attn *a)
{
    ops->attn_fwd(NULL, kit_view(t->o), t->lse.f, kit_cview(t->q), kit_cview(t->k), kit_cview(t->v), a);
}

static void backward(const dc_ops *ops, tensors *t, const dc_attn *a)
{
    ops->attn_bwd(NULL, kit_view(t->dq), kit_view(t->dk), kit_view(t->dv), kit_cview(t->d_o), kit_cview(t->o), t->lse.f,
                  kit_cview(t->q), kit_cview(t->k), kit_cview(t->v), a);
}

static void oracle(tensors *t)
{
    dc_attn_fwd_oracle(t->o.d, t->lse.d, t->q.d, t->k.d, t->v.d, &t->a);
    dc_attn_bwd_oracle(t->dq.d, t->dk.d, t->dv.d, t->d_o.d, t->o.d, t->lse.d, t->q.d, t->k.d, t->v.d, &t->a);
}

/* A score of at most 6 is a sum of D products: its roundings walk to eps / 2 * sqrt(D) * 6, and a weight's relative error is its score's
 * error. The weighted mean of n values below 1 in magnitude and the sum of weights add log2(n) + 8 roundings; lse up to 6 + log n
 * adds its own. Observed worst, as a share of this bound: 0.45 for the reference, 0.30 for AVX2 and for 16 lanes; decoding 0.18. The wrong
 * calls in faults_are_noticed score 125 times it or more. */
static double forward_bound(const shape *s)
{
    return FLT_EPSILON * (3 * sqrt((double)s->D) + log2((double)s->cu[s->B]) + 8);
}

/* ds is a difference of two numbers that are small beside their parts, and each gradient a sum over up to n (dq) or n H / K (dk, dv)
 * terms that cancel; `largest` is the largest gradient, which is of the size of one row's weight times do. Observed worst: 0.24 for the
 * reference, 0.24 for AVX2 and for 16 lanes; the wrong calls 65 times it or more. */
static double backward_bound(const shape *s, double largest)
{
    const double n = (double)(s->cu[s->B] * s->H / s->K);
    return FLT_EPSILON * (3 * sqrt((double)s->D) + sqrt(n) + 8) * fmax(largest, 1);
}

/* What a call did not write must not pass for what another wrote before. */
static void spoil(kit_array a)
{
    for (int64_t i = 0; i < a.n; i++) a.f[i] = 9;
}

static void forward_equals_oracle(void)
{
    unsigned paths[KIT_PATHS];
    const size_t n_paths = kit_all_paths(paths);
    double worst[KIT_PATHS] = {0};
    for (size_t i = 0; i < SHAPES; i++) {
        tensors t = tensors_new(&shapes[i]);
        dc_attn_fwd_oracle(t.o.d, t.lse.d, t.q.d, t.k.d, t.v.d, &t.a);
        for (size_t p = 0; p < n_paths; p++) {
            const dc_ops ops = kit_ops(paths[p]);
            spoil(t.o), spoil(t.lse);
            forward(&ops, &t, &t.a);
            worst[p] = fmax(worst[p], fmax(kit_worst(t.o), kit_worst(t.lse)) / forward_bound(&shapes[i]));
            spoil(t.o); /* the same without lse */
            ops.attn_fwd(NULL, kit_view(t.o), NULL, kit_cview(t.q), kit_cview(t.k), kit_cview(t.v), &t.a);
            worst[p] = fmax(worst[p], kit_worst(t.o) / forward_bound(&shapes[i]));
        }
        tensors_free(t);
    }
    for (size_t p = 0; p < n_paths; p++) {
        print_message("attn_fwd path %zu: worst %.3f of the bound\n", p, worst[p]);
        assert_true(worst[p] <= 1);
    }
}

static void backward_equals_oracle(void)
{
    unsigned paths[KIT_PATHS];
    const size_t n_paths = kit_all_paths(paths);
    double worst[KIT_PATHS] = {0};
    for (size_t i = 0; i < SHAPES; i++) {
        tensors t = tensors_new(&shapes[i]);
        oracle(&t);
        for (int64_t j = 0; j < t.o.n; j++) t.o.f[j] = (float)t.o.d[j];
        for (int64_t j = 0; j < t.lse.n; j++) t.lse.f[j] = (float)t.lse.d[j];
        const kit_array g[] = {t.dq, t.dk, t.dv};
        for (size_t p = 0; p < n_paths; p++)
            for (int threads = 1; threads <= 2; threads++) {
                const dc_ops ops = kit_ops(paths[p]);
                dc_pool_set_threads(threads);
                for (int k = 0; k < 3; k++) spoil(g[k]);
                backward(&ops, &t, &t.a);
                for (int k = 0; k < 3; k++)
                    worst[p] = fmax(worst[p], kit_worst(g[k]) / backward_bound(&shapes[i], kit_largest(g[k])));
            }
        tensors_free(t);
    }
    for (size_t p = 0; p < n_paths; p++) {
        print_message("attn_bwd path %zu: worst %.3f of the bound\n", p, worst[p]);
        assert_true(worst[p] <= 1);
    }
    dc_pool_set_threads(0);
}

/* Calls that are wrong by little must fail the same comparison. */
static void faults_are_noticed(void)
{
    static const shape s = {4, 2, 64, 40, 20, 2, {0, 100, 180}, 0};
    static const int32_t moved[] = {0, 101, 180};
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        tensors t = tensors_new(&s);
        oracle(&t);
        for (int fault = 0; fault < 5; fault++) {
            dc_attn a = t.a;
            if (fault == 0) a.window++;
            if (fault == 1) a.scale *= 1.001f;
            if (fault == 2) a.softcap *= 1.01f;
            if (fault == 3) a.cu_seqlens = moved;
            if (fault == 4) a.softcap = 0;
            forward(&ops, &t, &a);
            assert_true(kit_worst(t.o) > 20 * forward_bound(&s));
            backward(&ops, &t, &a);
            assert_true(kit_worst(t.dq) > 20 * backward_bound(&s, kit_largest(t.dq)));
            assert_true(kit_worst(t.dk) > 20 * backward_bound(&s, kit_largest(t.dk)));
        }
        tensors_free(t);
    }
}

static double objective(void *context)
{
    const tensors *t = context;
    double sum = 0;
    dc_attn_fwd_oracle(t->o.d, t->lse.d, t->q.d, t->k.d, t->v.d, &t->a);
    for (int64_t i = 0; i < t->o.n; i++) sum += t->d_o.d[i] * t->o.d[i];
    return sum;
}

/* L = sum do * o: its central difference in each of q, k, v must be the oracle's gradient. */
static void oracle_gradient_is_the_derivative(void)
{
    static const shape all[] = {{4, 2, 5, 0, 0, 2, {0, 6, 9}, 0}, {2, 1, 4, 3, 3, 1, {0, 7}, 1}};
    for (size_t i = 0; i < KIT_COUNT(all); i++) {
        tensors t = tensors_new(&all[i]);
        oracle(&t);
        const kit_array x[] = {t.q, t.k, t.v}, g[] = {t.dq, t.dk, t.dv};
        for (int k = 0; k < 3; k++)
            for (int64_t j = 0; j < x[k].n; j++) kit_is_slope(objective, &t, &x[k].d[j], g[k].d[j], 1e-8);
        tensors_free(t);
    }
}

/* One thread never waits for a block of dq; several do, and more than there are cores are interrupted anywhere. */
static void threads_do_not_change_bits(void)
{
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < SHAPES; i++) {
            tensors t = tensors_new(&shapes[i]);
            dc_pool_set_threads(1);
            forward(&ops, &t, &t.a), backward(&ops, &t, &t.a);
            const kit_array now[] = {t.o, t.lse, t.dq, t.dk, t.dv};
            kit_array one[KIT_COUNT(now)];
            for (size_t k = 0; k < KIT_COUNT(now); k++) one[k] = kit_like(now[k]);
            for (int threads = 2; threads <= 5; threads += 3) {
                dc_pool_set_threads(threads);
                forward(&ops, &t, &t.a), backward(&ops, &t, &t.a);
                for (size_t k = 0; k < KIT_COUNT(now); k++) kit_same_bits(now[k].f, one[k].f, one[k].n);
            }
            for (size_t k = 0; k < KIT_COUNT(now); k++) kit_free(one[k]);
            tensors_free(t);
        }
    }
    dc_pool_set_threads(0);
}

/* The middle document of three, alone: same bits, for documents of one block of keys and of several. */
static void company_does_not_change_bits(void)
{
    static const shape packs[] = {{9, 3, 20, 0, 0, 3, {0, 37, 150, 260}, 2},
                                  {4, 1, 40, 180, 0, 3, {0, 300, 690, 700}, 0}};
    unsigned paths[KIT_PATHS];
    for (size_t i = 0; i < KIT_COUNT(packs); i++)
        for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
            const dc_ops ops = kit_ops(paths[p]);
            const int64_t H = packs[i].H, hd = H * packs[i].D, kd = packs[i].K * packs[i].D, t0 = packs[i].cu[1];
            shape single = packs[i];
            single.B = 1, single.cu[1] = packs[i].cu[2] - packs[i].cu[1], single.extra = 0;
            tensors t = tensors_new(&packs[i]), s = tensors_new(&single);
            memcpy(s.q.f, t.q.f + t0 * hd, (size_t)s.q.n * sizeof(float));
            memcpy(s.d_o.f, t.d_o.f + t0 * hd, (size_t)s.q.n * sizeof(float));
            memcpy(s.k.f, t.k.f + t0 * kd, (size_t)s.k.n * sizeof(float));
            memcpy(s.v.f, t.v.f + t0 * kd, (size_t)s.k.n * sizeof(float));
            forward(&ops, &t, &t.a), backward(&ops, &t, &t.a);
            forward(&ops, &s, &s.a), backward(&ops, &s, &s.a);
            kit_same_bits(s.o.f, t.o.f + t0 * hd, s.o.n), kit_same_bits(s.lse.f, t.lse.f + t0 * H, s.lse.n);
            kit_same_bits(s.dq.f, t.dq.f + t0 * hd, s.dq.n);
            kit_same_bits(s.dk.f, t.dk.f + t0 * kd, s.dk.n), kit_same_bits(s.dv.f, t.dv.f + t0 * kd, s.dv.n);
            tensors_free(t), tensors_free(s);
        }
}

static void rows_outside_documents_are_zero(void)
{
    static const shape s = {2, 1, 8, 0, 0, 2, {0, 4, 7}, 3};
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        tensors t = tensors_new(&s);
        for (int64_t i = 7 * 2 * 8; i < t.q.n; i++) t.q.f[i] = t.d_o.f[i] = NAN; /* what is there does not matter */
        forward(&ops, &t, &t.a), backward(&ops, &t, &t.a);
        for (int64_t i = 7 * 2 * 8; i < t.o.n; i++) assert_true(t.o.f[i] == 0 && t.dq.f[i] == 0);
        for (int64_t i = 7 * 8; i < t.dk.n; i++) assert_true(t.dk.f[i] == 0 && t.dv.f[i] == 0);
        for (int64_t i = 7 * 2; i < t.lse.n; i++) assert_true(t.lse.f[i] == 0);
        tensors_free(t);
    }
}

/* A trainer must see a NaN, and scores of hundreds are no reason for one. */
static void nan_and_large_scores(void)
{
    static const shape s = {2, 1, 16, 0, 0, 1, {0, 100}, 0};
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        tensors t = tensors_new(&s);
        for (int64_t i = 0; i < t.q.n; i++) t.q.f[i] *= 200;
        forward(&ops, &t, &t.a), backward(&ops, &t, &t.a);
        for (int64_t i = 0; i < t.o.n; i++) assert_true(fabsf(t.o.f[i]) <= 1.001f && isfinite(t.dq.f[i]));
        t.k.f[40 * 16 + 3] = NAN; /* token 40 */
        forward(&ops, &t, &t.a);
        for (int64_t h = 0; h < 2; h++) assert_true(isnan(t.o.f[(41 * 2 + h) * 16]) && isnan(t.lse.f[99 * 2 + h]));
        for (int64_t i = 0; i < 36 * 2 * 16; i++) assert_true(isfinite(t.o.f[i]));
        tensors_free(t);
    }
}

void test_attn_fwd(void **state)
{
    (void)state;
    forward_equals_oracle();
    rows_outside_documents_are_zero();
    nan_and_large_scores();
}

void test_attn_bwd(void **state)
{
    (void)state;
    oracle_gradient_is_the_derivative();
    backward_equals_oracle();
    faults_are_noticed();
    threads_do_not_change_bits();
    company_does_not_change_bits();
}

/* Sequences in pages: the keys of sequence s at token j, scattered over pages in any order. */
typedef struct cache {
    int64_t S, H, K, D, page, max_pages;
    int32_t cu_new[5], kv_len[4];
    kit_array q, o, k, v; /* k, v: [S * max_pages, page, K, D] */
    const void *kf[64], *vf[64], *kd[64], *vd[64];
} cache;

static cache cache_new(int64_t H, int64_t K, int64_t D, int64_t page)
{
    cache c = {.S = 4, .H = H, .K = K, .D = D, .page = page, .cu_new = {0, 1, 4, 4, 44}, .kv_len = {77, 130, 12, 60}};
    c.max_pages = (130 + page - 1) / page;
    const int64_t n = c.S * c.max_pages, size = page * K * D;
    assert_true(n <= 64);
    c.q = kit_new(44 * H * D, 2), c.o = kit_new(44 * H * D, 9);
    c.k = kit_new(n * size, 2), c.v = kit_new(n * size, 1);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (i * 5 + 3) % n; /* 5 does not divide n = 4 max_pages for the page sizes below */
        c.kf[i] = c.k.f + at * size, c.vf[i] = c.v.f + at * size;
        c.kd[i] = c.k.d + at * size, c.vd[i] = c.v.d + at * size;
    }
    return c;
}

static void decode_equals_oracle(void)
{
    static const int64_t sizes[][4] = {
        {9, 3, 64, 16}, {4, 1, 8, 33}, {2, 2, 20, 50}, {14, 1, 256, 64}, {3, 3, 40, 130}};
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n_paths = kit_all_paths(paths); p < n_paths; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        double worst = 0, fault = INFINITY;
        for (size_t i = 0; i < KIT_COUNT(sizes); i++)
            for (int variant = 0; variant < 3; variant++) {
                cache c = cache_new(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
                dc_attn_kv a = {c.S,
                                c.H,
                                c.K,
                                c.D,
                                c.page,
                                c.max_pages,
                                c.cu_new,
                                c.kv_len,
                                c.kd,
                                c.vd,
                                (float)(1 / sqrt((double)c.D)),
                                variant == 1 ? 10.0f : 0,
                                variant == 2 ? 30 : 0};
                dc_attn_decode_oracle(c.o.d, c.q.d, &a);
                a.k_pages = c.kf, a.v_pages = c.vf;
                ops.attn_decode(NULL, kit_view(c.o), kit_cview(c.q), &a);
                const shape bound = {.D = c.D, .B = 1, .cu = {0, 130}};
                worst = fmax(worst, kit_worst(c.o) / forward_bound(&bound));
                c.kv_len[1]--; /* one position too early */
                ops.attn_decode(NULL, kit_view(c.o), kit_cview(c.q), &a);
                fault = fmin(fault, kit_worst(c.o) / forward_bound(&bound));
                kit_free(c.q), kit_free(c.o), kit_free(c.k), kit_free(c.v);
            }
        print_message("attn_decode path %zu: worst %.3f of the bound, a fault %.0f\n", p, worst, fault);
        assert_true(worst <= 1);
        assert_true(fault > 100);
    }
}

void test_attn_decode(void **state)
{
    (void)state;
    decode_equals_oracle();
}
