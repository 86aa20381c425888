/* cli/session.c */
#include "cli/session.h"

#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"

/* output_dir/recipe.json: the recipe with every default, for the report and for whoever finds the folder. */
static int save_recipe(const dc_session *s, dc_error *err)
{
    char *path = dc_session_path(s, "recipe.json", err);
    json_t *recipe = dc_recipe_json(s->recipe);
    int rc = path ? DC_OK : DC_ENOMEM;
    if (rc == DC_OK) rc = recipe ? dc_json_save(recipe, path, err) : dc_fail_memory(err, 0, "the recipe");
    json_decref(recipe);
    dc_free(path);
    return rc;
}

/* Precisions that the device does not compute in. */
static int check_precision(const dc_recipe *r, const dc_dev *dev, dc_error *err)
{
    static const char *const keys[] = {"train.bf16", "teacher.train.bf16"};
    if (dev->activation == DC_BF16) return DC_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (dc_recipe_bool(r, keys[i]))
            return dc_fail(err, DC_EUSAGE, "%s: %s is not supported on this device; it computes in fp32",
                           dc_recipe_place(r, keys[i]), keys[i]);
    if (strcmp(dc_recipe_str(r, "teacher.compute"), "fp32"))
        return dc_fail(err, DC_EUSAGE, "%s: teacher.compute must be fp32 on this device",
                       dc_recipe_place(r, "teacher.compute"));
    return DC_OK;
}

/* What rank 0 does alone: the folder, its lock, the recipe in it, the first line. */
static int open_folder(dc_session *s, const dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    const char *ranks = dc_comm_describe(s->comm);
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    DC_TRY(dc_mkdirs(s->dir, err));
    DC_TRY(dc_lock_take(&s->lock, s->dir, err));
    DC_TRY(save_recipe(s, err));
    dc_log(DC_LOG_INFO, "decant %s · %s%s%s · %.0f GiB · recipe %s · output %s", DC_VERSION, dc_dev_describe(s->dev),
           *ranks ? " · " : "", ranks, memory / 0x1p30, cli->recipe, s->dir);
    if (*dc_dev_why(s->dev)) dc_log(DC_LOG_DEBUG, "on the CPU: %s", dc_dev_why(s->dev));
done:
    return rc;
}

int dc_session_open(dc_session *s, const dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    *s = (dc_session){.lock = -1, .quiet = cli->json};
    DC_TRY(dc_recipe_load(&s->recipe, cli->recipe, cli->overrides, cli->n_overrides, err));
    dc_dev_options device = dc_dev_defaults();
    device.name = dc_recipe_str(s->recipe, "device");
    device.card = dc_comm_local_rank();
    DC_TRY(dc_dev_open(&s->dev, &device, err));
    DC_TRY(check_precision(s->recipe, s->dev, err));
    s->dir = dc_recipe_str(s->recipe, "output_dir");
    DC_TRY(dc_comm_open(&s->comm, s->dev, err));
    if (!dc_session_first(s)) dc_log_set_level(DC_LOG_ERROR);
    DC_TRY(dc_session_agree(s, dc_session_first(s) ? open_folder(s, cli, err) : DC_OK, err));
done:
    if (rc != DC_OK) dc_session_close(s, rc, err);
    return rc;
}

void dc_session_close(dc_session *s, int rc, const dc_error *err)
{
    const int failed = rc != DC_OK && rc != DC_ESTOPPED;
    /* Ending the others ends this one too, before it could say why. */
    if (failed && dc_comm_size(s->comm) > 1)
        fprintf(stderr, "rank %lld: %s\n", (long long)dc_comm_rank(s->comm), err ? err->message : "failed");
    dc_comm_close(s->comm, failed);
    dc_dev_close(s->dev);
    if (s->lock >= 0) dc_lock_release(s->lock);
    dc_recipe_free(s->recipe);
    *s = (dc_session){.lock = -1};
}

int dc_session_first(const dc_session *s) { return dc_comm_rank(s->comm) == 0; }

int dc_session_agree(const dc_session *s, int rc, dc_error *err)
{
    int of_first = rc;
    const int joined = dc_comm_broadcast(s->comm, &of_first, sizeof of_first, rc == DC_OK ? err : NULL);
    if (rc != DC_OK || joined != DC_OK) return rc != DC_OK ? rc : joined;
    return of_first == DC_OK ? DC_OK : dc_fail(err, (dc_code)of_first, "rank 0 could not go on, and says why");
}

