/* tests/kernels/test_gemm_own.c -- the own matrix product with each of its kernels: values, and the bits that it promises. */
#include "gemm_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/pool.h"
#include "kernels/cpu.h"
#include "kernels/dev_cpu.h"
#include "kernels/gemm_own.h"
#include "kernels/quant.h"

extern const dc_gemm_kernel gemm_kernel_wide;

static const dc_gemm_kernel *kernels[3];
static size_t n_kernels;
static float *scratch;
static const dc_gemm_kernel *current;

static int set_up(void **state)
{
    (void)state;
    if (!dc_gemm_own_kernel(dc_cpu_found())) {
        puts("this processor lacks AVX2 or FMA");
        exit(77);
    }
    kernels[n_kernels++] = &dc_gemm_kernel_avx2;
    kernels[n_kernels++] = &gemm_kernel_wide;
    if (dc_gemm_own_kernel(dc_cpu_found()) == &dc_gemm_kernel_avx512) kernels[n_kernels++] = &dc_gemm_kernel_avx512;
    scratch = dc_alloc_aligned(DC_PANEL_FLOATS * sizeof(float));
    return scratch ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    dc_free(scratch);
    return 0;
}

static void own(dc_dev *dev, const dc_gemm *g)
{
    (void)dev;
    dc_gemm_own(current, scratch, g);
}

static void every_shape(void **state)
{
    (void)state;
    for (size_t k = 0; k < n_kernels; k++) {
        current = kernels[k];
        gemm_all_shapes(NULL, own);
    }
}

/* Sizes around tiles, panels and blocks of K, and rows at multiples of a page, which are packed. */
static void edges(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 6, 7, 13, 14, 15, 33, 71}, columns[] = {1, 8, 15, 16, 17, 31, 32, 33, 49, 70},
                         sums[] = {1, 31, 256, 320, 321, 512, 640, 700, 1024, 2049};
    for (size_t k = 0; k < n_kernels; k++) {
        current = kernels[k];
        for (size_t m = 0; m < KIT_COUNT(rows); m++)
            for (size_t n = 0; n < KIT_COUNT(columns); n++)
                for (int trans = 0; trans < 4; trans++) {
                    const gemm_case c = {
                        rows[m],    columns[n], sums[(m + n) % KIT_COUNT(sums)], 0, trans & 1, trans >> 1, (int)n & 1,
                        (int)m & 1, 0.5f,       n % 3 ? DC_F32 : DC_BF16};
                    assert_true(gemm_share(NULL, own, c, 0, 1) <= 1);
                }
        for (size_t i = 0; i < KIT_COUNT(sums); i++) {
            const gemm_case wide = {37, 200, sums[i], 0, 0, 1, 1, 1, 1, DC_F32},
                            high = {200, 37, sums[i], 2, 1, 0, 0, 1, 1, DC_F32};
            assert_true(gemm_share(NULL, own, wide, 0, 1) <= 1);
            assert_true(gemm_share(NULL, own, high, 0, 1) <= 1);
        }
    }
}

/* ---- bits ---- */

typedef struct whole {
    dc_gemm g;
    kit_array a, c, bias;
    void *b;
    int64_t b_block; /* elements that a column of op(B) can be told apart by */
} whole;

static void fill(void *out, dc_dtype type, int64_t rows, int64_t width)
{
    kit_array row = kit_new(width, 0);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++) row.f[i] = (float)kit_uniform();
        dc_row_writer(type, 0)((char *)out + r * dc_dtype_bytes(type, width), row.f, width);
    }
    kit_free(row);
}

static whole whole_new(gemm_case k)
{
    const int64_t rows = k.trans_b ? k.N : k.K, width = k.trans_b ? k.K : k.N;
    whole w = {.a = kit_new(k.M * k.K, 1), .c = kit_new(k.M * k.N, 1), .bias = kit_new(k.N, 1)};
    w.b = malloc((size_t)(rows * dc_dtype_bytes(k.type, width)));
    assert_non_null(w.b);
    fill(w.b, k.type, rows, width);
    w.b_block = k.trans_b ? 1 : dc_dtype_get(k.type)->block;
    w.g = (dc_gemm){.c = kit_view(w.c),
                    .a = kit_cview(w.a),
                    .b = {w.b, k.type},
                    .bias = k.bias ? w.bias.f : NULL,
                    .M = k.M,
                    .N = k.N,
                    .K = k.K,
                    .lda = k.trans_a ? k.M : k.K,
                    .ldb = width,
                    .ldc = k.N,
                    .trans_a = k.trans_a,
                    .trans_b = k.trans_b,
                    .accumulate = k.accumulate,
                    .alpha = k.alpha};
    return w;
}

static void whole_free(whole *w)
{
    kit_free(w->a), kit_free(w->c), kit_free(w->bias);
    free(w->b);
}

/* Rows m .. m + M and columns n .. n + N of the product into the same place of c. */
static void piece(const whole *w, kit_array c, int64_t m, int64_t M, int64_t n, int64_t N)
{
    dc_gemm g = w->g;
    g.M = M, g.N = N;
    g.c.data = c.f + m * g.ldc + n;
    g.a.data = (const float *)g.a.data + (g.trans_a ? m : m * g.lda);
    g.b.data = (const char *)g.b.data + (g.trans_b ? n * dc_dtype_bytes(g.b.type, g.ldb) : dc_dtype_bytes(g.b.type, n));
    if (g.bias) g.bias += n;
    own(NULL, &g);
}

