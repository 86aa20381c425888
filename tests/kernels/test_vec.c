/* tests/kernels/test_vec.c -- exp and tanh of a register of floats, against libm in double; its lanes, masks and sums. Compiled for eight
 * lanes, for sixteen, and for sixteen in pairs of AVX2 registers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#ifdef KIT_PAIR
#include "vec_pair.h"
#endif
#include "kernels/table.h"
#include "kernels/vec.h"

static float of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void apply(dc_vec (*function)(dc_vec), float out[DC_LANES], const float in[DC_LANES])
{
    dc_store(out, function(dc_load(in)));
}

static dc_vec exp_of(dc_vec x) { return dc_exp(x); }
static dc_vec exp_flush_of(dc_vec x) { return dc_exp_flush(x); }
static dc_vec tanh_of(dc_vec x) { return dc_tanh(x); }

static double ulp_of(double truth) { return truth < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(truth) - 23); }

/* Every 4099th float of all: errors in units of the result's last place. */
static void exp_is_within_two_ulp(void **state)
{
    (void)state;
    double worst = 0, worst_flush = 0;
    for (uint64_t u = 0; u < UINT64_C(0x100000000); u += DC_LANES * 4099) {
        float x[DC_LANES], y[DC_LANES], flushed[DC_LANES];
        for (uint32_t i = 0; i < DC_LANES; i++) x[i] = of_bits((uint32_t)u + i * 4099);
        apply(exp_of, y, x), apply(exp_flush_of, flushed, x);
        for (int i = 0; i < DC_LANES; i++) {
            const double truth = exp((double)x[i]);
            if (isnan(x[i])) {
                assert_true(isnan(y[i]) && isnan(flushed[i]));
                continue;
            }
            if ((float)truth == 0 || isinf((float)truth)) assert_true(y[i] == (float)truth);
            else worst = fmax(worst, fabs((double)y[i] - truth) / ulp_of(truth));
            if (x[i] < -87) assert_true(flushed[i] == 0);
            else if (x[i] < 88) worst_flush = fmax(worst_flush, fabs((double)flushed[i] - truth) / ulp_of(truth));
        }
    }
    assert_true(worst < 1.1);       /* observed: 1.008 */
    assert_true(worst_flush < 1.0); /* observed: 0.9 */
}

static void exp_at_its_edges(void **state)
{
    (void)state;
    const float x[8] = {0, -0.0f, INFINITY, -INFINITY, 88.72283f, 88.7229f, -103.9f, -104.5f};
    const float want[8] = {1, 1, INFINITY, 0, 0x1.ffff08p+127f, INFINITY, 0x1p-149f, 0};
    for (int at = 0; at < DC_LANES; at += 8) {
        float in[DC_LANES] = {0}, y[DC_LANES];
        memcpy(in + at, x, sizeof x);
        apply(exp_of, y, in);
        assert_memory_equal(y + at, want, sizeof want);
    }
}

static void tanh_is_absolutely_right(void **state)
{
    (void)state;
    for (float at = -12; at < 12; at += 0.013f) {
        float x[DC_LANES], y[DC_LANES];
        for (int i = 0; i < DC_LANES; i++) x[i] = at + 0.0016f * (float)i;
        apply(tanh_of, y, x);
        for (int i = 0; i < DC_LANES; i++) assert_true(fabs((double)y[i] - tanh((double)x[i])) < 2e-7); /* 1.2e-7 */
    }
    const float x[DC_LANES] = {INFINITY, -INFINITY, 0, 100, -100, NAN, 0, 0};
    float y[DC_LANES];
    apply(tanh_of, y, x);
    assert_true(y[0] == 1 && y[1] == -1 && y[2] == 0 && y[3] == 1 && y[4] == -1 && isnan(y[5]));
}

static void sums_and_masks(void **state)
{
    (void)state;
    float x[DC_LANES], y[DC_LANES + 1], ones[DC_LANES];
    for (int i = 0; i < DC_LANES; i++) x[i] = (float)(1 << i), ones[i] = 1;
    assert_true(dc_sum_lanes(dc_load(x)) == (float)((1 << DC_LANES) - 1));
    for (int n = -1; n <= DC_LANES + 1; n++) {
        const int on = n < 0 ? 0 : n > DC_LANES ? DC_LANES : n;
        assert_true(dc_sum_lanes(dc_load_n(x, n)) == (float)((1 << on) - 1));
        for (int i = 0; i <= DC_LANES; i++) y[i] = 7;
        dc_store_n(y, n, dc_load(x));
        for (int i = 0; i <= DC_LANES; i++) assert_true(y[i] == (i < on ? x[i] : 7));
        float one[DC_LANES] = {0};
        one[on % DC_LANES] = 3;
        assert_true(dc_max_lanes(dc_load(one)) == 3);
    }
    for (int lo = -2; lo <= DC_LANES + 2; lo++)
        for (int hi = -2; hi <= DC_LANES + 2; hi++)
            for (int at = 0; at < 3; at++) {
                const dc_mask m = dc_between(at, lo, hi);
                dc_store(y, dc_keep(m, dc_load(ones)));
                for (int i = 0; i < DC_LANES; i++) assert_true(y[i] == (at + i >= lo && at + i < hi));
                dc_store(y, dc_where(m, dc_load(ones), dc_load(x)));
                for (int i = 0; i < DC_LANES; i++) assert_true(y[i] == (at + i >= lo && at + i < hi ? 1 : x[i]));
            }
}

static void comparisons_and_nan(void **state)
{
    (void)state;
    const dc_vec one = dc_set(1), nan = dc_set(NAN), two = dc_set(2);
    float y[DC_LANES];
#define LANE(v) (dc_store(y, v), y[DC_LANES - 1])
    assert_true(LANE(dc_keep(dc_lt(one, two), one)) == 1 && LANE(dc_keep(dc_lt(two, one), one)) == 0);
    assert_true(LANE(dc_keep(dc_lt(nan, one), one)) == 0 && LANE(dc_keep(dc_nlt(nan, one), one)) == 1);
    assert_true(LANE(dc_keep(dc_ne(one, one), one)) == 0 && LANE(dc_keep(dc_ne(nan, nan), one)) == 1);
    assert_true(isnan(LANE(dc_max(one, nan))) && LANE(dc_max(nan, one)) == 1);
    assert_true(isnan(LANE(dc_min(one, nan))) && LANE(dc_min(nan, one)) == 1);
    assert_true(LANE(dc_fma(two, two, one)) == 5 && LANE(dc_fnma(two, two, one)) == -3);
#undef LANE
}

int main(void)
{
#if defined(__AVX512F__)
    const unsigned needed = DC_FEATURES_AVX512;
#else
    const unsigned needed = DC_FEATURES_AVX2;
#endif
    if ((dc_cpu_found() & needed) != needed) {
        puts("skipped: this processor lacks the instructions");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_two_ulp),    cmocka_unit_test(exp_at_its_edges),
        cmocka_unit_test(tanh_is_absolutely_right), cmocka_unit_test(sums_and_masks),
        cmocka_unit_test(comparisons_and_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
