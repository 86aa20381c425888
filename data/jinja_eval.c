/* data/jinja_eval.c -- expressions: names, operators, calls. */
#include "data/jinja_tree.h"

#include <math.h>
#include <string.h>

/* ---- operators ---- */
static int is_whole(jval v) { return v.type == J_INT || v.type == J_BOOL; }
static int is_number(jval v) { return is_whole(v) || v.type == J_REAL; }
static double real_of(jval v) { return v.type == J_REAL ? v.as.f : (double)v.as.i; }

static jval bad_operands(jrun *r, const char *op, jval a, jval b)
{
    if (a.type == J_UNDEF) dc_jj_undefined(r, a);
    else if (b.type == J_UNDEF) dc_jj_undefined(r, b);
    else
        dc_jj_fail(r, DC_EFORMAT, "unsupported operand type(s) for %s: '%s' and '%s'", op, dc_jj_type(a),
                   dc_jj_type(b));
    return DC_JJ_NONE;
}

static jval beyond(jrun *r)
{
    dc_jj_fail(r, DC_EFORMAT, "a number beyond 64 bits");
    return DC_JJ_NONE;
}

/* Text that `safe` marked escapes what it is joined with, as Markup does. */
static jval add_text(jrun *r, jval a, jval b)
{
    static const jstr name = {"escape", 6, 0};
    static const jcall no_args = {0};
    const int safe = a.as.s->safe || b.as.s->safe;
    if (safe) {
        a = dc_jj_call_fn(r, dc_jj_filter(&name), a, &no_args);
        b = dc_jj_call_fn(r, dc_jj_filter(&name), b, &no_args);
        if (r->rc) return DC_JJ_NONE;
    }
    const size_t n = a.as.s->n + b.as.s->n;
    if (n > DC_JJ_OUTPUT) return dc_jj_fail(r, DC_EFORMAT, "the template builds more than 64 MB of text"), DC_JJ_NONE;
    char *joined = dc_jj_alloc(r, n, 1);
    jstr *s = dc_jj_alloc(r, 1, sizeof *s);
    if (!s || dc_jj_step(r, n / 64)) return DC_JJ_NONE;
    memcpy(joined, a.as.s->p, a.as.s->n);
    memcpy(joined + a.as.s->n, b.as.s->p, b.as.s->n);
    *s = (jstr){joined, n, safe};
    jval v = {.type = J_STR};
    v.as.s = s;
    return v;
}

jval dc_jj_add(jrun *r, jval a, jval b)
{
    int64_t i;
    if (r->rc) return DC_JJ_NONE;
    if (a.type == J_STR && b.type == J_STR) return add_text(r, a, b);
    if (is_whole(a) && is_whole(b)) return __builtin_add_overflow(a.as.i, b.as.i, &i) ? beyond(r) : dc_jj_int(i);
    if (is_number(a) && is_number(b)) return dc_jj_real(real_of(a) + real_of(b));
    if (a.type != b.type || (a.type != J_LIST && a.type != J_TUPLE)) return bad_operands(r, "+", a, b);
    const jseq *x = a.as.seq, *y = b.as.seq;
    jval v = dc_jj_seq(r, a.type, x->n + y->n);
    if (r->rc) return v;
    if (x->n) memcpy(v.as.seq->v, x->v, x->n * sizeof(jval));
    if (y->n) memcpy(v.as.seq->v + x->n, y->v, y->n * sizeof(jval));
    return v;
}

