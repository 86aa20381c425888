/* core/stop.h -- the flag that SIGTERM, SIGINT and SIGUSR1 set and every long loop polls. */
#ifndef DC_CORE_STOP_H
#define DC_CORE_STOP_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Before any other thread begins (cli only): blocks the three signals for good, for all threads to come, and leaves them to a thread that
 * waits for them, so that no computation is ever interrupted by a handler. A second SIGINT ends the process at once. Again: nothing. */
void dc_stop_install(void);
/* The signal that asked, or 0. Cheap. */
int dc_stop_requested(void);
/* For tests: asks as a signal would; 0 takes it back. */
void dc_stop_request(int signal_number);
/* DC_OK, or DC_ESTOPPED with "stopped by SIGTERM during WHAT". */
int dc_stop_check(const char *what, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
