/* lora/peft_read.c -- opening a PEFT adapter directory. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "kernels/quant.h"
#include "lora/adapter_private.h"

/* Keys whose value, if it is not the harmless one, means something decant does not compute. */
static int refuse(const json_t *config, const char *where, dc_error *err)
{
    static const char *const absent[] = {"modules_to_save",
                                         "target_parameters",
                                         "trainable_token_indices",
                                         "layer_replication",
                                         "alora_invocation_tokens",
                                         "megatron_config",
                                         "corda_config",
                                         "eva_config",
                                         "arrow_config"};
    static const char *const off[] = {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        const json_t *v = json_object_get(config, absent[i]);
        const int empty = !v || json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
                          (json_is_object(v) && !json_object_size(v));
        if (!empty)
            return dc_fail(err, DC_EUNKNOWN, "%s: '%s' is set, which decant does not support in an adapter", where,
                           absent[i]);
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (json_is_true(json_object_get(config, off[i])))
            return dc_fail(err, DC_EUNKNOWN, "%s: '%s' is true%s, which decant does not support in an adapter", where,
                           off[i], i == 0 ? " (DoRA)" : "");
    const char *bias = json_string_value(json_object_get(config, "bias"));
    if (bias && strcmp(bias, "none"))
        return dc_fail(err, DC_EUNKNOWN, "%s: bias '%s' is not supported; only 'none' is", where, bias);
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    if (!type || strcmp(type, "LORA"))
        return dc_fail(err, DC_EUNKNOWN, "%s: peft_type '%s' is not supported; only 'LORA' is", where,
                       type ? type : "(none)");
    return DC_OK;
}

static int read_names(const char *const **out, size_t *n, dc_arena *arena, const json_t *value, const char *where,
                      dc_error *err)
{
    const char **names = dc_arena_alloc(arena, (json_array_size(value) + 2) * sizeof *names);
    if (!names) return dc_fail_memory(err, 0, "an adapter's config");
    *n = 0;
    if (json_is_string(value)) names[(*n)++] = json_string_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *name = json_string_value(json_array_get(value, i));
        if (!name) return dc_fail(err, DC_EFORMAT, "%s: a module list holds something that is no string", where);
        names[(*n)++] = name;
    }
    *out = names;
    return DC_OK;
}

static int read_patterns(const dc_pattern **out, size_t *n, dc_arena *arena, const json_t *value, const char *where,
                         dc_error *err)
{
    const char *key;
    json_t *item;
    dc_pattern *patterns = dc_arena_alloc(arena, (json_object_size(value) + 1) * sizeof *patterns);
    if (!patterns) return dc_fail_memory(err, 0, "an adapter's config");
    *n = 0;
    json_object_foreach((json_t *)value, key, item)
    {
        if (!json_is_number(item)) return dc_fail(err, DC_EFORMAT, "%s: pattern '%s' has no number", where, key);
        patterns[(*n)++] = (dc_pattern){.key = key, .value = json_number_value(item)};
    }
    *out = patterns;
    return DC_OK;
}

/* Fields into *c; text and lists live as long as `config` and the arena. */
static int read_config(dc_lora_config *c, const json_t *config, dc_arena *arena, const char *where, dc_error *err)
{
    int rc = DC_OK;
    *c = dc_lora_defaults();
    const json_t *init = json_object_get(config, "init_lora_weights"),
                 *layers = json_object_get(config, "layers_to_transform");
    DC_TRY(refuse(config, where, err));
    DC_TRY(dc_json_i64(&c->r, config, "r", 8, where, err));
    DC_TRY(dc_json_f64(&c->lora_alpha, config, "lora_alpha", 8, where, err));
    DC_TRY(dc_json_f64(&c->lora_dropout, config, "lora_dropout", 0, where, err));
    DC_TRY(dc_json_bool(&c->use_rslora, config, "use_rslora", 0, where, err));
    c->gaussian = json_is_string(init) && !strcmp(json_string_value(init), "gaussian");
    if (json_is_string(init) && !c->gaussian) /* most of them change the base as well */
        return dc_fail(err, DC_EUNKNOWN, "%s: init_lora_weights '%s' is not supported; only true and 'gaussian' are",
                       where, json_string_value(init));
    if (!(c->lora_dropout >= 0 && c->lora_dropout < 1))
        return dc_fail(err, DC_EFORMAT, "%s: lora_dropout is %g, expected 0 or more and less than 1", where,
                       c->lora_dropout);
    const json_t *targets = json_object_get(config, "target_modules");
    if (!targets || json_is_null(targets)) {
        rc = dc_fail(err, DC_EFORMAT, "%s: target_modules is missing", where);
        goto done;
    }
    DC_TRY(read_names(&c->target_modules, &c->n_targets, arena, targets, where, err));
    DC_TRY(
        read_names(&c->exclude_modules, &c->n_exclude, arena, json_object_get(config, "exclude_modules"), where, err));
    DC_TRY(read_patterns(&c->rank_pattern, &c->n_rank_pattern, arena, json_object_get(config, "rank_pattern"), where,
                         err));
    DC_TRY(read_patterns(&c->alpha_pattern, &c->n_alpha_pattern, arena, json_object_get(config, "alpha_pattern"), where,
                         err));
    if (layers && !json_is_null(layers)) {
        const size_t n = json_is_array(layers) ? json_array_size(layers) : 1;
        int64_t *list = dc_arena_alloc(arena, (n + 1) * sizeof *list);
        if (!list) return dc_fail_memory(err, 0, "an adapter's config");
        for (size_t i = 0; i < n; i++)
            list[i] = json_integer_value(json_is_array(layers) ? json_array_get(layers, i) : layers);
        c->layers_to_transform = list, c->n_layers = n;
    }
done:
    return rc;
}

