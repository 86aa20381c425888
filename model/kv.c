/* model/kv.c -- pages of keys and values: who holds them, who shares them, writing and attending. */
#include "model/kv.h"

#include <string.h>

#include "core/arena.h"
#include "model/plan_private.h"

typedef struct sequence {
    int open;
    int64_t length;  /* tokens */
    int64_t n_pages; /* held; enough for length, and after a failed pass perhaps more */
    int32_t *pages;  /* [kv->n_pages], n_pages used */
} sequence;

struct dc_kv {
    dc_model *m;
    int64_t page, n_pages, max_seqs;
    int64_t width;       /* K * D: elements of a token in one layer's keys or values */
    int64_t token_bytes; /* of these */
    char *memory;        /* [L, 2, n_pages, page, K, D] */
    size_t bytes;
    sequence *seqs;      /* [max_seqs] */
    int32_t *page_table; /* [max_seqs, n_pages]: the sequences' pages */
    int32_t *refs;       /* [n_pages] sequences that hold a page */
    int32_t *free_list;  /* [n_pages], n_free used */
    int64_t n_free;

    /* the pass under way */
    int64_t B;
    int32_t *pass;                   /* [max_seqs] its sequences */
    int32_t *cu_new;                 /* [max_seqs + 1] */
    int32_t *kv_len;                 /* [max_seqs] new tokens included */
    int32_t *last_rows;              /* [max_seqs] */
    int32_t *positions;              /* [n_pages * page] */
    const void **k_pages, **v_pages; /* [max_seqs, n_pages] */
};

static int64_t pages_for(const dc_kv *kv, int64_t length) { return (length + kv->page - 1) / kv->page; }

/* Key (part 0) or value (part 1) page of a layer. */
static char *page_at(const dc_kv *kv, int64_t layer, int part, int32_t page)
{
    return kv->memory + ((layer * 2 + part) * kv->n_pages + page) * kv->page * kv->token_bytes;
}

/* ---- life ---- */

static int alloc_tables(dc_kv *kv, dc_error *err)
{
    const size_t S = (size_t)kv->max_seqs, P = (size_t)kv->n_pages;
    kv->seqs = dc_calloc(S, sizeof *kv->seqs);
    kv->page_table = dc_calloc(S, P * sizeof *kv->page_table);
    kv->refs = dc_calloc(P, sizeof *kv->refs);
    kv->free_list = dc_calloc(P, sizeof *kv->free_list);
    kv->pass = dc_calloc(S, sizeof *kv->pass);
    kv->cu_new = dc_calloc(S + 1, sizeof *kv->cu_new);
    kv->kv_len = dc_calloc(S, sizeof *kv->kv_len);
    kv->last_rows = dc_calloc(S, sizeof *kv->last_rows);
    kv->positions = dc_calloc(P, (size_t)kv->page * sizeof *kv->positions);
    kv->k_pages = dc_calloc(S, P * sizeof *kv->k_pages);
    kv->v_pages = dc_calloc(S, P * sizeof *kv->v_pages);
    if (!kv->seqs || !kv->page_table || !kv->refs || !kv->free_list || !kv->pass || !kv->cu_new || !kv->kv_len ||
        !kv->last_rows || !kv->positions || !kv->k_pages || !kv->v_pages)
        return dc_fail_memory(err, S * P * (2 * sizeof(void *) + sizeof(int32_t)), "the tables of a KV cache");
    for (size_t s = 0; s < S; s++) kv->seqs[s].pages = kv->page_table + s * P;
    for (size_t i = 0; i < P; i++) kv->free_list[i] = (int32_t)(P - 1 - i);
    kv->n_free = kv->n_pages;
    return DC_OK;
}

int dc_kv_new(dc_kv **out, dc_model *m, const dc_kv_options *options, dc_error *err)
{
    DC_ASSERT(options->max_seqs > 0 && options->max_tokens > 0 && options->page >= 0);
    int rc = DC_OK;
    int64_t bytes;
    void *memory;
    dc_kv *kv = dc_calloc(1, sizeof *kv);
    if (!kv) return dc_fail_memory(err, sizeof *kv, "a KV cache");
    kv->m = m;
    kv->page = options->page ? options->page : 32;
    kv->max_seqs = options->max_seqs;
    kv->width = m->config.K * m->config.D;
    kv->token_bytes = kv->width * (int64_t)dc_element_bytes(m->dev->activation);
    /* Each sequence may leave a page partly empty. */
    kv->n_pages = pages_for(kv, options->max_tokens) + kv->max_seqs;
    if (dc_mul_size(&bytes, kv->n_pages, kv->page) || bytes > INT32_MAX ||
        dc_mul_size(&bytes, bytes, kv->token_bytes) || dc_mul_size(&bytes, bytes, 2 * m->config.L))
        DC_TRY(
            dc_fail(err, DC_ENOMEM, "a KV cache of %lld tokens cannot be addressed", (long long)options->max_tokens));
    kv->bytes = (size_t)bytes;
    DC_TRY(alloc_tables(kv, err));
    DC_TRY(dc_dev_alloc(m->dev, &memory, kv->bytes, "the KV cache", err));
    kv->memory = memory;
    *out = kv, kv = NULL;
done:
    dc_kv_free(kv);
    return rc;
}

