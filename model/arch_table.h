/* model/arch_table.h -- what a family's row consists of. Private to model/: arch.h is the interface.
 *
 * Everything that differs between families stands here as data; arch.c, config_json.c and config_gguf.c read it. */
#ifndef DC_MODEL_ARCH_TABLE_H
#define DC_MODEL_ARCH_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "model/arch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parts of a decoder that a config may have or not. */
enum { DC_HAS_QK_NORM = 1, DC_HAS_Q_BIAS = 2, DC_HAS_O_BIAS = 4, DC_HAS_MLP_BIAS = 8, DC_HAS_HEAD = 16 };
unsigned dc_config_parts(const dc_config *c);

/* A tensor's row. '*' in a name is the layer. A dimension is a letter: C F V as in dc_config, D head width, Q = H * D, K = K * D. */
typedef struct dc_tensor_row {
    dc_role role;
    const char *hf, *gguf;
    char out, in;   /* in 0: one dimension */
    unsigned needs; /* the DC_HAS_ part it belongs to, 0: always there */
} dc_tensor_row;

/* A number of the config: its HF key, its GGUF key (behind "ARCH."; NULL: none), its place in dc_config. */
typedef struct dc_number_key {
    const char *hf, *gguf;
    size_t offset;    /* of an int64_t */
    int64_t fallback; /* when the key is absent: -1: the key is required; 0: worked out (head width, kv heads) */
} dc_number_key;

/* A switch of the config: by an HF key (with a default), or fixed when key is NULL. */
typedef struct dc_switch_key {
    const char *key;
    int value;
} dc_switch_key;

/* A key that changes the result and is understood at these values only. */
typedef struct dc_neutral_key {
    const char *key;
    double value; /* besides this number (or bool) an absent, null, false or empty one is neutral too */
} dc_neutral_key;

struct dc_family {
    const char *hf_type, *hf_class; /* "llama", "LlamaForCausalLM" */
    const char *gguf_arch;
    const dc_tensor_row *tensors;
    size_t n_tensors;
    const dc_number_key *numbers; /* ended by a NULL hf */
    dc_switch_key qk_norm, q_bias, o_bias, mlp_bias;
    int gguf_interleaved;     /* a GGUF has the halves of each q and k head interleaved by rows */
    int gguf_rope_freqs;      /* scaled frequencies of a GGUF are divisors in the tensor rope_freqs.weight */
    int gguf_rope_dimensions; /* rope.dimension_count is written, as llama.cpp's converter does */
    int gguf_vocab_size;      /* vocab_size likewise */
    int gguf_head_width;      /* key_length and value_length always; else when D is not C / H */
    unsigned gguf_parts;      /* optional parts llama.cpp's loader takes */
};

/* Keys of config.json and of "ARCH." that are read elsewhere or change nothing; NULL-ended. */
extern const char *const dc_config_harmless_hf[];
extern const char *const dc_config_harmless_gguf[];
/* Keys that change the result; ended by a NULL key. */
extern const dc_neutral_key dc_config_neutral_hf[];
extern const dc_neutral_key dc_config_neutral_gguf[];

const dc_family *dc_family_by_hf(const char *type); /* NULL when there is none */
const dc_family *dc_family_by_gguf(const char *arch);
/* "llama, qwen2, qwen3" into out; returns out. */
char *dc_family_list(char *out, size_t room, int gguf);

/* Frequency i before scaling; and what llama3's scaling divides a frequency by. */
float dc_rope_base_frequency(const dc_config *c, int64_t i);
float dc_llama3_factor(const dc_rope_config *r, float f);

/* Is `name` in the NULL-ended list? */
int dc_name_in(const char *const *list, const char *name);

#ifdef __cplusplus
}
#endif
#endif