/* The product in rectangles of random sizes, each with another number of threads and another kernel. */
static void pieces(const whole *w, kit_array c)
{
    static const int threads[] = {1, 2, 3, 5};
    for (int64_t m = 0, M; m < w->g.M; m += M) {
        M = 1 + kit_below(w->g.M / 2);
        if (M > w->g.M - m) M = w->g.M - m;
        for (int64_t n = 0, N; n < w->g.N; n += N) {
            N = (1 + kit_below(w->g.N / w->b_block / 2 + 1)) * w->b_block;
            if (N > w->g.N - n) N = w->g.N - n;
            current = kernels[kit_below((int64_t)n_kernels)];
            dc_pool_set_threads(threads[kit_below(4)]);
            piece(w, c, m, M, n, N);
        }
    }
}

static void any_split_gives_the_same_bits(void **state)
{
    (void)state;
    static const dc_dtype types[] = {DC_F32, DC_BF16, DC_Q8_0, DC_Q4_0};
    for (int i = 0; i < 32; i++) {
        const dc_dtype type = types[i / 8];
        const int trans_b = i & 1, quantized = dc_dtype_get(type)->block > 1;
        const gemm_case k = {90 + i,
                             !trans_b && quantized ? 320 : 150 + i,
                             trans_b && quantized ? 672 : 300 + 67 * i,
                             0,
                             i >> 1 & 1,
                             trans_b,
                             i >> 2 & 1,
                             1,
                             0.3f,
                             type};
        whole w = whole_new(k);
        kit_array c = kit_like(w.c);
        dc_pool_set_threads(2);
        current = kernels[0];
        piece(&w, w.c, 0, k.M, 0, k.N);
        pieces(&w, c);
        kit_same_bits(w.c.f, c.f, c.n);
        kit_free(c);
        whole_free(&w);
    }
    dc_pool_set_threads(0);
}

/* A sum cut elsewhere has other bits, or the test above could not fail. */
static void another_order_shows(void **state)
{
    (void)state;
    whole w = whole_new((gemm_case){20, 33, 640, 0, 0, 1, 0, 0, 1, DC_F32});
    kit_array c = kit_like(w.c);
    current = kernels[0];
    piece(&w, w.c, 0, 20, 0, 33);
    w.g.K = 300;
    piece(&w, c, 0, 20, 0, 33);
    w.g.K = 340, w.g.accumulate = 1;
    w.g.a.data = w.a.f + 300;
    w.g.b.data = (const float *)w.b + 300;
    piece(&w, c, 0, 20, 0, 33);
    assert_true(memcmp(w.c.f, c.f, sizeof(float) * 20 * 33) != 0);
    kit_free(c);
    whole_free(&w);
}

/* Where there are more threads than jobs or shares of the scratch. */
static void many_threads(void **state)
{
    (void)state;
    whole w = whole_new((gemm_case){150, 333, 650, 0, 1, 0, 0, 1, 1, DC_F32});
    for (size_t k = 0; k < n_kernels; k++) {
        kit_array c = kit_like(w.c);
        current = kernels[k];
        dc_pool_set_threads(1);
        piece(&w, w.c, 0, 150, 0, 333);
        dc_pool_set_threads(150);
        piece(&w, c, 0, 150, 0, 333);
        kit_same_bits(w.c.f, c.f, c.n);
        kit_free(c);
    }
    dc_pool_set_threads(0);
    whole_free(&w);
}

/* ---- values that are not numbers ---- */

static void only(const float *c, int64_t M, int64_t N, int64_t row, int64_t column, int (*is)(double))
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) assert_int_equal(is((double)c[m * N + n]) != 0, m == row || n == column);
}

static int is_nan(double x) { return isnan(x); }
static int is_not_finite(double x) { return !isfinite(x); }

/* A NaN or an infinity of A is in its row, one of B in its column, nowhere else: not in what stands beside the fringe. */
static void not_numbers(void **state)
{
    (void)state;
    enum { M = 50, N = 75, K = 330 };
    for (size_t k = 0; k < n_kernels; k++) {
        current = kernels[k];
        for (int trans = 0; trans < 4; trans++) {
            const gemm_case plain = {M, N, K, 0, trans & 1, trans >> 1, 0, 0, 1, DC_F32};
            for (int infinite = 0; infinite < 2; infinite++) {
                whole w = whole_new(plain);
                const float bad = infinite ? INFINITY : NAN;
                const int64_t m = kit_below(M), n = N - 1, at = kit_below(K);
                w.a.f[plain.trans_a ? at * M + m : m * K + at] = bad;
                ((float *)w.b)[plain.trans_b ? n * K + at : at * N + n] = bad;
                piece(&w, w.c, 0, M, 0, N);
                only(w.c.f, M, N, m, n, infinite ? is_not_finite : is_nan);
                whole_free(&w);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),
        cmocka_unit_test(edges),
        cmocka_unit_test(any_split_gives_the_same_bits),
        cmocka_unit_test(another_order_shows),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(not_numbers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
