/* data/jinja_parse.c -- tokens to the tree: recursive descent with Jinja's precedences.
 *
 * From loosest to tightest: x if y else z; or; and; not; comparisons and `in`; + -; ~; * / // %; **; unary + -; then calls, subscripts,
 * filters and tests. (So -x|abs is (-x)|abs, and `a ~ b + c` is (a ~ b) + c.) */
#include "data/jinja_tree.h"

#include <string.h>

typedef struct parser {
    dc_template *t;
    const jtoken *at;
    int depth;
    int loops; /* around this place, in the same macro */
    int uses;  /* J_USES_ bits seen since the innermost macro began, inner macros included */
    dc_error *err;
    int rc;
} parser;

static jnode *expression(parser *p);
static jnodes statements(parser *p, const char *const *ends);

/* Fails, and moves to the end of the tokens, so that no loop goes on. */
static void *fail_at(parser *p, int line, dc_code code, const char *what, const jstr *name)
{
    if (p->rc == DC_OK) {
        const int n = name ? (int)(name->n < 60 ? name->n : 60) : 0;
        p->rc = dc_fail(p->err, code, "%s:%d: %s%s%.*s%s", p->t->name, line, what, name ? " '" : "", n,
                        name ? name->p : "", name ? "'" : "");
    }
    while (p->at->type != T_EOF) p->at++;
    return NULL;
}

static void *fail(parser *p, const char *what) { return fail_at(p, p->at->line, DC_EFORMAT, what, NULL); }

static void *alloc(parser *p, size_t n, size_t size)
{
    void *memory = dc_arena_alloc(&p->t->arena, n * size + 1);
    if (!memory && p->rc == DC_OK) {
        p->rc = dc_fail_memory(p->err, n * size, "a template");
        while (p->at->type != T_EOF) p->at++;
    }
    return memory;
}

static jnode *node(parser *p, jkind kind, int line)
{
    jnode *n = alloc(p, 1, sizeof *n);
    if (n) n->kind = kind, n->line = line;
    return n;
}

static jnode *unary(parser *p, jkind kind, jnode *a, int line)
{
    jnode *n = node(p, kind, line);
    if (n) n->a = a;
    return n;
}

static jnode *binary(parser *p, jkind kind, jop op, jnode *a, jnode *b, int line)
{
    jnode *n = node(p, kind, line);
    if (n) n->a = a, n->b = b, n->op = op;
    return n;
}

static jval text_value(parser *p, jstr text)
{
    jstr *s = alloc(p, 1, sizeof *s);
    if (!s) return DC_JJ_NONE;
    *s = text;
    jval v = {.type = J_STR};
    v.as.s = s;
    return v;
}

/* Makes room for one more at the end of a list in the arena; room doubles, so what is left behind is at most as much. */
static void *append(parser *p, void *items, size_t n, size_t size)
{
    if (n & (n - 1)) return items; /* between powers of two there is room */
    char *grown = alloc(p, n ? 2 * n : 1, size);
    if (grown && n) memcpy(grown, items, n * size);
    return grown;
}

static void add(parser *p, jnodes *list, jnode *n)
{
    jnode **v = append(p, list->v, list->n, sizeof *v);
    if (!v) return;
    list->v = v;
    list->v[list->n++] = n;
}

static int is_name(const jtoken *t, const char *name) { return t->type == T_NAME && dc_jj_is(&t->text, name); }

static int take(parser *p, jtok type)
{
    if (p->at->type != type) return 0;
    p->at++;
    return 1;
}

static int take_name(parser *p, const char *name)
{
    if (!is_name(p->at, name)) return 0;
    p->at++;
    return 1;
}

static void expect(parser *p, jtok type, const char *what)
{
    if (p->rc == DC_OK && !take(p, type)) fail(p, what);
}

static void expect_name(parser *p, const char *name, const char *what)
{
    if (p->rc == DC_OK && !take_name(p, name)) fail(p, what);
}

static int enter(parser *p)
{
    if (p->rc) return 0;
    if (p->depth >= DC_JJ_PARSE_DEPTH) return fail(p, "the template nests too deep") != NULL;
    p->depth++;
    return 1;
}

