/* tests/data/test_chat.c -- chat templates against what transformers renders (chat_cases.json), and what is refused. */
#include "data/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "fake_tokenizer.h"

enum { NOW = 1700000000 };

/* Renders; the text is the caller's, NULL after an error. */
static char *render(const char *text, const json_t *variables, dc_spans *spans, dc_error *err)
{
    dc_template *t = NULL;
    dc_str out = {0};
    int rc = dc_template_new(&t, text, "T", err);
    if (!rc) rc = dc_template_render(t, &out, spans, variables, NOW, err);
    char *copy = rc ? NULL : strdup(dc_str_text(&out));
    dc_str_release(&out);
    dc_template_free(t);
    return copy;
}

static json_t *cases(void)
{
    json_error_t error;
    json_t *all = json_load_file("tests/data/chat_cases.json", JSON_ALLOW_NUL, &error);
    if (!all) fail_msg("%s:%d: %s", error.source, error.line, error.text);
    return all;
}

static void renders_as_transformers(void **unused)
{
    (void)unused;
    json_t *all = cases();
    const json_t *list = json_object_get(all, "cases"), *variables = json_object_get(all, "variables");
    size_t bad = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(json_array_get(list, i), 0));
        const char *want = json_string_value(json_array_get(json_array_get(list, i), 1));
        dc_error err = {0};
        char *got = render(text, variables, NULL, &err);
        if ((got == NULL) != (want == NULL) || (got && strcmp(got, want) != 0)) {
            print_error("%s\n  wanted %s\n  got    %s %s\n", text, want ? want : "an error", got ? got : "",
                        err.message);
            bad++;
        }
        free(got);
    }
    assert_true(json_array_size(list) > 500);
    assert_int_equal(bad, 0);
    json_decref(all);
}

static void expect_error(const char *text, dc_code code, const char *message)
{
    dc_error err = {0};
    json_t *variables = json_pack("{s:[i,i],s:{}}", "l", 1, 2, "d");
    char *got = render(text, variables, NULL, &err);
    if (got || !strstr(err.message, message)) print_error("%s\n  %s\n  wanted %s\n", text, err.message, message);
    assert_null(got);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, message));
    json_decref(variables);
}

static void errors_name_the_place(void **unused)
{
    (void)unused;
    expect_error("a\nb\n{{ zz.y }}", DC_EFORMAT, "T:3: 'zz' is undefined");
    expect_error("{{ d.x.y }}", DC_EFORMAT, "T:1: 'dict object' has no attribute 'x'");
    expect_error("{{ l[7].y }}", DC_EFORMAT, "list object has no element 7");
    expect_error("{% set a = 1 %}\n{%- if a %}\n", DC_EFORMAT, "T:2: no {% elif %}");
    expect_error("\n\n{% include 'x' %}", DC_EUNKNOWN, "T:3: unsupported tag 'include'");
    expect_error("{{ l|urlize }}", DC_EUNKNOWN, "unsupported filter 'urlize'");
    expect_error("{{ l is odder }}", DC_EUNKNOWN, "unsupported test 'odder'");
    expect_error("{{ 'a'.encode() }}", DC_EUNKNOWN, "unsupported method 'encode'");
    expect_error("{{ raise_exception('only users') }}", DC_EFORMAT, "the template says: only users");
    expect_error("{{ '{:>5}'.format(1) }}", DC_EUNKNOWN, "format specifications");
    expect_error("{{ l|map('string') }}", DC_EUNKNOWN, "a generator is printed");
    expect_error("{{ l.append(3) }}", DC_EFORMAT, "access to attribute 'append' of 'list' object is unsafe");
    expect_error("\xff", DC_EFORMAT, "not valid UTF-8");
}

static void nothing_is_without_bound(void **unused)
{
    (void)unused;
    expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", DC_EFORMAT, "recurses deeper");
    expect_error("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", DC_EFORMAT, "recurses deeper");
    expect_error("{% for a in range(99999) %}{% for b in range(999) %}{% endfor %}{% endfor %}", DC_EFORMAT,
                 "did not end");
    expect_error("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", DC_EFORMAT, "more than 64 MB");
    expect_error("{{ 'x' * 100000000 }}", DC_EFORMAT, "more than 64 MB");
    expect_error("{% set ns = namespace(s='x') %}{% for a in range(90) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
                 DC_EFORMAT, "64 MB");
    expect_error("{{ 9223372036854775807 + 1 }}", DC_EFORMAT, "beyond 64 bits");
    char *deep = malloc(20001);
    assert_non_null(deep);
    memset(deep, '[', 20000);
    deep[20000] = 0;
    memcpy(deep, "{{ ", 3);
    expect_error(deep, DC_EFORMAT, "deep");
    for (size_t i = 3; i < 20000; i++) deep[i] = '-';
    memcpy(deep + 19995, "1 }}", 5);
    expect_error(deep, DC_EFORMAT, "deep");
    free(deep);
}

