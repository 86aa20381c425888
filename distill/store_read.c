/* distill/store_read.c -- documents' targets from a store. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/half.h"
#include "data/set_files.h"
#include "distill/store_private.h"

enum { OPEN_FILES = 64, CACHE = 256 << 20, HALVES = 0x8000 };

typedef struct part {
    int64_t first, docs;
    int64_t used;    /* the clock at its last use */
    dc_store_file f; /* f.h5 is NULL when it is not open */
} part;

struct dc_store {
    char *dir, *set;
    dc_store_info info;
    part *parts;
    int64_t n_parts, n_open, clock;
    int64_t docs, rows, bytes;
    float *p_of; /* [HALVES], top-k */
    dc_store_doc doc;
};

static void close_part(dc_store *s, part *p)
{
    if (p->f.h5) s->n_open--;
    dc_store_file_close(&p->f);
}

/* Opens part i; at most OPEN_FILES are open, the one that was used the longest ago is closed. */
static int open_part(dc_store *s, int64_t i, dc_error *err)
{
    part *p = &s->parts[i];
    char *path = NULL;
    p->used = ++s->clock;
    if (p->f.h5) return DC_OK;
    if (s->n_open == OPEN_FILES) {
        part *oldest = NULL;
        for (int64_t k = 0; k < s->n_parts; k++)
            if (s->parts[k].f.h5 && (!oldest || s->parts[k].used < oldest->used)) oldest = &s->parts[k];
        close_part(s, oldest);
    }
    int rc = dc_set_file(&path, s->dir, s->set, i, "", err);
    if (rc == DC_OK) rc = dc_store_file_open(&p->f, path, i, p->first, err);
    if (rc == DC_OK) {
        s->n_open++;
        dc_h5_set_cache(p->f.h5, CACHE / (s->n_parts < OPEN_FILES ? s->n_parts : OPEN_FILES));
    }
    dc_free(path);
    return rc;
}

static int open_parts(dc_store *s, const dc_store_info *expect, dc_error *err)
{
    int64_t last = 0;
    for (int64_t i = 0; i < s->n_parts; i++) {
        part *p = &s->parts[i];
        p->first = s->docs;
        int rc = open_part(s, i, err);
        if (rc != DC_OK) return rc;
        if (i == 0) s->info = p->f.info;
        if (i == 0 && expect)
            rc = dc_store_same(&s->info, expect, 0, dc_h5_path(p->f.h5), "decant teach --restart captures this run's",
                               err);
        if (rc == DC_OK)
            rc = dc_store_same(&p->f.info, &s->info, 1, dc_h5_path(p->f.h5), "it is not of the store's other files",
                               err);
        if (rc != DC_OK) return rc;
        p->docs = p->f.docs;
        last = p->f.last;
        s->docs += p->f.docs, s->rows += p->f.rows;
        s->bytes += dc_file_size(dc_h5_path(p->f.h5));
        if ((last != 0) != (i + 1 == s->n_parts))
            return dc_fail(err, DC_EMISMATCH, "%s: the store '%s' %s: `decant teach` goes on with it", s->dir, s->set,
                           last ? "has files behind its last one" : "is not finished");
    }
    return DC_OK;
}

int dc_store_open(dc_store **out, const char *dir, const char *set, const dc_store_info *expect, dc_error *err)
{
    int64_t n = 0;
    int rc = dc_set_count(&n, dir, set, "targets", err);
    if (rc != DC_OK) return rc;
    if (n == 0)
        return dc_fail(err, DC_EIO, "%s holds no finished targets of set '%s' (%s-00000.h5): `decant teach` makes them",
                       dir, set, set);
    dc_store *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a store");
    s->n_parts = n;
    s->dir = dc_strdup(dir);
    s->set = dc_strdup(set);
    s->parts = dc_calloc((size_t)n, sizeof *s->parts);
    if (!s->dir || !s->set || !s->parts) {
        rc = dc_fail_memory(err, (size_t)n * sizeof *s->parts, "a store");
        goto done;
    }
    DC_TRY(open_parts(s, expect, err));
    if (s->info.kind == DC_TARGETS_SAMPLED) goto done;
    s->p_of = dc_malloc(HALVES * sizeof *s->p_of);
    if (!s->p_of) rc = dc_fail_memory(err, HALVES * sizeof *s->p_of, "a store");
    for (int h = 0; s->p_of && h < HALVES; h++) s->p_of[h] = (float)exp(-(double)dc_f16_to_f32((uint16_t)h));
done:
    if (rc == DC_OK) *out = s;
    else dc_store_close(s);
    return rc;
}

void dc_store_close(dc_store *s)
{
    if (!s) return;
    for (int64_t i = 0; s->parts && i < s->n_parts; i++) close_part(s, &s->parts[i]);
    dc_store_doc_release(&s->doc);
    dc_free(s->parts);
    dc_free(s->p_of);
    dc_free(s->dir);
    dc_free(s->set);
    dc_free(s);
}

const dc_store_info *dc_store_info_of(const dc_store *s) { return &s->info; }
int64_t dc_store_docs(const dc_store *s) { return s->docs; }
double dc_store_bytes_per_row(const dc_store *s) { return s->rows ? (double)s->bytes / (double)s->rows : 0; }

static int64_t part_of(const dc_store *s, int64_t doc)
{
    int64_t low = 0, high = s->n_parts - 1;
    while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        if (s->parts[middle].first <= doc) low = middle;
        else high = middle - 1;
    }
    return low;
}

int dc_store_read(dc_store *s, dc_rows *rows, int64_t doc, int64_t expected, dc_error *err)
{
    char where[512];
    int rc = DC_OK;
    if (doc < 0 || doc >= s->docs)
        return dc_fail(err, DC_EMISMATCH, "%s: the store '%s' has targets of %lld documents, not of document %lld",
                       s->dir, s->set, (long long)s->docs, (long long)doc);
    const int64_t i = part_of(s, doc);
    part *p = &s->parts[i];
    DC_TRY(open_part(s, i, err));
    DC_TRY(dc_store_file_get(&s->doc, &p->f, doc - p->first, err));
    snprintf(where, sizeof where, "%s, document %lld", dc_h5_path(p->f.h5), (long long)doc);
    if (s->doc.M != expected)
        rc = dc_fail(err, DC_EMISMATCH, "%s: it has targets of %lld rows, the data has %lld loss positions", where,
                     (long long)s->doc.M, (long long)expected);
    else rc = dc_store_unpack(rows, &s->doc, s->p_of, &s->info, where, err);
done:
    return rc;
}
