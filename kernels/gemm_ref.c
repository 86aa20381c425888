/* kernels/gemm_ref.c -- the matrix product without a library, for DC_CPU=none.
 *
 * B is read in stretches of its rows, so that every stored type serves alike and no memory is needed. A thread owns
 * a block of rows of C. Sums run over k in order. */
#include "kernels/table.h"

#include "core/pool.h"
#include "kernels/quant.h"

enum { ROWS = 16, STRETCH = 1024 }; /* STRETCH: a multiple of every block */

typedef struct product {
    const dc_gemm *g;
    dc_row_read_fn *read;
} product;

static float at_a(const dc_gemm *g, int64_t m, int64_t k)
{
    return ((const float *)g->a.data)[g->trans_a ? k * g->lda + m : m * g->lda + k];
}

/* A stretch of row r of B as stored, from element `from`. */
static void read_b(const product *p, float *out, int64_t r, int64_t from, int64_t n)
{
    const char *row = (const char *)p->g->b.data + dc_dtype_bytes(p->g->b.type, p->g->ldb) * r;
    p->read(out, row + dc_dtype_bytes(p->g->b.type, from), n);
}

static int64_t stretch(int64_t from, int64_t n) { return n - from < STRETCH ? n - from : STRETCH; }

/* B as [N, K]: each of its rows against ROWS rows of A. */
static void rows_nt(const product *p, dc_span m)
{
    const dc_gemm *g = p->g;
    float b[STRETCH], *c = g->c.data;
    for (int64_t n = 0; n < g->N; n++) {
        float sum[ROWS] = {0};
        for (int64_t k0 = 0; k0 < g->K; k0 += STRETCH) {
            const int64_t count = stretch(k0, g->K);
            read_b(p, b, n, k0, count);
            for (int64_t i = m.low; i < m.high; i++)
                for (int64_t k = 0; k < count; k++) sum[i - m.low] += at_a(g, i, k0 + k) * b[k];
        }
        for (int64_t i = m.low; i < m.high; i++) c[i * g->ldc + n] += g->alpha * sum[i - m.low];
    }
}

/* B as [K, N]: each of its rows added, in stretches of columns, to ROWS rows of C. */
static void rows_nn(const product *p, dc_span m)
{
    const dc_gemm *g = p->g;
    float b[STRETCH], sum[ROWS][STRETCH], *c = g->c.data;
    for (int64_t n0 = 0; n0 < g->N; n0 += STRETCH) {
        const int64_t count = stretch(n0, g->N);
        for (int64_t i = 0; i < m.high - m.low; i++)
            for (int64_t n = 0; n < count; n++) sum[i][n] = 0;
        for (int64_t k = 0; k < g->K; k++) {
            read_b(p, b, k, n0, count);
            for (int64_t i = m.low; i < m.high; i++) {
                const float a = at_a(g, i, k);
                float *s = sum[i - m.low];
                for (int64_t n = 0; n < count; n++) s[n] += a * b[n];
            }
        }
        for (int64_t i = m.low; i < m.high; i++)
            for (int64_t n = 0; n < count; n++) c[i * g->ldc + n0 + n] += g->alpha * sum[i - m.low][n];
    }
}

static void block(void *context, int64_t i)
{
    const product *p = context;
    const dc_gemm *g = p->g;
    const dc_span m = dc_block(i, g->M, ROWS);
    for (int64_t r = m.low; r < m.high; r++) {
        float *c = (float *)g->c.data + r * g->ldc;
        for (int64_t n = 0; n < g->N; n++) c[n] = (g->accumulate ? c[n] : 0) + (g->bias ? g->bias[n] : 0);
    }
    (g->trans_b ? rows_nt : rows_nn)(p, m);
}

void dc_gemm_ref(dc_dev *dev, const dc_gemm *g)
{
    (void)dev;
    product p = {g, dc_row_reader(g->b.type, 0)};
    DC_ASSERT(p.read);
    dc_pool_for(dc_blocks(g->M, ROWS), block, &p);
}
