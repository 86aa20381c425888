/* core/file.h -- files: mapped for reading, written so that a kill leaves the old file or the new one, never a part.
 *
 * Paths are as the user gave them and stand so in every message. */
#ifndef DC_CORE_FILE_H
#define DC_CORE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/error.h"
#include "core/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A file mapped for reading; pages are loaded when touched and shared between processes. An empty file has size 0 and a
 * non-NULL data. */
typedef struct dc_map {
    const uint8_t *data;
    int64_t size;
    char *path; /* owned */
} dc_map;

int dc_map_open(dc_map *map, const char *path, dc_error *err);
void dc_map_close(dc_map *map); /* twice is safe; a zeroed dc_map is closed */

/* The whole of a small file, 0 behind it, appended to out. At most `limit` bytes, more is DC_EFORMAT. */
int dc_file_read(dc_str *out, const char *path, int64_t limit, dc_error *err);

/* A file being written under `PATH.tmp`. dc_writer_commit flushes, syncs, renames to PATH and syncs the folder; dc_writer_abandon
 * removes it; one of the two must be called, and either after a failed write. Errors name the path; a full disk is
 * told as such. A commit after a failed write (also one to `file` itself) fails and removes the part. */
typedef struct dc_writer {
    FILE *file;
    char *path, *tmp; /* owned */
    int64_t size;     /* bytes written by dc_writer_put and dc_writer_pad */
    int failed;       /* errno of the first failed write */
} dc_writer;

int dc_writer_open(dc_writer *w, const char *path, dc_error *err);
int dc_writer_put(dc_writer *w, const void *bytes, size_t n, dc_error *err);
int dc_writer_pad(dc_writer *w, size_t alignment, dc_error *err); /* zeros up to a multiple */
int dc_writer_commit(dc_writer *w, dc_error *err);
void dc_writer_abandon(dc_writer *w); /* also after commit: does nothing then */

/* open, put, commit in one. */
int dc_file_write(const char *path, const void *bytes, size_t n, dc_error *err);

/* Syncs a closed file and renames it: for writers (HDF5) that write by themselves to TMP. On failure TMP is left. */
int dc_file_publish(const char *tmp, const char *path, dc_error *err);
int dc_file_copy(const char *from, const char *to, dc_error *err); /* through dc_writer */

/* What stands at a path, links followed. Nothing: all 0, size -1. Only "no such file" is nothing; a disk that refuses to tell (EACCES, EIO) is
 * an error, so that what it holds is neither passed over nor made anew. */
typedef struct dc_path_info {
    int exists, is_dir;
    int64_t size; /* of a file; -1: it is none */
} dc_path_info;
int dc_path_look(dc_path_info *out, const char *path, dc_error *err);

/* For choices that cost nothing when they are wrong (which reader tells the error): a refusal counts as no. */
int dc_path_exists(const char *path);
int dc_path_is_dir(const char *path);
int64_t dc_file_size(const char *path); /* -1 when there is none */
/* "a/b"; owned by the caller; NULL when memory is out. An absolute b is returned alone. */
char *dc_path_join(const char *a, const char *b);
const char *dc_path_base(const char *path);          /* behind the last '/' */
int dc_mkdirs(const char *path, dc_error *err);      /* with parents; present is fine */
int dc_remove_tree(const char *path, dc_error *err); /* absent is fine */
/* Syncs every file below a directory and the directory, then renames it to `to`, which must not exist. */
int dc_dir_publish(const char *from, const char *to, dc_error *err);

/* Names in a directory, sorted by bytes, without . and ..; names[n] is NULL; free with dc_names_free. */
int dc_dir_list(char ***names, size_t *n, const char *path, dc_error *err);
/* The same; none, and *names NULL, when nothing stands at the path. */
int dc_dir_list_if(char ***names, size_t *n, const char *path, dc_error *err);
void dc_names_free(char **names);

/* Fails with both figures when the file system of `path` (or of its nearest existing parent) has less than `bytes` free. `what` names
 * the stage. */
int dc_disk_check(const char *path, int64_t bytes, const char *what, dc_error *err);

/* Takes the lock of an output directory (PATH/.lock, flock, holding the process id). A second live process gets DC_EMISMATCH that
 * names the first one's id. The lock goes with the process. *fd is for dc_lock_release. */
int dc_lock_take(int *fd, const char *dir, dc_error *err);
void dc_lock_release(int fd);

#ifdef __cplusplus
}
#endif
#endif
