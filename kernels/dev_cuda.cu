/* kernels/dev_cuda.cu -- a CUDA device: finding one, its memory, its stream, what travels between host and device. */
#include "kernels/dev_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "kernels/cuda.cuh"
#include "kernels/dev_kind.h"

enum {
    OLDEST = 80,            /* compute capability 8.0: bf16 tensor cores */
    CHUNK_BYTES = 256 << 20 /* 500 rows of the widest vocabularies; an H100 needs some 300 to be bound by arithmetic */
};

/* ---- failures ---- */

/* Errors of the work itself, which come to light at any later call; the others are refusals of the call that returns them. */
static int is_of_work(cudaError_t e)
{
    return e == cudaErrorIllegalAddress || e == cudaErrorMisalignedAddress || e == cudaErrorLaunchFailure ||
           e == cudaErrorUnknown;
}

int dc_cuda_note(dc_dev *dev, cudaError_t error, const char *op)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    if (error == cudaSuccess) return DC_OK;
    const dc_code code = error == cudaErrorMemoryAllocation ? DC_ENOMEM : DC_EIO;
    if (is_of_work(error))
        return dc_fail(&s->failed, code,
                       "%s: %s, found by %s: it or what was queued before it failed; CUDA_LAUNCH_BLOCKING=1 with "
                       "DC_CUDA_GRAPHS=off finds it at the op itself",
                       s->name, cudaGetErrorString(error), op);
    return dc_fail(&s->failed, code, "%s: %s: %s", op, s->name, cudaGetErrorString(error));
}

void dc_cuda_launched(dc_dev *dev, const char *op) { dc_cuda_note(dev, cudaGetLastError(), op); }

/* ---- host to device: the pinned ring ---- */

static cudaError_t make_ring(dc_cuda_ring *r)
{
    cudaError_t e = cudaMallocHost(reinterpret_cast<void **>(&r->base), DC_CUDA_RING);
    for (int i = 0; e == cudaSuccess && i < DC_CUDA_RING_USES; i++)
        e = cudaEventCreateWithFlags(&r->use[i].done, cudaEventDisableTiming);
    return e;
}

static void free_ring(dc_cuda_ring *r)
{
    for (int i = 0; i < DC_CUDA_RING_USES; i++)
        if (r->use[i].done) cudaEventDestroy(r->use[i].done);
    if (r->base) cudaFreeHost(r->base);
}

static int is_taken(const dc_cuda_ring *r, size_t from, size_t to)
{
    for (unsigned i = 0; i < r->n; i++) {
        const dc_cuda_use *u = &r->use[(r->first + i) % DC_CUDA_RING_USES];
        if (u->from < to && from < u->to) return 1;
    }
    return r->n == DC_CUDA_RING_USES;
}

/* Queues a copy of at most DC_CUDA_PIECE bytes; the host's are free again on return. Waits for the oldest pieces while they are in the way. */
static void push_piece(dc_dev *dev, void *to, const void *host, size_t bytes, const char *op)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    dc_cuda_ring *r = &s->ring;
    const size_t taken = (bytes + 255) / 256 * 256;
    if (r->head + taken > DC_CUDA_RING) r->head = 0;
    while (is_taken(r, r->head, r->head + taken)) {
        dc_cuda_note(dev, cudaEventSynchronize(r->use[r->first].done), op);
        r->first = (r->first + 1) % DC_CUDA_RING_USES;
        r->n--;
    }
    dc_cuda_use *u = &r->use[(r->first + r->n++) % DC_CUDA_RING_USES];
    u->from = r->head;
    u->to = r->head + taken;
    memcpy(r->base + r->head, host, bytes);
    dc_cuda_note(dev, cudaMemcpyAsync(to, r->base + r->head, bytes, cudaMemcpyHostToDevice, s->stream), op);
    dc_cuda_note(dev, cudaEventRecord(u->done, s->stream), op);
    r->head += taken;
}

static void push(dc_dev *dev, void *to, const void *host, size_t bytes, const char *op)
{
    DC_ASSERT(!dc_cuda_state_of(dev)->recording); /* a replay would read the ring as it is then */
    cudaSetDevice(dc_cuda_state_of(dev)->index);
    for (size_t at = 0; at < bytes; at += DC_CUDA_PIECE)
        push_piece(dev, static_cast<char *>(to) + at, static_cast<const char *>(host) + at,
                   bytes - at < DC_CUDA_PIECE ? bytes - at : static_cast<size_t>(DC_CUDA_PIECE), op);
}

