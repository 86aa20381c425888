/* data/tokenizer_encode.c -- text to ids: added tokens, normalization, words, merges; and back.
 *
 * The order is that of the tokenizers library: added tokens are cut out of the text itself, then, of what is between them, the
 * normalized form is searched for those that are marked so, and what is left is split into words. */
#include <string.h>

#include "data/tokenizer_impl.h"
#include "data/unicode.h"

static dc_encoder *encoder_take(const dc_tokenizer *t)
{
    dc_tokenizer *pool = (dc_tokenizer *)t; /* the pool is the one part that changes; its mutex guards it */
    pthread_mutex_lock(&pool->lock);
    dc_encoder *e = pool->idle;
    if (e) pool->idle = e->next;
    pthread_mutex_unlock(&pool->lock);
    return e ? e : dc_calloc(1, sizeof(dc_encoder));
}

static void encoder_give_back(const dc_tokenizer *t, dc_encoder *e)
{
    dc_tokenizer *pool = (dc_tokenizer *)t;
    e->starts.failed = 0;
    pthread_mutex_lock(&pool->lock);
    e->next = pool->idle;
    pool->idle = e;
    pthread_mutex_unlock(&pool->lock);
}

/* One call of dc_encode; `piece` is the part of the (normalized) text whose words come in. */
typedef struct call {
    const dc_tokenizer *t;
    dc_encoder *e;
    dc_ids *ids, *offsets;
    int plain;
    const char *end; /* of readable memory around the words */
    const char *piece, *piece_end;
    size_t base;            /* where the piece's text begins in the original */
    const int32_t *origins; /* of each byte of the piece, or NULL: one to one */
    dc_error *err;
} call;

static int32_t whole_word(const void *context, const char *word, size_t n)
{
    const dc_tokenizer *t = context;
    char small[256] = {0}, *text = n <= 128 ? small : dc_malloc(2 * n);
    if (!text) return -1;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += dc_utf8_encode(text + count, (int32_t)dc_byte_char((uint8_t)word[i]));
    const int32_t id = dc_token_lookup(t, text, count);
    if (text != small) dc_free(text);
    return id >= 0 && (t->tokens[id].flags & DC_TOKEN_MODEL) ? id : -1;
}

/* Offsets of the ids that a word at `origin` of the piece has become. */
static int put_offsets(const call *c, int64_t origin, size_t first)
{
    for (size_t i = first; i < c->e->starts.n; i++) {
        int64_t at = origin + c->e->starts.data[i];
        if (at < 0) at = 0; /* the space put before the text */
        dc_ids_push(c->offsets, (int32_t)((int64_t)c->base + (c->origins ? c->origins[at] : at)));
    }
    return c->offsets->failed ? dc_fail_memory(c->err, c->offsets->room * sizeof(int32_t), "offsets") : DC_OK;
}

static int on_word(void *context, const char *word, size_t n, int64_t origin)
{
    const call *c = context;
    const dc_tokenizer *t = c->t;
    const size_t readable = word >= c->piece && word < c->piece_end ? (size_t)(c->end - word) : n;
    dc_ids *starts = c->offsets ? &c->e->starts : NULL;
    if (starts) starts->n = 0;
    const int rc = dc_bpe_word(&t->bpe, &c->e->bpe, c->ids, starts, word, n, readable,
                               t->ignore_merges ? whole_word : NULL, t, c->err);
    return rc == DC_OK && starts ? put_offsets(c, origin, 0) : rc;
}

static int put_id(const call *c, int32_t id, size_t offset)
{
    dc_ids_push(c->ids, id);
    if (c->offsets) dc_ids_push(c->offsets, (int32_t)offset);
    if (c->ids->failed || (c->offsets && c->offsets->failed))
        return dc_fail_memory(c->err, c->ids->room * sizeof id, "token ids");
    return DC_OK;
}

/* A part of a piece, without added tokens. */
static int encode_words(call *c, const char *text, size_t n, const int32_t *origins, size_t base)
{
    c->piece = text;
    c->piece_end = text + n;
    c->origins = origins;
    c->base = base;
    return dc_pretok_run(&c->t->pretok, &c->e->pretok, text, n, on_word, c, c->err);
}

