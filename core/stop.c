/* core/stop.c */
#include "core/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

/* Lock-free, so that a handler may touch them. */
static atomic_int requested, interrupts;

static void on_signal(int number)
{
    int none = 0;
    atomic_compare_exchange_strong(&requested, &none, number); /* the first one is the reason */
    if (number == SIGINT && atomic_fetch_add(&interrupts, 1) > 0) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* delivered when this handler returns */
    }
}

void dc_stop_install(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) sigaction(numbers[i], &action, NULL);
}

int dc_stop_requested(void) { return atomic_load_explicit(&requested, memory_order_relaxed); }

void dc_stop_request(int signal_number)
{
    atomic_store(&requested, signal_number);
    atomic_store(&interrupts, 0);
}

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
