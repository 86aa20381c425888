/* tests/core/temp.h -- a folder of its own for a test program, and whole files into it. */
#ifndef DC_TESTS_CORE_TEMP_H
#define DC_TESTS_CORE_TEMP_H

#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/file.h"

static char temp_dir[64];

/* For cmocka_run_group_tests. In memory where that is possible: the syncs of atomic writing take long on a disk. */
static inline int temp_setup(void **state)
{
    (void)state;
    static const char *const folders[] = {"/dev/shm", "/tmp"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(temp_dir, sizeof temp_dir, "%s/decant-test-XXXXXX", folders[i]);
        if (mkdtemp(temp_dir)) return 0;
    }
    return -1;
}

static inline int temp_teardown(void **state)
{
    (void)state;
    return dc_remove_tree(temp_dir, NULL);
}

/* A path in it; eight of them are kept apart. */
static inline const char *temp_path(const char *name)
{
    static char paths[8][192];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", temp_dir, name);
    return path;
}

/* Without the sync of dc_file_write, which is slow in loops. Returns the path. */
static inline const char *temp_write(const char *name, const void *bytes, size_t n)
{
    const char *path = temp_path(name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(bytes, 1, n, f) != n) || fclose(f)) abort();
    return path;
}
#endif