/* ---- expressions ---- */
static jarg *add_arg(parser *p, jnode *n, const jstr *name, jnode *value, int star)
{
    jarg *args = append(p, n->args, n->n_args, sizeof *args);
    if (!args) return NULL;
    n->args = args;
    args[n->n_args] = (jarg){name, value, star};
    return &args[n->n_args++];
}

static const jstr *keep(parser *p, const jstr *text) { return text_value(p, *text).as.s; }

/* (a, *b, name=c, **d) into n->args. */
static void call_args(parser *p, jnode *n)
{
    expect(p, T_LPAREN, "expected '('");
    int named = 0;
    while (p->rc == DC_OK && p->at->type != T_RPAREN) {
        if (n->n_args) {
            expect(p, T_COMMA, "expected ',' or ')' in a call");
            if (p->at->type == T_RPAREN) break;
        }
        if (take(p, T_MUL)) {
            add_arg(p, n, NULL, expression(p), 1);
        } else if (take(p, T_POW)) {
            named = 1;
            add_arg(p, n, NULL, expression(p), 2);
        } else if (p->at->type == T_NAME && p->at[1].type == T_ASSIGN) {
            const jstr *name = keep(p, &p->at->text);
            p->at += 2;
            named = 1;
            add_arg(p, n, name, expression(p), 0);
        } else {
            if (named) fail(p, "an argument by position follows one by name");
            add_arg(p, n, NULL, expression(p), 0);
        }
    }
    expect(p, T_RPAREN, "expected ')'");
}

static jnode *call(parser *p, jnode *callee)
{
    jnode *n = unary(p, E_CALL, callee, p->at->line);
    if (n) call_args(p, n);
    return n;
}

/* What stands between [ and ]: an expression or a slice. */
static jnode *subscript(parser *p, jnode *object, int line)
{
    jnode *part[3] = {NULL, NULL, NULL};
    int colons = 0;
    while (p->rc == DC_OK && p->at->type != T_RBRACKET && p->at->type != T_COMMA) {
        if (take(p, T_COLON)) {
            if (++colons > 2) return fail(p, "too many ':' in a slice");
        } else if (part[colons]) {
            return fail(p, "expected ']'");
        } else {
            part[colons] = expression(p);
        }
    }
    if (p->at->type == T_COMMA) return fail_at(p, line, DC_EUNKNOWN, "subscripts with ',' are not supported", NULL);
    expect(p, T_RBRACKET, "expected ']'");
    if (colons == 0 && !part[0]) return fail(p, "an empty subscript");
    if (!colons) return binary(p, E_ITEM, OP_NONE, object, part[0], line);
    jnode *n = unary(p, E_SLICE, part[0], line);
    jnode *holder = binary(p, E_SLICE, OP_NONE, object, n, line);
    if (n) n->b = part[1], n->c = part[2];
    return holder;
}

static jnode *postfix(parser *p, jnode *n)
{
    while (p->rc == DC_OK) {
        const int line = p->at->line;
        if (take(p, T_DOT)) {
            const jtoken *token = p->at;
            if (token->type == T_NAME) {
                n = unary(p, E_ATTR, n, line);
                if (n) n->value = text_value(p, token->text);
            } else if (token->type == T_INT) {
                jnode *key = node(p, E_CONST, line);
                if (key) key->value = dc_jj_int(token->i);
                n = binary(p, E_ITEM, OP_NONE, n, key, line);
            } else {
                return fail(p, "expected a name or a number behind '.'");
            }
            p->at++;
        } else if (take(p, T_LBRACKET)) {
            n = subscript(p, n, line);
        } else if (p->at->type == T_LPAREN) {
            n = call(p, n);
        } else {
            break;
        }
    }
    return n;
}

/* Items up to `end`, behind the opening bracket. */
static jnode *list_literal(parser *p, int line)
{
    jnode *n = node(p, E_LIST, line);
    while (n && p->rc == DC_OK && p->at->type != T_RBRACKET) {
        if (n->list.n) expect(p, T_COMMA, "expected ',' or ']' in a list");
        if (p->at->type == T_RBRACKET) break;
        add(p, &n->list, expression(p));
    }
    expect(p, T_RBRACKET, "expected ']'");
    return n;
}

