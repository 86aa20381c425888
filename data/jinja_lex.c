/* data/jinja_lex.c -- template text to tokens, with trim_blocks and lstrip_blocks on, as Jinja's lexer. */
#include "data/jinja_tree.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    dc_template *t;
    const char *p;
    size_t n, at;
    int line;
    jtoken *tokens;
    size_t n_tokens, room;
    char open[DC_JJ_PARSE_DEPTH]; /* brackets not yet closed */
    size_t depth;
    dc_error *err;
} lexer;

static int fail(lexer *l, const char *what)
{
    return dc_fail(l->err, DC_EFORMAT, "%s:%d: %s", l->t->name, l->line, what);
}

static jtoken *push(lexer *l, jtok type)
{
    if (dc_grow(&l->tokens, l->n_tokens, &l->room, sizeof *l->tokens)) {
        dc_fail_memory(l->err, l->n_tokens * sizeof *l->tokens, "template tokens");
        return NULL;
    }
    jtoken *token = &l->tokens[l->n_tokens++];
    *token = (jtoken){.type = type, .line = l->line};
    return token;
}

static void advance(lexer *l, size_t to)
{
    for (; l->at < to; l->at++) l->line += l->p[l->at] == '\n';
}

/* Bytes of the whitespace character at `at` (as Python's \s for str), 0 when there is none. */
static size_t space_at(const lexer *l, size_t at)
{
    if (at >= l->n) return 0;
    int32_t cp;
    const size_t used = dc_utf8_decode(&cp, l->p + at, l->n - at);
    return dc_jj_is_space(cp) ? used : 0;
}

static size_t skip_space(const lexer *l, size_t at)
{
    for (size_t used; (used = space_at(l, at)) > 0;) at += used;
    return at;
}

static int starts(const lexer *l, size_t at, const char *text)
{
    const size_t n = strlen(text);
    return at + n <= l->n && memcmp(l->p + at, text, n) == 0;
}

/* Behind the tag's end at `at`, or 0 when no end stands there. '-' swallows all whitespace, a block's plain end one newline; '+' keeps it. */
static size_t tag_end(const lexer *l, size_t at, const char *end, int is_variable)
{
    if (starts(l, at, "-") && starts(l, at + 1, end)) return skip_space(l, at + 3);
    if (!is_variable && starts(l, at, "+") && starts(l, at + 1, end)) return at + 3;
    if (!starts(l, at, end)) return 0;
    at += 2;
    return !is_variable && starts(l, at, "\n") ? at + 1 : at;
}

/* The text [begin, end) before a tag whose sign is `sign`; lstrip is for blocks and comments. */
static int put_data(lexer *l, size_t begin, size_t end, char sign, int lstrip)
{
    jstr text = {l->p + begin, end - begin, 0};
    if (sign == '-') {
        text = dc_jj_strip(&text, NULL, 2);
    } else if (sign != '+' && lstrip) {
        size_t line = text.n;
        while (line > 0 && text.p[line - 1] != '\n') line--;
        const int starting = line > 0 || begin == 0 || l->p[begin - 1] == '\n';
        const jstr tail = {text.p + line, text.n - line, 0};
        if (starting && dc_jj_strip(&tail, NULL, 1).n == 0) text.n = line;
    }
    if (text.n) {
        jtoken *token = push(l, T_DATA);
        if (!token) return DC_ENOMEM;
        token->text = text;
    }
    advance(l, end);
    return DC_OK;
}

/* A {% raw %} tag at `at`: behind it, and the body's end and what follows; 0 when it is no raw tag, -1 when unclosed. */
static int raw_block(const lexer *l, size_t at, size_t *body, size_t *end, size_t *behind, char *sign)
{
    at += 2;
    if (starts(l, at, "-") || starts(l, at, "+")) at++;
    at = skip_space(l, at);
    if (!starts(l, at, "raw")) return 0;
    at = skip_space(l, at + 3);
    if (starts(l, at, "-%}")) *body = skip_space(l, at + 3);
    else if (starts(l, at, "%}")) *body = at + 2;
    else return 0;
    for (size_t k = *body; k < l->n; k++) {
        if (!starts(l, k, "{%")) continue;
        size_t inner = k + 2;
        *sign = 0;
        if (starts(l, inner, "-") || starts(l, inner, "+")) *sign = l->p[inner++];
        inner = skip_space(l, inner);
        if (!starts(l, inner, "endraw")) continue;
        inner = tag_end(l, skip_space(l, inner + 6), "%}", 0);
        if (!inner) continue;
        *end = k;
        *behind = inner;
        return 1;
    }
    return -1;
}

/* ---- inside tags ---- */
static int is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }

static void put_utf8(dc_str *out, int32_t cp)
{
    char bytes[4];
    dc_str_append(out, bytes, dc_utf8_encode(bytes, cp));
}

