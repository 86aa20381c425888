/* data/bpe.c */
#include "data/bpe.h"

#include <string.h>

#include "core/arena.h"

/* ---- bytes and their characters ---- */

/* Printable Latin-1 stands for itself, the other bytes in order for U+0100, U+0101, ... (Radford et al. 2019, encoder.py). */
static int stands_for_itself(unsigned c) { return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE; }

uint32_t dc_byte_char(uint8_t byte)
{
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    return byte <= 0xA0 ? 0x121u + (byte - 0x7Fu) : 0x143u;
}

int dc_char_byte(uint32_t cp)
{
    if (cp < 0x100) return stands_for_itself(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

/* ---- merges ---- */

static uint32_t slot_of(int32_t left, int32_t right, uint32_t mask)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & mask;
}

int dc_bpe_add(dc_bpe *b, int32_t left, int32_t right, int32_t made, dc_error *err)
{
    if (dc_grow(&b->merges, b->n_merges, &b->room, sizeof *b->merges))
        return dc_fail_memory(err, b->n_merges * sizeof *b->merges, "merges");
    b->merges[b->n_merges] = (dc_merge){left, right, made, (int32_t)b->n_merges};
    b->n_merges++;
    return DC_OK;
}

int dc_bpe_index(dc_bpe *b, int first_counts, dc_error *err)
{
    size_t size = 16;
    while (size < b->n_merges * 2 + 1) size *= 2;
    if (size > UINT32_MAX / 2)
        return dc_fail(err, DC_EFORMAT, "%zu merges are more than this program can hold", b->n_merges);
    if (!(b->slots = dc_malloc(size * sizeof *b->slots))) return dc_fail_memory(err, size * sizeof *b->slots, "merges");
    memset(b->slots, 0xFF, size * sizeof *b->slots);
    b->mask = (uint32_t)(size - 1);
    for (size_t i = 0; i < b->n_merges; i++) {
        const dc_merge *m = &b->merges[i];
        uint32_t at = slot_of(m->left, m->right, b->mask);
        while (b->slots[at].left != -1 && (b->slots[at].left != m->left || b->slots[at].right != m->right))
            at = (at + 1) & b->mask;
        if (b->slots[at].left == -1 || !first_counts) b->slots[at] = *m;
    }
    b->complete = 1;
    for (int i = 0; i < 256; i++) b->complete &= b->byte_ids[i] >= 0;
    return DC_OK;
}

void dc_bpe_release(dc_bpe *b)
{
    dc_free(b->merges);
    dc_free(b->slots);
    *b = (dc_bpe){0};
}

const dc_merge *dc_bpe_find(const dc_bpe *b, int32_t left, int32_t right)
{
    for (uint32_t at = slot_of(left, right, b->mask);; at = (at + 1) & b->mask) {
        const dc_merge *m = &b->slots[at];
        if (m->left == left && m->right == right) return m;
        if (m->left == -1) return NULL;
    }
}

/* ---- a word ---- */

enum { DC_WORDS = 1 << 15, WORD_BYTES = 31, WORD_IDS = 7, SHORT_WORD = 48 };
static const uint32_t NEVER = UINT32_MAX; /* the rank of a pair that does not merge */
static const int32_t GAP = -2;            /* the id of a byte that will vanish; no pair has it */

/* A remembered word: one cache line. n 0 is empty. */
struct dc_word {
    char text[WORD_BYTES]; /* zeros behind the word */
    uint8_t n;
    int32_t ids[WORD_IDS];
    int32_t n_ids;
};

struct dc_symbol {
    int32_t id;
    int32_t made;        /* by the pair of this symbol and the next */
    uint32_t rank;       /* of that pair */
    uint32_t start;      /* byte in the word */
    uint32_t prev, next; /* only in the heap's way; next 0 is the end */
};

void dc_bpe_work_release(dc_bpe_work *w)
{
    dc_free(w->symbols);
    dc_free(w->heap);
    dc_free(w->cache);
    *w = (dc_bpe_work){0};
}

static void rank_pair(const dc_bpe *b, struct dc_symbol *s, const struct dc_symbol *next)
{
    const dc_merge *m = next ? dc_bpe_find(b, s->id, next->id) : NULL;
    s->rank = m ? (uint32_t)m->rank : NEVER;
    s->made = m ? m->made : -1;
}

/* One symbol a byte; how many. */
static size_t spell(const dc_bpe *b, struct dc_symbol *s, const char *word, size_t n)
{
    size_t count = 0;
    int unknown = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_ids[(uint8_t)word[i]];
        if (id < 0) {
            if (!b->gaps && (b->unk < 0 || (unknown && b->fuse_unk))) continue;
            id = b->gaps ? GAP : b->unk;
            unknown = 1;
        } else {
            unknown = 0;
        }
        s[count].id = id;
        s[count++].start = (uint32_t)i;
    }
    return count;
}

