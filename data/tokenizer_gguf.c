/* data/tokenizer_gguf.c -- the tokenizer.ggml.* keys of a GGUF, read as llama.cpp reads them and written.
 *
 * Source: src/llama-vocab.cpp of llama.cpp, its corrections of token types included, so that the ids are those of llama_tokenize. */
#include <stdio.h>
#include <string.h>

#include "data/tokenizer_impl.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

#define KEY(name) "tokenizer.ggml." name

/* ---- reading ---- */

static unsigned flags_of(int64_t type, const char *text)
{
    /* Harmony's structure tokens are always text; other well-known ones are control tokens whatever the file says. */
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (!strcmp(text, shown[i])) return DC_TOKEN_MODEL | DC_TOKEN_ADDED;
    if (dc_text_ends_generation(text) || dc_text_is_infill(text))
        return DC_TOKEN_MODEL | DC_TOKEN_ADDED | DC_TOKEN_IS_SPECIAL;
    switch (type) {
    case TYPE_UNKNOWN:
    case TYPE_CONTROL: return DC_TOKEN_MODEL | DC_TOKEN_ADDED | DC_TOKEN_IS_SPECIAL;
    case TYPE_USER_DEFINED: return DC_TOKEN_MODEL | DC_TOKEN_ADDED;
    case TYPE_UNUSED: return DC_TOKEN_MODEL | DC_TOKEN_UNUSED;
    default: return DC_TOKEN_MODEL;
    }
}

static const dc_gguf_kv *find_list(const dc_gguf *g, const char *key, dc_gguf_type item, int needed, int *rc,
                                   dc_error *err)
{
    const dc_gguf_kv *kv = dc_gguf_find(g, key);
    if (kv && (kv->type != DC_GGUF_ARRAY || kv->item != item)) {
        *rc = dc_fail(err, DC_EFORMAT, "%s: %s must be a list of %s", dc_gguf_path(g), key, dc_gguf_type_name(item));
        return NULL;
    }
    if (!kv && needed) *rc = dc_fail(err, DC_EFORMAT, "%s: it has no %s", dc_gguf_path(g), key);
    return kv;
}

static int read_tokens(dc_tokenizer *t, const dc_gguf *g, dc_error *err)
{
    int rc = DC_OK;
    const dc_gguf_kv *tokens = find_list(g, KEY("tokens"), DC_GGUF_STRING, 1, &rc, err);
    const dc_gguf_kv *types = rc == DC_OK ? find_list(g, KEY("token_type"), DC_GGUF_I32, 0, &rc, err) : NULL;
    if (rc != DC_OK) return rc;
    if (tokens->n == 0 || tokens->n > INT32_MAX / 2 || (types && types->n < tokens->n))
        return dc_fail(err, DC_EFORMAT, "%s: %lld tokens and %lld token types", dc_gguf_path(g), (long long)tokens->n,
                       (long long)(types ? types->n : 0));
    DC_TRY(dc_tokenizer_reserve(t, tokens->n, err));
    for (int64_t i = 0; i < tokens->n; i++) {
        char empty[40];
        const char *text = tokens->texts[i].data;
        size_t n = tokens->texts[i].n;
        if (n == 0) { /* llama.cpp's name for it */
            n = (size_t)snprintf(empty, sizeof empty, "[EMPTY_%lld]", (long long)i);
            text = empty;
        }
        DC_TRY(dc_tokenizer_put(t, i, text, n, 0, err));
        t->tokens[i].flags = flags_of(types ? dc_gguf_item_i64(types, i) : TYPE_NORMAL, t->tokens[i].text);
    }
    rc = dc_tokenizer_index(t, err);
done:
    if (rc != DC_OK) dc_error_prefix(err, "%s", dc_gguf_path(g));
    return rc;
}

static int read_merges(dc_tokenizer *t, const dc_gguf *g, dc_error *err)
{
    int rc = DC_OK;
    const dc_gguf_kv *merges = find_list(g, KEY("merges"), DC_GGUF_STRING, 1, &rc, err);
    if (!merges) return rc;
    for (int64_t i = 0; i < merges->n; i++) {
        const dc_gguf_text m = merges->texts[i];
        const char *space = m.n > 1 ? memchr(m.data + 1, ' ', m.n - 1) : NULL; /* the left part is never empty */
        if (!space)
            return dc_fail(err, DC_EFORMAT, "%s: merge %lld, '%.*s', is not a pair of tokens", dc_gguf_path(g),
                           (long long)i, (int)(m.n < 80 ? m.n : 80), m.data);
        const size_t left = (size_t)(space - m.data);
        rc = dc_tokenizer_merge(t, m.data, left, space + 1, m.n - left - 1, err);
        if (rc != DC_OK) {
            dc_error_prefix(err, "%s", dc_gguf_path(g));
            return rc;
        }
    }
    return DC_OK;
}