static jnode *dict_literal(parser *p, int line)
{
    jnode *n = node(p, E_DICT, line);
    while (n && p->rc == DC_OK && p->at->type != T_RBRACE) {
        if (n->list.n) expect(p, T_COMMA, "expected ',' or '}' in a dict");
        if (p->at->type == T_RBRACE) break;
        add(p, &n->list, expression(p));
        expect(p, T_COLON, "expected ':' in a dict");
        add(p, &n->more, expression(p));
    }
    expect(p, T_RBRACE, "expected '}'");
    return n;
}

static jnode *condition(parser *p);
static jnode *logical_or(parser *p);
static jnode *primary(parser *p);

/* a, b, c as a tuple, or the one expression that stands there. `plain`: only names and literals, as targets of assignments have them; `no_if`: an
 * `if` behind it belongs to the statement. */
static jnode *tuple(parser *p, int plain, int no_if, int parentheses)
{
    const int line = p->at->line;
    jnodes items = {0};
    int is_tuple = 0;
    while (p->rc == DC_OK) {
        const jtok type = p->at->type;
        if (type == T_VAR_END || type == T_BLOCK_END || type == T_RPAREN || (plain && is_name(p->at, "in"))) break;
        add(p, &items, plain ? primary(p) : no_if ? logical_or(p) : condition(p));
        if (!take(p, T_COMMA)) break;
        is_tuple = 1;
    }
    if (!is_tuple && items.n == 1) return items.v[0];
    if (!is_tuple && !parentheses) return fail(p, "expected an expression");
    jnode *n = node(p, E_TUPLE, line);
    if (n) n->list = items;
    return n;
}

static jnode *name_or_constant(parser *p, const jtoken *token)
{
    jnode *n = node(p, E_CONST, token->line);
    if (!n) return NULL;
    const jstr *s = &token->text;
    if (dc_jj_is(s, "true") || dc_jj_is(s, "True")) {
        n->value = dc_jj_bool(1);
    } else if (dc_jj_is(s, "false") || dc_jj_is(s, "False")) {
        n->value = dc_jj_bool(0);
    } else if (dc_jj_is(s, "none") || dc_jj_is(s, "None")) {
        n->value = DC_JJ_NONE;
    } else {
        if (dc_jj_is(s, "caller")) p->uses |= J_USES_CALLER;
        if (dc_jj_is(s, "varargs")) p->uses |= J_USES_VARARGS;
        if (dc_jj_is(s, "kwargs")) p->uses |= J_USES_KWARGS;
        n->kind = E_NAME;
        n->value = text_value(p, *s);
    }
    return n;
}

/* "a" "b": strings behind each other are one. */
static jnode *string_literal(parser *p)
{
    jnode *n = node(p, E_CONST, p->at->line);
    jstr joined = p->at->text;
    for (p->at++; n && p->at->type == T_STRING; p->at++) {
        char *both = alloc(p, joined.n + p->at->text.n, 1);
        if (!both) return NULL;
        memcpy(both, joined.p, joined.n);
        memcpy(both + joined.n, p->at->text.p, p->at->text.n);
        joined = (jstr){both, joined.n + p->at->text.n, 0};
    }
    if (n) n->value = text_value(p, joined);
    return n;
}

static jnode *primary(parser *p)
{
    const jtoken *token = p->at;
    if (!enter(p)) return NULL;
    jnode *n = NULL;
    switch (token->type) {
    case T_NAME: p->at++, n = name_or_constant(p, token); break;
    case T_STRING: n = string_literal(p); break;
    case T_INT:
    case T_REAL:
        p->at++;
        n = node(p, E_CONST, token->line);
        if (n) n->value = token->type == T_INT ? dc_jj_int(token->i) : dc_jj_real(token->f);
        break;
    case T_LPAREN:
        p->at++;
        n = tuple(p, 0, 0, 1);
        expect(p, T_RPAREN, "expected ')'");
        break;
    case T_LBRACKET: p->at++, n = list_literal(p, token->line); break;
    case T_LBRACE: p->at++, n = dict_literal(p, token->line); break;
    default: n = fail(p, "expected an expression"); break;
    }
    p->depth--;
    return n;
}