/* ---- what ops ask for ---- */

/* The stream's device becomes the thread's own: launches go to the current device. */
cudaStream_t dc_cuda_stream(const dc_dev *dev)
{
    const dc_cuda_state *s = dc_cuda_state_of(dev);
    cudaSetDevice(s->index);
    return s->stream;
}

/* The stream's order keeps a table until what was queued behind it is done: a later table in its place is copied after that. */
void *dc_cuda_stage(dc_dev *dev, const void *host, size_t bytes, const char *op)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    if (bytes > DC_CUDA_STAGE) {
        dc_fail(&s->failed, DC_ENOMEM, "%s: a table of %zu bytes, at most %d can be staged", op, bytes, DC_CUDA_STAGE);
        return nullptr;
    }
    if (s->tables_head + bytes > DC_CUDA_TABLES) s->tables_head = 0;
    void *const to = s->tables + s->tables_head;
    s->tables_head += (bytes + 255) / 256 * 256;
    push(dev, to, host, bytes, op);
    return s->failed.code == DC_OK ? to : nullptr;
}

void *dc_cuda_scratch(dc_dev *dev, size_t bytes)
{
    DC_ASSERT(bytes <= dc_cuda_scratch_room(dev));
    return dc_cuda_state_of(dev)->scratch;
}

size_t dc_cuda_scratch_room(const dc_dev *dev) { return dc_cuda_state_of(dev)->scratch_room; }

void dc_cuda_limit_scratch(dc_dev *dev, size_t bytes)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    s->scratch_room = bytes < s->scratch_bytes ? bytes : s->scratch_bytes;
}

int dc_cuda_multiprocessors(const dc_dev *dev) { return dc_cuda_state_of(dev)->multiprocessors; }

static int hand_out_results(dc_dev *dev, const char *op)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    const int rc = dc_cuda_note(dev, cudaStreamSynchronize(s->stream), op);
    for (size_t i = 0; rc == DC_OK && i < s->n_pending; i++)
        memcpy(s->pending[i].host, s->results + s->pending[i].at, s->pending[i].bytes);
    s->n_pending = s->results_used = 0;
    return rc;
}

void dc_cuda_result(dc_dev *dev, void *host, const void *from, size_t bytes, const char *op)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    DC_ASSERT(bytes <= DC_CUDA_RESULTS && !s->recording);
    if (s->n_pending == DC_CUDA_RESULTS_MAX || s->results_used + bytes > DC_CUDA_RESULTS) hand_out_results(dev, op);
    const size_t at = s->results_used;
    dc_cuda_note(dev, cudaMemcpyAsync(s->results + at, from, bytes, cudaMemcpyDeviceToHost, dc_cuda_stream(dev)), op);
    s->pending[s->n_pending++] = {host, at, bytes};
    s->results_used = (at + bytes + 15) / 16 * 16;
}

/* ---- memory ---- */

static void say_bytes(char *out, size_t size, double bytes)
{
    if (bytes >= 1e9) snprintf(out, size, "%.2f GB", bytes / 1e9);
    else if (bytes >= 1e6) snprintf(out, size, "%.1f MB", bytes / 1e6);
    else snprintf(out, size, "%.0f bytes", bytes);
}

static int fail_memory(const dc_dev *dev, cudaError_t e, size_t bytes, const char *what, dc_error *err)
{
    const dc_cuda_state *s = dc_cuda_state_of(dev);
    if (e != cudaErrorMemoryAllocation)
        return dc_fail(err, DC_EIO, "%s on %s: %s", what, s->name, cudaGetErrorString(e));
    size_t unused = 0, all = 0;
    char asked[32], left[32], total[32], used[32];
    cudaMemGetInfo(&unused, &all);
    cudaGetLastError(); /* told here */
    say_bytes(asked, sizeof asked, static_cast<double>(bytes));
    say_bytes(left, sizeof left, static_cast<double>(unused));
    say_bytes(total, sizeof total, static_cast<double>(all));
    say_bytes(used, sizeof used, static_cast<double>(s->handed_out));
    return dc_fail(err, DC_ENOMEM, "no memory for %s of %s on %s: %s of %s are free, decant has %s", asked, what,
                   s->name, left, total, used);
}

