/* data/reader.c -- finds a source's files and their formats, and hands out rows; the formats are in read_json.c and read_csv.c. */
#include "data/reader.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/reader_internal.h"

static const char *const format_names[] = {"auto", "jsonl", "json", "csv", "tsv", "txt"};

const char *dc_format_name(dc_format format)
{
    return (size_t)format < sizeof format_names / sizeof *format_names ? format_names[format] : NULL;
}

int dc_format_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof format_names / sizeof *format_names; i++)
        if (strcmp(name, format_names[i]) == 0) return (int)i;
    return name ? -1 : DC_FORMAT_AUTO;
}

dc_reader_options dc_reader_defaults(void)
{
    return (dc_reader_options){.format = DC_FORMAT_AUTO, .max_row = (size_t)64 << 20};
}

/* By the ending in front of .gz or .zst; AUTO when it is none of ours. */
static dc_format format_of_name(const char *path)
{
    static const struct {
        const char *ending;
        dc_format format;
    } table[] = {{".jsonl", DC_FORMAT_JSONL}, {".ndjson", DC_FORMAT_JSONL}, {".json", DC_FORMAT_JSON},
                 {".csv", DC_FORMAT_CSV},     {".tsv", DC_FORMAT_TSV},      {".txt", DC_FORMAT_TXT},
                 {".text", DC_FORMAT_TXT},    {".md", DC_FORMAT_TXT}};
    static const char *const packed[] = {".gz", ".gzip", ".zst", ".zstd"};
    const char *base = dc_path_base(path);
    size_t n = strlen(base);
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
        const size_t k = strlen(packed[i]);
        if (n <= k || strncasecmp(base + n - k, packed[i], k) != 0) continue;
        n -= k;
        break;
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const size_t k = strlen(table[i].ending);
        if (n >= k && strncasecmp(base + n - k, table[i].ending, k) == 0) return table[i].format;
    }
    return DC_FORMAT_AUTO;
}

/* ---- files ---- */
static int add_file(dc_reader *r, const char *path)
{
    char **files = dc_realloc(r->files, (r->n_files + 1) * sizeof *files);
    if (!files) return -1;
    r->files = files;
    files[r->n_files] = dc_strdup(path);
    if (!files[r->n_files]) return -1;
    r->n_files++;
    const int64_t size = dc_file_size(path);
    r->total += size > 0 ? size : 0;
    return 0;
}

static int add_directory(dc_reader *r, const char *path, dc_error *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = dc_dir_list(&names, &n, path, err);
    for (size_t i = 0; rc == DC_OK && i < n; i++) {
        const int wanted =
            names[i][0] != '.' && (r->o.format != DC_FORMAT_AUTO || format_of_name(names[i]) != DC_FORMAT_AUTO);
        char *file = wanted ? dc_path_join(path, names[i]) : NULL;
        if (wanted && (!file || (!dc_path_is_dir(file) && add_file(r, file))))
            rc = dc_fail_memory(err, strlen(names[i]), "a path");
        dc_free(file);
    }
    dc_names_free(names);
    if (rc == DC_OK && !r->n_files)
        rc = dc_fail(
            err, DC_EIO,
            "%s: the directory has no file that ends in .jsonl, .json, .csv, .tsv, .txt or .md (plain, .gz or .zst)",
            path);
    return rc;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* A folder that is not there has no match; one that cannot be read may have some. */
static int refused(const char *folder, int code)
{
    (void)folder;
    return code != ENOENT;
}

static int add_glob(dc_reader *r, const char *path, dc_error *err)
{
    glob_t found;
    int rc = DC_OK;
    const int failed = glob(path, GLOB_NOSORT, refused, &found);
    if (failed == GLOB_NOMATCH) return dc_fail(err, DC_EIO, "%s: no file matches", path);
    if (failed) return dc_fail(err, DC_EIO, "%s: cannot look for matching files: a folder cannot be read", path);
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_bytes);
    for (size_t i = 0; i < found.gl_pathc && rc == DC_OK; i++)
        if (!dc_path_is_dir(found.gl_pathv[i]) && add_file(r, found.gl_pathv[i]))
            rc = dc_fail_memory(err, strlen(path), "a path");
    globfree(&found);
    if (rc == DC_OK && !r->n_files) rc = dc_fail(err, DC_EIO, "%s: only directories match", path);
    return rc;
}

static dc_reader *reader_new(const dc_reader_options *o, dc_error *err)
{
    dc_reader *r = dc_calloc(1, sizeof *r);
    if (!r) dc_fail_memory(err, sizeof *r, "a reader");
    else r->o = o ? *o : dc_reader_defaults();
    return r;
}

int dc_reader_open(dc_reader **out, const char *path, const dc_reader_options *o, dc_error *err)
{
    dc_reader *r = reader_new(o, err);
    if (!r) return DC_ENOMEM;
    int rc;
    if (dc_path_is_dir(path)) rc = add_directory(r, path, err);
    else if (dc_path_exists(path) || !strpbrk(path, "*?["))
        rc = !dc_path_exists(path) ? dc_fail_errno(err, "open", path)
             : add_file(r, path)   ? dc_fail_memory(err, strlen(path), "a path")
                                   : DC_OK;
    else rc = add_glob(r, path, err);
    if (rc) dc_reader_close(r);
    else *out = r;
    return rc;
}

