/* data/h5_read.c -- columns from a file. HDF5 is asked once, at opening, for attributes, shapes and tables; items come by pread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/h5_private.h"

typedef struct column {
    char name[DC_H5_NAME_BYTES];
    dc_h5_type type;
    size_t size;
    int64_t items, chunk; /* of the column; of a chunk */
    int64_t n_chunks;
    dc_h5_chunk *table;
    int32_t *slot; /* [n_chunks] where an unpacked chunk is, or -1 */
} column;

typedef struct slot {
    uint8_t *data;
    int64_t used; /* the clock at its last use */
    int column;
    int64_t chunk;
} slot;

typedef enum kind { TEXT, INT, REAL } kind;

typedef struct attribute {
    char name[DC_H5_NAME_BYTES];
    kind kind;
    char *text;
    int64_t i;
    double r;
} attribute;

struct dc_h5_file {
    char *path;
    int fd;
    int64_t bytes;
    column *columns;
    size_t n, room;
    attribute *attributes;
    size_t n_attributes, room_attributes;
    /* the cache */
    slot *slots;
    size_t n_slots, room_slots;
    int64_t cached, most, clock;
    ZSTD_DCtx *zstd;
    uint8_t *packed, *planes;
    size_t packed_room, planes_room;
};

static int bad(const dc_h5_file *f, dc_error *err) { return dc_h5_fail(err, DC_EFORMAT, "read", f->path); }

/* ---- opening ---- */

static int read_text(dc_h5_file *f, attribute *a, hid_t id, hid_t type, dc_error *err)
{
    const size_t n = H5Tget_size(type);
    if (H5Tis_variable_str(type) != 0 || n == 0 || n > DC_H5_TEXT_BYTES)
        return dc_fail(err, DC_EFORMAT, "%s: attribute '%s' is not a text of fixed length", f->path, a->name);
    a->text = dc_calloc(n + 1, 1);
    if (!a->text) return dc_fail_memory(err, n + 1, "an attribute");
    return H5Aread(id, type, a->text) < 0 ? bad(f, err) : DC_OK;
}

static int read_value(dc_h5_file *f, attribute *a, hid_t id, hid_t type, hid_t space, dc_error *err)
{
    if (H5Sget_simple_extent_type(space) != H5S_SCALAR)
        return dc_fail(err, DC_EFORMAT, "%s: attribute '%s' is not one value", f->path, a->name);
    switch (H5Tget_class(type)) {
    case H5T_STRING: a->kind = TEXT; return read_text(f, a, id, type, err);
    case H5T_INTEGER: a->kind = INT; return H5Aread(id, H5T_NATIVE_INT64, &a->i) < 0 ? bad(f, err) : DC_OK;
    case H5T_FLOAT: a->kind = REAL; return H5Aread(id, H5T_NATIVE_DOUBLE, &a->r) < 0 ? bad(f, err) : DC_OK;
    default: return dc_fail(err, DC_EFORMAT, "%s: attribute '%s' has an unknown type", f->path, a->name);
    }
}

static int read_attribute(dc_h5_file *f, hid_t file, hsize_t i, dc_error *err)
{
    int rc = DC_OK;
    if (dc_grow(&f->attributes, f->n_attributes, &f->room_attributes, sizeof *f->attributes))
        return dc_fail_memory(err, (f->n_attributes + 1) * sizeof *f->attributes, "attributes");
    attribute *a = &f->attributes[f->n_attributes];
    *a = (attribute){.kind = INT};
    const hid_t id = H5Aopen_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t type = id < 0 ? -1 : H5Aget_type(id), space = id < 0 ? -1 : H5Aget_space(id);
    const ssize_t n = id < 0 ? -1 : H5Aget_name(id, sizeof a->name, a->name);
    f->n_attributes++;
    if (type < 0 || space < 0 || n < 0) rc = bad(f, err);
    else if (n >= (ssize_t)sizeof a->name)
        rc = dc_fail(err, DC_EFORMAT, "%s: the name of attribute '%s...' is too long", f->path, a->name);
    else rc = read_value(f, a, id, type, space, err);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (id >= 0) H5Aclose(id);
    return rc;
}

