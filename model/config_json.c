/* model/config_json.c -- config.json to dc_config and back. Sources: configuration_*.py and modeling_rope_utils.py of transformers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/log.h"
#include "model/arch_table.h"

/* ---- keys that nobody reads ---- */

static int is_neutral(const json_t *value, double neutral)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return json_object_size(value) == 0;
    case JSON_ARRAY: return json_array_size(value) == 0;
    case JSON_STRING: return json_string_length(value) == 0;
    case JSON_INTEGER:
    case JSON_REAL: return json_number_value(value) == neutral;
    case JSON_TRUE: return neutral == 1;
    default: return 1;
    }
}

static int is_number_key(const dc_family *f, const char *key)
{
    for (const dc_number_key *k = f->numbers; k->hf; k++)
        if (!strcmp(k->hf, key)) return 1;
    return 0;
}

static int is_switch_key(const dc_family *f, const char *key)
{
    const dc_switch_key *switches[] = {&f->qk_norm, &f->q_bias, &f->o_bias, &f->mlp_bias};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (switches[i]->key && !strcmp(switches[i]->key, key)) return 1;
    return 0;
}

/* A key that changes the result is refused unless its value is the one that does not; one that nobody knows is warned of. */
static int check_keys(const dc_family *f, json_t *config, const char *where, dc_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value)
    {
        if (dc_name_in(dc_config_harmless_hf, key) || is_number_key(f, key) || is_switch_key(f, key)) continue;
        const dc_neutral_key *k = dc_config_neutral_hf;
        while (k->key && strcmp(k->key, key)) k++;
        if (!k->key) {
            dc_log(DC_LOG_WARN, "%s: key '%s' is not known to decant and has no effect", where, key);
        } else if (!is_neutral(value, k->value)) {
            return dc_fail(err, DC_EUNKNOWN,
                           "%s: key '%s' has a value that changes what the model computes, and decant does not "
                           "implement it for model_type '%s'",
                           where, key, f->hf_type);
        }
    }
    return DC_OK;
}

/* ---- parts ---- */

static int read_numbers(dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    for (const dc_number_key *k = c->family->numbers; k->hf; k++) {
        int64_t value;
        const json_t *found = json_object_get(config, k->hf);
        int rc = dc_json_i64(&value, config, k->hf, k->fallback, where, err);
        if (rc) return rc;
        const int given = found && !json_is_null(found);
        if (!given && k->fallback < 0) return dc_fail(err, DC_EFORMAT, "%s: key '%s' is missing", where, k->hf);
        if (given && value < 1)
            return dc_fail(err, DC_EFORMAT, "%s: key '%s' is %lld, expected 1 or more", where, k->hf, (long long)value);
        if (found && !given) value = 0; /* null: worked out, whatever the class has for an absent key */
        *(int64_t *)((char *)c + k->offset) = value;
    }
    if (!c->K) c->K = c->H;
    if (!c->D) c->D = c->C / c->H;
    return DC_OK;
}

static int read_switch(int *out, const dc_switch_key *k, const json_t *config, const char *where, dc_error *err)
{
    if (k->key) return dc_json_bool(out, config, k->key, k->value, where, err);
    *out = k->value;
    return DC_OK;
}

static int read_switches(dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    const dc_family *f = c->family;
    int rc = DC_OK;
    DC_TRY(read_switch(&c->qk_norm, &f->qk_norm, config, where, err));
    DC_TRY(read_switch(&c->q_bias, &f->q_bias, config, where, err));
    DC_TRY(read_switch(&c->o_bias, &f->o_bias, config, where, err));
    DC_TRY(read_switch(&c->mlp_bias, &f->mlp_bias, config, where, err));
    DC_TRY(dc_json_bool(&c->tied, config, "tie_word_embeddings", 0, where, err));
done:
    return rc;
}

static const struct {
    const char *name;
    dc_act act;
} activations[] = {{"silu", DC_ACT_SILU},
                   {"swish", DC_ACT_SILU},
                   {"gelu_pytorch_tanh", DC_ACT_GELU_TANH},
                   {"gelu_new", DC_ACT_GELU_TANH},
                   {"gelu", DC_ACT_GELU_ERF}};