int dc_reader_from_memory(dc_reader **out, const void *bytes, size_t n, const char *name, const dc_reader_options *o,
                          dc_error *err)
{
    dc_reader *r = reader_new(o, err);
    if (!r) return DC_ENOMEM;
    if (add_file(r, name)) {
        dc_reader_close(r);
        return dc_fail_memory(err, strlen(name), "a path");
    }
    r->memory = bytes ? bytes : "";
    r->memory_n = n;
    r->total = (int64_t)n;
    *out = r;
    return DC_OK;
}

void dc_reader_close(dc_reader *r)
{
    if (!r) return;
    dc_source_close(r->source);
    for (size_t i = 0; i < r->n_files; i++) dc_free(r->files[i]);
    dc_free(r->files);
    json_decref(r->record.value);
    dc_csv_release(&r->csv);
    dc_str_release(&r->text);
    dc_str_release(&r->place);
    dc_str_release(&r->reason);
    dc_free(r);
}

int dc_reader_hash(dc_hash *out, const char *path, dc_error *err)
{
    dc_reader *r = NULL;
    int rc = dc_reader_open(&r, path, NULL, err);
    if (rc) return rc;
    dc_hasher *h = dc_hasher_new();
    if (!h) rc = dc_fail_memory(err, 0, "a hash");
    for (size_t i = 0; rc == DC_OK && i < r->n_files; i++) {
        dc_hash one;
        rc = dc_hash_file(&one, r->files[i], err);
        if (rc == DC_OK) dc_hasher_add_text(h, one.hex);
    }
    if (rc == DC_OK) *out = dc_hasher_get(h);
    dc_hasher_free(h);
    dc_reader_close(r);
    return rc;
}

int64_t dc_reader_done(const dc_reader *r) { return r->done + (r->source ? dc_source_done(r->source) : 0); }
int64_t dc_reader_total(const dc_reader *r) { return r->total; }

/* ---- rows ---- */
int dc_reader_fill(dc_reader *r, dc_error *err)
{
    if (r->n || r->drained) return DC_OK;
    const int rc = dc_source_next(r->source, &r->p, &r->n, err);
    r->drained = rc == DC_OK && r->n == 0;
    return rc;
}

void dc_reader_fresh(dc_reader *r)
{
    dc_str_clear(&r->text);
    r->too_long = 0;
}

void dc_reader_keep(dc_reader *r, const char *p, size_t n)
{
    if (r->too_long) return;
    r->too_long = n > r->o.max_row - r->text.n;
    if (!r->too_long) dc_str_append(&r->text, p, n);
    else dc_str_release(&r->text);
}

static int finish(dc_reader *r, dc_read kind, uint64_t line, uint64_t item, dc_error *err)
{
    dc_str_clear(&r->place);
    dc_str_puts(&r->place, r->files[r->at_file]);
    if (line) dc_str_putf(&r->place, ":%llu", (unsigned long long)line);
    if (item) dc_str_putf(&r->place, ": item %llu", (unsigned long long)item);
    if (r->place.failed || r->reason.failed || r->text.failed) return dc_fail_memory(err, r->place.n, "a row's place");
    r->record.kind = kind;
    r->record.place = dc_str_text(&r->place);
    r->record.reason = kind == DC_READ_BAD ? dc_str_text(&r->reason) : NULL;
    r->record.row = r->rows++;
    return DC_OK;
}

int dc_reader_row(dc_reader *r, json_t *value, uint64_t line, uint64_t item, dc_error *err)
{
    if (!value) return dc_fail_memory(err, r->text.n, "a row");
    r->record.value = value;
    return finish(r, DC_READ_ROW, line, item, err);
}

int dc_reader_bad(dc_reader *r, const char *reason, uint64_t line, uint64_t item, dc_error *err)
{
    dc_str_clear(&r->reason);
    dc_str_puts(&r->reason, reason);
    return finish(r, DC_READ_BAD, line, item, err);
}

static int bad_long(dc_reader *r, uint64_t line, uint64_t item, dc_error *err)
{
    char size[32], text[64] = "longer than ";
    strncat(text, dc_human_bytes(size, sizeof size, (double)r->o.max_row), sizeof text - strlen(text) - 1);
    return dc_reader_bad(r, text, line, item, err);
}

