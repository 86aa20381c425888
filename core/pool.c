/* core/pool.c */
#include "core/pool.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What dc_pool_set_threads asked for; 0 is the default. */
static atomic_int wanted;

static int default_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    const long n = text ? strtol(text, NULL, 10) : 0; /* of a list "4,2" the outer level */
    if (n > 0 && n <= 65536) return (int)n;
    /* OMP_PROC_BIND ties this thread to one core, which is then all that sched_getaffinity sees; and it fails where there
     * are more cores than a cpu_set_t holds. OpenMP knows better in both cases. */
    cpu_set_t cores;
    const int procs = omp_get_num_procs(), here = sched_getaffinity(0, sizeof cores, &cores) ? 1 : CPU_COUNT(&cores);
    return here > procs ? here : procs;
}

int dc_pool_threads(void)
{
    const int n = atomic_load_explicit(&wanted, memory_order_relaxed);
    return n > 0 ? n : default_threads();
}

void dc_pool_set_threads(int n)
{
    atomic_store(&wanted, n > 0 ? n : 0);
    omp_set_num_threads(dc_pool_threads()); /* the GEMM libraries ask OpenMP */
}

void dc_pool_for(int64_t n, void (*fn)(void *context, int64_t i), void *context)
{
    /* All regions ask for the same number of threads, also those with less work: a team that shrinks and grows is
     * made anew each time. */
    const int threads = n > 1 && !omp_in_parallel() ? dc_pool_threads() : 1;
    if (threads == 1) {
        for (int64_t i = 0; i < n; i++) fn(context, i);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < n; i++) fn(context, i);
}

void dc_pool_each(void (*fn)(void *context, int64_t t), void *context)
{
    const int threads = omp_in_parallel() ? 1 : dc_pool_threads();
    if (threads == 1) {
        fn(context, 0);
        return;
    }
#pragma omp parallel num_threads(threads)
    fn(context, omp_get_thread_num());
}
