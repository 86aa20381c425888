/* data/jinja_filters.c -- filters, as Jinja's filters.py and transformers' tojson. */
#include "data/jinja.h"

#include <math.h>
#include <string.h>

#define FILTER(name) static jval name(jrun *r, jval self, const jval *a, const jcall *c)
#define UNUSED       (void)r, (void)self, (void)a, (void)c
/* A filter that is one expression. */
#define GIVES(name, value) \
    FILTER(name) \
    { \
        UNUSED; \
        return value; \
    }

static int given(jval v) { return v.type != J_MISSING && v.type != J_NONE; }

/* soft_str: the text of any value. */
static const jstr *text(jrun *r, jval v)
{
    const jval s = dc_jj_string(r, v);
    return r->rc ? NULL : s.as.s;
}

/* ---- text ---- */
static jval cased(jrun *r, jval self, jcase how)
{
    const jstr *s = text(r, self);
    return s ? dc_jj_case(r, s, how) : DC_JJ_NONE;
}

GIVES(f_upper, cased(r, self, CASE_UPPER))
GIVES(f_lower, cased(r, self, CASE_LOWER))
GIVES(f_title, cased(r, self, CASE_TITLE_FILTER))
GIVES(f_capitalize, cased(r, self, CASE_CAPITALIZE))
GIVES(f_string, dc_jj_string(r, self))

FILTER(f_trim)
{
    UNUSED;
    const jstr *s = text(r, self), *chars = given(a[0]) ? dc_jj_want_text(r, a[0], "trim's characters") : NULL;
    if (r->rc) return DC_JJ_NONE;
    const jstr t = dc_jj_strip(s, chars, 3);
    return dc_jj_borrow(r, t.p, t.n);
}

FILTER(f_replace)
{
    UNUSED;
    const jstr *s = text(r, self), *from = text(r, a[0]), *to = text(r, a[1]);
    const int64_t count = dc_jj_want_int(r, a[2], -1, "count");
    return r->rc ? DC_JJ_NONE : dc_jj_replace(r, s, from, to, count);
}

FILTER(f_center)
{
    UNUSED;
    static const jstr space = {" ", 1, 0};
    const jstr *s = text(r, self);
    const int64_t width = dc_jj_want_int(r, a[0], 80, "width");
    return r->rc ? DC_JJ_NONE : dc_jj_center(r, s, width, &space, 0);
}