void dc_kv_free(dc_kv *kv)
{
    if (!kv) return;
    dc_dev_free(kv->m->dev, kv->memory);
    dc_free(kv->seqs);
    dc_free(kv->page_table);
    dc_free(kv->refs);
    dc_free(kv->free_list);
    dc_free(kv->pass);
    dc_free(kv->cu_new);
    dc_free(kv->kv_len);
    dc_free(kv->last_rows);
    dc_free(kv->positions);
    dc_free(kv->k_pages);
    dc_free(kv->v_pages);
    dc_free(kv);
}

size_t dc_kv_bytes(const dc_kv *kv) { return kv->bytes; }

/* ---- sequences ---- */

static sequence *open_one(const dc_kv *kv, int32_t seq)
{
    DC_ASSERT(seq >= 0 && seq < kv->max_seqs && kv->seqs[seq].open);
    return &kv->seqs[seq];
}

static int32_t take_page(dc_kv *kv)
{
    DC_ASSERT(kv->n_free > 0);
    const int32_t page = kv->free_list[--kv->n_free];
    kv->refs[page] = 1;
    return page;
}

static void drop_page(dc_kv *kv, int32_t page)
{
    if (--kv->refs[page] == 0) kv->free_list[kv->n_free++] = page;
}

static void drop_pages_from(dc_kv *kv, sequence *s, int64_t n)
{
    while (s->n_pages > n) drop_page(kv, s->pages[--s->n_pages]);
}

int32_t dc_kv_open(dc_kv *kv)
{
    for (int32_t i = 0; i < kv->max_seqs; i++) {
        sequence *s = &kv->seqs[i];
        if (s->open) continue;
        s->open = 1, s->length = 0, s->n_pages = 0;
        return i;
    }
    return -1;
}

/* The copy holds the same pages, the partial one too: whoever writes to it first takes a page of its own (reserve). */
int32_t dc_kv_fork(dc_kv *kv, int32_t seq)
{
    const sequence *from = open_one(kv, seq);
    const int32_t copy = dc_kv_open(kv);
    if (copy < 0) return -1;
    sequence *s = &kv->seqs[copy];
    s->length = from->length;
    s->n_pages = pages_for(kv, from->length);
    for (int64_t i = 0; i < s->n_pages; i++) kv->refs[s->pages[i] = from->pages[i]]++;
    return copy;
}

void dc_kv_close(dc_kv *kv, int32_t seq)
{
    sequence *s = open_one(kv, seq);
    drop_pages_from(kv, s, 0);
    s->open = 0;
}

void dc_kv_cut(dc_kv *kv, int32_t seq, int64_t length)
{
    sequence *s = open_one(kv, seq);
    DC_ASSERT(length >= 0 && length <= s->length);
    s->length = length;
    drop_pages_from(kv, s, pages_for(kv, length));
}

int64_t dc_kv_length(const dc_kv *kv, int32_t seq) { return open_one(kv, seq)->length; }

/* ---- a pass ---- */

/* The page that the next token would join, when others hold it too; else -1. */
static int32_t shared_tail(const dc_kv *kv, const sequence *s)
{
    if (s->length % kv->page == 0) return -1;
    const int32_t page = s->pages[s->length / kv->page];
    return kv->refs[page] > 1 ? page : -1;
}

/* Pages that the pass will take. A shared tail costs each of its writers but the last a page, so holders are let go one
 * by one, and put back. */
static int64_t count_pages(dc_kv *kv)
{
    int64_t n = 0;
    for (int64_t b = 0; b < kv->B; b++) {
        const sequence *s = &kv->seqs[kv->pass[b]];
        const int64_t more = pages_for(kv, kv->kv_len[b]) - s->n_pages;
        n += more > 0 ? more : 0;
        const int32_t tail = shared_tail(kv, s);
        kv->last_rows[b] = tail; /* until the rows are set */
        if (tail >= 0) n++, kv->refs[tail]--;
    }
    for (int64_t b = 0; b < kv->B; b++)
        if (kv->last_rows[b] >= 0) kv->refs[kv->last_rows[b]]++;
    return n;
}

static void own_tail(dc_kv *kv, sequence *s)
{
    const int32_t old = shared_tail(kv, s);
    if (old < 0) return;
    const int32_t page = take_page(kv);
    const size_t bytes = (size_t)(s->length % kv->page * kv->token_bytes);
    for (int64_t layer = 0; layer < kv->m->config.L; layer++)
        for (int part = 0; part < 2; part++)
            dc_dev_copy(kv->m->dev, page_at(kv, layer, part, page), page_at(kv, layer, part, old), bytes);
    s->pages[s->length / kv->page] = page;
    drop_page(kv, old);
}

