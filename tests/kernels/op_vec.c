/* tests/kernels/op_vec.c -- ops on vectors: sums, searches, dropout. */
#include "kit.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/pool.h"
#include "core/rng.h"

static const int64_t sizes[] = {1, 3, 8, 33, 16384, 16385, 100003};

void test_add(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array a = kit_new(sizes[i], 1), b = kit_new(sizes[i], 1), y = kit_new(sizes[i], 0);
            for (int64_t k = 0; k < sizes[i]; k++) y.d[k] = a.f[k] + b.f[k];
            ops.add(NULL, kit_view(y), kit_cview(a), kit_cview(b), sizes[i]);
            assert_true(kit_worst(y) == 0);
            ops.add(NULL, kit_view(a), kit_cview(a), kit_cview(b), sizes[i]); /* in place of either */
            kit_same_bits(a.f, y.f, sizes[i]);
            kit_free(a), kit_free(b), kit_free(y);
        }
    }
}

void test_axpy(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array x = kit_new(sizes[i], 1), y = kit_new(sizes[i], 1);
            for (int64_t k = 0; k < sizes[i]; k++) y.d[k] += -0.3f * x.d[k];
            ops.axpy(NULL, y.f, x.f, -0.3f, sizes[i]);
            assert_true(kit_worst(y) <= FLT_EPSILON); /* two roundings of values below 1.3 */
            ops.axpy(NULL, y.f, x.f, 1e-3f, sizes[i]);
            assert_true(sizes[i] < 8 || kit_worst(y) > 100 * FLT_EPSILON);
            kit_free(x), kit_free(y);
        }
    }
}

void test_fill(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array y = kit_new(sizes[i], 1);
            for (int64_t k = 0; k < sizes[i]; k++) y.d[k] = 2.5;
            ops.fill(NULL, kit_view(y), 2.5f, sizes[i]);
            assert_true(kit_worst(y) == 0);
            kit_free(y);
        }
    }
}

void test_narrow(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array x = kit_new(sizes[i], 1), y = kit_new(sizes[i], 1);
            for (int64_t k = 0; k < sizes[i]; k++) y.d[k] = x.d[k];
            ops.narrow(NULL, kit_view(y), x.f, sizes[i]);
            assert_true(kit_worst(y) == 0);
            kit_free(x), kit_free(y);
        }
    }
}

void test_sumsq(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array x = kit_new(sizes[i], 1);
            const dc_floats item = {x.f, sizes[i]};
            double sum = 0, got = -1, again = -1;
            for (int64_t k = 0; k < sizes[i]; k++) sum += x.d[k] * x.d[k];
            dc_pool_set_threads(1);
            ops.sumsq(NULL, &got, &item, 1);
            dc_pool_set_threads(2);
            ops.sumsq(NULL, &again, &item, 1);
            dc_pool_set_threads(0);
            assert_true(memcmp(&got, &again, sizeof got) == 0);
            /* Both sums are of positive doubles: relative error below n eps. */
            assert_true(fabs(got - sum) <= (double)sizes[i] * DBL_EPSILON * sum);
            x.f[sizes[i] - 1] += 0.5f; /* the last element counts */
            ops.sumsq(NULL, &again, &item, 1);
            assert_true(fabs(again - got) > 1e-3);
            kit_free(x);
        }
    }
}

void test_colsum(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    const int64_t widths[] = {1, 7, 64, 65, 577};
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(widths); i++) {
            const int64_t T = 300, C = widths[i];
            kit_array x = kit_new(T * C, 1), out = kit_new(C, 1);
            for (int64_t t = 0; t < T; t++)
                for (int64_t c = 0; c < C; c++) out.d[c] += x.d[t * C + c];
            ops.colsum(NULL, out.f, kit_cview(x), T, C);
            /* Two roundings of a sum of T values in [-1, 1), which stays below 8 standard deviations of 0.58
             * sqrt(T). */
            assert_true(kit_worst(out) <= FLT_EPSILON * 8 * 0.58 * sqrt((double)T));
            ops.colsum(NULL, out.f, kit_cview(x), 1, C); /* planted: the first row twice */
            assert_true(C == 1 || kit_worst(out) > 1e-2);
            kit_free(x), kit_free(out);
        }
    }
}

