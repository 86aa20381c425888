/* tests/kernels/op_rope.c -- rotary embedding. */
#include "kit.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/oracle.h"

typedef struct rope_case {
    int64_t T, H, D, n_rot;
    int interleaved;
    float mscale;
    int sign;
} rope_case;

static double rope_error(unsigned features, rope_case k, int32_t farthest, int32_t shift)
{
    const dc_ops ops = kit_ops(features);
    kit_array x = kit_new(k.T * k.H * k.D, 2), f = kit_new(k.n_rot / 2, 0);
    int32_t pos[64], moved[64];
    for (int64_t t = 0; t < k.T; t++) pos[t] = (int32_t)kit_below(farthest), moved[t] = pos[t] + shift;
    for (int64_t i = 0; i < k.n_rot / 2; i++) f.f[i] = (float)pow(10000, -2 * (double)i / (double)k.n_rot);
    dc_rope_oracle(x.d, pos, f.f, k.T, k.H, k.D, k.n_rot, k.interleaved, (double)k.mscale, k.sign);
    ops.rope(NULL, kit_view(x), moved, f.f, k.T, k.H, k.D, k.n_rot, k.interleaved, k.mscale, k.sign);
    const double e = kit_worst(x);
    kit_free(x), kit_free(f);
    return e;
}

/* Each result is a sum of two products of values up to 2 with a sine or cosine that is off by one rounding: 2 * 2 *
 * 3 eps / 2 and a few for mscale. Observed: 0.35 of the bound, also at position 10^6, where angles in float would
 * be off by 0.06. */
void test_rope(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    const rope_case cases[] = {
        {7, 3, 64, 64, 0, 1, 1},   {7, 3, 64, 64, 1, 1, 1}, {5, 1, 80, 20, 0, 1, 1},     {5, 2, 80, 20, 1, 1.25f, -1},
        {3, 2, 6, 6, 0, 1, -1},    {3, 2, 10, 10, 1, 1, 1}, {64, 9, 128, 128, 0, 1, -1}, {2, 1, 256, 256, 0, 0.7f, 1},
        {2, 1, 256, 256, 1, 1, 1}, {1, 1, 2, 2, 0, 1, 1},
    };
    const double bound = 12 * FLT_EPSILON;
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        for (size_t i = 0; i < KIT_COUNT(cases); i++) {
            assert_true(rope_error(paths[p], cases[i], 100, 0) <= bound);
            assert_true(rope_error(paths[p], cases[i], 1000000, 0) <= bound);
            assert_true(rope_error(paths[p], cases[i], INT32_MAX, 0) <= bound);
        }
        assert_true(rope_error(paths[p], cases[0], 100, 1) > 1000 * bound);
        /* Back is the inverse when mscale is 1. */
        const dc_ops ops = kit_ops(paths[p]);
        kit_array x = kit_new(4 * 64, 1), f = kit_new(32, 1);
        const int32_t pos[] = {0, 1, 77, 5000};
        for (int sign = 1; sign >= -1; sign -= 2) ops.rope(NULL, kit_view(x), pos, f.f, 4, 1, 64, 64, 0, 1, sign);
        assert_true(kit_worst(x) <= bound);
        kit_free(x), kit_free(f);
    }
}
