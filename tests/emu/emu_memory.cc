/* tests/emu/emu_memory.cc -- device memory: one region of addresses, allocations between guard zones, pinned host memory.
 *
 * Memory of the device is poisoned when it is handed out and when it is given back, and a place that was given back is taken
 * again as late as possible. With DC_EMU_PROTECT the region cannot be touched unless the emulation opened it. */
#include <errno.h>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emu_guard.h"
#include "emu_internal.h"

enum { ALIGN = 256, GUARD = 256 };

typedef struct allocation {
    size_t asked, taken; /* taken: with guards, a multiple of ALIGN */
    int device, async;
} allocation;

typedef struct memory_state {
    unsigned char *base;
    size_t size;
    std::map<uintptr_t, allocation> live; /* by address of the data */
    std::map<uintptr_t, size_t> pinned;   /* by address; what cudaMallocHost gave or cudaHostRegister was told */
    std::map<uintptr_t, size_t> mallocs;  /* of those: the emulation's own */
    uintptr_t next;                       /* where the search for room begins */
    uintptr_t used;                       /* nothing was handed out from here on */
    int open;
    uint64_t threshold, used_high;
} memory_state;

static memory_state *state()
{
    static memory_state *s = new memory_state();
    return s;
}

/* Damage that no wait and no free has found: the program must not end well. */
static void check_at_exit(void)
{
    if (dc_emu_sticky() == cudaSuccess && dc_emu_check_guards() != cudaSuccess) _Exit(1);
}

