/* model/arch.h -- the decoder's switches, and the table of families: one row turns a config into switches and names.
 *
 * A family is a row of data (arch_table.c), never a file of forward code: its HF config keys, its HF tensor names (those of published
 * checkpoints), its GGUF names and transforms. An unknown family, a key that changes the result and is not understood, or
 * a tensor nobody claims is refused by name. */
#ifndef DC_MODEL_ARCH_H
#define DC_MODEL_ARCH_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/gguf.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* DC_ROPE_FACTORS: each frequency has a divisor of its own (a GGUF's rope_freqs.weight that no llama3 parameters give). HF's name for it is
 * longrope with equal short and long factors and attention_factor 1. */
typedef enum dc_rope_type { DC_ROPE_DEFAULT, DC_ROPE_LINEAR, DC_ROPE_LLAMA3, DC_ROPE_FACTORS } dc_rope_type;

enum { DC_ROPE_PAIRS = 256 }; /* rotated pairs of a head at most */

typedef struct dc_rope_config {
    dc_rope_type type;
    double theta;
    double factor;                            /* linear, llama3 */
    double low_freq_factor, high_freq_factor; /* llama3 */
    int64_t original_max_position;            /* llama3 */
    float factors[DC_ROPE_PAIRS];             /* factors: [n_rot / 2] */
} dc_rope_config;

typedef struct dc_family dc_family;

/* What the forward pass is, in numbers: plain data, complete. */
typedef struct dc_config {
    const dc_family *family;
    int64_t C, L, H, K, D, F,
        V; /* width, layers, heads, kv heads, head width, ffn width, vocabulary (embedding rows) */
    int64_t max_position;
    int64_t n_rot;  /* rotated columns of a head */
    int64_t window; /* sliding window, 0: none */
    dc_rope_config rope;
    float rms_eps, norm_offset;
    float attn_scale;                  /* 1 / sqrt(D) unless the family says otherwise */
    float attn_softcap, final_softcap; /* 0: none */
    float embed_scale, logit_scale;    /* 1: none */
    dc_act act;
    int qk_norm;                  /* RMSNorm over each head of q and k */
    int q_bias, o_bias, mlp_bias; /* q_bias: q, k and v alike */
    int tied;                     /* the head is the embedding */
    dc_dtype dtype;               /* of the checkpoint, for writing in the same one */
    int32_t bos, eos;             /* -1: not said */
} dc_config;

/* From a parsed config.json, published (rope_theta, rope_scaling, torch_dtype) or as transformers 5 writes it (rope_parameters,
 * dtype); `where` names the file in messages. DC_EUNKNOWN: a model_type that no row has (the message lists those there are), or a
 * key whose value changes the result and is not understood. A key that nobody knows is a warning (core/log.h). */
int dc_config_from_json(dc_config *out, const json_t *config, const char *where, dc_error *err);
/* From a GGUF's keys, and from which tensors it has (biases, output.weight, rope_freqs.weight). */
int dc_config_from_gguf(dc_config *out, dc_gguf *g, dc_error *err);
/* Are the numbers possible together: positive, bounded, H a multiple of K, D even? `where` stands in the message. The two
 * above have asked; for configs made in other ways. */
int dc_config_check(const dc_config *c, const char *where, dc_error *err);
/* A config.json that transformers 4 and 5 load (new reference); NULL when memory is out. */
json_t *dc_config_to_json(const dc_config *c);
/* The keys of the config that llama.cpp's loader wants, prefixed with the architecture; general.* and tokenizer.* are the caller's.
 * DC_EUNKNOWN: something that the GGUF architecture has no word for (a rope scaling, a bias), named; nothing was put then. */
int dc_config_put_gguf(const dc_config *c, dc_gguf_writer *w, dc_error *err);
/* 1 when a GGUF of this config also holds the F32 tensor "rope_freqs.weight" [n_rot / 2], whose values are then in `factors` (what each
 * frequency is divided by); else 0. */
int dc_config_rope_freqs(float *factors, const dc_config *c);
/* Angles per position of each rotated pair, [n_rot / 2], scaling applied: powers in double, rounded to float where HF rounds
 * (transformers/modeling_rope_utils.py). */
void dc_rope_frequencies(float *inv_freq, const dc_config *c);
/* For tests and messages: the i-th family, NULL behind the last. */
const dc_family *dc_family_at(size_t i);

const char *dc_family_hf_type(const dc_family *f); /* "qwen2" */
const char *dc_family_gguf_arch(const dc_family *f);

/* What a tensor is. Order = order in files that decant writes. */
typedef enum dc_role {
    DC_W_EMBED,
    DC_W_ATTN_NORM,
    DC_W_Q,
    DC_W_Q_BIAS,
    DC_W_K,
    DC_W_K_BIAS,
    DC_W_V,
    DC_W_V_BIAS,
    DC_W_Q_NORM,
    DC_W_K_NORM,
    DC_W_O,
    DC_W_O_BIAS,
    DC_W_FFN_NORM,
    DC_W_GATE,
    DC_W_GATE_BIAS,
    DC_W_UP,
    DC_W_UP_BIAS,
    DC_W_DOWN,
    DC_W_DOWN_BIAS,
    DC_W_FINAL_NORM,
    DC_W_HEAD,
    DC_W_ROLES
} dc_role;

/* A tensor of the family: is it there for this config, its shape, its two names (layer < 0: not of a layer). */
typedef struct dc_tensor_spec {
    dc_role role;
    int64_t layer; /* -1: once */
    int n_dims;
    int64_t shape[2];      /* [out, in] or [n] */
    char hf[128];          /* "model.layers.3.self_attn.q_proj.weight" */
    char gguf[64];         /* "blk.3.attn_q.weight" */
    int64_t permute_heads; /* a GGUF stores the rows of each of this many heads with its halves interleaved; 0: as HF */
} dc_tensor_spec;

/* The full list of the config's tensors, in order; *specs is the caller's to free with dc_free. */
int dc_config_tensors(dc_tensor_spec **specs, size_t *n, const dc_config *c, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
