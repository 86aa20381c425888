/* core/gguf.c -- reading GGUF: the whole of a file's tables is checked once, while it is opened. */
#include "core/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF values are read in place: this needs a little-endian machine"
#endif

enum {
    MAX_NAME = 63,         /* bytes of a tensor's name: ggml keeps 64 with the 0 */
    MAX_PARTS = 99999,     /* of a split file: its names have five digits */
    MIN_KV_BYTES = 14,     /* length, one byte of key, type, one byte of value */
    MIN_TENSOR_BYTES = 25, /* length, one byte of name, count of dimensions, type, offset */
    DEFAULT_ALIGNMENT = 32
};
#define MAX_TEXT ((uint64_t)1 << 30) /* bytes of a string, and items of an array */

/* Open addressing over the names of keys or tensors; a slot holds index + 1. */
typedef struct name_index {
    uint32_t *slots;
    size_t n; /* a power of two, at least twice the names */
} name_index;

struct dc_gguf {
    dc_arena arena;
    dc_map map;
    dc_gguf_kv *kv;
    int64_t n_kv;
    dc_gguf_tensor *tensors;
    int64_t n_tensors;
    name_index kv_index, tensor_index;
    dc_gguf **parts; /* the second and later files of a split one; they own the names of their tensors */
    int64_t n_parts;
};

/* One file while it is parsed. */
typedef struct cursor {
    const uint8_t *p, *end;
    const dc_map *map;
    dc_error *err;
} cursor;

static const struct {
    const char *name;
    int bytes; /* 0: of its own length */
} types[] = {
    [DC_GGUF_U8] = {"u8", 1},       [DC_GGUF_I8] = {"i8", 1},     [DC_GGUF_U16] = {"u16", 2},
    [DC_GGUF_I16] = {"i16", 2},     [DC_GGUF_U32] = {"u32", 4},   [DC_GGUF_I32] = {"i32", 4},
    [DC_GGUF_F32] = {"f32", 4},     [DC_GGUF_BOOL] = {"bool", 1}, [DC_GGUF_STRING] = {"string", 0},
    [DC_GGUF_ARRAY] = {"array", 0}, [DC_GGUF_U64] = {"u64", 8},   [DC_GGUF_I64] = {"i64", 8},
    [DC_GGUF_F64] = {"f64", 8},
};
enum { N_TYPES = sizeof types / sizeof *types };

const char *dc_gguf_type_name(dc_gguf_type type) { return (unsigned)type < N_TYPES ? types[type].name : "unknown"; }

/* ---- the index of names ---- */

static uint64_t name_hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h ^ h >> 32;
}

static int index_init(name_index *index, int64_t names, dc_error *err)
{
    size_t n = 16;
    while (n < 2 * (size_t)names) n *= 2;
    uint32_t *slots = dc_calloc(n, sizeof *slots);
    if (!slots) return dc_fail_memory(err, n * sizeof *slots, "the index of a GGUF file's names");
    dc_free(index->slots);
    *index = (name_index){slots, n};
    return DC_OK;
}

/* The slot of `name`, or the empty one where it would stand. `names` strides over structs that begin with the name. */
static uint32_t *index_slot(const name_index *index, const char *name, const void *names, size_t stride)
{
    for (size_t i = (size_t)name_hash(name);; i++) {
        uint32_t *slot = &index->slots[i & (index->n - 1)];
        if (!*slot) return slot;
        const char *const *other = (const void *)((const char *)names + (size_t)(*slot - 1) * stride);
        if (!strcmp(*other, name)) return slot;
    }
}

/* ---- taking values off the file ---- */

static int64_t position(const cursor *c) { return c->p - c->map->data; }

static int ends_early(const cursor *c, const char *what)
{
    char size[32];
    return dc_fail(c->err, DC_EFORMAT,
                   "%s: the file ends at byte %s, within %s.\nThe download was cut short: fetch this file again.",
                   c->map->path, dc_human_count(size, sizeof size, c->map->size), what);
}

