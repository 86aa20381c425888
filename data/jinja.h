/* data/jinja.h -- private to data/jinja_*.c and data/chat.c: the parts of the template engine.
 *
 * Text goes through the lexer (tokens) and the parser (a tree of jnode) once; a render walks the tree with values (jval) in an arena of its
 * own, so nothing needs to be freed one by one and a template may be rendered by several threads at once. Semantics are those of Jinja 3.1
 * in transformers' sandbox: https://jinja.palletsprojects.com/en/stable/templates/, with Python's rules for strings,
 * numbers, comparison and printing. After a failure every function returns something harmless and r->rc is set; callers look at r->rc
 * before they use a result for more than passing it on. */
#ifndef DC_DATA_JINJA_H
#define DC_DATA_JINJA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"
#include "data/chat.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What bounds a render. Real templates need a thousandth of these. */
enum {
    DC_JJ_PARSE_DEPTH = 100,       /* nesting of a template's text */
    DC_JJ_DEPTH = 1000,            /* nesting while rendering: expressions, macros, recursive loops, values in values */
    DC_JJ_RANGE = 100000,          /* as the sandbox's range() */
    DC_JJ_STEPS = 20 * 1000 * 1000 /* nodes visited, and elements and 64-byte pieces of text looked at */
};
#define DC_JJ_OUTPUT ((size_t)64 << 20)
#define DC_JJ_MEMORY ((size_t)512 << 20)

/* ---- values ---- */
typedef enum jtype {
    J_MISSING, /* an argument that was not given; never a value of a template */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_REAL,
    J_STR,
    J_LIST, /* the five sequences share jseq */
    J_TUPLE,
    J_RANGE,
    J_VIEW, /* dict.keys(), values(), items(): has a length but no elements by number */
    J_GEN,  /* what map, select and their like give: can be walked once, always true, has no length */
    J_DICT,
    J_SPACE, /* namespace(): a dict that {% set ns.x %} changes */
    J_LOOP,
    J_MACRO,
    J_FUNC,
    J_METHOD
} jtype;

typedef struct jstr {
    const char *p; /* UTF-8, may hold zeros */
    size_t n;
    int safe; /* came from `safe` or `escape`: `+` escapes what it is joined with */
} jstr;

typedef struct jval jval;
typedef struct jseq jseq;
typedef struct jdict jdict;
typedef struct jloop jloop;
typedef struct jmacro jmacro;
typedef struct jbound jbound;
typedef struct jundef jundef;
typedef struct jfn jfn;
typedef struct jnode jnode;
typedef struct jrun jrun;
typedef struct jscope jscope;

struct jval {
    jtype type;
    union {
        int64_t i; /* J_INT, J_BOOL */
        double f;
        const jstr *s;
        jseq *seq;
        jdict *dict;
        jloop *loop;
        const jmacro *macro;
        const jfn *fn;
        const jbound *bound;
        const jundef *undef;
    } as;
};

struct jseq {
    jval *v;
    size_t n;
    int spent; /* a J_GEN that was walked */
    int tag;   /* 1: a tuple of groupby, also readable as .grouper and .list; of a J_VIEW: 0 keys, 1 values, 2 items */
};

struct jdict { /* in order of insertion, as Python's */
    jval *keys, *values;
    size_t n, room;
};

struct jundef {
    const char *of;   /* Python's words for the object that lacks it ("dict object"); NULL: a variable */
    const char *hint; /* or a whole sentence */
    jval name;
};

/* Arguments of a call. */
typedef struct jcall {
    const jval *v; /* [n] by position */
    size_t n;
    const jstr *const *names; /* [n_named] */
    const jval *named;
    size_t n_named;
} jcall;

/* A filter, method or global function: `params` names its arguments ("a b c"), `required` of them without default; they come bound in a[],
 * J_MISSING where not given. params NULL: it reads the jcall itself. */
struct jfn {
    const char *name, *params;
    int required;
    jval (*fn)(jrun *r, jval self, const jval *a, const jcall *c);
};

