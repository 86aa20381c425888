/* model/model_build.h -- how a model comes into being and what it holds. Private to model/. */
#ifndef DC_MODEL_MODEL_BUILD_H
#define DC_MODEL_MODEL_BUILD_H

#include "core/gguf.h"
#include "core/safetensors.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device memory of a model: its own, or imported from the map of a file. */
typedef struct dc_held {
    void *memory;
    const void *imported; /* when memory is NULL */
} dc_held;

typedef struct dc_model_files {
    dc_held *held; /* [n_held], freed last to first, before the files */
    size_t n_held, room;
    dc_st *st;
    dc_gguf *gguf;
    unsigned features; /* of the processor, for unpacking rows on the host */
} dc_model_files;

/* A model with all but data: weights with specs and NULL data, linears linked and sized, frequencies on the device. */
int dc_model_build(dc_model **out, dc_dev *dev, const dc_config *config, dc_error *err);
/* Device memory that lives as long as the model. */
int dc_model_alloc(dc_model *m, void **out, size_t bytes, const char *what, dc_error *err);
int dc_model_import(dc_model *m, const void **out, const void *host, size_t bytes, const char *what, dc_error *err);
/* F32 memory for the weight, contents undefined; with `gradient` also that, zeroed, and `owned` is set. */
int dc_weight_own(dc_model *m, dc_weight *w, int gradient, dc_error *err);

int64_t dc_spec_count(const dc_tensor_spec *spec); /* elements */
/* `full`, or what is left of it when options keep only some layers; the list is checked. `path` stands in messages. */
int dc_keep_config(dc_config *out, const dc_config *full, const dc_model_options *o, const char *path, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
