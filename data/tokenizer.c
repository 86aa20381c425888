/* data/tokenizer.c -- a tokenizer's life: filling it, asking it, comparing two, freeing it. */
#include "data/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer_impl.h"
#include "data/unicode.h"

void dc_ids_push(dc_ids *ids, int32_t id)
{
    if (ids->failed) return;
    if (ids->n == ids->room && dc_grow(&ids->data, ids->n, &ids->room, sizeof *ids->data)) {
        ids->failed = 1;
        return;
    }
    ids->data[ids->n++] = id;
}

void dc_ids_release(dc_ids *ids)
{
    dc_free(ids->data);
    *ids = (dc_ids){0};
}

/* ---- filling ---- */

dc_tokenizer *dc_tokenizer_new(void)
{
    dc_tokenizer *t = dc_calloc(1, sizeof *t);
    if (!t) return NULL;
    if (pthread_mutex_init(&t->lock, NULL)) {
        dc_free(t);
        return NULL;
    }
    t->bos = t->eos = t->pad = t->unk = t->bpe.unk = -1;
    for (int i = 0; i < 256; i++) t->bpe.byte_ids[i] = -1;
    return t;
}

void dc_tokenizer_free(dc_tokenizer *t)
{
    if (!t) return;
    while (t->idle) {
        dc_encoder *e = t->idle;
        t->idle = e->next;
        dc_pretok_work_release(&e->pretok);
        dc_bpe_work_release(&e->bpe);
        dc_ids_release(&e->starts);
        for (int i = 0; i < 2; i++) {
            dc_str_release(&e->normal[i]);
            dc_ids_release(&e->origins[i]);
        }
        dc_free(e->found);
        dc_free(e);
    }
    pthread_mutex_destroy(&t->lock);
    dc_bpe_release(&t->bpe);
    dc_pretok_release(&t->pretok);
    dc_added_release(&t->added[0]);
    dc_added_release(&t->added[1]);
    dc_str_release(&t->json);
    dc_str_release(&t->config);
    dc_str_release(&t->jinja);
    dc_free(t->tokens);
    dc_free(t->slots);
    dc_free(t->prefix);
    dc_free(t->suffix);
    dc_free(t->eog);
    dc_arena_release(&t->arena);
    dc_free(t);
}

int dc_tokenizer_reserve(dc_tokenizer *t, int64_t size, dc_error *err)
{
    if (size <= t->size) return DC_OK;
    dc_token *grown = dc_realloc(t->tokens, (size_t)size * sizeof *grown);
    if (!grown) return dc_fail_memory(err, (size_t)size * sizeof *grown, "tokens");
    memset(grown + t->size, 0, (size_t)(size - t->size) * sizeof *grown);
    t->tokens = grown;
    t->size = size;
    return DC_OK;
}

/* The bytes that a text of byte-level characters stands for; a text with any other character stands for itself, as in the
 * ByteLevel decoder. */
static size_t unmap(char *out, const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += dc_utf8_next(&cp, text + i);
        const int byte = dc_char_byte(cp);
        if (byte < 0) {
            memcpy(out, text, n);
            return n;
        }
        out[count++] = (char)byte;
    }
    return count;
}

int dc_tokenizer_put(dc_tokenizer *t, int64_t id, const char *text, size_t n, unsigned flags, dc_error *err)
{
    DC_ASSERT(id >= 0 && id < t->size);
    if (dc_utf8_span(text, n) != n || n > INT32_MAX)
        return dc_fail(err, DC_EFORMAT, "token %lld is not valid UTF-8", (long long)id);
    char *copy = dc_arena_alloc(&t->arena, 2 * n + 2);
    if (!copy) return dc_fail_memory(err, 2 * n + 2, "tokens");
    memcpy(copy, text, n);
    char *bytes = copy + n + 1;
    t->tokens[id] = (dc_token){copy, bytes, (uint32_t)n, (uint32_t)unmap(bytes, text, n), flags};
    return DC_OK;
}

static uint32_t hash_text(const char *text, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u ^ n;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 0x100000001B3u;
    return (uint32_t)(h ^ (h >> 32));
}

/* The slot of a text: its token's, or the empty one where it belongs. */
static uint32_t slot_of(const dc_tokenizer *t, const char *text, size_t n)
{
    uint32_t at = hash_text(text, n) & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const dc_token *token = &t->tokens[t->slots[at] - 1];
        if (token->n == n && !memcmp(token->text, text, n)) break;
    }
    return at;
}

