/* cli/inspect_run.c -- what runs leave: checkpoints, summaries, metrics. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect.h"
#include "cli/report_parts.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "train/ckpt_files.h"

/* ---- a checkpoint ---- */

int dc_inspect_checkpoint(dc_inspect *v, dc_error *err)
{
    int rc = DC_OK;
    dc_error why = {0};
    char a[32], b[32], c[32];
    json_t *state = dc_report_json(v->path, DC_CKPT_STATE);
    if (!state) return dc_fail(err, DC_EFORMAT, "%s/%s cannot be read", v->path, DC_CKPT_STATE);
    const int whole = dc_ckpt_verify(v->path, &why) == DC_OK;
    const char *device = json_string_value(json_object_get(state, "device"));
    dc_inspect_fact(v, "checkpoint", "kind", json_string("checkpoint"), "%s", v->path);
    dc_inspect_fact(v, "whole", "whole", json_boolean(whole), "%s", whole ? "yes, sizes and hashes hold" : why.message);
    dc_inspect_fact(v, "step", "step", json_incref(json_object_get(state, "step")), "%lld",
                    (long long)json_integer_value(json_object_get(state, "step")));
    dc_inspect_fact(v, "seen", "tokens", json_incref(json_object_get(state, "tokens")), "%s tokens, %s trained",
                    dc_human_count(a, sizeof a, json_integer_value(json_object_get(state, "tokens"))),
                    dc_human_count(b, sizeof b, json_integer_value(json_object_get(state, "trained_tokens"))));
    dc_inspect_fact(v, "parameters", "parameters", json_incref(json_object_get(state, "parameters")), "%s trained",
                    dc_human_count(c, sizeof c, json_integer_value(json_object_get(state, "parameters"))));
    dc_inspect_fact(v, "computed on", "device", json_string(device ? device : ""), "%s", device ? device : "not said");
    json_object_set(v->json, "state", state);
    json_decref(state);
    return rc;
}

/* ---- a run ---- */

static const char *const folders[] = {"data", "teacher", "train", "merged", "export", "eval"};

static void put_stage(dc_inspect *v, json_t *stages, const char *folder)
{
    char below[64], time[32], memory[32];
    snprintf(below, sizeof below, "%s/summary.json", folder);
    json_t *summary = dc_report_json(v->path, below);
    snprintf(below, sizeof below, "%s/times.json", folder);
    json_t *times = dc_report_json(v->path, below);
    const char *name = json_string_value(json_object_get(summary, "stage"));
    if (summary) {
        dc_str_putf(&v->text, "%-9s done    ", folder);
        dc_inspect_text(&v->text, name ? name : "", name ? strlen(name) : 0, 32);
        if (times)
            dc_str_putf(
                &v->text, " in %s, peak memory %s",
                dc_human_time(time, sizeof time, json_number_value(json_object_get(times, "seconds"))),
                dc_human_bytes(memory, sizeof memory, json_number_value(json_object_get(times, "peak_memory"))));
        dc_str_putc(&v->text, '\n');
        json_object_set_new(stages, folder, json_pack("{s:O, s:O?}", "summary", summary, "times", times));
    } else {
        dc_str_putf(&v->text, "%-9s -\n", folder);
    }
    json_decref(summary);
    json_decref(times);
}

static void put_results(dc_inspect *v, const json_t *summary)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(summary, "rows"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        const json_t *match = json_object_get(row, "exact_match"), *kl = json_object_get(row, "kl_to_teacher");
        dc_str_puts(&v->text, i ? "  " : "\n  ");
        dc_inspect_text(&v->text, name ? name : "", name ? strlen(name) : 0, 60);
        if (json_is_number(match)) dc_str_putf(&v->text, " · exact match %.1f %%", 100 * json_number_value(match));
        if (json_is_number(kl)) dc_str_putf(&v->text, " · KL %.4f", json_number_value(kl));
        dc_str_putc(&v->text, '\n');
    }
}

int dc_inspect_run(dc_inspect *v, dc_error *err)
{
    json_t *stages = json_object(), *eval = dc_report_json(v->path, "eval/summary.json");
    (void)err;
    dc_inspect_fact(v, "run", "kind", json_string("run"), "%s", v->path);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) put_stage(v, stages, folders[i]);
    put_results(v, eval);
    json_object_set_new(v->json, "stages", stages);
    json_decref(eval);
    return DC_OK;
}

int dc_inspect_stage(dc_inspect *v, dc_error *err)
{
    json_t *summary = dc_report_json(v->path, "summary.json"), *times = dc_report_json(v->path, "times.json");
    if (!summary) {
        json_decref(times);
        return dc_fail(err, DC_EFORMAT, "%s/summary.json cannot be read", v->path);
    }
    dc_inspect_fact(v, "stage", "kind", json_string("stage"), "%s", v->path);
    dc_json_dump(&v->text, summary, 2);
    dc_str_putc(&v->text, '\n');
    if (times) dc_json_dump(&v->text, times, 2);
    if (times) dc_str_putc(&v->text, '\n');
    json_object_set_new(v->json, "summary", summary);
    if (times) json_object_set_new(v->json, "times", times);
    return DC_OK;
}

/* ---- metrics ---- */

int dc_inspect_metrics(dc_inspect *v, dc_error *err)
{
    static const struct {
        dc_curve curve;
        const char *name, *key;
    } shown[] = {{DC_CURVE_LOSS, "loss", "loss"},
                 {DC_CURVE_CE, "ce", "ce"},
                 {DC_CURVE_KD, "kd", "kd"},
                 {DC_CURVE_GRAD, "grad norm", "grad_norm"},
                 {DC_CURVE_LR, "rate", "learning_rate"},
                 {DC_CURVE_RATE, "tok/s", "tokens_per_second"},
                 {DC_CURVE_EVAL_CE, "eval ce", "eval_ce"},
                 {DC_CURVE_EVAL_KD, "eval kd", "eval_kd"},
                 {DC_CURVE_EVAL_ACCURACY, "accuracy", "eval_accuracy"}};
    dc_metrics_file m;
    const int rc = dc_metrics_read(&m, v->path, err);
    if (rc != DC_OK) return rc;
    const dc_points *loss = &m.curve[DC_CURVE_LOSS];
    dc_inspect_fact(v, "metrics", "kind", json_string("metrics"), "%s", v->path);
    dc_inspect_fact(v, "steps", "steps", json_integer((json_int_t)loss->n), "%zu", loss->n);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const dc_points *p = &m.curve[shown[i].curve];
        if (!p->n) continue;
        dc_inspect_fact(v, shown[i].name, shown[i].key,
                        json_pack("{s:f, s:f}", "first", p->y[0], "last", p->y[p->n - 1]),
                        "%.6g at step %.0f, %.6g at step %.0f", p->y[0], p->x[0], p->y[p->n - 1], p->x[p->n - 1]);
    }
    dc_metrics_release(&m);
    return DC_OK;
}
