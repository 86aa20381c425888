/* data/h5_write.c -- columns to a file: chunks compressed side by side, stored in order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/pool.h"
#include "data/h5_private.h"

enum { LANES = 8 }; /* chunks of a column that are gathered and then compressed at once */

typedef struct column {
    char name[DC_H5_NAME_BYTES];
    dc_h5_type type;
    size_t size;
    int64_t chunk, written, held; /* items: of a chunk; appended; of them still in `buffer` */
    int level;
    hid_t set;
    uint8_t *buffer; /* [LANES * chunk] */
    dc_h5_chunk *table;
    size_t n_chunks, room;
} column;

/* Where one chunk of a batch is compressed; the rooms grow to the largest column's. */
typedef struct lane {
    ZSTD_CCtx *zstd;
    uint8_t *planes, *packed;
    size_t planes_room, packed_room, bytes; /* bytes: 0 when it failed */
} lane;

struct dc_h5_writer {
    char *path, *tmp;
    hid_t file;
    column *columns;
    size_t n, room;
    int64_t stored;
    int failed; /* a write did: the file must not be published */
    lane lanes[LANES];
};

static int broken(dc_h5_writer *w, dc_error *err)
{
    w->failed = 1;
    return dc_h5_fail(err, DC_EIO, "write", w->path);
}

/* The properties of a file: nothing that depends on when it was made, and small enough tables to stand in the root's header, whose
 * sums HDF5 checks. */
static hid_t creation(void)
{
    const hid_t create = H5Pcreate(H5P_FILE_CREATE);
    if (create >= 0 && H5Pset_obj_track_times(create, 0) >= 0 &&
        H5Pset_attr_phase_change(create, DC_H5_OBJECTS, 0) >= 0 &&
        H5Pset_link_phase_change(create, DC_H5_OBJECTS, 0) >= 0)
        return create;
    if (create >= 0) H5Pclose(create);
    return -1;
}

int dc_h5_create(dc_h5_writer **out, const char *path, const char *format, int64_t version, dc_error *err)
{
    int rc = dc_h5_begin(err);
    if (rc != DC_OK) return rc;
    dc_h5_writer *w = dc_calloc(1, sizeof *w);
    const size_t room = strlen(path) + 5;
    if (!w) return dc_fail_memory(err, sizeof *w, "a file of columns");
    w->file = -1;
    w->path = dc_strdup(path);
    w->tmp = dc_malloc(room);
    if (!w->path || !w->tmp) {
        rc = dc_fail_memory(err, room, "a path");
        goto done;
    }
    snprintf(w->tmp, room, "%s.tmp", path);
    const hid_t create = creation(), access = dc_h5_access();
    if (create >= 0 && access >= 0) w->file = H5Fcreate(w->tmp, H5F_ACC_TRUNC, create, access);
    if (w->file < 0) rc = dc_h5_fail(err, DC_EIO, "write", path);
    if (create >= 0) H5Pclose(create);
    if (access >= 0) H5Pclose(access);
    DC_TRY(rc);
    DC_TRY(dc_h5_put_text(w, "format", format, err));
    DC_TRY(dc_h5_put_int(w, "version", version, err));
done:
    if (rc == DC_OK) *out = w;
    else dc_h5_abandon(w);
    return rc;
}

/* A scalar attribute of `object`. */
static int put_attribute(dc_h5_writer *w, hid_t object, const char *name, hid_t type, const void *value, dc_error *err)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t a = space < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const int failed = a < 0 || H5Awrite(a, type, value) < 0;
    const int rc = failed ? broken(w, err) : DC_OK;
    if (a >= 0) H5Aclose(a);
    if (space >= 0) H5Sclose(space);
    return rc;
}

int dc_h5_put_text(dc_h5_writer *w, const char *name, const char *text, dc_error *err)
{
    const size_t n = strlen(text);
    if (n > DC_H5_TEXT_BYTES) {
        w->failed = 1;
        return dc_fail(err, DC_EFORMAT, "cannot write %s: attribute '%s' has %zu bytes, at most %d fit", w->path, name,
                       n, DC_H5_TEXT_BYTES);
    }
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0 || H5Tset_size(type, n ? n : 1) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 ||
        H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
        if (type >= 0) H5Tclose(type);
        return broken(w, err);
    }
    const int rc = put_attribute(w, w->file, name, type, text, err);
    H5Tclose(type);
    return rc;
}

int dc_h5_put_int(dc_h5_writer *w, const char *name, int64_t value, dc_error *err)
{
    return put_attribute(w, w->file, name, H5T_STD_I64LE, &value, err);
}

int dc_h5_put_real(dc_h5_writer *w, const char *name, double value, dc_error *err)
{
    return put_attribute(w, w->file, name, H5T_IEEE_F64LE, &value, err);
}