void dc_tokenizer_enter(dc_tokenizer *t, int64_t id)
{
    t->slots[slot_of(t, t->tokens[id].text, t->tokens[id].n)] = (uint32_t)id + 1;
}

int dc_tokenizer_index(dc_tokenizer *t, dc_error *err)
{
    size_t size = 16;
    while (size < (size_t)t->size * 2) size *= 2;
    if (!(t->slots = dc_calloc(size, sizeof *t->slots))) return dc_fail_memory(err, size * sizeof *t->slots, "tokens");
    t->mask = (uint32_t)(size - 1);
    for (int64_t id = 0; id < t->size; id++) {
        const dc_token *token = &t->tokens[id];
        if (!token->text) continue;
        const uint32_t at = slot_of(t, token->text, token->n);
        if (t->slots[at])
            return dc_fail(err, DC_EFORMAT, "tokens %u and %lld have the same text '%.80s'", t->slots[at] - 1,
                           (long long)id, token->text);
        t->slots[at] = (uint32_t)id + 1;
    }
    return DC_OK;
}

int32_t dc_token_lookup(const dc_tokenizer *t, const char *text, size_t n)
{
    return t->slots ? (int32_t)t->slots[slot_of(t, text, n)] - 1 : -1;
}

void dc_tokenizer_bytes(dc_tokenizer *t)
{
    for (int b = 0; b < 256; b++) {
        char text[4];
        const size_t n = dc_utf8_encode(text, (int32_t)dc_byte_char((uint8_t)b));
        const int32_t id = dc_token_lookup(t, text, n);
        t->bpe.byte_ids[b] = id >= 0 && (t->tokens[id].flags & DC_TOKEN_MODEL) ? id : -1;
    }
}

int dc_tokenizer_merge(dc_tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                       dc_error *err)
{
    char small[256], *joined = small;
    int rc = DC_OK;
    if (n_left + n_right > sizeof small && !(joined = dc_malloc(n_left + n_right)))
        return dc_fail_memory(err, n_left + n_right, "merges");
    memcpy(joined, left, n_left);
    memcpy(joined + n_left, right, n_right);
    const int32_t a = dc_token_lookup(t, left, n_left), b = dc_token_lookup(t, right, n_right);
    const int32_t made = dc_token_lookup(t, joined, n_left + n_right);
    if (a < 0 || b < 0 || made < 0) {
        const char *what = a < 0 ? left : b < 0 ? right : joined;
        const size_t n = a < 0 ? n_left : b < 0 ? n_right : n_left + n_right;
        rc =
            dc_fail(err, DC_EFORMAT, "merge %zu ('%.*s' and '%.*s') needs the token '%.*s', which the vocabulary lacks",
                    t->bpe.n_merges, (int)(n_left < 60 ? n_left : 60), left, (int)(n_right < 60 ? n_right : 60), right,
                    (int)(n < 60 ? n : 60), what);
    } else {
        rc = dc_bpe_add(&t->bpe, a, b, made, err);
    }
    if (joined != small) dc_free(joined);
    return rc;
}

/* ---- what follows from the rest ---- */

static int listed(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(text, *list)) return 1;
    return 0;
}