static int take(cursor *c, void *out, size_t n, const char *what)
{
    if ((size_t)(c->end - c->p) < n) return ends_early(c, what);
    memcpy(out, c->p, n);
    c->p += n;
    return DC_OK;
}

static int take_text(cursor *c, dc_gguf_text *out, const char *what)
{
    uint64_t n = 0;
    if (take(c, &n, sizeof n, what)) return DC_EFORMAT;
    if (n > MAX_TEXT)
        return dc_fail(c->err, DC_EFORMAT,
                       "%s: %s at byte %" PRId64 " claims %" PRIu64 " bytes; a GGUF string has at most 2^30",
                       c->map->path, what, position(c), n);
    if ((uint64_t)(c->end - c->p) < n) return ends_early(c, what);
    *out = (dc_gguf_text){(const char *)c->p, (size_t)n};
    c->p += n;
    return DC_OK;
}

/* A key or a tensor's name: 0-ended, in the arena. */
static int take_name(dc_gguf *g, cursor *c, const char **out, const char *what)
{
    dc_gguf_text text = {NULL, 0};
    int rc;
    if ((rc = take_text(c, &text, what))) return rc;
    if (!text.n)
        return dc_fail(c->err, DC_EFORMAT, "%s: %s at byte %" PRId64 " is empty", c->map->path, what, position(c));
    if (memchr(text.data, 0, text.n))
        return dc_fail(c->err, DC_EFORMAT, "%s: %s at byte %" PRId64 " holds a 0 byte", c->map->path, what,
                       position(c));
    *out = dc_arena_strndup(&g->arena, text.data, text.n);
    return *out ? DC_OK : dc_fail_memory(c->err, text.n + 1, "a name in a GGUF file");
}

/* ---- keys ---- */

static int take_texts(dc_gguf *g, cursor *c, dc_gguf_kv *kv)
{
    /* Each string takes 8 bytes of the file at least, so the table is at most twice as large as the file. */
    if (kv->n > (c->end - c->p) / 8) return ends_early(c, kv->key);
    dc_gguf_text *texts = dc_arena_alloc(&g->arena, (size_t)kv->n * sizeof *texts + 1);
    if (!texts) return dc_fail_memory(c->err, (size_t)kv->n * sizeof *texts, kv->key);
    for (int64_t i = 0; i < kv->n; i++) {
        const int rc = take_text(c, &texts[i], kv->key);
        if (rc) return rc;
    }
    kv->texts = texts;
    return DC_OK;
}

static int take_type(cursor *c, dc_gguf_type *out, const char *key)
{
    int32_t type = -1;
    if (take(c, &type, sizeof type, key)) return DC_EFORMAT;
    if (type < 0 || type >= N_TYPES)
        return dc_fail(c->err, DC_EFORMAT, "%s: key '%s' has the unknown value type %" PRId32, c->map->path, key, type);
    *out = (dc_gguf_type)type;
    return DC_OK;
}

static int take_value(dc_gguf *g, cursor *c, dc_gguf_kv *kv)
{
    int rc;
    if ((rc = take_type(c, &kv->type, kv->key))) return rc;
    kv->item = kv->type;
    kv->n = 1;
    if (kv->type == DC_GGUF_ARRAY) {
        uint64_t n = 0;
        if ((rc = take_type(c, &kv->item, kv->key))) return rc;
        if (kv->item == DC_GGUF_ARRAY)
            return dc_fail(c->err, DC_EFORMAT, "%s: key '%s' is an array of arrays, which GGUF readers refuse",
                           c->map->path, kv->key);
        if ((rc = take(c, &n, sizeof n, kv->key))) return rc;
        if (n > MAX_TEXT)
            return dc_fail(c->err, DC_EFORMAT, "%s: key '%s' claims %" PRIu64 " items; a GGUF array has at most 2^30",
                           c->map->path, kv->key, n);
        kv->n = (int64_t)n;
    }
    kv->data = c->p;
    if (kv->item == DC_GGUF_STRING) return take_texts(g, c, kv);
    const int64_t bytes = kv->n * types[kv->item].bytes;
    if (c->end - c->p < bytes) return ends_early(c, kv->key);
    c->p += bytes;
    return DC_OK;
}

