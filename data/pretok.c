/* data/pretok.c -- stages: building them and running them one after another. */
#include "data/pretok.h"

#include <string.h>

#include "core/arena.h"
#include "data/unicode.h"

/* ---- building ---- */

void dc_pretok_release(dc_pretok *p)
{
    for (size_t i = 0; i < p->n; i++) {
        dc_free(p->stages[i].pattern);
        dc_regex_free(p->stages[i].regex);
    }
    *p = (dc_pretok){0};
}

static int append(dc_pretok *p, const dc_stage *stage, const char *pattern, dc_error *err)
{
    if (p->n == DC_STAGES)
        return dc_fail(err, DC_EUNKNOWN, "a pre-tokenizer of more than %d stages is not supported", DC_STAGES);
    dc_stage *s = &p->stages[p->n];
    *s = *stage;
    if (pattern && !(s->pattern = dc_strdup(pattern))) return dc_fail_memory(err, strlen(pattern) + 1, "a pattern");
    p->n++;
    return DC_OK;
}

int dc_pretok_scan(dc_pretok *p, dc_scan scan, dc_error *err)
{
    return append(p, &(dc_stage){.kind = DC_STAGE_SCAN, .scan = scan}, NULL, err);
}

int dc_pretok_regex(dc_pretok *p, const char *pattern, dc_split behavior, int invert, dc_error *err)
{
    if (behavior == DC_SPLIT_ISOLATED && !invert)
        for (dc_scan scan = DC_SCAN_GPT2; scan <= DC_SCAN_QWEN35; scan++)
            if (!strcmp(pattern, dc_scan_pattern(scan))) return dc_pretok_scan(p, scan, err);
    int rc = append(p, &(dc_stage){.kind = DC_STAGE_REGEX, .behavior = behavior, .invert = invert}, pattern, err);
    if (rc == DC_OK) rc = dc_regex_new(&p->stages[p->n - 1].regex, pattern, p->old, err);
    return rc;
}

int dc_pretok_string(dc_pretok *p, const char *text, dc_split behavior, int invert, dc_error *err)
{
    return append(p, &(dc_stage){.kind = DC_STAGE_STRING, .behavior = behavior, .invert = invert}, text, err);
}

int dc_pretok_digits(dc_pretok *p, int individual, dc_error *err)
{
    const dc_split behavior = individual ? DC_SPLIT_ISOLATED : DC_SPLIT_CONTIGUOUS;
    return append(p, &(dc_stage){.kind = DC_STAGE_DIGITS, .behavior = behavior}, NULL, err);
}

int dc_pretok_prefix(dc_pretok *p, dc_error *err) { return append(p, &(dc_stage){.kind = DC_STAGE_PREFIX}, NULL, err); }

int dc_pretok_equal(const dc_pretok *a, const dc_pretok *b)
{
    if (a->n != b->n) return 0;
    for (size_t i = 0; i < a->n; i++) {
        const dc_stage *x = &a->stages[i], *y = &b->stages[i];
        if (x->kind != y->kind || x->scan != y->scan || x->behavior != y->behavior || x->invert != y->invert) return 0;
        if (!x->pattern != !y->pattern || (x->pattern && strcmp(x->pattern, y->pattern) != 0)) return 0;
    }
    return 1;
}

/* ---- running ---- */

void dc_pretok_work_release(dc_pretok_work *w)
{
    for (size_t i = 0; i < DC_STAGES; i++) {
        dc_str_release(&w->prefixed[i]);
        dc_free(w->pieces[i]);
    }
    dc_regex_work_free(w->regex);
    *w = (dc_pretok_work){0};
}

typedef struct run {
    const dc_pretok *p;
    dc_pretok_work *w;
    dc_word_fn emit;
    void *context;
    dc_error *err;
} run;

static int run_stage(const run *r, size_t stage, const char *text, size_t n, int64_t origin);

static int pass_on(const run *r, size_t stage, const char *text, size_t n, int64_t origin)
{
    if (n == 0) return DC_OK;
    if (stage + 1 < r->p->n) return run_stage(r, stage + 1, text, n, origin);
    return r->emit(r->context, text, n, origin);
}

static int add_piece(const run *r, size_t stage, size_t *count, size_t begin, size_t end, int match)
{
    dc_pretok_work *w = r->w;
    if (dc_grow(&w->pieces[stage], *count, &w->room[stage], sizeof *w->pieces[stage]))
        return dc_fail_memory(r->err, *count * sizeof *w->pieces[stage], "pieces of text");
    w->pieces[stage][(*count)++] = (struct dc_piece){begin, end, match};
    return DC_OK;
}

