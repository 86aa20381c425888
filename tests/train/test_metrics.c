/* tests/train/test_metrics.c -- metrics.jsonl: its keys, what a resume cuts, numbers that JSON has not. */
#include "train/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "core/arena.h"
#include "tests/core/temp.h"

static const dc_step_line step_line = {.step = 7,
                                       .tokens = 130,
                                       .denominator = 4,
                                       .grad_norm = 0.5,
                                       .learning_rate = 3e-5,
                                       .seconds = 0.25,
                                       .sums = {.loss = 6, .ce = 8, .kd = 4, .rows = 5, .top1 = 2, .weight = 4},
                                       .kd = 1};

/* The lines of the file, parsed; fails unless there are n. */
static json_t *lines(size_t n)
{
    dc_str text = {0};
    assert_int_equal(dc_file_read(&text, temp_path("metrics.jsonl"), 1 << 20, NULL), DC_OK);
    json_t *list = json_array();
    for (char *at = text.data, *end; at && *at; at = end + 1) {
        end = strchr(at, '\n');
        assert_non_null(end);
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        if (!line) fail_msg("no JSON: %.*s", (int)(end - at), at);
        json_array_append_new(list, line);
    }
    dc_str_release(&text);
    assert_int_equal(json_array_size(list), n);
    return list;
}

static double number(const json_t *list, size_t i, const char *key)
{
    const json_t *value = json_object_get(json_array_get(list, i), key);
    if (!json_is_number(value)) fail_msg("line %zu has no number %s", i, key);
    return json_number_value(value);
}

static void put_lines(dc_metrics *m, int64_t first, int64_t last)
{
    for (int64_t step = first; step <= last; step++) {
        dc_step_line line = step_line;
        line.step = step;
        assert_int_equal(dc_metrics_step(m, &line, NULL), DC_OK);
    }
}

static void test_keys(void **state)
{
    (void)state;
    dc_metrics m;
    remove(temp_path("metrics.jsonl"));
    assert_int_equal(dc_metrics_open(&m, temp_dir, 0, NULL), DC_OK);
    assert_int_equal(dc_metrics_step(&m, &step_line, NULL), DC_OK);
    assert_int_equal(dc_metrics_eval(&m, 7, &step_line.sums, 0, 1.5, NULL), DC_OK);
    assert_int_equal(m.lines, 2);
    json_t *list = lines(2); /* each line is flushed */
    assert_true(number(list, 0, "step") == 7 && number(list, 0, "loss") == 1.5 && number(list, 0, "ce") == 2 &&
                number(list, 0, "kd") == 1);
    assert_true(number(list, 0, "grad_norm") == 0.5 && number(list, 0, "learning_rate") == 3e-5 &&
                number(list, 0, "tokens") == 130);
    assert_true(number(list, 0, "trained_tokens") == 5 && number(list, 0, "seconds") == 0.25);
    assert_true(number(list, 1, "step") == 7 && number(list, 1, "eval_loss") == 1.5 && number(list, 1, "eval_ce") == 2);
    assert_true(number(list, 1, "eval_accuracy") == 0.4 && number(list, 1, "eval_tokens") == 5 &&
                number(list, 1, "eval_seconds") == 1.5);
    assert_null(json_object_get(json_array_get(list, 1), "eval_kd"));
    json_decref(list);
    dc_metrics_close(&m);
    dc_metrics_close(&m);
}

static void are_steps(int64_t first, int64_t last)
{
    json_t *list = lines((size_t)(last - first + 1));
    for (int64_t step = first; step <= last; step++)
        assert_true(number(list, (size_t)(step - first), "step") == (double)step);
    json_decref(list);
}

