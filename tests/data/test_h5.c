/* tests/data/test_h5.c -- columns in HDF5 files: round trip, the same bytes, damage of every kind, kills, the manifest. */
#include "data/h5.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <hdf5.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/pool.h"
#include "core/str.h"
#include "data/set_files.h"
#include "tests/core/temp.h"
#include "tests/data/damage.h"

enum { N_TYPES = DC_H5_TYPES, CHUNK = 100 };

static const char *const names[N_TYPES] = {"a8", "a16", "a32", "a64", "h16", "f32"};

static uint64_t mix(uint64_t i) { return (i ^ (i >> 7)) * 0x9E3779B97F4A7C15u; }

/* Item i of a column as its bytes: some runs, some noise, so that chunks pack but not to nothing. */
static void item(uint8_t *out, dc_h5_type type, int64_t i)
{
    const uint64_t value = i % 7 < 3 ? (uint64_t)i : mix((uint64_t)i) >> 20;
    const float real = (float)(value % 1000) / 8;
    const uint16_t half = (uint16_t)(value & 0x3fff);
    if (type == DC_H5_F32) memcpy(out, &real, 4);
    else if (type == DC_H5_F16) memcpy(out, &half, 2);
    else memcpy(out, &value, dc_h5_type_size(type));
}

/* `items` of every type, appended in pieces of `piece`, all columns in turn. */
static int write_file(const char *path, int64_t items, int64_t piece, dc_error *err)
{
    dc_h5_writer *w = NULL;
    int column[N_TYPES], rc = DC_OK;
    uint8_t bytes[8 * 1024];
    DC_TRY(dc_h5_create(&w, path, "test.format", 3, err));
    DC_TRY(dc_h5_put_text(w, "text", "h\xc3\xa9llo", err));
    DC_TRY(dc_h5_put_text(w, "empty", "", err));
    DC_TRY(dc_h5_put_int(w, "int", -5, err));
    for (int t = 0; t < N_TYPES; t++) DC_TRY(dc_h5_column(w, &column[t], names[t], (dc_h5_type)t, CHUNK, 3, err));
    for (int64_t i = 0; i < items; i += piece)
        for (int t = 0; t < N_TYPES; t++) {
            const size_t size = dc_h5_type_size((dc_h5_type)t);
            const int64_t n = items - i < piece ? items - i : piece;
            for (int64_t k = 0; k < n; k++) item(bytes + (size_t)k * size, (dc_h5_type)t, i + k);
            DC_TRY(dc_h5_append(w, column[t], bytes, n, err));
            if (dc_h5_written(w, column[t]) != i + n) rc = dc_fail(err, DC_EFORMAT, "written says something else");
            DC_TRY(rc);
        }
    DC_TRY(dc_h5_put_real(w, "real", 0.1, err));
    dc_h5_writer *last = w;
    w = NULL;
    rc = dc_h5_commit(last, err);
done:
    dc_h5_abandon(w);
    return rc;
}

/* Opens and reads everything, in pieces of `step`. */
static int read_file(const char *path, int64_t items, int64_t step, dc_error *err)
{
    dc_h5_file *f = NULL;
    const char *text = NULL;
    int64_t i = 0;
    double r = 0;
    uint8_t bytes[8 * 1024], wanted[8];
    int rc = DC_OK, column = -1;
    DC_TRY(dc_h5_open(&f, path, "test.format", 3, err));
    DC_TRY(dc_h5_get_text(&text, f, "text", err));
    DC_TRY(dc_h5_get_int(&i, f, "int", err));
    DC_TRY(dc_h5_get_real(&r, f, "real", err));
    if (strcmp(text, "h\xc3\xa9llo") != 0 || i != -5 || r != 0.1) rc = dc_fail(err, DC_EFORMAT, "WRONG attributes");
    DC_TRY(rc);
    for (int t = 0; t < N_TYPES; t++) {
        const size_t size = dc_h5_type_size((dc_h5_type)t);
        DC_TRY(dc_h5_find(&column, f, names[t], (dc_h5_type)t, err));
        if (dc_h5_items(f, column) != items) rc = dc_fail(err, DC_EFORMAT, "WRONG length");
        DC_TRY(rc);
        for (int64_t at = 0; at < items; at += step) {
            const int64_t n = items - at < step ? items - at : step;
            DC_TRY(dc_h5_read(f, column, bytes, at, n, err));
            for (int64_t k = 0; k < n; k++) {
                item(wanted, (dc_h5_type)t, at + k);
                if (memcmp(wanted, bytes + (size_t)k * size, size) != 0)
                    rc = dc_fail(err, DC_EFORMAT, "WRONG item %lld of %s", (long long)(at + k), names[t]);
                DC_TRY(rc);
            }
        }
    }
done:
    dc_h5_close(f);
    return rc;
}