static int take_kvs(dc_gguf *g, cursor *c, int64_t n)
{
    int rc;
    if ((rc = index_init(&g->kv_index, n, c->err))) return rc;
    g->kv = dc_calloc((size_t)n + 1, sizeof *g->kv);
    if (!g->kv) return dc_fail_memory(c->err, (size_t)n * sizeof *g->kv, "the keys of a GGUF file");
    for (int64_t i = 0; i < n; i++) {
        dc_gguf_kv *kv = &g->kv[i];
        if ((rc = take_name(g, c, &kv->key, "a key"))) return rc;
        uint32_t *slot = index_slot(&g->kv_index, kv->key, g->kv, sizeof *kv);
        if (*slot) return dc_fail(c->err, DC_EFORMAT, "%s: key '%s' stands there twice", c->map->path, kv->key);
        if ((rc = take_value(g, c, kv))) return rc;
        *slot = (uint32_t)i + 1;
        g->n_kv = i + 1;
    }
    return DC_OK;
}

/* ---- tensors ---- */

static int tensor_fail(const cursor *c, const dc_gguf_tensor *t, const char *what)
{
    return dc_fail(c->err, DC_EFORMAT, "%s: tensor %s %s", c->map->path, t->name, what);
}

/* Everything of a tensor's entry but its place in the data. */
static int take_tensor(dc_gguf *g, cursor *c, dc_gguf_tensor *t, uint64_t *offset)
{
    static const char what[] = "the table of tensors";
    uint32_t n_dims = 0;
    int32_t type = -1;
    int rc;
    if ((rc = take_name(g, c, &t->name, "a tensor's name"))) return rc;
    if (strlen(t->name) > MAX_NAME) return tensor_fail(c, t, "has a name of more than 63 bytes");
    if ((rc = take(c, &n_dims, sizeof n_dims, what))) return rc;
    if (n_dims > 4)
        return dc_fail(c->err, DC_EFORMAT, "%s: tensor %s has %" PRIu32 " dimensions; GGUF has at most 4", c->map->path,
                       t->name, n_dims);
    t->n_dims = (int)n_dims;
    int64_t count = 1;
    for (int i = 0; i < 4; i++) {
        t->ne[i] = 1;
        if (i < t->n_dims && (rc = take(c, &t->ne[i], sizeof t->ne[i], what))) return rc;
        if (dc_mul_size(&count, count, t->ne[i])) return tensor_fail(c, t, "has dimensions whose product is no size");
    }
    if ((rc = take(c, &type, sizeof type, what))) return rc;
    const dc_dtype_info *info = dc_dtype_get(type);
    if (!info->name)
        return dc_fail(c->err, DC_EFORMAT, "%s: tensor %s has the unknown element type %" PRId32, c->map->path, t->name,
                       type);
    t->type = (dc_dtype)type;
    if (t->ne[0] % info->block)
        return dc_fail(c->err, DC_EFORMAT,
                       "%s: tensor %s is %s with rows of %" PRId64 " elements, no multiple of the block of %" PRId32,
                       c->map->path, t->name, info->name, t->ne[0], info->block);
    t->bytes = dc_dtype_bytes(t->type, count);
    if (t->bytes < 0) return tensor_fail(c, t, "has dimensions whose product is no size");
    return take(c, offset, sizeof *offset, what);
}

static int find_alignment(const dc_gguf *g, const cursor *c, int64_t *out)
{
    *out = DEFAULT_ALIGNMENT;
    const dc_gguf_kv *kv = dc_gguf_find(g, "general.alignment");
    if (!kv) return DC_OK;
    if (kv->type != DC_GGUF_U32)
        return dc_fail(c->err, DC_EFORMAT, "%s: key 'general.alignment' must be a u32, not %s", c->map->path,
                       dc_gguf_type_name(kv->type));
    *out = dc_gguf_item_i64(kv, 0);
    if (*out <= 0 || (*out & (*out - 1)))
        return dc_fail(c->err, DC_EFORMAT, "%s: general.alignment is %" PRId64 ", not a power of two", c->map->path,
                       *out);
    return DC_OK;
}

