/* tests/core/test_rng.c -- Philox by its published answers, distributions, and permutations that are ones. */
#include "core/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* kat_vectors of the Random123 distribution, philox4x32 with 10 rounds: counter words c0..c3 are a's halves, b and the
 * stream; key words are the seed's halves. */
static void known_answers(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t seed, a;
        uint32_t stream, b, out[4];
    } kat[] = {
        {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x85a308d3243f6a88,
         0x03707344,
         0x13198a2e,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        dc_rng_u32x4(out, kat[i].seed, kat[i].stream, kat[i].a, kat[i].b);
        assert_memory_equal(out, kat[i].out, sizeof out);
    }
}

static void unit_intervals(void **unused)
{
    (void)unused;
    assert_true(dc_rng_f32(0) == 0.0f);
    assert_true(dc_rng_f32(UINT32_MAX) == 1.0f - 0x1p-24f);
    assert_true(dc_rng_f64(0, 0) == 0.0);
    assert_true(dc_rng_f64(UINT32_MAX, UINT32_MAX) == 1.0 - 0x1p-53);
}

enum { N = 200000 };
static float x[N], y[N];

typedef void fill_fn(float *x, int64_t n, float p, float q, uint64_t seed, uint32_t stream, uint32_t b);

static void element_depends_on_its_index_alone(fill_fn *fill)
{
    fill(x, 1000, 0, 1, 42, DC_RNG_TEST, 7);
    for (int64_t n = 0; n < 20; n++) {
        for (int64_t i = 0; i < 24; i++) y[i] = -77;
        fill(y, n, 0, 1, 42, DC_RNG_TEST, 7);
        assert_memory_equal(x, y, (size_t)n * sizeof *x);
        assert_true(y[n] == -77); /* nothing behind the end */
    }
    /* Element i is word i % 4 (uniform) of the counter i / 4: another seed, stream or b is another sequence. */
    fill(y, 1000, 0, 1, 43, DC_RNG_TEST, 7);
    assert_memory_not_equal(x, y, 16);
    fill(y, 1000, 0, 1, 42, DC_RNG_LORA, 7);
    assert_memory_not_equal(x, y, 16);
    fill(y, 1000, 0, 1, 42, DC_RNG_TEST, 8);
    assert_memory_not_equal(x, y, 16);
}

static void elements_depend_on_their_index_alone(void **unused)
{
    (void)unused;
    element_depends_on_its_index_alone(dc_rng_uniform);
    element_depends_on_its_index_alone(dc_rng_normal);
    uint32_t u[4];
    dc_rng_uniform(x, 1000, 0, 1, 42, DC_RNG_TEST, 7);
    dc_rng_u32x4(u, 42, DC_RNG_TEST, 249, 7);
    for (size_t k = 0; k < 4; k++) assert_true(x[996 + k] == dc_rng_f32(u[k]));
}

static int ascending(const void *a, const void *b)
{
    const float p = *(const float *)a, q = *(const float *)b;
    return (p > q) - (p < q);
}

/* Kolmogorov and Smirnov: sqrt(N) times the largest gap between the two distribution functions exceeds 2.0 for 0.07 %
 * of the seeds. Observed with this seed: 0.81 uniform, 0.71 normal; 4.9 with a mean that is off by 0.05. */
static double ks_normal(float mean, float std)
{
    double gap = 0;
    qsort(x, N, sizeof *x, ascending);
    for (size_t i = 0; i < N; i++) {
        const double cdf = 0.5 * erfc(-((double)x[i] - (double)mean) / ((double)std * sqrt(2)));
        gap = fmax(gap, fmax(fabs(cdf - (double)i / N), fabs(cdf - (double)(i + 1) / N)));
    }
    return gap * sqrt(N);
}

static double ks_uniform(float low, float high)
{
    double gap = 0;
    qsort(x, N, sizeof *x, ascending);
    for (size_t i = 0; i < N; i++) {
        const double cdf = ((double)x[i] - (double)low) / ((double)high - (double)low);
        gap = fmax(gap, fmax(fabs(cdf - (double)i / N), fabs(cdf - (double)(i + 1) / N)));
    }
    return gap * sqrt(N);
}