static void must(int rc, const dc_error *err)
{
    if (rc) fail_msg("%d: %s", rc, err->message);
}

static dc_str bytes_of(const char *path)
{
    dc_str s = {0};
    dc_error err = {0};
    must(dc_file_read(&s, path, 1 << 26, &err), &err);
    return s;
}

static void every_type_and_length_comes_back(void **state)
{
    static const int64_t lengths[] = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, 8 * CHUNK + 1, 2345};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        dc_error err = {0};
        must(write_file(temp_path("a.h5"), lengths[i], 77, &err), &err);
        assert_false(dc_path_exists(temp_path("a.h5.tmp")));
        must(read_file(temp_path("a.h5"), lengths[i], 1000, &err), &err);
        must(read_file(temp_path("a.h5"), lengths[i], 33, &err), &err);
    }
}

static void the_same_input_gives_the_same_bytes(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_pool_set_threads(1);
    must(write_file(temp_path("one.h5"), 2345, 50, &err), &err);
    sleep(1); /* a time in the file would differ */
    dc_pool_set_threads(4);
    must(write_file(temp_path("two.h5"), 2345, 50, &err), &err);
    dc_pool_set_threads(0);
    dc_str a = bytes_of(temp_path("one.h5")), b = bytes_of(temp_path("two.h5"));
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n);
    dc_str_release(&a);
    dc_str_release(&b);
}

