/* data/jinja_value.c -- values of templates: memory, errors, and Python's rules of truth, equality, order, lookup and slices. */
#include "data/jinja_tree.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const jval DC_JJ_NONE = {.type = J_NONE};

/* ---- bounds and failures ---- */
int dc_jj_fail(jrun *r, dc_code code, const char *format, ...)
{
    if (r->rc) return r->rc;
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->rc = dc_fail(r->err, code, "%s:%d: %s", r->t->name, r->line, text);
    return r->rc;
}

void *dc_jj_alloc(jrun *r, size_t n, size_t size)
{
    if (r->rc) return NULL;
    if (n > DC_JJ_MEMORY / size || n * size + 64 > DC_JJ_MEMORY - r->memory) {
        dc_jj_fail(r, DC_EFORMAT, "the template needs more than 512 MB of memory for one conversation");
        return NULL;
    }
    r->memory += n * size + 64;
    void *memory = dc_arena_alloc(&r->arena, n * size + 1);
    if (!memory) r->rc = dc_fail_memory(r->err, n * size, "a conversation's rendering");
    return memory;
}

int dc_jj_step(jrun *r, size_t work)
{
    if (r->rc) return -1;
    r->steps += 1 + work;
    if (r->steps <= DC_JJ_STEPS) return 0;
    dc_jj_fail(r, DC_EFORMAT, "the template did not end after %d million steps", DC_JJ_STEPS / 1000000);
    return -1;
}

int dc_jj_enter(jrun *r)
{
    if (r->rc) return -1;
    if (r->depth >= DC_JJ_DEPTH) {
        dc_jj_fail(r, DC_EFORMAT, "the template recurses deeper than %d levels", DC_JJ_DEPTH);
        return -1;
    }
    r->depth++;
    return 0;
}

void dc_jj_leave(jrun *r) { r->depth--; }

int dc_jj_undefined(jrun *r, jval v)
{
    const jundef *u = v.as.undef;
    if (u->hint) return dc_jj_fail(r, DC_EFORMAT, "%s", u->hint);
    dc_str name = {0};
    const int is_text = u->name.type == J_STR;
    if (is_text && !u->of) dc_jj_repr(r, &name, u->name);
    else if (is_text) dc_str_append(&name, u->name.as.s->p, u->name.as.s->n);
    else dc_jj_repr(r, &name, u->name);
    const int n = (int)(name.n < 200 ? name.n : 200);
    if (!u->of) dc_jj_fail(r, DC_EFORMAT, "%.*s is undefined", n, dc_str_text(&name));
    else if (is_text) dc_jj_fail(r, DC_EFORMAT, "'%s' has no attribute '%.*s'", u->of, n, dc_str_text(&name));
    else dc_jj_fail(r, DC_EFORMAT, "%s has no element %.*s", u->of, n, dc_str_text(&name));
    dc_str_release(&name);
    return r->rc;
}

/* ---- making values ---- */
jval dc_jj_bool(int b)
{
    jval v = {.type = J_BOOL};
    v.as.i = b != 0;
    return v;
}

jval dc_jj_int(int64_t i)
{
    jval v = {.type = J_INT};
    v.as.i = i;
    return v;
}

jval dc_jj_real(double f)
{
    jval v = {.type = J_REAL};
    v.as.f = f;
    return v;
}

jval dc_jj_borrow(jrun *r, const char *p, size_t n)
{
    jstr *s = dc_jj_alloc(r, 1, sizeof *s);
    if (!s) return DC_JJ_NONE;
    *s = (jstr){p, n, 0};
    jval v = {.type = J_STR};
    v.as.s = s;
    return v;
}

jval dc_jj_text(jrun *r, const char *p, size_t n)
{
    char *copy = dc_jj_alloc(r, n, 1);
    if (!copy) return DC_JJ_NONE;
    if (n) memcpy(copy, p, n);
    return dc_jj_borrow(r, copy, n);
}

jval dc_jj_take(jrun *r, dc_str *s)
{
    jval v = DC_JJ_NONE;
    if (s->failed && !r->rc) r->rc = dc_fail_memory(r->err, s->n, "a conversation's rendering");
    else v = dc_jj_text(r, dc_str_text(s), s->n);
    dc_str_release(s);
    return v;
}

