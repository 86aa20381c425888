/* data/jinja_args.c -- arguments of filters, methods and functions: binding by name, and types. */
#include "data/jinja.h"

#include <string.h>

enum { MAX_PARAMS = 6 };

const jstr *dc_jj_want_text(jrun *r, jval v, const char *what)
{
    if (v.type == J_STR) return v.as.s;
    if (v.type == J_UNDEF) dc_jj_undefined(r, v);
    else dc_jj_fail(r, DC_EFORMAT, "%s must be str, not %s", what, dc_jj_type(v));
    return NULL;
}

int64_t dc_jj_want_int(jrun *r, jval v, int64_t fallback, const char *what)
{
    if (v.type == J_MISSING || v.type == J_NONE) return fallback;
    if (v.type == J_INT || v.type == J_BOOL) return v.as.i;
    if (v.type == J_UNDEF) dc_jj_undefined(r, v);
    else dc_jj_fail(r, DC_EFORMAT, "%s must be int, not %s", what, dc_jj_type(v));
    return fallback;
}

int dc_jj_flag(jval v, int fallback) { return v.type == J_MISSING ? fallback : dc_jj_truth(v); }

/* The number of the parameter called `name` in "a b c", -1 when there is none. */
static int param(const char *params, const jstr *name)
{
    int at = 0;
    for (const char *p = params; *p; at++) {
        const size_t n = strcspn(p, " ");
        if (n == name->n && memcmp(p, name->p, n) == 0) return at;
        p += n;
        p += strspn(p, " ");
    }
    return -1;
}

static int count(const char *params)
{
    int n = *params != 0;
    for (; *params; params++) n += *params == ' ';
    return n;
}

jval dc_jj_call_fn(jrun *r, const jfn *fn, jval self, const jcall *c)
{
    if (r->rc || dc_jj_step(r, 0)) return DC_JJ_NONE;
    if (!fn->params) return fn->fn(r, self, NULL, c);
    jval a[MAX_PARAMS];
    const int n = count(fn->params);
    DC_ASSERT(n <= MAX_PARAMS);
    for (int i = 0; i < MAX_PARAMS; i++) a[i] = (jval){.type = J_MISSING};
    if (c->n > (size_t)n) {
        dc_jj_fail(r, DC_EFORMAT, "%s takes at most %d arguments, not %zu", fn->name, n, c->n);
        return DC_JJ_NONE;
    }
    for (size_t i = 0; i < c->n; i++) a[i] = c->v[i];
    for (size_t i = 0; i < c->n_named; i++) {
        const int at = param(fn->params, c->names[i]);
        if (at < 0 || a[at].type != J_MISSING) {
            const int len = (int)(c->names[i]->n < 60 ? c->names[i]->n : 60);
            dc_jj_fail(r, DC_EFORMAT, "%s %s argument '%.*s'", fn->name, at < 0 ? "has no" : "was given twice", len,
                       c->names[i]->p);
            return DC_JJ_NONE;
        }
        a[at] = c->named[i];
    }
    for (int i = 0; i < fn->required; i++)
        if (a[i].type == J_MISSING)
            return dc_jj_fail(r, DC_EFORMAT, "%s needs %d arguments", fn->name, fn->required), DC_JJ_NONE;
    return fn->fn(r, self, a, c);
}
