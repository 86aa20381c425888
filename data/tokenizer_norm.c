/* data/tokenizer_norm.c -- Unicode normalization, with the place where each byte came from.
 *
 * Most text is normalized already: it is looked through at the speed of a table lookup and not copied. What is not goes through
 * utf8proc piece by piece, cut before code points that normalization leaves alone and joins to nothing (data/unicode.h). */
#include <string.h>
#include <utf8proc.h>

#include "data/tokenizer_impl.h"
#include "data/unicode.h"

static uint32_t safe_bit(int form) { return (uint32_t)DC_UNI_NFC << form; }

/* How far text is certainly in the form: the place of the last safe code point before the first unsafe one, or n. */
size_t dc_normal_span(const char *text, size_t n, int form)
{
    const uint32_t safe = safe_bit(form);
    size_t at = 0, last = 0;
    while (at < n) {
        uint64_t eight;
        while (at + 8 <= n && (memcpy(&eight, text + at, 8), !(eight & 0x8080808080808080u))) at += 8, last = at - 1;
        if (at >= n) break;
        uint32_t cp;
        const size_t used = dc_utf8_next(&cp, text + at);
        if (!(dc_unicode(cp) & safe)) return last;
        last = at;
        at += used;
    }
    return n;
}

/* The end of the piece that begins at `at`: before the next safe code point behind the unsafe ones. */
static size_t piece_end(const char *text, size_t n, size_t at, uint32_t safe)
{
    uint32_t cp;
    at += dc_utf8_next(&cp, text + at);
    while (at < n) {
        const size_t used = dc_utf8_next(&cp, text + at);
        if (dc_unicode(cp) & safe) break;
        at += used;
    }
    return at;
}

static void put(dc_str *out, dc_ids *origins, const char *bytes, size_t n, size_t at, int moves, const int32_t *from)
{
    dc_str_append(out, bytes, n);
    if (!origins) return;
    for (size_t i = 0; i < n; i++) {
        const size_t place = moves ? at + i : at;
        dc_ids_push(origins, from ? from[place] : (int32_t)place);
    }
}

static int put_piece(dc_str *out, dc_ids *origins, const char *text, size_t begin, size_t end, int form,
                     const int32_t *from, dc_error *err)
{
    static const int options[] = {UTF8PROC_STABLE | UTF8PROC_COMPOSE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                  UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    const utf8proc_option_t option = (utf8proc_option_t)options[form];
    const size_t n = end - begin;
    utf8proc_int32_t small[256], *cps = small;
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)text + begin, (utf8proc_ssize_t)n, small, 255, option);
    if (count > 255) {
        cps = dc_malloc(((size_t)count + 1) * sizeof *cps);
        if (!cps) return dc_fail_memory(err, (size_t)count * sizeof *cps, "normalized text");
        count = utf8proc_decompose((const utf8proc_uint8_t *)text + begin, (utf8proc_ssize_t)n, cps, count, option);
    }
    int rc = DC_OK;
    const utf8proc_ssize_t bytes = count < 0 ? count : utf8proc_reencode(cps, count, option);
    if (bytes < 0) rc = dc_fail(err, DC_EFORMAT, "normalizing failed at byte %zu: %s", begin, utf8proc_errmsg(bytes));
    else if ((size_t)bytes == n && !memcmp(cps, text + begin, n)) put(out, origins, text + begin, n, begin, 1, from);
    else put(out, origins, (const char *)cps, (size_t)bytes, begin, 0, from);
    if (cps != small) dc_free(cps);
    return rc;
}

int dc_normalize_form(dc_str *out, dc_ids *origins, const char *text, size_t n, const int32_t *from, int form,
                      dc_error *err)
{
    const uint32_t safe = safe_bit(form);
    for (size_t at = 0; at < n;) {
        uint32_t cp;
        size_t span = dc_normal_span(text + at, n - at, form);
        if (at + span < n) { /* a piece begins there; of an inert code point it takes only what follows */
            const size_t used = dc_utf8_next(&cp, text + at + span);
            if (dc_unicode(cp) & DC_UNI_INERT) span += used;
        }
        put(out, origins, text + at, span, at, 1, from);
        at += span;
        if (at >= n) break;
        const size_t end = piece_end(text, n, at, safe);
        const int rc = put_piece(out, origins, text, at, end, form, from, err);
        if (rc != DC_OK) return rc;
        at = end;
    }
    if (out->failed || (origins && origins->failed)) return dc_fail_memory(err, out->room, "normalized text");
    return DC_OK;
}

int dc_normalize(const dc_tokenizer *t, dc_encoder *e, const char *text, size_t n, int track, const char **out,
                 size_t *n_out, const int32_t **origins, dc_error *err)
{
    *out = text;
    *n_out = n;
    *origins = NULL;
    for (int i = 0; i < t->n_forms; i++) {
        if (dc_normal_span(*out, *n_out, t->forms[i]) == *n_out) continue;
        dc_str *s = &e->normal[i & 1];
        dc_ids *o = &e->origins[i & 1];
        dc_str_clear(s);
        o->n = 0;
        s->failed = o->failed = 0;
        const int rc = dc_normalize_form(s, track ? o : NULL, *out, *n_out, *origins, t->forms[i], err);
        if (rc != DC_OK) return rc;
        *out = dc_str_text(s);
        *n_out = s->n;
        if (track) *origins = o->data;
    }
    return DC_OK;
}