/* Short words: look for the lowest rank, leftmost first, until none is left. */
static size_t merge_short(const dc_bpe *b, struct dc_symbol *s, size_t n)
{
    for (size_t i = 0; i < n; i++) rank_pair(b, &s[i], i + 1 < n ? &s[i + 1] : NULL);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (s[i].rank < s[best].rank) best = i;
        if (s[best].rank == NEVER) break;
        s[best].id = s[best].made;
        memmove(&s[best + 1], &s[best + 2], (n - best - 2) * sizeof *s);
        n--;
        rank_pair(b, &s[best], best + 1 < n ? &s[best + 1] : NULL);
        if (best > 0) rank_pair(b, &s[best - 1], &s[best]);
    }
    return n;
}

static int heap_push(dc_bpe_work *w, uint64_t key)
{
    if (dc_grow(&w->heap, w->n_heap, &w->room_heap, sizeof *w->heap)) return -1;
    size_t at = w->n_heap++;
    for (; at > 0 && w->heap[(at - 1) / 2] > key; at = (at - 1) / 2) w->heap[at] = w->heap[(at - 1) / 2];
    w->heap[at] = key;
    return 0;
}

static uint64_t heap_pop(dc_bpe_work *w)
{
    const uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[at] = w->heap[child];
        at = child;
    }
    if (w->n_heap) w->heap[at] = last;
    return top;
}

static int push_pair(dc_bpe_work *w, uint32_t at)
{
    return w->symbols[at].rank == NEVER ? 0 : heap_push(w, (uint64_t)w->symbols[at].rank << 32 | at);
}

/* Long words: a heap of (rank, place); an entry whose pair has changed since is passed over. n log n for any input. */
static int merge_long(const dc_bpe *b, dc_bpe_work *w, size_t n)
{
    struct dc_symbol *s = w->symbols;
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        s[i].prev = (uint32_t)i - 1;
        s[i].next = i + 1 < n ? (uint32_t)i + 1 : 0;
        rank_pair(b, &s[i], i + 1 < n ? &s[i + 1] : NULL);
        if (push_pair(w, (uint32_t)i)) return -1;
    }
    while (w->n_heap) {
        const uint64_t key = heap_pop(w);
        const uint32_t at = (uint32_t)key;
        if (s[at].rank != (uint32_t)(key >> 32)) continue;
        const uint32_t gone = s[at].next;
        s[at].id = s[at].made;
        s[at].next = s[gone].next;
        s[gone].id = -1;
        s[gone].rank = NEVER;
        if (s[at].next) s[s[at].next].prev = at;
        rank_pair(b, &s[at], s[at].next ? &s[s[at].next] : NULL);
        if (push_pair(w, at)) return -1;
        if (at > 0) {
            const uint32_t before = s[at].prev;
            rank_pair(b, &s[before], &s[at]);
            if (push_pair(w, before)) return -1;
        }
    }
    return 0;
}

/* Without what was merged away and without gaps. */
static size_t drop_empty(struct dc_symbol *s, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i].id >= 0) s[kept++] = s[i];
    return kept;
}

