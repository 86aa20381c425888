/* data/tokenizer_json.c -- tokenizer.json, the format of the tokenizers library (its serde types in tokenizers/src).
 *
 * Every component is read or refused by its name, so that no rule of a file is silently left out. */
#include <string.h>

#include "core/json.h"
#include "data/tokenizer_impl.h"
#include "data/unicode.h"

typedef struct reader {
    dc_tokenizer *t;
    const char *name; /* of the file */
    dc_error *err;
} reader;

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "without a type";
}

static int refuse(const reader *r, const char *what, const char *type)
{
    return dc_fail(r->err, DC_EUNKNOWN, "%s: the %s %s is not supported", r->name, what, type);
}

static int flag(const reader *r, int *out, const json_t *object, const char *key, int fallback)
{
    return dc_json_bool(out, object, key, fallback, r->name, r->err);
}

/* ---- model ---- */

static int read_vocab(const reader *r, const json_t *vocab)
{
    int64_t most = -1;
    const int64_t entries = (int64_t)json_object_size(vocab);
    int rc = DC_OK;
    if (!json_is_object(vocab)) return dc_fail(r->err, DC_EFORMAT, "%s: model.vocab is not an object", r->name);
    for (void *i = json_object_iter((json_t *)vocab); i; i = json_object_iter_next((json_t *)vocab, i)) {
        const json_t *id = json_object_iter_value(i);
        const int64_t value = json_is_integer(id) ? (int64_t)json_integer_value(id) : -1;
        /* A few holes are fine; a stray huge id would cost memory for all below it. */
        if (value < 0 || value >= 2 * entries + 65536)
            return dc_fail(r->err, DC_EFORMAT,
                           "%s: the id of '%.80s' in model.vocab is not a number from 0 on, near the size %lld",
                           r->name, json_object_iter_key(i), (long long)entries);
        if (value > most) most = value;
    }
    DC_TRY(dc_tokenizer_reserve(r->t, most + 1, r->err));
    for (void *i = json_object_iter((json_t *)vocab); i; i = json_object_iter_next((json_t *)vocab, i)) {
        const char *text = json_object_iter_key(i);
        const int64_t id = (int64_t)json_integer_value(json_object_iter_value(i));
        if (r->t->tokens[id].text)
            return dc_fail(r->err, DC_EFORMAT, "%s: '%.80s' and '%.80s' both have id %lld", r->name,
                           r->t->tokens[id].text, text, (long long)id);
        DC_TRY(dc_tokenizer_put(r->t, id, text, strlen(text), DC_TOKEN_MODEL, r->err));
    }
done:
    return rc;
}

/* Both shapes: "a b" and ["a", "b"]. */
static int read_merges(const reader *r, const json_t *merges)
{
    if (!json_is_array(merges)) return dc_fail(r->err, DC_EFORMAT, "%s: model.merges is not a list", r->name);
    const size_t n = json_array_size(merges);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(merges, i);
        const char *left = json_string_value(m), *right = NULL;
        size_t n_left = 0, n_right = 0;
        if (left) {
            const char *space = strchr(left, ' ');
            if (space) {
                n_left = (size_t)(space - left);
                right = space + 1;
                n_right = json_string_length(m) - n_left - 1;
                if (memchr(right, ' ', n_right)) right = NULL;
            }
        } else if (json_array_size(m) == 2 && json_is_string(json_array_get(m, 0)) &&
                   json_is_string(json_array_get(m, 1))) {
            left = json_string_value(json_array_get(m, 0));
            right = json_string_value(json_array_get(m, 1));
            n_left = json_string_length(json_array_get(m, 0));
            n_right = json_string_length(json_array_get(m, 1));
        }
        if (!left || !right)
            return dc_fail(r->err, DC_EFORMAT, "%s: model.merges[%zu] is not a pair of tokens", r->name, i);
        const int rc = dc_tokenizer_merge(r->t, left, n_left, right, n_right, r->err);
        if (rc != DC_OK) {
            dc_error_prefix(r->err, "%s", r->name);
            return rc;
        }
    }
    return DC_OK;
}

