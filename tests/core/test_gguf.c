/* tests/core/test_gguf.c -- the GGUF container: what is written is read, and nothing damaged is. */
#include "core/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"
#include "tests/core/temp.h"

/* The largest piece of memory that was asked for. The linker puts this in place of calloc. */
static size_t largest;
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes)
{
    if (n * bytes > largest) largest = n * bytes;
    return __real_calloc(n, bytes);
}

/* ---- a file with every kind of key, written by the writer ---- */

static const uint8_t u8s[] = {7, 255};
static const int8_t i8s[] = {-7, 127};
static const uint16_t u16s[] = {65535, 1};
static const int16_t i16s[] = {-32768, 2};
static const uint32_t u32s[] = {4294967295u, 3};
static const int32_t i32s[] = {INT32_MIN, 4, 5};
static const float f32s[] = {1.5f, -0.25f};
static const uint8_t bools[] = {1, 0};
static const uint64_t u64s[] = {UINT64_MAX, 6};
static const int64_t i64s[] = {INT64_MIN, 7};
static const double f64s[] = {1e300, -2.5};

static const struct {
    const char *name;
    dc_gguf_type type;
    const void *values;
    double second;
} kinds[] = {
    {"u8", DC_GGUF_U8, u8s, 255},      {"i8", DC_GGUF_I8, i8s, 127},     {"u16", DC_GGUF_U16, u16s, 1},
    {"i16", DC_GGUF_I16, i16s, 2},     {"u32", DC_GGUF_U32, u32s, 3},    {"i32", DC_GGUF_I32, i32s, 4},
    {"f32", DC_GGUF_F32, f32s, -0.25}, {"bool", DC_GGUF_BOOL, bools, 0}, {"u64", DC_GGUF_U64, u64s, 6},
    {"i64", DC_GGUF_I64, i64s, 7},     {"f64", DC_GGUF_F64, f64s, -2.5},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const float matrix[6] = {1, 2, 3, 4, 5, 6};

static void put_everything(dc_gguf_writer *w)
{
    char key[32];
    for (size_t i = 0; i < N_KINDS; i++) {
        snprintf(key, sizeof key, "scalar.%s", kinds[i].name);
        dc_gguf_put_copy(w, &(dc_gguf_kv){key, kinds[i].type, kinds[i].type, 1, kinds[i].values, NULL});
        snprintf(key, sizeof key, "array.%s", kinds[i].name);
        dc_gguf_put_array(w, key, kinds[i].type, kinds[i].values, 2);
    }
    dc_gguf_put_str(w, "general.architecture", "old");
    dc_gguf_put_u32(w, "n", 12);
    dc_gguf_put_i32(w, "minus", -12);
    dc_gguf_put_u64(w, "many", (uint64_t)1 << 40);
    dc_gguf_put_f32(w, "eps", 1e-5f);
    dc_gguf_put_bool(w, "yes", 5);
    dc_gguf_put_strs(w, "tokens", (dc_gguf_text[]){{"a", 1}, {"", 0}, {"x\0y", 3}}, 3);
    dc_gguf_put_strs(w, "none", NULL, 0);
    dc_gguf_put_array(w, "empty", DC_GGUF_F32, NULL, 0);
    dc_gguf_put_str(w, "general.architecture", "llama"); /* keeps its place */
    dc_gguf_put_tensor(w, "matrix", DC_F32, 2, (int64_t[]){3, 2});
    dc_gguf_put_tensor(w, "nothing", DC_F32, 2, (int64_t[]){0, 2});
    dc_gguf_put_tensor(w, "blocks", DC_Q8_0, 3, (int64_t[]){32, 1, 1});
    dc_gguf_put_tensor(w, "half", DC_F16, 3, (int64_t[]){1, 3, 2});
}

static const uint8_t *counting(void)
{
    static uint8_t bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
    return bytes;
}

static int write_everything(const char *path, dc_error *err)
{
    dc_gguf_writer *w = NULL;
    int rc;
    DC_TRY(dc_gguf_writer_new(&w, err));
    put_everything(w);
    DC_TRY(dc_gguf_writer_begin(w, path, err));
    DC_TRY(dc_gguf_writer_data(w, matrix, 8, err));
    DC_TRY(dc_gguf_writer_data(w, matrix + 2, sizeof matrix - 8, err));
    DC_TRY(dc_gguf_writer_data(w, counting(), 34, err));
    DC_TRY(dc_gguf_writer_data(w, counting(), 12, err));
    DC_TRY(dc_gguf_writer_commit(w, err));
done:
    dc_gguf_writer_free(w);
    return rc;
}

static dc_gguf *open_everything(void)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    if (write_everything(temp_path("all.gguf"), &err) || dc_gguf_open(&g, temp_path("all.gguf"), &err))
        fail_msg("%s", err.message);
    return g;
}

