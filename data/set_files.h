/* data/set_files.h -- the files of a set: DIR/SET-00000.h5, SET-00001.h5, ... without a gap, with a manifest beside them. */
#ifndef DC_DATA_SET_FILES_H
#define DC_DATA_SET_FILES_H

#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* DIR/SET-NUMBER.h5 + suffix; the caller frees it. */
int dc_set_file(char **path, const char *dir, const char *set, int64_t number, const char *suffix, dc_error *err);
/* How many stand in DIR, which may be missing (0); a gap is DC_EFORMAT. `what` names the set in messages. */
int dc_set_count(int64_t *n, const char *dir, const char *set, const char *what, dc_error *err);
/* Removes the manifest's lines of the files from `first` on, then those files, then every unfinished one (.tmp and .part). */
int dc_set_remove(const char *dir, const char *set, int64_t first, dc_error *err);
/* Removes what a killed writer left: every .tmp of the set. */
int dc_set_sweep(const char *dir, const char *set, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
