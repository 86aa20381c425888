/* core/recipe_check.c -- a tree of values against the schema table: all that is wrong is gathered, then told by line. */
#include "core/recipe_internal.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct problem {
    int line, column; /* the command line's stand behind all lines */
    size_t order;
    const char *text;
} problem;

typedef struct checker {
    dc_recipe *r;
    problem *problems;
    size_t n, room;
    int no_memory;
} checker;

static const char *format_args(checker *c, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    const char *copy = dc_arena_strdup(&c->r->arena, text);
    if (!copy) c->no_memory = 1;
    return copy;
}

/* Text in the recipe's arena, of at most 1023 bytes; NULL when memory is out. */
__attribute__((format(printf, 2, 3))) static const char *text_of(checker *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = format_args(c, format, args);
    va_end(args);
    return text;
}

__attribute__((format(printf, 5, 6))) static void complain(checker *c, const char *place, int line, int column,
                                                           const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *text = format_args(c, format, args);
    va_end(args);
    if (text) text = text_of(c, "%s: %s", place, text);
    if (!text || dc_grow(&c->problems, c->n, &c->room, sizeof *c->problems)) {
        c->no_memory = 1;
        return;
    }
    c->problems[c->n] = (problem){line ? line : INT_MAX, column, c->n, text};
    c->n++;
}

#define AT_KEY(node)   (node)->key_place, (node)->key_line, (node)->key_column
#define AT_VALUE(node) (node)->place, (node)->line, (node)->column

/* What stands there, for "..., not %s". */
static const char *shown(checker *c, const dc_node *n)
{
    const char *text = n->kind == DC_NODE_LIST ? "a list" : n->kind == DC_NODE_MAP ? "a section" : NULL;
    if (!text) text = text_of(c, strlen(n->text) > 60 ? "'%.60s...'" : "'%s'", n->text);
    return text ? text : "";
}

/* ---- keys ---- */

enum { MAX_NAMES = 128 };

/* The names of keys and sections that may stand in the section `prefix` ("data.train[]."; "" is the top), NULL-ended. */
static void names_in(checker *c, const char *names[MAX_NAMES], const char *prefix)
{
    const size_t n = strlen(prefix);
    size_t count = 0;
    for (const dc_key *k = dc_schema(); k->path && count < MAX_NAMES - 1; k++) {
        if (strncmp(k->path, prefix, n)) continue;
        const size_t length = strcspn(k->path + n, ".[");
        if (count && strlen(names[count - 1]) == length && !strncmp(names[count - 1], k->path + n, length)) continue;
        names[count] = dc_arena_strndup(&c->r->arena, k->path + n, length);
        if (names[count]) count++;
        else c->no_memory = 1;
    }
    names[count] = NULL;
}

/* The section of the key that is called so elsewhere ("train"), or NULL. */
static const char *belongs_in(checker *c, const char *name)
{
    for (const dc_key *k = dc_schema(); k->path; k++) {
        const char *dot = strrchr(k->path, '.');
        if (!dot || strchr(k->path, '[') || !strncmp(k->path, "teacher.", 8)) continue;
        const char *section = text_of(c, "%.*s", (int)(dot - k->path), k->path);
        const char *prefix = text_of(c, "%.*s", (int)(dot - k->path) + 1, k->path);
        if (!section || !prefix) return NULL;
        if (!strcmp(dot + 1, dc_schema_canonical(prefix, name))) return section;
    }
    return NULL;
}

/* "data.train[]." for "data.train[3]." */
static void without_numbers(char *out, size_t room, const char *path)
{
    size_t n = 0;
    for (int inside = 0; *path && n + 1 < room; path++) {
        if (*path == ']') inside = 0;
        if (!inside) out[n++] = *path;
        if (*path == '[') inside = 1;
    }
    out[n] = 0;
}

