/* tests/data/fake_tokenizer.h -- a tokenizer for tests of what stands above it: one token a byte, and special tokens <...> known by their text.
 *
 * Byte b is token b. Special tokens, from 256: <s>, </s>, <|im_start|>, <|im_end|>, <pair> (an ordinary added token whose text "ab" spans two
 * bytes, so that boundaries inside a token can be tested). With DC_TOK_SPECIAL, <s> goes in front. Define FAKE_TOKENIZER once. */
#ifndef DC_TESTS_FAKE_TOKENIZER_H
#define DC_TESTS_FAKE_TOKENIZER_H

#include <string.h>

#include "core/arena.h"
#include "data/tokenizer.h"

enum { FAKE_BOS = 256, FAKE_EOS, FAKE_IM_START, FAKE_IM_END, FAKE_PAIR, FAKE_SIZE };

struct dc_tokenizer {
    int pad_is_eos;
};

static const char *const fake_text[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "ab"};

void dc_ids_push(dc_ids *ids, int32_t id)
{
    if (ids->failed || dc_grow(&ids->data, ids->n, &ids->room, sizeof *ids->data)) ids->failed = 1;
    else ids->data[ids->n++] = id;
}

void dc_ids_release(dc_ids *ids)
{
    dc_free(ids->data);
    *ids = (dc_ids){0};
}

int dc_encode_offsets(const dc_tokenizer *t, dc_ids *ids, dc_ids *offsets, const char *text, size_t n, unsigned flags,
                      dc_error *err)
{
    (void)t;
    if (!dc_utf8_valid(text, n)) return dc_fail(err, DC_EFORMAT, "invalid UTF-8");
    if (flags & DC_TOK_SPECIAL) dc_ids_push(ids, FAKE_BOS), dc_ids_push(offsets, 0);
    for (size_t i = 0; i < n;) {
        int32_t id = (unsigned char)text[i];
        size_t used = 1;
        for (size_t k = 0; k < sizeof fake_text / sizeof *fake_text; k++) {
            const size_t m = strlen(fake_text[k]);
            if (i + m <= n && memcmp(text + i, fake_text[k], m) == 0) id = FAKE_BOS + (int32_t)k, used = m;
        }
        dc_ids_push(ids, id);
        dc_ids_push(offsets, (int32_t)i);
        i += used;
    }
    return ids->failed || offsets->failed ? dc_fail_memory(err, n, "ids") : DC_OK;
}

int64_t dc_tokenizer_size(const dc_tokenizer *t) { return (void)t, FAKE_SIZE; }
int32_t dc_tokenizer_bos(const dc_tokenizer *t) { return (void)t, FAKE_BOS; }
int32_t dc_tokenizer_eos(const dc_tokenizer *t) { return (void)t, FAKE_EOS; }
int32_t dc_tokenizer_pad(const dc_tokenizer *t) { return t->pad_is_eos ? FAKE_EOS : -1; }

const char *dc_token_bytes(const dc_tokenizer *t, int32_t id, size_t *n)
{
    (void)t;
    if (id < FAKE_BOS || id >= FAKE_SIZE) return NULL;
    *n = strlen(fake_text[id - FAKE_BOS]);
    return fake_text[id - FAKE_BOS];
}

const int32_t *dc_tokenizer_eog(const dc_tokenizer *t, size_t *n)
{
    static const int32_t eog[] = {FAKE_EOS, FAKE_IM_END};
    (void)t;
    *n = 2;
    return eog;
}

#endif
