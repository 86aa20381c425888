/* tests/cuda/op_rope_cuda.c -- rotary embedding. */
#include "small.h"

#include "kernels/oracle.h"

typedef struct rope_case {
    int64_t T, H, D, n_rot;
    int interleaved;
    float mscale;
    int sign;
} rope_case;

/* Each result is a sum of two products of values up to 2 with a sine or cosine that is off by one rounding or two, times mscale;
 * then its own rounding. */
static double rope_share(dc_dev *dev, rope_case k, int32_t farthest, int32_t shift)
{
    ck_array x = ck_activation(dev, k.T * k.H * k.D, 2);
    double frequencies[512];
    int32_t pos[64], moved[64];
    for (int64_t t = 0; t < k.T; t++) pos[t] = (int32_t)ck_below(farthest), moved[t] = pos[t] + shift;
    for (int64_t i = 0; i < k.n_rot / 2; i++) frequencies[i] = pow(10000, -2 * (double)i / (double)k.n_rot);
    ck_array f = ck_from(dev, DC_F32, k.n_rot / 2, frequencies);
    float inv_freq[512];
    for (int64_t i = 0; i < k.n_rot / 2; i++) inv_freq[i] = (float)f.d[i];
    int32_t *const on_device = ck_ints(dev, moved, k.T);
    dc_rope_oracle(x.d, pos, inv_freq, k.T, k.H, k.D, k.n_rot, k.interleaved, (double)k.mscale, k.sign);
    dev->op.rope(dev, ck_view(x), on_device, f.data, k.T, k.H, k.D, k.n_rot, k.interleaved, k.mscale, k.sign);
    const double share = small_share(x, small_unit(dev), 12 * (double)FLT_EPSILON);
    ck_free_ints(dev, on_device);
    ck_free(x), ck_free(f);
    return share;
}

/* Observed: 0.19 of the bound with F32 and 0.995, the rounding of x, with BF16; also at position 10^6, where angles in float would be off by 0.06. Positions
 * off by one score 2e5. */
void cuda_test_rope(dc_dev *dev)
{
    const rope_case cases[] = {
        {19, 9, 64, 64, 0, 1, 1},  {19, 3, 64, 64, 1, 1, 1}, {40, 1, 80, 20, 0, 1, 1},    {5, 2, 80, 20, 1, 1.25f, -1},
        {3, 2, 6, 6, 0, 1, -1},    {3, 2, 10, 10, 1, 1, 1},  {64, 5, 128, 128, 0, 1, -1}, {2, 3, 771, 600, 0, 0.7f, 1},
        {2, 1, 512, 512, 1, 1, 1}, {1, 1, 2, 2, 0, 1, 1},    {7, 3, 64, 48, 1, 1, 1},     {64, 2, 3, 2, 0, 1, 1},
    };
    for (size_t i = 0; i < CK_COUNT(cases); i++) {
        const int32_t farthest[] = {100, 1000000, INT32_MAX};
        for (size_t k = 0; k < CK_COUNT(farthest); k++) {
            const double share = rope_share(dev, cases[i], farthest[k], 0);
            assert_true(share <= 1);
        }
    }
    const double share = rope_share(dev, cases[0], 100, 1);
    assert_true(share > 1000);
}