char *dc_session_path(const dc_session *s, const char *below, dc_error *err)
{
    char *path = dc_path_join(s->dir, below);
    if (!path) dc_fail_memory(err, strlen(below), "a path");
    return path;
}

char *dc_session_teacher(const dc_session *s, dc_error *err)
{
    const char *given = dc_recipe_str(s->recipe, "teacher.model");
    if (!given) return dc_session_path(s, "teacher/model", err);
    char *path = dc_strdup(given);
    if (!path) dc_fail_memory(err, strlen(given), "a path");
    return path;
}

int dc_session_tokenizer(dc_tokenizer **out, const dc_session *s, dc_error *err)
{
    const char *path = dc_recipe_str(s->recipe, "tokenizer.path");
    if (!path && dc_recipe_has(s->recipe, "tokenizer.train")) {
        char *trained = dc_session_path(s, "tokenizer", err);
        if (!trained) return DC_ENOMEM;
        const int rc = dc_tokenizer_open(out, trained, err);
        dc_free(trained);
        return rc;
    }
    if (!path) path = dc_recipe_str(s->recipe, "student.model");
    if (!path) path = dc_recipe_str(s->recipe, "teacher.model");
    if (!path)
        return dc_fail(
            err, DC_EUSAGE,
            "the recipe names no tokenizer: give tokenizer.path, tokenizer.train, student.model or teacher.model");
    return dc_tokenizer_open(out, path, err);
}

int dc_session_loader(dc_loader **out, const dc_session *s, dc_set *set, const char *prefix, int in_order,
                      int64_t repeat, const dc_comm *comm, dc_error *err)
{
    char key[96];
    double weights[256];
    snprintf(key, sizeof key, "%s.per_device_train_batch_size", prefix);
    const char *items = strcmp(prefix, "train") ? "teacher.data.train" : "data.train";
    const size_t n = dc_recipe_count(s->recipe, items) < 256 ? dc_recipe_count(s->recipe, items) : 256;
    for (size_t i = 0; i < n; i++) {
        char item[64];
        snprintf(item, sizeof item, "%s[%zu].weight", items, i);
        weights[i] = dc_recipe_real(s->recipe, item);
    }
    const dc_loader_options o = {
        .seed = (uint64_t)(dc_recipe_int(s->recipe, "seed") + repeat),
        .shuffle = !in_order && dc_recipe_bool(s->recipe, "data.shuffle"),
        .packing = dc_recipe_bool(s->recipe, "data.packing"),
        .max_length = dc_recipe_int(s->recipe, "data.max_length"),
        .batch_size = dc_recipe_int(s->recipe, key),
        .weights = in_order ? NULL : weights,
        .n_weights = in_order ? 0 : n,
        .ranks = dc_comm_size(comm),
        .rank = dc_comm_rank(comm),
    };
    return dc_loader_new(out, set, &o, err);
}

/* The config.json of a section "teacher.init.config" or "student.init.config". */
static int scratch_config(dc_config *out, const dc_session *s, const char *section, int64_t vocabulary, dc_error *err)
{
    static const char *const ints[] = {
        "hidden_size",         "intermediate_size", "num_hidden_layers",      "num_attention_heads",
        "num_key_value_heads", "head_dim",          "max_position_embeddings"};
    char key[96];
    json_t *config = json_object();
#define KEY(name) (snprintf(key, sizeof key, "%s.%s", section, name), key)
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        const int64_t value = dc_recipe_int(s->recipe, KEY(ints[i]));
        if (value) json_object_set_new(config, ints[i], json_integer((json_int_t)value));
    }
    json_object_set_new(config, "model_type", json_string(dc_recipe_str(s->recipe, KEY("model_type"))));
    json_object_set_new(config, "rope_theta", json_real(dc_recipe_real(s->recipe, KEY("rope_theta"))));
    json_object_set_new(config, "rms_norm_eps", json_real(dc_recipe_real(s->recipe, KEY("rms_norm_eps"))));
    json_object_set_new(config, "tie_word_embeddings",
                        json_boolean(dc_recipe_bool(s->recipe, KEY("tie_word_embeddings"))));
    json_object_set_new(config, "vocab_size", json_integer((json_int_t)vocabulary));
    json_object_set_new(config, "torch_dtype", json_string("float32"));
    json_object_set_new(config, "hidden_act", json_string("silu"));
