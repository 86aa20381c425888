/* export/gguf_model.c -- writing a model as GGUF. */
#include "export/gguf_model.h"

#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stop.h"
#include "core/str.h"
#include "export/gguf_private.h"
#include "kernels/quant.h"

/* Types a whole file can be asked for, with llama.cpp's general.file_type. */
static const struct {
    const char *name;
    dc_dtype type;
    uint32_t file_type;
} types[] = {{"f32", DC_F32, 0}, {"f16", DC_F16, 1}, {"bf16", DC_BF16, 32}, {"q8_0", DC_Q8_0, 7}, {"q4_0", DC_Q4_0, 2}};

enum { N_TYPES = sizeof types / sizeof *types };

int dc_export_type(dc_dtype *out, const char *name, dc_error *err)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (!strcmp(types[i].name, name)) {
            *out = types[i].type;
            return DC_OK;
        }
    return dc_fail(err, DC_EUNKNOWN, "export type '%s' is not known; decant writes f32, f16, bf16, q8_0 and q4_0",
                   name);
}

static uint32_t file_type(dc_dtype type)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].type == type) return types[i].file_type;
    return 0;
}

/* The head is the tensor that suffers most from few bits: under Q4_0 it is Q8_0, as llama-quantize also keeps it finer. */
static int is_head(const dc_model *m, const dc_tensor_spec *spec)
{
    return spec->role == DC_W_HEAD || (m->config.tied && spec->role == DC_W_EMBED);
}

dc_dtype dc_export_tensor_type(const dc_model *m, const dc_tensor_spec *spec, dc_dtype asked, int *fallback)
{
    *fallback = 0;
    if (spec->n_dims < 2) return DC_F32;
    if (asked == DC_Q4_0 && is_head(m, spec)) asked = DC_Q8_0;
    if (spec->shape[1] % dc_dtype_get(asked)->block) {
        *fallback = 1;
        return DC_F16;
    }
    return asked;
}

void dc_export_shape(const dc_tensor_spec *spec, int64_t *rows, int64_t *cols)
{
    *rows = spec->n_dims > 1 ? spec->shape[0] : 1;
    *cols = spec->n_dims > 1 ? spec->shape[1] : spec->shape[0];
}

int64_t dc_export_rows(const dc_tensor_spec *spec)
{
    if (spec->n_dims < 2) return 1;
    const int64_t unit = spec->permute_heads ? spec->shape[0] / spec->permute_heads : 1;
    const int64_t n = (16 << 20) / (spec->shape[1] * (int64_t)sizeof(float)) / unit * unit;
    return n < unit ? unit : n;
}

void dc_export_read(const dc_model *m, const dc_export_options *o, const dc_weight *w, float *out, float *work,
                    int64_t row, int64_t n)
{
    float *to = w->spec.permute_heads ? work : out;
    const int64_t cols = w->spec.n_dims > 1 ? w->spec.shape[1] : 1;
    if (w->spec.n_dims < 2) n = w->spec.shape[0]; /* to dc_weight_rows a vector is as many rows of one element */
    if (o->rows) o->rows(o->rows_context, w, to, row, n);
    else dc_weight_rows(m, w, to, row, n);
    if (!w->spec.permute_heads) return;
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * cols, work + (dc_gguf_row(&w->spec, row + i) - row) * cols, (size_t)cols * sizeof *out);
}

int dc_export_has(const dc_model *m, const dc_weight *w)
{
    return w->data.data && !(m->config.tied && w->spec.role == DC_W_HEAD);
}

typedef struct row_job {
    dc_row_write_fn *write;
    char *out;
    const float *x;
    int64_t cols, row_bytes;
} row_job;

static void write_row(void *context, int64_t i)
{
    const row_job *j = context;
    j->write(j->out + i * j->row_bytes, j->x + i * j->cols, j->cols);
}

static int write_tensor(dc_gguf_writer *w, const dc_model *m, const dc_export_options *o, const dc_weight *weight,
                        dc_error *err)
{
    int rc = DC_OK, fallback;
    int64_t rows, cols;
    dc_export_shape(&weight->spec, &rows, &cols);
    const dc_dtype type = dc_export_tensor_type(m, &weight->spec, o->type, &fallback);
    const int64_t block = dc_export_rows(&weight->spec), row_bytes = dc_dtype_bytes(type, cols);
    if (fallback)
        dc_log(DC_LOG_WARN, "%s: rows of %lld are no multiple of %d; written as F16", weight->spec.gguf,
               (long long)cols, dc_dtype_get(o->type)->block);
    float *x = dc_malloc((size_t)(block * cols) * sizeof *x), *work = dc_malloc((size_t)(block * cols) * sizeof *work);
    char *packed = dc_malloc((size_t)(block * row_bytes));
    if (!x || !work || !packed) {
        rc = dc_fail_memory(err, (size_t)(block * cols) * sizeof *x, "rows of a tensor");
        goto done;
    }
    for (int64_t row = 0; row < rows; row += block) {
        const int64_t n = rows - row < block ? rows - row : block;
        DC_TRY(dc_stop_check("export", err));
        dc_export_read(m, o, weight, x, work, row, n);
        const row_job job = {
            .write = dc_row_writer(type, ~0u), .out = packed, .x = x, .cols = cols, .row_bytes = row_bytes};
        dc_pool_for(n, write_row, (void *)&job);
        DC_TRY(dc_gguf_writer_data(w, packed, (size_t)(n * row_bytes), err));
    }
done:
    dc_free(x);
    dc_free(work);
    dc_free(packed);
    return rc;
}

