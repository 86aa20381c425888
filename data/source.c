/* data/source.c */
#include "data/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/arena.h"

enum { PIECE = 64 << 10, WINDOW_LOG = 27 };

typedef enum packing { PLAIN, GZIP, ZSTANDARD } packing;

struct dc_source {
    char *name;
    int fd;               /* -1: memory */
    const uint8_t *bytes; /* memory not yet taken */
    size_t left;
    packing packing;
    int started;
    uint8_t in[PIECE];
    size_t in_at, in_n; /* packed bytes in[in_at .. in_n) are waiting */
    int in_ended;
    int64_t done;
    z_stream gzip;
    int gzip_open, inside; /* inside: of a gzip member or Zstandard frame */
    ZSTD_DStream *zstd;
    dc_error failure; /* told when all bytes before it were handed out */
    char out[PIECE];
};

static voidpf zlib_alloc(voidpf unused, uInt n, uInt size)
{
    (void)unused;
    return dc_calloc(n, size);
}

static void zlib_free(voidpf unused, voidpf memory)
{
    (void)unused;
    dc_free(memory);
}

static int source_new(dc_source **out, const char *name, dc_error *err)
{
    dc_source *s = dc_calloc(1, sizeof *s);
    if (s) s->name = dc_strdup(name);
    if (!s || !s->name) {
        dc_free(s);
        return dc_fail_memory(err, sizeof *s, "a reader");
    }
    s->fd = -1;
    *out = s;
    return DC_OK;
}

int dc_source_open(dc_source **out, const char *path, dc_error *err)
{
    dc_source *s = NULL;
    const int rc = source_new(&s, path, err);
    if (rc) return rc;
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        dc_fail_errno(err, "open", path);
        dc_source_close(s);
        return DC_EIO;
    }
    *out = s;
    return DC_OK;
}

int dc_source_memory(dc_source **out, const void *bytes, size_t n, const char *name, dc_error *err)
{
    const int rc = source_new(out, name, err);
    if (rc) return rc;
    (*out)->bytes = bytes;
    (*out)->left = n;
    return DC_OK;
}

/* More packed bytes behind those that wait. */
static int fill(dc_source *s, dc_error *err)
{
    if (s->in_at) {
        memmove(s->in, s->in + s->in_at, s->in_n - s->in_at);
        s->in_n -= s->in_at;
        s->in_at = 0;
    }
    while (s->in_n < sizeof s->in && !s->in_ended) {
        const size_t room = sizeof s->in - s->in_n;
        size_t got;
        if (s->fd < 0) {
            got = s->left < room ? s->left : room;
            if (got) memcpy(s->in + s->in_n, s->bytes, got);
            s->bytes += got;
            s->left -= got;
        } else {
            const ssize_t n = read(s->fd, s->in + s->in_n, room);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return dc_fail_errno(err, "read", s->name);
            got = (size_t)n;
        }
        s->in_ended = got == 0;
        s->in_n += got;
        s->done += (int64_t)got;
    }
    return DC_OK;
}

static int is_zstd(const uint8_t *p) /* a frame, or a skippable one */
{
    return (p[0] == 0x28 && p[1] == 0xb5 && p[2] == 0x2f && p[3] == 0xfd) ||
           ((p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18);
}

static int start(dc_source *s, dc_error *err)
{
    const int rc = fill(s, err);
    if (rc) return rc;
    s->started = 1;
    if (s->in_n >= 2 && s->in[0] == 0x1f && s->in[1] == 0x8b) {
        s->packing = GZIP;
        s->gzip.zalloc = zlib_alloc;
        s->gzip.zfree = zlib_free;
        if (inflateInit2(&s->gzip, 15 + 16) != Z_OK) return dc_fail_memory(err, 1 << 15, "a gzip stream");
        s->gzip_open = 1;
    } else if (s->in_n >= 4 && is_zstd(s->in)) {
        s->packing = ZSTANDARD;
        s->zstd = ZSTD_createDStream();
        if (!s->zstd) return dc_fail_memory(err, 1 << 17, "a Zstandard stream");
        ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG);
    }
    return DC_OK;
}

