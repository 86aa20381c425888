/* core/file_tree.c -- paths, directories, free space, and the lock of an output directory. */
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file_internal.h"

int dc_path_look(dc_path_info *out, const char *path, dc_error *err)
{
    struct stat st;
    *out = (dc_path_info){.size = -1};
    if (stat(path, &st)) return errno == ENOENT || errno == ENOTDIR ? DC_OK : dc_fail_errno(err, "look at", path);
    out->exists = 1, out->is_dir = S_ISDIR(st.st_mode);
    if (S_ISREG(st.st_mode)) out->size = st.st_size;
    return DC_OK;
}

static dc_path_info seen(const char *path)
{
    dc_path_info there;
    dc_path_look(&there, path, NULL);
    return there;
}

int dc_path_exists(const char *path) { return seen(path).exists; }
int dc_path_is_dir(const char *path) { return seen(path).is_dir; }
int64_t dc_file_size(const char *path) { return seen(path).size; }

char *dc_path_join(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    if (b[0] == '/' || n == 0) return dc_strdup(b);
    const size_t slash = a[n - 1] != '/';
    char *path = dc_malloc(n + slash + m + 1);
    if (!path) return NULL;
    memcpy(path, a, n);
    path[n] = '/';
    memcpy(path + n + slash, b, m + 1);
    return path;
}

const char *dc_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int dc_mkdirs(const char *path, dc_error *err)
{
    char *prefix = dc_strdup(path);
    int rc = DC_OK;
    if (!prefix) return dc_fail_memory(err, strlen(path) + 1, "a path");
    for (char *end = prefix; rc == DC_OK && end;) {
        end = strchr(end + (*end != 0), '/'); /* also skips the root's slash */
        if (end) *end = 0;
        if (mkdir(prefix, 0777)) {
            const int code = errno;
            if (!dc_path_is_dir(prefix)) {
                errno = code == EEXIST ? ENOTDIR : code;
                rc = dc_fail_errno(err, "make the directory", prefix);
            }
        }
        if (end) *end = '/';
    }
    dc_free(prefix);
    return rc;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int dc_dir_list(char ***names, size_t *n, const char *path, dc_error *err)
{
    char **list = NULL;
    size_t used = 0, room = 0;
    int rc = DC_OK;
    DIR *dir = opendir(path);
    if (!dir) return dc_fail_errno(err, "list", path);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno) {
            rc = dc_fail_errno(err, "list", path);
            break;
        }
        if (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))) continue;
        if (dc_grow(&list, used, &room, sizeof *list) || (entry && !(list[used] = dc_strdup(entry->d_name)))) {
            rc = dc_fail_memory(err, (used + 1) * sizeof *list, "names of files");
            break;
        }
        if (!entry) break;
        used++;
    }
    closedir(dir);
    if (rc != DC_OK) {
        while (used > 0) dc_free(list[--used]);
        dc_free(list);
        return rc;
    }
    list[used] = NULL;
    qsort(list, used, sizeof *list, by_bytes);
    *names = list;
    *n = used;
    return DC_OK;
}

int dc_dir_list_if(char ***names, size_t *n, const char *path, dc_error *err)
{
    dc_path_info there;
    *names = NULL, *n = 0;
    const int rc = dc_path_look(&there, path, err);
    return rc == DC_OK && there.exists ? dc_dir_list(names, n, path, err) : rc;
}

void dc_names_free(char **names)
{
    if (!names) return;
    for (size_t i = 0; names[i]; i++) dc_free(names[i]);
    dc_free(names);
}

/* Calls visit for each file below path and, after what it holds, each directory, path itself last. Symbolic links are
 * files here: what they point to is not ours. */
static int walk(const char *path, int (*visit)(const char *path, int is_dir, dc_error *err), dc_error *err)
{
    struct stat st;
    char **names = NULL;
    size_t n = 0;
    int rc = DC_OK;
    if (lstat(path, &st)) return dc_fail_errno(err, "read", path);
    if (!S_ISDIR(st.st_mode)) return visit(path, 0, err);
    DC_TRY(dc_dir_list(&names, &n, path, err));
    for (size_t i = 0; i < n; i++) {
        char *child = dc_path_join(path, names[i]);
        if (!child) {
            rc = dc_fail_memory(err, strlen(path) + strlen(names[i]) + 2, "a path");
            goto done;
        }
        rc = walk(child, visit, err);
        dc_free(child);
        if (rc != DC_OK) goto done;
    }
    rc = visit(path, 1, err);
done:
    dc_names_free(names);
    return rc;
}

