/* tests/kernels/op_loss.c -- cross-entropy and distillation: every path against the double oracle, the oracle against finite differences at
 * temperatures other than 1, and the identities that the targets must obey. */
#include "kit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "kernels/loss.h"

enum { MAX_M = 8 };

/* One call with all that it needs. */
typedef struct fixture {
    kit_array z, teacher, ce, kd, lse;
    int32_t labels[MAX_M], top1[MAX_M], oracle_top1[MAX_M], *ids;
    float w_ce[MAX_M], w_kd[MAX_M], entropy[MAX_M], *p;
    int64_t first[MAX_M + 1];
    dc_loss l;
} fixture;

/* k entries a row, ids spread over V and not in order, with p summing to `mass`; logits uniform in [-8, 8). */
static fixture *fixture_new(dc_kd_kind kind, int64_t M, int64_t V, int64_t k, double mass, float temperature)
{
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    const int64_t ld = V + 3;
    x->z = kit_new(M * ld, 8), x->teacher = kit_new(M * V, 8);
    x->ce = kit_new(M, 9), x->kd = kit_new(M, 9), x->lse = kit_new(M, 9);
    x->ids = malloc((size_t)(M * k + 1) * sizeof *x->ids), x->p = malloc((size_t)(M * k + 1) * sizeof *x->p);
    assert_non_null(x->ids);
    assert_non_null(x->p);
    for (int64_t m = 0; m < M; m++) {
        double total = 0;
        const int64_t at = m * k, from = kit_below(V);
        for (int64_t e = 0; e < k; e++) {
            x->ids[at + e] = (int32_t)((from + (k - 1 - e) * (V / k)) % V);
            total += (double)(x->p[at + e] = (float)(kit_uniform() + 1.1));
        }
        for (int64_t e = 0; e < k; e++) x->p[at + e] *= (float)(mass / total);
        x->first[m + 1] = at + k;
        x->labels[m] = m % 3 == 2 ? -1 : (int32_t)kit_below(V);
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
                     .teacher = x->teacher.f,
                     .ce = x->ce.f,
                     .kd = x->kd.f,
                     .lse = x->lse.f,
                     .top1 = x->top1};
    return x;
}

static void fixture_free(fixture *x)
{
    kit_free(x->z), kit_free(x->teacher), kit_free(x->ce), kit_free(x->kd), kit_free(x->lse);
    free(x->ids), free(x->p), free(x);
}

static void run_oracle(fixture *x)
{
    dc_loss l = x->l;
    l.top1 = x->oracle_top1;
    dc_loss_oracle(x->z.d, x->ce.d, x->kd.d, x->lse.d, &l);
}

/* A weight's relative error is the rounding of its exponent, at most 16 for these logits, and of the exp: 10 eps; sums in double, or in 64
 * steps of a lane, add less. Targets and weights are at most 1, times kd_scale / t; reported values are of the size of
 * log V + 16. Observed worst, as a share: 0.34 for the reference, 0.62 for AVX2; the faults below score 100 times it or more. */
static double gradient_bound(const dc_loss *l)
{
    return 10 * FLT_EPSILON * (1 + (double)l->kd_scale / (double)l->temperature);
}
static double value_bound(const dc_loss *l)
{
    return FLT_EPSILON * (16 + log((double)l->V)) * fmax(1, (double)l->kd_scale);
}

/* The largest error of all results as a share of its bound. */
static double compare(const fixture *x)
{
    double w = kit_worst(x->z) / gradient_bound(&x->l);
    w = fmax(w, fmax(kit_worst(x->ce), fmax(kit_worst(x->kd), kit_worst(x->lse))) / value_bound(&x->l));
    for (int64_t m = 0; m < x->l.M; m++)
        if (x->top1[m] != x->oracle_top1[m]) return INFINITY;
    return w;
}

static const struct {
    int64_t V, k;
    double mass;
} sizes[] = {{1, 1, 1},         {5, 2, 0.6},       {31, 31, 1},    {1003, 17, 0.9},
             {4096, 64, 0.999}, {9001, 5000, 0.8}, {20000, 300, 1}};

