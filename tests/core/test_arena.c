/* tests/core/test_arena.c -- arenas, growing arrays, and the allocation that tests make fail. */
#include "core/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

static int all_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i]) return 0;
    return 1;
}

/* Sizes around the blocks' own; each piece is filled with its number, and all are looked at again at the end. */
static void pieces_are_aligned_zeroed_and_apart(void **unused)
{
    (void)unused;
    enum { N = 400 };
    dc_arena arena = {0};
    unsigned char *pieces[N];
    size_t sizes[N];
    for (size_t i = 0; i < N; i++) {
        sizes[i] = i % 50 == 49 ? 5000 * i : (i * 37) % 301;
        pieces[i] = dc_arena_alloc(&arena, sizes[i]);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        assert_true(all_zero(pieces[i], sizes[i]));
        memset(pieces[i], (int)(i % 255) + 1, sizes[i]);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < sizes[i]; k++) assert_int_equal(pieces[i][k], i % 255 + 1);
    dc_arena_release(&arena);
    dc_arena_release(&arena);
    assert_null(arena.last);
}

static void strings_end_with_zero(void **unused)
{
    (void)unused;
    dc_arena arena = {0};
    assert_string_equal(dc_arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(dc_arena_strdup(&arena, "teacher"), "teacher");
    assert_string_equal(dc_arena_strndup(&arena, NULL, 0), "");
    assert_memory_equal(dc_arena_strndup(&arena, "a\0b", 3), "a\0b", 4);
    dc_arena_release(&arena);
}

static void impossible_sizes_are_refused(void **unused)
{
    (void)unused;
    dc_arena arena = {0};
    assert_null(dc_arena_alloc(&arena, SIZE_MAX));
    assert_null(dc_arena_alloc(&arena, SIZE_MAX / 2));
    assert_null(dc_arena_strndup(&arena, "", SIZE_MAX));
    volatile size_t huge = SIZE_MAX;
    assert_null(dc_alloc_aligned(huge));
    assert_null(dc_calloc(huge / 2, 3));
    dc_arena_release(&arena);
    void *nothing[] = {dc_malloc(0), dc_calloc(0, 8), dc_alloc_aligned(0), dc_realloc(NULL, 0)};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(nothing[i]); /* NULL would read as out of memory */
        dc_free(nothing[i]);
    }
    dc_free(NULL);
}

static void aligned_memory_is_aligned(void **unused)
{
    (void)unused;
    for (size_t n = 1; n < 300; n += 13) {
        unsigned char *p = dc_alloc_aligned(n);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, n);
        dc_free(p);
    }
}

static void nth_allocation_fails_once(void **unused)
{
    (void)unused;
    dc_alloc_fail_at(3);
    void *a = dc_malloc(1), *b = dc_calloc(1, 1), *c = dc_alloc_aligned(1), *d = dc_strdup("d");
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_non_null(d);
    dc_alloc_fail_at(1);
    assert_null(dc_realloc(a, 100)); /* and a stays */
    dc_alloc_fail_at(1);
    dc_alloc_fail_at(0);
    void *e = dc_malloc(1);
    assert_non_null(e);
    dc_arena arena = {0};
    dc_alloc_fail_at(1);
    assert_null(dc_arena_alloc(&arena, 10));
    assert_non_null(dc_arena_alloc(&arena, 10));
    dc_alloc_fail_at(1);
    assert_null(dc_arena_alloc(&arena, 100000));
    assert_non_null(dc_arena_alloc(&arena, 10));
    dc_arena_release(&arena);
    dc_free(a), dc_free(b), dc_free(d), dc_free(e);
}

static void arrays_grow_and_survive_a_failure(void **unused)
{
    (void)unused;
    int64_t *items = NULL;
    size_t room = 0;
    for (size_t n = 0; n < 1000; n++) {
        if (n == room) {
            dc_alloc_fail_at(1);
            const size_t before = room;
            assert_int_equal(dc_grow(&items, n, &room, sizeof *items), -1);
            assert_int_equal(room, before);
        }
        assert_int_equal(dc_grow(&items, n, &room, sizeof *items), 0);
        assert_true(room > n);
        items[n] = (int64_t)n;
    }
    for (size_t n = 0; n < 1000; n++) assert_int_equal(items[n], n);
    size_t full = SIZE_MAX / 8;
    assert_int_equal(dc_grow(&items, full, &full, sizeof *items), -1);
    assert_int_equal(items[999], 999);
    dc_free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_zeroed_and_apart), cmocka_unit_test(strings_end_with_zero),
        cmocka_unit_test(impossible_sizes_are_refused),        cmocka_unit_test(aligned_memory_is_aligned),
        cmocka_unit_test(nth_allocation_fails_once),           cmocka_unit_test(arrays_grow_and_survive_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
