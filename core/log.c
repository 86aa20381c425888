/* core/log.c */
#include "core/log.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/str.h"

static atomic_int level_now = DC_LOG_WARN;

/* Guards stderr, bar_shown and the progress that is drawn. */
static pthread_mutex_t screen = PTHREAD_MUTEX_INITIALIZER;
static int bar_shown;

enum { STAGE_COLUMN = 10, BAR_CELLS = 24, NARROW_BAR_CELLS = 10, NARROW = 70, WIDTH_UNKNOWN = 80 };

static void bar_clear(void)
{
    if (bar_shown) fputs("\r\x1b[K", stderr);
    bar_shown = 0;
}

void dc_log_set_level(dc_log_level level) { atomic_store(&level_now, (int)level); }

void dc_log(dc_log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&level_now)) return;
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&screen);
    bar_clear();
    if (level == DC_LOG_ERROR) fputs("error: ", stderr);
    if (level == DC_LOG_WARN) fputs("warning: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    pthread_mutex_unlock(&screen);
    va_end(args);
}

static int terminal_width(void)
{
    struct winsize size;
    return !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col > 0 ? size.ws_col : WIDTH_UNKNOWN;
}

/* Blocks of an eighth of a cell: U+2588 is full, U+2589 is seven eighths, down to U+258F for one. */
static void put_bar(dc_str *line, double share, int cells)
{
    const int eighths = (int)(share * cells * 8);
    for (int c = 0; c < cells; c++) {
        const int in_cell = eighths - 8 * c;
        char block[4];
        if (in_cell > 0) dc_str_append(line, block, dc_utf8_encode(block, 0x2588 + (in_cell < 8 ? 8 - in_cell : 0)));
        else dc_str_putc(line, ' ');
    }
}

/* Cuts text to `columns` code points: a line that wraps could not be cleared. */
static void cut(dc_str *line, int columns)
{
    size_t at = 0;
    for (int32_t cp; at < line->n && columns > 0; columns--) at += dc_utf8_decode(&cp, line->data + at, line->n - at);
    if (at < line->n) line->n = at, line->data[at] = 0;
}

static void bar_line(dc_str *line, const dc_progress *p, const char *note, double rate, const char *rate_unit,
                     double now)
{
    static const char dot[] = " \xc2\xb7 ";
    const int width = terminal_width();
    char text[32];
    dc_str_putf(line, "%-*s", STAGE_COLUMN, p->stage);
    if (p->total > 0) {
        const double share = fmin(fmax((double)p->done / (double)p->total, 0), 1);
        put_bar(line, share, width < NARROW ? NARROW_BAR_CELLS : BAR_CELLS);
        dc_str_putf(line, " %3d %%", (int)(share * 100));
    } else {
        dc_str_puts(line, dc_human_count(text, sizeof text, p->done));
    }
    if (note && *note) dc_str_putf(line, "  %s", note);
    if (rate_unit && rate < 9.95) dc_str_putf(line, "%s%.1f %s", dot, rate, rate_unit);
    else if (rate_unit && rate < 1e15)
        dc_str_putf(line, "%s%s %s", dot, dc_human_count(text, sizeof text, (int64_t)llround(rate)), rate_unit);
    if (p->total > 0 && p->done > 0 && p->done < p->total) {
        const double left = (now - p->started) / (double)p->done * (double)(p->total - p->done);
        dc_str_putf(line, "%s%s left", dot, dc_human_time(text, sizeof text, left));
    }
    cut(line, width - 1);
}

void dc_progress_begin(dc_progress *p, const char *stage, int64_t total)
{
    const double now = dc_now();
    *p = (dc_progress){.stage = stage, .total = total, .started = now, .drawn = now - 1};
}

void dc_progress_update(dc_progress *p, int64_t done, const char *note, double rate, const char *rate_unit)
{
    const double now = dc_now();
    pthread_mutex_lock(&screen);
    p->done = done;
    if (now - p->drawn >= 0.1 && atomic_load(&level_now) >= DC_LOG_INFO && isatty(STDERR_FILENO)) {
        dc_str line = {0};
        bar_line(&line, p, note, rate, rate_unit, now);
        if (!line.failed) {
            fprintf(stderr, "\r%s\x1b[K", dc_str_text(&line));
            bar_shown = 1;
        }
        dc_str_release(&line);
        p->drawn = now;
    }
    pthread_mutex_unlock(&screen);
}

void dc_progress_end(dc_progress *p)
{
    (void)p;
    pthread_mutex_lock(&screen);
    bar_clear();
    pthread_mutex_unlock(&screen);
}

double dc_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* VmHWM rather than getrusage: ru_maxrss begins with the size of the process that forked this one. */
int64_t dc_peak_rss(void)
{
    long long kb = -1;
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");
    while (status && kb < 0 && fgets(line, sizeof line, status))
        if (!strncmp(line, "VmHWM:", 6)) kb = strtoll(line + 6, NULL, 10);
    if (status) fclose(status);
    if (kb >= 0) return kb * 1024;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (int64_t)usage.ru_maxrss * 1024;
}
