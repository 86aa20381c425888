/* tests/data/test_pretok.c -- scanners against their regular expressions, behaviors of splits, names, refusals. */
#include "data/pretok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"
#include "data/unicode.h"

/* ---- words as one text, parted by '|' ---- */

typedef struct joined {
    dc_str text;
    const char *source;
} joined;

static int join(void *context, const char *word, size_t n, int64_t origin)
{
    joined *j = context;
    if (j->text.n) dc_str_putc(&j->text, '|');
    dc_str_append(&j->text, word, n);
    if (origin >= 0) assert_int_equal(word[0], j->source[origin]);
    return DC_OK;
}

static void split_is(const dc_pretok *p, const char *text, const char *expected)
{
    dc_pretok_work w = {0};
    joined j = {.source = text};
    dc_error err = {0};
    if (dc_pretok_run(p, &w, text, strlen(text), join, &j, &err)) fail_msg("%s", err.message);
    assert_string_equal(dc_str_text(&j.text), expected);
    dc_str_release(&j.text);
    dc_pretok_work_release(&w);
}

/* ---- scanners ---- */

static uint32_t draw(uint32_t *at)
{
    uint32_t four[4];
    dc_rng_u32x4(four, 1, DC_RNG_TEST, (*at)++, 0);
    return four[0];
}

/* Text of what the patterns tell apart, and of any code points. */
static size_t random_text(char *out, size_t n, uint32_t *at)
{
    static const char *const parts[] = {" ",        "  ",        "\n",
                                        "\r\n",     "\t",        "'s",
                                        "'S",       "'\xC5\xBF", "'re",
                                        "'LL",      "'v",        "'",
                                        "a",        "Zz",        "0",
                                        "12",       "\xC2\xBD",  ".",
                                        "!?",       "\xC2\xA0",  "\xE3\x80\x80",
                                        "\xCC\x81", "\xC3\xA9",  "\xE4\xB8\x80",
                                        "\xC2\x85", "\x1C",      "\xF0\x90\xB5\x90"};
    size_t used = 0;
    while (used + 4 < n) {
        const uint32_t kind = draw(at) % 8;
        if (kind < 6) {
            const char *part = parts[draw(at) % (sizeof parts / sizeof *parts)];
            memcpy(out + used, part, strlen(part));
            used += strlen(part);
        } else {
            uint32_t cp = draw(at) % (kind == 6 ? 0x3100u : 0x20000u);
            if (cp >= 0xD800 && cp < 0xE000) cp = 'x';
            used += dc_utf8_encode(out + used, (int32_t)cp);
        }
    }
    return used;
}

static void compare(dc_scan scan, const dc_regex *r, const char *text, size_t n)
{
    struct dc_regex_work *w = NULL;
    for (size_t at = 0; at < n;) {
        size_t begin, end;
        assert_int_equal(dc_regex_next(r, &w, text, n, at, &begin, &end, NULL), 1);
        assert_int_equal(begin, at);
        const size_t ours = dc_scan_next(scan, 0, text, n, at);
        if (ours != end)
            fail_msg("scanner %d at byte %zu of '%.*s': %zu, not %zu", (int)scan, at, (int)n, text, ours, end);
        at = end;
    }
    dc_regex_work_free(w);
}

static void scanners_equal_their_patterns(void **unused)
{
    (void)unused;
    uint32_t at = 0;
    for (dc_scan scan = DC_SCAN_GPT2; scan <= DC_SCAN_QWEN35; scan++) {
        dc_regex *r = NULL;
        dc_error err = {0};
        if (dc_regex_new(&r, dc_scan_pattern(scan), 0, &err)) fail_msg("%s", err.message);
        for (int i = 0; i < 400; i++) {
            char text[160];
            const size_t n = random_text(text, 20 + draw(&at) % 120, &at);
            compare(scan, r, text, n);
        }
        for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x3000 ? 1 : 53) { /* classes, one by one */
            char text[16] = "a";
            if (cp >= 0xD800 && cp < 0xE000) continue;
            size_t n = 1 + dc_utf8_encode(text + 1, (int32_t)cp);
            text[n++] = 'b';
            compare(scan, r, text, n);
        }
        dc_regex_free(r);
    }
}

