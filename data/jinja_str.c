/* data/jinja_str.c -- the methods of Python's str that templates call. */
#include "data/jinja.h"

#include <string.h>

#define METHOD(name) static jval name(jrun *r, jval self, const jval *a, const jcall *c)
#define UNUSED       (void)r, (void)self, (void)a, (void)c
/* A method that is one expression. */
#define GIVES(name, value) \
    METHOD(name) \
    { \
        UNUSED; \
        return value; \
    }

static const jstr space = {" ", 1, 0}, zero = {"0", 1, 0};

static jval part(jrun *r, const jstr *s, size_t begin, size_t end)
{
    return dc_jj_borrow(r, s->p + begin, end - begin);
}

static jval strip(jrun *r, jval self, jval chars, int sides)
{
    const jstr *set =
        chars.type == J_MISSING || chars.type == J_NONE ? NULL : dc_jj_want_text(r, chars, "the characters to strip");
    if (r->rc) return DC_JJ_NONE;
    const jstr s = dc_jj_strip(self.as.s, set, sides);
    return dc_jj_borrow(r, s.p, s.n);
}

GIVES(m_strip, strip(r, self, a[0], 3))
GIVES(m_lstrip, strip(r, self, a[0], 1))
GIVES(m_rstrip, strip(r, self, a[0], 2))
GIVES(m_upper, dc_jj_case(r, self.as.s, CASE_UPPER))
GIVES(m_lower, dc_jj_case(r, self.as.s, CASE_LOWER))
GIVES(m_title, dc_jj_case(r, self.as.s, CASE_TITLE))
GIVES(m_capitalize, dc_jj_case(r, self.as.s, CASE_CAPITALIZE))
GIVES(m_swapcase, dc_jj_case(r, self.as.s, CASE_SWAP))
GIVES(m_isupper, dc_jj_bool(dc_jj_str_is_case(self.as.s, 1)))
GIVES(m_islower, dc_jj_bool(dc_jj_str_is_case(self.as.s, 0)))
GIVES(m_isspace, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_SPACE)))
GIVES(m_isalpha, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_ALPHA)))
GIVES(m_isalnum, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_ALNUM)))
GIVES(m_isdigit, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_DIGIT)))
GIVES(m_isdecimal, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_DECIMAL)))
GIVES(m_isnumeric, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_NUMERIC)))
GIVES(m_isascii, dc_jj_bool(dc_jj_str_is(self.as.s, CLASS_ASCII)))

/* The part s[start:end] that search methods look at, as bytes; 0 when start lies behind the end. */
static int window(jrun *r, const jstr *s, jval start, jval end, size_t *from, jstr *seen)
{
    const int64_t n = start.type == J_MISSING && end.type == J_MISSING ? 0 : (int64_t)dc_jj_chars(s);
    int64_t low = dc_jj_want_int(r, start, 0, "start"), high = dc_jj_want_int(r, end, INT64_MAX, "end");
    if (low < 0) low = low + n < 0 ? 0 : low + n;
    if (high < 0) high = high + n < 0 ? 0 : high + n;
    *from = low ? dc_jj_at(s, (size_t)low) : 0;
    const size_t to = high == INT64_MAX ? s->n : dc_jj_at(s, (size_t)high);
    if (r->rc || (low > n && low > 0) || to < *from) return 0;
    *seen = (jstr){s->p + *from, to - *from, 0};
    return 1;
}

static int has_affix(jrun *r, const jstr *s, jval affix, int at_end)
{
    const jstr *t = dc_jj_want_text(r, affix, at_end ? "endswith's suffix" : "startswith's prefix");
    return t && t->n <= s->n && memcmp(at_end ? s->p + s->n - t->n : s->p, t->p, t->n) == 0;
}

