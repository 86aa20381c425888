/* distill/store_write.c -- documents' targets into the files of a store, to be gone on with after a kill.
 *
 * The file that is being written goes to NAME.h5.part.tmp. A flush publishes it as NAME.h5.part, and going on copies its documents into
 * a new one, so that the finished NAME.h5 has the bytes it would have had without. */
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "data/set_files.h"
#include "distill/store_private.h"

enum { LEVEL = 3, FLUSH_SECONDS = 120 };

struct dc_store_writer {
    char *dir, *set;
    dc_store_info info;
    int64_t file;       /* number of the file that is being written */
    int64_t before;     /* documents of the files before it */
    int64_t docs, rows; /* of this file */
    uint64_t end[3];    /* its offsets so far: rows, bytes of ids, values */
    int in_part;        /* its documents are in NAME.h5.part, and h5 is NULL */
    int complete;       /* the store's last file is published */
    int64_t bytes;      /* of the published files */
    double flushed;     /* when */
    dc_h5_writer *h5;
    int column[DC_STORE_COLUMNS];
    dc_store_doc doc;
};

static const char advice[] = "--restart captures anew";

static int make_columns(dc_store_writer *w, dc_error *err)
{
    /* A document of a few hundred rows lies in one or two chunks of each column. */
    static const int64_t chunk[DC_STORE_COLUMNS] = {4 << 10,  4 << 10,  4 << 10,   16 << 10, 16 << 10,
                                                    16 << 10, 16 << 10, 128 << 10, 64 << 10};
    for (int c = 0; c < DC_STORE_COLUMNS; c++) {
        const char *name = NULL;
        dc_h5_type type;
        if (!dc_store_column_of(&name, &type, (dc_store_column)c, &w->info)) continue;
        int rc = dc_h5_column(w->h5, &w->column[c], name, type, chunk[c], LEVEL, err);
        w->end[c <= DC_STORE_VALUE_OFFSET ? c : 0] = 0;
        if (rc == DC_OK && c <= DC_STORE_VALUE_OFFSET) rc = dc_h5_append(w->h5, w->column[c], &w->end[c], 1, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

/* Appends w->doc. */
static int put_doc(dc_store_writer *w, dc_error *err)
{
    const dc_store_doc *d = &w->doc;
    int rc = DC_OK;
    w->end[DC_STORE_ROW_OFFSET] += (uint64_t)d->M;
    w->end[DC_STORE_ID_OFFSET] += (uint64_t)d->ids;
    w->end[DC_STORE_VALUE_OFFSET] += (uint64_t)d->values;
    for (int c = 0; rc == DC_OK && c <= DC_STORE_VALUE_OFFSET; c++)
        rc = dc_h5_append(w->h5, w->column[c], &w->end[c], 1, err);
    for (int c = DC_STORE_N; rc == DC_OK && c < DC_STORE_COLUMNS; c++)
        if (c != DC_STORE_LOGSUMEXP || w->info.kind == DC_TARGETS_TOPK)
            rc = dc_h5_append(w->h5, w->column[c], d->data[c], dc_store_doc_items(d, (dc_store_column)c), err);
    if (rc == DC_OK) w->docs++, w->rows += d->M;
    return rc;
}

/* Begins the file of number w->file, with the documents of its part when there is one. */
static int begin_file(dc_store_writer *w, dc_error *err)
{
    char *path = NULL;
    dc_store_file part = {0};
    int rc = DC_OK;
    DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, ".part", err));
    DC_TRY(dc_h5_create(&w->h5, path, DC_STORE_FORMAT, DC_STORE_VERSION, err));
    DC_TRY(make_columns(w, err));
    w->docs = w->rows = 0;
    if (w->in_part) {
        DC_TRY(dc_store_file_open(&part, path, w->file, w->before, err));
        for (int64_t d = 0; d < part.docs; d++) {
            DC_TRY(dc_store_file_get(&w->doc, &part, d, err));
            DC_TRY(put_doc(w, err));
        }
    }
    w->in_part = 0;
    w->flushed = dc_now();
done:
    if (rc != DC_OK) { /* so that no flush replaces a part by less */
        dc_h5_abandon(w->h5);
        w->h5 = NULL;
    }
    dc_store_file_close(&part);
    dc_free(path);
    return rc;
}

static int put_attributes(dc_store_writer *w, int last, dc_error *err)
{
    int rc = DC_OK;
    DC_TRY(dc_store_put_info(w->h5, &w->info, err));
    DC_TRY(dc_h5_put_text(w->h5, "set", w->set, err));
    DC_TRY(dc_h5_put_int(w->h5, "file", w->file, err));
    DC_TRY(dc_h5_put_int(w->h5, "first_doc", w->before, err));
    DC_TRY(dc_h5_put_int(w->h5, "docs", w->docs, err));
    DC_TRY(dc_h5_put_int(w->h5, "rows", w->rows, err));
    DC_TRY(dc_h5_put_int(w->h5, "last", last, err));
done:
    return rc;
}

/* Closes the file as a part. */
static int end_part(dc_store_writer *w, int last, dc_error *err)
{
    int rc = put_attributes(w, last, err);
    dc_h5_writer *h5 = w->h5;
    if (rc != DC_OK) return rc;
    w->h5 = NULL;
    rc = dc_h5_commit(h5, err);
    if (rc == DC_OK) w->in_part = 1;
    return rc;
}

static int end_file(dc_store_writer *w, int last, dc_error *err)
{
    char *path = NULL, *part = NULL;
    int rc = DC_OK;
    DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, "", err));
    DC_TRY(dc_set_file(&part, w->dir, w->set, w->file, ".part", err));
    DC_TRY(end_part(w, last, err));
    DC_TRY(dc_file_publish(part, path, err));
    DC_TRY(dc_manifest_add(w->dir, dc_path_base(path), err));
    w->bytes += dc_file_size(path);
    w->before += w->docs;
    w->file++;
    w->docs = w->rows = 0;
    w->in_part = 0;
