/* core/recipe_yaml.c -- YAML text to a tree of values that know their places, by libyaml's event parser. */
#include "core/recipe_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 32, MAX_NODES = 5000 };

typedef struct reader {
    yaml_parser_t parser;
    dc_arena *arena;
    const char *name, *place; /* as dc_node_parse */
    const char *text;
    int depth, nodes;
    dc_error *err;
} reader;

/* ---- nodes ---- */

dc_node *dc_node_scalar(dc_arena *arena, const char *text, const char *place)
{
    dc_node *n = dc_arena_alloc(arena, sizeof *n);
    if (!n) return NULL;
    *n = (dc_node){
        .kind = DC_NODE_SCALAR, .plain = 1, .text = dc_arena_strdup(arena, text), .place = place, .key_place = place};
    return n->text ? n : NULL;
}

void dc_node_append(dc_node *parent, dc_node *child)
{
    child->next = NULL;
    if (parent->last) parent->last->next = child;
    else parent->child = child;
    parent->last = child;
}

dc_node *dc_node_get(const dc_node *map, const char *key)
{
    if (!map || map->kind != DC_NODE_MAP) return NULL;
    for (dc_node *n = map->child; n; n = n->next)
        if (!strcmp(n->key, key)) return n;
    return NULL;
}

dc_node *dc_node_item(const dc_node *list, size_t i)
{
    if (list->kind != DC_NODE_LIST) return i ? NULL : (dc_node *)(uintptr_t)list; /* the tree itself is never const */
    dc_node *n = list->child;
    for (; n && i; i--) n = n->next;
    return n;
}

size_t dc_node_count(const dc_node *list)
{
    size_t n = 0;
    if (list->kind != DC_NODE_LIST) return 1;
    for (const dc_node *c = list->child; c; c = c->next) n++;
    return n;
}

int dc_node_is_null(const dc_node *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (!n) return 1;
    if (n->kind != DC_NODE_SCALAR || !n->plain) return 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(n->text, words[i])) return 1;
    return 0;
}

/* ---- reading ---- */

/* Fails at a mark. */
static int fail_at(reader *r, yaml_mark_t mark, const char *what)
{
    if (r->place) return dc_fail(r->err, DC_EUSAGE, "%s: %s", r->place, what);
    return dc_fail(r->err, DC_EUSAGE, "%s:%zu:%zu: %s", r->name, mark.line + 1, mark.column + 1, what);
}

static int next_event(reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event)) return DC_OK;
    const yaml_parser_t *p = &r->parser;
    char what[512];
    if (p->error == YAML_MEMORY_ERROR) return dc_fail_memory(r->err, sizeof *p, "a YAML parser");
    if (p->error == YAML_READER_ERROR) {
        snprintf(what, sizeof what, "not valid UTF-8 text: %s at byte %zu", p->problem, p->problem_offset);
        return dc_fail(r->err, DC_EUSAGE, "%s: %s", r->place ? r->place : r->name, what);
    }
    snprintf(what, sizeof what, "%s%s%s%s", p->context ? p->context : "", p->context ? ": " : "", p->problem,
             strstr(r->text, ": {recipe_dir}") ? " (a value that begins with { needs quotes: \"{recipe_dir}/...\")"
                                               : "");
    return fail_at(r, p->problem_mark, what);
}

static const char *place_of(reader *r, yaml_mark_t mark)
{
    char text[512];
    if (r->place) return r->place;
    snprintf(text, sizeof text, "%.480s:%zu:%zu", r->name, mark.line + 1, mark.column + 1);
    return dc_arena_strdup(r->arena, text);
}

static int new_node(reader *r, dc_node **out, dc_node_kind kind, yaml_mark_t mark)
{
    if (++r->nodes > MAX_NODES) return fail_at(r, mark, "more values than a recipe can have");
    dc_node *n = dc_arena_alloc(r->arena, sizeof *n);
    const char *place = place_of(r, mark);
    if (!n || !place) return dc_fail_memory(r->err, sizeof *n, "a recipe");
    *n = (dc_node){.kind = kind, .place = place, .key_place = place};
    if (!r->place) n->line = (int)mark.line + 1, n->column = (int)mark.column + 1;
    *out = n;
    return DC_OK;
}

static int read_node(reader *r, dc_node **out, const yaml_event_t *event);