/* Lines are those of str.splitlines; the last newline of the text goes, as the filter's own quirk. */
FILTER(f_indent)
{
    UNUSED;
    const jstr *s = dc_jj_want_text(r, self, "indent's input"), *tab = a[0].type == J_STR ? a[0].as.s : NULL;
    const int64_t width = tab ? 0 : dc_jj_want_int(r, a[0], 4, "width");
    const int first = dc_jj_flag(a[1], 0), blank = dc_jj_flag(a[2], 0);
    if (width > 10000) dc_jj_fail(r, DC_EFORMAT, "an indent of %lld is too large", (long long)width);
    const jval whole = r->rc ? DC_JJ_NONE : dc_jj_add(r, self, dc_jj_borrow(r, "\n", 1));
    const jseq *lines = r->rc ? NULL : dc_jj_lines(r, whole.as.s, 0);
    dc_str out = {0};
    for (size_t i = 0; s && lines && i < lines->n && !r->rc; i++) {
        const jstr *line = lines->v[i].as.s;
        if (i) dc_str_putc(&out, '\n');
        if (i ? line->n || blank : first) {
            if (tab) dc_str_append(&out, tab->p, tab->n);
            for (int64_t k = 0; k < width; k++) dc_str_putc(&out, ' ');
        }
        dc_str_append(&out, line->p, line->n);
        if (out.n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
    }
    return dc_jj_take(r, &out);
}

static void put_escaped(dc_str *out, const jstr *s)
{
    for (size_t i = 0; i < s->n; i++) {
        switch (s->p[i]) {
        case '&': dc_str_puts(out, "&amp;"); break;
        case '<': dc_str_puts(out, "&lt;"); break;
        case '>': dc_str_puts(out, "&gt;"); break;
        case '"': dc_str_puts(out, "&#34;"); break;
        case '\'': dc_str_puts(out, "&#39;"); break;
        default: dc_str_putc(out, s->p[i]);
        }
    }
}

static jval as_safe(jrun *r, jval v)
{
    const jval s = dc_jj_string(r, v);
    if (r->rc) return s;
    const jval copy = dc_jj_borrow(r, s.as.s->p, s.as.s->n);
    if (!r->rc) ((jstr *)copy.as.s)->safe = 1; /* this copy is ours */
    return copy;
}

GIVES(f_safe, as_safe(r, self))

FILTER(f_escape)
{
    UNUSED;
    if (self.type == J_STR && self.as.s->safe) return self;
    const jstr *s = text(r, self);
    dc_str out = {0};
    if (s) put_escaped(&out, s);
    return as_safe(r, dc_jj_take(r, &out));
}

FILTER(f_wordcount)
{
    UNUSED;
    const jstr *s = text(r, self);
    int64_t n = 0;
    int inside = 0;
    for (size_t i = 0; s && i < s->n;) {
        const jstr rest = {s->p + i, s->n - i, 0};
        const jstr one = {rest.p, dc_jj_at(&rest, 1), 0};
        const int word = dc_jj_is(&one, "_") || dc_jj_str_is(&one, CLASS_ALNUM);
        n += word && !inside;
        inside = word;
        i += one.n;
    }
    return dc_jj_int(n);
}

FILTER(f_format)
{
    UNUSED;
    const jstr *s = text(r, self);
    if (!s) return DC_JJ_NONE;
    if (!c->n_named) return dc_jj_percent(r, s, c->v, c->n, NULL);
    jval named = dc_jj_dict(r, J_DICT, c->n_named);
    for (size_t i = 0; i < c->n_named && !r->rc; i++)
        dc_jj_put(r, named.as.dict, dc_jj_borrow(r, c->names[i]->p, c->names[i]->n), c->named[i]);
    return r->rc ? DC_JJ_NONE : dc_jj_percent(r, s, NULL, 0, named.as.dict);
}

/* transformers' tojson: json.dumps with ensure_ascii off and no escapes for HTML. */
FILTER(f_tojson)
{
    UNUSED;
    jjson o = {.item = {", ", 2, 0}, .key = {": ", 2, 0}, .ascii = dc_jj_flag(a[0], 0), .sort = dc_jj_flag(a[3], 0)};
    char spaces[65];
    memset(spaces, ' ', sizeof spaces);
    if (given(a[1])) {
        const jstr *tab = a[1].type == J_STR ? a[1].as.s : NULL;
        const int64_t n = tab ? 0 : dc_jj_want_int(r, a[1], 0, "indent");
        if (n > 64) dc_jj_fail(r, DC_EFORMAT, "an indent of %lld is too large", (long long)n);
        o.indent = tab ? tab->p : spaces;
        o.indent_n = tab ? tab->n : n > 0 ? (size_t)n : 0;
        o.item = (jstr){",", 1, 0};
    }
    if (given(a[2])) {
        const jseq *both = dc_jj_walk(r, a[2]);
        if (both && both->n == 2 && both->v[0].type == J_STR && both->v[1].type == J_STR)
            o.item = *both->v[0].as.s, o.key = *both->v[1].as.s;
        else dc_jj_fail(r, DC_EFORMAT, "tojson's separators must be two strings");
    }
    dc_str out = {0};
    if (!r->rc) dc_jj_json(r, &out, self, &o);
    return dc_jj_take(r, &out);
}

/* ---- numbers ---- */
FILTER(f_abs)
{
    UNUSED;
    if (self.type == J_REAL) return dc_jj_real(fabs(self.as.f));
    if (self.type != J_INT && self.type != J_BOOL)
        dc_jj_want_int(r, self.type == J_NONE ? dc_jj_dict(r, J_DICT, 0) : self, 0, "abs");
    if (r->rc) return DC_JJ_NONE;
    if (self.as.i == INT64_MIN) return dc_jj_fail(r, DC_EFORMAT, "a number beyond 64 bits"), DC_JJ_NONE;
    return dc_jj_int(self.as.i < 0 ? -self.as.i : self.as.i);
}

FILTER(f_int)
{
    UNUSED;
    const int64_t base = dc_jj_want_int(r, a[1], 10, "base");
    const jval fallback = a[0].type == J_MISSING ? dc_jj_int(0) : a[0];
    int64_t i;
    double f;
    if (self.type == J_UNDEF) return dc_jj_undefined(r, self), DC_JJ_NONE;
    if (self.type == J_INT || self.type == J_BOOL) return dc_jj_int(self.as.i);
    if (self.type == J_STR) {
        if (base < 0 || base > 36 || base == 1)
            return dc_jj_fail(r, DC_EFORMAT, "int() base must be 0 or 2 to 36"), DC_JJ_NONE;
        const int rc = dc_jj_parse_int(self.as.s, (int)base, &i);
        if (rc == 0) return dc_jj_int(i);
        if (rc == -2) return dc_jj_fail(r, DC_EFORMAT, "a number beyond 64 bits"), DC_JJ_NONE;
        if (dc_jj_parse_real(self.as.s, &f)) return fallback;
    } else if (self.type == J_REAL) {
        f = self.as.f;
    } else {
        return fallback;
    }
    if (!isfinite(f)) return fallback;
    if (fabs(f) >= 9.2e18) return dc_jj_fail(r, DC_EFORMAT, "a number beyond 64 bits"), DC_JJ_NONE;
    return dc_jj_int((int64_t)f);
}

FILTER(f_float)
{
    UNUSED;
    double f;
    if (self.type == J_UNDEF) return dc_jj_undefined(r, self), DC_JJ_NONE;
    if (self.type == J_REAL) return self;
    if (self.type == J_INT || self.type == J_BOOL) return dc_jj_real((double)self.as.i);
    if (self.type == J_STR && dc_jj_parse_real(self.as.s, &f) == 0) return dc_jj_real(f);
    return a[0].type == J_MISSING ? dc_jj_real(0) : a[0];
}

/* "common" rounds to even at the exact half, as Python's round. */
FILTER(f_round)
{
    UNUSED;
    const int64_t digits = dc_jj_want_int(r, a[0], 0, "precision");
    const jstr *method = given(a[1]) ? dc_jj_want_text(r, a[1], "round's method") : NULL;
    if (self.type == J_INT && !method) return self;
    if (self.type != J_REAL && self.type != J_INT)
        dc_jj_fail(r, DC_EFORMAT, "round needs a number, not %s", dc_jj_type(self));
    if (digits < -15 || digits > 15) dc_jj_fail(r, DC_EFORMAT, "round's precision must be from -15 to 15");
    if (r->rc) return DC_JJ_NONE;
    const double f = self.type == J_REAL ? self.as.f : (double)self.as.i, scale = pow(10, (double)digits);
    if (method && dc_jj_is(method, "ceil")) return dc_jj_real(ceil(f * scale) / scale);
    if (method && dc_jj_is(method, "floor")) return dc_jj_real(floor(f * scale) / scale);
    if (method && !dc_jj_is(method, "common"))
        return dc_jj_fail(r, DC_EFORMAT, "method must be common, ceil or floor"), DC_JJ_NONE;
    if (digits <= 0 || !isfinite(f)) return dc_jj_real(nearbyint(f * scale) / scale);
    dc_str out = {0}; /* the decimal nearest to f, correctly rounded, is what Python gives */
    dc_str_putf(&out, "%.*f", (int)digits, f);
    const jval s = dc_jj_take(r, &out);
    double rounded = f;
    if (!r->rc) dc_jj_parse_real(s.as.s, &rounded);
    return dc_jj_real(rounded);
}

/* ---- sequences ---- */
GIVES(f_length, dc_jj_int(dc_jj_length(r, self)))

FILTER(f_default)
{
    UNUSED;
    if (self.type != J_UNDEF && !(dc_jj_flag(a[1], 0) && !dc_jj_truth(self))) return self;
    return a[0].type == J_MISSING ? dc_jj_borrow(r, "", 0) : a[0];
}

static jval hinted(jrun *r, const char *hint)
{
    const jval v = dc_jj_undef(r, NULL, DC_JJ_NONE);
    if (!r->rc) ((jundef *)v.as.undef)->hint = hint; /* made just now */
    return v;
}

FILTER(f_first)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    if (r->rc) return DC_JJ_NONE;
    return seq->n ? seq->v[0] : hinted(r, "No first item, sequence was empty.");
}

