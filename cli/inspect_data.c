/* cli/inspect_data.c -- token shards, stores of targets, rows. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "data/h5.h"
#include "data/reader.h"
#include "data/rows.h"
#include "data/shard.h"
#include "distill/store.h"

enum { SHOWN_DOCS = 3, SHOWN_ROWS = 3, SHOWN_IDS = 48, FIRST_NUMBER = 9 }; /* "-00000.h5" */

/* ---- documents ---- */

/* A part of a document whose tokens all count, or all do not: in colour, or in brackets. */
static void put_part(dc_inspect *v, const char *text, size_t n, int trained)
{
    if (trained) dc_str_puts(&v->text, v->color ? "\x1b[32m" : "\xe2\x9f\xa6");
    for (size_t i = 0; i < n;) { /* lines stay lines; everything else that drives a terminal is shown as text */
        const char *stop = memchr(text + i, '\n', n - i);
        const size_t end = stop ? (size_t)(stop - text) : n;
        dc_inspect_text(&v->text, text + i, end - i, 0);
        if (stop) dc_str_putc(&v->text, '\n');
        i = end + (stop != NULL);
    }
    if (trained) dc_str_puts(&v->text, v->color ? "\x1b[0m" : "\xe2\x9f\xa7");
}

static json_t *part_json(const char *text, size_t n, int trained)
{
    json_t *out = json_pack("{s:o, s:b}", "text", json_stringn(text, n), "trained", trained);
    return out ? out : json_pack("{s:s, s:b}", "text", "(part of a character)", "trained", trained);
}

static void put_doc_text(dc_inspect *v, json_t *doc, const int32_t *ids, const uint8_t *mask, int64_t n)
{
    json_t *parts = json_array();
    for (int64_t i = 0; i < n;) {
        dc_str text = {0};
        const int trained = mask[i] != 0;
        for (; i < n && (mask[i] != 0) == trained; i++) {
            size_t length = 0;
            const char *bytes = dc_token_bytes(v->tokenizer, ids[i], &length);
            if (bytes) dc_str_append(&text, bytes, length);
            else dc_str_putf(&text, "<%d>", ids[i]);
        }
        put_part(v, dc_str_text(&text), text.n, trained);
        json_array_append_new(parts, part_json(dc_str_text(&text), text.n, trained));
        v->text.failed |= text.failed;
        dc_str_release(&text);
    }
    dc_str_putc(&v->text, '\n');
    json_object_set_new(doc, "parts", parts);
}

/* Without a tokenizer: ids, trained ones marked. */
static void put_doc_ids(dc_inspect *v, json_t *doc, const int32_t *ids, const uint8_t *mask, int64_t n)
{
    json_t *all = json_array(), *trained = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_array_append_new(all, json_integer(ids[i]));
        json_array_append_new(trained, json_integer(mask[i]));
        if (i >= SHOWN_IDS) continue;
        const char *before = !mask[i]   ? ""
                             : v->color ? "\x1b[32m"
                                        : "[",
                   *behind = !mask[i]   ? ""
                             : v->color ? "\x1b[0m"
                                        : "]";
        dc_str_putf(&v->text, "%s%s%d%s", i ? " " : "", before, ids[i], behind);
    }
    dc_str_puts(&v->text, n > SHOWN_IDS ? " ...\n" : "\n");
    json_object_set_new(doc, "ids", all);
    json_object_set_new(doc, "mask", trained);
}

static int put_doc(dc_inspect *v, json_t *list, dc_set *set, int64_t d, dc_error *err)
{
    int rc = DC_OK;
    const int64_t n = dc_set_doc_length(set, d);
    float weight;
    int32_t *ids = dc_calloc((size_t)n + 1, sizeof *ids);
    uint8_t *mask = dc_calloc((size_t)n + 1, 1);
    if (!ids || !mask) {
        rc = dc_fail_memory(err, (size_t)n * 5, "a document");
        goto done;
    }
    DC_TRY(dc_set_read(set, d, ids, mask, &weight, err));
    dc_str_putf(&v->text, "\n-- document %lld: %lld tokens, %lld trained, weight %g\n", (long long)d, (long long)n,
                (long long)dc_set_doc_trained(set, d), (double)weight);
    json_t *doc = json_pack("{s:I, s:I, s:I, s:f}", "document", (json_int_t)d, "tokens", (json_int_t)n, "trained",
                            (json_int_t)dc_set_doc_trained(set, d), "weight", (double)weight);
    (v->tokenizer ? put_doc_text : put_doc_ids)(v, doc, ids, mask, n);
    json_array_append_new(list, doc);
done:
    dc_free(ids);
    dc_free(mask);
    return rc;
}

