/* distill/store_file.c -- one file of a store: what it says it is, its columns, a document of it. */
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "distill/store_private.h"

int dc_store_column_of(const char **name, dc_h5_type *type, dc_store_column column, const dc_store_info *info)
{
    static const struct {
        const char *name;
        dc_h5_type type;
    } columns[DC_STORE_COLUMNS] = {[DC_STORE_ROW_OFFSET] = {"row_offset", DC_H5_U64},
                                   [DC_STORE_ID_OFFSET] = {"id_offset", DC_H5_U64},
                                   [DC_STORE_VALUE_OFFSET] = {"value_offset", DC_H5_U64},
                                   [DC_STORE_N] = {"n", DC_H5_U8},
                                   [DC_STORE_ENTROPY] = {"entropy", DC_H5_F16},
                                   [DC_STORE_CE] = {"teacher_ce", DC_H5_F16},
                                   [DC_STORE_LOGSUMEXP] = {"logsumexp", DC_H5_F32},
                                   [DC_STORE_IDS] = {"ids", DC_H5_U8},
                                   [DC_STORE_VALUES] = {"counts", DC_H5_U8}};
    const int topk = info->kind == DC_TARGETS_TOPK;
    *name = columns[column].name;
    *type = columns[column].type;
    if (column == DC_STORE_N && (topk ? info->topk : info->n_samples) > UINT8_MAX) *type = DC_H5_U16;
    if (column == DC_STORE_VALUES && topk) *name = "logp", *type = DC_H5_F16;
    return column != DC_STORE_LOGSUMEXP || topk;
}

/* ---- what it is ---- */

static const char *const kinds[] = {[DC_TARGETS_SAMPLED] = "sampled", [DC_TARGETS_TOPK] = "topk"};

int dc_store_put_info(dc_h5_writer *w, const dc_store_info *info, dc_error *err)
{
    int64_t seed;
    int rc = DC_OK;
    memcpy(&seed, &info->seed, sizeof seed);
    DC_TRY(dc_h5_put_text(w, "kind", kinds[info->kind], err));
    DC_TRY(dc_h5_put_int(w, "n_samples", info->n_samples, err));
    DC_TRY(dc_h5_put_int(w, "topk", info->topk, err));
    DC_TRY(dc_h5_put_real(w, "temperature", info->temperature, err));
    DC_TRY(dc_h5_put_int(w, "vocab_size", info->vocab_size, err));
    DC_TRY(dc_h5_put_int(w, "seed", seed, err));
    DC_TRY(dc_h5_put_text(w, "teacher", info->teacher.hex, err));
    DC_TRY(dc_h5_put_text(w, "data", info->data.hex, err));
    DC_TRY(dc_h5_put_text(w, "tokenizer", info->tokenizer.hex, err));
    DC_TRY(dc_h5_put_text(w, "chat_template", info->chat_template.hex, err));
done:
    return rc;
}

int dc_store_get_info(dc_store_info *info, const dc_h5_file *f, dc_error *err)
{
    const char *kind = "";
    int64_t seed = 0;
    int rc = DC_OK;
    *info = (dc_store_info){0};
    DC_TRY(dc_h5_get_text(&kind, f, "kind", err));
    DC_TRY(dc_h5_get_int(&info->n_samples, f, "n_samples", err));
    DC_TRY(dc_h5_get_int(&info->topk, f, "topk", err));
    DC_TRY(dc_h5_get_real(&info->temperature, f, "temperature", err));
    DC_TRY(dc_h5_get_int(&info->vocab_size, f, "vocab_size", err));
    DC_TRY(dc_h5_get_int(&seed, f, "seed", err));
    DC_TRY(dc_h5_get_hash(&info->teacher, f, "teacher", err));
    DC_TRY(dc_h5_get_hash(&info->data, f, "data", err));
    DC_TRY(dc_h5_get_hash(&info->tokenizer, f, "tokenizer", err));
    DC_TRY(dc_h5_get_hash(&info->chat_template, f, "chat_template", err));
    memcpy(&info->seed, &seed, sizeof seed);
    info->kind = strcmp(kind, kinds[DC_TARGETS_TOPK]) ? DC_TARGETS_SAMPLED : DC_TARGETS_TOPK;
    const int64_t most = info->kind == DC_TARGETS_TOPK ? info->topk : info->n_samples;
    if (strcmp(kind, kinds[info->kind]) != 0)
        rc = dc_fail(err, DC_EFORMAT, "%s: targets of kind '%s'; sampled and topk are known", dc_h5_path(f), kind);
    else if (most < 1 || most > UINT16_MAX || info->vocab_size < 1 || info->vocab_size > INT32_MAX ||
             !(info->temperature > 0))
        rc = dc_fail(err, DC_EFORMAT, "%s: %lld entries a row of %lld at temperature %g are not possible",
                     dc_h5_path(f), (long long)most, (long long)info->vocab_size, info->temperature);
done:
    return rc;
}

