/* tests/train/train_kit.h -- a tiny model in training: documents on disk, loaders, plan, adapter or all weights, objective. */
#ifndef DC_TESTS_TRAIN_TRAIN_KIT_H
#define DC_TESTS_TRAIN_TRAIN_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "core/str.h"
#include "lora/adapter.h"
#include "tests/core/temp.h"
#include "tests/model/tiny.h"
#include "train/loop.h"

/* Set `name` of n documents of 4 to 11 tokens in the temporary folder; the first token is no target, two in three others are. */
static inline void kit_documents(const char *name, int64_t n, int64_t vocab_size)
{
    dc_shard_writer *w = NULL;
    dc_error err = {0};
    const dc_set_info info = {.vocab_size = vocab_size,
                              .max_length = 16,
                              .tokenizer = dc_hash_bytes("t", 1),
                              .settings = dc_hash_bytes("s", 1)};
    int rc = dc_shard_writer_new(&w, temp_dir, name, &info, &err);
    for (int64_t d = 0; rc == DC_OK && d < n; d++) {
        int32_t ids[16];
        uint8_t mask[16];
        uint32_t u[4];
        const int64_t length = 4 + d * 7 % 8;
        for (int64_t i = 0; i < length; i++) {
            dc_rng_u32x4(u, 3, DC_RNG_TEST, (uint64_t)d, (uint32_t)i);
            ids[i] = (int32_t)(u[0] % (uint32_t)vocab_size);
            mask[i] = i > 0 && (u[1] % 3 != 0 || i == 1);
        }
        const dc_doc doc = {.ids = ids, .mask = mask, .n = length, .row = (uint64_t)d, .weight = 1};
        rc = dc_shard_writer_add(w, &doc, &err);
    }
    if (rc == DC_OK) rc = dc_shard_writer_commit(w, &err);
    dc_shard_writer_free(w);
    if (rc != DC_OK) fail_msg("%s", err.message);
}

typedef struct kit_options {
    int lora; /* an adapter with dropout; else all weights */
    int64_t batch_size;
    int packing, shuffle, eval;
} kit_options;

typedef struct kit {
    dc_dev *dev;
    dc_model *m;
    dc_lora *lora;
    dc_set *set, *eval_set;
    dc_plan *plan;
    dc_params params;
    dc_trainer t;
} kit;

static inline void kit_check(int rc, const dc_error *err)
{
    if (rc != DC_OK) fail_msg("%s", err->message);
}

static inline dc_loader *kit_loader(kit *k, dc_set **set, const char *name, const kit_options *o)
{
    dc_error err = {0};
    dc_loader *l = NULL;
    const dc_loader_options lo = {
        .seed = 5, .shuffle = o->shuffle, .packing = o->packing, .max_length = 24, .batch_size = o->batch_size};
    (void)k;
    kit_check(dc_set_open(set, temp_dir, name, &err), &err);
    kit_check(dc_loader_new(&l, *set, &lo, &err), &err);
    return l;
}

