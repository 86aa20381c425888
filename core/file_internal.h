/* core/file_internal.h -- syncing, shared by file.c and file_tree.c; private to them. */
#ifndef DC_CORE_FILE_INTERNAL_H
#define DC_CORE_FILE_INTERNAL_H

#include "core/error.h"

/* Waits until a closed file or a folder is on the disk. */
int dc_sync_path(const char *path, dc_error *err);
/* The same for the folder that holds `path`, so that a rename in it survives a crash. */
int dc_sync_parent(const char *path, dc_error *err);
#endif
