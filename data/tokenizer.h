/* data/tokenizer.h -- text to token ids and back, equal to HF's tokenizers (from tokenizer.json) or to llama.cpp's (from a GGUF).
 *
 * Byte-level BPE: every rule comes from the file (normalizer, pre-tokenizer pattern, merges, added tokens, post-processor); known
 * patterns have hand-written scanners, others run in PCRE2 with their classes expanded from data/unicode.h. Refused by
 * name: model types and components that are not implemented. A loaded tokenizer is read-only and may be shared by threads. */
#ifndef DC_DATA_TOKENIZER_H
#define DC_DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/gguf.h"
#include "core/hash.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_tokenizer dc_tokenizer;

/* A growing list of ids. A zeroed one is empty; failed: memory ran out (as dc_str). */
typedef struct dc_ids {
    int32_t *data;
    size_t n, room;
    int failed;
} dc_ids;

void dc_ids_push(dc_ids *ids, int32_t id);
void dc_ids_release(dc_ids *ids);

/* `path`: a tokenizer.json, a directory with one (tokenizer_config.json and generation_config.json beside it are read for special
 * tokens and the chat template), or a .gguf. */
int dc_tokenizer_open(dc_tokenizer **out, const char *path, dc_error *err);
/* From an open GGUF, which must stay open as long as the tokenizer. */
int dc_tokenizer_from_gguf(dc_tokenizer **out, dc_gguf *g, dc_error *err);
void dc_tokenizer_free(dc_tokenizer *t); /* NULL is fine */

enum {
    DC_TOK_SPECIAL = 1, /* add BOS / EOS as the post-processor (or the GGUF's keys) says */
    DC_TOK_PLAIN = 2    /* special tokens inside the text are ordinary text (untrusted user content) */
};

/* Appends the ids of text[0..n). Invalid UTF-8 is DC_EFORMAT with the byte position. */
int dc_encode(const dc_tokenizer *t, dc_ids *ids, const char *text, size_t n, unsigned flags, dc_error *err);
/* As dc_encode, and for each id the offset of its first byte in the text (for masks by position); offsets grow along with ids.
 * Where normalization moves bytes, the offset is of the original text. */
int dc_encode_offsets(const dc_tokenizer *t, dc_ids *ids, dc_ids *offsets, const char *text, size_t n, unsigned flags,
                      dc_error *err);
/* Appends the text of ids, special tokens included, U+FFFD for invalid bytes: HF's decode(skip_special_tokens=False). With
 * `skip_special` special tokens leave nothing. An id outside the vocabulary is DC_EFORMAT. */
int dc_decode(const dc_tokenizer *t, dc_str *text, const int32_t *ids, size_t n, int skip_special, dc_error *err);

int64_t dc_tokenizer_size(const dc_tokenizer *t); /* highest id + 1 */
/* The bytes of one token as they stand in text (byte-level mapping undone), borrowed; NULL for a hole. */
const char *dc_token_bytes(const dc_tokenizer *t, int32_t id, size_t *n);
int32_t dc_token_find(const dc_tokenizer *t,
                      const char *content); /* of an added or vocabulary token's literal content; -1 */
int dc_token_is_special(const dc_tokenizer *t, int32_t id);
int32_t dc_tokenizer_bos(const dc_tokenizer *t); /* -1 when there is none */
int32_t dc_tokenizer_eos(const dc_tokenizer *t);
int32_t dc_tokenizer_pad(const dc_tokenizer *t);
/* All ids that end a generation: EOS, the generation_config's list, and end-of-turn tokens known by content (as llama.cpp's
 * EOG set). */
const int32_t *dc_tokenizer_eog(const dc_tokenizer *t, size_t *n);
const char *dc_tokenizer_chat_template(const dc_tokenizer *t); /* NULL when there is none */
/* Equal hashes: same ids for the same text. Over vocabulary, merges and rules; not over the chat template. */
dc_hash dc_tokenizer_hash(const dc_tokenizer *t);

/* Explains how two tokenizers differ (sizes, first differing id): DC_EMISMATCH; DC_OK when they give the same ids. */
int dc_tokenizer_same(const dc_tokenizer *a, const dc_tokenizer *b, const char *name_a, const char *name_b,
                      dc_error *err);

/* ---- writing ---- */
/* Writes DIR/tokenizer.json, tokenizer_config.json (special tokens, chat template) so that transformers loads them. One that came
 * from tokenizer.json is written back byte for byte; one from a GGUF is rebuilt from its rules. */
int dc_tokenizer_save(const dc_tokenizer *t, const char *dir, dc_error *err);
/* Puts all tokenizer.* keys; the vocabulary is padded to n_vocab entries with unused [PAD<id>]. `pre` is derived from the rules. */
int dc_tokenizer_put_gguf(const dc_tokenizer *t, dc_gguf_writer *w, int64_t n_vocab, dc_error *err);

/* ---- training a new byte-level BPE ---- */
typedef struct dc_bpe_options {
    int64_t vocab_size;          /* 256 bytes and special tokens included */
    const char *const *specials; /* added tokens, get the first ids; NULL-ended */
    const char *bos, *eos, *pad; /* among specials, or NULL */
    const char *pre;             /* "gpt2", "llama-bpe", "qwen2", "smollm": the pre-tokenizer's pattern */
    const char *chat_template;   /* or NULL */
} dc_bpe_options;

/* Pair counts over words, highest first, ties by lower ids (HF's rule): the same texts give the same tokenizer, which equals what HF's
 * BpeTrainer learns. next() gives one text after another, n = 0 at the end. */
int dc_bpe_train(dc_tokenizer **out, int (*next)(void *context, const char **text, size_t *n, dc_error *err),
                 void *context, const dc_bpe_options *options, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
