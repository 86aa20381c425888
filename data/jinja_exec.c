/* data/jinja_exec.c -- statements: output, scopes, loops, macros.
 *
 * A for loop's body, a macro, a call, filter, set or with block has a scope of its own; `if` has none. What {% set %} writes is
 * gone at the scope's end, and a name not set in it is that of the scope around it: for a macro, of the place where it was defined. */
#include "data/jinja_tree.h"

#include <string.h>

static jscope *scope_new(jrun *r, jscope *parent)
{
    jscope *s = dc_jj_alloc(r, 1, sizeof *s);
    if (s) *s = (jscope){.parent = parent};
    return s;
}

void dc_jj_set(jrun *r, jscope *s, const jstr *name, jval v)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->vars[i].name->n != name->n || memcmp(s->vars[i].name->p, name->p, name->n) != 0) continue;
        s->vars[i].value = v;
        return;
    }
    if (s->n == s->room) {
        const size_t room = s->room ? 2 * s->room : 4;
        jvar *vars = dc_jj_alloc(r, room, sizeof *vars);
        if (!vars) return;
        if (s->n) memcpy(vars, s->vars, s->n * sizeof *vars);
        s->vars = vars;
        s->room = room;
    }
    s->vars[s->n++] = (jvar){name, v};
}

/* Runs a body in its own scope with `out` as its output (NULL: where we are). */
static void run_inside(jrun *r, jscope *scope, jnodes body, dc_str *out)
{
    jscope *outer = r->scope;
    dc_str *outer_out = r->out;
    if (!scope || dc_jj_enter(r)) return;
    r->scope = scope;
    if (out) r->out = out, r->buffered++;
    dc_jj_exec(r, body);
    if (out) r->out = outer_out, r->buffered--;
    r->scope = outer;
    dc_jj_leave(r);
}

static jval text_of(jrun *r, jscope *scope, jnodes body)
{
    dc_str out = {0};
    run_inside(r, scope, body, &out);
    return dc_jj_take(r, &out);
}

static void write_out(jrun *r, const char *p, size_t n)
{
    dc_str_append(r->out, p, n);
    if (r->out->n > DC_JJ_OUTPUT) dc_jj_fail(r, DC_EFORMAT, "the template writes more than 64 MB");
    if (r->out->failed && !r->rc) r->rc = dc_fail_memory(r->err, n, "a conversation's rendering");
}

/* ---- assignment ---- */
static void assign(jrun *r, jscope *scope, const jnode *to, jval v)
{
    if (r->rc) return;
    r->line = to->line;
    if (to->kind == E_NAME) {
        dc_jj_set(r, scope, to->value.as.s, v);
    } else if (to->kind == E_SPACE) {
        const jval space = dc_jj_eval(r, to->a);
        const jstr *name = to->value.as.s;
        if (!r->rc && space.type != J_SPACE)
            dc_jj_fail(r, DC_EFORMAT, "cannot assign attribute on non-namespace object");
        if (!r->rc && name->p[0] == '_')
            dc_jj_fail(r, DC_EFORMAT, "a namespace's attribute may not begin with an underscore");
        if (!r->rc) dc_jj_put(r, space.as.dict, to->value, v);
    } else {
        const jseq *seq = dc_jj_walk(r, v);
        if (seq && seq->n != to->list.n)
            dc_jj_fail(r, DC_EFORMAT, "%s values to unpack (expected %zu)",
                       seq->n < to->list.n ? "not enough" : "too many", to->list.n);
        for (size_t i = 0; !r->rc && i < to->list.n; i++) assign(r, scope, to->list.v[i], seq->v[i]);
    }
}

static jval filtered(jrun *r, const jnode *filters, jval v)
{
    if (!filters) return v;
    const jval outer = r->input;
    r->input = v;
    v = dc_jj_eval(r, filters);
    r->input = outer;
    return v;
}