FILTER(f_last)
{
    UNUSED;
    if (self.type == J_GEN || self.type == J_UNDEF)
        dc_jj_fail(r, DC_EFORMAT, "'%s' object is not reversible", dc_jj_type(self));
    const jseq *seq = dc_jj_walk(r, self);
    if (r->rc) return DC_JJ_NONE;
    return seq->n ? seq->v[seq->n - 1] : hinted(r, "No last item, sequence was empty.");
}

static jval copied(jrun *r, jtype type, const jseq *seq)
{
    jval list = dc_jj_seq(r, type, seq ? seq->n : 0);
    if (!r->rc && seq && seq->n) memcpy(list.as.seq->v, seq->v, seq->n * sizeof(jval));
    return list;
}

GIVES(f_list, copied(r, J_LIST, dc_jj_walk(r, self)))

FILTER(f_reverse)
{
    UNUSED;
    const jval minus = dc_jj_int(-1);
    if (self.type == J_STR) return dc_jj_slice(r, self, DC_JJ_NONE, DC_JJ_NONE, minus);
    jval list = copied(r, J_LIST, dc_jj_walk(r, self));
    if (!r->rc) list = dc_jj_slice(r, list, DC_JJ_NONE, DC_JJ_NONE, minus);
    if (!r->rc && self.type != J_GEN) list.type = J_GEN; /* reversed() is an iterator */
    return list;
}

