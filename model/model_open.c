/* model/model_open.c -- from files to a model: every tensor is claimed and checked before one is placed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/pool.h"
#include "core/stop.h"
#include "kernels/quant.h"
#include "model/model_build.h"
#include "model/model_source.h"

void dc_source_release(dc_source *s)
{
    dc_free(s->tensors);
    dc_st_close(s->st);
    dc_gguf_close(s->gguf);
    memset(s, 0, sizeof *s);
}

static int by_name(const void *key, const void *item) { return strcmp(key, ((const dc_source_tensor *)item)->name); }

dc_source_tensor *dc_source_find(const dc_source *s, const char *name)
{
    return s->n ? bsearch(name, s->tensors, (size_t)s->n, sizeof *s->tensors, by_name) : NULL;
}

/* ---- claiming ---- */

/* "[49152, 576]" */
static const char *shape_text(char *out, size_t room, int n_dims, const int64_t *shape)
{
    size_t n = (size_t)snprintf(out, room, "[");
    for (int d = 0; d < n_dims && n < room; d++)
        n += (size_t)snprintf(out + n, room - n, "%s%lld", d ? ", " : "", (long long)shape[d]);
    if (n < room) snprintf(out + n, room - n, "]");
    return out;
}

/* Equal, but for ones in front: a GGUF drops them. */
static int same_shape(const dc_source_tensor *t, const dc_tensor_spec *spec)
{
    const int extra = spec->n_dims - t->n_dims;
    if (extra < 0) return 0;
    for (int d = 0; d < spec->n_dims; d++)
        if (spec->shape[d] != (d < extra ? 1 : t->shape[d - extra])) return 0;
    return 1;
}

static int claim(dc_source_tensor **out, const dc_source *s, const dc_tensor_spec *spec, dc_error *err)
{
    const char *name = s->is_gguf ? spec->gguf : spec->hf;
    char found[128], expected[64];
    dc_source_tensor *t = dc_source_find(s, name);
    if (!t)
        return dc_fail(err, DC_EFORMAT, "%s: tensor %s is missing%s", s->path, name,
                       spec->role == DC_W_HEAD ? " (tie_word_embeddings is false)" : "");
    if (!same_shape(t, spec))
        return dc_fail(err, DC_EMISMATCH, "%s: tensor %s has shape %s, expected %s as the config says", t->file, name,
                       shape_text(found, sizeof found, t->n_dims, t->shape),
                       shape_text(expected, sizeof expected, spec->n_dims, spec->shape));
    if (!dc_row_reader(t->type, 0))
        return dc_fail(err, DC_EUNKNOWN, "%s: tensor %s has type %s, which decant does not read; expected %s", t->file,
                       name, dc_dtype_get(t->type)->name, dc_row_readable());
    t->claimed = 1;
    *out = t;
    return DC_OK;
}

/* Frequencies that old checkpoints stored: computed, not learnt. */
static int is_ignored(const dc_source *s, const char *name)
{
    const char *ignored = ".rotary_emb.inv_freq";
    const size_t n = strlen(name), m = strlen(ignored);
    return !s->is_gguf && n >= m && !strcmp(name + n - m, ignored);
}

/* A tied checkpoint may hold the head all the same; then it must be the embedding. */
static int check_tied_head(dc_source *s, const dc_tensor_spec *embed, dc_error *err)
{
    dc_source_tensor *head = s->is_gguf ? NULL : dc_source_find(s, "lm_head.weight");
    const dc_source_tensor *t = dc_source_find(s, embed->hf);
    if (!head || !s->config.tied) return DC_OK;
    if (head->type != t->type || !same_shape(head, embed) || memcmp(head->data, t->data, (size_t)t->bytes))
        return dc_fail(err, DC_EMISMATCH,
                       "%s: tensor lm_head.weight differs from %s although tie_word_embeddings is true; remove one, or "
                       "set tie_word_embeddings to false",
                       head->file, embed->hf);
    head->claimed = 1;
    return DC_OK;
}

static int check_unclaimed(const dc_source *s, dc_error *err)
{
    const dc_source_tensor *first = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->tensors[i].claimed || is_ignored(s, s->tensors[i].name)) continue;
        if (!n++) first = &s->tensors[i];
    }
    if (!n) return DC_OK;
    return dc_fail(err, DC_EUNKNOWN, "%s: tensor %s is none that a model of type '%s' with this config has%s",
                   first->file, first->name,
                   s->is_gguf ? dc_family_gguf_arch(s->config.family) : dc_family_hf_type(s->config.family),
                   n > 1 ? " (nor are others)" : "");
}

/* ---- placing ---- */

/* Rows of a source in HF's order, either as stored or as float. */
typedef struct fill {
    const dc_source_tensor *t;
    const dc_tensor_spec *spec;
    int64_t columns, row_bytes; /* of a stored row */
    int64_t out_bytes;          /* of a row that is made */
    dc_row_read_fn *reader;     /* NULL: as stored */
    int permuted;
    int64_t row, n, task; /* rows [row, row + n) are made now, `task` of them at a time */
    uint8_t *out;
} fill;

