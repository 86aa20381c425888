/* kernels/dev.c -- a device by its name; everything else is its kind's. */
#include "kernels/dev_kind.h"

#include <stdio.h>
#include <string.h>

#include "core/arena.h"

dc_dev_options dc_dev_defaults(void)
{
    return (dc_dev_options){
        .name = "auto", .activation = DC_DTYPE_NONE, .cpu_features = ~0u, .backend = DC_GEMM_BACKENDS};
}

static int is_cuda(const char *name) { return strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0; }

/* The kind of a name; `why` is filled when "auto" had to fall back. */
static int choose_kind(const dc_dev_kind **out, const dc_dev_options *options, dc_error *why, dc_error *err)
{
    const char *name = options->name ? options->name : "auto";
    const dc_dev_kind *cuda = dc_dev_kind_cuda();
    *out = &dc_dev_kind_cpu;
    if (strcmp(name, "cpu") == 0) return DC_OK;
    if (strcmp(name, "auto") == 0) {
        if (cuda && cuda->present(options, why) == DC_OK) *out = cuda;
        return DC_OK;
    }
    if (!is_cuda(name))
        return dc_fail(err, DC_EUNKNOWN, "device '%s' is unknown; known are auto, cpu, cuda, cuda:N", name);
    if (!cuda)
        return dc_fail(err, DC_EUNKNOWN, "device '%s': this build has no CUDA device; use 'cpu' or 'auto'", name);
    *out = cuda;
    return DC_OK;
}

int dc_dev_open(dc_dev **out, const dc_dev_options *options, dc_error *err)
{
    const dc_dev_options defaults = dc_dev_defaults();
    if (!options) options = &defaults;
    const dc_dev_kind *kind;
    dc_error why = {0};
    int rc = choose_kind(&kind, options, &why, err);
    if (rc != DC_OK) return rc;
    dc_dev *dev = dc_calloc(1, sizeof *dev);
    if (!dev) return dc_fail_memory(err, sizeof *dev, "a device");
    dev->kind = kind;
    snprintf(dev->why, sizeof dev->why, "%.*s", (int)sizeof dev->why - 1, why.message);
    rc = kind->open(dev, options, err);
    if (rc != DC_OK) {
        dc_free(dev);
        return rc;
    }
    *out = dev;
    return DC_OK;
}

int dc_dev_card(char *text, size_t size, int n, dc_error *err)
{
    const dc_dev_kind *cuda = dc_dev_kind_cuda();
    return cuda ? cuda->card(text, size, n, err) : dc_fail(err, DC_EUNKNOWN, "this build has no CUDA device");
}

void dc_dev_close(dc_dev *dev)
{
    if (!dev) return;
    dev->kind->close(dev);
    dc_free(dev);
}

const char *dc_dev_describe(const dc_dev *dev) { return dev->kind->describe(dev); }
const char *dc_dev_why(const dc_dev *dev) { return dev->why; }
const char *dc_dev_path(const dc_dev *dev) { return dev->kind->path(dev); }

int dc_dev_alloc(dc_dev *dev, void **out, size_t bytes, const char *what, dc_error *err)
{
    return dev->kind->alloc(dev, out, bytes, what, err);
}

void dc_dev_free(dc_dev *dev, void *memory)
{
    if (memory) dev->kind->free(dev, memory);
}

int dc_dev_import(dc_dev *dev, const void **out, const void *host, size_t bytes, const char *what, dc_error *err)
{
    return dev->kind->import(dev, out, host, bytes, what, err);
}

void dc_dev_drop(dc_dev *dev, const void *imported)
{
    if (imported) dev->kind->drop(dev, imported);
}

void dc_dev_upload(dc_dev *dev, void *to, const void *host, size_t bytes) { dev->kind->upload(dev, to, host, bytes); }

void dc_dev_download(dc_dev *dev, void *host, const void *from, size_t bytes)
{
    dev->kind->download(dev, host, from, bytes);
}

void dc_dev_copy(dc_dev *dev, void *to, const void *from, size_t bytes) { dev->kind->copy(dev, to, from, bytes); }
int dc_dev_sync(dc_dev *dev, dc_error *err) { return dev->kind->sync(dev, err); }
void *dc_dev_stream(const dc_dev *dev) { return dev->kind->stream(dev); }
size_t dc_dev_memory_bytes(const dc_dev *dev) { return dev->kind->memory_bytes(dev); }
size_t dc_dev_scratch_bytes(const dc_dev *dev) { return dev->kind->scratch_bytes(dev); }
size_t dc_dev_chunk_bytes(const dc_dev *dev) { return dev->kind->chunk_bytes; }

int dc_dev_records(const dc_dev *dev) { return dev->kind->records && dev->kind->records(dev); }
int dc_dev_record(dc_dev *dev, dc_error *err) { return dev->kind->record(dev, err); }

int dc_dev_recorded(dc_dev *dev, dc_recording **out, dc_error *err) { return dev->kind->recorded(dev, out, err); }

void dc_dev_replay(dc_dev *dev, const dc_recording *recording) { dev->kind->replay(dev, recording); }

void dc_dev_recording_free(dc_dev *dev, dc_recording *recording)
{
    if (recording) dev->kind->recording_free(dev, recording);
}
