/* tests/data/test_reader.c -- every format in every packing; bad rows by place and reason; damaged files; memory. */
#include "data/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/str.h"

enum { PLAIN, GZIP, ZSTANDARD, PACKINGS };

/* All that a reader says, one line a record: "PLACE JSON" or "PLACE! REASON"; then "ERROR MESSAGE" when it failed. */
static void drain(dc_str *log, dc_reader *r)
{
    for (;;) {
        dc_record record;
        dc_error err = {0};
        const int rc = dc_reader_next(r, &record, &err);
        if (rc) {
            dc_str_putf(log, "ERROR %s\n", err.message);
            break;
        }
        if (record.kind == DC_READ_END) break;
        if (record.kind == DC_READ_BAD) {
            dc_str_putf(log, "%s! %s\n", record.place, record.reason);
            continue;
        }
        char *text = json_dumps(record.value, JSON_COMPACT | JSON_ENCODE_ANY);
        dc_str_putf(log, "%s %s\n", record.place, text);
        free(text);
    }
}

static dc_str read_bytes(const char *name, const void *bytes, size_t n, size_t max_row)
{
    dc_reader *r = NULL;
    dc_reader_options o = dc_reader_defaults();
    dc_str log = {0};
    if (max_row) o.max_row = max_row;
    assert_int_equal(dc_reader_from_memory(&r, bytes, n, name, &o, NULL), DC_OK);
    drain(&log, r);
    dc_record again;
    if (!strstr(dc_str_text(&log), "ERROR")) { /* the end stays the end */
        assert_int_equal(dc_reader_next(r, &again, NULL), DC_OK);
        assert_int_equal(again.kind, DC_READ_END);
        assert_int_equal(dc_reader_done(r), dc_reader_total(r));
    }
    dc_reader_close(r);
    return log;
}

/* Packs in one or two members or frames, with checksums. The caller frees. */
static char *packed(int packing, int parts, const char *text, size_t n, size_t *out_n)
{
    const size_t room = 2 * n + 1000;
    char *out = malloc(room);
    assert_non_null(out);
    if (packing == PLAIN) {
        if (n) memcpy(out, text, n);
        *out_n = n;
        return out;
    }
    *out_n = 0;
    for (int part = 0; part < parts; part++) {
        const char *from = part ? text + n / 2 : text;
        const size_t k = parts == 1 ? n : part ? n - n / 2 : n / 2;
        if (packing == ZSTANDARD) {
            ZSTD_CCtx *z = ZSTD_createCCtx();
            ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
            const size_t got = ZSTD_compress2(z, out + *out_n, room - *out_n, from, k);
            assert_false(ZSTD_isError(got));
            ZSTD_freeCCtx(z);
            *out_n += got;
            continue;
        }
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (Bytef *)(uintptr_t)from;
        z.avail_in = (uInt)k;
        z.next_out = (Bytef *)out + *out_n;
        z.avail_out = (uInt)(room - *out_n);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        *out_n = room - z.avail_out;
        deflateEnd(&z);
    }
    return out;
}

static void expect(const char *name, const char *text, size_t n, const char *want)
{
    for (int packing = 0; packing < PACKINGS; packing++) {
        size_t k;
        char *bytes = packed(packing, 2, text, n, &k);
        dc_str got = read_bytes(name, bytes, k, 0);
        assert_string_equal(dc_str_text(&got), want);
        dc_str_release(&got);
        free(bytes);
    }
}

#define EXPECT(name, text, want) expect(name, text, sizeof(text) - 1, want)

static void json_lines(void **unused)
{
    (void)unused;
    EXPECT("a.jsonl", "{\"a\":1}\n{\"a\":2}\n", "a.jsonl:1 {\"a\":1}\na.jsonl:2 {\"a\":2}\n");
    EXPECT("a.jsonl", "\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"a\":\"\\u0000x\"}",
           "a.jsonl:1 {\"a\":1}\na.jsonl:4 {\"a\":\"\\u0000x\"}\n");
    EXPECT("a.jsonl", "", "");
    EXPECT("a.jsonl", "[1]\n2\nnull\n\"x\"\n", "a.jsonl:1 [1]\na.jsonl:2 2\na.jsonl:3 null\na.jsonl:4 \"x\"\n");
    EXPECT("noname", " {\"a\":1}\n", "noname:1 {\"a\":1}\n");
    EXPECT("d/A.NDJSON.gz", "1", "d/A.NDJSON.gz:1 1\n");
    EXPECT("a.jsonl", "{\"a\":1,\"a\":2}", "a.jsonl:1 {\"a\":2}\n");
}

