/* core/error.h -- how decant reports what the outside world did wrong.
 *
 * A function that can fail because of a file, a recipe, memory or a device returns DC_OK or a negative code and fills
 * the dc_error that is its last argument. The argument may be NULL, and is untouched on success. Our own bugs are not
 * errors: they are DC_ASSERTs, which stay on in release builds and never judge the contents of a file. Only cli/
 * prints or exits. */
#ifndef DC_CORE_ERROR_H
#define DC_CORE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_code {
    DC_OK = 0,
    DC_ENOMEM = -1,    /* memory ran out, or the plan does not fit */
    DC_EIO = -2,       /* the operating system refused; the message has its reason */
    DC_EFORMAT = -3,   /* a file is not what it claims to be */
    DC_EUNKNOWN = -4,  /* a name we do not support; the message names it and what we do support */
    DC_EMISMATCH = -5, /* two inputs that do not belong together */
    DC_ESTOPPED = -6,  /* a signal asked us to stop, and we did at a safe place */
    DC_EUSAGE = -7,    /* a recipe or command line that cannot be obeyed */
    DC_ENUMERIC = -8   /* a number that must be finite is not */
} dc_code;

typedef struct dc_error {
    dc_code code;
    char message[1024]; /* place, expected, found, what to do; several lines for several recipe errors */
} dc_error;

/* Fills err (if not NULL) and returns code. The first error wins: a filled err is left alone, so that cleaning up
 * after a failure cannot hide its cause. */
int dc_fail(dc_error *err, dc_code code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* The common failure: no memory for `bytes` bytes of `what`. */
int dc_fail_memory(dc_error *err, unsigned long long bytes, const char *what);

/* An operating-system failure on `path`: "cannot WHAT PATH: strerror(errno)". Reads errno. */
int dc_fail_errno(dc_error *err, const char *what, const char *path);

/* Puts "PREFIX: " before the message of a filled err; used by callers that know the place (a row, a step). */
void dc_error_prefix(dc_error *err, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Forwards a failure to this function's single exit label. Needs an `int rc` and a label `done`. */
#define DC_TRY(call) \
    do { \
        rc = (call); \
        if (rc != DC_OK) goto done; \
    } while (0)

/* Our own bugs: prints place and condition to stderr and aborts, in every build. */
#define DC_ASSERT(condition) ((condition) ? (void)0 : dc_assert_failed(#condition, __FILE__, __LINE__))
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void dc_assert_failed(const char *condition, const char *file, int line);

#ifdef __cplusplus
}
#define DC_RESTRICT __restrict__
#else
#define DC_RESTRICT restrict
#endif
#endif