jval dc_jj_seq(jrun *r, jtype type, size_t n)
{
    jseq *seq = dc_jj_alloc(r, 1, sizeof *seq);
    jval *items = dc_jj_alloc(r, n, sizeof *items);
    if (!items) return DC_JJ_NONE;
    for (size_t i = 0; i < n; i++) items[i] = DC_JJ_NONE;
    *seq = (jseq){.v = items, .n = n};
    jval v = {.type = type};
    v.as.seq = seq;
    return v;
}

jval dc_jj_dict(jrun *r, jtype type, size_t room)
{
    jdict *d = dc_jj_alloc(r, 1, sizeof *d);
    jval *keys = dc_jj_alloc(r, room, 2 * sizeof *keys);
    if (!keys) return DC_JJ_NONE;
    *d = (jdict){.keys = keys, .values = keys + room, .room = room};
    jval v = {.type = type};
    v.as.dict = d;
    return v;
}

jval dc_jj_undef(jrun *r, const char *of, jval name)
{
    jundef *u = dc_jj_alloc(r, 1, sizeof *u);
    if (!u) return DC_JJ_NONE;
    *u = (jundef){.of = of, .name = name};
    jval v = {.type = J_UNDEF};
    v.as.undef = u;
    return v;
}

static jval object_from_json(jrun *r, const json_t *json)
{
    jval v = dc_jj_dict(r, J_DICT, json_object_size(json));
    json_t *object = (json_t *)json; /* jansson's iteration takes no const, and changes nothing */
    for (void *it = json_object_iter(object); it && !r->rc; it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        jdict *d = v.as.dict; /* keys are unique: no search */
        d->keys[d->n] = dc_jj_borrow(r, key, strlen(key));
        d->values[d->n] = dc_jj_from_json(r, json_object_iter_value(it));
        d->n++;
    }
    return v;
}

jval dc_jj_from_json(jrun *r, const json_t *json)
{
    jval v = DC_JJ_NONE;
    if (dc_jj_enter(r)) return v;
    switch (json ? json_typeof(json) : JSON_NULL) {
    case JSON_OBJECT: v = object_from_json(r, json); break;
    case JSON_ARRAY:
        v = dc_jj_seq(r, J_LIST, json_array_size(json));
        for (size_t i = 0; i < json_array_size(json) && !r->rc; i++)
            v.as.seq->v[i] = dc_jj_from_json(r, json_array_get(json, i));
        break;
    case JSON_STRING: v = dc_jj_borrow(r, json_string_value(json), json_string_length(json)); break;
    case JSON_INTEGER: v = dc_jj_int(json_integer_value(json)); break;
    case JSON_REAL: v = dc_jj_real(json_real_value(json)); break;
    case JSON_TRUE: v = dc_jj_bool(1); break;
    case JSON_FALSE: v = dc_jj_bool(0); break;
    case JSON_NULL: break;
    }
    dc_jj_leave(r);
    return v;
}

/* ---- what a value is ---- */
int dc_jj_is_seq(jval v) { return v.type >= J_LIST && v.type <= J_GEN; }

int dc_jj_is(const jstr *s, const char *text)
{
    const size_t n = strlen(text);
    return s->n == n && memcmp(s->p, text, n) == 0;
}

const char *dc_jj_type(jval v)
{
    static const char *const names[] = {
        [J_MISSING] = "missing", [J_UNDEF] = "Undefined", [J_NONE] = "NoneType",    [J_BOOL] = "bool",
        [J_INT] = "int",         [J_REAL] = "float",      [J_STR] = "str",          [J_LIST] = "list",
        [J_TUPLE] = "tuple",     [J_RANGE] = "range",     [J_VIEW] = "dict view",   [J_GEN] = "generator",
        [J_DICT] = "dict",       [J_SPACE] = "Namespace", [J_LOOP] = "LoopContext", [J_MACRO] = "Macro",
        [J_FUNC] = "function",   [J_METHOD] = "method"};
    return names[v.type];
}

const char *dc_jj_object(jval v)
{
    static const char *const names[] = {
        [J_MISSING] = "missing",    [J_UNDEF] = "Undefined",        [J_NONE] = "None",
        [J_BOOL] = "bool object",   [J_INT] = "int object",         [J_REAL] = "float object",
        [J_STR] = "str object",     [J_LIST] = "list object",       [J_TUPLE] = "tuple object",
        [J_RANGE] = "range object", [J_VIEW] = "dict view object",  [J_GEN] = "generator object",
        [J_DICT] = "dict object",   [J_SPACE] = "namespace object", [J_LOOP] = "loop object",
        [J_MACRO] = "macro object", [J_FUNC] = "function object",   [J_METHOD] = "method object"};
    return names[v.type];
}

