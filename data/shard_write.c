/* data/shard_write.c -- documents into the files of a set. */
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/h5.h"
#include "data/set_files.h"
#include "data/shard.h"
#include "data/shard_private.h"

struct dc_shard_writer {
    char *dir, *set;
    dc_set_info info;
    int narrow;
    dc_hasher *hash;
    int64_t file;                                       /* number of the file that is being written */
    int64_t before;                                     /* documents of the files before it */
    int64_t docs, tokens, trained;                      /* of this file */
    dc_h5_writer *h5;                                   /* NULL before the first document and behind the last */
    int ids, mask, offset, counts, source, row, weight; /* columns */
    void *wide;                                         /* [room] a document's ids as they are stored */
    size_t room;
};

static int begin_file(dc_shard_writer *w, dc_error *err)
{
    const uint64_t zero = 0;
    const int64_t many = DC_SHARD_TOKEN_CHUNK, few = DC_SHARD_DOC_CHUNK;
    const int level = DC_SHARD_LEVEL;
    char *path = NULL;
    int rc = DC_OK;
    DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, "", err));
    DC_TRY(dc_h5_create(&w->h5, path, DC_SHARD_FORMAT, DC_SHARD_VERSION, err));
    DC_TRY(dc_h5_column(w->h5, &w->ids, "ids", w->narrow ? DC_H5_U16 : DC_H5_U32, many, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->mask, "mask", DC_H5_U8, many, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->offset, "offset", DC_H5_U64, few, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->counts, "trained", DC_H5_U32, few, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->source, "source", DC_H5_U16, few, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->row, "row", DC_H5_U64, few, level, err));
    DC_TRY(dc_h5_column(w->h5, &w->weight, "weight", DC_H5_F32, few, level, err));
    DC_TRY(dc_h5_append(w->h5, w->offset, &zero, 1, err));
    w->docs = w->tokens = w->trained = 0;
done:
    dc_free(path);
    return rc;
}

static int put_attributes(dc_shard_writer *w, int last, dc_error *err)
{
    const dc_hash hash = dc_hasher_get(w->hash);
    const struct {
        const char *name;
        const char *text;
    } texts[] = {{"set", w->set},
                 {"tokenizer", w->info.tokenizer.hex},
                 {"chat_template", w->info.chat_template.hex},
                 {"settings", w->info.settings.hex},
                 {"hash", hash.hex}};
    const struct {
        const char *name;
        int64_t value;
    } ints[] = {{"vocab_size", w->info.vocab_size},
                {"max_length", w->info.max_length},
                {"file", w->file},
                {"first_doc", w->before},
                {"docs", w->docs},
                {"tokens", w->tokens},
                {"trained", w->trained},
                {"last", last}};
    int rc = DC_OK;
    for (size_t i = 0; rc == DC_OK && i < sizeof texts / sizeof *texts; i++)
        rc = dc_h5_put_text(w->h5, texts[i].name, texts[i].text, err);
    for (size_t i = 0; rc == DC_OK && i < sizeof ints / sizeof *ints; i++)
        rc = dc_h5_put_int(w->h5, ints[i].name, ints[i].value, err);
    return rc;
}

static int end_file(dc_shard_writer *w, int last, dc_error *err)
{
    char *path = NULL;
    int rc = DC_OK;
    DC_TRY(put_attributes(w, last, err));
    dc_h5_writer *h5 = w->h5;
    w->h5 = NULL;
    DC_TRY(dc_h5_commit(h5, err));
    DC_TRY(dc_set_file(&path, w->dir, w->set, w->file, "", err));
    DC_TRY(dc_manifest_add(w->dir, dc_path_base(path), err));
    w->before += w->docs;
    w->file++;
done:
    dc_free(path);
    return rc;
}

int dc_shard_writer_new(dc_shard_writer **out, const char *dir, const char *set, const dc_set_info *info, dc_error *err)
{
    int rc = DC_OK;
    dc_shard_writer *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(err, sizeof *w, "a set");
    w->info = *info;
    w->narrow = info->vocab_size <= DC_SHARD_NARROW;
    w->dir = dc_strdup(dir);
    w->set = dc_strdup(set);
    w->hash = dc_hasher_new();
    if (!w->dir || !w->set || !w->hash) {
        rc = dc_fail_memory(err, sizeof *w, "a set");
        goto done;
    }
    dc_hasher_add_text(w->hash, info->tokenizer.hex);
    DC_TRY(dc_mkdirs(dir, err));
    DC_TRY(dc_set_remove(dir, set, 0, err));
    DC_TRY(begin_file(w, err));
done:
    if (rc == DC_OK) *out = w;
    else dc_shard_writer_free(w);
    return rc;
}

