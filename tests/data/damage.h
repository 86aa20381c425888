/* tests/data/damage.h -- damage to a file in its place: rewriting it whole each time would wait for the disk. */
#ifndef DC_TESTS_DATA_DAMAGE_H
#define DC_TESTS_DATA_DAMAGE_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* HDF5 1.10 itself loses a few hundred bytes for each header that fails its sum, and more for a file that a full disk kept from being
 * closed; what decant loses is still reported. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }
const char *__lsan_default_options(void);
const char *__lsan_default_options(void) { return "print_suppressions=0"; }

/* Flips the bits of `mask` in byte `at`. */
static inline void damage_flip(const char *path, size_t at, uint8_t mask)
{
    uint8_t byte;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)at) != 1) abort();
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)at) != 1 || close(fd)) abort();
}

static inline void damage_cut(const char *path, size_t n)
{
    if (truncate(path, (off_t)n)) abort();
}
#endif
