/* tests/core/test_log.c -- lines and bars as a pipe and as a terminal sees them. */
#include "core/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* What stderr was sent, while it is led elsewhere. */
typedef struct capture {
    int saved, reader;
    char text[8192];
} capture;

static void capture_begin(capture *c, int reader, int writer)
{
    fflush(stderr);
    c->saved = dup(STDERR_FILENO);
    c->reader = reader;
    assert_true(dup2(writer, STDERR_FILENO) >= 0);
    close(writer);
}

/* A '@' ends what is read: a terminal hands on its text in pieces of its own choice. */
static void capture_end(capture *c)
{
    size_t n = 0;
    fputc('@', stderr);
    fflush(stderr);
    while (n + 1 < sizeof c->text && (n == 0 || c->text[n - 1] != '@')) {
        struct pollfd wait = {.fd = c->reader, .events = POLLIN};
        if (poll(&wait, 1, 5000) != 1) break;
        const ssize_t got = read(c->reader, c->text + n, sizeof c->text - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    dup2(c->saved, STDERR_FILENO);
    close(c->saved);
    close(c->reader);
    assert_true(n > 0 && c->text[n - 1] == '@');
    c->text[n - 1] = 0;
}

static void pipe_begin(capture *c)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    capture_begin(c, ends[0], ends[1]);
}

/* 0 when this machine gives no terminal. */
static int terminal_begin(capture *c, unsigned short columns)
{
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) return 0;
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) return 0;
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    ioctl(slave, TIOCSWINSZ, &size);
    capture_begin(c, master, slave);
    return 1;
}

static void levels_and_prefixes(void **unused)
{
    (void)unused;
    capture c;
    pipe_begin(&c);
    dc_log(DC_LOG_INFO, "hidden by default");
    dc_log(DC_LOG_WARN, "%d rows rejected", 12);
    dc_log(DC_LOG_ERROR, "no");
    dc_log_set_level(DC_LOG_INFO);
    dc_log(DC_LOG_INFO, "prepare   done");
    dc_log(DC_LOG_DEBUG, "hidden");
    dc_log_set_level(DC_LOG_WARN);
    capture_end(&c);
    assert_string_equal(c.text, "warning: 12 rows rejected\nerror: no\nprepare   done\n");
}

static void no_bar_in_a_pipe(void **unused)
{
    (void)unused;
    capture c;
    dc_progress p;
    pipe_begin(&c);
    dc_log_set_level(DC_LOG_INFO);
    dc_progress_begin(&p, "train", 400);
    dc_progress_update(&p, 256, "step 256/400", 9120, "tok/s");
    dc_progress_end(&p);
    dc_log_set_level(DC_LOG_WARN);
    capture_end(&c);
    assert_string_equal(c.text, "");
    assert_int_equal(p.done, 256);
}

static void bar_of(capture *c, unsigned short columns, int64_t done, int64_t total, const char *note)
{
    dc_progress p;
    if (!terminal_begin(c, columns)) skip();
    dc_log_set_level(DC_LOG_INFO);
    dc_progress_begin(&p, "train", total);
    p.started -= 64;
    dc_progress_update(&p, done, note, 9120, "tok/s");
    dc_progress_update(&p, done, "too soon to be drawn", 9120, "tok/s");
    dc_log(DC_LOG_INFO, "a line");
    dc_progress_end(&p);
    dc_log_set_level(DC_LOG_WARN);
    capture_end(c);
}

#define FULL "\xe2\x96\x88"
#define FOUR FULL FULL FULL FULL
static void bar_on_a_terminal(void **unused)
{
    (void)unused;
    capture c;
    /* 64 % of 24 cells is 15 whole ones and 2 eighths of the next, U+258E; 64 s for 256 steps leave 36 for 144. */
    bar_of(&c, 200, 256, 400, "step 256/400");
    assert_string_equal(c.text, "\rtrain     " FOUR FOUR FOUR FULL FULL FULL "\xe2\x96\x8e          64 %  step 256/400"
                                " \xc2\xb7 9,120 tok/s \xc2\xb7 0:36 left\x1b[K\r\x1b[Ka line\r\n");
    bar_of(&c, 200, 400, 400, NULL);
    assert_string_equal(c.text, "\rtrain     " FOUR FOUR FOUR FOUR FOUR FOUR
                                " 100 % \xc2\xb7 9,120 tok/s\x1b[K\r\x1b[Ka line\r\n");
    bar_of(&c, 200, 12345, 0, "rows");
    assert_string_equal(c.text, "\rtrain     12,345  rows \xc2\xb7 9,120 tok/s\x1b[K\r\x1b[Ka line\r\n");
}

static void bar_fits_the_terminal(void **unused)
{
    (void)unused;
    capture c;
    for (unsigned short columns = 8; columns < 100; columns++) {
        bar_of(&c, columns, 256, 400, "step 256/400 \xc2\xb7 loss 0.412 (kd 0.371 ce 0.453)");
        const char *end = strstr(c.text, "\x1b[K");
        assert_non_null(end);
        size_t shown = 0;
        for (const char *t = c.text + 1; t < end; t++) shown += ((unsigned char)*t & 0xc0) != 0x80;
        assert_true(shown < columns);
        assert_true(columns > 90 || shown == columns - 1u);
    }
}

static void clock_and_memory(void **unused)
{
    (void)unused;
    const double before = dc_now();
    usleep(2000);
    const double gone = dc_now() - before;
    assert_true(gone >= 0.002 && gone < 10);
    const int64_t rss = dc_peak_rss();
    assert_true(rss > 500000);
    enum { MORE = 64 << 20 };
    char *memory = malloc(MORE);
    memset(memory, 1, MORE);
    assert_true(dc_peak_rss() >= rss + MORE / 2);
    assert_int_equal(memory[MORE / 2], 1);
    free(memory);
    assert_true(dc_peak_rss() >= rss + MORE / 2); /* the peak stays */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_and_prefixes), cmocka_unit_test(no_bar_in_a_pipe),
        cmocka_unit_test(bar_on_a_terminal),   cmocka_unit_test(bar_fits_the_terminal),
        cmocka_unit_test(clock_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
