/* kernels/gemm.c -- the product of a CPU device: stored weights unpacked by panels, then a library. */
#include "kernels/gemm.h"

#include <string.h>

#include "core/pool.h"
#include "kernels/dev_cpu.h"
#include "kernels/gemm_small.h"
#include "kernels/quant.h"
#include "kernels/table.h"

int dc_gemm_has(dc_gemm_backend backend)
{
    switch (backend) {
    case DC_GEMM_REF:
    case DC_GEMM_OPENBLAS: return 1;
    case DC_GEMM_ONEDNN:
#ifdef DC_HAVE_ONEDNN
        return 1;
#else
        return 0;
#endif
    default: return 0;
    }
}

const char *dc_gemm_describe(dc_gemm_backend backend)
{
    switch (backend) {
    case DC_GEMM_REF: return "plain C";
    case DC_GEMM_OPENBLAS: return dc_openblas_describe();
    case DC_GEMM_ONEDNN: return dc_onednn_describe();
    default: return "none";
    }
}

typedef struct bias_rows {
    const dc_gemm *g;
    int64_t rows;
} bias_rows;

static void bias_block(void *context, int64_t i)
{
    const bias_rows *j = context;
    const dc_gemm *g = j->g;
    const dc_span m = dc_block(i, g->M, j->rows);
    for (int64_t r = m.low; r < m.high; r++) {
        float *c = (float *)g->c.data + r * g->ldc;
        for (int64_t n = 0; n < g->N; n++) c[n] = g->accumulate ? c[n] + g->bias[n] : g->bias[n];
    }
}

void dc_gemm_prime_bias(const dc_gemm *g)
{
    bias_rows j = {g, dc_rows_a_block(g->N)};
    dc_pool_for(dc_blocks(g->M, j.rows), bias_block, &j);
}

/* B is F32. A library that fails leaves its reason for dc_dev_sync; C is then undefined. */
static void product(dc_cpu_state *s, const dc_gemm *g)
{
    if (s->backend == DC_GEMM_ONEDNN)
        dc_onednn_gemm(s->onednn, g, &s->failed);
    else
        dc_openblas_gemm(g);
}

typedef struct unpack {
    float *out; /* [rows, width] */
    const dc_gemm *g;
    dc_row_read_fn *read;
    int64_t first, rows, width;
} unpack;

static void unpack_block(void *context, int64_t i)
{
    const unpack *u = context;
    const dc_span r = dc_block(i, u->rows, dc_rows_a_block(u->width));
    for (int64_t k = r.low; k < r.high; k++)
        u->read(u->out + k * u->width, dc_row_at(u->g->b, u->first + k, u->g->ldb), u->width);
}

/* Rows a panel gets: as many as fit, evenly spread, in multiples of 64. */
static int64_t panel_rows(int64_t rows, int64_t width)
{
    const int64_t fit = DC_PANEL_FLOATS / width;
    if (rows <= fit) return rows;
    const int64_t even = dc_blocks(rows, dc_blocks(rows, fit));
    const int64_t rounded = dc_blocks(even, 64) * 64;
    return rounded <= fit ? rounded : fit;
}

/* A panel is a stretch of B's stored rows: columns of C when B is [N, K], a part of every sum when it is [K, N]. */
static void by_panels(dc_cpu_state *s, const dc_gemm *g)
{
    unpack u = {.out = s->panel, .g = g, .read = dc_row_reader(g->b.type, s->features), .width = g->trans_b ? g->K : g->N};
    const int64_t rows = g->trans_b ? g->N : g->K, most = panel_rows(rows, u.width);
    DC_ASSERT(u.read);
    for (; u.first < rows; u.first += u.rows) {
        u.rows = rows - u.first < most ? rows - u.first : most;
        dc_pool_for(dc_blocks(u.rows, dc_rows_a_block(u.width)), unpack_block, &u);
        dc_gemm part = *g;
        part.b = (dc_cview){s->panel, DC_F32};
        part.ldb = u.width;
        if (g->trans_b) {
            part.N = u.rows;
            part.c.data = (float *)g->c.data + u.first;
            part.bias = g->bias ? g->bias + u.first : NULL;
        } else {
            part.K = u.rows;
            part.a.data = (const float *)g->a.data + (g->trans_a ? u.first * g->lda : u.first);
            part.accumulate = g->accumulate || u.first > 0;
            part.bias = u.first ? NULL : g->bias;
        }
        product(s, &part);
    }
}

static int is_small(const dc_cpu_state *s, const dc_gemm *g)
{
    return g->trans_b && !g->trans_a && g->M <= DC_GEMM_SMALL_M && (s->features & DC_FEATURES_AVX2) == DC_FEATURES_AVX2;
}

void dc_gemm_cpu(dc_dev *dev, const dc_gemm *g)
{
    dc_cpu_state *s = dev->state;
    if (is_small(s, g))
        dc_gemm_small_avx2(g);
    else if (g->b.type == DC_F32)
        product(s, g);
    else if ((g->trans_b ? g->K : g->N) <= DC_PANEL_FLOATS)
        by_panels(s, g);
    else
        dc_gemm_ref(dev, g); /* a row longer than the scratch */
}
