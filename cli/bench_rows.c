/* cli/bench_rows.c -- what passes over rows and is bound by memory: norms, positions, gates, the optimizer. */
#include <stdio.h>

#include "cli/bench.h"
#include "core/arena.h"

enum { C = 576, F = 1536, H = 9, D = 64, TENSORS = 4 };

typedef struct rows {
    dc_dev *dev;
    int64_t T;
    dc_view x, y, z, u, v; /* [T, F] */
    dc_view weight, rstd, inv_freq, sums;
    int32_t *pos, *ids;
    dc_view table;
    dc_adamw_item items[TENSORS];
    double norms[TENSORS];
    dc_floats list[TENSORS];
} rows;

static void norm_fwd(void *context)
{
    rows *r = context;
    r->dev->op.rmsnorm_fwd(r->dev, r->y, r->rstd.data, dc_view_read(r->x), dc_view_read(r->weight), r->T, C, C, C,
                           1e-5f, 0);
}

static void norm_bwd(void *context)
{
    rows *r = context;
    r->dev->op.rmsnorm_bwd(r->dev, r->y, NULL, dc_view_read(r->z), dc_view_read(r->x), r->rstd.data,
                           dc_view_read(r->weight), r->T, C, C, C, 0, 1);
}

static void rope(void *context)
{
    rows *r = context;
    r->dev->op.rope(r->dev, r->y, r->pos, r->inv_freq.data, r->T, H, D, D, 0, 1, 1);
}

static void glu_fwd(void *context)
{
    rows *r = context;
    r->dev->op.glu_fwd(r->dev, r->y, dc_view_read(r->x), dc_view_read(r->z), r->T * F, DC_ACT_SILU);
}

static void glu_bwd(void *context)
{
    rows *r = context;
    r->dev->op.glu_bwd(r->dev, r->u, r->v, dc_view_read(r->y), dc_view_read(r->x), dc_view_read(r->z), r->T * F,
                       DC_ACT_SILU);
}

static void embed(void *context)
{
    rows *r = context;
    r->dev->op.embed_fwd(r->dev, r->y, r->ids, dc_view_read(r->table), r->T, C, r->T, 1);
}

static void adamw(void *context)
{
    rows *r = context;
    const dc_adamw a = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = 1, .step = 1};
    r->dev->op.adamw(r->dev, r->items, TENSORS, &a);
}

static void sumsq(void *context)
{
    rows *r = context;
    r->dev->op.sumsq(r->dev, r->norms, r->list, TENSORS);
}

/* A quarter of the sums is parameters, gradients and both moments each, in a few tensors. */
static void list_tensors(rows *r, int64_t n)
{
    const int64_t each = n / 4 / TENSORS;
    float *p = r->sums.data;
    for (int i = 0; i < TENSORS; i++, p += 4 * each) {
        r->items[i] = (dc_adamw_item){p, p + each, p + 2 * each, p + 3 * each, each, 1, 0};
        r->list[i] = (dc_floats){p + 3 * each, each};
    }
}

static int rows_new(rows *r, dc_bench *b, int64_t sums, dc_error *err)
{
    int rc = DC_OK;
    const dc_dtype type = b->dev->activation;
    const int64_t n = r->T * F;
    void *pos = NULL;
    int32_t *host = dc_malloc((size_t)r->T * sizeof *host);
    if (!host) return dc_fail_memory(err, (size_t)r->T * sizeof *host, "a benchmark");
    for (int64_t t = 0; t < r->T; t++) host[t] = (int32_t)t;
    dc_view *const wide[] = {&r->x, &r->y, &r->z, &r->u, &r->v};
    for (uint32_t i = 0; i < 5; i++) DC_TRY(dc_bench_numbers(b, wide[i], type, n, i, err));
    DC_TRY(dc_bench_numbers(b, &r->weight, type, C, 6, err));
    DC_TRY(dc_bench_numbers(b, &r->table, type, r->T * C, 7, err));
    DC_TRY(dc_bench_numbers(b, &r->rstd, DC_F32, r->T, 8, err));
    DC_TRY(dc_bench_numbers(b, &r->inv_freq, DC_F32, D / 2, 9, err));
    DC_TRY(dc_bench_numbers(b, &r->sums, DC_F32, sums, 10, err));
    DC_TRY(dc_bench_table(b, &pos, host, (size_t)r->T * sizeof *host, err));
    r->pos = r->ids = pos;
done:
    dc_free(host);
    return rc;
}

static void rows_free(rows *r)
{
    const dc_view all[] = {r->x, r->y, r->z, r->u, r->v, r->weight, r->table, r->rstd, r->inv_freq, r->sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dc_dev_free(r->dev, all[i].data);
    dc_dev_free(r->dev, r->pos);
}

int dc_bench_rows(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    char title[64];
    rows r = {.dev = b->dev, .T = b->tokens};
    const int64_t sums = (int64_t)(b->quick ? 1 : 16) << 20;
    const double e = (double)dc_element_bytes(b->dev->activation), T = (double)r.T;
    DC_TRY(rows_new(&r, b, sums, err));
    list_tensors(&r, sums);
    snprintf(title, sizeof title, "passes over %lld tokens (caches hold some)", b->tokens);
    dc_bench_group(b, title);
    dc_bench_row(b, "norm of 576          forward", dc_bench_time(b, norm_fwd, &r), 0, 2 * e * T * C);
    dc_bench_row(b, "norm of 576          backward", dc_bench_time(b, norm_bwd, &r), 0, 3 * e * T * C);
    dc_bench_row(b, "rope, 9 heads of 64", dc_bench_time(b, rope, &r), 0, 2 * e * T * H * D);
    dc_bench_row(b, "SwiGLU of 1536       forward", dc_bench_time(b, glu_fwd, &r), 0, 3 * e * T * F);
    dc_bench_row(b, "SwiGLU of 1536       backward", dc_bench_time(b, glu_bwd, &r), 0, 5 * e * T * F);
    dc_bench_row(b, "embedding of 576", dc_bench_time(b, embed, &r), 0, 2 * e * T * C);
    snprintf(title, sizeof title, "%.1f million parameters in %d tensors", (double)sums / 4e6, TENSORS);
    dc_bench_group(b, title);
    dc_bench_row(b, "AdamW", dc_bench_time(b, adamw, &r), 0, 7.0 * (double)sums);
    dc_bench_row(b, "norm of the gradients", dc_bench_time(b, sumsq, &r), 0, (double)sums);
    rc = dc_dev_sync(b->dev, err);
done:
    rows_free(&r);
    return rc;
}
