/* core/safetensors_write.c -- writing one safetensors file: declared first, then the data in that order. */
#include "core/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"

struct dc_st_writer {
    json_t *header, *metadata;
    int64_t total, written; /* bytes of data */
    dc_error failed;        /* the first failure of a put, told by begin */
    dc_writer file;
    int open;
};

int dc_st_writer_new(dc_st_writer **out, dc_error *err)
{
    dc_st_writer *w = dc_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return dc_fail_memory(err, sizeof *w, "a safetensors writer");
    w->header = json_object();
    w->metadata = json_object();
    if (!w->header || !w->metadata) {
        dc_st_writer_free(w);
        return dc_fail_memory(err, sizeof *w, "a safetensors header");
    }
    *out = w;
    return DC_OK;
}

void dc_st_put_metadata(dc_st_writer *w, const char *key, const char *value)
{
    DC_ASSERT(!w->open);
    if (json_object_set_new(w->metadata, key, json_string(value)))
        dc_fail(&w->failed, DC_EFORMAT, "metadata '%s': its value is no UTF-8 text", key);
}

static const char *dtype_name(dc_dtype type)
{
    switch (type) {
    case DC_F64:
    case DC_F32:
    case DC_F16:
    case DC_BF16:
    case DC_I64:
    case DC_I32:
    case DC_I16:
    case DC_I8: return dc_dtype_get(type)->name;
    default: return NULL;
    }
}

void dc_st_put_tensor(dc_st_writer *w, const char *name, dc_dtype type, int n_dims, const int64_t *shape)
{
    DC_ASSERT(!w->open && n_dims >= 0 && n_dims <= DC_ST_MAX_DIMS && dtype_name(type));
    json_t *dims = json_array();
    int64_t count = 1, end;
    int bad = !dims;
    for (int i = 0; i < n_dims; i++) {
        bad |= dc_mul_size(&count, count, shape[i]) || json_array_append_new(dims, json_integer(shape[i]));
        if (bad) break;
    }
    const int64_t bytes = bad ? -1 : dc_dtype_bytes(type, count);
    if (bytes < 0 || dc_add_size(&end, w->total, bytes)) {
        json_decref(dims);
        dc_fail(&w->failed, DC_EFORMAT, "tensor %s: its dimensions are no size", name);
        return;
    }
    if (json_object_get(w->header, name)) dc_fail(&w->failed, DC_EFORMAT, "tensor %s is declared twice", name);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(type), "shape", dims, "data_offsets",
                              (json_int_t)w->total, (json_int_t)end);
    if (!entry || json_object_set_new(w->header, name, entry))
        dc_fail(&w->failed, DC_EFORMAT, "tensor %s: its name is no UTF-8 text, or memory is out", name);
    w->total = end;
}

int dc_st_writer_begin(dc_st_writer *w, const char *path, dc_error *err)
{
    static const char spaces[8] = "        ";
    json_t *all = json_object();
    char *text = NULL;
    int rc = DC_OK;
    DC_ASSERT(!w->open);
    if (w->failed.code) DC_TRY(dc_fail(err, w->failed.code, "%s: %s", path, w->failed.message));
    int bad = !all;
    if (json_object_size(w->metadata)) bad |= json_object_set(all, "__metadata__", w->metadata);
    bad |= json_object_update(all, w->header);
    if (!bad) text = json_dumps(all, JSON_COMPACT); /* in the order of insertion */
    if (!text) DC_TRY(dc_fail_memory(err, json_object_size(w->header), "a safetensors header"));
    const size_t n = strlen(text);
    const uint64_t size = (n + 7) / 8 * 8;
    DC_TRY(dc_writer_open(&w->file, path, err));
    w->open = 1;
    DC_TRY(dc_writer_put(&w->file, &size, sizeof size, err));
    DC_TRY(dc_writer_put(&w->file, text, n, err));
    DC_TRY(dc_writer_put(&w->file, spaces, (size_t)size - n, err));
done:
    json_decref(all);
    free(text); /* jansson's own memory */
    return rc;
}

int dc_st_writer_data(dc_st_writer *w, const void *bytes, size_t n, dc_error *err)
{
    DC_ASSERT(w->open && n <= (uint64_t)(w->total - w->written));
    const int rc = dc_writer_put(&w->file, bytes, n, err);
    if (!rc) w->written += (int64_t)n;
    return rc;
}

int dc_st_writer_commit(dc_st_writer *w, dc_error *err)
{
    DC_ASSERT(w->open && w->written == w->total);
    return dc_writer_commit(&w->file, err);
}

void dc_st_writer_free(dc_st_writer *w)
{
    if (!w) return;
    if (w->open) dc_writer_abandon(&w->file);
    json_decref(w->header);
    json_decref(w->metadata);
    dc_free(w);
}
