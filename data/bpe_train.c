/* data/bpe_train.c -- learning a byte-level BPE: the pair of neighbours that is most frequent becomes a token, again and again.
 *
 * Equal to the tokenizers library's BpeTrainer (tokenizers/src/models/bpe/trainer.rs), in what it learns and so in its peculiar points: counts are
 * updated lazily, the count of a merged pair is left as it was, and a queue entry knows only the words in which its pair arose at
 * once. Each of these shows when two different pairs make the same token. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_impl.h"
#include "data/unicode.h"

typedef struct word {
    size_t begin; /* its symbols in trainer.symbols */
    uint32_t n;
    int64_t count;
} word;

typedef struct words { /* a growing list of word numbers, each once: they arrive in order */
    uint32_t *data;
    size_t n, room;
} words;

typedef struct pair {
    int32_t left, right; /* left -1: an empty slot */
    int64_t count;
    words fresh; /* where it arose in this step */
} pair;

typedef struct entry {
    int64_t count;
    int32_t left, right;
    words where;
} entry;

typedef struct trainer {
    dc_tokenizer *t;
    int64_t n_tokens, most; /* tokens so far, and wanted */
    dc_str bytes;           /* distinct words, while they are counted */
    struct spot {
        size_t begin, n;
        int64_t count;
    } * spots; /* open addressing over them; n 0 is empty */
    size_t n_spots, room_spots;
    word *words;
    size_t n_words;
    int32_t *symbols;
    pair *pairs;
    size_t n_pairs, room_pairs;
    size_t *touched; /* slots with fresh words */
    size_t n_touched, room_touched;
    entry *heap;
    size_t n_heap, room_heap;
    dc_error *err;
} trainer;

static int no_memory(trainer *r)
{
    return dc_fail_memory(r->err, r->room_pairs * sizeof *r->pairs, "training a tokenizer");
}

/* ---- counting words ---- */

static size_t hash_bytes(const char *text, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u ^ n;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 0x100000001B3u;
    return (size_t)(h ^ (h >> 29));
}

static int grow_spots(trainer *r)
{
    const size_t room = r->room_spots ? r->room_spots * 2 : 1024;
    struct spot *grown = dc_calloc(room, sizeof *grown);
    if (!grown) return -1;
    for (size_t i = 0; i < r->room_spots; i++) {
        if (!r->spots[i].n) continue;
        size_t at = hash_bytes(r->bytes.data + r->spots[i].begin, r->spots[i].n) & (room - 1);
        while (grown[at].n) at = (at + 1) & (room - 1);
        grown[at] = r->spots[i];
    }
    dc_free(r->spots);
    r->spots = grown;
    r->room_spots = room;
    return 0;
}

static int count_word(void *context, const char *text, size_t n, int64_t origin)
{
    trainer *r = context;
    (void)origin;
    if (r->n_spots * 2 >= r->room_spots && grow_spots(r)) return no_memory(r);
    size_t at = hash_bytes(text, n) & (r->room_spots - 1);
    for (; r->spots[at].n; at = (at + 1) & (r->room_spots - 1))
        if (r->spots[at].n == n && !memcmp(r->bytes.data + r->spots[at].begin, text, n)) {
            r->spots[at].count++;
            return DC_OK;
        }
    r->spots[at] = (struct spot){r->bytes.n, n, 1};
    r->n_spots++;
    dc_str_append(&r->bytes, text, n);
    return r->bytes.failed ? no_memory(r) : DC_OK;
}

static int count_texts(trainer *r, int (*next)(void *, const char **, size_t *, dc_error *), void *context)
{
    dc_pretok_work work = {0};
    int rc;
    for (;;) {
        const char *text = NULL;
        size_t n = 0;
        rc = next(context, &text, &n, r->err);
        if (rc != DC_OK || n == 0) break;
        const size_t valid = dc_utf8_span(text, n);
        if (valid < n) {
            rc = dc_fail(r->err, DC_EFORMAT, "a training text is not valid UTF-8: byte %zu is 0x%02x", valid,
                         (unsigned char)text[valid]);
            break;
        }
        rc = dc_pretok_run(&r->t->pretok, &work, text, n, count_word, r, r->err);
        if (rc != DC_OK) break;
    }
    dc_pretok_work_release(&work);
    return rc;
}

