/* tests/core/test_safetensors.c -- safetensors files and sharded checkpoints: round trip, and every refusal. */
#include "core/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"
#include "tests/core/temp.h"

static const dc_dtype types[] = {DC_F64, DC_F32, DC_F16, DC_BF16, DC_I64, DC_I32, DC_I16, DC_I8};
enum { N_TYPES = sizeof types / sizeof *types };

static const uint8_t *counting(void)
{
    static uint8_t bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
    return bytes;
}

/* One [3, 2] tensor of each type, named in falling order, then a scalar and an empty one. */
static int write_everything(const char *path, dc_error *err)
{
    dc_st_writer *w = NULL;
    char name[32];
    int rc;
    DC_TRY(dc_st_writer_new(&w, err));
    dc_st_put_metadata(w, "format", "pt");
    dc_st_put_metadata(w, "quote \"", "line\nand \xc3\xa9");
    for (size_t i = 0; i < N_TYPES; i++) {
        snprintf(name, sizeof name, "t%d.weight", (int)(9 - i));
        dc_st_put_tensor(w, name, types[i], 2, (int64_t[]){3, 2});
    }
    dc_st_put_tensor(w, "scalar", DC_F32, 0, NULL);
    dc_st_put_tensor(w, "empty \"\xc3\xa9\"", DC_F32, 2, (int64_t[]){0, 4});
    DC_TRY(dc_st_writer_begin(w, path, err));
    for (size_t i = 0; i < N_TYPES; i++) {
        const size_t bytes = (size_t)dc_dtype_bytes(types[i], 6);
        DC_TRY(dc_st_writer_data(w, counting() + i, bytes - 1, err)); /* pieces need not be elements */
        DC_TRY(dc_st_writer_data(w, counting() + i + bytes - 1, 1, err));
    }
    DC_TRY(dc_st_writer_data(w, counting(), 4, err));
    DC_TRY(dc_st_writer_commit(w, err));
done:
    dc_st_writer_free(w);
    return rc;
}

static void every_type_comes_back(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_st *s = NULL;
    char name[32];
    if (write_everything(temp_path("all.safetensors"), &err) || dc_st_open(&s, temp_path("all.safetensors"), &err))
        fail_msg("%s", err.message);
    assert_int_equal(dc_st_n(s), N_TYPES + 2);
    for (size_t i = 0; i < N_TYPES; i++) {
        snprintf(name, sizeof name, "t%d.weight", (int)(9 - i));
        const dc_st_tensor *t = dc_st_find(s, name);
        assert_non_null(t);
        assert_int_equal(t->type, types[i]);
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->shape[0], 3);
        assert_int_equal(t->shape[1], 2);
        assert_int_equal(t->bytes, dc_dtype_bytes(types[i], 6));
        assert_memory_equal(t->data, counting() + i, (size_t)t->bytes);
        assert_non_null(strstr(t->file, "all.safetensors"));
    }
    assert_int_equal(dc_st_find(s, "scalar")->bytes, 4);
    assert_int_equal(dc_st_find(s, "empty \"\xc3\xa9\"")->bytes, 0);
    assert_null(dc_st_find(s, "t9"));
    for (int64_t i = 1; i < dc_st_n(s); i++) assert_true(strcmp(dc_st_at(s, i - 1)->name, dc_st_at(s, i)->name) < 0);
    assert_string_equal(dc_st_metadata(s, "format"), "pt");
    assert_string_equal(dc_st_metadata(s, "quote \""), "line\nand \xc3\xa9");
    assert_null(dc_st_metadata(s, "absent"));
    dc_st_close(s);
}

/* ---- files made by hand ---- */

static dc_str raw(const char *header, size_t data)
{
    dc_str s = {0};
    const uint64_t n = strlen(header);
    dc_str_append(&s, &n, 8);
    dc_str_puts(&s, header);
    while (data--) dc_str_putc(&s, 'd');
    return s;
}