/* ---- loops ---- */
/* The next element that the loop's condition lets pass, as late as Jinja looks at it: the condition may read what the body set. */
static int pull(jrun *r, jloop *l, jval *v)
{
    while (!r->rc && l->at < l->source->n) {
        *v = l->source->v[l->at++];
        if (!l->test) return 1;
        jscope *scope = scope_new(r, l->outer), *now = r->scope;
        if (!scope) break;
        assign(r, scope, l->node->a, *v);
        r->scope = scope;
        const int passes = dc_jj_truth(dc_jj_eval(r, l->test));
        r->scope = now;
        if (passes && !r->rc) return 1;
    }
    return 0;
}

int dc_jj_loop_peek(jrun *r, jloop *l)
{
    if (!l->has_after) l->has_after = pull(r, l, &l->after);
    return l->has_after;
}

/* With a condition, all that is left must be looked at now. */
int64_t dc_jj_loop_length(jrun *r, jloop *l)
{
    if (l->length >= 0) return l->length;
    if (l->test) {
        jval rest = dc_jj_seq(r, J_LIST, l->source->n - l->at);
        size_t n = 0;
        while (!r->rc && pull(r, l, &rest.as.seq->v[n])) n++;
        if (r->rc) return 0;
        rest.as.seq->n = n;
        l->source = rest.as.seq;
        l->at = 0;
        l->test = NULL;
        l->length = (int64_t)n + l->index0 + 1 + l->has_after;
    } else {
        l->length = (int64_t)l->source->n;
    }
    return l->length;
}

static void run_loop(jrun *r, const jnode *n, jscope *outer, jval over, int64_t depth0)
{
    static const jstr name = {"loop", 4, 0};
    jloop *l = dc_jj_alloc(r, 1, sizeof *l);
    const jseq *source = dc_jj_walk(r, over);
    if (r->rc) return;
    *l = (jloop){
        .node = n, .outer = outer, .source = source, .test = n->c, .index0 = -1, .length = -1, .depth0 = depth0};
    jval loop = {.type = J_LOOP};
    loop.as.loop = l;
    jscope *scope =
        scope_new(r, outer); /* of every turn: a macro defined inside sees the newest, as a Python closure does */
    while (!dc_jj_step(r, 0) && dc_jj_loop_peek(r, l) && !r->rc) {
        l->before = l->now;
        l->now = l->after;
        l->has_after = 0;
        l->index0++;
        scope->n = 0;
        dc_jj_set(r, scope, &name, loop);
        assign(r, scope, n->a, l->now);
        run_inside(r, scope, n->list, NULL);
        const jflow flow = r->flow;
        r->flow = FLOW_ON;
        if (flow == FLOW_BREAK) break;
    }
    if (l->index0 < 0 && !r->rc && n->more.n) run_inside(r, scope_new(r, outer), n->more, NULL);
}

jval dc_jj_call_loop(jrun *r, const jloop *l, const jcall *c)
{
    if (!l->node->flag) dc_jj_fail(r, DC_EFORMAT, "the loop must have the 'recursive' marker to be called recursively");
    if (c->n != 1 || c->n_named) dc_jj_fail(r, DC_EFORMAT, "loop() takes one argument");
    dc_str out = {0}, *outer = r->out;
    jscope *scope = r->scope;
    if (r->rc || dc_jj_enter(r)) return DC_JJ_NONE;
    r->out = &out;
    r->buffered++;
    run_loop(r, l->node, l->outer, c->v[0], l->depth0 + 1);
    r->buffered--;
    r->out = outer;
    r->scope = scope;
    dc_jj_leave(r);
    return dc_jj_take(r, &out);
}

/* ---- macros ---- */
static jval macro_value(jrun *r, const jnode *n)
{
    jmacro *m = dc_jj_alloc(r, 1, sizeof *m);
    jval v = {.type = J_MACRO};
    if (!m) return DC_JJ_NONE;
    *m = (jmacro){n, r->scope};
    v.as.macro = m;
    return v;
}

