/* lora/adapter.h -- low-rank adapters: which linears, initial values, the deltas that model/linear.h computes, PEFT's files.
 *
 * Source: Hu et al. 2021 (arXiv 2106.09685); names and semantics of PEFT 0.21 (reference: src/peft/tuners/lora). All A, B and their
 * gradients of an adapter stand in two flat device buffers. Refused by name: DoRA, modules_to_save, trainable tokens, bias other than "none",
 * initializations other than true and gaussian, targets that match no linear, ranks above the linear's width. */
#ifndef DC_LORA_ADAPTER_H
#define DC_LORA_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_pattern {
    const char *key; /* PEFT's: a regular expression matched as (.*\.)?(key)$ */
    double value;
} dc_pattern;

/* PEFT's LoraConfig as far as decant has it; text is borrowed. */
typedef struct dc_lora_config {
    int64_t r;
    double lora_alpha, lora_dropout;
    const char *const *
        target_modules; /* suffixes; one entry "all-linear": every linear but the head; one entry that is no plain name:
                                          a regular expression that must match the whole module path */
    size_t n_targets;
    const char *const *exclude_modules;
    size_t n_exclude;
    const int64_t *layers_to_transform; /* or NULL: all */
    size_t n_layers;
    const dc_pattern *rank_pattern, *alpha_pattern;
    size_t n_rank_pattern, n_alpha_pattern;
    int use_rslora; /* scale alpha / sqrt(r) */
    int gaussian; /* init_lora_weights: gaussian (std 1/r); else Kaiming-uniform A (a = sqrt 5: bound 1/sqrt(in)); B zero */
} dc_lora_config;

dc_lora_config dc_lora_defaults(void); /* r 8, alpha 8, no dropout, all-linear */

typedef struct dc_lora dc_lora;

/* One trainable tensor of an adapter: what train/ takes as a parameter. */
typedef struct dc_lora_tensor {
    const char *name;   /* PEFT's: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" */
    float *data, *grad; /* on the device */
    int64_t shape[2];
} dc_lora_tensor;

/* Creates an adapter in slot `adapter` of the model (the slot must be free) with initial values from the seed. `train` 0: no gradient buffers. */
int dc_lora_new(dc_lora **out, dc_model *m, int adapter, const dc_lora_config *config, uint64_t seed, int train,
                dc_error *err);
/* Opens a PEFT directory (adapter_config.json + adapter_model.safetensors; F32, F16 or BF16): every tensor must be claimed by a linear and every
 * target have both halves. */
int dc_lora_open(dc_lora **out, dc_model *m, int adapter, const char *dir, int train, dc_error *err);
/* Detaches it from the model. NULL is fine; before the model is freed. */
void dc_lora_free(dc_lora *l);

int dc_lora_adapter(const dc_lora *l);
size_t dc_lora_n(const dc_lora *l);
const dc_lora_tensor *dc_lora_at(const dc_lora *l, size_t i); /* A and B of each linear in turn */
int64_t dc_lora_parameters(const dc_lora *l);
dc_floats dc_lora_grads(const dc_lora *l); /* all gradients as one: zeros stand between them */
size_t dc_lora_bytes(const dc_lora *l);    /* with gradients */
/* "r=16 alpha=32 scale=2 on 210 linears" for the run's header. */
const char *dc_lora_describe(const dc_lora *l);

/* Writes DIR/adapter_config.json and adapter_model.safetensors as PEFT does (F32, {"format": "pt"}); `base` is base_model_name_or_path. DIR
 * appears whole or not at all. */
int dc_lora_save(const dc_lora *l, const char *dir, const char *base, dc_error *err);

/* Takes the adapter's present values for merging: before dc_lora_merged_rows, and again after they changed. */
int dc_lora_prepare_merge(dc_lora *l, dc_error *err);
/* A dc_rows_fn (model/model.h) with a dc_lora as context: rows of W + scale * B A, summed in float over R in order. */
void dc_lora_merged_rows(void *lora, const dc_weight *w, float *out, int64_t row, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