static void every_kind_of_key_comes_back(void **state)
{
    (void)state;
    dc_gguf *g = open_everything();
    char key[32];
    for (size_t i = 0; i < N_KINDS; i++) {
        snprintf(key, sizeof key, "scalar.%s", kinds[i].name);
        const dc_gguf_kv *kv = dc_gguf_find(g, key);
        assert_non_null(kv);
        assert_int_equal(kv->type, kinds[i].type);
        assert_int_equal(kv->n, 1);
        snprintf(key, sizeof key, "array.%s", kinds[i].name);
        kv = dc_gguf_find(g, key);
        assert_non_null(kv);
        assert_int_equal(kv->type, DC_GGUF_ARRAY);
        assert_int_equal(kv->item, kinds[i].type);
        assert_int_equal(kv->n, 2);
        assert_true(dc_gguf_item_f64(kv, 1) == kinds[i].second);
        assert_int_equal(dc_gguf_item_i64(kv, 1), (int64_t)kinds[i].second);
        assert_string_equal(dc_gguf_type_name(kv->item), kinds[i].name);
    }
    assert_true(dc_gguf_item_i64(dc_gguf_find(g, "array.i64"), 0) == INT64_MIN);
    assert_int_equal(dc_gguf_item_i64(dc_gguf_find(g, "array.i32"), 0), INT32_MIN);
    assert_true(dc_gguf_item_f64(dc_gguf_find(g, "array.u64"), 0) == 18446744073709551615.0);
    const dc_gguf_kv *tokens = dc_gguf_find(g, "tokens");
    assert_int_equal(tokens->n, 3);
    assert_int_equal(tokens->texts[1].n, 0);
    assert_int_equal(tokens->texts[2].n, 3);
    assert_memory_equal(tokens->texts[2].data, "x\0y", 3);
    assert_int_equal(dc_gguf_find(g, "none")->n, 0);
    assert_int_equal(dc_gguf_find(g, "empty")->n, 0);
    assert_int_equal(dc_gguf_n_kv(g), 2 * N_KINDS + 9);
    assert_string_equal(dc_gguf_kv_at(g, 2 * N_KINDS)->key, "general.architecture");
    dc_gguf_close(g);
}

static void typed_access_checks_types_and_ranges(void **state)
{
    (void)state;
    dc_gguf *g = open_everything();
    int64_t i = 0;
    double d = 0;
    int b = 0;
    const char *s = NULL;
    assert_int_equal(dc_gguf_i64(&i, g, "n", 0, NULL), DC_OK), assert_int_equal(i, 12);
    assert_int_equal(dc_gguf_i64(&i, g, "minus", 0, NULL), DC_OK), assert_int_equal(i, -12);
    assert_int_equal(dc_gguf_i64(&i, g, "scalar.i8", 0, NULL), DC_OK), assert_int_equal(i, -7);
    assert_int_equal(dc_gguf_i64(&i, g, "many", 0, NULL), DC_OK), assert_true(i == (int64_t)1 << 40);
    assert_int_equal(dc_gguf_i64(&i, g, "absent", 9, NULL), DC_OK), assert_int_equal(i, 9);
    assert_int_equal(dc_gguf_f64(&d, g, "eps", 0, NULL), DC_OK), assert_true(d == (double)1e-5f);
    assert_int_equal(dc_gguf_f64(&d, g, "absent", 0.5, NULL), DC_OK), assert_true(d == 0.5);
    assert_int_equal(dc_gguf_bool(&b, g, "yes", 0, NULL), DC_OK), assert_int_equal(b, 1);
    assert_int_equal(dc_gguf_str(&s, g, "general.architecture", "", NULL), DC_OK), assert_string_equal(s, "llama");
    assert_int_equal(dc_gguf_str(&s, g, "absent", "fallback", NULL), DC_OK), assert_string_equal(s, "fallback");
    static const struct {
        const char *key, *says;
    } wrong[] = {{"eps", "'eps' is of type f32 where an integer"},
                 {"tokens", "'tokens' is an array of string"},
                 {"scalar.u64", "'scalar.u64' is 18446744073709551616, out of the range"}};
    for (size_t k = 0; k < 3; k++) {
        dc_error err = {0};
        assert_int_equal(dc_gguf_i64(&i, g, wrong[k].key, 0, &err), DC_EFORMAT);
        assert_non_null(strstr(err.message, wrong[k].says));
        assert_non_null(strstr(err.message, "all.gguf"));
    }
    assert_int_equal(dc_gguf_f64(&d, g, "n", 0, NULL), DC_EFORMAT);
    assert_int_equal(dc_gguf_bool(&b, g, "n", 0, NULL), DC_EFORMAT);
    assert_int_equal(dc_gguf_str(&s, g, "n", "", NULL), DC_EFORMAT);
    dc_gguf_close(g);
}

