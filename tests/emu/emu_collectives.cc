/* tests/emu/emu_collectives.cc -- barriers, warp collectives and asynchronous copies.
 *
 * A collective of a warp is a meeting of the lanes of its mask: each leaves what it brings and is put aside; the last one to come computes
 * the results of all. Lanes outside the mask are neither waited for nor held. Stricter than a card: a thread that has ended never
 * arrives (a card counts it as arrived), so leaving early before a barrier is reported. */
#include <stdlib.h>
#include <string.h>

#include "emu_engine.h"

unsigned dc_emu_lane(void) { return (unsigned)dc_emu_self->current % DC_EMU_WARP; }

void dc_emu_yield(void) { dc_emu_thread_yields(dc_emu_self); }

void dc_emu_trap(const char *file, int line) { dc_emu_thread_fails("trap at %s:%d", file, line); }

int dc_emu_block_barrier(const char *what, int predicate, const char *file, int line)
{
    dc_emu_worker *w = dc_emu_self;
    dc_emu_thread *me = &w->threads[w->current];
    me->state = DC_EMU_IN_BLOCK;
    me->what = what;
    me->file = file;
    me->line = line;
    me->mask = 0;
    w->barriers++;
    w->predicates += predicate != 0;
    if (w->arrived++ == 0) w->first_arrived = w->current;
    const dc_emu_thread *a = &w->threads[w->first_arrived];
    if (a->line != line || a->what != what || a->file != file)
        dc_emu_thread_fails("divergent: it waits in %s at %s:%d, thread (%u,%u,%u) in %s at %s:%d", what, file, line,
                            a->index.x, a->index.y, a->index.z, a->what, a->file, a->line);
    if (w->arrived < w->n_threads) {
        dc_emu_thread_waits(w);
    } else {
        w->arrived = 0;
        w->result = w->predicates;
        w->predicates = 0;
        dc_emu_block_goes_on(w);
        dc_emu_thread_gives_way(w);
    }
    me->state = DC_EMU_RUNS;
    return w->result;
}

/* The lanes that the block has in the running thread's warp. */
static unsigned existing_lanes(const dc_emu_worker *w)
{
    const int n = w->n_threads - w->current / DC_EMU_WARP * DC_EMU_WARP;
    return n >= DC_EMU_WARP ? ~0u : (1u << n) - 1;
}

unsigned dc_emu_existing(unsigned mask) { return mask & existing_lanes(dc_emu_self); }

/* All lanes of `mask` wait: is it with each other? A lane may wait in a smaller meeting first; then nothing happens yet. */
static int all_meet(const dc_emu_thread *lanes, const dc_emu_thread *me, unsigned mask)
{
    for (unsigned left = mask; left; left &= left - 1) {
        const dc_emu_thread *a = &lanes[__builtin_ctz(left)];
        if (a->mask != me->mask) return 0;
        if (a->what != me->what)
            dc_emu_thread_fails(
                "divergent: it waits in %s at %s:%d, thread (%u,%u,%u) with the same mask %08x in %s at %s:%d",
                me->what, me->file, me->line, a->index.x, a->index.y, a->index.z, a->mask, a->what, a->file, a->line);
    }
    return 1;
}

