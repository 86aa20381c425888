/* data/h5_private.h -- what writing and reading of HDF5 columns share; private to data/h5_*.c. */
#ifndef DC_DATA_H5_PRIVATE_H
#define DC_DATA_H5_PRIVATE_H

#include <hdf5.h>

#include "data/h5.h"

enum {
    DC_H5_ZSTD = 32015,           /* the registered number of zstd as an HDF5 filter */
    DC_H5_CHUNK_BYTES = 16 << 20, /* the largest raw chunk */
    DC_H5_TEXT_BYTES = 60000,     /* the longest text attribute: a compact attribute must stay below 64 KB */
    DC_H5_NAME_BYTES = 64,        /* a column's or attribute's name, its 0 included */
    DC_H5_OBJECTS = 256           /* the most columns, tables and attributes of a file */
};

/* One row of a table of chunks, as it stands in the file. */
typedef struct dc_h5_chunk {
    uint64_t offset, bytes, sum; /* XXH64, seed 0, of the stored bytes */
} dc_h5_chunk;

/* Before any other call of HDF5: no exit handler, nothing printed, the filter known. */
int dc_h5_begin(dc_error *err);
/* Access to files that closes all their objects with them and takes no lock: output_dir has its own, and readers of a finished
 * file need none. -1 on failure. */
hid_t dc_h5_access(void);
/* The type in a file, little endian; the caller closes it. -1 on failure. */
hid_t dc_h5_file_type(dc_h5_type type);
/* "WHAT PATH: the innermost message of HDF5". */
int dc_h5_fail(dc_error *err, dc_code code, const char *what, const char *path);

/* Half numbers and items of four bytes or more go through HDF5's standard shuffle filter (number 2) before zstd: all first bytes of the items,
 * then all second ones, ... Ids in four bytes then cost hardly more than in two. Ids in two bytes do not gain by it. */
int dc_h5_shuffled(dc_h5_type type);
void dc_h5_shuffle(uint8_t *out, const uint8_t *in, size_t items, size_t size);
void dc_h5_unshuffle(uint8_t *out, const uint8_t *in, size_t items, size_t size);
#endif
