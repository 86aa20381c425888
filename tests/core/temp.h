/* tests/core/temp.h -- a folder of its own for a test program, and whole files into it. */
#ifndef DC_TESTS_CORE_TEMP_H
#define DC_TESTS_CORE_TEMP_H

#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/file.h"

static char temp_dir[64];

/* For cmocka_run_group_tests. */
static inline int temp_setup(void **state)
{
    (void)state;
    snprintf(temp_dir, sizeof temp_dir, "/tmp/decant-test-XXXXXX");
    return mkdtemp(temp_dir) ? 0 : -1;
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
