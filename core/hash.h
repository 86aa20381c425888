/* core/hash.h -- content hashes: XXH3 128 for decant's own files and seams, as 32 lower-case hex digits. */
#ifndef DC_CORE_HASH_H
#define DC_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_hash {
    char hex[33];
} dc_hash;

typedef struct dc_hasher dc_hasher;

/* NULL when memory is out. */
dc_hasher *dc_hasher_new(void);
void dc_hasher_add(dc_hasher *h, const void *bytes, size_t n);
/* The text and a 0, so that ("ab", "c") and ("a", "bc") differ. */
void dc_hasher_add_text(dc_hasher *h, const char *text);
void dc_hasher_add_i64(dc_hasher *h, int64_t value);
dc_hash dc_hasher_get(const dc_hasher *h);
void dc_hasher_free(dc_hasher *h);

dc_hash dc_hash_bytes(const void *bytes, size_t n);
/* The hash of a whole file. Polls core/stop.h. */
int dc_hash_file(dc_hash *out, const char *path, dc_error *err);
int dc_hash_equal(const dc_hash *a, const dc_hash *b);

#ifdef __cplusplus
}
#endif
#endif
