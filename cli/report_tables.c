/* cli/report_tables.c -- what was measured: the table of models, the stages, the parity of exported files. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/report_parts.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"

json_t *dc_report_json(const char *dir, const char *below)
{
    json_t *value = NULL;
    dc_path_info there;
    dc_error err = {0};
    char *path = dc_path_join(dir, below);
    int rc = path ? dc_path_look(&there, path, &err) : dc_fail_memory(&err, 0, "a path");
    if (rc == DC_OK && there.exists) rc = dc_json_load(&value, path, &err);
    if (rc != DC_OK) dc_log(DC_LOG_WARN, "%s: left out", err.message);
    dc_free(path);
    return value;
}

/* ---- the table of models ---- */

static const char *name_of(const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    return name ? name : "";
}

static int is_file(const json_t *row)
{
    const char *name = name_of(row);
    const size_t n = strlen(name);
    return n > 5 && !strcmp(name + n - 5, ".gguf");
}

/* The student that the run was for. */
static int is_main(const json_t *row)
{
    return !strcmp(name_of(row), "student, distilled") || !strcmp(name_of(row), "student, trained");
}

static const json_t *find_row(const json_t *rows, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (!strcmp(name_of(row), name)) return row;
    return NULL;
}

/* Sample deviation of the repeats; 0 when there are less than two. */
static double deviation(const json_t *each)
{
    const size_t n = json_array_size(each);
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) mean += json_number_value(json_array_get(each, i)) / (double)n;
    for (size_t i = 0; i < n; i++) square += pow(json_number_value(json_array_get(each, i)) - mean, 2);
    return n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

static void put_value(dc_str *out, const json_t *row, const char *key, const char *each, const char *format,
                      double scale, const char *unit)
{
    const json_t *mean = json_object_get(row, key), *list = json_object_get(row, each);
    char text[48];
    if (!json_is_number(mean)) {
        dc_str_puts(out, "<td></td>");
        return;
    }
    snprintf(text, sizeof text, json_number_value(mean) == 0 ? "%.0f" : format, scale * json_number_value(mean));
    dc_str_putf(out, "<td>%s%s", text, unit);
    if (json_array_size(list) > 1) {
        snprintf(text, sizeof text, format, scale * deviation(list));
        dc_str_putf(out, " <small>&plusmn; %s</small>", text);
    }
    dc_str_puts(out, "</td>");
}

/* What the table shows: columns that nobody has a value for are left out; bars stand behind exact match, else behind KL. */
typedef struct columns {
    double match, kl, nll, rate; /* the greatest value; below 0: the column is empty */
} columns;

static void put_bar(dc_str *out, const json_t *row, const char *key, double most)
{
    const double length = json_number_value(json_object_get(row, key));
    dc_str_putf(out, "<td class=\"bar\"><i style=\"width:%.1f%%\"></i></td>",
                most > 0 ? fmin(100, fmax(0, 100 * length / most)) : 0.0);
}

static void put_row(dc_str *out, const json_t *row, const json_t *rates, const columns *c)
{
    char text[48];
    const json_t *rate = json_object_get(rates, name_of(row));
    dc_str_putf(out, "<tr class=\"%s\"><td>", is_main(row) ? "main" : is_file(row) ? "file" : "other");
    dc_html_text(out, name_of(row));
    dc_str_puts(out, "</td>");
    if (c->match >= 0) put_value(out, row, "exact_match", "exact_match_each", "%.1f", 100, " %");
    if (c->match > 0) put_bar(out, row, "exact_match", c->match);
    if (c->kl >= 0) put_value(out, row, "kl_to_teacher", "kl_each", "%.4f", 1, "");
    if (c->match <= 0 && c->kl > 0) put_bar(out, row, "kl_to_teacher", c->kl);
    if (c->nll >= 0) put_value(out, row, "nll", "", "%.4f", 1, "");
    const json_int_t bytes = json_integer_value(json_object_get(row, "bytes"));
    dc_str_putf(out, "<td>%s</td>", bytes > 0 ? dc_human_bytes(text, sizeof text, (double)bytes) : "");
    if (c->rate >= 0)
        dc_str_putf(out, "<td>%s</td>",
                    json_is_number(rate) ? dc_human_count(text, sizeof text, (int64_t)json_number_value(rate)) : "");
    dc_str_puts(out, "</tr>\n");
}

