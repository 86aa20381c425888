/* data/tokenizer_added.c -- finding added tokens in text. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_impl.h"
#include "data/unicode.h"

static int by_text(const void *a, const void *b)
{
    const struct dc_needle *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->text, y->text, n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

int dc_added_build(dc_added *a, const dc_tokenizer *t, int normalized, dc_error *err)
{
    size_t count = 0;
    for (int64_t id = 0; id < t->size; id++) {
        const unsigned f = t->tokens[id].flags;
        count += (f & DC_TOKEN_ADDED) && !(f & DC_TOKEN_NORMALIZED) == !normalized && t->tokens[id].n > 0;
    }
    if (count && !(a->items = dc_malloc(count * sizeof *a->items)))
        return dc_fail_memory(err, count * sizeof *a->items, "added tokens");
    for (int64_t id = 0; id < t->size; id++) {
        const dc_token *token = &t->tokens[id];
        if (!(token->flags & DC_TOKEN_ADDED) || !(token->flags & DC_TOKEN_NORMALIZED) != !normalized || token->n == 0)
            continue;
        struct dc_needle needle = {token->text, token->n, (int32_t)id};
        if (normalized && t->n_forms) { /* looked for in normalized text, so its own text is normalized too */
            dc_encoder e = {0};
            const char *text;
            const int32_t *origins;
            int rc = dc_normalize(t, &e, token->text, token->n, 0, &text, &needle.n, &origins, err);
            if (rc == DC_OK && !(needle.text = dc_arena_strndup((dc_arena *)&t->arena, text, needle.n)))
                rc = dc_fail_memory(err, needle.n, "added tokens");
            dc_str_release(&e.normal[0]);
            dc_str_release(&e.normal[1]);
            if (rc != DC_OK) return rc;
        }
        a->items[a->n++] = needle;
    }
    if (a->n) qsort(a->items, a->n, sizeof *a->items, by_text);
    size_t at = 0;
    for (size_t b = 0; b <= 256; b++) {
        while (at < a->n && (unsigned char)a->items[at].text[0] < b) at++;
        a->first[b] = at;
    }
    return DC_OK;
}

void dc_added_release(dc_added *a)
{
    dc_free(a->items);
    *a = (dc_added){0};
}

/* Narrows the range of items that agree with text[at..] byte by byte: the index of the longest one that fits, or -1. */
static int64_t longest_at(const dc_added *a, const char *text, size_t n, size_t at)
{
    const unsigned char first = (unsigned char)text[at];
    size_t low = a->first[first], high = a->first[first + 1];
    int64_t best = -1;
    for (size_t depth = 1; low < high; depth++) {
        if (a->items[low].n == depth) best = (int64_t)low++;  /* the shortest of a range stands first */
        while (low < high && a->items[low].n == depth) low++; /* the same text under another id */
        if (at + depth >= n) break;
        const unsigned char byte = (unsigned char)text[at + depth];
        size_t l = low, r = high; /* the first item whose next byte is not below */
        while (l < r) {
            const size_t m = (l + r) / 2;
            if ((unsigned char)a->items[m].text[depth] < byte) l = m + 1;
            else r = m;
        }
        low = l;
        r = high;
        while (l < r) {
            const size_t m = (l + r) / 2;
            if ((unsigned char)a->items[m].text[depth] <= byte) l = m + 1;
            else r = m;
        }
        high = l;
    }
    return best;
}

static int is_word_before(const char *text, size_t at)
{
    if (at == 0) return 0;
    uint32_t cp;
    do at--;
    while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80);
    dc_utf8_next(&cp, text + at);
    return (dc_unicode(cp) & DC_UNI_WORD) != 0;
}

static int is_word_after(const char *text, size_t n, size_t at)
{
    uint32_t cp;
    if (at >= n) return 0;
    dc_utf8_next(&cp, text + at);
    return (dc_unicode(cp) & DC_UNI_WORD) != 0;
}

/* Not before `limit`, be that behind `at`. */
static size_t strip_before(const char *text, size_t at, size_t limit)
{
    if (at < limit) return limit;
    while (at > limit) {
        size_t before = at;
        uint32_t cp;
        do before--;
        while (before > limit && ((unsigned char)text[before] & 0xC0) == 0x80);
        dc_utf8_next(&cp, text + before);
        if (!(dc_unicode(cp) & DC_UNI_SPACE)) break;
        at = before;
    }
    return at;
}