static int64_t padded(int64_t n, int64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }

/* Gives every tensor its place in the data, which must hold them all. No sum overflows: take_tensors has checked them. */
static int place_tensors(dc_gguf *g, const cursor *c, int64_t alignment)
{
    const dc_gguf_tensor *cut = NULL;
    int64_t at = padded(position(c), alignment), cut_end = 0;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        dc_gguf_tensor *t = &g->tensors[i];
        if (t->bytes > c->map->size - at && t->bytes && !cut) cut = t, cut_end = at + t->bytes;
        if (!cut) t->data = c->map->data + (t->bytes ? at : 0);
        at += padded(t->bytes, alignment);
    }
    if (!cut) return DC_OK;
    char end[32], size[32], expected[32];
    return dc_fail(c->err, DC_EFORMAT,
                   "%s: tensor %s ends at byte %s but the file has %s.\n"
                   "The download was cut short: fetch this file again (expected size %s bytes).",
                   c->map->path, cut->name, dc_human_count(end, sizeof end, cut_end),
                   dc_human_count(size, sizeof size, c->map->size), dc_human_count(expected, sizeof expected, at));
}

static int take_tensors(dc_gguf *g, cursor *c, int64_t n)
{
    int64_t alignment, sum = 0, size;
    int rc;
    if ((rc = find_alignment(g, c, &alignment)) || (rc = index_init(&g->tensor_index, n, c->err))) return rc;
    g->tensors = dc_calloc((size_t)n + 1, sizeof *g->tensors);
    if (!g->tensors) return dc_fail_memory(c->err, (size_t)n * sizeof *g->tensors, "the tensors of a GGUF file");
    for (int64_t i = 0; i < n; i++) {
        dc_gguf_tensor *t = &g->tensors[i];
        uint64_t offset = 0;
        if ((rc = take_tensor(g, c, t, &offset))) return rc;
        uint32_t *slot = index_slot(&g->tensor_index, t->name, g->tensors, sizeof *t);
        if (*slot) return tensor_fail(c, t, "stands there twice");
        if (offset != (uint64_t)sum)
            return dc_fail(c->err, DC_EFORMAT,
                           "%s: tensor %s stands at offset %" PRIu64 " where %" PRId64
                           " was expected: data have no gaps and no other order",
                           c->map->path, t->name, offset, sum);
        /* The file's own length is added too, so that places in the file do not overflow either. */
        if (dc_add_size(&size, t->bytes, alignment) || dc_add_size(&sum, sum, padded(t->bytes, alignment)) ||
            dc_add_size(&size, sum, c->map->size + 2 * alignment))
            return tensor_fail(c, t, "has dimensions whose product is no size");
        *slot = (uint32_t)i + 1;
        g->n_tensors = i + 1;
    }
    return place_tensors(g, c, alignment);
}

/* ---- files ---- */

static int take_counts(cursor *c, int64_t *n_tensors, int64_t *n_kv)
{
    static const char what[] = "the header";
    char magic[4] = {0};
    uint32_t version = 0;
    int rc;
    if ((rc = take(c, magic, 4, what))) return rc;
    if (memcmp(magic, "GGUF", 4))
        return dc_fail(c->err, DC_EFORMAT, "%s: not a GGUF file: it does not begin with 'GGUF'", c->map->path);
    if ((rc = take(c, &version, sizeof version, what))) return rc;
    if (version && !(version & 0xffff))
        return dc_fail(c->err, DC_EFORMAT, "%s: a big-endian GGUF file; convert it to little-endian first",
                       c->map->path);
    if (version != 2 && version != 3)
        return dc_fail(c->err, DC_EFORMAT, "%s: GGUF version %" PRIu32 "; versions 2 and 3 are read", c->map->path,
                       version);
    if ((rc = take(c, n_tensors, sizeof *n_tensors, what)) || (rc = take(c, n_kv, sizeof *n_kv, what))) return rc;
    const int64_t rest = c->end - c->p;
    if (*n_tensors < 0 || *n_tensors > rest / MIN_TENSOR_BYTES || *n_kv < 0 || *n_kv > rest / MIN_KV_BYTES ||
        *n_tensors > INT32_MAX || *n_kv > INT32_MAX)
        return dc_fail(c->err, DC_EFORMAT,
                       "%s: claims %" PRId64 " tensors and %" PRId64 " keys, more than its %" PRId64
                       " bytes can hold: damaged or cut short",
                       c->map->path, *n_tensors, *n_kv, c->map->size);
    return DC_OK;
}