static int read_activation(dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    const char *name;
    const int rc = dc_json_text(&name, config, "hidden_act", "silu", where, err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (!strcmp(activations[i].name, name)) return c->act = activations[i].act, DC_OK;
    return dc_fail(err, DC_EUNKNOWN, "%s: hidden_act '%s' is not supported; expected silu, gelu_pytorch_tanh or gelu",
                   where, name);
}

static const struct {
    const char *name;
    dc_dtype type;
} dtypes[] = {{"float32", DC_F32}, {"float16", DC_F16}, {"bfloat16", DC_BF16}};

static int read_dtype(dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    const char *old, *name;
    int rc = dc_json_text(&old, config, "torch_dtype", "float32", where, err);
    if (rc == DC_OK) rc = dc_json_text(&name, config, "dtype", old, where, err);
    if (rc) return rc;
    if (!strncmp(name, "torch.", 6)) name += 6;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtypes[i].name, name)) return c->dtype = dtypes[i].type, DC_OK;
    return dc_fail(err, DC_EUNKNOWN, "%s: dtype '%s' is not supported; expected float32, float16 or bfloat16", where,
                   name);
}

/* An id, or the first of a list of them. */
static int read_token(int32_t *out, const json_t *config, const char *key, const char *where, dc_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_array(value)) value = json_array_get(value, 0);
    *out = -1;
    if (!value || json_is_null(value)) return DC_OK;
    if (!json_is_integer(value) || json_integer_value(value) < -1 || json_integer_value(value) > INT32_MAX)
        return dc_fail(err, DC_EFORMAT, "%s: key '%s' is no token id", where, key);
    *out = (int32_t)json_integer_value(value);
    return DC_OK;
}

/* Qwen's switch gives a window to the layers from max_window_layers on; layer_types says it layer by layer. */
static int check_windows(const dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    const json_t *types = json_object_get(config, "layer_types");
    if (types && !json_is_null(types)) {
        if (!json_is_array(types) || json_array_size(types) != (size_t)c->L)
            return dc_fail(err, DC_EFORMAT, "%s: key 'layer_types' must list %lld layers", where, (long long)c->L);
        for (size_t i = 0; i < json_array_size(types); i++) {
            const char *type = json_string_value(json_array_get(types, i));
            if (!type || strcmp(type, "full_attention"))
                return dc_fail(err, DC_EUNKNOWN,
                               "%s: layer_types[%zu] is '%s', but decant implements only full_attention for "
                               "model_type '%s'",
                               where, i, type ? type : "no text", c->family->hf_type);
        }
        return DC_OK;
    }
    int on;
    int64_t window, first;
    int rc = dc_json_bool(&on, config, "use_sliding_window", 0, where, err);
    if (rc == DC_OK) rc = dc_json_i64(&window, config, "sliding_window", 0, where, err);
    if (rc == DC_OK) rc = dc_json_i64(&first, config, "max_window_layers", 28, where, err);
    if (rc) return rc;
    if (on && window > 0 && first < c->L)
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: use_sliding_window with max_window_layers %lld of %lld layers is not implemented for "
                       "model_type '%s'",
                       where, (long long)first, (long long)c->L, c->family->hf_type);
    return DC_OK;
}

/* ---- rope ---- */

static const char *const rope_keys[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        "partial_rotary_factor",
                                        "short_factor",
                                        "long_factor",
                                        "attention_factor",
                                        NULL};

static int check_rope_keys(const json_t *rope, const char *place, dc_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)rope, key, value)
    {
        if (json_is_object(value))
            return dc_fail(err, DC_EUNKNOWN,
                           "%s: '%s' gives a rope of its own to some layers, which is not implemented", place, key);
        if (!strcmp(key, "mrope_section"))
            return dc_fail(err, DC_EUNKNOWN, "%s: 'mrope_section' is not implemented", place);
        if (!dc_name_in(rope_keys, key))
            dc_log(DC_LOG_WARN, "%s: key '%s' is not known to decant and has no effect", place, key);
    }
    double partial;
    const int rc = dc_json_f64(&partial, rope, "partial_rotary_factor", 1, place, err);
    if (rc) return rc;
    if (partial != 1)
        return dc_fail(err, DC_EUNKNOWN, "%s: partial_rotary_factor %g is not implemented, only 1", place, partial);
    return DC_OK;
}

static int read_llama3(dc_config *c, const json_t *rope, const json_t *config, const char *place, dc_error *err)
{
    dc_rope_config *r = &c->rope;
    int64_t original;
    int rc = DC_OK;
    DC_TRY(dc_json_f64(&r->low_freq_factor, rope, "low_freq_factor", NAN, place, err));
    DC_TRY(dc_json_f64(&r->high_freq_factor, rope, "high_freq_factor", NAN, place, err));
    if (isnan(r->low_freq_factor) || isnan(r->high_freq_factor))
        return dc_fail(err, DC_EFORMAT, "%s: rope type llama3 needs low_freq_factor and high_freq_factor", place);
    DC_TRY(dc_json_i64(&original, rope, "original_max_position_embeddings", c->max_position, place, err));
    /* A value beside the scaling's own has priority there: RotaryEmbeddingConfigMixin.standardize_rope_params. */
    DC_TRY(dc_json_i64(&r->original_max_position, config, "original_max_position_embeddings", original, place, err));
done:
    return rc;
}