static jval affix(jrun *r, jval self, const jval *a, int at_end)
{
    size_t from;
    jstr seen;
    int yes = 0;
    if (!window(r, self.as.s, a[1], a[2], &from, &seen)) return dc_jj_bool(0);
    if (a[0].type != J_TUPLE) return dc_jj_bool(has_affix(r, &seen, a[0], at_end));
    for (size_t i = 0; i < a[0].as.seq->n && !yes; i++) yes = has_affix(r, &seen, a[0].as.seq->v[i], at_end);
    return dc_jj_bool(yes);
}

GIVES(m_startswith, affix(r, self, a, 0))
GIVES(m_endswith, affix(r, self, a, 1))

static jval find(jrun *r, jval self, const jval *a, int last, int must)
{
    size_t from;
    jstr seen;
    int64_t at = -1;
    const jstr *needle = dc_jj_want_text(r, a[0], "what is searched");
    if (needle && window(r, self.as.s, a[1], a[2], &from, &seen)) at = dc_jj_search(r, &seen, needle, 0, last);
    if (at < 0 && must) dc_jj_fail(r, DC_EFORMAT, "substring not found");
    if (at < 0) return dc_jj_int(-1);
    const jstr before = {self.as.s->p, from + (size_t)at, 0};
    return dc_jj_int((int64_t)dc_jj_chars(&before));
}

GIVES(m_find, find(r, self, a, 0, 0))
GIVES(m_rfind, find(r, self, a, 1, 0))
GIVES(m_index, find(r, self, a, 0, 1))
GIVES(m_rindex, find(r, self, a, 1, 1))

METHOD(m_count)
{
    UNUSED;
    size_t from;
    jstr seen;
    int64_t n = 0, at = 0;
    const jstr *needle = dc_jj_want_text(r, a[0], "what is counted");
    if (!needle || !window(r, self.as.s, a[1], a[2], &from, &seen)) return dc_jj_int(0);
    if (!needle->n) return dc_jj_int((int64_t)dc_jj_chars(&seen) + 1);
    while ((at = dc_jj_search(r, &seen, needle, (size_t)at, 0)) >= 0) n++, at += (int64_t)needle->n;
    return dc_jj_int(n);
}

METHOD(m_replace)
{
    UNUSED;
    const jstr *from = dc_jj_want_text(r, a[0], "replace's first argument"),
               *to = dc_jj_want_text(r, a[1], "replace's second argument");
    const int64_t count = dc_jj_want_int(r, a[2], -1, "count");
    return r->rc ? DC_JJ_NONE : dc_jj_replace(r, self.as.s, from, to, count);
}

/* ---- split ---- */
/* Appends part [begin, end) of s to *list, which grows by doubling. */
static void push(jrun *r, jval *list, size_t *n, const jstr *s, size_t begin, size_t end)
{
    if (r->rc) return;
    if (*n == list->as.seq->n) {
        jval grown = dc_jj_seq(r, J_LIST, *n ? 2 * *n : 4);
        if (r->rc) return;
        if (*n) memcpy(grown.as.seq->v, list->as.seq->v, *n * sizeof(jval));
        *list = grown;
    }
    list->as.seq->v[(*n)++] = part(r, s, begin, end);
}

static jval finish(jrun *r, jval list, size_t n, int reversed)
{
    if (r->rc) return DC_JJ_NONE;
    list.as.seq->n = n;
    for (size_t i = 0; reversed && i < n / 2; i++) {
        const jval v = list.as.seq->v[i];
        list.as.seq->v[i] = list.as.seq->v[n - 1 - i];
        list.as.seq->v[n - 1 - i] = v;
    }
    return list;
}

static jval split_text(jrun *r, const jstr *s, const jstr *sep, int64_t max, int right)
{
    jval list = dc_jj_seq(r, J_LIST, 4);
    size_t n = 0, begin = 0, end = s->n;
    for (; max != 0 && !r->rc; max--) {
        const jstr rest = {s->p + begin, end - begin, 0};
        const int64_t at = dc_jj_search(r, &rest, sep, 0, right);
        if (at < 0) break;
        if (right) {
            push(r, &list, &n, s, (size_t)at + sep->n, end);
            end = (size_t)at;
        } else {
            push(r, &list, &n, s, begin, begin + (size_t)at);
            begin += (size_t)at + sep->n;
        }
    }
    push(r, &list, &n, s, begin, end);
    return finish(r, list, n, right);
}

