/* data/pretok.h -- pre-tokenizers: text to words, by the rules of a tokenizer.json or of a GGUF's pre-tokenizer name.
 *
 * Rules are stages, each of which splits the pieces of the one before: known patterns by hand-written scanners, other patterns by
 * PCRE2 with their character classes expanded from data/unicode.h, digits, and ByteLevel's prefix space. The mapping of bytes to
 * printable characters is no stage: data/bpe.h works on bytes. Private to data/. */
#ifndef DC_DATA_PRETOK_H
#define DC_DATA_PRETOK_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_scan { DC_SCAN_NONE, DC_SCAN_GPT2, DC_SCAN_LLAMA3, DC_SCAN_QWEN2, DC_SCAN_QWEN35 } dc_scan;

typedef enum dc_split { /* what becomes of the matches: the behaviors of the tokenizers library */
                        DC_SPLIT_ISOLATED,
                        DC_SPLIT_REMOVED,
                        DC_SPLIT_PREVIOUS,
                        DC_SPLIT_NEXT,
                        DC_SPLIT_CONTIGUOUS
} dc_split;

typedef enum dc_stage_kind {
    DC_STAGE_SCAN,
    DC_STAGE_REGEX,
    DC_STAGE_STRING,
    DC_STAGE_DIGITS,
    DC_STAGE_PREFIX
} dc_stage_kind;

typedef struct dc_stage {
    dc_stage_kind kind;
    dc_scan scan;      /* of DC_STAGE_SCAN */
    dc_split behavior; /* of REGEX and STRING; DIGITS: ISOLATED or CONTIGUOUS */
    int invert;
    char *pattern;          /* owned: of REGEX (as in the file) and STRING */
    struct dc_regex *regex; /* owned */
} dc_stage;

enum { DC_STAGES = 8 };

typedef struct dc_pretok {
    dc_stage stages[DC_STAGES];
    size_t n;
    int old; /* llama.cpp's view: Unicode 15.1, and contractions of ASCII letters only */
} dc_pretok;

void dc_pretok_release(dc_pretok *p); /* twice is safe */

/* Each appends a stage. A known pattern becomes a scanner when it is isolated and not inverted. `pattern` is in Oniguruma's syntax; what
 * has no equal in PCRE2 is refused with the pattern's text. */
int dc_pretok_regex(dc_pretok *p, const char *pattern, dc_split behavior, int invert, dc_error *err);
int dc_pretok_string(dc_pretok *p, const char *text, dc_split behavior, int invert, dc_error *err);
int dc_pretok_digits(dc_pretok *p, int individual, dc_error *err);
int dc_pretok_prefix(dc_pretok *p, dc_error *err); /* a space before a piece that does not begin with one */
int dc_pretok_scan(dc_pretok *p, dc_scan scan, dc_error *err);
/* The pattern of a scanner, as tokenizer.json files have it. */
const char *dc_scan_pattern(dc_scan scan);

/* The stages of a GGUF's tokenizer.ggml.pre, and what else the name implies in llama.cpp. DC_EUNKNOWN lists what is known. */
int dc_pretok_named(dc_pretok *p, const char *pre, int *ignore_merges, int *add_bos, dc_error *err);
/* The name for these stages, NULL when there is none. */
const char *dc_pretok_name(const dc_pretok *p, int ignore_merges);
int dc_pretok_equal(const dc_pretok *a, const dc_pretok *b); /* stages alike; `old` is not compared */

/* ---- running ---- */
/* Buffers of one thread; a zeroed one is ready. */
typedef struct dc_pretok_work {
    dc_str prefixed[DC_STAGES];
    struct dc_piece {
        size_t begin, end;
        int match;
    } * pieces[DC_STAGES];
    size_t room[DC_STAGES];
    struct dc_regex_work *regex;
} dc_pretok_work;

void dc_pretok_work_release(dc_pretok_work *w);

/* Receives one word. `origin` is where its first byte stands in the text given to dc_pretok_run; -1 for a space put before the
 * text. Returns 0 or an error code that ends the run. */
typedef int (*dc_word_fn)(void *context, const char *word, size_t n, int64_t origin);

/* Splits text[0..n), valid UTF-8, into words in order. */
int dc_pretok_run(const dc_pretok *p, dc_pretok_work *w, const char *text, size_t n, dc_word_fn emit, void *context,
                  dc_error *err);

/* The end of the word that begins at `at` < n, by a hand-written scanner. */
size_t dc_scan_next(dc_scan scan, int old, const char *text, size_t n, size_t at);

/* ---- patterns, data/pretok_regex.c ---- */
typedef struct dc_regex dc_regex;
int dc_regex_new(dc_regex **out, const char *pattern, int old, dc_error *err);
void dc_regex_free(dc_regex *r);
struct dc_regex_work;
void dc_regex_work_free(struct dc_regex_work *w);
/* The next match in text[from..n): 1 and its place, 0 when there is none, or an error code. */
int dc_regex_next(const dc_regex *r, struct dc_regex_work **w, const char *text, size_t n, size_t from, size_t *begin,
                  size_t *end, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