static jval repeat(jrun *r, jval v, int64_t times)
{
    const size_t n = v.type == J_STR ? v.as.s->n : v.as.seq->n, k = times > 0 ? (size_t)times : 0;
    if (n && k > DC_JJ_OUTPUT / n) return dc_jj_fail(r, DC_EFORMAT, "a repetition of more than 64 MB"), DC_JJ_NONE;
    if (dc_jj_step(r, n * k / 8)) return DC_JJ_NONE;
    if (v.type == J_STR) {
        char *text = dc_jj_alloc(r, n * k, 1);
        for (size_t i = 0; text && n && i < k; i++) memcpy(text + i * n, v.as.s->p, n);
        return text ? dc_jj_borrow(r, text, n * k) : DC_JJ_NONE;
    }
    jval list = dc_jj_seq(r, v.type, n * k);
    for (size_t i = 0; !r->rc && i < n * k; i++) list.as.seq->v[i] = v.as.seq->v[i % n];
    return list;
}

static jval multiply(jrun *r, jval a, jval b)
{
    int64_t i;
    if (is_whole(a) && is_whole(b)) return __builtin_mul_overflow(a.as.i, b.as.i, &i) ? beyond(r) : dc_jj_int(i);
    if (is_number(a) && is_number(b)) return dc_jj_real(real_of(a) * real_of(b));
    if (is_whole(a)) {
        const jval swap = a;
        a = b;
        b = swap;
    }
    const int repeats = a.type == J_STR || a.type == J_LIST || a.type == J_TUPLE;
    return repeats && is_whole(b) ? repeat(r, a, b.as.i) : bad_operands(r, "*", a, b);
}

static jval percent(jrun *r, jval a, jval b)
{
    if (b.type == J_TUPLE) return dc_jj_percent(r, a.as.s, b.as.seq->v, b.as.seq->n, NULL);
    return dc_jj_percent(r, a.as.s, &b, 1, b.type == J_DICT ? b.as.dict : NULL);
}

/* Python's // and %: towards minus infinity, the remainder with the divisor's sign. */
static jval divide(jrun *r, jop op, jval a, jval b)
{
    const char *name = op == OP_DIV ? "/" : op == OP_MOD ? "%" : "//";
    if (op == OP_MOD && a.type == J_STR) return percent(r, a, b);
    if (!is_number(a) || !is_number(b)) return bad_operands(r, name, a, b);
    if (real_of(b) == 0) return dc_jj_fail(r, DC_EFORMAT, "division by zero"), DC_JJ_NONE;
    if (op == OP_DIV) return dc_jj_real(real_of(a) / real_of(b));
    if (is_whole(a) && is_whole(b)) {
        if (b.as.i == -1) {
            if (op == OP_MOD) return dc_jj_int(0);
            return a.as.i == INT64_MIN ? beyond(r) : dc_jj_int(-a.as.i);
        }
        const int64_t rest = a.as.i % b.as.i, wrong_side = rest != 0 && (rest < 0) != (b.as.i < 0);
        return dc_jj_int(op == OP_MOD ? (wrong_side ? rest + b.as.i : rest) : a.as.i / b.as.i - wrong_side);
    }
    const double x = real_of(a), y = real_of(b);
    double rest = fmod(x, y);
    if (rest != 0 && (rest < 0) != (y < 0)) rest += y;
    return dc_jj_real(op == OP_MOD ? rest : floor((x - rest) / y + 0.5));
}

static jval power(jrun *r, jval a, jval b)
{
    if (!is_number(a) || !is_number(b)) return bad_operands(r, "**", a, b);
    if (!is_whole(a) || !is_whole(b) || b.as.i < 0) {
        const double f = pow(real_of(a), real_of(b));
        if (!isfinite(f)) return dc_jj_fail(r, DC_EFORMAT, "the power is not a finite number"), DC_JJ_NONE;
        return dc_jj_real(f);
    }
    int64_t out = 1, base = a.as.i;
    for (int64_t e = b.as.i; e > 0; e >>= 1) {
        if ((e & 1) && __builtin_mul_overflow(out, base, &out)) return beyond(r);
        if (e > 1 && __builtin_mul_overflow(base, base, &base)) return beyond(r);
    }
    return dc_jj_int(out);
}