static void all_equal_oracle(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    double worst = 0;
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++)
        for (size_t i = 0; i < KIT_COUNT(sizes); i++)
            for (int t = 0; t < 3; t++) {
                fixture *x = fixture_new((dc_kd_kind)kind, 6, sizes[i].V, sizes[i].k, sizes[i].mass,
                                         (const float[]){1, 2, 0.7f}[t]);
                run_oracle(x);
                ops.loss(NULL, x->z.f, &x->l);
                worst = fmax(worst, compare(x));
                fixture_free(x);
            }
    print_message("loss features %x: worst %.3f of the bound\n", features, worst);
    assert_true(worst <= 1);
}

/* Evaluation leaves the logits; results may be asked for one by one; weights may be NULL. */
static void evaluation_leaves_logits(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++) {
        fixture *x = fixture_new((dc_kd_kind)kind, 6, 5001, 20, 0.9, 2);
        kit_array before = kit_like(x->z);
        x->l.no_gradient = 1, x->l.w_ce = x->l.w_kd = NULL;
        ops.loss(NULL, x->z.f, &x->l);
        kit_same_bits(x->z.f, before.f, before.n);
        run_oracle(x);
        x->l.no_gradient = 0;
        assert_true(fmax(kit_worst(x->kd), kit_worst(x->ce)) <= value_bound(&x->l));
        x->l.ce = x->l.kd = x->l.lse = NULL, x->l.top1 = NULL;
        ops.loss(NULL, x->z.f, &x->l); /* no weights: no gradient */
        for (int64_t m = 0; m < x->l.M; m++)
            for (int64_t i = 0; i < x->l.ld; i++)
                assert_true(x->z.f[m * x->l.ld + i] == (i < x->l.V ? 0 : before.f[m * x->l.ld + i]));
        kit_free(before);
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

static void faults_are_noticed(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    for (int kind = DC_KD_SAMPLED; kind <= DC_KD_DENSE; kind++)
        for (int fault = 0; fault < 5; fault++) {
            fixture *x = fixture_new((dc_kd_kind)kind, 6, 1003, 17, 0.9, 2);
            run_oracle(x);
            if (fault == 0) x->l.temperature = 2.01f;
            if (fault == 1) x->l.V--;
            if (fault == 2) x->l.kd_scale = 1;
            if (fault == 3) x->labels[0] = (x->labels[0] + 1) % 1002;
            if (fault == 4) x->ids[0] = (x->ids[0] + 1) % 1002, x->teacher.f[likeliest(x->teacher.f, 1003)] += 0.1f;
            ops.loss(NULL, x->z.f, &x->l);
            x->l.V = 1003, x->l.temperature = 2, x->l.kd_scale = 4;
            assert_true(compare(x) > 10);
            fixture_free(x);
        }
}

/* The sum of all rows' weighted losses as the oracle reports them, from a copy of the logits. */
static double objective(void *context)
{
    fixture *x = context;
    double sum = 0;
    dc_loss l = x->l;
    l.no_gradient = 1, l.top1 = x->oracle_top1;
    dc_loss_oracle(x->z.d, x->ce.d, x->kd.d, x->lse.d, &l);
    for (int64_t m = 0; m < l.M; m++) sum += (double)x->w_ce[m] * x->ce.d[m] + (double)x->w_kd[m] * x->kd.d[m];
    return sum;
}

static void oracle_gradient_is_the_derivative(void)
{
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++)
        for (int t = 0; t < 2; t++)
            for (int mask = 0; mask < 2; mask++) {
                fixture *x = fixture_new((dc_kd_kind)kind, 6, 11, 4, kind == DC_KD_SAMPLED ? 1 : 0.8, t ? 2.5f : 1);
                for (int64_t m = 0; mask && m < 6; m++) { /* one entry, by chance of the sparse list, never the label */
                    const int64_t i = m * x->l.ld + x->ids[4 * m + 1];
                    if (x->labels[m] != x->ids[4 * m + 1]) x->z.d[i] = (double)(x->z.f[i] = -INFINITY);
                }
                kit_array g = kit_like(x->z);
                dc_loss l = x->l;
                l.top1 = NULL;
                dc_loss_oracle(g.d, NULL, NULL, NULL, &l);
                for (int64_t m = 0; m < 6; m++)
                    for (int64_t i = 0; i < 11; i++) {
                        const int64_t at = m * x->l.ld + i;
                        if (isinf(x->z.d[at])) assert_true(g.d[at] == 0);
                        else kit_is_slope(objective, x, &x->z.d[at], g.d[at], 1e-8);
                    }
                kit_free(g);
                fixture_free(x);
            }
}

