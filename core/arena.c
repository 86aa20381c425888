/* core/arena.c */
#include "core/arena.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Allocations until the one that a test wants to fail; 0 is off. */
static atomic_long fail_at;

/* No object may be larger than PTRDIFF_MAX; such a size is a wrapped one. */
static int must_fail(size_t bytes)
{
    if (bytes > PTRDIFF_MAX) return 1;
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) <= 0) return 0;
    return atomic_fetch_sub(&fail_at, 1) == 1;
}

void dc_alloc_fail_at(long n) { atomic_store(&fail_at, n); }

/* A size of 0 gives a pointer too: NULL always means that memory is out. */
void *dc_malloc(size_t bytes) { return must_fail(bytes) ? NULL : malloc(bytes ? bytes : 1); }

void *dc_calloc(size_t n, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(n, bytes, &all) || must_fail(all)) return NULL;
    return calloc(1, all ? all : 1);
}

void *dc_realloc(void *old, size_t bytes) { return must_fail(bytes) ? NULL : realloc(old, bytes ? bytes : 1); }

void *dc_alloc_aligned(size_t bytes)
{
    return must_fail(bytes) ? NULL : aligned_alloc(64, bytes ? (bytes + 63) & ~(size_t)63 : 64);
}

char *dc_strdup(const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = dc_malloc(n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

void dc_free(void *memory) { free(memory); }

int dc_grow(void *items, size_t n, size_t *room, size_t size)
{
    if (n < *room) return 0;
    const size_t more = n < 8 ? 8 : n + n / 2 + 1;
    size_t bytes;
    if (more <= n || __builtin_mul_overflow(more, size, &bytes)) return -1;
    void *old, *grown;
    memcpy(&old, items, sizeof old); /* items points to a pointer of the caller's type */
    if (!(grown = dc_realloc(old, bytes))) return -1;
    memcpy(items, &grown, sizeof grown);
    *room = more;
    return 0;
}

/* The bytes that follow the header are handed out; both are multiples of 16. */
struct dc_arena_block {
    struct dc_arena_block *before;
    size_t used, room;
};

enum { HEADER = (sizeof(struct dc_arena_block) + 15) & ~15u, FIRST_BLOCK = 4096, LARGEST_BLOCK = 1 << 20 };

static struct dc_arena_block *block_new(size_t room)
{
    if (room > SIZE_MAX - HEADER) return NULL;
    struct dc_arena_block *b = dc_calloc(1, HEADER + room);
    if (b) b->room = room;
    return b;
}

void *dc_arena_alloc(dc_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = bytes ? (bytes + 15) & ~(size_t)15 : 16;
    struct dc_arena_block *last = arena->last;
    if (!last || last->room - last->used < bytes) {
        size_t room = last ? 2 * last->room : FIRST_BLOCK;
        if (room > LARGEST_BLOCK) room = LARGEST_BLOCK;
        const int large = bytes > room / 4;
        struct dc_arena_block *b = block_new(large ? bytes : room);
        if (!b) return NULL;
        if (large && last) { /* a block of its own, so that the rest of the last one stays in use */
            b->before = last->before;
            last->before = b;
        } else {
            b->before = last;
            arena->last = b;
        }
        last = b;
    }
    void *memory = (char *)last + HEADER + last->used;
    last->used += bytes;
    return memory;
}

char *dc_arena_strndup(dc_arena *arena, const char *text, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *copy = dc_arena_alloc(arena, n + 1);
    if (copy && n) memcpy(copy, text, n);
    return copy;
}

char *dc_arena_strdup(dc_arena *arena, const char *text) { return dc_arena_strndup(arena, text, strlen(text)); }

void dc_arena_release(dc_arena *arena)
{
    for (struct dc_arena_block *b = arena->last; b;) {
        struct dc_arena_block *before = b->before;
        dc_free(b);
        b = before;
    }
    arena->last = NULL;
}