static int open_part(dc_gguf **out, const char *path, dc_error *err)
{
    int rc;
    int64_t n_tensors = 0, n_kv = 0;
    dc_gguf *g = dc_calloc(1, sizeof *g);
    if (!g) return dc_fail_memory(err, sizeof *g, "a GGUF reader");
    DC_TRY(dc_map_open(&g->map, path, err));
    cursor c = {g->map.data, g->map.data + g->map.size, &g->map, err};
    DC_TRY(take_counts(&c, &n_tensors, &n_kv));
    DC_TRY(take_kvs(g, &c, n_kv));
    DC_TRY(take_tensors(g, &c, n_tensors));
    *out = g;
    return DC_OK;
done:
    dc_gguf_close(g);
    return rc;
}

/* "NAME-00002-of-00003.gguf" for part 1 (from 0) of the file whose first part is `first`. */
static int part_path(dc_str *out, const char *first, int64_t part, int64_t parts, dc_error *err)
{
    char tail[40];
    snprintf(tail, sizeof tail, "-00001-of-%05" PRId64 ".gguf", parts);
    const size_t n = strlen(first), m = strlen(tail);
    if (n < m || strcmp(first + n - m, tail))
        return dc_fail(err, DC_EFORMAT, "%s: the first of %" PRId64 " parts must have a name that ends in '%s'", first,
                       parts, tail);
    dc_str_clear(out);
    dc_str_append(out, first, n - m);
    dc_str_putf(out, "-%05" PRId64 "-of-%05" PRId64 ".gguf", part + 1, parts);
    return out->failed ? dc_fail_memory(err, n, "a file's name") : DC_OK;
}

static int open_parts(dc_gguf *g, int64_t parts, dc_error *err)
{
    const char *path = g->map.path;
    dc_str name = {0};
    int rc = DC_OK;
    g->parts = dc_calloc((size_t)parts, sizeof *g->parts);
    if (!g->parts) return dc_fail_memory(err, (size_t)parts * sizeof *g->parts, "the parts of a GGUF file");
    for (int64_t i = 1; i < parts; i++) {
        int64_t no, count;
        DC_TRY(part_path(&name, path, i, parts, err));
        DC_TRY(open_part(&g->parts[g->n_parts], name.data, err));
        const dc_gguf *part = g->parts[g->n_parts++];
        DC_TRY(dc_gguf_i64(&no, part, "split.no", -1, err));
        DC_TRY(dc_gguf_i64(&count, part, "split.count", -1, err));
        if (no != i || count != parts)
            DC_TRY(dc_fail(err, DC_EMISMATCH,
                           "%s: says it is part %" PRId64 " of %" PRId64 ", not %" PRId64 " of %" PRId64
                           " as its name and %s say",
                           name.data, no + 1, count, i + 1, parts, path));
    }
done:
    dc_str_release(&name);
    return rc;
}

