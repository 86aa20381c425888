/* tests/core/test_json.c -- places in messages, duplicates, typed access, and text that reads back the same. */
#include "core/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/rng.h"

static char path[] = "/tmp/decant_json_XXXXXX";

static int make_path(void **unused)
{
    (void)unused;
    const int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int remove_path(void **unused)
{
    (void)unused;
    return unlink(path);
}

static json_t *parse(const char *text)
{
    json_t *value;
    dc_error err = {0};
    if (dc_json_parse(&value, text, strlen(text), "text", &err)) fail_msg("%s", err.message);
    return value;
}

static void write_text(const char *text) { assert_int_equal(dc_file_write(path, text, strlen(text), NULL), DC_OK); }

static void errors_name_the_place(void **unused)
{
    (void)unused;
    json_t *value = (json_t *)1;
    dc_error err = {0};
    const char *text = "{\"a\": 1,\n  \"b\": nope}";
    assert_int_equal(dc_json_parse(&value, text, strlen(text), "rows.jsonl", &err), DC_EFORMAT);
    assert_null(value);
    assert_memory_equal(err.message, "rows.jsonl:2:11: ", 17);
    err = (dc_error){0};
    assert_int_equal(dc_json_parse(&value, "", 0, "empty", &err), DC_EFORMAT);
    assert_memory_equal(err.message, "empty:1:0: ", 11);
    err = (dc_error){0};
    assert_int_equal(dc_json_parse(&value, "1 2", 3, "two", &err), DC_EFORMAT);
    err = (dc_error){0};
    assert_int_equal(dc_json_parse(&value, "\"\xff\"", 3, "bytes", &err), DC_EFORMAT);
    err = (dc_error){0};
    assert_int_equal(dc_json_load(&value, "/nonexistent/config.json", &err), DC_EIO);
    assert_non_null(strstr(err.message, "/nonexistent/config.json"));
}

static void duplicates_are_last_in_rows_and_refused_in_files(void **unused)
{
    (void)unused;
    json_t *value = parse("{\"a\": 1, \"a\": 2}");
    assert_int_equal(json_integer_value(json_object_get(value, "a")), 2);
    json_decref(value);
    write_text("{\"a\": 1,\n\"a\": 2}");
    dc_error err = {0};
    assert_int_equal(dc_json_load(&value, path, &err), DC_EFORMAT);
    assert_null(value);
    assert_memory_equal(err.message, path, strlen(path));
    assert_memory_equal(err.message + strlen(path), ":2:", 3);
    write_text("[]");
    assert_int_equal(dc_json_load(&value, path, NULL), DC_OK);
    json_decref(value);
}

/* Every prefix of a text is refused, and nothing leaks (the sanitizers look). */
static void truncated_text_is_refused(void **unused)
{
    (void)unused;
    const char *text = "{\"list\": [1, -2.5e3, true, null], \"text\": \"a\\u00e4\\u0000\\n\", \"deep\": {\"x\": {}}}";
    for (size_t n = 0; n < strlen(text); n++) {
        char *copy = malloc(n + 1); /* exactly n bytes are ours to read */
        memcpy(copy, text, n);
        json_t *value;
        dc_error err = {0};
        assert_int_equal(dc_json_parse(&value, copy, n, "cut", &err), DC_EFORMAT);
        free(copy);
    }
    json_decref(parse(text));
    char *nested = malloc(200001);
    memset(nested, '[', 200000);
    nested[200000] = 0;
    json_t *value;
    dc_error err = {0};
    assert_int_equal(dc_json_parse(&value, nested, 200000, "nested", &err), DC_EFORMAT);
    free(nested);
}

static void dump_is_sorted_indented_and_escaped(void **unused)
{
    (void)unused;
    json_t *value =
        parse("{\"b\": [1, [], {}], \"a\": {\"z\": \"q\\\"\\\\\\u0000\\u001f\\n/\xC3\xA4\", \"k\": 2.0}, \"B\": null}");
    assert_int_equal(dc_json_save(value, path, NULL), DC_OK);
    dc_str text = {0};
    assert_int_equal(dc_file_read(&text, path, 1000, NULL), DC_OK);
    assert_string_equal(text.data, "{\n"
                                   "  \"B\": null,\n"
                                   "  \"a\": {\n"
                                   "    \"k\": 2.0,\n"
                                   "    \"z\": \"q\\\"\\\\\\u0000\\u001f\\n/\xC3\xA4\"\n"
                                   "  },\n"
                                   "  \"b\": [\n"
                                   "    1,\n"
                                   "    [],\n"
                                   "    {}\n"
                                   "  ]\n"
                                   "}\n");
    json_t *back;
    assert_int_equal(dc_json_load(&back, path, NULL), DC_OK);
    assert_true(json_equal(value, back));
    json_decref(back);
    dc_str_clear(&text);
    dc_json_dump(&text, value, 0);
    assert_string_equal(text.data, "{\"B\": null, \"a\": {\"k\": 2.0, \"z\": \"q\\\"\\\\\\u0000\\u001f\\n/\xC3\xA4\"}, "
                                   "\"b\": [1, [], {}]}");
    dc_str_release(&text);
    json_decref(value);
}

static void real_is(double value, const char *expected)
{
    dc_str text = {0};
    json_t *real = json_real(value);
    dc_json_dump(&text, real, 0);
    assert_string_equal(text.data, expected);
    json_decref(real);
    dc_str_release(&text);
}

static void reals_are_short_and_exact(void **unused)
{
    (void)unused;
    real_is(0.1, "0.1");
    real_is(1, "1.0");
    real_is(-0.0, "-0.0");
    real_is(1e300, "1e+300");
    real_is(0.1 + 0.2, "0.30000000000000004");
    real_is(5e-324, "5e-324");
    real_is(DBL_MAX, "1.7976931348623157e+308");
    real_is(123456789012345680.0, "1.2345678901234568e+17");
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t u[4];
        double value;
        dc_rng_u32x4(u, 1, DC_RNG_TEST, i, 0);
        const uint64_t bits = (uint64_t)u[0] << 32 | u[1];
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        dc_str text = {0};
        json_t *real = json_real(value);
        dc_json_dump(&text, real, 0);
        json_t *back = parse(text.data);
        assert_true(json_is_real(back) && json_real_value(back) == value);
        json_decref(real), json_decref(back);
        dc_str_release(&text);
    }
}