static int map_region(memory_state *s)
{
    if (s->base) return 0;
    /* Twice the card's memory: guards, and places that rest. */
    s->size = dc_emu_settings()->memory * 2 + (1 << 20);
    const int access = dc_emu_settings()->protect ? PROT_NONE : PROT_READ | PROT_WRITE;
    void *p = mmap(nullptr, s->size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return -1;
    s->base = (unsigned char *)p;
    s->next = s->used = (uintptr_t)p;
    dc_emu_explain_crashes();
    static const int registered = atexit(check_at_exit);
    return registered;
}

static void set_access(const memory_state *s, int access)
{
    if (!s->base || !dc_emu_settings()->protect) return;
    if (mprotect(s->base, s->size, access)) {
        fprintf(stderr, "emulation: mprotect: %s\n", strerror(errno));
        abort();
    }
}

void dc_emu_region_open(void)
{
    memory_state *s = state();
    if (s->open++ == 0) set_access(s, PROT_READ | PROT_WRITE);
}

void dc_emu_region_close(void)
{
    memory_state *s = state();
    if (--s->open == 0) set_access(s, PROT_NONE);
}

/* ---- guard zones ---- */

static size_t tail_bytes(const allocation *a) { return a->taken - GUARD - a->asked; }

/* Reports damage once: the zone is made whole again. */
static cudaError_t check_one(uintptr_t at, const allocation *a)
{
    unsigned char *data = (unsigned char *)at;
    cudaError_t e = cudaSuccess;
    const ptrdiff_t before = dc_emu_guard_damage(data - GUARD, GUARD),
                    past = dc_emu_guard_damage(data + a->asked, tail_bytes(a));
    if (before >= 0) {
        dc_emu_guard_fill(data - GUARD, GUARD);
        e = dc_emu_fail(cudaErrorIllegalAddress, "something wrote %td bytes before an allocation of %zu bytes",
                        GUARD - before, a->asked);
    }
    if (past >= 0) {
        dc_emu_guard_fill(data + a->asked, tail_bytes(a));
        e = dc_emu_fail(cudaErrorIllegalAddress, "something wrote %td bytes past the end of an allocation of %zu bytes",
                        past, a->asked);
    }
    return e;
}

cudaError_t dc_emu_check_guards(void)
{
    cudaError_t e = cudaSuccess;
    dc_emu_region_open();
    for (const auto &[at, a] : state()->live) {
        const cudaError_t one = check_one(at, &a);
        if (e == cudaSuccess) e = one;
    }
    dc_emu_region_close();
    return e;
}

/* ---- taking and giving back ---- */

/* The first gap of `need` bytes at or after `from` that ends before `end`; 0: none. */
static uintptr_t find_gap(const memory_state *s, uintptr_t from, uintptr_t end, size_t need)
{
    auto it = s->live.lower_bound(from);
    if (it != s->live.begin()) {
        auto before = std::prev(it);
        const uintptr_t ends = before->first - GUARD + before->second.taken;
        if (ends > from) from = ends;
    }
    for (; it != s->live.end(); ++it) {
        const uintptr_t begins = it->first - GUARD;
        if (begins >= end) break;
        if (begins >= from && begins - from >= need) return from;
        from = begins + it->second.taken;
    }
    return from <= end && end - from >= need ? from : 0;
}

static size_t live_on(const memory_state *s, int device)
{
    size_t n = 0;
    for (const auto &[at, a] : s->live)
        if (a.device == device) n += a.taken;
    return n;
}

static cudaError_t take(void **out, size_t size, int async)
{
    memory_state *s = state();
    dc_emu_config *c = dc_emu_settings();
    int device = 0;
    cudaGetDevice(&device);
    *out = nullptr;
    if (c->malloc_fail_at && --c->malloc_fail_at == 0) return cudaErrorMemoryAllocation;
    if (size > c->memory) return cudaErrorMemoryAllocation;
    const size_t taken = GUARD + (size + ALIGN - 1) / ALIGN * ALIGN + GUARD;
    if (live_on(s, device) + taken > c->memory || map_region(s)) return cudaErrorMemoryAllocation;
    const uintptr_t base = (uintptr_t)s->base, end = base + s->size;
    uintptr_t at = find_gap(s, s->next, end, taken);
    if (!at) at = find_gap(s, base, end, taken);
    if (!at) return cudaErrorMemoryAllocation;
    s->next = at + taken;
    if (s->next > s->used) s->used = s->next;
    const allocation a = {size, taken, device, async};
    unsigned char *data = (unsigned char *)at + GUARD;
    s->live[(uintptr_t)data] = a;
    dc_emu_region_open();
    ASAN_UNPOISON_MEMORY_REGION(data, size);
    memset(data, DC_EMU_POISON, size);
    dc_emu_guard_fill(data - GUARD, GUARD);
    dc_emu_guard_fill(data + size, tail_bytes(&a));
    ASAN_POISON_MEMORY_REGION(data - GUARD, GUARD);
    ASAN_POISON_MEMORY_REGION(data + size, tail_bytes(&a));
    dc_emu_region_close();
    dc_emu_counts *n = &dc_emu_counters;
    n->live++;
    n->live_bytes += size;
    if (n->live_bytes > n->peak_bytes) n->peak_bytes = n->live_bytes;
    if (live_on(s, device) > s->used_high) s->used_high = live_on(s, device);
    *out = data;
    return cudaSuccess;
}

cudaError_t dc_emu_release(void *p)
{
    memory_state *s = state();
    const auto it = s->live.find((uintptr_t)p);
    if (it == s->live.end()) return cudaErrorInvalidValue;
    dc_emu_region_open();
    const cudaError_t e = check_one(it->first, &it->second);
    memset(p, DC_EMU_POISON, it->second.asked);
    ASAN_POISON_MEMORY_REGION(p, it->second.asked);
    dc_emu_region_close();
    dc_emu_counters.live--;
    dc_emu_counters.live_bytes -= it->second.asked;
    s->live.erase(it);
    return e;
}

cudaError_t dc_emu_release_all(void)
{
    memory_state *s = state();
    const cudaError_t e = dc_emu_check_guards();
    s->live.clear();
    for (const auto &[at, size] : s->mallocs) free((void *)at);
    s->mallocs.clear();
    s->pinned.clear();
    if (s->base) {
        ASAN_UNPOISON_MEMORY_REGION(s->base, s->used - (uintptr_t)s->base);
        munmap(s->base, s->size);
    }
    s->base = nullptr;
    s->used_high = 0;
    return e;
}

/* ---- where a pointer leads ---- */

static int inside(const std::map<uintptr_t, size_t> &ranges, uintptr_t at, size_t n)
{
    auto it = ranges.upper_bound(at);
    if (it == ranges.begin()) return 0;
    --it;
    return at - it->first < it->second && n <= it->second - (at - it->first);
}

static int in_region(const memory_state *s, uintptr_t at) { return s->base && at - (uintptr_t)s->base < s->size; }

dc_emu_place dc_emu_place_of(const void *p, size_t n)
{
    const memory_state *s = state();
    const uintptr_t at = (uintptr_t)p;
    if (!in_region(s, at)) return inside(s->pinned, at, n) ? DC_EMU_PINNED : DC_EMU_PAGEABLE;
    auto it = s->live.upper_bound(at);
    if (it == s->live.begin()) return DC_EMU_WILD;
    --it;
    const size_t into = at - it->first;
    return into <= it->second.asked && n <= it->second.asked - into ? DC_EMU_DEVICE : DC_EMU_WILD;
}

const char *dc_emu_describe_pointer(const void *p, char *text, size_t size)
{
    const memory_state *s = state();
    const uintptr_t at = (uintptr_t)p;
    if (!in_region(s, at)) {
        snprintf(text, size, "%s host memory", inside(s->pinned, at, 1) ? "pinned" : "pageable");
        return text;
    }
    auto it = s->live.upper_bound(at);
    if (it == s->live.begin()) snprintf(text, size, "device memory that nobody has");
    else --it, snprintf(text, size, "%zu bytes into an allocation of %zu", (size_t)(at - it->first), it->second.asked);
    return text;
}

/* Lies where programs, heaps, libraries and stacks are (pairs of small integers do not), is mapped, and a device cannot reach it. */
int dc_emu_is_host_pointer(const void *p)
{
    const uintptr_t at = (uintptr_t)p, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (at >> 40 < 0x55 || at >> 48) return 0;
    if (in_region(state(), at) || inside(state()->pinned, at, 1)) return 0;
    unsigned char resident;
    return mincore((void *)(at / page * page), 1, &resident) == 0;
}

cudaError_t dc_emu_check_args(const dc_emu_call *call)
{
#ifdef DC_EMU_CLEAR_PADDING
    const size_t n = call->args_size / sizeof(void *);
#else
    const size_t n = 0;
#endif
    for (size_t i = 0; i < n; i++) {
        void *p;
        memcpy(&p, (const char *)call->args + i * sizeof p, sizeof p);
        if (dc_emu_is_host_pointer(p))
            return dc_emu_fail(cudaErrorIllegalAddress,
                               "kernel %s: %p among its arguments is host memory that the device cannot reach",
                               call->name, p);
    }
    return cudaSuccess;
}

/* ---- the interface ---- */

cudaError_t cudaMalloc(void **devPtr, size_t size)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!devPtr) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (dc_emu_forbid_capture() != cudaSuccess) return dc_emu_return(cudaErrorStreamCaptureUnsupported);
    if (size == 0) return *devPtr = nullptr, cudaSuccess;
    return dc_emu_return(take(devPtr, size, 0));
}

