/* tests/emu/emu_runtime.cc -- settings, errors, devices, and kernels as objects. */
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

std::recursive_mutex dc_emu_mutex;
dc_emu_counts dc_emu_counters;

/* ---- settings ---- */

/* CUDA C++ Programming Guide, table of technical specifications per compute capability; shared memory in KiB. */
typedef struct card {
    int major, minor, shared_per_block, shared_per_sm, threads_per_sm, blocks_per_sm;
} card;
static const card cards[] = {
    {7, 5, 64, 64, 1024, 16},   {8, 0, 163, 164, 2048, 32}, {8, 6, 99, 100, 1536, 16},   {8, 7, 163, 164, 1536, 16},
    {8, 9, 99, 100, 1536, 24},  {9, 0, 227, 228, 2048, 32}, {10, 0, 227, 228, 2048, 32}, {10, 3, 227, 228, 2048, 32},
    {12, 0, 99, 100, 1536, 24}, {12, 1, 99, 100, 1536, 24},
};

static const card *find_card(int major, int minor)
{
    for (const card &c : cards)
        if (c.major == major && c.minor == minor) return &c;
    return nullptr;
}

static int parse_schedule(dc_emu_config *c, const char *text)
{
    if (!strcmp(text, "forward")) return c->order = DC_EMU_FORWARD, 0;
    if (!strcmp(text, "reverse")) return c->order = DC_EMU_REVERSE, 0;
    char *end;
    if (strncmp(text, "random:", 7)) return -1;
    const unsigned long long seed = strtoull(text + 7, &end, 10);
    if (end == text + 7 || *end) return -1;
    c->order = DC_EMU_RANDOM;
    c->seed = seed;
    return 0;
}

static size_t parse_bytes(const char *text)
{
    char *end;
    size_t n = strtoull(text, &end, 10);
    const char *units = "KMG", *unit = *end ? strchr(units, *end) : nullptr;
    if (unit) n <<= 10 * (unit - units + 1), end++;
    return *end ? 0 : n;
}

static void bad_variable(const char *name, const char *text)
{
    fprintf(stderr, "emulation: %s=%s makes no sense\n", name, text);
    abort();
}

static int int_variable(const char *name, int low, int high, int otherwise)
{
    const char *text = getenv(name);
    if (!text) return otherwise;
    char *end;
    const long v = strtol(text, &end, 10);
    if (end == text || *end || v < low || v > high) bad_variable(name, text);
    return (int)v;
}

static dc_emu_config read_settings()
{
    dc_emu_config c = {};
    c.threads = int_variable("DC_EMU_THREADS", 1, 256, 1);
    c.async = int_variable("DC_EMU_ASYNC", 0, 1, 1);
    c.protect = int_variable("DC_EMU_PROTECT", 0, 1, 0);
    c.devices = int_variable("DC_EMU_DEVICES", 0, 16, 1);
    c.major = 8;
    c.memory = (size_t)4 << 30;
    const char *text = getenv("DC_EMU_SCHEDULE");
    if (text && parse_schedule(&c, text)) bad_variable("DC_EMU_SCHEDULE", text);
    text = getenv("DC_EMU_MEMORY");
    if (text && !(c.memory = parse_bytes(text))) bad_variable("DC_EMU_MEMORY", text);
    text = getenv("DC_EMU_CAPABILITY");
    if (text && (sscanf(text, "%d.%d", &c.major, &c.minor) != 2 || !find_card(c.major, c.minor)))
        bad_variable("DC_EMU_CAPABILITY", text);
    return c;
}

dc_emu_config *dc_emu_settings(void)
{
    static dc_emu_config c = read_settings();
    return &c;
}

int dc_emu_schedule(const char *schedule) { return parse_schedule(dc_emu_settings(), schedule); }
void dc_emu_threads(int threads) { dc_emu_settings()->threads = threads > 0 ? threads : 1; }
void dc_emu_async(int on) { dc_emu_settings()->async = on; }
void dc_emu_devices(int n) { dc_emu_settings()->devices = n; }
void dc_emu_quiet(int on) { dc_emu_settings()->quiet = on; }
void dc_emu_malloc_fail_at(int n) { dc_emu_settings()->malloc_fail_at = n; }
dc_emu_counts dc_emu_count(void) { return dc_emu_counters; }

void dc_emu_protect(int on)
{
    dc_emu_release_all();
    dc_emu_settings()->protect = on;
}

void dc_emu_memory(size_t bytes)
{
    dc_emu_release_all();
    dc_emu_settings()->memory = bytes;
}

int dc_emu_capability(int major, int minor)
{
    if (!find_card(major, minor)) return -1;
    dc_emu_settings()->major = major;
    dc_emu_settings()->minor = minor;
    return 0;
}

/* ---- errors ---- */

static std::mutex report_mutex; /* workers report too */
static char report[2048];
static cudaError_t sticky;
static int damages;
static thread_local cudaError_t last;

