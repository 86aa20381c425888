/* core/file_internal.h -- syncing; shared by file.c and file_tree.c; private to them. */
#ifndef DC_CORE_FILE_INTERNAL_H
#define DC_CORE_FILE_INTERNAL_H

#include "core/error.h"

/* Waits until a closed file or a folder is on the disk. */
int dc_sync_path(const char *path, dc_error *err);
/* A rename is on the disk when its folder is. Open the folder that holds `path` before the rename, so that nothing but the sync
 * itself can fail behind it; *fd is -1 for a folder that we may enter but not list, which cannot be synced. dc_parent_sync closes fd. */
int dc_parent_open(int *fd, const char *path, dc_error *err);
int dc_parent_sync(int fd, const char *path, dc_error *err);
#endif