/* Top-k with all of V listed is the dense loss; its tail is empty. */
static void all_of_v_is_dense(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    enum { V = 500 };
    fixture *a = fixture_new(DC_KD_TOPK_TAIL, 4, V, V, 1, 2), *b = fixture_new(DC_KD_DENSE, 4, V, 1, 1, 2);
    memcpy(b->z.f, a->z.f, (size_t)a->z.n * sizeof(float));
    memcpy(b->labels, a->labels, sizeof a->labels);
    for (int64_t m = 0; m < 4; m++) {
        double sum = 0;
        for (int64_t i = 0; i < V; i++) sum += exp((double)b->teacher.f[m * V + i] / 2);
        for (int64_t e = m * V; e < (m + 1) * V; e++)
            a->p[e] = (float)(exp((double)b->teacher.f[m * V + a->ids[e]] / 2) / sum);
    }
    ops.loss(NULL, a->z.f, &a->l), ops.loss(NULL, b->z.f, &b->l);
    for (int64_t m = 0; m < 4; m++) {
        assert_true(fabs((double)a->kd.f[m] - (double)b->kd.f[m]) <= 2 * value_bound(&a->l));
        for (int64_t i = m * a->l.ld; i < m * a->l.ld + V; i++)
            assert_true(fabs((double)a->z.f[i] - (double)b->z.f[i]) <= 2 * gradient_bound(&a->l));
    }
    fixture_free(a), fixture_free(b);
}

/* A student that says what the teacher says has KD 0 and no gradient: exactly with equal logits, up to rounding when they are shifted or given as
 * top-k with a tail. */
static void match_is_zero(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    enum { V = 3000, K = 40 };
    for (int t = 0; t < 2; t++) {
        fixture *x = fixture_new(DC_KD_DENSE, 2, V, K, 1, t ? 2.0f : 1);
        double sum = 0;
        for (int64_t i = 0; i < V; i++) x->z.f[i] = x->teacher.f[i], x->z.f[x->l.ld + i] = x->teacher.f[V + i] + 1;
        for (int64_t i = 0; i < V; i++) sum += exp((double)x->z.f[i] / (double)x->l.temperature);
        for (int64_t e = 0; e < K; e++)
            x->p[e] = (float)(exp((double)x->z.f[x->ids[e]] / (double)x->l.temperature) / sum);
        kit_array z = kit_like(x->z);
        x->l.w_ce = NULL;
        ops.loss(NULL, x->z.f, &x->l);
        assert_true(x->kd.f[0] == 0 && fabsf(x->kd.f[1]) <= 4e-6f);
        for (int64_t i = 0; i < V; i++) assert_true(x->z.f[i] == 0 && fabsf(x->z.f[x->l.ld + i]) <= 1e-8f);
        x->l.M = 1, x->l.kind = DC_KD_TOPK_TAIL;
        ops.loss(NULL, z.f, &x->l);
        assert_true(fabsf(x->kd.f[0]) <= 1e-6f);
        for (int64_t i = 0; i < V; i++) assert_true(fabsf(z.f[i]) <= 1e-8f);
        kit_free(z);
        fixture_free(x);
    }
}

