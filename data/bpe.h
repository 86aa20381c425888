/* data/bpe.h -- byte-level byte-pair encoding of single words: merges, and a cache of words.
 *
 * Tokens are numbers here; their texts belong to data/tokenizer_impl.h. A dc_bpe is read-only once built. Private to data/. */
#ifndef DC_DATA_BPE_H
#define DC_DATA_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pair of neighbours becomes, and when: lower ranks first. */
typedef struct dc_merge {
    int32_t left, right, made;
    int32_t rank;
} dc_merge;

typedef struct dc_bpe {
    dc_merge *merges; /* in order of rank, as in the file; owned */
    size_t n_merges, room;
    dc_merge *slots; /* open addressing over (left, right); left -1 is empty; owned */
    uint32_t mask;
    int32_t byte_ids[256]; /* -1: the vocabulary lacks that byte */
    int32_t unk;           /* for lacking bytes; -1: they vanish */
    int fuse_unk;          /* one unk for a run of lacking bytes */
    int gaps;              /* bytes that vanish still part their neighbours until all merges are done (llama.cpp) */
    int complete;          /* no byte lacks */
} dc_bpe;

/* Appends a merge of the next rank; DC_ENOMEM. */
int dc_bpe_add(dc_bpe *b, int32_t left, int32_t right, int32_t made, dc_error *err);
/* Builds the table once all merges and byte_ids stand. Of equal pairs the last one counts (tokenizers), or the first (llama.cpp). */
int dc_bpe_index(dc_bpe *b, int first_counts, dc_error *err);
void dc_bpe_release(dc_bpe *b);                                            /* twice is safe */
const dc_merge *dc_bpe_find(const dc_bpe *b, int32_t left, int32_t right); /* NULL when the pair never merges */

/* The characters that stand for bytes in vocabularies (GPT-2's bytes_to_unicode): code point of a byte; byte of a code point or -1. */
uint32_t dc_byte_char(uint8_t byte);
int dc_char_byte(uint32_t cp);

/* Buffers and the word cache of one thread; a zeroed one is ready. */
typedef struct dc_bpe_work {
    struct dc_symbol *symbols;
    size_t n_symbols;
    uint64_t *heap;
    size_t n_heap, room_heap;
    struct dc_word *cache; /* [DC_WORDS] */
} dc_bpe_work;

void dc_bpe_work_release(dc_bpe_work *w);

/* Finds a whole word in the vocabulary, for ignore_merges; -1 when it is none. */
typedef int32_t (*dc_whole_fn)(const void *context, const char *word, size_t n);

/* Appends the ids of a word (n > 0 bytes) and, if starts is not NULL, where each begins in the word. `whole` may be NULL. `readable` bytes
 * may be read from word on (at least n): it lets short words be compared eight bytes at a time. DC_ENOMEM. */
int dc_bpe_word(const dc_bpe *b, dc_bpe_work *w, dc_ids *ids, dc_ids *starts, const char *word, size_t n,
                size_t readable, dc_whole_fn whole, const void *context, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