/* The type of items, or DC_H5_TYPES when it is none of ours. */
static dc_h5_type type_of(hid_t set)
{
    const hid_t type = H5Dget_type(set);
    int found = DC_H5_TYPES;
    for (int t = 0; type >= 0 && t < DC_H5_TYPES; t++) {
        const hid_t ours = dc_h5_file_type((dc_h5_type)t);
        if (ours >= 0 && H5Tequal(type, ours) > 0) found = t;
        if (ours >= 0) H5Tclose(ours);
    }
    if (type >= 0) H5Tclose(type);
    return (dc_h5_type)found;
}

/* Fills shape and chunk; 0 when the data set is not laid out as we write it. */
static int layout_of(column *c, hid_t set)
{
    const hid_t create = H5Dget_create_plist(set), space = H5Dget_space(set);
    hsize_t items = 0, chunk = 0;
    int ok = create >= 0 && space >= 0 && H5Pget_layout(create) == H5D_CHUNKED &&
             H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_dims(space, &items, NULL) == 1 &&
             H5Pget_chunk(create, 1, &chunk) == 1;
    const int shuffled = dc_h5_shuffled(c->type);
    ok = ok && H5Pget_nfilters(create) == 1 + shuffled && items <= INT64_MAX / 16 && chunk > 0 &&
         chunk <= DC_H5_CHUNK_BYTES / c->size;
    for (unsigned i = 0; ok && i < 1 + (unsigned)shuffled; i++) {
        unsigned flags = 0, values[4] = {0}, config = 0;
        size_t n = 4;
        char name[32];
        ok = H5Pget_filter2(create, i, &flags, &n, values, sizeof name, name, &config) ==
             (shuffled && i == 0 ? H5Z_FILTER_SHUFFLE : DC_H5_ZSTD);
    }
    if (create >= 0) H5Pclose(create);
    if (space >= 0) H5Sclose(space);
    c->items = (int64_t)items, c->chunk = (int64_t)chunk;
    return ok;
}

/* The table's rows; its sum is an attribute. Nothing is allocated before the file is known to hold it. */
static int read_table(dc_h5_file *f, column *c, hid_t set, dc_error *err)
{
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    const hid_t a = H5Aopen(set, "xxh64", H5P_DEFAULT);
    hsize_t shape[2] = {0, 0};
    uint64_t sum = 0;
    int rc = DC_OK;
    const uint64_t n = (uint64_t)(c->items / c->chunk + (c->items % c->chunk != 0));
    const int shaped = space >= 0 && type >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
                       H5Sget_simple_extent_dims(space, shape, NULL) == 2 && shape[0] == n && shape[1] == 3 &&
                       H5Tequal(type, H5T_STD_U64LE) > 0;
    if (!shaped || a < 0 || H5Aread(a, H5T_NATIVE_UINT64, &sum) < 0 || n > (uint64_t)f->bytes / sizeof *c->table) {
        H5Eclear2(H5E_DEFAULT);
        rc = dc_fail(err, DC_EFORMAT, "%s: column '%s' of %lld items has no table of its %llu chunks", f->path, c->name,
                     (long long)c->items, (unsigned long long)n);
        goto done;
    }
    c->n_chunks = (int64_t)n;
    c->table = dc_malloc((size_t)n * sizeof *c->table + 1);
    c->slot = dc_malloc((size_t)n * sizeof *c->slot + 1);
    if (!c->table || !c->slot) {
        rc = dc_fail_memory(err, n * sizeof *c->table, "a table of chunks");
        goto done;
    }
    memset(c->slot, -1, (size_t)n * sizeof *c->slot);
    if (n && H5Dread(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, c->table) < 0) rc = bad(f, err);
    else if (XXH64(c->table, (size_t)n * sizeof *c->table, 0) != sum)
        rc = dc_fail(err, DC_EFORMAT, "%s: the table of column '%s' is damaged", f->path, c->name);
done:
    if (a >= 0) H5Aclose(a);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return rc;
}

