/* cli/bench_kernels.c -- shapes of SmolLM2-135M and of a Qwen vocabulary, each op alone. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/arena.h"
#include "core/rng.h"
#include "core/stop.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"

enum {
    T = 512,
    C = 576,
    F = 1536,
    H = 9,
    K = 3,
    D = 64,
    V = 49152,
    R = 16,
    HEAD_ROWS = 64,
    LOSS_BYTES = 16 << 20,
    DRAWS = 50
};

/* Three operands large enough for every shape, filled with normal numbers. */
typedef struct room {
    float *a, *b, *c;
    void *packed; /* b in another type */
} room;

static int floats(dc_dev *dev, float **out, int64_t n, uint32_t b, dc_error *err)
{
    void *memory = NULL;
    const int rc = dc_dev_alloc(dev, &memory, (size_t)n * sizeof(float), "a benchmark", err);
    if (rc != DC_OK) return rc;
    *out = memory;
    float *host = dc_malloc((size_t)n * sizeof *host);
    if (!host) return dc_fail_memory(err, (size_t)n * sizeof *host, "a benchmark");
    dc_rng_normal(host, n, 0, 0.05f, 1, DC_RNG_TEST, b);
    dc_dev_upload(dev, memory, host, (size_t)n * sizeof *host);
    dc_free(host);
    return DC_OK;
}

/* ---- matrix products ---- */

typedef struct product {
    dc_dev *dev;
    dc_gemm g;
} product;

static void run_product(void *context)
{
    product *p = context;
    p->dev->op.gemm(p->dev, &p->g);
}

static void time_product(dc_bench *b, const char *name, const room *r, dc_gemm g, dc_dtype type, double bytes)
{
    product p = {.dev = b->dev, .g = g};
    p.g.a = (dc_cview){r->a, DC_F32}, p.g.b = (dc_cview){type == DC_F32 ? (const void *)r->b : r->packed, type},
    p.g.c = (dc_view){r->c, DC_F32};
    p.g.ldc = g.N, p.g.alpha = 1;
    dc_bench_row(b, name, dc_bench_time(b, run_product, &p), 2.0 * (double)g.M * (double)g.N * (double)g.K, bytes);
}

/* y = x W^T, dx = dy W, dW = dy^T x of a linear over `rows` rows. */
static void time_linear(dc_bench *b, const char *what, const room *r, int64_t rows, int64_t in, int64_t out, int weight)
{
    char name[64];
    snprintf(name, sizeof name, "%s  y = x W'", what);
    time_product(b, name, r, (dc_gemm){.M = rows, .N = out, .K = in, .lda = in, .ldb = in, .trans_b = 1}, DC_F32, 0);
    snprintf(name, sizeof name, "%s  dx = dy W", what);
    time_product(b, name, r, (dc_gemm){.M = rows, .N = in, .K = out, .lda = out, .ldb = in}, DC_F32, 0);
    if (!weight) return;
    snprintf(name, sizeof name, "%s  dW = dy' x", what);
    time_product(b, name, r,
                 (dc_gemm){.M = out, .N = in, .K = rows, .lda = out, .ldb = in, .trans_a = 1, .accumulate = 1}, DC_F32,
                 0);
}

static void bench_linears(dc_bench *b, const room *r)
{
    dc_bench_group(b, "matrix products, 512 tokens, fp32");
    time_linear(b, "q o        576 -> 576 ", r, T, C, C, 1);
    time_linear(b, "k v        576 -> 192 ", r, T, C, (int64_t)K * D, 1);
    time_linear(b, "gate up    576 -> 1536", r, T, C, F, 1);
    time_linear(b, "down       1536 -> 576", r, T, F, C, 1);
    time_linear(b, "head       576 -> 49152, 64 rows", r, HEAD_ROWS, C, V, 0);
    dc_bench_group(b, "LoRA of rank 16 on gate, 512 tokens");
    time_product(b, "u = x A'        576 -> 16", r, (dc_gemm){.M = T, .N = R, .K = C, .lda = C, .ldb = C, .trans_b = 1},
                 DC_F32, 0);
    time_product(b, "y += u B'       16 -> 1536", r,
                 (dc_gemm){.M = T, .N = F, .K = R, .lda = R, .ldb = R, .trans_b = 1, .accumulate = 1}, DC_F32, 0);
    time_product(b, "du = dy B       1536 -> 16", r, (dc_gemm){.M = T, .N = R, .K = F, .lda = F, .ldb = R}, DC_F32, 0);
    time_product(b, "dB += dy' u     1536 x 16", r,
                 (dc_gemm){.M = F, .N = R, .K = T, .lda = F, .ldb = R, .trans_a = 1, .accumulate = 1}, DC_F32, 0);
    time_product(b, "dA += du' x     16 x 576", r,
                 (dc_gemm){.M = R, .N = C, .K = T, .lda = R, .ldb = C, .trans_a = 1, .accumulate = 1}, DC_F32, 0);
    time_product(b, "dx += du A      16 -> 576", r,
                 (dc_gemm){.M = T, .N = C, .K = R, .lda = R, .ldb = C, .accumulate = 1}, DC_F32, 0);
}

