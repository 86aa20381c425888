/* cli/bench_step.c -- one step of LoRA training, whole and by parts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/student.h"
#include "core/arena.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/stop.h"
#include "train/objective.h"

enum { LAYERS = 30, QUICK_LAYERS = 6, RANK = 16, MAX_KINDS = 64, DOCUMENT = 2048 };

typedef struct step {
    dc_model *model;
    void *weights; /* the model's matrices in the device's type; NULL: as they are */
    dc_lora *lora;
    dc_params params;
    dc_plan *plan;
    dc_objective *objective;
    float *m, *v; /* AdamW's moments */
    dc_adamw_item *items;
    dc_packed batch;
    int64_t T, B; /* B documents, of DOCUMENT tokens but for the last */
    int32_t *ids, *pos, *rows, *labels, *cu, *cu_rows;
    float *weight;
    int64_t *docs;
    double forward, head, backward, update; /* seconds of the last step */
} step;

/* The fastest step: its parts, and its kinds of operations. */
typedef struct best {
    double forward, head, backward, update, total;
    dc_profile_row rows[MAX_KINDS];
    size_t n;
} best;

static int model_new(dc_model **out, dc_dev *dev, int layers, dc_error *err)
{
    int rc = DC_OK;
    dc_config config;
    dc_model *whole = NULL;
    const dc_model_options frozen = dc_model_defaults();
    json_t *json = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:i, s:s, s:s}", "model_type", "llama",
                             "hidden_size", 576, "intermediate_size", 1536, "num_hidden_layers", layers,
                             "num_attention_heads", 9, "num_key_value_heads", 3, "vocab_size", 49152, "rope_theta",
                             100000.0, "rms_norm_eps", 1e-5, "tie_word_embeddings", 1, "max_position_embeddings", 8192,
                             "torch_dtype", "float32", "hidden_act", "silu");
    DC_TRY(dc_config_from_json(&config, json, "the benchmark's config", err));
    DC_TRY(dc_model_init(&whole, dev, &config, 1, err));
    DC_TRY(dc_model_copy(out, whole, &frozen, err));
done:
    dc_model_free(whole);
    json_decref(json);
    return rc;
}

/* Published checkpoints are in bf16, and products on a device of that type read them as they are. */
static int narrow_weights(step *s, dc_dev *dev, dc_error *err)
{
    int rc = DC_OK;
    int64_t bytes = 0;
    dc_model *m = s->model;
    if (dev->activation == DC_F32) return DC_OK;
    for (size_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].spec.n_dims == 2)
            bytes +=
                m->weights[i].spec.shape[0] * m->weights[i].spec.shape[1] * (int64_t)dc_element_bytes(dev->activation);
    DC_TRY(dc_dev_alloc(dev, &s->weights, (size_t)bytes, "a benchmark's weights", err));
    char *to = s->weights;
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        if (w->spec.n_dims != 2) continue;
        const dc_view narrow = {to, dev->activation};
        const int64_t n = w->spec.shape[0] * w->spec.shape[1];
        dev->op.narrow(dev, narrow, w->data.data, n);
        w->data = dc_view_read(narrow);
        to += n * (int64_t)dc_element_bytes(dev->activation);
    }
done:
    return rc;
}

/* Each token is the label of the one before it. */
static int batch_new(step *s, dc_error *err)
{
    const size_t T = (size_t)s->T, B = (size_t)s->B;
    s->cu = dc_calloc(B + 1, sizeof *s->cu), s->cu_rows = dc_calloc(B + 1, sizeof *s->cu_rows);
    s->docs = dc_calloc(B, sizeof *s->docs);
    s->ids = dc_calloc(T, sizeof *s->ids), s->pos = dc_calloc(T, sizeof *s->pos);
    s->rows = dc_calloc(T, sizeof *s->rows), s->labels = dc_calloc(T, sizeof *s->labels);
    s->weight = dc_calloc(T, sizeof *s->weight);
    return s->ids && s->pos && s->rows && s->labels && s->weight && s->cu && s->cu_rows && s->docs
               ? DC_OK
               : dc_fail_memory(err, T * 20, "a benchmark");
}

