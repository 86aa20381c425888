/* data/h5_common.c -- HDF5's set-up, types, filters and messages. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/arena.h"
#include "data/h5_private.h"

size_t dc_h5_type_size(dc_h5_type type)
{
    static const size_t sizes[DC_H5_TYPES] = {1, 2, 4, 8, 2, 4};
    return sizes[type];
}

int dc_h5_shuffled(dc_h5_type type) { return type == DC_H5_F16 || dc_h5_type_size(type) >= 4; }

void dc_h5_shuffle(uint8_t *out, const uint8_t *in, size_t items, size_t size)
{
    for (size_t b = 0; b < size; b++)
        for (size_t i = 0; i < items; i++) out[b * items + i] = in[i * size + b];
}

void dc_h5_unshuffle(uint8_t *out, const uint8_t *in, size_t items, size_t size)
{
    for (size_t b = 0; b < size; b++)
        for (size_t i = 0; i < items; i++) out[i * size + b] = in[b * items + i];
}

/* Replaces *buffer by `fresh`, as HDF5 wants it of a filter. */
static size_t hand_over(void **buffer, size_t *room, void *fresh, size_t fresh_room, size_t n)
{
    if (!fresh || ZSTD_isError(n)) {
        H5free_memory(fresh);
        return 0;
    }
    H5free_memory(*buffer);
    *buffer = fresh;
    *room = fresh_room;
    return n;
}

/* The registered filter, for HDF5's own reads and writes; 0 is its failure. Ours go around it. */
static size_t zstd_filter(unsigned flags, size_t n_values, const unsigned values[], size_t n, size_t *room,
                          void **buffer)
{
    if (flags & H5Z_FLAG_REVERSE) {
        const unsigned long long raw = ZSTD_getFrameContentSize(*buffer, n);
        if (raw == 0 || raw > DC_H5_CHUNK_BYTES) return 0; /* also the two error values, which are huge */
        void *out = H5allocate_memory((size_t)raw, 0);
        return out ? hand_over(buffer, room, out, (size_t)raw, ZSTD_decompress(out, (size_t)raw, *buffer, n)) : 0;
    }
    const size_t bound = ZSTD_compressBound(n);
    void *out = H5allocate_memory(bound, 0);
    return out ? hand_over(buffer, room, out, bound,
                           ZSTD_compress(out, bound, *buffer, n, n_values ? (int)values[0] : 3))
               : 0;
}

int dc_h5_begin(dc_error *err)
{
    static const H5Z_class2_t zstd = {.version = H5Z_CLASS_T_VERS,
                                      .id = DC_H5_ZSTD,
                                      .encoder_present = 1,
                                      .decoder_present = 1,
                                      .name = "zstd",
                                      .filter = zstd_filter};
    H5dont_atexit(); /* its exit handler prints when a full disk kept a file from being closed */
    if (H5Eset_auto2(H5E_DEFAULT, NULL, NULL) >= 0 && H5Zregister(&zstd) >= 0) return DC_OK;
    return dc_fail(err, DC_EIO, "cannot start the HDF5 library");
}

hid_t dc_h5_access(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 && H5Pset_file_locking(access, 0, 1) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0)
        return access;
    if (access >= 0) H5Pclose(access);
    return -1;
}

/* IEEE binary16: HDF5 1.10 has no name for it. */
static hid_t half_type(void)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type >= 0 && H5Tset_fields(type, 15, 10, 5, 0, 10) >= 0 && H5Tset_size(type, 2) >= 0 &&
        H5Tset_ebias(type, 15) >= 0)
        return type;
    if (type >= 0) H5Tclose(type);
    return -1;
}

hid_t dc_h5_file_type(dc_h5_type type)
{
    switch (type) {
    case DC_H5_U8: return H5Tcopy(H5T_STD_U8LE);
    case DC_H5_U16: return H5Tcopy(H5T_STD_U16LE);
    case DC_H5_U32: return H5Tcopy(H5T_STD_U32LE);
    case DC_H5_U64: return H5Tcopy(H5T_STD_U64LE);
    case DC_H5_F16: return half_type();
    case DC_H5_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case DC_H5_TYPES: break;
    }
    return -1;
}

enum { CAUSE = 8192 }; /* a failed write names the file before the system's reason */

/* Walked from the call inwards: the last one is the cause. */
static herr_t keep_last(unsigned n, const H5E_error2_t *e, void *context)
{
    char *text = context;
    (void)n;
    if (e->desc && *e->desc) {
        strncpy(text, e->desc, CAUSE - 1);
        text[CAUSE - 1] = 0;
    }
    return 0;
}

int dc_h5_fail(dc_error *err, dc_code code, const char *what, const char *path)
{
    char text[CAUSE] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_last, text);
    H5Eclear2(H5E_DEFAULT);
    const char *number = strstr(text, "errno = "); /* else the message holds the time, a descriptor and an address */
    if (!number) return dc_fail(err, code, "cannot %s %s: %s", what, path, text);
    errno = atoi(number + strlen("errno = "));
    return dc_fail_errno(err, what, path);
}
