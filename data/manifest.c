/* data/manifest.c -- DIR/manifest.jsonl: which files are finished. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "data/h5.h"

static const char manifest_name[] = "manifest.jsonl";
enum { MANIFEST_BYTES = 64 << 20 };

static int path_in(char **out, const char *dir, const char *name, dc_error *err)
{
    *out = dc_path_join(dir, name);
    return *out ? DC_OK : dc_fail_memory(err, strlen(dir) + strlen(name) + 2, "a path");
}

/* The manifest's whole lines; a last line without its end is what a power cut left of an addition, and counts as none. */
static int read_lines(dc_str *text, const char *path, dc_error *err)
{
    const int rc = dc_file_read(text, path, MANIFEST_BYTES, err);
    while (rc == DC_OK && text->n && text->data[text->n - 1] != '\n') text->data[--text->n] = 0;
    return rc;
}

typedef struct entry {
    json_t *line;
    const char *file;
    int64_t bytes;
    const char *xxh3;
} entry;

/* The line of n bytes at `text`. `entry.line` is to be released by the caller. */
static int parse_line(entry *e, const char *text, size_t n, const char *path, int64_t number, dc_error *err)
{
    char where[512];
    snprintf(where, sizeof where, "%s:%lld", path, (long long)number);
    *e = (entry){0};
    int rc = dc_json_parse(&e->line, text, n, where, err);
    if (rc == DC_OK) rc = dc_json_text(&e->file, e->line, "file", "", where, err);
    if (rc == DC_OK) rc = dc_json_i64(&e->bytes, e->line, "bytes", -1, where, err);
    if (rc == DC_OK) rc = dc_json_text(&e->xxh3, e->line, "xxh3", "", where, err);
    if (rc == DC_OK && (!*e->file || strchr(e->file, '/') || e->file[0] == '.' || strlen(e->xxh3) != 32))
        rc = dc_fail(err, DC_EFORMAT, "%s: a line names a file of its folder, its bytes and its xxh3", where);
    return rc;
}

/* Calls visit for each line; stops at the first failure. */
static int each_line(const dc_str *text, const char *path,
                     int (*visit)(void *context, const entry *e, const char *line, size_t n, dc_error *err),
                     void *context, dc_error *err)
{
    int64_t number = 0;
    for (size_t at = 0; at < text->n;) {
        const char *line = text->data + at;
        const size_t n = (size_t)((const char *)memchr(line, '\n', text->n - at) - line);
        entry e;
        int rc = parse_line(&e, line, n, path, ++number, err);
        if (rc == DC_OK) rc = visit(context, &e, line, n, err);
        json_decref(e.line);
        if (rc != DC_OK) return rc;
        at += n + 1;
    }
    return DC_OK;
}

typedef struct keep_job {
    dc_str out;
    int (*drop)(const void *context, const char *name);
    const void *context;
} keep_job;

static int keep_line(void *context, const entry *e, const char *line, size_t n, dc_error *err)
{
    keep_job *job = context;
    (void)err;
    if (!job->drop(job->context, e->file)) dc_str_append(&job->out, line, n + 1);
    return DC_OK;
}

static int same_name(const void *context, const char *name) { return !strcmp(context, name); }

/* Appends the line of `name`, which has `bytes` bytes. */
static int put_line(dc_str *out, const char *name, int64_t bytes, const dc_hash *hash, dc_error *err)
{
    json_t *line = json_pack("{s:s, s:I, s:s}", "file", name, "bytes", (json_int_t)bytes, "xxh3", hash->hex);
    if (line) {
        dc_json_dump(out, line, 0);
        dc_str_putc(out, '\n');
        json_decref(line);
    }
    return line && !out->failed ? DC_OK : dc_fail_memory(err, out->n + 256, "a manifest");
}