/* |name(...) on n; n NULL stands for the body of a filter or set block. */
static jnode *filter(parser *p, jnode *input)
{
    const jtoken *name = p->at;
    expect(p, T_NAME, "expected a filter's name behind '|'");
    if (p->rc) return NULL;
    jnode *n = unary(p, E_FILTER, input, name->line);
    if (!n) return NULL;
    n->value = text_value(p, name->text);
    n->filter = dc_jj_filter(&name->text);
    if (!n->filter) return fail_at(p, name->line, DC_EUNKNOWN, "unsupported filter", &name->text);
    if (p->at->type == T_LPAREN) call_args(p, n);
    return n;
}

static jnode *is_test(parser *p, jnode *input)
{
    const int negated = take_name(p, "not");
    const jtoken *name = p->at;
    expect(p, T_NAME, "expected a test's name behind 'is'");
    if (p->rc) return NULL;
    jnode *n = unary(p, E_TEST, input, name->line);
    if (!n) return NULL;
    n->value = text_value(p, name->text);
    n->test = dc_jj_test(&name->text);
    if (!n->test) return fail_at(p, name->line, DC_EUNKNOWN, "unsupported test", &name->text);
    const jtok type = p->at->type;
    const int word = type == T_NAME && !is_name(p->at, "else") && !is_name(p->at, "or") && !is_name(p->at, "and");
    if (is_name(p->at, "is")) return fail(p, "tests cannot be chained with 'is'");
    if (type == T_LPAREN) call_args(p, n);
    else if (word || type == T_STRING || type == T_INT || type == T_REAL || type == T_LBRACKET || type == T_LBRACE)
        add_arg(p, n, NULL, postfix(p, primary(p)), 0);
    if (p->rc == DC_OK && (n->n_args != (size_t)n->test->args || (n->n_args && (n->args[0].star || n->args[0].name))))
        return fail_at(p, name->line, DC_EFORMAT, "wrong arguments for the test", &name->text);
    return negated ? unary(p, E_NOT, n, name->line) : n;
}

static jnode *sign(parser *p, int with_filters)
{
    const jtoken *token = p->at;
    if (!enter(p)) return NULL;
    jnode *n;
    if (take(p, T_SUB)) n = unary(p, E_NEG, sign(p, 0), token->line);
    else if (take(p, T_ADD)) n = unary(p, E_POS, sign(p, 0), token->line);
    else n = primary(p);
    n = postfix(p, n);
    while (with_filters && p->rc == DC_OK) {
        if (take(p, T_PIPE)) n = filter(p, n);
        else if (take_name(p, "is")) n = is_test(p, n);
        else if (p->at->type == T_LPAREN) n = call(p, n);
        else break;
    }
    p->depth--;
    return n;
}

static jnode *power(parser *p)
{
    jnode *n = sign(p, 1);
    for (int line = p->at->line; p->rc == DC_OK && take(p, T_POW); line = p->at->line)
        n = binary(p, E_BIN, OP_POW, n, sign(p, 1), line);
    return n;
}

static jnode *product(parser *p)
{
    jnode *n = power(p);
    while (p->rc == DC_OK) {
        const jtok type = p->at->type;
        const jop op = type == T_MUL        ? OP_MUL
                       : type == T_DIV      ? OP_DIV
                       : type == T_FLOORDIV ? OP_FLOORDIV
                       : type == T_MOD      ? OP_MOD
                                            : OP_NONE;
        if (op == OP_NONE) break;
        const int line = p->at++->line;
        n = binary(p, E_BIN, op, n, power(p), line);
    }
    return n;
}

static jnode *concat(parser *p)
{
    jnode *first = product(p);
    if (p->rc || p->at->type != T_TILDE) return first;
    jnode *n = node(p, E_CONCAT, p->at->line);
    if (n) add(p, &n->list, first);
    while (n && p->rc == DC_OK && take(p, T_TILDE)) add(p, &n->list, product(p));
    return n;
}

static jnode *sum(parser *p)
{
    jnode *n = concat(p);
    while (p->rc == DC_OK && (p->at->type == T_ADD || p->at->type == T_SUB)) {
        const jop op = p->at->type == T_ADD ? OP_ADD : OP_SUB;
        const int line = p->at++->line;
        n = binary(p, E_BIN, op, n, concat(p), line);
    }
    return n;
}