cudaError_t cudaFree(void *devPtr)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!devPtr) return cudaSuccess;
    if (dc_emu_forbid_capture() != cudaSuccess) return dc_emu_return(cudaErrorStreamCaptureUnsupported);
    dc_emu_drain_all(); /* as the runtime does: nobody may still use it */
    return dc_emu_return(dc_emu_release(devPtr));
}

cudaError_t cudaMallocAsync(void **devPtr, size_t size, cudaStream_t hStream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!devPtr || !dc_emu_valid_stream(hStream)) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (dc_emu_capturing(hStream)) return dc_emu_return(cudaErrorNotSupported);
    if (size == 0) return *devPtr = nullptr, cudaSuccess;
    return dc_emu_return(take(devPtr, size, 1));
}

cudaError_t cudaFreeAsync(void *devPtr, cudaStream_t hStream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!devPtr) return cudaSuccess;
    if (!state()->live.count((uintptr_t)devPtr)) return dc_emu_return(cudaErrorInvalidValue);
    return dc_emu_return(dc_emu_enqueue(hStream, DC_EMU_OP_FREE, [devPtr] {
        if (state()->live.count((uintptr_t)devPtr)) return dc_emu_release(devPtr);
        return dc_emu_fail(cudaErrorIllegalAddress, "cudaFreeAsync: %p was freed twice", devPtr);
    }));
}

