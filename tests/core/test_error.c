/* tests/core/test_error.c -- the first error wins, and says what happened. */
#include "core/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

static void first_error_wins(void **unused)
{
    (void)unused;
    dc_error err = {0};
    assert_int_equal(dc_fail(&err, DC_EFORMAT, "row %d is short", 7), DC_EFORMAT);
    assert_int_equal(dc_fail(&err, DC_EIO, "cannot clean up"), DC_EIO);
    assert_int_equal(err.code, DC_EFORMAT);
    assert_string_equal(err.message, "row 7 is short");
    assert_int_equal(dc_fail(NULL, DC_EIO, "nobody listens"), DC_EIO);
}

static void prefix_goes_before_and_long_ones_are_cut(void **unused)
{
    (void)unused;
    dc_error err = {0};
    dc_error_prefix(&err, "nothing to prefix");
    assert_string_equal(err.message, "");
    dc_fail(&err, DC_EFORMAT, "short row");
    dc_error_prefix(&err, "%s:%d", "a.jsonl", 3);
    assert_string_equal(err.message, "a.jsonl:3: short row");
    char name[2000];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    dc_error_prefix(&err, "%s", name); /* a long place is cut, the cause stays */
    assert_string_equal(err.message + strlen(err.message) - 11, ": short row");
    for (int i = 0; i < 8; i++) dc_error_prefix(&err, "%s", name);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    dc_error_prefix(NULL, "nobody");
}

static void errno_is_told(void **unused)
{
    (void)unused;
    dc_error err = {0};
    errno = ENOENT;
    assert_int_equal(dc_fail_errno(&err, "open", "a/b"), DC_EIO);
    assert_string_equal(err.message, "cannot open a/b: No such file or directory");
    err = (dc_error){0};
    errno = ENOSPC;
    dc_fail_errno(&err, "write", "a/b");
    assert_string_equal(err.message, "cannot write a/b: the disk is full");
    err = (dc_error){0};
    assert_int_equal(dc_fail_memory(&err, 12, "rows"), DC_ENOMEM);
    assert_string_equal(err.message, "no memory for 12 bytes of rows");
}

static int leaves_early(int code, int *cleaned, int *reached)
{
    int rc = DC_OK;
    DC_TRY(code);
    *reached = 1;
done:
    *cleaned = 1;
    return rc;
}

static void try_leaves_by_the_exit(void **unused)
{
    (void)unused;
    int cleaned = 0, reached = 0;
    assert_int_equal(leaves_early(DC_EUSAGE, &cleaned, &reached), DC_EUSAGE);
    assert_true(cleaned && !reached);
    assert_int_equal(leaves_early(DC_OK, &cleaned, &reached), DC_OK);
    assert_true(reached);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_wins),
        cmocka_unit_test(prefix_goes_before_and_long_ones_are_cut),
        cmocka_unit_test(errno_is_told),
        cmocka_unit_test(try_leaves_by_the_exit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