static int differ_i64(const char *what, int64_t a, int64_t b, const char *where, const char *advice, dc_error *err)
{
    if (a == b) return DC_OK;
    return dc_fail(err, DC_EMISMATCH, "%s: its %s is %lld, this run's is %lld: %s", where, what, (long long)a,
                   (long long)b, advice);
}

static int differ_hash(const char *what, const dc_hash *a, const dc_hash *b, const char *where, const char *advice,
                       dc_error *err)
{
    if (!strcmp(a->hex, b->hex)) return DC_OK;
    return dc_fail(err, DC_EMISMATCH, "%s was captured with another %s (%s; this run's is %s): %s", where, what,
                   *a->hex ? a->hex : "none", *b->hex ? b->hex : "none", advice);
}

int dc_store_same(const dc_store_info *found, const dc_store_info *wanted, int all, const char *where,
                  const char *advice, dc_error *err)
{
    int rc = DC_OK;
    if (found->temperature < wanted->temperature || found->temperature > wanted->temperature)
        return dc_fail(err, DC_EMISMATCH, "%s: its temperature is %g, this run's is %g: %s", where, found->temperature,
                       wanted->temperature, advice);
    DC_TRY(differ_i64("vocab_size", found->vocab_size, wanted->vocab_size, where, advice, err));
    DC_TRY(differ_hash("data set", &found->data, &wanted->data, where, advice, err));
    DC_TRY(differ_hash("tokenizer", &found->tokenizer, &wanted->tokenizer, where, advice, err));
    if (all || *wanted->teacher.hex)
        DC_TRY(differ_hash("teacher", &found->teacher, &wanted->teacher, where, advice, err));
    if (!all) goto done;
    if (found->kind != wanted->kind) {
        rc = dc_fail(err, DC_EMISMATCH, "%s: its targets are %s, this run's are %s: %s", where, kinds[found->kind],
                     kinds[wanted->kind], advice);
        goto done;
    }
    DC_TRY(differ_hash("chat template", &found->chat_template, &wanted->chat_template, where, advice, err));
    DC_TRY(differ_i64("n_samples", found->n_samples, wanted->n_samples, where, advice, err));
    DC_TRY(differ_i64("topk", found->topk, wanted->topk, where, advice, err));
    DC_TRY(differ_i64("seed", (int64_t)found->seed, (int64_t)wanted->seed, where, advice, err));
done:
    return rc;
}

/* ---- a file ---- */

/* Which offset column says where a document's items of a column begin. */
static dc_store_column offset_of(dc_store_column column)
{
    return column == DC_STORE_IDS      ? DC_STORE_ID_OFFSET
           : column == DC_STORE_VALUES ? DC_STORE_VALUE_OFFSET
                                       : DC_STORE_ROW_OFFSET;
}

