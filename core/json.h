/* core/json.h -- JSON by jansson: reading with a place in every message, writing atomically, typed access.
 *
 * Text may hold NUL characters (\u0000). Duplicate keys are refused in files that decant relies on and taken as the last one in
 * data rows, as Python does. jansson allocates by itself, out of reach of dc_alloc_fail_at: its lexer drops the character for
 * which it gets no memory and reads on past the token. */
#ifndef DC_CORE_JSON_H
#define DC_CORE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `name` stands in messages as "NAME:LINE:COLUMN: ...". *out is a new reference, NULL on failure. Any JSON value may stand
 * at the top. dc_json_parse takes the last of duplicate keys, dc_json_load refuses them. */
int dc_json_parse(json_t **out, const char *text, size_t n, const char *name, dc_error *err);
int dc_json_load(json_t **out, const char *path, dc_error *err);
/* Two-space indent, keys sorted, a newline at the end; numbers as shortest text that reads back the same. */
int dc_json_save(const json_t *value, const char *path, dc_error *err);
/* The same text appended to out, without the newline; indent 0 gives one line. Check out->failed. */
void dc_json_dump(dc_str *out, const json_t *value, int indent);

/* A member of `object`, with a default when the key is absent or null; another type than wanted is DC_EFORMAT naming `where`
 * and the key; *out is then untouched. An `object` that is NULL or null has no keys. Integers are taken for reals, whole reals for
 * integers. Text is borrowed from the object, and refused when it holds a NUL character. */
int dc_json_i64(int64_t *out, const json_t *object, const char *key, int64_t fallback, const char *where,
                dc_error *err);
int dc_json_f64(double *out, const json_t *object, const char *key, double fallback, const char *where, dc_error *err);
int dc_json_bool(int *out, const json_t *object, const char *key, int fallback, const char *where, dc_error *err);
int dc_json_text(const char **out, const json_t *object, const char *key, const char *fallback, const char *where,
                 dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
