/* cli/evaluate.h -- evaluation by generating: prompts answered, answers compared. */
#ifndef DC_CLI_EVALUATE_H
#define DC_CLI_EVALUATE_H

#include <stdint.h>

#include "core/error.h"
#include "data/tokenizer.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_task {
    const char *path; /* rows */
    const char *prompt_field, *answer_field;
    int json_fields;           /* compare fields of JSON objects; else the whole text, white space at its ends cut */
    const char *const *fields; /* [n_fields] that must be equal; none: all of the answer's */
    size_t n_fields;
    int64_t limit; /* 0: all */
    int64_t max_new_tokens;
} dc_task;

typedef struct dc_task_result {
    int64_t n, right;
    int64_t valid;   /* json_fields: answers that were JSON objects */
    int64_t decoded; /* tokens */
    double decode_seconds;
} dc_task_result;

/* Greedy answers of the model with its adapter (-1: none). A prompt that is a list of messages goes through the chat template. */
int dc_evaluate_task(dc_task_result *out, const dc_task *task, dc_model *m, int adapter, const dc_tokenizer *t,
                     dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
