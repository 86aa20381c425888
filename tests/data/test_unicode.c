/* tests/data/test_unicode.c -- the property table and sets of code points. */
#include "data/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/str.h"

static void properties_of_known_code_points(void **unused)
{
    (void)unused;
    assert_int_equal(dc_unicode('a') & DC_UNI_CATEGORY, DC_CAT_LL);
    assert_int_equal(dc_unicode('5') & DC_UNI_CATEGORY, DC_CAT_ND);
    assert_true(dc_unicode(0xBD) & DC_UNI_NUMBER);  /* one half */
    assert_true(dc_unicode(0x3000) & DC_UNI_SPACE); /* ideographic space */
    assert_false(dc_unicode(0x1C) & DC_UNI_SPACE);  /* Python's isspace says otherwise */
    assert_false(dc_unicode(0x200B) & DC_UNI_SPACE);
    assert_true(dc_unicode(0x301) & DC_UNI_MARK);
    assert_false(dc_unicode(0x301) & (DC_UNI_LETTER | DC_UNI_NFC));
    assert_true(dc_unicode(0xE9) & DC_UNI_NFC);
    assert_false(dc_unicode(0xE9) & DC_UNI_NFD);
    assert_false(dc_unicode(0x1161) & DC_UNI_NFC); /* a Hangul vowel joins what stands before */
    assert_true(dc_unicode(0x4E00) & DC_UNI_HAN);
    assert_true(dc_unicode(0x24B6) & DC_UNI_WORD); /* circled A, alphabetic though a symbol */
    assert_int_equal(dc_unicode(0x10FFFF) & DC_UNI_CATEGORY, DC_CAT_CN);
}

/* 9.0 does not know U+08D3, a mark of 11.0: for normalization it is no mark. Garay's letters came with 16.0; the digits of Tolong Siki with 17.0. */
static void versions_differ_where_they_should(void **unused)
{
    (void)unused;
    assert_true((dc_unicode(0x8D3) & (DC_UNI_INERT | DC_UNI_NFC)) == (DC_UNI_INERT | DC_UNI_NFC));
    assert_false(dc_unicode(0x301) & DC_UNI_INERT);
    assert_true((dc_unicode(0x10D50) & (DC_UNI_LETTER | DC_UNI_NEW)) == (DC_UNI_LETTER | DC_UNI_NEW));
    assert_false(dc_unicode('a') & DC_UNI_NEW);
    assert_true((dc_unicode(0x11DE0) & (DC_UNI_NUMBER | DC_UNI_NUMBER17)) == DC_UNI_NUMBER17);
}

static uint64_t members(const dc_ranges *r)
{
    uint64_t n = 0;
    for (size_t i = 0; i < r->n; i++) n += (uint64_t)r->data[i][1] - r->data[i][0] + 1;
    return n;
}

static dc_ranges class_of(const char *name, int old)
{
    dc_ranges r = {0};
    assert_int_equal(dc_unicode_class(&r, name, strlen(name), old), 0);
    dc_ranges_sort(&r);
    assert_false(r.failed);
    return r;
}

static void classes_have_the_known_sizes(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        int old;
        uint64_t n;
    } sizes[] = {{"L", 0, 141028}, {"N", 0, 1911},          {"Nd", 0, 760},  {"d", 0, 760},
                 {"s", 0, 25},     {"M", 0, 2501},          {"Lu", 0, 1858}, {"P", 0, 855},
                 {"S", 0, 8514},   {"L", 1, 141028 - 4302}, {"Lu", 1, 1831}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        dc_ranges r = class_of(sizes[i].name, sizes[i].old);
        assert_int_equal(members(&r), sizes[i].n);
        dc_ranges_release(&r);
    }
    dc_ranges none = {0};
    assert_int_equal(dc_unicode_class(&none, "Lx", 2, 0), -1);
}

static void sets_invert_and_intersect(void **unused)
{
    (void)unused;
    dc_ranges a = class_of("L", 0), b = class_of("L", 0), han = class_of("Han", 0);
    dc_ranges_invert(&b);
    assert_int_equal(members(&a) + members(&b), 0x110000 - 0x800);
    dc_ranges_intersect(&b, &a);
    assert_int_equal(b.n, 0);
    const uint64_t letters = members(&a);
    dc_ranges_intersect(&a, &han);
    assert_true(members(&a) > 90000 && members(&a) < letters);
    dc_ranges_release(&a), dc_ranges_release(&b), dc_ranges_release(&han);
    dc_ranges c = {0};
    dc_ranges_add(&c, 5, 9), dc_ranges_add(&c, 1, 2), dc_ranges_add(&c, 3, 6);
    dc_ranges_sort(&c);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.data[0][1], 9);
    dc_ranges_release(&c);
}

static void spans_end_at_the_first_bad_byte(void **unused)
{
    (void)unused;
    assert_int_equal(dc_utf8_span("plain ascii of some length", 26), 26);
    assert_int_equal(dc_utf8_span("twelve ascii\xFF", 13), 12);
    assert_int_equal(dc_utf8_span("\xC3\xA9\xC3", 3), 2);
    assert_int_equal(dc_utf8_span("\xED\xA0\x80", 3), 0); /* a surrogate */
    assert_int_equal(dc_utf8_span("", 0), 0);
}

static void next_agrees_with_decode(void **unused)
{
    (void)unused;
    for (int32_t cp = 0; cp <= 0x10FFFF; cp += cp < 0x3000 ? 1 : 97) {
        char text[4];
        uint32_t back;
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        const size_t n = dc_utf8_encode(text, cp);
        assert_int_equal(dc_utf8_next(&back, text), n);
        assert_int_equal(back, cp);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(properties_of_known_code_points), cmocka_unit_test(versions_differ_where_they_should),
        cmocka_unit_test(classes_have_the_known_sizes),    cmocka_unit_test(sets_invert_and_intersect),
        cmocka_unit_test(spans_end_at_the_first_bad_byte), cmocka_unit_test(next_agrees_with_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