/* Source of both lists: src/llama-vocab.cpp of llama.cpp. */
int dc_text_ends_generation(const char *text)
{
    static const char *const list[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>",
                                       "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>",
                                       "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>",
                                       "<turn|>", "<|tool_response>",
                                       "<\xEF\xBD\x9C"
                                       "end\xE2\x96\x81"
                                       "of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                       "[e~[",
                                       /* ends of a padded, repository or file part of infill */
                                       "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>",
                                       "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>", NULL};
    return listed(text, list);
}

int dc_text_is_infill(const char *text)
{
    static const char *const list[] = {"<|fim_prefix|>",
                                       "<fim-prefix>",
                                       "<fim_prefix>",
                                       "<PRE>",
                                       "<|code_prefix|>",
                                       "<|prefix|>",
                                       "<|fim_suffix|>",
                                       "<fim-suffix>",
                                       "<fim_suffix>",
                                       "<SUF>",
                                       "<|code_suffix|>",
                                       "<|suffix|>",
                                       "<|fim_middle|>",
                                       "<fim-middle>",
                                       "<fim_middle>",
                                       "<MID>",
                                       "<|code_middle|>",
                                       "<|middle|>",
                                       NULL};
    return listed(text, list);
}

static int add_eog(dc_tokenizer *t, size_t *room, int32_t id, dc_error *err)
{
    if (id < 0 || id >= t->size) return DC_OK;
    for (size_t i = 0; i < t->n_eog; i++)
        if (t->eog[i] == id) return DC_OK;
    if (dc_grow(&t->eog, t->n_eog, room, sizeof *t->eog))
        return dc_fail_memory(err, *room * sizeof *t->eog, "token ids");
    t->eog[t->n_eog++] = id;
    return DC_OK;
}

static void drop_eog(dc_tokenizer *t, const char *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->n_eog; i++)
        if (strcmp(t->tokens[t->eog[i]].text ? t->tokens[t->eog[i]].text : "", text) != 0) t->eog[kept++] = t->eog[i];
    t->n_eog = kept;
}

static int has_eog(const dc_tokenizer *t, const char *text)
{
    for (size_t i = 0; i < t->n_eog; i++)
        if (t->tokens[t->eog[i]].text && !strcmp(t->tokens[t->eog[i]].text, text)) return 1;
    return 0;
}

static int find_eog(dc_tokenizer *t, const int32_t *more, size_t n_more, dc_error *err)
{
    size_t room = 0;
    int rc = DC_OK;
    DC_TRY(add_eog(t, &room, t->eos, err));
    for (size_t i = 0; i < n_more; i++) DC_TRY(add_eog(t, &room, more[i], err));
    for (int64_t id = 0; id < t->size; id++)
        if ((t->tokens[id].flags & DC_TOKEN_ADDED) && dc_text_ends_generation(t->tokens[id].text))
            DC_TRY(add_eog(t, &room, (int32_t)id, err));
    /* Two families have <|end|> inside an answer, one has </s> as ordinary text; llama.cpp tells them by their other tokens. */
    const int call = has_eog(t, "<|call|>") || has_eog(t, "<|calls|>");
    if (call && (has_eog(t, "<|return|>") || has_eog(t, "<|flush|>"))) drop_eog(t, "<|end|>");
    if (has_eog(t, "<|tool_response>")) drop_eog(t, "</s>");
done:
    return rc;
}

static dc_hash hash_rules(const dc_tokenizer *t, dc_hasher *h)
{
    dc_hasher_add_text(h, "decant tokenizer 1");
    dc_hasher_add_i64(h, t->size);
    for (int64_t id = 0; id < t->size; id++) {
        const dc_token *token = &t->tokens[id];
        dc_hasher_add_i64(h, token->text ? (int64_t)token->flags : -1);
        if (token->text) dc_hasher_add_text(h, token->text);
    }
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        dc_hasher_add_i64(h, t->bpe.merges[i].left);
        dc_hasher_add_i64(h, t->bpe.merges[i].right);
    }
    dc_hasher_add_i64(h, t->ignore_merges);
    dc_hasher_add_i64(h, t->bpe.unk);
    dc_hasher_add_i64(h, t->bpe.fuse_unk);
    dc_hasher_add_i64(h, t->from_gguf);
    for (int i = 0; i < t->n_forms; i++) dc_hasher_add_i64(h, t->forms[i]);
    for (size_t i = 0; i < t->pretok.n; i++) {
        const dc_stage *s = &t->pretok.stages[i];
        dc_hasher_add_i64(h, (int64_t)s->kind * 1000 + (int64_t)s->scan * 100 + (int64_t)s->behavior * 10 + s->invert);
        dc_hasher_add_text(h, s->pattern ? s->pattern : "");
    }
    for (size_t i = 0; i < t->n_prefix; i++) dc_hasher_add_i64(h, t->prefix[i]);
    dc_hasher_add_i64(h, -1);
    for (size_t i = 0; i < t->n_suffix; i++) dc_hasher_add_i64(h, t->suffix[i]);
    return dc_hasher_get(h);
}

int dc_tokenizer_finish(dc_tokenizer *t, const int32_t *more_eog, size_t n_more, dc_error *err)
{
    int rc = DC_OK;
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 1024, "a hash");
    DC_TRY(dc_bpe_index(&t->bpe, t->from_gguf, err));
    DC_TRY(dc_added_build(&t->added[0], t, 0, err));
    DC_TRY(dc_added_build(&t->added[1], t, 1, err));
    DC_TRY(find_eog(t, more_eog, n_more, err));
    t->hash = hash_rules(t, h);