static int check_table(const dc_h5_file *f, const column *c, dc_error *err)
{
    const uint64_t bytes = (uint64_t)f->bytes, most = ZSTD_compressBound((size_t)c->chunk * c->size);
    for (int64_t i = 0; i < c->n_chunks; i++) {
        const dc_h5_chunk *t = &c->table[i];
        if (t->offset <= bytes && t->bytes <= bytes - t->offset && t->bytes > 0 && t->bytes <= most) continue;
        return dc_fail(err, DC_EFORMAT,
                       "%s: chunk %lld of column '%s' is said to be %llu bytes at %llu of a file of %lld", f->path,
                       (long long)i, c->name, (unsigned long long)t->bytes, (unsigned long long)t->offset,
                       (long long)f->bytes);
    }
    return DC_OK;
}

static int read_column(dc_h5_file *f, hid_t file, const char *name, const char *table, dc_error *err)
{
    int rc = DC_OK;
    if (dc_grow(&f->columns, f->n, &f->room, sizeof *f->columns))
        return dc_fail_memory(err, (f->n + 1) * sizeof *f->columns, "columns");
    column *c = &f->columns[f->n];
    *c = (column){.type = DC_H5_TYPES};
    memcpy(c->name, name, strlen(name) + 1);
    f->n++;
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT), chunks = H5Dopen2(file, table, H5P_DEFAULT);
    if (set < 0 || chunks < 0) {
        rc = bad(f, err);
        goto done;
    }
    c->type = type_of(set);
    c->size = c->type == DC_H5_TYPES ? 1 : dc_h5_type_size(c->type);
    if (c->type == DC_H5_TYPES || !layout_of(c, set)) {
        H5Eclear2(H5E_DEFAULT);
        rc = dc_fail(err, DC_EFORMAT, "%s: column '%s' is not laid out as decant writes it", f->path, name);
        goto done;
    }
    DC_TRY(read_table(f, c, chunks, err));
    DC_TRY(check_table(f, c, err));
done:
    if (set >= 0) H5Dclose(set);
    if (chunks >= 0) H5Dclose(chunks);
    return rc;
}