/* A token by its key: -1 when the key is absent or names no token. */
static int read_id(int32_t *out, const dc_tokenizer *t, const dc_gguf *g, const char *key, dc_error *err)
{
    int64_t id;
    const int rc = dc_gguf_i64(&id, g, key, -1, err);
    *out = rc == DC_OK && id >= 0 && id < t->size ? (int32_t)id : -1;
    return rc;
}

/* Where a key is missing llama.cpp takes token 11. */
static int add_id(int32_t **list, size_t *n, const dc_tokenizer *t, int32_t id, dc_error *err)
{
    if (id < 0) id = 11;
    if (id >= t->size) return DC_OK;
    if (!(*list = dc_malloc(sizeof **list))) return dc_fail_memory(err, sizeof **list, "token ids");
    (*list)[0] = id;
    *n = 1;
    return DC_OK;
}

static int read_rules(dc_tokenizer *t, dc_gguf *g, dc_error *err)
{
    const char *model, *pre, *text;
    int add_bos, add_eos, rc = DC_OK;
    int32_t eot, eom;
    DC_TRY(dc_gguf_str(&model, g, KEY("model"), NULL, err));
    if (!model || strcmp(model, "gpt2") != 0)
        return dc_fail(err, DC_EUNKNOWN, "%s: tokenizer.ggml.model '%s' is not supported; 'gpt2' (byte-level BPE) is",
                       dc_gguf_path(g), model ? model : "");
    DC_TRY(dc_gguf_str(&pre, g, KEY("pre"), "default", err));
    rc = dc_pretok_named(&t->pretok, pre, &t->ignore_merges, &add_bos, err);
    if (rc != DC_OK) {
        dc_error_prefix(err, "%s", dc_gguf_path(g));
        return rc;
    }
    if (!(t->pre = dc_arena_strdup(&t->arena, pre))) return dc_fail_memory(err, strlen(pre), "a name");
    DC_TRY(read_tokens(t, g, err));
    dc_tokenizer_bytes(t);
    DC_TRY(read_merges(t, g, err));
    DC_TRY(read_id(&t->bos, t, g, KEY("bos_token_id"), err));
    DC_TRY(read_id(&t->eos, t, g, KEY("eos_token_id"), err));
    DC_TRY(read_id(&t->pad, t, g, KEY("padding_token_id"), err));
    DC_TRY(read_id(&t->unk, t, g, KEY("unknown_token_id"), err));
    DC_TRY(read_id(&eot, t, g, KEY("eot_token_id"), err));
    DC_TRY(read_id(&eom, t, g, KEY("eom_token_id"), err));
    DC_TRY(dc_gguf_bool(&add_bos, g, KEY("add_bos_token"), add_bos, err));
    DC_TRY(dc_gguf_bool(&add_eos, g, KEY("add_eos_token"), 0, err));
    if (add_bos) DC_TRY(add_id(&t->prefix, &t->n_prefix, t, t->bos, err));
    if (add_eos) DC_TRY(add_id(&t->suffix, &t->n_suffix, t, t->eos, err));
    DC_TRY(dc_gguf_str(&text, g, "tokenizer.chat_template", NULL, err));
    if (text && !(t->chat_template = dc_arena_strdup(&t->arena, text)))
        return dc_fail_memory(err, strlen(text), "a chat template");
    rc = dc_tokenizer_finish(t, (const int32_t[]){eot, eom}, 2, err);
done:
    return rc;
}

int dc_tokenizer_from_gguf(dc_tokenizer **out, dc_gguf *g, dc_error *err)
{
    dc_tokenizer *t = dc_tokenizer_new();
    if (!t) return dc_fail_memory(err, sizeof *t, "a tokenizer");
    t->from_gguf = t->bpe.gaps = 1;
    const int rc = read_rules(t, g, err);
    if (rc == DC_OK) *out = t;
    else dc_tokenizer_free(t);
    return rc;
}

/* ---- writing ---- */

/* A token that is not marked special but looks like one is a control token for llama.cpp's converter too. */
static int looks_special(const dc_token *t)
{
    static const char open_wide[] = "<\xEF\xBD\x9C", close_wide[] = "\xEF\xBD\x9C>";
    if (t->n >= 4 && !memcmp(t->text, "<|", 2) && !memcmp(t->text + t->n - 2, "|>", 2)) return 1;
    if (t->n >= 8 && !memcmp(t->text, open_wide, 4) && !memcmp(t->text + t->n - 4, close_wide, 4)) return 1;
    return t->n >= 9 && !memcmp(t->text, "<unused", 7) && t->text[t->n - 1] == '>';
}

static int32_t type_of(const dc_token *t)
{
    if (!t->text || (t->flags & DC_TOKEN_UNUSED)) return TYPE_UNUSED;
    if (!(t->flags & DC_TOKEN_ADDED)) return TYPE_NORMAL;
    return (t->flags & DC_TOKEN_IS_SPECIAL) || looks_special(t) ? TYPE_CONTROL : TYPE_USER_DEFINED;
}