static jop comparison_at(parser *p)
{
    switch (p->at->type) {
    case T_EQ: return p->at++, OP_EQ;
    case T_NE: return p->at++, OP_NE;
    case T_LT: return p->at++, OP_LT;
    case T_LE: return p->at++, OP_LE;
    case T_GT: return p->at++, OP_GT;
    case T_GE: return p->at++, OP_GE;
    default: break;
    }
    if (take_name(p, "in")) return OP_IN;
    if (is_name(p->at, "not") && is_name(p->at + 1, "in")) return p->at += 2, OP_NOTIN;
    return OP_NONE;
}

static jnode *compare(parser *p)
{
    jnode *first = sum(p), *n = NULL;
    while (p->rc == DC_OK) {
        const int line = p->at->line;
        const jop op = comparison_at(p);
        if (op == OP_NONE) break;
        if (!n) n = unary(p, E_COMPARE, first, line);
        jop *ops = n ? append(p, n->ops, n->list.n, sizeof *ops) : NULL;
        if (!ops) return NULL;
        n->ops = ops;
        ops[n->list.n] = op;
        add(p, &n->list, sum(p));
    }
    return n ? n : first;
}

static jnode *logical_not(parser *p)
{
    const int line = p->at->line;
    if (!take_name(p, "not")) return compare(p);
    if (!enter(p)) return NULL;
    jnode *n = unary(p, E_NOT, logical_not(p), line);
    p->depth--;
    return n;
}

static jnode *logical_and(parser *p)
{
    jnode *n = logical_not(p);
    for (int line = p->at->line; p->rc == DC_OK && take_name(p, "and"); line = p->at->line)
        n = binary(p, E_AND, OP_NONE, n, logical_not(p), line);
    return n;
}

static jnode *logical_or(parser *p)
{
    jnode *n = logical_and(p);
    for (int line = p->at->line; p->rc == DC_OK && take_name(p, "or"); line = p->at->line)
        n = binary(p, E_OR, OP_NONE, n, logical_and(p), line);
    return n;
}

/* a: the condition, b: if it holds, c: else (NULL: undefined). */
static jnode *condition(parser *p)
{
    if (!enter(p)) return NULL;
    jnode *n = logical_or(p);
    for (int line = p->at->line; p->rc == DC_OK && take_name(p, "if"); line = p->at->line) {
        jnode *test = logical_or(p);
        jnode *otherwise = take_name(p, "else") ? condition(p) : NULL;
        n = binary(p, E_COND, OP_NONE, test, n, line);
        if (n) n->c = otherwise;
    }
    p->depth--;
    return n;
}

static jnode *expression(parser *p) { return condition(p); }

/* ---- statements ---- */
static int assignable(const jnode *n)
{
    if (!n) return 0;
    if (n->kind == E_NAME || n->kind == E_SPACE) return 1;
    if (n->kind != E_TUPLE || n->list.n == 0) return 0;
    for (size_t i = 0; i < n->list.n; i++)
        if (!assignable(n->list.v[i])) return 0;
    return 1;
}

static jnode *target(parser *p, int with_space)
{
    jnode *n;
    if (with_space && p->at->type == T_NAME && p->at[1].type == T_DOT && p->at[2].type == T_NAME) {
        n = node(p, E_SPACE, p->at->line);
        jnode *space = node(p, E_NAME, p->at->line);
        if (!n || !space) return NULL;
        space->value = text_value(p, p->at->text);
        n->a = space;
        n->value = text_value(p, p->at[2].text);
        p->at += 3;
        if (p->at->type == T_COMMA)
            return fail_at(p, n->line, DC_EUNKNOWN, "a tuple of namespace attributes as target is not supported", NULL);
    } else {
        n = tuple(p, 1, 0, 0);
    }
    if (p->rc == DC_OK && !assignable(n)) fail(p, "cannot assign to this");
    return n;
}

static jnode *parse_if(parser *p, int line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const end[] = {"endif", NULL};
    jnode *n = node(p, N_IF, line);
    while (n && p->rc == DC_OK) {
        jnode *test = tuple(p, 0, 1, 0);
        jnodes body = statements(p, ends);
        jnodes *groups = append(p, n->groups, n->list.n, sizeof *groups);
        if (!groups) return NULL;
        n->groups = groups;
        groups[n->list.n] = body;
        add(p, &n->list, test);
        if (take_name(p, "elif")) continue;
        if (take_name(p, "else")) n->more = statements(p, end);
        expect_name(p, "endif", "expected {% endif %}");
        break;
    }
    return n;
}

