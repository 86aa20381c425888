/* export/parity.h -- does the written file say what the model said? KL, top-1 agreement and perplexity on held-out text. */
#ifndef DC_EXPORT_PARITY_H
#define DC_EXPORT_PARITY_H

#include <jansson.h>
#include <stdint.h>

#include "core/error.h"
#include "data/order.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_parity {
    int64_t tokens; /* positions compared */
    double kl;      /* mean KL(reference || file), nats */
    double kl_max;
    double top1;                    /* share of positions with the same greatest logit */
    double ppl_reference, ppl_file; /* perplexity over the labelled positions */
    double nmse;                    /* of logits: sum (a - b)^2 / sum a^2 */
} dc_parity;

/* Runs both models, each with its adapter (-1: none), over the loader's batches, at most about `max_tokens` positions (0: all). Both may be the
 * same model with different adapters. */
int dc_parity_measure(dc_parity *out, dc_model *reference, int adapter, dc_model *file, int file_adapter,
                      dc_loader *loader, int64_t max_tokens, dc_error *err);

/* The same against one reference for any number of models: its layers run once, with the first; what they gave, max_tokens (above 0) rows
 * and a batch more of hidden states, is kept. Model and loader are borrowed. The figures are those of dc_parity_measure, to the bit. */
typedef struct dc_parity_reference dc_parity_reference;
int dc_parity_reference_new(dc_parity_reference **out, dc_model *reference, int adapter, dc_loader *loader,
                            int64_t max_tokens, dc_error *err);
int dc_parity_against(dc_parity *out, dc_parity_reference *r, dc_model *file, int file_adapter, dc_error *err);
void dc_parity_reference_free(dc_parity_reference *r); /* NULL is fine */
json_t *dc_parity_json(const dc_parity *p);

#ifdef __cplusplus
}
#endif
#endif