#undef KEY
    const int rc = dc_config_from_json(out, config, section, err);
    json_decref(config);
    return rc;
}

int dc_session_scratch(dc_model **out, const dc_session *s, const char *section, dc_error *err)
{
    dc_tokenizer *t = NULL;
    dc_config config;
    int rc = dc_session_tokenizer(&t, s, err);
    if (rc == DC_OK) rc = scratch_config(&config, s, section, dc_tokenizer_size(t), err);
    if (rc == DC_OK) {
        config.bos = dc_tokenizer_bos(t), config.eos = dc_tokenizer_eos(t);
        rc = dc_model_init(out, s->dev, &config, (uint64_t)dc_recipe_int(s->recipe, "seed"), err);
    }
    dc_tokenizer_free(t);
    return rc;
}

static int pruned_student(dc_model **out, const dc_session *s, int trainable, dc_error *err)
{
    int64_t keep[512];
    size_t n = dc_recipe_count(s->recipe, "student.init.prune_layers");
    dc_model_options o = dc_model_defaults();
    if (n > 512) return dc_fail(err, DC_EUSAGE, "student.init.prune_layers: at most 512 layers");
    for (size_t i = 0; i < n; i++) {
        char *end;
        const char *text = dc_recipe_str_at(s->recipe, "student.init.prune_layers", i);
        keep[i] = strtoll(text, &end, 10);
        if (end == text || *end)
            return dc_fail(err, DC_EUSAGE, "%s: student.init.prune_layers must be layer numbers, not '%s'",
                           dc_recipe_place(s->recipe, "student.init.prune_layers"), text);
    }
    o.trainable = trainable, o.keep_layers = keep, o.n_keep = n;
    char *teacher = dc_session_teacher(s, err);
    if (!teacher) return DC_ENOMEM;
    const int rc = dc_model_open(out, s->dev, teacher, &o, err);
    dc_free(teacher);
    return rc;
}

int dc_session_student(dc_model **out, const dc_session *s, int trainable, dc_error *err)
{
    const char *path = dc_recipe_str(s->recipe, "student.model");
    if (path) {
        dc_model_options o = dc_model_defaults();
        o.trainable = trainable;
        return dc_model_open(out, s->dev, path, &o, err);
    }
    if (dc_recipe_has(s->recipe, "student.init.prune_layers")) return pruned_student(out, s, trainable, err);
    if (dc_recipe_has(s->recipe, "student.init.config")) return dc_session_scratch(out, s, "student.init.config", err);
    return dc_fail(err, DC_EUSAGE,
                   "the recipe names no student: give student.model, student.init.prune_layers or student.init.config");
}

/* Files of an HF directory that say what the model computes. */
static int is_model_file(const char *name)
{
    const size_t n = strlen(name);
    return (n > 12 && !strcmp(name + n - 12, ".safetensors")) || !strcmp(name, "config.json") ||
           !strcmp(name, "tokenizer.json") || !strcmp(name, "adapter_config.json") ||
           !strcmp(name, "tokenizer_config.json");
}

int dc_session_hash_model(dc_hash *out, const char *path, dc_error *err)
{
    int rc = DC_OK;
    char **names = NULL, *file = NULL;
    size_t n = 0;
    if (!dc_path_is_dir(path)) return dc_hash_file(out, path, err);
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    DC_TRY(dc_dir_list(&names, &n, path, err));
    for (size_t i = 0; i < n; i++) {
        dc_hash one;
        if (!is_model_file(names[i])) continue;
        dc_free(file);
        file = dc_path_join(path, names[i]);
        if (!file) {
            rc = dc_fail_memory(err, 0, "a path");
            goto done;
        }
        DC_TRY(dc_hash_file(&one, file, err));
        dc_hasher_add_text(h, names[i]);
        dc_hasher_add_text(h, one.hex);
    }
    *out = dc_hasher_get(h);
done:
    dc_free(file);
    dc_names_free(names);
    dc_hasher_free(h);
    return rc;
}
