/* tests/cuda/op_rows_cuda.c -- embedding, gather and scatter, unpacking of rows, sums of columns. All but the sums move values: results are
 * exact but for the one rounding of a scale or an addition, and so compared bit by bit. */
#include "small.h"

enum { V = 37, T = 300 };

/* Up to two turns of a warp and more, and two slices of embed_bwd's columns. */
static const int64_t widths[] = {1, 7, 64, 577, 1100};

static int32_t *random_ids(dc_dev *dev, int32_t *ids, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)ck_below(below);
    return ck_ints(dev, ids, n);
}

typedef struct stored_case {
    dc_dtype type;
    int64_t C;
} stored_case;

static const stored_case stored[] = {
    {DC_F32, 1},    {DC_F32, 577},  {DC_BF16, 100}, {DC_BF16, 8},   {DC_F16, 7},    {DC_F16, 576},
    {DC_Q8_0, 96},  {DC_Q4_0, 576}, {DC_Q4_1, 32},  {DC_Q5_0, 64},  {DC_Q5_1, 320}, {DC_Q2_K, 256},
    {DC_Q3_K, 512}, {DC_Q4_K, 768}, {DC_Q5_K, 512}, {DC_Q6_K, 256},
};

void cuda_test_embed_fwd(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(stored); i++) {
        for (int scaled = 0; scaled < 2; scaled++) {
            const int64_t C = stored[i].C, n = 53;
            const float scale = scaled ? 33.94f : 1;
            ck_array table = ck_new(dev, stored[i].type, V * C, 1), y = ck_activation(dev, n * C, 0);
            int32_t ids[53], *const on_device = random_ids(dev, ids, n, V);
            dev->op.embed_fwd(dev, ck_view(y), on_device, ck_cview(table), n, C, V, scale);
            for (int64_t t = 0; t < n; t++)
                for (int64_t c = 0; c < C; c++)
                    y.d[t * C + c] = small_round(dev, (float)table.d[ids[t] * C + c] * scale);
            assert_true(ck_worst(y) == 0);
            dev->op.embed_fwd(dev, ck_view(y), on_device + 1, ck_cview(table), n - 1, C, V,
                              scale); /* planted: the next id */
            assert_true(ck_worst(y) > 0.1);
            ck_free_ints(dev, on_device);
            ck_free(table), ck_free(y);
        }
    }
}

/* Many ids occur several times, some in one stretch of 128 tokens and some in several, some never. */
void cuda_test_embed_bwd(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(widths); i++) {
        const int64_t C = widths[i];
        ck_array table = ck_new(dev, DC_F32, V * C, 1), dy = ck_activation(dev, T * C, 1);
        int32_t ids[T];
        ck_free_ints(dev, random_ids(dev, ids, T, V - 2));
        for (int64_t t = 1; t < T; t += 3) ids[t] = 5;
        int32_t *const on_device = ck_ints(dev, ids, T);
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = 0; c < C; c++) {
                double *const d = &table.d[ids[t] * C + c];
                *d = (float)*d + 1.7f * (float)dy.d[t * C + c];
            }
        dev->op.embed_bwd(dev, table.data, on_device, ck_cview(dy), T, C, V, 1.7f);
        assert_true(ck_worst(table) == 0);
        dev->op.embed_bwd(dev, table.data, on_device, ck_cview(dy), 1, C, V, 1.7f); /* planted: one row twice */
        assert_true(ck_worst(table) > 1e-3);
        ck_free_ints(dev, on_device);
        ck_free(table), ck_free(dy);
    }
}

static void distinct_rows(int32_t *rows, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)((i * 7 + 3) % below); /* 7 and V are coprime */
}

void cuda_test_gather(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(widths); i++) {
        enum { M = 20 };
        const int64_t C = widths[i];
        ck_array x = ck_activation(dev, V * C, 1), y = ck_activation(dev, M * C, 0);
        int32_t rows[M];
        distinct_rows(rows, M, V);
        int32_t *const on_device = ck_ints(dev, rows, M);
        dev->op.gather(dev, ck_view(y), ck_cview(x), on_device, M, C);
        for (int64_t m = 0; m < M; m++)
            for (int64_t c = 0; c < C; c++) y.d[m * C + c] = x.d[rows[m] * C + c];
        assert_true(ck_worst(y) == 0);
        dev->op.gather(dev, ck_view(y), ck_cview(x), on_device + 1, M - 1, C); /* planted: the next row */
        assert_true(ck_worst(y) > 0.1);
        ck_free_ints(dev, on_device);
        ck_free(x), ck_free(y);
    }
}

