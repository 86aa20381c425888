/* lora/adapter.c -- adapters in memory. */
#include "lora/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "lora/adapter_private.h"

dc_lora_config dc_lora_defaults(void)
{
    static const char *const all[] = {"all-linear"};
    return (dc_lora_config){.r = 8, .lora_alpha = 8, .target_modules = all, .n_targets = 1};
}

static const char **keep_names(dc_lora *l, const char *const *names, size_t n)
{
    const char **copy = dc_arena_alloc(&l->names, (n + 1) * sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = dc_arena_strdup(&l->names, names[i]);
        if (!copy[i]) return NULL;
    }
    return copy;
}

static const dc_pattern *keep_patterns(dc_lora *l, const dc_pattern *patterns, size_t n)
{
    dc_pattern *copy = dc_arena_alloc(&l->names, (n + 1) * sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = (dc_pattern){.key = dc_arena_strdup(&l->names, patterns[i].key), .value = patterns[i].value};
        if (!copy[i].key) return NULL;
    }
    return copy;
}

int dc_lora_keep_config(dc_lora *l, const dc_lora_config *c, dc_error *err)
{
    l->config = *c;
    l->config.target_modules = keep_names(l, c->target_modules, c->n_targets);
    l->config.exclude_modules = keep_names(l, c->exclude_modules, c->n_exclude);
    l->config.rank_pattern = keep_patterns(l, c->rank_pattern, c->n_rank_pattern);
    l->config.alpha_pattern = keep_patterns(l, c->alpha_pattern, c->n_alpha_pattern);
    int64_t *layers = dc_arena_alloc(&l->names, (c->n_layers + 1) * sizeof *layers);
    if (!l->config.target_modules || !l->config.exclude_modules || !l->config.rank_pattern ||
        !l->config.alpha_pattern || !layers)
        return dc_fail_memory(err, 0, "an adapter's config");
    if (c->layers_to_transform) {
        memcpy(layers, c->layers_to_transform, c->n_layers * sizeof *layers);
        l->config.layers_to_transform = layers;
    }
    return DC_OK;
}

/* Floats a tensor takes in the flat buffers: rounded up to 64 bytes, so that each begins aligned. */
static int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

static void describe(dc_lora *l)
{
    const dc_target *first = NULL;
    int mixed = 0;
    for (size_t i = 0; i < l->n_linears; i++) {
        const dc_target *t = &l->targets[i];
        if (!t->r) continue;
        if (!first) first = t;
        mixed |= t->r != first->r || t->alpha != first->alpha;
    }
    if (!first) return;
    const double scale = first->alpha / (l->config.use_rslora ? sqrt((double)first->r) : (double)first->r);
    snprintf(l->description, sizeof l->description, "r=%lld alpha=%g scale=%g on %zu linears%s", (long long)first->r,
             first->alpha, scale, l->n / 2, mixed ? " (first; patterns change others)" : "");
}

static int put_tensor(dc_lora *l, const char *module, const char *half, int64_t rows, int64_t cols, int64_t at,
                      dc_error *err)
{
    char name[192];
    snprintf(name, sizeof name, "base_model.model.%s.%s.weight", module, half);
    dc_lora_tensor *t = &l->tensors[l->n++];
    *t = (dc_lora_tensor){.name = dc_arena_strdup(&l->names, name),
                          .data = l->data + at,
                          .grad = l->grad ? l->grad + at : NULL,
                          .shape = {rows, cols}};
    return t->name ? DC_OK : dc_fail_memory(err, sizeof name, "tensor names");
}

enum { GROUP_MAX = 8 }; /* linears that read the same x */

static size_t narrow_bytes(const dc_lora *l)
{
    const dc_dtype type = l->m->dev->activation;
    return type == DC_F32 ? 0 : (size_t)l->numbers * dc_element_bytes(type);
}

/* What products read for a tensor of the flat buffer. */
static dc_cview operand(const dc_lora *l, const float *data)
{
    const dc_dtype type = l->m->dev->activation;
    if (!l->narrow) return (dc_cview){data, DC_F32};
    return (dc_cview){(const char *)l->narrow + (size_t)(data - l->data) * dc_element_bytes(type), type};
}