/* Words between whitespace; what is left after `max` splits keeps its inner whitespace. */
static jval split_space(jrun *r, const jstr *s, int64_t max, int right)
{
    jval list = dc_jj_seq(r, J_LIST, 4);
    size_t n = 0;
    jstr rest = dc_jj_strip(s, NULL, right ? 2 : 1);
    while (rest.n && !r->rc) {
        if (max-- == 0) {
            push(r, &list, &n, &rest, 0, rest.n);
            break;
        }
        size_t word = 0;
        if (right) {
            for (size_t k = rest.n; k > 0; k--) {
                if (((unsigned char)rest.p[k - 1] & 0xc0) == 0x80) continue;
                const jstr one = {rest.p + k - 1, rest.n - k + 1, 0};
                int32_t cp;
                dc_utf8_decode(&cp, one.p, one.n);
                if (!dc_jj_is_space(cp)) continue;
                word = k - 1 + dc_jj_at(&one, 1);
                break;
            }
            push(r, &list, &n, &rest, word, rest.n);
            rest.n = word;
        } else {
            while (word < rest.n) {
                int32_t cp;
                const size_t used = dc_utf8_decode(&cp, rest.p + word, rest.n - word);
                if (dc_jj_is_space(cp)) break;
                word += used;
            }
            push(r, &list, &n, &rest, 0, word);
            rest = (jstr){rest.p + word, rest.n - word, 0};
        }
        rest = dc_jj_strip(&rest, NULL, right ? 2 : 1);
        if (dc_jj_step(r, word / 16)) break;
    }
    return finish(r, list, n, right);
}

static jval split(jrun *r, jval self, const jval *a, int right)
{
    const int64_t max = dc_jj_want_int(r, a[1], -1, "maxsplit");
    if (a[0].type == J_MISSING || a[0].type == J_NONE) return split_space(r, self.as.s, max < 0 ? -1 : max, right);
    const jstr *sep = dc_jj_want_text(r, a[0], "split's separator");
    if (sep && !sep->n) dc_jj_fail(r, DC_EFORMAT, "empty separator");
    return r->rc ? DC_JJ_NONE : split_text(r, self.as.s, sep, max < 0 ? -1 : max, right);
}

GIVES(m_split, split(r, self, a, 0))
GIVES(m_rsplit, split(r, self, a, 1))

METHOD(m_splitlines)
{
    UNUSED;
    jval list = dc_jj_seq(r, J_LIST, 0);
    const jseq *lines = dc_jj_lines(r, self.as.s, dc_jj_flag(a[0], 0));
    if (lines) *list.as.seq = *lines;
    return list;
}

static jval partition(jrun *r, jval self, const jval *a, int last)
{
    const jstr *s = self.as.s, *sep = dc_jj_want_text(r, a[0], "partition's separator");
    if (sep && !sep->n) dc_jj_fail(r, DC_EFORMAT, "empty separator");
    jval t = dc_jj_seq(r, J_TUPLE, 3);
    if (r->rc) return t;
    const int64_t found = dc_jj_search(r, s, sep, 0, last);
    const size_t at = found >= 0 ? (size_t)found : last ? 0 : s->n, n = found >= 0 ? sep->n : 0;
    t.as.seq->v[0] = part(r, s, 0, at);
    t.as.seq->v[1] = part(r, s, at, at + n);
    t.as.seq->v[2] = part(r, s, at + n, s->n);
    return t;
}

GIVES(m_partition, partition(r, self, a, 0))
GIVES(m_rpartition, partition(r, self, a, 1))

