/* tests/fuzz/fuzz_tokenizer.c -- any bytes as a tokenizer.json; one that opens encodes a text, and the ids decode to it. */
#include <string.h>

#include "data/tokenizer.h"
#include "data/tokenizer_impl.h"
#include "tests/fuzz/fuzz.h"

static void use(const dc_tokenizer *t)
{
    static const char text[] = "hello <s>w\xC3\xB6rld</s>  e\xCC\x81 12345 'll\r\n\n "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const size_t n = sizeof text - 1;
    dc_ids ids = {0}, again = {0}, offsets = {0};
    dc_str back = {0};
    dc_error err = {0};
    if (dc_encode(t, &ids, text, n, DC_TOK_SPECIAL, &err) == DC_OK) {
        if (dc_encode_offsets(t, &again, &offsets, text, n, DC_TOK_SPECIAL, NULL) || again.n != ids.n ||
            offsets.n != ids.n)
            abort();
        for (size_t i = 0; i < ids.n; i++)
            if (ids.data[i] != again.data[i] || offsets.data[i] < 0 || (size_t)offsets.data[i] > n) abort();
        if (dc_decode(t, &back, ids.data, ids.n, 0, NULL) || !dc_utf8_valid(dc_str_text(&back), back.n)) abort();
    }
    dc_ids_release(&ids), dc_ids_release(&again), dc_ids_release(&offsets);
    dc_str_clear(&back);
    if (dc_tokenizer_write_json(t, &back, NULL) || dc_tokenizer_write_config(t, &back, NULL)) abort();
    dc_str_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_tokenizer *t = NULL;
    dc_error err = {0};
    dc_str text = {0};
    dc_str_append(&text, data, n);
    const int rc = dc_tokenizer_from_json(&t, &text, "fuzz", NULL, NULL, &err);
    dc_str_release(&text);
    if (rc != err.code || !rc != !!t || (rc && !err.message[0])) abort();
    if (t) use(t);
    dc_tokenizer_free(t);
    return 0;
}
