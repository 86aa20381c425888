/* lora/peft_write.c -- PEFT's adapter directory (src/peft/config.py, utils/save_and_load.py). */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "lora/adapter_private.h"

static json_t *names_json(const char *const *names, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
    return list;
}

/* One regular expression is a string in PEFT's file; plain names are a list. */
static json_t *modules_json(const char *const *names, size_t n)
{
    if (!n) return json_null();
    return n == 1 && !dc_lora_is_plain(names[0]) ? json_string(names[0]) : names_json(names, n);
}

static json_t *number_json(double value)
{
    return fabs(value) < 1e15 && floor(value) == value ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *pattern_json(const dc_pattern *patterns, size_t n)
{
    json_t *map = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(map, patterns[i].key, number_json(patterns[i].value));
    return map;
}

static json_t *layers_json(const dc_lora_config *c)
{
    if (!c->n_layers) return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_layers; i++)
        json_array_append_new(list, json_integer((json_int_t)c->layers_to_transform[i]));
    return list;
}

/* Names of the linears that are adapted, each once: what "all-linear" came to. PEFT stores it resolved as well. */
static json_t *resolved_json(const dc_lora *l)
{
    json_t *list = json_array();
    for (size_t i = 0; i < l->n_linears; i++) {
        char module[128];
        int there = 0;
        if (!l->targets[i].r) continue;
        dc_lora_module(module, sizeof module, dc_model_linear_at(l->m, i));
        const char *last = strrchr(module, '.') ? strrchr(module, '.') + 1 : module;
        for (size_t k = 0; k < json_array_size(list); k++)
            there |= !strcmp(json_string_value(json_array_get(list, k)), last);
        if (!there) json_array_append_new(list, json_string(last));
    }
    return list;
}

/* NULL when memory is out, or when a text is no UTF-8. */
static json_t *config_json(const dc_lora *l, const char *base)
{
    const dc_lora_config *c = &l->config;
    const int all = c->n_targets == 1 && !strcmp(c->target_modules[0], "all-linear");
    const struct {
        const char *key;
        json_t *value;
    } members[] = {
        {"peft_type", json_string("LORA")},
        {"task_type", json_string("CAUSAL_LM")},
        {"inference_mode", json_true()},
        {"base_model_name_or_path", base ? json_string(base) : json_null()},
        {"revision", json_null()},
        {"r", json_integer((json_int_t)c->r)},
        {"lora_alpha", number_json(c->lora_alpha)},
        {"lora_dropout", number_json(c->lora_dropout)},
        {"bias", json_string("none")},
        {"fan_in_fan_out", json_false()},
        {"init_lora_weights", c->gaussian ? json_string("gaussian") : json_true()},
        {"use_rslora", json_boolean(c->use_rslora)},
        {"use_dora", json_false()},
        {"modules_to_save", json_null()},
        {"target_modules", all ? resolved_json(l) : modules_json(c->target_modules, c->n_targets)},
        {"exclude_modules", modules_json(c->exclude_modules, c->n_exclude)},
        {"layers_to_transform", layers_json(c)},
        {"layers_pattern", json_null()},
        {"rank_pattern", pattern_json(c->rank_pattern, c->n_rank_pattern)},
        {"alpha_pattern", pattern_json(c->alpha_pattern, c->n_alpha_pattern)},
    };
    json_t *config = json_object();
    int failed = !config;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        failed |=
            json_object_set_new(config, members[i].key, members[i].value); /* which takes the value, or frees it */
    if (!failed) return config;
    json_decref(config);
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const dc_lora_tensor *const *)a)->name, (*(const dc_lora_tensor *const *)b)->name);
}

static int save_tensors(const dc_lora *l, const char *path, dc_error *err)
{
    int rc = DC_OK;
    dc_st_writer *w = NULL;
    float *host = NULL;
    const dc_lora_tensor **order = dc_malloc((l->n + 1) * sizeof *order);
    if (!order) return dc_fail_memory(err, l->n * sizeof *order, "an adapter's file");
    int64_t most = 0;
    for (size_t i = 0; i < l->n; i++) {
        order[i] = &l->tensors[i];
        const int64_t n = order[i]->shape[0] * order[i]->shape[1];
        most = n > most ? n : most;
    }
    qsort(order, l->n, sizeof *order, by_name);
    host = dc_malloc((size_t)most * sizeof *host);
    if (!host) {
        rc = dc_fail_memory(err, (size_t)most * sizeof *host, "an adapter's file");
        goto done;
    }
    DC_TRY(dc_st_writer_new(&w, err));
    dc_st_put_metadata(w, "format", "pt");
    for (size_t i = 0; i < l->n; i++) dc_st_put_tensor(w, order[i]->name, DC_F32, 2, order[i]->shape);
    DC_TRY(dc_st_writer_begin(w, path, err));
    for (size_t i = 0; i < l->n; i++) {
        const size_t bytes = (size_t)(order[i]->shape[0] * order[i]->shape[1]) * sizeof *host;
        dc_dev_download(l->m->dev, host, order[i]->data, bytes);
        DC_TRY(dc_st_writer_data(w, host, bytes, err));
    }
    DC_TRY(dc_st_writer_commit(w, err));
done:
    dc_st_writer_free(w);
    dc_free(order);
    dc_free(host);
    return rc;
}

int dc_lora_save(const dc_lora *l, const char *dir, const char *base, dc_error *err)
{
    int rc = DC_OK;
    json_t *config = config_json(l, base);
    dc_str staging = {0};
    dc_str_putf(&staging, "%s.tmp", dir);
    char *config_path = dc_path_join(dc_str_text(&staging), "adapter_config.json");
    char *tensors_path = dc_path_join(dc_str_text(&staging), "adapter_model.safetensors");
    if (!config || staging.failed || !config_path || !tensors_path) {
        rc = dc_fail_memory(err, staging.n, "an adapter's config");
        goto done;
    }
    DC_TRY(dc_remove_tree(staging.data, err));
    DC_TRY(dc_mkdirs(staging.data, err));
    DC_TRY(dc_json_save(config, config_path, err));
    DC_TRY(save_tensors(l, tensors_path, err));
    DC_TRY(dc_remove_tree(dir, err));
    DC_TRY(dc_dir_publish(staging.data, dir, err));
done:
    if (rc != DC_OK && staging.data) dc_remove_tree(staging.data, NULL);
    json_decref(config);
    dc_str_release(&staging);
    dc_free(config_path);
    dc_free(tensors_path);
    return rc;
}