/* Moves the parts' tensors behind the first file's. */
static int join_parts(dc_gguf *g, dc_error *err)
{
    int64_t n = g->n_tensors, expected;
    int rc;
    for (int64_t i = 0; i < g->n_parts; i++) n += g->parts[i]->n_tensors;
    if ((rc = dc_gguf_i64(&expected, g, "split.tensors.count", n, err))) return rc;
    if (expected != n)
        return dc_fail(err, DC_EMISMATCH,
                       "%s: the parts hold %" PRId64 " tensors together, but split.tensors.count says %" PRId64,
                       g->map.path, n, expected);
    if (n > INT32_MAX) return dc_fail(err, DC_EFORMAT, "%s: too many tensors", g->map.path);
    dc_gguf_tensor *all = dc_realloc(g->tensors, ((size_t)n + 1) * sizeof *all);
    if (!all) return dc_fail_memory(err, (size_t)n * sizeof *all, "the tensors of a GGUF file");
    g->tensors = all;
    for (int64_t i = 0; i < g->n_parts; i++) {
        const dc_gguf *part = g->parts[i];
        memcpy(all + g->n_tensors, part->tensors, (size_t)part->n_tensors * sizeof *all);
        g->n_tensors += part->n_tensors;
    }
    if ((rc = index_init(&g->tensor_index, n, err))) return rc;
    for (int64_t i = 0; i < n; i++) {
        uint32_t *slot = index_slot(&g->tensor_index, all[i].name, all, sizeof *all);
        if (*slot) return dc_fail(err, DC_EFORMAT, "%s: tensor %s stands in two parts", g->map.path, all[i].name);
        *slot = (uint32_t)i + 1;
    }
    return DC_OK;
}

int dc_gguf_open(dc_gguf **out, const char *path, dc_error *err)
{
    int64_t no, parts;
    dc_gguf *g = NULL;
    int rc;
    DC_TRY(open_part(&g, path, err));
    DC_TRY(dc_gguf_i64(&no, g, "split.no", 0, err));
    DC_TRY(dc_gguf_i64(&parts, g, "split.count", 0, err)); /* 0 is what merging a split file leaves */
    if (parts > 1) {
        if (no != 0)
            DC_TRY(dc_fail(err, DC_EUSAGE,
                           "%s: part %" PRId64 " of %" PRId64 "; give the first part's name, '...-00001-of-%05" PRId64
                           ".gguf'",
                           path, no + 1, parts, parts));
        if (parts > MAX_PARTS) DC_TRY(dc_fail(err, DC_EFORMAT, "%s: claims %" PRId64 " parts", path, parts));
        DC_TRY(open_parts(g, parts, err));
        DC_TRY(join_parts(g, err));
    }
    *out = g;
    return DC_OK;
done:
    dc_gguf_close(g);
    return rc;
}

void dc_gguf_close(dc_gguf *g)
{
    if (!g) return;
    for (int64_t i = 0; i < g->n_parts; i++) dc_gguf_close(g->parts[i]);
    dc_free(g->parts);
    dc_free(g->kv);
    dc_free(g->tensors);
    dc_free(g->kv_index.slots);
    dc_free(g->tensor_index.slots);
    dc_arena_release(&g->arena);
    dc_map_close(&g->map);
    dc_free(g);
}

/* ---- access ---- */

const char *dc_gguf_path(const dc_gguf *g) { return g->map.path; }
int64_t dc_gguf_n_kv(const dc_gguf *g) { return g->n_kv; }
int64_t dc_gguf_n_tensors(const dc_gguf *g) { return g->n_tensors; }

const dc_gguf_kv *dc_gguf_kv_at(const dc_gguf *g, int64_t i)
{
    DC_ASSERT(i >= 0 && i < g->n_kv);
    return &g->kv[i];
}

const dc_gguf_tensor *dc_gguf_tensor_at(const dc_gguf *g, int64_t i)
{
    DC_ASSERT(i >= 0 && i < g->n_tensors);
    return &g->tensors[i];
}

const dc_gguf_kv *dc_gguf_find(const dc_gguf *g, const char *key)
{
    const uint32_t slot = *index_slot(&g->kv_index, key, g->kv, sizeof *g->kv);
    return slot ? &g->kv[slot - 1] : NULL;
}

const dc_gguf_tensor *dc_gguf_tensor_find(const dc_gguf *g, const char *name)
{
    const uint32_t slot = *index_slot(&g->tensor_index, name, g->tensors, sizeof *g->tensors);
    return slot ? &g->tensors[slot - 1] : NULL;
}

