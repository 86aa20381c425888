/* cli/stage_train.c -- the student: model, adapter, objective and data put together, trained, saved; then the control. */
#include <stdio.h>
#include <string.h>

#include "cli/hf_dir.h"
#include "cli/session.h"
#include "cli/student.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "distill/kd.h"
#include "train/loop.h"

/* Everything a run of training holds. */
typedef struct student {
    dc_model *model, *teacher;
    dc_lora *lora;
    dc_set *set, *eval_set;
    dc_loader *loader, *eval_loader;
    dc_store *store, *eval_store;
    dc_plan *plan, *teacher_plan;
    dc_objective *objective, *eval_objective;
    dc_params params;
    char *data, *targets;
} student;

static void student_release(student *k)
{
    if (k->eval_objective && k->eval_objective != k->objective) k->eval_objective->free(k->eval_objective);
    if (k->objective) k->objective->free(k->objective);
    dc_plan_free(k->plan);
    dc_plan_free(k->teacher_plan);
    dc_store_close(k->store);
    dc_store_close(k->eval_store);
    dc_loader_free(k->loader);
    dc_loader_free(k->eval_loader);
    dc_set_close(k->set);
    dc_set_close(k->eval_set);
    dc_params_release(&k->params);
    dc_lora_free(k->lora);
    dc_model_free(k->model);
    dc_model_free(k->teacher);
    dc_free(k->data);
    dc_free(k->targets);
}

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Bounds of a plan that serves both loaders. */
static void bounds(const student *k, dc_plan_options *o)
{
    int64_t T, B, M;
    dc_loader_bounds(k->loader, &o->max_tokens, &o->max_docs, &o->max_rows);
    if (!k->eval_loader) return;
    dc_loader_bounds(k->eval_loader, &T, &B, &M);
    o->max_tokens = max64(o->max_tokens, T), o->max_docs = max64(o->max_docs, B), o->max_rows = max64(o->max_rows, M);
}

static int open_data(student *k, const dc_session *s, int64_t repeat, dc_error *err)
{
    int rc = DC_OK;
    int has_eval;
    k->data = dc_session_path(s, "data", err), k->targets = dc_session_path(s, "teacher", err);
    if (!k->data || !k->targets) return DC_ENOMEM;
    DC_TRY(dc_set_open(&k->set, k->data, "train", err));
    DC_TRY(dc_session_loader(&k->loader, s, k->set, "train", 0, repeat, s->comm, err));
    DC_TRY(dc_set_there(&has_eval, k->data, "eval", err));
    if (has_eval) {
        DC_TRY(dc_set_open(&k->eval_set, k->data, "eval", err));
        DC_TRY(dc_session_loader(&k->eval_loader, s, k->eval_set, "train", 1, 0, s->comm, err));
    }
done:
    return rc;
}

/* `repeat` shifts the seed of everything that the student's training draws. */
static int open_model(student *k, const dc_session *s, int64_t repeat, dc_error *err)
{
    int rc = DC_OK;
    const int lora = dc_recipe_has(s->recipe, "lora");
    DC_TRY(dc_session_student(&k->model, s, !lora, err));
    if (dc_set_info_of(k->set)->vocab_size > k->model->config.V) {
        rc = dc_fail(err, DC_EMISMATCH,
                     "tokenizer and student disagree: the data use %lld ids, the student has %lld rows of embedding. "
                     "Use the tokenizer "
                     "that the student was trained with (tokenizer.path), then prepare again.",
                     (long long)dc_set_info_of(k->set)->vocab_size, (long long)k->model->config.V);
        goto done;
    }
    if (lora) {
        DC_TRY(dc_student_lora(&k->lora, k->model, s->recipe, repeat, err));
        DC_TRY(dc_student_params(&k->params, k->model, k->lora, err));
    } else {
        DC_TRY(dc_params_add_model(&k->params, k->model, err));
    }
done:
    return rc;
}