static void tensors_come_back(void **state)
{
    (void)state;
    dc_gguf *g = open_everything();
    assert_int_equal(dc_gguf_n_tensors(g), 4);
    const dc_gguf_tensor *t = dc_gguf_tensor_find(g, "matrix");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 3);
    assert_int_equal(t->ne[1], 2);
    assert_int_equal(t->ne[2], 1);
    assert_int_equal(t->bytes, sizeof matrix);
    assert_memory_equal(t->data, matrix, sizeof matrix);
    t = dc_gguf_tensor_find(g, "blocks");
    assert_int_equal(t->n_dims, 1); /* trailing ones are dropped */
    assert_int_equal(t->type, DC_Q8_0);
    assert_int_equal(t->bytes, 34);
    assert_memory_equal(t->data, counting(), 34);
    t = dc_gguf_tensor_find(g, "half");
    assert_int_equal(t->n_dims, 3);
    assert_memory_equal(t->data, counting(), 12);
    assert_int_equal(dc_gguf_tensor_find(g, "nothing")->bytes, 0);
    assert_string_equal(dc_gguf_tensor_at(g, 3)->name, "half");
    assert_null(dc_gguf_tensor_find(g, "hal"));
    dc_gguf_close(g);
}

/* Copying every key to a second file gives the same bytes, whatever the kind. */
static void copied_keys_are_the_same_bytes(void **state)
{
    (void)state;
    dc_gguf *g = open_everything(), *h = NULL;
    dc_gguf_writer *w = NULL;
    dc_error err = {0};
    dc_str a = {0}, b = {0};
    assert_int_equal(dc_gguf_writer_new(&w, &err), DC_OK);
    for (int64_t i = 0; i < dc_gguf_n_kv(g); i++) dc_gguf_put_copy(w, dc_gguf_kv_at(g, i));
    for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
        dc_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->ne);
    }
    const int64_t size = dc_gguf_writer_size(w);
    assert_int_equal(dc_gguf_writer_begin(w, temp_path("copy.gguf"), &err), DC_OK);
    for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
        assert_int_equal(dc_gguf_writer_data(w, t->data, (size_t)t->bytes, &err), DC_OK);
    }
    assert_int_equal(dc_gguf_writer_commit(w, &err), DC_OK);
    dc_gguf_writer_free(w);
    assert_int_equal(dc_file_read(&a, temp_path("all.gguf"), 1 << 20, &err), DC_OK);
    assert_int_equal(dc_file_read(&b, temp_path("copy.gguf"), 1 << 20, &err), DC_OK);
    assert_int_equal(a.n, size);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n);
    assert_int_equal(dc_gguf_open(&h, temp_path("copy.gguf"), &err), DC_OK);
    dc_gguf_close(h);
    dc_gguf_close(g);
    dc_str_release(&a);
    dc_str_release(&b);
}

/* ---- files made by hand ---- */

static void raw_u32(dc_str *s, uint32_t v) { dc_str_append(s, &v, 4); }
static void raw_u64(dc_str *s, uint64_t v) { dc_str_append(s, &v, 8); }

static void raw_text(dc_str *s, const char *text)
{
    raw_u64(s, strlen(text));
    dc_str_puts(s, text);
}

static dc_str raw_head(uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    dc_str s = {0};
    dc_str_puts(&s, "GGUF");
    raw_u32(&s, version);
    raw_u64(&s, n_tensors);
    raw_u64(&s, n_kv);
    return s;
}

static void raw_u32_kv(dc_str *s, const char *key, uint32_t value)
{
    raw_text(s, key);
    raw_u32(s, DC_GGUF_U32);
    raw_u32(s, value);
}