static size_t strip_after(const char *text, size_t n, size_t at)
{
    while (at < n) {
        uint32_t cp;
        const size_t used = dc_utf8_next(&cp, text + at);
        if (!(dc_unicode(cp) & DC_UNI_SPACE)) break;
        at += used;
    }
    return at;
}

int dc_added_next(const dc_added *a, const dc_tokenizer *t, int plain, const char *text, size_t n, size_t done,
                  size_t from, struct dc_found *found)
{
    if (a->n == 0) return 0;
    for (size_t at = from; at < n; at++) {
        const unsigned char byte = (unsigned char)text[at];
        if (a->first[byte] == a->first[byte + 1]) continue;
        const int64_t item = longest_at(a, text, n, at);
        if (item < 0) continue;
        const size_t end = at + a->items[item].n;
        const unsigned flags = t->tokens[a->items[item].id].flags;
        const int alone = !is_word_before(text, at) && !is_word_after(text, n, end);
        if ((plain && (flags & DC_TOKEN_IS_SPECIAL)) || ((flags & DC_TOKEN_SINGLE_WORD) && !alone)) {
            at = end - 1; /* passed over as a whole */
            continue;
        }
        found->id = a->items[item].id;
        found->next = end;
        found->begin = flags & DC_TOKEN_LSTRIP ? strip_before(text, at, done) : at;
        found->end = flags & DC_TOKEN_RSTRIP ? strip_after(text, n, end) : end;
        return 1;
    }
    return 0;
}

/* ---- llama.cpp's order ---- */

static int by_place(const void *a, const void *b)
{
    const struct dc_found *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static int by_length(const void *a, const void *b)
{
    const struct dc_found *x = a, *y = b;
    const size_t nx = x->end - x->begin, ny = y->end - y->begin;
    if (nx != ny) return nx > ny ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return by_place(a, b);
}

static int note(dc_encoder *e, size_t *count, size_t begin, size_t end, int32_t id, dc_error *err)
{
    if (dc_grow(&e->found, *count, &e->room_found, sizeof *e->found))
        return dc_fail_memory(err, *count * sizeof *e->found, "added tokens of a text");
    e->found[(*count)++] = (struct dc_found){begin, end, end, id};
    return DC_OK;
}

/* Candidates overlap: the longest wins, and of equal ones the leftmost. One that overlaps a longer or equal one taken before has its
 * first or last byte inside that one. */
static int take_longest(dc_encoder *e, size_t *count, size_t n, dc_error *err)
{
    uint8_t *taken = dc_calloc(n / 8 + 1, 1);
    if (!taken) return dc_fail_memory(err, n / 8 + 1, "added tokens of a text");
    size_t kept = 0;
    qsort(e->found, *count, sizeof *e->found, by_length);
    for (size_t i = 0; i < *count; i++) {
        const struct dc_found f = e->found[i];
        const size_t last = f.end - 1;
        if ((taken[f.begin / 8] >> (f.begin % 8) & 1) || (taken[last / 8] >> (last % 8) & 1)) continue;
        for (size_t b = f.begin; b < f.end; b++) taken[b / 8] |= (uint8_t)(1u << (b % 8));
        e->found[kept++] = f;
    }
    dc_free(taken);
    qsort(e->found, kept, sizeof *e->found, by_place);
    *count = kept;
    return DC_OK;
}

int dc_added_all(const dc_added *a, const dc_tokenizer *t, int plain, dc_encoder *e, const char *text, size_t n,
                 size_t *count, dc_error *err)
{
    int rc = DC_OK, overlap = 0;
    size_t end = 0;
    *count = 0;
    for (size_t at = 0; a->n && at < n; at++) {
        const unsigned char byte = (unsigned char)text[at];
        for (size_t i = a->first[byte]; i < a->first[byte + 1]; i++) {
            const struct dc_needle *needle = &a->items[i];
            if (needle->n > n - at || memcmp(needle->text, text + at, needle->n) != 0) continue;
            if (plain && (t->tokens[needle->id].flags & DC_TOKEN_IS_SPECIAL)) continue;
            overlap |= at < end;
            if (at + needle->n > end) end = at + needle->n;
            DC_TRY(note(e, count, at, at + needle->n, needle->id, err));
        }
    }
    if (overlap) rc = take_longest(e, count, n, err);
done:
    return rc;
}
