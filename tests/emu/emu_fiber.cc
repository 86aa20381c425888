/* tests/emu/emu_fiber.cc -- stacks and switches. */
#include "emu_fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define DC_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DC_EMU_ASAN 1
#endif
#endif
#ifdef DC_EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(DC_EMU_UCONTEXT)
#define DC_EMU_UCONTEXT 1
#endif
#ifdef DC_EMU_UCONTEXT
#include <ucontext.h>
#endif

enum {
#ifdef DC_EMU_ASAN
    STACK_BYTES = 256 << 10, /* instrumented frames are several times as large */
#else
    STACK_BYTES = 64 << 10,
#endif
    GUARD_BYTES = 4 << 10,
    /* Tops are shifted by this many bytes from stack to stack, or the hot ends of all stacks would share one set of the cache. */
    COLOURS = 16,
    COLOUR_BYTES = 192
};

int dc_emu_fiber_map(dc_emu_fiber *fibers, int n)
{
    const size_t each = STACK_BYTES + GUARD_BYTES;
    char *p = (char *)mmap(nullptr, each * (size_t)n, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) return -1;
    for (int i = 0; i < n; i++) {
        char *low = p + each * (size_t)i;
        if (mprotect(low, GUARD_BYTES, PROT_NONE)) return -1;
        fibers[i] = dc_emu_fiber();
        fibers[i].low = low + GUARD_BYTES;
        fibers[i].size = STACK_BYTES - (size_t)(i % COLOURS * COLOUR_BYTES);
#ifdef DC_EMU_UCONTEXT
        fibers[i].sp = calloc(1, sizeof(ucontext_t));
        if (!fibers[i].sp) return -1;
#endif
    }
    return 0;
}

#ifdef DC_EMU_UCONTEXT

void dc_emu_fiber_prepare(dc_emu_fiber *f, void (*entry)(void))
{
    ucontext_t *u = (ucontext_t *)f->sp;
    getcontext(u);
    u->uc_stack.ss_sp = f->low;
    u->uc_stack.ss_size = f->size;
    u->uc_link = nullptr;
    makecontext(u, entry, 0);
}

static void swap(dc_emu_fiber *from, dc_emu_fiber *to)
{
    if (!from->sp && !(from->sp = calloc(1, sizeof(ucontext_t)))) abort();
    swapcontext((ucontext_t *)from->sp, (const ucontext_t *)to->sp);
}

#else

/* The registers that a called function must keep are pushed, the stack pointer is exchanged, the other side's are popped. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl dc_emu_fiber_swap\n"
        ".type dc_emu_fiber_swap, @function\n"
        "dc_emu_fiber_swap:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size dc_emu_fiber_swap, .-dc_emu_fiber_swap\n");

extern "C" void dc_emu_fiber_swap(void **save, void *resume);

void dc_emu_fiber_prepare(dc_emu_fiber *f, void (*entry)(void))
{
    /* Six registers, the address of entry, and a null return address that ends a debugger's walk; entry then sees the stack as after
     * a call: 8 bytes off a multiple of 16. */
    void **top = (void **)(f->low + f->size);
    *--top = nullptr;
    *--top = (void *)(uintptr_t)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
}

static void swap(dc_emu_fiber *from, dc_emu_fiber *to) { dc_emu_fiber_swap(&from->sp, to->sp); }

#endif

void dc_emu_fiber_arrived(dc_emu_fiber *self, dc_emu_fiber *host)
{
#ifdef DC_EMU_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(self->fake, &low, &size);
    self->fake = nullptr;
    /* The host's stack is learnt when the first fiber comes from it: later switches back need it. */
    if (!host->low) host->low = (char *)(uintptr_t)low, host->size = size;
#else
    (void)self, (void)host;
#endif
}

void dc_emu_fiber_switch(dc_emu_fiber *from, dc_emu_fiber *to, int last)
{
#ifdef DC_EMU_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &from->fake, to->low, to->size);
#endif
    (void)last;
    swap(from, to);
#ifdef DC_EMU_ASAN
    __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
    from->fake = nullptr;
#endif
}

void dc_emu_fiber_abandon(dc_emu_fiber *f)
{
#ifdef DC_EMU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(f->low, f->size);
    f->fake = nullptr;
#else
    (void)f;
#endif
}