static void unknown_key(checker *c, const dc_node *node, const char *prefix)
{
    const char *names[MAX_NAMES];
    char section[256];
    without_numbers(section, sizeof section, prefix);
    names_in(c, names, section);
    const char *near = dc_nearest(node->given, names), *where = near ? NULL : belongs_in(c, node->given);
    const char *in = *prefix ? text_of(c, " in '%.*s'", (int)strlen(prefix) - 1, prefix) : "";
    const char *hint = near    ? text_of(c, "; did you mean '%s'?", near)
                       : where ? text_of(c, "; it belongs in '%s'", where)
                               : "";
    complain(c, AT_KEY(node), "unknown key '%.60s'%s%s", node->given, in ? in : "", hint ? hint : "");
}

static void walk(checker *c, dc_node *map, const char *prefix);

static void walk_items(checker *c, dc_node *list, const char *path)
{
    const size_t n = dc_node_count(list);
    dc_node *item = dc_node_item(list, 0);
    for (size_t i = 0; i < n; i++, item = item->next) {
        const char *prefix = text_of(c, "%s[%zu].", path, i);
        if (prefix && item->kind == DC_NODE_MAP) walk(c, item, prefix);
    }
}

static void walk_child(checker *c, dc_node *child, const char *prefix)
{
    const char *path = text_of(c, "%s%.100s", prefix, child->key);
    if (!path) return;
    const int plain_name = !strpbrk(child->key, ".[]");
    const dc_key *key = plain_name ? dc_schema_find(path) : NULL;
    if (key) {
        if (key->type == DC_KEY_ITEMS) walk_items(c, child, path);
    } else if (!plain_name || !dc_schema_is_section(path)) {
        unknown_key(c, child, prefix);
    } else if (child->kind == DC_NODE_MAP) {
        const char *inner = text_of(c, "%s.", path);
        if (inner) walk(c, child, inner);
    } else if (!dc_node_is_null(child)) {
        complain(c, AT_VALUE(child), "%s is a section: it takes 'key: value' lines, not %s", path, shown(c, child));
    }
}

/* Names every child by its canonical key, and finds those that the table does not have. */
static void walk(checker *c, dc_node *map, const char *prefix)
{
    for (dc_node *n = map->child; n; n = n->next) {
        n->key = dc_schema_canonical(prefix, n->given);
        const dc_node *other = dc_node_get(map, n->key);
        if (other == n) walk_child(c, n, prefix);
        else if (strcmp(other->given, n->given))
            complain(c, AT_KEY(n), "'%.60s' and '%.60s' are the same key", other->given, n->given);
        else complain(c, AT_KEY(n), "key '%.60s' stands there twice", n->given);
    }
}

/* ---- values ---- */

/* " from 1 to 4096", " of at least 0", or nothing. */
static const char *range_of(checker *c, const dc_key *k)
{
    const char *text = "";
    if (k->low < k->high && isinf(k->high)) text = text_of(c, " of at least %.15g", k->low);
    else if (k->low < k->high) text = text_of(c, " from %.15g to %.15g", k->low, k->high);
    return text ? text : "";
}

static int outside(const dc_key *k, double value) { return k->low < k->high && !(value >= k->low && value <= k->high); }

/* A decimal integer and nothing else. */
static int parse_integer(int64_t *out, const char *text)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (!*digits || digits[strspn(digits, "0123456789")]) return -1;
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno ? -1 : 0;
}

/* A decimal number and nothing else: no hexadecimal, no inf, no nan. */
static int parse_real(double *out, const char *text)
{
    char *end;
    if (!*text || text[strspn(text, "+-.0123456789eE")]) return -1;
    *out = strtod(text, &end);
    return *end || !isfinite(*out) ? -1 : 0;
}

static int parse_boolean(int64_t *out, const char *text)
{
    static const char *const words[] = {"false", "no", "off", "true", "yes", "on"};
    for (int i = 0; i < 6; i++)
        if (!strcasecmp(text, words[i])) {
            *out = i >= 3;
            return 0;
        }
    return -1;
}

