/* tests/cuda/op_loss_cuda.c -- cross-entropy and distillation on CUDA against the double oracle, and the identities that the targets must
 * obey. The sizes stand on both sides of a part (8,192 logits, kernels/loss_cuda.cu), rows aligned to 16 bytes and not. */
#include "cuda_kit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/loss.h"

enum { MAX_M = 8 };

/* One call with all that it needs, on the host; l points here. */
typedef struct fixture {
    dc_dev *dev;
    int64_t n, k; /* logits with their gaps, entries in all */
    double *z;    /* [n], each a float's value */
    float *teacher, *p;
    int32_t *ids, labels[MAX_M];
    float w_ce[MAX_M], w_kd[MAX_M], entropy[MAX_M];
    int64_t first[MAX_M + 1];
    dc_loss l;
    /* the device's, and the oracle's */
    double *g, *want_g, ce[MAX_M], kd[MAX_M], lse[MAX_M], want_ce[MAX_M], want_kd[MAX_M], want_lse[MAX_M];
    int32_t top1[MAX_M], want_top1[MAX_M];
} fixture;

static void *need(size_t bytes)
{
    void *p = calloc(bytes, 1);
    assert_non_null(p);
    return p;
}

/* Where the results go is set by call(); these only say which are wanted. */
static void want_all(fixture *x) { x->l.ce = x->l.kd = x->l.lse = x->w_ce, x->l.top1 = x->labels; }

/* k entries a row, ids spread over V and not in order, with p summing to `mass`; logits uniform in [-8, 8). */
static fixture *fixture_new(dc_dev *dev, dc_kd_kind kind, int64_t M, int64_t V, int64_t k, double mass,
                            float temperature)
{
    fixture *x = need(sizeof *x);
    const int64_t ld = V % 8192 ? V + 3 : V + 4;
    x->dev = dev, x->n = M * ld, x->k = M * k;
    x->z = need((size_t)x->n * sizeof *x->z), x->teacher = need((size_t)(M * V) * sizeof *x->teacher);
    x->g = need((size_t)x->n * sizeof *x->g), x->want_g = need((size_t)x->n * sizeof *x->want_g);
    x->ids = need((size_t)x->k * sizeof *x->ids), x->p = need((size_t)x->k * sizeof *x->p);
    for (int64_t i = 0; i < x->n; i++) x->z[i] = (double)(float)(8 * ck_uniform());
    for (int64_t i = 0; kind == DC_KD_DENSE && i < M * V; i++) x->teacher[i] = (float)(8 * ck_uniform());
    for (int64_t m = 0; m < M; m++) {
        double total = 0;
        const int64_t at = m * k, from = ck_below(V);
        for (int64_t e = 0; e < k; e++) {
            x->ids[at + e] = (int32_t)((from + (k - 1 - e) * (V / k)) % V);
            total += (double)(x->p[at + e] = (float)(ck_uniform() + 1.1));
        }
        for (int64_t e = 0; e < k; e++) x->p[at + e] *= (float)(mass / total);
        x->first[m + 1] = at + k;
        x->labels[m] = m % 3 == 2 ? -1 : (int32_t)ck_below(V);
        x->w_ce[m] = m % 4 == 3 ? 0 : 0.7f, x->w_kd[m] = m % 5 == 4 ? 0 : 0.6f;
        x->entropy[m] = m % 2 ? NAN : 1.5f;
    }
    x->l = (dc_loss){.M = M,
                     .V = V,
                     .ld = ld,
                     .labels = x->labels,
                     .w_ce = x->w_ce,
                     .w_kd = x->w_kd,
                     .kind = kind,
                     .temperature = temperature,
                     .kd_scale = temperature * temperature,
                     .first = x->first,
                     .ids = x->ids,
                     .p = x->p,
                     .entropy = x->entropy,
                     .teacher = x->teacher};
    want_all(x);
    return x;
}

