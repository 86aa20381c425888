/* tests/cuda/op_glu_cuda.c -- gated activations. */
#include "small.h"

#include "kernels/oracle.h"

static const dc_act acts[] = {DC_ACT_SILU, DC_ACT_GELU_TANH, DC_ACT_GELU_ERF};
static const int64_t sizes[] = {1, 7, 8, 9, 1000, 4103};

/* Gates from -30 to 30 reach both flat ends. The exponential's argument carries its own rounding, which exp turns into a relative error
 * of |z| eps; where the result is not tiny |z| is below 12, and so 16 eps of the value plus a little that is absolute; then the
 * result's own rounding. */
static double share_of(ck_array y) { return small_share(y, small_unit(y.dev) + 16 * (double)FLT_EPSILON, 2e-6); }

/* Observed: 0.07 of the bound with F32; with BF16 0.99, the rounding of y. The next activation scores 24 and more. */
void cuda_test_glu_fwd(dc_dev *dev)
{
    for (size_t a = 0; a < CK_COUNT(acts); a++) {
        for (size_t s = 0; s < CK_COUNT(sizes); s++) {
            const int64_t n = sizes[s];
            ck_array gate = ck_activation(dev, n, s % 2 ? 3 : 30), up = ck_activation(dev, n, 2);
            ck_array y = ck_activation(dev, n, 0);
            dc_glu_fwd_oracle(y.d, gate.d, up.d, n, acts[a]);
            dev->op.glu_fwd(dev, ck_view(y), ck_cview(gate), ck_cview(up), n, acts[a]);
            assert_true(share_of(y) <= 1);
            dc_glu_fwd_oracle(y.d, gate.d, up.d, n, acts[(a + 1) % CK_COUNT(acts)]); /* planted: another activation */
            assert_true(n < 1000 || share_of(y) > 20);
            ck_free(gate), ck_free(up), ck_free(y);
        }
    }
}

/* Observed: 0.35 of the bound with F32; with BF16 0.99, the rounding of the gradients. A tenth more of dgate scores 23 and more. */
void cuda_test_glu_bwd(dc_dev *dev)
{
    for (size_t a = 0; a < CK_COUNT(acts); a++) {
        for (size_t s = 0; s < CK_COUNT(sizes); s++) {
            const int64_t n = sizes[s];
            ck_array gate = ck_activation(dev, n, s % 2 ? 3 : 30), up = ck_activation(dev, n, 2);
            ck_array dy = ck_activation(dev, n, 1), dgate = ck_activation(dev, n, 0), dup = ck_activation(dev, n, 0);
            dc_glu_bwd_oracle(dgate.d, dup.d, dy.d, gate.d, up.d, n, acts[a]);
            dev->op.glu_bwd(dev, ck_view(dgate), ck_view(dup), ck_cview(dy), ck_cview(gate), ck_cview(up), n, acts[a]);
            assert_true(share_of(dgate) <= 1 && share_of(dup) <= 1);
            /* Each gradient in its input's place: the same bits. */
            ck_get(dgate, gate.d);
            ck_get(dup, up.d);
            dev->op.glu_bwd(dev, ck_view(gate), ck_view(up), ck_cview(dy), ck_cview(gate), ck_cview(up), n, acts[a]);
            assert_true(ck_worst(gate) == 0 && ck_worst(up) == 0);
            for (int64_t i = 0; i < n; i++) dgate.d[i] *= 1.1;
            assert_true(n < 1000 || share_of(dgate) > 20);
            ck_free(gate), ck_free(up), ck_free(dy), ck_free(dgate), ck_free(dup);
        }
    }
}