static void put_card(dc_str *out, const char *what, const char *value, const char *beside)
{
    dc_str_puts(out, "<div class=\"card\"><span>");
    dc_html_text(out, what);
    dc_str_puts(out, "</span><strong>");
    dc_html_text(out, value);
    dc_str_puts(out, "</strong><small>");
    dc_html_text(out, beside);
    dc_str_puts(out, "</small></div>\n");
}

/* "teacher 96.2 %, labels only 81.4 %" */
static void beside(char out[160], const json_t *rows, const char *key, const char *format, double scale)
{
    static const char *const others[][2] = {
        {"teacher", "teacher"}, {"student, labels only", "labels only"}, {"student, untrained", "untrained"}};
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < 3 && n < 120; i++) {
        const json_t *value = json_object_get(find_row(rows, others[i][0]), key);
        char text[48];
        if (!json_is_number(value) || (!i && !strcmp(key, "kl_to_teacher"))) continue;
        snprintf(text, sizeof text, format, scale * json_number_value(value));
        n += (size_t)snprintf(out + n, 160 - n, "%s%s %s", n ? " · " : "", others[i][1], text);
    }
}

/* The smallest exported file, or NULL. */
static const json_t *smallest(const json_t *rows)
{
    size_t i;
    const json_t *best = NULL;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        const json_int_t bytes = json_integer_value(json_object_get(row, "bytes"));
        if (is_file(row) && (!best || bytes < json_integer_value(json_object_get(best, "bytes")))) best = row;
    }
    return best;
}

static void put_cards(dc_str *out, const json_t *rows, const json_t *rates)
{
    char value[48], note[160];
    const json_t *main_row = find_row(rows, "student, distilled"), *file = smallest(rows),
                 *teacher = find_row(rows, "teacher");
    if (!main_row) main_row = find_row(rows, "student, trained");
    dc_str_puts(out, "<div class=\"cards\">\n");
    const json_t *match = json_object_get(main_row, "exact_match"), *kl = json_object_get(main_row, "kl_to_teacher");
    if (json_is_number(match)) {
        snprintf(value, sizeof value, "%.1f %%", 100 * json_number_value(match));
        beside(note, rows, "exact_match", "%.1f %%", 100);
        put_card(out, "Right answers of the student", value, note);
    }
    if (json_is_number(kl)) {
        snprintf(value, sizeof value, "%.4g", json_number_value(kl));
        beside(note, rows, "kl_to_teacher", "%.4g", 1);
        put_card(out, "KL to the teacher, nats a token", value, note);
    }
    if (file) {
        const double bytes = (double)json_integer_value(json_object_get(file, "bytes"));
        const double whole = (double)json_integer_value(json_object_get(teacher, "bytes"));
        dc_human_bytes(value, sizeof value, bytes);
        if (whole > 0 && bytes > 0) snprintf(note, sizeof note, "%.3g times smaller than the teacher", whole / bytes);
        else snprintf(note, sizeof note, "%.150s", name_of(file));
        put_card(out, "Smallest file", value, note);
    }
    const json_t *rate = json_object_get(rates, file ? name_of(file) : ""), *before = json_object_get(rates, "teacher");
    if (json_is_number(rate)) {
        dc_human_count(value, sizeof value, (int64_t)json_number_value(rate));
        note[0] = 0;
        if (json_is_number(before)) {
            char count[32];
            snprintf(note, sizeof note, "teacher %s",
                     dc_human_count(count, sizeof count, (int64_t)json_number_value(before)));
        }
        put_card(out, "Its speed, tokens a second", value, note);
    }
    dc_str_puts(out, "</div>\n");
}