static void fixture_free(fixture *x)
{
    free(x->z), free(x->teacher), free(x->g), free(x->want_g), free(x->ids), free(x->p), free(x);
}

/* The logit of row m with number i. */
static double *logit(fixture *x, int64_t m, int64_t i) { return &x->z[m * x->l.ld + i]; }

static void run_oracle(fixture *x)
{
    dc_loss l = x->l;
    l.top1 = x->want_top1;
    memcpy(x->want_g, x->z, (size_t)x->n * sizeof *x->z);
    dc_loss_oracle(x->want_g, x->want_ce, x->want_kd, x->want_lse, &l);
}

static void *room(dc_dev *dev, size_t bytes)
{
    void *p = NULL;
    dc_error err = {0};
    if (dc_dev_alloc(dev, &p, bytes, "a test's array", &err)) fail_msg("%s", err.message);
    return p;
}

static ck_array put(dc_dev *dev, const float *values, int64_t n)
{
    double *d = need((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)values[i];
    const ck_array a = ck_from(dev, DC_F32, n, d);
    free(d);
    return a;
}

/* Results that are not asked for must not come. */
static void take(ck_array a, int wanted, double *out)
{
    ck_get(a, out);
    if (!wanted) assert_true(ck_worst(a) == 0);
    ck_free(a);
}

/* x->l on the device: logits and inputs from x, gradient and results to x. Inputs must stay as they are. */
static void call(fixture *x)
{
    dc_dev *dev = x->dev;
    dc_loss l = x->l;
    const int64_t M = l.M, V = l.kind == DC_KD_DENSE ? l.V : 1;
    ck_array z = ck_from(dev, DC_F32, x->n, x->z), teacher = put(dev, x->teacher, M * V), p = put(dev, x->p, x->k);
    ck_array w_ce = put(dev, x->w_ce, M), w_kd = put(dev, x->w_kd, M), entropy = put(dev, x->entropy, M);
    ck_array ce = ck_new(dev, DC_F32, M, 9), kd = ck_new(dev, DC_F32, M, 9), lse = ck_new(dev, DC_F32, M, 9);
    int32_t *labels = ck_ints(dev, x->labels, M), *ids = ck_ints(dev, x->ids, x->k), *top1 = ck_ints(dev, x->top1, M);
    int64_t *first = room(dev, sizeof x->first);
    dc_dev_upload(dev, first, x->first, sizeof x->first);
    l.labels = l.labels ? labels : NULL;
    l.w_ce = l.w_ce ? w_ce.data : NULL, l.w_kd = l.w_kd ? w_kd.data : NULL, l.entropy = l.entropy ? entropy.data : NULL;
    l.first = first, l.ids = ids, l.p = p.data, l.teacher = teacher.data;
    l.ce = l.ce ? ce.data : NULL, l.kd = l.kd ? kd.data : NULL, l.lse = l.lse ? lse.data : NULL;
    l.top1 = l.top1 ? top1 : NULL;
    dev->op.loss(dev, z.data, &l);
    ck_get(z, x->g);
    dc_dev_download(dev, x->top1, top1, (size_t)M * sizeof *top1);
    take(ce, l.ce != NULL, x->ce), take(kd, l.kd != NULL, x->kd), take(lse, l.lse != NULL, x->lse);
    assert_true(fmax(ck_worst(teacher), ck_worst(p)) == 0);
    ck_free(z), ck_free(teacher), ck_free(p), ck_free(w_ce), ck_free(w_kd), ck_free(entropy);
    ck_free_ints(dev, labels), ck_free_ints(dev, ids), ck_free_ints(dev, top1);
    dc_dev_free(dev, first);
}

/* A weight's relative error: what the rounding of its exponent takes, at most 16 for these logits, 8 eps; ex2 with its correction 2.5 on a
 * card, 1 emulated; a sum 5 (loss_cuda.cu); factors, products and their sum 1.5. Reported values are of the size of log V + 16. Observed
 * worst, emulated, as a share: 0.55 of a gradient, 0.48 of a value; the faults below score 100 times the bound or more. */
enum { WEIGHT_EPS = 17 };

static double value_bound(const dc_loss *l)
{
    return FLT_EPSILON * (16 + log((double)l->V)) * fmax(1, (double)l->kd_scale);
}

/* The largest |a - b|; infinity when one alone is NaN. */
static double apart(const double *a, const double *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(a[i]) != isnan(b[i])) return INFINITY;
        if (!isnan(a[i]) && a[i] != b[i]) worst = fmax(worst, fabs(a[i] - b[i]));
    }
    return worst;
}

