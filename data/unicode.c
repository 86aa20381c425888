/* data/unicode.c */
#include "data/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/str.h"

size_t dc_utf8_span(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (i + 8 <= n && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u))) i += 8;
        if (i >= n) break;
        int32_t cp;
        const size_t used = dc_utf8_decode(&cp, text + i, n - i);
        if (cp < 0) return i;
        i += used;
    }
    return n;
}

void dc_ranges_add(dc_ranges *r, uint32_t first, uint32_t last)
{
    if (r->failed || dc_grow(&r->data, r->n, &r->room, sizeof *r->data)) {
        r->failed = 1;
        return;
    }
    r->data[r->n][0] = first;
    r->data[r->n++][1] = last;
}

static int by_first(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void dc_ranges_sort(dc_ranges *r)
{
    if (r->n < 2) return;
    qsort(r->data, r->n, sizeof *r->data, by_first);
    size_t kept = 0;
    for (size_t i = 1; i < r->n; i++) {
        if (r->data[i][0] <= r->data[kept][1] + 1) {
            if (r->data[i][1] > r->data[kept][1]) r->data[kept][1] = r->data[i][1];
        } else {
            kept++;
            r->data[kept][0] = r->data[i][0];
            r->data[kept][1] = r->data[i][1];
        }
    }
    r->n = kept + 1;
}

void dc_ranges_invert(dc_ranges *r)
{
    dc_ranges out = {0};
    uint32_t next = 0;
    dc_ranges_add(r, 0xD800, 0xDFFF); /* surrogates are in no class, nor in its complement */
    dc_ranges_sort(r);
    for (size_t i = 0; i < r->n; i++) {
        if (r->data[i][0] > next) dc_ranges_add(&out, next, r->data[i][0] - 1);
        next = r->data[i][1] + 1;
    }
    if (next <= 0x10FFFF) dc_ranges_add(&out, next, 0x10FFFF);
    out.failed |= r->failed;
    dc_ranges_release(r);
    *r = out;
}

void dc_ranges_intersect(dc_ranges *r, const dc_ranges *s)
{
    dc_ranges out = {0};
    for (size_t i = 0, j = 0; i < r->n && j < s->n;) {
        const uint32_t first = r->data[i][0] > s->data[j][0] ? r->data[i][0] : s->data[j][0];
        const uint32_t last = r->data[i][1] < s->data[j][1] ? r->data[i][1] : s->data[j][1];
        if (first <= last) dc_ranges_add(&out, first, last);
        if (r->data[i][1] < s->data[j][1]) i++;
        else j++;
    }
    out.failed |= r->failed | s->failed;
    dc_ranges_release(r);
    *r = out;
}

void dc_ranges_release(dc_ranges *r)
{
    dc_free(r->data);
    *r = (dc_ranges){0};
}

/* A class is a set of categories (bit by bit) or a set of flags. */
static int find_class(uint32_t *categories, uint32_t *flags, const char *name, size_t n)
{
    static const char names[] = "CnCcCfCoCsLlLmLoLtLuMcMeMnNdNlNoPcPdPePfPiPoPsScSkSmSoZlZpZs";
    *categories = *flags = 0;
    if (n == 3 && !memcmp(name, "Han", 3)) *flags = DC_UNI_HAN;
    else if (n == 1 && name[0] == 's') *flags = DC_UNI_SPACE;
    else if (n == 1 && name[0] == 'w') *flags = DC_UNI_WORD;
    else if (n == 1 && name[0] == 'd') *categories = 1u << DC_CAT_ND;
    else
        for (unsigned i = 0; i < 30; i++)
            if ((n == 1 && names[2 * i] == name[0]) || (n == 2 && !memcmp(names + 2 * i, name, 2)))
                *categories |= 1u << i;
    return *categories || *flags ? 0 : -1;
}

int dc_unicode_class(dc_ranges *r, const char *name, size_t n, int old)
{
    uint32_t categories, flags, begin = 0;
    int inside = 0;
    if (find_class(&categories, &flags, name, n)) return -1;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        int in = 0;
        if (cp < 0x110000) {
            const uint32_t word = dc_unicode(cp);
            const uint32_t category = old && (word & DC_UNI_NEW) ? DC_CAT_CN : word & DC_UNI_CATEGORY;
            in = (categories >> category & 1) || (word & flags && !(old && (word & DC_UNI_NEW)));
        }
        if (in && !inside) begin = cp;
        if (!in && inside) dc_ranges_add(r, begin, cp - 1);
        inside = in;
    }
    return 0;
}