/* Every link NAME beside which stands NAME.chunks is a column; what else a file holds is not ours. */
static int read_links(dc_h5_file *f, hid_t file, dc_error *err)
{
    H5G_info_t info;
    if (H5Gget_info(file, &info) < 0) return bad(f, err);
    if (info.nlinks > DC_H5_OBJECTS)
        return dc_fail(err, DC_EFORMAT, "%s: %llu objects are too many", f->path, (unsigned long long)info.nlinks);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char name[DC_H5_NAME_BYTES - 8], table[DC_H5_NAME_BYTES];
        const ssize_t n = H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (n < 0) return bad(f, err);
        if (n == 0 || n >= (ssize_t)sizeof name) continue;
        snprintf(table, sizeof table, "%s.chunks", name);
        if (H5Lexists(file, table, H5P_DEFAULT) <= 0) continue;
        const int rc = read_column(f, file, name, table, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

static int read_attributes(dc_h5_file *f, hid_t file, dc_error *err)
{
    H5O_info_t info;
    if (H5Oget_info2(file, &info, H5O_INFO_NUM_ATTRS) < 0) return bad(f, err);
    if (info.num_attrs > DC_H5_OBJECTS)
        return dc_fail(err, DC_EFORMAT, "%s: %llu attributes are too many", f->path,
                       (unsigned long long)info.num_attrs);
    for (hsize_t i = 0; i < info.num_attrs; i++) {
        const int rc = read_attribute(f, file, i, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

static int check_format(const dc_h5_file *f, const char *format, int64_t version, dc_error *err)
{
    const char *text = NULL;
    int64_t found = 0;
    int rc = dc_h5_get_text(&text, f, "format", err);
    if (rc == DC_OK && strcmp(text, format) != 0)
        rc = dc_fail(err, DC_EFORMAT, "%s: its format is '%s', expected '%s'", f->path, text, format);
    if (rc == DC_OK) rc = dc_h5_get_int(&found, f, "version", err);
    if (rc == DC_OK && (found < 1 || found > version))
        rc = dc_fail(err, DC_EFORMAT,
                     "%s: version %lld of %s; this program reads up to version %lld: use a newer decant", f->path,
                     (long long)found, format, (long long)version);
    return rc;
}

/* HDF5's older structures carry no sums, and the library may loop over damaged ones. Files of ours begin with the superblock of
 * HDF5 1.10, below which everything is summed; no other reaches the library. */
static int check_head(dc_h5_file *f, dc_error *err)
{
    static const uint8_t magic[9] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n', 3};
    uint8_t head[9];
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) return dc_fail_errno(err, "open", f->path);
    const off_t bytes = lseek(f->fd, 0, SEEK_END);
    if (bytes < 0) return dc_fail_errno(err, "read", f->path);
    f->bytes = bytes;
    const ssize_t n = pread(f->fd, head, sizeof head, 0);
    if (n < 0) return dc_fail_errno(err, "read", f->path);
    if (n == (ssize_t)sizeof head && !memcmp(head, magic, sizeof magic)) return DC_OK;
    return dc_fail(err, DC_EFORMAT, "%s is not an HDF5 file of version 1.10 as decant writes them", f->path);
}

static int read_file(dc_h5_file *f, const char *format, int64_t version, dc_error *err)
{
    const hid_t access = dc_h5_access();
    const hid_t file = access < 0 ? -1 : H5Fopen(f->path, H5F_ACC_RDONLY, access);
    int rc = file < 0 ? bad(f, err) : DC_OK;
    if (rc == DC_OK) rc = read_attributes(f, file, err);
    if (rc == DC_OK)
        rc =
            check_format(f, format, version, err); /* before the columns, which a newer version may lay out otherwise */
    if (rc == DC_OK) rc = read_links(f, file, err);
    if (file >= 0) H5Fclose(file);
    if (access >= 0) H5Pclose(access);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

int dc_h5_open(dc_h5_file **out, const char *path, const char *format, int64_t version, dc_error *err)
{
    dc_error found = {0}; /* HDF5 may forget that the disk refused a read, and take what it has for damaged */
    int rc = dc_h5_begin(err);
    if (rc != DC_OK) return rc;
    dc_h5_file *f = dc_calloc(1, sizeof *f);
    if (!f) return dc_fail_memory(err, sizeof *f, "a file of columns");
    f->fd = -1, f->most = 64 << 20;
    f->path = dc_strdup(path);
    f->zstd = ZSTD_createDCtx();
    if (!f->path || !f->zstd) {
        rc = dc_fail_memory(err, strlen(path) + 1, "a file of columns");
        goto done;
    }
    DC_TRY(check_head(f, err));
    errno = 0;
    rc = read_file(f, format, version, &found);
    if (rc == DC_EFORMAT && (errno == EIO || errno == EACCES)) rc = dc_fail_errno(err, "read", path);
    else if (rc != DC_OK) dc_fail(err, (dc_code)rc, "%s", found.message);
done:
    if (rc == DC_OK) *out = f;
    else dc_h5_close(f);
    return rc;
}

void dc_h5_close(dc_h5_file *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->n; i++) {
        dc_free(f->columns[i].table);
        dc_free(f->columns[i].slot);
    }
    for (size_t i = 0; i < f->n_attributes; i++) dc_free(f->attributes[i].text);
    for (size_t i = 0; i < f->n_slots; i++) dc_free(f->slots[i].data);
    void *memory[] = {f->columns, f->attributes, f->slots, f->packed, f->planes, f->path};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) dc_free(memory[i]);
    ZSTD_freeDCtx(f->zstd);
    if (f->fd >= 0) close(f->fd);
    dc_free(f);
}

/* ---- what a file says ---- */

const char *dc_h5_path(const dc_h5_file *f) { return f->path; }

static int find_attribute(const attribute **out, const dc_h5_file *f, const char *name, kind wanted, dc_error *err)
{
    static const char *const kinds[] = {"a text", "an integer", "a real number"};
    for (size_t i = 0; i < f->n_attributes; i++) {
        const attribute *a = &f->attributes[i];
        if (strcmp(a->name, name) != 0) continue;
        if (a->kind != wanted)
            return dc_fail(err, DC_EFORMAT, "%s: attribute '%s' is not %s", f->path, name, kinds[wanted]);
        *out = a;
        return DC_OK;
    }
    return dc_fail(err, DC_EFORMAT, "%s has no attribute '%s': it is not a file of decant, or not a whole one", f->path,
                   name);
}

int dc_h5_get_text(const char **out, const dc_h5_file *f, const char *name, dc_error *err)
{
    const attribute *a = NULL;
    const int rc = find_attribute(&a, f, name, TEXT, err);
    if (rc == DC_OK) *out = a->text;
    return rc;
}

int dc_h5_get_int(int64_t *out, const dc_h5_file *f, const char *name, dc_error *err)
{
    const attribute *a = NULL;
    const int rc = find_attribute(&a, f, name, INT, err);
    if (rc == DC_OK) *out = a->i;
    return rc;
}

int dc_h5_get_real(double *out, const dc_h5_file *f, const char *name, dc_error *err)
{
    const attribute *a = NULL;
    const int rc = find_attribute(&a, f, name, REAL, err);
    if (rc == DC_OK) *out = a->r;
    return rc;
}

int dc_h5_get_hash(dc_hash *out, const dc_h5_file *f, const char *name, dc_error *err)
{
    const char *text = NULL;
    const int rc = dc_h5_get_text(&text, f, name, err);
    if (rc != DC_OK) return rc;
    const size_t n = strlen(text);
    if (n != 0 && n != 32) return dc_fail(err, DC_EFORMAT, "%s: attribute '%s' is not a hash", dc_h5_path(f), name);
    *out = (dc_hash){""};
    memcpy(out->hex, text, n);
    return DC_OK;
}

int dc_h5_find(int *number, const dc_h5_file *f, const char *name, dc_h5_type type, dc_error *err)
{
    static const char *const names[DC_H5_TYPES] = {"u8", "u16", "u32", "u64", "f16", "f32"};
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->columns[i].name, name) != 0) continue;
        if (f->columns[i].type != type)
            return dc_fail(err, DC_EFORMAT, "%s: column '%s' holds %s items, expected %s", f->path, name,
                           names[f->columns[i].type], names[type]);
        *number = (int)i;
        return DC_OK;
    }
    return dc_fail(err, DC_EFORMAT, "%s has no column '%s'", f->path, name);
}