static int has_repeats(const json_t *rows)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (json_array_size(json_object_get(row, "exact_match_each")) > 1) return 1;
    return 0;
}

static double greatest(const json_t *rows, const char *key)
{
    size_t i;
    json_t *row;
    double most = -1;
    json_array_foreach(rows, i, row)
    {
        const json_t *value = json_object_get(row, key);
        if (json_is_number(value)) most = fmax(most, json_number_value(value));
    }
    return most;
}

void dc_report_results(dc_str *out, const json_t *summary, const json_t *times)
{
    const json_t *rows = json_object_get(summary, "rows"), *rates = json_object_get(times, "decode_tokens_per_second");
    size_t i;
    json_t *row;
    const columns c = {greatest(rows, "exact_match"), greatest(rows, "kl_to_teacher"), greatest(rows, "nll"),
                       json_object_size(rates) ? 1 : -1};
    if (!json_array_size(rows)) return;
    put_cards(out, rows, rates);
    dc_str_puts(out, "<h2>Results on held-out rows</h2>\n<div class=\"box\"><table><thead><tr><th></th>");
    if (c.match >= 0) dc_str_puts(out, "<th>exact match</th>");
    if (c.match > 0) dc_str_puts(out, "<th></th>");
    if (c.kl >= 0) dc_str_puts(out, "<th>KL to teacher</th>");
    if (c.match <= 0 && c.kl > 0) dc_str_puts(out, "<th></th>");
    if (c.nll >= 0) dc_str_puts(out, "<th>NLL</th>");
    dc_str_puts(out, c.rate >= 0 ? "<th>size</th><th>tok/s</th>" : "<th>size</th>");
    dc_str_puts(out, "</tr></thead><tbody>\n");
    json_array_foreach(rows, i, row) put_row(out, row, rates, &c);
    dc_str_puts(out, "</tbody></table></div>\n");
    if (has_repeats(rows))
        dc_str_puts(out, "<p class=\"legend\">&plusmn; is the standard deviation over repeats with other seeds.</p>\n");
}

/* ---- stages ---- */

static const struct {
    const char *folder, *title;
} stages[] = {{"data", "prepare"}, {"teacher", "teach"}, {"train", "train"},
              {"merged", "merge"}, {"export", "export"}, {"eval", "evaluate"}};

enum { STAGES = sizeof stages / sizeof *stages };

static json_t *stage_json(const char *run_dir, size_t i, const char *file)
{
    char below[64];
    snprintf(below, sizeof below, "%s/%s", stages[i].folder, file);
    return dc_report_json(run_dir, below);
}

static void put_figure(dc_str *out, const char *before, const char *key, const json_t *value)
{
    char text[48];
    const double x = json_number_value(value);
    dc_str_puts(out, before);
    for (const char *c = key; *c; c++) dc_html_textn(out, *c == '_' ? " " : c, 1);
    if (strstr(key, "bytes")) dc_human_bytes(text, sizeof text, x);
    else if (json_is_integer(value)) dc_human_count(text, sizeof text, json_integer_value(value));
    else snprintf(text, sizeof text, "%.4g", x);
    dc_str_putf(out, " %s", text);
}

/* "rejected 12 · rows 4,000": the numbers of a summary; of a section below it ("train: tokens 412,630") a line each. */
static void put_figures(dc_str *out, const json_t *summary, int below)
{
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)summary, key,
                        value) if (json_is_number(value) && strcmp(key, "version") && n < 6)
        put_figure(out, n++ ? " · " : "", key, value);
    if (below) return;
    json_object_foreach((json_t *)(uintptr_t)summary, key, value)
    {
        if (!json_is_object(value)) continue;
        if (n++) dc_str_puts(out, "<br>");
        dc_html_text(out, key);
        dc_str_puts(out, ": ");
        put_figures(out, value, 1);
    }
}