/* The next match of a stage's pattern from `from`: 1, 0 or an error code. */
static int next_match(const run *r, const dc_stage *s, const char *text, size_t n, size_t from, size_t *begin,
                      size_t *end)
{
    if (s->kind == DC_STAGE_REGEX) return dc_regex_next(s->regex, &r->w->regex, text, n, from, begin, end, r->err);
    if (s->kind == DC_STAGE_STRING) {
        const size_t length = strlen(s->pattern);
        const char *found = length ? memmem(text + from, n - from, s->pattern, length) : NULL;
        if (!found) return 0;
        *begin = (size_t)(found - text);
        *end = *begin + length;
        return 1;
    }
    const unsigned numbers = DC_UNI_NUMBER | (r->p->old ? 0 : DC_UNI_NUMBER17);
    const unsigned unknown = r->p->old ? DC_UNI_NEW : 0;
    for (size_t at = from, used; at < n; at += used) {
        uint32_t cp;
        used = dc_utf8_next(&cp, text + at);
        if (cp < 128 && (cp < '0' || cp > '9')) continue;
        const uint32_t word = dc_unicode(cp);
        if (!(word & numbers) || (word & unknown)) continue;
        *begin = at;
        *end = at + used;
        return 1;
    }
    return 0;
}

/* All matches and what stands between them, in order; with `invert` their roles change. */
static int find_pieces(const run *r, size_t stage, const char *text, size_t n, size_t *count)
{
    const dc_stage *s = &r->p->stages[stage];
    size_t done = 0, from = 0;
    int rc = DC_OK, found = 0;
    *count = 0;
    while (from <= n) {
        size_t begin, end;
        found = next_match(r, s, text, n, from, &begin, &end);
        if (found <= 0) break;
        if (begin > done) DC_TRY(add_piece(r, stage, count, done, begin, s->invert));
        DC_TRY(add_piece(r, stage, count, begin, end, !s->invert));
        done = from = end;
        if (end == begin) { /* an empty match only cuts: look for the next one behind the next code point */
            uint32_t cp;
            from += from < n ? dc_utf8_next(&cp, text + from) : 1;
        }
    }
    if (found < 0) return found;
    if (done < n) DC_TRY(add_piece(r, stage, count, done, n, s->invert));
done:
    return rc;
}

/* Joins pieces in place as the behavior says; returns how many remain. */
static size_t join_pieces(struct dc_piece *p, size_t n, dc_split behavior)
{
    size_t kept = 0;
    int before = 0; /* was the piece before a match? */
    if (behavior == DC_SPLIT_NEXT) {
        size_t last = n; /* written from the end: p[last..n) */
        for (size_t i = n; i-- > 0;) {
            const struct dc_piece piece = p[i];
            if (piece.match && !before && last < n) p[last].begin = piece.begin;
            else p[--last] = piece;
            before = piece.match;
        }
        memmove(p, p + last, (n - last) * sizeof *p);
        return n - last;
    }
    for (size_t i = 0; i < n; i++) {
        const struct dc_piece piece = p[i];
        const int join = kept > 0 && ((behavior == DC_SPLIT_PREVIOUS && piece.match && !before) ||
                                      (behavior == DC_SPLIT_CONTIGUOUS && piece.match == before));
        before = piece.match;
        if (behavior == DC_SPLIT_REMOVED && piece.match) continue;
        if (join) p[kept - 1].end = piece.end;
        else p[kept++] = piece;
    }
    return kept;
}

static int run_split(const run *r, size_t stage, const char *text, size_t n, int64_t origin)
{
    size_t count;
    int rc = find_pieces(r, stage, text, n, &count);
    if (rc != DC_OK) return rc;
    struct dc_piece *pieces = r->w->pieces[stage];
    if (count) count = join_pieces(pieces, count, r->p->stages[stage].behavior);
    for (size_t i = 0; i < count && rc == DC_OK; i++)
        rc = pass_on(r, stage, text + pieces[i].begin, pieces[i].end - pieces[i].begin,
                     origin + (int64_t)pieces[i].begin);
    return rc;
}

static int run_prefix(const run *r, size_t stage, const char *text, size_t n, int64_t origin)
{
    if (text[0] == ' ') return pass_on(r, stage, text, n, origin);
    dc_str *s = &r->w->prefixed[stage];
    dc_str_clear(s);
    dc_str_putc(s, ' ');
    dc_str_append(s, text, n);
    if (s->failed) {
        s->failed = 0;
        return dc_fail_memory(r->err, n + 2, "text");
    }
    return pass_on(r, stage, s->data, s->n, origin - 1);
}

static int run_stage(const run *r, size_t stage, const char *text, size_t n, int64_t origin)
{
    const dc_stage *s = &r->p->stages[stage];
    if (s->kind == DC_STAGE_PREFIX) return run_prefix(r, stage, text, n, origin);
    if (s->kind != DC_STAGE_SCAN) return run_split(r, stage, text, n, origin);
    int rc = DC_OK;
    for (size_t at = 0; at < n && rc == DC_OK;) {
        const size_t end = dc_scan_next(s->scan, r->p->old, text, n, at);
        rc = pass_on(r, stage, text + at, end - at, origin + (int64_t)at);
        at = end;
    }
    return rc;
}

int dc_pretok_run(const dc_pretok *p, dc_pretok_work *w, const char *text, size_t n, dc_word_fn emit, void *context,
                  dc_error *err)
{
    const run r = {p, w, emit, context, err};
    if (n == 0) return DC_OK;
    return p->n ? run_stage(&r, 0, text, n, 0) : emit(context, text, n, 0);
}
