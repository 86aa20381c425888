/* data/shard_read.c -- a set's files as one row of documents. */
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/h5.h"
#include "data/set_files.h"
#include "data/shard.h"
#include "data/shard_private.h"

enum { CACHE = 256 << 20, LEAST_CACHE = 8 << 20, PIECE = DC_SHARD_DOC_CHUNK };

typedef struct shard {
    dc_h5_file *h5;
    int64_t first, n, tokens; /* documents before it, of it; tokens of it */
    int ids, mask, offset, trained, source, weight;
} shard;

struct dc_set {
    dc_set_info info;
    int narrow;
    dc_hash hash;
    int64_t n_files, docs, tokens, trained;
    shard *files;
    uint32_t *length, *counts; /* [docs] */
    uint16_t *source;          /* [docs] */
    uint16_t *narrow_ids;      /* [longest], when ids have two bytes */
};

int dc_set_there(int *there, const char *dir, const char *set, dc_error *err)
{
    char *path = NULL;
    dc_path_info first;
    int rc = dc_set_file(&path, dir, set, 0, "", err);
    if (rc != DC_OK) return rc;
    rc = dc_path_look(&first, path, err);
    *there = first.exists;
    dc_free(path);
    return rc;
}

static int get_info(dc_set_info *info, const dc_h5_file *f, dc_error *err)
{
    int rc = DC_OK;
    *info = (dc_set_info){0};
    DC_TRY(dc_h5_get_int(&info->vocab_size, f, "vocab_size", err));
    DC_TRY(dc_h5_get_int(&info->max_length, f, "max_length", err));
    DC_TRY(dc_h5_get_hash(&info->tokenizer, f, "tokenizer", err));
    DC_TRY(dc_h5_get_hash(&info->chat_template, f, "chat_template", err));
    DC_TRY(dc_h5_get_hash(&info->settings, f, "settings", err));
    if (info->vocab_size < 1 || info->vocab_size > INT32_MAX || info->max_length < 1 || info->max_length > INT32_MAX)
        rc = dc_fail(err, DC_EFORMAT, "%s: a vocabulary of %lld and documents of up to %lld tokens are not possible",
                     dc_h5_path(f), (long long)info->vocab_size, (long long)info->max_length);
done:
    return rc;
}

static int same_info(const dc_set_info *a, const dc_set_info *b)
{
    return a->vocab_size == b->vocab_size && a->max_length == b->max_length &&
           dc_hash_equal(&a->tokenizer, &b->tokenizer) && dc_hash_equal(&a->chat_template, &b->chat_template) &&
           dc_hash_equal(&a->settings, &b->settings);
}

static int find_columns(const dc_set *s, shard *f, dc_error *err)
{
    int rc = DC_OK, row = 0;
    DC_TRY(dc_h5_find(&f->ids, f->h5, "ids", s->narrow ? DC_H5_U16 : DC_H5_U32, err));
    DC_TRY(dc_h5_find(&f->mask, f->h5, "mask", DC_H5_U8, err));
    DC_TRY(dc_h5_find(&f->offset, f->h5, "offset", DC_H5_U64, err));
    DC_TRY(dc_h5_find(&f->trained, f->h5, "trained", DC_H5_U32, err));
    DC_TRY(dc_h5_find(&f->source, f->h5, "source", DC_H5_U16, err));
    DC_TRY(dc_h5_find(&row, f->h5, "row", DC_H5_U64, err));
    DC_TRY(dc_h5_find(&f->weight, f->h5, "weight", DC_H5_F32, err));
    f->tokens = dc_h5_items(f->h5, f->ids);
    f->n = dc_h5_items(f->h5, f->trained);
    if (dc_h5_items(f->h5, f->mask) != f->tokens || dc_h5_items(f->h5, f->offset) != f->n + 1 ||
        dc_h5_items(f->h5, f->source) != f->n || dc_h5_items(f->h5, row) != f->n ||
        dc_h5_items(f->h5, f->weight) != f->n)
        rc = dc_fail(err, DC_EFORMAT, "%s: its columns do not have the same number of documents and tokens",
                     dc_h5_path(f->h5));
done:
    return rc;
}

