/* tests/emu/emu_engine.cc -- runs a grid: blocks one after another, or shared over host threads; threads of a block as fibers.
 *
 * Of the threads that can run, one is chosen by the schedule and runs until its next barrier or collective. "forward" always takes the
 * lowest, so that one warp is as far ahead of the next as the barriers let it; "reverse" the highest; "random" any. A thread that
 * has not started takes over the stack of one that has ended: kernels without barriers never switch. */
#include "emu_engine.h"

#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_guard.h"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread dim3 blockDim;
__thread dim3 gridDim;

__thread dc_emu_worker *dc_emu_self;

/* ---- shared memory ---- */

enum { SHARED_GUARD = 64, SHARED_ALIGN = 128 };

/* The next array of the block's shared memory, between two guard zones, poisoned. */
static dc_emu_array *add_array(dc_emu_worker *w, const void *key, const char *name, size_t size)
{
    if (w->n_arrays == DC_EMU_ARRAYS) dc_emu_thread_fails("more than %d shared arrays", DC_EMU_ARRAYS);
    const size_t at = (w->shared_used + SHARED_ALIGN - 1) / SHARED_ALIGN * SHARED_ALIGN;
    if (at + size + 2 * SHARED_GUARD > w->shared_size)
        dc_emu_thread_fails("shared array %s of %zu bytes: more than a block may have", name, size);
    dc_emu_array *a = &w->arrays[w->n_arrays++];
    *a = dc_emu_array{key, name, w->shared + at, size};
    ASAN_UNPOISON_MEMORY_REGION(a->data, size);
    memset(a->data, DC_EMU_POISON, size);
    dc_emu_guard_fill(a->data + size, SHARED_GUARD);
    ASAN_POISON_MEMORY_REGION(a->data + size, SHARED_GUARD);
    w->shared_used = at + size + SHARED_GUARD;
    return a;
}

static void start_shared(dc_emu_worker *w)
{
    for (int i = 0; i < w->n_arrays; i++) ASAN_POISON_MEMORY_REGION(w->arrays[i].data, w->arrays[i].size);
    w->n_arrays = 0;
    w->static_bytes = 0;
    dc_emu_guard_fill(w->shared, SHARED_ALIGN);
    w->shared_used = SHARED_ALIGN;
    add_array(w, nullptr, "(dynamic)", w->call->shared_bytes);
}

static int check_shared(dc_emu_worker *w)
{
    if (dc_emu_guard_damage(w->shared, SHARED_ALIGN) >= 0)
        return dc_emu_block_fails(w, "wrote before its dynamic shared memory"), -1;
    for (int i = 0; i < w->n_arrays; i++)
        if (dc_emu_guard_damage(w->arrays[i].data + w->arrays[i].size, SHARED_GUARD) >= 0)
            return dc_emu_block_fails(w, "wrote past the shared array %s of %zu bytes", w->arrays[i].name,
                                      w->arrays[i].size),
                   -1;
    return 0;
}

void *dc_emu_shared_dynamic(void) { return dc_emu_self->arrays[0].data; }

void *dc_emu_shared_static(const void *key, const char *name, size_t size, size_t align)
{
    dc_emu_worker *w = dc_emu_self;
    for (int i = 1; i < w->n_arrays; i++)
        if (w->arrays[i].key == key) return w->arrays[i].data;
    /* As the compiler lays them out, one after another. */
    w->static_bytes = (w->static_bytes + align - 1) / align * align + size;
    const size_t limit = w->static_bytes > DC_EMU_SHARED_PLAIN ? 0 : w->call_limit;
    if (w->static_bytes + w->call->shared_bytes > limit)
        dc_emu_thread_fails("%zu bytes of static and %zu of dynamic shared memory: %s", w->static_bytes,
                            w->call->shared_bytes,
                            limit ? "more than the launch may have" : "static arrays may have 48 KiB");
    return add_array(w, key, name, size)->data;
}

/* ---- choosing a thread ---- */

static inline void set_ready(dc_emu_worker *w, int t)
{
    w->ready[t / 64] |= 1ull << t % 64;
    w->ready_words |= 1u << t / 64;
}

static inline void clear_ready(dc_emu_worker *w, int t)
{
    w->ready[t / 64] &= ~(1ull << t % 64);
    if (!w->ready[t / 64]) w->ready_words &= ~(1u << t / 64);
}

