/* tests/emu/emu_engine.h -- a worker: the state of the block that a host thread runs; shared by engine and collectives. */
#ifndef DC_EMU_ENGINE_H
#define DC_EMU_ENGINE_H

#include "emu_fiber.h"
#include "emu_internal.h"

enum { DC_EMU_ARRAYS = 64 };

typedef enum dc_emu_state { DC_EMU_RUNS, DC_EMU_IN_BLOCK, DC_EMU_IN_WARP, DC_EMU_DONE } dc_emu_state;

typedef struct dc_emu_copy dc_emu_copy; /* an asynchronous copy under way */

/* One line of the cache: a block's threads do not fit into the nearest one anyway. */
typedef struct alignas(64) dc_emu_thread {
    uint3 index;
    int stack; /* -1: not started */
    dc_emu_state state;
    /* what it waits for */
    const char *what, *file;
    int line;
    unsigned mask;
    void *post;
} dc_emu_thread;

/* A thread's asynchronous copies under way, the latest first, and how many groups of them it has closed. */
typedef struct dc_emu_copies {
    dc_emu_copy *first;
    int groups;
} dc_emu_copies;

typedef struct dc_emu_array {
    const void *key; /* NULL: the dynamic one */
    const char *name;
    unsigned char *data;
    size_t size;
} dc_emu_array;

typedef struct dc_emu_worker {
    const dc_emu_call *call;
    size_t call_limit; /* bytes of shared memory that the launch may have */
    dc_emu_order order;
    uint64_t random;
    int failed;
    int64_t barriers;

    int n_threads, unfinished, current;
    dc_emu_thread threads[DC_EMU_MAX_THREADS];
    dc_emu_copies copies[DC_EMU_MAX_THREADS];
    int n_copies;                            /* under way in the block */
    uint64_t ready[DC_EMU_MAX_THREADS / 64]; /* a bit a thread, and a bit a word that is not 0 */
    unsigned ready_words;
    unsigned waiting[DC_EMU_WARP];                  /* lanes of each warp that wait in a collective */
    int arrived, first_arrived, predicates, result; /* of the block's barrier */

    unsigned char *shared;
    size_t shared_size, shared_used, static_bytes;
    dc_emu_array arrays[DC_EMU_ARRAYS];
    int n_arrays;

    dc_emu_fiber host, stacks[DC_EMU_MAX_THREADS];
    int free_stacks[DC_EMU_MAX_THREADS], n_free;
} dc_emu_worker;

extern __thread dc_emu_worker *dc_emu_self;

/* The running thread waits until somebody lets it go on; may go on, but lets the schedule choose; lets another run, whatever the
 * schedule says. */
void dc_emu_thread_waits(dc_emu_worker *w);
void dc_emu_thread_gives_way(dc_emu_worker *w);
void dc_emu_thread_yields(dc_emu_worker *w);
/* Lanes `mask` of the warp whose first thread is `first`; all threads of the block. */
void dc_emu_threads_go_on(dc_emu_worker *w, int first, uint64_t mask);
void dc_emu_block_goes_on(dc_emu_worker *w);

/* The block fails with a message; of the running thread, which does not return. */
void dc_emu_block_fails(dc_emu_worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] void dc_emu_thread_fails(const char *format, ...) __attribute__((format(printf, 1, 2)));

void dc_emu_copies_forget(dc_emu_worker *w);
uint64_t dc_emu_random(uint64_t *state);

#endif