static void bad_lines_are_skipped_with_their_reason(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"{",
                                      "{]",
                                      "{\"a\":1} x",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\\udc00\\ud800\"}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xc3\"}",
                                      "{\"a\":123456789012345678901}",
                                      "{\"a\":1e999}",
                                      "{\"a\":NaN}",
                                      "{\"a\\u0000b\":1}",
                                      "{\"a\":\"tab\there\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dc_str text = {0}, want = {0};
        dc_str_putf(&text, "1\n%s\n2\n", bad[i]);
        dc_str got = read_bytes("b.jsonl", text.data, text.n, 0);
        assert_memory_equal(got.data, "b.jsonl:1 1\nb.jsonl:2! not JSON: ", 33);
        assert_string_equal(got.data + got.n - 12, "b.jsonl:3 2\n");
        size_t lines = 0;
        for (const char *c = got.data; *c; c++) lines += *c == '\n';
        assert_int_equal(lines, 3);
        dc_str_release(&got);
        dc_str_release(&text);
        dc_str_release(&want);
    }
}

static void json_arrays_and_sequences(void **unused)
{
    (void)unused;
    EXPECT("a.json", "[{\"a\":[1,{\"b\":\"]}\\\"\"}]},\n 2 ,\"x,y\", null]\n",
           "a.json: item 1 {\"a\":[1,{\"b\":\"]}\\\"\"}]}\na.json: item 2 2\na.json: item 3 \"x,y\"\na.json: item 4 "
           "null\n");
    EXPECT("a.json", "{\"a\":\n {\"b\": 1}\n}\n{\"c\":2}{\"d\":3} 4 5",
           "a.json: item 1 {\"a\":{\"b\":1}}\na.json: item 2 {\"c\":2}\na.json: item 3 {\"d\":3}\na.json: item 4 "
           "4\na.json: item 5 5\n");
    EXPECT("a.json", " [ ] ", "");
    EXPECT("a.json", "", "");
    EXPECT("x", "[1]", "x: item 1 1\n");
    EXPECT("a.json", "[1,{\"a\" 2},3]",
           "a.json: item 1 1\na.json: item 2! not JSON: ':' expected near '2' (byte 6 of the row)\na.json: item 3 3\n");
    EXPECT("a.json", "[1 2]",
           "a.json: item 1 1\na.json: item 1! expected ',' or ']' behind this item\na.json: item 2 2\n");
    EXPECT("a.json", "[1,2",
           "a.json: item 1 1\na.json: item 2 2\na.json: item 2! the file ends before the array's ']'\n");
    EXPECT("a.json", "[1,{\"a\":", "a.json: item 1 1\na.json: item 2! the file ends inside of this item\n");
    EXPECT("a.json", "[1] x",
           "a.json: item 1 1\na.json: item 1! something stands behind the array's end\na.json: item 2! not JSON: "
           "invalid token near 'x' (byte 1 of the row)\n");
}

static void stray_brackets_and_commas_end(void **unused)
{
    (void)unused;
    EXPECT("a.json", "[,1,2]",
           "a.json: item 1! an item is missing\n"
           "a.json: item 2 1\na.json: item 3 2\n");
    EXPECT("a.json", "{},{}",
           "a.json: item 1 {}\na.json: item 2! not JSON: unexpected token near ',' (byte 1 of the row)\n"
           "a.json: item 3 {}\n");
    static const char *const texts[] = {",",  "]",  "}",     "[,1]",   "[]]",   "[1,,2]", "}{",
                                        "[}", "\"", "[\"\\", ",,]]}}", "{},{}", "[1]]]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        dc_str got = read_bytes("a.json", texts[i], strlen(texts[i]), 0);
        assert_true(strstr(dc_str_text(&got), "! ") != NULL);
        assert_true(got.n < 600);
        dc_str_release(&got);
    }
}