GIVES(m_removeprefix, has_affix(r, self.as.s, a[0], 0) ? part(r, self.as.s, a[0].as.s->n, self.as.s->n) : self)

GIVES(m_removesuffix, has_affix(r, self.as.s, a[0], 1) ? part(r, self.as.s, 0, self.as.s->n - a[0].as.s->n) : self)

/* ---- join, pad, format ---- */
METHOD(m_join)
{
    UNUSED;
    dc_str out = {0};
    const jseq *seq = dc_jj_walk(r, a[0]);
    for (size_t i = 0; seq && i < seq->n && !r->rc; i++) {
        const jstr *item = dc_jj_want_text(r, seq->v[i], "an item of join");
        if (i) dc_str_append(&out, self.as.s->p, self.as.s->n);
        if (item) dc_str_append(&out, item->p, item->n);
        if (out.n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
    }
    return dc_jj_take(r, &out);
}

static jval justify(jrun *r, jval self, const jval *a, int side)
{
    const int64_t width = dc_jj_want_int(r, a[0], 0, "width");
    const jstr *fill = a[1].type == J_MISSING ? &space : dc_jj_want_text(r, a[1], "the fill character");
    if (fill && dc_jj_chars(fill) != 1)
        dc_jj_fail(r, DC_EFORMAT, "The fill character must be exactly one character long");
    return r->rc ? DC_JJ_NONE : dc_jj_center(r, self.as.s, width, fill, side);
}

GIVES(m_ljust, justify(r, self, a, -1))
GIVES(m_center, justify(r, self, a, 0))
GIVES(m_rjust, justify(r, self, a, 1))

METHOD(m_zfill)
{
    UNUSED;
    const int64_t width = dc_jj_want_int(r, a[0], 0, "width");
    const jstr *s = self.as.s;
    if (!s->n || (s->p[0] != '-' && s->p[0] != '+')) return r->rc ? DC_JJ_NONE : dc_jj_center(r, s, width, &zero, 1);
    const jstr digits = {s->p + 1, s->n - 1, 0};
    const jval sign = part(r, s, 0, 1), padded = r->rc ? DC_JJ_NONE : dc_jj_center(r, &digits, width - 1, &zero, 1);
    return dc_jj_add(r, sign, padded);
}

/* A field of format: [name or number]{.attribute or [key]}, then !r or !s. */
static jval field(jrun *r, const jstr *f, const jcall *c, size_t *next)
{
    size_t i = 0;
    int64_t number;
    jval v = {.type = J_MISSING};
    while (i < f->n && f->p[i] != '.' && f->p[i] != '[') i++;
    const jstr name = {f->p, i, 0};
    if (!i || dc_jj_parse_int(&name, 10, &number) == 0) {
        const size_t at = i ? (size_t)number : (*next)++;
        if (at < c->n) v = c->v[at];
    }
    for (size_t k = 0; k < c->n_named; k++)
        if (i && c->names[k]->n == i && memcmp(c->names[k]->p, f->p, i) == 0) v = c->named[k];
    if (v.type == J_MISSING)
        return dc_jj_fail(r, DC_EFORMAT, "format has no value for '{%.*s}'", (int)(i < 60 ? i : 60), f->p), DC_JJ_NONE;
    while (i < f->n && !r->rc) {
        const int bracket = f->p[i++] == '[';
        const size_t begin = i;
        while (i < f->n && (bracket ? f->p[i] != ']' : f->p[i] != '.' && f->p[i] != '[')) i++;
        const jval key = dc_jj_borrow(r, f->p + begin, i - begin);
        if (r->rc) break;
        if (bracket && dc_jj_parse_int(key.as.s, 10, &number) == 0) v = dc_jj_item(r, v, dc_jj_int(number));
        else v = bracket ? dc_jj_item(r, v, key) : dc_jj_attr(r, v, key.as.s);
        i += (size_t)bracket;
    }
    return v;
}

METHOD(m_format)
{
    UNUSED;
    const jstr *s = self.as.s;
    dc_str out = {0};
    size_t next = 0;
    for (size_t i = 0; i < s->n && !r->rc;) {
        const char ch = s->p[i++];
        if (ch != '{' && ch != '}') {
            dc_str_putc(&out, ch);
        } else if (i < s->n && s->p[i] == ch) {
            dc_str_putc(&out, s->p[i++]);
        } else {
            const char *close = ch == '{' ? memchr(s->p + i, '}', s->n - i) : NULL;
            if (!close) {
                dc_jj_fail(r, DC_EFORMAT, "a single '%c' in a format", ch);
                break;
            }
            jstr f = {s->p + i, (size_t)(close - s->p) - i, 0};
            i += f.n + 1;
            int repr = 0;
            if (f.n >= 2 && f.p[f.n - 2] == '!') repr = f.p[f.n - 1] == 'r', f.n -= 2;
            if (memchr(f.p, ':', f.n)) dc_jj_fail(r, DC_EUNKNOWN, "format specifications ('{:...}') are not supported");
            const jval v = r->rc ? DC_JJ_NONE : field(r, &f, c, &next);
            if (repr) dc_jj_repr(r, &out, v);
            else dc_jj_str(r, &out, v);
        }
    }
    return dc_jj_take(r, &out);
}

const jfn *dc_jj_str_method(const jstr *name)
{
    static const jfn table[] = {{"strip", "chars", 0, m_strip},
                                {"lstrip", "chars", 0, m_lstrip},
                                {"rstrip", "chars", 0, m_rstrip},
                                {"split", "sep maxsplit", 0, m_split},
                                {"rsplit", "sep maxsplit", 0, m_rsplit},
                                {"splitlines", "keepends", 0, m_splitlines},
                                {"startswith", "prefix start end", 1, m_startswith},
                                {"endswith", "suffix start end", 1, m_endswith},
                                {"replace", "old new count", 2, m_replace},
                                {"find", "sub start end", 1, m_find},
                                {"rfind", "sub start end", 1, m_rfind},
                                {"index", "sub start end", 1, m_index},
                                {"rindex", "sub start end", 1, m_rindex},
                                {"count", "sub start end", 1, m_count},
                                {"upper", "", 0, m_upper},
                                {"lower", "", 0, m_lower},
                                {"title", "", 0, m_title},
                                {"capitalize", "", 0, m_capitalize},
                                {"swapcase", "", 0, m_swapcase},
                                {"join", "iterable", 1, m_join},
                                {"format", NULL, 0, m_format},
                                {"isupper", "", 0, m_isupper},
                                {"islower", "", 0, m_islower},
                                {"isspace", "", 0, m_isspace},
                                {"isalpha", "", 0, m_isalpha},
                                {"isalnum", "", 0, m_isalnum},
                                {"isdigit", "", 0, m_isdigit},
                                {"isdecimal", "", 0, m_isdecimal},
                                {"isnumeric", "", 0, m_isnumeric},
                                {"isascii", "", 0, m_isascii},
                                {"partition", "sep", 1, m_partition},
                                {"rpartition", "sep", 1, m_rpartition},
                                {"removeprefix", "prefix", 1, m_removeprefix},
                                {"removesuffix", "suffix", 1, m_removesuffix},
                                {"ljust", "width fillchar", 1, m_ljust},
                                {"rjust", "width fillchar", 1, m_rjust},
                                {"center", "width fillchar", 1, m_center},
                                {"zfill", "width", 1, m_zfill}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (dc_jj_is(name, table[i].name)) return &table[i];
    return NULL;
}

int dc_jj_str_lacks(const jstr *name)
{
    static const char *const names[] = {"casefold",    "encode",  "expandtabs", "format_map", "isidentifier",
                                        "isprintable", "istitle", "maketrans",  "translate"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (dc_jj_is(name, names[i])) return 1;
    return 0;
}
