/* core/gguf.h -- the GGUF container, version 2 and 3 read, version 3 written; it knows nothing of models.
 *
 * Source: ggml/include/gguf.h and ggml/src/gguf.cpp of llama.cpp. Refused by name: other versions and byte orders,
 * duplicate or empty keys, nested arrays, unknown value or tensor types, more than 4 dimensions, rows that are no
 * multiple of the type's block, offsets that are not the running sum of padded sizes, data beyond the end. No count in a
 * file is trusted for an allocation: everything counted must first fit in the rest of the file. */
#ifndef DC_CORE_GGUF_H
#define DC_CORE_GGUF_H

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_gguf_type {
    DC_GGUF_U8,
    DC_GGUF_I8,
    DC_GGUF_U16,
    DC_GGUF_I16,
    DC_GGUF_U32,
    DC_GGUF_I32,
    DC_GGUF_F32,
    DC_GGUF_BOOL,
    DC_GGUF_STRING,
    DC_GGUF_ARRAY,
    DC_GGUF_U64,
    DC_GGUF_I64,
    DC_GGUF_F64
} dc_gguf_type;

/* A text inside the mapped file: not 0-ended. */
typedef struct dc_gguf_text {
    const char *data;
    size_t n;
} dc_gguf_text;

typedef struct dc_gguf_kv {
    const char *key; /* 0-ended */
    dc_gguf_type type;
    dc_gguf_type item;         /* of an array */
    int64_t n;                 /* items of an array, else 1 */
    const uint8_t *data;       /* little-endian values, unaligned; strings: in `texts` */
    const dc_gguf_text *texts; /* [n] of a string or an array of strings */
} dc_gguf_kv;

typedef struct dc_gguf_tensor {
    const char *name; /* 0-ended */
    dc_dtype type;
    int n_dims;
    int64_t ne[4]; /* fastest first (PyTorch's order reversed); 1 beyond n_dims */
    int64_t bytes;
    const uint8_t *data; /* in the map */
} dc_gguf_tensor;

typedef struct dc_gguf dc_gguf;

/* Maps and checks the file; the tensors' data are not touched. Split files are opened through their first part's name and
 * seen as one (keys split.*). */
int dc_gguf_open(dc_gguf **out, const char *path, dc_error *err);
void dc_gguf_close(dc_gguf *g); /* NULL is fine */

const char *dc_gguf_path(const dc_gguf *g);
int64_t dc_gguf_n_kv(const dc_gguf *g);
const dc_gguf_kv *dc_gguf_kv_at(const dc_gguf *g, int64_t i);
const dc_gguf_kv *dc_gguf_find(const dc_gguf *g, const char *key); /* NULL when absent */
int64_t dc_gguf_n_tensors(const dc_gguf *g);
const dc_gguf_tensor *dc_gguf_tensor_at(const dc_gguf *g, int64_t i);
const dc_gguf_tensor *dc_gguf_tensor_find(const dc_gguf *g, const char *name); /* NULL when absent; hashed */

/* A scalar with a default when the key is absent; a key of another kind is DC_EFORMAT naming file, key, and both types. Any integer
 * type serves an integer, within range. Text is copied 0-ended into the file's own arena and lives as long as it. */
int dc_gguf_i64(int64_t *out, const dc_gguf *g, const char *key, int64_t fallback, dc_error *err);
int dc_gguf_f64(double *out, const dc_gguf *g, const char *key, double fallback, dc_error *err);
int dc_gguf_bool(int *out, const dc_gguf *g, const char *key, int fallback, dc_error *err);
int dc_gguf_str(const char **out, dc_gguf *g, const char *key, const char *fallback, dc_error *err);
/* Item i of a numeric array (any integer or float type) as double or int64. */
double dc_gguf_item_f64(const dc_gguf_kv *kv, int64_t i);
int64_t dc_gguf_item_i64(const dc_gguf_kv *kv, int64_t i);
const char *dc_gguf_type_name(dc_gguf_type type);

/* ---- writing ---- keys and tensors are declared first, in the order of the file; then the tensors' bytes follow in that
 * order. The writer pads behind every tensor, the last included. */
typedef struct dc_gguf_writer dc_gguf_writer;

int dc_gguf_writer_new(dc_gguf_writer **out, dc_error *err);
/* Each copies its arguments. A key put twice keeps its place and takes the new value. Memory errors surface in _begin. */
void dc_gguf_put_u32(dc_gguf_writer *w, const char *key, uint32_t value);
void dc_gguf_put_i32(dc_gguf_writer *w, const char *key, int32_t value);
void dc_gguf_put_u64(dc_gguf_writer *w, const char *key, uint64_t value);
void dc_gguf_put_f32(dc_gguf_writer *w, const char *key, float value);
void dc_gguf_put_bool(dc_gguf_writer *w, const char *key, int value);
void dc_gguf_put_str(dc_gguf_writer *w, const char *key, const char *text);
void dc_gguf_put_array(dc_gguf_writer *w, const char *key, dc_gguf_type item, const void *values, int64_t n);
void dc_gguf_put_strs(dc_gguf_writer *w, const char *key, const dc_gguf_text *texts, int64_t n);
void dc_gguf_put_copy(dc_gguf_writer *w, const dc_gguf_kv *kv); /* any key of another file */
/* ne as in dc_gguf_tensor; trailing ones are dropped. */
void dc_gguf_put_tensor(dc_gguf_writer *w, const char *name, dc_dtype type, int n_dims, const int64_t *ne);
/* Opens PATH.tmp and writes everything before the data. */
int dc_gguf_writer_begin(dc_gguf_writer *w, const char *path, dc_error *err);
/* The next bytes of the current tensor; a tensor may come in pieces. More or fewer than declared is our bug. */
int dc_gguf_writer_data(dc_gguf_writer *w, const void *bytes, size_t n, dc_error *err);
int dc_gguf_writer_commit(dc_gguf_writer *w, dc_error *err);
int64_t dc_gguf_writer_size(const dc_gguf_writer *w); /* bytes of the whole file, known once all is declared */
void dc_gguf_writer_free(dc_gguf_writer *w);          /* abandons what was not committed; NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