static dc_kd_options kd_options(const dc_session *s, const dc_model *m)
{
    dc_kd_options o = dc_kd_defaults();
    o.kd_ratio = dc_recipe_real(s->recipe, "distill.kd_ratio");
    o.temperature = dc_recipe_real(s->recipe, "distill.temperature");
    o.t2_scale = dc_recipe_bool(s->recipe, "distill.t2_scale");
    o.chunk_bytes = dc_recipe_int(s->recipe, "distill.chunk_size") * m->config.V * (int64_t)sizeof(float);
    return o;
}

static int open_store(dc_store **out, const student *k, const dc_session *s, const dc_set *set, const char *name,
                      dc_error *err)
{
    dc_store_info expect;
    const int rc = dc_session_store_info(&expect, s, set, k->model->config.V, err);
    return rc == DC_OK ? dc_store_open(out, k->targets, name, &expect, err) : rc;
}

static int open_offline(student *k, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    const dc_kd_options o = kd_options(s, k->model);
    DC_TRY(open_store(&k->store, k, s, k->set, "train", err));
    DC_TRY(dc_objective_kd_store(&k->objective, k->model, k->store, &o, err));
    if (k->eval_set) {
        DC_TRY(open_store(&k->eval_store, k, s, k->eval_set, "eval", err));
        DC_TRY(dc_objective_kd_store(&k->eval_objective, k->model, k->eval_store, &o, err));
    }
done:
    return rc;
}

static int open_online(student *k, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    const dc_kd_options o = kd_options(s, k->model);
    const dc_model_options frozen = dc_model_defaults();
    dc_plan_options plan = {.adapter = -1};
    dc_tokenizer *own = NULL, *t = NULL;
    char *path = dc_session_teacher(s, err);
    if (!path) return DC_ENOMEM;
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(dc_tokenizer_open(&own, path, err));
    DC_TRY(dc_tokenizer_same(own, t, "teacher", "student", err));
    DC_TRY(dc_model_open(&k->teacher, s->dev, path, &frozen, err));
    bounds(k, &plan);
    DC_TRY(dc_plan_new(&k->teacher_plan, k->teacher, &plan, err));
    DC_TRY(dc_objective_kd_online(&k->objective, k->model, k->teacher_plan, -1, &o, err));
done:
    dc_tokenizer_free(own);
    dc_tokenizer_free(t);
    dc_free(path);
    return rc;
}

static int open_objective(student *k, const dc_session *s, int control, dc_error *err)
{
    if (control || !dc_recipe_has(s->recipe, "distill"))
        return dc_objective_cross_entropy(&k->objective, k->model,
                                          dc_recipe_int(s->recipe, "distill.chunk_size") * k->model->config.V * 4, err);
    if (!strcmp(dc_recipe_str(s->recipe, "distill.mode"), "online")) return open_online(k, s, err);
    return open_offline(k, s, err);
}

/* Only held-out KL says whether the control learns what the teacher knows: it is evaluated like the distilled student. */
static int open_control_eval(student *k, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    dc_kd_options o = kd_options(s, k->model);
    if (!k->eval_set || !strcmp(dc_recipe_str(s->recipe, "distill.mode"), "online")) return DC_OK;
    DC_TRY(open_store(&k->eval_store, k, s, k->eval_set, "eval", err));
    DC_TRY(dc_objective_kd_store(&k->eval_objective, k->model, k->eval_store, &o, err));
done:
    return rc;
}

static int save_student(const student *k, const dc_session *s, const char *folder, dc_error *err)
{
    int rc = DC_OK;
    char below[160];
    dc_tokenizer *t = NULL;
    snprintf(below, sizeof below, "%s/%s", folder, k->lora ? "adapter" : "model");
    char *dir = dc_session_path(s, below, err);
    if (!dir) return DC_ENOMEM;
    if (k->lora) {
        DC_TRY(dc_lora_save(k->lora, dir, dc_recipe_str(s->recipe, "student.model"), err));
        goto done;
    }
    DC_TRY(dc_session_tokenizer(&t, s, err));
    DC_TRY(dc_hf_save(dir, k->model, t, DC_DTYPE_NONE, NULL, NULL, err));
done:
    dc_tokenizer_free(t);
    dc_free(dir);
    return rc;
}

