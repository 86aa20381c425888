/* data/reader_internal.h -- private to data/reader.c and data/read_*.c: the state of a reader.
 *
 * A format is three functions: `begin` sees the first piece of a file, `next` takes pieces until it has a row and returns. They put what they
 * find into r->record through dc_reader_row and dc_reader_bad. */
#ifndef DC_DATA_READER_INTERNAL_H
#define DC_DATA_READER_INTERNAL_H

#include "core/str.h"
#include "data/reader.h"
#include "data/source.h"

#ifdef __cplusplus
extern "C" {
#endif

/* State of the JSON scanner: where it stands between and inside values. */
typedef struct dc_json_scan {
    int array; /* the file is one array */
    int state; /* see read_json.c */
    int depth; /* open brackets of the value */
    int in_string, escaped;
} dc_json_scan;

typedef struct dc_csv_scan {
    char delimiter;
    char **names; /* the header's [columns] */
    size_t columns;
    size_t *ends; /* ends of the record's fields in r->text */
    size_t n, room;
    int state;
    int skip_lf;     /* a '\r' ended the last record */
    int quoted;      /* the record has a quoted field: it is no blank line */
    const char *bad; /* what is wrong with the record */
} dc_csv_scan;

struct dc_reader {
    dc_reader_options o;
    char **files; /* [n_files] */
    size_t n_files, at_file;
    const void *memory;
    size_t memory_n;
    dc_source *source; /* of files[at_file], NULL between files */
    dc_format format;  /* of that file */
    const char *p;     /* bytes not yet looked at */
    size_t n;
    int drained; /* no more pieces */
    int64_t total, done;
    uint64_t line, item, rows;
    uint64_t begin_line;
    dc_str text; /* of the row so far */
    int too_long;
    dc_str place, reason;
    dc_record record;
    dc_json_scan json;
    dc_csv_scan csv;
};

/* The next piece when r->n is 0; at the end of the file r->drained is set. */
int dc_reader_fill(dc_reader *r, dc_error *err);
/* Adds bytes to the row; beyond max_row they are dropped and too_long is set. */
void dc_reader_keep(dc_reader *r, const char *p, size_t n);
void dc_reader_fresh(dc_reader *r); /* forgets the row so far */

/* Sets the record. The place is made from the file and, if not 0, the line or the item. */
int dc_reader_row(dc_reader *r, json_t *value, uint64_t line, uint64_t item, dc_error *err); /* takes value */
int dc_reader_bad(dc_reader *r, const char *reason, uint64_t line, uint64_t item, dc_error *err);
/* Parses r->text as JSON into a row or a bad one. */
int dc_reader_parse(dc_reader *r, uint64_t line, uint64_t item, dc_error *err);

/* Each returns DC_OK with record.kind ROW or BAD, or END at the end of this file. */
int dc_read_jsonl(dc_reader *r, dc_error *err);
int dc_read_json(dc_reader *r, dc_error *err);
int dc_read_csv(dc_reader *r, dc_error *err);
int dc_read_txt(dc_reader *r, dc_error *err);
int dc_csv_begin(dc_reader *r, dc_error *err); /* reads the header */
void dc_csv_release(dc_csv_scan *c);

#ifdef __cplusplus
}
#endif
#endif
