/* core/recipe.c -- a recipe's life: read, overridden, asked. */
#include "core/recipe.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/recipe_internal.h"

enum { MAX_BYTES = 1 << 20 };

/* ---- overrides ---- */

/* One "name" or "name[3]" of a path; returns what follows the dot, or NULL when the path is no path. */
static const char *next_segment(char name[128], long *index, const char *path)
{
    const size_t n = strcspn(path, ".[");
    *index = -1;
    if (!n || n >= 128) return NULL;
    memcpy(name, path, n);
    name[n] = 0;
    path += n;
    if (*path == '[') {
        const size_t digits = strspn(path + 1, "0123456789");
        if (!digits || digits > 6 || path[1 + digits] != ']') return NULL;
        *index = 0;
        for (size_t i = 0; i < digits; i++) *index = 10 * *index + (path[1 + i] - '0');
        path += digits + 2;
    }
    if (*path == '.' && path[1]) return path + 1;
    return *path ? NULL : path;
}

/* Puts a copy of `from`'s value in place of *to, which keeps its place in its parent. */
static void replace(dc_node *to, const dc_node *from)
{
    dc_node *next = to->next;
    const char *key = to->key;
    *to = *from;
    to->next = next;
    to->key = to->given = key;
}

static dc_node *new_child(dc_recipe *r, dc_node *parent, const char *key, const char *place)
{
    dc_node *n = dc_node_scalar(&r->arena, "", place);
    if (!n) return NULL;
    if (key && !(n->key = n->given = dc_arena_strdup(&r->arena, key))) return NULL;
    dc_node_append(parent, n);
    return n;
}

static void become(dc_node *n, dc_node_kind kind)
{
    n->kind = kind;
    n->child = n->last = NULL;
    n->text = NULL;
}

static int not_there(const char *place, const char *what, dc_error *err)
{
    return dc_fail(err, DC_EUSAGE, "%s: %s", place, what);
}

/* An item given as a text ("q8_0") becomes the section it stands for ({type: q8_0}). `prefix` is "export[]." */
static int unfold_item(dc_recipe *r, dc_node *item, const char *prefix, dc_error *err)
{
    const size_t n = strlen(prefix);
    const dc_key *k = dc_schema();
    while (k->path && strncmp(k->path, prefix, n)) k++;
    if (!k->path || n < 3 || prefix[n - 2] != ']') return DC_OK;
    dc_node *child = dc_arena_alloc(&r->arena, sizeof *child);
    if (!child) return dc_fail_memory(err, sizeof *child, "a recipe");
    *child = *item;
    child->key = child->given = k->path + n;
    become(item, DC_NODE_MAP);
    dc_node_append(item, child);
    return DC_OK;
}

/* The child of `at` that a segment names, made when it is not there. *prefix grows by the segment. */
static int step(dc_recipe *r, dc_node **at, dc_str *prefix, const char *segment, long index, const char *place,
                dc_error *err)
{
    int rc;
    if (dc_node_is_null(*at)) become(*at, DC_NODE_MAP);
    if ((*at)->kind == DC_NODE_SCALAR && (rc = unfold_item(r, *at, dc_str_text(prefix), err))) return rc;
    if ((*at)->kind != DC_NODE_MAP) return not_there(place, "what stands there is no section", err);
    const char *name = dc_schema_canonical(dc_str_text(prefix), segment);
    dc_node *child = NULL;
    for (dc_node *n = (*at)->child; n && !child; n = n->next)
        if (!strcmp(dc_schema_canonical(dc_str_text(prefix), n->given), name)) child = n;
    if (!child && !(child = new_child(r, *at, name, place))) return dc_fail_memory(err, sizeof *child, "a recipe");
    dc_str_puts(prefix, name);
    if (index >= 0) {
        if (dc_node_is_null(child)) become(child, DC_NODE_LIST);
        dc_node *item = dc_node_item(child, (size_t)index);
        if (!item && (child->kind != DC_NODE_LIST || (size_t)index != dc_node_count(child)))
            return not_there(place, "there is no such item", err);
        if (!item && !(item = new_child(r, child, NULL, place))) return dc_fail_memory(err, sizeof *item, "a recipe");
        child = item;
        dc_str_puts(prefix, "[]");
    }
    dc_str_putc(prefix, '.');
    *at = child;
    return prefix->failed ? dc_fail_memory(err, prefix->n, "a recipe") : DC_OK;
}

/* The value's text as a tree. A text key takes it as it is, so that colons and braces need no second quoting. */
static int parse_value(dc_recipe *r, dc_node **out, const char *path, const char *value, const char *place,
                       dc_error *err)
{
    const dc_key *k = dc_schema_find(path);
    const int text = k && k->type == DC_KEY_STR && *value != '"' && *value != '\'';
    if (!text && strncmp(value, "{recipe_dir}", 12)) {
        const int rc = dc_node_parse(out, &r->arena, value, strlen(value), r->name, place, err);
        if (rc || *out) return rc;
    }
    *out = dc_node_scalar(&r->arena, text || *value == '{' ? value : "", place);
    return *out ? DC_OK : dc_fail_memory(err, strlen(value), "a recipe");
}

