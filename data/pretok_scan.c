/* data/pretok_scan.c -- hand-written scanners for the patterns that most models use.
 *
 * Each equals its regular expression (dc_scan_pattern), which tests/data/test_pretok.c checks against PCRE2 on random text. The
 * classes that the patterns speak of partition the code points: letters, numbers, white space, and the rest. */
#include <string.h>

#include "data/pretok.h"
#include "data/unicode.h"

enum { L = 1, N = 2, S = 4, O = 8 };

static const uint8_t ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* 0x00 */
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O, /* 0x20 */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* 0x40 */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* 0x60 */
};

/* A text and how its code points are seen. */
typedef struct view {
    const char *text;
    size_t n;
    unsigned unknown; /* property bits that make a code point "the rest" */
    unsigned letters; /* property bits that make it a letter */
} view;

static unsigned wide_class(const view *v, size_t at, size_t *next)
{
    uint32_t cp;
    *next = at + dc_utf8_next(&cp, v->text + at);
    const uint32_t word = dc_unicode(cp);
    if (word & v->unknown) return O;
    if (word & v->letters) return L;
    if (word & DC_UNI_NUMBER) return N;
    return word & DC_UNI_SPACE ? S : O;
}

/* The class at `at`, 0 at the end; *next is the place behind the code point. */
static inline unsigned class_at(const view *v, size_t at, size_t *next)
{
    if (at >= v->n) return *next = at, 0;
    const unsigned char c = (unsigned char)v->text[at];
    if (c < 128) return *next = at + 1, ascii_class[c];
    return wide_class(v, at, next);
}

static inline size_t run_of(const view *v, unsigned classes, size_t at)
{
    size_t next;
    while (class_at(v, at, &next) & classes) at = next;
    return at;
}

/* 's 't 'm 'd 're 've 'll behind the apostrophe at `at`: the end, or 0. Ignoring case, an expression also takes U+017F, the long
 * s, for an s; llama.cpp does not. */
static size_t contraction(const view *v, size_t at, int fold, int long_s)
{
    const char *s = v->text + at;
    const size_t n = v->n - at;
    if (n < 2) return 0;
    const char lower = (char)(fold ? 0x20 : 0);
    const char a = (char)(s[1] | lower);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (n < 3) return 0;
    if (long_s && s[1] == '\xC5' && s[2] == '\xBF') return at + 3;
    const char b = (char)(s[2] | lower);
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? at + 3 : 0;
}

/* \s+(?!\S)|\s+ at white space: all of it, but the last one belongs to the word that follows. */
static size_t spaces(const view *v, size_t at)
{
    size_t end = at, last = at, next;
    while (class_at(v, end, &next) == S) last = end, end = next;
    return end < v->n && last > at ? last : end;
}

/* As spaces, with \s*[\r\n]+ before it: up to the last line end in the run, when there is one. */
static size_t lines_or_spaces(const view *v, size_t at)
{
    size_t end = at, last = at, line = 0, next;
    while (class_at(v, end, &next) == S) {
        if (v->text[end] == '\r' || v->text[end] == '\n') line = next;
        last = end, end = next;
    }
    if (line) return line;
    return end < v->n && last > at ? last : end;
}

static size_t next_gpt2(const view *v, size_t at)
{
    size_t next, unused;
    if (v->text[at] == '\'') {
        const size_t end = contraction(v, at, 0, 0);
        if (end) return end;
    }
    unsigned class = class_at(v, at, &next);
    if (v->text[at] == ' ') {
        class = class_at(v, at + 1, &unused);
        if (class & (L | N | O)) return run_of(v, class, at + 1);
        return spaces(v, at);
    }
    return class == S ? spaces(v, at) : run_of(v, class, next);
}

/* llama3, qwen2 and qwen35 differ in the longest number and in what is a letter. */
static size_t next_llama3(const view *v, size_t at, int digits, int long_s)
{
    size_t next, unused;
    const char c = v->text[at];
    if (c == '\'') {
        const size_t end = contraction(v, at, 1, long_s);
        if (end) return end;
    }
    const unsigned class = class_at(v, at, &next);
    if (class == L) return run_of(v, L, next);
    if (class == N) {
        while (--digits > 0 && class_at(v, next, &unused) == N) next = unused;
        return next;
    }
    const unsigned second = class_at(v, next, &unused);
    if (second == L && c != '\r' && c != '\n') return run_of(v, L, next);
    if (class == O || (c == ' ' && second == O)) {
        size_t end = run_of(v, O, next);
        while (end < v->n && (v->text[end] == '\r' || v->text[end] == '\n')) end++;
        return end;
    }
    return lines_or_spaces(v, at);
}

size_t dc_scan_next(dc_scan scan, int old, const char *text, size_t n, size_t at)
{
    const view v = {text, n, old ? DC_UNI_NEW : 0,
                    scan == DC_SCAN_QWEN35 ? DC_UNI_LETTER | DC_UNI_MARK : DC_UNI_LETTER};
    if (scan == DC_SCAN_GPT2) return next_gpt2(&v, at);
    return next_llama3(&v, at, scan == DC_SCAN_LLAMA3 ? 3 : 1, !old);
}

const char *dc_scan_pattern(dc_scan scan)
{
    switch (scan) {
    case DC_SCAN_GPT2: return "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    case DC_SCAN_LLAMA3:
        return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    case DC_SCAN_QWEN2:
        return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    case DC_SCAN_QWEN35:
        return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
               "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    case DC_SCAN_NONE: break;
    }
    return "";
}
