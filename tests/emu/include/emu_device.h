/* tests/emu/include/emu_device.h -- what device code sees: its indices, barriers, warp collectives, atomics.
 *
 * A barrier or collective is where a thread may be put aside for another; between two of them it runs alone. Each takes the place
 * of the call as defaulted last arguments, for the report when it is never completed. */
#ifndef DC_EMU_DEVICE_H
#define DC_EMU_DEVICE_H

#include <string.h>

#include "emu_math.h"
#include "emu_types.h"

/* Indices of the thread that runs now. __thread: each worker runs a block of its own. */
extern __thread uint3 threadIdx;
extern __thread uint3 blockIdx;
extern __thread dim3 blockDim;
extern __thread dim3 gridDim;
constexpr int warpSize = 32;

#define DC_EMU_SITE      const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define DC_EMU_SITE_ARGS const char *file, int line

enum dc_emu_shuffle_mode { DC_EMU_SHFL_IDX, DC_EMU_SHFL_UP, DC_EMU_SHFL_DOWN, DC_EMU_SHFL_XOR };
enum dc_emu_reduce_mode { DC_EMU_ADD, DC_EMU_MIN, DC_EMU_MAX, DC_EMU_AND, DC_EMU_OR, DC_EMU_XOR };

extern "C" {
/* Waits for all threads of the block; the number of them with a predicate that is not 0. */
int dc_emu_block_barrier(const char *what, int predicate, DC_EMU_SITE_ARGS);
/* Waits for the lanes of `mask`, which give the same mask and `what`. The last one to come calls complete() with the posts of
 * all (by lane, NULL for lanes outside); then each goes on. This is how an instruction of a whole warp, such as mma, is emulated. */
void dc_emu_warp(const char *what, unsigned mask, void *post, void (*complete)(void *const *posts, unsigned mask),
                 DC_EMU_SITE_ARGS);
unsigned long long dc_emu_shuffle(const char *what, enum dc_emu_shuffle_mode mode, unsigned mask,
                                  unsigned long long bits, unsigned b, int width, DC_EMU_SITE_ARGS);
unsigned dc_emu_ballot(const char *what, unsigned mask, int predicate, DC_EMU_SITE_ARGS);
unsigned dc_emu_match(unsigned mask, unsigned long long bits, DC_EMU_SITE_ARGS);
unsigned dc_emu_reduce(const char *what, enum dc_emu_reduce_mode mode, int is_signed, unsigned mask, unsigned value,
                       DC_EMU_SITE_ARGS);
unsigned dc_emu_existing(unsigned mask); /* the lanes of `mask` that the block's last, partial warp has */
unsigned dc_emu_lane(void);
void dc_emu_yield(void); /* lets another thread of the block run */
[[noreturn]] void dc_emu_trap(DC_EMU_SITE_ARGS);

/* Asynchronous copies from global to shared memory (cp.async): bytes arrive only when a thread waits for its group, so that a
 * missing wait reads poison. commit closes a group; wait returns when at most `pending` of the thread's groups are under way. */
void dc_emu_cp_async(void *shared, const void *global, int bytes, int read_bytes, DC_EMU_SITE_ARGS);
void dc_emu_cp_async_commit(void);
void dc_emu_cp_async_wait(int pending);
}

static inline void __syncthreads(DC_EMU_SITE) { dc_emu_block_barrier("__syncthreads", 0, file, line); }
static inline int __syncthreads_count(int predicate, DC_EMU_SITE)
{
    return dc_emu_block_barrier("__syncthreads_count", predicate, file, line);
}
static inline int __syncthreads_or(int predicate, DC_EMU_SITE)
{
    return dc_emu_block_barrier("__syncthreads_or", predicate, file, line) != 0;
}
static inline int __syncthreads_and(int predicate, DC_EMU_SITE)
{
    return dc_emu_block_barrier("__syncthreads_and", !predicate, file, line) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, DC_EMU_SITE)
{
    dc_emu_warp("__syncwarp", mask, nullptr, nullptr, file, line);
}

static inline void __threadfence_block() {}
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __nanosleep(unsigned) { dc_emu_yield(); }
static inline void __trap(DC_EMU_SITE) { dc_emu_trap(file, line); }

/* Only the calling lane is surely active: code that takes it for its whole warp is found out. */
static inline unsigned __activemask() { return 1u << dc_emu_lane(); }

