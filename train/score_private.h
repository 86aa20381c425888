/* train/score_private.h -- the scorer's parts, shared by score.c and generate.c; private to train/. */
#ifndef DC_TRAIN_SCORE_PRIVATE_H
#define DC_TRAIN_SCORE_PRIVATE_H

#include "model/head.h"
#include "train/score.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dc_scorer {
    dc_model *m;
    const dc_tokenizer *tokenizer;
    int64_t max_context;
    dc_run run;
    dc_plan *plan; /* of whole sequences, made when first needed */
    float *logits; /* [rows, V] on the device */
    float *host;   /* [rows, V] */
    int64_t rows;
    int32_t *index; /* positions and row numbers of a sequence */
    int64_t prefilled, decoded;
    double prefill_seconds, decode_seconds;
};

/* Room for `rows` rows of logits on device and host. */
int dc_scorer_room(dc_scorer *s, int64_t rows, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
