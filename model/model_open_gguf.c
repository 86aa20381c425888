/* model/model_open_gguf.c -- a GGUF as a source. */
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "model/arch_table.h"
#include "model/model_source.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dc_source_tensor *)a)->name, ((const dc_source_tensor *)b)->name);
}

int dc_source_open_gguf(dc_source *s, const char *path, dc_error *err)
{
    s->path = path;
    s->is_gguf = 1;
    int rc = DC_OK;
    DC_TRY(dc_gguf_open(&s->gguf, path, err));
    DC_TRY(dc_config_from_gguf(&s->config, s->gguf, err));
    const int64_t n = dc_gguf_n_tensors(s->gguf);
    s->tensors = dc_calloc((size_t)n, sizeof *s->tensors);
    if (!s->tensors && n) DC_TRY(dc_fail_memory(err, (size_t)n * sizeof *s->tensors, "the table of tensors"));
    s->n = n;
    for (int64_t i = 0; i < n; i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(s->gguf, i);
        dc_source_tensor *out = &s->tensors[i];
        *out = (dc_source_tensor){
            .name = t->name, .file = path, .type = t->type, .n_dims = t->n_dims, .bytes = t->bytes, .data = t->data};
        for (int d = 0; d < t->n_dims; d++) out->shape[d] = t->ne[t->n_dims - 1 - d];
        /* The config has read it. */
        out->claimed = s->config.family->gguf_rope_freqs && !strcmp(t->name, "rope_freqs.weight");
    }
    qsort(s->tensors, (size_t)n, sizeof *s->tensors, by_name);
done:
    return rc;
}
