/* export/gguf_private.h -- shared by writing and checking a GGUF; private to export/. */
#ifndef DC_EXPORT_GGUF_PRIVATE_H
#define DC_EXPORT_GGUF_PRIVATE_H

#include "export/gguf_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor as the file has it: a vector is one row. */
void dc_export_shape(const dc_tensor_spec *spec, int64_t *rows, int64_t *cols);
/* Rows handled at once: a block is about 16 MB of floats, and holds whole heads of a permuted tensor. */
int64_t dc_export_rows(const dc_tensor_spec *spec);
/* Floats of the file's rows [row, row + n) of a tensor; n is dc_export_rows or what is left. `work` has room for as many. */
void dc_export_read(const dc_model *m, const dc_export_options *o, const dc_weight *w, float *out, float *work,
                    int64_t row, int64_t n);
/* Does the tensor stand in the file? A tied head is the embedding. */
int dc_export_has(const dc_model *m, const dc_weight *w);
/* The type this tensor is written in. */
dc_dtype dc_export_tensor_type(const dc_model *m, const dc_tensor_spec *spec, dc_dtype asked, int *fallback);
/* Opens what was written and compares metadata, tokenizer and every tensor's values with what was meant. */
int dc_export_check(const char *path, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o,
                    double *worst, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
