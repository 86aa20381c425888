/* cli/open.c */
#include "cli/open.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"

int dc_opened_device(dc_dev **out, const dc_cli *cli, dc_error *err)
{
    dc_dev_options options = dc_dev_defaults();
    options.name = dc_cli_get(cli, "--device");
    return dc_dev_open(out, &options, err);
}

int dc_opened_model(dc_opened *o, const dc_cli *cli, int with_tokenizer, dc_error *err)
{
    int rc = DC_OK;
    const char *path, *adapter = dc_cli_get(cli, "--adapter");
    const dc_model_options options = dc_model_defaults();
    *o = (dc_opened){.adapter = -1};
    DC_TRY(dc_cli_need(&path, cli, "--model", err));
    DC_TRY(dc_opened_device(&o->dev, cli, err));
    DC_TRY(dc_model_open(&o->model, o->dev, path, &options, err));
    if (adapter) {
        DC_TRY(dc_lora_open(&o->lora, o->model, 0, adapter, 0, err));
        o->adapter = 0;
    }
    if (with_tokenizer) {
        DC_TRY(dc_tokenizer_open(&o->tokenizer, path, err));
        if (dc_tokenizer_size(o->tokenizer) > o->model->config.V)
            rc = dc_fail(err, DC_EMISMATCH,
                         "%s: its tokenizer has %lld entries, the model only %lld rows of embedding: they do not "
                         "belong together",
                         path, (long long)dc_tokenizer_size(o->tokenizer), (long long)o->model->config.V);
    }
done:
    if (rc != DC_OK) dc_opened_release(o);
    return rc;
}

void dc_opened_release(dc_opened *o)
{
    dc_tokenizer_free(o->tokenizer);
    dc_lora_free(o->lora);
    dc_model_free(o->model);
    dc_dev_close(o->dev);
    *o = (dc_opened){.adapter = -1};
}

int dc_take_ids(dc_ids *out, const json_t *list, dc_error *err)
{
    if (!json_is_array(list)) return dc_fail(err, DC_EFORMAT, "a list of token ids was expected");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return dc_fail(err, DC_EFORMAT, "item %zu is no token id", i);
        dc_ids_push(out, (int32_t)json_integer_value(id));
    }
    return out->failed ? dc_fail_memory(err, out->n * sizeof(int32_t), "token ids") : DC_OK;
}

int dc_read_ids(dc_ids *out, const char *path, dc_error *err)
{
    json_t *json = NULL;
    int rc = dc_json_load(&json, path, err);
    if (rc != DC_OK) return rc;
    rc = dc_take_ids(out, json_is_object(json) ? json_object_get(json, "ids") : json, err);
    if (rc == DC_OK && !out->n) rc = dc_fail(err, DC_EFORMAT, "the list of token ids is empty");
    if (rc != DC_OK) dc_error_prefix(err, "%s", path);
    json_decref(json);
    return rc;
}

int dc_print_json(json_t *value, dc_error *err)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    const int rc = text ? DC_OK : dc_fail_memory(err, 0, "the result");
    if (text) puts(text);
    free(text);
    json_decref(value);
    return rc;
}