static void csv(void **unused)
{
    (void)unused;
    EXPECT("a.csv", "a,b\n1,2\n", "a.csv:2 {\"a\":\"1\",\"b\":\"2\"}\n");
    EXPECT("a.csv",
           "\xef\xbb\xbf"
           "a,b\r\n\"x,\r\ny\",\"say \"\"hi\"\"\"\r\n\r\n,\r\n3,4",
           "a.csv:2 {\"a\":\"x,\\r\\ny\",\"b\":\"say \\\"hi\\\"\"}\na.csv:5 {\"a\":\"\",\"b\":\"\"}\na.csv:6 "
           "{\"a\":\"3\",\"b\":\"4\"}\n");
    EXPECT("a.csv", "a\rb\r", "a.csv:2 {\"a\":\"b\"}\n");
    EXPECT("a.csv", "a\n\"\"\n\nx", "a.csv:2 {\"a\":\"\"}\na.csv:4 {\"a\":\"x\"}\n");
    EXPECT("a.csv", "a,b\n1\n1,2,3\n5'9\",6\n",
           "a.csv:2! 1 fields where the header has 2\na.csv:3! 3 fields where the header has 2\na.csv:4 "
           "{\"a\":\"5'9\\\"\",\"b\":\"6\"}\n");
    EXPECT("a.csv", "a\n\"x\"y\nz\n", "a.csv:2! text behind the closing quote of a field\na.csv:3 {\"a\":\"z\"}\n");
    EXPECT("a.csv", "a,b\n\xc3,\xa9\n\xc3\xa9,x\n",
           "a.csv:2! not valid UTF-8\na.csv:3 {\"a\":\"\xc3\xa9\",\"b\":\"x\"}\n");
    EXPECT("a.csv", "a\n\"never closed\n1\n", "a.csv:2! the file ends inside of a quoted field\n");
    EXPECT("a.csv", "a\nx\0y\n", "a.csv:2 {\"a\":\"x\\u0000y\"}\n");
    EXPECT("a.csv", "", "");
    EXPECT("a.tsv", "a\tb\n1,5\t2\n", "a.tsv:2 {\"a\":\"1,5\",\"b\":\"2\"}\n");
    EXPECT("a.csv", "a,a\n1,2\n", "ERROR a.csv: the header has the column 'a' twice\n");
}

static void texts(void **unused)
{
    (void)unused;
    EXPECT("a.txt", "two\n\nparagraphs\n", "a.txt {\"text\":\"two\\n\\nparagraphs\\n\"}\n");
    EXPECT("a.md", "\xef\xbb\xbfx", "a.md {\"text\":\"x\"}\n");
    EXPECT("a.txt", "", "");
    EXPECT("a.txt", "x\xffy", "a.txt! not valid UTF-8\n");
    EXPECT("a.txt", "\0", "a.txt {\"text\":\"\\u0000\"}\n");
}

static void foreign_files_are_refused_by_name(void **unused)
{
    (void)unused;
    EXPECT("a.jsonl", "\xff\xfe{\0", "ERROR a.jsonl is UTF-16 text; convert it to UTF-8\n");
    EXPECT("a.parquet", "PAR1....", "ERROR a.parquet is a Parquet file; convert it to .jsonl\n");
    EXPECT("a.bin", "hello",
           "ERROR a.bin: the format is not clear from the name; give data's format: jsonl, json, csv, tsv or txt\n");
}

/* Rows of all sizes around the readers' 64 KB pieces, in every format. */
static void rows_cross_pieces(void **unused)
{
    (void)unused;
    static const char *const names[] = {"a.jsonl", "a.json", "a.csv"};
    for (size_t f = 0; f < 3; f++) {
        dc_str text = {0};
        dc_str_puts(&text, f == 0 ? "" : f == 1 ? "[" : "t\n");
        for (int k = 0; k < 300; k++) {
            if (f == 1 && k) dc_str_putc(&text, ',');
            dc_str_puts(&text, f == 2 ? "\"" : "{\"t\":\"");
            for (int i = 0; i < k * 7; i++)
                dc_str_puts(&text, i % 50 == 49 ? "\xe4\xb8\x96" : f == 2 && i % 50 == 3 ? "\"\"" : "x");
            dc_str_puts(&text, f == 2 ? "\"\n" : f == 1 ? "\"}" : "\"}\n");
        }
        if (f == 1) dc_str_putc(&text, ']');
        for (int packing = 0; packing < PACKINGS; packing++) {
            size_t n;
            char *bytes = packed(packing, 2, text.data, text.n, &n);
            dc_reader *r = NULL;
            dc_record record;
            assert_int_equal(dc_reader_from_memory(&r, bytes, n, names[f], NULL, NULL), DC_OK);
            for (int k = 0; k < 300; k++) {
                assert_int_equal(dc_reader_next(r, &record, NULL), DC_OK);
                assert_int_equal(record.kind, DC_READ_ROW);
                assert_int_equal(record.row, k);
                const int wide = k * 7 / 50;
                assert_int_equal(json_string_length(json_object_get(record.value, "t")), k * 7 + 2 * wide);
            }
            assert_int_equal(dc_reader_next(r, &record, NULL), DC_OK);
            assert_int_equal(record.kind, DC_READ_END);
            dc_reader_close(r);
            free(bytes);
        }
        dc_str_release(&text);
    }
}

