/* tests/data/tok_small.h -- a small tokenizer.json for tests: all bytes, a few merges, a few added tokens. */
#ifndef DC_TESTS_DATA_TOK_SMALL_H
#define DC_TESTS_DATA_TOK_SMALL_H

#include "core/str.h"
#include "data/bpe.h"

/* Parts of the file; NULL is the default shown. */
typedef struct small {
    const char *normalizer;    /* null */
    const char *pre_tokenizer; /* ByteLevel with its pattern */
    const char *post;          /* null */
    const char *decoder;       /* ByteLevel */
    const char *model;         /* "type": "BPE" */
    const char *added;         /* <s> 271, </s> 272, special; <tool> 273, not special */
    int skip_byte;             /* a byte that the vocabulary lacks, when not 0 */
    int pairs;                 /* merges as pairs instead of texts */
} small;

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}"

/* Ids: byte b is b; then these. The space is U+0120. */
static const char *const small_merges[][2] = {{"h", "e"},          {"l", "l"},        {"he", "ll"},
                                              {"hell", "o"},       {"\xC4\xA0", "w"}, {"o", "r"},
                                              {"\xC4\xA0w", "or"}, {"l", "d"},        {"\xC4\xA0wor", "ld"},
                                              {"a", "a"},          {"aa", "aa"},      {"\xC3\x83", "\xC2\xA9"},
                                              {"h", "o"},          {"b", "c"},        {"a", "b"}};

static inline void small_json(dc_str *out, const small *s)
{
    dc_str_putf(
        out,
        "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": %s, \"normalizer\": %s, ",
        s->added ? s->added
                 : "[{\"id\": 271, \"content\": \"<s>\", \"special\": true}, {\"id\": 272, \"content\": \"</s>\", "
                   "\"special\": true}, {\"id\": 273, \"content\": \"<tool>\", \"special\": false}]",
        s->normalizer ? s->normalizer : "null");
    dc_str_putf(out, "\"pre_tokenizer\": %s, \"post_processor\": %s, \"decoder\": %s, \"model\": {%s, \"vocab\": {",
                s->pre_tokenizer ? s->pre_tokenizer : BYTE_LEVEL, s->post ? s->post : "null",
                s->decoder ? s->decoder : BYTE_LEVEL, s->model ? s->model : "\"type\": \"BPE\"");
    for (int b = 0; b < 256; b++) {
        char text[4];
        const size_t n = dc_utf8_encode(text, (int32_t)dc_byte_char((uint8_t)b));
        if (b && b == s->skip_byte) continue;
        if (b) dc_str_puts(out, ", ");
        if (b == '"' || b == '\\') dc_str_putf(out, "\"\\%c\": %d", b, b);
        else dc_str_putf(out, "\"%.*s\": %d", (int)n, text, b);
    }
    const size_t merges = sizeof small_merges / sizeof *small_merges;
    for (size_t i = 0; i < merges; i++)
        dc_str_putf(out, ", \"%s%s\": %zu", small_merges[i][0], small_merges[i][1], 256 + i);
    dc_str_puts(out, "}, \"merges\": [");
    for (size_t i = 0; i < merges; i++)
        dc_str_putf(out, s->pairs ? "%s[\"%s\", \"%s\"]" : "%s\"%s %s\"", i ? ", " : "", small_merges[i][0],
                    small_merges[i][1]);
    dc_str_puts(out, "]}}\n");
}

#endif
