/* kernels/gemm_pack_avx2.c -- operands laid out in panels, as the kernels of gemm_tile.h read them. */
#include "kernels/gemm_tile.h"

#include <immintrin.h>
#include <string.h>

#include "core/error.h"
#include "kernels/table.h"
#include "kernels/vec.h"

enum {
    GROUP = 8,  /* rows that are transposed together */
    AHEAD = 8,  /* rows that are fetched before they are needed: no processor foresees strides across pages */
    BLOCK = 256 /* the most elements of a block of a stored type */
};

static const void *element(const dc_gemm_pack *p, int64_t row, int64_t at)
{
    return (const char *)dc_row_at(p->matrix, row, p->ld) + dc_dtype_bytes(p->matrix.type, at);
}

static inline __m256 halves(const float *low, const float *high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

/* out[k * width + r] = row[r][k] for eight rows. */
static void transpose8(float *out, int64_t width, const float *const *row, int64_t K)
{
    int64_t k = 0;
    for (; k + 4 <= K; k += 4, out += 4 * width) {
        const __m256 r0 = halves(row[0] + k, row[4] + k), r1 = halves(row[1] + k, row[5] + k),
                     r2 = halves(row[2] + k, row[6] + k), r3 = halves(row[3] + k, row[7] + k);
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1)),
                      b = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3)),
                      c = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1)),
                      d = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
        _mm256_storeu_ps(out, _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)));
        _mm256_storeu_ps(out + width, _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
        _mm256_storeu_ps(out + 2 * width, _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)));
        _mm256_storeu_ps(out + 3 * width, _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)));
    }
    for (; k < K; k++, out += width)
        for (int r = 0; r < GROUP; r++) out[r] = row[r][k];
}

/* Stored [N, K]: eight rows at a time become eight columns. Rows of floats are taken in pieces, so that the groups of a
 * panel, which share its lines, find them in the first cache. */
static void pack_t(const dc_gemm_pack *p)
{
    enum { PIECE = 128 };
    float staged[GROUP][DC_GEMM_BLOCK];
    const int64_t piece = p->read ? p->K : PIECE;
    DC_ASSERT(p->K <= DC_GEMM_BLOCK);
    float *out = p->out;
    for (int64_t first = 0; first < p->N; first += p->take, out += dc_gemm_panel(p->K, p->width)) {
        const int64_t there = p->N - first < p->take ? p->N - first : p->take;
        for (int64_t k = 0; k < p->K; k += piece) {
            const int64_t count = p->K - k < piece ? p->K - k : piece;
            for (int64_t c = 0; c < p->width; c += GROUP) {
                const float *row[GROUP];
                for (int64_t r = 0; r < GROUP; r++) {
                    const void *from = element(p, p->n + first + c + r, p->k + k);
                    row[r] = staged[r];
                    if (c + r >= there) memset(staged[r], 0, (size_t)count * sizeof(float));
                    else if (p->read) p->read(staged[r], from, count);
                    else row[r] = from;
                }
                transpose8(out + k * p->width + c, p->width, row, count);
            }
        }
    }
}

/* One row into its places in the panels. */
static inline __attribute__((always_inline)) void deal(float *out, int64_t panel, const float *row, int64_t N,
                                                       const int64_t take, const int64_t width)
{
    int64_t n = 0;
    for (; n + width <= N; n += take, out += panel)
        for (int64_t c = 0; c < width; c += 8) _mm256_storeu_ps(out + c, _mm256_loadu_ps(row + n + c));
    for (; n < N; n += take, out += panel)
        for (int64_t c = 0; c < width; c += 8) dc_store(out + c, dc_load_n(row + n + c, N - n - c));
}

/* Stored [K, N]: a row is cut up. */
static void pack_n(const dc_gemm_pack *p)
{
    float staged[DC_PACK_COLUMNS + 2 * BLOCK];
    const int64_t block = dc_dtype_get(p->matrix.type)->block, lead = p->n % block;
    const int64_t count = dc_blocks(lead + p->N, block) * block, bytes = dc_dtype_bytes(p->matrix.type, count);
    const int64_t step = dc_dtype_bytes(p->matrix.type, p->ld), panel = dc_gemm_panel(p->K, p->width);
    DC_ASSERT(p->N <= DC_PACK_COLUMNS && block <= BLOCK);
    float *out = p->out;
    for (int64_t k = 0; k < p->K; k++, out += p->width) {
        const char *from = element(p, p->k + k, p->n - lead);
        for (int64_t i = 0; k + AHEAD < p->K && i < bytes; i += 64) __builtin_prefetch(from + AHEAD * step + i);
        const float *row = (const float *)(const void *)from;
        if (p->read) {
            p->read(staged, from, count);
            row = staged + lead;
        }
        switch (p->take) { /* constants make copies of a few instructions */
        case 6: deal(out, panel, row, p->N, 6, 8); break;
        case 14: deal(out, panel, row, p->N, 14, 16); break;
        case 16: deal(out, panel, row, p->N, 16, 16); break;
        default: deal(out, panel, row, p->N, p->take, p->width);
        }
    }
}

void dc_gemm_pack_avx2(const dc_gemm_pack *p) { (p->trans ? pack_t : pack_n)(p); }
