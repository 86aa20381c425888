/* tests/model/tiny_files.h -- tiny models of each family with random weights, as HF directories and as GGUF files. */
#ifndef DC_TESTS_MODEL_TINY_FILES_H
#define DC_TESTS_MODEL_TINY_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/arena.h"
#include "core/json.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/str.h"
#include "kernels/quant.h"
#include "model/model.h"
#include "tests/core/temp.h"

/* Rows of 32 and 64, so that blocks of 32 fit; four heads of 8 or, where the family has a head width of its own, 16. */
#define FIXTURE_SIZES \
    "\"hidden_size\": 32, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, " \
    "\"intermediate_size\": 64, \"vocab_size\": 40, \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5"

static const char *const fixture_configs[] = {
    "{\"model_type\": \"llama\", " FIXTURE_SIZES ", \"tie_word_embeddings\": true}",
    "{\"model_type\": \"llama\", " FIXTURE_SIZES
    ", \"attention_bias\": true, \"mlp_bias\": true, \"head_dim\": 16, \"rope_scaling\": "
    "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
    "\"original_max_position_embeddings\": 64}}",
    "{\"model_type\": \"qwen2\", " FIXTURE_SIZES ", \"rope_theta\": 1000000.0}",
    "{\"model_type\": \"qwen3\", " FIXTURE_SIZES ", \"head_dim\": 16, \"tie_word_embeddings\": true}",
};
enum { FIXTURES = sizeof fixture_configs / sizeof *fixture_configs };
enum { FIXTURE_ROW = 256 }; /* columns at most */

static dc_dev *fixture_dev;

static inline int fixture_setup(void **state)
{
    dc_dev_options o = dc_dev_defaults();
    o.name = "cpu";
    o.backend = DC_GEMM_REF;
    return temp_setup(state) || dc_dev_open(&fixture_dev, &o, NULL);
}

static inline int fixture_teardown(void **state)
{
    dc_dev_close(fixture_dev);
    return temp_teardown(state);
}

/* Fails the test with the message of an unexpected error. */
#define OK(call, err) \
    do { \
        if ((call) != DC_OK) fail_msg("%s: %s", #call, (err).message); \
    } while (0)

static inline int parse_config(dc_config *out, const char *text, dc_error *err)
{
    json_t *json = NULL;
    int rc = dc_json_parse(&json, text, strlen(text), "config.json", err);
    if (rc == DC_OK) rc = dc_config_from_json(out, json, "config.json", err);
    json_decref(json);
    return rc;
}

/* Every weight random and different, norms and biases too, so that no swap goes unnoticed. */
static inline dc_model *fixture_model(const char *text)
{
    dc_error err = {0};
    dc_config config;
    dc_model *m = NULL;
    OK(parse_config(&config, text, &err), err);
    OK(dc_model_init(&m, fixture_dev, &config, 7, &err), err);
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_tensor_spec *s = &m->weights[i].spec;
        dc_rng_uniform(m->weights[i].owned, s->shape[0] * (s->n_dims == 2 ? s->shape[1] : 1), -1, 1, 11, DC_RNG_TEST,
                       (uint32_t)i);
    }
    return m;
}

static inline int64_t spec_columns(const dc_tensor_spec *s) { return s->n_dims == 2 ? s->shape[1] : 1; }

/* The GGUF order of q's and k's rows, as convert_hf_to_gguf.py's permute: [heads, 2, D/2] becomes [heads, D/2, 2]. */
static inline int64_t hf_row_of_gguf(const dc_tensor_spec *s, int64_t heads, int64_t row)
{
    const int64_t D = s->shape[0] / heads;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t half = 0; half < 2; half++)
            for (int64_t j = 0; j < D / 2; j++)
                if (row == h * D + j * 2 + half) return h * D + half * (D / 2) + j;
    return -1;
}