static void huge_rows_are_bad_rows(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *text, *want;
    } table[] = {
        {"a.jsonl", "\"123456789\"\n\"12345678901\"\n3\n",
         "a.jsonl:1 \"123456789\"\na.jsonl:2! longer than 12 B\na.jsonl:3 3\n"},
        {"a.json", "[\"123456789\",\"12345678901\",3]",
         "a.json: item 1 \"123456789\"\na.json: item 2! longer than 12 B\na.json: item 3 3\n"},
        {"a.csv", "a,b\n123456,789012\n1234567,890123\n3,4",
         "a.csv:2 {\"a\":\"123456\",\"b\":\"789012\"}\na.csv:3! longer than 12 B\na.csv:4 {\"a\":\"3\",\"b\":\"4\"}\n"},
        {"a.txt", "1234567890123", "a.txt! longer than 12 B\n"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        dc_str got = read_bytes(table[i].name, table[i].text, strlen(table[i].text), 12);
        assert_string_equal(dc_str_text(&got), table[i].want);
        dc_str_release(&got);
    }
}

static void truncated_files_never_pass_unnoticed(void **unused)
{
    (void)unused;
    static const char *const names[] = {"a.jsonl", "a.json", "a.csv", "a.txt"};
    static const char *const texts4[] = {"{\"a\":\"\xc3\xa9\"}\n{\"b\":[1,2]}\n",
                                         "[{\"a\":\"\xc3\xa9\"},{\"b\":[1,2]}]", "a,b\n\"x\ny\",2\n3,\"\"\"4\"\n",
                                         "some text \xc3\xa9"};
    for (size_t f = 0; f < 4; f++)
        for (int packing = 0; packing < PACKINGS; packing++) {
            size_t n;
            char *bytes = packed(packing, 1, texts4[f], strlen(texts4[f]), &n);
            for (size_t k = 0; k < n; k++) {
                char *copy = malloc(k + 1); /* of exact size, so that a read behind it is seen */
                assert_non_null(copy);
                memcpy(copy, bytes, k);
                dc_str got = read_bytes(names[f], copy, k, 0);
                if (packing != PLAIN && k >= 4) /* shorter than a magic number: plain bytes */
                    assert_non_null(strstr(dc_str_text(&got), "Fetch or make the file again"));
                dc_str_release(&got);
                free(copy);
            }
            free(bytes);
        }
}

static void damaged_streams_are_errors(void **unused)
{
    (void)unused;
    const char text[] = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n";
    for (int packing = GZIP; packing < PACKINGS; packing++) {
        size_t n;
        char *bytes = packed(packing, 2, text, sizeof text - 1, &n);
        dc_str got = read_bytes("a.jsonl", bytes, n - 3, 0);
        assert_non_null(strstr(got.data, "a.jsonl:1 {\"a\":1}\n")); /* what came before the damage */
        assert_non_null(strstr(got.data, "stream is cut short after"));
        dc_str_release(&got);
        memset(bytes + n - 12, 0xee, 8);
        got = read_bytes("a.jsonl", bytes, n, 0);
        assert_non_null(strstr(got.data, "ERROR a.jsonl: the "));
        dc_str_release(&got);
        free(bytes);
    }
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char *path = dc_path_join(dir, name);
    assert_int_equal(dc_file_write(path, text, strlen(text), NULL), DC_OK);
    dc_free(path);
}

static dc_str read_path(const char *dir, const char *name)
{
    dc_str log = {0};
    dc_reader *r = NULL;
    dc_error err = {0};
    char *path = dc_path_join(dir, name);
    if (dc_reader_open(&r, path, NULL, &err)) dc_str_putf(&log, "ERROR %s\n", err.message);
    else drain(&log, r);
    dc_reader_close(r);
    dc_free(path);
    return log;
}

