/* cli/rows_set.c */
#include "cli/rows_set.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "core/stop.h"
#include "data/chat.h"
#include "data/reader.h"
#include "data/rows.h"

/* Sequences of a micro-batch: large enough for the GEMMs, small enough for any machine. */
enum { BATCH_TOKENS = 2048 };

/* Everything between a row and its place in the set. */
typedef struct making {
    dc_rows_set *s;
    const dc_tokenizer *t;
    const dc_rows_set_options *o;
    dc_rows_options rows;
    dc_template *chat;
    dc_examples examples;
    dc_shard_writer *writer;
} making;

static int make_dir(dc_rows_set *s, dc_error *err)
{
    const char *base = getenv("TMPDIR");
    s->dir = dc_path_join(base && *base ? base : "/tmp", "decant-XXXXXX");
    if (!s->dir) return dc_fail_memory(err, 0, "a path");
    if (mkdtemp(s->dir)) return DC_OK;
    const int rc = dc_fail_errno(err, "make the temporary folder", s->dir);
    dc_free(s->dir);
    s->dir = NULL;
    return rc;
}

static int begin(making *k, dc_error *err)
{
    int rc = DC_OK;
    const char *template = dc_tokenizer_chat_template(k->t);
    dc_set_info info = {
        .vocab_size = dc_tokenizer_size(k->t), .max_length = k->o->max_length, .tokenizer = dc_tokenizer_hash(k->t)};
    const int schema = dc_schema_kind_find(k->o->schema);
    if (schema < 0) return dc_fail(err, DC_EUSAGE, "there is no format '%s' of rows", k->o->schema);
    k->rows = dc_rows_defaults();
    k->rows.schema = (dc_schema_kind)schema;
    k->rows.max_length = k->o->max_length;
    k->rows.truncation = DC_TRUNCATE_SPLIT;
    if (template) DC_TRY(dc_template_new(&k->chat, template, "chat_template", err));
    DC_TRY(make_dir(k->s, err));
    DC_TRY(dc_shard_writer_new(&k->writer, k->s->dir, "rows", &info, err));
done:
    return rc;
}

static void note_reject(dc_rows_set *s, const char *place, const char *reason)
{
    if (!s->rejected++) snprintf(s->first_reject, sizeof s->first_reject, "%s: %s", place, reason);
}

static int add_row(making *k, const json_t *row, const char *place, dc_error *err)
{
    dc_rows_set *s = k->s;
    int rc = dc_rows_encode(&k->examples, row, k->t, k->chat, &k->rows, err);
    if (rc != DC_OK) {
        dc_error_prefix(err, "%s", place);
        return rc;
    }
    s->rows++;
    if (k->examples.reject) note_reject(s, place, k->examples.reason);
    for (size_t i = 0; rc == DC_OK && i < k->examples.n; i++) {
        const dc_example *e = &k->examples.items[i];
        if (!e->trained || (k->o->max_tokens && s->tokens >= k->o->max_tokens)) continue;
        const dc_doc doc = {.ids = k->examples.ids + e->begin,
                            .mask = k->examples.mask + e->begin,
                            .n = (int64_t)e->n,
                            .row = (uint64_t)(s->rows - 1),
                            .weight = 1};
        rc = dc_shard_writer_add(k->writer, &doc, err);
        s->documents++, s->tokens += doc.n, s->trained += (int64_t)e->trained;
    }
    return rc;
}

static int read_all(making *k, dc_reader *reader, dc_error *err)
{
    int rc = DC_OK;
    while (!k->o->max_tokens || k->s->tokens < k->o->max_tokens) {
        dc_record record;
        DC_TRY(dc_stop_check("reading rows", err));
        DC_TRY(dc_reader_next(reader, &record, err));
        if (record.kind == DC_READ_END) break;
        if (record.kind == DC_READ_BAD) {
            k->s->rows++;
            note_reject(k->s, record.place, record.reason);
        } else {
            DC_TRY(add_row(k, record.value, record.place, err));
        }
    }
done:
    return rc;
}

static int finish(making *k, const char *name, dc_error *err)
{
    int rc = DC_OK;
    dc_rows_set *s = k->s;
    if (!s->documents)
        return dc_fail(err, DC_EFORMAT, "%s: nothing to measure: %lld rows were read, %lld of no use%s%s", name,
                       (long long)s->rows, (long long)s->rejected, s->rejected ? "; the first: " : "", s->first_reject);
    if (s->rejected)
        dc_log(DC_LOG_WARN, "%lld of %lld rows are of no use; the first: %s", (long long)s->rejected,
               (long long)s->rows, s->first_reject);
    DC_TRY(dc_shard_writer_commit(k->writer, err));
    DC_TRY(dc_set_open(&s->set, s->dir, "rows", err));
    const int64_t fit = BATCH_TOKENS / k->o->max_length;
    const dc_loader_options o = {.packing = 1, .max_length = k->o->max_length, .batch_size = fit > 0 ? fit : 1};
    DC_TRY(dc_loader_new(&s->loader, s->set, &o, err));
done:
    return rc;
}

/* Makes the set of what the reader gives; takes the reader. */
static int make(dc_rows_set *out, dc_reader *reader, const char *name, const dc_tokenizer *t,
                const dc_rows_set_options *o, dc_error *err)
{
    int rc = DC_OK;
    making k = {.s = out, .t = t, .o = o};
    DC_TRY(begin(&k, err));
    DC_TRY(read_all(&k, reader, err));
    DC_TRY(finish(&k, name, err));
done:
    dc_reader_close(reader);
    dc_shard_writer_free(k.writer);
    dc_examples_release(&k.examples);
    dc_template_free(k.chat);
    if (rc != DC_OK) dc_rows_set_close(out);
    return rc;
}

int dc_rows_set_open(dc_rows_set *out, const char *path, const dc_tokenizer *t, const dc_rows_set_options *o,
                     dc_error *err)
{
    dc_reader *reader = NULL;
    *out = (dc_rows_set){0};
    const int rc = dc_reader_open(&reader, path, NULL, err);
    return rc == DC_OK ? make(out, reader, path, t, o, err) : rc;
}

int dc_rows_set_text(dc_rows_set *out, const char *text, const dc_tokenizer *t, const dc_rows_set_options *o,
                     dc_error *err)
{
    dc_reader *reader = NULL;
    *out = (dc_rows_set){0};
    const int rc = dc_reader_from_memory(&reader, text, strlen(text), "text.txt", NULL, err);
    return rc == DC_OK ? make(out, reader, "the text", t, o, err) : rc;
}

void dc_rows_set_close(dc_rows_set *s)
{
    dc_loader_free(s->loader);
    dc_set_close(s->set);
    if (s->dir) dc_remove_tree(s->dir, NULL);
    dc_free(s->dir);
    *s = (dc_rows_set){0};
}