static int read_model(const reader *r, const json_t *model)
{
    int rc = DC_OK, fallback, fuse, ignore;
    const char *unk, *prefix, *suffix;
    double dropout;
    if (!json_is_object(model)) return dc_fail(r->err, DC_EFORMAT, "%s: it has no model", r->name);
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges")) return refuse(r, "model", type_of(model));
    DC_TRY(flag(r, &fallback, model, "byte_fallback", 0));
    if (fallback) return refuse(r, "model", "byte_fallback BPE");
    DC_TRY(flag(r, &fuse, model, "fuse_unk", 0));
    DC_TRY(flag(r, &ignore, model, "ignore_merges", 0));
    DC_TRY(dc_json_f64(&dropout, model, "dropout", 0, r->name, r->err));
    if (dropout > 0) return refuse(r, "model's", "dropout");
    DC_TRY(dc_json_text(&unk, model, "unk_token", NULL, r->name, r->err));
    DC_TRY(dc_json_text(&prefix, model, "continuing_subword_prefix", "", r->name, r->err));
    DC_TRY(dc_json_text(&suffix, model, "end_of_word_suffix", "", r->name, r->err));
    if (prefix[0]) return refuse(r, "model's", "continuing_subword_prefix");
    if (suffix[0]) return refuse(r, "model's", "end_of_word_suffix");
    DC_TRY(read_vocab(r, json_object_get(model, "vocab")));
    DC_TRY(dc_tokenizer_index(r->t, r->err));
    dc_tokenizer_bytes(r->t);
    DC_TRY(read_merges(r, json_object_get(model, "merges")));
    r->t->ignore_merges = ignore;
    r->t->bpe.fuse_unk = fuse;
    if (unk) r->t->unk = r->t->bpe.unk = dc_token_find(r->t, unk);
done:
    return rc;
}

/* ---- added tokens ---- */

/* The library does not take a new token's id from the file: it gives the next one. A file that says otherwise means two things. */
static int check_id(const reader *r, const char *content, int64_t id, int64_t *next)
{
    if (id != *next)
        return dc_fail(r->err, DC_EFORMAT, "%s: added token '%.80s' has id %lld, but %lld is the next one", r->name,
                       content, (long long)id, (long long)*next);
    ++*next;
    return DC_OK;
}

static int read_added_token(const reader *r, const json_t *token, size_t i, int64_t *next)
{
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = {{"special", DC_TOKEN_IS_SPECIAL},
                 {"lstrip", DC_TOKEN_LSTRIP},
                 {"rstrip", DC_TOKEN_RSTRIP},
                 {"single_word", DC_TOKEN_SINGLE_WORD},
                 {"normalized", DC_TOKEN_NORMALIZED}};
    dc_tokenizer *t = r->t;
    int64_t id;
    const char *content;
    unsigned found = DC_TOKEN_ADDED;
    int rc = DC_OK;
    DC_TRY(dc_json_i64(&id, token, "id", -1, r->name, r->err));
    DC_TRY(dc_json_text(&content, token, "content", NULL, r->name, r->err));
    if (!content || id < 0 || id >= 2 * t->size + 65536)
        return dc_fail(r->err, DC_EFORMAT, "%s: added_tokens[%zu] needs an id near the vocabulary and a content",
                       r->name, i);
    const size_t n = json_string_length(json_object_get(token, "content"));
    for (size_t k = 0; k < sizeof flags / sizeof *flags; k++) {
        int on;
        DC_TRY(flag(r, &on, token, flags[k].key, 0));
        if (on) found |= flags[k].flag;
    }
    DC_TRY(dc_tokenizer_reserve(t, id + 1, r->err));
    dc_token *old = &t->tokens[id];
    if (old->text && (old->n != n || memcmp(old->text, content, n) != 0))
        return dc_fail(r->err, DC_EFORMAT, "%s: added token '%.80s' has id %lld, which is '%.80s' in the vocabulary",
                       r->name, content, (long long)id, old->text);
    if (old->text) {
        old->flags |= found;
    } else if (dc_token_lookup(t, content, n) >= 0) {
        rc = dc_fail(r->err, DC_EFORMAT, "%s: added token '%.80s' has id %lld, but %d in the vocabulary", r->name,
                     content, (long long)id, (int)dc_token_lookup(t, content, n));
    } else {
        DC_TRY(check_id(r, content, id, next));
        rc = dc_tokenizer_put(t, id, content, n, found, r->err);
    }
done:
    return rc;
}

static int read_added(const reader *r, const json_t *added)
{
    const size_t n = json_array_size(added);
    int rc = DC_OK;
    int64_t next = r->t->size;
    for (size_t i = 0; i < n; i++) DC_TRY(read_added_token(r, json_array_get(added, i), i, &next));
    if (n) { /* the table again, with them */
        dc_free(r->t->slots);
        r->t->slots = NULL;
        rc = dc_tokenizer_index(r->t, r->err);
    }
done:
    return rc;
}

/* ---- normalizer ---- */

enum { NESTED = 16 };