/* The GGUF row that HF row `row` comes from: dc_gguf_row's inverse. */
static int64_t stored_row(const dc_tensor_spec *spec, int64_t row)
{
    const int64_t D = spec->shape[0] / spec->permute_heads, r = row % D;
    return row - r + 2 * (r % (D / 2)) + r / (D / 2);
}

static void fill_row(const fill *f, int64_t i)
{
    const int64_t row = f->row + i;
    const uint8_t *from = f->t->data + (f->permuted ? stored_row(f->spec, row) : row) * f->row_bytes;
    if (f->reader) f->reader((float *)(void *)(f->out + i * f->out_bytes), from, f->columns);
    else memcpy(f->out + i * f->out_bytes, from, (size_t)f->row_bytes);
}

static void fill_task(void *context, int64_t i)
{
    const fill *f = context;
    const int64_t end = (i + 1) * f->task < f->n ? (i + 1) * f->task : f->n;
    for (int64_t k = i * f->task; k < end; k++) fill_row(f, k);
}

enum { FILL_BYTES = 1 << 22, TASK_BYTES = 1 << 16 }; /* of a chunk; of a thread's piece of it */

/* Copies a matrix to the device memory `to`, chunk by chunk through host memory. */
static int place_rows(dc_model *m, void *to, fill *f, dc_error *err)
{
    const int64_t rows = f->spec->shape[0];
    int64_t chunk = FILL_BYTES / f->out_bytes;
    if (chunk < 1) chunk = 1;
    if (chunk > rows) chunk = rows;
    f->task = f->out_bytes < TASK_BYTES ? TASK_BYTES / f->out_bytes : 1;
    int rc = DC_OK;
    f->out = dc_alloc_aligned((size_t)(chunk * f->out_bytes));
    if (!f->out) return dc_fail_memory(err, (unsigned long long)(chunk * f->out_bytes), "a chunk of weights");
    for (f->row = 0; f->row < rows; f->row += chunk) {
        const int64_t n = rows - f->row < chunk ? rows - f->row : chunk;
        DC_TRY(dc_stop_check("the loading of weights", err));
        f->n = n;
        dc_pool_for((n + f->task - 1) / f->task, fill_task, f);
        dc_dev_upload(m->dev, (uint8_t *)to + f->row * f->out_bytes, f->out, (size_t)(n * f->out_bytes));
        DC_TRY(dc_dev_sync(m->dev, err));
    }
done:
    dc_free(f->out);
    return rc;
}

static int place_vector(dc_model *m, dc_weight *w, const dc_source *s, const dc_source_tensor *t, dc_error *err)
{
    const int64_t n = w->spec.shape[0];
    int rc = dc_weight_own(m, w, m->trainable, err);
    if (rc) return rc;
    float *x = dc_malloc((size_t)n * 2 * sizeof *x);
    if (!x) return dc_fail_memory(err, (unsigned long long)n * 2 * sizeof *x, w->spec.hf);
    dc_row_reader(t->type, m->files->features)(x, t->data, n);
    if (s->is_gguf && w->spec.permute_heads) {
        for (int64_t i = 0; i < n; i++) x[n + i] = x[stored_row(&w->spec, i)];
        memcpy(x, x + n, (size_t)n * sizeof *x);
    }
    dc_dev_upload(m->dev, (void *)(uintptr_t)w->data.data, x, (size_t)n * sizeof *x);
    rc = dc_dev_sync(m->dev, err);
    dc_free(x);
    return rc;
}

static int is_aligned(const void *data, dc_dtype type) { return (uintptr_t)data % (type == DC_F32 ? 4 : 2) == 0; }

static int place_matrix(dc_model *m, dc_weight *w, const dc_source *s, const dc_source_tensor *t, dc_error *err)
{
    const int permuted = s->is_gguf && w->spec.permute_heads > 0;
    const int64_t columns = w->spec.shape[1];
    fill f = {
        .t = t, .spec = &w->spec, .columns = columns, .row_bytes = t->bytes / w->spec.shape[0], .permuted = permuted};
    int rc;
    if (m->trainable) {
        rc = dc_weight_own(m, w, 1, err);
        if (rc) return rc;
        f.reader = dc_row_reader(t->type, m->files->features);
        f.out_bytes = columns * (int64_t)sizeof(float);
        return place_rows(m, w->owned, &f, err);
    }
    w->data.type = t->type;
    if (!permuted && is_aligned(t->data, t->type))
        return dc_model_import(m, &w->data.data, t->data, (size_t)t->bytes, w->spec.hf, err);
    void *memory;
    rc = dc_model_alloc(m, &memory, (size_t)t->bytes, w->spec.hf, err);
    if (rc) return rc;
    w->data.data = memory;
    f.out_bytes = f.row_bytes;
    return place_rows(m, memory, &f, err);
}