static int find_half(const dc_st_tensor **out, const dc_st *st, const char *module, const char *half)
{
    char name[192];
    snprintf(name, sizeof name, "base_model.model.%s.%s.weight", module, half);
    *out = dc_st_find(st, name);
    return *out != NULL;
}

static int check_half(const dc_st_tensor *t, int64_t rows, int64_t cols, const char *file, dc_error *err)
{
    if (t->n_dims != 2 || t->shape[0] != rows || t->shape[1] != cols)
        return dc_fail(err, DC_EMISMATCH, "%s: tensor %s is [%lld, %lld], this model and rank need [%lld, %lld]", file,
                       t->name, (long long)t->shape[0], (long long)(t->n_dims > 1 ? t->shape[1] : 1), (long long)rows,
                       (long long)cols);
    if (t->type != DC_F32 && t->type != DC_F16 && t->type != DC_BF16)
        return dc_fail(err, DC_EUNKNOWN, "%s: tensor %s is %s; adapters are F32, F16 or BF16", file, t->name,
                       dc_dtype_get(t->type)->name);
    return DC_OK;
}

/* The targets of the config must be exactly those that the file holds. */
static int check_tensors(const dc_lora *l, const dc_st *st, const char *file, dc_error *err)
{
    size_t claimed = 0;
    for (size_t i = 0; i < l->n_linears; i++) {
        const dc_linear *linear = dc_model_linear_at(l->m, i);
        const int64_t r = l->targets[i].r;
        const dc_st_tensor *A, *B;
        char module[128];
        dc_lora_module(module, sizeof module, linear);
        const int has_a = find_half(&A, st, module, "lora_A"), has_b = find_half(&B, st, module, "lora_B");
        if (r && !(has_a && has_b))
            return dc_fail(err, DC_EMISMATCH, "%s: %s of %s is missing, which adapter_config.json targets", file,
                           has_a ? "lora_B" : "lora_A", module);
        if (!r) continue;
        int rc = check_half(A, r, linear->in, file, err);
        if (rc == DC_OK) rc = check_half(B, linear->out, r, file, err);
        if (rc != DC_OK) return rc;
        claimed += 2;
    }
    for (int64_t i = 0; claimed != (size_t)dc_st_n(st) && i < dc_st_n(st); i++) {
        const char *name = dc_st_at(st, i)->name;
        int known = 0;
        for (size_t k = 0; k < l->n && !known; k++) known = !strcmp(l->tensors[k].name, name);
        if (!known)
            return dc_fail(err, DC_EUNKNOWN, "%s: tensor %s belongs to no targeted linear of this model", file, name);
    }
    return DC_OK;
}

static int load_tensors(dc_lora *l, const dc_st *st, const char *file, dc_error *err)
{
    for (size_t i = 0; i < l->n; i++) {
        const dc_lora_tensor *t = &l->tensors[i];
        const dc_st_tensor *from = dc_st_find(st, t->name);
        const int64_t n = t->shape[0] * t->shape[1];
        float *host = dc_malloc((size_t)n * sizeof *host);
        if (!host) return dc_fail_memory(err, (size_t)n * sizeof *host, "an adapter");
        dc_row_reader(from->type, 0)(host, from->data, n);
        int64_t bad = -1;
        for (int64_t k = 0; k < n && bad < 0; k++)
            if (!isfinite(host[k])) bad = k;
        if (bad < 0) dc_dev_upload(l->m->dev, t->data, host, (size_t)n * sizeof *host);
        const double value = bad < 0 ? 0 : (double)host[bad];
        dc_free(host);
        if (bad >= 0)
            return dc_fail(err, DC_ENUMERIC, "%s: tensor %s has a value that is not finite (%g at index %lld)", file,
                           t->name, value, (long long)bad);
    }
    return dc_dev_sync(l->m->dev, err);
}

int dc_lora_open(dc_lora **out, dc_model *m, int adapter, const char *dir, int train, dc_error *err)
{
    int rc = DC_OK;
    json_t *json = NULL;
    dc_st *st = NULL;
    dc_arena arena = {0};
    dc_lora_config config;
    DC_ASSERT(adapter >= 0 && adapter < DC_ADAPTERS);
    dc_lora *l = dc_calloc(1, sizeof *l);
    char *config_path = dc_path_join(dir, "adapter_config.json"),
         *file = dc_path_join(dir, "adapter_model.safetensors");
    if (l) l->m = m, l->adapter = adapter;
    if (!l || !config_path || !file) {
        rc = dc_fail_memory(err, sizeof *l, "an adapter");
        goto done;
    }
    DC_TRY(dc_json_load(&json, config_path, err));
    DC_TRY(read_config(&config, json, &arena, config_path, err));
    DC_TRY(dc_st_open(&st, file, err));
    l->targets = dc_calloc(dc_model_n_linears(m), sizeof *l->targets);
    if (!l->targets) {
        rc = dc_fail_memory(err, dc_model_n_linears(m) * sizeof *l->targets, "an adapter");
        goto done;
    }
    l->n_linears = dc_model_n_linears(m);
    DC_TRY(dc_lora_keep_config(l, &config, err));
    DC_TRY(dc_lora_find_targets(l->targets, m, &l->config, err));
    DC_TRY(dc_lora_build(l, train, err));
    DC_TRY(check_tensors(l, st, file, err));
    DC_TRY(load_tensors(l, st, file, err));
done:
    if (rc == DC_OK) *out = l;
    else dc_lora_free(l);
    dc_st_close(st);
    json_decref(json);
    dc_arena_release(&arena);
    dc_free(config_path);
    dc_free(file);
    return rc;
}