int dc_jj_truth(jval v)
{
    switch (v.type) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return 0;
    case J_BOOL:
    case J_INT: return v.as.i != 0;
    case J_REAL: return v.as.f != 0;
    case J_STR: return v.as.s->n > 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v.as.seq->n > 0;
    case J_DICT: return v.as.dict->n > 0;
    default: return 1;
    }
}

static int is_number(jval v) { return v.type == J_BOOL || v.type == J_INT || v.type == J_REAL; }

/* Exact, as Python compares int with float: by the real number, not after rounding. NaN is unordered: 2. */
static int compare_numbers(jval a, jval b)
{
    if (a.type != J_REAL && b.type != J_REAL) return (a.as.i > b.as.i) - (a.as.i < b.as.i);
    if (a.type == J_REAL && b.type == J_REAL)
        return a.as.f < b.as.f ? -1 : a.as.f > b.as.f ? 1 : a.as.f == b.as.f ? 0 : 2;
    if (a.type != J_REAL) {
        const int c = compare_numbers(b, a);
        return c == 2 ? 2 : -c;
    }
    if (isnan(a.as.f)) return 2;
    if (a.as.f >= 9223372036854775808.0) return 1;
    if (a.as.f < -9223372036854775808.0) return -1;
    const int64_t whole = (int64_t)a.as.f; /* towards zero */
    if (whole != b.as.i) return whole < b.as.i ? -1 : 1;
    const double rest = a.as.f - (double)whole;
    return (rest > 0) - (rest < 0);
}

static int compare_text(jrun *r, const jstr *a, const jstr *b)
{
    const size_t n = a->n < b->n ? a->n : b->n;
    if (dc_jj_step(r, n / 64)) return 0;
    const int c = n ? memcmp(a->p, b->p, n) : 0; /* the order of UTF-8 bytes is that of code points */
    return c ? (c < 0 ? -1 : 1) : (a->n > b->n) - (a->n < b->n);
}

static int equal_dicts(jrun *r, const jdict *a, const jdict *b)
{
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n && !r->rc; i++) {
        const jval *other = dc_jj_find(r, b, a->keys[i]);
        if (!other || !dc_jj_equal(r, a->values[i], *other)) return 0;
    }
    return 1;
}

static int equal_inside(jrun *r, jval a, jval b)
{
    if (a.type == J_DICT) return equal_dicts(r, a.as.dict, b.as.dict);
    const jseq *x = a.as.seq, *y = b.as.seq;
    if (x->n != y->n) return 0;
    for (size_t i = 0; i < x->n; i++)
        if (!dc_jj_equal(r, x->v[i], y->v[i])) return 0;
    return 1;
}

int dc_jj_equal(jrun *r, jval a, jval b)
{
    if (dc_jj_step(r, 0)) return 0;
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return 0;
    switch (a.type) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return 1;
    case J_STR: return a.as.s->n == b.as.s->n && compare_text(r, a.as.s, b.as.s) == 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_DICT: {
        if (a.as.seq == b.as.seq) return 1;
        if (dc_jj_enter(r)) return 0;
        const int equal = equal_inside(r, a, b);
        dc_jj_leave(r);
        return equal;
    }
    default: return a.as.seq == b.as.seq;
    }
}

int dc_jj_order(jrun *r, jval a, jval b, const char *op)
{
    if (a.type == J_UNDEF) return dc_jj_undefined(r, a), 0;
    if (b.type == J_UNDEF) return dc_jj_undefined(r, b), 0;
    if (is_number(a) && is_number(b)) return compare_numbers(a, b);
    if (a.type == J_STR && b.type == J_STR) return compare_text(r, a.as.s, b.as.s);
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        const jseq *x = a.as.seq, *y = b.as.seq;
        int c = 0;
        if (dc_jj_enter(r)) return 0;
        size_t i = 0;
        while (i < x->n && i < y->n && dc_jj_equal(r, x->v[i], y->v[i])) i++;
        if (i < x->n && i < y->n) c = dc_jj_order(r, x->v[i], y->v[i], op);
        else c = (x->n > y->n) - (x->n < y->n);
        dc_jj_leave(r);
        return c;
    }
    dc_jj_fail(r, DC_EFORMAT, "'%s' not supported between instances of '%s' and '%s'", op, dc_jj_type(a),
               dc_jj_type(b));
    return 0;
}