cudaError_t dc_emu_fail(cudaError_t error, const char *format, ...)
{
    const std::lock_guard<std::mutex> lock(report_mutex);
    char text[sizeof report];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!dc_emu_settings()->quiet) fprintf(stderr, "emulation: %s\n", text);
    memcpy(report, text, sizeof report);
    const int sticks =
        error == cudaErrorLaunchFailure || error == cudaErrorIllegalAddress || error == cudaErrorMisalignedAddress;
    damages += error == cudaErrorIllegalAddress;
    if (sticks && sticky == cudaSuccess) sticky = error;
    return error;
}

cudaError_t dc_emu_sticky(void)
{
    const std::lock_guard<std::mutex> lock(report_mutex);
    return sticky;
}

cudaError_t dc_emu_return(cudaError_t error)
{
    const cudaError_t s = dc_emu_sticky();
    if (s != cudaSuccess) error = s;
    if (error != cudaSuccess) last = error;
    return error;
}

cudaError_t dc_emu_usable(void)
{
    return dc_emu_return(dc_emu_settings()->devices == 0 ? cudaErrorNoDevice : cudaSuccess);
}

const char *dc_emu_report(void) { return report; }

cudaError_t cudaGetLastError(void)
{
    const cudaError_t s = dc_emu_sticky(), e = s != cudaSuccess ? s : last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    const cudaError_t s = dc_emu_sticky();
    return s != cudaSuccess ? s : last;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(name, value) \
    case name: return #name;
        DC_EMU_ERRORS(NAME)
#undef NAME
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch ((int)error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return cudaGetErrorName(error);
    }
}

int dc_emu_reset(void)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    damages = 0;
    dc_emu_forget_streams();
    dc_emu_release_all();
    const int n = damages;
    sticky = last = cudaSuccess;
    report[0] = 0;
    damages = 0;
    dc_emu_counters = dc_emu_counts();
    dc_emu_settings()->malloc_fail_at = 0;
    return n;
}

/* ---- devices ---- */

static thread_local int current;

static const card *this_card() { return find_card(dc_emu_settings()->major, dc_emu_settings()->minor); }

size_t dc_emu_shared_limit(void) { return (size_t)this_card()->shared_per_block << 10; }

cudaError_t cudaGetDeviceCount(int *count)
{
    if (!count) return dc_emu_return(cudaErrorInvalidValue);
    *count = dc_emu_settings()->devices;
    return *count ? cudaSuccess : dc_emu_return(cudaErrorNoDevice);
}

static int no_such_device(int device) { return device < 0 || device >= dc_emu_settings()->devices; }

