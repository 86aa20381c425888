/* data/jinja_text.c -- Python's str: characters, whitespace, case, search. The methods are in jinja_str.c. */
#include "data/jinja.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

size_t dc_jj_chars(const jstr *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += ((unsigned char)s->p[i] & 0xc0) != 0x80;
    return n;
}

size_t dc_jj_at(const jstr *s, size_t chars)
{
    size_t i = 0;
    for (; i < s->n; i++) {
        if (((unsigned char)s->p[i] & 0xc0) == 0x80) continue;
        if (chars-- == 0) break;
    }
    return i;
}

/* str.isspace: White_Space, and the four separators of ASCII. */
int dc_jj_is_space(int32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r') || (cp >= 0x1c && cp <= 0x1f);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static int has_char(const jstr *set, const char *p, size_t n)
{
    if (!set) {
        int32_t cp;
        dc_utf8_decode(&cp, p, n);
        return dc_jj_is_space(cp);
    }
    for (size_t i = 0; i + n <= set->n; i++)
        if (memcmp(set->p + i, p, n) == 0) return 1; /* UTF-8: a character never begins inside of another */
    return 0;
}

jstr dc_jj_strip(const jstr *s, const jstr *chars, int sides)
{
    size_t begin = 0, end = s->n;
    while ((sides & 1) && begin < end) {
        const jstr rest = {s->p + begin, end - begin, 0};
        const size_t n = dc_jj_at(&rest, 1);
        if (!has_char(chars, rest.p, n)) break;
        begin += n;
    }
    while ((sides & 2) && end > begin) {
        size_t n = 1;
        while (n < end - begin && ((unsigned char)s->p[end - n] & 0xc0) == 0x80) n++;
        if (!has_char(chars, s->p + end - n, n)) break;
        end -= n;
    }
    return (jstr){s->p + begin, end - begin, 0};
}

int64_t dc_jj_search(jrun *r, const jstr *s, const jstr *needle, size_t from, int last)
{
    if (from > s->n || needle->n > s->n - from || dc_jj_step(r, (s->n - from) / 16)) return -1;
    if (needle->n == 0) return (int64_t)(last ? s->n : from);
    if (!last) {
        const char *found = memmem(s->p + from, s->n - from, needle->p, needle->n);
        return found ? found - s->p : -1;
    }
    for (size_t i = s->n - needle->n + 1; i-- > from;)
        if (s->p[i] == needle->p[0] && memcmp(s->p + i, needle->p, needle->n) == 0) return (int64_t)i;
    return -1;
}

/* ---- case ---- */
typedef struct special {
    int32_t cp;
    const char *upper, *title;
} special;

/* Capitals of more than one letter (SpecialCasing.txt) outside of polytonic Greek, whose capitals are taken letter by letter. */
static const special specials[] = {{0xdf, "SS", "Ss"},
                                   {0x149, "\xca\xbcN", "\xca\xbcN"},
                                   {0x1f0, "J\xcc\x8c", "J\xcc\x8c"},
                                   {0x390, "\xce\x99\xcc\x88\xcc\x81", "\xce\x99\xcc\x88\xcc\x81"},
                                   {0x3b0, "\xce\xa5\xcc\x88\xcc\x81", "\xce\xa5\xcc\x88\xcc\x81"},
                                   {0x587, "\xd4\xb5\xd5\x92", "\xd4\xb5\xd6\x82"},
                                   {0x1e96, "H\xcc\xb1", "H\xcc\xb1"},
                                   {0x1e97, "T\xcc\x88", "T\xcc\x88"},
                                   {0x1e98, "W\xcc\x8a", "W\xcc\x8a"},
                                   {0x1e99, "Y\xcc\x8a", "Y\xcc\x8a"},
                                   {0x1e9a, "A\xca\xbe", "A\xca\xbe"},
                                   {0xfb00, "FF", "Ff"},
                                   {0xfb01, "FI", "Fi"},
                                   {0xfb02, "FL", "Fl"},
                                   {0xfb03, "FFI", "Ffi"},
                                   {0xfb04, "FFL", "Ffl"},
                                   {0xfb05, "ST", "St"},
                                   {0xfb06, "ST", "St"},
                                   {0xfb13, "\xd5\x84\xd5\x86", "\xd5\x84\xd5\xb6"},
                                   {0xfb14, "\xd5\x84\xd4\xb5", "\xd5\x84\xd5\xa5"},
                                   {0xfb15, "\xd5\x84\xd4\xbb", "\xd5\x84\xd5\xab"},
                                   {0xfb16, "\xd5\x8e\xd5\x86", "\xd5\x8e\xd5\xb6"},
                                   {0xfb17, "\xd5\x84\xd4\xbd", "\xd5\x84\xd5\xad"}};

static int is_letter(int32_t cp)
{
    const utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static int is_cased(int32_t cp)
{
    const utf8proc_category_t c = utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static void put(dc_str *out, int32_t cp)
{
    char bytes[4];
    dc_str_append(out, bytes, dc_utf8_encode(bytes, cp));
}

static void put_upper(dc_str *out, int32_t cp, int title)
{
    if (cp < 0x80) {
        dc_str_putc(out, (char)(cp >= 'a' && cp <= 'z' ? cp - 32 : cp));
        return;
    }
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
        if (specials[i].cp == cp) {
            dc_str_puts(out, title ? specials[i].title : specials[i].upper);
            return;
        }
    put(out, title ? utf8proc_totitle(cp) : utf8proc_toupper(cp));
}

/* A capital sigma is final behind a letter with no letter following. */
static void put_lower(dc_str *out, const jstr *s, size_t at, size_t used, int32_t cp, int after_cased)
{
    if (cp < 0x80) {
        dc_str_putc(out, (char)(cp >= 'A' && cp <= 'Z' ? cp + 32 : cp));
        return;
    }
    if (cp == 0x130) {
        dc_str_puts(out, "i\xcc\x87");
        return;
    }
    if (cp == 0x3a3) {
        int32_t next = ' ';
        if (at + used < s->n) dc_utf8_decode(&next, s->p + at + used, s->n - at - used);
        put(out, after_cased && !is_cased(next) ? 0x3c2 : 0x3c3);
        return;
    }
    put(out, utf8proc_tolower(cp));
}

jval dc_jj_case(jrun *r, const jstr *s, jcase how)
{
    dc_str out = {0};
    int start = 1, cased = 0; /* at the start of a word; behind a cased letter */
    if (dc_jj_step(r, s->n / 8)) return DC_JJ_NONE;
    for (size_t i = 0; i < s->n;) {
        int32_t cp;
        const size_t used = dc_utf8_decode(&cp, s->p + i, s->n - i);
        int up = how == CASE_UPPER;
        if (how == CASE_CAPITALIZE || how == CASE_TITLE || how == CASE_TITLE_FILTER) up = start;
        if (how == CASE_SWAP) up = utf8proc_category(cp) == UTF8PROC_CATEGORY_LL;
        if (up) put_upper(&out, cp, how == CASE_CAPITALIZE || how == CASE_TITLE);
        else put_lower(&out, s, i, used, cp, cased);
        cased = is_cased(cp);
        if (how == CASE_CAPITALIZE) start = 0;
        if (how == CASE_TITLE) start = !cased;
        if (how == CASE_TITLE_FILTER) start = dc_jj_is_space(cp) || (cp > 0 && cp < 0x80 && strchr("-({[<", cp));
        i += used;
    }
    return dc_jj_take(r, &out);
}

int dc_jj_str_is_case(const jstr *s, int upper)
{
    int any = 0;
    for (size_t i = 0; i < s->n;) {
        int32_t cp;
        i += dc_utf8_decode(&cp, s->p + i, s->n - i);
        const utf8proc_category_t c = utf8proc_category(cp);
        if (c == UTF8PROC_CATEGORY_LT || c == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU)) return 0;
        any |= c == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return any;
}

int dc_jj_str_is(const jstr *s, jclass what)
{
    for (size_t i = 0; i < s->n;) {
        int32_t cp;
        i += dc_utf8_decode(&cp, s->p + i, s->n - i);
        const utf8proc_category_t c = utf8proc_category(cp);
        const int decimal = c == UTF8PROC_CATEGORY_ND,
                  number = decimal || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
        const int raised = cp == 0xb2 || cp == 0xb3 || cp == 0xb9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
                           (cp >= 0x2080 && cp <= 0x2089);
        int yes = 0;
        switch (what) {
        case CLASS_SPACE: yes = dc_jj_is_space(cp); break;
        case CLASS_ALPHA: yes = is_letter(cp); break;
        case CLASS_ALNUM: yes = is_letter(cp) || number; break;
        case CLASS_DECIMAL: yes = decimal; break;
        case CLASS_DIGIT: yes = decimal || raised; break;
        case CLASS_NUMERIC: yes = number; break;
        case CLASS_ASCII: yes = cp < 0x80; break;
        }
        if (!yes) return 0;
    }
    return s->n > 0 || what == CLASS_ASCII;
}

/* ---- building ---- */
jval dc_jj_replace(jrun *r, const jstr *s, const jstr *from, const jstr *to, int64_t count)
{
    dc_str out = {0};
    size_t at = 0;
    if (dc_jj_step(r, s->n / 8)) return DC_JJ_NONE;
    for (; count != 0; count--) {
        int64_t found = -1;
        if (from->n) {
            const char *p = memmem(s->p + at, s->n - at, from->p, from->n);
            if (p) found = p - s->p;
            if (found < 0) break;
            dc_str_append(&out, s->p + at, (size_t)found - at);
            at = (size_t)found + from->n;
        }
        dc_str_append(&out, to->p, to->n);
        if (!from->n) { /* an empty text is found before each character and at the end */
            const jstr rest = {s->p + at, s->n - at, 0};
            if (!rest.n) break;
            const size_t n = dc_jj_at(&rest, 1);
            dc_str_append(&out, rest.p, n);
            at += n;
        }
        if (out.n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
        if (r->rc) break;
    }
    dc_str_append(&out, s->p + at, s->n - at);
    return dc_jj_take(r, &out);
}

jval dc_jj_center(jrun *r, const jstr *s, int64_t width, const jstr *fill, int side)
{
    const int64_t pad = width - (int64_t)dc_jj_chars(s);
    if (pad > 1000000) return dc_jj_fail(r, DC_EFORMAT, "a width of %lld is too large", (long long)width), DC_JJ_NONE;
    if (pad <= 0) return dc_jj_borrow(r, s->p, s->n);
    const int64_t left = side < 0 ? 0 : side > 0 ? pad : pad / 2 + (pad & width & 1); /* CPython's str.center */
    dc_str out = {0};
    for (int64_t i = 0; i < left; i++) dc_str_append(&out, fill->p, fill->n);
    dc_str_append(&out, s->p, s->n);
    for (int64_t i = left; i < pad; i++) dc_str_append(&out, fill->p, fill->n);
    return dc_jj_take(r, &out);
}

static int is_line_end(int32_t cp)
{
    return (cp >= '\n' && cp <= '\r') || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

const jseq *dc_jj_lines(jrun *r, const jstr *s, int keep)
{
    jval list = DC_JJ_NONE;
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        size_t n = 0, begin = 0;
        for (size_t i = 0; i < s->n;) {
            int32_t cp;
            const size_t line = i;
            i += dc_utf8_decode(&cp, s->p + i, s->n - i);
            if (!is_line_end(cp) && i < s->n) continue;
            const size_t end = is_line_end(cp) ? line : i;
            if (cp == '\r' && i < s->n && s->p[i] == '\n') i++;
            if (pass) list.as.seq->v[n] = dc_jj_borrow(r, s->p + begin, (keep ? i : end) - begin);
            n++;
            begin = i;
        }
        if (!pass) list = dc_jj_seq(r, J_LIST, n);
        if (r->rc || dc_jj_step(r, s->n / 8)) return NULL;
    }
    return list.as.seq;
}

/* ---- numbers ---- */
/* int(s, base): whitespace around, a sign, underscores between digits, and for base 0 or its own base the prefixes 0x 0o 0b. */
int dc_jj_parse_int(const jstr *s, int base, int64_t *out)
{
    const jstr t = dc_jj_strip(s, NULL, 3);
    size_t i = 0;
    int negative = 0, digits = 0;
    uint64_t value = 0;
    if (i < t.n && (t.p[i] == '+' || t.p[i] == '-')) negative = t.p[i++] == '-';
    if (i + 1 < t.n && t.p[i] == '0' && base != 10) {
        const char c = (char)(t.p[i + 1] | 32);
        const int prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (base == prefix || base == 0)) base = prefix, i += 2;
    }
    if (base == 0) base = 10;
    for (; i < t.n; i++) {
        const char c = t.p[i];
        if (c == '_' && digits && i + 1 < t.n && t.p[i + 1] != '_') continue;
        const int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (d >= base) return -1;
        if (value > (UINT64_C(9223372036854775807) - (uint64_t)d) / (uint64_t)base) return -2;
        value = value * (uint64_t)base + (uint64_t)d;
        digits = 1;
    }
    if (!digits) return -1;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return 0;
}

int dc_jj_parse_real(const jstr *s, double *out)
{
    const jstr t = dc_jj_strip(s, NULL, 3);
    char text[128];
    if (t.n == 0 || t.n >= sizeof text) return -1;
    for (size_t i = 0; i < t.n; i++) { /* strtod also takes hexadecimal and nan(...), Python does not */
        if (!t.p[i] || !strchr("0123456789+-.eEinftyINFTYaA", t.p[i])) return -1;
        text[i] = t.p[i];
    }
    text[t.n] = 0;
    char *end;
    *out = strtod(text, &end);
    return *end ? -1 : 0;
}