static int remove_one(const char *path, int is_dir, dc_error *err)
{
    if (!(is_dir ? rmdir(path) : unlink(path)) || errno == ENOENT) return DC_OK;
    return dc_fail_errno(err, "remove", path);
}

int dc_remove_tree(const char *path, dc_error *err)
{
    struct stat st;
    if (lstat(path, &st) && (errno == ENOENT || errno == ENOTDIR)) return DC_OK;
    return walk(path, remove_one, err);
}

static int sync_one(const char *path, int is_dir, dc_error *err)
{
    struct stat st;
    if (!is_dir && lstat(path, &st)) return dc_fail_errno(err, "sync", path);
    if (!is_dir && !S_ISREG(st.st_mode)) return DC_OK; /* a link is in its directory's data */
    return dc_sync_path(path, err);
}

/* rename, but never onto something: a plain one would replace an empty directory. */
static int rename_to_new(const char *from, const char *to)
{
    struct stat st;
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE)) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (lstat(to, &st)) return errno == ENOENT ? rename(from, to) : -1; /* a file system that does not know the flag */
    errno = EEXIST;
    return -1;
}

int dc_dir_publish(const char *from, const char *to, dc_error *err)
{
    int folder = -1;
    int rc = walk(from, sync_one, err);
    if (rc == DC_OK) rc = dc_parent_open(&folder, to, err);
    if (rc != DC_OK) return rc;
    if (!rename_to_new(from, to)) return dc_parent_sync(folder, to, err);
    rc = dc_fail_errno(err, "write", to);
    if (folder >= 0) close(folder);
    return rc;
}

/* statvfs of the nearest parent of path that exists. */
static int nearest_statvfs(struct statvfs *fs, const char *path, dc_error *err)
{
    char *place = dc_strdup(path);
    if (!place) return dc_fail_memory(err, strlen(path) + 1, "a path");
    int rc = DC_OK;
    const char *at = *place ? place : ".";
    while (statvfs(at, fs)) {
        char *slash = strrchr(at, '/');
        if ((errno != ENOENT && errno != ENOTDIR) || !strcmp(at, ".") || !strcmp(at, "/")) {
            rc = dc_fail_errno(err, "find the free space of", path);
            break;
        }
        if (!slash) at = ".";
        else if (slash == place) at = "/";
        else *slash = 0;
    }
    dc_free(place);
    return rc;
}

int dc_disk_check(const char *path, int64_t bytes, const char *what, dc_error *err)
{
    struct statvfs fs;
    const int rc = nearest_statvfs(&fs, path, err);
    if (rc != DC_OK) return rc;
    const double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    if (free_bytes >= (double)bytes) return DC_OK;
    char needs[32], has[32];
    return dc_fail(err, DC_EIO,
                   "%s needs %s of disk, but the file system of %s has %s free. "
                   "Make room there, or choose another output_dir.",
                   what, dc_human_bytes(needs, sizeof needs, (double)bytes), path,
                   dc_human_bytes(has, sizeof has, free_bytes));
}

int dc_lock_take(int *fd, const char *dir, dc_error *err)
{
    int rc = DC_OK;
    char text[32] = "";
    char *path = dc_path_join(dir, ".lock");
    if (!path) return dc_fail_memory(err, strlen(dir) + 7, "a path");
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) {
        rc = dc_fail_errno(err, "lock", path);
    } else if (!flock(lock, LOCK_EX | LOCK_NB)) {
        const int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        if (ftruncate(lock, 0) || pwrite(lock, text, (size_t)n, 0) != n) rc = dc_fail_errno(err, "write", path);
    } else if (errno != EWOULDBLOCK) {
        rc = dc_fail_errno(err, "lock", path);
    } else {
        const ssize_t n = pread(lock, text, sizeof text - 1, 0);
        const long holder = n > 0 ? strtol(text, NULL, 10) : 0;
        if (holder > 0)
            rc = dc_fail(err, DC_EMISMATCH, "%s is in use by process %ld. Wait for it, or choose another output_dir.",
                         dir, holder);
        else
            rc = dc_fail(err, DC_EMISMATCH,
                         "%s is in use by another process. Wait for it, or choose another output_dir.", dir);
    }
    if (rc == DC_OK) *fd = lock;
    else if (lock >= 0) close(lock);
    dc_free(path);
    return rc;
}

/* The file stays: removing it would let two others lock two files of the same name. */
void dc_lock_release(int fd)
{
    if (fd >= 0) close(fd);
}