/* Opens file i of the set; *last is its attribute. */
static int open_file(dc_set *s, int64_t i, const char *dir, const char *set, int64_t *last, dc_error *err)
{
    shard *f = &s->files[i];
    char *path = NULL;
    dc_set_info info;
    int64_t number = 0, first = 0;
    int rc = DC_OK;
    DC_TRY(dc_set_file(&path, dir, set, i, "", err));
    DC_TRY(dc_h5_open(&f->h5, path, DC_SHARD_FORMAT, DC_SHARD_VERSION, err));
    DC_TRY(get_info(&info, f->h5, err));
    if (i == 0) {
        s->info = info;
        s->narrow = info.vocab_size <= DC_SHARD_NARROW;
    } else if (!same_info(&info, &s->info)) {
        rc = dc_fail(err, DC_EMISMATCH,
                     "%s was not prepared with the first file of its set: run `decant prepare` again", path);
        goto done;
    }
    DC_TRY(find_columns(s, f, err));
    DC_TRY(dc_h5_get_int(&number, f->h5, "file", err));
    DC_TRY(dc_h5_get_int(&first, f->h5, "first_doc", err));
    DC_TRY(dc_h5_get_int(last, f->h5, "last", err));
    DC_TRY(dc_h5_get_hash(&s->hash, f->h5, "hash", err));
    if (number != i || first != s->docs) {
        rc = dc_fail(err, DC_EFORMAT,
                     "%s says it is file %lld and begins with document %lld; expected file %lld and document %lld",
                     path, (long long)number, (long long)first, (long long)i, (long long)s->docs);
        goto done;
    }
    f->first = s->docs;
    s->docs += f->n;
    s->tokens += f->tokens;
done:
    dc_free(path);
    return rc;
}

static int open_files(dc_set *s, const char *dir, const char *set, dc_error *err)
{
    int64_t last = 0;
    for (int64_t i = 0; i < s->n_files; i++) {
        const int rc = open_file(s, i, dir, set, &last, err);
        if (rc != DC_OK) return rc;
        if ((last != 0) != (i + 1 == s->n_files))
            return dc_fail(err, DC_EFORMAT, "%s: set '%s' has %lld files and %s: run `decant prepare` again", dir, set,
                           (long long)s->n_files,
                           last ? "one before the end says it is the last"
                                : "none says it is the last, so it is not finished");
    }
    return DC_OK;
}

/* Lengths, counts and sources of file f, a piece at a time. */
static int load_file(dc_set *s, shard *f, uint64_t *offsets, dc_error *err)
{
    int rc = DC_OK;
    uint64_t before = 0;
    for (int64_t d = 0; d < f->n; d += PIECE) {
        const int64_t n = f->n - d < PIECE ? f->n - d : PIECE, at = f->first + d;
        DC_TRY(dc_h5_read(f->h5, f->offset, offsets, d, n + 1, err));
        DC_TRY(dc_h5_read(f->h5, f->trained, s->counts + at, d, n, err));
        DC_TRY(dc_h5_read(f->h5, f->source, s->source + at, d, n, err));
        for (int64_t i = 0; i < n; i++) {
            const uint64_t begin = offsets[i], end = offsets[i + 1];
            if (begin != before || end <= begin || end > (uint64_t)f->tokens ||
                end - begin > (uint64_t)s->info.max_length || s->counts[at + i] >= end - begin) {
                rc = dc_fail(err, DC_EFORMAT, "%s: document %lld is said to be tokens %llu to %llu with %u targets",
                             dc_h5_path(f->h5), (long long)(d + i), (unsigned long long)begin, (unsigned long long)end,
                             (unsigned)s->counts[at + i]);
                goto done;
            }
            s->length[at + i] = (uint32_t)(end - begin);
            s->trained += s->counts[at + i];
            before = end;
        }
    }
    if (before != (uint64_t)f->tokens)
        rc = dc_fail(err, DC_EFORMAT, "%s: its documents end at token %llu of %lld", dc_h5_path(f->h5),
                     (unsigned long long)before, (long long)f->tokens);
done:
    return rc;
}

static int load(dc_set *s, dc_error *err)
{
    const size_t n = (size_t)s->docs;
    int rc = DC_OK;
    uint32_t longest = 1;
    uint64_t *offsets = dc_malloc((PIECE + 1) * sizeof *offsets);
    s->length = dc_calloc(n + 1, sizeof *s->length);
    s->counts = dc_calloc(n + 1, sizeof *s->counts);
    s->source = dc_calloc(n + 1, sizeof *s->source);
    if (!offsets || !s->length || !s->counts || !s->source) {
        rc = dc_fail_memory(err, n * 10, "the documents of a set");
        goto done;
    }
    const int64_t cache = CACHE / s->n_files > LEAST_CACHE ? CACHE / s->n_files : LEAST_CACHE;
    for (int64_t i = 0; i < s->n_files; i++) {
        dc_h5_set_cache(s->files[i].h5, cache);
        DC_TRY(load_file(s, &s->files[i], offsets, err));
    }
    for (size_t i = 0; i < n; i++) longest = s->length[i] > longest ? s->length[i] : longest;
    if (s->narrow && !(s->narrow_ids = dc_malloc((size_t)longest * sizeof *s->narrow_ids)))
        rc = dc_fail_memory(err, longest * sizeof *s->narrow_ids, "a document");
done:
    dc_free(offsets);
    return rc;
}

