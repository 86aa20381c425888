/* kernels/dev_kind.h -- what a kind of device does behind kernels/dev.h; private to kernels/. */
#ifndef DC_KERNELS_DEV_KIND_H
#define DC_KERNELS_DEV_KIND_H

#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_dev_kind {
    int (*present)(const dc_dev_options *options, dc_error *err);           /* DC_OK: can be opened; else why not */
    int (*card)(char *text, size_t size, int n, dc_error *err);             /* dc_dev_card; NULL for a CPU */
    int (*open)(dc_dev *dev, const dc_dev_options *options, dc_error *err); /* cleans up after itself when it fails */
    void (*close)(dc_dev *dev);
    const char *(*describe)(const dc_dev *dev);
    const char *(*path)(const dc_dev *dev);
    int (*alloc)(dc_dev *dev, void **out, size_t bytes, const char *what, dc_error *err);
    void (*free)(dc_dev *dev, void *memory);
    int (*import)(dc_dev *dev, const void **out, const void *host, size_t bytes, const char *what, dc_error *err);
    void (*drop)(dc_dev *dev, const void *imported);
    void (*upload)(dc_dev *dev, void *to, const void *host, size_t bytes);
    void (*download)(dc_dev *dev, void *host, const void *from, size_t bytes);
    void (*copy)(dc_dev *dev, void *to, const void *from, size_t bytes);
    int (*sync)(dc_dev *dev, dc_error *err);
    void *(*stream)(const dc_dev *dev); /* NULL for a CPU */
    size_t (*memory_bytes)(const dc_dev *dev);
    size_t (*scratch_bytes)(const dc_dev *dev);
    size_t chunk_bytes;
    int (*records)(const dc_dev *dev); /* NULL: it does not, and the next three are not called */
    int (*record)(dc_dev *dev, dc_error *err);
    int (*recorded)(dc_dev *dev, dc_recording **out, dc_error *err);
    void (*replay)(dc_dev *dev, const dc_recording *recording);
    void (*recording_free)(dc_dev *dev, dc_recording *recording);
} dc_dev_kind;

extern const dc_dev_kind dc_dev_kind_cpu;

/* The CUDA kind, NULL in a program without: dc_cuda, dc_cuda_emu and dc_cuda_none each define it (cmake/decant.cmake). */
const dc_dev_kind *dc_dev_kind_cuda(void);

#ifdef __cplusplus
}
#endif
#endif
