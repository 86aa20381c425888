/* tests/core/test_hash.c -- XXH3-128 by its published values, in pieces, of files, and framing of texts. */
#include "core/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/stop.h"

static dc_hash of(const char *text) { return dc_hash_bytes(text, strlen(text)); }

/* The published XXH3-128 values of these texts with seed 0, in canonical form: the high half first. */
static void known_values(void **unused)
{
    (void)unused;
    assert_string_equal(of("").hex, "99aa06d3014798d86001c324468d497f");
    assert_string_equal(dc_hash_bytes(NULL, 0).hex, "99aa06d3014798d86001c324468d497f");
    assert_string_equal(of("a").hex, "a96faf705af16834e6c632b61e964e1f");
    assert_string_equal(of("abc").hex, "06b05ab6733a618578af5f94892f3950");
}

static void pieces_make_the_whole(void **unused)
{
    (void)unused;
    enum { N = 5000 };
    static unsigned char bytes[N];
    for (size_t i = 0; i < N; i++) bytes[i] = (unsigned char)(i * i + 3 * i);
    for (size_t n = 0; n <= N; n += n < 260 ? 1 : 317) {
        dc_hasher *h = dc_hasher_new();
        assert_non_null(h);
        for (size_t at = 0, step = 1; at < n; at += step, step = step * 2 + 1)
            dc_hasher_add(h, bytes + at, step < n - at ? step : n - at);
        const dc_hash pieces = dc_hasher_get(h), again = dc_hasher_get(h), whole = dc_hash_bytes(bytes, n);
        assert_true(dc_hash_equal(&pieces, &whole));
        assert_true(dc_hash_equal(&again, &whole)); /* looking changes nothing */
        dc_hasher_free(h);
    }
}

static dc_hash of_two(const char *a, const char *b)
{
    dc_hasher *h = dc_hasher_new();
    dc_hasher_add_text(h, a);
    dc_hasher_add_text(h, b);
    const dc_hash hash = dc_hasher_get(h);
    dc_hasher_free(h);
    return hash;
}

static void texts_are_kept_apart_and_integers_are_little_endian(void **unused)
{
    (void)unused;
    const dc_hash a = of_two("ab", "c"), b = of_two("a", "bc"), framed = dc_hash_bytes("ab\0c", 5);
    assert_false(dc_hash_equal(&a, &b));
    assert_true(dc_hash_equal(&a, &framed));
    dc_hasher *h = dc_hasher_new();
    dc_hasher_add_i64(h, -2);
    dc_hasher_add_i64(h, 0x0102030405060708);
    const dc_hash two = dc_hasher_get(h);
    const dc_hash bytes = dc_hash_bytes("\xfe\xff\xff\xff\xff\xff\xff\xff\x08\x07\x06\x05\x04\x03\x02\x01", 16);
    assert_true(dc_hash_equal(&two, &bytes));
    dc_hasher_free(h);
}

static void files(void **unused)
{
    (void)unused;
    char path[] = "/tmp/decant_hash_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    enum { N = (1 << 20) + 12345 }; /* more than one chunk */
    unsigned char *bytes = calloc(1, N);
    for (size_t i = 0; i < N; i++) bytes[i] = (unsigned char)(i >> 3);
    assert_int_equal(write(fd, bytes, N), N);
    close(fd);
    dc_hash hash;
    dc_error err = {0};
    assert_int_equal(dc_hash_file(&hash, path, &err), DC_OK);
    const dc_hash whole = dc_hash_bytes(bytes, N);
    assert_true(dc_hash_equal(&hash, &whole));
    dc_stop_request(SIGTERM);
    assert_int_equal(dc_hash_file(&hash, path, &err), DC_ESTOPPED);
    dc_stop_request(0);
    for (long at = 1; at <= 2; at++) {
        err = (dc_error){0};
        dc_alloc_fail_at(at);
        assert_int_equal(dc_hash_file(&hash, path, &err), DC_ENOMEM);
    }
    dc_alloc_fail_at(0);
    unlink(path);
    free(bytes);
    err = (dc_error){0};
    assert_int_equal(dc_hash_file(&hash, path, &err), DC_EIO);
    assert_non_null(strstr(err.message, path));
    err = (dc_error){0};
    assert_int_equal(dc_hash_file(&hash, "/tmp", &err), DC_EIO);
    dc_hasher_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(pieces_make_the_whole),
        cmocka_unit_test(texts_are_kept_apart_and_integers_are_little_endian),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
