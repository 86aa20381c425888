/* model/model_open_hf.c -- an HF directory as a source: config.json and safetensors. */
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "model/arch_table.h"
#include "model/model_source.h"

static int read_config(dc_source *s, const char *path, dc_error *err)
{
    json_t *config = NULL;
    char *name = dc_path_join(path, "config.json");
    if (!name) return dc_fail_memory(err, 0, "a path");
    int rc = dc_json_load(&config, name, err);
    if (rc == DC_OK) rc = dc_config_from_json(&s->config, config, name, err);
    json_decref(config);
    dc_free(name);
    return rc;
}

int dc_source_open_hf(dc_source *s, const char *path, dc_error *err)
{
    s->path = path;
    int rc = DC_OK;
    DC_TRY(read_config(s, path, err));
    DC_TRY(dc_st_open(&s->st, path, err));
    const int64_t n = dc_st_n(s->st);
    s->tensors = dc_calloc((size_t)n, sizeof *s->tensors);
    if (!s->tensors && n) DC_TRY(dc_fail_memory(err, (size_t)n * sizeof *s->tensors, "the table of tensors"));
    s->n = n;
    for (int64_t i = 0; i < n; i++) {
        const dc_st_tensor *t = dc_st_at(s->st, i);
        dc_source_tensor *out = &s->tensors[i];
        *out = (dc_source_tensor){
            .name = t->name, .file = t->file, .type = t->type, .n_dims = t->n_dims, .bytes = t->bytes, .data = t->data};
        for (int d = 0; d < t->n_dims; d++) out->shape[d] = t->shape[d];
    }
    /* What the file holds counts, not what config.json says of it. */
    const dc_st_tensor *embed = dc_st_find(s->st, s->config.family->tensors[0].hf);
    if (embed && (embed->type == DC_F32 || embed->type == DC_F16 || embed->type == DC_BF16))
        s->config.dtype = embed->type;
done:
    return rc;
}
