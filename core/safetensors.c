/* core/safetensors.c -- reading one safetensors file, or the files that an index names. */
#include "core/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/str.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are read in place: this needs a little-endian machine"
#endif

#define MAX_HEADER ((uint64_t)100000000)

struct dc_st {
    dc_arena arena; /* names of tensors */
    dc_map *maps;
    size_t n_maps, room_maps;
    dc_st_tensor *tensors; /* sorted by name once all files are read */
    size_t n_tensors, room_tensors;
    json_t *metadata; /* of the first file, or NULL */
};

static const struct {
    const char *name;
    dc_dtype type;
} dtypes[] = {{"F64", DC_F64}, {"F32", DC_F32}, {"F16", DC_F16}, {"BF16", DC_BF16}, {"I64", DC_I64},
              {"I32", DC_I32}, {"I16", DC_I16}, {"I8", DC_I8},   {"U8", DC_I8},     {"BOOL", DC_I8}};

/* ---- one entry of a header ---- */

static int bad_entry(const dc_map *map, const char *name, const char *what, dc_error *err)
{
    return dc_fail(err, DC_EFORMAT, "%s: tensor %s: %s", map->path, name, what);
}

static int parse_dtype(dc_st_tensor *t, const dc_map *map, const json_t *entry, dc_error *err)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return bad_entry(map, t->name, "has no dtype", err);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtype, dtypes[i].name)) {
            t->type = dtypes[i].type;
            return DC_OK;
        }
    return dc_fail(err, DC_EUNKNOWN,
                   "%s: tensor %s has dtype %s; decant reads F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL",
                   map->path, t->name, dtype);
}

/* t->shape and t->bytes. */
static int parse_shape(dc_st_tensor *t, const dc_map *map, const json_t *entry, dc_error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape)) return bad_entry(map, t->name, "has no shape", err);
    if (json_array_size(shape) > DC_ST_MAX_DIMS)
        return dc_fail(err, DC_EFORMAT, "%s: tensor %s has %zu dimensions; decant reads at most %d", map->path, t->name,
                       json_array_size(shape), DC_ST_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    int64_t count = 1;
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        t->shape[i] = json_is_integer(dim) ? json_integer_value(dim) : -1;
        if (dc_mul_size(&count, count, t->shape[i]))
            return bad_entry(map, t->name, "has dimensions whose product is no size", err);
    }
    t->bytes = dc_dtype_bytes(t->type, count);
    return t->bytes < 0 ? bad_entry(map, t->name, "has dimensions whose product is no size", err) : DC_OK;
}

/* t->data: [begin, end) within the data, which start at `data`. */
static int parse_offsets(dc_st_tensor *t, const dc_map *map, int64_t data, const json_t *entry, dc_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
        json_integer_value(e) < json_integer_value(b))
        return bad_entry(map, t->name, "data_offsets must be two rising integers", err);
    const int64_t begin = json_integer_value(b), end = json_integer_value(e);
    char place[32], size[32];
    if (end - begin != t->bytes)
        return dc_fail(err, DC_EFORMAT,
                       "%s: tensor %s has %" PRId64 " bytes of data where its dtype and shape need %" PRId64, map->path,
                       t->name, end - begin, t->bytes);
    if (end > map->size - data)
        return dc_fail(
            err, DC_EFORMAT,
            "%s: tensor %s ends at byte %s but the file has %s.\nThe download was cut short: fetch this file again.",
            map->path, t->name, dc_human_count(place, sizeof place, end > INT64_MAX - data ? end : data + end),
            dc_human_count(size, sizeof size, map->size));
    t->data = map->data + data + begin;
    return DC_OK;
}

static int parse_tensor(dc_st *s, const dc_map *map, int64_t data, const char *name, const json_t *entry, dc_error *err)
{
    int rc;
    if (dc_grow(&s->tensors, s->n_tensors, &s->room_tensors, sizeof *s->tensors))
        return dc_fail_memory(err, (s->n_tensors + 1) * sizeof *s->tensors, "the tensors of a checkpoint");
    dc_st_tensor *t = &s->tensors[s->n_tensors];
    *t = (dc_st_tensor){.name = dc_arena_strdup(&s->arena, name), .file = map->path};
    if (!t->name) return dc_fail_memory(err, strlen(name) + 1, "a tensor's name");
    if (!json_is_object(entry)) return bad_entry(map, name, "its entry is no object", err);
    if ((rc = parse_dtype(t, map, entry, err)) || (rc = parse_shape(t, map, entry, err)) ||
        (rc = parse_offsets(t, map, data, entry, err)))
        return rc;
    s->n_tensors++;
    return DC_OK;
}

