/* cli/student.h -- where lora/ and train/ meet: an adapter from a recipe, and its tensors as parameters. */
#ifndef DC_CLI_STUDENT_H
#define DC_CLI_STUDENT_H

#include "core/recipe.h"
#include "lora/adapter.h"
#include "train/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The adapter of section `lora` in slot 0, trainable: new with seed + repeat, or opened from lora.init_from. */
int dc_student_lora(dc_lora **out, dc_model *m, const dc_recipe *r, int64_t repeat, dc_error *err);
/* Its tensors as parameters: all of them decay, as in HF's Trainer. */
int dc_student_params(dc_params *out, dc_model *m, const dc_lora *l, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