void test_nonfinite(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array x = kit_new(sizes[i], 1);
            int64_t at = 99;
            x.f[sizes[i] / 2] = FLT_MAX;
            ops.nonfinite(NULL, &at, kit_cview(x), sizes[i]);
            assert_int_equal(at, -1);
            for (size_t k = 0; k < KIT_COUNT(odd); k++) {
                const int64_t where = kit_below(sizes[i]);
                const float before = x.f[where], last = x.f[sizes[i] - 1];
                x.f[where] = odd[k];
                x.f[sizes[i] - 1] = odd[k]; /* a second one, behind */
                ops.nonfinite(NULL, &at, kit_cview(x), sizes[i]);
                assert_int_equal(at, where);
                x.f[sizes[i] - 1] = last;
                x.f[where] = before;
            }
            kit_free(x);
        }
    }
}

static void dropout_oracle(double *y, const double *x, int64_t n, const dc_dropout *d, int accumulate)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u[4];
        dc_rng_u32x4(u, d->seed, DC_RNG_DROPOUT, (uint64_t)*d->step << 32 | (uint64_t)(i / 4), d->place);
        const double kept = (double)dc_rng_f32(u[i % 4]) >= (double)d->p ? x[i] / (1 - (double)d->p) : 0;
        y[i] = accumulate ? y[i] + kept : kept;
    }
}

void test_dropout(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                const int64_t m = sizes[i];
                uint32_t step = 77;
                dc_dropout d = {0.1f, 0x123456789abcdefu, 5, &step};
                kit_array x = kit_new(m, 1), y = kit_new(m, 1);
                dropout_oracle(y.d, x.d, m, &d, accumulate);
                ops.dropout(NULL, kit_view(y), kit_cview(x), m, &d, accumulate);
                assert_true(kit_worst(y) <= 3 * FLT_EPSILON); /* three roundings of values below 2.2 */
                int64_t dropped = 0;
                for (int64_t k = 0; k < m && !accumulate; k++) dropped += y.f[k] == 0;
                /* Six standard deviations of a binomial. */
                if (!accumulate) assert_true(fabs((double)dropped - 0.1 * (double)m) <= 6 * sqrt(0.09 * (double)m) + 1);
                step++; /* another step is another mask */
                ops.dropout(NULL, kit_view(y), kit_cview(x), m, &d, 0);
                assert_true(m < 1000 || kit_worst(y) > 0.5);
                d.p = 0;
                ops.dropout(NULL, kit_view(x), kit_cview(x), m, &d, 0); /* p 0 in place changes nothing */
                assert_true(kit_worst(x) == 0);
                kit_free(x), kit_free(y);
            }
        }
    }
}

/* Capped logits and the gradient that goes back through them. Both are formed in float from values of size `cap`: three roundings and
 * tanhf's own error; observed 1.2 eps. A cap of 29 in place of 30 scores 1e-3. */
void test_softcap_fwd(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array x = kit_new(sizes[i], 90), again = kit_like(x);
            for (int64_t k = 0; k < sizes[i]; k++) x.d[k] = 30 * tanh(x.d[k] / 30);
            memcpy(again.d, x.d, (size_t)sizes[i] * sizeof *x.d);
            ops.softcap_fwd(NULL, x.f, sizes[i], 30);
            assert_true(kit_worst(x) <= 4 * FLT_EPSILON * 30);
            ops.softcap_fwd(NULL, again.f, sizes[i], 29);
            assert_true(kit_worst(again) > 1000 * FLT_EPSILON * 30);
            kit_free(x), kit_free(again);
        }
    }
}

void test_softcap_bwd(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
            kit_array y = kit_new(sizes[i], 30), dx = kit_new(sizes[i], 1), again = kit_like(dx);
            for (int64_t k = 0; k < sizes[i]; k++) dx.d[k] *= 1 - y.d[k] * y.d[k] / 900;
            memcpy(again.d, dx.d, (size_t)sizes[i] * sizeof *dx.d);
            ops.softcap_bwd(NULL, dx.f, y.f, sizes[i], 30);
            assert_true(kit_worst(dx) <= 4 * FLT_EPSILON);
            ops.softcap_bwd(NULL, again.f, y.f, sizes[i], 29);
            assert_true(sizes[i] < 8 || kit_worst(again) > 1000 * FLT_EPSILON);
            kit_free(y), kit_free(dx), kit_free(again);
        }
    }
}