static int read_scalar(reader *r, dc_node *n, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return fail_at(r, event->start_mark, "a text holds the character U+0000");
    n->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = dc_arena_strdup(r->arena, text);
    return n->text ? DC_OK : dc_fail_memory(r->err, event->data.scalar.length, "a recipe");
}

static int read_list(reader *r, dc_node *list)
{
    yaml_event_t event;
    int rc = DC_OK, more = 1;
    while (more && !rc) {
        dc_node *item = NULL;
        if ((rc = next_event(r, &event))) break;
        if (event.type == YAML_SEQUENCE_END_EVENT) more = 0;
        else if (!(rc = read_node(r, &item, &event))) dc_node_append(list, item);
        yaml_event_delete(&event);
    }
    return rc;
}

/* One "key: value"; *more is 0 at the map's end. */
static int read_pair(reader *r, dc_node *map, int *more)
{
    yaml_event_t event;
    dc_node *key = NULL, *value = NULL;
    int rc = next_event(r, &event);
    if (rc) return rc;
    const yaml_mark_t mark = event.start_mark;
    *more = event.type != YAML_MAPPING_END_EVENT;
    if (*more) rc = read_node(r, &key, &event);
    yaml_event_delete(&event);
    if (rc || !*more) return rc;
    if (key->kind != DC_NODE_SCALAR) return fail_at(r, mark, "a key must be a plain word");
    if ((rc = next_event(r, &event))) return rc;
    rc = read_node(r, &value, &event);
    yaml_event_delete(&event);
    if (rc) return rc;
    value->key = value->given = key->text;
    value->key_line = key->line, value->key_column = key->column, value->key_place = key->place;
    dc_node_append(map, value);
    return DC_OK;
}

static int read_map(reader *r, dc_node *map)
{
    int rc = DC_OK, more = 1;
    while (more && !rc) rc = read_pair(r, map, &more);
    return rc;
}

/* The value that begins with `event`, which stays the caller's. */
static int read_node(reader *r, dc_node **out, const yaml_event_t *event)
{
    int rc;
    const yaml_char_t *anchor, *tag;
    dc_node_kind kind;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor, tag = event->data.scalar.tag, kind = DC_NODE_SCALAR;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor, tag = event->data.sequence_start.tag, kind = DC_NODE_LIST;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor, tag = event->data.mapping_start.tag, kind = DC_NODE_MAP;
        break;
    default: return fail_at(r, event->start_mark, "YAML aliases (*name) are not part of a recipe");
    }
    if (anchor) return fail_at(r, event->start_mark, "YAML anchors (&name) are not part of a recipe");
    if (tag) return fail_at(r, event->start_mark, "YAML tags (!name) are not part of a recipe");
    if ((rc = new_node(r, out, kind, event->start_mark))) return rc;
    if (kind == DC_NODE_SCALAR) return read_scalar(r, *out, event);
    if (++r->depth > MAX_DEPTH) return fail_at(r, event->start_mark, "nested too deeply");
    rc = kind == DC_NODE_LIST ? read_list(r, *out) : read_map(r, *out);
    r->depth--;
    return rc;
}

/* The stream's start, one document or none, and its end. */
static int read_document(reader *r, dc_node **out)
{
    yaml_event_t event;
    yaml_event_type_t type = YAML_NO_EVENT;
    int rc = DC_OK, documents = 0;
    while (!rc && type != YAML_STREAM_END_EVENT) {
        if ((rc = next_event(r, &event))) return rc;
        type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT && documents++)
            rc = fail_at(r, event.start_mark, "a recipe is one YAML document; here a second one begins");
        else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT ||
                 type == YAML_ALIAS_EVENT)
            rc = read_node(r, out, &event);
        yaml_event_delete(&event);
    }
    return rc;
}

int dc_node_parse(dc_node **out, dc_arena *arena, const char *text, size_t n, const char *name, const char *place,
                  dc_error *err)
{
    reader r = {.arena = arena, .name = name, .place = place, .text = text, .err = err};
    *out = NULL;
    if (!yaml_parser_initialize(&r.parser)) return dc_fail_memory(err, sizeof r.parser, "a YAML parser");
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    const int rc = read_document(&r, out);
    yaml_parser_delete(&r.parser);
    return rc;
}
