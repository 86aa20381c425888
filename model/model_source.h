/* model/model_source.h -- a model's file before it is a model: its config and its tensors, whatever the container. Private to model/. */
#ifndef DC_MODEL_MODEL_SOURCE_H
#define DC_MODEL_MODEL_SOURCE_H

#include "core/gguf.h"
#include "core/safetensors.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_source_tensor {
    const char *name, *file;
    dc_dtype type;
    int n_dims;
    int64_t shape[DC_ST_MAX_DIMS]; /* PyTorch's order */
    int64_t bytes;
    const uint8_t *data; /* in the map */
    int claimed;
} dc_source_tensor;

typedef struct dc_source {
    dc_config config;
    int is_gguf;               /* names and order of rows are a GGUF's */
    const char *path;          /* of the GGUF or the directory, for messages; the caller's */
    dc_source_tensor *tensors; /* [n], sorted by name */
    int64_t n;
    dc_st *st; /* one of these is open; a model takes it */
    dc_gguf *gguf;
} dc_source;

/* Each fills a zeroed source; after a failure as after success dc_source_release. */
int dc_source_open_hf(dc_source *s, const char *path, dc_error *err);
int dc_source_open_gguf(dc_source *s, const char *path, dc_error *err);
void dc_source_release(dc_source *s);

dc_source_tensor *dc_source_find(const dc_source *s, const char *name); /* NULL when absent */

/* DC_ENUMERIC naming file, tensor and place when a value (of a quantized tensor: a block's scale) is NaN or infinite; `columns` is the
 * length of a row. All threads; polls core/stop.h. */
int dc_source_check_finite(const dc_source_tensor *t, int64_t columns, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