static void generation_gives_spans(void **unused)
{
    (void)unused;
    json_t *variables = json_pack("{s:[s,s]}", "l", "\xc3\xa9", "yz");
    dc_spans spans = {0};
    char *got =
        render("<{% for i in l %}{% generation %}{{ i }}{% endgeneration %};{% endfor %}>", variables, &spans, NULL);
    assert_string_equal(got, "<\xc3\xa9;yz;>");
    assert_int_equal(spans.n, 2);
    assert_int_equal(spans.data[0].begin, 1);
    assert_int_equal(spans.data[0].end, 3);
    assert_int_equal(spans.data[1].begin, 4);
    assert_int_equal(spans.data[1].end, 6);
    free(got);
    dc_error err = {0};
    assert_null(render("{% set a %}{% generation %}x{% endgeneration %}{% endset %}", variables, &spans, &err));
    assert_int_equal(err.code, DC_EUNKNOWN);
    assert_int_equal(spans.n, 2); /* as before */
    dc_spans_release(&spans);
    json_decref(variables);
}

static void time_is_given(void **unused)
{
    (void)unused;
    setenv("TZ", "UTC", 1);
    json_t *none = json_object();
    char *got = render("{{ strftime_now('%d %b %Y %H:%M|%z%Z|%f|%%') }}", none, NULL, NULL);
    assert_string_equal(got, "14 Nov 2023 22:13||000000|%");
    free(got);
    json_decref(none);
}

static void messages_are_normalized(void **unused)
{
    (void)unused;
    const dc_tokenizer t = {0};
    json_t *messages = json_pack("[{s:s,s:n,s:s}]", "role", "assistant", "content", "reasoning", "why"), *v = NULL;
    json_t *more = json_pack("{s:b}", "enable_thinking", 0);
    assert_int_equal(dc_chat_variables(&v, messages, NULL, more, &t, 1, NULL), DC_OK);
    char *got = render(
        "{{ messages[0] }}{{ tools }}{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ enable_thinking }}"
        "{{ add_generation_prompt }}",
        v, NULL, NULL);
    assert_string_equal(got, "{'thinking': 'why', 'role': 'assistant', 'reasoning': 'why', 'reasoning_content': "
                             "'why'}None<s></s>FalseFalseTrue");
    free(got);
    json_decref(v);
    json_decref(more);
    json_decref(messages);
}

static const char whole[] =
    "{%- macro f(a, b=[1, {'k': 'v'}]) %}{{ a ~ b|tojson(indent=2) }}{% endmacro %}{% set ns = namespace(n=0) %}"
    "{% for k, v in d.items() if v is not none %}{% set ns.n = ns.n + 1 %}{{ f(k, b=v)|indent }}{{ loop.last }}{% else "
    "%}-{% endfor %}"
    "{# c #}{% raw %}{{ }}{% endraw %}{% set s %}{{ l[::-1]|map('string')|join(', ') }}{% endset %}{{ s.split(', "
    "')|sort|first }}"
    "{% generation %}{{ 'x' if l else 'y' }}{% endgeneration %}";

static void truncated_templates_are_errors_or_texts(void **unused)
{
    (void)unused;
    json_t *variables = json_pack("{s:[i,i],s:{s:i,s:s}}", "l", 1, 2, "d", "a", 1, "b", "z");
    char *text = strdup(whole);
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = 0;
        dc_error err = {0};
        char *got = render(text, variables, NULL, &err);
        assert_true(got || err.code != DC_OK);
        free(got);
    }
    free(text);
    json_decref(variables);
}

static void failing_memory_is_reported(void **unused)
{
    (void)unused;
    json_t *variables = json_pack("{s:[i,i],s:{s:i,s:s}}", "l", 1, 2, "d", "a", 1, "b", "z");
    long n = 1;
    for (;; n++) {
        dc_error err = {0};
        dc_spans spans = {0};
        dc_alloc_fail_at(n);
        char *got = render(whole, variables, &spans, &err);
        dc_alloc_fail_at(0);
        dc_spans_release(&spans);
        if (got) {
            free(got);
            break;
        }
        assert_int_equal(err.code, DC_ENOMEM);
    }
    assert_true(n > 10);
    json_decref(variables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_transformers),
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(nothing_is_without_bound),
        cmocka_unit_test(generation_gives_spans),
        cmocka_unit_test(time_is_given),
        cmocka_unit_test(messages_are_normalized),
        cmocka_unit_test(truncated_templates_are_errors_or_texts),
        cmocka_unit_test(failing_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