static void known_words(void **unused)
{
    (void)unused;
    dc_pretok p = {0};
    assert_int_equal(dc_pretok_scan(&p, DC_SCAN_GPT2, NULL), DC_OK);
    split_is(&p, "I'll  see 12 of'em!\n\n x", "I|'ll| | see| 12| of|'|em|!|\n\n| x");
    split_is(&p, "end  ", "end|  ");
    dc_pretok_release(&p);
    assert_int_equal(dc_pretok_regex(&p, dc_scan_pattern(DC_SCAN_LLAMA3), DC_SPLIT_ISOLATED, 0, NULL), DC_OK);
    assert_int_equal(p.stages[0].kind, DC_STAGE_SCAN);
    split_is(&p, "I'LL 12345 (see)\r\n\n  ok", "I|'LL| |123|45| (|see|)\r\n\n| | ok");
    split_is(&p, "'\xC5\xBFo", "'\xC5\xBF|o");
    p.old = 1; /* llama.cpp: the long s is a letter, not a contraction */
    split_is(&p, "'\xC5\xBFo", "'\xC5\xBFo");
    dc_pretok_release(&p);
    assert_int_equal(dc_pretok_digits(&p, 1, NULL), DC_OK);
    assert_int_equal(dc_pretok_scan(&p, DC_SCAN_GPT2, NULL), DC_OK);
    split_is(&p, "a 12  3", "a| |1|2|  |3");
    dc_pretok_release(&p);
    assert_int_equal(dc_pretok_digits(&p, 0, NULL), DC_OK);
    split_is(&p, "a 12  3", "a |12|  |3");
    dc_pretok_release(&p);
}

/* ---- behaviors; expected values are those that the library's documentation gives for "the-final--countdown" and '-' ---- */

static void behaviors_of_split(void **unused)
{
    (void)unused;
    static const char *const expected[] = {"the|-|final|-|-|countdown", "the|final|countdown",
                                           "the-|final-|-|countdown", "the|-final|-|-countdown",
                                           "the|-|final|--|countdown"};
    for (int b = 0; b < 5; b++)
        for (int regex = 0; regex < 2; regex++) {
            dc_pretok p = {0};
            if (regex) assert_int_equal(dc_pretok_regex(&p, "-", (dc_split)b, 0, NULL), DC_OK);
            else assert_int_equal(dc_pretok_string(&p, "-", (dc_split)b, 0, NULL), DC_OK);
            split_is(&p, "the-final--countdown", expected[b]);
            dc_pretok_release(&p);
        }
    dc_pretok p = {0};
    assert_int_equal(dc_pretok_regex(&p, "\\w+", DC_SPLIT_REMOVED, 1, NULL), DC_OK); /* inverted: what matches stays */
    split_is(&p, "one, two.", "one|two");
    dc_pretok_release(&p);
    assert_int_equal(dc_pretok_regex(&p, "(?=(\\d{3})+(?!\\d))", DC_SPLIT_ISOLATED, 0, NULL),
                     DC_OK); /* empty matches cut */
    split_is(&p, "1234567", "1|234|567");
    dc_pretok_release(&p);
}

static void prefix_space(void **unused)
{
    (void)unused;
    dc_pretok p = {0};
    assert_int_equal(dc_pretok_prefix(&p, NULL), DC_OK);
    assert_int_equal(dc_pretok_scan(&p, DC_SCAN_GPT2, NULL), DC_OK);
    split_is(&p, "one two", " one| two");
    split_is(&p, " one", " one");
    dc_pretok_release(&p);
}

