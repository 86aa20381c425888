/* train/ckpt_load.c -- finding and reading checkpoints. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "train/ckpt.h"
#include "train/ckpt_files.h"

const char *const dc_ckpt_part[DC_CKPT_PARTS] = {"param", "m", "v"};

char *dc_ckpt_path(const char *dir, int64_t step, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%" PRId64 "%s", step, suffix);
    return dc_path_join(dir, name);
}

static int newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int dc_ckpt_steps(int64_t **steps, size_t *n, const char *dir, const char *suffix, dc_error *err)
{
    char **names = NULL;
    size_t n_names = 0;
    *steps = NULL, *n = 0;
    int rc = dc_dir_list_if(&names, &n_names, dir, err);
    if (rc != DC_OK) return rc;
    *steps = dc_calloc(n_names + 1, sizeof **steps);
    if (!*steps) rc = dc_fail_memory(err, n_names * sizeof **steps, "a list of checkpoints");
    for (size_t i = 0; rc == DC_OK && i < n_names; i++) {
        char *end;
        if (strncmp(names[i], "checkpoint-", 11) || names[i][11] < '0' || names[i][11] > '9') continue;
        const int64_t step = strtoll(names[i] + 11, &end, 10);
        if (!strcmp(end, suffix)) (*steps)[(*n)++] = step;
    }
    if (rc == DC_OK) qsort(*steps, *n, sizeof **steps, newest_first);
    dc_names_free(names);
    return rc;
}

int dc_ckpt_hash(dc_hash *out, const char *path, dc_error *err)
{
    dc_map map;
    const int rc = dc_map_open(&map, path, err);
    if (rc != DC_OK) return rc;
    *out = dc_hash_bytes(map.data, (size_t)map.size);
    dc_map_close(&map);
    return DC_OK;
}

int dc_ckpt_verify(const char *path, dc_error *err)
{
    int rc = DC_OK;
    json_t *manifest = NULL;
    char *file = dc_path_join(path, DC_CKPT_MANIFEST);
    const char *name;
    json_t *entry;
    dc_path_info there;
    if (!file) return dc_fail_memory(err, 0, "a path");
    DC_TRY(dc_path_look(&there, file, err));
    if (!there.exists) {
        rc = dc_fail(err, DC_EFORMAT, "%s is missing", file);
        goto done;
    }
    DC_TRY(dc_json_load(&manifest, file, err));
    if (!json_object_get(manifest, DC_CKPT_TENSORS) || !json_object_get(manifest, DC_CKPT_STATE)) {
        rc = dc_fail(err, DC_EFORMAT, "%s: a file of the checkpoint is not listed", file);
        goto done;
    }
    json_object_foreach(manifest, name, entry)
    {
        dc_hash hash;
        int64_t bytes;
        const char *hex;
        dc_free(file);
        file = NULL;
        if (strchr(name, '/')) {
            rc = dc_fail(err, DC_EFORMAT, "%s: the manifest names '%s', which is no file of a checkpoint", path, name);
            goto done;
        }
        file = dc_path_join(path, name);
        if (!file) {
            rc = dc_fail_memory(err, 0, "a path");
            goto done;
        }
        DC_TRY(dc_json_i64(&bytes, entry, "bytes", -1, file, err));
        DC_TRY(dc_json_text(&hex, entry, "xxh3", "", file, err));
        DC_TRY(dc_path_look(&there, file, err));
        if (there.size < 0 || there.size != bytes) {
            rc = there.size < 0 ? dc_fail(err, DC_EFORMAT, "%s is missing, and its manifest names it", file)
                                : dc_fail(err, DC_EFORMAT, "%s has %" PRId64 " bytes, its manifest says %" PRId64, file,
                                          there.size, bytes);
            goto done;
        }
        DC_TRY(dc_ckpt_hash(&hash, file, err));
        if (strcmp(hash.hex, hex)) {
            rc = dc_fail(err, DC_EFORMAT, "%s is damaged: its hash is %s, its manifest says %s", file, hash.hex, hex);
            goto done;
        }
    }
done:
    json_decref(manifest);
    dc_free(file);
    return rc;
}

static double get_loss(const json_t *state, const char *name)
{
    const json_t *value = json_object_get(state, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static int read_state(const char *path, dc_train_state *s, const dc_params *p, const dc_recipe *r, const char *stages,
                      dc_error *err)
{
    int rc = DC_OK;
    int64_t version = 0, parameters = 0;
    const char *device = NULL;
    json_t *state = NULL;
    char *file = dc_path_join(path, DC_CKPT_STATE);
    if (!file) return dc_fail_memory(err, 0, "a path");
    DC_TRY(dc_json_load(&state, file, err));
    DC_TRY(dc_json_i64(&version, state, "version", 0, file, err));
    if (version != DC_CKPT_VERSION) {
        rc = dc_fail(err, DC_EFORMAT, "%s has format version %" PRId64 "; this decant reads version %d: %s", file,
                     version, DC_CKPT_VERSION,
                     version > DC_CKPT_VERSION ? "use a newer decant"
                                               : "end the run with an older decant, or begin anew with --restart");
        goto done;
    }
    DC_TRY(dc_json_i64(&parameters, state, "parameters", 0, file, err));
    if (parameters != dc_params_count(p)) {
        rc =
            dc_fail(err, DC_EMISMATCH,
                    "%s is of a run with %" PRId64 " trained numbers, this one has %" PRId64 " (--restart begins anew)",
                    file, parameters, dc_params_count(p));
        goto done;
    }
    const json_t *before = json_object_get(state, "recipe");
    if (r && before) DC_TRY(dc_recipe_resumable(r, stages, before, err));
    const json_t *position = json_object_get(state, "position");
    DC_TRY(dc_json_i64(&s->step, state, "step", 0, file, err));
    DC_TRY(dc_json_i64(&s->micro, state, "micro", 0, file, err));
    DC_TRY(dc_json_i64(&s->tokens, state, "tokens", 0, file, err));
    DC_TRY(dc_json_i64(&s->trained_tokens, state, "trained_tokens", 0, file, err));
    DC_TRY(dc_json_i64(&s->position.epoch, position, "epoch", 0, file, err));
    DC_TRY(dc_json_i64(&s->position.window, position, "window", 0, file, err));
    DC_TRY(dc_json_i64(&s->position.bin, position, "bin", 0, file, err));
    DC_TRY(dc_json_i64(&s->metrics_lines, state, "metrics_lines", 0, file, err));
    DC_TRY(dc_json_i64(&s->evaluated, state, "evaluated", 0, file, err));
    s->loss = get_loss(state, "loss"), s->eval_loss = get_loss(state, "eval_loss"),
    s->eval_kd = get_loss(state, "eval_kd");
    DC_TRY(dc_json_text(&device, state, "device", "", file, err));
    if (strcmp(device, dc_dev_path(p->dev)))
        dc_log(DC_LOG_WARN,
               "the checkpoint was made on another path (%s, now %s): the run goes on, but not to the same bits",
               device, dc_dev_path(p->dev));
done:
    json_decref(state);
    dc_free(file);
    return rc;
}

static int same_shape(const dc_st_tensor *t, const dc_param *p)
{
    int same = t->type == DC_F32 && t->n_dims == p->n_dims && t->bytes == p->n * (int64_t)sizeof(float);
    for (int d = 0; d < p->n_dims && same; d++) same = t->shape[d] == p->shape[d];
    return same;
}

static int read_tensors(const char *path, dc_train_state *s, const dc_params *p, dc_error *err)
{
    int rc = DC_OK;
    dc_st *st = NULL;
    char name[512];
    char *file = dc_path_join(path, DC_CKPT_TENSORS);
    if (!file) return dc_fail_memory(err, 0, "a path");
    DC_TRY(dc_st_open(&st, file, err));
    for (int part = 0; part < DC_CKPT_PARTS; part++) {
        int64_t at = 0;
        for (size_t i = 0; i < p->n; i++) {
            snprintf(name, sizeof name, "%s.%s", dc_ckpt_part[part], p->items[i].name);
            const dc_st_tensor *t = dc_st_find(st, name);
            if (!t || !same_shape(t, &p->items[i])) {
                rc = dc_fail(err, DC_EMISMATCH,
                             "%s: tensor %s %s: the checkpoint is of another set of parameters (--restart begins anew)",
                             file, name, t ? "has another shape than in this run" : "is missing");
                goto done;
            }
            float *to = part == 0 ? p->items[i].data : (part == 1 ? s->m : s->v) + at;
            dc_dev_upload(p->dev, to, t->data, (size_t)t->bytes);
            at += p->items[i].n;
        }
    }
    DC_TRY(dc_dev_sync(p->dev, err));
done:
    dc_st_close(st);
    dc_free(file);
    return rc;
}

int dc_ckpt_load(const char *dir, int *found, dc_train_state *s, const dc_params *p, const dc_recipe *r,
                 const char *stages, dc_error *err)
{
    int rc = DC_OK;
    int64_t *steps = NULL;
    size_t n = 0;
    *found = 0;
    DC_TRY(dc_ckpt_steps(&steps, &n, dir, "", err));
    for (size_t i = 0; i < n && !*found; i++) {
        dc_error damage = {0};
        char *path = dc_ckpt_path(dir, steps[i], "");
        if (!path) {
            rc = dc_fail_memory(err, 0, "a path");
            goto done;
        }
        const int held = dc_ckpt_verify(path, &damage);
        if (held == DC_EIO) {
            rc = dc_fail(err, DC_EIO,
                         "%s.\nThe checkpoint may be whole: make it readable, or move %s away to go on without it.",
                         damage.message, path);
        } else if (held != DC_OK && held != DC_EFORMAT) {
            rc = dc_fail(err, (dc_code)held, "%s", damage.message);
        } else if (held != DC_OK) {
            dc_log(DC_LOG_WARN, "%s is not used: %s", path, damage.message);
        } else {
            rc = read_state(path, s, p, r, stages, err);
            if (rc == DC_OK) rc = read_tensors(path, s, p, err);
            *found = rc == DC_OK;
        }
        dc_free(path);
        if (rc != DC_OK) goto done;
    }
done:
    dc_free(steps);
    return rc;
}
