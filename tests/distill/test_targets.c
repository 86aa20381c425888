/* tests/distill/test_targets.c -- a row's targets against double precision: draws that converge to the softmax, the greatest entries. */
#include "distill/targets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"
#include "distill/store_private.h"

enum { V = 1000, WIDE = 151936, MOST = 4000 };

typedef struct row {
    dc_target_scratch scratch;
    int32_t ids[MOST];
    float p[MOST];
    dc_row_targets out;
} row;

static dc_store_info info_of(dc_targets kind, int64_t entries, int64_t v, double temperature)
{
    return (dc_store_info){.kind = kind,
                           .n_samples = kind == DC_TARGETS_SAMPLED ? entries : 0,
                           .topk = kind == DC_TARGETS_TOPK ? entries : 0,
                           .temperature = temperature,
                           .vocab_size = v,
                           .seed = 11};
}

static void must(int rc, const dc_error *err)
{
    if (rc) fail_msg("%d: %s", rc, err->message);
}

static row *row_new(const dc_store_info *info)
{
    dc_error err = {0};
    row *r = dc_calloc(1, sizeof *r);
    assert_non_null(r);
    must(dc_target_scratch_new(&r->scratch, info, &err), &err);
    r->out.ids = r->ids, r->out.p = r->p;
    return r;
}

static void row_free(row *r)
{
    dc_target_scratch_release(&r->scratch);
    dc_free(r);
}

static void make(row *r, const float *z, const dc_store_info *info, int64_t doc)
{
    dc_error err = {0};
    must(dc_row_targets_make(&r->out, &r->scratch, z, 3, info, doc, 7, &err), &err);
}

static float *logits(int64_t n, float std)
{
    float *z = dc_malloc((size_t)n * sizeof *z);
    assert_non_null(z);
    dc_rng_normal(z, n, -3, std, 4, DC_RNG_TEST, 0);
    return z;
}

/* The double oracle: probabilities at t, and log of their denominator. */
static double softmax(double *p, const float *z, int64_t n, double t)
{
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, (double)z[i]);
    for (int64_t i = 0; i < n; i++) sum += p[i] = exp(((double)z[i] - top) / t);
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
    return top / t + log(sum);
}

/* Every probability the row's exponentials give, seen through a top-k of the whole vocabulary: exp_below over its whole range. */
static void probabilities_are_accurate(void **state)
{
    (void)state;
    const dc_store_info info = info_of(DC_TARGETS_TOPK, V, V, 1);
    row *r = row_new(&info);
    float z[V];
    double p[V], worst = 0;
    for (int i = 0; i < V; i++) z[i] = -(float)i * 0.0901f; /* down to -90 */
    softmax(p, z, V, 1);
    make(r, z, &info, 0);
    assert_int_equal(r->out.n, V);
    for (int i = 0; i < V; i++) {
        if (z[i] < -87.3f) assert_true(r->p[i] == 0 && p[i] < 2e-38);
        else if (p[i] > 1.2e-38) /* the quotient of the least ones is subnormal */
            worst = fmax(worst, fabs((double)r->p[i] / p[i] - 1));
    }
    assert_true(worst < 4e-7); /* 2e-7 of exp_below, 1.2e-7 of the sum of a block and of the result; measured 1.5e-7 */
    row_free(r);
}

static void figures_equal_the_oracle(void **state)
{
    static const double temperatures[] = {0.25, 0.7, 1, 2, 8};
    (void)state;
    double *p = dc_malloc(WIDE * sizeof *p);
    assert_non_null(p);
    for (int64_t n = V; n <= WIDE; n += WIDE - V) {
        float *z = logits(n, 3);
        for (size_t k = 0; k < sizeof temperatures / sizeof *temperatures; k++) {
            const double t = temperatures[k];
            const dc_store_info info = info_of(DC_TARGETS_TOPK, 20, n, t);
            row *r = row_new(&info);
            make(r, z, &info, 0);
            const double lse = softmax(p, z, n, 1), ce = lse - (double)z[3];
            double entropy = 0, full2 = 0, mass = 0, dot = 0, kept2 = 0;
            softmax(p, z, n, t);
            for (int64_t i = 0; i < n; i++) entropy -= p[i] > 0 ? p[i] * log(p[i]) : 0, full2 += p[i] * p[i];
            for (int64_t i = 0; i < r->out.n; i++) {
                const double kept = (double)r->p[i];
                mass += p[r->ids[i]], dot += p[r->ids[i]] * kept, kept2 += kept * kept;
            }
            assert_true(fabs((double)r->out.logsumexp - lse) < 3e-6 * (1 + fabs(lse)));
            assert_true(fabs((double)r->out.ce - ce) < 3e-6 * (1 + ce));
            assert_true(fabs((double)r->out.entropy - entropy) < 2e-6 * (1 + entropy));
            assert_true(fabs(r->out.full2 - full2) < 3e-6 * full2);
            assert_true(fabs(r->out.mass - mass) < 2e-6 * mass && fabs(r->out.dot - dot) < 2e-6 * dot &&
                        fabs(r->out.kept2 - kept2) < 2e-6 * kept2);
            row_free(r);
        }
        dc_free(z);
    }
    dc_free(p);
}