void cuda_test_scatter_add(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(widths); i++) {
        enum { M = 20 };
        const int64_t C = widths[i];
        ck_array y = ck_activation(dev, V * C, 1), x = ck_activation(dev, M * C, 1);
        int32_t rows[M];
        distinct_rows(rows, M, V);
        int32_t *const on_device = ck_ints(dev, rows, M);
        dev->op.scatter_add(dev, ck_view(y), ck_cview(x), on_device, M, C);
        for (int64_t m = 0; m < M; m++)
            for (int64_t c = 0; c < C; c++) {
                double *const d = &y.d[rows[m] * C + c];
                *d = small_round(dev, (float)*d + (float)x.d[m * C + c]);
            }
        assert_true(ck_worst(y) == 0);
        dev->op.scatter_add(dev, ck_view(y), ck_cview(x), on_device, 1, C); /* planted: one row twice */
        assert_true(ck_worst(y) > 1e-2);
        ck_free_ints(dev, on_device);
        ck_free(y), ck_free(x);
    }
}

void cuda_test_dequant(dc_dev *dev)
{
    for (size_t i = 0; i < CK_COUNT(stored); i++) {
        for (int chosen = 0; chosen < 2; chosen++) {
            const int64_t C = stored[i].C;
            ck_array table = ck_new(dev, stored[i].type, V * C, 1), out = ck_new(dev, DC_F32, V * C, 0);
            int32_t rows[V], *const on_device = random_ids(dev, rows, V, V);
            dev->op.dequant(dev, out.data, ck_cview(table), chosen ? on_device : NULL, V, C);
            for (int64_t r = 0; r < V; r++)
                for (int64_t c = 0; c < C; c++) out.d[r * C + c] = table.d[(chosen ? rows[r] : r) * C + c];
            assert_true(ck_worst(out) == 0);
            dev->op.dequant(dev, out.data, ck_cview(table), chosen ? NULL : on_device, V, C); /* planted: other rows */
            assert_true(ck_worst(out) > 0.1);
            ck_free_ints(dev, on_device);
            ck_free(table), ck_free(out);
        }
    }
}

/* The sum of T values in [-1, 1) stays below 8 standard deviations of 0.58 sqrt(T); it has at most 8 + 2 + 8 roundings at
 * each of two levels, and two more. Observed: 0.34 of this. */
static double colsum_share(dc_dev *dev, int64_t rows, int64_t C)
{
    ck_array x = ck_activation(dev, rows * C, 1), out = ck_new(dev, DC_F32, C, 1);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t c = 0; c < C; c++) out.d[c] += x.d[t * C + c];
    dev->op.colsum(dev, out.data, ck_cview(x), rows, C);
    const double share = ck_worst(out) / ((double)FLT_EPSILON * 8 * 0.58 * sqrt((double)rows));
    dev->op.colsum(dev, out.data, ck_cview(x), 1, C); /* planted: the first row twice */
    assert_true(C == 1 || ck_worst(out) > 1e-2);
    ck_free(x), ck_free(out);
    return share;
}

void cuda_test_colsum(dc_dev *dev)
{
    const int64_t columns[] = {1, 7, 64, 65, 577};
    const struct {
        int64_t rows, C;
    } tall[] = {{600, 72}, {66000, 2}}; /* two levels; tiles of more than 256 rows */
    for (size_t i = 0; i < CK_COUNT(columns); i++) {
        const double share = colsum_share(dev, T, columns[i]);
        assert_true(share <= 1);
    }
    for (size_t i = 0; i < CK_COUNT(tall); i++) {
        const double share = colsum_share(dev, tall[i].rows, tall[i].C);
        assert_true(share <= 1);
    }
    assert_true(colsum_share(dev, 1, 5) <= 1);
}
