/* tests/emu/emu_fiber.h -- a stack of its own for each thread of a block, and switching between them.
 *
 * On x86-64 a switch is a dozen instructions; elsewhere, or with DC_EMU_UCONTEXT, it is swapcontext(3). ASan is told. */
#ifndef DC_EMU_FIBER_H
#define DC_EMU_FIBER_H

#include <stddef.h>

typedef struct dc_emu_fiber {
    void *sp;  /* where it stopped: a stack pointer, or a ucontext_t */
    char *low; /* its stack; NULL for the host's own */
    size_t size;
    void *fake; /* ASan's own state */
} dc_emu_fiber;

/* Maps n stacks, a guard page below each. 0, or -1 when there is no memory. */
int dc_emu_fiber_map(dc_emu_fiber *fibers, int n);
/* The next switch to f calls entry, which never returns and calls dc_emu_fiber_arrived first. */
void dc_emu_fiber_prepare(dc_emu_fiber *f, void (*entry)(void));
void dc_emu_fiber_arrived(dc_emu_fiber *self, dc_emu_fiber *host);
/* Goes on where `to` stopped; returns when somebody switches back. `last`: `from` will not go on. */
void dc_emu_fiber_switch(dc_emu_fiber *from, dc_emu_fiber *to, int last);
/* Whoever ran on f will never go on: the stack is clean for the next. */
void dc_emu_fiber_abandon(dc_emu_fiber *f);

#endif