void dc_report_stages(dc_str *out, const char *run_dir)
{
    json_t *times[STAGES] = {0};
    double most = 0;
    for (size_t i = 0; i < STAGES; i++) {
        times[i] = stage_json(run_dir, i, "times.json");
        most = fmax(most, json_number_value(json_object_get(times[i], "seconds")));
    }
    if (most > 0)
        dc_str_puts(out, "<h2>Stages</h2>\n<div "
                         "class=\"box\"><table><thead><tr><th>stage</th><th></th><th>time</th><th>peak memory</th>"
                         "<th>figures</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < STAGES; i++) {
        if (!times[i]) continue;
        char text[48];
        json_t *summary = stage_json(run_dir, i, "summary.json");
        const double seconds = json_number_value(json_object_get(times[i], "seconds"));
        const double memory = json_number_value(json_object_get(times[i], "peak_memory"));
        dc_str_putf(out, "<tr class=\"other\"><td>%s</td><td class=\"bar\"><i style=\"width:%.1f%%\"></i></td>",
                    stages[i].title, most > 0 ? 100 * seconds / most : 0.0);
        if (seconds < 60) dc_str_putf(out, "<td>%.1f s</td>", seconds);
        else dc_str_putf(out, "<td>%s</td>", dc_human_time(text, sizeof text, seconds));
        dc_str_putf(out, "<td>%s</td><td><small>", memory > 0 ? dc_human_bytes(text, sizeof text, memory) : "");
        put_figures(out, summary, 0);
        dc_str_puts(out, "</small></td></tr>\n");
        json_decref(summary);
        json_decref(times[i]);
    }
    if (most > 0)
        dc_str_puts(out,
                    "</tbody></table></div>\n<p class=\"legend\">Peak memory is the whole program's so far.</p>\n");
}

/* ---- parity ---- */

static void put_parity(dc_str *out, const char *name, size_t n, const json_t *p)
{
    static const char *const keys[] = {"kl", "kl_max", "top1", "ppl_reference", "ppl_file", "nmse", NULL};
    static const char *const formats[] = {"%.6f", "%.4f", "%.2f %%", "%.4f", "%.4f", "%.2e"};
    dc_str_puts(out, "<tr class=\"file\"><td>");
    dc_html_textn(out, name, n);
    dc_str_puts(out, ".gguf</td>");
    for (size_t i = 0; keys[i]; i++) {
        const json_t *value = json_object_get(p, keys[i]);
        char text[48] = "";
        if (json_is_number(value))
            snprintf(text, sizeof text, formats[i], (i == 2 ? 100 : 1) * json_number_value(value));
        dc_str_putf(out, "<td>%s</td>", text);
    }
    char count[32];
    dc_str_putf(out, "<td>%s</td></tr>\n",
                dc_human_count(count, sizeof count, json_integer_value(json_object_get(p, "tokens"))));
}

void dc_report_parity(dc_str *out, const char *run_dir)
{
    char **names = NULL;
    size_t n = 0, found = 0;
    char *dir = dc_path_join(run_dir, "export");
    if (!dir || !dc_path_is_dir(dir) || dc_dir_list(&names, &n, dir, NULL) != DC_OK) {
        dc_free(dir);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(names[i]), end = strlen(".parity.json");
        if (length <= end || strcmp(names[i] + length - end, ".parity.json")) continue;
        json_t *p = dc_report_json(dir, names[i]);
        if (p && !found++)
            dc_str_puts(out, "<h2>Does the file say what the model said?</h2>\n<div "
                             "class=\"box\"><table><thead><tr><th>file</th><th>KL</th>"
                             "<th>greatest KL</th><th>same top-1</th><th>perplexity, model</th><th>perplexity, "
                             "file</th><th>NMSE of logits</th>"
                             "<th>tokens</th></tr></thead><tbody>\n");
        if (p) put_parity(out, names[i], length - end, p);
        json_decref(p);
    }
    if (found) dc_str_puts(out, "</tbody></table></div>\n");
    dc_names_free(names);
    dc_free(dir);
}
