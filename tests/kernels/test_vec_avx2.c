/* tests/kernels/test_vec_avx2.c -- exp and tanh of eight floats, against libm in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/vec_avx2.h"

static float of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void eight(__m256 (*function)(__m256), float out[8], const float in[8])
{
    _mm256_storeu_ps(out, function(_mm256_loadu_ps(in)));
}

/* Every 4099th float of all: errors in units of the result's last place. */
static void exp_is_within_two_ulp(void **state)
{
    (void)state;
    double worst = 0;
    for (uint64_t u = 0; u < UINT64_C(0x100000000); u += 8 * 4099) {
        float x[8], y[8];
        for (uint32_t i = 0; i < 8; i++) x[i] = of_bits((uint32_t)u + i * 4099);
        eight(dc_exp8, y, x);
        for (int i = 0; i < 8; i++) {
            const double truth = exp((double)x[i]);
            if (isnan(x[i])) {
                assert_true(isnan(y[i]));
            } else if ((float)truth == 0 || isinf((float)truth)) {
                assert_true(y[i] == (float)truth);
            } else {
                const double ulp = truth < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(truth) - 23);
                worst = fmax(worst, fabs((double)y[i] - truth) / ulp);
            }
        }
    }
    assert_true(worst < 1.1); /* observed: 1.008 */
}

static void exp_at_its_edges(void **state)
{
    (void)state;
    const float x[8] = {0, -0.0f, INFINITY, -INFINITY, 88.72283f, 88.7229f, -103.9f, -104.5f};
    const float want[8] = {1, 1, INFINITY, 0, 0x1.ffff08p+127f, INFINITY, 0x1p-149f, 0};
    float y[8];
    eight(dc_exp8, y, x);
    assert_memory_equal(y, want, sizeof want);
}

static void tanh_is_absolutely_right(void **state)
{
    (void)state;
    for (float at = -12; at < 12; at += 0.013f) {
        float x[8], y[8];
        for (int i = 0; i < 8; i++) x[i] = at + 0.0016f * (float)i;
        eight(dc_tanh8, y, x);
        for (int i = 0; i < 8; i++) assert_true(fabs((double)y[i] - tanh((double)x[i])) < 2e-7); /* observed: 1.2e-7 */
    }
    const float x[8] = {INFINITY, -INFINITY, 0, 100, -100, NAN, 0, 0};
    float y[8];
    eight(dc_tanh8, y, x);
    assert_true(y[0] == 1 && y[1] == -1 && y[2] == 0 && y[3] == 1 && y[4] == -1 && isnan(y[5]));
}

static void sums_and_masks(void **state)
{
    (void)state;
    const float x[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    assert_true(dc_sum8(_mm256_loadu_ps(x)) == 255);
    for (int n = 0; n <= 8; n++) {
        assert_true(dc_sum8(_mm256_maskload_ps(x, dc_mask8(n))) == (float)((1 << n) - 1));
        float one[8] = {0};
        one[n % 8] = 3;
        assert_true(dc_max8(_mm256_loadu_ps(one)) == 3);
    }
}

int main(void)
{
    const unsigned needed = DC_CPU_AVX2 | DC_CPU_FMA;
    if ((dc_cpu_found() & needed) != needed) return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_two_ulp),
        cmocka_unit_test(exp_at_its_edges),
        cmocka_unit_test(tanh_is_absolutely_right),
        cmocka_unit_test(sums_and_masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
