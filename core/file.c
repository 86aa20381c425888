/* core/file.c -- one file at a time: mapping, reading, atomic writing. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file_internal.h"
#include "core/stop.h"

enum { CHUNK = 1 << 20 };

static const uint8_t nothing[1];

/* Opens a regular file for reading and tells its size; -1 with err filled otherwise. */
static int open_regular(const char *path, int64_t *size, dc_error *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        dc_fail_errno(err, "open", path);
        return -1;
    }
    if (fstat(fd, &st)) {
        dc_fail_errno(err, "read", path);
    } else if (!S_ISREG(st.st_mode)) {
        dc_fail(err, DC_EIO, "cannot read %s: it is %s, not a file", path,
                S_ISDIR(st.st_mode) ? "a directory" : "a device or a pipe");
    } else {
        *size = st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

int dc_map_open(dc_map *map, const char *path, dc_error *err)
{
    int64_t size = 0;
    int rc = DC_OK;
    *map = (dc_map){0};
    const int fd = open_regular(path, &size, err);
    if (fd < 0) return DC_EIO;
    void *data = size > 0 ? mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0) : NULL;
    if (data == MAP_FAILED) rc = dc_fail_errno(err, "map", path);
    close(fd);
    if (rc != DC_OK) return rc;
    char *copy = dc_strdup(path);
    if (!copy) {
        if (size > 0) munmap(data, (size_t)size);
        return dc_fail_memory(err, strlen(path) + 1, "a path");
    }
    *map = (dc_map){.data = size > 0 ? data : nothing, .size = size, .path = copy};
    return DC_OK;
}

void dc_map_close(dc_map *map)
{
    if (map->size > 0) munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    dc_free(map->path);
    *map = (dc_map){0};
}

int dc_file_read(dc_str *out, const char *path, int64_t limit, dc_error *err)
{
    const size_t before = out->n;
    int rc = DC_OK;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return dc_fail_errno(err, "open", path);
    dc_str_append(out, "", 0);
    for (;;) {
        char chunk[16384];
        const ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            rc = dc_fail_errno(err, "read", path);
            break;
        }
        if ((int64_t)(out->n - before) > limit - n) {
            rc = dc_fail(err, DC_EFORMAT, "%s is larger than the %lld bytes that such a file may have", path,
                         (long long)limit);
            break;
        }
        dc_str_append(out, chunk, (size_t)n);
        if (out->failed) break;
    }
    close(fd);
    if (rc == DC_OK && out->failed) rc = dc_fail_memory(err, 2 * out->n, path);
    if (rc != DC_OK && out->data) out->n = before, out->data[before] = 0;
    return rc;
}

int dc_sync_path(const char *path, dc_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return dc_fail_errno(err, "open", path);
    const int failed = fsync(fd);
    const int code = errno;
    close(fd);
    errno = code;
    return failed ? dc_fail_errno(err, "sync", path) : DC_OK;
}

int dc_parent_open(int *fd, const char *path, dc_error *err)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash > path ? (size_t)(slash - path) : 1; /* "/" and "." have one letter */
    char *parent = dc_malloc(n + 1);
    if (!parent) return dc_fail_memory(err, n + 1, "a path");
    memcpy(parent, slash ? path : ".", n);
    parent[n] = 0;
    *fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int rc = *fd < 0 && errno != EACCES ? dc_fail_errno(err, "open the folder", parent) : DC_OK;
    dc_free(parent);
    return rc;
}

int dc_parent_sync(int fd, const char *path, dc_error *err)
{
    int rc = DC_OK;
    if (fd < 0) return rc;
    /* Some file systems cannot sync folders; what a rename promises to living processes holds there too. */
    if (fsync(fd) && errno != EINVAL && errno != ENOTSUP) rc = dc_fail_errno(err, "sync the folder of", path);
    close(fd);
    return rc;
}

int dc_writer_open(dc_writer *w, const char *path, dc_error *err)
{
    const size_t n = strlen(path);
    *w = (dc_writer){.path = dc_strdup(path), .tmp = dc_malloc(n + sizeof ".tmp")};
    int rc = DC_OK;
    if (!w->path || !w->tmp) {
        rc = dc_fail_memory(err, 2 * n, "a path");
        goto done;
    }
    memcpy(w->tmp, path, n);
    memcpy(w->tmp + n, ".tmp", sizeof ".tmp");
    w->file = fopen(w->tmp, "wbe");
    if (!w->file) rc = dc_fail_errno(err, "write", path);
done:
    if (rc != DC_OK) {
        dc_free(w->path);
        dc_free(w->tmp);
        *w = (dc_writer){0};
    }
    return rc;
}

