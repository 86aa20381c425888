/* lora/adapter_private.h -- how an adapter is held; private to lora/. */
#ifndef DC_LORA_ADAPTER_PRIVATE_H
#define DC_LORA_ADAPTER_PRIVATE_H

#include "core/arena.h"
#include "lora/adapter.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One adapted linear. rank 0: the linear is left alone. */
typedef struct dc_target {
    int64_t r;
    double alpha;
} dc_target;

struct dc_lora {
    dc_model *m;
    int adapter;
    dc_lora_config config; /* pointers into names */
    dc_arena names;
    dc_target *targets;      /* [n_linears] of the model */
    dc_delta *deltas;        /* [n_linears] */
    dc_joint *joints;        /* [n_linears]; in use where a group of linears that read the same x begins */
    dc_lora_tensor *tensors; /* [n], A and B of each target in turn */
    size_t n, n_linears;
    float *data, *grad; /* flat, on the device */
    void *narrow;       /* data in the type of activations, or NULL: they are floats */
    float *host;        /* a host copy of data for merging, made when first needed */
    int64_t numbers;    /* floats in `data`, padding included */
    char description[128];
};

/* Which linears the config means, and with what rank and alpha: targets [n_linears] zeroed by the caller. */
int dc_lora_find_targets(dc_target *targets, const dc_model *m, const dc_lora_config *c, dc_error *err);
/* Is the name one that PEFT's file holds in a list, not a regular expression? */
int dc_lora_is_plain(const char *name);
/* Copies a config into an adapter's own memory. */
int dc_lora_keep_config(dc_lora *l, const dc_lora_config *c, dc_error *err);
/* Makes buffers, tensors and deltas for l->targets and hangs them into the model; values are zero. */
int dc_lora_build(dc_lora *l, int train, dc_error *err);
/* "model.layers.0.self_attn.q_proj" of a linear, into room. */
void dc_lora_module(char *room, size_t n, const dc_linear *linear);

#ifdef __cplusplus
}
#endif
#endif
