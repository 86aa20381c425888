/* core/gguf_write.c -- writing GGUF version 3: keys and tensors are declared, then the data follow. */
#include "core/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"

enum { VERSION = 3, DEFAULT_ALIGNMENT = 32, MAX_NAME = 63 };

typedef struct put_kv {
    char *key;
    int32_t type;
    dc_str value; /* as in the file, behind the type */
} put_kv;

typedef struct put_tensor {
    char *name;
    int32_t type;
    uint32_t n_dims;
    int64_t ne[4];
    int64_t bytes;
} put_tensor;

struct dc_gguf_writer {
    put_kv *kv;
    put_tensor *tensors;
    size_t n_kv, room_kv, n_tensors, room_tensors;
    dc_error failed; /* the first failure of a put, told by begin */
    dc_writer file;
    int open;
    size_t current; /* the tensor whose data come next */
    int64_t left;   /* bytes of it still to come */
};

int dc_gguf_writer_new(dc_gguf_writer **out, dc_error *err)
{
    *out = dc_calloc(1, sizeof **out);
    return *out ? DC_OK : dc_fail_memory(err, sizeof **out, "a GGUF writer");
}

/* ---- keys ---- */

static void put_bytes(dc_str *s, const void *bytes, size_t n) { dc_str_append(s, bytes, n); }
static void put_i32(dc_str *s, int32_t value) { put_bytes(s, &value, sizeof value); }
static void put_u64(dc_str *s, uint64_t value) { put_bytes(s, &value, sizeof value); }

static void put_text(dc_str *s, const char *text, size_t n)
{
    put_u64(s, n);
    put_bytes(s, text, n);
}

/* The emptied value of a key, new or put before; NULL when memory is out. */
static dc_str *value_of(dc_gguf_writer *w, const char *key, dc_gguf_type type)
{
    DC_ASSERT(!w->open && *key);
    put_kv *kv = NULL;
    for (size_t i = 0; i < w->n_kv && !kv; i++)
        if (!strcmp(w->kv[i].key, key)) kv = &w->kv[i];
    if (!kv) {
        char *copy = dc_strdup(key);
        if (!copy || dc_grow(&w->kv, w->n_kv, &w->room_kv, sizeof *w->kv)) {
            dc_free(copy);
            dc_fail_memory(&w->failed, sizeof *kv, "a key of a GGUF file");
            return NULL;
        }
        kv = &w->kv[w->n_kv++];
        *kv = (put_kv){.key = copy};
    }
    kv->type = (int32_t)type;
    dc_str_clear(&kv->value);
    return &kv->value;
}

static void put_scalar(dc_gguf_writer *w, const char *key, dc_gguf_type type, const void *bytes, size_t n)
{
    dc_str *value = value_of(w, key, type);
    if (value) put_bytes(value, bytes, n);
}

void dc_gguf_put_u32(dc_gguf_writer *w, const char *key, uint32_t value)
{
    put_scalar(w, key, DC_GGUF_U32, &value, sizeof value);
}
void dc_gguf_put_i32(dc_gguf_writer *w, const char *key, int32_t value)
{
    put_scalar(w, key, DC_GGUF_I32, &value, sizeof value);
}
void dc_gguf_put_u64(dc_gguf_writer *w, const char *key, uint64_t value)
{
    put_scalar(w, key, DC_GGUF_U64, &value, sizeof value);
}
void dc_gguf_put_f32(dc_gguf_writer *w, const char *key, float value)
{
    put_scalar(w, key, DC_GGUF_F32, &value, sizeof value);
}

void dc_gguf_put_bool(dc_gguf_writer *w, const char *key, int value)
{
    const uint8_t byte = value != 0;
    put_scalar(w, key, DC_GGUF_BOOL, &byte, 1);
}

void dc_gguf_put_str(dc_gguf_writer *w, const char *key, const char *text)
{
    dc_str *value = value_of(w, key, DC_GGUF_STRING);
    if (value) put_text(value, text, strlen(text));
}

static size_t type_bytes(dc_gguf_type type)
{
    switch (type) {
    case DC_GGUF_U8:
    case DC_GGUF_I8:
    case DC_GGUF_BOOL: return 1;
    case DC_GGUF_U16:
    case DC_GGUF_I16: return 2;
    case DC_GGUF_U32:
    case DC_GGUF_I32:
    case DC_GGUF_F32: return 4;
    default: DC_ASSERT(type == DC_GGUF_U64 || type == DC_GGUF_I64 || type == DC_GGUF_F64); return 8;
    }
}