/* Stored weights: a quantized base in training, and one token at a time, where reading the weight is all there is. */
static void bench_stored(dc_bench *b, room *r)
{
    static const dc_dtype types[] = {DC_F32, DC_BF16, DC_Q8_0, DC_Q4_0};
    unsigned features = 0;
    char name[64];
    dc_cpu_allowed(&features, NULL);
    dc_bench_group(b, "stored weights, 576 -> 49152");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const int64_t row = dc_dtype_bytes(types[i], C);
        const char *type = dc_dtype_get(types[i])->name;
        if (types[i] != DC_F32)
            for (int64_t k = 0; k < V; k++)
                dc_row_writer(types[i], features)((char *)r->packed + k * row, r->b + k * C, C);
        snprintf(name, sizeof name, "%-5s 64 rows", type);
        time_product(b, name, r, (dc_gemm){.M = HEAD_ROWS, .N = V, .K = C, .lda = C, .ldb = C, .trans_b = 1}, types[i],
                     0);
        snprintf(name, sizeof name, "%-5s one row", type);
        time_product(b, name, r, (dc_gemm){.M = 1, .N = V, .K = C, .lda = C, .ldb = C, .trans_b = 1}, types[i],
                     (double)(row * V));
    }
}

/* ---- attention ---- */

typedef struct attention {
    dc_dev *dev;
    const room *r;
    dc_attn a;
    int backward;
} attention;

static void run_attention(void *context)
{
    attention *n = context;
    const int64_t q = n->a.T * H * D, kv = n->a.T * K * D;
    float *x = n->r->a, *o = n->r->c, *lse = o + q, *dq = lse + n->a.T * H, *dk = dq + q, *dv = dk + kv;
    const dc_cview Q = {x, DC_F32}, Kv = {x + q, DC_F32}, Vv = {x + q + kv, DC_F32}, O = {o, DC_F32};
    if (!n->backward) n->dev->op.attn_fwd(n->dev, (dc_view){o, DC_F32}, lse, Q, Kv, Vv, &n->a);
    else
        n->dev->op.attn_bwd(n->dev, (dc_view){dq, DC_F32}, (dc_view){dk, DC_F32}, (dc_view){dv, DC_F32}, Q, O, lse, Q,
                            Kv, Vv, &n->a);
}

/* Half of the T x T pairs; two products a pair forward (q k, p v), five backward. */
static void bench_attention(dc_bench *b, const room *r)
{
    static const int lengths[] = {512, 2048};
    char name[64];
    dc_bench_group(b, "attention, 9 heads of 64, 3 for keys and values");
    for (size_t i = 0; i < 2; i++) {
        const int64_t n = lengths[i];
        const int32_t cu[2] = {0, lengths[i]};
        attention x = {
            .dev = b->dev,
            .r = r,
            .a = {.cu_seqlens = cu, .cu_device = cu, .T = n, .B = 1, .H = H, .K = K, .D = D, .scale = 0.125f}};
        const double pairs = (double)n * (double)(n + 1) / 2 * H * D * 2;
        for (x.backward = 0; x.backward < 2; x.backward++) {
            snprintf(name, sizeof name, "%lld tokens  %s", (long long)n, x.backward ? "backward" : "forward");
            dc_bench_row(b, name, dc_bench_time(b, run_attention, &x), pairs * (x.backward ? 5 : 2), 0);
        }
    }
}

/* ---- losses ---- */

typedef struct losses {
    dc_dev *dev;
    float *logits;
    dc_loss loss;
} losses;

