/* export/gguf_model.h -- any model decant reads, with or without an adapter, as a GGUF that stock llama.cpp runs.
 *
 * Metadata: general.*, the family's keys (model/arch.h), tokenizer.* (data/tokenizer.h). Tensors in the type asked for, except those that
 * llama-quantize never quantizes (1-D, norms: F32) and, for 32-wide blocks, rows that are no multiple of 32 (F16, said so). The file
 * is re-read and compared with what was meant before it gets its name. */
#ifndef DC_EXPORT_GGUF_MODEL_H
#define DC_EXPORT_GGUF_MODEL_H

#include <stdint.h>

#include "core/error.h"
#include "data/tokenizer.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_export_options {
    dc_dtype type;          /* F32, F16, BF16, Q8_0, Q4_0 */
    const char *name;       /* general.name, or NULL: the output file's name */
    const char *license;    /* SPDX id, or NULL */
    const char *base_model; /* name of what it was made from, or NULL */
    dc_rows_fn *rows;       /* merged rows, or NULL: the model's own */
    void *rows_context;
} dc_export_options;

typedef struct dc_export_result {
    int64_t bytes, tensors;
    int64_t fallbacks;  /* tensors whose width forced another type; each was logged */
    double worst_error; /* largest |written - meant| / row amax over all tensors: quantization only */
} dc_export_result;

/* The type a file is asked for by ("q8_0", "f16"): DC_EUNKNOWN lists the known ones. */
int dc_export_type(dc_dtype *out, const char *name, dc_error *err);
/* Bytes the file will take; to within its name, where options give none. */
int dc_export_size(int64_t *bytes, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o, dc_error *err);
int dc_export_gguf(const char *path, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o,
                   dc_export_result *result, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
