/* tests/data/set_kit.h -- small made-up sets of documents for tests. */
#ifndef DC_TESTS_DATA_SET_KIT_H
#define DC_TESTS_DATA_SET_KIT_H

#include <string.h>

#include "core/error.h"
#include "data/shard.h"

enum { KIT_LONGEST = 64 };

static inline uint64_t kit_mix(uint64_t i)
{
    i = (i ^ (i >> 31)) * 0x9E3779B97F4A7C15u;
    return i ^ (i >> 29);
}

static inline dc_set_info kit_info(int64_t vocab_size)
{
    return (dc_set_info){.vocab_size = vocab_size,
                         .max_length = KIT_LONGEST,
                         .tokenizer = dc_hash_bytes("t", 1),
                         .chat_template = {{0}},
                         .settings = dc_hash_bytes("s", 1)};
}

/* Document d of a set: 1 to KIT_LONGEST tokens; `memory` holds them. */
typedef struct kit_doc {
    int32_t ids[KIT_LONGEST];
    uint8_t mask[KIT_LONGEST];
    dc_doc doc;
} kit_doc;

static inline const dc_doc *kit_document(kit_doc *memory, int64_t d, int64_t vocab_size, uint32_t source)
{
    const int64_t n = 1 + (int64_t)(kit_mix((uint64_t)d) % KIT_LONGEST);
    for (int64_t i = 0; i < n; i++) {
        const uint64_t r = kit_mix((uint64_t)(d * 1000 + i));
        memory->ids[i] = (int32_t)((r >> 8) % (uint64_t)vocab_size);
        memory->mask[i] = i > 0 && r % 3 == 0;
    }
    memory->doc = (dc_doc){.ids = memory->ids,
                           .mask = memory->mask,
                           .n = n,
                           .source = source,
                           .row = (uint64_t)d * 2,
                           .weight = 1 + (float)(d % 4) / 4};
    return &memory->doc;
}

/* Documents 0 .. n; the source of document d is d * sources / n. */
static inline int kit_write(const char *dir, const char *set, int64_t n, int64_t vocab_size, int64_t sources,
                            dc_error *err)
{
    dc_shard_writer *w = NULL;
    kit_doc memory;
    const dc_set_info info = kit_info(vocab_size);
    int rc = dc_shard_writer_new(&w, dir, set, &info, err);
    for (int64_t d = 0; rc == DC_OK && d < n; d++)
        rc = dc_shard_writer_add(w, kit_document(&memory, d, vocab_size, (uint32_t)(d * sources / n)), err);
    if (rc == DC_OK) rc = dc_shard_writer_commit(w, err);
    dc_shard_writer_free(w);
    return rc;
}
#endif