static void batch_fill(step *s, int64_t V)
{
    const int32_t T = (int32_t)s->T;
    int32_t M = 0;
    for (int32_t t = 0; t < T; t++) {
        uint32_t u[4];
        dc_rng_u32x4(u, 1, DC_RNG_TEST, (uint64_t)t, 0);
        s->ids[t] = (int32_t)(u[0] % (uint32_t)V), s->pos[t] = t % DOCUMENT;
    }
    for (int32_t b = 0; b < (int32_t)s->B; b++) {
        s->cu[b + 1] = b + 1 < (int32_t)s->B ? (b + 1) * DOCUMENT : T;
        for (int32_t t = s->cu[b]; t + 1 < s->cu[b + 1]; t++, M++)
            s->rows[M] = t, s->labels[M] = s->ids[t + 1], s->weight[M] = 1;
        s->cu_rows[b + 1] = M, s->docs[b] = b;
    }
    s->batch = (dc_packed){.T = T,
                           .B = s->B,
                           .M = M,
                           .ids = s->ids,
                           .pos = s->pos,
                           .cu_seqlens = s->cu,
                           .rows = s->rows,
                           .labels = s->labels,
                           .weight = s->weight,
                           .docs = s->docs,
                           .cu_rows = s->cu_rows};
}

static int moments(float **out, dc_dev *dev, int64_t n, dc_error *err)
{
    void *memory = NULL;
    const int rc = dc_dev_alloc(dev, &memory, (size_t)n * sizeof(float), "AdamW's moments", err);
    if (rc != DC_OK) return rc;
    *out = memory;
    dev->op.fill(dev, dc_floats_view(*out), 0, n);
    return DC_OK;
}

static int list_items(step *s, dc_error *err)
{
    int64_t at = 0;
    s->items = dc_calloc(s->params.n, sizeof *s->items);
    if (!s->items) return dc_fail_memory(err, s->params.n * sizeof *s->items, "a benchmark");
    for (size_t i = 0; i < s->params.n; i++) {
        const dc_param *p = &s->params.items[i];
        s->items[i] = (dc_adamw_item){p->data, s->m + at, s->v + at, p->grad, p->n, 1, 0};
        at += p->n;
    }
    return DC_OK;
}

static int step_open(step *s, const dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    dc_lora_config config = dc_lora_defaults();
    s->T = b->tokens, s->B = (s->T + DOCUMENT - 1) / DOCUMENT;
    const dc_plan_options plan = {.max_tokens = s->T, .max_docs = s->B, .max_rows = s->T, .adapter = 0, .backward = 1};
    config.r = RANK, config.lora_alpha = 2 * RANK;
    DC_TRY(model_new(&s->model, b->dev, b->quick ? QUICK_LAYERS : LAYERS, err));
    DC_TRY(narrow_weights(s, b->dev, err));
    DC_TRY(dc_lora_new(&s->lora, s->model, 0, &config, 1, 1, err));
    DC_TRY(dc_student_params(&s->params, s->model, s->lora, err));
    DC_TRY(dc_plan_new(&s->plan, s->model, &plan, err));
    DC_TRY(dc_objective_cross_entropy(&s->objective, s->model, 0, err));
    DC_TRY(moments(&s->m, b->dev, dc_params_count(&s->params), err));
    DC_TRY(moments(&s->v, b->dev, dc_params_count(&s->params), err));
    DC_TRY(list_items(s, err));
    DC_TRY(batch_new(s, err));
    batch_fill(s, s->model->config.V);
done:
    return rc;
}

static void step_release(step *s, dc_dev *dev)
{
    if (s->objective) s->objective->free(s->objective);
    dc_plan_free(s->plan);
    dc_dev_free(dev, s->m);
    dc_dev_free(dev, s->v);
    dc_free(s->items);
    dc_free(s->ids), dc_free(s->pos), dc_free(s->rows), dc_free(s->labels), dc_free(s->weight);
    dc_free(s->cu), dc_free(s->cu_rows), dc_free(s->docs);
    dc_params_release(&s->params);
    dc_lora_free(s->lora);
    dc_model_free(s->model);
    dc_dev_free(dev, s->weights);
}

static int update(step *s, int64_t number, dc_error *err)
{
    double norm;
    const int rc = dc_params_grad_norm(&s->params, &norm, err);
    const dc_adamw a = {
        .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .grad_scale = norm > 1 ? 1 / norm : 1, .step = number};
    if (rc == DC_OK) s->params.dev->op.adamw(s->params.dev, s->items, s->params.n, &a);
    return rc;
}

static int run_step(step *s, int64_t number, dc_error *err)
{
    int rc = DC_OK;
    dc_losses losses = {0};
    const dc_batch batch = dc_batch_of(&s->batch);
    const dc_run run = {.adapter = 0, .training = 1, .seed = 1, .step = (uint32_t)number};
    const double t0 = dc_now();
    dc_params_zero_grad(&s->params);
    dc_forward(s->plan, &batch, &run);
    DC_TRY(dc_dev_sync(s->params.dev, err));
    const double t1 = dc_now();
    DC_TRY(s->objective->run(s->objective, s->plan, &s->batch, &run, (double)s->batch.M, 1, &losses, err));
    const double t2 = dc_now();
    dc_backward(s->plan);
    DC_TRY(dc_dev_sync(s->params.dev, err));
    const double t3 = dc_now();
    DC_TRY(update(s, number, err));
    DC_TRY(dc_dev_sync(s->params.dev, err));
    s->forward = t1 - t0, s->head = t2 - t1, s->backward = t3 - t2, s->update = dc_now() - t3;
done:
    return rc;
}