static int read_normalizer(const reader *r, const json_t *n, int depth)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    if (!n || json_is_null(n)) return DC_OK;
    const char *type = type_of(n);
    if (!strcmp(type, "Sequence") && depth < NESTED) {
        const json_t *list = json_object_get(n, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const int rc = read_normalizer(r, json_array_get(list, i), depth + 1);
            if (rc != DC_OK) return rc;
        }
        return DC_OK;
    }
    for (int f = 0; f < 4; f++) {
        if (strcmp(type, forms[f]) != 0) continue;
        if (r->t->n_forms == DC_FORMS_MOST) return refuse(r, "normalizer", "of more than four forms");
        r->t->forms[r->t->n_forms++] = f;
        return DC_OK;
    }
    return refuse(r, "normalizer", type);
}

/* ---- pre-tokenizer ---- */

static int read_split(const reader *r, const json_t *p)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                            "Contiguous"};
    const char *behavior, *text;
    const json_t *pattern = json_object_get(p, "pattern");
    int invert, rc = DC_OK, b = 0;
    DC_TRY(dc_json_text(&behavior, p, "behavior", "", r->name, r->err));
    DC_TRY(flag(r, &invert, p, "invert", 0));
    while (b < 5 && strcmp(behavior, behaviors[b]) != 0) b++;
    if (b == 5) return refuse(r, "Split behavior", behavior);
    const json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    text = json_string_value(regex ? regex : string);
    if (!text || strlen(text) != json_string_length(regex ? regex : string))
        return dc_fail(r->err, DC_EFORMAT, "%s: a Split has no pattern", r->name);
    rc = regex ? dc_pretok_regex(&r->t->pretok, text, (dc_split)b, invert, r->err)
               : dc_pretok_string(&r->t->pretok, text, (dc_split)b, invert, r->err);
done:
    return rc;
}

static int read_byte_level(const reader *r, const json_t *p)
{
    int prefix, regex, rc = DC_OK;
    DC_TRY(flag(r, &prefix, p, "add_prefix_space", 1));
    DC_TRY(flag(r, &regex, p, "use_regex", 1));
    if (prefix) DC_TRY(dc_pretok_prefix(&r->t->pretok, r->err));
    if (regex) DC_TRY(dc_pretok_scan(&r->t->pretok, DC_SCAN_GPT2, r->err));
done:
    return rc;
}

/* `bytes` counts the ByteLevel stages: there must be one, and nothing may split its characters afterwards. */
static int read_pretok(const reader *r, const json_t *p, int *bytes, int depth)
{
    int rc = DC_OK, individual;
    if (!p || json_is_null(p)) return DC_OK;
    const char *type = type_of(p);
    if (!strcmp(type, "Sequence") && depth < NESTED) {
        const json_t *list = json_object_get(p, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            DC_TRY(read_pretok(r, json_array_get(list, i), bytes, depth + 1));
        return DC_OK;
    }
    if (*bytes) return refuse(r, "pre-tokenizer behind a ByteLevel, a", type);
    if (!strcmp(type, "Split")) return read_split(r, p);
    if (!strcmp(type, "ByteLevel")) {
        ++*bytes;
        return read_byte_level(r, p);
    }
    if (!strcmp(type, "Digits")) {
        DC_TRY(flag(r, &individual, p, "individual_digits", 0));
        return dc_pretok_digits(&r->t->pretok, individual, r->err);
    }
    rc = refuse(r, "pre-tokenizer", type);
done:
    return rc;
}

/* ---- post-processor and decoder ---- */

static int push_special(const reader *r, const json_t *p, const json_t *piece, int32_t **list, size_t *n, size_t *room)
{
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = json_object_get(json_object_get(json_object_get(p, "special_tokens"), name ? name : ""), "ids");
    if (!name || !json_is_array(ids))
        return dc_fail(r->err, DC_EFORMAT, "%s: the post-processor's token '%s' is not among its special_tokens",
                       r->name, name ? name : "?");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_int_t id = json_integer_value(json_array_get(ids, i));
        if (!json_is_integer(json_array_get(ids, i)) || id < 0 || id >= r->t->size)
            return dc_fail(r->err, DC_EFORMAT, "%s: the post-processor's token '%s' has an id outside the vocabulary",
                           r->name, name);
        if (dc_grow(list, *n, room, sizeof **list)) return dc_fail_memory(r->err, *room * sizeof **list, "token ids");
        (*list)[(*n)++] = (int32_t)id;
    }
    return DC_OK;
}

static int read_template(const reader *r, const json_t *p)
{
    dc_tokenizer *t = r->t;
    const json_t *single = json_object_get(p, "single");
    size_t rooms[2] = {t->n_prefix, t->n_suffix}, texts = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        const json_t *sequence = json_object_get(piece, "Sequence");
        int rc = DC_OK;
        if (sequence) texts++;
        else if (special && texts) rc = push_special(r, p, special, &t->suffix, &t->n_suffix, &rooms[1]);
        else if (special) rc = push_special(r, p, special, &t->prefix, &t->n_prefix, &rooms[0]);
        else
            rc = dc_fail(r->err, DC_EFORMAT, "%s: piece %zu of the post-processor is neither token nor text", r->name,
                         i);
        if (rc != DC_OK) return rc;
    }
    if (texts != 1)
        return dc_fail(r->err, DC_EFORMAT, "%s: the post-processor has the text %zu times, not once", r->name, texts);
    return DC_OK;
}

