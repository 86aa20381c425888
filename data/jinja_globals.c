/* data/jinja_globals.c -- functions that are always there, methods of dict, list and loop. */
#include "data/jinja.h"

#include <string.h>
#include <time.h>

#define FUNCTION(name) static jval name(jrun *r, jval self, const jval *a, const jcall *c)
#define UNUSED         (void)r, (void)self, (void)a, (void)c
/* A function that is one expression. */
#define GIVES(name, value) \
    FUNCTION(name) \
    { \
        UNUSED; \
        return value; \
    }

static jval key_of(jrun *r, const jstr *name) { return dc_jj_borrow(r, name->p, name->n); }

/* dict(other or pairs, name=value ...). */
static jval make_dict(jrun *r, const jcall *c, jtype type)
{
    jval d = dc_jj_dict(r, type, c->n_named);
    if (c->n > 1) dc_jj_fail(r, DC_EFORMAT, "dict expected at most 1 argument, got %zu", c->n);
    if (!r->rc && c->n && c->v[0].type == J_DICT) {
        const jdict *from = c->v[0].as.dict;
        for (size_t i = 0; i < from->n; i++) dc_jj_put(r, d.as.dict, from->keys[i], from->values[i]);
    } else if (!r->rc && c->n) {
        const jseq *pairs = dc_jj_walk(r, c->v[0]);
        for (size_t i = 0; pairs && i < pairs->n && !r->rc; i++) {
            const jseq *pair = dc_jj_walk(r, pairs->v[i]);
            if (pair && pair->n != 2) dc_jj_fail(r, DC_EFORMAT, "dict needs pairs");
            if (!r->rc) dc_jj_put(r, d.as.dict, pair->v[0], pair->v[1]);
        }
    }
    for (size_t i = 0; i < c->n_named && !r->rc; i++) dc_jj_put(r, d.as.dict, key_of(r, c->names[i]), c->named[i]);
    return d;
}

GIVES(g_dict, make_dict(r, c, J_DICT))

FUNCTION(g_namespace)
{
    UNUSED;
    const jval v = make_dict(r, c, J_SPACE);
    for (size_t i = 0; !r->rc && i < v.as.dict->n; i++) {
        const jval key = v.as.dict->keys[i];
        if (key.type == J_STR && key.as.s->n && key.as.s->p[0] == '_')
            dc_jj_fail(r, DC_EFORMAT, "a namespace's attribute may not begin with an underscore");
    }
    return v;
}

FUNCTION(g_range)
{
    UNUSED;
    const int64_t first = a[1].type == J_MISSING ? 0 : dc_jj_want_int(r, a[0], 0, "range's start");
    const int64_t stop = dc_jj_want_int(r, a[1].type == J_MISSING ? a[0] : a[1], 0, "range's stop");
    const int64_t step = dc_jj_want_int(r, a[2], 1, "range's step");
    if (a[0].type == J_NONE || a[1].type == J_NONE)
        dc_jj_fail(r, DC_EFORMAT, "'NoneType' object cannot be interpreted as an integer");
    if (!r->rc && step == 0) dc_jj_fail(r, DC_EFORMAT, "range() arg 3 must not be zero");
    if (r->rc) return DC_JJ_NONE;
    const int up = step > 0;
    const uint64_t span = up ? (stop > first ? (uint64_t)stop - (uint64_t)first : 0)
                             : (first > stop ? (uint64_t)first - (uint64_t)stop : 0);
    const uint64_t stride = up ? (uint64_t)step : 0 - (uint64_t)step, n = span / stride + (span % stride != 0);
    if (n > DC_JJ_RANGE)
        return dc_jj_fail(r, DC_EFORMAT, "Range too big. The sandbox blocks ranges larger than %d.", DC_JJ_RANGE),
               DC_JJ_NONE;
    jval v = dc_jj_seq(r, J_RANGE, (size_t)n);
    for (uint64_t i = 0; !r->rc && i < n; i++)
        v.as.seq->v[i] = dc_jj_int((int64_t)((uint64_t)first + i * (uint64_t)step));
    return v;
}

FUNCTION(g_raise)
{
    UNUSED;
    const jval s = dc_jj_string(r, a[0]);
    if (!r->rc)
        dc_jj_fail(r, DC_EFORMAT, "the template says: %.*s", (int)(s.as.s->n < 600 ? s.as.s->n : 600), s.as.s->p);
    return DC_JJ_NONE;
}

/* datetime.now().strftime(format): local time without a zone, so that %z and %Z are empty; %f has no microseconds. */
FUNCTION(g_strftime)
{
    UNUSED;
    const jstr *format = dc_jj_want_text(r, a[0], "strftime_now's format");
    if (!format) return DC_JJ_NONE;
    char spec[256], text[1024];
    size_t n = 0;
    for (size_t i = 0; i < format->n; i++) {
        if (n + 8 >= sizeof spec || !format->p[i])
            return dc_jj_fail(r, DC_EFORMAT, "strftime_now's format is too long"), DC_JJ_NONE;
        spec[n++] = format->p[i];
        if (format->p[i] != '%' || i + 1 >= format->n) continue;
        const char kind = format->p[++i];
        if (kind == 'z' || kind == 'Z') n--;
        else if (kind == 'f') memcpy(spec + n - 1, "000000", 6), n += 5;
        else spec[n++] = kind;
    }
    spec[n] = 0;
    const time_t seconds = (time_t)r->time;
    struct tm local;
    if (!localtime_r(&seconds, &local))
        return dc_jj_fail(r, DC_EFORMAT, "the time cannot be shown as a date"), DC_JJ_NONE;
    return dc_jj_text(r, text, n ? strftime(text, sizeof text, spec, &local) : 0);
}

