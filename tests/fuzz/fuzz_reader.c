/* tests/fuzz/fuzz_reader.c -- the first byte chooses the format and the longest row, the rest is a file; its rows are encoded too. */
#include <string.h>

#include "core/arena.h"
#include "data/reader.h"
#include "data/rows.h"
#include "tests/data/fake_tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char chat[] = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
                           "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}";

static void encode(const json_t *row, unsigned choice)
{
    static const dc_tokenizer tokenizer = {0};
    static dc_template *t;
    if (!t && dc_template_new(&t, chat, "chat", NULL)) abort();
    dc_rows_options o = dc_rows_defaults();
    o.max_length = choice & 1 ? 7 : 0;
    o.truncation = (dc_truncation)(choice % 3);
    o.train_on_eot = choice & 2 ? 0 : 1;
    dc_examples out = {0};
    if (dc_rows_encode(&out, row, &tokenizer, t, &o, NULL)) abort();
    if ((out.n == 0) != (out.reject != DC_REJECT_NONE) || (out.reject && !out.reason[0])) abort();
    for (size_t k = 0; k < out.n; k++) {
        const dc_example *e = &out.items[k];
        size_t trained = 0;
        for (size_t i = 0; i < e->n; i++) {
            if (out.ids[e->begin + i] < 0 || out.ids[e->begin + i] >= FAKE_SIZE || out.mask[e->begin + i] > 1) abort();
            trained += out.mask[e->begin + i];
        }
        if (!e->n || !trained || trained != e->trained || out.mask[e->begin] || (o.max_length && e->n > 7)) abort();
    }
    dc_examples_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) return 0;
    const dc_reader_options o = {.format = (dc_format)(data[0] % 6), .max_row = data[0] & 8 ? 20 : 1 << 20};
    dc_reader *r = NULL;
    dc_record record;
    dc_error err = {0};
    int rc;
    if (dc_reader_from_memory(&r, data + 1, n - 1, "fuzz", &o, NULL)) abort();
    for (uint64_t rows = 0; (rc = dc_reader_next(r, &record, &err)) == DC_OK && record.kind != DC_READ_END; rows++) {
        if (record.row != rows || !record.place[0]) abort();
        if ((record.kind == DC_READ_ROW) != (record.value != NULL) || (record.kind == DC_READ_BAD && !record.reason[0]))
            abort();
        if (rows > 2 * n + 2 && data[1] != 0x1f && data[1] != 0x28)
            abort(); /* each row takes bytes, but for packed ones */
        if (record.value) encode(record.value, data[0] >> 4);
    }
    if (rc != err.code || (rc && !err.message[0])) abort();
    dc_reader_close(r);
    return 0;
}