static int encode_word(const dc_bpe *b, dc_bpe_work *w, const char *word, size_t n, size_t *count, dc_error *err)
{
    if (n > UINT32_MAX / 2)
        return dc_fail(err, DC_EFORMAT, "a word of %zu bytes is longer than this program can encode", n);
    if (w->n_symbols < n) {
        const size_t room = n < SHORT_WORD ? SHORT_WORD : n + n / 2;
        struct dc_symbol *grown = dc_realloc(w->symbols, room * sizeof *grown);
        if (!grown) return dc_fail_memory(err, room * sizeof *grown, "a word");
        w->symbols = grown;
        w->n_symbols = room;
    }
    *count = spell(b, w->symbols, word, n);
    if (*count > SHORT_WORD) {
        if (merge_long(b, w, *count)) return dc_fail_memory(err, w->room_heap * sizeof *w->heap, "a word");
    } else if (*count) {
        *count = merge_short(b, w->symbols, *count);
    }
    *count = drop_empty(w->symbols, *count);
    return DC_OK;
}

/* The word with zeros behind it and its length in the last byte, as four numbers, and their hash. */
static uint32_t word_key(uint64_t key[4], const char *word, size_t n, size_t readable)
{
    char *bytes = (char *)key;
    if (readable >= 32) {
        memcpy(key, word, 32);
        for (size_t i = 0; i < 4; i++) {
            const size_t kept = n > 8 * i ? n - 8 * i : 0;
            if (kept < 8) key[i] &= kept ? UINT64_MAX >> (64 - 8 * kept) : 0;
        }
    } else {
        memset(key, 0, 32);
        memcpy(key, word, n);
    }
    bytes[WORD_BYTES] = (char)n;
    uint64_t h = (key[0] ^ key[3]) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 29) ^ key[1]) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 32) ^ key[2]) * 0x94D049BB133111EBu;
    return (uint32_t)(h >> 40) & (DC_WORDS - 1);
}

int dc_bpe_word(const dc_bpe *b, dc_bpe_work *w, dc_ids *ids, dc_ids *starts, const char *word, size_t n,
                size_t readable, dc_whole_fn whole, const void *context, dc_error *err)
{
    uint64_t key[4];
    struct dc_word *known = NULL;
    size_t count = 0;
    if (n <= WORD_BYTES && !starts) {
        if (!w->cache && !(w->cache = dc_calloc(DC_WORDS, sizeof *w->cache)))
            return dc_fail_memory(err, DC_WORDS * sizeof *w->cache, "the word cache");
        known = &w->cache[word_key(key, word, n, readable)];
        if (!memcmp(known, key, sizeof key)) {
            for (int32_t i = 0; i < known->n_ids; i++) dc_ids_push(ids, known->ids[i]);
            return ids->failed ? dc_fail_memory(err, ids->room * sizeof *ids->data, "token ids") : DC_OK;
        }
    }
    const size_t before = ids->n;
    const int32_t id = whole ? whole(context, word, n) : -1;
    if (id >= 0) {
        dc_ids_push(ids, id);
        if (starts) dc_ids_push(starts, 0);
    } else {
        const int rc = encode_word(b, w, word, n, &count, err);
        if (rc != DC_OK) return rc;
        for (size_t i = 0; i < count; i++) {
            dc_ids_push(ids, w->symbols[i].id);
            if (starts) dc_ids_push(starts, (int32_t)w->symbols[i].start);
        }
    }
    if (ids->failed || (starts && starts->failed))
        return dc_fail_memory(err, ids->room * sizeof *ids->data, "token ids");
    if (known && ids->n - before <= WORD_IDS) {
        memcpy(known, key, sizeof key);
        known->n_ids = (int32_t)(ids->n - before);
        if (known->n_ids) memcpy(known->ids, ids->data + before, (ids->n - before) * sizeof *ids->data);
    }
    return DC_OK;
}
