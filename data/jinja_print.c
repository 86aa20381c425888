/* data/jinja_print.c -- values as text: Python's str, repr and %, and json.dumps. */
#include "data/jinja_tree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Python's repr of a float: the shortest decimal that reads back the same, with an exponent from 1e16 and below 1e-4. */
void dc_jj_real_text(dc_str *out, double f)
{
    if (isnan(f)) {
        dc_str_puts(out, "nan");
        return;
    }
    if (isinf(f)) {
        dc_str_puts(out, f < 0 ? "-inf" : "inf");
        return;
    }
    char text[40];
    int digits = 1;
    do snprintf(text, sizeof text, "%.*e", digits - 1, f);
    while (strtod(text, NULL) != f && ++digits <= 17);
    const char *e = strchr(text, 'e');
    const int exponent = atoi(e + 1);
    char mantissa[24];
    int n = 0;
    for (const char *c = text; c < e; c++)
        if (*c >= '0' && *c <= '9') mantissa[n++] = *c;
    if (f < 0 || (f == 0 && signbit(f))) dc_str_putc(out, '-');
    if (exponent < -4 || exponent >= 16) {
        dc_str_putc(out, mantissa[0]);
        if (n > 1) dc_str_putc(out, '.');
        dc_str_append(out, mantissa + 1, (size_t)n - 1);
        dc_str_putf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) dc_str_puts(out, "0.");
    for (int i = exponent; i < -1; i++) dc_str_putc(out, '0');
    for (int i = 0; i < n || i <= exponent; i++) {
        dc_str_putc(out, i < n ? mantissa[i] : '0');
        if (i == exponent) dc_str_putc(out, '.');
    }
    if (exponent >= n - 1) dc_str_putc(out, '0');
}

static int printable(int32_t cp)
{
    if (cp < 0x7f) return cp >= 0x20;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return 0;
    default: return 1;
    }
}