static int cuda_alloc(dc_dev *dev, void **out, size_t bytes, const char *what, dc_error *err)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    void *memory = nullptr;
    if (dc_grow(&s->blocks, s->n_blocks, &s->room, sizeof *s->blocks))
        return dc_fail_memory(err, sizeof *s->blocks, what);
    cudaSetDevice(s->index);
    const cudaError_t e = cudaMalloc(&memory, bytes ? bytes : 1);
    if (e != cudaSuccess) return fail_memory(dev, e, bytes, what, err);
    s->blocks[s->n_blocks++] = {memory, bytes};
    s->handed_out += bytes;
    if (s->handed_out > s->peak) s->peak = s->handed_out;
    *out = memory;
    return DC_OK;
}

static void cuda_free(dc_dev *dev, void *memory)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    size_t i = s->n_blocks;
    while (i > 0 && s->blocks[i - 1].memory != memory) i--;
    DC_ASSERT(i > 0);
    s->handed_out -= s->blocks[i - 1].bytes;
    s->blocks[i - 1] = s->blocks[--s->n_blocks];
    cudaSetDevice(s->index);
    dc_cuda_note(dev, cudaFree(memory), "free"); /* after what still uses it */
}

static int cuda_import(dc_dev *dev, const void **out, const void *host, size_t bytes, const char *what, dc_error *err)
{
    void *memory = nullptr;
    const int rc = cuda_alloc(dev, &memory, bytes, what, err);
    if (rc != DC_OK) return rc;
    push(dev, memory, host, bytes, "import");
    *out = memory;
    return DC_OK;
}

static void cuda_drop(dc_dev *dev, const void *imported) { cuda_free(dev, const_cast<void *>(imported)); }
static void cuda_upload(dc_dev *dev, void *to, const void *host, size_t bytes) { push(dev, to, host, bytes, "upload"); }

/* To pageable memory the runtime copies in pieces of its own and waits. */
static void cuda_download(dc_dev *dev, void *host, const void *from, size_t bytes)
{
    if (!bytes) return;
    const cudaStream_t stream = dc_cuda_stream(dev);
    dc_cuda_note(dev, cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream), "download");
    dc_cuda_note(dev, cudaStreamSynchronize(stream), "download");
}

static void cuda_copy(dc_dev *dev, void *to, const void *from, size_t bytes)
{
    if (bytes)
        dc_cuda_note(dev, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, dc_cuda_stream(dev)), "copy");
}

static int cuda_sync(dc_dev *dev, dc_error *err)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    cudaSetDevice(s->index);
    hand_out_results(dev, "sync");
    const dc_error failed = s->failed;
    if (failed.code == DC_OK) return DC_OK;
    s->failed.code = DC_OK;
    return dc_fail(err, failed.code, "%s", failed.message);
}

static size_t cuda_memory_bytes(const dc_dev *dev) { return dc_cuda_state_of(dev)->memory; }

static size_t cuda_scratch_bytes(const dc_dev *dev)
{
    const dc_cuda_state *s = dc_cuda_state_of(dev);
    return DC_CUDA_TABLES + s->scratch_bytes + s->workspace_bytes;
}

size_t dc_cuda_handed_out(const dc_dev *dev, size_t *peak)
{
    const dc_cuda_state *s = dc_cuda_state_of(dev);
    if (peak) *peak = s->peak;
    return s->handed_out;
}

/* ---- recordings: captured graphs ---- */

struct dc_recording {
    cudaGraphExec_t exec;
};

static int cuda_records(const dc_dev *dev) { return dc_cuda_state_of(dev)->records; }

/* Other threads, which read data or write checkpoints, go on meanwhile: the capture is of this thread alone. */
static int cuda_record(dc_dev *dev, dc_error *err)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    if (s->failed.code != DC_OK) return dc_fail(err, s->failed.code, "%s", s->failed.message); /* sync tells it too */
    const cudaError_t e = cudaStreamBeginCapture(dc_cuda_stream(dev), cudaStreamCaptureModeThreadLocal);
    if (e != cudaSuccess) return dc_fail(err, DC_EIO, "%s: no capture begins: %s", s->name, cudaGetErrorString(e));
    s->recording = 1;
    return DC_OK;
}

