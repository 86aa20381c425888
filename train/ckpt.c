/* train/ckpt.c -- writing checkpoints. */
#include "train/ckpt.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "train/ckpt_files.h"

int64_t dc_ckpt_bytes(const dc_params *p)
{
    return dc_params_count(p) * 3 * (int64_t)sizeof(float) + (int64_t)p->n * 3 * 256 + (1 << 16);
}

/* One state tensor of every parameter: which of "param", "m" and "v", in pieces through the host. */
static int put_values(dc_st_writer *w, const dc_params *p, const float *flat, float *host, dc_error *err)
{
    int64_t at = 0;
    for (size_t i = 0; i < p->n; i++) {
        const float *from = flat ? flat + at : p->items[i].data;
        for (int64_t done = 0; done < p->items[i].n; done += DC_CKPT_PIECE) {
            const int64_t left = p->items[i].n - done, n = left < DC_CKPT_PIECE ? left : DC_CKPT_PIECE;
            dc_dev_download(p->dev, host, from + done, (size_t)n * sizeof *host);
            const int rc = dc_st_writer_data(w, host, (size_t)n * sizeof *host, err);
            if (rc != DC_OK) return rc;
        }
        at += p->items[i].n;
    }
    return DC_OK;
}

static int save_tensors(const char *dir, const dc_train_state *s, const dc_params *p, dc_error *err)
{
    int rc = DC_OK;
    dc_st_writer *w = NULL;
    char name[512];
    char *path = dc_path_join(dir, DC_CKPT_TENSORS);
    float *host = dc_malloc(DC_CKPT_PIECE * sizeof *host);
    if (!path || !host) {
        rc = dc_fail_memory(err, DC_CKPT_PIECE * sizeof *host, "a checkpoint");
        goto done;
    }
    DC_TRY(dc_st_writer_new(&w, err));
    for (int part = 0; part < DC_CKPT_PARTS; part++)
        for (size_t i = 0; i < p->n; i++) {
            snprintf(name, sizeof name, "%s.%s", dc_ckpt_part[part], p->items[i].name);
            dc_st_put_tensor(w, name, DC_F32, p->items[i].n_dims, p->items[i].shape);
        }
    DC_TRY(dc_st_writer_begin(w, path, err));
    const float *const flat[DC_CKPT_PARTS] = {NULL, s->m, s->v};
    for (int part = 0; part < DC_CKPT_PARTS; part++) DC_TRY(put_values(w, p, flat[part], host, err));
    DC_TRY(dc_st_writer_commit(w, err));
done:
    dc_st_writer_free(w);
    dc_free(host);
    dc_free(path);
    return rc;
}

/* A resume behind the last step has nothing to measure them again with. NaN is left out: JSON has none. */
static void put_loss(json_t *state, const char *name, double value)
{
    if (isfinite(value)) json_object_set_new(state, name, json_real(value));
}

static int save_state(const char *dir, const dc_train_state *s, const dc_params *p, const dc_recipe *r, dc_error *err)
{
    char *path = dc_path_join(dir, DC_CKPT_STATE);
    json_t *state =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:s}", "version", DC_CKPT_VERSION,
                  "step", (json_int_t)s->step, "micro", (json_int_t)s->micro, "tokens", (json_int_t)s->tokens,
                  "trained_tokens", (json_int_t)s->trained_tokens, "position", "epoch", (json_int_t)s->position.epoch,
                  "window", (json_int_t)s->position.window, "bin", (json_int_t)s->position.bin, "metrics_lines",
                  (json_int_t)s->metrics_lines, "evaluated", (json_int_t)s->evaluated, "parameters",
                  (json_int_t)dc_params_count(p), "device", dc_dev_path(p->dev));
    int rc;
    put_loss(state, "loss", s->loss);
    put_loss(state, "eval_loss", s->eval_loss);
    put_loss(state, "eval_kd", s->eval_kd);
    if (!path || !state || (r && json_object_set_new(state, "recipe", dc_recipe_json(r))))
        rc = dc_fail_memory(err, 0, "a checkpoint's state");
    else rc = dc_json_save(state, path, err);
    json_decref(state);
    dc_free(path);
    return rc;
}