static void raw_tensor(dc_str *s, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t offset)
{
    raw_text(s, name);
    raw_u32(s, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) raw_u64(s, ne[i]);
    raw_u32(s, type);
    raw_u64(s, offset);
}

static void raw_zeros(dc_str *s, size_t to)
{
    while (s->n < to) dc_str_putc(s, 0);
}

/* Opens the bytes (which it releases); a failure must be DC_EFORMAT and say `says`. NULL: it must open. */
static void open_raw(dc_str s, const char *says)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    const int rc = dc_gguf_open(&g, temp_write("raw.gguf", s.data, s.n), &err);
    if (!says) {
        if (rc) fail_msg("refused: %s", err.message);
    } else {
        if (rc == DC_OK) fail_msg("opened, but should have said: %s", says);
        assert_int_equal(rc, DC_EFORMAT);
        if (!strstr(err.message, says)) fail_msg("said '%s', not '%s'", err.message, says);
        assert_non_null(strstr(err.message, "raw.gguf"));
        assert_null(g);
    }
    dc_gguf_close(g);
    dc_str_release(&s);
}

/* One tensor with its entry spelt out, then room for 256 bytes of data. */
static void open_tensor(const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t offset,
                        const char *says)
{
    dc_str s = raw_head(3, 1, 0);
    raw_tensor(&s, name, type, n_dims, ne, offset);
    raw_zeros(&s, 512);
    open_raw(s, says);
}

static void heads_are_checked(void **state)
{
    (void)state;
    dc_str s = {0};
    dc_str_puts(&s, "GGML and more than a few bytes");
    open_raw(s, "not a GGUF file");
    open_raw(raw_head(2, 0, 0), NULL);
    open_raw(raw_head(3, 0, 0), NULL);
    open_raw(raw_head(1, 0, 0), "version 1; versions 2 and 3 are read");
    open_raw(raw_head(4, 0, 0), "version 4");
    open_raw(raw_head(0, 0, 0), "version 0");
    open_raw(raw_head(0x03000000, 0, 0), "big-endian");
    open_raw(raw_head(3, 1, 0), "more than its 24 bytes can hold");
    open_raw(raw_head(3, UINT64_MAX, 0), "more than");
    open_raw(raw_head(3, 0, (uint64_t)1 << 60), "more than");
}

static void keys_are_checked(void **state)
{
    (void)state;
    dc_str s = raw_head(3, 0, 2);
    raw_u32_kv(&s, "twice", 1);
    raw_u32_kv(&s, "twice", 2);
    open_raw(s, "key 'twice' stands there twice");
    s = raw_head(3, 0, 1);
    raw_u32_kv(&s, "", 1);
    open_raw(s, "is empty");
    s = raw_head(3, 0, 1);
    raw_u64(&s, 3);
    dc_str_append(&s, "a\0b", 3);
    raw_zeros(&s, 64);
    open_raw(s, "holds a 0 byte");
    s = raw_head(3, 0, 1);
    raw_text(&s, "k");
    raw_u32(&s, 13);
    raw_zeros(&s, 64);
    open_raw(s, "'k' has the unknown value type 13");
    s = raw_head(3, 0, 1);
    raw_text(&s, "k");
    raw_u32(&s, DC_GGUF_ARRAY);
    raw_u32(&s, DC_GGUF_ARRAY);
    raw_zeros(&s, 64);
    open_raw(s, "'k' is an array of arrays");
    largest = 0;
    static const uint64_t counts[] = {100, (uint64_t)1 << 29, (uint64_t)1 << 61, UINT64_MAX};
    for (size_t i = 0; i < 8; i++) {
        s = raw_head(3, 0, 1);
        raw_text(&s, "k");
        raw_u32(&s, DC_GGUF_ARRAY);
        raw_u32(&s, i & 1 ? DC_GGUF_STRING : DC_GGUF_F64);
        raw_u64(&s, counts[i / 2]);
        raw_zeros(&s, 128);
        open_raw(s, i / 2 < 2 ? "within k" : "at most 2^30");
    }
    assert_true(largest > 0 && largest < 1 << 20); /* no count was believed */
    s = raw_head(3, 0, 1);
    raw_text(&s, "general.alignment");
    raw_u32(&s, DC_GGUF_U64);
    raw_u64(&s, 32);
    open_raw(s, "must be a u32, not u64");
    static const uint32_t alignments[] = {0, 48, 64};
    for (size_t i = 0; i < 3; i++) {
        s = raw_head(3, 0, 1);
        raw_u32_kv(&s, "general.alignment", alignments[i]);
        open_raw(s, i < 2 ? "not a power of two" : NULL);
    }
}