/* What an op noted while it was recorded is this recording's failure, and no other's. */
static int cuda_recorded(dc_dev *dev, dc_recording **out, dc_error *err)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    cudaGraph_t graph = nullptr;
    dc_recording *r = static_cast<dc_recording *>(dc_calloc(1, sizeof *r));
    const cudaError_t end = cudaStreamEndCapture(s->stream, &graph);
    s->recording = 0;
    int rc = DC_OK;
    if (s->failed.code != DC_OK) {
        rc = dc_fail(err, s->failed.code, "%s", s->failed.message);
        s->failed.code = DC_OK;
    } else if (!r) {
        rc = dc_fail_memory(err, sizeof *r, "a recording");
    } else {
        const cudaError_t e = end == cudaSuccess ? cudaGraphInstantiate(&r->exec, graph, 0) : end;
        if (e != cudaSuccess) rc = dc_fail(err, DC_EIO, "%s: a captured graph: %s", s->name, cudaGetErrorString(e));
    }
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError(); /* told here */
    if (rc == DC_OK) *out = r;
    else dc_free(r);
    return rc;
}

static void cuda_replay(dc_dev *dev, const dc_recording *recording)
{
    dc_cuda_note(dev, cudaGraphLaunch(recording->exec, dc_cuda_stream(dev)), "replay");
}

static void cuda_recording_free(dc_dev *dev, dc_recording *recording)
{
    cudaSetDevice(dc_cuda_state_of(dev)->index);
    dc_cuda_note(dev, cudaGraphExecDestroy(recording->exec), "recording"); /* after what still uses it */
    dc_free(recording);
}

/* ---- finding a device ---- */

/* "cuda": -1; "cuda:3": 3. */
static int parse_name(int *index, const char *name, dc_error *err)
{
    char *end;
    *index = -1;
    if (!strcmp(name, "cuda")) return DC_OK;
    const long n = strtol(name + 5, &end, 10);
    if (name[5] < '0' || name[5] > '9' || *end || n > 1023)
        return dc_fail(err, DC_EUNKNOWN, "device '%s' is unknown; known are auto, cpu, cuda, cuda:N", name);
    *index = static_cast<int>(n);
    return DC_OK;
}

static int count_cards(int *n, const char *name, dc_error *err)
{
    int driver = 0;
    *n = 0;
    const cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaSuccess && *n > 0) return DC_OK;
    cudaGetLastError(); /* told here */
    cudaDriverGetVersion(&driver);
    if (driver == 0) return dc_fail(err, DC_EUNKNOWN, "device '%s': this machine has no NVIDIA driver", name);
    if (e == cudaErrorInsufficientDriver)
        return dc_fail(err, DC_EUNKNOWN,
                       "device '%s': the driver is for CUDA %d.%d, this build needs one for CUDA %d.%d", name,
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || e == cudaSuccess)
        return dc_fail(err, DC_EUNKNOWN, "device '%s': there is a driver, but no card that it can use", name);
    return dc_fail(err, DC_EUNKNOWN, "device '%s': %s", name, cudaGetErrorString(e));
}

/* Without a number it is the `which`-th card, modulo those there are: a batch system may show each process one of its own, as the first. */
static int find(int *index, cudaDeviceProp *card, const char *name, int which, dc_error *err)
{
    int n;
    int rc = parse_name(index, name, err);
    if (rc == DC_OK) rc = count_cards(&n, name, err);
    if (rc != DC_OK) return rc;
    if (*index < 0) *index = which % n;
    if (*index >= n)
        return dc_fail(err, DC_EUNKNOWN, "device '%s': this machine has %d card%s, the last is cuda:%d", name, n,
                       n == 1 ? "" : "s", n - 1);
    const cudaError_t e = cudaGetDeviceProperties(card, *index);
    if (e != cudaSuccess) return dc_fail(err, DC_EIO, "device '%s': %s", name, cudaGetErrorString(e));
    if (card->major * 10 + card->minor < OLDEST)
        return dc_fail(err, DC_EUNKNOWN, "device '%s': %s has compute capability %d.%d, 8.0 or newer is needed", name,
                       card->name, card->major, card->minor);
    return DC_OK;
}