void dc_emu_warp(const char *what, unsigned mask, void *post, void (*complete)(void *const *posts, unsigned mask),
                 const char *file, int line)
{
    dc_emu_worker *w = dc_emu_self;
    const int warp = w->current / DC_EMU_WARP, first = warp * DC_EMU_WARP, lane = w->current % DC_EMU_WARP;
    dc_emu_thread *lanes = &w->threads[first], *me = &lanes[lane];
    const unsigned present = mask & existing_lanes(w);
    if (!(mask >> lane & 1))
        dc_emu_thread_fails("lane %d calls %s at %s:%d with the mask %08x, which lacks it", lane, what, file, line,
                            mask);
    me->state = DC_EMU_IN_WARP;
    me->what = what;
    me->file = file;
    me->line = line;
    me->mask = mask;
    me->post = post;
    w->barriers++;
    w->waiting[warp] |= 1u << lane;
    if ((w->waiting[warp] & present) != present || !all_meet(lanes, me, present)) {
        dc_emu_thread_waits(w);
    } else {
        if (complete) {
            void *posts[DC_EMU_WARP] = {0};
            for (unsigned left = present; left; left &= left - 1) {
                const int i = __builtin_ctz(left);
                posts[i] = lanes[i].post;
            }
            complete(posts, present);
        }
        w->waiting[warp] &= ~present;
        dc_emu_threads_go_on(w, first, present);
        dc_emu_thread_gives_way(w);
    }
    me->state = DC_EMU_RUNS;
}

/* ---- shuffles ---- */

typedef struct shuffle_post {
    enum dc_emu_shuffle_mode mode;
    unsigned b;
    int width;
    unsigned long long bits, result;
} shuffle_post;

/* The lane that lane `lane` reads (CUDA C++ Programming Guide, warp shuffle functions). */
static int shuffle_source(const shuffle_post *p, int lane)
{
    const int low = lane & ~(p->width - 1), b = (int)(p->b & 31u);
    switch (p->mode) {
    case DC_EMU_SHFL_IDX: return low | (b & (p->width - 1));
    case DC_EMU_SHFL_UP: return lane - b < low ? lane : lane - b;
    case DC_EMU_SHFL_DOWN: return lane + b >= low + p->width ? lane : lane + b;
    case DC_EMU_SHFL_XOR: break;
    }
    return (lane ^ b) >= low + p->width ? lane : lane ^ b;
}

static void shuffle_complete(void *const *posts, unsigned mask)
{
    for (unsigned left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        shuffle_post *p = (shuffle_post *)posts[lane];
        const shuffle_post *from = (const shuffle_post *)posts[shuffle_source(p, lane)];
        p->result = from ? from->bits : ~0ull; /* what a lane outside the mask gives is undefined */
    }
}

unsigned long long dc_emu_shuffle(const char *what, enum dc_emu_shuffle_mode mode, unsigned mask,
                                  unsigned long long bits, unsigned b, int width, const char *file, int line)
{
    if (width < 1 || width > DC_EMU_WARP || width & (width - 1))
        dc_emu_thread_fails("%s at %s:%d with a width of %d", what, file, line, width);
    shuffle_post p = {mode, b, width, bits, 0};
    dc_emu_warp(what, mask, &p, shuffle_complete, file, line);
    return p.result;
}

/* ---- votes, matches and reductions ---- */

typedef struct vote_post {
    unsigned long long bits;
    unsigned result;
    enum dc_emu_reduce_mode mode;
    int is_signed;
} vote_post;

static void ballot_complete(void *const *posts, unsigned mask)
{
    unsigned ballot = 0;
    for (unsigned left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        ballot |= (unsigned)((const vote_post *)posts[lane])->bits << lane;
    }
    for (unsigned left = mask; left; left &= left - 1) ((vote_post *)posts[__builtin_ctz(left)])->result = ballot;
}

unsigned dc_emu_ballot(const char *what, unsigned mask, int predicate, const char *file, int line)
{
    vote_post p = {predicate != 0, 0, DC_EMU_ADD, 0};
    dc_emu_warp(what, mask, &p, ballot_complete, file, line);
    return p.result;
}

static void match_complete(void *const *posts, unsigned mask)
{
    for (unsigned left = mask; left; left &= left - 1) {
        vote_post *p = (vote_post *)posts[__builtin_ctz(left)];
        for (unsigned other = mask; other; other &= other - 1) {
            const int lane = __builtin_ctz(other);
            p->result |= (unsigned)(((const vote_post *)posts[lane])->bits == p->bits) << lane;
        }
    }
}