static void tensors_are_checked(void **state)
{
    (void)state;
    const uint64_t ne[5] = {32, 2, 1, 1, 1}, huge[4] = {(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1},
                   minus[1] = {UINT64_MAX};
    char name[80];
    open_tensor("t", DC_F32, 2, ne, 0, NULL);
    open_tensor("t", DC_F32, 0, ne, 0, NULL);
    open_tensor("t", DC_F32, 5, ne, 0, "has 5 dimensions");
    open_tensor("t", DC_F32, 2, ne, 32, "offset 32 where 0");
    open_tensor("t", 4, 2, ne, 0, "unknown element type 4");
    open_tensor("t", 43, 2, ne, 0, "unknown element type 43");
    open_tensor("t", UINT32_MAX, 2, ne, 0, "unknown element type -1");
    open_tensor("t", DC_Q4_K, 2, ne, 0, "rows of 32 elements, no multiple of the block of 256");
    open_tensor("t", DC_F32, 2, huge, 0, "no size");
    open_tensor("t", DC_F32, 1, minus, 0, "no size");
    open_tensor("t", DC_F32, 1, &(uint64_t){INT64_MAX / 4}, 0, "no size");
    open_tensor("t", DC_F32, 1, &(uint64_t){(uint64_t)1 << 40}, 0,
                "tensor t ends at byte 4,398,046,511,168 but the file has 512");
    open_tensor("", DC_F32, 2, ne, 0, "is empty");
    memset(name, 'n', sizeof name);
    name[63] = 0;
    open_tensor(name, DC_F32, 2, ne, 0, NULL);
    name[63] = 'n', name[64] = 0;
    open_tensor(name, DC_F32, 2, ne, 0, "more than 63 bytes");
    for (int twice = 0; twice < 2; twice++) {
        dc_str s = raw_head(3, 2, 0);
        raw_tensor(&s, "a", DC_F16, 1, &(uint64_t){3}, 0);
        raw_tensor(&s, twice ? "a" : "b", DC_F16, 1, &(uint64_t){3}, 32);
        raw_zeros(&s, 256);
        open_raw(s, twice ? "tensor a stands there twice" : NULL);
    }
}

/* The end of the last tensor, without its padding, is the shortest file that opens. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_str all = {0};
    dc_gguf_close(open_everything());
    assert_int_equal(dc_file_read(&all, temp_path("all.gguf"), 1 << 20, &err), DC_OK);
    for (size_t n = 0; n < all.n; n++) {
        dc_error e = {0};
        dc_gguf *g = NULL;
        const int rc = dc_gguf_open(&g, temp_write("cut.gguf", all.data, n), &e);
        assert_int_equal(rc, n >= all.n - 20 ? DC_OK : DC_EFORMAT);
        if (rc) assert_non_null(strstr(e.message, "cut.gguf"));
        dc_gguf_close(g);
    }
    dc_str_release(&all);
}

static void failing_memory_is_told(void **state)
{
    (void)state;
    dc_gguf_close(open_everything());
    const char *path = temp_path("all.gguf");
    char other[192];
    snprintf(other, sizeof other, "%s", temp_path("memory.gguf")); /* outlives the ring of paths */
    int rc = DC_ENOMEM;
    long n = 0;
    for (; rc; n++) {
        dc_gguf *g = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(n + 1);
        rc = dc_gguf_open(&g, path, &err);
        dc_alloc_fail_at(0);
        if (rc) assert_int_equal(rc, DC_ENOMEM), assert_int_equal(err.code, rc), assert_null(g);
        dc_gguf_close(g);
    }
    assert_true(n > 6);
    for (rc = DC_ENOMEM, n = 0; rc; n++) {
        dc_error err = {0};
        dc_alloc_fail_at(n + 1);
        rc = write_everything(other, &err);
        dc_alloc_fail_at(0);
        if (rc) assert_int_equal(rc, DC_ENOMEM), assert_int_equal(err.code, rc);
        assert_int_equal(dc_path_exists(temp_path("memory.gguf.tmp")), 0);
        if (dc_path_exists(other)) { /* only whole: the very last step, syncing the folder, may fail too */
            dc_gguf *g = NULL;
            assert_int_equal(dc_gguf_open(&g, other, NULL), DC_OK);
            dc_gguf_close(g);
            assert_int_equal(dc_remove_tree(other, NULL), DC_OK);
        }
    }
    assert_true(n > 30);
}