static int spell_words(trainer *r)
{
    r->words = dc_malloc((r->n_spots + 1) * sizeof *r->words);
    r->symbols = dc_malloc((r->bytes.n + 1) * sizeof *r->symbols);
    if (!r->words || !r->symbols) return no_memory(r);
    for (size_t i = 0; i < r->bytes.n; i++) r->symbols[i] = r->t->bpe.byte_ids[(unsigned char)r->bytes.data[i]];
    for (size_t i = 0; i < r->room_spots; i++)
        if (r->spots[i].n) {
            if (r->spots[i].n > UINT32_MAX) return dc_fail(r->err, DC_EFORMAT, "a word of %zu bytes", r->spots[i].n);
            r->words[r->n_words++] = (word){r->spots[i].begin, (uint32_t)r->spots[i].n, r->spots[i].count};
        }
    return DC_OK;
}

/* ---- counting pairs ---- */

static size_t hash_pair(int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (size_t)(key * 0x9E3779B97F4A7C15u >> 20);
}

static int grow_pairs(trainer *r)
{
    const size_t room = r->room_pairs ? r->room_pairs * 2 : 4096;
    pair *grown = dc_calloc(room, sizeof *grown);
    if (!grown) return -1;
    for (size_t i = 0; i < room; i++) grown[i].left = -1;
    for (size_t i = 0; i < r->room_pairs; i++) {
        if (r->pairs[i].left < 0) continue;
        size_t at = hash_pair(r->pairs[i].left, r->pairs[i].right) & (room - 1);
        while (grown[at].left >= 0) at = (at + 1) & (room - 1);
        grown[at] = r->pairs[i];
    }
    for (size_t i = 0; i < r->n_touched; i++) { /* touched slots have moved */
        const pair *p = &r->pairs[r->touched[i]];
        size_t at = hash_pair(p->left, p->right) & (room - 1);
        while (grown[at].left != p->left || grown[at].right != p->right) at = (at + 1) & (room - 1);
        r->touched[i] = at;
    }
    dc_free(r->pairs);
    r->pairs = grown;
    r->room_pairs = room;
    return 0;
}

/* The slot of a pair, made when it is new; SIZE_MAX without memory. */
static size_t pair_slot(trainer *r, int32_t left, int32_t right)
{
    if (r->n_pairs * 2 >= r->room_pairs && grow_pairs(r)) return SIZE_MAX;
    size_t at = hash_pair(left, right) & (r->room_pairs - 1);
    while (r->pairs[at].left >= 0 && (r->pairs[at].left != left || r->pairs[at].right != right))
        at = (at + 1) & (r->room_pairs - 1);
    if (r->pairs[at].left < 0) {
        r->pairs[at].left = left;
        r->pairs[at].right = right;
        r->n_pairs++;
    }
    return at;
}

/* `sign` more or less of a pair in word w. */
static int change_pair(trainer *r, int32_t left, int32_t right, int sign, uint32_t w)
{
    const size_t at = pair_slot(r, left, right);
    if (at == SIZE_MAX) return -1;
    pair *p = &r->pairs[at];
    p->count += sign * r->words[w].count;
    if (sign < 0 || (p->fresh.n && p->fresh.data[p->fresh.n - 1] == w)) return 0;
    if (p->fresh.n == 0) {
        if (dc_grow(&r->touched, r->n_touched, &r->room_touched, sizeof *r->touched)) return -1;
        r->touched[r->n_touched++] = at;
    }
    if (dc_grow(&p->fresh.data, p->fresh.n, &p->fresh.room, sizeof *p->fresh.data)) return -1;
    p->fresh.data[p->fresh.n++] = w;
    return 0;
}

/* ---- the queue ---- */

/* Higher counts first, then lower ids. */
static int before(const entry *a, const entry *b)
{
    if (a->count != b->count) return a->count > b->count;
    if (a->left != b->left) return a->left < b->left;
    return a->right < b->right;
}

static int push(trainer *r, const entry *e)
{
    if (dc_grow(&r->heap, r->n_heap, &r->room_heap, sizeof *r->heap)) return -1;
    size_t at = r->n_heap++;
    for (; at > 0 && before(e, &r->heap[(at - 1) / 2]); at = (at - 1) / 2) r->heap[at] = r->heap[(at - 1) / 2];
    r->heap[at] = *e;
    return 0;
}

static entry pop(trainer *r)
{
    const entry top = r->heap[0], last = r->heap[--r->n_heap];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= r->n_heap) break;
        if (child + 1 < r->n_heap && before(&r->heap[child + 1], &r->heap[child])) child++;
        if (!before(&r->heap[child], &last)) break;
        r->heap[at] = r->heap[child];
        at = child;
    }
    if (r->n_heap) r->heap[at] = last;
    return top;
}

