/* tests/kernels/op_rows.c -- embedding, gather and scatter, unpacking of rows. These move values: results are exact
 * but for the one rounding of a scale or an addition. */
#include "kit.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/quant.h"

enum { V = 37, T = 53 };

static const int64_t widths[] = {1, 7, 64, 100, 577};

static void random_ids(int32_t *ids, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)kit_below(below);
}

/* A table of V rows in `type`, and in the double twin what the reference reader makes of it. */
static kit_array stored_table(void *stored, dc_dtype type, int64_t C)
{
    kit_array table = kit_new(V * C, 1);
    const int64_t bytes = dc_dtype_bytes(type, C);
    for (int64_t r = 0; r < V; r++) {
        float row[1024];
        dc_row_writer(type, 0)((char *)stored + r * bytes, table.f + r * C, C);
        dc_row_reader(type, 0)(row, (char *)stored + r * bytes, C);
        for (int64_t c = 0; c < C; c++) table.d[r * C + c] = row[c];
    }
    return table;
}

void test_embed_fwd(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    const struct {
        dc_dtype type;
        int64_t C;
    } cases[] = {{DC_F32, 1}, {DC_F32, 577}, {DC_BF16, 100}, {DC_F16, 7}, {DC_Q8_0, 96}, {DC_Q4_0, 576}};
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(cases); i++) {
            for (int scaled = 0; scaled < 2; scaled++) {
                static char stored[V * 1024 * 4];
                const int64_t C = cases[i].C;
                const float scale = scaled ? 33.94f : 1;
                kit_array table = stored_table(stored, cases[i].type, C), y = kit_new(T * C, 0);
                int32_t ids[T];
                random_ids(ids, T, V);
                ops.embed_fwd(NULL, kit_view(y), ids, (dc_cview){stored, cases[i].type}, T, C, V, scale);
                for (int64_t t = 0; t < T; t++)
                    for (int64_t c = 0; c < C; c++) y.d[t * C + c] = (float)table.d[ids[t] * C + c] * scale;
                assert_true(kit_worst(y) == 0);
                y.d[T * C - 1] += 1e-6;
                assert_true(kit_worst(y) > 0);
                kit_free(table), kit_free(y);
            }
        }
    }
}

void test_embed_bwd(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(widths); i++) {
            const int64_t C = widths[i];
            kit_array table = kit_new(V * C, 1), dy = kit_new(T * C, 1);
            int32_t ids[T];
            random_ids(ids, T, V / 3); /* repeated ids, ids that do not occur */
            for (int64_t t = 0; t < T; t++)
                for (int64_t c = 0; c < C; c++) table.d[ids[t] * C + c] += 1.5 * dy.d[t * C + c];
            ops.embed_bwd(NULL, table.f, ids, kit_cview(dy), T, C, V, 1.5f);
            /* At most T additions of values up to 1.5. Observed: 0.05 of this. */
            assert_true(kit_worst(table) <= T * 8 * FLT_EPSILON);
            ops.embed_bwd(NULL, table.f, ids, kit_cview(dy), 1, C, V, 1.5f); /* planted: one row twice */
            assert_true(kit_worst(table) > 100 * FLT_EPSILON);
            kit_free(table), kit_free(dy);
        }
    }
}

static void distinct_rows(int32_t *rows, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)((i * 7 + 3) % below); /* 7 and V are coprime */
}

void test_gather(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(widths); i++) {
            const int64_t C = widths[i], M = 20;
            kit_array x = kit_new(V * C, 1), y = kit_new(M * C, 0);
            int32_t rows[20];
            distinct_rows(rows, M, V);
            ops.gather(NULL, kit_view(y), kit_cview(x), rows, M, C);
            for (int64_t m = 0; m < M; m++) kit_same_bits(y.f + m * C, x.f + rows[m] * C, C);
            kit_free(x), kit_free(y);
        }
    }
}

void test_scatter_add(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(widths); i++) {
            const int64_t C = widths[i], M = 20;
            kit_array y = kit_new(V * C, 1), x = kit_new(M * C, 1);
            int32_t rows[20];
            distinct_rows(rows, M, V);
            ops.scatter_add(NULL, kit_view(y), kit_cview(x), rows, M, C);
            for (int64_t m = 0; m < M; m++)
                for (int64_t c = 0; c < C; c++) y.d[rows[m] * C + c] = (float)y.d[rows[m] * C + c] + x.f[m * C + c];
            assert_true(kit_worst(y) == 0);
            kit_free(y), kit_free(x);
        }
    }
}

void test_dequant(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    const struct {
        dc_dtype type;
        int64_t C;
    } cases[] = {{DC_F32, 7}, {DC_BF16, 100}, {DC_F16, 9}, {DC_Q8_0, 96}, {DC_Q4_0, 576}};
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        for (size_t i = 0; i < KIT_COUNT(cases); i++) {
            for (int chosen = 0; chosen < 2; chosen++) {
                static char stored[V * 1024 * 4];
                const int64_t C = cases[i].C;
                kit_array table = stored_table(stored, cases[i].type, C), out = kit_new(V * C, 0);
                int32_t rows[V];
                random_ids(rows, V, V);
                ops.dequant(NULL, out.f, (dc_cview){stored, cases[i].type}, chosen ? rows : NULL, V, C);
                for (int64_t r = 0; r < V; r++)
                    memcpy(out.d + r * C, table.d + (chosen ? rows[r] : r) * C, (size_t)C * sizeof(double));
                assert_true(kit_worst(out) == 0);
                kit_free(table), kit_free(out);
            }
        }
    }
}
