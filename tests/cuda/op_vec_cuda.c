/* tests/cuda/op_vec_cuda.c -- ops on vectors: sums, searches, dropout. */
#include "small.h"

#include <string.h>

/* Less than a thread's eight, its edges, several blocks with a last one that is not full. */
static const int64_t sizes[] = {1, 7, 8, 9, 1000, 2048, 5003};

static float *floats_of(ck_array a)
{
    float *f = malloc((size_t)a.n * sizeof *f);
    assert_non_null(f);
    for (int64_t i = 0; i < a.n; i++) f[i] = (float)a.d[i];
    return f;
}

void cuda_test_add(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        const int64_t n = sizes[i];
        ck_array a = ck_activation(dev, n, 1), b = ck_activation(dev, n, 1), y = ck_activation(dev, n, 0);
        for (int64_t k = 0; k < n; k++) y.d[k] = small_round(dev, (float)a.d[k] + (float)b.d[k]);
        dev->op.add(dev, ck_view(y), ck_cview(a), ck_cview(b), n);
        assert_true(ck_worst(y) == 0);
        memcpy(a.d, y.d, (size_t)n * sizeof *a.d);
        dev->op.add(dev, ck_view(a), ck_cview(a), ck_cview(b), n); /* y may be a */
        assert_true(ck_worst(a) == 0);
        dev->op.add(dev, ck_view(y), ck_cview(b), ck_cview(b), n); /* planted: 2 b */
        assert_true(ck_worst(y) > 1e-2);
        /* From an odd place: element by element. */
        if (n > 1) {
            dev->op.add(dev, small_at(y, 1), dc_view_read(small_at(a, 1)), dc_view_read(small_at(b, 1)), n - 1);
            y.d[0] = small_round(dev, 2 * (float)b.d[0]);
            for (int64_t k = 1; k < n; k++) y.d[k] = small_round(dev, (float)a.d[k] + (float)b.d[k]);
            assert_true(ck_worst(y) == 0);
        }
        ck_free(a), ck_free(b), ck_free(y);
    }
}

/* Fused or not: at most two roundings of values below 1.3. */
void cuda_test_axpy(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        const int64_t n = sizes[i];
        ck_array x = ck_new(dev, DC_F32, n, 1), y = ck_new(dev, DC_F32, n, 1);
        for (int64_t k = 0; k < n; k++) y.d[k] += (double)-0.3f * x.d[k];
        dev->op.axpy(dev, y.data, x.data, -0.3f, n);
        assert_true(ck_worst(y) <= (double)FLT_EPSILON);
        dev->op.axpy(dev, y.data, x.data, 1e-3f, n);
        assert_true(n < 8 || ck_worst(y) > 100 * (double)FLT_EPSILON);
        ck_free(x), ck_free(y);
    }
}

void cuda_test_fill(dc_dev *dev)
{
    const dc_dtype types[] = {DC_F32, dev->activation};
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        for (size_t t = 0; t < CK_COUNT(types); t++) {
            ck_array y = ck_new(dev, types[t], sizes[i], 1);
            for (int64_t k = 0; k < sizes[i]; k++) y.d[k] = 2.5;
            dev->op.fill(dev, ck_view(y), 2.5f, sizes[i]);
            assert_true(ck_worst(y) == 0);
            dev->op.fill(dev, small_at(y, sizes[i] - 1), 3, 1); /* planted: the last one */
            assert_true(ck_worst(y) == 0.5);
            ck_free(y);
        }
    }
}

/* The twin of an array in the type of activations is what x becomes, rounded to nearest. */
void cuda_test_narrow(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        const int64_t n = sizes[i];
        ck_array x = ck_new(dev, DC_F32, n, 1), y = ck_activation(dev, n, 1), want = ck_from(dev, y.type, n, x.d);
        for (int64_t k = 0; k < n; k++) y.d[k] = want.d[k];
        dev->op.narrow(dev, ck_view(y), x.data, n);
        assert_true(ck_worst(y) == 0);
        dev->op.narrow(dev, small_at(y, n - 1), x.data, 1); /* planted: the last one */
        assert_true(n == 1 || ck_worst(y) > 0);
        ck_free(x), ck_free(y), ck_free(want);
    }
}