/* The failure of the first write, whose errno was kept. */
static int writer_failed(const dc_writer *w, dc_error *err)
{
    errno = w->failed;
    return dc_fail_errno(err, "write", w->path);
}

int dc_writer_put(dc_writer *w, const void *bytes, size_t n, dc_error *err)
{
    DC_ASSERT(w->file);
    if (w->failed) return writer_failed(w, err);
    errno = 0;
    if (n && fwrite(bytes, 1, n, w->file) != n) {
        w->failed = errno ? errno : EIO;
        return writer_failed(w, err);
    }
    w->size += (int64_t)n;
    return DC_OK;
}

int dc_writer_pad(dc_writer *w, size_t alignment, dc_error *err)
{
    static const char zeros[256];
    DC_ASSERT(alignment > 0);
    size_t rest = (alignment - (size_t)w->size % alignment) % alignment;
    int rc = DC_OK;
    while (rest > 0 && rc == DC_OK) {
        const size_t n = rest < sizeof zeros ? rest : sizeof zeros;
        rc = dc_writer_put(w, zeros, n, err);
        rest -= n;
    }
    return rc;
}

static void writer_release(dc_writer *w)
{
    dc_free(w->path);
    dc_free(w->tmp);
    *w = (dc_writer){0};
}

int dc_writer_commit(dc_writer *w, dc_error *err)
{
    DC_ASSERT(w->file);
    int folder = -1;
    int rc = dc_parent_open(&folder, w->path, err);
    errno = 0;
    if (!w->failed && (ferror(w->file) || fflush(w->file) || fsync(fileno(w->file)))) w->failed = errno ? errno : EIO;
    if (fclose(w->file) && !w->failed) w->failed = errno ? errno : EIO;
    if (rc == DC_OK && w->failed) rc = writer_failed(w, err);
    if (rc == DC_OK && rename(w->tmp, w->path)) rc = dc_fail_errno(err, "write", w->path);
    if (rc == DC_OK) {
        rc = dc_parent_sync(folder, w->path, err);
    } else {
        unlink(w->tmp);
        if (folder >= 0) close(folder);
    }
    writer_release(w);
    return rc;
}

void dc_writer_abandon(dc_writer *w)
{
    if (!w->file) return;
    fclose(w->file);
    unlink(w->tmp);
    writer_release(w);
}

int dc_file_write(const char *path, const void *bytes, size_t n, dc_error *err)
{
    dc_writer w;
    int rc = dc_writer_open(&w, path, err);
    if (rc != DC_OK) return rc;
    rc = dc_writer_put(&w, bytes, n, err);
    if (rc == DC_OK) return dc_writer_commit(&w, err);
    dc_writer_abandon(&w);
    return rc;
}

int dc_file_publish(const char *tmp, const char *path, dc_error *err)
{
    int folder = -1;
    int rc = dc_sync_path(tmp, err);
    if (rc == DC_OK) rc = dc_parent_open(&folder, path, err);
    if (rc != DC_OK) return rc;
    if (!rename(tmp, path)) return dc_parent_sync(folder, path, err);
    rc = dc_fail_errno(err, "write", path);
    if (folder >= 0) close(folder);
    return rc;
}

int dc_file_copy(const char *from, const char *to, dc_error *err)
{
    int64_t size = 0;
    int rc = DC_OK;
    dc_writer w = {0};
    char *chunk = NULL;
    const int fd = open_regular(from, &size, err);
    if (fd < 0) return DC_EIO;
    if (!(chunk = dc_malloc(CHUNK))) {
        rc = dc_fail_memory(err, CHUNK, "a copy");
        goto done;
    }
    DC_TRY(dc_writer_open(&w, to, err));
    for (;;) {
        DC_TRY(dc_stop_check("a copy", err));
        const ssize_t n = read(fd, chunk, CHUNK);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            rc = dc_fail_errno(err, "read", from);
            goto done;
        }
        DC_TRY(dc_writer_put(&w, chunk, (size_t)n, err));
    }
    rc = dc_writer_commit(&w, err);
done:
    dc_writer_abandon(&w);
    dc_free(chunk);
    close(fd);
    return rc;
}