/* The manifest is replaced as a whole: a kill leaves the old one or the new one, and a file made again has one line. */
int dc_manifest_add(const char *dir, const char *name, dc_error *err)
{
    char *path = NULL, *file = NULL;
    dc_str text = {0};
    keep_job job = {.drop = same_name, .context = name};
    dc_hash hash;
    dc_path_info of_manifest, of_file;
    int rc = DC_OK;
    DC_TRY(path_in(&path, dir, manifest_name, err));
    DC_TRY(path_in(&file, dir, name, err));
    DC_TRY(dc_hash_file(&hash, file, err));
    DC_TRY(dc_path_look(&of_manifest, path, err));
    DC_TRY(dc_path_look(&of_file, file, err));
    if (of_manifest.exists) {
        DC_TRY(read_lines(&text, path, err));
        DC_TRY(each_line(&text, path, keep_line, &job, err));
    }
    DC_TRY(put_line(&job.out, name, of_file.size, &hash, err));
    DC_TRY(dc_file_write(path, job.out.data, job.out.n, err));
done:
    dc_free(path);
    dc_free(file);
    dc_str_release(&text);
    dc_str_release(&job.out);
    return rc;
}

int dc_manifest_drop(const char *dir, int (*drop)(const void *context, const char *name), const void *context,
                     dc_error *err)
{
    char *path = NULL;
    dc_str text = {0};
    keep_job job = {.drop = drop, .context = context};
    dc_path_info there;
    int rc = DC_OK;
    DC_TRY(path_in(&path, dir, manifest_name, err));
    DC_TRY(dc_path_look(&there, path, err));
    if (!there.exists) goto done;
    DC_TRY(read_lines(&text, path, err));
    DC_TRY(each_line(&text, path, keep_line, &job, err));
    if (job.out.failed) rc = dc_fail_memory(err, text.n, "a manifest");
    else if (job.out.n != text.n) rc = dc_file_write(path, dc_str_text(&job.out), job.out.n, err);
done:
    dc_free(path);
    dc_str_release(&text);
    dc_str_release(&job.out);
    return rc;
}

typedef struct check_job {
    const char *dir;
    int deep;
    char **names; /* NULL-ended */
    size_t n, room;
} check_job;

static int check_line(void *context, const entry *e, const char *line, size_t n, dc_error *err)
{
    check_job *job = context;
    char *path = NULL;
    dc_hash hash = {{0}};
    dc_path_info there;
    int rc = path_in(&path, job->dir, e->file, err);
    (void)line, (void)n;
    if (rc != DC_OK) return rc;
    rc = dc_path_look(&there, path, err);
    if (rc == DC_OK && there.size != e->bytes)
        rc = there.size < 0 ? dc_fail(err, DC_EIO, "%s is missing, and the manifest beside it names it", path)
                            : dc_fail(err, DC_EFORMAT, "%s has %lld bytes, the manifest beside it says %lld", path,
                                      (long long)there.size, (long long)e->bytes);
    if (rc == DC_OK && job->deep) rc = dc_hash_file(&hash, path, err);
    if (rc == DC_OK && job->deep && strcmp(hash.hex, e->xxh3) != 0)
        rc = dc_fail(err, DC_EFORMAT, "%s is damaged: its xxh3 is %s, the manifest beside it says %s", path, hash.hex,
                     e->xxh3);
    dc_free(path);
    if (rc != DC_OK) return rc;
    if (dc_grow(&job->names, job->n + 1, &job->room, sizeof *job->names) ||
        !(job->names[job->n] = dc_strdup(e->file))) {
        if (job->names) job->names[job->n] = NULL;
        return dc_fail_memory(err, (job->n + 2) * sizeof *job->names, "names of files");
    }
    job->names[++job->n] = NULL;
    return DC_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int dc_manifest_check(const char *dir, int deep, char ***names, size_t *n, dc_error *err)
{
    char *path = NULL;
    dc_str text = {0};
    check_job job = {.dir = dir, .deep = deep};
    int rc = DC_OK;
    DC_TRY(path_in(&path, dir, manifest_name, err));
    DC_TRY(read_lines(&text, path, err));
    DC_TRY(each_line(&text, path, check_line, &job, err));
    if (!job.names && !(job.names = dc_calloc(1, sizeof *job.names))) {
        rc = dc_fail_memory(err, sizeof *job.names, "names of files");
        goto done;
    }
    qsort(job.names, job.n, sizeof *job.names, by_name);
    *names = job.names, *n = job.n;
    job.names = NULL;
done:
    dc_names_free(job.names);
    dc_free(path);
    dc_str_release(&text);
    return rc;
}