static void repr_text(dc_str *out, const jstr *s)
{
    const char quote = memchr(s->p, '\'', s->n) && !memchr(s->p, '"', s->n) ? '"' : '\'';
    dc_str_putc(out, quote);
    for (size_t i = 0; i < s->n;) {
        int32_t cp;
        const size_t used = dc_utf8_decode(&cp, s->p + i, s->n - i);
        if (cp == '\\' || cp == quote) dc_str_putf(out, "\\%c", (char)cp);
        else if (cp == '\n') dc_str_puts(out, "\\n");
        else if (cp == '\r') dc_str_puts(out, "\\r");
        else if (cp == '\t') dc_str_puts(out, "\\t");
        else if (printable(cp)) dc_str_append(out, s->p + i, used);
        else dc_str_putf(out, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
        i += used;
    }
    dc_str_putc(out, quote);
}

static void repr_dict(jrun *r, dc_str *out, const jdict *d)
{
    dc_str_putc(out, '{');
    for (size_t i = 0; i < d->n && !r->rc; i++) {
        if (i) dc_str_puts(out, ", ");
        dc_jj_repr(r, out, d->keys[i]);
        dc_str_puts(out, ": ");
        dc_jj_repr(r, out, d->values[i]);
    }
    dc_str_putc(out, '}');
}

static void repr_seq(jrun *r, dc_str *out, jval v)
{
    const jseq *seq = v.as.seq;
    if (v.type == J_RANGE) {
        const long long first = seq->n ? (long long)seq->v[0].as.i : 0,
                        step = seq->n > 1 ? (long long)seq->v[1].as.i - first : 1;
        dc_str_putf(out, "range(%lld, %lld", first, first + (long long)seq->n * step);
        if (step != 1) dc_str_putf(out, ", %lld", step);
        dc_str_putc(out, ')');
        return;
    }
    if (v.type == J_GEN) {
        dc_jj_fail(r, DC_EUNKNOWN, "a generator is printed; put |list or |join behind map, select and their like");
        return;
    }
    if (v.type == J_VIEW)
        dc_str_puts(out, seq->tag == 0 ? "dict_keys(" : seq->tag == 1 ? "dict_values(" : "dict_items(");
    dc_str_putc(out, v.type == J_TUPLE ? '(' : '[');
    for (size_t i = 0; i < seq->n && !r->rc; i++) {
        if (i) dc_str_puts(out, ", ");
        dc_jj_repr(r, out, seq->v[i]);
    }
    if (v.type == J_TUPLE && seq->n == 1) dc_str_putc(out, ',');
    dc_str_putc(out, v.type == J_TUPLE ? ')' : ']');
    if (v.type == J_VIEW) dc_str_putc(out, ')');
}

void dc_jj_repr(jrun *r, dc_str *out, jval v)
{
    if (out->n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
    if (dc_jj_step(r, 0) || dc_jj_enter(r)) return;
    switch (v.type) {
    case J_MISSING: break;
    case J_UNDEF: dc_str_puts(out, "Undefined"); break;
    case J_NONE: dc_str_puts(out, "None"); break;
    case J_BOOL: dc_str_puts(out, v.as.i ? "True" : "False"); break;
    case J_INT: dc_str_putf(out, "%lld", (long long)v.as.i); break;
    case J_REAL: dc_jj_real_text(out, v.as.f); break;
    case J_STR: repr_text(out, v.as.s); break;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
    case J_GEN: repr_seq(r, out, v); break;
    case J_DICT: repr_dict(r, out, v.as.dict); break;
    case J_SPACE:
        dc_str_puts(out, "<Namespace ");
        repr_dict(r, out, v.as.dict);
        dc_str_putc(out, '>');
        break;
    case J_MACRO:
        dc_str_puts(out, "<Macro ");
        repr_text(out, v.as.macro->node->value.as.s);
        dc_str_putc(out, '>');
        break;
    case J_LOOP:
    case J_FUNC:
    case J_METHOD: dc_jj_fail(r, DC_EUNKNOWN, "a %s is printed", dc_jj_type(v)); break;
    }
    dc_jj_leave(r);
}

void dc_jj_str(jrun *r, dc_str *out, jval v)
{
    if (v.type == J_STR) dc_str_append(out, v.as.s->p, v.as.s->n);
    else if (v.type != J_UNDEF) dc_jj_repr(r, out, v);
    if (out->n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
}

jval dc_jj_string(jrun *r, jval v)
{
    if (v.type == J_STR) return v;
    dc_str out = {0};
    dc_jj_str(r, &out, v);
    return dc_jj_take(r, &out);
}

/* ---- json.dumps ---- */
static void json_text(dc_str *out, const jstr *s, int ascii)
{
    dc_str_putc(out, '"');
    size_t plain = 0;
    for (size_t i = 0; i < s->n;) {
        int32_t cp = (unsigned char)s->p[i];
        const size_t used = cp < 0x80 || !ascii ? 1 : dc_utf8_decode(&cp, s->p + i, s->n - i);
        if (cp >= 0x20 && cp != '"' && cp != '\\' && (!ascii || cp < 0x7f)) {
            i += used;
            continue;
        }
        if (cp >= 0x80 && !ascii) {
            i += used;
            continue;
        }
        dc_str_append(out, s->p + plain, i - plain);
        const char *simple = cp && cp < 0x80 ? strchr("\"\\\b\f\n\r\t", cp) : NULL;
        if (simple) dc_str_putf(out, "\\%c", "\"\\bfnrt"[simple - "\"\\\b\f\n\r\t"]);
        else if (cp < 0x10000) dc_str_putf(out, "\\u%04x", (unsigned)cp);
        else dc_str_putf(out, "\\u%04x\\u%04x", 0xd7c0u + ((unsigned)cp >> 10), 0xdc00u + ((unsigned)cp & 0x3ff));
        i += used;
        plain = i;
    }
    dc_str_append(out, s->p + plain, s->n - plain);
    dc_str_putc(out, '"');
}

static void put_real(dc_str *out, double f)
{
    if (isnan(f)) dc_str_puts(out, "NaN");
    else if (isinf(f)) dc_str_puts(out, f < 0 ? "-Infinity" : "Infinity");
    else dc_jj_real_text(out, f);
}

/* json.dumps turns keys that are numbers, booleans or None into strings. */
static void json_key(jrun *r, dc_str *out, jval key, const jjson *o)
{
    if (key.type == J_STR) {
        json_text(out, key.as.s, o->ascii);
        return;
    }
    dc_str_putc(out, '"');
    if (key.type == J_NONE) dc_str_puts(out, "null");
    else if (key.type == J_BOOL) dc_str_puts(out, key.as.i ? "true" : "false");
    else if (key.type == J_INT) dc_str_putf(out, "%lld", (long long)key.as.i);
    else if (key.type == J_REAL) put_real(out, key.as.f);
    else dc_jj_fail(r, DC_EFORMAT, "keys must be str, int, float, bool or None, not %s", dc_jj_type(key));
    dc_str_putc(out, '"');
}

static void json_break(dc_str *out, const jjson *o, int level)
{
    if (!o->indent) return;
    dc_str_putc(out, '\n');
    for (int i = 0; i < level; i++) dc_str_append(out, o->indent, o->indent_n);
}

static void json_value(jrun *r, dc_str *out, jval v, const jjson *o, int level);

/* Indices of a dict's keys in order; NULL when memory is out. */
static size_t *sorted_keys(jrun *r, const jdict *d)
{
    size_t *order = dc_jj_alloc(r, d->n, sizeof *order);
    for (size_t i = 0; order && i < d->n; i++) {
        size_t k = i;
        for (; k > 0 && dc_jj_order(r, d->keys[order[k - 1]], d->keys[i], "<") > 0 && !r->rc; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    return order;
}

static void json_dict(jrun *r, dc_str *out, const jdict *d, const jjson *o, int level)
{
    if (!d->n) {
        dc_str_puts(out, "{}");
        return;
    }
    const size_t *order = o->sort ? sorted_keys(r, d) : NULL;
    dc_str_putc(out, '{');
    for (size_t i = 0; i < d->n && !r->rc; i++) {
        const size_t k = order ? order[i] : i;
        if (i) dc_str_append(out, o->item.p, o->item.n);
        json_break(out, o, level + 1);
        json_key(r, out, d->keys[k], o);
        dc_str_append(out, o->key.p, o->key.n);
        json_value(r, out, d->values[k], o, level + 1);
    }
    json_break(out, o, level);
    dc_str_putc(out, '}');
}

static void json_list(jrun *r, dc_str *out, const jseq *seq, const jjson *o, int level)
{
    if (!seq->n) {
        dc_str_puts(out, "[]");
        return;
    }
    dc_str_putc(out, '[');
    for (size_t i = 0; i < seq->n && !r->rc; i++) {
        if (i) dc_str_append(out, o->item.p, o->item.n);
        json_break(out, o, level + 1);
        json_value(r, out, seq->v[i], o, level + 1);
    }
    json_break(out, o, level);
    dc_str_putc(out, ']');
}

static void json_value(jrun *r, dc_str *out, jval v, const jjson *o, int level)
{
    if (out->n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
    if (dc_jj_step(r, 0) || dc_jj_enter(r)) return;
    switch (v.type) {
    case J_NONE: dc_str_puts(out, "null"); break;
    case J_BOOL: dc_str_puts(out, v.as.i ? "true" : "false"); break;
    case J_INT: dc_str_putf(out, "%lld", (long long)v.as.i); break;
    case J_REAL: put_real(out, v.as.f); break;
    case J_STR: json_text(out, v.as.s, o->ascii); break;
    case J_LIST:
    case J_TUPLE: json_list(r, out, v.as.seq, o, level); break;
    case J_DICT: json_dict(r, out, v.as.dict, o, level); break;
    default: dc_jj_fail(r, DC_EFORMAT, "Object of type %s is not JSON serializable", dc_jj_type(v)); break;
    }
    dc_jj_leave(r);
}

void dc_jj_json(jrun *r, dc_str *out, jval v, const jjson *o) { json_value(r, out, v, o, 0); }

/* ---- format % values ---- */
typedef struct percent {
    int minus, zero, plus, space, width, precision;
} percent;

static void pad_to(dc_str *out, const percent *f, const char *p, size_t n)
{
    const jstr s = {p, n, 0};
    const size_t chars = dc_jj_chars(&s), width = (size_t)f->width;
    for (size_t i = chars; !f->minus && i < width; i++) dc_str_putc(out, ' ');
    dc_str_append(out, p, n);
    for (size_t i = chars; f->minus && i < width; i++) dc_str_putc(out, ' ');
}

static void percent_number(jrun *r, dc_str *out, const percent *f, char kind, jval v)
{
    char format[32], text[420];
    const int is_real = v.type == J_REAL, is_int = v.type == J_INT || v.type == J_BOOL;
    if (v.type == J_UNDEF) {
        dc_jj_undefined(r, v);
        return;
    }
    if (!is_real && !is_int) {
        dc_jj_fail(r, DC_EFORMAT, "%%%c format: a number is required, not %s", kind, dc_jj_type(v));
        return;
    }
    snprintf(format, sizeof format, "%%%s%s%s%s*.*%s%c", f->minus ? "-" : "", f->zero ? "0" : "", f->plus ? "+" : "",
             f->space ? " " : "", strchr("dxXo", kind) ? "ll" : "", kind);
    if (strchr("dxXo", kind)) {
        if (is_real && !(fabs(v.as.f) < 9e18)) {
            dc_jj_fail(r, DC_EFORMAT, "%%%c of a number beyond 64 bits", kind);
            return;
        }
        const long long i = is_real ? (long long)v.as.f : (long long)v.as.i;
        if (i < 0 && kind != 'd') dc_jj_fail(r, DC_EUNKNOWN, "%%%c of a negative number is not supported", kind);
        snprintf(text, sizeof text, format, f->width, f->precision, i);
    } else {
        snprintf(text, sizeof text, format, f->width, f->precision, is_real ? v.as.f : (double)v.as.i);
    }
    dc_str_puts(out, text);
}

/* Flags, width and precision behind the '%'. Both are bounded, so that a template cannot print gigabytes of spaces. */
static size_t percent_flags(percent *f, const jstr *s, size_t i)
{
    *f = (percent){.precision = -1};
    for (; i < s->n && s->p[i] && strchr("-0+ ", s->p[i]); i++) {
        if (s->p[i] == '-') f->minus = 1;
        if (s->p[i] == '0') f->zero = 1;
        if (s->p[i] == '+') f->plus = 1;
        if (s->p[i] == ' ') f->space = 1;
    }
    for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
        if (f->width < 100) f->width = f->width * 10 + (s->p[i] - '0');
    if (i < s->n && s->p[i] == '.') {
        f->precision = 0;
        for (i++; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++)
            if (f->precision < 10) f->precision = f->precision * 10 + (s->p[i] - '0');
    }
    if (f->width > 200) f->width = 200;
    return i;
}

static void percent_one(jrun *r, dc_str *out, const percent *f, char kind, jval v)
{
    if (kind == 's' || kind == 'r') {
        dc_str text = {0};
        if (kind == 's') dc_jj_str(r, &text, v);
        else dc_jj_repr(r, &text, v);
        const jstr all = {dc_str_text(&text), text.n, 0};
        size_t n = text.n;
        if (f->precision >= 0 && dc_jj_chars(&all) > (size_t)f->precision) n = dc_jj_at(&all, (size_t)f->precision);
        pad_to(out, f, all.p, n);
        dc_str_release(&text);
    } else if (kind && strchr("diuxXofFeEgG", kind)) {
        percent_number(r, out, f, kind == 'i' || kind == 'u' ? 'd' : kind, v);
    } else {
        dc_jj_fail(r, DC_EUNKNOWN, "unsupported format character '%c'", kind);
    }
}

jval dc_jj_percent(jrun *r, const jstr *format, const jval *v, size_t n, const jdict *named)
{
    dc_str out = {0};
    size_t used = 0;
    for (size_t i = 0; i < format->n && !r->rc;) {
        if (format->p[i] != '%') {
            dc_str_putc(&out, format->p[i++]);
            continue;
        }
        jval value = {.type = J_MISSING};
        i++;
        if (i < format->n && format->p[i] == '(' && named) {
            const char *close = memchr(format->p + i, ')', format->n - i);
            const size_t end = close ? (size_t)(close - format->p) : format->n;
            const jval *found = close ? dc_jj_find(r, named, dc_jj_borrow(r, format->p + i + 1, end - i - 1)) : NULL;
            if (!found) dc_jj_fail(r, DC_EFORMAT, "a %%(name) of the format is not among the values");
            else value = *found;
            i = end + (close != NULL);
        }
        percent f;
        i = percent_flags(&f, format, i);
        const char kind = i < format->n ? format->p[i++] : 0;
        if (kind == '%') {
            dc_str_putc(&out, '%');
            continue;
        }
        if (value.type == J_MISSING && used < n) value = v[used++];
        if (value.type == J_MISSING) dc_jj_fail(r, DC_EFORMAT, "not enough arguments for format string");
        else percent_one(r, &out, &f, kind, value);
    }
    if (used < n && !named) dc_jj_fail(r, DC_EFORMAT, "not all arguments converted during string formatting");
    return dc_jj_take(r, &out);
}
