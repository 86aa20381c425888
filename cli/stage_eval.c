/* cli/stage_eval.c -- the table at the end of a run: teacher, student before and after, control, every exported file, measured alike. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluate.h"
#include "cli/session.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "export/parity.h"
#include "lora/adapter.h"

enum { KL_TOKENS = 4096, MAX_REPEATS = 16, MAX_ROWS = 64 };

/* One line of the table; several values when the training was repeated with other seeds. */
typedef struct row {
    char name[96];
    double match[MAX_REPEATS], kl[MAX_REPEATS], nll[MAX_REPEATS]; /* NaN: not measured */
    int64_t n;
    int64_t bytes;
    int64_t decoded;
    double decode_seconds;
} row;

typedef struct table {
    const dc_session *s;
    dc_tokenizer *tokenizer;
    dc_model *teacher; /* or NULL */
    dc_set *set;
    dc_loader *loader;              /* or NULL: nothing is held out */
    dc_parity_reference *reference; /* the teacher, when both are there */
    row rows[MAX_ROWS];
    size_t n;
} table;

static const char *str(const dc_session *s, size_t i, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "eval.generate[%zu].%s", i, name);
    return dc_recipe_str(s->recipe, key);
}

static int64_t integer(const dc_session *s, size_t i, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "eval.generate[%zu].%s", i, name);
    return dc_recipe_int(s->recipe, key);
}

/* The first task of eval.generate: what the table's first column shows. */
static int run_task(const table *t, row *r, dc_model *m, int adapter, dc_error *err)
{
    const dc_session *s = t->s;
    const char *fields[64];
    dc_task_result result;
    char key[64];
    r->match[r->n] = (double)NAN;
    if (!dc_recipe_count(s->recipe, "eval.generate")) return DC_OK;
    dc_task task = {.path = str(s, 0, "path"),
                    .prompt_field = str(s, 0, "prompt_field"),
                    .answer_field = str(s, 0, "answer_field"),
                    .json_fields = !strcmp(str(s, 0, "kind"), "json_fields"),
                    .fields = fields,
                    .limit = integer(s, 0, "limit"),
                    .max_new_tokens = integer(s, 0, "max_new_tokens")};
    snprintf(key, sizeof key, "eval.generate[0].fields");
    for (; task.n_fields < dc_recipe_count(s->recipe, key) && task.n_fields < 64; task.n_fields++)
        fields[task.n_fields] = dc_recipe_str_at(s->recipe, key, task.n_fields);
    const int rc = dc_evaluate_task(&result, &task, m, adapter, t->tokenizer, err);
    if (rc != DC_OK) return rc;
    r->match[r->n] = (double)result.right / (double)result.n;
    r->decoded += result.decoded, r->decode_seconds += result.decode_seconds;
    return DC_OK;
}

/* One more value of a row. */
static int measure(table *t, row *r, dc_model *m, int adapter, dc_error *err)
{
    int rc = run_task(t, r, m, adapter, err);
    r->kl[r->n] = r->nll[r->n] = (double)NAN;
    if (rc == DC_OK && t->loader) {
        dc_parity p;
        rc = t->reference ? dc_parity_against(&p, t->reference, m, adapter, err)
                          : dc_parity_measure(&p, m, adapter, m, adapter, t->loader, KL_TOKENS, err);
        if (t->teacher) r->kl[r->n] = p.kl > 0 ? p.kl : 0;
        r->nll[r->n] = log(p.ppl_file);
    }
    r->n++;
    return rc;
}

