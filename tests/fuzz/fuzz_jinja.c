/* tests/fuzz/fuzz_jinja.c -- any bytes as a chat template, rendered with a fixed conversation: a text with its spans inside, or an error. */
#include <string.h>

#include "core/arena.h"
#include "data/chat.h"
#include "tests/data/fake_tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char variables[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"be\"}, {\"role\": \"user\", "
                                "\"content\": \"h\\u00e9 <t>\"}, {\"role\": \"assistant\", "
                                "\"content\": \"a</t>b\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
                                "\"arguments\": {\"x\": [1, 2.5, null, true]}}}]}], \"tools\": null,"
                                "\"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"x\": 7, \"l\": [3, 1, 2], "
                                "\"d\": {\"b\": 1, \"a\": {\"c\": [1]}}, \"s\": \"hello world\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static json_t *v;
    if (!v) v = json_loads(variables, 0, NULL);
    if (!v) abort();
    dc_error err = {0};
    dc_template *t = NULL;
    dc_str out = {0};
    dc_spans spans = {0};
    char *text = malloc(n + 1);
    if (!text) abort();
    memcpy(text, data, n);
    text[n] = 0;
    int rc = dc_template_new(&t, text, "fuzz", &err);
    if (!rc) rc = dc_template_render(t, &out, &spans, v, 1700000000, &err);
    if (rc != err.code || (rc && (!err.message[0] || out.n || spans.n))) abort();
    if (!dc_utf8_valid(dc_str_text(&out), out.n)) abort();
    for (size_t i = 0; i < spans.n; i++)
        if (spans.data[i].begin > spans.data[i].end || spans.data[i].end > out.n) abort();
    dc_template_free(t);
    dc_str_release(&out);
    dc_spans_release(&spans);
    free(text);
    return 0;
}