int dc_jj_contains(jrun *r, jval needle, jval in)
{
    if (in.type == J_STR) {
        if (needle.type == J_STR) return dc_jj_search(r, in.as.s, needle.as.s, 0, 0) >= 0;
        if (needle.type == J_UNDEF) return dc_jj_undefined(r, needle), 0;
        dc_jj_fail(r, DC_EFORMAT, "'in <string>' requires string as left operand, not %s", dc_jj_type(needle));
        return 0;
    }
    if (in.type == J_DICT) return dc_jj_find(r, in.as.dict, needle) != NULL;
    const jseq *seq = dc_jj_walk(r, in);
    for (size_t i = 0; seq && i < seq->n; i++)
        if (dc_jj_equal(r, seq->v[i], needle)) return 1;
    return 0;
}

int64_t dc_jj_length(jrun *r, jval v)
{
    switch (v.type) {
    case J_UNDEF: return 0;
    case J_STR: return (int64_t)dc_jj_chars(v.as.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return (int64_t)v.as.seq->n;
    case J_DICT: return (int64_t)v.as.dict->n;
    case J_LOOP: return dc_jj_loop_length(r, v.as.loop);
    default: dc_jj_fail(r, DC_EFORMAT, "object of type '%s' has no len()", dc_jj_type(v)); return 0;
    }
}

/* ---- walking ---- */
static const jseq *characters(jrun *r, const jstr *s)
{
    jval list = dc_jj_seq(r, J_LIST, dc_jj_chars(s));
    size_t at = 0;
    for (size_t i = 0; !r->rc && i < list.as.seq->n; i++) {
        const jstr rest = {s->p + at, s->n - at, 0};
        const size_t n = dc_jj_at(&rest, 1);
        list.as.seq->v[i] = dc_jj_borrow(r, s->p + at, n);
        at += n;
    }
    return r->rc ? NULL : list.as.seq;
}

const jseq *dc_jj_walk(jrun *r, jval v)
{
    static const jseq empty = {0};
    if (r->rc) return NULL;
    switch (v.type) {
    case J_UNDEF: return &empty;
    case J_STR: return characters(r, v.as.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v.as.seq;
    case J_GEN:
        if (v.as.seq->spent) return &empty;
        v.as.seq->spent = 1;
        return v.as.seq;
    case J_DICT: {
        const jval keys = dc_jj_pairs(r, v.as.dict, J_LIST, 0);
        return r->rc ? NULL : keys.as.seq;
    }
    default: dc_jj_fail(r, DC_EFORMAT, "'%s' object is not iterable", dc_jj_type(v)); return NULL;
    }
}

jval dc_jj_pairs(jrun *r, const jdict *d, jtype type, int what)
{
    jval list = dc_jj_seq(r, type, d->n);
    if (!r->rc && type == J_VIEW) list.as.seq->tag = what;
    for (size_t i = 0; !r->rc && i < d->n; i++) {
        jval *to = &list.as.seq->v[i];
        if (what < 2) {
            *to = what ? d->values[i] : d->keys[i];
            continue;
        }
        *to = dc_jj_seq(r, J_TUPLE, 2);
        if (r->rc) break;
        to->as.seq->v[0] = d->keys[i];
        to->as.seq->v[1] = d->values[i];
    }
    return list;
}

jval *dc_jj_find(jrun *r, const jdict *d, jval key)
{
    if (key.type == J_LIST || key.type == J_DICT) {
        dc_jj_fail(r, DC_EFORMAT, "unhashable type: '%s'", dc_jj_type(key));
        return NULL;
    }
    for (size_t i = 0; i < d->n; i++)
        if (dc_jj_equal(r, d->keys[i], key)) return &d->values[i];
    return NULL;
}

void dc_jj_put(jrun *r, jdict *d, jval key, jval value)
{
    jval *old = dc_jj_find(r, d, key);
    if (old && !r->rc) *old = value;
    if (old || r->rc) return;
    if (d->n == d->room) {
        const size_t room = d->room ? 2 * d->room : 4;
        jval *keys = dc_jj_alloc(r, room, 2 * sizeof *keys);
        if (!keys) return;
        if (d->n) {
            memcpy(keys, d->keys, d->n * sizeof *keys);
            memcpy(keys + room, d->values, d->n * sizeof *keys);
        }
        d->keys = keys;
        d->values = keys + room;
        d->room = room;
    }
    d->keys[d->n] = key;
    d->values[d->n++] = value;
}

/* ---- attributes and elements ---- */
static jval unsafe(jrun *r, jval v, const jstr *name)
{
    char hint[160];
    snprintf(hint, sizeof hint, "access to attribute '%.*s' of '%s' object is unsafe.",
             (int)(name->n < 60 ? name->n : 60), name->p, dc_jj_type(v));
    const jval text = dc_jj_text(r, hint, strlen(hint));
    jundef *u = dc_jj_alloc(r, 1, sizeof *u);
    if (!u) return DC_JJ_NONE;
    u->hint = text.as.s->p; /* the arena's copy has a 0 behind it */
    jval undef = {.type = J_UNDEF};
    undef.as.undef = u;
    return undef;
}

static jval bind(jrun *r, jval self, const jfn *fn)
{
    jbound *bound = dc_jj_alloc(r, 1, sizeof *bound);
    if (!bound) return DC_JJ_NONE;
    *bound = (jbound){self, fn};
    jval v = {.type = J_METHOD};
    v.as.bound = bound;
    return v;
}

static jval macro_attr(jrun *r, const jmacro *m, const jstr *name)
{
    if (dc_jj_is(name, "name")) return m->node->value;
    if (!dc_jj_is(name, "arguments")) return (jval){.type = J_MISSING};
    jval list = dc_jj_seq(r, J_TUPLE, m->node->n_args);
    for (size_t i = 0; !r->rc && i < m->node->n_args; i++)
        list.as.seq->v[i] = dc_jj_borrow(r, m->node->args[i].name->p, m->node->args[i].name->n);
    return list;
}

/* getattr(v, name) of Python, J_MISSING where it has none. */
static jval python_attr(jrun *r, jval v, const jstr *name)
{
    const jval missing = {.type = J_MISSING};
    const jfn *fn = NULL;
    if (v.type == J_STR) fn = dc_jj_str_method(name);
    else if (dc_jj_is_seq(v) || v.type == J_DICT) fn = dc_jj_seq_method(v.type, name);
    if (fn) return bind(r, v, fn);
    if (v.type == J_STR && dc_jj_str_lacks(name))
        dc_jj_fail(r, DC_EUNKNOWN, "unsupported method '%.*s' of str", (int)name->n, name->p);
    if (dc_jj_mutates(v.type, name)) return unsafe(r, v, name);
    if (v.type == J_TUPLE && v.as.seq->tag) {
        if (dc_jj_is(name, "grouper")) return v.as.seq->v[0];
        if (dc_jj_is(name, "list")) return v.as.seq->v[1];
    }
    if (v.type == J_SPACE) {
        jval key = {.type = J_STR};
        key.as.s = name;
        const jval *found = dc_jj_find(r, v.as.dict, key);
        return found ? *found : missing;
    }
    if (v.type == J_LOOP) return dc_jj_method_of_loop(r, v, name);
    if (v.type == J_MACRO) return macro_attr(r, v.as.macro, name);
    return missing;
}

static jval lacks(jrun *r, jval v, jval name) { return dc_jj_undef(r, dc_jj_object(v), name); }

jval dc_jj_attr(jrun *r, jval v, const jstr *name)
{
    if (r->rc) return DC_JJ_NONE;
    if (v.type == J_UNDEF) return dc_jj_undefined(r, v), DC_JJ_NONE;
    const jval attr = python_attr(r, v, name);
    if (attr.type != J_MISSING) return attr;
    jval key = {.type = J_STR};
    key.as.s = name;
    if (v.type == J_DICT) {
        const jval *found = dc_jj_find(r, v.as.dict, key);
        if (found) return *found;
    }
    return lacks(r, v, key);
}

/* A negative number counts from the end. */
static int element(size_t n, jval key, size_t *at)
{
    if (key.type != J_INT && key.type != J_BOOL) return 0;
    const int64_t i = key.as.i < 0 ? key.as.i + (int64_t)n : key.as.i;
    *at = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

jval dc_jj_item(jrun *r, jval v, jval key)
{
    size_t at;
    if (r->rc) return DC_JJ_NONE;
    if (v.type == J_UNDEF) return dc_jj_undefined(r, v), DC_JJ_NONE;
    if (v.type == J_DICT && key.type != J_LIST && key.type != J_DICT) {
        const jval *found = dc_jj_find(r, v.as.dict, key);
        if (found) return *found;
    } else if ((v.type == J_LIST || v.type == J_TUPLE || v.type == J_RANGE) && element(v.as.seq->n, key, &at)) {
        return v.as.seq->v[at];
    } else if (v.type == J_STR && element(dc_jj_chars(v.as.s), key, &at)) {
        const size_t begin = dc_jj_at(v.as.s, at);
        const jstr rest = {v.as.s->p + begin, v.as.s->n - begin, 0};
        if (dc_jj_step(r, v.as.s->n / 64)) return DC_JJ_NONE;
        return dc_jj_borrow(r, rest.p, dc_jj_at(&rest, 1));
    }
    if (key.type == J_STR) {
        const jval attr = python_attr(r, v, key.as.s);
        if (attr.type != J_MISSING) return attr;
    }
    return lacks(r, v, key);
}

static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high)
{
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

/* Python's slice.indices(n). */
static int slice_indices(jrun *r, const jval part[3], int64_t n, int64_t out[3])
{
    for (int i = 0; i < 3; i++) {
        if (part[i].type == J_UNDEF) return dc_jj_undefined(r, part[i]);
        if (part[i].type != J_NONE && part[i].type != J_INT && part[i].type != J_BOOL)
            return dc_jj_fail(r, DC_EFORMAT, "slice indices must be integers or None, not %s", dc_jj_type(part[i]));
    }
    const int64_t step = part[2].type == J_NONE ? 1 : part[2].as.i;
    if (step == 0) return dc_jj_fail(r, DC_EFORMAT, "slice step cannot be zero");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    out[0] = part[0].type == J_NONE ? (step > 0 ? low : high) : clamp(part[0].as.i, n, low, high);
    out[1] = part[1].type == J_NONE ? (step > 0 ? high : low) : clamp(part[1].as.i, n, low, high);
    out[2] = step < -n - 1 ? -n - 1 : step > n + 1 ? n + 1 : step; /* beyond the end either way */
    return r->rc;
}

static jval slice_text(jrun *r, const jstr *s, const int64_t at[3])
{
    if (dc_jj_step(r, s->n / 8)) return DC_JJ_NONE;
    if (at[2] == 1) {
        const size_t begin = dc_jj_at(s, (size_t)at[0]), end = at[1] > at[0] ? dc_jj_at(s, (size_t)at[1]) : begin;
        return dc_jj_borrow(r, s->p + begin, end - begin);
    }
    const jseq *all = characters(r, s);
    dc_str out = {0};
    for (int64_t i = at[0]; all && (at[2] > 0 ? i < at[1] : i > at[1]); i += at[2])
        dc_str_append(&out, all->v[i].as.s->p, all->v[i].as.s->n);
    return dc_jj_take(r, &out);
}

jval dc_jj_slice(jrun *r, jval v, jval start, jval stop, jval step)
{
    if (r->rc) return DC_JJ_NONE;
    if (v.type == J_UNDEF) return dc_jj_undefined(r, v), DC_JJ_NONE;
    if (v.type != J_STR && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE) return lacks(r, v, DC_JJ_NONE);
    const jval part[3] = {start, stop, step};
    int64_t at[3] = {0, 0, 1};
    if (slice_indices(r, part, dc_jj_length(r, v), at)) return DC_JJ_NONE;
    if (v.type == J_STR) return slice_text(r, v.as.s, at);
    const int64_t span = at[2] > 0 ? at[1] - at[0] : at[0] - at[1], stride = at[2] > 0 ? at[2] : -at[2];
    const size_t n = span > 0 ? (size_t)((span + stride - 1) / stride) : 0;
    jval out = dc_jj_seq(r, v.type, n);
    for (size_t i = 0; !r->rc && i < n; i++) out.as.seq->v[i] = v.as.seq->v[at[0] + (int64_t)i * at[2]];
    return out;
}
