/* tests/core/test_stop.c -- signals set the flag, the first one is the reason, a second SIGINT ends the process. */
#include "core/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void requests_are_told(void **unused)
{
    (void)unused;
    dc_error err = {0};
    assert_int_equal(dc_stop_check("train", &err), DC_OK);
    assert_int_equal(err.code, DC_OK);
    dc_stop_request(SIGTERM);
    assert_int_equal(dc_stop_requested(), SIGTERM);
    assert_int_equal(dc_stop_check("train", &err), DC_ESTOPPED);
    assert_string_equal(err.message, "stopped by SIGTERM during train");
    assert_int_equal(dc_stop_check("train", NULL), DC_ESTOPPED);
    err = (dc_error){0};
    dc_stop_request(SIGHUP);
    dc_stop_check("teach", &err);
    assert_string_equal(err.message, "stopped by signal 1 during teach");
    dc_stop_request(0);
    assert_int_equal(dc_stop_requested(), 0);
}

static void signals_arrive(void **unused)
{
    (void)unused;
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    static const char *const names[] = {"SIGTERM", "SIGINT", "SIGUSR1"};
    dc_stop_install();
    for (size_t i = 0; i < 3; i++) {
        dc_error err = {0};
        raise(numbers[i]);
        raise(SIGUSR1); /* comes later, is not the reason */
        assert_int_equal(dc_stop_requested(), numbers[i]);
        dc_stop_check("x", &err);
        assert_non_null(strstr(err.message, names[i]));
        dc_stop_request(0);
    }
}

/* The exit status of a child that gets `first` and then `second`; it leaves with 5 when it survives. */
static int fate(int first, int second)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(10); /* a handler that raises for ever must not hang the tests */
        dc_stop_install();
        raise(first);
        if (dc_stop_requested() != first) _exit(1);
        raise(second);
        _exit(5);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void second_interrupt_ends(void **unused)
{
    (void)unused;
    int status = fate(SIGINT, SIGINT);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    status = fate(SIGTERM, SIGTERM);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    status = fate(SIGTERM, SIGINT);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_told),
        cmocka_unit_test(signals_arrive),
        cmocka_unit_test(second_interrupt_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
