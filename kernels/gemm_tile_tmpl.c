/* kernels/gemm_tile_tmpl.c -- the kernel of gemm_tile.h in registers of kernels/vec.h, included with ROWS and KERNEL (its name) defined.
 *
 * A tile is ROWS x 2 vectors. Each step of k loads two vectors of B, and one number of A for each row. */
#include "core/error.h"
#include "kernels/gemm_tile.h"
#include "kernels/vec.h"

#define UNROLL _Pragma("GCC unroll 16")

/* p += n, out of the compiler's sight: it would keep a pointer for each row otherwise, more than there are registers. */
#define STEP(p, n) \
    do { \
        (p) += (n); \
        __asm__("" : "+r"(p)); \
    } while (0)

enum { COLUMNS = 2 * DC_LANES, AHEAD = 16 };

/* Rows of A are reached from one pointer for every three, as [p], [p + row], [p + 2 row]. */
enum { BASES = (ROWS + 2) / 3 };

DC_INLINE dc_vec load(const float *p, int last, int n) { return last ? dc_load_n(p, n) : dc_load(p); }

DC_INLINE void store(float *p, dc_vec x, int last, int n)
{
    if (last) dc_store_n(p, n, x);
    else dc_store(p, x);
}

/* Of the last of a tile's vectors only `n` lanes are C's. `rows`, `vectors` and `last` are constants in every call, and the loops
 * over them unrolled, so that the sums stay in registers. */
DC_INLINE void tile(const dc_gemm_rows *r, int64_t column, const float *b, const int rows, const int vectors,
                    const int last, int n)
{
    dc_vec acc[ROWS][2];
    const float *a[BASES];
    const int64_t a_row = r->a_row, a_k = r->a_k, b_k = r->b_k, ldc = r->ldc;
    float *c = r->c + column;
    UNROLL for (int i = 0; i < rows; i++)
    {
        UNROLL for (int v = 0; v < vectors; v++) acc[i][v] = dc_set(0);
        __builtin_prefetch(c, 1);
        __builtin_prefetch(c + vectors * DC_LANES - 1, 1);
        STEP(c, ldc);
    }
    c = r->c + column;
    UNROLL for (int i = 0; i < rows; i += 3) a[i / 3] = r->a + i * a_row;
    for (int64_t k = r->K; k > 0; k--) {
        dc_vec bv[2];
        UNROLL for (int v = 0; v < vectors; v++) bv[v] = load(b + v * DC_LANES, last && v == vectors - 1, n);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const dc_vec av = dc_set(a[i / 3][i % 3 * a_row]);
            UNROLL for (int v = 0; v < vectors; v++) acc[i][v] = dc_fma(av, bv[v], acc[i][v]);
        }
        UNROLL for (int i = 0; i < rows; i += 3) STEP(a[i / 3], a_k);
        b += b_k;
        UNROLL for (int v = 0; v < vectors * DC_LANES; v += 16) __builtin_prefetch(b + AHEAD * b_k + v);
    }
    const dc_vec alpha = dc_set(r->alpha);
    const int accumulate = r->accumulate;
    UNROLL for (int i = 0; i < rows; i++)
    {
        UNROLL for (int v = 0; v < vectors; v++)
        {
            const int part = last && v == vectors - 1;
            float *at = c + v * DC_LANES;
            store(at, accumulate ? dc_fma(alpha, acc[i][v], load(at, part, n)) : dc_mul(alpha, acc[i][v]), part, n);
        }
        STEP(c, ldc);
    }
    if (!r->bias) return;
    const float *bias = r->bias + column;
    c = r->c + column;
    for (int i = 0; i < rows; i++, c += ldc) {
        for (int v = 0; v < vectors; v++) {
            const int part = last && v == vectors - 1;
            float *at = c + v * DC_LANES;
            store(at, dc_add(load(at, part, n), load(bias + v * DC_LANES, part, n)), part, n);
        }
    }
}

DC_INLINE void sweep(const dc_gemm_rows *r, const int rows)
{
    const float *b = r->b;
    int64_t n = 0;
    for (; n + COLUMNS <= r->N; n += COLUMNS, b += r->b_panel) tile(r, n, b, rows, 2, 0, 0);
    const int left = (int)(r->N - n);
    if (left > DC_LANES) tile(r, n, b, rows, 2, 1, left - DC_LANES);
    else if (left == DC_LANES) tile(r, n, b, rows, 1, 0, 0);
    else if (left > 0) tile(r, n, b, rows, 1, 1, left);
}

#define CASE(rows) \
    case rows: sweep(r, rows); return

static void run(const dc_gemm_rows *r, int64_t m)
{
    switch (m) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#if ROWS > 6
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
        CASE(13);
        CASE(14);
#endif
    default: DC_ASSERT(!"a tile of that many rows");
    }
}

const dc_gemm_kernel KERNEL = {.run = run, .rows = ROWS, .columns = COLUMNS};
