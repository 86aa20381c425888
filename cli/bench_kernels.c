/* cli/bench_kernels.c -- shapes of SmolLM2-135M and of a Qwen vocabulary, each op alone. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/arena.h"
#include "core/rng.h"
#include "core/stop.h"
#include "kernels/quant.h"

enum {
    C = 576,
    F = 1536,
    H = 9,
    K = 3,
    D = 64,
    V = 49152,
    R = 16,
    HEAD_ROWS = 64, /* of stored weights */
    LONGEST = 2048, /* tokens that attention is timed over */
    DRAWS = 50
};

/* Operands large enough for every shape: activations, weights, what is added up in float. */
typedef struct room {
    dc_view a, c, w, logits, sums;
    void *packed; /* w in another type */
    int64_t rows; /* of logits: a chunk of the head, as the device wants it */
} room;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

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

/* The product in the types of its operands; C is as wide as the product. */
static void time_product(dc_bench *b, const char *name, dc_gemm g)
{
    product p = {.dev = b->dev, .g = g};
    const int64_t bytes = dc_dtype_bytes(g.a.type, g.M * g.K) + dc_dtype_bytes(g.b.type, g.N * g.K) +
                          dc_dtype_bytes(g.c.type, g.M * g.N) * (g.accumulate ? 2 : 1);
    p.g.ldc = g.N, p.g.alpha = 1;
    dc_bench_row(b, name, dc_bench_time(b, run_product, &p), 2.0 * (double)g.M * (double)g.N * (double)g.K,
                 (double)bytes);
}

/* y = x W^T, dx = dy W, dW = dy^T x of a linear over `rows` rows; a head's y, and what comes back to it, are logits. */
static void time_linear(dc_bench *b, const char *what, const room *r, int64_t rows, int64_t in, int64_t out, int head)
{
    char name[96];
    const dc_view y = head ? r->logits : r->c;
    snprintf(name, sizeof name, "%s  y = x W'", what);
    time_product(b, name,
                 (dc_gemm){.c = y,
                           .a = dc_view_read(r->a),
                           .b = dc_view_read(r->w),
                           .M = rows,
                           .N = out,
                           .K = in,
                           .lda = in,
                           .ldb = in,
                           .trans_b = 1});
    snprintf(name, sizeof name, "%s  dx = dy W", what);
    time_product(b, name,
                 (dc_gemm){.c = r->c,
                           .a = dc_view_read(head ? r->logits : r->a),
                           .b = dc_view_read(r->w),
                           .M = rows,
                           .N = in,
                           .K = out,
                           .lda = out,
                           .ldb = in});
    if (head) return;
    snprintf(name, sizeof name, "%s  dW = dy' x", what);
    time_product(b, name,
                 (dc_gemm){.c = r->sums,
                           .a = dc_view_read(r->a),
                           .b = dc_view_read(r->c),
                           .M = out,
                           .N = in,
                           .K = rows,
                           .lda = out,
                           .ldb = in,
                           .trans_a = 1,
                           .accumulate = 1});
}

static void bench_linears(dc_bench *b, const room *r)
{
    char title[96], head[64];
    const int64_t T = b->tokens;
    const dc_view sums = dc_view_at(r->sums, (int64_t)F * R);
    snprintf(title, sizeof title, "matrix products, %lld tokens, %s", b->tokens, dc_dtype_get(r->a.type)->name);
    dc_bench_group(b, title);
    time_linear(b, "q o        576 -> 576 ", r, T, C, C, 0);
    time_linear(b, "k v        576 -> 192 ", r, T, C, (int64_t)K * D, 0);
    time_linear(b, "gate up    576 -> 1536", r, T, C, F, 0);
    time_linear(b, "down       1536 -> 576", r, T, F, C, 0);
    snprintf(head, sizeof head, "head       576 -> 49152, %lld rows", (long long)r->rows);
    time_linear(b, head, r, r->rows, C, V, 1);
    snprintf(title, sizeof title, "LoRA of rank 16 on gate, %lld tokens", b->tokens);
    dc_bench_group(b, title);
    const dc_cview x = dc_view_read(r->a), low = dc_view_read(r->w); /* A and B, as products read them */
    time_product(b, "u = x A'        576 -> 16",
                 (dc_gemm){.c = r->c, .a = x, .b = low, .M = T, .N = R, .K = C, .lda = C, .ldb = C, .trans_b = 1});
    time_product(
        b, "y += u B'       16 -> 1536",
        (dc_gemm){
            .c = r->c, .a = x, .b = low, .M = T, .N = F, .K = R, .lda = R, .ldb = R, .trans_b = 1, .accumulate = 1});
    time_product(b, "du = dy B       1536 -> 16",
                 (dc_gemm){.c = r->c, .a = x, .b = low, .M = T, .N = R, .K = F, .lda = F, .ldb = R});
    time_product(b, "dB += dy' u     1536 x 16",
                 (dc_gemm){.c = sums,
                           .a = x,
                           .b = dc_view_read(r->c),
                           .M = F,
                           .N = R,
                           .K = T,
                           .lda = F,
                           .ldb = R,
                           .trans_a = 1,
                           .accumulate = 1});
    time_product(b, "dA += du' x     16 x 576",
                 (dc_gemm){.c = sums,
                           .a = x,
                           .b = dc_view_read(r->c),
                           .M = R,
                           .N = C,
                           .K = T,
                           .lda = R,
                           .ldb = C,
                           .trans_a = 1,
                           .accumulate = 1});
    time_product(b, "dx += du A      16 -> 576",
                 (dc_gemm){.c = r->c, .a = x, .b = low, .M = T, .N = C, .K = R, .lda = R, .ldb = C, .accumulate = 1});
}

