/* tests/fuzz/fuzz_safetensors.c -- any bytes as a safetensors file; what opens is read to its last byte. */
#include "core/safetensors.h"
#include "tests/fuzz/fuzz.h"

static volatile double sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    dc_error err = {0};
    dc_st *s = NULL;
    const int rc = dc_st_open(&s, fuzz_file(data, n), &err);
    if (rc != err.code || !rc != !!s || (rc && !err.message[0])) abort();
    if (rc) return 0;
    for (int64_t i = 0; i < dc_st_n(s); i++) {
        const dc_st_tensor *t = dc_st_at(s, i);
        int64_t count = 1;
        if (dc_st_find(s, t->name) != t) abort();
        for (int k = 0; k < t->n_dims; k++) count *= t->shape[k];
        if (dc_dtype_bytes(t->type, count) != t->bytes) abort();
        if (t->bytes) sink += t->data[0] + t->data[t->bytes - 1];
    }
    dc_st_metadata(s, "format");
    dc_st_close(s);
    return 0;
}