static void put_general(dc_gguf_writer *w, const dc_model *m, const dc_export_options *o, const char *path)
{
    char name[256];
    snprintf(name, sizeof name, "%s", o->name ? o->name : dc_path_base(path));
    char *end = strrchr(name, '.');
    if (!o->name && end && !strcmp(end, ".gguf")) *end = 0;
    dc_gguf_put_str(w, "general.architecture", dc_family_gguf_arch(m->config.family));
    dc_gguf_put_str(w, "general.type", "model");
    dc_gguf_put_str(w, "general.name", name);
    if (o->license) dc_gguf_put_str(w, "general.license", o->license);
    if (o->base_model) {
        dc_gguf_put_u32(w, "general.base_model.count", 1);
        dc_gguf_put_str(w, "general.base_model.0.name", o->base_model);
    }
    dc_gguf_put_u32(w, "general.file_type", file_type(o->type));
    dc_gguf_put_u32(w, "general.quantization_version", 2);
}

/* Everything but the data. */
static int declare(dc_gguf_writer *w, const char *path, const dc_model *m, const dc_tokenizer *t,
                   const dc_export_options *o, dc_export_result *result, dc_error *err)
{
    float factors[DC_ROPE_PAIRS];
    put_general(w, m, o, path);
    int rc = dc_config_put_gguf(&m->config, w, err);
    if (rc == DC_OK) rc = dc_tokenizer_put_gguf(t, w, m->config.V, err);
    if (rc != DC_OK) return rc;
    if (dc_config_rope_freqs(factors, &m->config)) {
        const int64_t ne[1] = {m->config.n_rot / 2};
        dc_gguf_put_tensor(w, "rope_freqs.weight", DC_F32, 1, ne);
        result->tensors++;
    }
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_tensor_spec *spec = &m->weights[i].spec;
        int fallback;
        if (!dc_export_has(m, &m->weights[i])) continue;
        const dc_dtype type = dc_export_tensor_type(m, spec, o->type, &fallback);
        const int64_t ne[2] = {spec->n_dims > 1 ? spec->shape[1] : spec->shape[0],
                               spec->n_dims > 1 ? spec->shape[0] : 1};
        dc_gguf_put_tensor(w, spec->gguf, type, spec->n_dims, ne);
        result->tensors++;
        result->fallbacks += fallback;
    }
    return DC_OK;
}

int dc_export_size(int64_t *bytes, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o, dc_error *err)
{
    dc_gguf_writer *w = NULL;
    dc_export_result result = {0};
    int rc = dc_gguf_writer_new(&w, err);
    if (rc == DC_OK) rc = declare(w, "model.gguf", m, t, o, &result, err);
    if (rc == DC_OK) *bytes = dc_gguf_writer_size(w);
    dc_gguf_writer_free(w);
    return rc;
}

int dc_export_gguf(const char *path, const dc_model *m, const dc_tokenizer *t, const dc_export_options *o,
                   dc_export_result *result, dc_error *err)
{
    int rc = DC_OK;
    dc_gguf_writer *w = NULL;
    dc_str part = {0};
    float factors[DC_ROPE_PAIRS];
    *result = (dc_export_result){0};
    dc_str_putf(&part, "%s.part", path);
    if (part.failed) return dc_fail_memory(err, part.n, "a path");
    DC_TRY(dc_gguf_writer_new(&w, err));
    DC_TRY(declare(w, path, m, t, o, result, err));
    result->bytes = dc_gguf_writer_size(w);
    DC_TRY(dc_disk_check(path, result->bytes, "the export", err));
    DC_TRY(dc_gguf_writer_begin(w, part.data, err));
    if (dc_config_rope_freqs(factors, &m->config))
        DC_TRY(dc_gguf_writer_data(w, factors, (size_t)(m->config.n_rot / 2) * sizeof *factors, err));
    for (size_t i = 0; i < m->n_weights; i++)
        if (dc_export_has(m, &m->weights[i])) DC_TRY(write_tensor(w, m, o, &m->weights[i], err));
    DC_TRY(dc_gguf_writer_commit(w, err));
    DC_TRY(dc_export_check(part.data, m, t, o, &result->worst_error, err));
    DC_TRY(dc_file_publish(part.data, path, err));
done:
    dc_gguf_writer_free(w);
    if (rc != DC_OK) remove(part.data);
    dc_str_release(&part);
    return rc;
}