/* A choice that ends in ":N" takes any number there. */
static int fits(const char *choice, size_t length, const char *text)
{
    const int numbered = length > 2 && !strncmp(choice + length - 2, ":N", 2);
    const size_t fixed = numbered ? length - 1 : length;
    if (strncmp(choice, text, fixed)) return 0;
    const char *rest = text + fixed;
    return numbered ? *rest && strspn(rest, "0123456789") == strlen(rest) : !*rest;
}

static int is_choice(const char *choices, const char *text)
{
    for (const char *at = choices; *at; at += *at == '|') {
        const size_t length = strcspn(at, "|");
        if (fits(at, length, text)) return 1;
        at += length;
    }
    return 0;
}

static void not_a_choice(checker *c, const char *path, const char *choices, const dc_node *node)
{
    const char *names[MAX_NAMES];
    char list[256];
    size_t count = 0, n = 0;
    for (const char *at = choices; *at && count < MAX_NAMES - 1; at += *at == '|') {
        const size_t length = strcspn(at, "|");
        names[count] = dc_arena_strndup(&c->r->arena, at, length);
        if (!names[count]) {
            c->no_memory = 1;
            return;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", count ? ", " : "", names[count]);
        if (n >= sizeof list) n = sizeof list - 1;
        count++;
        at += length;
    }
    names[count] = NULL;
    const char *near = dc_nearest(node->text, names), *hint = near ? text_of(c, "; did you mean '%s'?", near) : "";
    complain(c, AT_VALUE(node), count > 1 ? "%s must be one of %s, not %s%s" : "%s must be %s, not %s%s", path, list,
             shown(c, node), hint ? hint : "");
}

/* "{recipe_dir}/x" with the recipe's folder. */
static const char *filled_in(checker *c, const char *raw)
{
    static const char name[] = "{recipe_dir}";
    if (strncmp(raw, name, sizeof name - 1)) return raw;
    dc_str s = {0};
    dc_str_puts(&s, c->r->dir);
    dc_str_puts(&s, raw + sizeof name - 1);
    const char *text = s.failed ? NULL : dc_arena_strdup(&c->r->arena, s.data);
    if (!text) c->no_memory = 1;
    dc_str_release(&s);
    return text ? text : raw;
}

static int scalar_value(checker *c, dc_value *v, const dc_node *n)
{
    const dc_key *k = v->key;
    const char *kind = NULL;
    const int scalar = n->kind == DC_NODE_SCALAR, plain = scalar && n->plain;
    switch (k->type) {
    case DC_KEY_INT:
        if (!plain || parse_integer(&v->i, n->text) || outside(k, (double)v->i)) kind = "an integer";
        break;
    case DC_KEY_REAL:
        if (!plain || parse_real(&v->d, n->text) || outside(k, v->d)) kind = "a number";
        break;
    case DC_KEY_BOOL:
        if (!plain || parse_boolean(&v->i, n->text)) kind = "true or false";
        break;
    default:
        if (!scalar) kind = "a text";
    }
    if (kind) {
        complain(c, AT_VALUE(n), "%s must be %s%s, not %s%s", v->path, kind, range_of(c, k),
                 scalar && !plain ? "the text " : "", shown(c, n));
        return -1;
    }
    if (k->type == DC_KEY_STR && k->choices && !is_choice(k->choices, n->text)) {
        not_a_choice(c, v->path, k->choices, n);
        return -1;
    }
    v->raw = n->text;
    v->text = filled_in(c, n->text);
    return 0;
}

static void *array(checker *c, size_t n, size_t size)
{
    void *memory = dc_arena_alloc(&c->r->arena, n * size + 1);
    if (!memory) c->no_memory = 1;
    return memory;
}

/* One item of a list: 0 when it is what the key takes. */
static int check_list_item(checker *c, const dc_value *v, const dc_node *item, const char *what)
{
    const dc_key *k = v->key;
    int64_t i;
    if (item->kind != DC_NODE_SCALAR || dc_node_is_null(item) ||
        (k->low < k->high && (parse_integer(&i, item->text) || outside(k, (double)i)))) {
        complain(c, AT_VALUE(item), "%s must be a list of %s%s; one of them is %s", v->path, what, range_of(c, k),
                 dc_node_is_null(item) ? "empty" : shown(c, item));
        return -1;
    }
    if (!k->choices || is_choice(k->choices, item->text)) return 0;
    not_a_choice(c, v->path, k->choices, item);
    return -1;
}

static int list_value(checker *c, dc_value *v, const dc_node *n)
{
    const char *what = v->key->low < v->key->high ? "integers" : "texts";
    int bad = 0;
    if (n->kind == DC_NODE_MAP) {
        complain(c, AT_VALUE(n), "%s must be a list of %s, not a section", v->path, what);
        return -1;
    }
    v->n = dc_node_count(n);
    v->texts = array(c, v->n, sizeof *v->texts);
    v->raws = array(c, v->n, sizeof *v->raws);
    if (!v->texts || !v->raws) return -1;
    const dc_node *item = dc_node_item(n, 0);
    for (size_t i = 0; i < v->n; i++, item = item->next) {
        if (check_list_item(c, v, item, what)) {
            bad = -1;
            continue;
        }
        v->raws[i] = item->text;
        v->texts[i] = filled_in(c, item->text);
    }
    return bad;
}

static int map_value(checker *c, dc_value *v, const dc_node *n)
{
    int bad = 0;
    if (n->kind != DC_NODE_MAP) {
        complain(c, AT_VALUE(n), "%s must be a section of names and numbers, not %s", v->path, shown(c, n));
        return -1;
    }
    for (const dc_node *child = n->child; child; child = child->next) v->n++;
    v->raws = array(c, v->n, sizeof *v->raws);
    v->numbers = array(c, v->n, sizeof *v->numbers);
    if (!v->raws || !v->numbers) return -1;
    size_t i = 0;
    for (const dc_node *child = n->child; child; child = child->next, i++) {
        v->raws[i] = child->given;
        if (dc_node_get(n, child->given) != child) {
            complain(c, AT_KEY(child), "%s: '%.60s' stands there twice", v->path, child->given);
            bad = -1;
        } else if (child->kind != DC_NODE_SCALAR || !child->plain || parse_real(&v->numbers[i], child->text) ||
                   outside(v->key, v->numbers[i])) {
            complain(c, AT_VALUE(child), "%s: '%.60s' must be a number%s, not %s", v->path, child->given,
                     range_of(c, v->key), shown(c, child));
            bad = -1;
        }
    }
    return bad;
}

/* Adds the value of a key that stands at `node`, or its default. */
static dc_value *add_value(checker *c, const dc_key *k, const char *path, const dc_node *node)
{
    dc_recipe *r = c->r;
    dc_node fallback = {
        .kind = DC_NODE_SCALAR, .plain = 1, .text = k->fallback, .place = "the schema", .key_place = "the schema"};
    dc_value v = {.key = k, .path = path};
    if (!path || dc_grow(&r->values, r->n_values, &r->room_values, sizeof *r->values)) {
        c->no_memory = 1;
        return NULL;
    }
    if (!dc_node_is_null(node)) v.node = node;
    else node = k->fallback ? &fallback : NULL;
    if (node && k->type == DC_KEY_ITEMS) v.n = dc_node_count(node), v.set = 1;
    else if (node && k->type == DC_KEY_STRS) v.set = !list_value(c, &v, node);
    else if (node && k->type == DC_KEY_MAP) v.set = !map_value(c, &v, node);
    else if (node) v.set = !scalar_value(c, &v, node);
    r->values[r->n_values] = v;
    return &r->values[r->n_values++];
}

/* The keys of item i of the list `list_key`, whose rows in the table begin at `first`. */
static void add_item(checker *c, const dc_key *list_key, const dc_key *first, size_t i, const dc_node *item)
{
    const size_t n = strlen(list_key->path);
    const char *name = first->path + n + 3; /* behind "[]." */
    const char *place = text_of(c, "%s[%zu]", list_key->path, i);
    if (!place) return;
    if (dc_node_is_null(item) || item->kind == DC_NODE_LIST) {
        complain(c, AT_VALUE(item), "%s must be a %s or a section, not %s", place, name,
                 item->kind == DC_NODE_LIST ? "a list" : "empty");
        return;
    }
    for (const dc_key *k = first; k->path && !strncmp(k->path, list_key->path, n) && k->path[n] == '['; k++) {
        const dc_node *node = item->kind == DC_NODE_MAP ? dc_node_get(item, k->path + n + 3) : k == first ? item : NULL;
        add_value(c, k, text_of(c, "%s.%s", place, k->path + n + 3), node);
        if (k == first && dc_node_is_null(node)) complain(c, AT_VALUE(item), "%s needs a '%s'", place, name);
    }
}

static const dc_node *node_of_key(const dc_recipe *r, const char *path)
{
    const dc_node *n = r->root;
    char name[128];
    while (n && *path) {
        const size_t length = strcspn(path, ".");
        DC_ASSERT(length < sizeof name);
        memcpy(name, path, length);
        name[length] = 0;
        n = dc_node_get(n, name);
        path += length + (path[length] == '.');
    }
    return n;
}

static void add_all(checker *c)
{
    for (const dc_key *k = dc_schema(); k->path; k++) {
        if (strchr(k->path, '[')) continue;
        const dc_node *node = node_of_key(c->r, k->path);
        const dc_value *v = add_value(c, k, k->path, node);
        if (!v || k->type != DC_KEY_ITEMS || !v->set) continue;
        const size_t n = v->n;
        const dc_node *item = dc_node_item(node, 0);
        for (size_t i = 0; i < n; i++, item = item->next) add_item(c, k, k + 1, i, item);
    }
}

/* ---- the verdict ---- */

static int by_line(const void *a, const void *b)
{
    const problem *x = a, *y = b;
    if (x->line != y->line) return x->line < y->line ? -1 : 1;
    if (x->column != y->column) return x->column < y->column ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int verdict(checker *c, dc_error *err)
{
    char text[sizeof err->message];
    const size_t tail = 80; /* for the last two lines */
    size_t n = 0, told = 0;
    qsort(c->problems, c->n, sizeof *c->problems, by_line);
    for (; told < c->n; told++) {
        const size_t length = strlen(c->problems[told].text);
        if (n + length + 1 + tail > sizeof text) break;
        memcpy(text + n, c->problems[told].text, length);
        n += length;
        text[n++] = '\n';
    }
    if (!told) n = (size_t)snprintf(text, sizeof text, "%.800s\n", c->problems[told++].text);
    if (told < c->n) n += (size_t)snprintf(text + n, sizeof text - n, "... and %zu more\n", c->n - told);
    snprintf(text + n, sizeof text - n, "%zu error%s, nothing was started.", c->n, c->n == 1 ? "" : "s");
    return dc_fail(err, DC_EUSAGE, "%s", text);
}

int dc_recipe_check(dc_recipe *r, dc_error *err)
{
    checker c = {.r = r};
    int rc = DC_OK;
    r->n_values = 0;
    walk(&c, r->root, "");
    add_all(&c);
    if (c.no_memory) rc = dc_fail_memory(err, sizeof *r->values * (r->n_values + 1), "a recipe");
    else if (c.n) rc = verdict(&c, err);
    dc_free(c.problems);
    return rc;
}