static void say_plan(const student *k, const char *stage)
{
    char weights[32], arena[32], head[32], adapter[32];
    const double trained = (double)dc_params_count(&k->params) * 4;
    dc_human_bytes(weights, sizeof weights,
                   (double)dc_model_bytes(k->model) + (k->teacher ? (double)dc_model_bytes(k->teacher) : 0));
    dc_human_bytes(arena, sizeof arena,
                   (double)dc_plan_bytes(k->plan) + (k->teacher_plan ? (double)dc_plan_bytes(k->teacher_plan) : 0));
    dc_human_bytes(head, sizeof head,
                   (double)k->objective->bytes(k->objective) +
                       (k->eval_objective && k->eval_objective != k->objective
                            ? (double)k->eval_objective->bytes(k->eval_objective)
                            : 0));
    dc_human_bytes(adapter, sizeof adapter, trained * 4);
    dc_log(DC_LOG_INFO, "%-9s plan    weights %s · %s %s with gradients and AdamW · activations %s · head and loss %s",
           stage, weights, k->lora ? dc_lora_describe(k->lora) : "all weights,", adapter, arena, head);
}

static double or_zero(double x) { return x == x ? x : 0; }

enum { FOLDER = 96, NAME = 48 };

/* Folder and name of a run: train, train/control, train/seed-1, train/seed-1/control. */
static void name_run(char folder[FOLDER], char name[NAME], int64_t repeat, int control)
{
    char seed[32] = "";
    if (repeat) snprintf(seed, sizeof seed, "/seed-%lld", (long long)repeat);
    snprintf(folder, FOLDER, "train%s%s", seed, control ? "/control" : "");
    snprintf(name, NAME, "%s", control ? "control" : "train");
    if (repeat) snprintf(name, NAME, "%s-%lld", control ? "control" : "train", (long long)repeat);
}

static void tell(const char *name, const dc_train_result *result, const student *k, json_t *summary, json_t *times)
{
    char seconds[32], tokens[32];
    json_object_set_new(summary, name,
                        json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "steps", (json_int_t)result->steps, "tokens",
                                  (json_int_t)result->tokens, "trained_tokens", (json_int_t)result->trained_tokens,
                                  "parameters", (json_int_t)dc_params_count(&k->params), "loss", or_zero(result->loss),
                                  "eval_loss", or_zero(result->eval_loss), "eval_kd", or_zero(result->eval_kd)));
    json_object_set_new(times, name, json_pack("{s:f}", "seconds", result->seconds));
    dc_human_time(seconds, sizeof seconds, result->seconds);
    dc_human_count(tokens, sizeof tokens, result->tokens);
    dc_log(DC_LOG_INFO, "%-9s done    %lld steps · %s tokens · loss %.4f%s   %s", name, (long long)result->steps,
           tokens, result->loss, result->resumed ? " · resumed" : "", seconds);
}

