/* tests/kernels/gemm_case.c */
#include "gemm_case.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "kernels/oracle.h"
#include "kernels/quant.h"

/* Blocks of random bytes with sensible scales: all types can be read, not all written. The scales' places are where
 * any half of 0x2bxx is small (0.06) whatever the type makes of it. */
static void random_blocks(unsigned char *out, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i++) out[i] = i % 2 ? 0x2b : (unsigned char)kit_below(256);
}

typedef struct stored {
    void *data;
    kit_array values; /* what the reference reader makes of it, in both twins; its rows have no padding in front */
} stored;

static stored stored_new(dc_dtype type, int64_t rows, int64_t ld)
{
    stored s = {NULL, kit_new(rows * ld, 1)};
    const int64_t bytes = dc_dtype_bytes(type, ld);
    s.data = malloc((size_t)(rows * bytes));
    assert_non_null(s.data);
    if (dc_row_writer(type, 0))
        for (int64_t r = 0; r < rows; r++) dc_row_writer(type, 0)((char *)s.data + r * bytes, s.values.f + r * ld, ld);
    else random_blocks(s.data, rows * bytes);
    for (int64_t r = 0; r < rows; r++) dc_row_reader(type, 0)(s.values.f + r * ld, (char *)s.data + r * bytes, ld);
    for (int64_t i = 0; i < rows * ld; i++) s.values.d[i] = s.values.f[i];
    return s;
}

static void stored_free(stored s)
{
    kit_free(s.values);
    free(s.data);
}

/* A running sum of K products of random signs and size s wanders as far as sqrt(k) s, and its roundings wander
 * after it: eps / 2 times sqrt(sum_k k) s = 0.35 K eps s, s a third of the largest product; five standard
 * deviations of that and more are in K eps. The 8 are for alpha, bias and C. */
static double bound(const gemm_case *k, double largest_a, double largest_b)
{
    return FLT_EPSILON * (((double)k->K + 8) * largest_a * largest_b * fabs((double)k->alpha) + 4);
}

double gemm_share(dc_dev *dev, dc_gemm_fn *gemm, gemm_case k, int wrong, int same_bits)
{
    const int64_t lda = (k.trans_a ? k.M : k.K) + k.pad, b_width = k.trans_b ? k.K : k.N;
    const int64_t ldb =
        b_width + (k.pad + dc_dtype_get(k.type)->block - 1) / dc_dtype_get(k.type)->block * dc_dtype_get(k.type)->block;
    const int64_t ldc = k.N + k.pad;
    kit_array a = kit_new((k.trans_a ? k.K : k.M) * lda, 1), c = kit_new(k.M * ldc, 1), bias = kit_new(k.N, 1);
    stored b = stored_new(k.type, k.trans_b ? k.N : k.K, ldb);
    kit_array again = kit_like(c);
    if (wrong)
        for (int64_t i = 0; i < a.n; i++) a.d[i] *= 1.001;
    dc_gemm_oracle(c.d, a.d, b.values.d, k.bias ? bias.d : NULL, k.M, k.N, k.K, lda, ldb, ldc, k.trans_a, k.trans_b,
                   k.accumulate, (double)k.alpha);
    memcpy(again.d, c.d, (size_t)c.n * sizeof *c.d);
    if (!k.accumulate) /* what was there must not matter */
        for (int64_t m = 0; m < k.M; m++)
            for (int64_t n = 0; n < k.N; n++) c.f[m * ldc + n] = again.f[m * ldc + n] = NAN;
    const dc_gemm g = {.c = kit_view(c),
                       .a = kit_cview(a),
                       .b = {b.data, k.type},
                       .bias = k.bias ? bias.f : NULL,
                       .M = k.M,
                       .N = k.N,
                       .K = k.K,
                       .lda = lda,
                       .ldb = ldb,
                       .ldc = ldc,
                       .trans_a = k.trans_a,
                       .trans_b = k.trans_b,
                       .accumulate = k.accumulate,
                       .alpha = k.alpha};
    dc_gemm other = g;
    other.c = kit_view(again);
    dc_pool_set_threads(2);
    gemm(dev, &g);
    dc_pool_set_threads(1);
    gemm(dev, &other);
    dc_pool_set_threads(0);
    if (same_bits) kit_same_bits(c.f, again.f, c.n);
    /* kit_worst covers the padding of the rows of C as well: it must be as it was. */
    const double share = fmax(kit_worst(c), kit_worst(again)) / bound(&k, kit_largest(a), kit_largest(b.values));
    kit_free(a), kit_free(c), kit_free(bias), kit_free(again);
    stored_free(b);
    return share;
}

static void expect(dc_dev *dev, dc_gemm_fn *gemm, gemm_case k)
{
    const double share = gemm_share(dev, gemm, k, 0, 1);
    if (!(share <= 1))
        fail_msg("%lld x %lld x %lld %s%s %s alpha %g%s%s: error %.3g of the bound", (long long)k.M, (long long)k.N,
                 (long long)k.K, k.trans_a ? "T" : "N", k.trans_b ? "T" : "N", dc_dtype_get(k.type)->name,
                 (double)k.alpha, k.accumulate ? " accumulate" : "", k.bias ? " bias" : "", share);
}

void gemm_all_shapes(dc_dev *dev, dc_gemm_fn *gemm)
{
    static const int64_t shapes[][3] = {{1, 1, 1},   {1, 37, 64}, {3, 5, 7},      {4, 4, 4},
                                        {5, 6, 70},  {8, 9, 40},  {16, 33, 100},  {17, 16, 129},
                                        {65, 1, 33}, {33, 70, 1}, {100, 16, 257}, {64, 96, 64}};
    for (size_t s = 0; s < KIT_COUNT(shapes); s++) {
        for (int bits = 0; bits < 32; bits++) {
            const gemm_case k = {shapes[s][0],
                                 shapes[s][1],
                                 shapes[s][2],
                                 bits & 16 ? 3 : 0,
                                 bits & 1,
                                 bits >> 1 & 1,
                                 bits >> 2 & 1,
                                 bits >> 3 & 1,
                                 1,
                                 DC_F32};
            gemm_case scaled = k;
            scaled.alpha = -0.37f;
            expect(dev, gemm, k);
            expect(dev, gemm, scaled);
        }
    }
    static const dc_dtype types[] = {DC_F16,  DC_BF16, DC_Q4_0, DC_Q4_1, DC_Q5_0, DC_Q5_1,
                                     DC_Q8_0, DC_Q2_K, DC_Q3_K, DC_Q4_K, DC_Q5_K, DC_Q6_K};
    for (size_t t = 0; t < KIT_COUNT(types); t++) {
        for (int bits = 0; bits < 16; bits++) {
            const int64_t other = 70, width = dc_dtype_get(types[t])->block == 1 ? 77 : 1280;
            const int trans_b = bits & 1;
            const gemm_case k = {bits & 2 ? 3 : 40,
                                 trans_b ? other : width,
                                 trans_b ? width : other,
                                 bits & 8 ? 3 : 0,
                                 bits >> 2 & 1,
                                 trans_b,
                                 bits & 4,
                                 bits & 8,
                                 1,
                                 types[t]};
            expect(dev, gemm, k);
        }
    }
    const gemm_case planted = {16, 33, 100, 0, 0, 1, 0, 0, 1, DC_F32};
    assert_true(gemm_share(dev, gemm, planted, 1, 0) > 20);
}