static jval operate(jrun *r, jop op, jval a, jval b)
{
    int64_t i;
    switch (op) {
    case OP_ADD: return dc_jj_add(r, a, b);
    case OP_SUB:
        if (is_whole(a) && is_whole(b)) return __builtin_sub_overflow(a.as.i, b.as.i, &i) ? beyond(r) : dc_jj_int(i);
        return is_number(a) && is_number(b) ? dc_jj_real(real_of(a) - real_of(b)) : bad_operands(r, "-", a, b);
    case OP_MUL: return multiply(r, a, b);
    case OP_POW: return power(r, a, b);
    default: return divide(r, op, a, b);
    }
}

static jval negate(jrun *r, jval v, jkind kind)
{
    if (v.type == J_UNDEF) return dc_jj_undefined(r, v), DC_JJ_NONE;
    if (!is_number(v)) return dc_jj_fail(r, DC_EFORMAT, "bad operand type for a sign: '%s'", dc_jj_type(v)), DC_JJ_NONE;
    if (v.type == J_REAL) return dc_jj_real(kind == E_NEG ? -v.as.f : v.as.f);
    if (kind == E_POS) return dc_jj_int(v.as.i);
    return v.as.i == INT64_MIN ? beyond(r) : dc_jj_int(-v.as.i);
}

static int holds(jrun *r, jop op, jval a, jval b)
{
    int c;
    switch (op) {
    case OP_EQ: return dc_jj_equal(r, a, b);
    case OP_NE: return !dc_jj_equal(r, a, b);
    case OP_IN: return dc_jj_contains(r, a, b);
    case OP_NOTIN: return !dc_jj_contains(r, a, b);
    case OP_LT: return dc_jj_order(r, a, b, "<") == -1;
    case OP_GT: return dc_jj_order(r, a, b, ">") == 1;
    case OP_LE: c = dc_jj_order(r, a, b, "<="); return c == -1 || c == 0;
    default: c = dc_jj_order(r, a, b, ">="); return c == 1 || c == 0;
    }
}

/* a < b < c holds when each pair does; what stands behind a failed pair is not looked at. */
static jval compare(jrun *r, const jnode *e)
{
    jval left = dc_jj_eval(r, e->a);
    for (size_t i = 0; i < e->list.n && !r->rc; i++) {
        const jval right = dc_jj_eval(r, e->list.v[i]);
        if (r->rc || !holds(r, e->ops[i], left, right)) return dc_jj_bool(0);
        left = right;
    }
    return dc_jj_bool(1);
}

/* ---- names and calls ---- */
static jval lookup(jrun *r, const jstr *name)
{
    for (const jscope *s = r->scope; s; s = s->parent)
        for (size_t i = s->n; i-- > 0;)
            if (s->vars[i].name->n == name->n && memcmp(s->vars[i].name->p, name->p, name->n) == 0)
                return s->vars[i].value;
    const jfn *fn = dc_jj_global(name);
    if (fn) {
        jval v = {.type = J_FUNC};
        v.as.fn = fn;
        return v;
    }
    jval key = {.type = J_STR};
    key.as.s = name;
    return dc_jj_undef(r, NULL, key);
}

/* Room for one more positional or named value; *args and **kwargs make their number unknown beforehand. */
typedef struct gather {
    jval *v, *named;
    const jstr **names;
    size_t n, room, n_named, named_room;
} gather;

static void add_positional(jrun *r, gather *g, jval v)
{
    if (g->n == g->room) {
        const size_t room = g->room ? 2 * g->room : 4;
        jval *grown = dc_jj_alloc(r, room, sizeof *grown);
        if (!grown) return;
        if (g->n) memcpy(grown, g->v, g->n * sizeof *grown);
        g->v = grown;
        g->room = room;
    }
    g->v[g->n++] = v;
}

