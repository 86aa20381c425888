/* model/weights.c -- what weights hold: rows as float, hash, copies. */
#include "core/arena.h"
#include "core/json.h"
#include "core/stop.h"
#include "kernels/quant.h"
#include "model/model_build.h"

enum { PIECE = 1 << 14, CHUNK = 1 << 22 }; /* bytes */

/* In pieces that fit in the first cache, so that one path serves host and device memory without an allocation. */
void dc_weight_rows(const dc_model *m, const dc_weight *w, float *out, int64_t row, int64_t n)
{
    const dc_dtype_info *info = dc_dtype_get(w->data.type);
    const int64_t columns = w->spec.n_dims == 2 ? w->spec.shape[1] : 1;
    const int64_t blocks = n * columns / info->block, piece = PIECE / info->bytes;
    const uint8_t *from = (const uint8_t *)w->data.data + row * columns / info->block * info->bytes;
    dc_row_read_fn *read = dc_row_reader(w->data.type, m->files->features);
    _Alignas(64) uint8_t bytes[PIECE];
    for (int64_t i = 0; i < blocks; i += piece) {
        const int64_t count = blocks - i < piece ? blocks - i : piece;
        dc_dev_download(m->dev, bytes, from + i * info->bytes, (size_t)(count * info->bytes));
        read(out + i * info->block, bytes, count * info->block);
    }
}

static int hash_weight(dc_hasher *h, const dc_model *m, const dc_weight *w, uint8_t *buffer, dc_error *err)
{
    const int64_t bytes = dc_dtype_bytes(w->data.type, dc_spec_count(&w->spec));
    dc_hasher_add_text(h, w->spec.hf);
    dc_hasher_add_i64(h, w->data.type);
    for (int64_t i = 0; i < bytes; i += CHUNK) {
        const size_t n = (size_t)(bytes - i < CHUNK ? bytes - i : CHUNK);
        const int rc = dc_stop_check("the hashing of weights", err);
        if (rc) return rc;
        dc_dev_download(m->dev, buffer, (const uint8_t *)w->data.data + i, n);
        dc_hasher_add(h, buffer, n);
    }
    return DC_OK;
}

int dc_model_hash(dc_hash *out, const dc_model *m, dc_error *err)
{
    int rc = DC_OK;
    dc_str text = {0};
    json_t *config = dc_config_to_json(&m->config);
    dc_hasher *h = dc_hasher_new();
    uint8_t *buffer = dc_malloc(CHUNK);
    if (config) dc_json_dump(&text, config, 0);
    if (!config || !h || !buffer || text.failed) DC_TRY(dc_fail_memory(err, CHUNK, "the hash of a model"));
    dc_hasher_add_text(h, dc_str_text(&text));
    for (size_t i = 0; i < m->n_weights; i++) DC_TRY(hash_weight(h, m, &m->weights[i], buffer, err));
    *out = dc_hasher_get(h);
done:
    dc_free(buffer);
    dc_hasher_free(h);
    json_decref(config);
    dc_str_release(&text);
    return rc;
}

static int copy_weight(dc_model *to, dc_weight *w, const dc_model *from, const dc_weight *source, float *buffer,
                       dc_error *err)
{
    const int64_t rows = w->spec.shape[0], columns = w->spec.n_dims == 2 ? w->spec.shape[1] : 1;
    const int64_t most = CHUNK / (int64_t)sizeof *buffer / columns, chunk = most < 1 ? 1 : most;
    int rc = dc_weight_own(to, w, to->trainable, err);
    if (rc) return rc;
    float *memory = (float *)(uintptr_t)w->data.data;
    for (int64_t row = 0; row < rows; row += chunk) {
        const int64_t n = rows - row < chunk ? rows - row : chunk;
        DC_TRY(dc_stop_check("the copying of weights", err));
        dc_weight_rows(from, source, buffer, row, n);
        dc_dev_upload(to->dev, memory + row * columns, buffer, (size_t)(n * columns) * sizeof *buffer);
        DC_TRY(dc_dev_sync(to->dev, err));
    }
done:
    return rc;
}

/* Floats that a chunk of any weight's rows takes. */
static size_t copy_room(const dc_model *m)
{
    int64_t most = CHUNK / (int64_t)sizeof(float);
    for (size_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].spec.n_dims == 2 && m->weights[i].spec.shape[1] > most) most = m->weights[i].spec.shape[1];
    return (size_t)most;
}

int dc_model_copy(dc_model **out, const dc_model *from, const dc_model_options *options, dc_error *err)
{
    dc_model_options o = options ? *options : dc_model_defaults();
    dc_model *m = NULL;
    float *buffer = NULL;
    dc_config config;
    int rc = DC_OK;
    if (!options) o.trainable = 1;
    DC_TRY(dc_keep_config(&config, &from->config, &o, "the model", err));
    DC_TRY(dc_model_build(&m, from->dev, &config, err));
    m->trainable = o.trainable;
    buffer = dc_malloc(copy_room(from) * sizeof *buffer);
    if (!buffer) DC_TRY(dc_fail_memory(err, copy_room(from) * sizeof *buffer, "a chunk of weights"));
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        const int64_t layer = w->spec.layer >= 0 && o.keep_layers ? o.keep_layers[w->spec.layer] : w->spec.layer;
        const dc_weight *source = dc_model_find(from, w->spec.role, layer);
        DC_ASSERT(source);
        DC_TRY(copy_weight(m, w, from, source, buffer, err));
    }
    *out = m;
done:
    dc_free(buffer);
    if (rc) dc_model_free(m);
    return rc;
}
