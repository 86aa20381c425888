/* data/h5.h -- HDF5 files of one-dimensional zstd-compressed columns: the container of token shards and logit stores.
 *
 * Written as NAME.tmp through HDF5 with the registered zstd filter (id 32015), so that h5py with hdf5plugin reads them; chunks are compressed
 * by the pool and stored with H5Dwrite_chunk. Next to each column C stands a table `C.chunks` (u64 file offset, u64 bytes, u64 XXH64 of the stored
 * chunk), because HDF5's own chunk queries are linear; reading goes through it with pread, checks the sum, and needs no HDF5 lock.
 * No times, paths or other accidents are stored: the same input gives the same bytes. Every file has attributes `format`
 * and `version`; a newer version is refused by name. HDF5 itself is never asked to print. */
#ifndef DC_DATA_H5_H
#define DC_DATA_H5_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

/* DC_H5_F16 items are the bits of a half number, as core/half.h makes them; outside programs see a 16-bit float. */
typedef enum dc_h5_type { DC_H5_U8, DC_H5_U16, DC_H5_U32, DC_H5_U64, DC_H5_F16, DC_H5_F32, DC_H5_TYPES } dc_h5_type;

size_t dc_h5_type_size(dc_h5_type type);

/* ---- writing ---- */
typedef struct dc_h5_writer dc_h5_writer;

int dc_h5_create(dc_h5_writer **out, const char *path, const char *format, int64_t version, dc_error *err);
int dc_h5_put_text(dc_h5_writer *w, const char *name, const char *text, dc_error *err); /* attributes of the root */
int dc_h5_put_int(dc_h5_writer *w, const char *name, int64_t value, dc_error *err);
int dc_h5_put_real(dc_h5_writer *w, const char *name, double value, dc_error *err);
/* A column of `chunk` items a chunk (the last may be short); its number is used below. */
int dc_h5_column(dc_h5_writer *w, int *column, const char *name, dc_h5_type type, int64_t chunk, int level,
                 dc_error *err);
int dc_h5_append(dc_h5_writer *w, int column, const void *items, int64_t n, dc_error *err);
int64_t dc_h5_written(const dc_h5_writer *w, int column); /* items so far */
int64_t dc_h5_stored(const dc_h5_writer *w);              /* compressed bytes so far */
/* Writes the rest, closes, syncs, renames. The writer is gone afterwards, whatever happens. */
int dc_h5_commit(dc_h5_writer *w, dc_error *err);
void dc_h5_abandon(dc_h5_writer *w); /* NULL is fine */

/* ---- reading ---- */
typedef struct dc_h5_file dc_h5_file;

/* Checks format and version (at most `version`) and the tables against the file's size. */
int dc_h5_open(dc_h5_file **out, const char *path, const char *format, int64_t version, dc_error *err);
void dc_h5_close(dc_h5_file *f); /* NULL is fine */
const char *dc_h5_path(const dc_h5_file *f);
int dc_h5_get_text(const char **out, const dc_h5_file *f, const char *name, dc_error *err); /* borrowed */
int dc_h5_get_int(int64_t *out, const dc_h5_file *f, const char *name, dc_error *err);
int dc_h5_get_real(double *out, const dc_h5_file *f, const char *name, dc_error *err);
/* A text that is the hex of a hash, or empty. */
int dc_h5_get_hash(dc_hash *out, const dc_h5_file *f, const char *name, dc_error *err);
/* A column by name: its number, or DC_EFORMAT when it is missing or of another type. */
int dc_h5_find(int *column, const dc_h5_file *f, const char *name, dc_h5_type type, dc_error *err);
int64_t dc_h5_items(const dc_h5_file *f, int column);
/* Items [first, first + n), through a cache of unpacked chunks of at most `cache_bytes` (dc_h5_set_cache, default 64 MB a
 * file). A damaged chunk is DC_EFORMAT naming file, column and chunk. One thread at a time. */
int dc_h5_read(dc_h5_file *f, int column, void *out, int64_t first, int64_t n, dc_error *err);
void dc_h5_set_cache(dc_h5_file *f, int64_t bytes);

/* ---- manifest ---- one JSON line a finished file, appended and synced: {"file", "bytes", "xxh3", ...extra}. */
/* Hashes DIR/name and puts its line behind the others of DIR/manifest.jsonl; an older line of that name goes. */
int dc_manifest_add(const char *dir, const char *name, dc_error *err);
/* Drops the lines of files that `drop` says 1 for. No manifest is fine. */
int dc_manifest_drop(const char *dir, int (*drop)(const void *context, const char *name), const void *context,
                     dc_error *err);
/* Checks that every file of the manifest is there with its size; with `deep` also its hash. Names of files
 * come back sorted, to be freed with dc_names_free. */
int dc_manifest_check(const char *dir, int deep, char ***names, size_t *n, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