uint64_t dc_emu_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A set bit, searched from a drawn place on. */
static inline int draw_bit(uint64_t bits, unsigned r)
{
    const unsigned from = r & 63;
    const uint64_t turned = from ? bits >> from | bits << (64 - from) : bits;
    return (int)((unsigned)__builtin_ctzll(turned) + from) & 63;
}

/* The thread that runs next, or -1: none can. */
static inline int choose(dc_emu_worker *w)
{
    if (!w->ready_words) return -1;
    if (w->order == DC_EMU_FORWARD) {
        const int word = __builtin_ctz(w->ready_words);
        return word * 64 + __builtin_ctzll(w->ready[word]);
    }
    if (w->order == DC_EMU_REVERSE) {
        const int word = 31 - __builtin_clz(w->ready_words);
        return word * 64 + 63 - __builtin_clzll(w->ready[word]);
    }
    const uint64_t r = dc_emu_random(&w->random);
    const int word = draw_bit(w->ready_words, (unsigned)(r >> 32));
    return word * 64 + draw_bit(w->ready[word], (unsigned)r);
}

static inline void become(dc_emu_worker *w, int t)
{
    w->current = t;
    threadIdx = w->threads[t].index;
}

/* ---- threads ---- */

static void run_threads(void);

/* Goes to thread t from the stack `from`, which is left for good when `last`. */
static inline void go_to(dc_emu_worker *w, dc_emu_fiber *from, int t, int last)
{
    dc_emu_thread *next = &w->threads[t];
    become(w, t);
    if (next->stack < 0) {
        next->stack = w->free_stacks[--w->n_free];
        dc_emu_fiber_prepare(&w->stacks[next->stack], run_threads);
    }
    dc_emu_fiber_switch(from, &w->stacks[next->stack], last);
}

static void go_to_host(dc_emu_worker *w, int stack, int last)
{
    dc_emu_fiber_switch(&w->stacks[stack], &w->host, last);
}

/* The life of a stack: threads that have not started, one after another, while the schedule chooses such. */
static void run_threads(void)
{
    dc_emu_worker *w = dc_emu_self;
    const int stack = w->threads[w->current].stack;
    dc_emu_fiber_arrived(&w->stacks[stack], &w->host);
    for (;;) {
        w->call->run(w->call->call);
        dc_emu_thread *me = &w->threads[w->current];
        if (w->n_copies && w->copies[w->current].first) dc_emu_thread_fails("ends with asynchronous copies under way");
        me->state = DC_EMU_DONE;
        w->unfinished--;
        clear_ready(w, w->current);
        const int t = choose(w);
        if (t >= 0 && w->threads[t].stack < 0) {
            w->threads[t].stack = stack;
            become(w, t);
            continue;
        }
        w->free_stacks[w->n_free++] = stack;
        if (t < 0) go_to_host(w, stack, 1);
        else go_to(w, &w->stacks[stack], t, 1);
    }
}

/* Switching is the price of every barrier, so this is inlined with all that it calls. */
static inline __attribute__((always_inline)) void give_way(dc_emu_worker *w)
{
    const int me = w->current, t = choose(w), stack = w->threads[me].stack;
    if (t == me) return;
    if (t < 0) go_to_host(w, stack, 0); /* a deadlock: the host reports it and never comes back */
    else go_to(w, &w->stacks[stack], t, 0);
    become(w, me);
}

void dc_emu_thread_gives_way(dc_emu_worker *w) { give_way(w); }

void dc_emu_thread_waits(dc_emu_worker *w)
{
    clear_ready(w, w->current);
    give_way(w);
}

void dc_emu_thread_yields(dc_emu_worker *w)
{
    const int me = w->current;
    clear_ready(w, me);
    const int other = choose(w);
    set_ready(w, me);
    if (other < 0) return;
    const int stack = w->threads[me].stack;
    go_to(w, &w->stacks[stack], other, 0);
    become(w, me);
}

void dc_emu_threads_go_on(dc_emu_worker *w, int first, uint64_t mask)
{
    w->ready[first / 64] |= mask << first % 64;
    w->ready_words |= 1u << first / 64;
}

