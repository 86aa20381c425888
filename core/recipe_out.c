/* core/recipe_out.c -- a resolved recipe as JSON, as hashes of stages, and beside the one a run was started with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/recipe_internal.h"

/* ---- JSON ---- paths are written as given: with "{recipe_dir}", so that the text does not depend on where the run was started. */

static json_t *json_of(const dc_value *v)
{
    json_t *out = NULL;
    switch (v->key->type) {
    case DC_KEY_INT: return json_integer(v->i);
    case DC_KEY_REAL: return json_real(v->d);
    case DC_KEY_BOOL: return json_boolean(v->i);
    case DC_KEY_STR: return json_string(v->raw);
    case DC_KEY_STRS:
        out = json_array();
        for (size_t i = 0; i < v->n; i++) {
            const int integers = v->key->low < v->key->high;
            if (json_array_append_new(out,
                                      integers ? json_integer(strtoll(v->raws[i], NULL, 10)) : json_string(v->raws[i])))
                goto failed;
        }
        return out;
    case DC_KEY_MAP:
        out = json_object();
        for (size_t i = 0; i < v->n; i++)
            if (json_object_set_new(out, v->raws[i], json_real(v->numbers[i]))) goto failed;
        return out;
    case DC_KEY_ITEMS:
        out = json_array();
        for (size_t i = 0; i < v->n; i++)
            if (json_array_append_new(out, json_object())) goto failed;
        return out;
    }
failed:
    json_decref(out);
    return NULL;
}

/* The segment of a path, its index or -1, and what follows; NULL at the end. */
static const char *segment(char name[128], long *index, const char *path)
{
    const size_t n = strcspn(path, ".[");
    DC_ASSERT(n && n < 128);
    memcpy(name, path, n);
    name[n] = 0;
    path += n;
    *index = -1;
    if (*path == '[') {
        char *end;
        *index = strtol(path + 1, &end, 10);
        path = end + 1;
    }
    return *path == '.' ? path + 1 : NULL;
}

/* Puts `value` (whose reference it takes) at `path`; objects on the way are made. The items of a list are there already. */
static int put_at(json_t *object, const char *path, json_t *value)
{
    char name[128];
    long index;
    while ((path = segment(name, &index, path))) {
        json_t *next = json_object_get(object, name);
        if (!next && json_object_set_new(object, name, next = json_object())) {
            json_decref(value);
            return -1;
        }
        object = index < 0 ? next : json_array_get(next, (size_t)index);
    }
    return json_object_set_new(object, name, value);
}

static const json_t *get_at(const json_t *object, const char *path)
{
    while (path && object) {
        char name[128];
        long index;
        path = segment(name, &index, path);
        object = json_object_get(object, name);
        if (index >= 0) object = json_array_get(object, (size_t)index);
    }
    return json_is_null(object) ? NULL : object;
}

json_t *dc_recipe_json(const dc_recipe *r)
{
    json_t *out = json_object();
    for (size_t i = 0; out && i < r->n_values; i++) {
        if (!r->values[i].set || !put_at(out, r->values[i].path, json_of(&r->values[i]))) continue;
        json_decref(out);
        out = NULL;
    }
    return out;
}

/* ---- hashes ---- */

static void put_value(dc_str *s, const dc_value *v)
{
    dc_str_putf(s, "%s\n%d\n", v->path, v->set);
    if (!v->set) return;
    switch (v->key->type) {
    case DC_KEY_INT:
    case DC_KEY_BOOL: dc_str_putf(s, "%lld\n", (long long)v->i); break;
    case DC_KEY_REAL: dc_str_putf(s, "%.17g\n", v->d); break;
    case DC_KEY_STR: dc_str_putf(s, "%zu:%s\n", strlen(v->raw), v->raw); break;
    default:
        dc_str_putf(s, "%zu\n", v->n);
        for (size_t i = 0; i < v->n && v->raws; i++) dc_str_putf(s, "%zu:%s\n", strlen(v->raws[i]), v->raws[i]);
        for (size_t i = 0; i < v->n && v->numbers; i++) dc_str_putf(s, "%.17g\n", v->numbers[i]);
    }
}

dc_hash dc_recipe_hash(const dc_recipe *r, char stage)
{
    dc_str s = {0};
    dc_hash hash = {""}; /* equal to no stage's, when memory is out */
    for (size_t i = 0; i < r->n_values; i++)
        if (strchr(r->values[i].key->stages, stage)) put_value(&s, &r->values[i]);
    if (!s.failed) hash = dc_hash_bytes(dc_str_text(&s), s.n);
    dc_str_release(&s);
    return hash;
}

/* ---- resuming ---- */

/* A value that neither file nor command line gave counts as unchanged where the earlier run did not know the key yet. */
static int same(const dc_value *v, const json_t *now, const json_t *before)
{
    if (!before) return !now || !v->node;
    if (!now) return 0;
    if (v->key->type == DC_KEY_ITEMS) return json_array_size(now) == json_array_size(before);
    if (json_is_number(now) && json_is_number(before)) return json_number_value(now) == json_number_value(before);
    return json_equal(now, before);
}

static void show(char *out, size_t room, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12) | JSON_COMPACT) : NULL;
    if (json_is_array(value) && json_is_object(json_array_get(value, 0)))
        snprintf(out, room, "a list of %zu", json_array_size(value));
    else snprintf(out, room, "%.200s", text ? text : "not given");
    free(text);
}

int dc_recipe_resumable(const dc_recipe *r, const char *stages, const json_t *before, dc_error *err)
{
    int rc = DC_OK;
    json_t *now = dc_recipe_json(r);
    if (!now) return dc_fail_memory(err, sizeof *r, "a recipe");
    for (size_t i = 0; i < r->n_values && !rc; i++) {
        const dc_value *v = &r->values[i];
        const json_t *a = get_at(now, v->path), *b = get_at(before, v->path);
        if (v->key->change == DC_CHANGE_OK || !strpbrk(v->key->stages, stages) || same(v, a, b)) continue;
        char new_text[256], old_text[256];
        show(new_text, sizeof new_text, a);
        show(old_text, sizeof old_text, b);
        rc = dc_fail(err, DC_EMISMATCH,
                     "%s: %s is %s, but the run in this output_dir was started with %s.\n"
                     "Change it back to go on with that run, or begin anew with --restart.",
                     dc_recipe_place(r, v->path), v->path, new_text, old_text);
    }
    json_decref(now);
    return rc;
}
