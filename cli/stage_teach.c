/* cli/stage_teach.c -- the teacher: made from scratch when the recipe says so, then its targets captured. */
#include <stdio.h>
#include <string.h>

#include "cli/hf_dir.h"
#include "cli/session.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "distill/kd.h"
#include "distill/teach.h"
#include "train/loop.h"

/* Tokens of a capture's batch: the set's longest documents fit, and GEMMs are large enough. */
enum { CAPTURE_TOKENS = 1024, CAPTURE_DOCS = 64 };

/* ---- a teacher from scratch ---- */

static int save_model(const dc_session *s, const dc_model *m, const char *dir, dc_error *err)
{
    int rc = DC_OK;
    dc_tokenizer *t = NULL;
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(dc_hf_save(dir, m, t, DC_DTYPE_NONE, NULL, NULL, err));
done:
    dc_tokenizer_free(t);
    return rc;
}

typedef struct scratch {
    dc_model *model;
    dc_set *set, *eval_set;
    dc_loader *loader, *eval_loader;
    dc_plan *plan;
    dc_objective *objective;
    dc_params params;
    char *data, *dir, *out;
} scratch;

static void scratch_release(scratch *k)
{
    if (k->objective) k->objective->free(k->objective);
    dc_plan_free(k->plan);
    dc_loader_free(k->loader);
    dc_loader_free(k->eval_loader);
    dc_set_close(k->set);
    dc_set_close(k->eval_set);
    dc_params_release(&k->params);
    dc_model_free(k->model);
    dc_free(k->data);
    dc_free(k->dir);
    dc_free(k->out);
}

static int scratch_open(scratch *k, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    int64_t T, B, M;
    k->data = dc_session_path(s, "data", err), k->dir = dc_session_path(s, "teacher/train", err);
    k->out = dc_session_path(s, "teacher/model", err);
    if (!k->data || !k->dir || !k->out) return DC_ENOMEM;
    DC_TRY(dc_session_scratch(&k->model, s, "teacher.init.config", err));
    DC_TRY(dc_set_open(&k->set, k->data, "teacher", err));
    DC_TRY(dc_session_loader(&k->loader, s, k->set, "teacher.train", 0, 0, NULL, err));
    dc_loader_bounds(k->loader, &T, &B, &M);
    const dc_plan_options o = {.max_tokens = T,
                               .max_docs = B,
                               .max_rows = M,
                               .adapter = -1,
                               .backward = 1,
                               .checkpoint = dc_recipe_bool(s->recipe, "teacher.train.gradient_checkpointing")};
    DC_TRY(dc_plan_new(&k->plan, k->model, &o, err));
    DC_TRY(dc_objective_cross_entropy(&k->objective, k->model, 0, err));
    DC_TRY(dc_params_add_model(&k->params, k->model, err));
done:
    return rc;
}

static int make_teacher(const dc_session *s, json_t *summary, json_t *times, dc_error *err)
{
    int rc = DC_OK;
    scratch k = {0};
    dc_train_result result;
    DC_TRY(scratch_open(&k, s, err));
    dc_trainer t = {.plan = k.plan,
                    .params = &k.params,
                    .objective = k.objective,
                    .loader = k.loader,
                    .adapter = -1,
                    .dir = k.dir,
                    .stage = "teacher",
                    .recipe = s->recipe,
                    .recipe_stages = "s",
                    .restart = s->restart};
    dc_train_options_from_recipe(&t.options, s->recipe, "teacher.train");
    DC_TRY(dc_train(&t, &result, err));
    DC_TRY(save_model(s, k.model, k.out, err));
    json_object_set_new(summary, "teacher",
                        json_pack("{s:I, s:I, s:f}", "parameters", (json_int_t)dc_model_parameters(k.model), "steps",
                                  (json_int_t)result.steps, "loss", result.loss));
    json_object_set_new(times, "teacher_training", json_real(result.seconds));
    dc_log(DC_LOG_INFO, "teach     teacher trained from scratch: %lld parameters, %lld steps, loss %.3f → %s",
           (long long)dc_model_parameters(k.model), (long long)result.steps, result.loss, k.out);
done:
    scratch_release(&k);
    return rc;
}