/* HDF5 itself, through the registered filters, reads the same items. */
static void hdf5_reads_it(void **state)
{
    (void)state;
    dc_error err = {0};
    uint32_t items[2345];
    uint8_t wanted[8];
    must(write_file(temp_path("lib.h5"), 2345, 77, &err), &err);
    const hid_t file = H5Fopen(temp_path("lib.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    const hid_t set = H5Dopen2(file, "a32", H5P_DEFAULT);
    assert_true(file >= 0 && set >= 0);
    assert_true(H5Dread(set, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, items) >= 0);
    for (int64_t i = 0; i < 2345; i++) {
        item(wanted, DC_H5_U32, i);
        assert_memory_equal(wanted, &items[i], 4);
    }
    H5Dclose(set);
    H5Fclose(file);
}

static void a_small_cache_is_enough(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_h5_file *f = NULL;
    int column[2];
    uint32_t a;
    uint16_t b;
    uint8_t wanted[8];
    must(write_file(temp_path("cache.h5"), 2345, 77, &err), &err);
    must(dc_h5_open(&f, temp_path("cache.h5"), "test.format", 3, &err), &err);
    must(dc_h5_find(&column[0], f, "a32", DC_H5_U32, &err), &err);
    must(dc_h5_find(&column[1], f, "a16", DC_H5_U16, &err), &err);
    for (int64_t cache = 2000; cache >= 0; cache -= 500) { /* a chunk of a32 has 400 bytes */
        dc_h5_set_cache(f, cache);
        for (int64_t k = 0; k < 3000; k++) {
            const int64_t i = (int64_t)(mix((uint64_t)k) >> 8) % 2345;
            must(dc_h5_read(f, column[0], &a, i, 1, &err), &err);
            must(dc_h5_read(f, column[1], &b, i, 1, &err), &err);
            item(wanted, DC_H5_U32, i);
            assert_memory_equal(wanted, &a, 4);
            item(wanted, DC_H5_U16, i);
            assert_memory_equal(wanted, &b, 2);
        }
    }
    dc_h5_close(f);
}

static void refuses(const char *path, const char *format, int64_t version, const char *says)
{
    dc_error err = {0};
    dc_h5_file *f = NULL;
    const int rc = dc_h5_open(&f, path, format, version, &err);
    if (rc != DC_EFORMAT || !strstr(err.message, says)) fail_msg("%d '%s', wanted '%s'", rc, err.message, says);
    assert_null(f);
}

static void hashes_are_hashes(void **state)
{
    (void)state;
    const dc_hash made = dc_hash_bytes("x", 1);
    dc_h5_writer *w = NULL;
    dc_h5_file *f = NULL;
    dc_hash hash = made;
    dc_error err = {0};
    const char *path = temp_path("hashes.h5");
    assert_int_equal(dc_h5_create(&w, path, "test.format", 1, NULL), DC_OK);
    assert_int_equal(dc_h5_put_text(w, "made", made.hex, NULL), DC_OK);
    assert_int_equal(dc_h5_put_text(w, "empty", "", NULL), DC_OK);
    assert_int_equal(dc_h5_put_text(w, "short", made.hex + 1, NULL), DC_OK);
    assert_int_equal(dc_h5_commit(w, NULL), DC_OK);
    assert_int_equal(dc_h5_open(&f, path, "test.format", 1, NULL), DC_OK);
    assert_int_equal(dc_h5_get_hash(&hash, f, "empty", NULL), DC_OK);
    assert_string_equal(hash.hex, "");
    assert_int_equal(dc_h5_get_hash(&hash, f, "made", NULL), DC_OK);
    assert_string_equal(hash.hex, made.hex);
    assert_int_equal(dc_h5_get_hash(&hash, f, "short", &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "hashes.h5: attribute 'short' is not a hash"));
    assert_string_equal(hash.hex, made.hex);
    dc_h5_close(f);
}

static void refusals_say_why(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_h5_file *f = NULL;
    int column;
    uint8_t byte;
    must(write_file(temp_path("r.h5"), 50, 50, &err), &err);
    refuses(temp_path("r.h5"), "other.format", 3, "its format is 'test.format', expected 'other.format'");
    refuses(temp_path("r.h5"), "test.format", 2, "version 3 of test.format; this program reads up to version 2");
    refuses(temp_write("text.h5", "no such thing", 13), "test.format", 3, "is not an HDF5 file");
    assert_int_equal(dc_h5_open(&f, temp_path("absent.h5"), "test.format", 3, &err), DC_EIO);
    err = (dc_error){0};
    must(dc_h5_open(&f, temp_path("r.h5"), "test.format", 3, &err), &err);
    assert_int_equal(dc_h5_find(&column, f, "none", DC_H5_U8, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "has no column 'none'"));
    err = (dc_error){0};
    assert_int_equal(dc_h5_find(&column, f, "a16", DC_H5_U8, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "holds u16 items, expected u8"));
    err = (dc_error){0};
    must(dc_h5_find(&column, f, "a8", DC_H5_U8, &err), &err);
    assert_int_equal(dc_h5_read(f, column, &byte, 50, 1, &err), DC_EFORMAT);
    assert_int_equal(dc_h5_read(f, column, &byte, -1, 1, NULL), DC_EFORMAT);
    must(dc_h5_read(f, column, &byte, 50, 0, NULL), &err);
    dc_h5_close(f);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    must(write_file(temp_path("whole.h5"), 500, 77, &err), &err);
    dc_str s = bytes_of(temp_path("whole.h5"));
    for (size_t n = s.n; n-- > 0; n -= n > 300 && s.n - n > 300 ? 40 : 0) {
        dc_h5_file *f = NULL;
        damage_cut(temp_path("whole.h5"), n);
        err = (dc_error){0};
        assert_int_equal(dc_h5_open(&f, temp_path("whole.h5"), "test.format", 3, &err), DC_EFORMAT);
        assert_non_null(strstr(err.message, "whole.h5"));
    }
    dc_str_release(&s);
}

/* No flipped bit may change an item: it is refused, or lies where nothing is. */
static void no_flipped_bit_goes_through(void **state)
{
    (void)state;
    dc_error err = {0};
    size_t caught = 0, tried = 0, tables = 0;
    must(write_file(temp_path("flip.h5"), 500, 77, &err), &err);
    dc_str s = bytes_of(temp_path("flip.h5"));
    for (size_t at = 0; at < s.n; at += 1 + at % 17) {
        damage_flip(temp_path("flip.h5"), at, (uint8_t)(1 << at % 8));
        err = (dc_error){0};
        const int rc = read_file(temp_path("flip.h5"), 500, 500, &err);
        if (rc != DC_OK && rc != DC_EFORMAT) fail_msg("byte %zu: %d %s", at, rc, err.message);
        if (strstr(err.message, "WRONG")) fail_msg("byte %zu: %s", at, err.message);
        caught += rc != DC_OK, tried++;
        tables += strstr(err.message, "the table of column") != NULL;
        damage_flip(temp_path("flip.h5"), at, (uint8_t)(1 << at % 8));
    }
    assert_true(tables > 0 && caught * 2 > tried); /* the rest: unused bytes of HDF5's index and header blocks */
    dc_str_release(&s);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    dc_error err = {0};
    int rc = DC_ENOMEM;
    long n = 1;
    for (; rc != DC_OK && n < 500; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = write_file(temp_path("m.h5"), 2000, 500, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
        if (rc != DC_OK) assert_false(dc_path_exists(temp_path("m.h5")) || dc_path_exists(temp_path("m.h5.tmp")));
    }
    assert_true(n > 20 && rc == DC_OK);
    rc = DC_ENOMEM;
    for (n = 1; rc != DC_OK && n < 500; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = read_file(temp_path("m.h5"), 2000, 500, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(n > 20 && rc == DC_OK);
}

/* This program again, with limits on the size of files from nothing to enough: a disk that is full at every place. */
static int fill_disk(const char *path)
{
    int failures = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0;; limit += 1500) {
        dc_error err = {0};
        struct rlimit old;
        getrlimit(RLIMIT_FSIZE, &old);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, old.rlim_max});
        const int rc = write_file(path, 3000, 1000, &err);
        if (rc == DC_OK) return failures > 10 ? 7 : 1;
        if (rc != DC_EIO || !strstr(err.message, path) || dc_path_exists(path)) return 2;
        failures++;
    }
}

/* An error, nothing published, nothing printed, and the program ends. */
static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    int out[2], status = 0;
    char printed[2000], path[192];
    snprintf(path, sizeof path, "%s", temp_path("full.h5"));
    assert_int_equal(pipe(out), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(out[1], 1), dup2(out[1], 2);
        execl("/proc/self/exe", "test_h5", path, (char *)NULL);
        _exit(1);
    }
    close(out[1]);
    const ssize_t n = read(out[0], printed, sizeof printed);
    if (n) fail_msg("printed: %.*s", (int)n, printed);
    close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_false(dc_path_exists(temp_path("full.h5.tmp")));
    dc_error err = {0};
    must(read_file(path, 3000, 1000, &err), &err);
}

static void the_manifest_names_what_is_finished(void **state)
{
    (void)state;
    dc_error err = {0};
    char **found = NULL;
    size_t n = 0;
    must(dc_mkdirs(temp_path("m"), &err), &err);
    temp_write("m/b", "bbb", 3);
    temp_write("m/a", "aaaa", 4);
    must(dc_manifest_add(temp_path("m"), "b", &err), &err);
    must(dc_manifest_add(temp_path("m"), "a", &err), &err);
    must(dc_manifest_add(temp_path("m"), "b", &err), &err); /* again: still one line */
    must(dc_manifest_check(temp_path("m"), 1, &found, &n, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(found[0], "a");
    assert_string_equal(found[1], "b");
    assert_null(found[2]);
    dc_names_free(found);
    temp_write("m/b", "bbX", 3);
    must(dc_manifest_check(temp_path("m"), 0, &found, &n, &err), &err);
    dc_names_free(found);
    assert_int_equal(dc_manifest_check(temp_path("m"), 1, &found, &n, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "is damaged"));
    err = (dc_error){0};
    temp_write("m/b", "bb", 2);
    assert_int_equal(dc_manifest_check(temp_path("m"), 0, &found, &n, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "has 2 bytes"));
    err = (dc_error){0};
    unlink(temp_path("m/b"));
    assert_int_equal(dc_manifest_check(temp_path("m"), 0, &found, &n, &err), DC_EIO);
    /* a torn line counts as none; the file can then be added again */
    dc_str s = bytes_of(temp_path("m/manifest.jsonl"));
    temp_write("m/manifest.jsonl", s.data, s.n - 4);
    must(dc_manifest_check(temp_path("m"), 1, &found, &n, &err), &err);
    assert_int_equal(n, 1);
    dc_names_free(found);
    temp_write("m/b", "bbb", 3);
    must(dc_manifest_add(temp_path("m"), "b", &err), &err);
    dc_str again = bytes_of(temp_path("m/manifest.jsonl"));
    assert_int_equal(s.n, again.n);
    assert_memory_equal(s.data, again.data, s.n);
    dc_str_release(&s);
    dc_str_release(&again);
}

/* A link to itself stands for a disk that refuses: lines that cannot be read must not be replaced. */
static void a_refused_manifest_is_kept(void **state)
{
    (void)state;
    struct stat st;
    dc_error err = {0};
    int64_t n = 0;
    must(dc_mkdirs(temp_path("r"), &err), &err);
    temp_write("r/train-00000.h5", "a", 1);
    assert_int_equal(symlink("manifest.jsonl", temp_path("r/manifest.jsonl")), 0);
    assert_int_equal(dc_manifest_add(temp_path("r"), "train-00000.h5", &err), DC_EIO);
    assert_non_null(strstr(err.message, "r/manifest.jsonl"));
    assert_int_equal(dc_set_remove(temp_path("r"), "train", 0, NULL), DC_EIO);
    assert_true(!lstat(temp_path("r/manifest.jsonl"), &st) && S_ISLNK(st.st_mode));
    assert_int_equal(dc_file_size(temp_path("r/train-00000.h5")), 1);
    /* Nor is a folder without files what cannot be listed. */
    assert_int_equal(symlink("folder", temp_path("folder")), 0);
    assert_int_equal(dc_set_count(&n, temp_path("folder"), "train", "tokens", NULL), DC_EIO);
    assert_int_equal(dc_set_sweep(temp_path("folder"), "train", NULL), DC_EIO);
}

static void a_manifest_may_not_name_other_folders(void **state)
{
    static const char *const lines[] = {
        "{\"bytes\": 1, \"file\": \"../x\", \"xxh3\": \"00000000000000000000000000000000\"}\n", "{\"bytes\": 1}\n",
        "[]\n", "{\n"};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        dc_error err = {0};
        char **found = NULL;
        size_t n = 0;
        must(dc_mkdirs(temp_path("n"), &err), &err);
        temp_write("n/manifest.jsonl", lines[i], strlen(lines[i]));
        assert_int_equal(dc_manifest_check(temp_path("n"), 0, &found, &n, &err), DC_EFORMAT);
        assert_non_null(strstr(err.message, "manifest.jsonl:1"));
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) return fill_disk(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_and_length_comes_back),
        cmocka_unit_test(the_same_input_gives_the_same_bytes),
        cmocka_unit_test(hdf5_reads_it),
        cmocka_unit_test(a_small_cache_is_enough),
        cmocka_unit_test(hashes_are_hashes),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_flipped_bit_goes_through),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(the_manifest_names_what_is_finished),
        cmocka_unit_test(a_refused_manifest_is_kept),
        cmocka_unit_test(a_manifest_may_not_name_other_folders),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
