/* kernels/gemm_own.c -- decant's own matrix product: blocks for the caches, panels for the kernels of gemm_tile.h
 * (Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3)).
 *
 * C is cut into jobs of some rows and columns. For each block of K a job packs its part of op(B), which then stays in
 * the second cache, and sends its rows of op(A) past it, a tile's height at a time. Only the blocks of K show in the
 * bits, so that jobs are cut for speed: by the shape and by the number of threads. */
#include "kernels/gemm_own.h"

#include <stdatomic.h>

#include "core/error.h"
#include "core/pool.h"
#include "kernels/dev_cpu.h"
#include "kernels/table.h"

enum {
    WORKERS = 128,         /* at most, so that a share of the scratch holds a panel of each operand */
    SLOT_FLOATS = 131072,  /* a worker's share, at most */
    A_FLOATS = 32768,      /* of it for op(A), at most */
    B_FLOATS = 57344,      /* of op(B) at once: 224 KiB, so that a second cache of 512 KiB keeps them beside A and C */
    TALL_FLOATS = 1 << 20, /* of op(A) in a job: the third cache keeps them from one job to the next */
    TALL = 256,            /* rows of C that are worth packing B for, again for each job */
    WIDE = 96,             /* columns of C that are worth reading A for, likewise */
    JOBS = 3,              /* a thread, so that they end together though one is disturbed */
    FEW = 32,              /* rows of C for which packing B does not pay */
    NEAR = 64              /* floats between rows that are near each other */
};

typedef struct product {
    const dc_gemm *g;
    const dc_gemm_kernel *kernel;
    dc_row_read_fn *read;
    float *scratch;
    int64_t slot, a_room, a_width; /* floats of a worker, of them for A; width of A's panels */
    int64_t block;                 /* of K */
    int64_t tall, wide;            /* rows and columns of a job */
    int64_t across, jobs;          /* jobs side by side; all of them */
    int pack_a, pack_b;
    int whole; /* all of K of a job's columns fits into a slot */
    _Atomic int64_t next;
} product;

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

/* n cut evenly into parts of at most `most`, which is a multiple of `unit`, as all but the last then are. */
static int64_t even(int64_t n, int64_t most, int64_t unit)
{
    return dc_blocks(dc_blocks(n, dc_blocks(n, most)), unit) * unit;
}

/* A function of K alone. Where a type with blocks of 256 can be, they are not cut. */
static int64_t block_of(int64_t K)
{
    const int64_t unit = K % 256 ? 32 : 256;
    return K ? even(K, DC_GEMM_BLOCK / unit * unit, unit) : unit;
}

/* Rows m of op(A) past the panels of B. */
static void send_rows(const product *p, dc_gemm_rows *r, float *packed, dc_span m, int64_t k)
{
    const dc_gemm *g = p->g;
    const int64_t R = p->kernel->rows, panel = dc_gemm_panel(r->K, p->a_width), group = p->a_room / panel * R;
    for (int64_t i = m.low; i < m.high; i += R, r->c += R * g->ldc) {
        const int64_t at = (i - m.low) % group;
        if (!p->pack_a) {
            r->a = (const float *)g->a.data + (g->trans_a ? k * g->lda + i : i * g->lda + k);
        } else if (at == 0) {
            const dc_gemm_pack pack = {.out = packed,
                                       .matrix = g->a,
                                       .ld = g->lda,
                                       .k = k,
                                       .n = i,
                                       .K = r->K,
                                       .N = min(group, m.high - i),
                                       .take = R,
                                       .width = p->a_width,
                                       .trans = !g->trans_a};
            dc_gemm_pack_avx2(&pack);
            r->a = packed;
        } else {
            r->a += panel;
        }
        p->kernel->run(r, min(R, m.high - i));
    }
}

/* `packed`: the slot holds these columns of B already. */
static void job(const product *p, float *slot, dc_span m, dc_span n, int packed)
{
    const dc_gemm *g = p->g;
    const int64_t W = p->kernel->columns;
    float *b = slot + p->a_room;
    dc_span k = {0, 0};
    do {
        k = (dc_span){k.high, min(g->K, k.high + p->block)};
        dc_gemm_rows r = {.c = (float *)g->c.data + m.low * g->ldc + n.low,
                          .b = b,
                          .N = n.high - n.low,
                          .K = k.high - k.low,
                          .ldc = g->ldc,
                          .a_row = g->trans_a ? 1 : g->lda,
                          .a_k = g->trans_a ? g->lda : 1,
                          .b_k = W,
                          .b_panel = dc_gemm_panel(k.high - k.low, W),
                          .bias = g->bias && k.high == g->K ? g->bias + n.low : NULL,
                          .alpha = g->alpha,
                          .accumulate = g->accumulate || k.low > 0};
        if (!p->pack_b) {
            r.b = (const float *)g->b.data + k.low * g->ldb + n.low;
            r.b_k = g->ldb;
            r.b_panel = W;
        } else if (!packed) {
            const dc_gemm_pack pack = {.out = b,
                                       .matrix = g->b,
                                       .read = p->read,
                                       .ld = g->ldb,
                                       .k = k.low,
                                       .n = n.low,
                                       .K = r.K,
                                       .N = r.N,
                                       .take = W,
                                       .width = W,
                                       .trans = g->trans_b};
            dc_gemm_pack_avx2(&pack);
        }
        if (p->pack_a) r.a_row = 1, r.a_k = p->a_width;
        if (p->whole) b += dc_blocks(r.N, W) * r.b_panel;
        send_rows(p, &r, slot, m, k.low);
    } while (k.high < g->K);
}