/* Formed in float from values of size `cap`: three roundings and tanh's own error; observed 1.0 eps. A cap of 29 in place of 30
 * scores 1e-3. */
void cuda_test_softcap_fwd(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        const int64_t n = sizes[i];
        ck_array x = ck_new(dev, DC_F32, n, 90), again = ck_from(dev, DC_F32, n, x.d);
        for (int64_t k = 0; k < n; k++) again.d[k] = x.d[k] = 30 * tanh(x.d[k] / 30);
        dev->op.softcap_fwd(dev, x.data, n, 30);
        assert_true(ck_worst(x) <= 4 * (double)FLT_EPSILON * 30);
        dev->op.softcap_fwd(dev, again.data, n, 29);
        assert_true(ck_worst(again) > 1000 * (double)FLT_EPSILON * 30);
        ck_free(x), ck_free(again);
    }
}

void cuda_test_softcap_bwd(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        const int64_t n = sizes[i];
        ck_array y = ck_new(dev, DC_F32, n, 30), dx = ck_new(dev, DC_F32, n, 1), again = ck_from(dev, DC_F32, n, dx.d);
        for (int64_t k = 0; k < n; k++) again.d[k] = dx.d[k] *= 1 - y.d[k] * y.d[k] / 900;
        dev->op.softcap_bwd(dev, dx.data, y.data, n, 30);
        assert_true(ck_worst(dx) <= 4 * (double)FLT_EPSILON);
        dev->op.softcap_bwd(dev, again.data, y.data, n, 29);
        assert_true(n < 8 || ck_worst(again) > 1000 * (double)FLT_EPSILON);
        ck_free(y), ck_free(dx), ck_free(again);
    }
}

/* The CPU's bits, rounded to the device's activations. */
void cuda_test_dropout(dc_dev *dev)
{
    dc_ops cpu;
    dc_cpu_ops(&cpu, 0);
    for (size_t i = 0; i < CK_COUNT(sizes); i++) {
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            const int64_t n = sizes[i];
            const int32_t steps[2] = {77, 78};
            int32_t *const on_device = ck_ints(dev, steps, 2);
            const uint32_t *const step = (const uint32_t *)on_device;
            dc_dropout d = {0.1f, 0x123456789abcdefu, 5, (const uint32_t *)steps};
            ck_array x = ck_activation(dev, n, 1), y = ck_activation(dev, n, 1);
            float *const from = floats_of(x), *const to = floats_of(y);
            cpu.dropout(NULL, dc_floats_view(to), dc_view_read(dc_floats_view(from)), n, &d, accumulate);
            for (int64_t k = 0; k < n; k++) y.d[k] = small_round(dev, to[k]);
            d.step = step;
            dev->op.dropout(dev, ck_view(y), ck_cview(x), n, &d, accumulate);
            assert_true(ck_worst(y) == 0);
            d.step = step + 1; /* planted: another step is another mask */
            dev->op.dropout(dev, ck_view(y), ck_cview(x), n, &d, 0);
            assert_true(n < 1000 || ck_worst(y) > 0.5);
            d.p = 0;
            dev->op.dropout(dev, ck_view(x), ck_cview(x), n, &d, 0); /* p 0 in place changes nothing */
            assert_true(ck_worst(x) == 0);
            free(from), free(to);
            ck_free_ints(dev, on_device);
            ck_free(x), ck_free(y);
        }
    }
}