static const float *sorted_by;

static int greatest_first(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_by[x] < sorted_by[y] || sorted_by[y] < sorted_by[x]) return sorted_by[x] < sorted_by[y] ? 1 : -1;
    return (x > y) - (x < y);
}

static int ascending(const void *a, const void *b) { return *(const int32_t *)a - *(const int32_t *)b; }

static void topk_is_the_head_of_a_sort(void **state)
{
    static const int64_t ks[] = {1, 2, 7, 50, V - 1, V, V + 5};
    (void)state;
    float *z = logits(V, 2);
    for (int ties = 0; ties < 2; ties++) {
        for (int i = 0; ties && i < V; i++) z[i] = roundf(z[i]); /* about twelve values */
        for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
            const dc_store_info info = info_of(DC_TARGETS_TOPK, ks[k], V, 1.3);
            const int64_t n = ks[k] < V ? ks[k] : V;
            double p[V];
            int32_t order[V];
            row *r = row_new(&info);
            make(r, z, &info, 0);
            for (int i = 0; i < V; i++) order[i] = i;
            sorted_by = z;
            qsort(order, V, sizeof *order, greatest_first);
            qsort(order, (size_t)n, sizeof *order, ascending);
            softmax(p, z, V, 1.3);
            assert_int_equal(r->out.n, n);
            assert_memory_equal(r->ids, order, (size_t)n * sizeof *order);
            for (int64_t i = 0; i < n; i++) assert_true(fabs((double)r->p[i] / p[r->ids[i]] - 1) < 1e-6);
            row_free(r);
        }
    }
    dc_free(z);
}

/* The mean of the draws over many rows is the softmax at the temperature: chi-square over ids of which many draws are expected. */
static void draws_converge_to_the_softmax(void **state)
{
    enum { ROWS = 4000, DRAWS = 50 };
    static const double temperatures[] = {0.8, 1, 2};
    (void)state;
    float *z = logits(V, 2.5f);
    for (size_t k = 0; k < sizeof temperatures / sizeof *temperatures; k++) {
        const dc_store_info info = info_of(DC_TARGETS_SAMPLED, DRAWS, V, temperatures[k]);
        double p[V], drawn[V] = {0}, chi = 0, rest_p = 0, rest = 0;
        int cells = 0;
        row *r = row_new(&info);
        softmax(p, z, V, temperatures[k]);
        for (int64_t doc = 0; doc < ROWS; doc++) {
            double sum = 0;
            make(r, z, &info, doc);
            for (int64_t i = 0; i < r->out.n; i++) {
                assert_true(i == 0 || r->ids[i] > r->ids[i - 1]);
                drawn[r->ids[i]] += (double)r->p[i] * DRAWS;
                sum += (double)r->p[i];
            }
            assert_true(fabs(sum - 1) < 1e-5);
        }
        const double total = (double)ROWS * DRAWS;
        for (int i = 0; i < V; i++) {
            if (p[i] * total < 20) {
                rest_p += p[i], rest += drawn[i];
                continue;
            }
            chi += (drawn[i] - p[i] * total) * (drawn[i] - p[i] * total) / (p[i] * total);
            cells++;
        }
        if (rest_p * total > 20) chi += (rest - rest_p * total) * (rest - rest_p * total) / (rest_p * total), cells++;
        /* mean cells - 1, deviation sqrt(2 (cells - 1)): five deviations; draws of temperature 1 judged at 2 score some thousand */
        assert_true(cells > 50);
        if (chi > cells - 1 + 5 * sqrt(2.0 * (cells - 1))) fail_msg("chi-square %g over %d cells", chi, cells);
        row_free(r);
    }
    dc_free(z);
}

