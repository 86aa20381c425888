/* core/arena.h -- memory that is given back all at once.
 *
 * A dc_arena grows in blocks and suits parsing: strings and tables that live as long as their owner. Memory of a
 * training step is not from here: the plan lays it out (model/plan.h). Not thread-safe. */
#ifndef DC_CORE_ARENA_H
#define DC_CORE_ARENA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_arena {
    struct dc_arena_block *last; /* private */
} dc_arena;

/* A zeroed dc_arena is empty and ready. */

/* `bytes` bytes, 16-byte aligned, zeroed; NULL when memory is out. */
void *dc_arena_alloc(dc_arena *arena, size_t bytes);

/* A copy with a 0 behind it; NULL when memory is out. dc_arena_strdup takes a whole C string. */
char *dc_arena_strndup(dc_arena *arena, const char *text, size_t n);
char *dc_arena_strdup(dc_arena *arena, const char *text);

void dc_arena_release(dc_arena *arena); /* twice is safe */

/* Heap memory for everything else. All of decant's allocations pass here, so that tests can make the n-th one fail. Sizes of
 * dc_calloc are multiplied with a check. dc_free takes NULL. dc_alloc_aligned gives 64-byte aligned memory for kernels. */
void *dc_malloc(size_t bytes);
void *dc_calloc(size_t n, size_t bytes);
void *dc_realloc(void *old, size_t bytes);
void *dc_alloc_aligned(size_t bytes);
char *dc_strdup(const char *text);
void dc_free(void *memory);

/* For tests: the n-th allocation from now fails (1 is the next one), once; 0 switches that off. */
void dc_alloc_fail_at(long n);

/* Makes room in a growing array: *items (n used of *room) of `size` bytes each gets place for one more at least.
 * 0, or -1 when memory is out (the array is then as it was). */
int dc_grow(void *items, size_t n, size_t *room, size_t size);

#ifdef __cplusplus
}
#endif
#endif