static int inspect_tokens(dc_inspect *v, json_t *out, const char *dir, const char *name, dc_error *err)
{
    int rc = DC_OK;
    dc_set *set = NULL;
    char docs[32], tokens[32];
    json_t *list = json_array();
    DC_TRY(dc_set_open(&set, dir, name, err));
    const dc_set_info *info = dc_set_info_of(set);
    const int64_t n = dc_set_docs(set), all = dc_set_tokens(set);
    const dc_hash hash = dc_set_hash(set);
    dc_str_putf(
        &v->text,
        "tokens '%s'   %s documents · %s tokens, %.1f %% trained · at most %lld a document · vocabulary %lld · %s\n",
        name, dc_human_count(docs, sizeof docs, n), dc_human_count(tokens, sizeof tokens, all),
        all ? 100 * (double)dc_set_trained(set) / (double)all : 0.0, (long long)info->max_length,
        (long long)info->vocab_size, hash.hex);
    json_object_update_new(out, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "kind", "tokens", "documents",
                                          (json_int_t)n, "tokens", (json_int_t)all, "trained",
                                          (json_int_t)dc_set_trained(set), "max_length", (json_int_t)info->max_length,
                                          "vocab_size", (json_int_t)info->vocab_size, "hash", hash.hex, "tokenizer",
                                          info->tokenizer.hex));
    if (v->tokenizer) {
        const dc_hash own = dc_tokenizer_hash(v->tokenizer);
        if (!dc_hash_equal(&own, &info->tokenizer))
            dc_log(DC_LOG_WARN, "the set '%s' was made with another tokenizer than --model's", name);
    }
    const int64_t shown = dc_inspect_count(v, n, SHOWN_DOCS);
    for (int64_t d = 0; d < shown; d++) DC_TRY(put_doc(v, list, set, d, err));
    dc_inspect_more(v, shown, n, "documents");
    if (!v->tokenizer && shown) dc_str_puts(&v->text, "trained ids are marked; --model M shows text\n");
done:
    json_object_set_new(out, "first", list);
    dc_set_close(set);
    return rc;
}

/* ---- targets ---- */

static int inspect_targets(dc_inspect *v, json_t *out, const char *dir, const char *name, dc_error *err)
{
    dc_store *store = NULL;
    char docs[32];
    const int rc = dc_store_open(&store, dir, name, NULL, err);
    if (rc != DC_OK) return rc;
    const dc_store_info *i = dc_store_info_of(store);
    const int sampled = i->kind == DC_TARGETS_SAMPLED;
    dc_str_putf(&v->text,
                "targets '%s'  %s, %lld a token at temperature %g · %s documents · %.1f B/token · vocabulary %lld\n",
                name, sampled ? "sampled" : "top-k", (long long)(sampled ? i->n_samples : i->topk), i->temperature,
                dc_human_count(docs, sizeof docs, dc_store_docs(store)), dc_store_bytes_per_row(store),
                (long long)i->vocab_size);
    dc_str_putf(&v->text, "  teacher %s\n  data    %s\n", i->teacher.hex, i->data.hex);
    json_object_update_new(
        out, json_pack("{s:s, s:s, s:I, s:f, s:I, s:f, s:I, s:s, s:s, s:s}", "kind", "targets", "targets",
                       sampled ? "sampled" : "topk", "entries", (json_int_t)(sampled ? i->n_samples : i->topk),
                       "temperature", i->temperature, "documents", (json_int_t)dc_store_docs(store), "bytes_per_row",
                       dc_store_bytes_per_row(store), "vocab_size", (json_int_t)i->vocab_size, "teacher",
                       i->teacher.hex, "data", i->data.hex, "tokenizer", i->tokenizer.hex));
    dc_store_close(store);
    return DC_OK;
}

/* ---- files of both kinds ---- */

static int has_format(const char *path, const char *format)
{
    dc_h5_file *f = NULL;
    const int rc = dc_h5_open(&f, path, format, INT64_MAX, NULL);
    dc_h5_close(f);
    return rc == DC_OK;
}

/* `file`: DIR/SET-NUMBER.h5. */
static int inspect_set(dc_inspect *v, json_t *list, const char *dir, const char *name, const char *file, dc_error *err)
{
    json_t *out = json_pack("{s:s}", "set", name);
    if (!out) return dc_fail_memory(err, 0, "a set");
    json_array_append_new(list, out);
    if (has_format(file, "decant.targets")) return inspect_targets(v, out, dir, name, err);
    return inspect_tokens(v, out, dir, name, err); /* its error says what is wrong with a file of neither format */
}

