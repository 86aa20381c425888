/* cli/report.c -- report.html: results, curves, stages, parity, recipe. */
#include "cli/report.h"

#include <stdio.h>
#include <string.h>

#include "cli/report_parts.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"

enum { MAX_REPEATS = 16, MAX_RUNS = 2 * MAX_REPEATS };

/* One training whose curves are shown. */
typedef struct run {
    int repeat, control;
    dc_metrics_file m;
} run;

typedef struct runs {
    run all[MAX_RUNS];
    size_t n;
    int distilled, control; /* is there a kd part; a control */
    dc_metrics_file teacher;
} runs;

static int read_metrics(dc_metrics_file *m, const char *dir, const char *below, dc_error *err)
{
    char *path = dc_path_join(dir, below);
    if (!path) return dc_fail_memory(err, strlen(dir), "a path");
    const int rc = dc_metrics_read(m, path, err);
    dc_free(path);
    return rc;
}

/* train, train/control, train/seed-1, train/seed-1/control, ... */
static int read_runs(runs *all, const char *dir, dc_error *err)
{
    int rc = DC_OK;
    for (int repeat = 0; repeat < MAX_REPEATS; repeat++)
        for (int control = 0; control < 2; control++) {
            char seed[24] = "", below[96];
            run *r = &all->all[all->n];
            if (repeat) snprintf(seed, sizeof seed, "/seed-%d", repeat);
            snprintf(below, sizeof below, "train%s%s/metrics.jsonl", seed, control ? "/control" : "");
            DC_TRY(read_metrics(&r->m, dir, below, err));
            if (!r->m.lines) continue;
            r->repeat = repeat, r->control = control;
            all->control |= control;
            all->distilled |= !control && r->m.curve[DC_CURVE_KD].n > 0;
            all->n++;
        }
    DC_TRY(read_metrics(&all->teacher, dir, "teacher/train/metrics.jsonl", err));
done:
    return rc;
}

static void runs_release(runs *all)
{
    for (size_t i = 0; i < MAX_RUNS; i++) dc_metrics_release(&all->all[i].m);
    dc_metrics_release(&all->teacher);
}

static const char *label(const runs *all, const run *r)
{
    return r->control ? "labels only" : all->distilled ? "distilled" : "student";
}

static dc_chart_line line_of(const char *name, const dc_points *p, int color, int faint, int dots)
{
    return (dc_chart_line){.name = name, .x = p->x, .y = p->y, .n = p->n, .color = color, .faint = faint, .dots = dots};
}

/* One curve of every run. Of a single evaluation, at the end, the table tells. */
static void put_curve(dc_str *out, const runs *all, dc_curve curve, const char *title, const char *note, int dots,
                      int zero)
{
    dc_chart_line lines[MAX_RUNS];
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) {
        const run *r = &all->all[i];
        if (r->m.curve[curve].n > (dots ? 1 : 0))
            lines[n++] = line_of(label(all, r), &r->m.curve[curve], r->control, r->repeat > 0, dots);
    }
    const dc_chart chart = {.title = title, .note = note, .x_label = "step", .lines = lines, .n = n, .zero = zero};
    dc_chart_put(out, &chart);
}

/* The distilled run's loss with its parts. */
static void put_parts(dc_str *out, const runs *all)
{
    for (size_t i = 0; all->distilled && i < all->n; i++) {
        const dc_points *p = all->all[i].m.curve;
        if (all->all[i].control || all->all[i].repeat || !p[DC_CURVE_KD].n) continue;
        const dc_chart_line lines[] = {line_of("loss", &p[DC_CURVE_LOSS], 0, 0, 0),
                                       line_of("divergence from the teacher (kd)", &p[DC_CURVE_KD], 2, 0, 0),
                                       line_of("cross-entropy (ce)", &p[DC_CURVE_CE], 3, 0, 0)};
        const dc_chart chart = {.title = "Loss and its parts, distilled", .x_label = "step", .lines = lines, .n = 3};
        dc_chart_put(out, &chart);
    }
}

