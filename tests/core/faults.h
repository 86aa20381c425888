/* tests/core/faults.h -- a disk that refuses: the n-th call to the operating system fails once, with a chosen errno.
 *
 * The functions below stand in front of libc's for the whole program, shared libraries (HDF5) included. Include it in one file of a program. */
#ifndef DC_TESTS_CORE_FAULTS_H
#define DC_TESTS_CORE_FAULTS_H

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long fault_after; /* calls until the one that fails; 0: none will */
static int fault_errno;
static const char *fault_call; /* which one failed; NULL: none has */

static inline void fault_at(long n, int code) { fault_after = n, fault_errno = code, fault_call = NULL; }

/* Back to the true disk; the name of the call that failed, NULL when there were fewer than n. */
static inline const char *fault_end(void)
{
    fault_after = 0;
    return fault_call;
}

static inline int fault_now(const char *name)
{
    if (!fault_after || --fault_after) return 0;
    fault_call = name;
    errno = fault_errno;
    return 1;
}

static inline void *fault_real(const char *name)
{
    void *real = dlsym(RTLD_NEXT, name);
    if (!real) abort();
    return real;
}

#define FAULT(type, failed, name, parameters, arguments) \
    type name parameters; \
    type name parameters \
    { \
        static type(*real) parameters; \
        if (!real) *(void **)&real = fault_real(#name); \
        return fault_now(#name) ? (failed) : real arguments; \
    }

FAULT(int, -1, stat, (const char *path, struct stat *st), (path, st))
FAULT(int, -1, lstat, (const char *path, struct stat *st), (path, st))
FAULT(int, -1, fstat, (int fd, struct stat *st), (fd, st))
FAULT(int, -1, fsync, (int fd), (fd))
FAULT(int, -1, rename, (const char *from, const char *to), (from, to))
FAULT(int, -1, renameat2, (int at, const char *from, int in, const char *to, unsigned flags), (at, from, in, to, flags))
FAULT(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
FAULT(int, -1, rmdir, (const char *path), (path))
FAULT(int, -1, unlink, (const char *path), (path))
FAULT(int, -1, ftruncate, (int fd, off_t size), (fd, size))
FAULT(ssize_t, -1, read, (int fd, void *to, size_t n), (fd, to, n))
FAULT(ssize_t, -1, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
FAULT(ssize_t, -1, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
FAULT(DIR *, NULL, opendir, (const char *path), (path))
FAULT(struct dirent *, NULL, readdir, (DIR * dir), (dir))
FAULT(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
FAULT(void *, MAP_FAILED, mmap, (void *to, size_t n, int access, int flags, int fd, off_t at),
      (to, n, access, flags, fd, at))

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list more;
    va_start(more, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (!real) *(void **)&real = fault_real("open");
    return fault_now("open") ? -1 : real(path, flags, mode);
}

/* What is said on the terminal is no file of ours. */
size_t fwrite(const void *from, size_t size, size_t n, FILE *file)
{
    static size_t (*real)(const void *, size_t, size_t, FILE *);
    if (!real) *(void **)&real = fault_real("fwrite");
    return file != stderr && file != stdout && fault_now("fwrite") ? 0 : real(from, size, n, file);
}

int fflush(FILE *file)
{
    static int (*real)(FILE *);
    if (!real) *(void **)&real = fault_real("fflush");
    return file != stderr && file != stdout && fault_now("fflush") ? EOF : real(file);
}
#endif
