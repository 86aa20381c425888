/* tests/kernels/op_glu.c -- gated activations. */
#include "kit.h"

#include <float.h>
#include <math.h>

#include "kernels/oracle.h"

static const dc_act acts[] = {DC_ACT_SILU, DC_ACT_GELU_TANH, DC_ACT_GELU_ERF};
static const int64_t sizes[] = {1, 7, 8, 9, 1000, 8192, 20001};

/* Gates from -30 to 30 reach both flat ends. The exponential's argument carries its own rounding, which exp turns
 * into a relative error of |z| eps; where the result is not tiny |z| is below 12, and so 16 eps of the value plus a
 * little that is absolute. */
static double share(kit_array y)
{
    double w = 0;
    for (int64_t i = 0; i < y.n; i++)
        w = fmax(w, fabs((double)y.f[i] - y.d[i]) / (16 * FLT_EPSILON * fabs(y.d[i]) + 2e-6));
    return w;
}

/* Observed: 0.5. A gate that is off by a thousandth scores more than 100. */
void test_glu_fwd(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_all_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t a = 0; a < KIT_COUNT(acts); a++) {
            for (size_t s = 0; s < KIT_COUNT(sizes); s++) {
                kit_array gate = kit_new(sizes[s], s % 2 ? 3 : 30), up = kit_new(sizes[s], 2), y = kit_new(sizes[s], 0);
                dc_glu_fwd_oracle(y.d, gate.d, up.d, sizes[s], acts[a]);
                ops.glu_fwd(NULL, kit_view(y), kit_cview(gate), kit_cview(up), sizes[s], acts[a]);
                assert_true(share(y) <= 1);
                if (sizes[s] == 1000) {
                    for (int64_t i = 0; i < 1000; i++) gate.d[i] += 1e-3;
                    dc_glu_fwd_oracle(y.d, gate.d, up.d, sizes[s], acts[a]);
                    assert_true(share(y) > 100);
                }
                kit_free(gate), kit_free(up), kit_free(y);
            }
        }
    }
}

typedef struct glu_slope {
    double gate, up;
    dc_act act;
} glu_slope;

static double glu_loss(void *context)
{
    const glu_slope *s = context;
    double y;
    dc_glu_fwd_oracle(&y, &s->gate, &s->up, 1, s->act);
    return 1.5 * y;
}

static void glu_oracle_is_the_derivative(void)
{
    const double dy = 1.5;
    for (size_t a = 0; a < KIT_COUNT(acts); a++) {
        for (int i = 0; i < 50; i++) {
            glu_slope s = {6 * kit_uniform(), 2 * kit_uniform(), acts[a]};
            double dgate, dup;
            dc_glu_bwd_oracle(&dgate, &dup, &dy, &s.gate, &s.up, 1, acts[a]);
            kit_is_slope(glu_loss, &s, &s.gate, dgate, 1e-8);
            kit_is_slope(glu_loss, &s, &s.up, dup, 1e-8);
        }
    }
}

void test_glu_bwd(void **state)
{
    (void)state;
    glu_oracle_is_the_derivative();
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_all_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t a = 0; a < KIT_COUNT(acts); a++) {
            for (size_t s = 0; s < KIT_COUNT(sizes); s++) {
                const int64_t m = sizes[s];
                kit_array gate = kit_new(m, s % 2 ? 3 : 30), up = kit_new(m, 2), dy = kit_new(m, 1);
                kit_array dgate = kit_new(m, 0), dup = kit_new(m, 0);
                dc_glu_bwd_oracle(dgate.d, dup.d, dy.d, gate.d, up.d, m, acts[a]);
                ops.glu_bwd(NULL, kit_view(dgate), kit_view(dup), kit_cview(dy), kit_cview(gate), kit_cview(up), m,
                            acts[a]);
                assert_true(share(dgate) <= 1 && share(dup) <= 1);
                /* Each gradient in its input's place: the same bits. */
                ops.glu_bwd(NULL, kit_view(gate), kit_view(up), kit_cview(dy), kit_cview(gate), kit_cview(up), m,
                            acts[a]);
                kit_same_bits(gate.f, dgate.f, m);
                kit_same_bits(up.f, dup.f, m);
                for (int64_t i = 0; i < m; i++) dgate.d[i] *= 1.001;
                assert_true(m < 1000 || share(dgate) > 10);
                kit_free(gate), kit_free(up), kit_free(dy), kit_free(dgate), kit_free(dup);
            }
        }
    }
}