static void distributions(void **unused)
{
    (void)unused;
    dc_rng_uniform(x, N, -3, 5, 1, DC_RNG_TEST, 0);
    assert_true(ks_uniform(-3, 5) < 2.0);
    assert_true(x[0] >= -3 && x[N - 1] < 5);
    dc_rng_normal(x, N, 1.5f, 2, 1, DC_RNG_TEST, 0);
    /* Neighbours come from one pair of draws; independent ones have a correlation of about 1 / sqrt(N) = 0.0022
     * (observed: 0.0010). */
    double product = 0;
    for (size_t i = 0; i + 1 < N; i++) product += ((double)x[i] - 1.5) * ((double)x[i + 1] - 1.5) / 4;
    assert_true(fabs(product / N) < 0.01);
    assert_true(ks_normal(1.5f, 2) < 2.0);
    assert_true(isfinite(x[0]) && isfinite(x[N - 1]));
    assert_true(ks_normal(1.55f, 2) > 2.0);
}

static void high_is_not_reached(void **unused)
{
    (void)unused;
    const float high = nextafterf(1, 2); /* all draws above the middle round to it */
    dc_rng_uniform(x, 1000, 1, high, 3, DC_RNG_TEST, 0);
    for (size_t i = 0; i < 1000; i++) assert_true(x[i] == 1.0f);
    dc_rng_uniform(x, 10, 2, 2, 3, DC_RNG_TEST, 0);
    assert_true(x[9] == 2.0f);
}

static void is_bijection(uint64_t n, uint64_t seed, uint64_t epoch)
{
    unsigned char *seen = calloc(1, n);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t image = dc_permute(i, n, seed, epoch);
        assert_true(image < n);
        assert_int_equal(seen[image], 0);
        seen[image] = 1;
    }
    free(seen);
}

static void permutations_are_bijections(void **unused)
{
    (void)unused;
    for (uint64_t n = 1; n <= 130; n++) is_bijection(n, n * 77, n);
    static const uint64_t sizes[] = {255, 256, 257, 1023, 1024, 1025, 4097, 16385, 65537};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) is_bijection(sizes[i], 5, i);
    const uint64_t huge = ((uint64_t)1 << 62) - 1;
    for (uint64_t i = 0; i < 1000; i++) assert_true(dc_permute(huge - 1 - i, huge, 1, 2) < huge);
}

/* All 120 orders of five rows, over 24,000 seeds or epochs: chi-square with 119 degrees of freedom exceeds 186 once in
 * 10,000. Observed: 121 and 115; with one or two bits a side: 343. */
static double chi_square_of_orders(int vary_seed)
{
    static int count[1 << 15];
    memset(count, 0, sizeof count);
    for (uint64_t s = 0; s < 24000; s++) {
        unsigned key = 0;
        for (uint64_t i = 0; i < 5; i++)
            key = key << 3 | (unsigned)dc_permute(i, 5, vary_seed ? s : 9, vary_seed ? 9 : s);
        count[key]++;
    }
    double chi = 0;
    int orders = 0;
    for (size_t k = 0; k < sizeof count / sizeof *count; k++)
        if (count[k]) {
            chi += (count[k] - 200.0) * (count[k] - 200.0) / 200.0;
            orders++;
        }
    assert_int_equal(orders, 120);
    return chi;
}

static void all_orders_are_equally_likely(void **unused)
{
    (void)unused;
    assert_true(chi_square_of_orders(1) < 186);
    assert_true(chi_square_of_orders(0) < 186);
}

/* Where row i goes in a permutation of 1000: also uniform, for neighbouring i and epochs (99 degrees of freedom,
 * 161 is exceeded about once in 10,000; observed: 89). */
static void images_spread(void **unused)
{
    (void)unused;
    int count[100] = {0};
    for (uint64_t epoch = 0; epoch < 100; epoch++)
        for (uint64_t i = 0; i < 100; i++) count[dc_permute(i, 1000, 4, epoch) / 10]++;
    double chi = 0;
    for (size_t k = 0; k < 100; k++) chi += (count[k] - 100.0) * (count[k] - 100.0) / 100.0;
    assert_true(chi < 161);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(unit_intervals),
        cmocka_unit_test(elements_depend_on_their_index_alone),
        cmocka_unit_test(distributions),
        cmocka_unit_test(high_is_not_reached),
        cmocka_unit_test(permutations_are_bijections),
        cmocka_unit_test(all_orders_are_equally_likely),
        cmocka_unit_test(images_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