static void draws_depend_on_their_key_alone(void **state)
{
    (void)state;
    float *z = logits(WIDE, 3);
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 51, WIDE, 1);
    row *a = row_new(&info), *b = row_new(&info);
    make(a, z, &info, 5);
    make(b, z, &info, 6);
    assert_true(a->out.n != b->out.n || memcmp(a->ids, b->ids, (size_t)a->out.n * sizeof *a->ids) != 0);
    make(b, z, &info, 5); /* whatever the scratch held */
    assert_int_equal(a->out.n, b->out.n);
    assert_memory_equal(a->ids, b->ids, (size_t)a->out.n * sizeof *a->ids);
    assert_memory_equal(a->p, b->p, (size_t)a->out.n * sizeof *a->p);
    dc_store_info other = info;
    other.seed++;
    make(b, z, &other, 5);
    assert_true(a->out.n != b->out.n || memcmp(a->ids, b->ids, (size_t)a->out.n * sizeof *a->ids) != 0);
    row_free(a);
    row_free(b);
    dc_free(z);
}

/* What the store gives back of draws has the same bits. */
static void the_store_keeps_the_bits_of_draws(void **state)
{
    (void)state;
    static const int64_t draws[] = {1, 7, 50, 333, MOST};
    float *z = logits(WIDE, 4);
    for (size_t k = 0; k < sizeof draws / sizeof *draws; k++) {
        const dc_store_info info = info_of(DC_TARGETS_SAMPLED, draws[k], WIDE, 1);
        dc_error err = {0};
        row *r = row_new(&info);
        make(r, z, &info, 1);
        int64_t first[2] = {0, r->out.n};
        dc_store_doc d = {0};
        dc_rows back = {0};
        const dc_rows rows = {
            .M = 1, .first = first, .ids = r->ids, .p = r->p, .entropy = &r->out.entropy, .teacher_ce = &r->out.ce};
        must(dc_store_pack(&d, &rows, NULL, &info, &err), &err);
        must(dc_store_unpack(&back, &d, NULL, &info, "draws", &err), &err);
        assert_int_equal(back.first[1], r->out.n);
        assert_memory_equal(back.ids, r->ids, (size_t)r->out.n * sizeof *r->ids);
        assert_memory_equal(back.p, r->p, (size_t)r->out.n * sizeof *r->p);
        dc_store_doc_release(&d);
        dc_rows_release(&back);
        row_free(r);
    }
    dc_free(z);
}

/* Mass at either end, and in blocks whose others hold none. */
static void a_lone_peak_takes_all_draws(void **state)
{
    static const int64_t places[] = {0, 255, 256, 511, V - 1};
    (void)state;
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50, V, 1);
        float z[V];
        row *r = row_new(&info);
        for (int i = 0; i < V; i++) z[i] = -1000;
        z[places[k]] = 1000;
        make(r, z, &info, 0);
        assert_int_equal(r->out.n, 1);
        assert_int_equal(r->ids[0], places[k]);
        assert_true(r->p[0] >= 1 && r->p[0] <= 1 && r->out.mass >= 1 - 1e-12);
        row_free(r);
    }
}

static void bad_rows_are_refused(void **state)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 5, V, 1);
    float *z = logits(V, 1);
    row *r = row_new(&info);
    for (int at = 0; at < V; at += 333)
        for (size_t k = 0; k < 3; k++) {
            dc_error err = {0};
            const float before = z[at];
            z[at] = values[k];
            assert_int_equal(dc_row_targets_make(&r->out, &r->scratch, z, 3, &info, 12, 7, &err), DC_ENUMERIC);
            assert_non_null(strstr(err.message, "document 12, loss row 7"));
            z[at] = before;
        }
    dc_error err = {0};
    assert_int_equal(dc_row_targets_make(&r->out, &r->scratch, z, V, &info, 12, 7, &err), DC_EMISMATCH);
    assert_int_equal(dc_row_targets_make(&r->out, &r->scratch, z, -1, &info, 12, 7, NULL), DC_EMISMATCH);
    row_free(r);
    dc_free(z);
    int rc = DC_ENOMEM;
    long n = 1;
    for (; rc != DC_OK && n < 20; n++) {
        dc_target_scratch s;
        dc_alloc_fail_at(n);
        rc = dc_target_scratch_new(&s, &info, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK || rc == DC_ENOMEM);
        dc_target_scratch_release(&s);
    }
    assert_true(rc == DC_OK && n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_accurate),      cmocka_unit_test(figures_equal_the_oracle),
        cmocka_unit_test(topk_is_the_head_of_a_sort),      cmocka_unit_test(draws_converge_to_the_softmax),
        cmocka_unit_test(draws_depend_on_their_key_alone), cmocka_unit_test(the_store_keeps_the_bits_of_draws),
        cmocka_unit_test(a_lone_peak_takes_all_draws),     cmocka_unit_test(bad_rows_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