static int hex_value(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape of a Python string literal; *i stands behind the backslash. NULL, or what is wrong. */
static const char *unescape(dc_str *out, const char *p, size_t n, size_t *i)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = p[(*i)++];
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        dc_str_putc(out, to[simple - from]);
    } else if (c == '\n') {
        return NULL;
    } else if (c >= '0' && c <= '7') {
        int32_t cp = c - '0';
        for (int k = 0; k < 2 && *i < n && p[*i] >= '0' && p[*i] <= '7'; k++) cp = cp * 8 + (p[(*i)++] - '0');
        put_utf8(out, cp);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        const int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        int64_t cp = 0;
        for (int k = 0; k < digits; k++) {
            const int digit = *i < n ? hex_value(p[*i]) : -1;
            if (digit < 0) return "a string has an incomplete escape (\\x, \\u or \\U)";
            cp = cp * 16 + digit;
            (*i)++;
        }
        if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) return "a string's \\u escape is no character";
        put_utf8(out, (int32_t)cp);
    } else if (c == 'N') {
        return "\\N{...} in a string is not supported";
    } else {
        dc_str_putc(out, '\\');
        dc_str_putc(out, c);
    }
    return NULL;
}

static int lex_string(lexer *l)
{
    const char quote = l->p[l->at];
    size_t end = l->at + 1;
    while (end < l->n && l->p[end] != quote) end += l->p[end] == '\\' ? 2 : 1;
    if (end >= l->n) return fail(l, "a string is not closed");
    const char *p = l->p + l->at + 1, *wrong = NULL;
    const size_t n = end - l->at - 1;
    jtoken *token = push(l, T_STRING);
    if (!token) return DC_ENOMEM;
    token->text = (jstr){p, n, 0};
    if (memchr(p, '\\', n)) {
        dc_str out = {0};
        for (size_t i = 0; i < n && !wrong;) {
            if (p[i] != '\\') dc_str_putc(&out, p[i++]);
            else i++, wrong = unescape(&out, p, n, &i);
        }
        token->text.p = out.failed ? NULL : dc_arena_strndup(&l->t->arena, dc_str_text(&out), out.n);
        token->text.n = out.n;
        dc_str_release(&out);
        if (wrong) return fail(l, wrong);
        if (!token->text.p) return dc_fail_memory(l->err, n, "a template's string");
    }
    advance(l, end + 1);
    return DC_OK;
}

static size_t digits_end(const lexer *l, size_t at)
{
    while (at < l->n && (is_digit(l->p[at]) || (l->p[at] == '_' && at + 1 < l->n && is_digit(l->p[at + 1])))) at++;
    return at;
}

static int lex_number(lexer *l)
{
    char text[64];
    const size_t begin = l->at;
    size_t end = begin;
    int real = 0, base = 10;
    const char second = begin + 1 < l->n ? (char)(l->p[begin + 1] | 32) : 0;
    if (l->p[begin] == '0' && (second == 'x' || second == 'o' || second == 'b')) {
        base = second == 'x' ? 16 : second == 'o' ? 8 : 2;
        for (end += 2; end < l->n && (l->p[end] == '_' || (hex_value(l->p[end]) >= 0 && hex_value(l->p[end]) < base));)
            end++;
    } else {
        end = digits_end(l, begin);
        const int after_dot = begin > 0 && l->p[begin - 1] == '.';
        if (!after_dot && end + 1 < l->n && l->p[end] == '.' && is_digit(l->p[end + 1]))
            real = 1, end = digits_end(l, end + 1);
        size_t e = end;
        if (!after_dot && e < l->n && (l->p[e] | 32) == 'e') {
            e++;
            if (e < l->n && (l->p[e] == '+' || l->p[e] == '-')) e++;
            if (e < l->n && is_digit(l->p[e])) real = 1, end = digits_end(l, e);
        }
    }
    size_t n = 0;
    for (size_t i = begin + (base == 10 ? 0 : 2); i < end; i++) {
        if (l->p[i] == '_') continue;
        if (n + 1 >= sizeof text) return fail(l, "a number is too long");
        text[n++] = l->p[i];
    }
    text[n] = 0;
    jtoken *token = push(l, real ? T_REAL : T_INT);
    if (!token) return DC_ENOMEM;
    token->text = (jstr){l->p + begin, end - begin, 0};
    const jstr digits = {text, n, 0};
    if (real) token->f = strtod(text, NULL);
    else if (n == 0 || dc_jj_parse_int(&digits, base, &token->i))
        return fail(l, "a number is not a whole number of 64 bits");
    advance(l, end);
    return DC_OK;
}