/* Entries at -inf have no effect: the row with them equals the row without them, for every kind of target. */
static void masked_entries_are_absent(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    enum { V = 777, PAD = 50, K = 20 };
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++) {
        fixture *a = fixture_new((dc_kd_kind)kind, 3, V, K, 0.9, 2);
        fixture *b = fixture_new((dc_kd_kind)kind, 3, V + PAD, K, 0.9, 2);
        memcpy(b->ids, a->ids, sizeof *a->ids * 3 * K), memcpy(b->p, a->p, sizeof *a->p * 3 * K);
        memcpy(b->labels, a->labels, sizeof a->labels);
        for (int64_t m = 0; m < 3; m++)
            for (int64_t i = 0; i < V + PAD; i++) {
                b->z.f[m * b->l.ld + i] = i < V ? a->z.f[m * a->l.ld + i] : -INFINITY;
                if (i < V) b->teacher.f[m * (V + PAD) + i] = a->teacher.f[m * V + i]; /* beyond: any value */
            }
        ops.loss(NULL, a->z.f, &a->l), ops.loss(NULL, b->z.f, &b->l);
        for (int64_t m = 0; m < 3; m++) {
            assert_true(a->top1[m] == b->top1[m] && fabsf(a->kd.f[m] - b->kd.f[m]) <= 1e-5f);
            for (int64_t i = 0; i < V + PAD; i++) {
                const float g = b->z.f[m * b->l.ld + i];
                assert_true(i < V ? fabsf(g - a->z.f[m * a->l.ld + i]) <= 1e-7f : g == 0);
            }
        }
        fixture_free(a), fixture_free(b);
    }
}

/* Rows without a loss, rows that are masked as a whole, a confident student far from its teacher, a NaN, a masked label. */
static void extremes(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++)
        for (int t = 0; t < 2; t++) {
            fixture *x = fixture_new((dc_kd_kind)kind, 6, 300, 7, 0.8, t ? 3.0f : 1);
            const int64_t ld = x->l.ld;
            x->labels[0] = -1, x->w_kd[0] = 0;
            x->labels[1] = -1, x->w_ce[3] = 1;
            for (int64_t i = 0; i < 300; i++) x->z.f[ld + i] = -INFINITY;
            for (int64_t i = 0; i < 300; i++) x->z.f[2 * ld + i] *= 60; /* gaps of hundreds */
            x->z.f[2 * ld + x->ids[14]] = 1000;
            for (int64_t i = 0; i < 300; i++) x->z.f[3 * ld + i] = NAN;
            x->z.f[4 * ld + 5] = NAN;
            x->labels[5] = 9, x->z.f[5 * ld + 9] = -INFINITY; /* no way to say it */
            for (int64_t i = 0; i < x->z.n; i++) x->z.d[i] = (double)x->z.f[i];
            run_oracle(x);
            ops.loss(NULL, x->z.f, &x->l);
            for (int64_t i = 0; i < 300; i++) assert_true(x->z.f[i] == 0 && x->z.f[ld + i] == 0);
            assert_true(x->lse.f[1] == -INFINITY && x->kd.f[1] == 0);
            assert_true(isfinite(x->kd.f[2]) && fabs((double)x->kd.f[2] - x->kd.d[2]) <= 1e-6 * (1 + fabs(x->kd.d[2])));
            for (int64_t i = 2 * ld; i < 2 * ld + 300; i++)
                assert_true(fabs((double)x->z.f[i] - x->z.d[i]) <= 20 * gradient_bound(&x->l));
            for (int64_t m = 3; m < 5; m++) assert_true(isnan(x->lse.f[m]));
            assert_true(isnan(x->z.f[3 * ld + 7]) && isnan(x->z.f[4 * ld + 7]));
            assert_true(x->ce.f[5] == INFINITY && x->z.f[5 * ld + 9] == 0 && isfinite(x->z.f[5 * ld + 8]));
            fixture_free(x);
        }
}