static void add_named(jrun *r, gather *g, const jstr *name, jval v)
{
    for (size_t i = 0; i < g->n_named; i++)
        if (g->names[i]->n == name->n && memcmp(g->names[i]->p, name->p, name->n) == 0)
            dc_jj_fail(r, DC_EFORMAT, "got multiple values for the argument '%.*s'", (int)(name->n < 60 ? name->n : 60),
                       name->p);
    if (g->n_named == g->named_room) {
        const size_t room = g->named_room ? 2 * g->named_room : 4;
        jval *named = dc_jj_alloc(r, room, sizeof *named);
        const jstr **names = dc_jj_alloc(r, room, sizeof *names);
        if (!names) return;
        if (g->n_named) {
            memcpy(named, g->named, g->n_named * sizeof *named);
            memcpy(names, g->names, g->n_named * sizeof *names);
        }
        g->named = named;
        g->names = names;
        g->named_room = room;
    }
    g->names[g->n_named] = name;
    g->named[g->n_named++] = v;
}

static jcall arguments(jrun *r, const jnode *e)
{
    gather g = {0};
    for (size_t i = 0; i < e->n_args && !r->rc; i++) {
        const jarg *arg = &e->args[i];
        const jval v = dc_jj_eval(r, arg->value);
        if (r->rc) break;
        if (arg->star == 1) {
            const jseq *seq = dc_jj_walk(r, v);
            for (size_t k = 0; seq && k < seq->n && !r->rc; k++) add_positional(r, &g, seq->v[k]);
        } else if (arg->star == 2) {
            if (v.type != J_DICT)
                dc_jj_fail(r, DC_EFORMAT, "argument after ** must be a mapping, not %s", dc_jj_type(v));
            for (size_t k = 0; !r->rc && k < v.as.dict->n; k++) {
                const jstr *name = dc_jj_want_text(r, v.as.dict->keys[k], "a keyword");
                if (name) add_named(r, &g, name, v.as.dict->values[k]);
            }
        } else if (arg->name) {
            add_named(r, &g, arg->name, v);
        } else {
            add_positional(r, &g, v);
        }
    }
    return (jcall){g.v, g.n, g.names, g.named, g.n_named};
}

jval dc_jj_call(jrun *r, jval callee, const jcall *c)
{
    if (r->rc) return DC_JJ_NONE;
    switch (callee.type) {
    case J_FUNC: return dc_jj_call_fn(r, callee.as.fn, DC_JJ_NONE, c);
    case J_METHOD: return dc_jj_call_fn(r, callee.as.bound->fn, callee.as.bound->self, c);
    case J_MACRO: return dc_jj_call_macro(r, callee.as.macro, c);
    case J_LOOP: return dc_jj_call_loop(r, callee.as.loop, c);
    case J_UNDEF: dc_jj_undefined(r, callee); return DC_JJ_NONE;
    default: dc_jj_fail(r, DC_EFORMAT, "'%s' object is not callable", dc_jj_type(callee)); return DC_JJ_NONE;
    }
}

/* ---- the walk ---- */
static jval sequence(jrun *r, const jnode *e)
{
    jval v = dc_jj_seq(r, e->kind == E_LIST ? J_LIST : J_TUPLE, e->list.n);
    for (size_t i = 0; !r->rc && i < e->list.n; i++) v.as.seq->v[i] = dc_jj_eval(r, e->list.v[i]);
    return v;
}

static jval dict(jrun *r, const jnode *e)
{
    jval v = dc_jj_dict(r, J_DICT, e->list.n);
    for (size_t i = 0; !r->rc && i < e->list.n; i++) {
        const jval key = dc_jj_eval(r, e->list.v[i]), value = dc_jj_eval(r, e->more.v[i]);
        if (!r->rc) dc_jj_put(r, v.as.dict, key, value);
    }
    return v;
}

static jval concat(jrun *r, const jnode *e)
{
    dc_str out = {0};
    for (size_t i = 0; i < e->list.n && !r->rc; i++) dc_jj_str(r, &out, dc_jj_eval(r, e->list.v[i]));
    return dc_jj_take(r, &out);
}