/* Everything anew, the same each time; trained in the temporary folder's `dir`. */
static inline void kit_open(kit *k, const char *dir, const kit_options *o)
{
    static char dirs[4][160];
    static unsigned next;
    dc_error err = {0};
    int64_t T, B, M, eT = 0, eB = 0, eM = 0;
    char *path = dirs[next++ % 4];
    snprintf(path, sizeof dirs[0], "%s/%s", temp_dir, dir);
    *k = (kit){.dev = tiny_dev()};
    k->m = tiny_model(k->dev, LLAMA, o->lora);
    k->params.dev = k->dev;
    k->t = (dc_trainer){.params = &k->params,
                        .adapter = -1,
                        .dir = path,
                        .stage = "train",
                        .options = {.max_steps = 4,
                                    .gradient_accumulation_steps = 1,
                                    .save_total_limit = 2,
                                    .seed = 9,
                                    .adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1},
                                    .schedule = {.type = DC_SCHEDULE_CONSTANT, .learning_rate = 1e-2}}};
    if (o->lora) {
        dc_lora_config c = dc_lora_defaults();
        c.r = 2, c.lora_dropout = 0.3;
        kit_check(dc_lora_new(&k->lora, k->m, 0, &c, 4, 1, &err), &err);
        for (size_t i = 0; i < dc_lora_n(k->lora); i++) {
            const dc_lora_tensor *t = dc_lora_at(k->lora, i);
            const dc_param p = {.name = t->name,
                                .data = t->data,
                                .grad = t->grad,
                                .n = t->shape[0] * t->shape[1],
                                .n_dims = 2,
                                .shape = {t->shape[0], t->shape[1]},
                                .lr_scale = 1,
                                .decay = 1};
            kit_check(dc_params_add(&k->params, &p, &err), &err);
        }
        k->t.adapter = 0;
    } else {
        kit_check(dc_params_add_model(&k->params, k->m, &err), &err);
    }
    k->t.loader = kit_loader(k, &k->set, "train", o);
    dc_loader_bounds(k->t.loader, &T, &B, &M);
    if (o->eval) {
        k->t.eval_loader = kit_loader(k, &k->eval_set, "eval", o);
        dc_loader_bounds(k->t.eval_loader, &eT, &eB, &eM);
    }
    const dc_plan_options po = {.max_tokens = T > eT ? T : eT,
                                .max_docs = B > eB ? B : eB,
                                .max_rows = M > eM ? M : eM,
                                .adapter = k->t.adapter,
                                .backward = 1};
    kit_check(dc_plan_new(&k->plan, k->m, &po, &err), &err);
    kit_check(dc_objective_cross_entropy(&k->t.objective, k->m, 0, &err), &err);
    k->t.plan = k->plan;
}

static inline void kit_close(kit *k)
{
    if (k->t.objective) k->t.objective->free(k->t.objective);
    dc_plan_free(k->plan);
    dc_loader_free(k->t.loader);
    dc_loader_free(k->t.eval_loader);
    dc_set_close(k->set);
    dc_set_close(k->eval_set);
    dc_params_release(&k->params);
    dc_lora_free(k->lora);
    dc_model_free(k->m);
    dc_dev_close(k->dev);
}

/* The greatest difference between the parameters of two kits; 0: the same bits. */
static inline double kit_difference(const kit *a, const kit *b)
{
    double most = 0;
    assert_int_equal(a->params.n, b->params.n);
    for (size_t i = 0; i < a->params.n; i++) {
        const dc_param *x = &a->params.items[i], *y = &b->params.items[i];
        if (!memcmp(x->data, y->data, (size_t)x->n * sizeof(float))) continue;
        for (int64_t j = 0; j < x->n; j++) {
            const double d = (double)x->data[j] - (double)y->data[j];
            most = d > most ? d : -d > most ? -d : most;
            if (d != d) return d;
        }
        if (most == 0) most = 1e-300; /* other bits, of -0 */
    }
    return most;
}

/* metrics.jsonl of a run, parsed, without the keys of time. */
static inline json_t *kit_metrics(const char *dir)
{
    char name[64];
    dc_str text = {0};
    json_t *list = json_array();
    snprintf(name, sizeof name, "%s/metrics.jsonl", dir);
    assert_int_equal(dc_file_read(&text, temp_path(name), 1 << 20, NULL), DC_OK);
    for (char *at = text.data, *end; at && *at; at = end + 1) {
        end = strchr(at, '\n');
        assert_non_null(end);
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        assert_non_null(line);
        json_object_del(line, "seconds");
        json_object_del(line, "eval_seconds");
        json_array_append_new(list, line);
    }
    dc_str_release(&text);
    return list;
}

static inline double kit_number(const json_t *list, size_t i, const char *key)
{
    const json_t *value = json_object_get(json_array_get(list, i), key);
    if (!json_is_number(value)) fail_msg("line %zu of the metrics has no number %s", i, key);
    return json_number_value(value);
}
#endif