/* ---- opening ---- */

static int check_keep(const dc_model_options *o, int64_t L, const char *path, dc_error *err)
{
    for (size_t i = 0; i < o->n_keep; i++)
        if (o->keep_layers[i] < 0 || o->keep_layers[i] >= L || (i && o->keep_layers[i] <= o->keep_layers[i - 1]))
            return dc_fail(err, DC_EUSAGE,
                           "%s: the layers to keep must ascend within 0 to %lld; number %zu of the list is %lld", path,
                           (long long)(L - 1), i + 1, (long long)o->keep_layers[i]);
    if (!o->n_keep) return dc_fail(err, DC_EUSAGE, "%s: the list of layers to keep is empty", path);
    return DC_OK;
}

int dc_keep_config(dc_config *out, const dc_config *full, const dc_model_options *o, const char *path, dc_error *err)
{
    *out = *full;
    if (!o->keep_layers) return DC_OK;
    out->L = (int64_t)o->n_keep;
    return check_keep(o, full->L, path, err);
}

/* The new layer of an old one, or -1. */
static int64_t kept(const dc_model_options *o, int64_t layer)
{
    if (!o->keep_layers || layer < 0) return layer;
    for (size_t i = 0; i < o->n_keep; i++)
        if (o->keep_layers[i] == layer) return (int64_t)i;
    return -1;
}

typedef struct pair {
    const dc_source_tensor *t;
    dc_weight *w;
} pair;

/* Specs come in the same order for both configs, so the weights of the kept layers are met one after the other. */
static int claim_all(pair **out, dc_source *s, dc_model *m, const dc_model_options *o, dc_error *err)
{
    dc_tensor_spec *specs = NULL;
    pair *pairs = dc_calloc(m->n_weights, sizeof *pairs);
    size_t n = 0, next = 0;
    int rc = DC_OK;
    if (!pairs) return dc_fail_memory(err, m->n_weights * sizeof *pairs, "the table of tensors");
    DC_TRY(dc_config_tensors(&specs, &n, &s->config, err));
    for (size_t i = 0; i < n; i++) {
        dc_source_tensor *t = NULL;
        DC_TRY(claim(&t, s, &specs[i], err));
        if (specs[i].layer >= 0 && kept(o, specs[i].layer) < 0) continue;
        DC_ASSERT(next < m->n_weights && m->weights[next].spec.role == specs[i].role);
        pairs[next] = (pair){t, &m->weights[next]};
        next++;
    }
    DC_ASSERT(next == m->n_weights);
    DC_TRY(check_tied_head(s, &m->embed->spec, err));
    DC_TRY(check_unclaimed(s, err));
    *out = pairs;
done:
    dc_free(specs);
    if (rc) dc_free(pairs);
    return rc;
}

static int load(dc_model **out, dc_dev *dev, dc_source *s, const dc_model_options *o, dc_error *err)
{
    dc_model *m = NULL;
    pair *pairs = NULL;
    dc_config config;
    int rc = DC_OK;
    DC_TRY(dc_keep_config(&config, &s->config, o, s->path, err));
    DC_TRY(dc_model_build(&m, dev, &config, err));
    m->trainable = o->trainable;
    DC_TRY(claim_all(&pairs, s, m, o, err));
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = pairs[i].w;
        const dc_source_tensor *t = pairs[i].t;
        DC_TRY(dc_stop_check("the loading of weights", err));
        if (o->check_finite)
            DC_TRY(dc_source_check_finite(t, w->spec.n_dims == 2 ? w->spec.shape[1] : w->spec.shape[0], err));
        if (w->spec.n_dims == 1) DC_TRY(place_vector(m, w, s, t, err));
        else DC_TRY(place_matrix(m, w, s, t, err));
    }
    m->files->st = s->st, m->files->gguf = s->gguf;
    s->st = NULL, s->gguf = NULL;
    *out = m;
done:
    dc_free(pairs);
    if (rc) dc_model_free(m);
    return rc;
}

static int has_ending(const char *path, const char *ending)
{
    const size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcmp(path + n - m, ending);
}

int dc_model_open(dc_model **out, dc_dev *dev, const char *path, const dc_model_options *options, dc_error *err)
{
    const dc_model_options o = options ? *options : dc_model_defaults();
    dc_source s = {0};
    int rc = DC_OK;
    if (dc_path_is_dir(path)) {
        DC_TRY(dc_source_open_hf(&s, path, err));
    } else if (has_ending(path, ".safetensors")) {
        return dc_fail(err, DC_EUSAGE, "%s: give the directory that holds it and its config.json", path);
    } else {
        DC_TRY(dc_source_open_gguf(&s, path, err));
    }
    rc = load(out, dev, &s, &o, err);
done:
    dc_source_release(&s);
    return rc;
}