/* A failure must have `code` and say `says`; NULL: it must open. */
static void open_bytes(dc_str s, int code, const char *says)
{
    dc_error err = {0};
    dc_st *st = NULL;
    const int rc = dc_st_open(&st, temp_write("raw.safetensors", s.data, s.n), &err);
    if (rc != code) fail_msg("code %d, not %d: %s", rc, code, rc ? err.message : says);
    if (rc) {
        if (!strstr(err.message, says)) fail_msg("said '%s', not '%s'", err.message, says);
        assert_non_null(strstr(err.message, "raw.safetensors"));
        assert_null(st);
    }
    dc_st_close(st);
    dc_str_release(&s);
}

static void open_header(const char *header, size_t data, const char *says)
{
    open_bytes(raw(header, data), says ? DC_EFORMAT : DC_OK, says);
}

static void headers_are_checked(void **state)
{
    (void)state;
    dc_str s = {0};
    open_bytes(s, DC_EFORMAT, "too few");
    dc_str_puts(&s, "GGUF and more than a few bytes");
    open_bytes(s, DC_EFORMAT, "not a safetensors file");
    s = raw("{}", 0);
    s.data[0] = 3;
    open_bytes(s, DC_EFORMAT, "within its header");
    open_header("{}", 0, NULL);
    open_header("{}      ", 0, NULL);
    open_header("", 0, "no JSON object");
    open_header("[]", 0, "no JSON object");
    open_header(" {}", 0, "no JSON object");
    open_header("{\"t\":", 0, "header:1:");
    open_header("{\"a\\u0000b\":{}}", 0, "header:1:");
    open_header("{\"t\":1}", 0, "tensor t: its entry is no object");
    open_header("{\"__metadata__\":{\"a\":1}}", 0, "'a' is no string");
    open_header("{\"__metadata__\":[]}", 0, "__metadata__ is no object");
    open_header("{}", 1, "ends at byte 10 but the file has 11");
}

#define ONE(dtype, shape, offsets) "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(name, a, b) \
    "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" a "},\"" name \
    "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" b "}}"

