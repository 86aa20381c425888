/* core/error.c */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dc_fail(dc_error *err, dc_code code, const char *format, ...)
{
    if (err && err->code == DC_OK) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->code = code;
    }
    return code;
}

int dc_fail_memory(dc_error *err, unsigned long long bytes, const char *what)
{
    return dc_fail(err, DC_ENOMEM, "no memory for %llu bytes of %s", bytes, what);
}

int dc_fail_errno(dc_error *err, const char *what, const char *path)
{
    const int code = errno;
    if (code == ENOSPC) return dc_fail(err, DC_EIO, "cannot %s %s: the disk is full", what, path);
    return dc_fail(err, DC_EIO, "cannot %s %s: %s", what, path, strerror(code));
}

void dc_error_prefix(dc_error *err, const char *format, ...)
{
    if (!err || err->code == DC_OK) return;
    char place[256];
    va_list args;
    va_start(args, format);
    vsnprintf(place, sizeof place, format, args);
    va_end(args);
    const size_t room = sizeof err->message - 1, head = strlen(place) + 2, rest = strlen(err->message);
    const size_t kept = head + rest > room ? room - head : rest;
    memmove(err->message + head, err->message, kept);
    memcpy(err->message, place, head - 2);
    memcpy(err->message + head - 2, ": ", 2);
    err->message[head + kept] = 0;
}

void dc_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "decant: a bug in decant itself: %s:%d: '%s' does not hold. Please report it.\n", file, line,
            condition);
    abort();
}