static int find_columns(dc_store_file *f, dc_error *err)
{
    for (int c = 0; c < DC_STORE_COLUMNS; c++) {
        const char *name = NULL;
        dc_h5_type type;
        f->column[c] = -1;
        if (!dc_store_column_of(&name, &type, (dc_store_column)c, &f->info)) continue;
        const int rc = dc_h5_find(&f->column[c], f->h5, name, type, err);
        if (rc != DC_OK) return rc;
        const int64_t items = dc_h5_items(f->h5, f->column[c]),
                      rows = dc_h5_items(f->h5, f->column[DC_STORE_N < c ? DC_STORE_N : c]);
        if (c <= DC_STORE_VALUE_OFFSET ? items != f->docs + 1 : c < DC_STORE_IDS ? items != rows : 0)
            return dc_fail(err, DC_EFORMAT, "%s: column '%s' has %lld items for %lld documents", dc_h5_path(f->h5),
                           name, (long long)items, (long long)f->docs);
    }
    f->rows = dc_h5_items(f->h5, f->column[DC_STORE_N]);
    return DC_OK;
}

int dc_store_file_open(dc_store_file *f, const char *path, int64_t number, int64_t first, dc_error *err)
{
    int64_t found = -1;
    int rc = DC_OK;
    *f = (dc_store_file){0};
    DC_TRY(dc_h5_open(&f->h5, path, DC_STORE_FORMAT, DC_STORE_VERSION, err));
    DC_TRY(dc_store_get_info(&f->info, f->h5, err));
    DC_TRY(dc_h5_get_int(&found, f->h5, "file", err));
    DC_TRY(dc_h5_get_int(&f->first, f->h5, "first_doc", err));
    DC_TRY(dc_h5_get_int(&f->docs, f->h5, "docs", err));
    DC_TRY(dc_h5_get_int(&f->last, f->h5, "last", err));
    if (found != number || f->first != first || f->docs < 0 || f->docs > DC_STORE_DOCS)
        rc = dc_fail(
            err, DC_EFORMAT,
            "%s says it is file %lld with %lld documents from %lld on; expected file %lld from document %lld on", path,
            (long long)found, (long long)f->docs, (long long)f->first, (long long)number, (long long)first);
    else rc = find_columns(f, err);
done:
    if (rc != DC_OK) dc_store_file_close(f);
    return rc;
}

void dc_store_file_close(dc_store_file *f)
{
    dc_h5_close(f->h5);
    f->h5 = NULL;
}

int dc_store_file_get(dc_store_doc *d, dc_store_file *f, int64_t doc, dc_error *err)
{
    uint64_t range[3][2];
    int64_t count[3];
    int rc = DC_OK;
    for (int o = 0; o < 3; o++) {
        DC_TRY(dc_h5_read(f->h5, f->column[o], range[o], doc, 2, err));
        if (range[o][1] < range[o][0] || range[o][1] > INT64_MAX) {
            rc = dc_fail(err, DC_EFORMAT, "%s: the offsets of document %lld are damaged", dc_h5_path(f->h5),
                         (long long)doc);
            goto done;
        }
        count[o] = (int64_t)(range[o][1] - range[o][0]);
    }
    for (int c = DC_STORE_N; c < DC_STORE_COLUMNS; c++) {
        const char *name = NULL;
        dc_h5_type type;
        const int o = (int)offset_of((dc_store_column)c);
        if (!dc_store_column_of(&name, &type, (dc_store_column)c, &f->info)) continue;
        if (range[o][1] > (uint64_t)dc_h5_items(f->h5, f->column[c])) {
            rc = dc_fail(err, DC_EFORMAT, "%s: document %lld lies behind the end of column '%s'", dc_h5_path(f->h5),
                         (long long)doc, name);
            goto done;
        }
        DC_TRY(dc_store_doc_room(d, (dc_store_column)c, (size_t)count[o] * dc_h5_type_size(type), err));
        DC_TRY(dc_h5_read(f->h5, f->column[c], d->data[c], (int64_t)range[o][0], count[o], err));
    }
    d->M = count[DC_STORE_ROW_OFFSET], d->ids = count[DC_STORE_ID_OFFSET], d->values = count[DC_STORE_VALUE_OFFSET];
done:
    return rc;
}