/* The log without the directory's name. */
static void expect_path(const char *dir, const char *name, const char *want)
{
    dc_str got = read_path(dir, name), plain = {0};
    for (const char *p = dc_str_text(&got); *p;) {
        const size_t n = strlen(dir);
        if (strncmp(p, dir, n) == 0) p += n + (p[n] == '/');
        else dc_str_putc(&plain, *p++);
    }
    assert_string_equal(dc_str_text(&plain), want);
    dc_str_release(&got);
    dc_str_release(&plain);
}

static void directories_and_patterns(void **unused)
{
    (void)unused;
    char dir[] = "/tmp/decant-reader-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    put_file(dir, "b.jsonl", "2\n");
    put_file(dir, "a.csv", "x\n1\n");
    put_file(dir, ".hidden.jsonl", "9\n");
    put_file(dir, "README", "no data");
    put_file(dir, "c.txt", "three");
    expect_path(dir, "", "a.csv:2 {\"x\":\"1\"}\nb.jsonl:1 2\nc.txt {\"text\":\"three\"}\n");
    expect_path(dir, "[bc].*", "b.jsonl:1 2\nc.txt {\"text\":\"three\"}\n");
    expect_path(dir, "b.jsonl", "b.jsonl:1 2\n");
    expect_path(dir, "zz.jsonl", "ERROR cannot open zz.jsonl: No such file or directory\n");
    expect_path(dir, "z*.jsonl", "ERROR z*.jsonl: no file matches\n");
    expect_path(dir, "nowhere/*.jsonl", "ERROR nowhere/*.jsonl: no file matches\n");
    snprintf(path, sizeof path, "%s/loop", dir);
    assert_int_equal(symlink("loop", path), 0);
    expect_path(dir, "loop/*.jsonl", "ERROR loop/*.jsonl: cannot look for matching files: a folder cannot be read\n");
    assert_int_equal(unlink(path), 0);
    char *empty = dc_path_join(dir, "empty");
    assert_int_equal(dc_mkdirs(empty, NULL), DC_OK);
    dc_str got = read_path(empty, "");
    assert_non_null(strstr(got.data, "the directory has no file that ends in"));
    dc_str_release(&got);
    dc_free(empty);
    assert_int_equal(dc_remove_tree(dir, NULL), DC_OK);
}

static void failing_memory_is_reported(void **unused)
{
    (void)unused;
    static const char *const names[] = {"a.jsonl", "a.json", "a.csv", "a.txt"};
    static const char *const texts4[] = {"{\"a\":1}\n{\n", "[1,{]", "a,b\n1,2\n3\n", "text"};
    for (size_t f = 0; f < 4; f++)
        for (int packing = 0; packing < PACKINGS; packing++) {
            size_t n;
            char *bytes = packed(packing, 1, texts4[f], strlen(texts4[f]), &n);
            int failures = 0;
            for (long k = 1;; k++) {
                dc_reader *r = NULL;
                dc_record record = {.kind = DC_READ_ROW};
                dc_alloc_fail_at(k);
                int rc = dc_reader_from_memory(&r, bytes, n, names[f], NULL, NULL);
                while (rc == DC_OK && record.kind != DC_READ_END) rc = dc_reader_next(r, &record, NULL);
                dc_alloc_fail_at(0);
                dc_reader_close(r);
                if (rc == DC_OK) break;
                assert_int_equal(rc, DC_ENOMEM);
                failures++;
            }
            assert_true(failures >= 5);
            free(bytes);
        }
}

static void names_of_formats(void **unused)
{
    (void)unused;
    for (int f = 0; dc_format_name((dc_format)f); f++)
        assert_int_equal(dc_format_find(dc_format_name((dc_format)f)), f);
    assert_int_equal(dc_format_find("xml"), -1);
    assert_int_equal(dc_format_find(NULL), DC_FORMAT_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines),
        cmocka_unit_test(bad_lines_are_skipped_with_their_reason),
        cmocka_unit_test(json_arrays_and_sequences),
        cmocka_unit_test(stray_brackets_and_commas_end),
        cmocka_unit_test(csv),
        cmocka_unit_test(texts),
        cmocka_unit_test(foreign_files_are_refused_by_name),
        cmocka_unit_test(rows_cross_pieces),
        cmocka_unit_test(huge_rows_are_bad_rows),
        cmocka_unit_test(truncated_files_never_pass_unnoticed),
        cmocka_unit_test(damaged_streams_are_errors),
        cmocka_unit_test(directories_and_patterns),
        cmocka_unit_test(failing_memory_is_reported),
        cmocka_unit_test(names_of_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
