/* model/model.c -- a model's life and its accessors: built from a config, filled with new weights or a copy, freed. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"
#include "core/stop.h"
#include "kernels/cpu.h"
#include "model/model_build.h"

dc_model_options dc_model_defaults(void) { return (dc_model_options){.check_finite = 1}; }

int64_t dc_spec_count(const dc_tensor_spec *spec)
{
    return spec->n_dims == 2 ? spec->shape[0] * spec->shape[1] : spec->shape[0];
}

/* ---- building ---- */

static void link_weight(dc_model *m, dc_weight *w)
{
    dc_layer *l = w->spec.layer >= 0 ? &m->layers[w->spec.layer] : NULL;
    switch (w->spec.role) {
    case DC_W_EMBED: m->embed = w; break;
    case DC_W_FINAL_NORM: m->final_norm = w; break;
    case DC_W_HEAD: m->head.w = w; break;
    case DC_W_ATTN_NORM: l->attn_norm = w; break;
    case DC_W_FFN_NORM: l->ffn_norm = w; break;
    case DC_W_Q_NORM: l->q_norm = w; break;
    case DC_W_K_NORM: l->k_norm = w; break;
    case DC_W_Q: l->q.w = w; break;
    case DC_W_Q_BIAS: l->q.bias = w; break;
    case DC_W_K: l->k.w = w; break;
    case DC_W_K_BIAS: l->k.bias = w; break;
    case DC_W_V: l->v.w = w; break;
    case DC_W_V_BIAS: l->v.bias = w; break;
    case DC_W_O: l->o.w = w; break;
    case DC_W_O_BIAS: l->o.bias = w; break;
    case DC_W_GATE: l->gate.w = w; break;
    case DC_W_GATE_BIAS: l->gate.bias = w; break;
    case DC_W_UP: l->up.w = w; break;
    case DC_W_UP_BIAS: l->up.bias = w; break;
    case DC_W_DOWN: l->down.w = w; break;
    case DC_W_DOWN_BIAS: l->down.bias = w; break;
    case DC_W_ROLES: break;
    }
}

static void size_linear(dc_linear *l)
{
    l->out = l->w->spec.shape[0];
    l->in = l->w->spec.shape[1];
}

static int build_weights(dc_model *m, dc_error *err)
{
    dc_tensor_spec *specs = NULL;
    size_t n = 0;
    int rc = DC_OK;
    DC_TRY(dc_config_tensors(&specs, &n, &m->config, err));
    m->weights = dc_calloc(n, sizeof *m->weights);
    m->layers = dc_calloc((size_t)m->config.L, sizeof *m->layers);
    if (!m->weights || !m->layers) DC_TRY(dc_fail_memory(err, n * sizeof *m->weights, "the table of weights"));
    m->n_weights = n;
    for (size_t i = 0; i < n; i++) {
        m->weights[i].spec = specs[i];
        m->weights[i].data.type = DC_F32;
        link_weight(m, &m->weights[i]);
    }
    if (!m->head.w) m->head.w = m->embed;
    size_linear(&m->head);
    for (size_t i = 0; i < dc_model_n_linears(m); i++) size_linear(dc_model_linear_at(m, i));
done:
    dc_free(specs);
    return rc;
}

static int build_frequencies(dc_model *m, dc_error *err)
{
    float host[DC_ROPE_PAIRS];
    const size_t bytes = (size_t)(m->config.n_rot / 2) * sizeof *host;
    void *memory;
    const int rc = dc_model_alloc(m, &memory, bytes, "rotary frequencies", err);
    if (rc) return rc;
    dc_rope_frequencies(host, &m->config);
    m->inv_freq = memory;
    dc_dev_upload(m->dev, memory, host, bytes);
    return dc_dev_sync(m->dev, err);
}

int dc_model_build(dc_model **out, dc_dev *dev, const dc_config *config, dc_error *err)
{
    int rc = dc_config_check(config, "model config", err);
    if (rc) return rc;
    dc_model *m = dc_calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(err, sizeof *m, "a model");
    m->config = *config;
    m->dev = dev;
    m->files = dc_calloc(1, sizeof *m->files);
    if (!m->files) DC_TRY(dc_fail_memory(err, sizeof *m->files, "a model"));
    DC_TRY(dc_cpu_allowed(&m->files->features, err));
    DC_TRY(build_weights(m, err));
    DC_TRY(build_frequencies(m, err));
    *out = m;
done:
    if (rc) dc_model_free(m);
    return rc;
}

static dc_held *hold(dc_model *m, dc_error *err)
{
    dc_model_files *f = m->files;
    if (!dc_grow(&f->held, f->n_held, &f->room, sizeof *f->held)) return &f->held[f->n_held];
    dc_fail_memory(err, sizeof *f->held, "the list of a model's memory");
    return NULL;
}

int dc_model_alloc(dc_model *m, void **out, size_t bytes, const char *what, dc_error *err)
{
    dc_held *h = hold(m, err);
    if (!h) return DC_ENOMEM;
    const int rc = dc_dev_alloc(m->dev, out, bytes, what, err);
    if (rc) return rc;
    *h = (dc_held){*out, NULL};
    m->files->n_held++;
    return DC_OK;
}

int dc_model_import(dc_model *m, const void **out, const void *host, size_t bytes, const char *what, dc_error *err)
{
    dc_held *h = hold(m, err);
    if (!h) return DC_ENOMEM;
    const int rc = dc_dev_import(m->dev, out, host, bytes, what, err);
    if (rc) return rc;
    *h = (dc_held){NULL, *out};
    m->files->n_held++;
    return DC_OK;
}

