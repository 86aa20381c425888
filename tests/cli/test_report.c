/* tests/cli/test_report.c -- the page of a run: escaping, ticks, metrics of a killed run, a whole page from files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"
#include "cli/report_parts.h"
#include "core/arena.h"
#include "tests/core/temp.h"

static void put(const char *below, const char *text)
{
    char dir[192];
    snprintf(dir, sizeof dir, "%s", temp_path(below));
    *strrchr(dir, '/') = 0;
    assert_int_equal(dc_mkdirs(dir, NULL), DC_OK);
    assert_int_equal(dc_file_write(temp_path(below), text, strlen(text), NULL), DC_OK);
}

static void escapes_everything_that_is_markup(void **state)
{
    dc_str out = {0};
    (void)state;
    dc_html_text(&out, "<a href=\"x\">&'\x01\n\xc3\xa9");
    assert_string_equal(dc_str_text(&out), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; \n\xc3\xa9");
    dc_str_clear(&out);
    dc_html_text(&out, NULL);
    assert_int_equal(out.n, 0);
    dc_str_release(&out);
}

static void ticks_are_round_and_inside(void **state)
{
    double t[12];
    (void)state;
    assert_int_equal(dc_chart_ticks(t, 0, 1000, 5, 0), 6);
    assert_true(t[0] == 0 && t[1] == 200 && t[5] == 1000);
    assert_int_equal(dc_chart_ticks(t, -0.13, 0.12, 5, 0), 5);
    assert_true(fabs(t[0] + 0.1) < 1e-12 && t[2] == 0);
    assert_int_equal(dc_chart_ticks(t, log10(0.3), log10(6), 5, 1), 4); /* 0.5 1 2 5 */
    assert_true(fabs(t[0] - 0.5) < 1e-9 && fabs(t[3] - 5) < 1e-9);
    for (double high = 1e-9; high < 1e9; high *= 3.7) {
        const size_t n = dc_chart_ticks(t, high * 0.4, high, 6, 0);
        assert_in_range(n, 2, 12);
        for (size_t i = 0; i < n; i++)
            assert_true(t[i] >= high * 0.4 * (1 - 1e-6) && t[i] <= high * (1 + 1e-6) && (!i || t[i] > t[i - 1]));
    }
}

static void charts_without_points_are_nothing(void **state)
{
    dc_str out = {0};
    const double x[] = {1, 2}, y[] = {(double)NAN, (double)INFINITY}, one[] = {3, 3};
    dc_chart_line line = {.name = "a", .x = x, .y = y, .n = 2};
    const dc_chart chart = {.title = "t", .x_label = "step", .lines = &line, .n = 1};
    (void)state;
    dc_chart_put(&out, &chart);
    assert_int_equal(out.n, 0);
    line.y = one; /* a flat line has an axis of some height */
    dc_chart_put(&out, &chart);
    assert_non_null(strstr(dc_str_text(&out), "<svg"));
    assert_null(strstr(dc_str_text(&out), "nan"));
    assert_null(strstr(dc_str_text(&out), "inf"));
    dc_str_release(&out);
}

static const char lines[] =
    "{\"step\": 1, \"loss\": 4.5, \"ce\": 4.0, \"kd\": 5.0, \"grad_norm\": 2, \"learning_rate\": 0, \"tokens\": 100, "
    "\"trained_tokens\": 40, \"seconds\": 0.5}\n"
    "{\"step\": 2, \"loss\": 3.5, \"ce\": 3.0, \"kd\": 4.0, \"grad_norm\": 1, \"learning_rate\": 0.001, \"tokens\": "
    "100, \"trained_tokens\": 40, \"seconds\": 0.25}\n"
    "{\"step\": 1, \"eval_ce\": 4.1, \"eval_kd\": 4.5}\n"
    "{\"step\": 2, \"eval_loss\": 3.2, \"eval_ce\": 3.1, \"eval_kd\": 2.5, \"eval_accuracy\": 0.5}\n"
    "{\"step\": 3, \"lo";