static inline void put_gguf_data(dc_gguf_writer *w, const dc_model *m, const dc_weight *weight, dc_dtype type)
{
    const dc_tensor_spec *s = &weight->spec;
    const int64_t columns = spec_columns(s);
    const int llama = !strcmp(dc_family_gguf_arch(m->config.family), "llama");
    const int64_t heads = !llama                                        ? 0
                          : s->role == DC_W_Q || s->role == DC_W_Q_BIAS ? m->config.H
                          : s->role == DC_W_K || s->role == DC_W_K_BIAS ? m->config.K
                                                                        : 0;
    dc_error err = {0};
    float x[FIXTURE_ROW];
    uint8_t bytes[FIXTURE_ROW * sizeof(float)];
    for (int64_t row = 0; row < s->shape[0]; row++) {
        dc_weight_rows(m, weight, x, heads ? hf_row_of_gguf(s, heads, row) : row, 1);
        dc_row_writer(type, 0)(bytes, x, columns);
        OK(dc_gguf_writer_data(w, bytes, (size_t)dc_dtype_bytes(type, columns), &err), err);
    }
}

/* Matrices in `type`, the rest F32. `freqs`, unless NULL, is written for rope_freqs.weight in place of the config's own. */
static inline void fixture_gguf(const dc_model *m, const char *path, dc_dtype type, const float *freqs)
{
    dc_error err = {0};
    dc_gguf_writer *w = NULL;
    float own[DC_ROPE_PAIRS];
    const int64_t pairs = m->config.n_rot / 2;
    OK(dc_gguf_writer_new(&w, &err), err);
    dc_gguf_put_str(w, "general.architecture", dc_family_gguf_arch(m->config.family));
    OK(dc_config_put_gguf(&m->config, w, &err), err);
    dc_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    if (!freqs && dc_config_rope_freqs(own, &m->config)) freqs = own;
    if (freqs) dc_gguf_put_tensor(w, "rope_freqs.weight", DC_F32, 1, &pairs);
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_tensor_spec *s = &m->weights[i].spec;
        const int64_t ne[2] = {s->n_dims == 2 ? s->shape[1] : s->shape[0], s->shape[0]};
        dc_gguf_put_tensor(w, s->gguf, s->n_dims == 2 ? type : DC_F32, s->n_dims, ne);
    }
    OK(dc_gguf_writer_begin(w, path, &err), err);
    if (freqs) OK(dc_gguf_writer_data(w, freqs, (size_t)pairs * sizeof *freqs, &err), err);
    for (size_t i = 0; i < m->n_weights; i++)
        put_gguf_data(w, m, &m->weights[i], m->weights[i].spec.n_dims == 2 ? type : DC_F32);
    OK(dc_gguf_writer_commit(w, &err), err);
    dc_gguf_writer_free(w);
}

/* What `type` leaves of a row. */
static inline void through_type(float *x, dc_dtype type, int64_t n)
{
    uint8_t bytes[FIXTURE_ROW * sizeof(float)];
    dc_row_writer(type, 0)(bytes, x, n);
    dc_row_reader(type, 0)(x, bytes, n);
}

/* Is every weight of `got` the one of `want` that layer `keep[layer]` has (NULL: the same layer), matrices as `type` leaves them? */
static inline void assert_same_weights(const dc_model *got, const dc_model *want, dc_dtype type, dc_dtype vectors,
                                       const int64_t *keep)
{
    for (size_t i = 0; i < got->n_weights; i++) {
        const dc_weight *g = &got->weights[i];
        const int64_t layer = keep && g->spec.layer >= 0 ? keep[g->spec.layer] : g->spec.layer;
        const dc_weight *w = dc_model_find(want, g->spec.role, layer);
        assert_non_null(w);
        const int64_t columns = spec_columns(&g->spec);
        for (int64_t row = 0; row < g->spec.shape[0]; row++) {
            float a[FIXTURE_ROW], b[FIXTURE_ROW];
            dc_weight_rows(got, g, a, row, 1);
            dc_weight_rows(want, w, b, row, 1);
            through_type(b, g->spec.n_dims == 2 ? type : vectors, columns);
            if (memcmp(a, b, (size_t)columns * sizeof *a)) fail_msg("%s, row %lld", g->spec.hf, (long long)row);
        }
    }
}

/* Fails unless the error's code is `code` and its message holds `text`; clears it. */
static inline void assert_refused(dc_error *err, int code, const char *text)
{
    if ((int)err->code != code || !strstr(err->message, text))
        fail_msg("expected code %d and '%s', found %d: %s", code, text, (int)err->code, err->message);
    *err = (dc_error){0};
}
#endif