static const char *name_of(const dc_dev_options *options)
{
    return options->name && strcmp(options->name, "auto") != 0 ? options->name : "cuda";
}

static int cuda_present(const dc_dev_options *options, dc_error *err)
{
    int index;
    cudaDeviceProp card;
    return find(&index, &card, name_of(options), options->card, err);
}

static int cuda_card(char *text, size_t size, int n, dc_error *err)
{
    char name[32];
    int index;
    cudaDeviceProp card = {};
    snprintf(name, sizeof name, "cuda:%d", n);
    const int rc = find(&index, &card, name, 0, err);
    if (rc == DC_OK)
        snprintf(text, size, "%s, %.0f GiB, compute capability %d.%d", card.name,
                 static_cast<double>(card.totalGlobalMem) / 0x1p30, card.major, card.minor);
    return rc;
}

/* ---- opening and closing ---- */

static void fill_ops(dc_ops *ops)
{
    memset(ops, 0, sizeof *ops);
    dc_adamw_overlay_cuda(ops);
    dc_attn_overlay_cuda(ops);
    dc_gemm_overlay_cuda(ops);
    dc_glu_overlay_cuda(ops);
    dc_loss_overlay_cuda(ops);
    dc_norm_overlay_cuda(ops);
    dc_rope_overlay_cuda(ops);
    dc_rows_overlay_cuda(ops);
    dc_vec_overlay_cuda(ops);
}

static void cuda_close(dc_dev *dev)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    if (!s) return;
    cudaSetDevice(s->index);
    if (s->stream) cudaStreamSynchronize(s->stream);
    dc_cuda_products_free(s->products);
    if (s->blas) cublasLtDestroy(s->blas);
    free_ring(&s->ring);
    if (s->results) cudaFreeHost(s->results);
    cudaFree(s->tables);
    cudaFree(s->scratch);
    cudaFree(s->workspace);
    if (s->stream) cudaStreamDestroy(s->stream);
    dc_free(s->blocks);
    dc_free(s);
    dev->state = nullptr;
}

static cudaError_t make_memory(dc_cuda_state *s)
{
    cudaError_t e = cudaSetDevice(s->index);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = make_ring(&s->ring);
    if (e == cudaSuccess) e = cudaMallocHost(reinterpret_cast<void **>(&s->results), DC_CUDA_RESULTS);
    if (e == cudaSuccess) e = cudaMalloc(reinterpret_cast<void **>(&s->tables), DC_CUDA_TABLES);
    if (e == cudaSuccess) e = cudaMalloc(reinterpret_cast<void **>(&s->scratch), s->scratch_bytes);
    if (e == cudaSuccess) e = cudaMalloc(reinterpret_cast<void **>(&s->workspace), s->workspace_bytes);
    return e;
}

static int start_blas(dc_cuda_state *s, dc_error *err)
{
    if (cublasLtCreate(&s->blas) != CUBLAS_STATUS_SUCCESS)
        return dc_fail(err, DC_EIO, "cuBLASLt does not start on %s", s->name);
    return dc_cuda_products_new(&s->products, s->workspace_bytes, err);
}

static void name_state(dc_cuda_state *s, dc_dtype activation)
{
    int driver = 0;
    char blas[48] = "plain products";
    cudaDriverGetVersion(&driver);
    snprintf(s->describe, sizeof s->describe, "%s, %.0f GiB, driver %d.%d%s", s->name,
             static_cast<double>(s->memory) / 0x1p30, driver / 1000, driver % 1000 / 10,
             activation == DC_F32 ? ", fp32" : "");
    if (s->blas)
        snprintf(blas, sizeof blas, "cuBLASLt %zu.%zu.%zu", cublasLtGetVersion() / 10000,
                 cublasLtGetVersion() / 100 % 100, cublasLtGetVersion() % 100);
    snprintf(s->path, sizeof s->path, "cuda sm_%d, %s, %s%s", s->capability, activation == DC_BF16 ? "bf16" : "fp32",
             blas, s->groups && activation == DC_BF16 ? ", wgmma" : "");
}

/* Scratch is a 512th of the card within bounds: 128 MiB of an 80 GB card, which holds most matrices whole. cuBLASLt wants 32 MiB on sm_90 and
 * newer, and 4 MiB before. */
