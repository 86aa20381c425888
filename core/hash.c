/* core/hash.c */
#include "core/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <xxhash.h>

#include "core/arena.h"
#include "core/stop.h"

struct dc_hasher {
    XXH3_state_t *state;
};

static dc_hash to_hex(XXH128_hash_t value)
{
    dc_hash hash;
    snprintf(hash.hex, sizeof hash.hex, "%016llx%016llx", (unsigned long long)value.high64,
             (unsigned long long)value.low64);
    return hash;
}

dc_hasher *dc_hasher_new(void)
{
    dc_hasher *h = dc_malloc(sizeof *h);
    if (!h) return NULL;
    h->state = XXH3_createState();
    if (!h->state) {
        dc_free(h);
        return NULL;
    }
    XXH3_128bits_reset(h->state);
    return h;
}

void dc_hasher_add(dc_hasher *h, const void *bytes, size_t n)
{
    if (n) XXH3_128bits_update(h->state, bytes, n);
}

void dc_hasher_add_text(dc_hasher *h, const char *text) { dc_hasher_add(h, text, strlen(text) + 1); }

void dc_hasher_add_i64(dc_hasher *h, int64_t value)
{
    uint8_t bytes[8]; /* little-endian on any machine */
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)value >> (8 * i));
    dc_hasher_add(h, bytes, sizeof bytes);
}

dc_hash dc_hasher_get(const dc_hasher *h) { return to_hex(XXH3_128bits_digest(h->state)); }

void dc_hasher_free(dc_hasher *h)
{
    if (!h) return;
    XXH3_freeState(h->state);
    dc_free(h);
}

dc_hash dc_hash_bytes(const void *bytes, size_t n) { return to_hex(XXH3_128bits(n ? bytes : "", n)); }

int dc_hash_file(dc_hash *out, const char *path, dc_error *err)
{
    enum { CHUNK = 1 << 20 };
    int rc = DC_OK;
    uint8_t *chunk = dc_malloc(CHUNK);
    dc_hasher *h = dc_hasher_new();
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = dc_fail_errno(err, "open", path);
        goto done;
    }
    if (!chunk || !h) {
        rc = dc_fail_memory(err, CHUNK, "a hash");
        goto done;
    }
    for (;;) {
        DC_TRY(dc_stop_check(path, err));
        const ssize_t n = read(fd, chunk, CHUNK);
        if (n == 0) break;
        if (n > 0) dc_hasher_add(h, chunk, (size_t)n);
        else if (errno != EINTR) {
            rc = dc_fail_errno(err, "read", path);
            goto done;
        }
    }
    *out = dc_hasher_get(h);
done:
    if (fd >= 0) close(fd);
    dc_hasher_free(h);
    dc_free(chunk);
    return rc;
}

int dc_hash_equal(const dc_hash *a, const dc_hash *b) { return !memcmp(a->hex, b->hex, sizeof a->hex); }
