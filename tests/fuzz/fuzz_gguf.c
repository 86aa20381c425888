/* tests/fuzz/fuzz_gguf.c -- any bytes as a GGUF file; what opens is read to its last byte. */
#include <string.h>

#include "core/gguf.h"
#include "tests/fuzz/fuzz.h"

static volatile double sink;

static void read_key(dc_gguf *g, const dc_gguf_kv *kv)
{
    int64_t i64;
    double f64;
    int truth;
    const char *text;
    if (dc_gguf_find(g, kv->key) != kv) abort();
    dc_gguf_i64(&i64, g, kv->key, 0, NULL);
    dc_gguf_f64(&f64, g, kv->key, 0, NULL);
    dc_gguf_bool(&truth, g, kv->key, 0, NULL);
    if (!dc_gguf_str(&text, g, kv->key, NULL, NULL)) sink += (double)strlen(text);
    for (int64_t i = 0; i < kv->n; i++) {
        if (kv->item == DC_GGUF_STRING) sink += (double)(kv->texts[i].n ? kv->texts[i].data[kv->texts[i].n - 1] : 0);
        else sink += dc_gguf_item_f64(kv, i) + (double)dc_gguf_item_i64(kv, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    const int rc = dc_gguf_open(&g, fuzz_file(data, n), &err);
    if (rc != err.code || !rc != !!g || (rc && !err.message[0])) abort();
    if (rc) return 0;
    for (int64_t i = 0; i < dc_gguf_n_kv(g); i++) read_key(g, dc_gguf_kv_at(g, i));
    for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
        if (dc_gguf_tensor_find(g, t->name) != t) abort();
        if (t->bytes) sink += t->data[0] + t->data[t->bytes - 1];
    }
    dc_gguf_close(g);
    return 0;
}