/* Pairs that arose in this step join the queue with the words where they did. */
static int queue_fresh(trainer *r)
{
    for (size_t i = 0; i < r->n_touched; i++) {
        pair *p = &r->pairs[r->touched[i]];
        const entry e = {p->count, p->left, p->right, p->fresh};
        if (p->count <= 0) dc_free(p->fresh.data);
        else if (push(r, &e)) return -1;
        p->fresh = (words){0};
    }
    r->n_touched = 0;
    return 0;
}

/* ---- learning ---- */

static int count_pairs(trainer *r)
{
    for (size_t w = 0; w < r->n_words; w++) {
        const int32_t *s = r->symbols + r->words[w].begin;
        for (uint32_t i = 0; i + 1 < r->words[w].n; i++)
            if (change_pair(r, s[i], s[i + 1], 1, (uint32_t)w)) return no_memory(r);
    }
    return queue_fresh(r) ? no_memory(r) : DC_OK;
}

static int merge_in_word(trainer *r, uint32_t w, int32_t left, int32_t right, int32_t made)
{
    int32_t *s = r->symbols + r->words[w].begin;
    const uint32_t n = r->words[w].n;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; kept++) {
        if (s[i] != left || i + 1 >= n || s[i + 1] != right) {
            s[kept] = s[i++];
            continue;
        }
        if (kept > 0 && (change_pair(r, s[kept - 1], left, -1, w) || change_pair(r, s[kept - 1], made, 1, w)))
            return -1;
        i += 2;
        if (i < n && (change_pair(r, right, s[i], -1, w) || change_pair(r, made, s[i], 1, w))) return -1;
        s[kept] = made;
    }
    r->words[w].n = kept;
    return 0;
}

/* The token that left and right make: an old one of the same text, or the next. */
static int make_token(trainer *r, int32_t left, int32_t right, int32_t *made)
{
    dc_tokenizer *t = r->t;
    dc_str text = {0};
    int rc = DC_OK;
    dc_str_append(&text, t->tokens[left].text, t->tokens[left].n);
    dc_str_append(&text, t->tokens[right].text, t->tokens[right].n);
    if (text.failed) {
        rc = no_memory(r);
    } else if ((*made = dc_token_lookup(t, text.data, text.n)) < 0) {
        *made = (int32_t)r->n_tokens;
        rc = dc_tokenizer_put(t, r->n_tokens, text.data, text.n, DC_TOKEN_MODEL, r->err);
        if (rc == DC_OK) dc_tokenizer_enter(t, r->n_tokens++);
    }
    dc_str_release(&text);
    return rc;
}

static int learn(trainer *r)
{
    int rc = DC_OK;
    while (r->n_tokens < r->most && r->n_heap) {
        entry top = pop(r);
        const size_t at = pair_slot(r, top.left, top.right);
        if (at != SIZE_MAX && top.count != r->pairs[at].count) {
            top.count = r->pairs[at].count;
            if (push(r, &top) == 0) continue;
            dc_free(top.where.data);
            return no_memory(r);
        }
        int32_t made = -1;
        const int done = top.count < 1;
        if (at == SIZE_MAX) rc = no_memory(r);
        else if (!done) rc = make_token(r, top.left, top.right, &made);
        if (rc == DC_OK && !done) rc = dc_bpe_add(&r->t->bpe, top.left, top.right, made, r->err);
        for (size_t i = 0; rc == DC_OK && !done && i < top.where.n; i++)
            if (merge_in_word(r, top.where.data[i], top.left, top.right, made)) rc = no_memory(r);
        dc_free(top.where.data);
        if (rc == DC_OK && queue_fresh(r)) rc = no_memory(r);
        if (rc != DC_OK || done) break;
    }
    return rc;
}

static void release(trainer *r)
{
    for (size_t i = 0; i < r->n_heap; i++) dc_free(r->heap[i].where.data);
    for (size_t i = 0; i < r->room_pairs; i++) dc_free(r->pairs[i].fresh.data);
    dc_free(r->heap);
    dc_free(r->pairs);
    dc_free(r->touched);
    dc_free(r->spots);
    dc_free(r->words);
    dc_free(r->symbols);
    dc_str_release(&r->bytes);
    dc_tokenizer_free(r->t);
}

