/* kernels/rows.c -- ops that move rows: embedding, gather, scatter, unpacking of stored weights. In threads by
 * rows, or by columns where several rows may meet in one. */
#include "kernels/table.h"

#include <string.h>

#include "core/pool.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"

typedef struct rows {
    float *out;         /* [n, C] */
    dc_cview table;     /* [*, C] */
    const int32_t *ids; /* or NULL: 0, 1, ... */
    dc_row_read_fn *read;
    int64_t n, C;
    float scale;
} rows;

static void read_rows(void *context, int64_t i)
{
    const rows *r = context;
    const dc_span s = dc_block(i, r->n, dc_rows_a_block(r->C));
    for (int64_t t = s.low; t < s.high; t++) {
        float *out = r->out + t * r->C;
        r->read(out, dc_row_at(r->table, r->ids ? r->ids[t] : t, r->C), r->C);
        if (r->scale != 1)
            for (int64_t c = 0; c < r->C; c++) out[c] *= r->scale;
    }
}

static void read_all(rows r, unsigned features)
{
    r.read = dc_row_reader(r.table.type, features);
    DC_ASSERT(r.read);
    dc_pool_for(dc_blocks(r.n, dc_rows_a_block(r.C)), read_rows, &r);
}

void dc_embed_fwd_ref(dc_dev *dev, dc_view y, const int32_t *ids, dc_cview table, int64_t T, int64_t C, int64_t V,
                      float scale)
{
    (void)dev, (void)V;
    read_all((rows){.out = y.data, .table = table, .ids = ids, .n = T, .C = C, .scale = scale}, 0);
}

void dc_dequant_ref(dc_dev *dev, float *out, dc_cview w, const int32_t *ids, int64_t n, int64_t C)
{
    (void)dev;
    read_all((rows){.out = out, .table = w, .ids = ids, .n = n, .C = C, .scale = 1}, 0);
}

static void embed_fwd_avx2(dc_dev *dev, dc_view y, const int32_t *ids, dc_cview table, int64_t T, int64_t C, int64_t V,
                           float scale)
{
    (void)dev, (void)V;
    read_all((rows){.out = y.data, .table = table, .ids = ids, .n = T, .C = C, .scale = scale}, DC_FEATURES_AVX2);
}

static void dequant_avx2(dc_dev *dev, float *out, dc_cview w, const int32_t *ids, int64_t n, int64_t C)
{
    (void)dev;
    read_all((rows){.out = out, .table = w, .ids = ids, .n = n, .C = C, .scale = 1}, DC_FEATURES_AVX2);
}

void dc_rows_overlay_avx2(dc_ops *ops)
{
    ops->embed_fwd = embed_fwd_avx2;
    ops->dequant = dequant_avx2;
}

typedef struct scatter {
    float *y;
    const float *x;     /* [n, C] */
    const int32_t *ids; /* [n] */
    int64_t n, C;
    float scale;
} scatter;

enum { COLUMNS = 64 };

/* One slice of columns, all rows in order: a token that occurs twice is added twice, in the order of t. */
static void embed_bwd_columns(void *context, int64_t i)
{
    const scatter *s = context;
    const dc_span c = dc_block(i, s->C, COLUMNS);
    for (int64_t t = 0; t < s->n; t++) {
        float *y = s->y + s->ids[t] * s->C;
        const float *x = s->x + t * s->C;
        for (int64_t k = c.low; k < c.high; k++) y[k] += s->scale * x[k];
    }
}

void dc_embed_bwd_ref(dc_dev *dev, float *dtable, const int32_t *ids, dc_cview dy, int64_t T, int64_t C, int64_t V,
                      float scale)
{
    (void)dev, (void)V;
    scatter s = {dtable, dy.data, ids, T, C, scale};
    dc_pool_for(dc_blocks(C, COLUMNS), embed_bwd_columns, &s);
}

static void gather_rows(void *context, int64_t i)
{
    const scatter *s = context;
    const dc_span m = dc_block(i, s->n, dc_rows_a_block(s->C));
    for (int64_t t = m.low; t < m.high; t++)
        memcpy(s->y + t * s->C, s->x + s->ids[t] * s->C, (size_t)s->C * sizeof *s->y);
}

void dc_gather_ref(dc_dev *dev, dc_view y, dc_cview x, const int32_t *ids, int64_t M, int64_t C)
{
    (void)dev;
    scatter s = {y.data, x.data, ids, M, C, 1};
    dc_pool_for(dc_blocks(M, dc_rows_a_block(C)), gather_rows, &s);
}

static void scatter_rows(void *context, int64_t i)
{
    const scatter *s = context;
    const dc_span m = dc_block(i, s->n, dc_rows_a_block(s->C));
    for (int64_t t = m.low; t < m.high; t++) {
        float *y = s->y + s->ids[t] * s->C;
        const float *x = s->x + t * s->C;
        for (int64_t c = 0; c < s->C; c++) y[c] += x[c];
    }
}

void dc_scatter_add_ref(dc_dev *dev, dc_view y, dc_cview x, const int32_t *ids, int64_t M, int64_t C)
{
    (void)dev;
    scatter s = {y.data, x.data, ids, M, C, 1};
    dc_pool_for(dc_blocks(M, dc_rows_a_block(C)), scatter_rows, &s);
}