static int damaged(dc_source *s, const char *kind, const char *what, dc_error *err)
{
    const long long at = (long long)(s->done - (int64_t)(s->in_n - s->in_at));
    return dc_fail(err, DC_EFORMAT, "%s: the %s stream is damaged at byte %lld: %s. Fetch or make the file again.",
                   s->name, kind, at, what);
}

static int cut_short(dc_source *s, const char *kind, dc_error *err)
{
    return dc_fail(err, DC_EFORMAT, "%s: the %s stream is cut short after %lld bytes. Fetch or make the file again.",
                   s->name, kind, (long long)s->done);
}

/* Both unpackers write to out[n ..) and say how far they came; padding of zeros behind the last gzip member is allowed, as gzip does. */
static int unpack_gzip(dc_source *s, size_t *n, dc_error *err)
{
    if (!s->inside) {
        if (s->in[s->in_at] == 0) {
            s->in_at++;
            return DC_OK;
        }
        if (inflateReset(&s->gzip) != Z_OK) return damaged(s, "gzip", "no new member", err);
        s->inside = 1;
    }
    s->gzip.next_in = s->in + s->in_at;
    s->gzip.avail_in = (uInt)(s->in_n - s->in_at);
    s->gzip.next_out = (Bytef *)s->out + *n;
    s->gzip.avail_out = (uInt)(sizeof s->out - *n);
    const int rc = inflate(&s->gzip, Z_NO_FLUSH);
    s->in_at = s->in_n - s->gzip.avail_in;
    *n = sizeof s->out - s->gzip.avail_out;
    if (rc == Z_STREAM_END) s->inside = 0;
    else if (rc == Z_MEM_ERROR) return dc_fail_memory(err, 1 << 15, "a gzip stream");
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
        return damaged(s, "gzip", s->gzip.msg ? s->gzip.msg : "no gzip member", err);
    return DC_OK;
}

static int unpack_zstd(dc_source *s, size_t *n, dc_error *err)
{
    ZSTD_inBuffer in = {s->in, s->in_n, s->in_at};
    ZSTD_outBuffer out = {s->out, sizeof s->out, *n};
    const size_t rc = ZSTD_decompressStream(s->zstd, &out, &in);
    s->in_at = in.pos;
    *n = out.pos;
    if (ZSTD_isError(rc)) return damaged(s, "Zstandard", ZSTD_getErrorName(rc), err);
    s->inside = rc != 0;
    return DC_OK;
}

static int unpack(dc_source *s, size_t *n, dc_error *err)
{
    while (*n < sizeof s->out) {
        int rc = DC_OK;
        if (s->in_at == s->in_n && !s->in_ended) rc = fill(s, err);
        if (rc) return rc;
        if (s->in_at == s->in_n && !s->inside) return DC_OK;
        const size_t before = *n, in_before = s->in_at;
        rc = s->packing == GZIP ? unpack_gzip(s, n, err) : unpack_zstd(s, n, err);
        if (rc) return rc;
        const int moved = *n != before || s->in_at != in_before;
        if (!moved && s->in_ended) return cut_short(s, s->packing == GZIP ? "gzip" : "Zstandard", err);
    }
    return DC_OK;
}

int dc_source_next(dc_source *s, const char **data, size_t *n, dc_error *err)
{
    dc_error *failure = &s->failure;
    *n = 0;
    *data = s->out;
    if (!failure->code && !s->started) start(s, failure);
    if (!failure->code && s->packing == PLAIN) {
        if (s->in_at == s->in_n) fill(s, failure);
        *data = (const char *)s->in + s->in_at;
        *n = failure->code ? 0 : s->in_n - s->in_at;
        s->in_at = s->in_n;
    } else if (!failure->code) {
        unpack(s, n, failure);
    }
    return failure->code && !*n ? dc_fail(err, failure->code, "%s", failure->message) : DC_OK;
}

int64_t dc_source_done(const dc_source *s) { return s->done; }

void dc_source_close(dc_source *s)
{
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    if (s->gzip_open) inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    dc_free(s->name);
    dc_free(s);
}