/* log sum exp(z / t) of n logits. */
static double lse_at(const double *z, int64_t n, double t)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) max = fmax(max, z[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((z[i] - max) / t);
    return max / t + log(sum);
}

/* The worst error of row m's gradient as a share of WEIGHT_EPS of what it is made of: q, and targets no larger than q and gradient together. */
static double gradient_share(const fixture *x, int64_t m)
{
    const dc_loss *l = &x->l;
    const double t = (double)l->temperature, *z = x->z + m * l->ld, *g = x->g + m * l->ld,
                 *want = x->want_g + m * l->ld;
    const double lse = lse_at(z, l->V, 1), lse_t = lse_at(z, l->V, t);
    const double w_ce = l->w_ce ? (double)l->w_ce[m] : 0, w_kd = l->w_kd ? (double)(l->w_kd[m] * l->kd_scale) / t : 0;
    double worst = 0;
    for (int64_t i = 0; i < l->V; i++) {
        const double made_of = fabs(want[i]) + 2 * (w_ce * exp(z[i] - lse) + w_kd * exp(z[i] / t - lse_t));
        if (isnan(g[i])) return INFINITY;
        worst = fmax(worst, fabs(g[i] - want[i]) / (WEIGHT_EPS * FLT_EPSILON * made_of + FLT_MIN));
    }
    return worst;
}

/* The largest error of all results as a share of its bound. */
static double compare(const fixture *x)
{
    const int64_t M = x->l.M, gap = x->l.ld - x->l.V;
    double w = apart(x->ce, x->want_ce, M) / value_bound(&x->l);
    w = fmax(w, apart(x->kd, x->want_kd, M) / value_bound(&x->l));
    w = fmax(w, apart(x->lse, x->want_lse, M) / value_bound(&x->l));
    for (int64_t m = 0; m < M && !x->l.no_gradient; m++) w = fmax(w, gradient_share(x, m));
    for (int64_t m = 1; m <= M; m++)
        if (apart(x->g + m * x->l.ld - gap, x->z + m * x->l.ld - gap, gap) != 0) return INFINITY;
    return memcmp(x->top1, x->want_top1, (size_t)M * sizeof *x->top1) ? INFINITY : w;
}

static void equals_oracle(dc_dev *dev)
{
    static const struct {
        int64_t M, V, k;
        double mass;
    } sizes[] = {{6, 1, 1, 1},         {6, 7, 2, 0.6},        {3, 31, 31, 1},
                 {6, 512, 17, 0.9},    {6, 1000, 64, 0.999},  {6, 8192, 300, 0.99},
                 {3, 8193, 5000, 0.8}, {5, 16383, 1000, 0.5}, {2, 49152, 300, 1}};
    double worst = 0;
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++)
        for (size_t i = 0; i < CK_COUNT(sizes); i++)
            for (int t = 0; t < 3; t++) {
                fixture *x = fixture_new(dev, (dc_kd_kind)kind, sizes[i].M, sizes[i].V, sizes[i].k, sizes[i].mass,
                                         (const float[]){1, 2, 0.5f}[t]);
                run_oracle(x);
                call(x);
                worst = fmax(worst, compare(x));
                fixture_free(x);
            }
    print_message("loss: worst %.3f of the bound\n", worst);
    assert_true(worst <= 1);
}

