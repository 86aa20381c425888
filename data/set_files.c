/* data/set_files.c */
#include "data/set_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/file.h"
#include "data/h5.h"

int dc_set_file(char **path, const char *dir, const char *set, int64_t number, const char *suffix, dc_error *err)
{
    const size_t room = strlen(dir) + strlen(set) + strlen(suffix) + 32;
    *path = dc_malloc(room);
    if (!*path) return dc_fail_memory(err, room, "a path");
    snprintf(*path, room, "%s/%s-%05lld.h5%s", dir, set, (long long)number, suffix);
    return DC_OK;
}

/* The number of a file of the set and what stands behind ".h5"; -1 when the name is not one. */
static int64_t number_of(const char *name, const char *set, const char **suffix)
{
    const size_t n = strlen(set);
    int64_t number = 0;
    if (strncmp(name, set, n) != 0 || name[n] != '-') return -1;
    const char *p = name + n + 1;
    const char *digits = p;
    while (*p >= '0' && *p <= '9' && p - digits < 12) number = number * 10 + (*p++ - '0');
    if (p - digits < 5 || strncmp(p, ".h5", 3) != 0) return -1;
    *suffix = p + 3;
    return number;
}

int dc_set_count(int64_t *n, const char *dir, const char *set, const char *what, dc_error *err)
{
    char **names = NULL;
    size_t n_names = 0;
    int64_t found = 0, last = -1;
    *n = 0;
    int rc = dc_dir_list_if(&names, &n_names, dir, err);
    if (rc != DC_OK) return rc;
    for (size_t i = 0; i < n_names; i++) {
        const char *suffix = "";
        const int64_t number = number_of(names[i], set, &suffix);
        if (number < 0 || *suffix) continue;
        found++;
        last = number > last ? number : last;
    }
    dc_names_free(names);
    if (found != last + 1)
        return dc_fail(err, DC_EFORMAT, "%s: of the files %s-00000.h5 to %s-%05lld.h5 of %s only %lld are there", dir,
                       set, set, (long long)last, what, (long long)found);
    *n = found;
    return DC_OK;
}

/* Files whose suffix is `suffix` (NULL: any) and whose number is `first` at least. */
static int remove_files(const char *dir, const char *set, int64_t first, const char *wanted, dc_error *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = dc_dir_list_if(&names, &n, dir, err);
    for (size_t i = n; rc == DC_OK && i-- > 0;) { /* from the last, so that a kill leaves no gap */
        const char *suffix = "";
        const int64_t number = number_of(names[i], set, &suffix);
        if (number < first || (wanted && strcmp(suffix, wanted) != 0)) continue;
        char *path = dc_path_join(dir, names[i]);
        if (!path) rc = dc_fail_memory(err, strlen(dir) + strlen(names[i]) + 2, "a path");
        if (path && unlink(path) && errno != ENOENT) rc = dc_fail_errno(err, "remove", path);
        dc_free(path);
    }
    dc_names_free(names);
    return rc;
}

int dc_set_sweep(const char *dir, const char *set, dc_error *err)
{
    int rc = remove_files(dir, set, 0, ".tmp", err);
    if (rc == DC_OK) rc = remove_files(dir, set, 0, ".part.tmp", err);
    return rc;
}

typedef struct range {
    const char *set;
    int64_t first;
} range;

static int in_range(const void *context, const char *name)
{
    const range *r = context;
    const char *suffix = "";
    return number_of(name, r->set, &suffix) >= r->first && !*suffix;
}

int dc_set_remove(const char *dir, const char *set, int64_t first, dc_error *err)
{
    const range r = {.set = set, .first = first};
    int rc = dc_set_sweep(dir, set, err);
    if (rc == DC_OK) rc = dc_manifest_drop(dir, in_range, &r, err);
    if (rc == DC_OK) rc = remove_files(dir, set, first, NULL, err);
    return rc;
}