/* Checks the document and copies its ids to w->wide. */
static int convert(dc_shard_writer *w, const dc_doc *doc, dc_error *err)
{
    const size_t n = (size_t)doc->n;
    if (w->room < n) {
        dc_free(w->wide);
        w->wide = dc_malloc(n * sizeof(uint32_t));
        w->room = w->wide ? n : 0;
        if (!w->wide) return dc_fail_memory(err, n * sizeof(uint32_t), "a document");
    }
    for (size_t i = 0; i < n; i++) {
        if (doc->ids[i] < 0 || doc->ids[i] >= w->info.vocab_size)
            return dc_fail(err, DC_EFORMAT, "row %llu: token %zu is %d; the vocabulary has %lld",
                           (unsigned long long)doc->row, i, (int)doc->ids[i], (long long)w->info.vocab_size);
        if (w->narrow) ((uint16_t *)w->wide)[i] = (uint16_t)doc->ids[i];
        else ((uint32_t *)w->wide)[i] = (uint32_t)doc->ids[i];
    }
    return DC_OK;
}

int dc_shard_writer_add(dc_shard_writer *w, const dc_doc *doc, dc_error *err)
{
    int rc = DC_OK;
    if (doc->n < 1 || doc->n > w->info.max_length || doc->source > UINT16_MAX)
        return dc_fail(
            err, DC_EFORMAT,
            "row %llu of source %u: a document of %lld tokens; 1 to %lld fit (data.max_length), and %d sources",
            (unsigned long long)doc->row, (unsigned)doc->source, (long long)doc->n, (long long)w->info.max_length,
            UINT16_MAX + 1);
    DC_TRY(convert(w, doc, err));
    if (w->docs && (w->tokens + doc->n > DC_SHARD_TOKENS || w->docs == DC_SHARD_DOCS)) {
        DC_TRY(end_file(w, 0, err));
        DC_TRY(begin_file(w, err));
    }
    uint32_t trained = 0;
    for (int64_t i = 1; i < doc->n; i++) trained += doc->mask[i] != 0;
    const uint64_t end = (uint64_t)(w->tokens + doc->n);
    const uint16_t source = (uint16_t)doc->source;
    DC_TRY(dc_h5_append(w->h5, w->ids, w->wide, doc->n, err));
    DC_TRY(dc_h5_append(w->h5, w->mask, doc->mask, doc->n, err));
    DC_TRY(dc_h5_append(w->h5, w->offset, &end, 1, err));
    DC_TRY(dc_h5_append(w->h5, w->counts, &trained, 1, err));
    DC_TRY(dc_h5_append(w->h5, w->source, &source, 1, err));
    DC_TRY(dc_h5_append(w->h5, w->row, &doc->row, 1, err));
    DC_TRY(dc_h5_append(w->h5, w->weight, &doc->weight, 1, err));
    dc_hasher_add_i64(w->hash, doc->n);
    dc_hasher_add(w->hash, doc->ids, (size_t)doc->n * sizeof *doc->ids);
    dc_hasher_add(w->hash, doc->mask, (size_t)doc->n);
    dc_hasher_add(w->hash, &doc->weight, sizeof doc->weight);
    w->docs++, w->tokens += doc->n, w->trained += trained;
done:
    return rc;
}

int dc_shard_writer_commit(dc_shard_writer *w, dc_error *err)
{
    if (!w->h5) return dc_fail(err, DC_EIO, "cannot finish %s/%s: an earlier write to it failed", w->dir, w->set);
    return end_file(w, 1, err);
}

void dc_shard_writer_free(dc_shard_writer *w)
{
    if (!w) return;
    dc_h5_abandon(w->h5);
    dc_hasher_free(w->hash);
    dc_free(w->wide);
    dc_free(w->dir);
    dc_free(w->set);
    dc_free(w);
}