static int by_seconds(const void *a, const void *b)
{
    const double x = ((const dc_profile_row *)a)->seconds, y = ((const dc_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

static void keep_best(best *k, step *s)
{
    best now = {.forward = s->forward, .head = s->head, .backward = s->backward, .update = s->update};
    now.total = s->forward + s->head + s->backward + s->update;
    if (k->total == 0 || now.total < k->total) *k = now;
}

/* Kinds of operations of the plan, slowest first. */
static void tell_kinds(dc_bench *b, best *k)
{
    char name[64];
    qsort(k->rows, k->n, sizeof *k->rows, by_seconds);
    dc_bench_group(b, "the same step by kind of operation");
    for (size_t i = 0; i < k->n; i++) {
        if (k->rows[i].seconds <= 0) continue;
        snprintf(name, sizeof name, "%-14s %4lld calls", k->rows[i].name, (long long)k->rows[i].calls);
        dc_bench_row(b, name, k->rows[i].seconds, k->rows[i].flops, k->rows[i].bytes);
    }
}

/* The head reads its weight for each chunk, both ways; logits are written, turned into their gradient in place, and read. */
static double head_bytes(const step *s)
{
    const dc_config *c = &s->model->config;
    const dc_weight *w = s->model->head.w;
    const int64_t M = s->batch.M, chunk = dc_head_chunk(s->model, 0), chunks = (M + chunk - 1) / chunk;
    const double weight = (double)dc_dtype_bytes(w->data.type, c->V * c->C);
    return 2 * (double)chunks * weight + 16.0 * (double)(M * c->V) +
           2 * (double)dc_dtype_bytes(s->model->dev->activation, M * c->C);
}

static void tell(dc_bench *b, const step *s, best *k)
{
    char title[96], name[64];
    const dc_config *c = &s->model->config;
    const double T = (double)s->T, trained = (double)dc_params_count(&s->params);
    double flops =
        4.0 * (double)s->batch.M * (double)c->V * (double)c->C; /* the head: logits, and back to the hidden rows */
    double bytes = head_bytes(s);
    snprintf(title, sizeof title, "a LoRA step, %lld layers, %lld tokens", (long long)c->L, (long long)s->T);
    dc_bench_group(b, title);
    dc_bench_row(b, "forward", k->forward, 0, 0);
    dc_bench_row(b, "head and loss", k->head, flops, bytes);
    dc_bench_row(b, "backward", k->backward, 0, 0);
    dc_bench_row(b, "norm, clipping, AdamW", k->update, 0, 32 * trained); /* 4 and 28 bytes each */
    for (size_t i = 0; i < k->n; i++) flops += k->rows[i].flops, bytes += k->rows[i].bytes;
    bytes += 36 * trained; /* the gradients are zeroed before the forward */
    snprintf(name, sizeof name, "whole: %.0f tokens a second", T / k->total);
    dc_bench_row(b, name, k->total, flops, bytes);
    tell_kinds(b, k);
    b->step = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "layers", (json_int_t)c->L, "tokens",
                        (json_int_t)s->T, "seconds", k->total, "tokens_per_second", T / k->total, "forward", k->forward,
                        "head_and_loss", k->head, "backward", k->backward, "update", k->update, "plan_bytes",
                        (json_int_t)dc_plan_bytes(s->plan), "weight_bytes", (json_int_t)dc_model_bytes(s->model));
}

int dc_bench_step(dc_bench *b, dc_error *err)
{
    int rc = DC_OK;
    best k = {0};
    step *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a benchmark");
    DC_TRY(step_open(s, b, err));
    /* Three until a card replays its passes; then once more, each kind of operation waited for. */
    const int64_t steps = b->queued ? 6 : b->quick ? 2 : 4;
    for (int64_t i = 1; i <= steps + 1; i++) {
        DC_TRY(dc_stop_check("bench", err));
        if (i > steps) dc_plan_profile(s->plan, 1);
        DC_TRY(run_step(s, i, err));
        if (i <= steps) keep_best(&k, s);
    }
    k.n = dc_plan_profile_rows(s->plan, k.rows, MAX_KINDS);
    tell(b, s, &k);
done:
    step_release(s, b->dev);
    dc_free(s);
    return rc;
}
