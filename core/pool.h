/* core/pool.h -- the one thread pool: OpenMP's, which the GEMM libraries share. */
#ifndef DC_CORE_POOL_H
#define DC_CORE_POOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Threads a parallel region gets: OMP_NUM_THREADS, else the cores this process may run on (sched_getaffinity). */
int dc_pool_threads(void);
/* For tests and the command line; 0 restores the default. */
void dc_pool_set_threads(int n);

/* Calls fn(context, i) for each i in [0, n), by whichever threads are free. What fn(i) computes must depend on i alone;
 * then the result does not depend on the number of threads. Within fn another dc_pool_for runs in its own thread. */
void dc_pool_for(int64_t n, void (*fn)(void *context, int64_t i), void *context);

/* Calls fn(context, t) once in each of dc_pool_threads() threads, t in [0, that): for work that threads fetch for themselves, each with
 * memory of its own. There may be fewer threads, one at least: within a dc_pool_for, or where the system grants no more. */
void dc_pool_each(void (*fn)(void *context, int64_t t), void *context);

#ifdef __cplusplus
}
#endif
#endif