const jfn *dc_jj_global(const jstr *name)
{
    static const jfn table[] = {{"dict", NULL, 0, g_dict},
                                {"namespace", NULL, 0, g_namespace},
                                {"range", "start stop step", 1, g_range},
                                {"raise_exception", "message", 1, g_raise},
                                {"strftime_now", "format", 1, g_strftime}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (dc_jj_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* ---- dict, list ---- */
GIVES(m_items, dc_jj_pairs(r, self.as.dict, J_VIEW, 2))
GIVES(m_keys, dc_jj_pairs(r, self.as.dict, J_VIEW, 0))
GIVES(m_values, dc_jj_pairs(r, self.as.dict, J_VIEW, 1))
FUNCTION(m_copy)
{
    UNUSED;
    return self;
} /* nothing can change it */

FUNCTION(m_get)
{
    UNUSED;
    const jval *found = dc_jj_find(r, self.as.dict, a[0]);
    return found ? *found : a[1].type == J_MISSING ? DC_JJ_NONE : a[1];
}

FUNCTION(m_count)
{
    UNUSED;
    int64_t n = 0;
    for (size_t i = 0; i < self.as.seq->n; i++) n += dc_jj_equal(r, self.as.seq->v[i], a[0]);
    return dc_jj_int(n);
}

FUNCTION(m_index)
{
    UNUSED;
    for (size_t i = 0; i < self.as.seq->n; i++)
        if (dc_jj_equal(r, self.as.seq->v[i], a[0])) return dc_jj_int((int64_t)i);
    dc_jj_fail(r, DC_EFORMAT, "the value is not in the list");
    return DC_JJ_NONE;
}

const jfn *dc_jj_seq_method(jtype type, const jstr *name)
{
    static const jfn dict[] = {{"items", "", 0, m_items},
                               {"keys", "", 0, m_keys},
                               {"values", "", 0, m_values},
                               {"get", "key default", 1, m_get},
                               {"copy", "", 0, m_copy}};
    static const jfn list[] = {{"count", "value", 1, m_count}, {"index", "value", 1, m_index}, {"copy", "", 0, m_copy}};
    const int is_dict = type == J_DICT;
    if (!is_dict && type != J_LIST && type != J_TUPLE && type != J_RANGE) return NULL;
    const jfn *table = is_dict ? dict : list;
    const size_t n = is_dict ? sizeof dict / sizeof *dict : type == J_LIST ? 3 : 2;
    for (size_t i = 0; i < n; i++)
        if (dc_jj_is(name, table[i].name)) return &table[i];
    return NULL;
}

int dc_jj_mutates(jtype type, const jstr *name)
{
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const list[] = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort", NULL};
    if (type != J_DICT && type != J_LIST) return 0;
    for (const char *const *n = type == J_DICT ? dict : list; *n; n++)
        if (dc_jj_is(name, *n)) return 1;
    return 0;
}

/* ---- loop ---- */
FUNCTION(l_cycle)
{
    UNUSED;
    if (!c->n) return dc_jj_fail(r, DC_EFORMAT, "no items for cycling given"), DC_JJ_NONE;
    return c->v[(size_t)self.as.loop->index0 % c->n];
}

FUNCTION(l_changed)
{
    UNUSED;
    jval now = dc_jj_seq(r, J_TUPLE, c->n);
    if (r->rc) return now;
    if (c->n) memcpy(now.as.seq->v, c->v, c->n * sizeof(jval));
    const int same = self.as.loop->changed.type == J_TUPLE && dc_jj_equal(r, now, self.as.loop->changed);
    self.as.loop->changed = now;
    return dc_jj_bool(!same);
}

static jval neighbour(jrun *r, const char *hint)
{
    const jval v = dc_jj_undef(r, NULL, DC_JJ_NONE);
    if (!r->rc) ((jundef *)v.as.undef)->hint = hint; /* made just now */
    return v;
}

jval dc_jj_method_of_loop(jrun *r, jval v, const jstr *name)
{
    static const jfn methods[] = {{"cycle", NULL, 0, l_cycle}, {"changed", NULL, 0, l_changed}};
    jloop *l = v.as.loop;
    if (dc_jj_is(name, "index0")) return dc_jj_int(l->index0);
    if (dc_jj_is(name, "index")) return dc_jj_int(l->index0 + 1);
    if (dc_jj_is(name, "first")) return dc_jj_bool(l->index0 == 0);
    if (dc_jj_is(name, "last")) return dc_jj_bool(!dc_jj_loop_peek(r, l));
    if (dc_jj_is(name, "length")) return dc_jj_int(dc_jj_loop_length(r, l));
    if (dc_jj_is(name, "revindex")) return dc_jj_int(dc_jj_loop_length(r, l) - l->index0);
    if (dc_jj_is(name, "revindex0")) return dc_jj_int(dc_jj_loop_length(r, l) - l->index0 - 1);
    if (dc_jj_is(name, "depth")) return dc_jj_int(l->depth0 + 1);
    if (dc_jj_is(name, "depth0")) return dc_jj_int(l->depth0);
    if (dc_jj_is(name, "previtem")) return l->index0 == 0 ? neighbour(r, "there is no previous item") : l->before;
    if (dc_jj_is(name, "nextitem")) return dc_jj_loop_peek(r, l) ? l->after : neighbour(r, "there is no next item");
    for (size_t i = 0; i < 2; i++) {
        if (!dc_jj_is(name, methods[i].name)) continue;
        jbound *bound = dc_jj_alloc(r, 1, sizeof *bound);
        jval m = {.type = J_METHOD};
        if (!bound) return DC_JJ_NONE;
        *bound = (jbound){v, &methods[i]};
        m.as.bound = bound;
        return m;
    }
    return (jval){.type = J_MISSING};
}