/* A resume cuts what came behind its checkpoint, and those steps come again. */
static void test_resume(void **state)
{
    (void)state;
    dc_metrics m;
    remove(temp_path("metrics.jsonl"));
    assert_int_equal(dc_metrics_open(&m, temp_dir, 0, NULL), DC_OK);
    put_lines(&m, 1, 2);
    put_lines(&m, 3, 5);
    dc_metrics_close(&m);
    assert_int_equal(dc_metrics_open(&m, temp_dir, 2, NULL), DC_OK);
    assert_int_equal(m.lines, 2);
    put_lines(&m, 3, 3);
    are_steps(1, 3);
    dc_metrics_close(&m);
    /* Another length of the seconds is no other place. */
    char text[2048], *at = text;
    for (int step = 1; step <= 4; step++)
        at += sprintf(at, "{\"step\": %d, \"seconds\": %s}\n", step, step % 2 ? "123456.7890" : "0.1");
    temp_write("metrics.jsonl", text, (size_t)(at - text));
    assert_int_equal(dc_metrics_open(&m, temp_dir, 2, NULL), DC_OK);
    put_lines(&m, 3, 3);
    are_steps(1, 3);
    dc_metrics_close(&m);
}

/* What a file has, when it is not all, stays; an unfinished line goes, or the next would be spoilt too. */
static void test_shorter(void **state)
{
    (void)state;
    static const char torn[] = "{\"step\": 1}\n{\"step\": 2}\n{\"st";
    dc_metrics m;
    for (size_t n = 0; n < sizeof torn; n++) {
        const int whole = n < 12 ? 0 : n < 24 ? 1 : 2;
        temp_write("metrics.jsonl", torn, n);
        assert_int_equal(dc_metrics_open(&m, temp_dir, 5, NULL), DC_OK);
        assert_int_equal(m.lines, whole);
        put_lines(&m, whole + 1, whole + 1);
        are_steps(1, whole + 1);
        dc_metrics_close(&m);
    }
    remove(temp_path("metrics.jsonl"));
    assert_int_equal(dc_metrics_open(&m, temp_dir, 5, NULL), DC_OK);
    assert_int_equal(m.lines, 0);
    put_lines(&m, 6, 7);
    are_steps(6, 7);
    dc_metrics_close(&m);
}

static void test_no_numbers(void **state)
{
    (void)state;
    dc_metrics m;
    dc_step_line line = step_line;
    line.sums.kd = (double)NAN, line.grad_norm = (double)INFINITY;
    remove(temp_path("metrics.jsonl"));
    assert_int_equal(dc_metrics_open(&m, temp_dir, 0, NULL), DC_OK);
    assert_int_equal(dc_metrics_step(&m, &line, NULL), DC_OK);
    assert_int_equal(dc_metrics_eval(&m, 1, &line.sums, 1, 0, NULL), DC_OK);
    json_t *list = lines(2);
    assert_true(json_is_null(json_object_get(json_array_get(list, 0), "kd")));
    assert_true(json_is_null(json_object_get(json_array_get(list, 0), "grad_norm")));
    assert_true(json_is_null(json_object_get(json_array_get(list, 1), "eval_kd")));
    json_decref(list);
    dc_metrics_close(&m);
}

static void test_failures(void **state)
{
    (void)state;
    dc_metrics m;
    dc_error err = {0};
    assert_int_equal(dc_metrics_open(&m, temp_path("no/such/folder"), 0, &err), DC_EIO);
    assert_non_null(strstr(err.message, "no/such/folder/metrics.jsonl"));
    for (long n = 1; n <= 3; n++) {
        dc_alloc_fail_at(n);
        int rc = dc_metrics_open(&m, temp_dir, 0, NULL);
        if (rc == DC_OK) rc = dc_metrics_step(&m, &step_line, NULL);
        dc_alloc_fail_at(0);
        dc_metrics_close(&m);
        assert_true(rc == DC_ENOMEM || n == 3);
    }
    /* A full disk is told. */
    assert_int_equal(dc_metrics_open(&m, temp_dir, 0, NULL), DC_OK);
    fclose(m.file);
    m.file = fopen("/dev/full", "w");
    if (m.file) {
        err = (dc_error){0};
        assert_int_equal(dc_metrics_step(&m, &step_line, &err), DC_EIO);
        assert_non_null(strstr(err.message, "metrics.jsonl"));
    }
    dc_metrics_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),       cmocka_unit_test(test_resume),   cmocka_unit_test(test_shorter),
        cmocka_unit_test(test_no_numbers), cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
