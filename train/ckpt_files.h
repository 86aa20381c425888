/* train/ckpt_files.h -- names and checks that writing and reading of checkpoints share; private to train/ and its tests. */
#ifndef DC_TRAIN_CKPT_FILES_H
#define DC_TRAIN_CKPT_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DC_CKPT_TENSORS  "state.safetensors"
#define DC_CKPT_STATE    "state.json"
#define DC_CKPT_MANIFEST "manifest.json"
#define DC_CKPT_STAGING  ".tmp" /* suffix of a directory that is being written */

enum { DC_CKPT_VERSION = 2, DC_CKPT_PIECE = 1 << 18, DC_CKPT_PARTS = 3 };
extern const char *const dc_ckpt_part[DC_CKPT_PARTS]; /* "param", "m", "v": prefixes of tensor names */

/* DIR/checkpoint-<step><suffix>; the caller's; NULL when memory is out. */
char *dc_ckpt_path(const char *dir, int64_t step, const char *suffix);
/* Steps of the directories "checkpoint-<step><suffix>" in dir, newest first; free with dc_free. A missing dir has none. */
int dc_ckpt_steps(int64_t **steps, size_t *n, const char *dir, const char *suffix, dc_error *err);
/* Do all files of the manifest hold? DC_EFORMAT: they are damaged, or some are missing. Any other failure says nothing about them. */
int dc_ckpt_verify(const char *path, dc_error *err);
/* As dc_hash_file, but without asking core/stop.h: the checkpoint of a stop is made while one is asked for. */
int dc_ckpt_hash(dc_hash *out, const char *path, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