/* Puts a value into the tree; the caller checks it. `path` has n bytes. */
static int put_value(dc_recipe *r, const char *path, size_t n, const char *value, dc_error *err)
{
    char name[128];
    dc_str prefix = {0}, text = {0};
    dc_node *at = r->root, *node = NULL;
    int rc = DC_OK;
    dc_str_puts(&text, "command line: ");
    dc_str_append(&text, path, n);
    const char *place = text.failed ? NULL : dc_arena_strdup(&r->arena, text.data);
    if (!place) DC_TRY(dc_fail_memory(err, n, "a recipe"));
    if (!dc_utf8_valid(path, n) || !dc_utf8_valid(value, strlen(value)))
        DC_TRY(not_there(place, "not valid UTF-8 text", err));
    const char *rest = place + strlen("command line: ");
    do {
        long index;
        rest = next_segment(name, &index, rest);
        if (!rest) DC_TRY(not_there(place, "an override is written section.key=value", err));
        DC_TRY(step(r, &at, &prefix, name, index, place, err));
    } while (*rest);
    prefix.data[--prefix.n] = 0; /* the last dot */
    DC_TRY(parse_value(r, &node, prefix.data, value, place, err));
    replace(at, node);
done:
    dc_str_release(&prefix);
    dc_str_release(&text);
    return rc;
}

static int put_override(dc_recipe *r, const char *override, dc_error *err)
{
    const char *equals = strchr(override, '=');
    if (!equals || equals == override)
        return dc_fail(err, DC_EUSAGE, "command line: '%s': an override is written section.key=value", override);
    return put_value(r, override, (size_t)(equals - override), equals + 1, err);
}

/* ---- life ---- */

static char *folder_of(const char *path)
{
    const size_t n = (size_t)(dc_path_base(path) - path);
    if (!n) return dc_strdup(".");
    char *dir = dc_strdup(path);
    if (dir) dir[n > 1 ? n - 1 : n] = 0;
    return dir;
}

static int new_recipe(dc_recipe **out, const char *name, dc_error *err)
{
    dc_recipe *r = dc_calloc(1, sizeof *r);
    if (r) {
        r->name = dc_strdup(name);
        r->dir = folder_of(name);
        if (r->name && r->dir) {
            *out = r;
            return DC_OK;
        }
    }
    dc_recipe_free(r);
    return dc_fail_memory(err, sizeof *r, "a recipe");
}

static int parse(dc_recipe *r, const char *text, const char *const *overrides, size_t n, dc_error *err)
{
    int rc;
    if (strlen(text) > MAX_BYTES) return dc_fail(err, DC_EUSAGE, "%s: a recipe has at most a million bytes", r->name);
    if ((rc = dc_node_parse(&r->root, &r->arena, text, strlen(text), r->name, NULL, err))) return rc;
    if (!r->root && !(r->root = dc_node_scalar(&r->arena, "", r->name)))
        return dc_fail_memory(err, strlen(text), "a recipe");
    if (dc_node_is_null(r->root)) become(r->root, DC_NODE_MAP);
    if (r->root->kind != DC_NODE_MAP)
        return dc_fail(err, DC_EUSAGE, "%s: a recipe is made of 'key: value' lines", r->root->place);
    for (size_t i = 0; i < n && !rc; i++) rc = put_override(r, overrides[i], err);
    return rc;
}

/* A failure that keeps a recipe from being checked stands alone, and is counted like those of the check. */
static int only_error(int rc, const dc_error *e, dc_error *err)
{
    if (rc != DC_EUSAGE) return dc_fail(err, (dc_code)rc, "%s", e->message);
    return dc_fail(err, DC_EUSAGE, "%.900s\n1 error, nothing was started.", e->message);
}

int dc_recipe_parse(dc_recipe **out, const char *text, const char *name, const char *const *overrides, size_t n,
                    dc_error *err)
{
    dc_recipe *r = NULL;
    dc_error e = {0};
    int rc;
    DC_TRY(new_recipe(&r, name, err));
    rc = parse(r, text, overrides, n, &e);
    if (rc) DC_TRY(only_error(rc, &e, err));
    DC_TRY(dc_recipe_check(r, err));
    *out = r;
    return DC_OK;
done:
    dc_recipe_free(r);
    return rc;
}

int dc_recipe_load(dc_recipe **out, const char *path, const char *const *overrides, size_t n, dc_error *err)
{
    dc_str text = {0};
    int rc;
    DC_TRY(dc_file_read(&text, path, MAX_BYTES, err));
    if (text.n && memchr(text.data, 0, text.n)) DC_TRY(dc_fail(err, DC_EUSAGE, "%s: not a text file", path));
    DC_TRY(dc_recipe_parse(out, dc_str_text(&text), path, overrides, n, err));
done:
    dc_str_release(&text);
    return rc;
}

