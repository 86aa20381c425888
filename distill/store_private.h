/* distill/store_private.h -- a document's rows as they stand in the columns of a store; private to distill/store_*.c. */
#ifndef DC_DISTILL_STORE_PRIVATE_H
#define DC_DISTILL_STORE_PRIVATE_H

#include "data/h5.h"
#include "distill/store.h"

#define DC_STORE_FORMAT "decant.targets"

enum {
    DC_STORE_VERSION = 1,
    /* A file ends before the document that would be one too many or brings its rows above: a function of the documents alone, so that an
     * interrupted capture and an undisturbed one have the same files. About 40 MB at 36 bytes a row. */
    DC_STORE_DOCS = 4096,
    DC_STORE_ROWS = 1 << 20
};

/* Columns. Offsets have one item a document and one more; the others as many as the offset they belong to says. */
typedef enum dc_store_column {
    DC_STORE_ROW_OFFSET,   /* u64: first row of a document */
    DC_STORE_ID_OFFSET,    /* u64: first byte of its `ids` */
    DC_STORE_VALUE_OFFSET, /* u64: first item of its `counts` or `logp` */
    DC_STORE_N,            /* u8, or u16 when a row may have more than 255 entries: entries of a row */
    DC_STORE_ENTROPY,      /* f16 a row */
    DC_STORE_CE,           /* f16 a row */
    DC_STORE_LOGSUMEXP,    /* f32 a row; top-k only */
    DC_STORE_IDS,    /* u8: varints of ids, the first of a row as it is, the others less their predecessor and 1 */
    DC_STORE_VALUES, /* sampled: `counts`, u8: varints of counts less 1; top-k: `logp`, f16 an entry */
    DC_STORE_COLUMNS
} dc_store_column;

/* Name and item type of a column in a store of this kind; 0 when it has no such column. */
int dc_store_column_of(const char **name, dc_h5_type *type, dc_store_column column, const dc_store_info *info);

/* One document in stored form: items of the columns behind the offsets. Buffers grow and are reused. */
typedef struct dc_store_doc {
    int64_t M, ids, values; /* rows; bytes of ids; items of values */
    void *data[DC_STORE_COLUMNS];
    size_t room[DC_STORE_COLUMNS]; /* bytes */
} dc_store_doc;

void dc_store_doc_release(dc_store_doc *d); /* twice is safe */
int64_t dc_store_doc_items(const dc_store_doc *d, dc_store_column column);
int dc_store_doc_room(dc_store_doc *d, dc_store_column column, size_t bytes, dc_error *err);

/* Rows to stored form and back. Packing asserts what targets.c promises: ascending ids, draws that add up. Unpacking appends to `rows`;
 * `p_of` [32768] has the probability of each non-positive half number. `where` stands before the message. */
int dc_store_pack(dc_store_doc *d, const dc_rows *rows, const float *logsumexp, const dc_store_info *info,
                  dc_error *err);
int dc_store_unpack(dc_rows *rows, const dc_store_doc *d, const float *p_of, const dc_store_info *info,
                    const char *where, dc_error *err);

/* The attributes that say what a store is. */
int dc_store_put_info(dc_h5_writer *w, const dc_store_info *info, dc_error *err);
int dc_store_get_info(dc_store_info *info, const dc_h5_file *f, dc_error *err);
/* DC_EMISMATCH naming the first difference of `found` to what is `wanted`; `all`: every member counts, else those of dc_store_open. */
int dc_store_same(const dc_store_info *found, const dc_store_info *wanted, int all, const char *where,
                  const char *advice, dc_error *err);

/* A file of a store, open for reading. */
typedef struct dc_store_file {
    dc_h5_file *h5;
    int column[DC_STORE_COLUMNS];
    int64_t first, docs, rows, last; /* documents before it, of it; rows of it; whether the store ends with it */
    dc_store_info info;
} dc_store_file;

/* Opens and checks it as the file of that number that begins with document `first`. Closed by dc_store_file_close. */
int dc_store_file_open(dc_store_file *f, const char *path, int64_t number, int64_t first, dc_error *err);
void dc_store_file_close(dc_store_file *f); /* twice is safe */
/* Document `doc` of the file (from 0). */
int dc_store_file_get(dc_store_doc *d, dc_store_file *f, int64_t doc, dc_error *err);
#endif