/* Makes room for the new tokens of B sequences; on failure nothing has changed. */
static int reserve(dc_kv *kv, const int32_t *seqs, const int32_t *cu_new, int64_t B, dc_error *err)
{
    DC_ASSERT(B > 0 && B <= kv->max_seqs);
    kv->B = B;
    memcpy(kv->pass, seqs, (size_t)B * sizeof *seqs);
    memcpy(kv->cu_new, cu_new, (size_t)(B + 1) * sizeof *cu_new);
    for (int64_t b = 0; b < B; b++) {
        const sequence *s = open_one(kv, seqs[b]);
        DC_ASSERT(cu_new[b + 1] > cu_new[b]);
        const int64_t length = s->length + cu_new[b + 1] - cu_new[b];
        DC_ASSERT(length <= INT32_MAX);
        kv->kv_len[b] = (int32_t)length;
    }
    const int64_t n = count_pages(kv);
    if (n > kv->n_free)
        return dc_fail(
            err, DC_ENOMEM,
            "the KV cache is full: %lld sequences need %lld more pages of %lld tokens, %lld of %lld are free",
            (long long)B, (long long)n, (long long)kv->page, (long long)kv->n_free, (long long)kv->n_pages);
    for (int64_t b = 0; b < B; b++) {
        sequence *s = &kv->seqs[seqs[b]];
        own_tail(kv, s);
        while (s->n_pages < pages_for(kv, kv->kv_len[b])) s->pages[s->n_pages++] = take_page(kv);
        for (int64_t i = cu_new[b]; i < cu_new[b + 1]; i++) kv->positions[i] = (int32_t)(s->length + i - cu_new[b]);
        kv->last_rows[b] = cu_new[b + 1] - 1;
    }
    return DC_OK;
}

/* Rows cu_new[b] .. cu_new[b + 1] of x [T, K, D] to the sequence's pages, a run within a page at a time. */
static void write_rows(dc_kv *kv, int64_t layer, int part, int64_t b, const char *x)
{
    const sequence *s = &kv->seqs[kv->pass[b]];
    for (int64_t row = kv->cu_new[b], at = s->length; row < kv->cu_new[b + 1];) {
        const int64_t room = kv->page - at % kv->page, left = kv->cu_new[b + 1] - row, n = left < room ? left : room;
        char *page = page_at(kv, layer, part, s->pages[at / kv->page]);
        dc_dev_copy(kv->m->dev, page + at % kv->page * kv->token_bytes, x + row * kv->token_bytes,
                    (size_t)(n * kv->token_bytes));
        row += n, at += n;
    }
}

void dc_kv_attend(dc_kv *kv, int64_t layer, dc_view o, dc_cview q, dc_cview k, dc_cview v)
{
    const dc_config *c = &kv->m->config;
    int64_t most = 0;
    for (int64_t b = 0; b < kv->B; b++) {
        write_rows(kv, layer, 0, b, k.data);
        write_rows(kv, layer, 1, b, v.data);
        const int64_t n = pages_for(kv, kv->kv_len[b]);
        if (n > most) most = n;
    }
    for (int64_t b = 0; b < kv->B; b++) {
        const sequence *s = &kv->seqs[kv->pass[b]];
        const int64_t n = pages_for(kv, kv->kv_len[b]);
        for (int64_t j = 0; j < n; j++) {
            kv->k_pages[b * most + j] = page_at(kv, layer, 0, s->pages[j]);
            kv->v_pages[b * most + j] = page_at(kv, layer, 1, s->pages[j]);
        }
    }
    const dc_attn_kv a = {.S = kv->B,
                          .H = c->H,
                          .K = c->K,
                          .D = c->D,
                          .page = kv->page,
                          .max_pages = most,
                          .cu_new = kv->cu_new,
                          .kv_len = kv->kv_len,
                          .k_pages = kv->k_pages,
                          .v_pages = kv->v_pages,
                          .scale = c->attn_scale,
                          .softcap = c->attn_softcap,
                          .window = c->window};
    kv->m->dev->op.attn_decode(kv->m->dev, o, q, &a);
}

int dc_forward_kv(dc_plan *p, dc_kv *kv, const int32_t *seqs, const int32_t *ids, const int32_t *cu_new, int64_t B,
                  const dc_run *run, dc_error *err)
{
    DC_ASSERT(cu_new[0] == 0);
    int rc = reserve(kv, seqs, cu_new, B, err);
    if (rc) return rc;
    const dc_batch batch = {.T = cu_new[B],
                            .B = B,
                            .M = B,
                            .ids = ids,
                            .pos = kv->positions,
                            .cu_seqlens = cu_new,
                            .rows = kv->last_rows,
                            .kv = kv,
                            .seqs = seqs};
    dc_forward(p, &batch, run);
    for (int64_t b = 0; b < B; b++) kv->seqs[seqs[b]].length = kv->kv_len[b];
    return DC_OK;
}
