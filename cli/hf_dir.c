/* cli/hf_dir.c */
#include "cli/hf_dir.h"

#include <jansson.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/str.h"

/* The files beside weights and config. */
static int finish(const char *dir, const dc_tokenizer *t, dc_error *err)
{
    int rc = DC_OK;
    size_t n;
    const int32_t *eog = dc_tokenizer_eog(t, &n);
    char *path = dc_path_join(dir, "generation_config.json");
    json_t *config = json_object(), *ends = json_array();
    if (!path || !config || !ends) {
        rc = dc_fail_memory(err, 0, "generation_config.json");
        goto done;
    }
    for (size_t i = 0; i < n; i++) json_array_append_new(ends, json_integer(eog[i]));
    if (dc_tokenizer_bos(t) >= 0) json_object_set_new(config, "bos_token_id", json_integer(dc_tokenizer_bos(t)));
    if (n) json_object_set(config, "eos_token_id", n == 1 ? json_array_get(ends, 0) : ends);
    if (dc_tokenizer_pad(t) >= 0) json_object_set_new(config, "pad_token_id", json_integer(dc_tokenizer_pad(t)));
    DC_TRY(dc_json_save(config, path, err));
    DC_TRY(dc_tokenizer_save(t, dir, err));
done:
    json_decref(config);
    json_decref(ends);
    dc_free(path);
    return rc;
}

int dc_hf_save(const char *dir, const dc_model *m, const dc_tokenizer *t, dc_dtype type, dc_rows_fn *rows,
               void *context, dc_error *err)
{
    int rc = DC_OK;
    dc_str staging = {0};
    dc_str_putf(&staging, "%s.tmp", dir);
    if (staging.failed) return dc_fail_memory(err, staging.n, "a path");
    DC_TRY(dc_remove_tree(staging.data, err));
    DC_TRY(dc_model_save(m, staging.data, type, 0, rows, context, err));
    DC_TRY(finish(staging.data, t, err));
    DC_TRY(dc_remove_tree(dir, err));
    DC_TRY(dc_dir_publish(staging.data, dir, err));
done:
    if (rc != DC_OK) dc_remove_tree(staging.data, NULL);
    dc_str_release(&staging);
    return rc;
}