done:
    dc_free(path);
    dc_free(part);
    return rc;
}

/* ---- going on ---- */

/* Counts the published files, which must be of this capture. The last one may have been renamed without its line in the manifest. */
static int take_files(dc_store_writer *w, dc_error *err)
{
    int64_t n = 0;
    char *path = NULL;
    dc_store_file f = {0};
    int rc = DC_OK;
    DC_TRY(dc_set_count(&n, w->dir, w->set, "targets", err));
    for (; w->file < n; w->file++) {
        dc_free(path);
        DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, "", err));
        DC_TRY(dc_store_file_open(&f, path, w->file, w->before, err));
        DC_TRY(dc_store_same(&f.info, &w->info, 1, path, advice, err));
        if (f.last && w->file + 1 != n) {
            rc = dc_fail(err, DC_EFORMAT, "%s says it is the last of its store, and %lld follow it: %s", path,
                         (long long)(n - w->file - 1), advice);
            goto done;
        }
        w->before += f.docs;
        w->bytes += dc_file_size(path);
        w->complete = f.last != 0;
        dc_store_file_close(&f);
    }
    if (path) rc = dc_manifest_add(w->dir, dc_path_base(path), err);
done:
    dc_store_file_close(&f);
    dc_free(path);
    return rc;
}

/* Looks at the part of the unfinished file. A damaged one costs its documents and no more. */
static int take_part(dc_store_writer *w, dc_error *err)
{
    char *path = NULL;
    dc_store_file f = {0};
    dc_error why = {0};
    dc_path_info there;
    int rc = DC_OK;
    DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, ".part", err));
    DC_TRY(dc_path_look(&there, path, err));
    if (!there.exists) goto done;
    int found = dc_store_file_open(&f, path, w->file, w->before, &why);
    if (found == DC_OK) DC_TRY(dc_store_same(&f.info, &w->info, 1, path, advice, err));
    for (int64_t d = 0; found == DC_OK && d < f.docs; d++) found = dc_store_file_get(&w->doc, &f, d, &why);
    if (found == DC_ENOMEM || found == DC_EIO) {
        rc = dc_fail(err, (dc_code)found, "%s", why.message);
    } else if (found != DC_OK) {
        dc_log(DC_LOG_WARN, "%s; its documents are captured again", why.message);
        unlink(path);
    } else {
        w->in_part = 1;
        w->docs = f.docs, w->rows = f.rows;
    }