static void entries_are_checked(void **state)
{
    (void)state;
    open_header(ONE("F32", "[2]", "[0,8]"), 8, NULL);
    open_header(ONE("F32", "[]", "[0,4]"), 4, NULL);
    open_header(ONE("BOOL", "[3]", "[0,3]"), 3, NULL);
    open_bytes(raw(ONE("F8_E4M3", "[2]", "[0,2]"), 2), DC_EUNKNOWN, "tensor t has dtype F8_E4M3; decant reads F64");
    open_header("{\"t\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "has no dtype");
    open_header("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "has no shape");
    open_header("{\"t\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "two rising integers");
    open_header(ONE("F32", "[2]", "[8,0]"), 8, "two rising integers");
    open_header(ONE("F32", "[2]", "[0,8,9]"), 8, "two rising integers");
    open_header(ONE("F32", "[2]", "[-8,0]"), 8, "two rising integers");
    open_header(ONE("F32", "[2]", "[0.0,8]"), 8, "two rising integers");
    open_header(ONE("F32", "[3]", "[0,8]"), 8, "has 8 bytes of data where its dtype and shape need 12");
    open_header(ONE("F32", "[-2]", "[0,8]"), 8, "no size");
    open_header(ONE("F32", "[2.0]", "[0,8]"), 8, "no size");
    open_header(ONE("F32", "[4294967296,4294967296]", "[0,8]"), 8, "no size");
    open_header(ONE("F64", "[2305843009213693952]", "[0,8]"), 8, "no size");
    open_header(ONE("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "9 dimensions");
    open_header(ONE("F32", "[2]", "[0,8]"), 7, "tensor t ends at byte 70 but the file has 69");
    open_header(ONE("F32", "[2305843009213693951]", "[0,9223372036854775804]"), 8, "cut short");
    open_header(ONE("F32", "[2]", "[0,8]"), 9, "ends at byte 70 but the file has 71");
    open_header(ONE("F32", "[2]", "[4,12]"), 12,
                "tensor t begins at byte 4 of the data, behind the end of the header (0)");
    open_header(TWO("u", "[0,8]", "[8,16]"), 16, NULL);
    open_header(TWO("u", "[8,16]", "[0,8]"), 16, NULL);
    open_header(TWO("u", "[0,8]", "[9,17]"), 17, "tensor u begins at byte 9 of the data, behind the end of t (8)");
    open_header(TWO("u", "[0,8]", "[4,12]"), 12, "tensor u begins at byte 4 of the data, before the end of t (8)");
    open_header(TWO("u", "[0,8]", "[0,8]"), 8, "before the end of");
    open_header(TWO("t", "[0,8]", "[8,16]"), 16, "header:1:");
}

static void truncated_files_are_refused(void **state)
{
    (void)state;
    dc_str all = {0};
    uint64_t header;
    assert_int_equal(write_everything(temp_path("all.safetensors"), NULL), DC_OK);
    assert_int_equal(dc_file_read(&all, temp_path("all.safetensors"), 1 << 20, NULL), DC_OK);
    memcpy(&header, all.data, sizeof header);
    assert_int_equal(header % 8, 0); /* so that the data are aligned */
    for (size_t n = 0; n < all.n; n++) {
        dc_error err = {0};
        dc_st *s = NULL;
        assert_int_equal(dc_st_open(&s, temp_write("cut.safetensors", all.data, n), &err), DC_EFORMAT);
        assert_non_null(strstr(err.message, "cut.safetensors"));
        assert_null(s);
    }
    dc_str_release(&all);
}

static void failing_memory_is_told(void **state)
{
    (void)state;
    char path[192], other[192];
    snprintf(path, sizeof path, "%s", temp_path("all.safetensors"));
    snprintf(other, sizeof other, "%s", temp_path("memory.safetensors"));
    assert_int_equal(write_everything(path, NULL), DC_OK);
    int rc = DC_ENOMEM;
    long n = 0;
    for (; rc; n++) {
        dc_st *s = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(n + 1);
        rc = dc_st_open(&s, path, &err);
        dc_alloc_fail_at(0);
        if (rc) assert_int_equal(rc, DC_ENOMEM), assert_int_equal(err.code, rc), assert_null(s);
        dc_st_close(s);
    }
    assert_true(n > 4);
    for (rc = DC_ENOMEM, n = 0; rc; n++) {
        dc_error err = {0};
        dc_alloc_fail_at(n + 1);
        rc = write_everything(other, &err);
        dc_alloc_fail_at(0);
        if (rc) assert_int_equal(rc, DC_ENOMEM), assert_int_equal(err.code, rc);
        assert_int_equal(dc_path_exists(temp_path("memory.safetensors.tmp")), 0);
    }
    assert_true(n > 2);
}

static void writer_refuses_what_readers_refuse(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        dc_st_writer *w = NULL;
        dc_error err = {0};
        assert_int_equal(dc_st_writer_new(&w, &err), DC_OK);
        dc_st_put_tensor(w, "t", DC_F32, 1, (int64_t[]){4});
        if (i == 0) dc_st_put_tensor(w, "t", DC_F32, 1, (int64_t[]){4});
        if (i == 1) dc_st_put_tensor(w, "\xff", DC_F32, 1, (int64_t[]){4});
        if (i == 2) dc_st_put_tensor(w, "big", DC_F32, 2, (int64_t[]){INT64_MAX, 2});
        assert_int_equal(dc_st_writer_begin(w, temp_path("no.safetensors"), &err), DC_EFORMAT);
        dc_st_writer_free(w);
        assert_int_equal(dc_path_exists(temp_path("no.safetensors")), 0);
        assert_int_equal(dc_path_exists(temp_path("no.safetensors.tmp")), 0);
    }
}

/* ---- directories ---- */

static void shard(const char *name, const char *tensor, char fill)
{
    dc_st_writer *w = NULL;
    const char bytes[4] = {fill, fill, fill, fill};
    assert_int_equal(dc_st_writer_new(&w, NULL), DC_OK);
    dc_st_put_metadata(w, "shard", name);
    dc_st_put_tensor(w, tensor, DC_F32, 1, (int64_t[]){1});
    assert_int_equal(dc_st_writer_begin(w, temp_path(name), NULL), DC_OK);
    assert_int_equal(dc_st_writer_data(w, bytes, 4, NULL), DC_OK);
    assert_int_equal(dc_st_writer_commit(w, NULL), DC_OK);
    dc_st_writer_free(w);
}

static void open_dir(const char *index, int code, const char *says)
{
    dc_error err = {0};
    dc_st *s = NULL;
    if (index) temp_write("d/model.safetensors.index.json", index, strlen(index));
    const int rc = dc_st_open(&s, temp_path("d"), &err);
    if (rc != code) fail_msg("code %d, not %d: %s", rc, code, err.message);
    if (rc && !strstr(err.message, says)) fail_msg("said '%s', not '%s'", err.message, says);
    dc_st_close(s);
}

static void sharded_directories_are_one(void **state)
{
    (void)state;
    dc_st *s = NULL;
    const char *index =
        "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}";
    assert_int_equal(dc_mkdirs(temp_path("d"), NULL), DC_OK);
    open_dir(NULL, DC_EIO, "neither model.safetensors nor model.safetensors.index.json");
    temp_write("d/pytorch_model.bin", "", 0);
    open_dir(NULL, DC_EIO, "pytorch_model.bin is a pickle");
    shard("d/1.safetensors", "a", 1);
    open_dir(index, DC_EIO, "2.safetensors");
    shard("d/2.safetensors", "b", 2);
    open_dir(index, DC_OK, "");
    assert_int_equal(dc_st_open(&s, temp_path("d"), NULL), DC_OK);
    assert_int_equal(dc_st_n(s), 2);
    assert_memory_equal(dc_st_find(s, "a")->data, "\1\1\1\1", 4);
    assert_memory_equal(dc_st_find(s, "b")->data, "\2\2\2\2", 4);
    assert_string_equal(dc_path_base(dc_st_find(s, "a")->file), "1.safetensors");
    assert_string_equal(dc_st_metadata(s, "shard"), "d/2.safetensors"); /* the index's first */
    dc_st_close(s);
    open_dir("{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}", DC_EMISMATCH,
             "tensor a should be in 2.safetensors, but is in 1.safetensors");
    open_dir("{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"1.safetensors\"}}", DC_EMISMATCH,
             "tensor c should be in 1.safetensors, but is not there");
    open_dir("{\"weight_map\":{\"a\":\"../1.safetensors\"}}", DC_EFORMAT, "not the name of a file beside it");
    open_dir("{\"weight_map\":{\"a\":1}}", DC_EFORMAT, "the file of tensor a is no string");
    open_dir("{\"weight_map\":[]}", DC_EFORMAT, "no object 'weight_map'");
    open_dir("{\"weight_map\":{\"a\":", DC_EFORMAT, "model.safetensors.index.json:1:");
    shard("d/2.safetensors", "a", 2);
    open_dir("{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", DC_EFORMAT,
             "tensor a stands in two files");
    shard("d/model.safetensors", "whole", 3);
    assert_int_equal(dc_st_open(&s, temp_path("d"), NULL), DC_OK);
    assert_non_null(dc_st_find(s, "whole"));
    dc_st_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back),       cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(entries_are_checked),         cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(failing_memory_is_told),      cmocka_unit_test(writer_refuses_what_readers_refuse),
        cmocka_unit_test(sharded_directories_are_one),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
