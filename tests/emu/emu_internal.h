/* tests/emu/emu_internal.h -- what the parts of the emulation share; private to tests/emu.
 *
 * emu_engine.cc runs grids, emu_collectives.cc is what their threads call; emu_memory.cc owns device memory, emu_stream.cc the
 * queues, emu_graph.cc what was captured of them, emu_runtime.cc the rest of the host interface. */
#ifndef DC_EMU_INTERNAL_H
#define DC_EMU_INTERNAL_H

#include <functional>
#include <memory>
#include <mutex>
#include <stdint.h>

#include "cuda_runtime.h"
#include "emu.h"

#if defined(__SANITIZE_ADDRESS__)
#define DC_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DC_EMU_ASAN 1
#endif
#endif
#ifdef DC_EMU_ASAN
#include <sanitizer/asan_interface.h>
#define DC_EMU_UNCHECKED __attribute__((no_sanitize("address")))
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define DC_EMU_UNCHECKED
#endif

enum { DC_EMU_POISON = 0xff, DC_EMU_MAX_THREADS = 1024, DC_EMU_WARP = 32 };

/* ---- settings and errors (emu_runtime.cc) ---- */

typedef enum dc_emu_order { DC_EMU_FORWARD, DC_EMU_REVERSE, DC_EMU_RANDOM } dc_emu_order;

typedef struct dc_emu_config {
    dc_emu_order order;
    uint64_t seed;
    int threads, async, protect, devices, major, minor, quiet, malloc_fail_at;
    size_t memory;
} dc_emu_config;

dc_emu_config *dc_emu_settings(void);
extern std::recursive_mutex dc_emu_mutex; /* held by every call of the host interface */

/* Reports; the first report since the last reset decides the device's sticky error. Also called by threads of a kernel. */
cudaError_t dc_emu_fail(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaError_t dc_emu_sticky(void);
/* What every call asks first: is there a device, and is it sound? */
cudaError_t dc_emu_usable(void);
/* Remembers a call's error for cudaGetLastError and returns it, or the sticky one. */
cudaError_t dc_emu_return(cudaError_t error);
extern dc_emu_counts dc_emu_counters;

/* ---- the card's limits ---- */

size_t dc_emu_shared_limit(void);        /* a block's, with the opt-in */
enum { DC_EMU_SHARED_PLAIN = 48 << 10 }; /* without */

/* What is known of a kernel: found by its address. */
typedef struct dc_emu_function {
    size_t dynamic_limit;
    size_t static_bytes; /* seen so far: 0 before the first launch */
} dc_emu_function;
dc_emu_function *dc_emu_function_of(const void *function);
/* Bytes of shared memory, static and dynamic, that a block of its may have: what it opted in to. */
size_t dc_emu_function_limit(const dc_emu_function *f);

/* ---- the engine (emu_engine.cc) ---- */

cudaError_t dc_emu_check_launch(const dc_emu_call *call);
/* Runs all blocks, unless one fails: then the failure is reported and sticks. */
cudaError_t dc_emu_run_grid(const dc_emu_call *call);

/* From now on a segmentation fault names the kernel or the allocation (emu_crash.cc). */
void dc_emu_explain_crashes(void);

/* ---- memory (emu_memory.cc) ---- */

typedef enum dc_emu_place { DC_EMU_PAGEABLE, DC_EMU_PINNED, DC_EMU_DEVICE, DC_EMU_WILD } dc_emu_place;

/* Where [p, p + n) is; DC_EMU_WILD: in the device's region but not inside one live allocation. */
dc_emu_place dc_emu_place_of(const void *p, size_t n);
/* Text for messages: "192 bytes into an allocation of 256", "before an allocation of ...". */
const char *dc_emu_describe_pointer(const void *p, char *text, size_t size);
void dc_emu_region_open(void); /* nest; needed round each touch of device memory by the emulation itself */
void dc_emu_region_close(void);
cudaError_t dc_emu_check_guards(void);
cudaError_t dc_emu_release(void *p);
cudaError_t dc_emu_release_all(void);
/* A word of a kernel's arguments that points to host memory that the device cannot reach. */
int dc_emu_is_host_pointer(const void *p);
cudaError_t dc_emu_check_args(const dc_emu_call *call);

/* ---- queues (emu_stream.cc) ---- */

typedef enum dc_emu_kind {
    DC_EMU_OP_KERNEL,
    DC_EMU_OP_COPY,
    DC_EMU_OP_SET,
    DC_EMU_OP_HOST,
    DC_EMU_OP_LIBRARY,
    DC_EMU_OP_FREE,
    DC_EMU_OP_RECORD,
    DC_EMU_OP_WAIT,
    DC_EMU_OP_GRAPH
} dc_emu_kind;

typedef std::function<cudaError_t()> dc_emu_work;

/* Queues work, or does it at once when nothing waits (DC_EMU_ASYNC=0), or adds it to the graph that the stream is being captured to. */
cudaError_t dc_emu_enqueue(cudaStream_t stream, dc_emu_kind kind, dc_emu_work work);
cudaError_t dc_emu_drain(cudaStream_t stream); /* all that is queued there */
cudaError_t dc_emu_drain_all(void);
int dc_emu_valid_stream(cudaStream_t stream);
int dc_emu_capturing(cudaStream_t stream);
/* For calls that may not be made while something is captured: cudaErrorStreamCaptureUnsupported then, and the capture is spoilt. */
cudaError_t dc_emu_forbid_capture(void);
void dc_emu_forget_streams(void);

#endif