done:
    dc_store_file_close(&f);
    dc_free(path);
    return rc;
}

int dc_store_writer_new(dc_store_writer **out, int64_t *next_doc, const char *dir, const char *set,
                        const dc_store_info *info, dc_error *err)
{
    const int64_t most = info->kind == DC_TARGETS_TOPK ? info->topk : info->n_samples;
    int rc = DC_OK;
    if (most < 1 || most > UINT16_MAX)
        return dc_fail(err, DC_EUSAGE, "%lld entries a row cannot be stored; 1 to %d can", (long long)most, UINT16_MAX);
    dc_store_writer *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(err, sizeof *w, "a store");
    w->info = *info;
    w->dir = dc_strdup(dir);
    w->set = dc_strdup(set);
    if (!w->dir || !w->set) {
        rc = dc_fail_memory(err, strlen(dir) + strlen(set), "a store");
        goto done;
    }
    DC_TRY(dc_mkdirs(dir, err));
    DC_TRY(dc_set_sweep(dir, set, err));
    DC_TRY(take_files(w, err));
    if (!w->complete) DC_TRY(take_part(w, err));
done:
    if (rc == DC_OK) {
        *next_doc = w->before + w->docs;
        *out = w;
    } else {
        dc_store_writer_free(w);
    }
    return rc;
}

int dc_store_writer_add(dc_store_writer *w, int64_t doc, const dc_rows *rows, const float *logsumexp, dc_error *err)
{
    int rc = DC_OK;
    DC_ASSERT(doc == w->before + w->docs);
    if (w->complete)
        return dc_fail(err, DC_EMISMATCH,
                       "%s: the store '%s' is finished with %lld documents; document %lld does not belong to it",
                       w->dir, w->set, (long long)w->before, (long long)doc);
    if (!w->h5) DC_TRY(begin_file(w, err));
    if (w->docs && (w->docs == DC_STORE_DOCS || w->rows + rows->M > DC_STORE_ROWS)) {
        DC_TRY(end_file(w, 0, err));
        DC_TRY(begin_file(w, err));
    } else if (dc_now() - w->flushed > FLUSH_SECONDS) {
        DC_TRY(end_part(w, 0, err));
        DC_TRY(begin_file(w, err));
    }
    DC_TRY(dc_store_pack(&w->doc, rows, logsumexp, &w->info, err));
    DC_TRY(put_doc(w, err));
done:
    return rc;
}

int dc_store_writer_flush(dc_store_writer *w, dc_error *err) { return w->h5 && w->docs ? end_part(w, 0, err) : DC_OK; }

int dc_store_writer_commit(dc_store_writer *w, dc_error *err)
{
    int rc = DC_OK;
    if (w->complete) return DC_OK;
    if (!w->h5) DC_TRY(begin_file(w, err));
    DC_TRY(end_file(w, 1, err));
    w->complete = 1;
done:
    return rc;
}

int64_t dc_store_writer_bytes(const dc_store_writer *w) { return w->bytes + (w->h5 ? dc_h5_stored(w->h5) : 0); }

void dc_store_writer_free(dc_store_writer *w)
{
    if (!w) return;
    dc_h5_abandon(w->h5);
    dc_store_doc_release(&w->doc);
    dc_free(w->dir);
    dc_free(w->set);
    dc_free(w);
}
