/* tests/emu/emu_crash.cc -- says what a segmentation fault was about before the program dies of it, at the instruction that did it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "emu_engine.h"

/* Nobody returns from here to normal work, so functions that are not safe in handlers may be called. */
static void explain(int number, siginfo_t *info, void *)
{
    char text[512], where[128] = "";
    const dc_emu_worker *w = dc_emu_self;
    const char *at = (const char *)info->si_addr;
    int n;
    if (w && w->n_threads) {
        for (int i = 0; i < DC_EMU_MAX_THREADS && !*where; i++)
            if (at < w->stacks[i].low && at >= w->stacks[i].low - 4096)
                snprintf(where, sizeof where, "its stack of %zu bytes is too small", w->stacks[i].size);
        n = snprintf(text, sizeof text, "emulation: kernel %s, block (%u,%u,%u), thread (%u,%u,%u) touches %p: %s\n",
                     w->call->name, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z,
                     info->si_addr, *where ? where : dc_emu_describe_pointer(at, where, sizeof where));
    } else {
        n = snprintf(text, sizeof text, "emulation: the host touches %p: %s\n", info->si_addr,
                     dc_emu_describe_pointer(at, where, sizeof where));
    }
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _Exit(1);
    signal(number, SIG_DFL); /* on return the same instruction faults again */
}

/* ASan's own reports are better. */
#ifdef DC_EMU_ASAN
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

void dc_emu_explain_crashes(void)
{
    static __thread void *stack; /* a stack that has overflowed cannot carry a handler */
    if (SANITIZED) return;
    if (!stack) {
        stack_t s = {};
        s.ss_size = 64 << 10;
        s.ss_sp = stack = malloc(s.ss_size);
        if (stack) sigaltstack(&s, nullptr);
    }
    struct sigaction action, old;
    sigaction(SIGSEGV, nullptr, &old);
    if (old.sa_handler != SIG_DFL) return; /* a test framework's, or this */
    memset(&action, 0, sizeof action);
    action.sa_sigaction = explain;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}