/* Evaluation leaves the logits; results may be asked for one by one; weights, labels and entropies may be NULL. */
static void evaluation_leaves_logits(dc_dev *dev)
{
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++) {
        fixture *x = fixture_new(dev, (dc_kd_kind)kind, 6, 9001, 20, 0.9, 2);
        x->l.no_gradient = 1, x->l.w_ce = x->l.w_kd = NULL;
        if (kind == DC_KD_SAMPLED) x->l.entropy = NULL;
        run_oracle(x);
        call(x);
        assert_true(apart(x->g, x->z, x->n) == 0);
        assert_true(compare(x) <= 1);
        x->l.no_gradient = 0;
        for (int one = 0; one < 5; one++) {
            want_all(x);
            if (one != 0) x->l.ce = NULL;
            if (one != 1) x->l.kd = NULL;
            if (one != 2) x->l.lse = NULL;
            if (one != 3) x->l.top1 = NULL;
            if (one == 4) x->l.labels = NULL;
            memset(x->top1, 7, sizeof x->top1);
            call(x);
            if (one == 0) assert_true(apart(x->ce, x->want_ce, 6) <= value_bound(&x->l));
            if (one == 1) assert_true(apart(x->kd, x->want_kd, 6) <= value_bound(&x->l));
            if (one == 2) assert_true(apart(x->lse, x->want_lse, 6) <= value_bound(&x->l));
            for (int64_t m = 0; m < 6; m++) {
                assert_int_equal(x->top1[m], one == 3 ? x->want_top1[m] : 0x07070707);
                for (int64_t i = 0; i < x->l.ld; i++) /* no weights: no gradient */
                    assert_true(x->g[m * x->l.ld + i] == (i < x->l.V ? 0 : *logit(x, m, i)));
            }
        }
        fixture_free(x);
    }
}

