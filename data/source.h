/* data/source.h -- private to the readers: the bytes of a file, unpacked.
 *
 * gzip (several members) and Zstandard (several frames, skippable ones too) are known by their magic number. A stream that ends early or is
 * damaged is DC_EFORMAT with the place in the packed file; what came before it has been handed out. Memory is bounded: a Zstandard window of
 * more than 128 MB is refused. */
#ifndef DC_DATA_SOURCE_H
#define DC_DATA_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_source dc_source;

int dc_source_open(dc_source **out, const char *path, dc_error *err);
/* The bytes stay the caller's. */
int dc_source_memory(dc_source **out, const void *bytes, size_t n, const char *name, dc_error *err);
/* The next bytes, valid until the next call; *n is 0 at the end. Only the last piece is shorter than 64 KB. */
int dc_source_next(dc_source *s, const char **data, size_t *n, dc_error *err);
int64_t dc_source_done(const dc_source *s); /* bytes read of the packed file */
void dc_source_close(dc_source *s);         /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
