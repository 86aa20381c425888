/* tests/core/test_stop.c -- signals set the flag, the first one is the reason, a second SIGINT ends the process. */
#include "core/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/pool.h"

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

/* Sends a signal as another process would, and waits until it is the reason; 0 when that takes more than seconds. */
static int arrives(int number)
{
    kill(getpid(), number);
    for (int i = 0; i < 5000 && dc_stop_requested() != number; i++) usleep(1000);
    return dc_stop_requested() == number;
}

static void signals_arrive(void **unused)
{
    (void)unused;
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    static const char *const names[] = {"SIGTERM", "SIGINT", "SIGUSR1"};
    dc_stop_install();
    for (size_t i = 0; i < 3; i++) {
        dc_error err = {0};
        assert_true(arrives(numbers[i]));
        kill(getpid(), SIGUSR1); /* comes later, is not the reason */
        usleep(20000);
        assert_int_equal(dc_stop_requested(), numbers[i]);
        dc_stop_check("x", &err);
        assert_non_null(strstr(err.message, names[i]));
        dc_stop_request(0);
    }
}

static int is_blocked(int number)
{
    sigset_t set;
    return pthread_sigmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, number);
}

static void note_blocked(void *context, int64_t i)
{
    ((int *)context)[i] = is_blocked(SIGTERM) && is_blocked(SIGINT) && is_blocked(SIGUSR1);
}

/* No thread that computes can be interrupted, and none has a handler to run. */
static void computing_is_left_alone(void **unused)
{
    (void)unused;
    int blocked[64] = {0};
    struct sigaction action;
    dc_stop_install();
    dc_pool_set_threads(4);
    dc_pool_for(64, note_blocked, blocked);
    dc_pool_set_threads(0);
    for (int i = 0; i < 64; i++) assert_true(blocked[i]);
    assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
}

/* The exit status of a child that gets `first` and then `second`; it leaves with 5 when it survives. */
static int fate(int first, int second)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(10); /* what does not end must not hang the tests */
        dc_stop_install();
        if (!arrives(first)) _exit(1);
        kill(getpid(), second);
        usleep(300000);
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
        cmocka_unit_test(second_interrupt_ends), /* first: its children begin without the thread */
        cmocka_unit_test(requests_are_told),
        cmocka_unit_test(signals_arrive),
        cmocka_unit_test(computing_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