/* ---- the capture ---- */

static void describe(dc_store_info *info, const dc_session *s, const dc_set *set, int64_t vocabulary, dc_hash teacher)
{
    const dc_recipe *r = s->recipe;
    const int topk = !strcmp(dc_recipe_str(r, "distill.targets"), "topk");
    const dc_set_info *data = dc_set_info_of(set);
    *info = (dc_store_info){
        .kind = topk ? DC_TARGETS_TOPK : DC_TARGETS_SAMPLED,
        .n_samples = topk ? 0 : dc_recipe_int(r, "distill.n_samples"),
        .topk = topk ? dc_recipe_int(r, "distill.topk") : 0,
        .temperature = dc_recipe_real(r, "distill.temperature"),
        .vocab_size = vocabulary,
        .seed = (uint64_t)dc_recipe_int(r, "seed"),
        .teacher = teacher,
        .data = dc_set_hash(set),
        .tokenizer = data->tokenizer,
        .chat_template = data->chat_template,
    };
}

int dc_session_store_info(dc_store_info *info, const dc_session *s, const dc_set *set, int64_t vocabulary,
                          dc_error *err)
{
    dc_hash teacher;
    char *path = dc_session_teacher(s, err);
    if (!path) return DC_ENOMEM;
    const int rc = dc_session_hash_model(&teacher, path, err);
    dc_free(path);
    if (rc == DC_OK) describe(info, s, set, vocabulary, teacher);
    return rc;
}

/* A longest document decides the least that a batch must hold. */
static int64_t longest(const dc_set *set)
{
    int64_t n = 0;
    for (int64_t d = 0; d < dc_set_docs(set); d++) n = dc_set_doc_length(set, d) > n ? dc_set_doc_length(set, d) : n;
    return n;
}

/* Mass, angle and NLL are of the targets that this process captured. */
static void tell(const char *name, const dc_store_info *info, const dc_teach_result *r, int64_t targets,
                 json_t *summary, json_t *times)
{
    char tokens[32], bytes[32], seconds[32];
    const double per_row = targets ? (double)r->bytes / (double)targets : 0;
    dc_human_count(tokens, sizeof tokens, targets);
    dc_human_bytes(bytes, sizeof bytes, (double)r->bytes);
    dc_human_time(seconds, sizeof seconds, r->seconds);
    json_object_set_new(summary, name,
                        json_pack("{s:I, s:I, s:f}", "targets", (json_int_t)targets, "bytes", (json_int_t)r->bytes,
                                  "bytes_per_target", per_row));
    json_t *time = json_pack("{s:f, s:I}", "seconds", r->seconds, "targets", (json_int_t)r->rows);
    json_object_set_new(times, name, time);
    if (!r->rows) {
        dc_log(DC_LOG_INFO, "teach     done    %s: %s targets · %.1f B/token · %s · captured before", name, tokens,
               per_row, bytes);
        return;
    }
    json_object_set_new(time, "teacher_nll", json_real(r->teacher_nll));
    json_object_set_new(time, "mass", json_real(r->mass));
    json_object_set_new(time, "angle", json_real(r->angle));
    dc_log(DC_LOG_INFO,
           "teach     done    %s: %s, %s targets · %.1f B/token · %s · mass kept %.1f %% · angle to full %.1f° · "
           "teacher's NLL %.3f   %s",
           name, info->kind == DC_TARGETS_SAMPLED ? "sampled" : "top-k", tokens, per_row, bytes, 100 * r->mass,
           r->angle, r->teacher_nll, seconds);
}