FILTER(f_items)
{
    UNUSED;
    if (self.type == J_UNDEF) return dc_jj_seq(r, J_GEN, 0);
    if (self.type != J_DICT) return dc_jj_fail(r, DC_EFORMAT, "Can only get item pairs from a mapping."), DC_JJ_NONE;
    return dc_jj_pairs(r, self.as.dict, J_GEN, 2);
}

/* An element's attribute: "a.b.0" is getitem after getitem; a whole number is one key. */
static jval attribute(jrun *r, jval v, jval path)
{
    if (!given(path)) return v;
    if (path.type != J_STR) return dc_jj_item(r, v, path);
    const jstr *s = path.as.s;
    for (size_t i = 0; i <= s->n && !r->rc;) {
        size_t end = i;
        while (end < s->n && s->p[end] != '.') end++;
        const jval key = dc_jj_borrow(r, s->p + i, end - i);
        int64_t number;
        if (r->rc) break;
        const int digits = dc_jj_str_is(key.as.s, CLASS_DIGIT) && dc_jj_parse_int(key.as.s, 10, &number) == 0;
        v = dc_jj_item(r, v, digits ? dc_jj_int(number) : key);
        i = end + 1;
    }
    return v;
}

static jval fold(jrun *r, jval v, int case_sensitive)
{
    return v.type == J_STR && !case_sensitive ? dc_jj_case(r, v.as.s, CASE_LOWER) : v;
}

FILTER(f_join)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    const jstr *between = a[0].type == J_MISSING ? NULL : text(r, a[0]);
    dc_str out = {0};
    for (size_t i = 0; seq && i < seq->n && !r->rc; i++) {
        if (i && between) dc_str_append(&out, between->p, between->n);
        dc_jj_str(r, &out, attribute(r, seq->v[i], a[1]));
    }
    return dc_jj_take(r, &out);
}

FILTER(f_sum)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    jval total = a[1].type == J_MISSING ? dc_jj_int(0) : a[1];
    for (size_t i = 0; seq && i < seq->n && !r->rc; i++) total = dc_jj_add(r, total, attribute(r, seq->v[i], a[0]));
    return total;
}

/* Stable merge sort of indices by key; reverse keeps equal elements in order too, as Python's sorted. */
static void merge(jrun *r, const jval *keys, size_t *order, size_t *scratch, size_t n, int reverse)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            const size_t middle = begin + width < n ? begin + width : n,
                         end = begin + 2 * width < n ? begin + 2 * width : n;
            size_t left = begin, right = middle;
            for (size_t k = begin; k < end; k++) {
                int from_right = left == middle;
                if (left < middle && right < end && !r->rc) {
                    const int order_of = dc_jj_order(r, keys[order[right]], keys[order[left]], "<");
                    from_right = reverse ? order_of == 1 : order_of == -1;
                }
                scratch[k] = from_right ? order[right++] : order[left++];
            }
        }
        memcpy(order, scratch, n * sizeof *order);
    }
}