static void classes_in_patterns(void **unused)
{
    (void)unused;
    static const struct {
        const char *pattern, *text, *expected;
    } cases[] = {
        {"[\\p{Lu}\\p{Lt}][\\p{Ll}]+", "aBcd Ef", "a|Bcd| |Ef"},
        {"[^\\p{L}\\s]+", "ab, c1", "ab|,| c|1"},
        {"[\\p{L}&&[^\\p{Han}]]+",
         "ab\xE4\xB8\x80"
         "c",
         "ab|\xE4\xB8\x80|c"},
        {"\\P{L}+", "ab12c", "ab|12|c"},
        {"\\p{^L}+", "ab12c", "ab|12|c"},
        {"[a-c\\-\\x{31}-\\u0032]+", "xa-1b3", "x|a-1b|3"},
        {"[]x]+", "a]xb", "a|]x|b"},
        {"\\S+",
         "a\xC2\x85"
         "b",
         "a|\xC2\x85|b"},
        {"(?i:'S)", "'\xC5\xBF's", "'\xC5\xBF|'s"},
        {"[\\p{L}]", "\xF0\x90\xB5\x90", "\xF0\x90\xB5\x90"}, /* a letter of Unicode 16, whatever PCRE2 knows */
        {"[\\[\\]]", "a[b]", "a|[|b|]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_pretok p = {0};
        dc_error err = {0};
        if (dc_pretok_regex(&p, cases[i].pattern, DC_SPLIT_ISOLATED, 0, &err)) fail_msg("%s", err.message);
        split_is(&p, cases[i].text, cases[i].expected);
        dc_pretok_release(&p);
    }
}

static void patterns_are_refused_by_name(void **unused)
{
    (void)unused;
    static const char *const patterns[] = {"\\h+", "[[:alpha:]]", "\\p{Greek}", "\\p{d}", "\\p{L", "[a",
                                           "(a",   "\\",          "[\\q]",      "[z-a]",  "\\pL",  "[\\x{110000}]"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        dc_pretok p = {0};
        dc_error err = {0};
        if (dc_pretok_regex(&p, patterns[i], DC_SPLIT_ISOLATED, 0, &err) != DC_EUNKNOWN)
            fail_msg("%s passed", patterns[i]);
        assert_non_null(strstr(err.message, patterns[i]));
        dc_pretok_release(&p);
    }
}

static void names_are_found_again(void **unused)
{
    (void)unused;
    static const char *const names[] = {"gpt-2",   "smollm", "llama-bpe",   "smaug-bpe",      "qwen2",  "qwen35",
                                        "default", "falcon", "deepseek-v3", "deepseek-coder", "gpt-4o", "tekken"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dc_pretok p = {0};
        dc_error err = {0};
        int ignore_merges, add_bos;
        if (dc_pretok_named(&p, names[i], &ignore_merges, &add_bos, &err)) fail_msg("%s", err.message);
        assert_string_equal(dc_pretok_name(&p, ignore_merges), names[i]);
        dc_pretok_release(&p);
    }
    dc_pretok p = {0};
    dc_error err = {0};
    int unused_flag;
    assert_int_equal(dc_pretok_named(&p, "bert-bge", &unused_flag, &unused_flag, &err), DC_EUNKNOWN);
    assert_non_null(strstr(err.message, "'bert-bge'"));
    assert_int_equal(dc_pretok_regex(&p, "x", DC_SPLIT_ISOLATED, 0, NULL), DC_OK);
    assert_null(dc_pretok_name(&p, 0));
    dc_pretok_release(&p);
}

static void no_memory_is_told(void **unused)
{
    (void)unused;
    for (long k = 1;; k++) {
        dc_pretok p = {0};
        dc_error err = {0};
        dc_pretok_work w = {0};
        joined j = {.source = "ab, c"};
        dc_alloc_fail_at(k);
        int rc = dc_pretok_regex(&p, "[^\\p{Lu}\\s]+", DC_SPLIT_CONTIGUOUS, 0, &err);
        if (rc == DC_OK) rc = dc_pretok_run(&p, &w, "ab, c", 5, join, &j, &err);
        const int failed = j.text.failed;
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(err.code, DC_ENOMEM);
        dc_pretok_work_release(&w);
        dc_pretok_release(&p);
        dc_str_release(&j.text);
        if (rc == DC_OK && !failed && k > 30) break;
        assert_true(k < 2000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_equal_their_patterns),
        cmocka_unit_test(known_words),
        cmocka_unit_test(behaviors_of_split),
        cmocka_unit_test(prefix_space),
        cmocka_unit_test(classes_in_patterns),
        cmocka_unit_test(patterns_are_refused_by_name),
        cmocka_unit_test(names_are_found_again),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