static void work(void *context, int64_t worker)
{
    product *p = context;
    int64_t i, last = -1;
    if (worker >= WORKERS) return;
    while ((i = atomic_fetch_add(&p->next, 1)) < p->jobs) {
        const int64_t column = i % p->across;
        job(p, p->scratch + worker * p->slot, dc_block(i / p->across, p->g->M, p->tall),
            dc_block(column, p->g->N, p->wide), p->whole && column == last);
        last = column;
    }
}

/* Packing pays when a row is read often, or when rows are so far apart that a kernel had better not read them. */
static void choose_packing(product *p)
{
    const dc_gemm *g = p->g;
    p->pack_b = g->trans_b || p->read || (g->K > FEW && g->M > FEW && g->ldb > NEAR);
    if (g->trans_a) {
        p->pack_a = g->N > NEAR && g->lda > NEAR;
    } else { /* many rows at multiples of a page would share one set of the first cache */
        const int64_t page = 1024, apart = (g->lda + NEAR) % page;
        p->pack_a = p->kernel->rows > 8 && g->N > NEAR && apart < 2 * NEAR;
    }
}

static int64_t jobs_of(const product *p) { return dc_blocks(p->g->M, p->tall) * dc_blocks(p->g->N, p->wide); }

/* Large jobs, but enough of them: columns are cut and rows, as far as that costs little, and then as far as it must. Where
 * a few rows of C meet a B that lies [K, N], its rows are read from memory at its own speed only in long pieces. */
static void cut(product *p, int64_t threads)
{
    const dc_gemm *g = p->g;
    const int cuts_rows = p->pack_b && !g->trans_b, streams = cuts_rows && g->M <= TALL;
    const int64_t R = p->kernel->rows, W = p->kernel->columns, want = streams ? threads : JOBS * threads;
    const int64_t room = p->slot - p->a_room, panel = dc_gemm_panel(p->block, W);
    const int64_t fit = (streams ? room : min(room, B_FLOATS)) / panel, most = DC_PACK_COLUMNS / W;
    DC_ASSERT(fit > 0);
    p->wide = even(g->N, (cuts_rows ? min(fit, most) : fit) * W, W);
    p->tall = even(g->M, max(TALL, TALL_FLOATS / (g->K + 1)) / 2 * 2, 2);
    p->whole = p->wide / W * panel * dc_blocks(g->K, p->block) <= room;
    const int once = !p->pack_b || (p->whole && p->wide >= g->N); /* a worker packs for its first job alone */
    while (jobs_of(p) < want && once && p->tall > 4 * R) p->tall = even(g->M, p->tall - 2, 2);
    while (jobs_of(p) < want && p->wide > WIDE) p->wide = even(g->N, p->wide - W, W);
    while (jobs_of(p) < want && p->tall >= 2 * TALL) p->tall = even(g->M, p->tall - 2, 2);
    while (jobs_of(p) < want && p->wide > 3 * W) p->wide = even(g->N, p->wide - W, W);
    while (jobs_of(p) < want && p->tall > 4 * R) p->tall = even(g->M, p->tall - 2, 2);
    p->across = dc_blocks(g->N, p->wide);
    p->jobs = jobs_of(p);
    p->whole = p->wide / W * panel * dc_blocks(g->K, p->block) <= room;
}

const dc_gemm_kernel *dc_gemm_own_kernel(unsigned features)
{
    if ((features & DC_FEATURES_AVX2) != DC_FEATURES_AVX2 || !dc_gemm_kernel_avx2.run) return NULL;
    return (features & DC_FEATURES_AVX512) == DC_FEATURES_AVX512 ? &dc_gemm_kernel_avx512 : &dc_gemm_kernel_avx2;
}

void dc_gemm_own(const dc_gemm_kernel *kernel, float *scratch, const dc_gemm *g)
{
    const int64_t threads = min(dc_pool_threads(), WORKERS);
    product p = {.g = g, .kernel = kernel, .scratch = scratch, .block = block_of(g->K)};
    if (g->M == 0 || g->N == 0) return;
    if (g->b.type != DC_F32) {
        p.read = dc_row_reader(g->b.type, DC_FEATURES_AVX2);
        DC_ASSERT(p.read);
    }
    p.slot = min(DC_PANEL_FLOATS / threads, SLOT_FLOATS);
    p.a_room = min(p.slot / 2, A_FLOATS);
    p.a_width = dc_blocks(kernel->rows, 8) * 8;
    choose_packing(&p);
    cut(&p, threads);
    if (p.jobs > 1) dc_pool_each(work, &p);
    else work(&p, 0);
}