unsigned dc_emu_match(unsigned mask, unsigned long long bits, const char *file, int line)
{
    vote_post p = {bits, 0, DC_EMU_ADD, 0};
    dc_emu_warp("__match_any_sync", mask, &p, match_complete, file, line);
    return p.result;
}

static unsigned reduced(enum dc_emu_reduce_mode mode, int is_signed, unsigned a, unsigned b)
{
    const int less = is_signed ? (int)a < (int)b : a < b;
    switch (mode) {
    case DC_EMU_ADD: return a + b;
    case DC_EMU_MIN: return less ? a : b;
    case DC_EMU_MAX: return less ? b : a;
    case DC_EMU_AND: return a & b;
    case DC_EMU_OR: return a | b;
    case DC_EMU_XOR: break;
    }
    return a ^ b;
}

static void reduce_complete(void *const *posts, unsigned mask)
{
    const vote_post *one = (const vote_post *)posts[__builtin_ctz(mask)];
    unsigned r = (unsigned)one->bits;
    for (unsigned left = mask & (mask - 1); left; left &= left - 1)
        r = reduced(one->mode, one->is_signed, r, (unsigned)((const vote_post *)posts[__builtin_ctz(left)])->bits);
    for (unsigned left = mask; left; left &= left - 1) ((vote_post *)posts[__builtin_ctz(left)])->result = r;
}

unsigned dc_emu_reduce(const char *what, enum dc_emu_reduce_mode mode, int is_signed, unsigned mask, unsigned value,
                       const char *file, int line)
{
    vote_post p = {value, 0, mode, is_signed};
    dc_emu_warp(what, mask, &p, reduce_complete, file, line);
    return p.result;
}

/* ---- asynchronous copies ---- */

struct dc_emu_copy {
    dc_emu_copy *next;
    int group, bytes, read_bytes;
    void *to;
    const void *from;
};

void dc_emu_cp_async(void *shared, const void *global, int bytes, int read_bytes, const char *file, int line)
{
    dc_emu_worker *w = dc_emu_self;
    dc_emu_copies *mine = &w->copies[w->current];
    if (bytes != 4 && bytes != 8 && bytes != 16)
        dc_emu_thread_fails("asynchronous copy of %d bytes at %s:%d", bytes, file, line);
    if ((uintptr_t)shared % (unsigned)bytes || (read_bytes && (uintptr_t)global % (unsigned)bytes))
        dc_emu_thread_fails("misaligned asynchronous copy of %d bytes at %s:%d", bytes, file, line);
    dc_emu_copy *c = (dc_emu_copy *)malloc(sizeof *c);
    if (!c) abort();
    *c = dc_emu_copy{mine->first, mine->groups, bytes, read_bytes, shared, global};
    mine->first = c;
    w->n_copies++;
}

void dc_emu_cp_async_commit(void)
{
    dc_emu_worker *w = dc_emu_self;
    w->copies[w->current].groups++;
}

void dc_emu_cp_async_wait(int pending)
{
    dc_emu_worker *w = dc_emu_self;
    dc_emu_copies *mine = &w->copies[w->current];
    dc_emu_copy **p = &mine->first;
    while (*p) {
        dc_emu_copy *c = *p;
        if (c->group >= mine->groups - pending) {
            p = &c->next;
            continue;
        }
        memset(c->to, 0, (size_t)c->bytes);
        if (c->read_bytes) memcpy(c->to, c->from, (size_t)c->read_bytes);
        *p = c->next;
        free(c);
        w->n_copies--;
    }
}

void dc_emu_copies_forget(dc_emu_worker *w)
{
    for (int t = 0; t < w->n_threads && w->n_copies; t++)
        while (w->copies[t].first) {
            dc_emu_copy *c = w->copies[t].first;
            w->copies[t].first = c->next;
            free(c);
            w->n_copies--;
        }
}