static int lex_operator(lexer *l)
{
    static const struct {
        const char *text;
        jtok type;
    } table[] = {{"//", T_FLOORDIV}, {"**", T_POW},     {"==", T_EQ},      {"!=", T_NE},    {"<=", T_LE},
                 {">=", T_GE},       {"+", T_ADD},      {"-", T_SUB},      {"*", T_MUL},    {"/", T_DIV},
                 {"%", T_MOD},       {"~", T_TILDE},    {"<", T_LT},       {">", T_GT},     {"=", T_ASSIGN},
                 {".", T_DOT},       {",", T_COMMA},    {":", T_COLON},    {"|", T_PIPE},   {"(", T_LPAREN},
                 {")", T_RPAREN},    {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"{", T_LBRACE}, {"}", T_RBRACE},
                 {";", T_SEMICOLON}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!starts(l, l->at, table[i].text)) continue;
        const char c = table[i].text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (l->depth == sizeof l->open) return fail(l, "brackets nest too deep");
            l->open[l->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            char wrong[48] = "unexpected '?'";
            wrong[12] = c;
            if (l->depth == 0 || l->open[--l->depth] != c) return fail(l, wrong);
        }
        if (!push(l, table[i].type)) return DC_ENOMEM;
        l->at += strlen(table[i].text);
        return DC_OK;
    }
    return dc_fail(l->err, DC_EFORMAT, "%s:%d: unexpected byte 0x%02x in a tag", l->t->name, l->line,
                   (unsigned)(unsigned char)l->p[l->at]);
}

/* The inside of {{ }} or {% %}, its end included. */
static int lex_tag(lexer *l, int is_variable)
{
    const char *end = is_variable ? "}}" : "%}";
    l->depth = 0;
    int rc = DC_OK;
    while (rc == DC_OK) {
        const size_t behind = l->depth == 0 ? tag_end(l, l->at, end, is_variable) : 0;
        if (behind) {
            if (!push(l, is_variable ? T_VAR_END : T_BLOCK_END)) return DC_ENOMEM;
            advance(l, behind);
            return DC_OK;
        }
        if (l->at >= l->n) return fail(l, is_variable ? "'{{' is not closed" : "'{%' is not closed");
        const char c = l->p[l->at];
        if (space_at(l, l->at)) {
            advance(l, skip_space(l, l->at));
        } else if (is_digit(c)) {
            rc = lex_number(l);
        } else if (is_name_start(c)) {
            jtoken *token = push(l, T_NAME);
            if (!token) return DC_ENOMEM;
            const size_t begin = l->at;
            while (l->at < l->n && (is_name_start(l->p[l->at]) || is_digit(l->p[l->at])) && !space_at(l, l->at))
                l->at++;
            token->text = (jstr){l->p + begin, l->at - begin, 0};
        } else if (c == '"' || c == '\'') {
            rc = lex_string(l);
        } else {
            rc = lex_operator(l);
        }
    }
    return rc;
}

/* Up to the next tag and through it. */
static int lex_piece(lexer *l)
{
    const size_t begin = l->at;
    size_t tag = begin;
    while (tag + 1 < l->n &&
           !(l->p[tag] == '{' && (l->p[tag + 1] == '{' || l->p[tag + 1] == '%' || l->p[tag + 1] == '#')))
        tag++;
    if (tag + 1 >= l->n) return put_data(l, begin, l->n, '+', 0);
    const char kind = l->p[tag + 1];
    char sign = tag + 2 < l->n ? l->p[tag + 2] : 0;
    if (sign != '-' && sign != '+') sign = 0;
    int rc = put_data(l, begin, tag, sign, kind != '{');
    if (rc) return rc;
    if (kind == '%') {
        size_t body = 0, end = 0, behind = 0;
        char end_sign = 0;
        const int raw = raw_block(l, tag, &body, &end, &behind, &end_sign);
        if (raw < 0) return fail(l, "{% raw %} is not closed");
        if (raw > 0) {
            advance(l, body);
            rc = put_data(l, body, end, end_sign, 1);
            advance(l, behind);
            return rc;
        }
    }
    if (kind == '#') {
        for (size_t k = tag + 2 + (sign ? 1 : 0); k < l->n; k++) {
            const size_t behind = tag_end(l, k, "#}", 0);
            if (!behind) continue;
            advance(l, behind);
            return DC_OK;
        }
        return fail(l, "'{#' is not closed");
    }
    if (!push(l, kind == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN)) return DC_ENOMEM;
    advance(l, tag + 2 + (sign ? 1 : 0));
    return lex_tag(l, kind == '{');
}

int dc_jj_lex(dc_template *t, jtoken **out, dc_error *err)
{
    lexer l = {.t = t, .p = t->text, .n = t->n, .line = 1, .err = err};
    int rc = DC_OK;
    while (rc == DC_OK && l.at < l.n) rc = lex_piece(&l);
    if (rc == DC_OK && !push(&l, T_EOF)) rc = DC_ENOMEM;
    if (rc == DC_OK) *out = l.tokens;
    else dc_free(l.tokens);
    return rc;
}
