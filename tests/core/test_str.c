/* tests/core/test_str.c -- growing strings, UTF-8 against the standard's tables, near names, figures for people. */
#include "core/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"

static void appends_add_up(void **unused)
{
    (void)unused;
    dc_str s = {0};
    assert_string_equal(dc_str_text(&s), "");
    dc_str_append(&s, NULL, 0);
    dc_str_puts(&s, "step ");
    dc_str_putf(&s, "%d/%s", 256, "400");
    dc_str_putc(&s, 0);
    dc_str_append(&s, "x", 1);
    assert_int_equal(s.n, 14);
    assert_memory_equal(s.data, "step 256/400\0x", 15);
    dc_str_clear(&s);
    assert_string_equal(dc_str_text(&s), "");
    for (int i = 0; i < 5000; i++) dc_str_putf(&s, "%c", 'a' + i % 26);
    assert_int_equal(s.n, 5000);
    assert_int_equal(s.data[4999], 'a' + 4999 % 26);
    assert_int_equal(s.data[5000], 0);
    dc_str_release(&s);
    dc_str_release(&s);
}

static void a_failure_stays_and_later_appends_do_nothing(void **unused)
{
    (void)unused;
    for (long at = 1;; at++) {
        dc_str s = {0};
        dc_alloc_fail_at(at);
        for (int i = 0; i < 40; i++) dc_str_putf(&s, "%d ", i);
        dc_str_puts(&s, "a text that is longer than the string's first piece of memory");
        dc_alloc_fail_at(0);
        const int failed = s.failed;
        if (failed) {
            const size_t n = s.n;
            dc_str_puts(&s, "more");
            assert_int_equal(s.n, n);
            assert_int_equal(strlen(dc_str_text(&s)), n);
            dc_str_clear(&s);
            assert_true(s.failed);
        }
        dc_str_release(&s);
        if (!failed) {
            assert_true(at > 3);
            break;
        }
    }
    dc_str s = {0};
    dc_str_append(&s, "", SIZE_MAX);
    assert_true(s.failed);
    dc_str_release(&s);
}

/* What a decoder that follows the best practice makes of `bytes`: code points, -1 for each maximal ill-formed part. */
static void decodes_to(const char *bytes, size_t n, const int32_t *expected, size_t count)
{
    size_t at = 0, k = 0;
    while (at < n) {
        int32_t cp;
        const size_t used = dc_utf8_decode(&cp, bytes + at, n - at);
        assert_in_range(used, 1, n - at);
        assert_true(k < count);
        assert_int_equal(cp, expected[k]);
        at += used;
        k++;
    }
    assert_int_equal(k, count);
}
#define DECODES_TO(bytes, ...) \
    decodes_to(bytes, sizeof(bytes) - 1, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

/* Unicode 15, section 3.9, tables 3-8 to 3-11, and Markus Kuhn's stress cases of the same kinds. */
static void ill_formed_parts_as_in_the_standard(void **unused)
{
    (void)unused;
    DECODES_TO("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", -1, -1, -1, -1, -1, -1, -1, -1, 0x41);   /* 3-8, non-shortest */
    DECODES_TO("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", -1, -1, -1, -1, -1, -1, -1, -1, 0x41);   /* 3-9, surrogates */
    DECODES_TO("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", -1, -1, -1, -1, -1, 0x41, -1, -1, 0x42); /* 3-10, others */
    DECODES_TO("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", -1, -1, -1, -1, 0x41);                   /* 3-11, truncated */
    DECODES_TO("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", 0x61, -1, -1, -1, 0x62, -1, 0x63, -1, -1, 0x64);
    DECODES_TO("\xF0\x9F\x98", -1); /* the text ends within */
    DECODES_TO("\xF5\x80\x80\x80", -1, -1, -1, -1);
    DECODES_TO("\xFE\xFE\xFF\xFF", -1, -1, -1, -1);
    DECODES_TO("\x00", 0);
}

static void every_scalar_value_comes_back(void **unused)
{
    (void)unused;
    for (int32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp <= 0xdfff) continue;
        char text[4];
        int32_t back;
        const size_t n = dc_utf8_encode(text, cp);
        const size_t expected = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        if (n != expected || dc_utf8_decode(&back, text, n) != n || back != cp) fail_msg("U+%04X", (unsigned)cp);
        for (size_t k = 1; k < n; k++) /* a truncated one is one ill-formed part */
            if (dc_utf8_decode(&back, text, k) != k || back != -1) fail_msg("U+%04X cut at %zu", (unsigned)cp, k);
    }
}

/* Every sequence of up to three bytes: valid exactly when it is some scalar values' encoding. Validity is computed
 * here from ranges of whole values, not of bytes. */