static int capture_set(const dc_session *s, dc_model *teacher, const char *data, const char *dir, const char *name,
                       json_t *summary, json_t *times, dc_error *err)
{
    int rc = DC_OK;
    dc_set *set = NULL;
    dc_plan *plan = NULL;
    dc_store_info info;
    dc_teach_result result;
    DC_TRY(dc_set_open(&set, data, name, err));
    const int64_t T = longest(set) > CAPTURE_TOKENS ? longest(set) : CAPTURE_TOKENS;
    const dc_plan_options o = {.max_tokens = T, .max_docs = CAPTURE_DOCS, .max_rows = T, .adapter = -1};
    DC_TRY(dc_plan_new(&plan, teacher, &o, err));
    DC_TRY(dc_session_store_info(&info, s, set, teacher->config.V, err));
    DC_TRY(dc_disk_check(
        dir, dc_set_trained(set) * (info.kind == DC_TARGETS_SAMPLED ? 2 * info.n_samples : 5 * info.topk) + (1 << 20),
        "the teacher's targets", err));
    DC_TRY(dc_teach(&result, plan, -1, set, dir, name, &info, err));
    tell(name, &info, &result, dc_set_trained(set), summary, times);
done:
    dc_plan_free(plan);
    dc_set_close(set);
    return rc;
}

static int capture(const dc_session *s, dc_stage *stage, dc_error *err)
{
    int rc = DC_OK;
    dc_model *teacher = NULL;
    dc_tokenizer *t = NULL, *own = NULL;
    int has_eval;
    char *path = dc_session_teacher(s, err), *data = dc_session_path(s, "data", err),
         *dir = dc_session_path(s, "teacher", err);
    const dc_model_options o = dc_model_defaults();
    if (!path || !data || !dir) {
        rc = DC_ENOMEM;
        goto done;
    }
    /* Ids in the shards are the student's: the teacher must read them in the same sense. */
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(dc_tokenizer_open(&own, path, err));
    DC_TRY(dc_tokenizer_same(own, t, "teacher", "student", err));
    DC_TRY(dc_model_open(&teacher, s->dev, path, &o, err));
    if (dc_tokenizer_size(t) > teacher->config.V) {
        rc = dc_fail(err, DC_EMISMATCH, "the tokenizer has %lld entries, the teacher %s only %lld rows of embedding",
                     (long long)dc_tokenizer_size(t), path, (long long)teacher->config.V);
        goto done;
    }
    DC_TRY(capture_set(s, teacher, data, dir, "train", stage->summary, stage->times, err));
    DC_TRY(dc_set_there(&has_eval, data, "eval", err));
    if (has_eval) DC_TRY(capture_set(s, teacher, data, dir, "eval", stage->summary, stage->times, err));
done:
    dc_model_free(teacher);
    dc_tokenizer_free(t);
    dc_tokenizer_free(own);
    dc_free(path);
    dc_free(data);
    dc_free(dir);
    return rc;
}

static int stage_key(dc_hash *out, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    dc_hash data, model;
    const dc_hash keys = dc_recipe_hash(s->recipe, 't'), scratch_keys = dc_recipe_hash(s->recipe, 's');
    const char *given = dc_recipe_str(s->recipe, "teacher.model");
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    DC_TRY(dc_stage_output(&data, s, "prepare", "data", err));
    dc_hasher_add_text(h, keys.hex);
    dc_hasher_add_text(h, data.hex);
    if (dc_recipe_has(s->recipe, "teacher.init")) dc_hasher_add_text(h, scratch_keys.hex);
    if (given) {
        DC_TRY(dc_session_hash_model(&model, given, err));
        dc_hasher_add_text(h, model.hex);
    }
    *out = dc_hasher_get(h);
done:
    dc_hasher_free(h);
    return rc;
}

int dc_stage_teach(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_hash key;
    dc_stage stage = {0};
    const dc_recipe *r = s->recipe;
    const int scratch_wanted = dc_recipe_has(r, "teacher.init"),
              offline = dc_recipe_has(r, "distill") && strcmp(dc_recipe_str(r, "distill.mode"), "online");
    if (!dc_recipe_has(r, "teacher"))
        return dc_fail(err, DC_EUSAGE, "the recipe has no teacher: give teacher.model or teacher.init");
    DC_TRY(stage_key(&key, s, err));
    DC_TRY(dc_stage_begin(&stage, &kept, s, "teach", "teacher", scratch_wanted ? "pst" : "pt", key, err));
    if (kept) goto done;
    if (scratch_wanted) DC_TRY(make_teacher(s, stage.summary, stage.times, err));
    if (offline) DC_TRY(capture(s, &stage, err));
    DC_TRY(dc_stage_end(&stage, s, key, err));
done:
    dc_stage_release(&stage);
    return rc;
}