typedef struct jtest {
    const char *name;
    int args;
    int (*fn)(jrun *r, jval v, jval arg);
} jtest;

struct jbound {
    jval self;
    const jfn *fn;
};

struct jmacro {
    const jnode *node;
    jscope *scope;
};

/* ---- a render ---- */
typedef struct jvar {
    const jstr *name;
    jval value;
} jvar;

struct jscope {
    jscope *parent;
    jvar *vars;
    size_t n, room;
};

struct jloop {
    const jnode *node;
    jscope *outer; /* where the loop stands */
    const jseq *source;
    size_t at;         /* next element of source to look at */
    const jnode *test; /* condition still to be applied */
    jval before, now, after;
    int has_after;
    int64_t index0; /* -1 before the first */
    int64_t length; /* -1: not yet known */
    int64_t depth0;
    jval changed;
};

typedef enum jflow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } jflow;

struct jrun {
    const dc_template *t;
    dc_arena arena;
    size_t memory;
    uint64_t steps;
    int depth, line, rc;
    dc_error *err;
    dc_str *out;
    int buffered; /* out is not the text itself but a macro's, a set block's ... */
    dc_spans *spans;
    int64_t time;
    jscope *scope;
    jflow flow;
    jval input; /* of E_INPUT */
};

/* jinja_value.c: memory, errors, values */
void *dc_jj_alloc(jrun *r, size_t n, size_t size); /* NULL and r->rc when there is none */
int dc_jj_fail(jrun *r, dc_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int dc_jj_step(jrun *r, size_t work); /* 0, or -1 and r->rc when the template works too long */
int dc_jj_enter(jrun *r);             /* 0, or -1 and r->rc when it nests too deep; else dc_jj_leave */
void dc_jj_leave(jrun *r);
int dc_jj_undefined(jrun *r, jval v); /* fails with v's message */

extern const jval DC_JJ_NONE;
jval dc_jj_bool(int b);
jval dc_jj_int(int64_t i);
jval dc_jj_real(double f);
jval dc_jj_text(jrun *r, const char *p, size_t n); /* copies */
jval dc_jj_borrow(jrun *r, const char *p, size_t n);
jval dc_jj_take(jrun *r, dc_str *s);           /* copies and releases s */
jval dc_jj_seq(jrun *r, jtype type, size_t n); /* elements are none */
jval dc_jj_dict(jrun *r, jtype type, size_t room);
jval dc_jj_undef(jrun *r, const char *of, jval name);
jval dc_jj_from_json(jrun *r, const json_t *json);
int dc_jj_is_seq(jval v);
int dc_jj_is(const jstr *s, const char *text);

const char *dc_jj_type(jval v);   /* Python's type name */
const char *dc_jj_object(jval v); /* as Jinja's messages name it: "dict object" */
int dc_jj_truth(jval v);
int dc_jj_equal(jrun *r, jval a, jval b);
int dc_jj_order(jrun *r, jval a, jval b, const char *op); /* < 0, 0, > 0; fails where Python raises */
int dc_jj_contains(jrun *r, jval needle, jval in);
int64_t dc_jj_length(jrun *r, jval v);
const jseq *dc_jj_walk(jrun *r, jval v); /* what `for` sees; NULL and r->rc when it cannot be walked */
jval *dc_jj_find(jrun *r, const jdict *d, jval key);
void dc_jj_put(jrun *r, jdict *d, jval key, jval value);
jval dc_jj_attr(jrun *r, jval v, const jstr *name);
jval dc_jj_item(jrun *r, jval v, jval key);
jval dc_jj_slice(jrun *r, jval v, jval start, jval stop, jval step);
jval dc_jj_pairs(jrun *r, const jdict *d, jtype type, int what); /* what: 0 keys, 1 values, 2 both */

/* jinja_print.c: values as text */
void dc_jj_str(jrun *r, dc_str *out, jval v);  /* str() */
void dc_jj_repr(jrun *r, dc_str *out, jval v); /* repr() */
jval dc_jj_string(jrun *r, jval v);            /* str() as a value; a string is itself */
void dc_jj_real_text(dc_str *out, double f);
typedef struct jjson {
    const char *indent; /* NULL: one line */
    size_t indent_n;
    jstr item, key; /* separators */
    int ascii, sort;
} jjson;
void dc_jj_json(jrun *r, dc_str *out, jval v, const jjson *o);
jval dc_jj_percent(jrun *r, const jstr *format, const jval *v, size_t n, const jdict *named); /* format % v */

/* jinja_text.c: Python's str; jinja_str.c: its methods */
const jfn *dc_jj_str_method(const jstr *name);
int dc_jj_str_lacks(const jstr *name); /* a method of Python's str that is not implemented */
size_t dc_jj_chars(const jstr *s);
size_t dc_jj_at(const jstr *s, size_t chars);                  /* byte offset of a character */
jstr dc_jj_strip(const jstr *s, const jstr *chars, int sides); /* 1 left, 2 right; chars NULL: whitespace */
typedef enum jcase { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_TITLE_FILTER, CASE_SWAP } jcase;
jval dc_jj_case(jrun *r, const jstr *s, jcase how);
jval dc_jj_replace(jrun *r, const jstr *s, const jstr *from, const jstr *to, int64_t count);
jval dc_jj_center(jrun *r, const jstr *s, int64_t width, const jstr *fill, int side); /* -1 ljust, 0 center, 1 rjust */
const jseq *dc_jj_lines(jrun *r, const jstr *s, int keep);
int dc_jj_is_space(int32_t cp);
typedef enum jclass {
    CLASS_SPACE,
    CLASS_ALPHA,
    CLASS_ALNUM,
    CLASS_DECIMAL,
    CLASS_DIGIT,
    CLASS_NUMERIC,
    CLASS_ASCII
} jclass;
int dc_jj_str_is(const jstr *s, jclass what); /* every character, and at least one */
int dc_jj_str_is_case(const jstr *s, int upper);
int dc_jj_parse_int(const jstr *s, int base, int64_t *out); /* 0, -1: not a number, -2: beyond 64 bits */
int dc_jj_parse_real(const jstr *s, double *out);
int64_t dc_jj_search(jrun *r, const jstr *s, const jstr *needle, size_t from, int last); /* byte offset or -1 */

/* jinja_args.c: arguments of functions; a failure is in r->rc */
const jstr *dc_jj_want_text(jrun *r, jval v, const char *what);
int64_t dc_jj_want_int(jrun *r, jval v, int64_t fallback, const char *what); /* fallback for J_MISSING and none */
int dc_jj_flag(jval v, int fallback);

/* jinja_filters.c, jinja_tests.c, jinja_globals.c */
const jfn *dc_jj_filter(const jstr *name);
const jtest *dc_jj_test(const jstr *name);
const jfn *dc_jj_global(const jstr *name);
const jfn *dc_jj_seq_method(jtype type, const jstr *name);
int dc_jj_mutates(jtype type, const jstr *name); /* a method the sandbox forbids */
jval dc_jj_method_of_loop(jrun *r, jval loop, const jstr *name);

/* jinja_eval.c: expressions; jinja_exec.c: statements */
jval dc_jj_eval(jrun *r, const jnode *e);
jval dc_jj_add(jrun *r, jval a, jval b);
jval dc_jj_call(jrun *r, jval callee, const jcall *c);
jval dc_jj_call_fn(jrun *r, const jfn *fn, jval self, const jcall *c);
jval dc_jj_call_macro(jrun *r, const jmacro *m, const jcall *c);
jval dc_jj_call_loop(jrun *r, const jloop *l, const jcall *c);
int dc_jj_loop_peek(jrun *r, jloop *l); /* 1: l->after is the next one */
int64_t dc_jj_loop_length(jrun *r, jloop *l);
void dc_jj_set(jrun *r, jscope *s, const jstr *name, jval v);

#ifdef __cplusplus
}
#endif
#endif