/* A piece of the original text[begin..end) between the added tokens of the first kind. */
static int encode_piece(call *c, const char *text, size_t begin, size_t end, const char *text_end)
{
    const dc_tokenizer *t = c->t;
    const char *normal;
    const int32_t *origins;
    size_t n, done = 0, from = 0;
    int rc = DC_OK;
    struct dc_found found;
    if (begin == end) return DC_OK;
    DC_TRY(dc_normalize(t, c->e, text + begin, end - begin, c->offsets != NULL, &normal, &n, &origins, c->err));
    c->end = normal == text + begin ? text_end : normal + n;
    for (; dc_added_next(&t->added[1], t, c->plain, normal, n, done, from, &found); from = found.next) {
        if (found.begin > done) /* not so when it overlaps what the one before has stripped */
            DC_TRY(encode_words(c, normal + done, found.begin - done, origins ? origins + done : NULL,
                                origins ? begin : begin + done));
        if (found.begin < found.end) /* what two tokens strip belongs to the first */
            DC_TRY(put_id(c, found.id, begin + (origins ? (size_t)origins[found.begin] : found.begin)));
        done = found.end;
    }
    rc = encode_words(c, normal + done, n - done, origins ? origins + done : NULL, origins ? begin : begin + done);
done:
    return rc;
}

static int encode_text(call *c, const char *text, size_t n)
{
    const dc_tokenizer *t = c->t;
    size_t done = 0, from = 0;
    int rc = DC_OK;
    if (t->from_gguf) {
        size_t count;
        DC_TRY(dc_added_all(&t->added[0], t, c->plain, c->e, text, n, &count, c->err));
        for (size_t i = 0; i < count; i++) {
            const struct dc_found f = c->e->found[i];
            DC_TRY(encode_piece(c, text, done, f.begin, text + n));
            DC_TRY(put_id(c, f.id, f.begin));
            done = f.end;
        }
    } else {
        struct dc_found f;
        for (; dc_added_next(&t->added[0], t, c->plain, text, n, done, from, &f); from = f.next) {
            if (f.begin > done) DC_TRY(encode_piece(c, text, done, f.begin, text + n));
            if (f.begin < f.end) DC_TRY(put_id(c, f.id, f.begin));
            done = f.end;
        }
    }
    rc = encode_piece(c, text, done, n, text + n);
done:
    return rc;
}

int dc_encode_offsets(const dc_tokenizer *t, dc_ids *ids, dc_ids *offsets, const char *text, size_t n, unsigned flags,
                      dc_error *err)
{
    int rc = DC_OK;
    if (n > INT32_MAX) return dc_fail(err, DC_EFORMAT, "a text of %zu bytes is longer than one call can encode", n);
    const size_t valid = dc_utf8_span(text, n);
    if (valid < n)
        return dc_fail(err, DC_EFORMAT, "the text is not valid UTF-8: byte %zu is 0x%02x", valid,
                       (unsigned char)text[valid]);
    dc_encoder *e = encoder_take(t);
    if (!e) return dc_fail_memory(err, sizeof *e, "encoding");
    call c = {.t = t, .e = e, .ids = ids, .offsets = offsets, .plain = (flags & DC_TOK_PLAIN) != 0, .err = err};
    if (flags & DC_TOK_SPECIAL)
        for (size_t i = 0; i < t->n_prefix; i++) DC_TRY(put_id(&c, t->prefix[i], 0));
    DC_TRY(encode_text(&c, text, n));
    if (flags & DC_TOK_SPECIAL)
        for (size_t i = 0; i < t->n_suffix; i++) DC_TRY(put_id(&c, t->suffix[i], n));
done:
    encoder_give_back(t, e);
    return rc;
}

int dc_encode(const dc_tokenizer *t, dc_ids *ids, const char *text, size_t n, unsigned flags, dc_error *err)
{
    return dc_encode_offsets(t, ids, NULL, text, n, flags, err);
}

int dc_decode(const dc_tokenizer *t, dc_str *text, const int32_t *ids, size_t n, int skip_special, dc_error *err)
{
    dc_str raw = {0};
    int rc = DC_OK;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->size)
            DC_TRY(dc_fail(err, DC_EFORMAT, "token id %d at place %zu is not in the vocabulary of %lld", (int)ids[i], i,
                           (long long)t->size));
        if (skip_special && dc_token_is_special(t, ids[i])) continue;
        size_t length;
        const char *bytes = dc_token_bytes(t, ids[i], &length);
        if (bytes) dc_str_append(&raw, bytes, length);
    }
    for (size_t at = 0; at < raw.n;) {
        const size_t valid = dc_utf8_span(raw.data + at, raw.n - at);
        dc_str_append(text, raw.data + at, valid);
        at += valid;
        if (at >= raw.n) break;
        int32_t cp;
        at += dc_utf8_decode(&cp, raw.data + at, raw.n - at);
        dc_str_puts(text, "\xEF\xBF\xBD");
    }
    if (raw.failed || text->failed) rc = dc_fail_memory(err, raw.room, "text");
done:
    dc_str_release(&raw);
    return rc;
}
