/* data/pretok_regex.c -- patterns without a scanner: PCRE2 with its just-in-time compiler.
 *
 * The files' patterns are Oniguruma's (Ruby syntax). Character classes are expanded to ranges of code points from data/unicode.h, because
 * PCRE2's own Unicode version is whatever the system has. Refused: constructs that mean something else in PCRE2 (\h, \H, \R, \X,
 * \K, \G, POSIX brackets). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/str.h"
#include "data/pretok.h"
#include "data/unicode.h"

struct dc_regex {
    pcre2_code *code;
    char *pattern;
};

struct dc_regex_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* ---- translation ---- */

typedef struct source {
    const char *pattern; /* whole, for messages */
    const char *at;
    int old;
    dc_error *err;
} source;

static int refuse(const source *s, const char *what, size_t n)
{
    return dc_fail(s->err, DC_EUNKNOWN, "the pre-tokenizer's pattern '%s' uses %.*s, which is not supported",
                   s->pattern, (int)n, what);
}

/* \p{X}, \P{X}, \p{^X}, \s, \S, \d, \D, \w, \W at s->at (behind the backslash): 1 and the sorted set added, 0 when it is none of
 * them, or an error code. */
static int class_escape(source *s, dc_ranges *out)
{
    const char c = *s->at;
    dc_ranges set = {0};
    int negative = c == 'P' || c == 'S' || c == 'D' || c == 'W', unknown;
    if (c == 'p' || c == 'P') {
        const char *begin = s->at + 2, *end = s->at[1] == '{' ? strchr(begin, '}') : NULL;
        if (!end) return refuse(s, s->at - 1, 2);
        if (*begin == '^') begin++, negative = !negative;
        unknown = dc_unicode_class(&set, begin, (size_t)(end - begin), s->old);
        if (unknown || (size_t)(end - begin) < 1 || strchr("dsw", *begin)) {
            dc_ranges_release(&set);
            return refuse(s, s->at - 1, (size_t)(end + 2 - s->at));
        }
        s->at = end + 1;
    } else if (c && strchr("sSdDwW", c)) {
        const char name = (char)(c | 0x20);
        dc_unicode_class(&set, &name, 1, s->old);
        s->at++;
    } else {
        return 0;
    }
    dc_ranges_sort(&set);
    if (negative) dc_ranges_invert(&set);
    for (size_t i = 0; i < set.n; i++) dc_ranges_add(out, set.data[i][0], set.data[i][1]);
    out->failed |= set.failed;
    dc_ranges_release(&set);
    return 1;
}