/* Item i of type `type` at data: as an integer and as a real. 0, or -1 for a type or value that has no int64. */
static int load(const dc_gguf_kv *kv, int64_t i, int64_t *integer, double *real)
{
    DC_ASSERT(i >= 0 && i < kv->n && kv->item != DC_GGUF_STRING);
    const uint8_t *at = kv->data + i * types[kv->item].bytes;
    union {
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        float f32;
        double f64;
    } v;
    memcpy(&v, at, (size_t)types[kv->item].bytes);
    switch (kv->item) {
    case DC_GGUF_U8: *integer = *at; break;
    case DC_GGUF_BOOL: *integer = *at != 0; break;
    case DC_GGUF_I8: *integer = v.i8; break;
    case DC_GGUF_U16: *integer = v.u16; break;
    case DC_GGUF_I16: *integer = v.i16; break;
    case DC_GGUF_U32: *integer = v.u32; break;
    case DC_GGUF_I32: *integer = v.i32; break;
    case DC_GGUF_I64: *integer = v.i64; break;
    case DC_GGUF_U64:
        *integer = (int64_t)v.u64;
        *real = (double)v.u64;
        return v.u64 > INT64_MAX ? -1 : 0;
    case DC_GGUF_F32: *real = (double)v.f32; return -1;
    default: *real = v.f64; return -1;
    }
    *real = (double)*integer;
    return 0;
}

double dc_gguf_item_f64(const dc_gguf_kv *kv, int64_t i)
{
    int64_t integer = 0;
    double real = 0;
    load(kv, i, &integer, &real);
    return real;
}

int64_t dc_gguf_item_i64(const dc_gguf_kv *kv, int64_t i)
{
    int64_t integer = 0;
    double real = 0;
    if (load(kv, i, &integer, &real) && kv->item != DC_GGUF_U64)
        integer = real >= -9.2e18 && real <= 9.2e18 ? (int64_t)real : 0;
    return integer;
}

static int wrong_type(const dc_gguf *g, const dc_gguf_kv *kv, const char *wanted, dc_error *err)
{
    const int array = kv->type == DC_GGUF_ARRAY;
    return dc_fail(err, DC_EFORMAT, "%s: key '%s' is %s%s where %s is expected", g->map.path, kv->key,
                   array ? "an array of " : "of type ", dc_gguf_type_name(kv->item), wanted);
}

int dc_gguf_i64(int64_t *out, const dc_gguf *g, const char *key, int64_t fallback, dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(g, key);
    double real;
    if (kv && (kv->type == DC_GGUF_ARRAY || kv->type == DC_GGUF_STRING || kv->type == DC_GGUF_BOOL ||
               kv->type == DC_GGUF_F32 || kv->type == DC_GGUF_F64))
        return wrong_type(g, kv, "an integer", err);
    if (!kv) *out = fallback;
    else if (load(kv, 0, out, &real))
        return dc_fail(err, DC_EFORMAT, "%s: key '%s' is %.0f, out of the range of integers", g->map.path, key, real);
    return DC_OK;
}

int dc_gguf_f64(double *out, const dc_gguf *g, const char *key, double fallback, dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(g, key);
    if (kv && kv->type != DC_GGUF_F32 && kv->type != DC_GGUF_F64) return wrong_type(g, kv, "a float", err);
    *out = kv ? dc_gguf_item_f64(kv, 0) : fallback;
    return DC_OK;
}

int dc_gguf_bool(int *out, const dc_gguf *g, const char *key, int fallback, dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(g, key);
    if (kv && kv->type != DC_GGUF_BOOL) return wrong_type(g, kv, "a bool", err);
    *out = kv ? *kv->data != 0 : fallback;
    return DC_OK;
}

int dc_gguf_str(const char **out, dc_gguf *g, const char *key, const char *fallback, dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(g, key);
    if (kv && kv->type != DC_GGUF_STRING) return wrong_type(g, kv, "a string", err);
    if (!kv) {
        *out = fallback;
        return DC_OK;
    }
    const char *text = dc_arena_strndup(&g->arena, kv->texts->data, kv->texts->n);
    if (!text) return dc_fail_memory(err, kv->texts->n + 1, key);
    *out = text;
    return DC_OK;
}