/* One run: the student, or its control on cross-entropy alone. */
static int run(const dc_session *s, int64_t repeat, int control, dc_stage *stage, dc_error *err)
{
    int rc = DC_OK;
    student k = {0};
    dc_train_result result;
    char folder[FOLDER], name[NAME];
    name_run(folder, name, repeat, control);
    char *dir = dc_session_path(s, folder, err);
    if (!dir) return DC_ENOMEM;
    DC_TRY(open_data(&k, s, repeat, err));
    DC_TRY(open_model(&k, s, repeat, err));
    dc_plan_options o = {.adapter = k.lora ? 0 : -1,
                         .backward = 1,
                         .checkpoint = dc_recipe_bool(s->recipe, "train.gradient_checkpointing")};
    bounds(&k, &o);
    DC_TRY(dc_plan_new(&k.plan, k.model, &o, err));
    DC_TRY(open_objective(&k, s, control, err));
    if (control) DC_TRY(open_control_eval(&k, s, err));
    say_plan(&k, name);
    dc_trainer t = {.plan = k.plan,
                    .params = &k.params,
                    .objective = k.objective,
                    .loader = k.loader,
                    .eval_loader = k.eval_loader,
                    .eval_objective = k.eval_objective,
                    .adapter = o.adapter,
                    .dir = dir,
                    .stage = name,
                    .recipe = s->recipe,
                    .recipe_stages = "T",
                    .restart = s->restart,
                    .comm = s->comm};
    dc_train_options_from_recipe(&t.options, s->recipe, "train");
    t.options.seed += (uint64_t)repeat;
    DC_TRY(dc_train(&t, &result, err));
    DC_TRY(dc_session_agree(s, dc_session_first(s) ? save_student(&k, s, folder, err) : DC_OK, err));
    tell(name, &result, &k, stage->summary, stage->times);
done:
    student_release(&k);
    dc_free(dir);
    return rc;
}

static int stage_key(dc_hash *out, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    dc_hash one = dc_recipe_hash(s->recipe, 'T');
    const char *model = dc_recipe_str(s->recipe, "student.model"), *from = dc_recipe_str(s->recipe, "lora.init_from");
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    dc_hasher_add_text(h, one.hex);
    DC_TRY(dc_stage_output(&one, s, "prepare", "data", err));
    dc_hasher_add_text(h, one.hex);
    if (dc_recipe_has(s->recipe, "teacher")) {
        DC_TRY(dc_stage_output(&one, s, "teach", "teacher", err));
        dc_hasher_add_text(h, one.hex);
    }
    if (model) {
        DC_TRY(dc_session_hash_model(&one, model, err));
        dc_hasher_add_text(h, one.hex);
    }
    if (from) {
        DC_TRY(dc_session_hash_model(&one, from, err));
        dc_hasher_add_text(h, one.hex);
    }
    *out = dc_hasher_get(h);
done:
    dc_hasher_free(h);
    return rc;
}

static int output_hash(dc_hash *out, const dc_session *s, dc_error *err)
{
    char *dir = dc_session_path(s, dc_recipe_has(s->recipe, "lora") ? "train/adapter" : "train/model", err);
    if (!dir) return DC_ENOMEM;
    const int rc = dc_session_hash_model(out, dir, err);
    dc_free(dir);
    return rc;
}

static int begin(dc_stage *stage, int *kept, const dc_session *s, dc_error *err)
{
    dc_hash key;
    const int rc = stage_key(&key, s, err);
    return rc == DC_OK ? dc_stage_begin(stage, kept, s, "train", "train", "pstT", key, err) : rc;
}

static int end(dc_stage *stage, const dc_session *s, dc_error *err)
{
    dc_hash output;
    const int rc = output_hash(&output, s, err);
    return rc == DC_OK ? dc_stage_end(stage, s, output, err) : rc;
}

/* All ranks come here: rank 0 alone keeps the stage's files. */
int dc_stage_train(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_stage stage = {0};
    DC_TRY(dc_session_agree(s, dc_session_first(s) ? begin(&stage, &kept, s, err) : DC_OK, err));
    DC_TRY(dc_comm_broadcast(s->comm, &kept, sizeof kept, err));
    if (kept) goto done;
    const int control = dc_recipe_has(s->recipe, "distill") && dc_recipe_bool(s->recipe, "distill.control");
    for (int64_t repeat = 0; repeat < dc_recipe_int(s->recipe, "train.repeats"); repeat++) {
        DC_TRY(run(s, repeat, 0, &stage, err));
        if (control) DC_TRY(run(s, repeat, 1, &stage, err));
    }
    DC_TRY(dc_session_agree(s, dc_session_first(s) ? end(&stage, s, err) : DC_OK, err));
done:
    dc_stage_release(&stage);
    return rc;
}
