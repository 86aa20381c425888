/* core/safetensors.h -- the safetensors container and HF's sharded checkpoints of it.
 *
 * Source: safetensors/src/tensor.rs: u64 header length (at most 100,000,000), JSON header, data. Refused: a header that is
 * no object, duplicate names, holes, overlaps, sizes that do not match dtype times shape, data beyond the end or
 * behind the last tensor, dtypes decant cannot hold (named). */
#ifndef DC_CORE_SAFETENSORS_H
#define DC_CORE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DC_ST_MAX_DIMS = 8 };

typedef struct dc_st_tensor {
    const char *name; /* 0-ended */
    dc_dtype type;    /* F64, F32, F16, BF16, I64, I32, I16, I8; U8 and BOOL are given as DC_I8 */
    int n_dims;
    int64_t shape[DC_ST_MAX_DIMS]; /* PyTorch's order, slowest first */
    int64_t bytes;
    const uint8_t *data; /* in the map, at any alignment */
    const char *file;    /* which file of the set, for messages */
} dc_st_tensor;

typedef struct dc_st dc_st;

/* `path`: a .safetensors file, or a directory with model.safetensors or model.safetensors.index.json (every name of the
 * index must be in its file). */
int dc_st_open(dc_st **out, const char *path, dc_error *err);
int64_t dc_st_n(const dc_st *s);
const dc_st_tensor *dc_st_at(const dc_st *s, int64_t i);          /* sorted by name */
const dc_st_tensor *dc_st_find(const dc_st *s, const char *name); /* NULL when absent */
/* A value of __metadata__ of the first file, or NULL. */
const char *dc_st_metadata(const dc_st *s, const char *key);
void dc_st_close(dc_st *s); /* NULL is fine */

/* ---- writing one file ---- */
typedef struct dc_st_writer dc_st_writer;

int dc_st_writer_new(dc_st_writer **out, dc_error *err);
void dc_st_put_metadata(dc_st_writer *w, const char *key, const char *value);
/* Tensors are stored in the order declared; shape in PyTorch's order. */
void dc_st_put_tensor(dc_st_writer *w, const char *name, dc_dtype type, int n_dims, const int64_t *shape);
int dc_st_writer_begin(dc_st_writer *w, const char *path, dc_error *err);
int dc_st_writer_data(dc_st_writer *w, const void *bytes, size_t n, dc_error *err);
int dc_st_writer_commit(dc_st_writer *w, dc_error *err);
void dc_st_writer_free(dc_st_writer *w);

#ifdef __cplusplus
}
#endif
#endif