/* Nearly all mass in the k entries: q_tail is 1e-12 of the whole, and its share of the gradient must still be right to a few roundings. */
static void small_tails_do_not_cancel(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    fixture *x = fixture_new(DC_KD_TOPK_TAIL, 2, 2000, 5, 0.75, 1);
    x->l.w_ce = NULL;
    for (int64_t m = 0; m < 2; m++)
        for (int64_t e = 0; e < 5; e++) {
            const int64_t at = m * x->l.ld + x->ids[m * 5 + e];
            x->z.d[at] = (double)(x->z.f[at] += m ? 38 : 60);
        }
    run_oracle(x);
    ops.loss(NULL, x->z.f, &x->l);
    for (int64_t m = 0; m < 2; m++) {
        assert_true(fabs((double)x->kd.f[m] - x->kd.d[m]) <= 1e-6 * x->kd.d[m]);
        for (int64_t i = m * x->l.ld; i < m * x->l.ld + x->l.V; i++)
            assert_true(fabs((double)x->z.f[i] - x->z.d[i]) <= 2e-6 * fabs(x->z.d[i]) + 1e-9);
    }
    fixture_free(x);
}

/* The largest vocabulary in use: values to 1e-6 of themselves; equal logits give the lowest id. */
static void large_vocabulary(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    for (int kind = DC_KD_TOPK_TAIL; kind <= DC_KD_DENSE; kind++) {
        fixture *x = fixture_new((dc_kd_kind)kind, 2, 151936, 64, 0.7, 2);
        x->l.kd_scale = 1;
        for (int64_t m = 0; m < 2; m++)
            for (int i = 0; i < 3; i++) {
                const int64_t at = m * x->l.ld + (const int64_t[]){60000, 70007, 140000}[i];
                x->z.d[at] = (double)(x->z.f[at] = 8.5f);
            }
        x->ids[7] = 60000, x->ids[64 + 7] = 70007; /* the lowest of equals is in the list, and outside */
        run_oracle(x);
        ops.loss(NULL, x->z.f, &x->l);
        for (int64_t m = 0; m < 2; m++) {
            assert_int_equal(x->top1[m], 60000);
            assert_true(fabs((double)x->lse.f[m] - x->lse.d[m]) <= 1e-6 * x->lse.d[m]);
            assert_true(fabs((double)x->ce.f[m] - x->ce.d[m]) <= 1e-6 * x->lse.d[m]);
            assert_true(fabs((double)x->kd.f[m] - x->kd.d[m]) <= 1e-6 * fmax(x->kd.d[m], 1));
        }
        fixture_free(x);
    }
}

static void threads_and_company_do_not_change_bits(unsigned features)
{
    const dc_ops ops = kit_ops(features);
    for (int kind = DC_KD_NONE; kind <= DC_KD_DENSE; kind++) {
        fixture *x = fixture_new((dc_kd_kind)kind, 6, 5003, 30, 0.9, 2);
        kit_array one = kit_like(x->z), last = kit_like(x->z);
        dc_pool_set_threads(1);
        ops.loss(NULL, one.f, &x->l);
        kit_array kd = kit_like(x->kd);
        dc_pool_set_threads(2);
        ops.loss(NULL, x->z.f, &x->l);
        kit_same_bits(x->z.f, one.f, one.n);
        kit_same_bits(x->kd.f, kd.f, kd.n);
        dc_loss l = x->l; /* row 4 alone */
        l.M = 1, l.labels += 4, l.w_ce += 4, l.w_kd += 4, l.first += 4, l.entropy += 4, l.teacher += 4 * l.V;
        ops.loss(NULL, last.f + 4 * l.ld, &l);
        kit_same_bits(last.f + 4 * l.ld, one.f + 4 * l.ld, l.V);
        kit_same_bits(x->kd.f, kd.f + 4, 1);
        kit_free(one), kit_free(last), kit_free(kd);
        fixture_free(x);
    }
    dc_pool_set_threads(0);
}

void test_loss(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    oracle_gradient_is_the_derivative();
    for (size_t p = 0, n = kit_all_paths(paths); p < n; p++) {
        all_equal_oracle(paths[p]);
        evaluation_leaves_logits(paths[p]);
        faults_are_noticed(paths[p]);
        all_of_v_is_dense(paths[p]);
        match_is_zero(paths[p]);
        masked_entries_are_absent(paths[p]);
        extremes(paths[p]);
        small_tails_do_not_cancel(paths[p]);
        large_vocabulary(paths[p]);
        threads_and_company_do_not_change_bits(paths[p]);
    }
}