static void writer_refuses_what_readers_refuse(void **state)
{
    (void)state;
    static const char *says[] = {"has 64 bytes; GGUF allows 63", "31 elements a row cannot be stored as Q8_0",
                                 "declared twice"};
    for (int i = 0; i < 3; i++) {
        dc_gguf_writer *w = NULL;
        dc_error err = {0};
        assert_int_equal(dc_gguf_writer_new(&w, &err), DC_OK);
        dc_gguf_put_tensor(w, "t", DC_F32, 1, (int64_t[]){4});
        if (i == 0)
            dc_gguf_put_tensor(w, "0123456789012345678901234567890123456789012345678901234567890123", DC_F32, 1,
                               (int64_t[]){4});
        if (i == 1) dc_gguf_put_tensor(w, "q", DC_Q8_0, 1, (int64_t[]){31});
        if (i == 2) dc_gguf_put_tensor(w, "t", DC_F32, 1, (int64_t[]){4});
        assert_int_equal(dc_gguf_writer_begin(w, temp_path("no.gguf"), &err), DC_EFORMAT);
        assert_non_null(strstr(err.message, says[i]));
        dc_gguf_writer_free(w);
        assert_int_equal(dc_path_exists(temp_path("no.gguf")), 0);
        assert_int_equal(dc_path_exists(temp_path("no.gguf.tmp")), 0);
    }
}

static void unfinished_writing_leaves_nothing(void **state)
{
    (void)state;
    dc_gguf_writer *w = NULL;
    assert_int_equal(dc_gguf_writer_new(&w, NULL), DC_OK);
    dc_gguf_put_tensor(w, "t", DC_F32, 1, (int64_t[]){6});
    assert_int_equal(dc_gguf_writer_begin(w, temp_path("half.gguf"), NULL), DC_OK);
    assert_int_equal(dc_gguf_writer_data(w, matrix, 8, NULL), DC_OK);
    dc_gguf_writer_free(w);
    assert_int_equal(dc_path_exists(temp_path("half.gguf")), 0);
    assert_int_equal(dc_path_exists(temp_path("half.gguf.tmp")), 0);
}

static void alignment_is_the_files_own(void **state)
{
    (void)state;
    dc_gguf_writer *w = NULL;
    dc_gguf *g = NULL;
    assert_int_equal(dc_gguf_writer_new(&w, NULL), DC_OK);
    dc_gguf_put_u32(w, "general.alignment", 128);
    dc_gguf_put_tensor(w, "a", DC_F32, 1, (int64_t[]){6});
    dc_gguf_put_tensor(w, "b", DC_F32, 1, (int64_t[]){6});
    assert_int_equal(dc_gguf_writer_begin(w, temp_path("aligned.gguf"), NULL), DC_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(dc_gguf_writer_data(w, matrix, sizeof matrix, NULL), DC_OK);
    assert_int_equal(dc_gguf_writer_commit(w, NULL), DC_OK);
    dc_gguf_writer_free(w);
    assert_int_equal(dc_gguf_open(&g, temp_path("aligned.gguf"), NULL), DC_OK);
    assert_int_equal(dc_gguf_tensor_at(g, 1)->data - dc_gguf_tensor_at(g, 0)->data, 128);
    assert_memory_equal(dc_gguf_tensor_at(g, 1)->data, matrix, sizeof matrix);
    dc_gguf_close(g);
}

/* ---- split files ---- */

typedef struct part {
    int no, count, total;
    const char *tensor;
} part;

static void write_part(const char *name, part p)
{
    dc_gguf_writer *w = NULL;
    assert_int_equal(dc_gguf_writer_new(&w, NULL), DC_OK);
    if (!p.no) dc_gguf_put_str(w, "general.architecture", "llama");
    const uint16_t no = (uint16_t)p.no, count = (uint16_t)p.count;
    dc_gguf_put_copy(w, &(dc_gguf_kv){"split.no", DC_GGUF_U16, DC_GGUF_U16, 1, (const uint8_t *)&no, NULL});
    dc_gguf_put_copy(w, &(dc_gguf_kv){"split.count", DC_GGUF_U16, DC_GGUF_U16, 1, (const uint8_t *)&count, NULL});
    dc_gguf_put_i32(w, "split.tensors.count", p.total);
    dc_gguf_put_tensor(w, p.tensor, DC_F32, 1, (int64_t[]){2});
    assert_int_equal(dc_gguf_writer_begin(w, temp_path(name), NULL), DC_OK);
    assert_int_equal(dc_gguf_writer_data(w, matrix + p.no, 8, NULL), DC_OK);
    assert_int_equal(dc_gguf_writer_commit(w, NULL), DC_OK);
    dc_gguf_writer_free(w);
}

static void open_split(const char *name, int code, const char *says)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    assert_int_equal(dc_gguf_open(&g, temp_path(name), &err), code);
    if (code && !strstr(err.message, says)) fail_msg("said '%s', not '%s'", err.message, says);
    dc_gguf_close(g);
}