/* ---- one file ---- */

static int by_place(const void *a, const void *b)
{
    const dc_st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors [first, n_tensors) must cover the data from its first byte to the file's last, once. */
static int check_cover(dc_st *s, size_t first, const dc_map *map, int64_t data, dc_error *err)
{
    const size_t n = s->n_tensors - first;
    dc_st_tensor *t = n ? s->tensors + first : NULL;
    const uint8_t *at = map->data + data;
    if (n) qsort(t, n, sizeof *t, by_place);
    for (size_t i = 0; i < n; at = t[i].data + t[i].bytes, i++)
        if (t[i].data != at)
            return dc_fail(err, DC_EFORMAT, "%s: tensor %s begins at byte %td of the data, %s the end of %s (%td)",
                           map->path, t[i].name, t[i].data - map->data - data, t[i].data < at ? "before" : "behind",
                           i ? t[i - 1].name : "the header", at - map->data - data);
    if (at - map->data != map->size)
        return dc_fail(err, DC_EFORMAT, "%s: the last tensor ends at byte %td but the file has %" PRId64, map->path,
                       at - map->data, map->size);
    return DC_OK;
}

static int parse_header(json_t **out, const dc_map *map, int64_t *data, dc_error *err)
{
    uint64_t n;
    char count[32];
    if (map->size < 8)
        return dc_fail(err, DC_EFORMAT, "%s: %" PRId64 " bytes are too few for a safetensors file", map->path,
                       map->size);
    memcpy(&n, map->data, sizeof n);
    if (n > MAX_HEADER)
        return dc_fail(err, DC_EFORMAT,
                       "%s: not a safetensors file: its header would have %" PRIu64 " bytes (at most 100,000,000)",
                       map->path, n);
    if ((int64_t)n > map->size - 8)
        return dc_fail(
            err, DC_EFORMAT,
            "%s: the file ends at byte %s, within its header.\nThe download was cut short: fetch this file again.",
            map->path, dc_human_count(count, sizeof count, map->size));
    json_error_t at;
    const char *text = (const char *)map->data + 8;
    *data = 8 + (int64_t)n;
    *out = n && *text == '{' ? json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &at) : NULL;
    if (*out) return DC_OK;
    if (!n || *text != '{') return dc_fail(err, DC_EFORMAT, "%s: its header is no JSON object", map->path);
    if (!at.text[0]) return dc_fail_memory(err, n, "a safetensors header");
    return dc_fail(err, DC_EFORMAT, "%s: header:%d:%d: %s", map->path, at.line, at.column, at.text);
}

static int keep_metadata(dc_st *s, const dc_map *map, json_t *metadata, dc_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) return dc_fail(err, DC_EFORMAT, "%s: __metadata__ is no object", map->path);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return dc_fail(err, DC_EFORMAT, "%s: __metadata__: '%s' is no string", map->path, key);
    }
    if (s->n_maps == 1) s->metadata = json_incref(metadata);
    return DC_OK;
}

static int read_file(dc_st *s, const char *path, dc_error *err)
{
    json_t *header = NULL, *entry;
    const char *name;
    int rc;
    int64_t data = 0;
    const size_t first = s->n_tensors;
    if (dc_grow(&s->maps, s->n_maps, &s->room_maps, sizeof *s->maps))
        return dc_fail_memory(err, (s->n_maps + 1) * sizeof *s->maps, "the files of a checkpoint");
    DC_TRY(dc_map_open(&s->maps[s->n_maps], path, err));
    const dc_map *map = &s->maps[s->n_maps++];
    DC_TRY(parse_header(&header, map, &data, err));
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__")) DC_TRY(parse_tensor(s, map, data, name, entry, err));
        else DC_TRY(keep_metadata(s, map, entry, err));
    }
    DC_TRY(check_cover(s, first, map, data, err));
done:
    json_decref(header);
    return rc;
}

/* ---- the set ---- */

static int by_name(const void *a, const void *b)
{
    const dc_st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int sort_by_name(dc_st *s, dc_error *err)
{
    if (s->n_tensors) qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_name);
    for (size_t i = 1; i < s->n_tensors; i++)
        if (!strcmp(s->tensors[i - 1].name, s->tensors[i].name))
            return dc_fail(err, DC_EFORMAT, "tensor %s stands in two files: %s and %s", s->tensors[i].name,
                           s->tensors[i - 1].file, s->tensors[i].file);
    return DC_OK;
}