void dc_emu_block_goes_on(dc_emu_worker *w)
{
    for (int word = 0; word * 64 < w->n_threads; word++) {
        const int n = w->n_threads - word * 64;
        w->ready[word] = n >= 64 ? ~0ull : (1ull << n) - 1;
        w->ready_words |= 1u << word;
    }
}

/* ---- failures ---- */

static void fail_at(dc_emu_worker *w, const char *where, const char *format, va_list args)
{
    char what[1024];
    vsnprintf(what, sizeof what, format, args);
    dc_emu_fail(cudaErrorLaunchFailure, "kernel %s, block (%u,%u,%u)%s: %s", w->call->name, blockIdx.x, blockIdx.y,
                blockIdx.z, where, what);
    w->failed = 1;
}

void dc_emu_block_fails(dc_emu_worker *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail_at(w, "", format, args);
    va_end(args);
}

void dc_emu_thread_fails(const char *format, ...)
{
    dc_emu_worker *w = dc_emu_self;
    char where[64] = "";
    if (w->n_threads) snprintf(where, sizeof where, ", thread (%u,%u,%u)", threadIdx.x, threadIdx.y, threadIdx.z);
    va_list args;
    va_start(args, format);
    fail_at(w, where, format, args);
    va_end(args);
    go_to_host(w, w->threads[w->current].stack, 0);
    abort(); /* nobody comes back here */
}

/* "32 threads wait in __syncthreads at a.cu:12 (first (0,0,0)); 32 have finished (first (32,0,0))" */
static void report_deadlock(dc_emu_worker *w)
{
    char text[900] = "";
    size_t used = 0;
    int seen[8], n_seen = 0, done = 0, first_done = -1;
    for (int t = 0; t < w->n_threads; t++) {
        const dc_emu_thread *a = &w->threads[t];
        if (a->state == DC_EMU_DONE) {
            if (!done++) first_done = t;
            continue;
        }
        int known = 0;
        for (int i = 0; i < n_seen; i++) {
            const dc_emu_thread *b = &w->threads[seen[i]];
            known |= a->file == b->file && a->line == b->line && a->what == b->what && a->mask == b->mask;
        }
        if (known || n_seen == 8) continue;
        seen[n_seen++] = t;
        int n = 0;
        for (int u = t; u < w->n_threads; u++) {
            const dc_emu_thread *b = &w->threads[u];
            n += b->state != DC_EMU_DONE && a->file == b->file && a->line == b->line && a->what == b->what &&
                 a->mask == b->mask;
        }
        char mask[32] = "";
        if (a->state == DC_EMU_IN_WARP) snprintf(mask, sizeof mask, " of lanes %08x", a->mask);
        const int wrote =
            snprintf(text + used, sizeof text - used, "%s%d wait in %s%s at %s:%d (first: thread (%u,%u,%u))",
                     used ? "; " : "", n, a->what, mask, a->file, a->line, a->index.x, a->index.y, a->index.z);
        used += (size_t)wrote < sizeof text - used ? (size_t)wrote : 0;
    }
    char finished[128] = "";
    if (done) {
        const uint3 i = w->threads[first_done].index;
        snprintf(finished, sizeof finished, "; %d have finished (first: thread (%u,%u,%u))", done, i.x, i.y, i.z);
    }
    dc_emu_block_fails(w, "divergent: of %d threads %s%s", w->n_threads, text, finished);
}

/* ---- blocks ---- */

static void start_block(dc_emu_worker *w)
{
    const dim3 b = w->call->block;
    w->n_threads = (int)(b.x * b.y * b.z);
    w->unfinished = w->n_threads;
    w->arrived = 0;
    w->predicates = 0;
    int t = 0;
    for (unsigned z = 0; z < b.z; z++)
        for (unsigned y = 0; y < b.y; y++)
            for (unsigned x = 0; x < b.x; x++, t++) {
                dc_emu_thread *a = &w->threads[t];
                a->index = uint3{x, y, z};
                a->stack = -1;
                a->state = DC_EMU_RUNS;
            }
    memset(w->waiting, 0, sizeof w->waiting);
    dc_emu_block_goes_on(w);
}

/* After a failure: threads that are put aside never go on. */
static void abandon_threads(dc_emu_worker *w)
{
    for (int t = 0; t < w->n_threads; t++) {
        const dc_emu_thread *a = &w->threads[t];
        if (a->state == DC_EMU_DONE || a->stack < 0) continue;
        dc_emu_fiber_abandon(&w->stacks[a->stack]);
        w->free_stacks[w->n_free++] = a->stack;
    }
    memset(w->ready, 0, sizeof w->ready);
    w->ready_words = 0;
}

