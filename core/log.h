/* core/log.h -- what decant says while it works: log lines and progress bars, on stderr.
 *
 * Lines are whole sentences or `stage  state  figures` as in a run's screen. A bar is drawn only on a terminal (rate, time
 * left), at most ten times a second, and is taken away before a line is printed; elsewhere nothing is drawn, and the stage's
 * summary line is all there is. Warnings and errors begin with "warning: " and "error: ". Thread-safe; quiet in tests unless switched on. */
#ifndef DC_CORE_LOG_H
#define DC_CORE_LOG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_log_level { DC_LOG_ERROR, DC_LOG_WARN, DC_LOG_INFO, DC_LOG_DEBUG } dc_log_level;

/* Default: DC_LOG_WARN. The program sets DC_LOG_INFO. */
void dc_log_set_level(dc_log_level level);
void dc_log(dc_log_level level, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* A stage's progress. `stage` is padded to the screen's first column ("train"). total 0: unknown. One at a time. */
typedef struct dc_progress {
    const char *stage;
    int64_t total, done;
    double started, drawn; /* seconds of dc_now() */
} dc_progress;

void dc_progress_begin(dc_progress *p, const char *stage, int64_t total);
/* `note` (may be NULL) is the part behind the percentage: "step 256/400 - loss 0.412". `rate_unit` "tok/s" or NULL with
 * `rate` gives the rate. */
void dc_progress_update(dc_progress *p, int64_t done, const char *note, double rate, const char *rate_unit);
void dc_progress_end(dc_progress *p); /* clears the bar; the caller logs the stage's summary line */

/* Seconds from a fixed point, monotonic. */
double dc_now(void);
/* Peak resident memory of this process so far, in bytes. */
int64_t dc_peak_rss(void);

#ifdef __cplusplus
}
#endif
#endif