int dc_reader_parse(dc_reader *r, uint64_t line, uint64_t item, dc_error *err)
{
    if (r->too_long) return bad_long(r, line, item, err);
    if (r->text.failed) return dc_fail_memory(err, r->text.n, "a row");
    if (!r->text.n) return dc_reader_bad(r, "an item is missing", line, item, err);
    json_error_t e;
    json_t *value = json_loadb(dc_str_text(&r->text), r->text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (value) return dc_reader_row(r, value, line, item, err);
    if (json_error_code(&e) == json_error_out_of_memory) return dc_fail_memory(err, r->text.n, "a row");
    dc_str_clear(&r->reason);
    dc_str_putf(&r->reason, "not JSON: %s (byte %d of the row)", e.text, e.position);
    for (size_t i = 0; i < r->reason.n; i++) /* jansson quotes what is near, control characters too */
        if ((unsigned char)r->reason.data[i] < 0x20) r->reason.data[i] = ' ';
    return finish(r, DC_READ_BAD, line, item, err);
}

int dc_read_txt(dc_reader *r, dc_error *err)
{
    dc_reader_fresh(r);
    for (;;) {
        const int rc = dc_reader_fill(r, err);
        if (rc) return rc;
        if (r->drained) break;
        dc_reader_keep(r, r->p, r->n);
        r->n = 0;
    }
    if (r->item++) return DC_OK; /* the record stays END */
    if (r->too_long) return bad_long(r, 0, 0, err);
    if (r->text.failed) return dc_fail_memory(err, r->text.n, "a text");
    if (!r->text.n) return DC_OK;
    if (!dc_utf8_valid(r->text.data, r->text.n)) return dc_reader_bad(r, "not valid UTF-8", 0, 0, err);
    json_t *value = json_object();
    if (json_object_set_new(value, "text", json_stringn_nocheck(r->text.data, r->text.n))) {
        json_decref(value);
        value = NULL;
    }
    return dc_reader_row(r, value, 0, 0, err);
}

/* ---- the next file ---- */
static int starts(const dc_reader *r, const char *magic, size_t n) { return r->n >= n && memcmp(r->p, magic, n) == 0; }

static int refuse_foreign(const dc_reader *r, dc_error *err)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *what;
    } table[] = {{"\xff\xfe", 2, "UTF-16 text; convert it to UTF-8"},
                 {"\xfe\xff", 2, "UTF-16 text; convert it to UTF-8"},
                 {"PAR1", 4, "a Parquet file; convert it to .jsonl"},
                 {"\xfd"
                  "7zXZ",
                  5, "compressed with xz; use .gz or .zst"},
                 {"BZh", 3, "compressed with bzip2; use .gz or .zst"},
                 {"PK\3\4", 4, "a zip archive; unpack it"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (starts(r, table[i].magic, table[i].n))
            return dc_fail(err, DC_EUNKNOWN, "%s is %s", r->files[r->at_file], table[i].what);
    return DC_OK;
}

static int open_file(dc_reader *r, dc_error *err)
{
    const char *path = r->files[r->at_file];
    int rc = r->memory ? dc_source_memory(&r->source, r->memory, r->memory_n, path, err)
                       : dc_source_open(&r->source, path, err);
    r->n = 0;
    r->drained = 0;
    r->line = r->item = 0;
    r->json = (dc_json_scan){0};
    if (rc == DC_OK) rc = dc_reader_fill(r, err);
    if (rc == DC_OK) rc = refuse_foreign(r, err);
    if (rc) return rc;
    if (starts(r, "\xef\xbb\xbf", 3)) r->p += 3, r->n -= 3;
    r->format = r->o.format != DC_FORMAT_AUTO ? r->o.format : format_of_name(path);
    size_t i = 0;
    while (i < r->n && strchr(" \t\r\n", r->p[i]) && r->p[i]) i++;
    if (r->format == DC_FORMAT_AUTO && i < r->n && r->p[i] == '[') r->format = DC_FORMAT_JSON;
    if (r->format == DC_FORMAT_AUTO && i < r->n && r->p[i] == '{') r->format = DC_FORMAT_JSONL;
    if (r->format == DC_FORMAT_AUTO)
        return dc_fail(err, DC_EUNKNOWN,
                       "%s: the format is not clear from the name; give data's format: jsonl, json, csv, tsv or txt",
                       path);
    if (r->format == DC_FORMAT_CSV || r->format == DC_FORMAT_TSV) return dc_csv_begin(r, err);
    return DC_OK;
}

int dc_reader_next(dc_reader *r, dc_record *record, dc_error *err)
{
    int rc = DC_OK;
    json_decref(r->record.value);
    r->record = (dc_record){.kind = DC_READ_END};
    while (rc == DC_OK && r->record.kind == DC_READ_END && r->at_file < r->n_files) {
        if (!r->source) rc = open_file(r, err);
        if (rc) break;
        switch (r->format) {
        case DC_FORMAT_JSONL: rc = dc_read_jsonl(r, err); break;
        case DC_FORMAT_JSON: rc = dc_read_json(r, err); break;
        case DC_FORMAT_TXT: rc = dc_read_txt(r, err); break;
        default: rc = dc_read_csv(r, err); break;
        }
        if (rc || r->record.kind != DC_READ_END) break;
        r->done += dc_source_done(r->source);
        dc_source_close(r->source);
        r->source = NULL;
        r->at_file++;
    }
    *record = r->record;
    return rc;
}