static void run_block(dc_emu_worker *w, uint3 block)
{
    blockIdx = block;
    start_block(w);
    start_shared(w);
    go_to(w, &w->host, choose(w), 0);
    if (!w->failed && w->unfinished) report_deadlock(w);
    if (!w->failed) check_shared(w);
    if (w->failed) abandon_threads(w);
    dc_emu_copies_forget(w);
    w->n_threads = 0;
}

static dc_emu_worker *worker_new(void)
{
    dc_emu_worker *w = (dc_emu_worker *)aligned_alloc(64, sizeof *w);
    if (w) memset(w, 0, sizeof *w);
    if (!w || dc_emu_fiber_map(w->stacks, DC_EMU_MAX_THREADS)) {
        fprintf(stderr, "emulation: no memory for the stacks of a block\n");
        abort();
    }
    w->n_free = DC_EMU_MAX_THREADS;
    for (int i = 0; i < DC_EMU_MAX_THREADS; i++) w->free_stacks[i] = DC_EMU_MAX_THREADS - 1 - i;
    w->shared_size = (256 << 10) + DC_EMU_ARRAYS * (SHARED_ALIGN + SHARED_GUARD);
    w->shared = (unsigned char *)aligned_alloc(SHARED_ALIGN, w->shared_size);
    if (!w->shared) abort();
    ASAN_POISON_MEMORY_REGION(w->shared, w->shared_size);
    dc_emu_explain_crashes();
    return w;
}

/* Block number i of n in the schedule's order; a drawn order is i * step mod n with a step that n has no factor of. */
static uint64_t block_at(dc_emu_order order, uint64_t seed, uint64_t i, uint64_t n)
{
    if (order == DC_EMU_FORWARD || n == 1) return i;
    if (order == DC_EMU_REVERSE) return n - 1 - i;
    uint64_t step = dc_emu_random(&seed) % n | 1;
    for (;; step += 2) {
        uint64_t a = step, b = n;
        while (b) {
            const uint64_t rest = a % b;
            a = b, b = rest;
        }
        if (a == 1) break;
    }
    return (uint64_t)((unsigned __int128)i * step % n + dc_emu_random(&seed) % n) % n;
}

cudaError_t dc_emu_run_grid(const dc_emu_call *call)
{
    const dc_emu_config *c = dc_emu_settings();
    dc_emu_function *f = dc_emu_function_of(call->function);
    const uint64_t nx = call->grid.x, ny = call->grid.y, n = nx * ny * call->grid.z;
    const uint64_t seed = c->seed + (uint64_t)dc_emu_counters.launches * 0x2545f4914f6cdd1du;
    const size_t limit = dc_emu_function_limit(f);
    int failed = 0;
    int64_t barriers = 0;
    size_t static_bytes = 0;
#pragma omp parallel num_threads(c->threads) reduction(+ : barriers) reduction(max : static_bytes) if (c->threads > 1)
    {
        static __thread dc_emu_worker *mine;
        if (!mine) mine = worker_new();
        dc_emu_worker *w = dc_emu_self = mine;
        w->call = call;
        w->call_limit = limit;
        w->order = c->order;
        w->failed = 0;
        w->barriers = 0;
        blockDim = call->block;
        gridDim = call->grid;
#pragma omp for schedule(static)
        for (uint64_t i = 0; i < n; i++) {
            int stop;
#pragma omp atomic read
            stop = failed;
            if (stop) continue;
            const uint64_t b = block_at(c->order, seed, i, n);
            w->random = seed + b;
            run_block(w, uint3{(unsigned)(b % nx), (unsigned)(b / nx % ny), (unsigned)(b / nx / ny)});
            if (w->failed) {
#pragma omp atomic write
                failed = 1;
            }
        }
        barriers += w->barriers;
        static_bytes = w->static_bytes > static_bytes ? w->static_bytes : static_bytes;
    }
    dc_emu_counters.barriers += barriers;
    dc_emu_counters.launches++;
    if (static_bytes > f->static_bytes) f->static_bytes = static_bytes;
    return failed ? cudaErrorLaunchFailure : cudaSuccess;
}