/* Stored weights: a quantized base in training, and one token at a time, where reading the weight is all there is. */
static int bench_stored(dc_bench *b, const room *r, dc_error *err)
{
    static const dc_dtype types[] = {DC_F32, DC_BF16, DC_Q8_0, DC_Q4_0};
    int rc = DC_OK;
    char name[64], *packed = dc_malloc((size_t)V * C * sizeof(float));
    float row[C];
    if (!packed) return dc_fail_memory(err, (size_t)V * C * sizeof(float), "a benchmark");
    dc_bench_group(b, "stored weights, 576 -> 49152");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const int64_t bytes = dc_dtype_bytes(types[i], C);
        const char *type = dc_dtype_get(types[i])->name;
        for (int64_t k = 0; k < V; k++) {
            char *to = packed + k * bytes;
            if (k >= HEAD_ROWS)
                memcpy(to, packed + k % HEAD_ROWS * bytes, (size_t)bytes); /* time depends on no number */
            else {
                dc_rng_normal(row, C, 0, 0.05f, 1, DC_RNG_TEST, (uint32_t)k);
                if (types[i] == DC_F32) memcpy(to, row, sizeof row);
                else dc_row_writer(types[i], 0)(to, row, C);
            }
        }
        dc_dev_upload(b->dev, r->packed, packed, (size_t)(bytes * V));
        const dc_gemm g = {.c = r->logits,
                           .a = dc_view_read(r->a),
                           .b = {r->packed, types[i]},
                           .M = HEAD_ROWS,
                           .N = V,
                           .K = C,
                           .lda = C,
                           .ldb = C,
                           .trans_b = 1};
        snprintf(name, sizeof name, "%-5s 64 rows", type);
        time_product(b, name, g);
        dc_gemm one = g;
        one.M = 1;
        snprintf(name, sizeof name, "%-5s one row", type);
        time_product(b, name, one);
        DC_TRY(dc_stop_check("bench", err));
    }
done:
    dc_free(packed);
    return rc;
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
    const dc_view o = n->r->c, dq = dc_view_at(o, q), dk = dc_view_at(dq, q), dv = dc_view_at(dk, kv);
    const dc_cview Q = dc_view_read(n->r->a), Kv = dc_view_read(dc_view_at(n->r->a, q)),
                   Vv = dc_view_read(dc_view_at(n->r->a, q + kv));
    float *lse = n->r->sums.data;
    if (!n->backward) n->dev->op.attn_fwd(n->dev, o, lse, Q, Kv, Vv, &n->a);
    else n->dev->op.attn_bwd(n->dev, dq, dk, dv, Q, dc_view_read(o), lse, Q, Kv, Vv, &n->a);
}

