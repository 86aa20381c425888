/* data/read_json.c -- JSON Lines by lines; other JSON by finding where each value ends, so that a large array streams. */
#include <string.h>

#include "data/reader_internal.h"

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static int blank(const dc_str *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (!is_space(s->data[i])) return 0;
    return 1;
}

int dc_read_jsonl(dc_reader *r, dc_error *err)
{
    dc_reader_fresh(r);
    for (;;) {
        const int rc = dc_reader_fill(r, err);
        if (rc) return rc;
        const char *end = r->n ? memchr(r->p, '\n', r->n) : NULL;
        const size_t n = end ? (size_t)(end - r->p) : r->n;
        dc_reader_keep(r, r->p, n);
        r->p += end ? n + 1 : n;
        r->n -= end ? n + 1 : n;
        if (!end && !r->drained) continue;
        r->line += end || r->text.n || r->too_long;
        if (!blank(&r->text) || r->too_long) return dc_reader_parse(r, r->line, 0, err);
        if (r->drained) return DC_OK;
        dc_reader_fresh(r);
    }
}

/* Where the scanner stands between values. */
enum { AT_START, BEFORE_VALUE, IN_VALUE, AFTER_VALUE, AT_END };

/* Takes the value's bytes from p[0..n): how many belong to it. *ended: it is complete. `begun`: some of it was taken before. A bracket or comma
 * that begins nothing is a value of its own, so that each call moves on. */
static size_t scan_value(dc_json_scan *s, const char *p, size_t n, int begun, int *ended)
{
    *ended = 1;
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        if (s->in_string) {
            if (s->escaped) s->escaped = 0;
            else if (c == '\\') s->escaped = 1;
            else if (c == '"') s->in_string = 0;
            if (!s->in_string && s->depth == 0) return i + 1;
        } else if (c == '"') {
            s->in_string = 1;
        } else if (c == '{' || c == '[') {
            s->depth++;
        } else if ((c == '}' || c == ']') && s->depth > 0) {
            if (--s->depth == 0) return i + 1;
        } else if (s->depth == 0 && (c == '}' || c == ']' || c == ',' || is_space(c))) {
            return i || begun || (c == ',' && s->array) ? i : 1; /* the end of a number or a word */
        }
    }
    *ended = 0;
    return n;
}

/* Between values: whitespace, commas, the array's brackets. Sets r->json.state; a bad row may be made of what should not be there. */
static int between(dc_reader *r, dc_error *err)
{
    dc_json_scan *s = &r->json;
    const char c = *r->p;
    if (is_space(c)) {
        r->p++, r->n--;
    } else if (s->state == AT_START && c == '[') {
        s->array = 1;
        s->state = BEFORE_VALUE;
        r->p++, r->n--;
    } else if (s->array && s->state != AT_END && c == ']') {
        s->state = AT_END;
        r->p++, r->n--;
    } else if (s->array && s->state == AFTER_VALUE && c == ',') {
        s->state = BEFORE_VALUE;
        r->p++, r->n--;
    } else {
        const int wrong = s->array && s->state == AFTER_VALUE, behind = s->state == AT_END;
        s->state = IN_VALUE;
        s->depth = s->in_string = s->escaped = 0;
        dc_reader_fresh(r);
        if (behind) s->array = 0;
        if (wrong || behind)
            return dc_reader_bad(
                r, wrong ? "expected ',' or ']' behind this item" : "something stands behind the array's end", 0,
                r->item, err);
    }
    return DC_OK;
}

int dc_read_json(dc_reader *r, dc_error *err)
{
    dc_json_scan *s = &r->json;
    for (;;) {
        int rc = dc_reader_fill(r, err);
        if (rc) return rc;
        if (r->drained) {
            const int state = s->state;
            s->state = AT_END;
            if (state == IN_VALUE && (s->depth || s->in_string)) {
                return dc_reader_bad(r, "the file ends inside of this item", 0, ++r->item, err);
            }
            if (state == IN_VALUE) {
                if (s->array) s->state = AFTER_VALUE; /* told next */
                return dc_reader_parse(r, 0, ++r->item, err);
            }
            if (s->array && state != AT_END)
                return dc_reader_bad(r, "the file ends before the array's ']'", 0, r->item, err);
            return DC_OK;
        }
        if (s->state != IN_VALUE) {
            rc = between(r, err);
            if (rc || r->record.kind != DC_READ_END) return rc;
            continue;
        }
        int ended;
        const size_t n = scan_value(s, r->p, r->n, r->text.n || r->too_long, &ended);
        dc_reader_keep(r, r->p, n);
        r->p += n;
        r->n -= n;
        if (!ended) continue;
        s->state = AFTER_VALUE;
        return dc_reader_parse(r, 0, ++r->item, err);
    }
}
