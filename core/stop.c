/* core/stop.c -- a thread of its own waits for the signals; nobody else is ever interrupted by one.
 *
 * A handler would run on the stack of whichever thread the kernel picks, and GEMM libraries' generated code keeps values below the stack
 * pointer (oneDNN 2.6's sgemm beyond the red zone): a handler in the middle of a product tramples its pointers. */
#include "core/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int requested;

static sigset_t watched(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* Ends the process as an interrupt does that nobody waits for. */
static void give_in(void)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    signal(SIGINT, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL);
    raise(SIGINT);
}

static void *watch(void *unused)
{
    (void)unused;
    const sigset_t set = watched();
    for (int interrupts = 0;;) {
        int number, none = 0;
        if (sigwait(&set, &number)) continue;
        atomic_compare_exchange_strong(&requested, &none, number); /* the first one is the reason */
        if (number == SIGINT && interrupts++) give_in();
    }
    return NULL;
}

void dc_stop_install(void)
{
    static int installed;
    const sigset_t set = watched();
    pthread_t thread;
    if (installed || pthread_sigmask(SIG_BLOCK, &set, NULL)) return;
    installed = pthread_create(&thread, NULL, watch, NULL) == 0;
    if (installed) pthread_detach(thread);
    else pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* a signal then ends the process, as a kill does */
}

int dc_stop_requested(void) { return atomic_load_explicit(&requested, memory_order_relaxed); }

void dc_stop_request(int signal_number) { atomic_store(&requested, signal_number); }

static const char *name_of(int number)
{
    switch (number) {
    case SIGTERM: return "SIGTERM";
    case SIGINT: return "SIGINT";
    case SIGUSR1: return "SIGUSR1";
    default: return NULL;
    }
}

int dc_stop_check(const char *what, dc_error *err)
{
    const int number = dc_stop_requested();
    if (!number) return DC_OK;
    const char *name = name_of(number);
    if (!name) return dc_fail(err, DC_ESTOPPED, "stopped by signal %d during %s", number, what);
    return dc_fail(err, DC_ESTOPPED, "stopped by %s during %s", name, what);
}