template <class T>
static inline T dc_emu_shuffle_value(const char *what, enum dc_emu_shuffle_mode mode, unsigned mask, T value,
                                     unsigned b, int width, DC_EMU_SITE_ARGS)
{
    static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 16, 32 or 64 bits");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = dc_emu_shuffle(what, mode, mask, bits, b, width, file, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, DC_EMU_SITE)
{
    return dc_emu_shuffle_value("__shfl_sync", DC_EMU_SHFL_IDX, mask, value, (unsigned)source, width, file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, DC_EMU_SITE)
{
    return dc_emu_shuffle_value("__shfl_up_sync", DC_EMU_SHFL_UP, mask, value, delta, width, file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, DC_EMU_SITE)
{
    return dc_emu_shuffle_value("__shfl_down_sync", DC_EMU_SHFL_DOWN, mask, value, delta, width, file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, DC_EMU_SITE)
{
    return dc_emu_shuffle_value("__shfl_xor_sync", DC_EMU_SHFL_XOR, mask, value, (unsigned)lanes, width, file, line);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, DC_EMU_SITE)
{
    return dc_emu_ballot("__ballot_sync", mask, predicate, file, line);
}
static inline int __any_sync(unsigned mask, int predicate, DC_EMU_SITE)
{
    return dc_emu_ballot("__any_sync", mask, predicate, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, DC_EMU_SITE)
{
    return dc_emu_ballot("__all_sync", mask, predicate, file, line) == dc_emu_existing(mask);
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T value, DC_EMU_SITE)
{
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    return dc_emu_match(mask, bits, file, line);
}

#define DC_EMU_REDUCE(name, mode) \
    static inline unsigned name(unsigned mask, unsigned value, DC_EMU_SITE) \
    { \
        return dc_emu_reduce(#name, mode, 0, mask, value, file, line); \
    }
#define DC_EMU_REDUCE_SIGNED(name, mode) \
    static inline int name(unsigned mask, int value, DC_EMU_SITE) \
    { \
        return (int)dc_emu_reduce(#name, mode, 1, mask, (unsigned)value, file, line); \
    }
DC_EMU_REDUCE(__reduce_add_sync, DC_EMU_ADD)
DC_EMU_REDUCE(__reduce_min_sync, DC_EMU_MIN)
DC_EMU_REDUCE(__reduce_max_sync, DC_EMU_MAX)
DC_EMU_REDUCE(__reduce_and_sync, DC_EMU_AND)
DC_EMU_REDUCE(__reduce_or_sync, DC_EMU_OR)
DC_EMU_REDUCE(__reduce_xor_sync, DC_EMU_XOR)
DC_EMU_REDUCE_SIGNED(__reduce_add_sync, DC_EMU_ADD)
DC_EMU_REDUCE_SIGNED(__reduce_min_sync, DC_EMU_MIN)
DC_EMU_REDUCE_SIGNED(__reduce_max_sync, DC_EMU_MAX)
#undef DC_EMU_REDUCE
#undef DC_EMU_REDUCE_SIGNED

/* Atomics are real ones: blocks may run on several threads of the host. */
#define DC_EMU_ATOMIC(name, type, builtin) \
    static inline type name(type *address, type value) { return builtin(address, value, __ATOMIC_RELAXED); }
#define DC_EMU_ATOMICS(name, builtin) \
    DC_EMU_ATOMIC(name, int, builtin) \
    DC_EMU_ATOMIC(name, unsigned, builtin) \
    DC_EMU_ATOMIC(name, unsigned long long, builtin)
DC_EMU_ATOMICS(atomicAdd, __atomic_fetch_add)
DC_EMU_ATOMICS(atomicAnd, __atomic_fetch_and)
DC_EMU_ATOMICS(atomicOr, __atomic_fetch_or)
DC_EMU_ATOMICS(atomicXor, __atomic_fetch_xor)
DC_EMU_ATOMICS(atomicExch, __atomic_exchange_n)
DC_EMU_ATOMIC(atomicSub, int, __atomic_fetch_sub)
DC_EMU_ATOMIC(atomicSub, unsigned, __atomic_fetch_sub)
#undef DC_EMU_ATOMIC
#undef DC_EMU_ATOMICS

/* old = *address; *address = next(old); for what the host has no instruction for. */
#define DC_EMU_ATOMIC_LOOP(name, type, next) \
    static inline type name(type *address, type value) \
    { \
        type old, wanted; \
        __atomic_load(address, &old, __ATOMIC_RELAXED); \
        do wanted = next; \
        while (!__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)); \
        return old; \
    }
DC_EMU_ATOMIC_LOOP(atomicAdd, float, old + value)
DC_EMU_ATOMIC_LOOP(atomicAdd, double, old + value)
DC_EMU_ATOMIC_LOOP(atomicExch, float, value)
DC_EMU_ATOMIC_LOOP(atomicMax, int, (old > value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMax, unsigned, (old > value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMax, long long, (old > value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMax, unsigned long long, (old > value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMin, int, (old < value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMin, unsigned, (old < value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMin, long long, (old < value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicMin, unsigned long long, (old < value ? old : value))
DC_EMU_ATOMIC_LOOP(atomicInc, unsigned, (old >= value ? 0 : old + 1))
DC_EMU_ATOMIC_LOOP(atomicDec, unsigned, (old == 0 || old > value ? value : old - 1))
#undef DC_EMU_ATOMIC_LOOP

#define DC_EMU_ATOMIC_CAS(type) \
    static inline type atomicCAS(type *address, type compare, type value) \
    { \
        __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); \
        return compare; \
    }
DC_EMU_ATOMIC_CAS(int)
DC_EMU_ATOMIC_CAS(unsigned)
DC_EMU_ATOMIC_CAS(unsigned short)
DC_EMU_ATOMIC_CAS(unsigned long long)
#undef DC_EMU_ATOMIC_CAS

/* Loads and stores with cache hints. */
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline T __ldca(const T *p) { return *p; }
template <class T> static inline T __ldlu(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T value) { *p = value; }
template <class T> static inline void __stcg(T *p, T value) { *p = value; }
template <class T> static inline void __stwb(T *p, T value) { *p = value; }

#endif