/* longrope with one list of factors and no attention factor is a plain table of divisors; anything else is refused. */
static int read_longrope(dc_config *c, const json_t *rope, const char *place, dc_error *err)
{
    const json_t *list = json_object_get(rope, "short_factor");
    double attention;
    const int rc = dc_json_f64(&attention, rope, "attention_factor", NAN, place, err);
    if (rc) return rc;
    if (attention != 1 || !json_is_array(list) || !json_equal(list, json_object_get(rope, "long_factor")))
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: rope type 'longrope' is implemented only with equal short_factor and long_factor and "
                       "attention_factor 1",
                       place);
    if (c->D > 2 * DC_ROPE_PAIRS || json_array_size(list) != (size_t)(c->D / 2))
        return dc_fail(err, DC_EFORMAT, "%s: short_factor has %zu numbers, expected %lld", place, json_array_size(list),
                       (long long)(c->D / 2));
    for (size_t i = 0; i < json_array_size(list); i++)
        c->rope.factors[i] = (float)json_number_value(json_array_get(list, i));
    c->rope.type = DC_ROPE_FACTORS;
    return DC_OK;
}

static int read_scaling(dc_config *c, const json_t *rope, const json_t *config, const char *place, dc_error *err)
{
    dc_rope_config *r = &c->rope;
    const char *old, *type;
    int rc = check_rope_keys(rope, place, err);
    DC_TRY(rc);
    DC_TRY(dc_json_f64(&r->theta, rope, "rope_theta", r->theta, place, err));
    DC_TRY(dc_json_text(&old, rope, "type", "default", place, err));
    DC_TRY(dc_json_text(&type, rope, "rope_type", old, place, err));
    if (!strcmp(type, "default")) return DC_OK;
    if (!strcmp(type, "longrope")) return read_longrope(c, rope, place, err);
    if (strcmp(type, "linear") && strcmp(type, "llama3"))
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: rope type '%s' is not implemented; decant knows default, linear and llama3", place, type);
    DC_TRY(dc_json_f64(&r->factor, rope, "factor", NAN, place, err));
    if (isnan(r->factor)) return dc_fail(err, DC_EFORMAT, "%s: rope type %s needs a factor", place, type);
    r->type = !strcmp(type, "linear") ? DC_ROPE_LINEAR : DC_ROPE_LLAMA3;
    if (r->type == DC_ROPE_LLAMA3) rc = read_llama3(c, rope, config, place, err);
done:
    return rc;
}

static int read_rope(dc_config *c, const json_t *config, const char *where, dc_error *err)
{
    const json_t *published = json_object_get(config, "rope_scaling"),
                 *newer = json_object_get(config, "rope_parameters");
    const int has_published = published && !json_is_null(published), has_newer = newer && !json_is_null(newer);
    c->n_rot = c->D;
    c->rope.type = DC_ROPE_DEFAULT;
    const int rc = dc_json_f64(&c->rope.theta, config, "rope_theta", 10000.0, where, err);
    if (rc) return rc;
    if (has_published && has_newer && !json_equal(published, newer))
        return dc_fail(err, DC_EMISMATCH, "%s: rope_scaling and rope_parameters differ; keep one of them", where);
    const json_t *rope = has_published ? published : newer;
    if (!has_published && !has_newer) return DC_OK;
    if (!json_is_object(rope))
        return dc_fail(err, DC_EFORMAT, "%s: %s must be an object", where,
                       has_published ? "rope_scaling" : "rope_parameters");
    char place[512];
    snprintf(place, sizeof place, "%s: %s", where, has_published ? "rope_scaling" : "rope_parameters");
    return read_scaling(c, rope, config, place, err);
}

/* ---- whole ---- */