static hid_t create_column(const dc_h5_writer *w, const column *c)
{
    const hsize_t none = 0, most = H5S_UNLIMITED, chunk = (hsize_t)c->chunk;
    const unsigned level = (unsigned)c->level;
    const hid_t type = dc_h5_file_type(c->type), space = H5Screate_simple(1, &none, &most);
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE), access = H5Pcreate(H5P_DATASET_ACCESS);
    hid_t set = -1;
    if (type >= 0 && space >= 0 && create >= 0 && access >= 0 && H5Pset_obj_track_times(create, 0) >= 0 &&
        H5Pset_chunk(create, 1, &chunk) >= 0 && (!dc_h5_shuffled(c->type) || H5Pset_shuffle(create) >= 0) &&
        H5Pset_filter(create, DC_H5_ZSTD, H5Z_FLAG_MANDATORY, 1, &level) >= 0 &&
        H5Pset_chunk_cache(access, 0, 0, 0) >= 0)
        set = H5Dcreate2(w->file, c->name, type, space, H5P_DEFAULT, create, access);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (create >= 0) H5Pclose(create);
    if (access >= 0) H5Pclose(access);
    return set;
}

int dc_h5_column(dc_h5_writer *w, int *number, const char *name, dc_h5_type type, int64_t chunk, int level,
                 dc_error *err)
{
    const size_t size = dc_h5_type_size(type);
    DC_ASSERT(strlen(name) + 8 <= DC_H5_NAME_BYTES && chunk > 0 && chunk <= DC_H5_CHUNK_BYTES / (int64_t)size);
    DC_ASSERT(w->n < DC_H5_OBJECTS / 2);
    if (dc_grow(&w->columns, w->n, &w->room, sizeof *w->columns)) {
        w->failed = 1;
        return dc_fail_memory(err, (w->n + 1) * sizeof *w->columns, "a column");
    }
    column *c = &w->columns[w->n];
    *c = (column){.type = type, .size = size, .chunk = chunk, .level = level, .set = -1};
    snprintf(c->name, sizeof c->name, "%s", name);
    c->buffer = dc_malloc((size_t)chunk * size * LANES);
    if (!c->buffer) {
        w->failed = 1;
        return dc_fail_memory(err, (size_t)chunk * size * LANES, "a column");
    }
    *number = (int)w->n++;
    c->set = create_column(w, c);
    return c->set < 0 ? broken(w, err) : DC_OK;
}

static int lanes_room(dc_h5_writer *w, const column *c, size_t n, dc_error *err)
{
    const size_t raw = (size_t)c->chunk * c->size, most = ZSTD_compressBound(raw);
    for (size_t i = 0; i < n; i++) {
        lane *l = &w->lanes[i];
        if (!l->zstd) l->zstd = ZSTD_createCCtx();
        if (dc_h5_shuffled(c->type) && l->planes_room < raw) {
            dc_free(l->planes);
            l->planes = dc_malloc(raw);
            l->planes_room = l->planes ? raw : 0;
        }
        if (l->packed_room < most) {
            dc_free(l->packed);
            l->packed = dc_malloc(most);
            l->packed_room = l->packed ? most : 0;
        }
        if (l->zstd && l->packed && (l->planes || !dc_h5_shuffled(c->type))) continue;
        w->failed = 1;
        return dc_fail_memory(err, raw + most, "compressing a column");
    }
    return DC_OK;
}

typedef struct pack_job {
    const column *c;
    lane *lanes;
} pack_job;

static void pack_chunk(void *context, int64_t i)
{
    const pack_job *job = context;
    const column *c = job->c;
    lane *l = &job->lanes[i];
    const size_t raw = (size_t)c->chunk * c->size;
    const uint8_t *from = c->buffer + (size_t)i * raw;
    if (dc_h5_shuffled(c->type)) {
        dc_h5_shuffle(l->planes, from, (size_t)c->chunk, c->size);
        from = l->planes;
    }
    l->bytes = ZSTD_compressCCtx(l->zstd, l->packed, l->packed_room, from, raw, c->level);
    if (ZSTD_isError(l->bytes)) l->bytes = 0;
}

/* Stores lane l as the column's next chunk and notes where HDF5 put it. */
static int store_chunk(dc_h5_writer *w, column *c, const lane *l, dc_error *err)
{
    const hsize_t at = (hsize_t)c->n_chunks * (hsize_t)c->chunk;
    hsize_t size = 0;
    haddr_t offset = HADDR_UNDEF;
    unsigned mask = 0;
    if (dc_grow(&c->table, c->n_chunks, &c->room, sizeof *c->table)) {
        w->failed = 1;
        return dc_fail_memory(err, (c->n_chunks + 1) * sizeof *c->table, "a table of chunks");
    }
    if (H5Dwrite_chunk(c->set, H5P_DEFAULT, 0, &at, l->bytes, l->packed) < 0 ||
        H5Dget_chunk_info_by_coord(c->set, &at, &mask, &offset, &size) < 0)
        return broken(w, err);
    DC_ASSERT(size == l->bytes && offset != HADDR_UNDEF);
    c->table[c->n_chunks++] = (dc_h5_chunk){.offset = offset, .bytes = size, .sum = XXH64(l->packed, l->bytes, 0)};
    w->stored += (int64_t)l->bytes;
    return DC_OK;
}