void dc_gguf_put_array(dc_gguf_writer *w, const char *key, dc_gguf_type item, const void *values, int64_t n)
{
    dc_str *value = value_of(w, key, DC_GGUF_ARRAY);
    if (!value) return;
    put_i32(value, (int32_t)item);
    put_u64(value, (uint64_t)n);
    put_bytes(value, values, (size_t)n * type_bytes(item));
}

static void put_texts(dc_str *value, const dc_gguf_text *texts, int64_t n)
{
    put_i32(value, DC_GGUF_STRING);
    put_u64(value, (uint64_t)n);
    for (int64_t i = 0; i < n; i++) put_text(value, texts[i].data, texts[i].n);
}

void dc_gguf_put_strs(dc_gguf_writer *w, const char *key, const dc_gguf_text *texts, int64_t n)
{
    dc_str *value = value_of(w, key, DC_GGUF_ARRAY);
    if (value) put_texts(value, texts, n);
}

void dc_gguf_put_copy(dc_gguf_writer *w, const dc_gguf_kv *kv)
{
    if (kv->type == DC_GGUF_ARRAY && kv->item != DC_GGUF_STRING) {
        dc_gguf_put_array(w, kv->key, kv->item, kv->data, kv->n);
        return;
    }
    dc_str *value = value_of(w, kv->key, kv->type);
    if (!value) return;
    if (kv->type == DC_GGUF_ARRAY) put_texts(value, kv->texts, kv->n);
    else if (kv->type == DC_GGUF_STRING) put_text(value, kv->texts->data, kv->texts->n);
    else put_bytes(value, kv->data, type_bytes(kv->type));
}

/* ---- tensors ---- */

static void check_tensor(dc_gguf_writer *w, const put_tensor *t)
{
    if (strlen(t->name) > MAX_NAME)
        dc_fail(&w->failed, DC_EFORMAT, "tensor %s: its name has %zu bytes; GGUF allows %d", t->name, strlen(t->name),
                MAX_NAME);
    if (t->bytes < 0)
        dc_fail(&w->failed, DC_EFORMAT,
                "tensor %s: %" PRId64 " elements a row cannot be stored as %s, whose blocks have %" PRId32, t->name,
                t->ne[0], dc_dtype_get(t->type)->name, dc_dtype_get(t->type)->block);
    for (size_t i = 0; i < w->n_tensors; i++)
        if (!strcmp(w->tensors[i].name, t->name))
            dc_fail(&w->failed, DC_EFORMAT, "tensor %s is declared twice", t->name);
}

void dc_gguf_put_tensor(dc_gguf_writer *w, const char *name, dc_dtype type, int n_dims, const int64_t *ne)
{
    DC_ASSERT(!w->open && n_dims >= 1 && n_dims <= 4 && dc_dtype_get(type)->name);
    put_tensor t = {.type = (int32_t)type, .ne = {1, 1, 1, 1}};
    int64_t count = 1;
    for (int i = 0; i < n_dims; i++) {
        t.ne[i] = ne[i];
        if (dc_mul_size(&count, count, ne[i])) count = -1;
    }
    while (n_dims > 1 && ne[n_dims - 1] == 1) n_dims--;
    t.n_dims = (uint32_t)n_dims;
    t.bytes = ne[0] % dc_dtype_get(type)->block ? -1 : dc_dtype_bytes(type, count);
    t.name = dc_strdup(name);
    if (!t.name || dc_grow(&w->tensors, w->n_tensors, &w->room_tensors, sizeof *w->tensors)) {
        dc_free(t.name);
        dc_fail_memory(&w->failed, sizeof t, "a tensor of a GGUF file");
        return;
    }
    check_tensor(w, &t);
    w->tensors[w->n_tensors++] = t;
}

/* ---- the file ---- */

static int64_t alignment_of(const dc_gguf_writer *w)
{
    for (size_t i = 0; i < w->n_kv; i++) {
        uint32_t value;
        if (strcmp(w->kv[i].key, "general.alignment") || w->kv[i].value.n != sizeof value) continue;
        memcpy(&value, w->kv[i].value.data, sizeof value);
        DC_ASSERT(w->kv[i].type == DC_GGUF_U32 && value && !(value & (value - 1)));
        return value;
    }
    return DEFAULT_ALIGNMENT;
}

static int64_t padded(int64_t n, int64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }

static int64_t head_size(const dc_gguf_writer *w)
{
    int64_t n = 24;
    for (size_t i = 0; i < w->n_kv; i++) n += (int64_t)(8 + strlen(w->kv[i].key) + 4 + w->kv[i].value.n);
    for (size_t i = 0; i < w->n_tensors; i++)
        n += (int64_t)(8 + strlen(w->tensors[i].name) + 4 + 8 * w->tensors[i].n_dims + 4 + 8);
    return padded(n, alignment_of(w));
}

int64_t dc_gguf_writer_size(const dc_gguf_writer *w)
{
    const int64_t alignment = alignment_of(w);
    int64_t n = head_size(w);
    for (size_t i = 0; i < w->n_tensors; i++) n += padded(w->tensors[i].bytes, alignment);
    return n;
}

static void put_head(dc_str *s, const dc_gguf_writer *w)
{
    const int64_t alignment = alignment_of(w);
    uint64_t offset = 0;
    put_bytes(s, "GGUF", 4);
    put_i32(s, VERSION);
    put_u64(s, w->n_tensors);
    put_u64(s, w->n_kv);
    for (size_t i = 0; i < w->n_kv; i++) {
        put_text(s, w->kv[i].key, strlen(w->kv[i].key));
        put_i32(s, w->kv[i].type);
        put_bytes(s, w->kv[i].value.data, w->kv[i].value.n);
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        const put_tensor *t = &w->tensors[i];
        put_text(s, t->name, strlen(t->name));
        put_bytes(s, &t->n_dims, sizeof t->n_dims);
        put_bytes(s, t->ne, t->n_dims * sizeof *t->ne);
        put_i32(s, t->type);
        put_u64(s, offset);
        offset += (uint64_t)padded(t->bytes, alignment);
    }
}

/* Goes on to the next tensor that has bytes. */
static void next_tensor(dc_gguf_writer *w)
{
    while (w->current < w->n_tensors && !w->tensors[w->current].bytes) w->current++;
    w->left = w->current < w->n_tensors ? w->tensors[w->current].bytes : 0;
}

int dc_gguf_writer_begin(dc_gguf_writer *w, const char *path, dc_error *err)
{
    dc_str head = {0};
    int rc = DC_OK;
    DC_ASSERT(!w->open);
    for (size_t i = 0; i < w->n_kv; i++)
        if (w->kv[i].value.failed) dc_fail_memory(&w->failed, w->kv[i].value.n, w->kv[i].key);
    if (w->failed.code) DC_TRY(dc_fail(err, w->failed.code, "%s: %s", path, w->failed.message));
    put_head(&head, w);
    if (head.failed) DC_TRY(dc_fail_memory(err, (unsigned long long)head_size(w), "a GGUF file's keys"));
    DC_TRY(dc_writer_open(&w->file, path, err));
    w->open = 1;
    DC_TRY(dc_writer_put(&w->file, head.data, head.n, err));
    DC_TRY(dc_writer_pad(&w->file, (size_t)alignment_of(w), err));
    DC_ASSERT(w->file.size == head_size(w));
    next_tensor(w);
done:
    dc_str_release(&head);
    return rc;
}

int dc_gguf_writer_data(dc_gguf_writer *w, const void *bytes, size_t n, dc_error *err)
{
    int rc;
    DC_ASSERT(w->open && n <= (uint64_t)w->left);
    DC_TRY(dc_writer_put(&w->file, bytes, n, err));
    w->left -= (int64_t)n;
    if (!w->left && w->current < w->n_tensors) {
        DC_TRY(dc_writer_pad(&w->file, (size_t)alignment_of(w), err));
        w->current++;
        next_tensor(w);
    }
done:
    return rc;
}

int dc_gguf_writer_commit(dc_gguf_writer *w, dc_error *err)
{
    DC_ASSERT(w->open && w->current == w->n_tensors);
    DC_ASSERT(w->file.size == dc_gguf_writer_size(w));
    return dc_writer_commit(&w->file, err);
}

void dc_gguf_writer_free(dc_gguf_writer *w)
{
    if (!w) return;
    if (w->open) dc_writer_abandon(&w->file);
    for (size_t i = 0; i < w->n_kv; i++) {
        dc_free(w->kv[i].key);
        dc_str_release(&w->kv[i].value);
    }
    for (size_t i = 0; i < w->n_tensors; i++) dc_free(w->tensors[i].name);
    dc_free(w->kv);
    dc_free(w->tensors);
    dc_free(w);
}