/* Half of the T x T pairs; two products a pair forward (q k, p v), five backward. */
static int bench_attention(dc_bench *b, const room *r, dc_error *err)
{
    int rc = DC_OK;
    const int32_t lengths[] = {b->quick ? LONGEST / 8 : 512, b->quick ? LONGEST / 4 : LONGEST};
    char name[64];
    dc_bench_group(b, "attention, 9 heads of 64, 3 for keys and values");
    for (size_t i = 0; i < 2; i++) {
        const int64_t n = lengths[i];
        const int32_t cu[2] = {0, lengths[i]};
        void *table = NULL;
        DC_TRY(dc_bench_table(b, &table, cu, sizeof cu, err));
        attention x = {
            .dev = b->dev,
            .r = r,
            .a = {.cu_seqlens = cu, .cu_device = table, .T = n, .B = 1, .H = H, .K = K, .D = D, .scale = 0.125f}};
        const double pairs = (double)n * (double)(n + 1) / 2 * H * D * 2;
        const double once = (double)n * ((H + K) * 2 * D * (double)dc_element_bytes(r->a.type)); /* q, k, v and o */
        for (x.backward = 0; x.backward < 2; x.backward++) {
            snprintf(name, sizeof name, "%lld tokens  %s", (long long)n, x.backward ? "backward" : "forward");
            dc_bench_row(b, name, dc_bench_time(b, run_attention, &x), pairs * (x.backward ? 5 : 2),
                         once * (x.backward ? 2 : 1) + 4.0 * (double)n * H);
        }
        dc_dev_free(b->dev, table);
    }
done:
    return rc;
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

/* On the device, in the order of targets' fields. */
enum { LABELS, IDS, FIRST, WEIGHT, P, TABLES };

static int targets_there(dc_bench *b, void *there[TABLES], const targets *t, int64_t M, dc_error *err)
{
    const size_t m = (size_t)M;
    const void *const host[TABLES] = {t->labels, t->ids, t->first, t->weight, t->p};
    const size_t bytes[TABLES] = {m * 4, m * DRAWS * 4, (m + 1) * 8, m * 4, m * DRAWS * 4};
    int rc = DC_OK;
    for (int i = 0; i < TABLES && rc == DC_OK; i++) rc = dc_bench_table(b, &there[i], host[i], bytes[i], err);
    return rc;
}

/* Cross-entropy, then with sampled targets. Logits are read and their gradient written: 8 bytes an entry at least. */
static int time_losses(dc_bench *b, const room *r, targets *t, int64_t M, int64_t vocabulary, dc_error *err)
{
    int rc = DC_OK;
    char name[64];
    void *there[TABLES] = {NULL};
    targets_fill(t, M, vocabulary);
    DC_TRY(targets_there(b, there, t, M, err));
    losses l = {.dev = b->dev,
                .logits = r->logits.data,
                .loss = {.M = M,
                         .V = vocabulary,
                         .ld = vocabulary,
                         .labels = there[LABELS],
                         .w_ce = there[WEIGHT],
                         .temperature = 1,
                         .kd_scale = 1}};
    for (int sampled = 0; sampled < 2; sampled++) {
        if (sampled)
            l.loss.kind = DC_KD_SAMPLED, l.loss.w_kd = there[WEIGHT], l.loss.first = there[FIRST],
            l.loss.ids = there[IDS], l.loss.p = there[P];
        snprintf(name, sizeof name, "V %-7lld %s", (long long)vocabulary,
                 sampled ? "cross-entropy + 50 draws" : "cross-entropy");
        dc_bench_row(b, name, dc_bench_time(b, run_loss, &l), 0, 8.0 * (double)(M * vocabulary));
    }
done:
    for (int i = 0; i < TABLES; i++) dc_dev_free(b->dev, there[i]);
    return rc;
}

static int bench_losses(dc_bench *b, const room *r, dc_error *err)
{
    static const int64_t vocabularies[] = {V, 151936};
    int rc = DC_OK;
    char title[64];
    targets t = {0};
    const int64_t entries = larger(r->rows, 8) * V; /* a few rows of the wider vocabulary too */
    DC_TRY(targets_new(&t, entries / V, err));
    snprintf(title, sizeof title, "loss and its gradient, %.0f MB of logits", (double)entries * 4e-6);
    dc_bench_group(b, title);
    for (size_t i = 0; i < 2; i++) DC_TRY(time_losses(b, r, &t, entries / vocabularies[i], vocabularies[i], err));
done:
    targets_free(&t);
    return rc;
}

int dc_bench_kernels(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    room r = {0};
    const dc_dtype type = b->dev->activation;
    const int64_t chunk = (int64_t)dc_dev_chunk_bytes(b->dev) / (V * (int64_t)sizeof(float));
    const int64_t n = larger(b->tokens * F, (int64_t)LONGEST * 2 * (H + K) * D);
    DC_TRY(dc_bench_numbers(b, &r.a, type, n, 1, err));
    DC_TRY(dc_bench_numbers(b, &r.c, type, n, 2, err));
    DC_TRY(dc_bench_numbers(b, &r.w, type, (int64_t)V * C, 3, err));
    r.rows = chunk < b->tokens ? chunk : b->tokens;
    DC_TRY(dc_bench_numbers(b, &r.logits, DC_F32, larger(r.rows, HEAD_ROWS) * V, 4, err));
    DC_TRY(dc_bench_numbers(b, &r.sums, DC_F32, (int64_t)F * C, 5, err));
    DC_TRY(dc_dev_alloc(b->dev, &r.packed, (size_t)V * C * sizeof(float), "a benchmark", err));
    bench_linears(b, &r);
    DC_TRY(dc_stop_check("bench", err));
    DC_TRY(bench_stored(b, &r, err));
    DC_TRY(bench_attention(b, &r, err));
    DC_TRY(dc_stop_check("bench", err));
    DC_TRY(bench_losses(b, &r, err));
done:
    dc_dev_free(b->dev, r.a.data);
    dc_dev_free(b->dev, r.c.data);
    dc_dev_free(b->dev, r.w.data);
    dc_dev_free(b->dev, r.logits.data);
    dc_dev_free(b->dev, r.sums.data);
    dc_dev_free(b->dev, r.packed);
    return rc;
}