static int read_listed_file(dc_st *s, const char *dir, const char *index, const char *name, dc_error *err)
{
    if (!*name || strchr(name, '/') || !strcmp(name, ".."))
        return dc_fail(err, DC_EFORMAT, "%s: '%s' is not the name of a file beside it", index, name);
    for (size_t i = 0; i < s->n_maps; i++)
        if (!strcmp(dc_path_base(s->maps[i].path), name)) return DC_OK;
    char *path = dc_path_join(dir, name);
    if (!path) return dc_fail_memory(err, strlen(dir) + strlen(name), "a path");
    const int rc = read_file(s, path, err);
    dc_free(path);
    return rc;
}

/* The files of an index, each once, then every name of the index in the file that it says. */
static int read_index(dc_st *s, const char *dir, const char *path, dc_error *err)
{
    json_t *index = NULL, *map, *value;
    const char *name;
    int rc;
    DC_TRY(dc_json_load(&index, path, err));
    map = json_object_get(index, "weight_map");
    if (!json_is_object(map)) DC_TRY(dc_fail(err, DC_EFORMAT, "%s: has no object 'weight_map'", path));
    json_object_foreach(map, name, value)
    {
        if (!json_is_string(value))
            DC_TRY(dc_fail(err, DC_EFORMAT, "%s: the file of tensor %s is no string", path, name));
        DC_TRY(read_listed_file(s, dir, path, json_string_value(value), err));
    }
    DC_TRY(sort_by_name(s, err));
    json_object_foreach(map, name, value)
    {
        const dc_st_tensor *t = dc_st_find(s, name);
        if (!t || strcmp(dc_path_base(t->file), json_string_value(value)))
            DC_TRY(dc_fail(err, DC_EMISMATCH, "%s: tensor %s should be in %s, but is %s%s", path, name,
                           json_string_value(value), t ? "in " : "not there", t ? dc_path_base(t->file) : ""));
    }
done:
    json_decref(index);
    return rc;
}

static int read_dir(dc_st *s, const char *dir, dc_error *err)
{
    char *one = dc_path_join(dir, "model.safetensors"), *index = dc_path_join(dir, "model.safetensors.index.json");
    char *pickle = dc_path_join(dir, "pytorch_model.bin");
    dc_path_info of_one, of_index;
    int rc = DC_OK;
    if (!one || !index || !pickle) {
        rc = dc_fail_memory(err, strlen(dir), "a path");
        goto done;
    }
    DC_TRY(dc_path_look(&of_one, one, err));
    DC_TRY(dc_path_look(&of_index, index, err));
    if (of_one.exists) rc = read_file(s, one, err);
    else if (of_index.exists) rc = read_index(s, dir, index, err);
    else
        rc = dc_fail(err, DC_EIO, "%s: holds neither model.safetensors nor model.safetensors.index.json%s", dir,
                     dc_path_exists(pickle)
                         ? ".\npytorch_model.bin is a pickle, which is not read: save the model as safetensors"
                         : "");
done:
    dc_free(one);
    dc_free(index);
    dc_free(pickle);
    return rc;
}

int dc_st_open(dc_st **out, const char *path, dc_error *err)
{
    int rc;
    dc_st *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a safetensors reader");
    DC_TRY(dc_path_is_dir(path) ? read_dir(s, path, err) : read_file(s, path, err));
    DC_TRY(sort_by_name(s, err));
    *out = s;
    return DC_OK;
done:
    dc_st_close(s);
    return rc;
}

int64_t dc_st_n(const dc_st *s) { return (int64_t)s->n_tensors; }

const dc_st_tensor *dc_st_at(const dc_st *s, int64_t i)
{
    DC_ASSERT(i >= 0 && (size_t)i < s->n_tensors);
    return &s->tensors[i];
}

const dc_st_tensor *dc_st_find(const dc_st *s, const char *name)
{
    const dc_st_tensor key = {.name = name};
    return s->n_tensors ? bsearch(&key, s->tensors, s->n_tensors, sizeof key, by_name) : NULL;
}

const char *dc_st_metadata(const dc_st *s, const char *key)
{
    return json_string_value(json_object_get(s->metadata, key));
}

void dc_st_close(dc_st *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_maps; i++) dc_map_close(&s->maps[i]);
    dc_free(s->maps);
    dc_free(s->tensors);
    json_decref(s->metadata);
    dc_arena_release(&s->arena);
    dc_free(s);
}
