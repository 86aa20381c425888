/* core/str.c */
#include "core/str.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/error.h"

/* Place for n more bytes and the 0 behind them. */
static int reserve(dc_str *s, size_t n)
{
    if (s->failed) return -1;
    if (n >= SIZE_MAX / 2 - s->n) {
        s->failed = 1;
        return -1;
    }
    if (s->n + n < s->room) return 0;
    size_t room = s->room < 32 ? 32 : s->room * 2;
    if (room < s->n + n + 1) room = s->n + n + 1;
    char *data = dc_realloc(s->data, room);
    if (!data) {
        s->failed = 1;
        return -1;
    }
    s->data = data;
    s->room = room;
    return 0;
}

void dc_str_append(dc_str *s, const void *bytes, size_t n)
{
    if (reserve(s, n)) return;
    if (n) memcpy(s->data + s->n, bytes, n);
    s->n += n;
    s->data[s->n] = 0;
}

void dc_str_puts(dc_str *s, const char *text) { dc_str_append(s, text, strlen(text)); }

void dc_str_putc(dc_str *s, char c) { dc_str_append(s, &c, 1); }

void dc_str_putf(dc_str *s, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    if (n < 0) {
        s->failed = 1;
    } else if (!reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->n, (size_t)n + 1, format, again);
        s->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void dc_str_clear(dc_str *s)
{
    s->n = 0;
    if (s->data) s->data[0] = 0;
}

void dc_str_release(dc_str *s)
{
    dc_free(s->data);
    *s = (dc_str){0};
}

const char *dc_str_text(const dc_str *s) { return s->data ? s->data : ""; }

/* Unicode 15, table 3-7: the first byte tells how many follow and narrows the range of the second, which keeps out
 * overlong forms, surrogates, and what lies beyond U+10FFFF. */
size_t dc_utf8_decode(int32_t *cp, const char *text, size_t n)
{
    const unsigned char *b = (const unsigned char *)text;
    const unsigned first = b[0];
    unsigned low = 0x80, high = 0xbf;
    size_t length;
    *cp = -1;
    if (first < 0x80) {
        *cp = (int32_t)first;
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) length = 2;
    else if (first >= 0xe0 && first <= 0xef) length = 3;
    else if (first >= 0xf0 && first <= 0xf4) length = 4;
    else return 1;
    if (first == 0xe0) low = 0xa0;
    else if (first == 0xed) high = 0x9f;
    else if (first == 0xf0) low = 0x90;
    else if (first == 0xf4) high = 0x8f;
    unsigned value = first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xbf) {
        if (i >= n || b[i] < low || b[i] > high) return i;
        value = value << 6 | (b[i] & 0x3fu);
    }
    *cp = (int32_t)value;
    return length;
}

size_t dc_utf8_encode(char out[4], int32_t cp)
{
    DC_ASSERT(cp >= 0 && cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff));
    const unsigned c = (unsigned)cp;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) out[i] = (char)(0x80u | ((c >> (6 * (length - 1 - i))) & 0x3fu));
    out[0] = (char)(((0xf00u >> length) & 0xffu) | c >> (6 * (length - 1)));
    return length;
}

int dc_utf8_valid(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint64_t eight;
        if (n - i >= sizeof eight && (memcpy(&eight, text + i, sizeof eight), !(eight & 0x8080808080808080u))) {
            i += sizeof eight;
            continue;
        }
        int32_t cp;
        i += dc_utf8_decode(&cp, text + i, n - i);
        if (cp < 0) return 0;
    }
    return 1;
}

enum { NAME_MAX_LETTERS = 64 };

static size_t min2(size_t a, size_t b) { return a < b ? a : b; }

/* Insertions, deletions, substitutions and swaps of neighbours that make b of a (optimal string alignment). Rows i - 2, i - 1 and i
 * of the table take turns. */
static size_t edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][NAME_MAX_LETTERS + 1];
    for (size_t j = 0; j <= nb; j++) rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            now[j] = min2(before[j - 1] + (a[i - 1] != b[j - 1]), min2(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = min2(now[j], two_before[j - 2] + 1);
        }
    }
    return rows[na % 3][nb];
}

const char *dc_nearest(const char *name, const char *const *names)
{
    const size_t n = strlen(name);
    const char *best = NULL;
    size_t best_distance = NAME_MAX_LETTERS;
    if (n > NAME_MAX_LETTERS) return NULL;
    for (; *names; names++) {
        const size_t m = strlen(*names);
        if (m > NAME_MAX_LETTERS) continue;
        const size_t distance = edit_distance(name, n, *names, m);
        if (distance < best_distance && 3 * distance <= (n > m ? n : m)) {
            best_distance = distance;
            best = *names;
        }
    }
    return best;
}

char *dc_human_count(char *out, size_t room, int64_t n)
{
    char digits[24], text[32];
    const int length =
        snprintf(digits, sizeof digits, "%llu", n < 0 ? 0 - (unsigned long long)n : (unsigned long long)n);
    size_t k = 0;
    if (n < 0) text[k++] = '-';
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[k++] = ',';
        text[k++] = digits[i];
    }
    text[k] = 0;
    snprintf(out, room, "%s", text);
    return out;
}

char *dc_human_bytes(char *out, size_t room, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    if (!isfinite(bytes)) {
        snprintf(out, room, "?");
        return out;
    }
    /* The limits are where rounding would show 1000 or 100.0. */
    while (fabs(bytes) >= 999.5 && unit + 1 < sizeof units / sizeof *units) bytes /= 1000, unit++;
    snprintf(out, room, "%.*f %s", unit > 0 && fabs(bytes) < 99.95, bytes, units[unit]);
    return out;
}

char *dc_human_time(char *out, size_t room, double seconds)
{
    if (!(seconds < 1e12)) { /* also nan */
        snprintf(out, room, "?");
        return out;
    }
    const long long s = seconds > 0 ? llround(seconds) : 0;
    if (s < 3600) snprintf(out, room, "%lld:%02lld", s / 60, s % 60);
    else snprintf(out, room, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return out;
}