void dc_model_free(dc_model *m)
{
    if (!m) return;
    if (m->files) {
        for (size_t i = m->files->n_held; i-- > 0;) {
            if (m->files->held[i].memory) dc_dev_free(m->dev, m->files->held[i].memory);
            else dc_dev_drop(m->dev, m->files->held[i].imported);
        }
        dc_free(m->files->held);
        dc_st_close(m->files->st);
        dc_gguf_close(m->files->gguf);
        dc_free(m->files);
    }
    dc_free(m->weights);
    dc_free(m->layers);
    dc_free(m);
}

/* ---- new weights ---- */

int dc_weight_own(dc_model *m, dc_weight *w, int gradient, dc_error *err)
{
    const size_t n = (size_t)dc_spec_count(&w->spec);
    void *memory;
    int rc = dc_model_alloc(m, &memory, n * sizeof(float), w->spec.hf, err);
    if (rc) return rc;
    w->data = (dc_cview){memory, DC_F32};
    if (!gradient) return DC_OK;
    w->owned = memory;
    rc = dc_model_alloc(m, &memory, n * sizeof(float), "gradients", err);
    if (rc) return rc;
    w->grad = memory;
    m->dev->op.fill(m->dev, dc_floats_view(w->grad), 0, (int64_t)n);
    return DC_OK;
}

static void new_values(float *x, int64_t n, const dc_weight *w, int64_t L, uint64_t seed, uint32_t place)
{
    const float std = w->spec.role == DC_W_O || w->spec.role == DC_W_DOWN ? 0.02f / sqrtf(2.0f * (float)L) : 0.02f;
    if (w->spec.n_dims == 2) {
        dc_rng_normal(x, n, 0, std, seed, DC_RNG_INIT, place);
        return;
    }
    const int norm = w->spec.role == DC_W_ATTN_NORM || w->spec.role == DC_W_FFN_NORM || w->spec.role == DC_W_Q_NORM ||
                     w->spec.role == DC_W_K_NORM || w->spec.role == DC_W_FINAL_NORM;
    for (int64_t i = 0; i < n; i++) x[i] = norm ? 1.0f : 0.0f;
}

int dc_model_init(dc_model **out, dc_dev *dev, const dc_config *config, uint64_t seed, dc_error *err)
{
    dc_model *m = NULL;
    float *x = NULL;
    int rc = dc_model_build(&m, dev, config, err);
    if (rc) return rc;
    m->trainable = 1;
    size_t most = 0;
    for (size_t i = 0; i < m->n_weights; i++) {
        const size_t n = (size_t)dc_spec_count(&m->weights[i].spec);
        if (n > most) most = n;
    }
    x = dc_malloc(most * sizeof *x);
    if (!x) DC_TRY(dc_fail_memory(err, most * sizeof *x, "new weights"));
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        const int64_t n = dc_spec_count(&w->spec);
        DC_TRY(dc_stop_check("the making of new weights", err));
        DC_TRY(dc_weight_own(m, w, 1, err));
        new_values(x, n, w, m->config.L, seed, (uint32_t)i);
        dc_dev_upload(dev, w->owned, x, (size_t)n * sizeof *x);
        DC_TRY(dc_dev_sync(dev, err));
    }
    *out = m;
done:
    dc_free(x);
    if (rc) dc_model_free(m);
    return rc;
}

/* ---- accessors ---- */

dc_weight *dc_model_find(const dc_model *m, dc_role role, int64_t layer)
{
    for (size_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].spec.role == role && m->weights[i].spec.layer == layer) return &m->weights[i];
    return NULL;
}

dc_weight *dc_model_find_hf(const dc_model *m, const char *hf_name)
{
    for (size_t i = 0; i < m->n_weights; i++)
        if (!strcmp(m->weights[i].spec.hf, hf_name)) return &m->weights[i];
    return NULL;
}

size_t dc_model_n_linears(const dc_model *m) { return 7 * (size_t)m->config.L; }

dc_linear *dc_model_linear_at(const dc_model *m, size_t i)
{
    dc_layer *l = &m->layers[i / 7];
    dc_linear *const linears[7] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return linears[i % 7];
}

size_t dc_model_first_reader(size_t i)
{
    static const size_t first[7] = {0, 0, 0, 3, 4, 4, 6};
    return i / 7 * 7 + first[i % 7];
}

dc_linear *dc_model_linear(const dc_model *m, const char *hf_module)
{
    const size_t n = strlen(hf_module);
    for (size_t i = 0; i < dc_model_n_linears(m); i++) {
        dc_linear *l = dc_model_linear_at(m, i);
        if (!strncmp(l->w->spec.hf, hf_module, n) && !strcmp(l->w->spec.hf + n, ".weight")) return l;
    }
    return NULL;
}

int64_t dc_model_parameters(const dc_model *m)
{
    int64_t n = 0;
    for (size_t i = 0; i < m->n_weights; i++) n += dc_spec_count(&m->weights[i].spec);
    return n;
}

int64_t dc_model_bytes(const dc_model *m)
{
    int64_t n = 0;
    for (size_t i = 0; i < m->n_weights; i++)
        n += dc_dtype_bytes(m->weights[i].data.type, dc_spec_count(&m->weights[i].spec));
    return n;
}

int64_t dc_gguf_row(const dc_tensor_spec *spec, int64_t row)
{
    if (!spec->permute_heads) return row;
    const int64_t D = spec->shape[0] / spec->permute_heads, r = row % D;
    return row - r + (r % 2) * (D / 2) + r / 2;
}
