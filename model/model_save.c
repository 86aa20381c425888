/* model/model_save.c -- a model as an HF directory: config.json and safetensors, in one file or in shards with an index. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/stop.h"
#include "kernels/quant.h"
#include "model/model_build.h"

typedef struct save {
    const dc_model *m;
    const char *dir;
    dc_dtype type;
    dc_rows_fn *rows;
    void *context;
    dc_row_write_fn *write;
    int64_t chunk; /* floats the buffers hold */
    float *x;
    uint8_t *bytes;
    int64_t *shard_of; /* [n_weights] */
    int64_t n_shards, total;
} save;

enum { CHUNK_FLOATS = 1 << 20 };
static const int64_t default_shard = INT64_C(5000000000);

static int64_t columns_of(const dc_weight *w) { return w->spec.n_dims == 2 ? w->spec.shape[1] : 1; }

/* Tensors in order, a new shard where the next one would not fit; one larger than a shard has its own. */
static int assign_shards(save *s, int64_t shard_bytes, dc_error *err)
{
    const dc_model *m = s->m;
    s->shard_of = dc_calloc(m->n_weights, sizeof *s->shard_of);
    if (!s->shard_of) return dc_fail_memory(err, m->n_weights * sizeof *s->shard_of, "the list of shards");
    int64_t used = 0, shard = 0;
    for (size_t i = 0; i < m->n_weights; i++) {
        const int64_t bytes = dc_dtype_bytes(s->type, dc_spec_count(&m->weights[i].spec));
        if (used > 0 && bytes > shard_bytes - used) shard++, used = 0;
        s->shard_of[i] = shard;
        used += bytes;
        s->total += bytes;
    }
    s->n_shards = shard + 1;
    return DC_OK;
}

static void shard_name(char out[64], const save *s, int64_t shard)
{
    if (s->n_shards == 1) snprintf(out, 64, "model.safetensors");
    else snprintf(out, 64, "model-%05lld-of-%05lld.safetensors", (long long)shard + 1, (long long)s->n_shards);
}

static int check_chunk(const save *s, const dc_weight *w, int64_t n, int64_t row, dc_error *err)
{
    /* From here on a value rounds to infinity. */
    const double most = s->type == DC_F16 ? 65520.0 : s->type == DC_BF16 ? 0x1.ffp127 : (double)INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)s->x[i]) < most))
            return dc_fail(err, DC_ENUMERIC, "%s: tensor %s: the value %g in row %lld cannot be written as %s%s",
                           s->dir, w->spec.hf, (double)s->x[i], (long long)(row + i / columns_of(w)),
                           dc_dtype_get(s->type)->name, isfinite(s->x[i]) ? "; choose bfloat16 or float32" : "");
    return DC_OK;
}

static int write_tensor(save *s, dc_st_writer *file, const dc_weight *w, dc_error *err)
{
    const int64_t rows = w->spec.shape[0], columns = columns_of(w), most = s->chunk / columns;
    for (int64_t row = 0; row < rows; row += most) {
        const int64_t n = rows - row < most ? rows - row : most;
        int rc = dc_stop_check("the writing of a model", err);
        if (rc) return rc;
        if (s->rows) s->rows(s->context, w, s->x, row, n);
        else dc_weight_rows(s->m, w, s->x, row, n);
        rc = check_chunk(s, w, n * columns, row, err);
        if (rc) return rc;
        s->write(s->bytes, s->x, n * columns);
        rc = dc_st_writer_data(file, s->bytes, (size_t)dc_dtype_bytes(s->type, n * columns), err);
        if (rc) return rc;
    }
    return DC_OK;
}

static int write_shard(save *s, int64_t shard, dc_error *err)
{
    const dc_model *m = s->m;
    dc_st_writer *file = NULL;
    char name[64];
    shard_name(name, s, shard);
    char *path = dc_path_join(s->dir, name);
    int rc = DC_OK;
    if (!path) return dc_fail_memory(err, 0, "a path");
    DC_TRY(dc_st_writer_new(&file, err));
    dc_st_put_metadata(file, "format", "pt");
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_tensor_spec *spec = &m->weights[i].spec;
        if (s->shard_of[i] == shard) dc_st_put_tensor(file, spec->hf, s->type, spec->n_dims, spec->shape);
    }
    DC_TRY(dc_st_writer_begin(file, path, err));
    for (size_t i = 0; i < m->n_weights; i++)
        if (s->shard_of[i] == shard) DC_TRY(write_tensor(s, file, &m->weights[i], err));
    DC_TRY(dc_st_writer_commit(file, err));