/* manifest.json last: sizes and hashes of the other files. */
static int save_manifest(const char *dir, dc_error *err)
{
    static const char *const files[] = {DC_CKPT_TENSORS, DC_CKPT_STATE};
    int rc = DC_OK;
    json_t *manifest = json_object();
    char *path = NULL;
    for (size_t i = 0; manifest && i < sizeof files / sizeof *files; i++) {
        dc_hash hash;
        dc_path_info there;
        path = dc_path_join(dir, files[i]);
        if (!path) goto memory;
        DC_TRY(dc_ckpt_hash(&hash, path, err));
        DC_TRY(dc_path_look(&there, path, err));
        json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)there.size, "xxh3", hash.hex);
        dc_free(path);
        path = NULL;
        if (json_object_set_new(manifest, files[i], entry)) goto memory;
    }
    path = dc_path_join(dir, DC_CKPT_MANIFEST);
    if (!manifest || !path) goto memory;
    DC_TRY(dc_json_save(manifest, path, err));
    goto done;
memory:
    rc = dc_fail_memory(err, 0, "a checkpoint's manifest");
done:
    json_decref(manifest);
    dc_free(path);
    return rc;
}

/* Removes the directories checkpoint-<step><suffix>, but for the `keep` newest. */
static int remove_behind(const char *dir, const char *suffix, size_t keep, dc_error *err)
{
    int rc = DC_OK;
    int64_t *steps = NULL;
    size_t n = 0;
    DC_TRY(dc_ckpt_steps(&steps, &n, dir, suffix, err));
    for (size_t i = keep; i < n && rc == DC_OK; i++) {
        char *path = dc_ckpt_path(dir, steps[i], suffix);
        rc = path ? dc_remove_tree(path, err) : dc_fail_memory(err, 0, "a path");
        dc_free(path);
    }
done:
    dc_free(steps);
    return rc;
}

/* What is newer than the step just saved was found damaged when the run began: it must not count as one of those kept. Staging
 * directories are what a kill left. */
static int rotate(const char *dir, int64_t step, int64_t keep, dc_error *err)
{
    int rc = DC_OK;
    int64_t *steps = NULL;
    size_t n = 0, newer = 0;
    DC_TRY(dc_ckpt_steps(&steps, &n, dir, "", err));
    while (newer < n && steps[newer] > step) newer++;
    DC_TRY(remove_behind(dir, "", newer + (size_t)(keep < 2 ? 2 : keep), err));
    DC_TRY(remove_behind(dir, DC_CKPT_STAGING, 0, err));
done:
    dc_free(steps);
    return rc;
}

int dc_ckpt_save(const char *dir, const dc_train_state *s, const dc_params *p, const dc_recipe *r, int64_t keep,
                 dc_error *err)
{
    int rc = DC_OK;
    dc_path_info there;
    char *path = dc_ckpt_path(dir, s->step, ""), *staging = dc_ckpt_path(dir, s->step, DC_CKPT_STAGING);
    if (!path || !staging) {
        rc = dc_fail_memory(err, 0, "a path");
        goto done;
    }
    DC_TRY(dc_path_look(&there, path, err));
    if (there.exists && dc_ckpt_verify(path, NULL) == DC_OK) goto done; /* the same step, saved before */
    DC_TRY(dc_disk_check(dir, dc_ckpt_bytes(p), "a checkpoint", err));
    DC_TRY(dc_remove_tree(path, err));
    DC_TRY(dc_remove_tree(staging, err));
    DC_TRY(dc_mkdirs(staging, err));
    DC_TRY(save_tensors(staging, s, p, err));
    DC_TRY(save_state(staging, s, p, r, err));
    DC_TRY(save_manifest(staging, err));
    DC_TRY(dc_dir_publish(staging, path, err));
    DC_TRY(rotate(dir, s->step, keep, err));
done:
    if (rc != DC_OK && staging) dc_remove_tree(staging, NULL);
    dc_free(path);
    dc_free(staging);
    return rc;
}

int dc_ckpt_clear(const char *dir, dc_error *err)
{
    int rc = DC_OK;
    char *metrics = dc_path_join(dir, "metrics.jsonl");
    if (!metrics) return dc_fail_memory(err, 0, "a path");
    DC_TRY(remove_behind(dir, "", 0, err));
    DC_TRY(remove_behind(dir, DC_CKPT_STAGING, 0, err));
    DC_TRY(dc_remove_tree(metrics, err));
done:
    dc_free(metrics);
    return rc;
}