static row *new_row(table *t, const char *name, int64_t bytes)
{
    DC_ASSERT(t->n < MAX_ROWS);
    row *r = &t->rows[t->n++];
    *r = (row){.bytes = bytes};
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

/* The student of repeat `k`: train/adapter, train/control/adapter, train/seed-1/adapter, ... (or model). */
static int measure_trained(table *t, row *r, dc_model *base, int64_t k, int control, dc_error *err)
{
    int rc = DC_OK;
    char seed[32] = "", below[96];
    const int lora = dc_recipe_has(t->s->recipe, "lora");
    dc_lora *adapter = NULL;
    dc_model *model = NULL;
    const dc_model_options o = dc_model_defaults();
    if (k) snprintf(seed, sizeof seed, "/seed-%lld", (long long)k);
    snprintf(below, sizeof below, "train%s%s/%s", seed, control ? "/control" : "", lora ? "adapter" : "model");
    char *path = dc_session_path(t->s, below, err);
    if (!path) return DC_ENOMEM;
    if (lora) DC_TRY(dc_lora_open(&adapter, base, 0, path, 0, err));
    else DC_TRY(dc_model_open(&model, t->s->dev, path, &o, err));
    DC_TRY(measure(t, r, lora ? base : model, lora ? 0 : -1, err));
done:
    dc_lora_free(adapter);
    dc_model_free(model);
    dc_free(path);
    return rc;
}

static int measure_students(table *t, dc_error *err)
{
    int rc = DC_OK;
    const dc_recipe *r = t->s->recipe;
    const int distilled = dc_recipe_has(r, "distill"), control = distilled && dc_recipe_bool(r, "distill.control");
    dc_model *base = NULL;
    DC_TRY(dc_session_student(&base, t->s, 0, err));
    const int64_t bytes = dc_model_bytes(base);
    DC_TRY(measure(t, new_row(t, "student, untrained", bytes), base, -1, err));
    row *labels = control ? new_row(t, "student, labels only", bytes) : NULL;
    row *main_row = new_row(t, distilled ? "student, distilled" : "student, trained", bytes);
    for (int64_t k = 0; k < dc_recipe_int(r, "train.repeats"); k++) {
        if (control) DC_TRY(measure_trained(t, labels, base, k, 1, err));
        DC_TRY(measure_trained(t, main_row, base, k, 0, err));
    }
done:
    dc_model_free(base);
    return rc;
}

/* Every file of the export stage, in the recipe's order. */
static int measure_files(table *t, dc_error *err)
{
    int rc = DC_OK;
    char **names = NULL, *path = NULL;
    size_t n = 0;
    dc_path_info there;
    const dc_model_options o = dc_model_defaults();
    char *dir = dc_session_path(t->s, "export", err);
    if (!dir) return DC_ENOMEM;
    DC_TRY(dc_path_look(&there, dir, err));
    if (there.is_dir) DC_TRY(dc_dir_list(&names, &n, dir, err));
    for (size_t i = 0; i < n; i++) {
        dc_model *m = NULL;
        const char *end = strstr(names[i], ".gguf");
        if (!end || end[5]) continue;
        dc_free(path);
        path = dc_path_join(dir, names[i]);
        if (!path) {
            rc = dc_fail_memory(err, 0, "a path");
            goto done;
        }
        DC_TRY(dc_model_open(&m, t->s->dev, path, &o, err));
        rc = measure(t, new_row(t, names[i], dc_file_size(path)), m, -1, err);
        dc_model_free(m);
        if (rc != DC_OK) goto done;
    }
done:
    dc_names_free(names);
    dc_free(path);
    dc_free(dir);
    return rc;
}

static int open_table(table *t, dc_error *err)
{
    int rc = DC_OK, has_eval;
    const dc_model_options o = dc_model_defaults();
    char *data = dc_session_path(t->s, "data", err);
    char *teacher = dc_recipe_has(t->s->recipe, "teacher") ? dc_session_teacher(t->s, err) : NULL;
    if (!data) {
        rc = DC_ENOMEM;
        goto done;
    }
    DC_TRY(dc_session_tokenizer(&t->tokenizer, t->s, err));
    if (teacher) DC_TRY(dc_model_open(&t->teacher, t->s->dev, teacher, &o, err));
    DC_TRY(dc_set_there(&has_eval, data, "eval", err));
    if (has_eval) {
        DC_TRY(dc_set_open(&t->set, data, "eval", err));
        DC_TRY(dc_session_loader(&t->loader, t->s, t->set, "train", 1, 0, NULL, err));
        if (t->teacher) DC_TRY(dc_parity_reference_new(&t->reference, t->teacher, -1, t->loader, KL_TOKENS, err));
    }
done:
    dc_free(data);
    dc_free(teacher);
    return rc;
}

/* Mean and sample deviation over the repeats; NaN when nothing was measured. */
static void spread(const double *x, int64_t n, double *mean, double *deviation)
{
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *mean = n ? sum / (double)n : (double)NAN;
    for (int64_t i = 0; i < n; i++) square += (x[i] - *mean) * (x[i] - *mean);
    *deviation = n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

static json_t *number(double x) { return x == x ? json_real(x) : json_null(); }

static json_t *values(const double *x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, number(x[i]));
    return list;
}

static void keep(const table *t, dc_stage *stage)
{
    json_t *rows = json_array(), *rates = json_object();
    for (size_t i = 0; i < t->n; i++) {
        const row *r = &t->rows[i];
        double match, kl, nll, d;
        spread(r->match, r->n, &match, &d);
        spread(r->kl, r->n, &kl, &d);
        spread(r->nll, r->n, &nll, &d);
        json_array_append_new(rows, json_pack("{s:s, s:o, s:o, s:o, s:I, s:o, s:o}", "name", r->name, "exact_match",
                                              number(match), "kl_to_teacher", number(kl), "nll", number(nll), "bytes",
                                              (json_int_t)r->bytes, "exact_match_each", values(r->match, r->n),
                                              "kl_each", values(r->kl, r->n)));
        if (r->decode_seconds > 0)
            json_object_set_new(rates, r->name, json_real((double)r->decoded / r->decode_seconds));
    }
    json_object_set_new(stage->summary, "rows", rows);
    json_object_set_new(stage->times, "decode_tokens_per_second", rates);
}

static void cell(char out[40], const char *format, double scale, const json_t *mean, const json_t *each)
{
    double x[MAX_REPEATS], m, d;
    int64_t n = 0;
    out[0] = 0;
    if (!json_is_number(mean)) return;
    for (size_t i = 0; i < json_array_size(each) && i < MAX_REPEATS; i++)
        x[n++] = scale * json_number_value(json_array_get(each, i));
    spread(x, n, &m, &d);
    const int at = snprintf(out, 40, format, m);
    if (n > 1 && at > 0 && at < 40) {
        snprintf(out + at, (size_t)(40 - at), " ± ");
        const size_t here = strlen(out);
        snprintf(out + here, 40 - here, format, d);
    }
}

/* The table, from the summary, so that a kept stage shows it as well. */
static void print(const json_t *summary, const json_t *times)
{
    size_t i;
    json_t *r;
    printf("\n%-28s %18s %18s %10s %10s\n", "", "exact match %", "KL to teacher", "size", "tok/s");
    json_array_foreach(json_object_get(summary, "rows"), i, r)
    {
        char match[40], kl[40], bytes[32], rate[32] = "";
        const char *name = json_string_value(json_object_get(r, "name"));
        cell(match, "%.1f", 100, json_object_get(r, "exact_match"), json_object_get(r, "exact_match_each"));
        cell(kl, "%.4f", 1, json_object_get(r, "kl_to_teacher"), json_object_get(r, "kl_each"));
        dc_human_bytes(bytes, sizeof bytes, (double)json_integer_value(json_object_get(r, "bytes")));
        const json_t *tps = json_object_get(json_object_get(times, "decode_tokens_per_second"), name);
        if (tps) dc_human_count(rate, sizeof rate, (int64_t)json_number_value(tps));
        /* The sign for "plus or minus" has two bytes and one column. */
        printf("%-28s %*s %*s %10s %10s\n", name, strstr(match, "±") ? 19 : 18, match, strstr(kl, "±") ? 19 : 18, kl,
               bytes, rate);
    }
    putchar('\n');
}

static int stage_key(dc_hash *out, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    dc_hash one;
    json_t *recipe = dc_recipe_json(s->recipe);
    char *text = json_dumps(json_object_get(recipe, "eval"), JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
    dc_hasher *h = dc_hasher_new();
    if (!h) {
        rc = dc_fail_memory(err, 0, "a hash");
        goto done;
    }
    dc_hasher_add_text(h, text ? text : "");
    DC_TRY(dc_stage_output(&one, s, "train", "train", err));
    dc_hasher_add_text(h, one.hex);
    if (dc_recipe_count(s->recipe, "export")) {
        DC_TRY(dc_stage_output(&one, s, "export", "export", err));
        dc_hasher_add_text(h, one.hex);
    }
    for (size_t i = 0; i < dc_recipe_count(s->recipe, "eval.generate"); i++) {
        DC_TRY(dc_hash_file(&one, str(s, i, "path"), err));
        dc_hasher_add_text(h, one.hex);
    }
    *out = dc_hasher_get(h);
done:
    free(text);
    json_decref(recipe);
    dc_hasher_free(h);
    return rc;
}

static json_t *kept_times(const dc_session *s)
{
    json_t *times = NULL;
    char *path = dc_session_path(s, "eval/times.json", NULL);
    if (path) dc_json_load(&times, path, NULL);
    dc_free(path);
    return times;
}

int dc_stage_eval(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_hash key;
    dc_stage stage = {0};
    table *t = NULL;
    char *dir = dc_session_path(s, "eval", err);
    if (!dir) return DC_ENOMEM;
    DC_TRY(stage_key(&key, s, err));
    DC_TRY(dc_stage_begin(&stage, &kept, s, "eval", "eval", NULL, key, err));
    if (kept) {
        stage.times = kept_times(s);
    } else {
        t = dc_calloc(1, sizeof *t);
        if (!t) {
            rc = dc_fail_memory(err, sizeof *t, "the table");
            goto done;
        }
        t->s = s;
        DC_TRY(dc_mkdirs(dir, err));
        DC_TRY(open_table(t, err));
        if (t->teacher) DC_TRY(measure(t, new_row(t, "teacher", dc_model_bytes(t->teacher)), t->teacher, -1, err));
        DC_TRY(measure_students(t, err));
        DC_TRY(measure_files(t, err));
        keep(t, &stage);
        DC_TRY(dc_stage_end(&stage, s, key, err));
    }
    if (!s->quiet) print(stage.summary, stage.times);
done:
    if (t) {
        dc_parity_reference_free(t->reference);
        dc_model_free(t->teacher);
        dc_loader_free(t->loader);
        dc_set_close(t->set);
        dc_tokenizer_free(t->tokenizer);
        dc_free(t);
    }
    dc_free(dir);
    dc_stage_release(&stage);
    return rc;
}
