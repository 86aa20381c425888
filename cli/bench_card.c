/* cli/bench_card.c -- numbers on a device, and the ceilings of one that queues its work. */
#include <string.h>

#include "cli/bench.h"
#include "core/arena.h"
#include "core/rng.h"
#include "kernels/quant.h"

int dc_bench_numbers(dc_bench *b, dc_view *out, dc_dtype type, int64_t n, uint32_t key, dc_error *err)
{
    int rc = DC_OK;
    void *memory = NULL;
    const size_t bytes = (size_t)n * dc_element_bytes(type);
    char *host = dc_malloc(bytes);
    float *numbers = dc_malloc((size_t)n * sizeof *numbers);
    if (!host || !numbers) DC_TRY(dc_fail_memory(err, (size_t)n * sizeof *numbers, "a benchmark"));
    dc_rng_normal(numbers, n, 0, 0.05f, 1, DC_RNG_TEST, key);
    if (type == DC_F32) memcpy(host, numbers, bytes);
    else dc_row_writer(type, 0)(host, numbers, n);
    DC_TRY(dc_dev_alloc(b->dev, &memory, bytes, "a benchmark", err));
    dc_dev_upload(b->dev, memory, host, bytes);
    *out = (dc_view){memory, type};
done:
    dc_free(host);
    dc_free(numbers);
    return rc;
}

int dc_bench_table(dc_bench *b, void **out, const void *host, size_t bytes, dc_error *err)
{
    const int rc = dc_dev_alloc(b->dev, out, bytes, "a benchmark", err);
    if (rc == DC_OK) dc_dev_upload(b->dev, *out, host, bytes);
    return rc;
}

/* ---- the ceilings of a card ---- */

typedef struct ceiling {
    dc_dev *dev;
    dc_gemm product;
    void *to, *from;
    size_t bytes;
} ceiling;

static void multiply(void *context)
{
    ceiling *c = context;
    c->dev->op.gemm(c->dev, &c->product);
}

static void copy(void *context)
{
    ceiling *c = context;
    dc_dev_copy(c->dev, c->to, c->from, c->bytes);
}

/* Sizes double until one takes `enough` seconds; *best: the highest rate, of operands in the device's type. */
static int card_products(dc_bench *b, double *best, dc_error *err)
{
    int rc = DC_OK;
    enum { LEAST = 1024, MOST = 8192 };
    const double enough = b->quick ? 2e-3 : 2e-2;
    for (int64_t n = 256; rc == DC_OK && n <= MOST; n *= 2) {
        dc_view a = {0}, c = {0};
        rc = dc_bench_numbers(b, &a, b->dev->activation, n * n, 1, err);
        if (rc == DC_OK) rc = dc_bench_numbers(b, &c, b->dev->activation, n * n, 2, err);
        ceiling x = {.dev = b->dev,
                     .product = {.c = c,
                                 .a = dc_view_read(a),
                                 .b = dc_view_read(a),
                                 .M = n,
                                 .N = n,
                                 .K = n,
                                 .lda = n,
                                 .ldb = n,
                                 .ldc = n,
                                 .trans_b = 1,
                                 .alpha = 1}};
        const double took = rc == DC_OK ? dc_bench_time(b, multiply, &x) : 1;
        const double rate = 2.0 * (double)n * (double)n * (double)n / took;
        if (rc == DC_OK && rate > *best) *best = rate;
        dc_dev_free(b->dev, a.data);
        dc_dev_free(b->dev, c.data);
        if (n >= LEAST && took >= enough) break;
    }
    return rc;
}

/* The same card opened once more, with fp32 all through: no bf16, no TF32. */
static int card_fp32(dc_bench *b, dc_error *err)
{
    dc_bench plain = *b;
    dc_dev_options options = dc_dev_defaults();
    options.name = b->name;
    options.activation = DC_F32;
    plain.dev = NULL;
    int rc = dc_dev_open(&plain.dev, &options, err);
    if (rc == DC_OK) rc = card_products(&plain, &b->fp32, err);
    dc_dev_close(plain.dev);
    if (b->rc == DC_OK) b->rc = plain.rc, b->err = plain.err;
    return rc;
}

static int card_copies(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    ceiling x = {.dev = b->dev, .bytes = (size_t)(b->quick ? 16 : 512) << 20};
    DC_TRY(dc_dev_alloc(b->dev, &x.to, x.bytes, "a benchmark", err));
    DC_TRY(dc_dev_alloc(b->dev, &x.from, x.bytes, "a benchmark", err));
    b->peak.read_bytes = 2 * (double)x.bytes / dc_bench_time(b, copy, &x);
done:
    dc_dev_free(b->dev, x.to);
    dc_dev_free(b->dev, x.from);
    return rc;
}

int dc_bench_card(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    b->peak = (dc_peak){.registers = "a large product"};
    DC_TRY(card_products(b, &b->peak.flops, err));
    DC_TRY(card_fp32(b, err));
    DC_TRY(card_copies(b, err));
done:
    return rc;
}
