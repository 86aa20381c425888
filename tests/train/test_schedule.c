/* tests/train/test_schedule.c -- learning rates against transformers' schedulers. */
#include "train/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>

typedef struct golden_schedule {
    dc_schedule_type type;
    double learning_rate;
    int64_t warmup_steps, total_steps;
    double rates[16]; /* of steps 0 .. total + 1 */
} golden_schedule;

/* clang-format off */
#include "tests/train/schedule_golden.h"
/* clang-format on */

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_schedules / sizeof *golden_schedules; i++) {
        const golden_schedule *g = &golden_schedules[i];
        const dc_schedule s = {g->type, g->learning_rate, g->warmup_steps, g->total_steps};
        for (int64_t step = 0; step < g->total_steps + 2; step++) {
            /* The same formulas in another order: a few roundings, of a cosine near 0 relative to the peak. */
            const double rate = dc_schedule_rate(&s, step);
            if (!(fabs(rate - g->rates[step]) <= 4e-16 * g->learning_rate))
                fail_msg("case %zu, step %lld: %.17g, transformers has %.17g", i, (long long)step, rate,
                         g->rates[step]);
        }
    }
}

/* Warm-up of no steps, and a decay of none, divide by nothing. */
static void test_edges(void **state)
{
    (void)state;
    const dc_schedule none = {DC_SCHEDULE_LINEAR, 1, 0, 0}, one = {DC_SCHEDULE_CONSTANT_WITH_WARMUP, 1, 1, 5};
    assert_true(isfinite(dc_schedule_rate(&none, 0)));
    assert_true(dc_schedule_rate(&one, 0) == 0);
    assert_true(dc_schedule_rate(&one, 1) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
