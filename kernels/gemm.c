/* kernels/gemm.c -- the product of a CPU device: who computes it, and how a library is used: stored weights unpacked by
 * panels, C cut into tiles, one call for each.
 *
 * Left to itself a library splits a product by the number of threads, the sums over K included, and the bits follow
 * it (measured: oneDNN 2.6.3 on AVX2 for one shape in four, on AVX-512 for narrow products over thousands of rows,
 * as a LoRA gradient is; OpenBLAS for most). So the tiles are cut by shape alone and each is one call in one
 * thread. */
#include "kernels/gemm.h"

#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#include "core/pool.h"
#include "kernels/dev_cpu.h"
#include "kernels/gemm_library.h"
#include "kernels/gemm_own.h"
#include "kernels/gemm_small.h"
#include "kernels/quant.h"
#include "kernels/table.h"

static int own_is_allowed(void)
{
    unsigned features = 0;
    return dc_cpu_allowed(&features, NULL) == DC_OK && dc_gemm_own_kernel(features);
}

int dc_gemm_has(dc_gemm_backend backend)
{
    switch (backend) {
    case DC_GEMM_REF:
    case DC_GEMM_OPENBLAS: return 1;
#ifdef DC_HAVE_ONEDNN
    case DC_GEMM_ONEDNN: return 1;
#endif
    case DC_GEMM_OWN: return own_is_allowed();
    default: return 0;
    }
}

const char *dc_gemm_describe(dc_gemm_backend backend)
{
    switch (backend) {
    case DC_GEMM_REF: return "plain C";
    case DC_GEMM_OPENBLAS: return dc_openblas_describe();
#ifdef DC_HAVE_ONEDNN
    case DC_GEMM_ONEDNN: return dc_onednn_describe();
#endif
    case DC_GEMM_OWN: return "own GEMM";
    default: return "none";
    }
}

static int sgemm(dc_gemm_backend backend, const dc_gemm_tile *t)
{
#ifdef DC_HAVE_ONEDNN
    if (backend == DC_GEMM_ONEDNN) return dc_onednn_sgemm(t);
#endif
    (void)backend;
    return dc_openblas_sgemm(t);
}

typedef struct tiling {
    const dc_gemm *g;
    dc_gemm_backend backend;
    int64_t tile_m, tile_n; /* sizes of a tile */
    int64_t rows, columns;  /* tiles down and across */
    atomic_int failed;      /* the code of a tile that failed */
} tiling;

/* n split evenly into parts of at most `most`, each but the last a multiple of 16. */
static int64_t even(int64_t n, int64_t most)
{
    const int64_t part = dc_blocks(dc_blocks(n, dc_blocks(n, most)), 16) * 16;
    return part < n ? part : n;
}

/* Tiles of 256 x 512 lose nothing against one call; smaller ones, down to 64, when there would be less than eight. */
static void cut(tiling *t)
{
    int64_t m = 256, n = 512;
    const int64_t M = t->g->M, N = t->g->N;
    while (dc_blocks(M, m) * dc_blocks(N, n) < 8) {
        const int64_t high = M < m ? M : m, wide = N < n ? N : n;
        if (high > 64 && high >= wide) m = high / 2 > 64 ? high / 2 : 64;
        else if (wide > 64) n = wide / 2 > 64 ? wide / 2 : 64;
        else break;
    }
    t->tile_m = even(M, m);
    t->tile_n = even(N, n);
    t->rows = dc_blocks(M, t->tile_m);
    t->columns = dc_blocks(N, t->tile_n);
}

/* The longer side of C is walked last, so that what the other side reads stays in cache. */
static void tile(void *context, int64_t i)
{
    tiling *t = context;
    const dc_gemm *g = t->g;
    const int across = g->M > g->N;
    const dc_span m = dc_block(across ? i / t->columns : i % t->rows, g->M, t->tile_m);
    const dc_span n = dc_block(across ? i % t->columns : i / t->rows, g->N, t->tile_n);
    float *c = (float *)g->c.data + m.low * g->ldc + n.low;
    const dc_gemm_tile part = {.c = c,
                               .a = (const float *)g->a.data + (g->trans_a ? m.low : m.low * g->lda),
                               .b = (const float *)g->b.data + (g->trans_b ? n.low * g->ldb : n.low),
                               .M = m.high - m.low,
                               .N = n.high - n.low,
                               .K = g->K,
                               .lda = g->lda,
                               .ldb = g->ldb,
                               .ldc = g->ldc,
                               .trans_a = g->trans_a,
                               .trans_b = g->trans_b,
                               .accumulate = g->accumulate,
                               .alpha = g->alpha};
    const int rc = sgemm(t->backend, &part);
    if (rc != DC_OK) atomic_store(&t->failed, rc);
    if (!g->bias) return;
    for (int64_t r = 0; r < part.M; r++)
        for (int64_t k = 0; k < part.N; k++) c[r * g->ldc + k] += g->bias[n.low + k];
}

/* B is F32. A library that fails leaves its reason for dc_dev_sync; C is then undefined. */
static void product(dc_cpu_state *s, const dc_gemm *g)
{
    tiling t = {.g = g, .backend = s->backend};
    cut(&t);
    /* Within a parallel region a library uses one thread; a single tile runs outside of one. */
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    dc_pool_for(t.rows * t.columns, tile, &t);
    omp_set_num_threads(threads);
    const int rc = atomic_load(&t.failed);
    if (rc != DC_OK)
        dc_fail(&s->failed, (dc_code)rc, "gemm: the library %s a product of %lld x %lld x %lld",
                rc == DC_ENOMEM ? "has no memory for" : "refuses", (long long)g->M, (long long)g->N, (long long)g->K);
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
    const int64_t spread = dc_blocks(rows, dc_blocks(rows, fit)), rounded = dc_blocks(spread, 64) * 64;
    return rounded <= fit ? rounded : fit;
}

/* A panel is a stretch of B's stored rows: columns of C when B is [N, K], a part of every sum when it is [K, N]. */
static void by_panels(dc_cpu_state *s, const dc_gemm *g)
{
    unpack u = {
        .out = s->panel, .g = g, .read = dc_row_reader(g->b.type, s->features), .width = g->trans_b ? g->K : g->N};
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
    if (is_small(s, g)) dc_gemm_small_avx2(g);
    else if (s->backend == DC_GEMM_OWN) dc_gemm_own(dc_gemm_own_kernel(s->features), s->panel, g);
    else if (g->b.type == DC_F32) product(s, g);
    else if ((g->trans_b ? g->K : g->N) <= DC_PANEL_FLOATS) by_panels(s, g);
    else dc_gemm_ref(dev, g); /* a row longer than the scratch */
}