static jnode *parse_for(parser *p, int line)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const end[] = {"endfor", NULL};
    jnode *n = node(p, N_FOR, line);
    if (!n) return NULL;
    n->a = target(p, 0);
    expect_name(p, "in", "expected 'in'");
    n->b = tuple(p, 0, 1, 0);
    if (take_name(p, "if")) n->c = expression(p);
    n->flag = take_name(p, "recursive");
    p->loops++;
    n->list = statements(p, ends);
    p->loops--;
    if (take_name(p, "else")) n->more = statements(p, end);
    expect_name(p, "endfor", "expected {% endfor %}");
    return n;
}

static jnode *filters_of_block(parser *p)
{
    jnode *n = node(p, E_INPUT, p->at->line);
    do n = filter(p, n);
    while (p->rc == DC_OK && take(p, T_PIPE));
    return n;
}

static jnode *parse_set(parser *p, int line)
{
    static const char *const end[] = {"endset", NULL};
    jnode *to = target(p, 1);
    if (take(p, T_ASSIGN)) return binary(p, N_SET, OP_NONE, to, tuple(p, 0, 0, 0), line);
    jnode *n = unary(p, N_SETBLOCK, to, line);
    if (!n) return NULL;
    if (take(p, T_PIPE)) n->b = filters_of_block(p);
    n->list = statements(p, end);
    expect_name(p, "endset", "expected {% endset %}");
    return n;
}

/* (a, b=1) into n->args; a parameter without default has value NULL. */
static void signature(parser *p, jnode *n)
{
    expect(p, T_LPAREN, "expected '('");
    while (p->rc == DC_OK && p->at->type != T_RPAREN) {
        if (n->n_args) expect(p, T_COMMA, "expected ',' or ')'");
        const jtoken *name = p->at;
        expect(p, T_NAME, "expected a parameter's name");
        if (p->rc) return;
        const int had_default = n->n_args && n->args[n->n_args - 1].value;
        jnode *value = take(p, T_ASSIGN) ? expression(p) : NULL;
        if (!value && had_default) fail(p, "a parameter without default follows one with default");
        add_arg(p, n, keep(p, &name->text), value, 0);
    }
    expect(p, T_RPAREN, "expected ')'");
}

/* The body of a macro or call block: a function of its own, so break and continue cannot leave it. */
static void function_body(parser *p, jnode *n, const char *const *end)
{
    const int loops = p->loops, uses = p->uses;
    p->loops = p->uses = 0;
    n->list = statements(p, end);
    n->flag = p->uses;
    p->loops = loops;
    p->uses |= uses;
}

static jnode *parse_macro(parser *p, int line)
{
    static const char *const end[] = {"endmacro", NULL};
    const jtoken *name = p->at;
    expect(p, T_NAME, "expected the macro's name");
    jnode *n = p->rc ? NULL : node(p, N_MACRO, line);
    if (!n) return NULL;
    n->value = text_value(p, name->text);
    signature(p, n);
    function_body(p, n, end);
    expect_name(p, "endmacro", "expected {% endmacro %}");
    return n;
}

static jnode *parse_call(parser *p, int line)
{
    static const char *const end[] = {"endcall", NULL};
    static const jstr caller = {"caller", 6, 0};
    jnode *n = node(p, N_CALLBLOCK, line);
    if (!n) return NULL;
    n->value = text_value(p, caller);
    if (p->at->type == T_LPAREN) signature(p, n);
    n->a = expression(p);
    if (p->rc == DC_OK && n->a->kind != E_CALL) fail(p, "expected a call");
    function_body(p, n, end);
    expect_name(p, "endcall", "expected {% endcall %}");
    return n;
}

static jnode *parse_filter_block(parser *p, int line)
{
    static const char *const end[] = {"endfilter", NULL};
    jnode *n = node(p, N_FILTERBLOCK, line);
    if (!n) return NULL;
    n->b = filters_of_block(p);
    n->list = statements(p, end);
    expect_name(p, "endfilter", "expected {% endfilter %}");
    return n;
}

