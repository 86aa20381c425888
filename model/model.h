/* model/model.h -- a model: config, weights by name, linears with optional low-rank deltas.
 *
 * Weights are in HF's order and names inside decant, whatever file they came from (rows of q and k that a llama GGUF interleaves are
 * put back when it is opened). Frozen weights stay in the mapped file, in stored precision, and are shared; a trainable
 * model holds them as F32 with gradients. Biases and norms are unpacked to F32. A model belongs to one device and is used by one
 * thread at a time. */
#ifndef DC_MODEL_MODEL_H
#define DC_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"
#include "kernels/dev.h"
#include "model/arch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_weight {
    dc_tensor_spec spec;
    dc_cview data; /* [out, in] or [n], on the device; NULL data when the config has none */
    float *grad;   /* [out, in] when trained, else NULL */
    float *owned;  /* F32 data when trained: the same memory as data.data, writable; else NULL */
} dc_weight;

/* Deltas of linears that read the same x (q, k and v; gate and up), their A one below the other: u of all of them is one product, and so are
 * dA and what they add to dx. */
typedef struct dc_joint {
    dc_cview a; /* [R, in] as products read it */
    float *dA;  /* accumulated; NULL: frozen */
    int64_t R;  /* of all */
} dc_joint;

/* The low-rank part of a linear, plain data owned by whoever made it (lora/): y += scale * drop(x) A^T B^T. */
typedef struct dc_delta {
    const float *A; /* [R, in] on the device */
    const float *B; /* [out, R] */
    dc_cview a, b;  /* the same as products read them: A and B themselves, or their narrow copies (dc_adapter) */
    float *dA, *dB; /* accumulated; NULL: frozen */
    int64_t R;
    float scale;
    float dropout;  /* used when a run trains */
    uint32_t place; /* key of its dropout mask */
    const dc_joint *
        joint; /* its A and dA are rows there; NULL: it stands alone. Deltas that drop do: each has a mask of its own */
    int64_t first;          /* its first row there, and column of u */
    const float *magnitude; /* DoRA's [out]; NULL. Not computed yet: lora/ refuses DoRA */
} dc_delta;

enum { DC_ADAPTERS = 4 }; /* adapters a model can carry at once */

/* All A and B of an adapter and, on a device whose activations are narrower than floats, a copy in that type, which every forward makes
 * anew. Owned by whoever made the deltas. */
typedef struct dc_adapter {
    const float *values;
    dc_view narrow; /* NULL data: products read the floats */
    int64_t n;
} dc_adapter;

typedef struct dc_linear {
    dc_weight *w;
    dc_weight *bias; /* or NULL */
    int64_t in, out;
    const dc_delta *delta[DC_ADAPTERS]; /* NULL: this adapter leaves the linear alone */
} dc_linear;

typedef struct dc_layer {
    dc_weight *attn_norm, *ffn_norm, *q_norm, *k_norm; /* q_norm, k_norm NULL without qk_norm */
    dc_linear q, k, v, o, gate, up, down;
} dc_layer;

typedef struct dc_model {
    dc_config config;
    dc_dev *dev;
    dc_weight *weights; /* [n_weights], in the order of dc_config_tensors */
    size_t n_weights;
    dc_weight *embed, *final_norm;
    dc_linear head;   /* its weight is embed's when tied */
    dc_layer *layers; /* [L] */
    dc_adapter adapters[DC_ADAPTERS];
    float *inv_freq; /* [n_rot / 2] on the device */
    int trainable;
    struct dc_model_files *files; /* private: maps and owned memory */
} dc_model;

typedef struct dc_model_options {
    int trainable;              /* all weights F32 with gradients */
    const int64_t *keep_layers; /* build from these layers only, ascending (student.init.prune_layers); NULL: all */
    size_t n_keep;
    int check_finite; /* refuse NaN and inf, naming tensor and index (default 1) */
} dc_model_options;

dc_model_options dc_model_defaults(void);

/* `path`: an HF directory (config.json + safetensors) or a .gguf. Every tensor must be claimed, present, of its shape and of a type that can be
 * read; each refusal names file and tensor. */
int dc_model_open(dc_model **out, dc_dev *dev, const char *path, const dc_model_options *options, dc_error *err);
/* New weights: normal(0, 0.02) for matrices (0.02 / sqrt(2 L) for o and down), ones for norms, zeros for biases; F32, trainable. */
int dc_model_init(dc_model **out, dc_dev *dev, const dc_config *config, uint64_t seed, dc_error *err);
/* An F32 copy of a model's weights, or of some of its layers: trainable, unless options say it is not. Adapters are not copied. */
int dc_model_copy(dc_model **out, const dc_model *from, const dc_model_options *options, dc_error *err);
void dc_model_free(dc_model *m); /* NULL is fine */

dc_weight *dc_model_find(const dc_model *m, dc_role role, int64_t layer); /* NULL when the config has none */
dc_weight *dc_model_find_hf(const dc_model *m, const char *hf_name);
/* The linear whose weight is `hf_module` + ".weight" ("model.layers.0.self_attn.q_proj"), or NULL. */
dc_linear *dc_model_linear(const dc_model *m, const char *hf_module);
/* All linears of the layers (q k v o gate up down), in order of layer; i < dc_model_n_linears. The head is not among them. */
size_t dc_model_n_linears(const dc_model *m);
/* The first linear that reads the same x as linear i: they follow one another. */
size_t dc_model_first_reader(size_t i);
dc_linear *dc_model_linear_at(const dc_model *m, size_t i);
int64_t dc_model_parameters(const dc_model *m); /* of all weights, tied ones once */
int64_t dc_model_bytes(const dc_model *m);      /* of all weights as held */

/* Hash over config, names, types and bytes of all weights: reads everything once; polls core/stop.h. */
int dc_model_hash(dc_hash *out, const dc_model *m, dc_error *err);

/* Rows [row, row + n) of a weight as float on the host, HF order. A row of a 1-D weight is one element. */
void dc_weight_rows(const dc_model *m, const dc_weight *w, float *out, int64_t row, int64_t n);
/* In which HF row stands GGUF row `row` of this tensor. */
int64_t dc_gguf_row(const dc_tensor_spec *spec, int64_t row);

/* Writes an HF directory: config.json, model.safetensors (or shards of at most `shard_bytes`, 0: 5 GB, with index), tensors in `type`: F32,
 * F16, BF16 (DC_DTYPE_NONE: the config's own; quantized: F32). `rows`, unless NULL, gives rows in place of dc_weight_rows: merged
 * adapters. Each file appears whole or not; weights of an earlier model in `dir` are removed, config.json is written last. A value
 * that is or becomes not finite in `type` is DC_ENUMERIC naming the tensor. */
typedef void dc_rows_fn(void *context, const dc_weight *w, float *out, int64_t row, int64_t n);
int dc_model_save(const dc_model *m, const char *dir, dc_dtype type, int64_t shard_bytes, dc_rows_fn *rows,
                  void *context, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