static jval sorted(jrun *r, const jseq *seq, const jval *keys, int reverse)
{
    if (r->rc) return DC_JJ_NONE;
    size_t *order = dc_jj_alloc(r, seq->n, 2 * sizeof *order);
    jval list = dc_jj_seq(r, J_LIST, seq->n);
    if (r->rc) return list;
    for (size_t i = 0; i < seq->n; i++) order[i] = i;
    merge(r, keys, order, order + seq->n, seq->n, reverse);
    for (size_t i = 0; i < seq->n; i++) list.as.seq->v[i] = seq->v[order[i]];
    return list;
}

/* The keys of sort, unique, min, max and groupby. */
static jval *keys_of(jrun *r, const jseq *seq, jval path, int case_sensitive)
{
    jval *keys = seq ? dc_jj_alloc(r, seq->n, sizeof *keys) : NULL;
    for (size_t i = 0; keys && i < seq->n; i++) keys[i] = fold(r, attribute(r, seq->v[i], path), case_sensitive);
    return keys;
}

FILTER(f_sort)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    if (a[2].type == J_STR && memchr(a[2].as.s->p, ',', a[2].as.s->n))
        return dc_jj_fail(r, DC_EUNKNOWN, "sort by several attributes is not supported"), DC_JJ_NONE;
    const jval *keys = keys_of(r, seq, a[2], dc_jj_flag(a[1], 0));
    return sorted(r, seq, keys, dc_jj_flag(a[0], 0));
}

FILTER(f_dictsort)
{
    UNUSED;
    const jstr *by = given(a[1]) ? dc_jj_want_text(r, a[1], "dictsort's by") : NULL;
    if (by && !dc_jj_is(by, "key") && !dc_jj_is(by, "value"))
        dc_jj_fail(r, DC_EFORMAT, "You can only sort by either \"key\" or \"value\"");
    if (self.type == J_UNDEF) dc_jj_undefined(r, self);
    if (self.type != J_DICT) dc_jj_fail(r, DC_EFORMAT, "dictsort needs a dict, not %s", dc_jj_type(self));
    if (r->rc) return DC_JJ_NONE;
    const jdict *d = self.as.dict;
    const jval pairs = dc_jj_pairs(r, d, J_LIST, 2);
    jval *keys = dc_jj_alloc(r, d->n, sizeof *keys);
    for (size_t i = 0; keys && i < d->n; i++)
        keys[i] = fold(r, by && dc_jj_is(by, "value") ? d->values[i] : d->keys[i], dc_jj_flag(a[0], 0));
    return r->rc ? DC_JJ_NONE : sorted(r, pairs.as.seq, keys, dc_jj_flag(a[2], 0));
}

FILTER(f_unique)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    jval *keys = keys_of(r, seq, a[1], dc_jj_flag(a[0], 0));
    jval list = dc_jj_seq(r, J_GEN, keys ? seq->n : 0);
    size_t n = 0;
    for (size_t i = 0; keys && i < seq->n && !r->rc; i++) {
        size_t k = 0;
        while (k < n && !dc_jj_equal(r, keys[k], keys[i])) k++;
        if (k < n) continue;
        keys[n] = keys[i];
        list.as.seq->v[n++] = seq->v[i];
    }
    if (!r->rc) list.as.seq->n = n;
    return list;
}

static jval extreme(jrun *r, jval self, const jval *a, int sign)
{
    const jseq *seq = dc_jj_walk(r, self);
    if (seq && !seq->n) return hinted(r, "No aggregated item, sequence was empty.");
    const jval *keys = keys_of(r, seq, a[1], dc_jj_flag(a[0], 0));
    size_t best = 0;
    for (size_t i = 1; keys && i < seq->n && !r->rc; i++)
        if (dc_jj_order(r, keys[i], keys[best], sign < 0 ? "<" : ">") == sign) best = i;
    return r->rc ? DC_JJ_NONE : seq->v[best];
}

GIVES(f_min, extreme(r, self, a, -1))
GIVES(f_max, extreme(r, self, a, 1))