static void sums_are_right(const dc_floats *items, const ck_array *arrays, size_t n, dc_dev *dev, double *got)
{
    dc_error err = {0};
    dev->op.sumsq(dev, got, items, n);
    assert_int_equal(dc_dev_sync(dev, &err), DC_OK);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = 0; k < arrays[i].n; k++) sum += arrays[i].d[k] * arrays[i].d[k];
        /* Both sums are of positive doubles: relative error below n eps. */
        assert_true(fabs(got[i] - sum) <= (double)arrays[i].n * DBL_EPSILON * sum);
    }
}

/* More tensors than a table has rows: pieces of one. */
static void many_sums(dc_dev *dev)
{
    enum { N = 1100, EACH = 3 };
    static dc_floats items[N];
    static double got[N];
    ck_array x = ck_new(dev, DC_F32, N * EACH, 1);
    static ck_array pieces[N];
    for (int64_t i = 0; i < N; i++) {
        items[i] = (dc_floats){(float *)x.data + i * EACH, EACH};
        pieces[i] = (ck_array){.n = EACH, .d = x.d + i * EACH};
    }
    sums_are_right(items, pieces, N, dev, got);
    ck_free(x);
}

/* A list with spans of 4096: one, several, a last one that is short; more than a block has threads; longer spans. */
void cuda_test_sumsq(dc_dev *dev)
{
    const int64_t lengths[] = {5003, 1, 4096, 7, 4097, 300 * 4096 + 5, 1024 * 4096 + 9};
    const size_t n = CK_COUNT(lengths) - (dev->activation == DC_BF16 ? 2 : 0); /* once is enough for the long ones */
    ck_array arrays[CK_COUNT(lengths)];
    dc_floats items[CK_COUNT(lengths)];
    double got[CK_COUNT(lengths)], again[CK_COUNT(lengths)];
    for (size_t i = 0; i < n; i++) {
        arrays[i] = ck_new(dev, DC_F32, lengths[i], 1);
        items[i] = (dc_floats){arrays[i].data, lengths[i]};
    }
    sums_are_right(items, arrays, n, dev, got);
    for (size_t i = 0; i < n; i++) items[i].n -= items[i].n > 1; /* planted: the last elements do not count */
    dev->op.sumsq(dev, again, items, n);
    assert_int_equal(dc_dev_sync(dev, NULL), DC_OK);
    for (size_t i = 0; i < n; i++) {
        const double last = arrays[i].d[lengths[i] - 1];
        assert_true(lengths[i] == 1 || fabs(got[i] - again[i] - last * last) < 1e-8);
        ck_free(arrays[i]);
    }
    many_sums(dev);
}

static int64_t first_nonfinite(dc_dev *dev, dc_dtype type, const double *values, int64_t n)
{
    int64_t at = 99;
    ck_array x = ck_from(dev, type, n, values);
    dc_error err = {0};
    dev->op.nonfinite(dev, &at, ck_cview(x), n);
    assert_int_equal(dc_dev_sync(dev, &err), DC_OK);
    ck_free(x);
    return at;
}

void cuda_test_nonfinite(dc_dev *dev)
{
    const dc_dtype types[] = {DC_F32, dev->activation};
    const double odd[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t t = 0; t < CK_COUNT(types); t++) {
        for (size_t i = 0; i < CK_COUNT(sizes); i++) {
            const int64_t n = sizes[i];
            double *const x = malloc((size_t)n * sizeof *x);
            assert_non_null(x);
            for (int64_t k = 0; k < n; k++) x[k] = ck_uniform();
            x[n / 2] = 0x1.fep127; /* the largest of both types */
            assert_int_equal(first_nonfinite(dev, types[t], x, n), -1);
            for (size_t k = 0; k < CK_COUNT(odd); k++) {
                const int64_t where = ck_below(n);
                const double before = x[where], last = x[n - 1];
                x[where] = odd[k];
                x[n - 1] = odd[k]; /* a second one, behind */
                assert_int_equal(first_nonfinite(dev, types[t], x, n), where);
                x[n - 1] = last;
                x[where] = before;
            }
            free(x);
        }
    }
}