cudaError_t cudaSetDevice(int device)
{
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (no_such_device(device)) return dc_emu_return(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    if (!device) return dc_emu_return(cudaErrorInvalidValue);
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    if (!prop) return dc_emu_return(cudaErrorInvalidValue);
    if (no_such_device(device)) return dc_emu_return(cudaErrorInvalidDevice);
    const dc_emu_config *c = dc_emu_settings();
    struct cudaDeviceProp p = {};
    snprintf(p.name, sizeof p.name, "emulated sm_%d%d", c->major, c->minor);
    p.totalGlobalMem = c->memory;
    p.sharedMemPerBlock = DC_EMU_SHARED_PLAIN;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = DC_EMU_WARP;
    p.memPitch = 2147483647;
    p.maxThreadsPerBlock = p.maxThreadsDim[0] = p.maxThreadsDim[1] = DC_EMU_MAX_THREADS;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 2147483647;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.totalConstMem = 65536;
    p.major = c->major;
    p.minor = c->minor;
    const card *k = this_card();
    p.multiProcessorCount = 4;
    p.canMapHostMemory = p.concurrentKernels = p.asyncEngineCount = p.unifiedAddressing = 1;
    p.pciBusID = device + 1;
    p.memoryBusWidth = 4096;
    p.l2CacheSize = 4 << 20;
    p.maxThreadsPerMultiProcessor = k->threads_per_sm;
    p.sharedMemPerMultiprocessor = (size_t)k->shared_per_sm << 10;
    p.sharedMemPerBlockOptin = dc_emu_shared_limit();
    p.maxBlocksPerMultiProcessor = k->blocks_per_sm;
    p.reservedSharedMemPerBlock = p.sharedMemPerMultiprocessor - p.sharedMemPerBlockOptin;
    p.hostRegisterSupported = p.memoryPoolsSupported = 1;
    p.clusterLaunch = c->major >= 9;
    *prop = p;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    struct cudaDeviceProp p;
    if (!value) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess) return e;
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = p.regsPerBlock; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrIntegrated: *value = p.integrated; break;
    case cudaDevAttrConcurrentKernels: *value = p.concurrentKernels; break;
    case cudaDevAttrEccEnabled: *value = p.ECCEnabled; break;
    case cudaDevAttrPciBusId: *value = p.pciBusID; break;
    case cudaDevAttrPciDeviceId: *value = p.pciDeviceID; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrAsyncEngineCount: *value = p.asyncEngineCount; break;
    case cudaDevAttrUnifiedAddressing: *value = p.unifiedAddressing; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = p.regsPerMultiprocessor; break;
    case cudaDevAttrCooperativeLaunch: *value = p.cooperativeLaunch; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    case cudaDevAttrHostRegisterSupported: *value = p.hostRegisterSupported; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p.maxBlocksPerMultiProcessor; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = (int)p.reservedSharedMemPerBlock; break;
    case cudaDevAttrMemoryPoolsSupported: *value = p.memoryPoolsSupported; break;
    default: return dc_emu_return(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int device)
{
    if (!pciBusId || len < 13) return dc_emu_return(cudaErrorInvalidValue);
    if (no_such_device(device)) return dc_emu_return(cudaErrorInvalidDevice);
    snprintf(pciBusId, (size_t)len, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    dc_emu_reset();
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *driverVersion)
{
    *driverVersion = dc_emu_settings()->devices ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *runtimeVersion)
{
    *runtimeVersion = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- kernels as objects ---- */

dc_emu_function *dc_emu_function_of(const void *function)
{
    static std::map<const void *, dc_emu_function> *all = new std::map<const void *, dc_emu_function>();
    const auto found = all->find(function);
    if (found != all->end()) return &found->second;
    return &((*all)[function] = dc_emu_function{DC_EMU_SHARED_PLAIN, 0});
}

size_t dc_emu_function_limit(const dc_emu_function *f)
{
    if (f->dynamic_limit > DC_EMU_SHARED_PLAIN) return dc_emu_shared_limit();
    return DC_EMU_SHARED_PLAIN;
}

cudaError_t dc_emu_check_launch(const dc_emu_call *call)
{
    const dim3 g = call->grid, b = call->block;
    const dc_emu_function *f = dc_emu_function_of(call->function);
    if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z) return cudaErrorInvalidConfiguration;
    if (g.x > 2147483647u || g.y > 65535 || g.z > 65535) return cudaErrorInvalidConfiguration;
    if (b.x > 1024 || b.y > 1024 || b.z > 64 || (uint64_t)b.x * b.y * b.z > DC_EMU_MAX_THREADS)
        return cudaErrorInvalidConfiguration;
    if (call->shared_bytes > f->dynamic_limit || f->static_bytes + call->shared_bytes > dc_emu_function_limit(f))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!func) return dc_emu_return(cudaErrorInvalidDeviceFunction);
    if (attr == cudaFuncAttributePreferredSharedMemoryCarveout)
        return dc_emu_return(value < -1 || value > 100 ? cudaErrorInvalidValue : cudaSuccess);
    if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize) return dc_emu_return(cudaErrorInvalidValue);
    dc_emu_function *f = dc_emu_function_of(func);
    if (value < 0 || (size_t)value + f->static_bytes > dc_emu_shared_limit())
        return dc_emu_return(cudaErrorInvalidValue);
    f->dynamic_limit = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attr, const void *func)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!attr) return dc_emu_return(cudaErrorInvalidValue);
    if (!func) return dc_emu_return(cudaErrorInvalidDeviceFunction);
    const dc_emu_function *f = dc_emu_function_of(func);
    const int version = dc_emu_settings()->major * 10 + dc_emu_settings()->minor;
    *attr = {};
    attr->sharedSizeBytes = f->static_bytes;
    attr->maxDynamicSharedSizeBytes = (int)f->dynamic_limit;
    attr->maxThreadsPerBlock = DC_EMU_MAX_THREADS;
    attr->numRegs = 32;
    attr->ptxVersion = attr->binaryVersion = version;
    attr->preferredShmemCarveout = -1;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, const void *func, int blockSize,
                                                          size_t dynamicSMemSize)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!numBlocks || blockSize < 1) return dc_emu_return(cudaErrorInvalidValue);
    if (!func) return dc_emu_return(cudaErrorInvalidDeviceFunction);
    const card *k = this_card();
    const size_t shared = dc_emu_function_of(func)->static_bytes + dynamicSMemSize;
    const size_t sm = (size_t)k->shared_per_sm << 10,
                 reserved = sm - dc_emu_shared_limit(); /* the system's part of a block's */
    size_t n = (size_t)(k->threads_per_sm / ((blockSize + DC_EMU_WARP - 1) / DC_EMU_WARP * DC_EMU_WARP));
    if (shared + reserved && sm / (shared + reserved) < n) n = sm / (shared + reserved);
    if (n > (size_t)k->blocks_per_sm) n = (size_t)k->blocks_per_sm;
    if (blockSize > DC_EMU_MAX_THREADS || shared > dc_emu_shared_limit()) n = 0;
    *numBlocks = (int)n;
    return cudaSuccess;
}