static void run_loss(void *context)
{
    losses *l = context;
    l->dev->op.loss(l->dev, l->logits, &l->loss);
}

/* Sparse targets of M rows: DRAWS entries each, spread over the vocabulary. */
typedef struct targets {
    int32_t *labels, *ids;
    int64_t *first;
    float *weight, *p;
} targets;

static void targets_fill(targets *t, int64_t M, int64_t vocabulary)
{
    t->first[0] = 0;
    for (int64_t m = 0; m < M; m++) {
        t->labels[m] = (int32_t)((m * 7919) % vocabulary), t->weight[m] = 1;
        t->first[m + 1] = (m + 1) * DRAWS;
        for (int64_t k = 0; k < DRAWS; k++)
            t->ids[m * DRAWS + k] = (int32_t)(k * (vocabulary / DRAWS) + m % 7), t->p[m * DRAWS + k] = 1.0f / DRAWS;
    }
}

static int targets_new(targets *t, int64_t M, dc_error *err)
{
    const size_t m = (size_t)M;
    t->labels = dc_calloc(m, sizeof *t->labels), t->weight = dc_calloc(m, sizeof *t->weight);
    t->first = dc_calloc(m + 1, sizeof *t->first);
    t->ids = dc_calloc(m * DRAWS, sizeof *t->ids), t->p = dc_calloc(m * DRAWS, sizeof *t->p);
    return t->labels && t->weight && t->first && t->ids && t->p ? DC_OK
                                                                : dc_fail_memory(err, m * DRAWS * 8, "a benchmark");
}

static void targets_free(targets *t)
{
    dc_free(t->labels);
    dc_free(t->weight);
    dc_free(t->first);
    dc_free(t->ids);
    dc_free(t->p);
}

/* Logits are read and their gradient written: 8 bytes an entry at least. */
static int bench_losses(dc_bench *b, const room *r, dc_error *err)
{
    static const int64_t vocabularies[] = {V, 151936};
    int rc = DC_OK;
    char name[64];
    targets t = {0};
    DC_TRY(targets_new(&t, LOSS_BYTES / 4 / V, err));
    dc_bench_group(b, "loss and its gradient, 16 MB (caches hold it)");
    for (size_t i = 0; i < 2; i++) {
        const int64_t vocabulary = vocabularies[i], M = LOSS_BYTES / 4 / vocabulary;
        losses l = {.dev = b->dev,
                    .logits = r->a,
                    .loss = {.M = M,
                             .V = vocabulary,
                             .ld = vocabulary,
                             .labels = t.labels,
                             .w_ce = t.weight,
                             .temperature = 1,
                             .kd_scale = 1}};
        targets_fill(&t, M, vocabulary);
        for (int sampled = 0; sampled < 2; sampled++) {
            if (sampled)
                l.loss.kind = DC_KD_SAMPLED, l.loss.w_kd = t.weight, l.loss.first = t.first, l.loss.ids = t.ids,
                l.loss.p = t.p;
            snprintf(name, sizeof name, "V %-7lld %s", (long long)vocabulary,
                     sampled ? "cross-entropy + 50 draws" : "cross-entropy");
            dc_bench_row(b, name, dc_bench_time(b, run_loss, &l), 0, 8.0 * (double)(M * vocabulary));
        }
    }
done:
    targets_free(&t);
    return rc;
}

int dc_bench_kernels(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    room r = {0};
    DC_TRY(floats(b->dev, &r.a, LOSS_BYTES / 4, 1, err));
    DC_TRY(floats(b->dev, &r.b, (int64_t)V * C, 2, err));
    DC_TRY(floats(b->dev, &r.c, LOSS_BYTES / 4, 3, err));
    DC_TRY(dc_dev_alloc(b->dev, &r.packed, (size_t)V * C * 2, "a benchmark", err));
    bench_linears(b, &r);
    DC_TRY(dc_stop_check("bench", err));
    bench_stored(b, &r);
    DC_TRY(dc_stop_check("bench", err));
    bench_attention(b, &r);
    DC_TRY(bench_losses(b, &r, err));
    DC_TRY(dc_dev_sync(b->dev, err));
done:
    dc_dev_free(b->dev, r.a);
    dc_dev_free(b->dev, r.b);
    dc_dev_free(b->dev, r.c);
    dc_dev_free(b->dev, r.packed);
    return rc;
}