static int allocate(dc_lora *l, int train, dc_error *err)
{
    void *memory = NULL;
    for (size_t i = 0; i < l->n_linears; i++) {
        const dc_linear *linear = dc_model_linear_at(l->m, i);
        l->numbers +=
            l->targets[i].r ? padded(l->targets[i].r * linear->in) + padded(l->targets[i].r * linear->out) : 0;
    }
    const size_t bytes = (size_t)l->numbers * sizeof(float);
    int rc = dc_dev_alloc(l->m->dev, &memory, bytes, "adapter", err);
    if (rc != DC_OK) return rc;
    l->data = memory;
    l->m->dev->op.fill(l->m->dev, dc_floats_view(l->data), 0, l->numbers);
    if (l->m->dev->activation != DC_F32) {
        rc = dc_dev_alloc(l->m->dev, &l->narrow, narrow_bytes(l), "adapter", err);
        if (rc != DC_OK) return rc;
    }
    l->m->adapters[l->adapter] = (dc_adapter){l->data, {l->narrow, l->m->dev->activation}, l->numbers};
    if (train) {
        rc = dc_dev_alloc(l->m->dev, &memory, bytes, "gradients of the adapter", err);
        if (rc != DC_OK) return rc;
        l->grad = memory;
        l->m->dev->op.fill(l->m->dev, dc_floats_view(l->grad), 0, l->numbers);
    }
    l->tensors = dc_calloc(2 * l->n_linears, sizeof *l->tensors);
    l->deltas = dc_calloc(l->n_linears, sizeof *l->deltas);
    l->joints = dc_calloc(l->n_linears, sizeof *l->joints);
    return l->tensors && l->deltas && l->joints ? DC_OK
                                                : dc_fail_memory(err, l->n_linears * sizeof *l->deltas, "an adapter");
}

/* Tensors and delta of one linear, whose A and B begin at numbers A and B of the flat buffer. */
static int add_linear(dc_lora *l, size_t i, int64_t A, int64_t B, dc_error *err)
{
    char module[128];
    dc_linear *linear = dc_model_linear_at(l->m, i);
    const dc_target *t = &l->targets[i];
    dc_lora_module(module, sizeof module, linear);
    int rc = put_tensor(l, module, "lora_A", t->r, linear->in, A, err);
    if (rc == DC_OK) rc = put_tensor(l, module, "lora_B", linear->out, t->r, B, err);
    if (rc != DC_OK) return rc;
    const dc_lora_tensor *a = &l->tensors[l->n - 2], *b = &l->tensors[l->n - 1];
    l->deltas[i] = (dc_delta){.A = a->data,
                              .B = b->data,
                              .a = operand(l, a->data),
                              .b = operand(l, b->data),
                              .dA = a->grad,
                              .dB = b->grad,
                              .R = t->r,
                              .scale = (float)(t->alpha / (l->config.use_rslora ? sqrt((double)t->r) : (double)t->r)),
                              .dropout = (float)l->config.lora_dropout,
                              .place = (uint32_t)i};
    DC_ASSERT(!linear->delta[l->adapter]); /* the slot is free */
    linear->delta[l->adapter] = &l->deltas[i];
    return DC_OK;
}

/* Deltas first .. end become joint when there are several, none drops, and their A follow one another without a gap. */
static void join(dc_lora *l, size_t first, size_t end)
{
    dc_joint *j = &l->joints[first];
    int members = 0;
    for (size_t i = first; i < end; i++) {
        dc_delta *d = &l->deltas[i];
        if (!l->targets[i].r) continue;
        if (!members++) j->a = d->a, j->dA = d->dA, j->R = 0;
        if (d->dropout > 0 || d->a.data != dc_cview_at(j->a, j->R * dc_model_linear_at(l->m, i)->in).data) return;
        d->first = j->R;
        j->R += d->R;
    }
    for (size_t i = first; members > 1 && i < end; i++)
        if (l->targets[i].r) l->deltas[i].joint = j;
}

int dc_lora_build(dc_lora *l, int train, dc_error *err)
{
    int64_t at = 0;
    int rc = allocate(l, train, err);
    for (size_t i = 0, end; rc == DC_OK && i < l->n_linears; i = end) {
        int64_t A[GROUP_MAX], B[GROUP_MAX];
        for (end = i; end < l->n_linears && dc_model_first_reader(end) == i; end++) DC_ASSERT(end - i < GROUP_MAX);
        for (size_t k = i; k < end; k++) A[k - i] = at, at += padded(l->targets[k].r * dc_model_linear_at(l->m, k)->in);
        for (size_t k = i; k < end; k++)
            B[k - i] = at, at += padded(l->targets[k].r * dc_model_linear_at(l->m, k)->out);
        for (size_t k = i; rc == DC_OK && k < end; k++)
            if (l->targets[k].r) rc = add_linear(l, k, A[k - i], B[k - i], err);
        if (rc == DC_OK) join(l, i, end);
    }
    if (rc == DC_OK) describe(l);
    return rc;
}

