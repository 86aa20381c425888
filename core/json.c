/* core/json.c */
#include "core/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"

static int parse(json_t **out, const char *text, size_t n, size_t flags, const char *name, dc_error *err)
{
    json_error_t at;
    *out = json_loadb(text, n, flags | JSON_ALLOW_NUL | JSON_DECODE_ANY, &at);
    if (*out) return DC_OK;
    if (!at.text[0]) return dc_fail_memory(err, n, name); /* the one failure that jansson has no words for */
    return dc_fail(err, DC_EFORMAT, "%s:%d:%d: %s", name, at.line, at.column, at.text);
}

int dc_json_parse(json_t **out, const char *text, size_t n, const char *name, dc_error *err)
{
    return parse(out, text, n, 0, name, err);
}

int dc_json_load(json_t **out, const char *path, dc_error *err)
{
    dc_map map;
    *out = NULL;
    int rc = dc_map_open(&map, path, err);
    if (rc == DC_OK) rc = parse(out, (const char *)map.data, (size_t)map.size, JSON_REJECT_DUPLICATES, path, err);
    dc_map_close(&map);
    return rc;
}

static void put_string(dc_str *out, const char *text, size_t n)
{
    dc_str_putc(out, '"');
    for (size_t i = 0, from = 0; i <= n; i++) {
        const unsigned char c = i < n ? (unsigned char)text[i] : 0;
        if (i < n && c >= 0x20 && c != '"' && c != '\\') continue;
        dc_str_append(out, text + from, i - from);
        from = i + 1;
        if (i == n) break;
        const char *letter = strchr("\"\"\\\\\bb\ff\nn\rr\tt", c); /* pairs: the character, its escape */
        if (c && letter) dc_str_putf(out, "\\%c", letter[1]);
        else dc_str_putf(out, "\\u%04x", c);
    }
    dc_str_putc(out, '"');
}

/* 15 digits suffice for most decimals that people write; 17 always read back. Numbers below DBL_MIN have fewer digits
 * in them, so all lengths are tried. The result keeps a '.' or an exponent, or it would be read as an integer. */
static void put_real(dc_str *out, double value)
{
    char text[40];
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    dc_str_puts(out, text);
    if (!strpbrk(text, ".e")) dc_str_puts(out, ".0");
}

static void newline(dc_str *out, int indent, int depth)
{
    if (indent > 0) dc_str_putf(out, "\n%*s", indent * depth, "");
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void put_value(dc_str *out, const json_t *value, int indent, int depth);

static void put_object(dc_str *out, const json_t *object, int indent, int depth)
{
    json_t *o = (json_t *)(uintptr_t)object; /* jansson's iterators want it so; nothing is changed */
    const size_t n = json_object_size(object);
    const char **keys = dc_malloc(n * sizeof *keys);
    size_t i = 0;
    if (!keys) {
        out->failed = 1;
        return;
    }
    for (void *at = json_object_iter(o); at; at = json_object_iter_next(o, at)) keys[i++] = json_object_iter_key(at);
    qsort(keys, n, sizeof *keys, by_bytes);
    dc_str_putc(out, '{');
    for (i = 0; i < n; i++) {
        if (i) dc_str_puts(out, indent > 0 ? "," : ", ");
        newline(out, indent, depth + 1);
        put_string(out, keys[i], strlen(keys[i]));
        dc_str_puts(out, ": ");
        put_value(out, json_object_get(object, keys[i]), indent, depth + 1);
    }
    if (n) newline(out, indent, depth);
    dc_str_putc(out, '}');
    dc_free(keys);
}

static void put_array(dc_str *out, const json_t *array, int indent, int depth)
{
    const size_t n = json_array_size(array);
    dc_str_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) dc_str_puts(out, indent > 0 ? "," : ", ");
        newline(out, indent, depth + 1);
        put_value(out, json_array_get(array, i), indent, depth + 1);
    }
    if (n) newline(out, indent, depth);
    dc_str_putc(out, ']');
}

static void put_value(dc_str *out, const json_t *value, int indent, int depth)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: put_object(out, value, indent, depth); break;
    case JSON_ARRAY: put_array(out, value, indent, depth); break;
    case JSON_STRING: put_string(out, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: dc_str_putf(out, "%lld", (long long)json_integer_value(value)); break;
    case JSON_REAL: put_real(out, json_real_value(value)); break;
    case JSON_TRUE: dc_str_puts(out, "true"); break;
    case JSON_FALSE: dc_str_puts(out, "false"); break;
    case JSON_NULL: dc_str_puts(out, "null"); break;
    }
}

void dc_json_dump(dc_str *out, const json_t *value, int indent) { put_value(out, value, indent, 0); }

int dc_json_save(const json_t *value, const char *path, dc_error *err)
{
    dc_str text = {0};
    dc_json_dump(&text, value, 2);
    dc_str_putc(&text, '\n');
    const int rc = text.failed ? dc_fail_memory(err, text.n, path) : dc_file_write(path, text.data, text.n, err);
    dc_str_release(&text);
    return rc;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "text";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: break;
    }
    return "null";
}

/* The member, or NULL where the default holds. */
static int member(const json_t **out, const json_t *object, const char *key, const char *where, dc_error *err)
{
    *out = NULL;
    if (!object || json_is_null(object)) return DC_OK;
    if (!json_is_object(object))
        return dc_fail(err, DC_EFORMAT, "%s must be an object with a key '%s', not %s", where, key, type_name(object));
    const json_t *value = json_object_get(object, key);
    if (value && !json_is_null(value)) *out = value;
    return DC_OK;
}

static int wrong(const json_t *value, const char *key, const char *wanted, const char *where, dc_error *err)
{
    return dc_fail(err, DC_EFORMAT, "%s: '%s' must be %s, not %s", where, key, wanted, type_name(value));
}

int dc_json_i64(int64_t *out, const json_t *object, const char *key, int64_t fallback, const char *where, dc_error *err)
{
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != DC_OK) return rc;
    if (!value) {
        *out = fallback;
    } else if (json_is_integer(value)) {
        *out = json_integer_value(value);
    } else {
        const double real = json_is_real(value) ? json_real_value(value) : 0.5;
        if (real != floor(real) || real < -0x1p63 || real >= 0x1p63) return wrong(value, key, "an integer", where, err);
        *out = (int64_t)real;
    }
    return DC_OK;
}

int dc_json_f64(double *out, const json_t *object, const char *key, double fallback, const char *where, dc_error *err)
{
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != DC_OK) return rc;
    if (value && !json_is_number(value)) return wrong(value, key, "a number", where, err);
    *out = value ? json_number_value(value) : fallback;
    return DC_OK;
}

int dc_json_bool(int *out, const json_t *object, const char *key, int fallback, const char *where, dc_error *err)
{
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != DC_OK) return rc;
    if (value && !json_is_boolean(value)) return wrong(value, key, "true or false", where, err);
    *out = value ? json_is_true(value) : fallback;
    return DC_OK;
}

int dc_json_text(const char **out, const json_t *object, const char *key, const char *fallback, const char *where,
                 dc_error *err)
{
    const json_t *value;
    const int rc = member(&value, object, key, where, err);
    if (rc != DC_OK) return rc;
    if (value && !json_is_string(value)) return wrong(value, key, "text", where, err);
    if (value && strlen(json_string_value(value)) != json_string_length(value))
        return dc_fail(err, DC_EFORMAT, "%s: '%s' must not hold a NUL character", where, key);
    *out = value ? json_string_value(value) : fallback;
    return DC_OK;
}