struct CUmemPoolHandle_st {
    int device;
};

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *memPool, int device)
{
    static CUmemPoolHandle_st pool;
    if (!memPool) return dc_emu_return(cudaErrorInvalidValue);
    if (device < 0 || device >= dc_emu_settings()->devices) return dc_emu_return(cudaErrorInvalidDevice);
    *memPool = &pool;
    return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value)
{
    if (!memPool || !value) return dc_emu_return(cudaErrorInvalidValue);
    if (attr == cudaMemPoolAttrReleaseThreshold) memcpy(&state()->threshold, value, sizeof(uint64_t));
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value)
{
    if (!memPool || !value) return dc_emu_return(cudaErrorInvalidValue);
    uint64_t v = 0;
    switch (attr) {
    case cudaMemPoolAttrReleaseThreshold: v = state()->threshold; break;
    case cudaMemPoolAttrReservedMemCurrent:
    case cudaMemPoolAttrUsedMemCurrent: v = live_on(state(), 0); break;
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemHigh: v = state()->used_high; break;
    default: return dc_emu_return(cudaErrorNotSupported);
    }
    memcpy(value, &v, sizeof v);
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t memPool, size_t)
{
    return dc_emu_return(memPool ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void **pHost, size_t size, unsigned)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!pHost) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (size == 0) return *pHost = nullptr, cudaSuccess;
    void *p;
    if (posix_memalign(&p, 4096, size)) return dc_emu_return(cudaErrorMemoryAllocation);
    memset(p, DC_EMU_POISON, size);
    state()->pinned[(uintptr_t)p] = size;
    state()->mallocs[(uintptr_t)p] = size;
    *pHost = p;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **ptr, size_t size) { return cudaHostAlloc(ptr, size, 0); }

cudaError_t cudaFreeHost(void *ptr)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!ptr) return cudaSuccess;
    if (!state()->mallocs.count((uintptr_t)ptr)) return dc_emu_return(cudaErrorInvalidValue);
    dc_emu_drain_all();
    state()->mallocs.erase((uintptr_t)ptr);
    state()->pinned.erase((uintptr_t)ptr);
    free(ptr);
    return dc_emu_return(cudaSuccess);
}

cudaError_t cudaHostRegister(void *ptr, size_t size, unsigned)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!ptr || !size) return dc_emu_return(cudaErrorInvalidValue);
    if (state()->pinned.count((uintptr_t)ptr)) return dc_emu_return(cudaErrorHostMemoryAlreadyRegistered);
    state()->pinned[(uintptr_t)ptr] = size;
    return dc_emu_return(cudaSuccess);
}

cudaError_t cudaHostUnregister(void *ptr)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!state()->pinned.count((uintptr_t)ptr) || state()->mallocs.count((uintptr_t)ptr))
        return dc_emu_return(cudaErrorHostMemoryNotRegistered);
    dc_emu_drain_all();
    state()->pinned.erase((uintptr_t)ptr);
    return dc_emu_return(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *ptr)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!attributes) return dc_emu_return(cudaErrorInvalidValue);
    void *p = (void *)(uintptr_t)ptr;
    switch (dc_emu_place_of(ptr, 0)) {
    case DC_EMU_DEVICE: *attributes = {cudaMemoryTypeDevice, 0, p, nullptr}; break;
    case DC_EMU_PINNED: *attributes = {cudaMemoryTypeHost, 0, p, p}; break;
    case DC_EMU_PAGEABLE:
    case DC_EMU_WILD: *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, nullptr}; break;
    }
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!free || !total) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    int device = 0;
    cudaGetDevice(&device);
    *total = dc_emu_settings()->memory;
    *free = *total - live_on(state(), device);
    return cudaSuccess;
}