/* A as PEFT's reset_lora_parameters draws it (kaiming_uniform_ with a = sqrt(5) is uniform within 1/sqrt(in)); B stays zero. */
static int initialize(dc_lora *l, uint64_t seed, dc_error *err)
{
    for (size_t i = 0; i < l->n; i += 2) {
        const dc_lora_tensor *A = &l->tensors[i];
        const int64_t n = A->shape[0] * A->shape[1];
        float *host = dc_malloc((size_t)n * sizeof *host);
        if (!host) return dc_fail_memory(err, (size_t)n * sizeof *host, "initial values");
        const float bound = 1.0f / sqrtf((float)A->shape[1]);
        if (l->config.gaussian) dc_rng_normal(host, n, 0, 1.0f / (float)A->shape[0], seed, DC_RNG_LORA, (uint32_t)i);
        else dc_rng_uniform(host, n, -bound, bound, seed, DC_RNG_LORA, (uint32_t)i);
        dc_dev_upload(l->m->dev, A->data, host, (size_t)n * sizeof *host);
        dc_free(host);
    }
    return dc_dev_sync(l->m->dev, err);
}

int dc_lora_new(dc_lora **out, dc_model *m, int adapter, const dc_lora_config *config, uint64_t seed, int train,
                dc_error *err)
{
    int rc = DC_OK;
    DC_ASSERT(adapter >= 0 && adapter < DC_ADAPTERS);
    dc_lora *l = dc_calloc(1, sizeof *l);
    if (!l) return dc_fail_memory(err, sizeof *l, "an adapter");
    l->m = m, l->adapter = adapter, l->n_linears = dc_model_n_linears(m);
    l->targets = dc_calloc(l->n_linears, sizeof *l->targets);
    if (!l->targets) {
        rc = dc_fail_memory(err, l->n_linears * sizeof *l->targets, "an adapter");
        goto done;
    }
    DC_TRY(dc_lora_keep_config(l, config, err));
    DC_TRY(dc_lora_find_targets(l->targets, m, &l->config, err));
    DC_TRY(dc_lora_build(l, train, err));
    DC_TRY(initialize(l, seed, err));
done:
    if (rc == DC_OK) *out = l;
    else dc_lora_free(l);
    return rc;
}

void dc_lora_free(dc_lora *l)
{
    if (!l) return;
    for (size_t i = 0; i < l->n_linears; i++) {
        dc_linear *linear = dc_model_linear_at(l->m, i);
        if (l->deltas && linear->delta[l->adapter] == &l->deltas[i]) linear->delta[l->adapter] = NULL;
    }
    if (l->data) l->m->adapters[l->adapter] = (dc_adapter){0};
    dc_dev_free(l->m->dev, l->data);
    dc_dev_free(l->m->dev, l->narrow);
    dc_dev_free(l->m->dev, l->grad);
    dc_free(l->host);
    dc_free(l->targets);
    dc_free(l->deltas);
    dc_free(l->joints);
    dc_free(l->tensors);
    dc_arena_release(&l->names);
    dc_free(l);
}

int dc_lora_adapter(const dc_lora *l) { return l->adapter; }
size_t dc_lora_n(const dc_lora *l) { return l->n; }
const dc_lora_tensor *dc_lora_at(const dc_lora *l, size_t i) { return &l->tensors[i]; }
const char *dc_lora_describe(const dc_lora *l) { return l->description; }

int64_t dc_lora_parameters(const dc_lora *l)
{
    int64_t n = 0;
    for (size_t i = 0; i < l->n; i++) n += l->tensors[i].shape[0] * l->tensors[i].shape[1];
    return n;
}

dc_floats dc_lora_grads(const dc_lora *l) { return (dc_floats){l->grad, l->grad ? l->numbers : 0}; }
size_t dc_lora_bytes(const dc_lora *l)
{
    return (size_t)l->numbers * sizeof(float) * (l->grad ? 2 : 1) + narrow_bytes(l);
}
