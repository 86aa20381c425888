/* kernels/gemm_small_avx2.c -- C = alpha A B^T (+ C) (+ bias) with few rows of A, as in decoding: bound by reading
 * B once.
 *
 * A thread owns a block of rows of B. They are taken four at a time and in stretches of K; a stored type is
 * unpacked into a buffer that stays in the first cache. Each pair of rows has one sum of eight lanes, which is the
 * same whatever thread computes it. */
#include "kernels/gemm_small.h"

#include <immintrin.h>

#include "core/pool.h"
#include "kernels/quant.h"
#include "kernels/table.h"
#include "kernels/vec.h"

enum { GROUP = 4, STRETCH = 1024, BLOCK_FLOATS = 65536 };

typedef struct small {
    const dc_gemm *g;
    dc_row_read_fn *read;
    int64_t rows; /* of B a block */
} small;

/* sum[i][r] += a_i . b_r over n elements, for `m` rows of A and `count` of B: constants in every call, so that the
 * sums stay in registers. */
static inline __attribute__((always_inline)) void dots(float (*sum)[GROUP], const float *a, int64_t lda,
                                                       const float *const *b, int64_t n, const int m, const int count)
{
    __m256 acc[4][GROUP];
    for (int i = 0; i < m; i++)
        for (int r = 0; r < count; r++) acc[i][r] = _mm256_setzero_ps();
    int64_t k = 0;
    for (; k + 8 <= n; k += 8) {
        __m256 bv[GROUP];
        for (int r = 0; r < count; r++) bv[r] = _mm256_loadu_ps(b[r] + k);
        for (int i = 0; i < m; i++) {
            const __m256 av = _mm256_loadu_ps(a + i * lda + k);
            for (int r = 0; r < count; r++) acc[i][r] = _mm256_fmadd_ps(av, bv[r], acc[i][r]);
        }
    }
    if (k < n) {
        for (int i = 0; i < m; i++)
            for (int r = 0; r < count; r++)
                acc[i][r] = _mm256_fmadd_ps(dc_load_n(a + i * lda + k, n - k), dc_load_n(b[r] + k, n - k), acc[i][r]);
    }
    for (int i = 0; i < m; i++)
        for (int r = 0; r < count; r++) sum[i][r] += dc_sum_lanes(acc[i][r]);
}

/* All rows of A against four of B. */
static void stretch(float (*sum)[GROUP], const float *a, int64_t lda, const float *const *b, int64_t n, int64_t M)
{
    int64_t m = 0;
    for (; m + 3 <= M; m += 3) dots(sum + m, a + m * lda, lda, b, n, 3, GROUP);
    if (M - m == 2) dots(sum + m, a + m * lda, lda, b, n, 2, GROUP);
    if (M - m == 1) dots(sum + m, a + m * lda, lda, b, n, 1, GROUP);
}

static void group(const small *s, int64_t first, int64_t count)
{
    const dc_gemm *g = s->g;
    float sum[DC_GEMM_SMALL_M][GROUP] = {{0}}, buffer[GROUP][STRETCH];
    for (int64_t k0 = 0; k0 < g->K; k0 += STRETCH) {
        const int64_t n = g->K - k0 < STRETCH ? g->K - k0 : STRETCH;
        const float *b[GROUP];
        for (int64_t r = 0; r < GROUP; r++) { /* a missing row is the last one again */
            const char *row = dc_row_at(g->b, first + (r < count ? r : count - 1), g->ldb);
            row += dc_dtype_bytes(g->b.type, k0);
            b[r] = (const float *)(const void *)row;
            if (g->b.type == DC_F32) continue;
            s->read(buffer[r], row, n);
            b[r] = buffer[r];
        }
        stretch(sum, (const float *)g->a.data + k0, g->lda, b, n, g->M);
    }
    for (int64_t m = 0; m < g->M; m++) {
        float *c = (float *)g->c.data + m * g->ldc + first;
        for (int64_t r = 0; r < count; r++)
            c[r] = g->alpha * sum[m][r] + (g->accumulate ? c[r] : 0) + (g->bias ? g->bias[first + r] : 0);
    }
}

static void block(void *context, int64_t i)
{
    const small *s = context;
    const dc_span n = dc_block(i, s->g->N, s->rows);
    for (int64_t r = n.low; r < n.high; r += GROUP) group(s, r, n.high - r < GROUP ? n.high - r : GROUP);
}

void dc_gemm_small_avx2(const dc_gemm *g)
{
    small s = {g, dc_row_reader(g->b.type, DC_FEATURES_AVX2), BLOCK_FLOATS / g->K / GROUP * GROUP};
    DC_ASSERT(s.read && g->M <= DC_GEMM_SMALL_M && g->trans_b && !g->trans_a);
    if (s.rows < GROUP) s.rows = GROUP;
    dc_pool_for(dc_blocks(g->N, s.rows), block, &s);
}
