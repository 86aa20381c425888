/* tests/core/test_pool.c -- each index once, the same bits with any number of threads, and how many there are. */
#include "core/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 1000 };

typedef struct visits {
    atomic_int count[N];
    atomic_int largest_team;
} visits;

static void visit(void *context, int64_t i)
{
    visits *v = context;
    atomic_fetch_add(&v->count[i], 1);
    const int team = omp_get_num_threads();
    if (team > atomic_load(&v->largest_team)) atomic_store(&v->largest_team, team);
}

static void each_index_once_by_the_threads_asked_for(void **unused)
{
    (void)unused;
    for (int threads = 1; threads <= 3; threads++) {
        static visits v;
        memset(&v, 0, sizeof v);
        dc_pool_set_threads(threads);
        assert_int_equal(dc_pool_threads(), threads);
        assert_int_equal(omp_get_max_threads(), threads); /* what the GEMM libraries see */
        dc_pool_for(N, visit, &v);
        dc_pool_for(0, visit, &v);
        dc_pool_for(-5, visit, &v);
        for (size_t i = 0; i < N; i++) assert_int_equal(atomic_load(&v.count[i]), 1);
        assert_int_equal(atomic_load(&v.largest_team), threads);
    }
    dc_pool_set_threads(0);
}

/* A sum of a thousand roundings for each i: only its own order decides its bits. */
static void harmonic(void *context, int64_t i)
{
    float *out = context, sum = 0;
    for (int k = 1; k < 1000; k++) sum += 1.0f / (float)(k + i);
    out[i] = sum;
}

static void same_bits_with_any_number_of_threads(void **unused)
{
    (void)unused;
    static float one[N], other[N];
    dc_pool_set_threads(1);
    dc_pool_for(N, harmonic, one);
    for (int threads = 2; threads <= 3; threads++) {
        memset(other, 0, sizeof other);
        dc_pool_set_threads(threads);
        dc_pool_for(N, harmonic, other);
        assert_memory_equal(one, other, sizeof one);
    }
    dc_pool_set_threads(0);
}

typedef struct nest {
    atomic_int total, strangers;
} nest;

typedef struct inner_call {
    nest *n;
    int thread, level;
} inner_call;

static void inner(void *context, int64_t i)
{
    inner_call *c = context;
    (void)i;
    atomic_fetch_add(&c->n->total, 1);
    if (omp_get_thread_num() != c->thread || omp_get_level() != c->level) atomic_fetch_add(&c->n->strangers, 1);
}

static void outer(void *context, int64_t i)
{
    inner_call c = {context, omp_get_thread_num(), omp_get_level()};
    (void)i;
    dc_pool_for(50, inner, &c);
}

static void an_inner_loop_stays_in_its_thread(void **unused)
{
    (void)unused;
    nest n = {0};
    dc_pool_set_threads(3);
    dc_pool_for(20, outer, &n);
    assert_int_equal(atomic_load(&n.total), 1000);
    assert_int_equal(atomic_load(&n.strangers), 0);
    dc_pool_set_threads(0);
}

static void inner_once(void *context, int64_t t)
{
    nest *n = context;
    atomic_fetch_add(&n->total, 1);
    if (t != 0) atomic_fetch_add(&n->strangers, 1);
}

static void call_on(void *context, int64_t t)
{
    visits *v = context;
    assert_int_equal(t, omp_get_thread_num());
    visit(v, t);
}

static void each_from_within(void *context, int64_t i)
{
    (void)i;
    nest *n = context;
    dc_pool_each(inner_once, n);
}

static void each_thread_once(void **unused)
{
    (void)unused;
    for (int threads = 1; threads <= 3; threads++) {
        static visits v;
        nest n = {0};
        memset(&v, 0, sizeof v);
        dc_pool_set_threads(threads);
        dc_pool_each(call_on, &v);
        for (int t = 0; t < N; t++) assert_int_equal(atomic_load(&v.count[t]), t < threads);
        dc_pool_for(20, each_from_within, &n);
        assert_int_equal(atomic_load(&n.total), 20);
        assert_int_equal(atomic_load(&n.strangers), 0);
    }
    dc_pool_set_threads(0);
}

/* dc_pool_threads() of this program started anew with a variable set (NULL: none) and on `cores`: OpenMP looks at both
 * once, when it starts. */
static int threads_of_a_new_process(const char *variable, const char *value, const cpu_set_t *cores)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        char path[] = "/proc/self/exe", count[] = "count", *arguments[] = {path, count, NULL};
        unsetenv("OMP_NUM_THREADS");
        unsetenv("OMP_PROC_BIND");
        if (variable) setenv(variable, value, 1);
        if (!sched_setaffinity(0, sizeof *cores, cores)) execv(path, arguments);
        _exit(255);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void default_is_the_environment_then_the_affinity(void **unused)
{
    (void)unused;
    cpu_set_t all, one;
    size_t first = 0;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    const int cores = CPU_COUNT(&all);
    assert_int_equal(threads_of_a_new_process("OMP_NUM_THREADS", "3", &one), 3);
    assert_int_equal(threads_of_a_new_process("OMP_NUM_THREADS", "2,4", &all), 2);
    assert_int_equal(threads_of_a_new_process("OMP_NUM_THREADS", "zero", &all), cores);
    assert_int_equal(threads_of_a_new_process(NULL, NULL, &all), cores);
    assert_int_equal(threads_of_a_new_process(NULL, NULL, &one), 1);
    assert_int_equal(threads_of_a_new_process("OMP_PROC_BIND", "true", &all), cores);
    dc_pool_set_threads(7);
    assert_int_equal(dc_pool_threads(), 7);
    dc_pool_set_threads(0);
    assert_int_not_equal(dc_pool_threads(), 7);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) return dc_pool_threads();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_index_once_by_the_threads_asked_for),
        cmocka_unit_test(same_bits_with_any_number_of_threads),
        cmocka_unit_test(an_inner_loop_stays_in_its_thread),
        cmocka_unit_test(each_thread_once),
        cmocka_unit_test(default_is_the_environment_then_the_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