done:
    dc_hasher_free(h);
    return rc;
}

/* ---- asking ---- */

int64_t dc_tokenizer_size(const dc_tokenizer *t) { return t->size; }

const char *dc_token_bytes(const dc_tokenizer *t, int32_t id, size_t *n)
{
    if (id < 0 || id >= t->size || !t->tokens[id].text || (t->tokens[id].flags & DC_TOKEN_UNUSED)) {
        *n = 0;
        return NULL;
    }
    *n = t->tokens[id].n_bytes;
    return t->tokens[id].bytes;
}

int32_t dc_token_find(const dc_tokenizer *t, const char *content)
{
    return dc_token_lookup(t, content, strlen(content));
}

int dc_token_is_special(const dc_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && (t->tokens[id].flags & DC_TOKEN_IS_SPECIAL) != 0;
}

int32_t dc_tokenizer_bos(const dc_tokenizer *t) { return t->bos; }
int32_t dc_tokenizer_eos(const dc_tokenizer *t) { return t->eos; }
int32_t dc_tokenizer_pad(const dc_tokenizer *t) { return t->pad; }

const int32_t *dc_tokenizer_eog(const dc_tokenizer *t, size_t *n)
{
    *n = t->n_eog;
    return t->eog;
}

const char *dc_tokenizer_chat_template(const dc_tokenizer *t) { return t->chat_template; }
dc_hash dc_tokenizer_hash(const dc_tokenizer *t) { return t->hash; }

/* ---- comparing ---- */

static const dc_token *real_token(const dc_tokenizer *t, int64_t id)
{
    if (id >= t->size || !t->tokens[id].text || (t->tokens[id].flags & DC_TOKEN_UNUSED)) return NULL;
    return &t->tokens[id];
}

static const char *shown(const dc_token *t, char *out, size_t room)
{
    if (t) snprintf(out, room, "'%.60s'", t->text);
    else snprintf(out, room, "nothing");
    return out;
}

int dc_tokenizer_same(const dc_tokenizer *a, const dc_tokenizer *b, const char *name_a, const char *name_b,
                      dc_error *err)
{
    char na[32], nb[32], ta[80], tb[80];
    const int64_t most = a->size > b->size ? a->size : b->size;
    for (int64_t id = 0; id < most; id++) {
        const dc_token *x = real_token(a, id), *y = real_token(b, id);
        if (!x && !y) continue;
        if (x && y && x->n == y->n && !memcmp(x->text, y->text, x->n)) continue;
        return dc_fail(err, DC_EMISMATCH,
                       "%s and %s do not share a vocabulary: %s and %s entries, first difference at id %lld "
                       "(%s and %s).",
                       name_a, name_b, dc_human_count(na, sizeof na, a->size), dc_human_count(nb, sizeof nb, b->size),
                       (long long)id, shown(x, ta, sizeof ta), shown(y, tb, sizeof tb));
    }
    const size_t merges = a->bpe.n_merges < b->bpe.n_merges ? a->bpe.n_merges : b->bpe.n_merges;
    for (size_t i = 0; i < merges; i++) {
        const dc_merge *x = &a->bpe.merges[i], *y = &b->bpe.merges[i];
        if (x->left != y->left || x->right != y->right)
            return dc_fail(err, DC_EMISMATCH,
                           "%s and %s share a vocabulary but not the merges: the first difference is merge %zu "
                           "('%.60s' + '%.60s' and '%.60s' + '%.60s').",
                           name_a, name_b, i, a->tokens[x->left].text, a->tokens[x->right].text,
                           b->tokens[y->left].text, b->tokens[y->right].text);
    }
    if (a->bpe.n_merges != b->bpe.n_merges)
        return dc_fail(err, DC_EMISMATCH, "%s and %s share a vocabulary but not the merges: %s and %s.", name_a, name_b,
                       dc_human_count(na, sizeof na, (int64_t)a->bpe.n_merges),
                       dc_human_count(nb, sizeof nb, (int64_t)b->bpe.n_merges));
    const char *pre_a = dc_pretok_name(&a->pretok, a->ignore_merges),
               *pre_b = dc_pretok_name(&b->pretok, b->ignore_merges);
    const int alike = dc_pretok_equal(&a->pretok, &b->pretok) || (pre_a && pre_b && !strcmp(pre_a, pre_b));
    if (!alike || a->ignore_merges != b->ignore_merges)
        return dc_fail(err, DC_EMISMATCH, "%s and %s share a vocabulary but split text by different rules (%s and %s).",
                       name_a, name_b, pre_a ? pre_a : "rules without a name", pre_b ? pre_b : "rules without a name");
    return DC_OK;
}

