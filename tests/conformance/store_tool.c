/* tests/conformance/store_tool.c -- writes a small set and two stores of known content. usage: store_tool DIR
 *
 * DIR/tokens: 40 documents; document d has 1 + d * 7 % 50 tokens; token i is (d * 131 + i * 977) % V, its mask is (d + i) % 3 == 1 (0 for the
 * first), the document's weight 1 + d % 4 / 4, its row 3 d, its source d / 20. DIR/sampled and DIR/topk: targets of d % 4 rows a document. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/file.h"
#include "distill/store.h"

enum { DOCS = 40, LONGEST = 50, V = 151936, DRAWS = 50, TOPK = 4 };

static int write_tokens(const char *dir, dc_error *err)
{
    dc_shard_writer *w = NULL;
    const dc_set_info info = {.vocab_size = V,
                              .max_length = LONGEST,
                              .tokenizer = dc_hash_bytes("tokenizer", 9),
                              .settings = dc_hash_bytes("s", 1)};
    int rc = dc_shard_writer_new(&w, dir, "train", &info, err);
    for (int d = 0; rc == DC_OK && d < DOCS; d++) {
        int32_t ids[LONGEST];
        uint8_t mask[LONGEST];
        const int n = 1 + d * 7 % LONGEST;
        for (int i = 0; i < n; i++) ids[i] = (d * 131 + i * 977) % V, mask[i] = i > 0 && (d + i) % 3 == 1;
        const dc_doc doc = {.ids = ids,
                            .mask = mask,
                            .n = n,
                            .source = (uint32_t)d / 20,
                            .row = (uint64_t)d * 3,
                            .weight = 1 + (float)(d % 4) / 4};
        rc = dc_shard_writer_add(w, &doc, err);
    }
    if (rc == DC_OK) rc = dc_shard_writer_commit(w, err);
    dc_shard_writer_free(w);
    return rc;
}

/* Row r of document d. Sampled: 1 + (d + r) % 5 ids, all with one draw but the first. Top-k: halves, quarters, ... of what is left. */
static int64_t row(int32_t *ids, float *p, int d, int r, dc_targets kind)
{
    const int n = kind == DC_TARGETS_SAMPLED ? 1 + (d + r) % 5 : TOPK;
    for (int i = 0; i < n; i++) {
        ids[i] = d * 10 + r + i * i * 9001;
        p[i] = kind == DC_TARGETS_SAMPLED ? (float)(i ? 1 : DRAWS - n + 1) / DRAWS : (float)ldexp(1, -i - 1);
    }
    return n;
}

static int write_store(const char *dir, dc_targets kind, dc_error *err)
{
    dc_store_writer *w = NULL;
    int64_t doc = 0;
    const int sampled = kind == DC_TARGETS_SAMPLED;
    const dc_store_info info = {.kind = kind,
                                .n_samples = sampled ? DRAWS : 0,
                                .topk = sampled ? 0 : TOPK,
                                .temperature = 2,
                                .vocab_size = V,
                                .seed = 42,
                                .teacher = dc_hash_bytes("teacher", 7)};
    int rc = dc_store_writer_new(&w, &doc, dir, "train", &info, err);
    for (; rc == DC_OK && doc < DOCS; doc++) {
        int64_t first[5] = {0};
        int32_t ids[32];
        float p[32], entropy[4], ce[4], logsumexp[4];
        const int M = (int)doc % 4;
        for (int r = 0; r < M; r++) {
            first[r + 1] = first[r] + row(ids + first[r], p + first[r], (int)doc, r, kind);
            entropy[r] = (float)r / 2, ce[r] = (float)doc / 8, logsumexp[r] = (float)doc + (float)r / 16;
        }
        const dc_rows rows = {.M = M, .first = first, .ids = ids, .p = p, .entropy = entropy, .teacher_ce = ce};
        rc = dc_store_writer_add(w, doc, &rows, logsumexp, err);
    }
    if (rc == DC_OK) rc = dc_store_writer_commit(w, err);
    dc_store_writer_free(w);
    return rc;
}

int main(int argc, char **argv)
{
    static const char *const folders[] = {"tokens", "sampled", "topk"};
    dc_error err = {0};
    int rc = argc == 2 ? DC_OK : dc_fail(&err, DC_EUSAGE, "usage: %s DIR", argv[0]);
    for (int i = 0; rc == DC_OK && i < 3; i++) {
        char *dir = dc_path_join(argv[1], folders[i]);
        if (!dir) abort();
        rc = i ? write_store(dir, i == 1 ? DC_TARGETS_SAMPLED : DC_TARGETS_TOPK, &err) : write_tokens(dir, &err);
        free(dir);
    }
    if (rc != DC_OK) fprintf(stderr, "%s\n", err.message);
    return rc != DC_OK;
}