int64_t dc_h5_items(const dc_h5_file *f, int number) { return f->columns[number].items; }

/* ---- items ---- */

/* Takes the slot that was used the longest ago out of the cache; its memory comes back in *data when it has `size` bytes. */
static void evict(dc_h5_file *f, uint8_t **data, size_t size)
{
    size_t oldest = 0;
    for (size_t i = 1; i < f->n_slots; i++)
        if (f->slots[i].used < f->slots[oldest].used) oldest = i;
    slot *s = &f->slots[oldest];
    column *c = &f->columns[s->column];
    const size_t raw = (size_t)c->chunk * c->size;
    c->slot[s->chunk] = -1;
    f->cached -= (int64_t)raw;
    if (!*data && raw == size) *data = s->data;
    else dc_free(s->data);
    if (oldest != --f->n_slots) {
        *s = f->slots[f->n_slots];
        f->columns[s->column].slot[s->chunk] = (int32_t)oldest;
    }
}

static int damaged(const dc_h5_file *f, const column *c, int64_t chunk, dc_error *err)
{
    return dc_fail(err, DC_EFORMAT, "%s: chunk %lld of column '%s' is damaged: make the file again", f->path,
                   (long long)chunk, c->name);
}

/* Reads, checks and unpacks a chunk to `data`. */
static int unpack(dc_h5_file *f, const column *c, int64_t chunk, uint8_t *data, dc_error *err)
{
    const dc_h5_chunk *t = &c->table[chunk];
    const size_t raw = (size_t)c->chunk * c->size, n = (size_t)t->bytes;
    const int shuffled = dc_h5_shuffled(c->type);
    if (f->packed_room < n) {
        dc_free(f->packed);
        f->packed = dc_malloc(n);
        f->packed_room = f->packed ? n : 0;
    }
    if (shuffled && f->planes_room < raw) {
        dc_free(f->planes);
        f->planes = dc_malloc(raw);
        f->planes_room = f->planes ? raw : 0;
    }
    if (!f->packed || (shuffled && !f->planes)) return dc_fail_memory(err, n + raw, "a chunk");
    for (size_t got = 0; got < n;) {
        const ssize_t k = pread(f->fd, f->packed + got, n - got, (off_t)(t->offset + got));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return dc_fail_errno(err, "read", f->path);
        if (k == 0) return damaged(f, c, chunk, err);
        got += (size_t)k;
    }
    if (XXH64(f->packed, n, 0) != t->sum || ZSTD_getFrameContentSize(f->packed, n) != raw)
        return damaged(f, c, chunk, err);
    if (ZSTD_decompressDCtx(f->zstd, shuffled ? f->planes : data, raw, f->packed, n) != raw)
        return damaged(f, c, chunk, err);
    if (shuffled) dc_h5_unshuffle(data, f->planes, (size_t)c->chunk, c->size);
    return DC_OK;
}