/* ---- opening ---- */

static int ends_in(const char *path, const char *ending)
{
    const size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcmp(path + n - m, ending);
}

enum { FILE_MOST = 256 << 20 }; /* bytes of a tokenizer.json */

/* All numbers as reals: the usual model_max_length, 1e30 written out, does not fit an integer. */
static int parse_lenient(json_t **json, const dc_str *text, const char *path, dc_error *err)
{
    json_error_t why;
    *json = json_loadb(dc_str_text(text), text->n, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &why);
    if (*json) return DC_OK;
    const int memory = json_error_code(&why) == json_error_out_of_memory;
    return dc_fail(err, memory ? DC_ENOMEM : DC_EFORMAT, "%s:%d:%d: %s", path, why.line, why.column, why.text);
}

/* A file beside tokenizer.json, when there is one. */
static int read_beside(dc_str *text, json_t **json, const char *dir, const char *name, dc_error *err)
{
    char *path = dc_path_join(dir, name);
    if (!path) return dc_fail_memory(err, strlen(dir) + strlen(name), "a path");
    dc_path_info there;
    int rc = dc_path_look(&there, path, err);
    if (rc == DC_OK && there.exists) {
        rc = dc_file_read(text, path, FILE_MOST, err);
        if (rc == DC_OK && json) rc = parse_lenient(json, text, path, err);
    }
    dc_free(path);
    return rc;
}

static int open_json(dc_tokenizer **out, const char *path, const char *dir, dc_error *err)
{
    dc_str text = {0}, config_text = {0}, generation_text = {0}, jinja = {0};
    json_t *config = NULL, *generation = NULL;
    dc_tokenizer *t = NULL;
    int rc = DC_OK;
    DC_TRY(dc_file_read(&text, path, FILE_MOST, err));
    DC_TRY(read_beside(&config_text, &config, dir, "tokenizer_config.json", err));
    DC_TRY(read_beside(&generation_text, &generation, dir, "generation_config.json", err));
    DC_TRY(read_beside(&jinja, NULL, dir, "chat_template.jinja", err));
    DC_TRY(dc_tokenizer_from_json(&t, &text, path, config, generation, err));
    t->config = config_text;
    t->jinja = jinja;
    config_text = jinja = (dc_str){0};
    if (t->jinja.n) t->chat_template = t->jinja.data; /* it comes before the one in tokenizer_config.json */
    *out = t;
    t = NULL;
done:
    json_decref(config);
    json_decref(generation);
    dc_str_release(&text);
    dc_str_release(&config_text);
    dc_str_release(&generation_text);
    dc_str_release(&jinja);
    dc_tokenizer_free(t);
    return rc;
}

int dc_tokenizer_open(dc_tokenizer **out, const char *path, dc_error *err)
{
    *out = NULL;
    if (dc_path_is_dir(path)) {
        char *file = dc_path_join(path, "tokenizer.json");
        if (!file) return dc_fail_memory(err, strlen(path) + 16, "a path");
        dc_path_info there;
        int rc = dc_path_look(&there, file, err);
        if (rc == DC_OK)
            rc = there.exists
                     ? open_json(out, file, path, err)
                     : dc_fail(err, DC_EIO, "%s has no tokenizer.json; decant reads that file or a GGUF", path);
        dc_free(file);
        return rc;
    }
    if (ends_in(path, ".gguf")) {
        dc_gguf *g = NULL;
        int rc = dc_gguf_open(&g, path, err);
        if (rc == DC_OK) rc = dc_tokenizer_from_gguf(out, g, err);
        dc_gguf_close(g); /* texts were copied */
        return rc;
    }
    const size_t cut = (size_t)(dc_path_base(path) - path);
    char *dir = cut ? dc_strdup(path) : dc_strdup(".");
    if (!dir) return dc_fail_memory(err, strlen(path), "a path");
    if (cut) dir[cut] = 0;
    const int rc = open_json(out, path, dir, err);
    dc_free(dir);
    return rc;
}