static int read_post(const reader *r, const json_t *p, int *templates, int depth)
{
    if (!p || json_is_null(p)) return DC_OK;
    const char *type = type_of(p);
    if (!strcmp(type, "ByteLevel")) return DC_OK; /* trims offsets only */
    if (!strcmp(type, "Sequence") && depth < NESTED) {
        const json_t *list = json_object_get(p, "processors");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const int rc = read_post(r, json_array_get(list, i), templates, depth + 1);
            if (rc != DC_OK) return rc;
        }
        return DC_OK;
    }
    if (strcmp(type, "TemplateProcessing") != 0) return refuse(r, "post-processor", type);
    if ((*templates)++) return refuse(r, "post-processor", "with two TemplateProcessing");
    return read_template(r, p);
}

static int read_decoder(const reader *r, const json_t *d, int depth)
{
    const char *type = type_of(d);
    if (!d || json_is_null(d)) return refuse(r, "decoder", "null (ByteLevel is)");
    if (!strcmp(type, "ByteLevel")) return DC_OK;
    const json_t *list = json_object_get(d, "decoders");
    if (!strcmp(type, "Sequence") && json_array_size(list) == 1 && depth < NESTED)
        return read_decoder(r, json_array_get(list, 0), depth + 1);
    return refuse(r, "decoder", type);
}

/* ---- the files beside it ---- */

/* "bos_token": a text, or an object with its content. */
static int32_t named_token(const dc_tokenizer *t, const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    return text ? dc_token_find(t, text) : -1;
}

/* A text, or a list of {"name", "template"} with one named "default". */
static const char *chat_template(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default")) return json_string_value(json_object_get(one, "template"));
    }
    return json_string_value(value);
}

static int read_around(const reader *r, const json_t *config, const json_t *generation)
{
    enum { MOST = 64 };
    dc_tokenizer *t = r->t;
    int32_t more[MOST];
    size_t n = 0;
    const json_t *eos = json_object_get(generation, "eos_token_id");
    for (size_t i = 0; n < MOST && i < (json_is_number(eos) ? 1 : json_array_size(eos)); i++) {
        const double id = json_number_value(json_is_number(eos) ? eos : json_array_get(eos, i));
        if (id >= 0 && id < (double)t->size) more[n++] = (int32_t)id;
    }
    t->bos = named_token(t, config, "bos_token");
    t->eos = named_token(t, config, "eos_token");
    t->pad = named_token(t, config, "pad_token");
    if (t->bos < 0 && t->n_prefix) t->bos = t->prefix[0];
    if (t->eos < 0 && n) t->eos = more[0];
    const char *text = chat_template(config);
    if (text && !(t->chat_template = dc_arena_strdup(&t->arena, text)))
        return dc_fail_memory(r->err, strlen(text), "a chat template");
    return dc_tokenizer_finish(t, more, n, r->err);
}

int dc_tokenizer_from_json(dc_tokenizer **out, dc_str *text, const char *name, const json_t *config,
                           const json_t *generation, dc_error *err)
{
    int rc = DC_OK, bytes = 0, templates = 0;
    json_t *root = NULL;
    reader r = {dc_tokenizer_new(), name, err};
    if (!r.t) return dc_fail_memory(err, sizeof *r.t, "a tokenizer");
    DC_TRY(dc_json_parse(&root, dc_str_text(text), text->n, name, err));
    if (!json_is_object(root)) DC_TRY(dc_fail(err, DC_EFORMAT, "%s: it is not an object", name));
    DC_TRY(read_normalizer(&r, json_object_get(root, "normalizer"), 0));
    DC_TRY(read_model(&r, json_object_get(root, "model")));
    DC_TRY(read_added(&r, json_object_get(root, "added_tokens")));
    DC_TRY(read_pretok(&r, json_object_get(root, "pre_tokenizer"), &bytes, 0));
    if (!bytes) DC_TRY(refuse(&r, "pre-tokenizer", "without a ByteLevel"));
    DC_TRY(read_post(&r, json_object_get(root, "post_processor"), &templates, 0));
    DC_TRY(read_decoder(&r, json_object_get(root, "decoder"), 0));
    DC_TRY(read_around(&r, config, generation));
    r.t->json = *text;
    *text = (dc_str){0};
    *out = r.t;
    r.t = NULL;
done:
    json_decref(root);
    dc_tokenizer_free(r.t);
    return rc;
}