/* "train" of "train-00003.h5"; NULL when the name is not such. */
static char *set_name(const char *file, dc_error *err)
{
    const char *base = dc_path_base(file);
    const size_t n = strlen(base);
    char *name = dc_strdup(base);
    if (!name) {
        dc_fail_memory(err, n, "a name");
        return NULL;
    }
    if (n > FIRST_NUMBER && base[n - FIRST_NUMBER] == '-' && !strcmp(base + n - 3, ".h5")) {
        name[n - FIRST_NUMBER] = 0;
        return name;
    }
    dc_fail(err, DC_EUNKNOWN, "%s: decant's sets are named SET-00000.h5", file);
    dc_free(name);
    return NULL;
}

static int inspect_file(dc_inspect *v, json_t *list, dc_error *err)
{
    const size_t n = (size_t)(dc_path_base(v->path) - v->path);
    char *name = set_name(v->path, err);
    if (!name) return err ? (int)err->code : DC_EUNKNOWN;
    char *dir = dc_strdup(n ? v->path : "."); /* the set is the folder's, of however many files */
    if (dir && n) dir[n - 1 ? n - 1 : 1] = 0;
    const int rc = dir ? inspect_set(v, list, dir, name, v->path, err) : dc_fail_memory(err, n, "a path");
    dc_free(dir);
    dc_free(name);
    return rc;
}

static int inspect_folder(dc_inspect *v, json_t *list, dc_error *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = dc_dir_list(&names, &n, v->path, err);
    for (size_t i = 0; rc == DC_OK && i < n; i++) {
        const size_t length = strlen(names[i]);
        if (length <= FIRST_NUMBER || strcmp(names[i] + length - FIRST_NUMBER, "-00000.h5")) continue;
        char *path = dc_path_join(v->path, names[i]);
        names[i][length - FIRST_NUMBER] = 0;
        if (json_array_size(list)) dc_str_putc(&v->text, '\n');
        rc = path ? inspect_set(v, list, v->path, names[i], path, err) : dc_fail_memory(err, length, "a path");
        dc_free(path);
    }
    dc_names_free(names);
    return rc;
}

int dc_inspect_sets(dc_inspect *v, dc_error *err)
{
    json_t *list = json_array();
    json_object_set_new(v->json, "kind", json_string("sets"));
    if (json_object_set_new(v->json, "sets", list)) return dc_fail_memory(err, 0, "a list of sets");
    return dc_path_is_dir(v->path) ? inspect_folder(v, list, err) : inspect_file(v, list, err);
}

/* ---- rows ---- */

static void put_row(dc_inspect *v, json_t *list, const dc_record *record)
{
    const char *kind = record->kind == DC_READ_BAD ? "unusable" : dc_schema_kind_name(dc_schema_guess(record->value));
    if (record->kind == DC_READ_ROW && dc_schema_guess(record->value) == DC_ROWS_AUTO) kind = "unknown schema";
    dc_str_puts(&v->text, "\n-- ");
    dc_inspect_text(&v->text, record->place, strlen(record->place), 0);
    dc_str_putf(&v->text, ": %s\n", kind);
    if (record->kind == DC_READ_BAD) {
        dc_inspect_text(&v->text, record->reason, strlen(record->reason), 0);
        dc_str_putc(&v->text, '\n');
    } else {
        dc_json_dump(&v->text, record->value, 2);
        dc_str_putc(&v->text, '\n');
    }
    json_array_append_new(list, record->kind == DC_READ_BAD
                                    ? json_pack("{s:s, s:s}", "schema", kind, "reason", record->reason)
                                    : json_pack("{s:s, s:O}", "schema", kind, "row", record->value));
}

int dc_inspect_rows(dc_inspect *v, dc_error *err)
{
    int rc = DC_OK;
    dc_reader *reader = NULL;
    dc_record record;
    json_t *list = json_array();
    char bytes[32];
    const int64_t shown = v->limit < 0 ? SHOWN_ROWS : v->limit;
    DC_TRY(dc_reader_open(&reader, v->path, NULL, err));
    dc_inspect_fact(v, "rows", "kind", json_string("rows"), "%s, %s on disk; the first of them:", v->path,
                    dc_human_bytes(bytes, sizeof bytes, (double)dc_reader_total(reader)));
    for (int64_t i = 0; !shown || i < shown; i++) {
        DC_TRY(dc_reader_next(reader, &record, err));
        if (record.kind == DC_READ_END) break;
        put_row(v, list, &record);
    }
done:
    json_object_set_new(v->json, "first", list);
    dc_reader_close(reader);
    return rc;
}