static int64_t likeliest(const float *z, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

static void faults_are_noticed(dc_dev *dev)
{
    enum { V = 10007 };
    for (int kind = DC_KD_SAMPLED; kind <= DC_KD_DENSE; kind++)
        for (int fault = 0; fault < 6; fault++) {
            fixture *x = fixture_new(dev, (dc_kd_kind)kind, 6, V, 17, 0.9, 2);
            x->z[V - 1] = 7; /* in row 0: what a fault loses must be there */
            run_oracle(x);
            if (fault == 0) x->l.temperature = 2.01f;
            if (fault == 1) x->l.V--, x->labels[0] = 0;
            if (fault == 2) x->l.kd_scale = 1;
            if (fault == 3) x->labels[0] = (x->labels[0] + 1) % (V - 1);
            if (fault == 4) x->ids[0] = (x->ids[0] + 1) % (V - 1), x->teacher[likeliest(x->teacher, V)] += 0.5f;
            if (fault == 5) x->w_ce[1] *= 1.001f;
            call(x);
            x->l.V = V, x->l.temperature = 2, x->l.kd_scale = 4;
            assert_true(compare(x) > 100);
            fixture_free(x);
        }
}

/* Top-k with all of V listed is the dense loss; its tail is empty. */
static void all_of_v_is_dense(dc_dev *dev)
{
    enum { V = 8500 };
    fixture *a = fixture_new(dev, DC_KD_TOPK_TAIL, 4, V, V, 1, 2), *b = fixture_new(dev, DC_KD_DENSE, 4, V, 1, 1, 2);
    memcpy(b->z, a->z, (size_t)a->n * sizeof *a->z);
    memcpy(b->labels, a->labels, sizeof a->labels);
    for (int64_t m = 0; m < 4; m++) {
        double sum = 0;
        for (int64_t i = 0; i < V; i++) sum += exp((double)b->teacher[m * V + i] / 2);
        for (int64_t e = m * V; e < (m + 1) * V; e++)
            a->p[e] = (float)(exp((double)b->teacher[m * V + a->ids[e]] / 2) / sum);
    }
    call(a), call(b);
    assert_true(apart(a->kd, b->kd, 4) <= 2 * value_bound(&a->l));
    memcpy(a->want_g, b->g, (size_t)a->n * sizeof *b->g), memcpy(a->z, b->z, (size_t)a->n * sizeof *b->z);
    for (int64_t m = 0; m < 4; m++) assert_true(gradient_share(a, m) <= 2);
    fixture_free(a), fixture_free(b);
}

/* A student that says what the teacher says has KD 0 and no gradient: exactly with equal logits, up to rounding when they are shifted or given as
 * top-k with a tail. */
static void match_is_zero(dc_dev *dev)
{
    enum { V = 9000, K = 40 };
    for (int t = 0; t < 2; t++) {
        fixture *x = fixture_new(dev, DC_KD_DENSE, 2, V, K, 1, t ? 2.0f : 1);
        double sum = 0;
        for (int64_t i = 0; i < V; i++) {
            *logit(x, 0, i) = (double)x->teacher[i];
            *logit(x, 1, i) = (double)(x->teacher[V + i] + 1);
            sum += exp(*logit(x, 0, i) / (double)x->l.temperature);
        }
        for (int64_t e = 0; e < K; e++)
            x->p[e] = (float)(exp(*logit(x, 0, x->ids[e]) / (double)x->l.temperature) / sum);
        x->l.w_ce = NULL;
        call(x);
        assert_true(x->kd[0] == 0 && fabs(x->kd[1]) <= 4e-6);
        for (int64_t i = 0; i < V; i++) assert_true(x->g[i] == 0 && fabs(x->g[x->l.ld + i]) <= 1e-8);
        x->l.M = 1, x->l.kind = DC_KD_TOPK_TAIL;
        call(x);
        assert_true(fabs(x->kd[0]) <= 1e-6);
        for (int64_t i = 0; i < V; i++) assert_true(fabs(x->g[i]) <= 1e-8);
        fixture_free(x);
    }
}

/* Entries at -inf have no effect: the row with them, a part of nothing else included, equals the row without them. */
static void masked_entries_are_absent(dc_dev *dev)
{
    enum { V = 777, PAD = 16000, K = 20 };
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++) {
        fixture *a = fixture_new(dev, (dc_kd_kind)kind, 3, V, K, 0.9, 2);
        fixture *b = fixture_new(dev, (dc_kd_kind)kind, 3, V + PAD, K, 0.9, 2);
        memcpy(b->ids, a->ids, sizeof *a->ids * 3 * K), memcpy(b->p, a->p, sizeof *a->p * 3 * K);
        memcpy(b->labels, a->labels, sizeof a->labels);
        for (int64_t m = 0; m < 3; m++) {
            for (int64_t i = 0; i < V + PAD; i++) *logit(b, m, i) = i < V ? *logit(a, m, i) : -INFINITY;
            memcpy(b->teacher + m * (V + PAD), a->teacher + m * V, V * sizeof *a->teacher); /* beyond: any value */
        }
        call(a), call(b);
        assert_memory_equal(a->top1, b->top1, 3 * sizeof *a->top1);
        assert_true(apart(a->kd, b->kd, 3) <= 1e-5);
        for (int64_t m = 0; m < 3; m++) {
            assert_true(apart(a->g + m * a->l.ld, b->g + m * b->l.ld, V) <= 1e-7);
            for (int64_t i = V; i < V + PAD; i++) assert_true(b->g[m * b->l.ld + i] == 0);
        }
        fixture_free(a), fixture_free(b);
    }
}

/* Rows without a loss, rows and a teacher that are masked as a whole, a confident student far from its teacher, logits of 10^4, a NaN, a
 * masked label, a masked target. */