static int put_tokens(const dc_tokenizer *t, dc_gguf_writer *w, int64_t n_vocab, dc_error *err)
{
    enum { PAD_ROOM = 32 };
    int rc = DC_OK;
    dc_gguf_text *texts = dc_malloc((size_t)n_vocab * sizeof *texts);
    int32_t *types = dc_malloc((size_t)n_vocab * sizeof *types);
    char *pads = dc_malloc((size_t)n_vocab * PAD_ROOM);
    if (!texts || !types || !pads) DC_TRY(dc_fail_memory(err, (size_t)n_vocab * (PAD_ROOM + sizeof *texts), "tokens"));
    for (int64_t id = 0; id < n_vocab; id++) {
        const dc_token *token = id < t->size && t->tokens[id].text ? &t->tokens[id] : NULL;
        char *pad = pads + id * PAD_ROOM;
        if (token) {
            texts[id] = (dc_gguf_text){token->text, token->n};
            types[id] = type_of(token);
        } else {
            texts[id] = (dc_gguf_text){pad, (size_t)snprintf(pad, PAD_ROOM, "[PAD%lld]", (long long)id)};
            types[id] = TYPE_UNUSED;
        }
    }
    dc_gguf_put_strs(w, KEY("tokens"), texts, n_vocab);
    dc_gguf_put_array(w, KEY("token_type"), DC_GGUF_I32, types, n_vocab);
done:
    dc_free(texts);
    dc_free(types);
    dc_free(pads);
    return rc;
}

static int put_merges(const dc_tokenizer *t, dc_gguf_writer *w, dc_error *err)
{
    const size_t n = t->bpe.n_merges;
    size_t bytes = 1, at = 0;
    for (size_t i = 0; i < n; i++) bytes += t->tokens[t->bpe.merges[i].made].n + 1;
    dc_gguf_text *texts = dc_malloc((n + 1) * sizeof *texts);
    char *text = dc_malloc(bytes);
    if (texts && text) {
        for (size_t i = 0; i < n; i++) {
            const dc_token *a = &t->tokens[t->bpe.merges[i].left], *b = &t->tokens[t->bpe.merges[i].right];
            texts[i] = (dc_gguf_text){text + at, (size_t)a->n + 1 + b->n};
            memcpy(text + at, a->text, a->n);
            text[at + a->n] = ' ';
            memcpy(text + at + a->n + 1, b->text, b->n);
            at += texts[i].n;
        }
        dc_gguf_put_strs(w, KEY("merges"), texts, (int64_t)n);
    }
    const int rc = texts && text ? DC_OK : dc_fail_memory(err, bytes + n * sizeof *texts, "merges");
    dc_free(texts);
    dc_free(text);
    return rc;
}

static void put_id(dc_gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0) dc_gguf_put_u32(w, key, (uint32_t)id);
}

int dc_tokenizer_put_gguf(const dc_tokenizer *t, dc_gguf_writer *w, int64_t n_vocab, dc_error *err)
{
    int rc = DC_OK;
    const char *pre = t->pre ? t->pre : dc_pretok_name(&t->pretok, t->ignore_merges);
    int64_t used = t->size;
    while (used > 0 && (!t->tokens[used - 1].text || (t->tokens[used - 1].flags & DC_TOKEN_UNUSED))) used--;
    if (used > n_vocab)
        return dc_fail(err, DC_EMISMATCH, "the tokenizer has %lld tokens but the embedding has %lld rows",
                       (long long)used, (long long)n_vocab);
    if (n_vocab > INT32_MAX / 2) return dc_fail(err, DC_EFORMAT, "%lld rows of an embedding", (long long)n_vocab);
    if (!pre)
        return dc_fail(err, DC_EUNKNOWN,
                       "the tokenizer's splitting rules%s have no name in GGUF, so llama.cpp could not follow them",
                       t->ignore_merges ? " (with ignore_merges)" : "");
    if (t->n_prefix > 1 || t->n_suffix > 1)
        return dc_fail(err, DC_EUNKNOWN,
                       "the tokenizer adds %zu tokens before and %zu behind a text; a GGUF can say one each",
                       t->n_prefix, t->n_suffix);
    dc_gguf_put_str(w, KEY("model"), "gpt2");
    dc_gguf_put_str(w, KEY("pre"), pre);
    DC_TRY(put_tokens(t, w, n_vocab, err));
    DC_TRY(put_merges(t, w, err));
    put_id(w, KEY("bos_token_id"), t->n_prefix ? t->prefix[0] : t->bos);
    put_id(w, KEY("eos_token_id"), t->n_suffix ? t->suffix[0] : t->eos);
    put_id(w, KEY("unknown_token_id"), t->unk);
    put_id(w, KEY("padding_token_id"), t->pad);
    dc_gguf_put_bool(w, KEY("add_bos_token"), t->n_prefix > 0);
    dc_gguf_put_bool(w, KEY("add_eos_token"), t->n_suffix > 0);
    if (t->chat_template) dc_gguf_put_str(w, "tokenizer.chat_template", t->chat_template);
done:
    return rc;
}
