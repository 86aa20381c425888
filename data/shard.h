/* data/shard.h -- tokenized documents on disk: token ids, loss mask and origin, keyed by document number.
 *
 * A set ("train", "eval") is DIR/SET-00000.h5, SET-00001.h5, ... of data/h5.h (format "decant.tokens"): columns `ids` (u16 when the vocabulary
 * allows, else u32), `mask` (u8: 1 where the token is a target), `offset` (u64, [n + 1] within the file), `trained` (u32 targets of the
 * document), `source` (u16), `row` (u64 row number in its source), `weight` (f32 loss weight). docs/formats.md states all. The set's hash is over its
 * logical content, so that chunking and compression do not matter. */
#ifndef DC_DATA_SHARD_H
#define DC_DATA_SHARD_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a set says of itself; stands in every file's attributes. */
typedef struct dc_set_info {
    int64_t vocab_size;
    int64_t max_length;    /* no document is longer */
    dc_hash tokenizer;     /* dc_tokenizer_hash */
    dc_hash chat_template; /* of its text; zeros: none */
    dc_hash settings;      /* of the recipe keys that prepare depends on */
} dc_set_info;

typedef struct dc_doc {
    const int32_t *ids;  /* [n] */
    const uint8_t *mask; /* [n]; mask[0] never counts: nothing predicts the first token */
    int64_t n;
    uint32_t source;
    uint64_t row;
    float weight;
} dc_doc;

typedef struct dc_shard_writer dc_shard_writer;

int dc_shard_writer_new(dc_shard_writer **out, const char *dir, const char *set, const dc_set_info *info,
                        dc_error *err);
int dc_shard_writer_add(dc_shard_writer *w, const dc_doc *doc, dc_error *err);
/* Publishes the last file and adds the files to the manifest. */
int dc_shard_writer_commit(dc_shard_writer *w, dc_error *err);
void dc_shard_writer_free(dc_shard_writer *w); /* removes what is unpublished; NULL is fine */

typedef struct dc_set dc_set;

/* Opens all files of a set. A missing set is DC_EIO saying which command makes it. Lengths and counts are in memory (8 bytes a document), tokens
 * are read when asked for. */
int dc_set_open(dc_set **out, const char *dir, const char *set, dc_error *err);
/* Is there such a set? By its first file. */
int dc_set_there(int *there, const char *dir, const char *set, dc_error *err);
void dc_set_close(dc_set *s); /* NULL is fine */
const dc_set_info *dc_set_info_of(const dc_set *s);
int64_t dc_set_docs(const dc_set *s);
int64_t dc_set_tokens(const dc_set *s);
int64_t dc_set_trained(const dc_set *s); /* targets over all documents, mask[0] not counted */
int64_t dc_set_doc_length(const dc_set *s, int64_t doc);
int64_t dc_set_doc_trained(const dc_set *s, int64_t doc);
uint32_t dc_set_doc_source(const dc_set *s, int64_t doc);
/* ids and mask have room for the document's length; either may be NULL. */
int dc_set_read(dc_set *s, int64_t doc, int32_t *ids, uint8_t *mask, float *weight, dc_error *err);
/* Over ids, masks, weights, and info's tokenizer hash, in order of documents; stored by the writer, so cheap. */
dc_hash dc_set_hash(const dc_set *s);

#ifdef __cplusplus
}
#endif
#endif