static jnode *parse_with(parser *p, int line)
{
    static const char *const end[] = {"endwith", NULL};
    jnode *n = node(p, N_WITH, line);
    while (n && p->rc == DC_OK && p->at->type != T_BLOCK_END) {
        if (n->n_args) expect(p, T_COMMA, "expected ','");
        const jtoken *name = p->at;
        expect(p, T_NAME, "expected a name");
        expect(p, T_ASSIGN, "expected '='");
        if (p->rc == DC_OK) add_arg(p, n, keep(p, &name->text), expression(p), 0);
    }
    if (n) n->list = statements(p, end);
    expect_name(p, "endwith", "expected {% endwith %}");
    return n;
}

static jnode *parse_generation(parser *p, int line)
{
    static const char *const end[] = {"endgeneration", NULL};
    jnode *n = node(p, N_GENERATION, line);
    if (!n) return NULL;
    const int loops = p->loops;
    p->loops = 0;
    n->list = statements(p, end);
    p->loops = loops;
    p->t->generation = 1;
    expect_name(p, "endgeneration", "expected {% endgeneration %}");
    return n;
}

static jnode *parse_jump(parser *p, jkind kind, int line)
{
    if (!p->loops) return fail_at(p, line, DC_EFORMAT, "break or continue outside of a loop", NULL);
    return node(p, kind, line);
}

static jnode *statement(parser *p)
{
    const jtoken *name = p->at;
    const int line = name->line;
    expect(p, T_NAME, "expected a tag's name behind '{%'");
    if (p->rc) return NULL;
    const jstr *s = &name->text;
    if (dc_jj_is(s, "if")) return parse_if(p, line);
    if (dc_jj_is(s, "for")) return parse_for(p, line);
    if (dc_jj_is(s, "set")) return parse_set(p, line);
    if (dc_jj_is(s, "macro")) return parse_macro(p, line);
    if (dc_jj_is(s, "call")) return parse_call(p, line);
    if (dc_jj_is(s, "filter")) return parse_filter_block(p, line);
    if (dc_jj_is(s, "with")) return parse_with(p, line);
    if (dc_jj_is(s, "generation")) return parse_generation(p, line);
    if (dc_jj_is(s, "break")) return parse_jump(p, N_BREAK, line);
    if (dc_jj_is(s, "continue")) return parse_jump(p, N_CONTINUE, line);
    if (dc_jj_is(s, "print")) return unary(p, N_PRINT, tuple(p, 0, 0, 0), line);
    return fail_at(p, line, DC_EUNKNOWN, "unsupported tag", s);
}

static int at_end(const parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (is_name(p->at, *ends)) return 1;
    return 0;
}

/* A body up to one of `ends` behind its '{%', which is left to the caller; the '%}' before the body is taken here. NULL: the whole template. */
static jnodes statements(parser *p, const char *const *ends)
{
    jnodes body = {0};
    if (!enter(p)) return body;
    const int line = p->at->line;
    if (ends) expect(p, T_BLOCK_END, "expected '%}'");
    while (p->rc == DC_OK && p->at->type != T_EOF) {
        const jtoken *token = p->at++;
        jnode *n = NULL;
        if (token->type == T_DATA) {
            n = node(p, N_DATA, token->line);
            if (n) n->value = text_value(p, token->text);
        } else if (token->type == T_VAR_BEGIN) {
            n = unary(p, N_PRINT, tuple(p, 0, 0, 0), token->line);
            expect(p, T_VAR_END, "expected '}}'");
        } else {
            if (at_end(p, ends)) {
                p->depth--;
                return body;
            }
            n = statement(p);
            expect(p, T_BLOCK_END, "expected '%}'");
        }
        add(p, &body, n);
    }
    p->depth--;
    if (ends && p->rc == DC_OK) {
        char what[64] = "no {% ";
        strcat(strcat(what, ends[0]), " %} for the block that begins here");
        fail_at(p, line, DC_EFORMAT, what, NULL);
    }
    return body;
}

int dc_jj_parse(dc_template *t, const jtoken *tokens, dc_error *err)
{
    parser p = {.t = t, .at = tokens, .err = err};
    t->body = statements(&p, NULL);
    return p.rc;
}