static void put_curves(dc_str *out, const runs *all)
{
    const char *behind = all->n > (size_t)(1 + all->control) ? "faint: repeats with other seeds" : NULL;
    if (all->n) {
        dc_str_puts(out, "<h2>Training</h2>\n<div class=\"charts\">\n");
        put_curve(out, all, DC_CURVE_EVAL_KD, "Held-out divergence from the teacher", behind, 1, 0);
        put_curve(out, all, DC_CURVE_EVAL_CE, "Held-out cross-entropy", behind, 1, 0);
        put_curve(out, all, DC_CURVE_EVAL_ACCURACY, "Held-out token accuracy", behind, 1, 0);
        put_curve(out, all, all->distilled && all->control ? DC_CURVE_CE : DC_CURVE_LOSS,
                  all->distilled && all->control ? "Cross-entropy in training" : "Loss", behind, 0, 0);
        put_parts(out, all);
        put_curve(out, all, DC_CURVE_GRAD, "Norm of the gradient, before clipping", NULL, 0, 0);
        const dc_chart_line rate = line_of("", &all->all[0].m.curve[DC_CURVE_LR], 0, 0, 0);
        const dc_chart chart = {.title = "Learning rate", .x_label = "step", .lines = &rate, .n = 1, .zero = 1};
        dc_chart_put(out, &chart);
        put_curve(out, all, DC_CURVE_RATE, "Tokens a second", NULL, 0, 1);
        dc_str_puts(out, "</div>\n");
    }
    if (!all->teacher.lines) return;
    const dc_points *p = all->teacher.curve;
    const dc_chart_line loss = line_of("teacher", &p[DC_CURVE_LOSS], 4, 0, 0),
                        speed = line_of("teacher", &p[DC_CURVE_RATE], 4, 0, 0);
    const dc_chart a = {.title = "Loss of the teacher", .x_label = "step", .lines = &loss, .n = 1};
    const dc_chart b = {.title = "Tokens a second", .x_label = "step", .lines = &speed, .n = 1, .zero = 1};
    dc_str_puts(out, "<h2>The teacher, trained from scratch</h2>\n<div class=\"charts\">\n");
    dc_chart_put(out, &a);
    dc_chart_put(out, &b);
    dc_str_puts(out, "</div>\n");
}

static const char *last_part(const char *dir)
{
    const char *base = dc_path_base(dir);
    return *base ? base : dir;
}

static const char *recipe_text(const json_t *recipe, const char *section, const char *key)
{
    return json_string_value(json_object_get(json_object_get(recipe, section), key));
}

static void put_head(dc_str *out, const char *dir, const json_t *recipe)
{
    const char *teacher = recipe_text(recipe, "teacher", "model"), *student = recipe_text(recipe, "student", "model");
    dc_str_puts(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    dc_html_text(out, last_part(dir));
    dc_str_puts(out, " · decant</title>\n");
    dc_html_style(out);
    dc_str_puts(out, "</head>\n<body>\n<main>\n<header><h1>");
    dc_html_text(out, last_part(dir));
    dc_str_puts(out, "</h1>\n<p>");
    if (teacher) {
        dc_str_puts(out, "teacher ");
        dc_html_text(out, dc_path_base(teacher));
    }
    if (student) {
        dc_str_puts(out, teacher ? " → student " : "student ");
        dc_html_text(out, dc_path_base(student));
    }
    if (!teacher && !student) dc_str_puts(out, "a run of decant");
    dc_str_puts(out, "</p></header>\n");
}

static void put_recipe(dc_str *out, const json_t *recipe)
{
    dc_str text = {0};
    if (!recipe) return;
    dc_json_dump(&text, recipe, 2);
    dc_str_puts(out, "<details><summary>The recipe, with every default</summary>\n<pre class=\"box\"><code>");
    dc_html_textn(out, dc_str_text(&text), text.n);
    dc_str_puts(out, "</code></pre></details>\n");
    out->failed |= text.failed;
    dc_str_release(&text);
}

static int write_page(const char *path, const char *dir, const runs *all, dc_error *err)
{
    dc_str out = {0};
    json_t *recipe = dc_report_json(dir, "recipe.json"), *summary = dc_report_json(dir, "eval/summary.json");
    json_t *times = dc_report_json(dir, "eval/times.json");
    put_head(&out, dir, recipe);
    dc_report_results(&out, summary, times);
    put_curves(&out, all);
    dc_report_parity(&out, dir);
    dc_report_stages(&out, dir);
    put_recipe(&out, recipe);
    dc_str_puts(
        &out,
        "<footer>decant " DC_VERSION
        " · every figure was measured in this run · this page loads nothing</footer>\n</main>\n</body>\n</html>\n");
    const int rc = out.failed ? dc_fail_memory(err, out.n, path) : dc_file_write(path, out.data, out.n, err);
    json_decref(recipe);
    json_decref(summary);
    json_decref(times);
    dc_str_release(&out);
    return rc;
}

/* A folder that no run wrote must not get a page that says nothing. */
static int check_run(const char *dir, dc_error *err)
{
    static const char *const traces[] = {"recipe.json", "data/summary.json", "train/metrics.jsonl", "eval/summary.json",
                                         "export/summary.json"};
    if (!dc_path_is_dir(dir))
        return dc_fail(err, DC_EUSAGE, "%s is no folder; decant report takes the output_dir of a run", dir);
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        char *path = dc_path_join(dir, traces[i]);
        const int found = path && dc_path_exists(path);
        dc_free(path);
        if (found) return DC_OK;
    }
    return dc_fail(
        err, DC_EUSAGE,
        "%s holds no run: neither recipe.json nor what a stage leaves; decant report takes the output_dir of a run",
        dir);
}

int dc_report_write(const char *path, const char *run_dir, dc_error *err)
{
    int rc = check_run(run_dir, err);
    if (rc != DC_OK) return rc;
    runs *all = dc_calloc(1, sizeof *all);
    if (!all) return dc_fail_memory(err, sizeof *all, "a report");
    rc = read_runs(all, run_dir, err);
    if (rc == DC_OK) rc = write_page(path, run_dir, all, err);
    runs_release(all);
    dc_free(all);
    return rc;
}
