/* kernels/dev_cpu.c -- the CPU as a device: its memory is the host's, an op is done when it returns. */
#include "kernels/dev_cpu.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/pool.h"
#include "kernels/cpu.h"
#include "kernels/dev_kind.h"
#include "kernels/gemm_library.h"
#include "kernels/gemm_own.h"
#include "kernels/table.h"

static void cpu_close(dc_dev *dev)
{
    dc_cpu_state *s = dev->state;
    if (!s) return;
    dc_free(s->panel);
    dc_free(s);
    dev->state = NULL;
}

static int choose_backend(dc_gemm_backend *out, const dc_dev_options *options, unsigned features, dc_error *err)
{
    if (options->backend != DC_GEMM_BACKENDS) {
        if (!dc_gemm_has(options->backend))
            return dc_fail(err, DC_EUNKNOWN, "this build or processor lacks the GEMM backend that was asked for");
        if (options->backend == DC_GEMM_OWN && !dc_gemm_own_kernel(features))
            return dc_fail(err, DC_EUNKNOWN,
                           "decant's own GEMM needs AVX2, FMA and F16C, which are not there or masked");
        *out = options->backend;
    } else if (!dc_gemm_own_kernel(features)) {
        *out = DC_GEMM_REF;
    } else {
        *out = DC_GEMM_OWN;
    }
    return DC_OK;
}

static const char *processor(unsigned features)
{
    if (features & DC_CPU_AVX512_BF16) return "AVX-512 BF16";
    if (features & DC_CPU_AVX512F) return "AVX-512";
    if (features & DC_CPU_AVX2) return "AVX2";
    return "plain C";
}

static void name_state(dc_cpu_state *s)
{
    const int threads = dc_pool_threads();
    const int own = (s->features & DC_FEATURES_AVX2) == DC_FEATURES_AVX2;
    const char *gemm = dc_gemm_describe(s->backend);
    /* "oneDNN 2.6.3 (AMX)", "OpenBLAS 0.3.21 NO_LAPACKE ...": the name and the version. */
    const size_t name = strcspn(gemm, " "), version = gemm[name] ? 1 + strcspn(gemm + name + 1, " ") : 0;
    const int n = snprintf(s->describe, sizeof s->describe, "%d core%s, %s", threads, threads == 1 ? "" : "s",
                           processor(s->features));
    if (s->backend != DC_GEMM_REF || s->features & DC_CPU_AVX2)
        snprintf(s->describe + n, sizeof s->describe - (size_t)n, ", %.*s", (int)(name + version), gemm);
    snprintf(s->path, sizeof s->path, "cpu %s, %s", own ? "avx2" : "plain", gemm);
}

static int cpu_present(const dc_dev_options *options, dc_error *err)
{
    (void)options, (void)err;
    return DC_OK;
}

static int cpu_open(dc_dev *dev, const dc_dev_options *options, dc_error *err)
{
    int rc;
    if (options->activation != DC_DTYPE_NONE && options->activation != DC_F32)
        return dc_fail(err, DC_EUNKNOWN, "a CPU keeps activations in F32");
    dc_cpu_state *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "a device");
    dev->state = s;
    s->features = options->cpu_features & dc_cpu_found();
    if (options->cpu_features == ~0u) DC_TRY(dc_cpu_allowed(&s->features, err));
    DC_TRY(choose_backend(&s->backend, options, s->features, err));
    dc_cpu_ops(&dev->op, s->features);
    dev->activation = DC_F32;
    if (s->backend != DC_GEMM_REF) {
        s->panel = dc_alloc_aligned(DC_PANEL_FLOATS * sizeof(float));
        if (!s->panel) {
            rc = dc_fail_memory(err, DC_PANEL_FLOATS * sizeof(float), "scratch for matrix products");
            goto done;
        }
        dev->op.gemm = dc_gemm_cpu;
    }
#ifdef DC_HAVE_ONEDNN
    if (s->backend == DC_GEMM_ONEDNN) dc_onednn_limit(s->features);
#endif
    name_state(s);
    rc = DC_OK;
done:
    if (rc != DC_OK) cpu_close(dev);
    return rc;
}

static const char *cpu_describe(const dc_dev *dev) { return ((const dc_cpu_state *)dev->state)->describe; }
static const char *cpu_path(const dc_dev *dev) { return ((const dc_cpu_state *)dev->state)->path; }

static int cpu_alloc(dc_dev *dev, void **out, size_t bytes, const char *what, dc_error *err)
{
    (void)dev;
    void *memory = dc_alloc_aligned(bytes);
    if (!memory) return dc_fail_memory(err, bytes, what);
    *out = memory;
    return DC_OK;
}

static void cpu_free(dc_dev *dev, void *memory)
{
    (void)dev;
    dc_free(memory);
}

static int cpu_import(dc_dev *dev, const void **out, const void *host, size_t bytes, const char *what, dc_error *err)
{
    (void)dev, (void)bytes, (void)what, (void)err;
    *out = host;
    return DC_OK;
}

static void cpu_drop(dc_dev *dev, const void *imported) { (void)dev, (void)imported; }

static void cpu_copy(dc_dev *dev, void *to, const void *from, size_t bytes)
{
    (void)dev;
    if (bytes) memcpy(to, from, bytes);
}

static int cpu_sync(dc_dev *dev, dc_error *err)
{
    dc_cpu_state *s = dev->state;
    const dc_code code = s->failed.code;
    if (code == DC_OK) return DC_OK;
    dc_fail(err, code, "%s", s->failed.message);
    s->failed = (dc_error){0};
    return code;
}

static void *cpu_stream(const dc_dev *dev)
{
    (void)dev;
    return NULL;
}

/* Linux promises memory that it does not have. */
static size_t cpu_memory_bytes(const dc_dev *dev)
{
    (void)dev;
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages * (size_t)size : 0;
}

static size_t cpu_scratch_bytes(const dc_dev *dev)
{
    const dc_cpu_state *s = dev->state;
    return s->panel ? DC_PANEL_FLOATS * sizeof(float) : 0;
}

const dc_dev_kind dc_dev_kind_cpu = {
    .present = cpu_present,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .path = cpu_path,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .import = cpu_import,
    .drop = cpu_drop,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .sync = cpu_sync,
    .stream = cpu_stream,
    .memory_bytes = cpu_memory_bytes,
    .scratch_bytes = cpu_scratch_bytes,
    .chunk_bytes = 64 << 20,
};