FILTER(f_groupby)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    const int sensitive = dc_jj_flag(a[2], 0);
    jval *keys = keys_of(r, seq, a[0], 1);
    for (size_t i = 0; keys && i < seq->n; i++) {
        if (given(a[1]) && keys[i].type == J_UNDEF) keys[i] = a[1];
        keys[i] = fold(r, keys[i], sensitive);
    }
    const jval in_order = sorted(r, seq, keys, 0);
    jval groups = dc_jj_seq(r, J_LIST, r->rc ? 0 : seq->n);
    size_t n = 0;
    jval last = DC_JJ_NONE;
    for (size_t i = 0; !r->rc && i < seq->n; i++) {
        jval key = attribute(r, in_order.as.seq->v[i], a[0]);
        if (given(a[1]) && key.type == J_UNDEF) key = a[1];
        const jval folded = fold(r, key, sensitive);
        if (!n || !dc_jj_equal(r, folded, last)) {
            jval group = dc_jj_seq(r, J_TUPLE, 2), items = dc_jj_seq(r, J_LIST, seq->n - i);
            if (r->rc) break;
            items.as.seq->n = 0;
            group.as.seq->tag = 1;
            group.as.seq->v[0] = key;
            group.as.seq->v[1] = items;
            groups.as.seq->v[n++] = group;
            last = folded;
        }
        jseq *items = groups.as.seq->v[n - 1].as.seq->v[1].as.seq;
        items->v[items->n++] = in_order.as.seq->v[i];
    }
    if (!r->rc) groups.as.seq->n = n;
    return groups;
}

FILTER(f_batch)
{
    UNUSED;
    const jseq *seq = dc_jj_walk(r, self);
    const int64_t size = dc_jj_want_int(r, a[0], 0, "batch's size");
    if (!r->rc && size < 1) dc_jj_fail(r, DC_EFORMAT, "batch needs a size of at least 1");
    if (r->rc) return DC_JJ_NONE;
    const size_t step = (uint64_t)size > seq->n + 1 && !given(a[1]) ? seq->n + 1 : (size_t)size;
    jval list = dc_jj_seq(r, J_GEN, (seq->n + step - 1) / step);
    for (size_t i = 0; !r->rc && i < list.as.seq->n; i++) {
        const size_t left = seq->n - i * step, n = left < step ? left : step;
        jval group = dc_jj_seq(r, J_LIST, given(a[1]) ? step : n);
        for (size_t k = 0; !r->rc && k < group.as.seq->n; k++) group.as.seq->v[k] = k < n ? seq->v[i * step + k] : a[1];
        list.as.seq->v[i] = group;
    }
    return list;
}

FILTER(f_attr)
{
    UNUSED;
    const jstr *name = dc_jj_want_text(r, a[0], "attr's name");
    if (!name) return DC_JJ_NONE;
    const jval v = self.type == J_DICT && !dc_jj_seq_method(J_DICT, name) ? dc_jj_undef(r, dc_jj_object(self), a[0])
                                                                          : dc_jj_attr(r, self, name);
    return v;
}

