/* tests/emu/emu.h -- what a test may set and ask of the emulated device, beyond CUDA's own interface.
 *
 * Each setting has an environment variable (read once, at first use); a call overrides it. Settings that shape the card (devices,
 * memory, capability, protect) are for a device that holds nothing: call dc_emu_reset first. */
#ifndef DC_EMU_EMU_H
#define DC_EMU_EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In which order the threads of a block and the blocks of a grid run: "forward" (always the lowest that can), "reverse", or
 * "random:SEED". 0, or -1 for another text. DC_EMU_SCHEDULE. */
int dc_emu_schedule(const char *schedule);
/* Host threads that blocks are shared over: 1. DC_EMU_THREADS. */
void dc_emu_threads(int threads);
/* 1 (as shipped): work waits in its queue until something waits for it. 0: it is done by the call that queues it. DC_EMU_ASYNC. */
void dc_emu_async(int on);
/* 1: device memory cannot be touched but while queued work runs. 0 as shipped. DC_EMU_PROTECT. */
void dc_emu_protect(int on);
/* The number of devices, 1; 0: none. DC_EMU_DEVICES. Their memory in bytes, 4 GiB. DC_EMU_MEMORY (bytes, or with K, M, G). */
void dc_emu_devices(int n);
void dc_emu_memory(size_t bytes);
/* Compute capability, 8.0: how much shared memory a block may have. 0, or -1 for one that is not known. DC_EMU_CAPABILITY ("9.0"). */
int dc_emu_capability(int major, int minor);

/* Frees everything, forgets every error: the state of a process that has done nothing yet. Checks guard zones before: the number
 * of damaged ones. */
int dc_emu_reset(void);
/* Reports go to stderr, unless quiet; the last one is kept, "" after a reset. */
void dc_emu_quiet(int on);
const char *dc_emu_report(void);
/* Lets the n-th allocation of device memory from now fail with cudaErrorMemoryAllocation (0: none fails). */
void dc_emu_malloc_fail_at(int n);

typedef struct dc_emu_counts {
    size_t live_bytes, peak_bytes;                         /* asked for by cudaMalloc and cudaMallocAsync */
    int64_t live, launches, copies, barriers, collectives; /* collectives: NCCL's */
} dc_emu_counts;
dc_emu_counts dc_emu_count(void);

#ifdef __cplusplus
}
#endif
#endif
