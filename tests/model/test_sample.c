/* tests/model/test_sample.c -- the next token: greedy, cuts, frequencies, replay. */
#include "model/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { V = 8, DRAWS = 20000 };
/* Probabilities 0.4 (5), 0.3 (0), 0.15 (3), 0.1 (6), 0.05 (1), 0 elsewhere, at temperature 1. */
static const double p[V] = {0.3, 0.05, 0, 0.15, 0, 0.4, 0.1, 0};

static void logits_of(float *z)
{
    for (int i = 0; i < V; i++) z[i] = p[i] > 0 ? (float)log(p[i]) + 2 : -INFINITY;
}

/* Shares of each token over many draws. */
static void draw(double *share, dc_sampler s, const float *z)
{
    int64_t scratch[V];
    memset(share, 0, V * sizeof *share);
    for (uint32_t i = 0; i < DRAWS; i++) share[dc_sample(&s, z, V, i, scratch)] += 1.0 / DRAWS;
}

/* Four standard deviations of a share of 20,000 draws are below 0.0142. */
static void assert_shares(dc_sampler s, const double *want)
{
    float z[V];
    double share[V];
    logits_of(z);
    draw(share, s, z);
    for (int i = 0; i < V; i++) {
        if (want[i] == 0) assert_true(share[i] == 0);
        else assert_true(fabs(share[i] - want[i]) < 0.0142);
    }
}

static void zero_is_greedy(void **unused)
{
    (void)unused;
    int64_t scratch[V];
    const dc_sampler s = {.temperature = 0, .top_p = 1};
    const float tie[V] = {1, 7, NAN, 7, 2, -INFINITY, 7, 0},
                none[V] = {-INFINITY, -INFINITY, NAN, NAN, NAN, NAN, NAN, NAN};
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(dc_sample(&s, tie, V, i, scratch), 1);
    assert_int_equal(dc_sample(&s, none, V, 0, scratch), 0);
    const dc_sampler hot = {.temperature = 1, .top_p = 1};
    assert_int_equal(dc_sample(&hot, none, V, 0, scratch), 0);
}

static void shares_are_the_probabilities(void **unused)
{
    (void)unused;
    assert_shares((dc_sampler){.temperature = 1, .top_p = 1, .seed = 1}, p);
    double squared[V], sum = 0;
    for (int i = 0; i < V; i++) sum += squared[i] = p[i] * p[i];
    for (int i = 0; i < V; i++) squared[i] /= sum;
    assert_shares((dc_sampler){.temperature = 0.5f, .top_p = 1, .seed = 1}, squared);
}

static void cuts_keep_the_best(void **unused)
{
    (void)unused;
    const double two[V] = {[5] = 4.0 / 7, [0] = 3.0 / 7},
                 three[V] = {[5] = 0.4 / 0.85, [0] = 0.3 / 0.85, [3] = 0.15 / 0.85};
    const double one[V] = {[5] = 1};
    assert_shares((dc_sampler){.temperature = 1, .top_p = 1, .top_k = 2}, two);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 1, .top_k = 3}, three);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 1, .top_k = 100}, p);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 0.69f}, two);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 0.71f}, three);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 0}, one);
    /* top_p of what top_k left: 4/7 reaches 0.55, and does not reach 0.6. */
    assert_shares((dc_sampler){.temperature = 1, .top_p = 0.55f, .top_k = 2}, one);
    assert_shares((dc_sampler){.temperature = 1, .top_p = 0.6f, .top_k = 2}, two);
}

/* Of equals the lower id is kept. */
static void ties_are_cut_by_id(void **unused)
{
    (void)unused;
    int64_t scratch[V];
    const float z[V] = {0, 1, 1, 1, 1, 1, 1, 0};
    const dc_sampler s = {.temperature = 1, .top_p = 1, .top_k = 2};
    for (uint32_t i = 0; i < 200; i++) {
        const int32_t id = dc_sample(&s, z, V, i, scratch);
        assert_true(id == 1 || id == 2);
    }
}

static void draws_replay(void **unused)
{
    (void)unused;
    int64_t scratch[V];
    float z[V];
    logits_of(z);
    const dc_sampler a = {.temperature = 1, .top_p = 1, .seed = 1, .key = 4},
                     b = {.temperature = 1, .top_p = 1, .seed = 2, .key = 4},
                     c = {.temperature = 1, .top_p = 1, .seed = 1, .key = 5};
    int other_seed = 0, other_key = 0;
    for (uint32_t i = 0; i < 100; i++) {
        const int32_t id = dc_sample(&a, z, V, i, scratch);
        assert_int_equal(dc_sample(&a, z, V, i, scratch), id);
        other_seed += dc_sample(&b, z, V, i, scratch) != id;
        other_key += dc_sample(&c, z, V, i, scratch) != id;
    }
    assert_true(other_seed > 30 && other_key > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_is_greedy),     cmocka_unit_test(shares_are_the_probabilities),
        cmocka_unit_test(cuts_keep_the_best), cmocka_unit_test(ties_are_cut_by_id),
        cmocka_unit_test(draws_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