done:
    dc_st_writer_free(file);
    dc_free(path);
    return rc;
}

static int save_json(json_t *value, const char *dir, const char *name, dc_error *err)
{
    char *path = dc_path_join(dir, name);
    const int rc = value && path ? dc_json_save(value, path, err) : dc_fail_memory(err, 0, name);
    dc_free(path);
    json_decref(value);
    return rc;
}

static int write_index(const save *s, dc_error *err)
{
    json_t *map = json_object();
    for (size_t i = 0; i < s->m->n_weights; i++) {
        char name[64];
        shard_name(name, s, s->shard_of[i]);
        if (json_object_set_new(map, s->m->weights[i].spec.hf, json_string(name))) {
            json_decref(map);
            return dc_fail_memory(err, 0, "the index of shards");
        }
    }
    return save_json(json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->total, "weight_map", map),
                     s->dir, "model.safetensors.index.json", err);
}

/* Weights of an earlier model would be read instead of, or with, the new ones. */
static int is_stale(const save *s, const char *name)
{
    int shard, of, end = 0;
    if (!strcmp(name, "model.safetensors.index.json")) return s->n_shards == 1;
    if (!strcmp(name, "model.safetensors")) return s->n_shards > 1;
    if (sscanf(name, "model-%5d-of-%5d.safetensors%n", &shard, &of, &end) != 2 || !end || name[end]) return 0;
    return s->n_shards == 1 || of != s->n_shards;
}

static int remove_stale(const save *s, dc_error *err)
{
    char **names;
    size_t n;
    int rc = dc_dir_list(&names, &n, s->dir, err);
    if (rc) return rc;
    for (size_t i = 0; i < n && rc == DC_OK; i++) {
        if (!is_stale(s, names[i])) continue;
        char *path = dc_path_join(s->dir, names[i]);
        if (!path) rc = dc_fail_memory(err, 0, "a path");
        else if (remove(path)) rc = dc_fail_errno(err, "remove", path);
        dc_free(path);
    }
    dc_names_free(names);
    return rc;
}

static int prepare(save *s, int64_t shard_bytes, dc_error *err)
{
    int rc = DC_OK;
    s->chunk = CHUNK_FLOATS;
    for (size_t i = 0; i < s->m->n_weights; i++)
        if (columns_of(&s->m->weights[i]) > s->chunk) s->chunk = columns_of(&s->m->weights[i]);
    s->x = dc_alloc_aligned((size_t)s->chunk * sizeof *s->x);
    s->bytes = dc_alloc_aligned((size_t)s->chunk * sizeof *s->x);
    if (!s->x || !s->bytes) DC_TRY(dc_fail_memory(err, 2 * (size_t)s->chunk * sizeof *s->x, "a chunk of weights"));
    DC_TRY(assign_shards(s, shard_bytes > 0 ? shard_bytes : default_shard, err));
    DC_TRY(dc_mkdirs(s->dir, err));
    DC_TRY(dc_disk_check(s->dir, s->total, "writing the model", err));
done:
    return rc;
}

int dc_model_save(const dc_model *m, const char *dir, dc_dtype type, int64_t shard_bytes, dc_rows_fn *rows,
                  void *context, dc_error *err)
{
    dc_config config = m->config;
    save s = {.m = m, .dir = dir, .type = type, .rows = rows, .context = context};
    int rc = DC_OK;
    if (type == DC_DTYPE_NONE) s.type = config.dtype == DC_F16 || config.dtype == DC_BF16 ? config.dtype : DC_F32;
    if (s.type != DC_F32 && s.type != DC_F16 && s.type != DC_BF16)
        return dc_fail(err, DC_EUSAGE, "%s: an HF directory holds F32, F16 or BF16, not %s", dir,
                       dc_dtype_get(s.type)->name);
    config.dtype = s.type;
    s.write = dc_row_writer(s.type, m->files->features);
    DC_TRY(prepare(&s, shard_bytes, err));
    for (int64_t i = 0; i < s.n_shards; i++) DC_TRY(write_shard(&s, i, err));
    DC_TRY(remove_stale(&s, err));
    if (s.n_shards > 1) DC_TRY(write_index(&s, err));
    rc = save_json(dc_config_to_json(&config), dir, "config.json", err);
done:
    dc_free(s.shard_of);
    dc_free(s.x);
    dc_free(s.bytes);
    return rc;
}