static void split_files_are_one(void **state)
{
    (void)state;
    const char *first = "m-00001-of-00003.gguf", *second = "m-00002-of-00003.gguf", *third = "m-00003-of-00003.gguf";
    write_part(first, (part){0, 3, 3, "a"});
    write_part(second, (part){1, 3, 3, "b"});
    open_split(first, DC_EIO, third);
    write_part(third, (part){2, 3, 3, "c"});
    dc_gguf *g = NULL;
    assert_int_equal(dc_gguf_open(&g, temp_path(first), NULL), DC_OK);
    assert_int_equal(dc_gguf_n_tensors(g), 3);
    for (int i = 0; i < 3; i++) {
        const char name[2] = {(char)('a' + i), 0};
        assert_memory_equal(dc_gguf_tensor_find(g, name)->data, matrix + i, 8);
    }
    assert_non_null(dc_gguf_find(g, "general.architecture"));
    dc_gguf_close(g);
    open_split(second, DC_EUSAGE, "part 2 of 3; give the first part's name");
    write_part(third, (part){1, 3, 3, "c"});
    open_split(first, DC_EMISMATCH, "says it is part 2 of 3, not 3 of 3");
    write_part(third, (part){2, 4, 3, "c"});
    open_split(first, DC_EMISMATCH, "part 3 of 4");
    write_part(third, (part){2, 3, 3, "a"});
    open_split(first, DC_EFORMAT, "tensor a stands in two parts");
    write_part(third, (part){2, 3, 3, "c"});
    write_part(first, (part){0, 3, 4, "a"});
    open_split(first, DC_EMISMATCH, "hold 3 tensors together, but split.tensors.count says 4");
    write_part("odd.gguf", (part){0, 3, 3, "a"});
    open_split("odd.gguf", DC_EFORMAT, "must have a name that ends in '-00001-of-00003.gguf'");
    write_part("odd.gguf", (part){0, 0, 1, "a"}); /* as a merged file has it */
    open_split("odd.gguf", DC_OK, "");
    open_split("absent.gguf", DC_EIO, "absent.gguf");
}

/* Enough names that the index must resolve collisions. */
static void many_tensors_are_found(void **state)
{
    (void)state;
    enum { N = 700 };
    char name[32];
    dc_str s = raw_head(3, N, 0);
    for (uint64_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", (int)i);
        raw_tensor(&s, name, DC_F32, 1, &(uint64_t){1}, 32 * i);
    }
    raw_zeros(&s, (s.n + 31) / 32 * 32 + 32 * N);
    dc_gguf *g = NULL;
    assert_int_equal(dc_gguf_open(&g, temp_write("many.gguf", s.data, s.n), NULL), DC_OK);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        assert_ptr_equal(dc_gguf_tensor_find(g, name), dc_gguf_tensor_at(g, i));
    }
    assert_null(dc_gguf_tensor_find(g, "blk.700.weight"));
    dc_gguf_close(g);
    dc_str_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_key_comes_back),
        cmocka_unit_test(typed_access_checks_types_and_ranges),
        cmocka_unit_test(tensors_come_back),
        cmocka_unit_test(copied_keys_are_the_same_bytes),
        cmocka_unit_test(heads_are_checked),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(failing_memory_is_told),
        cmocka_unit_test(writer_refuses_what_readers_refuse),
        cmocka_unit_test(unfinished_writing_leaves_nothing),
        cmocka_unit_test(alignment_is_the_files_own),
        cmocka_unit_test(split_files_are_one),
        cmocka_unit_test(many_tensors_are_found),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
