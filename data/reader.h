/* data/reader.h -- rows of a data set on disk, one after another, in bounded memory.
 *
 * A source is a file, a directory or a glob pattern ("part-??.jsonl.zst"); several files are read in byte order of their names,
 * and of a directory only those with a known ending (hidden files and folders below it are left out). Formats:
 *
 *   .jsonl .ndjson  one JSON value a line; blank lines are skipped
 *   .json           an array, whose elements are the rows and need not fit in memory together, or values one behind another
 *                   (so one object, a pretty-printed one, or JSON Lines under the wrong name)
 *   .csv .tsv       RFC 4180 with a header line; a row is an object of strings
 *   .txt .md        the whole file is one row {"text": ...}
 *
 * each plain, gzip or Zstandard (several members or frames too). Compression is known by its magic number, never by the name; a file without
 * a known ending is JSON when it begins with '[' and JSON Lines when it begins with '{', else refused. A UTF-8 byte order mark is skipped;
 * UTF-16 is refused by name.
 *
 * A row that cannot be used (not JSON, invalid UTF-8, half of a surrogate pair, a number beyond 64 bits, a wrong count of fields, too
 * long) is handed out with its place and reason, and reading goes on behind it: what to do is the caller's policy. A compressed stream
 * that is damaged or cut short is an error of the file, as nothing behind the damage can be trusted. Not thread-safe. */
#ifndef DC_DATA_READER_H
#define DC_DATA_READER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_format {
    DC_FORMAT_AUTO = 0, /* by the name, then by the first byte */
    DC_FORMAT_JSONL,
    DC_FORMAT_JSON,
    DC_FORMAT_CSV,
    DC_FORMAT_TSV,
    DC_FORMAT_TXT
} dc_format;

/* "jsonl" and so on; NULL for a value that is none. -1 for an unknown name ("auto" and NULL are DC_FORMAT_AUTO). */
const char *dc_format_name(dc_format format);
int dc_format_find(const char *name);

typedef struct dc_reader_options {
    dc_format format;
    size_t max_row; /* bytes of a row's text; a longer one is a bad row, and is not kept in memory */
} dc_reader_options;

dc_reader_options dc_reader_defaults(void); /* AUTO, 64 MB */

typedef struct dc_reader dc_reader;

typedef enum dc_read {
    DC_READ_ROW, /* value is set */
    DC_READ_BAD, /* reason is set */
    DC_READ_END
} dc_read;

/* What dc_reader_next found. Everything belongs to the reader and is valid until the next call; json_incref what is kept. */
typedef struct dc_record {
    dc_read kind;
    json_t *value;
    const char *place;  /* "FILE:LINE", "FILE: item 17" (from 1), or "FILE" */
    const char *reason; /* one line, without the place */
    uint64_t row;       /* number in the source from 0, bad rows counted: the same for the same files */
} dc_record;

/* Finds the files; nothing is read yet. No file is DC_EIO. `o` NULL: defaults. */
int dc_reader_open(dc_reader **out, const char *path, const dc_reader_options *o, dc_error *err);
/* The same over n bytes in memory, which stay the caller's; `name` stands in places and, with AUTO, tells the format. */
int dc_reader_from_memory(dc_reader **out, const void *bytes, size_t n, const char *name, const dc_reader_options *o,
                          dc_error *err);
/* DC_OK with a row, a bad row or the end (which stays the end). DC_EIO, DC_EFORMAT (damaged stream, no header, unknown format) and DC_ENOMEM end the
 * reading. */
int dc_reader_next(dc_reader *r, dc_record *record, dc_error *err);
/* For a progress bar: bytes read of the files as they lie on disk, and their sum. */
int64_t dc_reader_done(const dc_reader *r);
int64_t dc_reader_total(const dc_reader *r);
void dc_reader_close(dc_reader *r); /* NULL is fine */

/* The hash of the bytes of all files of a source, in their order: has it changed? Polls core/stop.h. */
int dc_reader_hash(dc_hash *out, const char *path, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