void dc_recipe_free(dc_recipe *r)
{
    if (!r) return;
    dc_free(r->name);
    dc_free(r->dir);
    dc_free(r->values);
    dc_arena_release(&r->arena);
    dc_free(r);
}

/* A copy of a tree in another arena; NULL when memory is out. */
static dc_node *copy_node(dc_arena *arena, const dc_node *from)
{
    dc_node *n = dc_arena_alloc(arena, sizeof *n);
    if (!n) return NULL;
    *n = *from;
    n->child = n->last = n->next = NULL;
    const char **texts[] = {&n->text, &n->key, &n->given, &n->place, &n->key_place};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (*texts[i] && !(*texts[i] = dc_arena_strdup(arena, *texts[i]))) return NULL;
    for (const dc_node *c = from->child; c; c = c->next) {
        dc_node *copy = copy_node(arena, c);
        if (!copy) return NULL;
        dc_node_append(n, copy);
    }
    return n;
}

int dc_recipe_copy(dc_recipe **out, const dc_recipe *r, dc_error *err)
{
    dc_recipe *copy = NULL;
    int rc;
    DC_TRY(new_recipe(&copy, r->name, err));
    copy->root = copy_node(&copy->arena, r->root);
    if (!copy->root) DC_TRY(dc_fail_memory(err, sizeof *copy->root, "a recipe"));
    DC_TRY(dc_recipe_check(copy, err));
    *out = copy;
    return DC_OK;
done:
    dc_recipe_free(copy);
    return rc;
}

int dc_recipe_set(dc_recipe *r, const char *path, const char *value, dc_error *err)
{
    dc_recipe *copy = NULL;
    dc_error e = {0};
    int rc;
    DC_TRY(dc_recipe_copy(&copy, r, err)); /* so that a refused value leaves the recipe as it was */
    rc = put_value(copy, path, strlen(path), value, &e);
    if (rc) DC_TRY(only_error(rc, &e, err));
    DC_TRY(dc_recipe_check(copy, err));
    const dc_recipe swap = *r;
    *r = *copy;
    *copy = swap;
done:
    dc_recipe_free(copy);
    return rc;
}

/* ---- asking ---- */

const dc_value *dc_recipe_value(const dc_recipe *r, const char *path)
{
    for (size_t i = 0; i < r->n_values; i++)
        if (!strcmp(r->values[i].path, path)) return &r->values[i];
    return NULL;
}

/* The node of a key, section or item; NULL when it was not given. */
static const dc_node *find_node(const dc_recipe *r, const char *path)
{
    const dc_node *n = r->root;
    while (n && *path) {
        char name[128];
        long index;
        path = next_segment(name, &index, path);
        DC_ASSERT(path);
        n = dc_node_get(n, name);
        if (n && index >= 0) n = dc_node_item(n, (size_t)index);
    }
    return dc_node_is_null(n) ? NULL : n;
}

int dc_recipe_has(const dc_recipe *r, const char *path)
{
    const dc_value *v = dc_recipe_value(r, path);
    return v ? v->node != NULL : find_node(r, path) != NULL;
}

static const dc_value *value_of(const dc_recipe *r, const char *path, dc_key_type type)
{
    const dc_value *v = dc_recipe_value(r, path);
    DC_ASSERT(v && v->key->type == type);
    return v;
}

int64_t dc_recipe_int(const dc_recipe *r, const char *path) { return value_of(r, path, DC_KEY_INT)->i; }
double dc_recipe_real(const dc_recipe *r, const char *path) { return value_of(r, path, DC_KEY_REAL)->d; }
int dc_recipe_bool(const dc_recipe *r, const char *path) { return value_of(r, path, DC_KEY_BOOL)->i != 0; }
const char *dc_recipe_str(const dc_recipe *r, const char *path) { return value_of(r, path, DC_KEY_STR)->text; }

size_t dc_recipe_count(const dc_recipe *r, const char *path)
{
    const dc_value *v = dc_recipe_value(r, path);
    DC_ASSERT(v && (v->key->type == DC_KEY_STRS || v->key->type == DC_KEY_MAP || v->key->type == DC_KEY_ITEMS));
    return v->n;
}

const char *dc_recipe_str_at(const dc_recipe *r, const char *path, size_t i)
{
    const dc_value *v = value_of(r, path, DC_KEY_STRS);
    DC_ASSERT(i < v->n);
    return v->texts[i];
}

double dc_recipe_map_at(const dc_recipe *r, const char *path, size_t i, const char **key)
{
    const dc_value *v = value_of(r, path, DC_KEY_MAP);
    DC_ASSERT(i < v->n);
    if (key) *key = v->raws[i];
    return v->numbers[i];
}

const char *dc_recipe_place(const dc_recipe *r, const char *path)
{
    const dc_value *v = dc_recipe_value(r, path);
    const dc_node *n = v ? v->node : find_node(r, path);
    return n ? n->place : r->name;
}
