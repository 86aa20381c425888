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
json_t *dc_parity_json(const dc_parity *p);

#ifdef __cplusplus
}
#endif
#endif