static int valid_three(const unsigned char *b, size_t n)
{
    if (n == 0) return 1;
    if (b[0] < 0x80) return valid_three(b + 1, n - 1);
    size_t length = b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : 9;
    if (length > n) return 0;
    unsigned value = b[0] & (length == 2 ? 31u : 15u);
    for (size_t i = 1; i < length; i++) {
        if (b[i] >> 6 != 2) return 0;
        value = value << 6 | (b[i] & 63u);
    }
    if (value < (length == 2 ? 0x80u : 0x800u) || (value >= 0xd800 && value <= 0xdfff)) return 0;
    return valid_three(b + length, n - length);
}

static void validity_of_all_short_sequences(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 1u << 24; i++) {
        const unsigned char b[3] = {(unsigned char)(i >> 16), (unsigned char)(i >> 8), (unsigned char)i};
        if (dc_utf8_valid((const char *)b, 3) != valid_three(b, 3)) fail_msg("%02x %02x %02x", b[0], b[1], b[2]);
    }
    assert_true(dc_utf8_valid(NULL, 0));
    assert_true(dc_utf8_valid("eight ascii bytes and \xC3\xA4 more", 29));
    assert_false(dc_utf8_valid("eight ascii bytes and \xC3", 23));
    assert_false(dc_utf8_valid("1234567\xFF", 8));
}

static void near_names_are_found(void **unused)
{
    (void)unused;
    static const char *const names[] = {"temperature", "top_k", "learning_rate", "lora", NULL};
    assert_string_equal(dc_nearest("temprature", names), "temperature");
    assert_string_equal(dc_nearest("temperatrue", names), "temperature"); /* a swap */
    assert_string_equal(dc_nearest("learningrate", names), "learning_rate");
    assert_string_equal(dc_nearest("topk", names), "top_k");
    assert_string_equal(dc_nearest("lora", names), "lora");
    assert_null(dc_nearest("optimizer", names));
    assert_null(dc_nearest("", names));
    assert_null(dc_nearest("xy", names));
    static const char *const swapped[] = {"baxx", NULL}, *const none[] = {NULL};
    assert_string_equal(dc_nearest("abxx", swapped), "baxx"); /* distance 1 of 4; two substitutions would be too many */
    assert_null(dc_nearest("a", none));
    char huge[300];
    memset(huge, 'a', sizeof huge);
    huge[sizeof huge - 1] = 0;
    const char *const long_names[] = {huge, NULL};
    assert_null(dc_nearest(huge, names));
    assert_null(dc_nearest("lora", long_names));
}

static void figures_for_people(void **unused)
{
    (void)unused;
    char b[32];
    assert_string_equal(dc_human_count(b, sizeof b, 0), "0");
    assert_string_equal(dc_human_count(b, sizeof b, 999), "999");
    assert_string_equal(dc_human_count(b, sizeof b, 1000), "1,000");
    assert_string_equal(dc_human_count(b, sizeof b, -1234567), "-1,234,567");
    assert_string_equal(dc_human_count(b, sizeof b, INT64_MIN), "-9,223,372,036,854,775,808");
    assert_string_equal(dc_human_count(b, 4, 1234567), "1,2"); /* cut, not overrun */
    assert_string_equal(dc_human_bytes(b, sizeof b, 999), "999 B");
    assert_string_equal(dc_human_bytes(b, sizeof b, 4.2e9), "4.2 GB");
    assert_string_equal(dc_human_bytes(b, sizeof b, 212e6), "212 MB");
    assert_string_equal(dc_human_bytes(b, sizeof b, 99.96e6), "100 MB");
    assert_string_equal(dc_human_bytes(b, sizeof b, 999.6e6), "1.0 GB");
    assert_string_equal(dc_human_bytes(b, sizeof b, 1e30), "1000000000000 EB");
    assert_string_equal(dc_human_bytes(b, sizeof b, (double)NAN), "?");
    assert_string_equal(dc_human_time(b, sizeof b, 31.2), "0:31");
    assert_string_equal(dc_human_time(b, sizeof b, 59.6), "1:00");
    assert_string_equal(dc_human_time(b, sizeof b, 3599.6), "1:00:00");
    assert_string_equal(dc_human_time(b, sizeof b, 3765), "1:02:45");
    assert_string_equal(dc_human_time(b, sizeof b, -3), "0:00");
    assert_string_equal(dc_human_time(b, sizeof b, (double)INFINITY), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_add_up),
        cmocka_unit_test(a_failure_stays_and_later_appends_do_nothing),
        cmocka_unit_test(ill_formed_parts_as_in_the_standard),
        cmocka_unit_test(every_scalar_value_comes_back),
        cmocka_unit_test(validity_of_all_short_sequences),
        cmocka_unit_test(near_names_are_found),
        cmocka_unit_test(figures_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
