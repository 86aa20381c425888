/* tests/kernels/test_gemm.c -- every backend of a CPU device through every shape; panels, tiles, threads. */
#include "gemm_case.h"

#include <string.h>

#include "kernels/cpu.h"
#include "kernels/dev.h"
#include "kernels/dev_cpu.h"

static dc_dev *open_with(dc_gemm_backend backend, unsigned features)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    dc_dev_options options = dc_dev_defaults();
    options.backend = backend;
    options.cpu_features = features;
    assert_int_equal(dc_dev_open(&dev, &options, &err), DC_OK);
    return dev;
}

static void close_clean(dc_dev *dev)
{
    dc_error err = {0};
    assert_int_equal(dc_dev_sync(dev, &err), DC_OK);
    dc_dev_close(dev);
}

static void every_backend(void **state)
{
    (void)state;
    for (int b = 0; b < DC_GEMM_BACKENDS; b++) {
        if (!dc_gemm_has((dc_gemm_backend)b)) continue;
        dc_dev *dev = open_with((dc_gemm_backend)b, ~0u);
        gemm_all_shapes(dev, dev->op.gemm);
        close_clean(dev);
    }
}

/* Without AVX2 the library takes the small shapes too. */
static void library_alone(void **state)
{
    (void)state;
    dc_dev *dev = open_with(DC_GEMM_OPENBLAS, 0);
    gemm_all_shapes(dev, dev->op.gemm);
    close_clean(dev);
}

/* Matrices that need several panels, each way round. A little over what the scratch holds: K or N is what is split. */
static void panels(void **state)
{
    (void)state;
    for (int b = DC_GEMM_OPENBLAS; b < DC_GEMM_BACKENDS; b++) {
        if (!dc_gemm_has((dc_gemm_backend)b)) continue;
        dc_dev *dev = open_with((dc_gemm_backend)b, ~0u);
        for (int bits = 0; bits < 4; bits++) {
            const int trans_b = bits & 1, accumulate = bits >> 1;
            const gemm_case k = {
                17, trans_b ? 2100 : 2048, trans_b ? 2048 : 2100, 0, 0, trans_b, accumulate, 1, 0.5f, DC_BF16};
            assert_true(gemm_share(dev, dev->op.gemm, k, 0, 1) <= 1);
        }
        close_clean(dev);
    }
}

/* Shapes at which a library left to itself sums by thread: narrow and long. gemm_share compares the bits of one
 * thread and two. */
static void long_sums(void **state)
{
    (void)state;
    for (int b = DC_GEMM_OPENBLAS; b < DC_GEMM_BACKENDS; b++) {
        if (!dc_gemm_has((dc_gemm_backend)b)) continue;
        dc_dev *dev = open_with((dc_gemm_backend)b, ~0u);
        for (int trans = 0; trans < 4; trans++) {
            const gemm_case wide = {17, 64, 4300, 0, trans & 1, trans >> 1, 1, 0, 2, DC_F32},
                            high = {300, 16, 2048, 0, trans & 1, trans >> 1, 0, 1, 1, DC_F32};
            assert_true(gemm_share(dev, dev->op.gemm, wide, 0, 1) <= 1);
            assert_true(gemm_share(dev, dev->op.gemm, high, 0, 1) <= 1);
        }
        close_clean(dev);
    }
}

/* Sizes around those at which C is cut, in both directions. */
static void tiles(void **state)
{
    (void)state;
    dc_dev *dev = open_with(DC_GEMM_BACKENDS, ~0u);
    static const int64_t sizes[] = {17, 63, 64, 65, 128, 255, 257, 513, 1030};
    for (size_t i = 0; i < KIT_COUNT(sizes); i++) {
        for (size_t j = 0; j < KIT_COUNT(sizes); j++) {
            const gemm_case k = {sizes[i], sizes[j], 9, 1, 0, 1, 1, 1, 1, DC_F32};
            assert_true(gemm_share(dev, dev->op.gemm, k, 0, 1) <= 1);
        }
    }
    close_clean(dev);
}

static void fp32_is_fp32(void **state)
{
    (void)state;
    /* 1 + 2^-12 is not a bfloat16 nor a tf32: a library that rounds its operands would lose it. */
    for (int b = 0; b < DC_GEMM_BACKENDS; b++) {
        if (!dc_gemm_has((dc_gemm_backend)b)) continue;
        dc_dev *dev = open_with((dc_gemm_backend)b, ~0u);
        enum { N = 64 };
        kit_array a = kit_new(N * N, 0), c = kit_new(N * N, 0), one = kit_new(N * N, 0);
        for (int i = 0; i < N * N; i++) a.f[i] = 1 + 0x1p-12f;
        for (int i = 0; i < N; i++) one.f[i * N + i] = 1;
        const dc_gemm g = {.c = kit_view(c),
                           .a = kit_cview(a),
                           .b = kit_cview(one),
                           .M = N,
                           .N = N,
                           .K = N,
                           .lda = N,
                           .ldb = N,
                           .ldc = N,
                           .trans_b = 1,
                           .alpha = 1};
        dev->op.gemm(dev, &g);
        kit_same_bits(c.f, a.f, N * N);
        kit_free(a), kit_free(c), kit_free(one);
        close_clean(dev);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_backend), cmocka_unit_test(library_alone), cmocka_unit_test(panels),
        cmocka_unit_test(long_sums),     cmocka_unit_test(tiles),         cmocka_unit_test(fp32_is_fp32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
