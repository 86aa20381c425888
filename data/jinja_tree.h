/* data/jinja_tree.h -- private to data/jinja_*.c and data/chat.c: tokens, and the tree that a template is after parsing. */
#ifndef DC_DATA_JINJA_TREE_H
#define DC_DATA_JINJA_TREE_H

#include "data/jinja.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the tree ---- */
typedef enum jkind {
    /* statements */
    N_DATA,
    N_PRINT,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_FILTERBLOCK,
    N_WITH,
    N_GENERATION,
    N_BREAK,
    N_CONTINUE,
    /* expressions */
    E_CONST,
    E_NAME,
    E_LIST,
    E_TUPLE,
    E_DICT,
    E_ATTR,
    E_ITEM,
    E_SLICE,
    E_CALL,
    E_FILTER,
    E_TEST,
    E_NOT,
    E_NEG,
    E_POS,
    E_AND,
    E_OR,
    E_BIN,
    E_CONCAT,
    E_COMPARE,
    E_COND,
    E_SPACE,
    E_INPUT
} jkind;

typedef enum jop {
    OP_NONE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOTIN
} jop;

typedef struct jarg {
    const jstr *name; /* NULL: by position */
    jnode *value;
    int star; /* 1: *value, 2: **value */
} jarg;

typedef struct jnodes {
    jnode **v;
    size_t n;
} jnodes;

enum { J_USES_CALLER = 1, J_USES_VARARGS = 2, J_USES_KWARGS = 4 };

struct jnode {
    jkind kind;
    jop op;
    int line;
    int flag;          /* N_FOR: recursive; N_MACRO, N_CALLBLOCK: J_USES_ bits */
    jval value;        /* E_CONST; N_DATA; names of E_NAME, E_ATTR, E_FILTER, E_TEST, N_MACRO as J_STR */
    const jfn *filter; /* E_FILTER */
    const jtest *test; /* E_TEST */
    jnode *a, *b, *c;  /* operands; N_FOR: target, what is walked, condition; E_SLICE: start, stop, step */
    jnodes list;       /* body, items, dict keys, tests of N_IF */
    jnodes more;       /* N_FOR, N_IF: else; E_DICT: values */
    jnodes *groups;    /* N_IF: [list.n] bodies */
    jop *ops;          /* E_COMPARE: [list.n] */
    jarg *args;        /* [n_args] of calls, filters, tests; of N_MACRO and N_CALLBLOCK: parameters with defaults */
    size_t n_args;
};

struct dc_template {
    dc_arena arena;
    const char *name;
    const char *text; /* newlines normalized */
    size_t n;
    jnodes body;
    int generation;
};

/* ---- tokens ---- */
typedef enum jtok {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_REAL,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COMMA,
    T_COLON,
    T_PIPE,
    T_LPAREN,
    T_RPAREN,
    T_LBRACKET,
    T_RBRACKET,
    T_LBRACE,
    T_RBRACE,
    T_SEMICOLON
} jtok;

typedef struct jtoken {
    jtok type;
    int line;
    jstr text; /* T_DATA, T_NAME, T_STRING (unescaped) */
    int64_t i;
    double f;
} jtoken;

/* All tokens, T_EOF last, in t's arena. */
int dc_jj_lex(dc_template *t, jtoken **out, dc_error *err);
int dc_jj_parse(dc_template *t, const jtoken *tokens, dc_error *err);
/* Runs a body in the scope r->scope (jinja_exec.c). */
void dc_jj_exec(jrun *r, jnodes body);

#ifdef __cplusplus
}
#endif
#endif