int dc_set_open(dc_set **out, const char *dir, const char *set, dc_error *err)
{
    int rc = DC_OK;
    int64_t n = 0;
    rc = dc_set_count(&n, dir, set, "tokens", err);
    if (rc != DC_OK) return rc;
    if (n == 0)
        return dc_fail(err, DC_EIO, "%s holds no set '%s' (%s-00000.h5): `decant prepare` makes it", dir, set, set);
    dc_set *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a set");
    s->n_files = n;
    s->files = dc_calloc((size_t)n, sizeof *s->files);
    if (!s->files) {
        rc = dc_fail_memory(err, (size_t)n * sizeof *s->files, "a set");
        goto done;
    }
    DC_TRY(open_files(s, dir, set, err));
    DC_TRY(load(s, err));
done:
    if (rc == DC_OK) *out = s;
    else dc_set_close(s);
    return rc;
}

void dc_set_close(dc_set *s)
{
    if (!s) return;
    for (int64_t i = 0; s->files && i < s->n_files; i++) dc_h5_close(s->files[i].h5);
    dc_free(s->files);
    dc_free(s->length);
    dc_free(s->counts);
    dc_free(s->source);
    dc_free(s->narrow_ids);
    dc_free(s);
}

const dc_set_info *dc_set_info_of(const dc_set *s) { return &s->info; }
int64_t dc_set_docs(const dc_set *s) { return s->docs; }
int64_t dc_set_tokens(const dc_set *s) { return s->tokens; }
int64_t dc_set_trained(const dc_set *s) { return s->trained; }
int64_t dc_set_doc_length(const dc_set *s, int64_t doc) { return s->length[doc]; }
int64_t dc_set_doc_trained(const dc_set *s, int64_t doc) { return s->counts[doc]; }
uint32_t dc_set_doc_source(const dc_set *s, int64_t doc) { return s->source[doc]; }
dc_hash dc_set_hash(const dc_set *s) { return s->hash; }

static shard *shard_of(dc_set *s, int64_t doc)
{
    int64_t low = 0, high = s->n_files - 1;
    while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        if (s->files[middle].first <= doc) low = middle;
        else high = middle - 1;
    }
    return &s->files[low];
}

/* Ids of one document, each of which may be used as an index of V rows afterwards. */
static int read_ids(dc_set *s, shard *f, int64_t doc, int32_t *ids, int64_t first, int64_t n, dc_error *err)
{
    const int64_t V = s->info.vocab_size;
    const int rc = dc_h5_read(f->h5, f->ids, s->narrow ? (void *)s->narrow_ids : (void *)ids, first, n, err);
    if (rc != DC_OK) return rc;
    for (int64_t i = 0; i < n; i++) {
        if (s->narrow) ids[i] = s->narrow_ids[i];
        if (ids[i] < 0 || ids[i] >= V)
            return dc_fail(err, DC_EFORMAT, "%s: document %lld: token %lld is %d; the vocabulary has %lld",
                           dc_h5_path(f->h5), (long long)(doc - f->first), (long long)i, (int)ids[i], (long long)V);
    }
    return DC_OK;
}

int dc_set_read(dc_set *s, int64_t doc, int32_t *ids, uint8_t *mask, float *weight, dc_error *err)
{
    DC_ASSERT(doc >= 0 && doc < s->docs);
    shard *f = shard_of(s, doc);
    const int64_t n = s->length[doc];
    uint64_t first = 0, trained = 0;
    int rc = DC_OK;
    DC_TRY(dc_h5_read(f->h5, f->offset, &first, doc - f->first, 1, err));
    if (ids) DC_TRY(read_ids(s, f, doc, ids, (int64_t)first, n, err));
    if (mask) {
        DC_TRY(dc_h5_read(f->h5, f->mask, mask, (int64_t)first, n, err));
        for (int64_t i = 1; i < n; i++) trained += mask[i] != 0;
        if (trained != s->counts[doc])
            rc = dc_fail(err, DC_EFORMAT, "%s: document %lld has %llu targets, its count says %u", dc_h5_path(f->h5),
                         (long long)(doc - f->first), (unsigned long long)trained, (unsigned)s->counts[doc]);
    }
    if (rc == DC_OK && weight) rc = dc_h5_read(f->h5, f->weight, weight, doc - f->first, 1, err);
done:
    return rc;
}