/* ---- map, select and their like ---- */
static const jfn *filter_named(jrun *r, const jcall *c)
{
    const jstr *name = dc_jj_want_text(r, c->v[0], "the filter's name");
    const jfn *fn = name ? dc_jj_filter(name) : NULL;
    if (name && !fn)
        dc_jj_fail(r, DC_EUNKNOWN, "unsupported filter '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
    return fn;
}

FILTER(f_map)
{
    UNUSED;
    jval path = {.type = J_MISSING}, fallback = path;
    const int by_attribute = c->n == 0;
    for (size_t i = 0; by_attribute && i < c->n_named; i++) {
        if (dc_jj_is(c->names[i], "attribute")) path = c->named[i];
        else if (dc_jj_is(c->names[i], "default")) fallback = c->named[i];
        else dc_jj_fail(r, DC_EFORMAT, "map has an unexpected keyword argument");
    }
    if (by_attribute && path.type == J_MISSING) dc_jj_fail(r, DC_EFORMAT, "map requires a filter argument");
    const jseq *seq = r->rc ? NULL : dc_jj_truth(self) ? dc_jj_walk(r, self) : NULL;
    const jfn *fn = by_attribute || r->rc ? NULL : filter_named(r, c);
    jval list = dc_jj_seq(r, J_GEN, seq ? seq->n : 0);
    for (size_t i = 0; !r->rc && i < list.as.seq->n; i++) {
        const jcall rest = {c->v ? c->v + 1 : NULL, c->n ? c->n - 1 : 0, c->names, c->named, c->n_named};
        jval v = fn ? dc_jj_call_fn(r, fn, seq->v[i], &rest) : attribute(r, seq->v[i], path);
        if (!fn && given(fallback) && v.type == J_UNDEF) v = fallback;
        list.as.seq->v[i] = v;
    }
    return list;
}

/* select and reject: `by_attribute` of them the first argument is a path. The rest is a test with its argument, or truth. */
static jval selected(jrun *r, jval self, const jcall *c, int by_attribute, int wanted)
{
    const size_t at = (size_t)by_attribute;
    const jtest *test = NULL;
    if (c->n < at) dc_jj_fail(r, DC_EFORMAT, "Missing parameter for attribute name");
    if (c->n_named) dc_jj_fail(r, DC_EUNKNOWN, "select and reject take no arguments by name");
    if (!r->rc && c->n > at) {
        const jstr *name = dc_jj_want_text(r, c->v[at], "the test's name");
        test = name ? dc_jj_test(name) : NULL;
        if (name && !test)
            dc_jj_fail(r, DC_EUNKNOWN, "unsupported test '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
        if (test && c->n != at + 1 + (size_t)test->args)
            dc_jj_fail(r, DC_EFORMAT, "wrong arguments for the test '%s'", test->name);
    }
    const jseq *seq = r->rc || !dc_jj_truth(self) ? NULL : dc_jj_walk(r, self);
    jval list = dc_jj_seq(r, J_GEN, seq ? seq->n : 0);
    size_t n = 0;
    for (size_t i = 0; !r->rc && seq && i < seq->n; i++) {
        const jval v = by_attribute ? attribute(r, seq->v[i], c->v[0]) : seq->v[i];
        const int yes = r->rc ? 0 : test ? test->fn(r, v, test->args ? c->v[at + 1] : DC_JJ_NONE) : dc_jj_truth(v);
        if (yes == wanted) list.as.seq->v[n++] = seq->v[i];
    }
    if (!r->rc) list.as.seq->n = n;
    return list;
}

GIVES(f_select, selected(r, self, c, 0, 1))
GIVES(f_reject, selected(r, self, c, 0, 0))
GIVES(f_selectattr, selected(r, self, c, 1, 1))
GIVES(f_rejectattr, selected(r, self, c, 1, 0))

const jfn *dc_jj_filter(const jstr *name)
{
    static const jfn table[] = {{"abs", "", 0, f_abs},
                                {"attr", "name", 1, f_attr},
                                {"batch", "linecount fill_with", 1, f_batch},
                                {"capitalize", "", 0, f_capitalize},
                                {"center", "width", 0, f_center},
                                {"count", "", 0, f_length},
                                {"d", "default_value boolean", 0, f_default},
                                {"default", "default_value boolean", 0, f_default},
                                {"dictsort", "case_sensitive by reverse", 0, f_dictsort},
                                {"e", "", 0, f_escape},
                                {"escape", "", 0, f_escape},
                                {"first", "", 0, f_first},
                                {"float", "default", 0, f_float},
                                {"format", NULL, 0, f_format},
                                {"groupby", "attribute default case_sensitive", 1, f_groupby},
                                {"indent", "width first blank", 0, f_indent},
                                {"int", "default base", 0, f_int},
                                {"items", "", 0, f_items},
                                {"join", "d attribute", 0, f_join},
                                {"last", "", 0, f_last},
                                {"length", "", 0, f_length},
                                {"list", "", 0, f_list},
                                {"lower", "", 0, f_lower},
                                {"map", NULL, 0, f_map},
                                {"max", "case_sensitive attribute", 0, f_max},
                                {"min", "case_sensitive attribute", 0, f_min},
                                {"reject", NULL, 0, f_reject},
                                {"rejectattr", NULL, 0, f_rejectattr},
                                {"replace", "old new count", 2, f_replace},
                                {"reverse", "", 0, f_reverse},
                                {"round", "precision method", 0, f_round},
                                {"safe", "", 0, f_safe},
                                {"select", NULL, 0, f_select},
                                {"selectattr", NULL, 0, f_selectattr},
                                {"sort", "reverse case_sensitive attribute", 0, f_sort},
                                {"string", "", 0, f_string},
                                {"sum", "attribute start", 0, f_sum},
                                {"title", "", 0, f_title},
                                {"tojson", "ensure_ascii indent separators sort_keys", 0, f_tojson},
                                {"trim", "chars", 0, f_trim},
                                {"unique", "case_sensitive attribute", 0, f_unique},
                                {"upper", "", 0, f_upper},
                                {"wordcount", "", 0, f_wordcount}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (dc_jj_is(name, table[i].name)) return &table[i];
    return NULL;
}