/* The unpacked chunk, valid until the next call. */
static int get_chunk(const uint8_t **out, dc_h5_file *f, int number, int64_t chunk, dc_error *err)
{
    column *c = &f->columns[number];
    const size_t raw = (size_t)c->chunk * c->size;
    if (c->slot[chunk] >= 0) {
        slot *s = &f->slots[c->slot[chunk]];
        s->used = ++f->clock;
        *out = s->data;
        return DC_OK;
    }
    uint8_t *data = NULL;
    while (f->n_slots && f->cached + (int64_t)raw > f->most) evict(f, &data, raw);
    if (!data) data = dc_malloc(raw);
    if (!data || dc_grow(&f->slots, f->n_slots, &f->room_slots, sizeof *f->slots)) {
        dc_free(data);
        return dc_fail_memory(err, raw, "a chunk");
    }
    const int rc = unpack(f, c, chunk, data, err);
    if (rc != DC_OK) {
        dc_free(data);
        return rc;
    }
    c->slot[chunk] = (int32_t)f->n_slots;
    f->slots[f->n_slots++] = (slot){.data = data, .used = ++f->clock, .column = number, .chunk = chunk};
    f->cached += (int64_t)raw;
    *out = data;
    return DC_OK;
}

int dc_h5_read(dc_h5_file *f, int number, void *out, int64_t first, int64_t n, dc_error *err)
{
    DC_ASSERT(number >= 0 && (size_t)number < f->n);
    const column *c = &f->columns[number];
    uint8_t *to = out;
    if (first < 0 || n < 0 || first > c->items || n > c->items - first)
        return dc_fail(err, DC_EFORMAT, "%s: column '%s' has %lld items; %lld behind item %lld are wanted", f->path,
                       c->name, (long long)c->items, (long long)n, (long long)first);
    while (n > 0) {
        const int64_t chunk = first / c->chunk, skip = first % c->chunk,
                      take = c->chunk - skip < n ? c->chunk - skip : n;
        const uint8_t *data = NULL;
        const int rc = get_chunk(&data, f, number, chunk, err);
        if (rc != DC_OK) return rc;
        memcpy(to, data + (size_t)skip * c->size, (size_t)take * c->size);
        to += (size_t)take * c->size;
        first += take, n -= take;
    }
    return DC_OK;
}

void dc_h5_set_cache(dc_h5_file *f, int64_t bytes)
{
    f->most = bytes;
    while (f->n_slots && f->cached > f->most) {
        uint8_t *none = NULL;
        evict(f, &none, 0);
    }
}