/* One literal code point of a bracket class, escapes included. */
static int class_literal(source *s, uint32_t *cp)
{
    if (*s->at != '\\') {
        s->at += dc_utf8_next(cp, s->at);
        return DC_OK;
    }
    const char c = s->at[1];
    static const char letters[] = "nrtfvae", values[] = "\n\r\t\f\v\a\x1b";
    const char *known = c ? strchr(letters, c) : NULL;
    if (known) {
        *cp = (unsigned char)values[known - letters];
        s->at += 2;
        return DC_OK;
    }
    if (c == 'x' || c == 'u') {
        const int braces = s->at[2] == '{';
        char digits[9] = {0};
        const char *from = s->at + 2 + braces;
        const size_t most = braces ? 8 : c == 'x' ? 2 : 4;
        size_t n = 0;
        while (n < most && from[n] && strchr("0123456789abcdefABCDEF", from[n])) digits[n] = from[n], n++;
        const unsigned long value = strtoul(digits, NULL, 16);
        if (n == 0 || value > 0x10FFFF || (braces && from[n] != '}')) return refuse(s, s->at, 2);
        *cp = (uint32_t)value;
        s->at = from + n + braces;
        return DC_OK;
    }
    if (c == 0 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return refuse(s, s->at, 2);
    s->at++;
    s->at += dc_utf8_next(cp, s->at);
    return DC_OK;
}

enum { CLASS_DEPTH = 8 };

/* The inside of a bracket class up to its ']', s->at behind its '[' and a '^' if it had one: sorted, not inverted. */
static int class_body(source *s, dc_ranges *out, int depth)
{
    int rc = DC_OK, first = 1;
    dc_ranges part = {0}, all = {0};
    int intersected = 0;
    if (depth > CLASS_DEPTH) return refuse(s, "brackets nested this deep", 25);
    for (;; first = 0) {
        if (*s->at == 0) DC_TRY(refuse(s, "a '[' without its ']'", 21));
        if (*s->at == ']' && !first) break;
        if (s->at[0] == '&' && s->at[1] == '&') { /* intersection, looser than all else */
            dc_ranges_sort(&part);
            if (intersected) dc_ranges_intersect(&all, &part);
            else all = part, part = (dc_ranges){0};
            part.n = 0;
            intersected = 1;
            s->at += 2;
        } else if (*s->at == '[') {
            dc_ranges inner = {0};
            if (s->at[1] == ':') DC_TRY(refuse(s, s->at, 2));
            const int negative = s->at[1] == '^';
            s->at += 1 + negative;
            rc = class_body(s, &inner, depth + 1);
            if (rc == DC_OK && negative) dc_ranges_invert(&inner);
            for (size_t i = 0; rc == DC_OK && i < inner.n; i++)
                dc_ranges_add(&part, inner.data[i][0], inner.data[i][1]);
            part.failed |= inner.failed;
            dc_ranges_release(&inner);
            if (rc != DC_OK) goto done;
        } else {
            uint32_t low, high;
            if (*s->at == '\\') {
                s->at++;
                const int was = class_escape(s, &part);
                if (was < 0) DC_TRY(was);
                if (was) continue;
                s->at--;
            }
            DC_TRY(class_literal(s, &low));
            high = low;
            if (s->at[0] == '-' && s->at[1] != ']' && s->at[1] != 0) {
                s->at++;
                DC_TRY(class_literal(s, &high));
                if (high < low) DC_TRY(refuse(s, "a range that ends before it begins", 34));
            }
            dc_ranges_add(&part, low, high);
        }
    }
    s->at++;
    dc_ranges_sort(&part);
    if (intersected) dc_ranges_intersect(&all, &part);
    else all = part, part = (dc_ranges){0};
    *out = all;
    all = (dc_ranges){0};
done:
    dc_ranges_release(&part);
    dc_ranges_release(&all);
    return rc;
}

static void put_class(dc_str *out, const dc_ranges *set, int negative)
{
    if (set->failed) out->failed = 1;
    if (set->n == 0) {
        dc_str_puts(out, negative ? "[\\x{0}-\\x{10ffff}]" : "(?!)");
        return;
    }
    dc_str_puts(out, negative ? "[^" : "[");
    for (size_t i = 0; i < set->n; i++) {
        dc_str_putf(out, "\\x{%x}", (unsigned)set->data[i][0]);
        if (set->data[i][1] > set->data[i][0]) dc_str_putf(out, "-\\x{%x}", (unsigned)set->data[i][1]);
    }
    dc_str_putc(out, ']');
}

/* Behind a backslash outside brackets. */
static int translate_escape(source *s, dc_str *out)
{
    dc_ranges set = {0};
    int rc = class_escape(s, &set);
    if (rc == 1) {
        dc_ranges_sort(&set);
        put_class(out, &set, 0);
        rc = DC_OK;
    } else if (rc == 0) {
        if (*s->at == 0 || strchr("hHRXKGkgyYO", *s->at)) return refuse(s, s->at - 1, 2);
        if (*s->at == 'u') { /* \uHHHH is \x{HHHH} */
            uint32_t cp;
            s->at--;
            rc = class_literal(s, &cp);
            if (rc == DC_OK) dc_str_putf(out, "\\x{%x}", (unsigned)cp);
        } else {
            dc_str_putc(out, '\\');
            dc_str_putc(out, *s->at++);
        }
    }
    dc_ranges_release(&set);
    return rc;
}

static int translate(source *s, dc_str *out)
{
    int rc = DC_OK;
    while (*s->at && rc == DC_OK) {
        if (*s->at == '\\') {
            s->at++;
            rc = translate_escape(s, out);
        } else if (*s->at == '[') {
            dc_ranges set = {0};
            const int negative = s->at[1] == '^';
            s->at += 1 + negative;
            rc = class_body(s, &set, 0);
            if (rc == DC_OK) put_class(out, &set, negative);
            dc_ranges_release(&set);
        } else {
            dc_str_putc(out, *s->at++);
        }
    }
    return rc;
}

/* ---- compiling and matching ---- */

static void *pcre_malloc(PCRE2_SIZE bytes, void *unused)
{
    (void)unused;
    return dc_malloc(bytes);
}

static void pcre_free(void *memory, void *unused)
{
    (void)unused;
    dc_free(memory);
}

static int compile(dc_regex *r, const dc_str *text, dc_error *err)
{
    int rc = DC_OK, code = 0;
    PCRE2_SIZE at = 0;
    pcre2_general_context *general = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    if (!context) {
        rc = dc_fail_memory(err, text->n, "a pattern");
    } else {
        /* In Ruby syntax ^ and $ stand at line ends. */
        r->code = pcre2_compile((PCRE2_SPTR)text->data, text->n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK, &code, &at, context);
        if (!r->code) {
            PCRE2_UCHAR why[120] = "";
            pcre2_get_error_message(code, why, sizeof why);
            rc = dc_fail(err, code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY ? DC_ENOMEM : DC_EUNKNOWN,
                         "the pre-tokenizer's pattern '%s' does not compile: %s", r->pattern, (const char *)why);
        } else {
            pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, not different */
        }
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return rc;
}

int dc_regex_new(dc_regex **out, const char *pattern, int old, dc_error *err)
{
    int rc = DC_OK;
    dc_str text = {0};
    dc_regex *r = dc_calloc(1, sizeof *r);
    if (!r || !(r->pattern = dc_strdup(pattern))) {
        rc = dc_fail_memory(err, sizeof *r + strlen(pattern), "a pattern");
        goto done;
    }
    if (dc_utf8_span(pattern, strlen(pattern)) != strlen(pattern))
        DC_TRY(dc_fail(err, DC_EFORMAT, "the pre-tokenizer's pattern is not valid UTF-8"));
    source s = {pattern, pattern, old, err};
    DC_TRY(translate(&s, &text));
    dc_str_putc(&text, 0);
    if (text.failed) DC_TRY(dc_fail_memory(err, text.room, "a pattern"));
    text.n--;
    DC_TRY(compile(r, &text, err));
    *out = r;
    r = NULL;
done:
    dc_str_release(&text);
    dc_regex_free(r);
    return rc;
}

void dc_regex_free(dc_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    dc_free(r->pattern);
    dc_free(r);
}

enum { JIT_STACK_START = 32 * 1024, JIT_STACK_MOST = 8 * 1024 * 1024 };

static struct dc_regex_work *work_new(void)
{
    struct dc_regex_work *w = dc_calloc(1, sizeof *w);
    if (!w) return NULL;
    pcre2_general_context *general = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (general) {
        w->match = pcre2_match_data_create(1, general);
        w->context = pcre2_match_context_create(general);
        w->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MOST, general);
    }
    pcre2_general_context_free(general);
    if (!w->match || !w->context) {
        dc_regex_work_free(w);
        return NULL;
    }
    if (w->stack) pcre2_jit_stack_assign(w->context, NULL, w->stack);
    return w;
}

void dc_regex_work_free(struct dc_regex_work *w)
{
    if (!w) return;
    pcre2_match_data_free(w->match);
    pcre2_match_context_free(w->context);
    pcre2_jit_stack_free(w->stack);
    dc_free(w);
}

int dc_regex_next(const dc_regex *r, struct dc_regex_work **w, const char *text, size_t n, size_t from, size_t *begin,
                  size_t *end, dc_error *err)
{
    if (!*w && !(*w = work_new())) return dc_fail_memory(err, sizeof **w, "matching a pattern");
    const int found = pcre2_match(r->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, (*w)->match, (*w)->context);
    if (found == PCRE2_ERROR_NOMATCH) return 0;
    if (found < 0) {
        PCRE2_UCHAR why[120] = "";
        pcre2_get_error_message(found, why, sizeof why);
        return dc_fail(err, found == PCRE2_ERROR_NOMEMORY || found == PCRE2_ERROR_HEAPLIMIT ? DC_ENOMEM : DC_EFORMAT,
                       "matching the pre-tokenizer's pattern '%s' failed at byte %zu of the text: %s", r->pattern, from,
                       (const char *)why);
    }
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer((*w)->match);
    *begin = place[0];
    *end = place[1];
    return 1;
}