static void metrics_end_where_a_kill_cut_them(void **state)
{
    dc_metrics_file m;
    (void)state;
    put("m/metrics.jsonl", lines);
    assert_int_equal(dc_metrics_read(&m, temp_path("m/metrics.jsonl"), NULL), DC_OK);
    assert_int_equal(m.lines, 4);
    assert_int_equal(m.curve[DC_CURVE_LOSS].n, 2);
    assert_true(m.curve[DC_CURVE_LOSS].y[1] == 3.5);
    assert_true(m.curve[DC_CURVE_RATE].y[0] == 200 && m.curve[DC_CURVE_RATE].y[1] == 400);
    assert_int_equal(m.curve[DC_CURVE_EVAL_KD].n, 2);
    assert_true(m.curve[DC_CURVE_EVAL_KD].x[1] == 2);
    assert_int_equal(m.curve[DC_CURVE_EVAL_ACCURACY].n, 1);
    dc_metrics_release(&m);
    dc_metrics_release(&m);
    assert_int_equal(dc_metrics_read(&m, temp_path("m/none.jsonl"), NULL), DC_OK);
    assert_int_equal(m.lines, 0);
    put("m/damaged.jsonl", "{\"step\": 1, \"loss\": 1}\n\xff\xfe\n{\"step\": 2, \"loss\": 2}\n");
    assert_int_equal(dc_metrics_read(&m, temp_path("m/damaged.jsonl"), NULL), DC_OK);
    assert_int_equal(m.lines, 1);
    dc_metrics_release(&m);
}

static void metrics_survive_a_lack_of_memory(void **state)
{
    dc_metrics_file m;
    int rc = DC_ENOMEM;
    (void)state;
    put("m/metrics.jsonl", lines);
    const char *path = temp_path("m/metrics.jsonl");
    for (long at = 1; rc != DC_OK; at++) {
        assert_in_range(at, 1, 200);
        dc_alloc_fail_at(at);
        rc = dc_metrics_read(&m, path, NULL);
        dc_alloc_fail_at(0);
        dc_metrics_release(&m);
    }
}

static void folders_without_a_run_are_refused(void **state)
{
    dc_error err = {0};
    (void)state;
    assert_int_equal(dc_report_write(temp_path("x.html"), temp_path("nowhere"), &err), DC_EUSAGE);
    assert_int_equal(dc_mkdirs(temp_path("empty"), NULL), DC_OK);
    err = (dc_error){0};
    assert_int_equal(dc_report_write(temp_path("x.html"), temp_path("empty"), &err), DC_EUSAGE);
    assert_non_null(strstr(err.message, "holds no run"));
    assert_int_equal(dc_path_exists(temp_path("x.html")), 0);
}

static void put_run(void)
{
    put("run/recipe.json",
        "{\"teacher\": {\"model\": \"models/<big>\"}, \"note\": \"</pre><script>alert(1)</script>\"}");
    put("run/train/metrics.jsonl", lines);
    put("run/train/control/metrics.jsonl", lines);
    put("run/train/seed-1/metrics.jsonl", lines);
    put("run/train/times.json", "{\"seconds\": 75, \"peak_memory\": 1000000}");
    put("run/train/summary.json", "{\"version\": 1, \"train\": {\"steps\": 2}}");
    put("run/export/a<b-Q8_0.parity.json", "{\"tokens\": 10, \"kl\": 0.001, \"top1\": 0.99, \"kl_max\": 1, "
                                           "\"ppl_file\": 2, \"ppl_reference\": 2, \"nmse\": 0}");
    put("run/eval/times.json", "{\"decode_tokens_per_second\": {\"a<b-Q8_0.gguf\": 1234}}");
    put("run/eval/summary.json", "{\"rows\": [{\"name\": \"teacher\", \"exact_match\": 0.96, \"kl_to_teacher\": 0, "
                                 "\"nll\": 0.3, \"bytes\": 4000000, \"exact_match_each\": [0.96], "
                                 "\"kl_each\": [0]}, {\"name\": \"student, distilled\", \"exact_match\": 0.8, "
                                 "\"kl_to_teacher\": 0.5, \"nll\": null, \"bytes\": 2000000, "
                                 "\"exact_match_each\": [0.7, 0.9], \"kl_each\": [0.4, 0.6]}, {\"name\": "
                                 "\"a<b-Q8_0.gguf\", \"exact_match\": 0.79, \"kl_to_teacher\": 0.51, "
                                 "\"nll\": 0.4, \"bytes\": 1000000, \"exact_match_each\": [], \"kl_each\": []}]}");
}