static void extremes(dc_dev *dev)
{
    enum { V = 8300, K = 7 };
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++)
        for (int t = 0; t < 2; t++) {
            fixture *x = fixture_new(dev, (dc_kd_kind)kind, 8, V, K, 0.8, t ? 3.0f : 1);
            x->labels[0] = -1, x->w_kd[0] = 0;
            x->labels[1] = -1, x->w_ce[3] = 1;
            for (int64_t i = 0; i < V; i++) {
                *logit(x, 1, i) = -INFINITY;
                *logit(x, 2, i) *= 60; /* gaps of hundreds */
                *logit(x, 3, i) = NAN;
                x->teacher[5 * V + i] = -INFINITY;
                *logit(x, 7, i) = i % 2 ? 1e4 + (double)(i % 8) : -1e4;
            }
            *logit(x, 2, x->ids[2 * K]) = 1000;
            *logit(x, 4, 5) = NAN;
            x->labels[5] = 9, *logit(x, 5, 9) = -INFINITY; /* no way to say it */
            *logit(x, 6, x->ids[6 * K + 1]) = -INFINITY;
            x->teacher[6 * V + x->ids[6 * K + 1]] = 1000; /* what it says of a masked entry */
            run_oracle(x);
            call(x);
            for (int64_t i = 0; i < V; i++) assert_true(x->g[i] == 0 && x->g[x->l.ld + i] == 0);
            assert_true(x->lse[1] == -INFINITY && x->kd[1] == 0 && x->top1[1] == 0);
            for (int64_t m = 2; m < 8; m++) {
                const int64_t at = m * x->l.ld;
                if (m == 3 || m == 4) {
                    assert_true(isnan(x->lse[m]) && isnan(x->g[at + 7]) && isnan(x->g[at + V - 1]));
                    assert_int_equal(x->top1[m], x->want_top1[m]);
                    continue;
                }
                assert_true(fabs(x->kd[m] - x->want_kd[m]) <= 1e-6 * (1 + fabs(x->want_kd[m])));
                assert_true(fabs(x->lse[m] - x->want_lse[m]) <= 1e-6 * (1 + fabs(x->want_lse[m])));
                assert_true(apart(x->g + at, x->want_g + at, V) <=
                            WEIGHT_EPS * FLT_EPSILON * (double)(1 + x->l.kd_scale));
            }
            assert_true(x->ce[5] == INFINITY && x->g[5 * x->l.ld + 9] == 0);
            fixture_free(x);
        }
}

/* Nearly all mass in the k entries: q_tail is 1e-12 of the whole (row 0: 1e-22, beyond where its exps would vanish), and its share of the
 * gradient must still be right to a few roundings. */
static void small_tails_do_not_cancel(dc_dev *dev)
{
    fixture *x = fixture_new(dev, DC_KD_TOPK_TAIL, 2, 20000, 5, 0.75, 1);
    x->l.w_ce = NULL;
    for (int64_t m = 0; m < 2; m++)
        for (int64_t e = 0; e < 5; e++) {
            double *z = logit(x, m, x->ids[m * 5 + e]);
            *z = (double)(float)(*z + (m ? 38 : 60));
        }
    run_oracle(x);
    call(x);
    for (int64_t m = 0; m < 2; m++) {
        assert_true(fabs(x->kd[m] - x->want_kd[m]) <= 1e-6 * x->want_kd[m]);
        for (int64_t i = m * x->l.ld; i < m * x->l.ld + x->l.V; i++)
            assert_true(fabs(x->g[i] - x->want_g[i]) <= 2e-6 * fabs(x->want_g[i]) + 1e-9);
    }
    fixture_free(x);
}

/* A row without entries has no sampled target, and a top-k target that is all tail. */
static void rows_without_entries(dc_dev *dev)
{
    for (int kind = DC_KD_SAMPLED; kind <= DC_KD_TOPK_TAIL; kind++) {
        fixture *x = fixture_new(dev, (dc_kd_kind)kind, 3, 9001, 6, 0.9, 2);
        x->first[1] = 0, x->first[2] = 6, x->first[3] = 6;
        run_oracle(x);
        call(x);
        assert_true(compare(x) <= 1);
        assert_true(fabs(x->kd[0]) <= 2e-6 && fabs(x->kd[2]) <= 2e-6 && x->kd[1] > 0.1);
        fixture_free(x);
    }
}