/* ---- what is known before ---- */

static int set_rules(dc_tokenizer *t, const char *pre, dc_error *err)
{
    dc_pretok *p = &t->pretok;
    t->ignore_merges =
        !strcmp(pre, "llama-bpe"); /* as that family has it; a trained vocabulary encodes alike without */
    if (!strcmp(pre, "gpt2") || !strcmp(pre, "gpt-2")) return dc_pretok_scan(p, DC_SCAN_GPT2, err);
    if (!strcmp(pre, "llama-bpe")) return dc_pretok_scan(p, DC_SCAN_LLAMA3, err);
    if (!strcmp(pre, "qwen2")) return dc_pretok_scan(p, DC_SCAN_QWEN2, err);
    if (strcmp(pre, "smollm") != 0)
        return dc_fail(err, DC_EUNKNOWN,
                       "no pre-tokenizer '%s' to train with; there are gpt2, llama-bpe, qwen2 and smollm", pre);
    const int rc = dc_pretok_digits(p, 1, err);
    return rc == DC_OK ? dc_pretok_scan(p, DC_SCAN_GPT2, err) : rc;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Special tokens, then the bytes in the order of their characters. */
static int set_first_tokens(trainer *r, const dc_bpe_options *o)
{
    dc_tokenizer *t = r->t;
    size_t specials = 0;
    uint32_t chars[256];
    int rc = DC_OK;
    while (o->specials && o->specials[specials]) specials++;
    if (o->vocab_size < (int64_t)specials + 256 || o->vocab_size > INT32_MAX / 4)
        return dc_fail(r->err, DC_EUSAGE, "a vocabulary of %lld has no place for 256 bytes and %zu special tokens",
                       (long long)o->vocab_size, specials);
    DC_TRY(dc_tokenizer_reserve(t, o->vocab_size, r->err));
    for (size_t i = 0; i < specials; i++)
        DC_TRY(dc_tokenizer_put(t, r->n_tokens++, o->specials[i], strlen(o->specials[i]),
                                DC_TOKEN_MODEL | DC_TOKEN_ADDED | DC_TOKEN_IS_SPECIAL, r->err));
    for (int b = 0; b < 256; b++) chars[b] = dc_byte_char((uint8_t)b);
    qsort(chars, 256, sizeof *chars, by_number);
    for (int i = 0; i < 256; i++) {
        char text[4];
        const size_t n = dc_utf8_encode(text, (int32_t)chars[i]);
        DC_TRY(dc_tokenizer_put(t, r->n_tokens++, text, n, DC_TOKEN_MODEL, r->err));
    }
    DC_TRY(dc_tokenizer_index(t, r->err));
    dc_tokenizer_bytes(t);
done:
    return rc;
}

static int find_special(int32_t *out, const dc_tokenizer *t, const char *text, dc_error *err)
{
    if (!text) return DC_OK;
    *out = dc_token_find(t, text);
    return dc_token_is_special(t, *out) ? DC_OK : dc_fail(err, DC_EUSAGE, "'%s' is not among the special tokens", text);
}

int dc_bpe_train(dc_tokenizer **out, int (*next)(void *context, const char **text, size_t *n, dc_error *err),
                 void *context, const dc_bpe_options *options, dc_error *err)
{
    int rc = DC_OK;
    trainer r = {.t = dc_tokenizer_new(), .most = options->vocab_size, .err = err};
    if (!r.t) return dc_fail_memory(err, sizeof *r.t, "a tokenizer");
    DC_TRY(set_rules(r.t, options->pre, err));
    DC_TRY(set_first_tokens(&r, options));
    DC_TRY(find_special(&r.t->bos, r.t, options->bos, err));
    DC_TRY(find_special(&r.t->eos, r.t, options->eos, err));
    DC_TRY(find_special(&r.t->pad, r.t, options->pad, err));
    if (options->chat_template && !(r.t->chat_template = dc_arena_strdup(&r.t->arena, options->chat_template)))
        DC_TRY(no_memory(&r));
    DC_TRY(count_texts(&r, next, context));
    DC_TRY(spell_words(&r));
    DC_TRY(count_pairs(&r));
    DC_TRY(learn(&r));
    r.t->size = r.n_tokens; /* a small text may not fill the vocabulary */
    DC_TRY(dc_tokenizer_finish(r.t, NULL, 0, err));
    *out = r.t;
    r.t = NULL;
done:
    release(&r);
    return rc;
}