static jval slice(jrun *r, const jnode *e)
{
    const jnode *part = e->b;
    const jval v = dc_jj_eval(r, e->a);
    const jval start = part->a ? dc_jj_eval(r, part->a) : DC_JJ_NONE;
    const jval stop = part->b ? dc_jj_eval(r, part->b) : DC_JJ_NONE;
    const jval step = part->c ? dc_jj_eval(r, part->c) : DC_JJ_NONE;
    return dc_jj_slice(r, v, start, stop, step);
}

static jval test(jrun *r, const jnode *e)
{
    const jval v = dc_jj_eval(r, e->a), arg = e->n_args ? dc_jj_eval(r, e->args[0].value) : DC_JJ_NONE;
    return r->rc ? DC_JJ_NONE : dc_jj_bool(e->test->fn(r, v, arg));
}

static jval with_arguments(jrun *r, const jnode *e)
{
    const jval v = dc_jj_eval(r, e->a);
    const jcall c = arguments(r, e);
    r->line = e->line;
    return e->kind == E_CALL ? dc_jj_call(r, v, &c) : dc_jj_call_fn(r, e->filter, v, &c);
}

static jval binary(jrun *r, const jnode *e)
{
    const jval a = dc_jj_eval(r, e->a);
    if (e->kind == E_AND || e->kind == E_OR) return dc_jj_truth(a) == (e->kind == E_AND) ? dc_jj_eval(r, e->b) : a;
    const jval b = dc_jj_eval(r, e->b);
    if (r->rc) return DC_JJ_NONE;
    r->line = e->line;
    return e->kind == E_ITEM ? dc_jj_item(r, a, b) : operate(r, e->op, a, b);
}

static jval condition(jrun *r, const jnode *e)
{
    static const char hint[] = "the inline if-expression evaluated to false and no else section was defined.";
    if (dc_jj_truth(dc_jj_eval(r, e->a))) return dc_jj_eval(r, e->b);
    if (e->c) return dc_jj_eval(r, e->c);
    const jval v = dc_jj_undef(r, NULL, DC_JJ_NONE);
    if (!r->rc) ((jundef *)v.as.undef)->hint = hint; /* made just now */
    return v;
}

static jval walk(jrun *r, const jnode *e)
{
    switch (e->kind) {
    case E_CONST: return e->value;
    case E_NAME: return lookup(r, e->value.as.s);
    case E_LIST:
    case E_TUPLE: return sequence(r, e);
    case E_DICT: return dict(r, e);
    case E_ATTR: {
        const jval v = dc_jj_eval(r, e->a);
        r->line = e->line;
        return dc_jj_attr(r, v, e->value.as.s);
    }
    case E_SLICE: return slice(r, e);
    case E_CALL:
    case E_FILTER: return with_arguments(r, e);
    case E_TEST: return test(r, e);
    case E_NOT: return dc_jj_bool(!dc_jj_truth(dc_jj_eval(r, e->a)));
    case E_NEG:
    case E_POS: return negate(r, dc_jj_eval(r, e->a), e->kind);
    case E_AND:
    case E_OR:
    case E_ITEM:
    case E_BIN: return binary(r, e);
    case E_CONCAT: return concat(r, e);
    case E_COMPARE: return compare(r, e);
    case E_COND: return condition(r, e);
    case E_INPUT: return r->input;
    default: break;
    }
    DC_ASSERT(!"an expression");
    return DC_JJ_NONE;
}

jval dc_jj_eval(jrun *r, const jnode *e)
{
    if (dc_jj_step(r, 0) || dc_jj_enter(r)) return DC_JJ_NONE;
    r->line = e->line;
    const jval v = walk(r, e);
    dc_jj_leave(r);
    return r->rc ? DC_JJ_NONE : v;
}