static const jval *named_value(const jcall *c, const jstr *name, uint8_t *used)
{
    for (size_t i = 0; i < c->n_named; i++) {
        if (c->names[i]->n != name->n || memcmp(c->names[i]->p, name->p, name->n) != 0) continue;
        used[i] = 1;
        return &c->named[i];
    }
    return NULL;
}

/* Parameters, with defaults seen in the macro's own scope from left to right; then what is left over as varargs and kwargs. */
static void bind_macro(jrun *r, const jnode *n, jscope *scope, const jcall *c)
{
    static const jstr varargs = {"varargs", 7, 0}, kwargs = {"kwargs", 6, 0}, caller = {"caller", 6, 0};
    uint8_t *used = dc_jj_alloc(r, c->n_named, 1);
    for (size_t i = 0; used && i < n->n_args && !r->rc; i++) {
        const jarg *p = &n->args[i];
        const jval *given = i < c->n ? &c->v[i] : named_value(c, p->name, used);
        jval key = {.type = J_STR};
        key.as.s = p->name;
        dc_jj_set(r, scope, p->name, given ? *given : dc_jj_undef(r, NULL, key));
        if (given || !p->value || r->rc) continue;
        jscope *outer = r->scope;
        r->scope = scope;
        const jval v = dc_jj_eval(r, p->value);
        r->scope = outer;
        dc_jj_set(r, scope, p->name, v);
    }
    if (r->rc) return;
    const jval *call_body = n->flag & J_USES_CALLER ? named_value(c, &caller, used) : NULL;
    if (call_body) dc_jj_set(r, scope, &caller, *call_body);
    const size_t extra = c->n > n->n_args ? c->n - n->n_args : 0;
    if (extra && !(n->flag & J_USES_VARARGS))
        dc_jj_fail(r, DC_EFORMAT, "macro '%.*s' takes not more than %zu argument(s)", (int)n->value.as.s->n,
                   n->value.as.s->p, n->n_args);
    if (n->flag & J_USES_VARARGS) {
        jval rest = dc_jj_seq(r, J_TUPLE, extra);
        for (size_t i = 0; !r->rc && i < extra; i++) rest.as.seq->v[i] = c->v[n->n_args + i];
        dc_jj_set(r, scope, &varargs, rest);
    }
    jval rest = dc_jj_dict(r, J_DICT, c->n_named);
    for (size_t i = 0; !r->rc && i < c->n_named; i++) {
        if (used[i]) continue;
        if (!(n->flag & J_USES_KWARGS))
            dc_jj_fail(r, DC_EFORMAT, "macro '%.*s' takes no keyword argument '%.*s'", (int)n->value.as.s->n,
                       n->value.as.s->p, (int)(c->names[i]->n < 60 ? c->names[i]->n : 60), c->names[i]->p);
        else dc_jj_put(r, rest.as.dict, dc_jj_borrow(r, c->names[i]->p, c->names[i]->n), c->named[i]);
    }
    if (!r->rc && (n->flag & J_USES_KWARGS)) dc_jj_set(r, scope, &kwargs, rest);
}

jval dc_jj_call_macro(jrun *r, const jmacro *m, const jcall *c)
{
    jscope *scope = scope_new(r, m->scope);
    const jflow flow = r->flow;
    if (!scope) return DC_JJ_NONE;
    bind_macro(r, m->node, scope, c);
    r->flow = FLOW_ON;
    const jval v = r->rc ? DC_JJ_NONE : text_of(r, scope, m->node->list);
    r->flow = flow;
    return v;
}