static void members_have_types_and_defaults(void **unused)
{
    (void)unused;
    json_t *o = parse("{\"i\": 7, \"r\": 2.5, \"w\": 3.0, \"big\": 9.3e18, \"t\": true, \"s\": \"x\", \"n\": null, "
                      "\"z\": \"a\\u0000\"}");
    int64_t i = 0;
    double r = 0;
    int b = 0;
    const char *s = NULL;
    dc_error err = {0};
    assert_int_equal(dc_json_i64(&i, o, "i", 1, "config.json", &err), DC_OK);
    assert_int_equal(i, 7);
    assert_int_equal(dc_json_i64(&i, o, "w", 1, "config.json", &err), DC_OK);
    assert_int_equal(i, 3);
    assert_int_equal(dc_json_i64(&i, o, "n", 11, "config.json", &err), DC_OK);
    assert_int_equal(i, 11);
    assert_int_equal(dc_json_i64(&i, NULL, "i", 12, "config.json", &err), DC_OK);
    assert_int_equal(i, 12);
    assert_int_equal(dc_json_f64(&r, o, "i", 0, "config.json", &err), DC_OK);
    assert_true(r == 7.0);
    assert_int_equal(dc_json_f64(&r, o, "absent", 0.5, "config.json", &err), DC_OK);
    assert_true(r == 0.5);
    assert_int_equal(dc_json_bool(&b, o, "t", 0, "config.json", &err), DC_OK);
    assert_int_equal(b, 1);
    assert_int_equal(dc_json_text(&s, o, "s", "y", "config.json", &err), DC_OK);
    assert_string_equal(s, "x");
    assert_int_equal(dc_json_text(&s, o, "absent", NULL, "config.json", &err), DC_OK);
    assert_null(s);
    assert_int_equal(err.code, DC_OK);
    assert_int_equal(dc_json_i64(&i, o, "r", 1, "config.json", &err), DC_EFORMAT);
    assert_string_equal(err.message, "config.json: 'r' must be an integer, not a real number");
    assert_int_equal(i, 12);
    assert_int_equal(dc_json_i64(&i, o, "big", 1, "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_i64(&i, o, "s", 1, "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_f64(&r, o, "s", 1, "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_bool(&b, o, "i", 1, "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_text(&s, o, "i", "", "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_text(&s, o, "z", "", "config.json", NULL), DC_EFORMAT);
    assert_int_equal(dc_json_i64(&i, json_object_get(o, "s"), "k", 1, "config.json", NULL), DC_EFORMAT);
    json_decref(o);
}

static void saving_survives_any_failed_allocation(void **unused)
{
    (void)unused;
    json_t *value = parse("{\"a\": {\"b\": [1, 2, 3], \"c\": \"a text that needs some room in the string\"}}");
    write_text("old");
    long at = 1;
    for (;; at++) {
        dc_error err = {0};
        dc_alloc_fail_at(at);
        const int rc = dc_json_save(value, path, &err);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) break;
        assert_int_equal(rc, DC_ENOMEM);
        assert_int_equal(dc_file_size(path), 3); /* the old file, whole */
    }
    assert_true(at > 4);
    json_decref(value);
    for (at = 1;; at++) {
        dc_error err = {0};
        dc_alloc_fail_at(at);
        const int rc = dc_json_load(&value, path, &err);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) break;
        assert_int_equal(rc, DC_ENOMEM);
    }
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(duplicates_are_last_in_rows_and_refused_in_files),
        cmocka_unit_test(truncated_text_is_refused),
        cmocka_unit_test(dump_is_sorted_indented_and_escaped),
        cmocka_unit_test(reals_are_short_and_exact),
        cmocka_unit_test(members_have_types_and_defaults),
        cmocka_unit_test(saving_survives_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