static void has(const dc_str *page, const char *text)
{
    if (!strstr(dc_str_text(page), text)) fail_msg("'%s' is not in the page", text);
}

static void a_page_of_a_run(void **state)
{
    dc_str page = {0};
    (void)state;
    put_run();
    assert_int_equal(dc_report_write(temp_path("run/report.html"), temp_path("run"), NULL), DC_OK);
    assert_int_equal(dc_file_read(&page, temp_path("run/report.html"), 1 << 20, NULL), DC_OK);
    has(&page, "teacher &lt;big&gt;");
    has(&page, "&lt;/pre&gt;&lt;script&gt;");
    assert_null(strstr(dc_str_text(&page), "<script")); /* nothing of a file is markup, and the page needs none */
    assert_null(strstr(dc_str_text(&page), "http"));    /* it loads nothing */
    has(&page, "80.0 % <small>&plusmn; 14.1</small>");
    has(&page, "0.5000 <small>&plusmn; 0.1414</small>");
    has(&page, "a&lt;b-Q8_0.gguf");
    has(&page, "1,234");
    has(&page, "4 times smaller than the teacher");
    has(&page, "Held-out divergence from the teacher");
    assert_null(strstr(dc_str_text(&page), "Held-out token accuracy")); /* one evaluation makes no curve */
    has(&page, "<th>exact match</th><th></th><th>KL to teacher</th><th>NLL</th><th>size</th><th>tok/s</th>");
    assert_null(strstr(dc_str_text(&page), "a<b"));
    has(&page, "class=\"line c1\"");
    has(&page, "class=\"line c0 faint\""); /* the repeat */
    has(&page, "train: steps 2");
    has(&page, "1:15");
    has(&page, "99.00 %");
    has(&page, "</html>");
    dc_str_release(&page);
}

/* Columns without a value are left out. */
static void a_table_of_what_was_measured(void **state)
{
    dc_str out = {0};
    json_t *summary = json_pack("{s:[{s:s, s:n, s:n, s:f, s:i}]}", "rows", "name", "student, trained", "exact_match",
                                "kl_to_teacher", "nll", 0.5, "bytes", 1000);
    (void)state;
    dc_report_results(&out, summary, NULL);
    has(&out, "<th></th><th>NLL</th><th>size</th></tr>");
    has(&out, "<td>student, trained</td><td>0.5000</td><td>1.0 kB</td></tr>");
    dc_str_release(&out);
    json_decref(summary);
}

/* Damaged files of a run leave parts out; the page comes all the same. */
static void a_page_of_a_damaged_run(void **state)
{
    (void)state;
    put_run();
    put("run/recipe.json", "{\"teacher\": ");
    put("run/eval/summary.json", "[1, 2]");
    put("run/train/summary.json", "{\"train\": 7, \"x\": [");
    put("run/train/times.json", "{\"seconds\": \"long\"}");
    put("run/export/a<b-Q8_0.parity.json", "null");
    assert_int_equal(dc_report_write(temp_path("run/report.html"), temp_path("run"), NULL), DC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_everything_that_is_markup),
        cmocka_unit_test(ticks_are_round_and_inside),
        cmocka_unit_test(charts_without_points_are_nothing),
        cmocka_unit_test(metrics_end_where_a_kill_cut_them),
        cmocka_unit_test(metrics_survive_a_lack_of_memory),
        cmocka_unit_test(folders_without_a_run_are_refused),
        cmocka_unit_test(a_page_of_a_run),
        cmocka_unit_test(a_table_of_what_was_measured),
        cmocka_unit_test(a_page_of_a_damaged_run),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