static void size_scratch(dc_cuda_state *s)
{
    const size_t least = 8 << 20, most = 128 << 20, share = s->memory / 512 / 256 * 256;
    s->scratch_bytes = s->scratch_room = share < least ? least : share > most ? most : share;
    s->workspace_bytes = (s->capability >= 90 ? 32 : 4) << 20;
}

/* DC_CUDA_GRAPHS=off: each op is launched by itself, so that a profiler or CUDA_LAUNCH_BLOCKING=1 tells which one it was. DC_CUDA_WGMMA=off:
 * attention without Hopper's products by warpgroups, for comparisons. */
static int is_off(const char *variable)
{
    const char *set = getenv(variable);
    return set && strcmp(set, "off") == 0;
}

/* DC_CUDA_TYPE=f32: activations, and with them all arithmetic, in fp32, for comparisons with a CPU; bf16 is what is used without it. */
static int choose_type(dc_dtype *out, const dc_dev_options *options, const char *name, dc_error *err)
{
    const char *set = getenv("DC_CUDA_TYPE");
    *out = options->activation;
    if (*out == DC_DTYPE_NONE) {
        *out = set && strcmp(set, "f32") == 0 ? DC_F32 : DC_BF16;
        if (set && *out == DC_BF16 && strcmp(set, "bf16") != 0)
            return dc_fail(err, DC_EUNKNOWN, "device '%s': DC_CUDA_TYPE is '%.32s'; known are bf16 and f32", name, set);
    }
    if (*out == DC_BF16 || *out == DC_F32) return DC_OK;
    return dc_fail(err, DC_EUNKNOWN, "device '%s': activations are BF16 or F32", name);
}

static int cuda_open(dc_dev *dev, const dc_dev_options *options, dc_error *err)
{
    cudaDeviceProp card = {};
    int index;
    dc_dtype activation;
    const char *name = name_of(options);
    int rc = find(&index, &card, name, options->card, err);
    if (rc == DC_OK) rc = choose_type(&activation, options, name, err);
    if (rc != DC_OK) return rc;
    if (options->backend != DC_GEMM_BACKENDS && options->backend != DC_GEMM_REF)
        return dc_fail(err, DC_EUNKNOWN, "device '%s': the GEMM library that was asked for is a CPU's", name);
    dc_cuda_state *s = static_cast<dc_cuda_state *>(dc_calloc(1, sizeof *s));
    if (!s) return dc_fail_memory(err, sizeof *s, "a device");
    dev->state = s;
    dev->activation = activation;
    s->index = index;
    s->multiprocessors = card.multiProcessorCount;
    s->capability = card.major * 10 + card.minor;
    s->memory = card.totalGlobalMem;
    s->records = !is_off("DC_CUDA_GRAPHS");
    size_scratch(s);
    snprintf(s->name, sizeof s->name, "%s", card.name);
    const cudaError_t e = make_memory(s);
    if (e != cudaSuccess) rc = fail_memory(dev, e, cuda_scratch_bytes(dev), "scratch", err);
    else if (options->backend == DC_GEMM_BACKENDS) rc = start_blas(s, err);
    if (rc != DC_OK) {
        cuda_close(dev);
        return rc;
    }
    s->groups = !is_off("DC_CUDA_WGMMA") && dc_cuda_has_groups(dev);
    fill_ops(&dev->op);
    name_state(s, activation);
    return DC_OK;
}

static const char *cuda_describe(const dc_dev *dev) { return dc_cuda_state_of(dev)->describe; }
static const char *cuda_path(const dc_dev *dev) { return dc_cuda_state_of(dev)->path; }

static void *cuda_stream(const dc_dev *dev) { return dc_cuda_stream(dev); }

static const dc_dev_kind kind = {cuda_present,      cuda_card,          cuda_open,          cuda_close,   cuda_describe,
                                 cuda_path,         cuda_alloc,         cuda_free,          cuda_import,  cuda_drop,
                                 cuda_upload,       cuda_download,      cuda_copy,          cuda_sync,    cuda_stream,
                                 cuda_memory_bytes, cuda_scratch_bytes, CHUNK_BYTES,        cuda_records, cuda_record,
                                 cuda_recorded,     cuda_replay,        cuda_recording_free};

const dc_dev_kind *dc_dev_kind_cuda(void) { return &kind; }