/* The largest vocabulary in use: values to 1e-6 of themselves; equal logits give the lowest id. */
static void large_vocabulary(dc_dev *dev)
{
    for (int kind = DC_KD_TOPK_TAIL; kind <= DC_KD_DENSE; kind++) {
        fixture *x = fixture_new(dev, (dc_kd_kind)kind, 2, 151936, 64, 0.7, 2);
        x->l.kd_scale = 1;
        for (int64_t m = 0; m < 2; m++)
            for (int i = 0; i < 3; i++) *logit(x, m, (const int64_t[]){60000, 60003, 140000}[i]) = 8.5;
        x->ids[7] = 60000, x->ids[64 + 7] = 60003; /* the lowest of equals is in the list, and outside */
        run_oracle(x);
        call(x);
        for (int64_t m = 0; m < 2; m++) {
            assert_int_equal(x->top1[m], 60000);
            assert_true(fabs(x->lse[m] - x->want_lse[m]) <= 1e-6 * x->want_lse[m]);
            assert_true(fabs(x->ce[m] - x->want_ce[m]) <= 1e-6 * x->want_lse[m]);
            assert_true(fabs(x->kd[m] - x->want_kd[m]) <= 1e-6 * fmax(x->want_kd[m], 1));
        }
        for (int64_t m = 0; m < 2; m++) assert_true(gradient_share(x, m) <= 1);
        fixture_free(x);
    }
}

/* More rows than one slice has (32 MiB of logits: 55), all alike: each has the bits of a row alone. */
static void company_does_not_change_bits(dc_dev *dev)
{
    enum { M = 57, V = 151936, ROW = V * sizeof(float) };
    float *row = need(ROW), *alone = need(ROW), lse[M], weights[M];
    int32_t labels[M];
    char *logits = room(dev, (size_t)M * ROW);
    for (int64_t i = 0; i < V; i++) row[i] = (float)(8 * ck_uniform());
    for (int m = 0; m < M; m++) weights[m] = 0.7f, labels[m] = 70001;
    ck_array w_ce = put(dev, weights, M), out = put(dev, weights, M);
    int32_t *label = ck_ints(dev, labels, M);
    dc_loss l = {.V = V, .ld = V, .labels = label, .w_ce = w_ce.data, .temperature = 1, .kd_scale = 1, .lse = out.data};
    for (l.M = 1; l.M <= M; l.M += M - 1) {
        for (int64_t m = 0; m < l.M; m++) dc_dev_upload(dev, logits + m * ROW, row, ROW);
        dev->op.loss(dev, (float *)logits, &l);
        if (l.M == 1) dc_dev_download(dev, alone, logits, ROW);
    }
    for (int64_t m = 0; m < M; m += 7) {
        dc_dev_download(dev, row, logits + m * ROW, ROW);
        assert_memory_equal(row, alone, ROW);
    }
    dc_dev_download(dev, lse, out.data, sizeof lse);
    for (int m = 1; m < M; m++) assert_true(lse[m] == lse[0]);
    ck_free(w_ce), ck_free(out), ck_free_ints(dev, label);
    dc_dev_free(dev, logits);
    free(row), free(alone);
}

void cuda_test_loss(dc_dev *dev)
{
    if (dev->activation != DC_F32) skip(); /* logits and their gradient are float on every device: once is enough */
    equals_oracle(dev);
    evaluation_leaves_logits(dev);
    faults_are_noticed(dev);
    all_of_v_is_dense(dev);
    match_is_zero(dev);
    masked_entries_are_absent(dev);
    extremes(dev);
    small_tails_do_not_cancel(dev);
    rows_without_entries(dev);
    large_vocabulary(dev);
    company_does_not_change_bits(dev);
}