int dc_config_from_json(dc_config *out, const json_t *config, const char *where, dc_error *err)
{
    dc_config c = {.attn_softcap = 0, .embed_scale = 1, .logit_scale = 1};
    const char *type;
    char known[256];
    double eps;
    int rc = DC_OK;
    if (!json_is_object(config)) return dc_fail(err, DC_EFORMAT, "%s: a config.json must hold an object", where);
    DC_TRY(dc_json_text(&type, config, "model_type", "", where, err));
    if (!*type) return dc_fail(err, DC_EFORMAT, "%s: key 'model_type' is missing", where);
    c.family = dc_family_by_hf(type);
    if (!c.family)
        return dc_fail(err, DC_EUNKNOWN, "%s: model_type '%s' is not supported; decant knows %s", where, type,
                       dc_family_list(known, sizeof known, 0));
    DC_TRY(check_keys(c.family, (json_t *)config, where, err));
    DC_TRY(read_numbers(&c, config, where, err));
    DC_TRY(read_switches(&c, config, where, err));
    DC_TRY(read_activation(&c, config, where, err));
    DC_TRY(read_dtype(&c, config, where, err));
    DC_TRY(check_windows(&c, config, where, err));
    DC_TRY(read_rope(&c, config, where, err));
    DC_TRY(dc_json_f64(&eps, config, "rms_norm_eps", 1e-6, where, err));
    c.rms_eps = (float)eps;
    c.attn_scale = (float)(1.0 / sqrt((double)c.D));
    DC_TRY(read_token(&c.bos, config, "bos_token_id", where, err));
    DC_TRY(read_token(&c.eos, config, "eos_token_id", where, err));
    DC_TRY(dc_config_check(&c, where, err));
    *out = c;
done:
    return rc;
}

static json_t *rope_to_json(const dc_config *c)
{
    const dc_rope_config *r = &c->rope;
    switch (r->type) {
    case DC_ROPE_LINEAR: return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", r->factor);
    case DC_ROPE_LLAMA3:
        return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", r->factor, "low_freq_factor",
                         r->low_freq_factor, "high_freq_factor", r->high_freq_factor,
                         "original_max_position_embeddings", (json_int_t)r->original_max_position);
    case DC_ROPE_FACTORS: {
        json_t *list = json_array();
        for (int64_t i = 0; i < c->n_rot / 2; i++) json_array_append_new(list, json_real((double)r->factors[i]));
        return json_pack("{s:s, s:f, s:I, s:O, s:o}", "rope_type", "longrope", "attention_factor", 1.0,
                         "original_max_position_embeddings", (json_int_t)c->max_position, "short_factor", list,
                         "long_factor", list);
    }
    default: return json_null();
    }
}

static const char *name_of_act(dc_act act)
{
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (activations[i].act == act) return activations[i].name;
    return "silu";
}

static const char *name_of_dtype(dc_dtype type)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].type == type) return dtypes[i].name;
    return "float32"; /* a quantized model is written as F32 */
}

/* The shortest decimal that is this float again: 1e-5 as people write it, not 9.9999997e-06. */
static double plain(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return strtod(text, NULL);
}

static json_t *token_to_json(int32_t id) { return id < 0 ? json_null() : json_integer(id); }

json_t *dc_config_to_json(const dc_config *c)
{
    const dc_family *f = c->family;
    json_t *config =
        json_pack("{s:s, s:[s], s:f, s:o, s:s, s:s, s:b, s:f, s:o, s:o, s:f, s:b, s:f}", "model_type", f->hf_type,
                  "architectures", f->hf_class, "rope_theta", c->rope.theta, "rope_scaling", rope_to_json(c),
                  "torch_dtype", name_of_dtype(c->dtype), "hidden_act", name_of_act(c->act), "tie_word_embeddings",
                  c->tied, "rms_norm_eps", plain(c->rms_eps), "bos_token_id", token_to_json(c->bos), "eos_token_id",
                  token_to_json(c->eos), "attention_dropout", 0.0, "use_cache", 1, "initializer_range", 0.02);
    int failed = !config;
    for (const dc_number_key *k = f->numbers; k->hf && !failed; k++) {
        /* Qwen2Config has no head_dim of its own, though its model obeys one. */
        if (k->offset == offsetof(dc_config, D) && !k->fallback && c->D == c->C / c->H) continue;
        failed |= json_object_set_new(config, k->hf, json_integer(*(const int64_t *)((const char *)c + k->offset)));
    }
    const struct {
        const dc_switch_key *key;
        int on;
    } switches[] = {
        {&f->qk_norm, c->qk_norm}, {&f->q_bias, c->q_bias}, {&f->o_bias, c->o_bias}, {&f->mlp_bias, c->mlp_bias}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches && !failed; i++)
        if (switches[i].key->key)
            failed |= json_object_set_new(config, switches[i].key->key, json_boolean(switches[i].on));
    if (!failed) return config;
    json_decref(config);
    return NULL;
}
