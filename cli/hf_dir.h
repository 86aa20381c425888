/* cli/hf_dir.h -- a model as an HF directory that is complete: weights, config, tokenizer, generation_config. */
#ifndef DC_CLI_HF_DIR_H
#define DC_CLI_HF_DIR_H

#include "core/dtype.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the directory beside its place (DIR.tmp), then puts it there, instead of one that may be there. On failure nothing new is left.
 * type, rows and context as in dc_model_save. */
int dc_hf_save(const char *dir, const dc_model *m, const dc_tokenizer *t, dc_dtype type, dc_rows_fn *rows,
               void *context, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
