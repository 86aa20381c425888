/* data/tokenizer_impl.h -- the inside of a dc_tokenizer, for the files that load, use and write it. Private to data/.
 *
 * tokenizer_json.c and tokenizer_gguf.c fill it and call dc_tokenizer_finish; then it is read-only, but for the pool of buffers, which
 * a mutex guards. */
#ifndef DC_DATA_TOKENIZER_IMPL_H
#define DC_DATA_TOKENIZER_IMPL_H

#include <jansson.h>
#include <pthread.h>

#include "core/arena.h"
#include "data/bpe.h"
#include "data/pretok.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DC_TOKEN_MODEL = 1,      /* in the model's vocabulary (merges may make it) */
    DC_TOKEN_ADDED = 2,      /* found in text before anything else */
    DC_TOKEN_IS_SPECIAL = 4, /* left out by skip_special; ordinary text with DC_TOK_PLAIN */
    DC_TOKEN_LSTRIP = 8,
    DC_TOKEN_RSTRIP = 16,
    DC_TOKEN_SINGLE_WORD = 32,
    DC_TOKEN_NORMALIZED = 64, /* looked for in the normalized text */
    DC_TOKEN_UNUSED = 128     /* a GGUF's padding: means nothing, never made */
};

typedef struct dc_token {
    const char *text;  /* as the file has it, byte-level characters included; NULL for a hole */
    const char *bytes; /* as it stands in text */
    uint32_t n, n_bytes;
    unsigned flags;
} dc_token;

/* Added tokens that are looked for in one text, sorted by what is looked for. */
typedef struct dc_added {
    struct dc_needle {
        const char *text;
        size_t n;
        int32_t id;
    } * items;
    size_t n;
    size_t first[257]; /* items that begin with byte b are [first[b], first[b + 1]) */
} dc_added;

/* Buffers of one call at a time. */
typedef struct dc_encoder {
    struct dc_encoder *next;
    dc_pretok_work pretok;
    dc_bpe_work bpe;
    dc_ids starts;
    dc_str normal[2];  /* normalized text; two, because forms may follow one another */
    dc_ids origins[2]; /* of each byte of it, in the text given in */
    struct dc_found {
        size_t begin, end; /* with what was stripped */
        size_t next;       /* where to look on: behind the token itself */
        int32_t id;
    } * found;
    size_t room_found;
} dc_encoder;

enum { DC_FORM_NFC, DC_FORM_NFD, DC_FORM_NFKC, DC_FORM_NFKD, DC_FORMS_MOST = 4 };

struct dc_tokenizer {
    dc_arena arena; /* texts */
    dc_token *tokens;
    int64_t size;
    uint32_t *slots; /* id + 1 by text, open addressing */
    uint32_t mask;
    dc_bpe bpe;
    int ignore_merges;
    dc_pretok pretok;
    int forms[DC_FORMS_MOST]; /* normalizers, in order */
    int n_forms;
    int from_gguf;
    dc_added added[2];        /* [0] looked for in the text itself, [1] in the normalized one */
    int32_t *prefix, *suffix; /* ids that DC_TOK_SPECIAL adds */
    size_t n_prefix, n_suffix;
    int32_t bos, eos, pad, unk;
    int32_t *eog;
    size_t n_eog;
    const char *chat_template;
    const char *pre;            /* a GGUF's name */
    dc_str json, config, jinja; /* the files as they were; empty when there were none */
    dc_hash hash;
    pthread_mutex_t lock;
    dc_encoder *idle;
};

/* ---- filling ---- */
dc_tokenizer *dc_tokenizer_new(void); /* NULL: no memory; bos, eos, pad, unk are -1 */
int dc_tokenizer_reserve(dc_tokenizer *t, int64_t size,
                         dc_error *err); /* ids 0 .. size - 1, all holes; keeps what is there */
/* Sets token `id` (inside the size); its text is copied, its bytes follow from it. */
int dc_tokenizer_put(dc_tokenizer *t, int64_t id, const char *text, size_t n, unsigned flags, dc_error *err);
/* Builds the table by text; two tokens of one text are DC_EFORMAT. */
int dc_tokenizer_index(dc_tokenizer *t, dc_error *err);
void dc_tokenizer_enter(dc_tokenizer *t, int64_t id); /* one token put later, inside the size of dc_tokenizer_index */
int32_t dc_token_lookup(const dc_tokenizer *t, const char *text, size_t n); /* -1 */
/* Fills bpe.byte_ids from the vocabulary. */
void dc_tokenizer_bytes(dc_tokenizer *t);
int dc_tokenizer_merge(dc_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                       dc_error *err);
/* Everything that follows from the rest: merge table, added tokens, end-of-generation set, hash. `more_eog` are ids of a generation_config. */
int dc_tokenizer_finish(dc_tokenizer *t, const int32_t *more_eog, size_t n_more, dc_error *err);
/* The end-of-generation set by contents, as llama.cpp has it; 1 when `text` is one. dc_text_is_fim: infill tokens it takes for control tokens. */
int dc_text_ends_generation(const char *text);
int dc_text_is_infill(const char *text);

/* A tokenizer.json's text; takes the text over on success. `config` and `generation` (tokenizer_config.json, generation_config.json, whose
 * numbers may be reals) may be NULL. */
int dc_tokenizer_from_json(dc_tokenizer **out, dc_str *text, const char *name, const json_t *config,
                           const json_t *generation, dc_error *err);
/* The text of a tokenizer.json, and of a tokenizer_config.json, for a tokenizer that came from elsewhere. */
int dc_tokenizer_write_json(const dc_tokenizer *t, dc_str *out, dc_error *err);
int dc_tokenizer_write_config(const dc_tokenizer *t, dc_str *out, dc_error *err);

/* ---- using ---- */
int dc_added_build(dc_added *a, const dc_tokenizer *t, int normalized, dc_error *err);
void dc_added_release(dc_added *a);
/* Looks for the next added token at or behind `from`, leftmost, then longest: 1 and *found, or 0. With `plain` special ones are passed
 * over; stripping and whole words are applied; `done` is the end of the one before. */
int dc_added_next(const dc_added *a, const dc_tokenizer *t, int plain, const char *text, size_t n, size_t done,
                  size_t from, struct dc_found *found);
/* llama.cpp's way: the longest token first, wherever it stands. Fills e->found, in order of place. */
int dc_added_all(const dc_added *a, const dc_tokenizer *t, int plain, dc_encoder *e, const char *text, size_t n,
                 size_t *count, dc_error *err);

/* Normalizes text[0..n) by the tokenizer's forms. *out is the text itself when nothing changes (then *origins is NULL), or a buffer of e; with
 * `track`, origins[i] is where byte i of it comes from. */
int dc_normalize(const dc_tokenizer *t, dc_encoder *e, const char *text, size_t n, int track, const char **out,
                 size_t *n_out, const int32_t **origins, dc_error *err);
int dc_normalize_form(dc_str *out, dc_ids *origins, const char *text, size_t n, const int32_t *from, int form,
                      dc_error *err);
size_t dc_normal_span(const char *text, size_t n, int form);

#ifdef __cplusplus
}
#endif
#endif
