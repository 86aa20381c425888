/* tests/emu/include/emu_launch.h -- launching a kernel, and its shared memory: what kernels/cuda.cuh's macros become. */
#ifndef DC_EMU_LAUNCH_H
#define DC_EMU_LAUNCH_H

#include <new>
#include <stdlib.h>
#include <string.h>
#include <tuple>

#include "emu_runtime.h"

/* A kernel call as the queue keeps it: run() calls the kernel once, as one thread. `call` is malloc'ed and given to the queue;
 * its last args_size bytes, at `args`, are the arguments. */
struct dc_emu_call {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t shared_bytes;
    void (*run)(const void *call);
    void *call;
    const void *args;
    size_t args_size;
};

extern "C" {
void dc_emu_launch_call(const struct dc_emu_call *call, cudaStream_t stream);
void *dc_emu_shared_static(const void *key, const char *name, size_t size, size_t align);
void *dc_emu_shared_dynamic(void);
}

/* Zeroes the gaps inside an argument: what lies there by chance may look like a pointer. Without it arguments are not looked through. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define DC_EMU_CLEAR_PADDING 1
#endif
#endif
template <class T> static inline void dc_emu_clear_padding(T *argument)
{
#ifdef DC_EMU_CLEAR_PADDING
    __builtin_clear_padding(argument);
#else
    (void)argument;
#endif
}

/* Keeps a launch's arguments out of the deduction of types: they convert to the kernel's parameters, as in a call. */
template <class T> struct dc_emu_param {
    typedef T type;
};

/* Arguments are copied here, at the launch, whenever it is executed. */
template <class... P>
static inline void dc_emu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                                 cudaStream_t stream, typename dc_emu_param<P>::type... args)
{
    struct call_t {
        void (*kernel)(P...);
        std::tuple<P...> args;
    };
    const size_t size = (sizeof(call_t) + 63) / 64 * 64;
    void *memory = aligned_alloc(64, size);
    if (!memory) abort();
    memset(memory, 0, size);
    call_t *call = static_cast<call_t *>(memory);
    call->kernel = kernel;
    /* Each argument by itself: a whole tuple would bring what lay in its gaps. */
    std::apply([&](auto &...to) { ((new (&to) P(args), dc_emu_clear_padding(&to)), ...); }, call->args);
    const dc_emu_call c = {name,
                           reinterpret_cast<const void *>(kernel),
                           grid,
                           block,
                           shared_bytes,
                           [](const void *p) {
                               const call_t *t = static_cast<const call_t *>(p);
                               std::apply(t->kernel, t->args);
                           },
                           call,
                           &call->args,
                           sizeof call->args};
    dc_emu_launch_call(&c, stream);
}

#endif