/* Compresses what the buffer holds, a last short chunk filled with zeros, and stores it. */
static int store_held(dc_h5_writer *w, column *c, dc_error *err)
{
    const int64_t n = (c->held + c->chunk - 1) / c->chunk;
    const hsize_t extent = (hsize_t)c->written;
    int rc = lanes_room(w, c, (size_t)n, err);
    if (rc != DC_OK || n == 0) return rc;
    memset(c->buffer + (size_t)c->held * c->size, 0, (size_t)(n * c->chunk - c->held) * c->size);
    pack_job job = {.c = c, .lanes = w->lanes};
    dc_pool_for(n, pack_chunk, &job);
    if (H5Dset_extent(c->set, &extent) < 0) return broken(w, err);
    for (int64_t i = 0; i < n; i++) {
        if (!w->lanes[i].bytes) {
            w->failed = 1;
            return dc_fail_memory(err, (size_t)c->chunk * c->size, "compressing a column");
        }
        rc = store_chunk(w, c, &w->lanes[i], err);
        if (rc != DC_OK) return rc;
    }
    c->held = 0;
    return DC_OK;
}

int dc_h5_append(dc_h5_writer *w, int number, const void *items, int64_t n, dc_error *err)
{
    DC_ASSERT(number >= 0 && (size_t)number < w->n && n >= 0);
    column *c = &w->columns[number];
    const uint8_t *from = items;
    while (n > 0) {
        const int64_t room = c->chunk * LANES - c->held, take = n < room ? n : room;
        memcpy(c->buffer + (size_t)c->held * c->size, from, (size_t)take * c->size);
        c->held += take, c->written += take, n -= take;
        from += (size_t)take * c->size;
        if (c->held < c->chunk * LANES) continue;
        const int rc = store_held(w, c, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

int64_t dc_h5_written(const dc_h5_writer *w, int number) { return w->columns[number].written; }
int64_t dc_h5_stored(const dc_h5_writer *w) { return w->stored; }

/* `C.chunks`, [n, 3] in one piece, and the sum over it as an attribute, which stands in a header that HDF5 checks. */
static int store_table(dc_h5_writer *w, const column *c, dc_error *err)
{
    static const uint64_t nothing = 0;
    char name[DC_H5_NAME_BYTES];
    const hsize_t shape[2] = {c->n_chunks, 3};
    const uint64_t sum = XXH64(c->table ? (const void *)c->table : &nothing, c->n_chunks * sizeof *c->table, 0);
    snprintf(name, sizeof name, "%.*s.chunks", (int)(sizeof name - 8), c->name);
    const hid_t space = H5Screate_simple(2, shape, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t set = -1;
    if (space >= 0 && create >= 0 && H5Pset_obj_track_times(create, 0) >= 0)
        set = H5Dcreate2(w->file, name, H5T_STD_U64LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    int rc = set < 0 ? broken(w, err) : DC_OK;
    if (rc == DC_OK && c->n_chunks && H5Dwrite(set, H5T_STD_U64LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, c->table) < 0)
        rc = broken(w, err);
    if (rc == DC_OK) rc = put_attribute(w, set, "xxh64", H5T_STD_U64LE, &sum, err);
    if (set >= 0 && H5Dclose(set) < 0 && rc == DC_OK) rc = broken(w, err); /* which writes what H5Dwrite kept */
    if (space >= 0) H5Sclose(space);
    if (create >= 0) H5Pclose(create);
    return rc;
}

int dc_h5_commit(dc_h5_writer *w, dc_error *err)
{
    int rc = DC_OK;
    if (w->failed) rc = dc_fail(err, DC_EIO, "cannot write %s: an earlier write to it failed", w->path);
    for (size_t i = 0; rc == DC_OK && i < w->n; i++) rc = store_held(w, &w->columns[i], err);
    for (size_t i = 0; rc == DC_OK && i < w->n; i++) rc = store_table(w, &w->columns[i], err);
    if (rc == DC_OK) {
        const hid_t file = w->file;
        w->file = -1;
        if (H5Fclose(file) < 0) rc = broken(w, err);
    }
    if (rc == DC_OK) rc = dc_file_publish(w->tmp, w->path, err);
    dc_h5_abandon(w);
    return rc;
}

void dc_h5_abandon(dc_h5_writer *w)
{
    if (!w) return;
    if (w->file >= 0) H5Fclose(w->file);
    H5Eclear2(H5E_DEFAULT);
    if (w->tmp) unlink(w->tmp); /* gone already after a commit */
    for (size_t i = 0; i < w->n; i++) {
        dc_free(w->columns[i].buffer);
        dc_free(w->columns[i].table);
    }
    for (size_t i = 0; i < LANES; i++) {
        ZSTD_freeCCtx(w->lanes[i].zstd);
        dc_free(w->lanes[i].planes);
        dc_free(w->lanes[i].packed);
    }
    dc_free(w->columns);
    dc_free(w->path);
    dc_free(w->tmp);
    dc_free(w);
}