/* {% call(args) f(x) %}body{% endcall %}: f gets the body as the macro `caller`. */
static void call_block(jrun *r, const jnode *n)
{
    static const jstr caller = {"caller", 6, 0};
    const jval body = macro_value(r, n), callee = dc_jj_eval(r, n->a->a);
    jnode call = *n->a; /* the same call with one argument more */
    jnode value = {.kind = E_CONST, .line = n->line, .value = body};
    jarg *args = dc_jj_alloc(r, call.n_args + 1, sizeof *args);
    if (r->rc) return;
    if (call.n_args) memcpy(args, call.args, call.n_args * sizeof *args);
    args[call.n_args] = (jarg){&caller, &value, 0};
    jnode known = {.kind = E_CONST, .line = n->line, .value = callee};
    call.a = &known;
    call.args = args;
    call.n_args++;
    const jval v = dc_jj_eval(r, &call);
    if (!r->rc) dc_jj_str(r, r->out, v);
}

/* ---- statements ---- */
static void generation(jrun *r, const jnode *n)
{
    const size_t begin = r->out->n;
    if (r->spans && r->buffered) {
        dc_jj_fail(r, DC_EUNKNOWN,
                   "{%% generation %%} inside of a macro, a call, filter or set block has no place in the text");
        return;
    }
    run_inside(r, scope_new(r, r->scope), n->list, NULL);
    if (r->rc || !r->spans) return;
    dc_spans *s = r->spans;
    if (dc_grow(&s->data, s->n, &s->room, sizeof *s->data))
        r->rc = dc_fail_memory(r->err, s->n * sizeof *s->data, "spans");
    else s->data[s->n++] = (dc_span){begin, r->out->n};
}

static void run_if(jrun *r, const jnode *n)
{
    for (size_t i = 0; i < n->list.n && !r->rc; i++) {
        if (!dc_jj_truth(dc_jj_eval(r, n->list.v[i]))) continue;
        if (!r->rc) dc_jj_exec(r, n->groups[i]);
        return;
    }
    if (!r->rc) dc_jj_exec(r, n->more);
}

static void with_block(jrun *r, const jnode *n)
{
    jscope *scope = scope_new(r, r->scope);
    for (size_t i = 0; scope && i < n->n_args && !r->rc; i++)
        dc_jj_set(r, scope, n->args[i].name, dc_jj_eval(r, n->args[i].value));
    if (!r->rc) run_inside(r, scope, n->list, NULL);
}

static void exec_one(jrun *r, const jnode *n)
{
    r->line = n->line;
    switch (n->kind) {
    case N_DATA: write_out(r, n->value.as.s->p, n->value.as.s->n); break;
    case N_PRINT: dc_jj_str(r, r->out, dc_jj_eval(r, n->a)), write_out(r, "", 0); break;
    case N_IF: run_if(r, n); break;
    case N_FOR: run_loop(r, n, r->scope, dc_jj_eval(r, n->b), 0); break;
    case N_SET: assign(r, r->scope, n->a, dc_jj_eval(r, n->b)); break;
    case N_SETBLOCK: assign(r, r->scope, n->a, filtered(r, n->b, text_of(r, scope_new(r, r->scope), n->list))); break;
    case N_MACRO: dc_jj_set(r, r->scope, n->value.as.s, macro_value(r, n)); break;
    case N_CALLBLOCK: call_block(r, n); break;
    case N_FILTERBLOCK: {
        const jval v = filtered(r, n->b, text_of(r, scope_new(r, r->scope), n->list));
        if (!r->rc) dc_jj_str(r, r->out, v);
        break;
    }
    case N_WITH: with_block(r, n); break;
    case N_GENERATION: generation(r, n); break;
    case N_BREAK: r->flow = FLOW_BREAK; break;
    case N_CONTINUE: r->flow = FLOW_CONTINUE; break;
    default: DC_ASSERT(!"a statement");
    }
}

void dc_jj_exec(jrun *r, jnodes body)
{
    if (dc_jj_enter(r)) return;
    for (size_t i = 0; i < body.n && r->flow == FLOW_ON && !dc_jj_step(r, 0); i++) exec_one(r, body.v[i]);
    dc_jj_leave(r);
}
