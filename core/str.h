/* core/str.h -- a growing string, and small work on text. */
#ifndef DC_CORE_STR_H
#define DC_CORE_STR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Owned bytes, always followed by a 0 that n does not count; may hold other zeros. A zeroed dc_str is the empty string
 * (data NULL). When memory runs out an append sets `failed` and later appends do nothing, so one check at the end of a
 * sequence suffices. */
typedef struct dc_str {
    char *data;
    size_t n, room;
    int failed;
} dc_str;

void dc_str_append(dc_str *s, const void *bytes, size_t n);
void dc_str_puts(dc_str *s, const char *text);
void dc_str_putc(dc_str *s, char c);
void dc_str_putf(dc_str *s, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
void dc_str_clear(dc_str *s);             /* n = 0; memory and `failed` stay */
void dc_str_release(dc_str *s);           /* twice is safe */
const char *dc_str_text(const dc_str *s); /* never NULL */

/* UTF-8: decodes one code point of text[0..n), n > 0; returns the bytes used. An invalid sequence gives *cp = -1 and the
 * length of its maximal ill-formed part (Unicode 15, section 3.9, "best practice" of U+FFFD substitution). */
size_t dc_utf8_decode(int32_t *cp, const char *text, size_t n);
/* Writes the 1 to 4 bytes of a scalar value to out; returns how many. */
size_t dc_utf8_encode(char out[4], int32_t cp);
/* 1 when all of text is valid UTF-8. */
int dc_utf8_valid(const char *text, size_t n);

/* The nearest of `names` (NULL-ended) by Damerau-Levenshtein distance, or NULL when none is near (more than a third of
 * the letters wrong). For "did you mean". */
const char *dc_nearest(const char *name, const char *const *names);

/* "1,234,567" into out (32 bytes suffice); returns out. dc_human_bytes: "4.2 GB", powers of 1000.
 * dc_human_time: "0:31", "1:02:45". */
char *dc_human_count(char *out, size_t room, int64_t n);
char *dc_human_bytes(char *out, size_t room, double bytes);
char *dc_human_time(char *out, size_t room, double seconds);

#ifdef __cplusplus
}
#endif
#endif
