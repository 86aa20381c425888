/* data/tokenizer_save.c -- writing tokenizer.json and tokenizer_config.json: the files as they were, or rebuilt from the rules. */
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "data/tokenizer_impl.h"

/* Jansson's functions that end in _new take references, NULL ones included, and fail with them; so a failure anywhere makes the whole
 * NULL. */

static json_t *pattern_of(const char *key, const char *text) { return json_pack("{s:s}", key, text); }

static json_t *split_of(const dc_stage *s)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                            "Contiguous"};
    const char *text = s->kind == DC_STAGE_SCAN ? dc_scan_pattern(s->scan) : s->pattern;
    return json_pack("{s:s, s:o, s:s, s:b}", "type", "Split", "pattern",
                     pattern_of(s->kind == DC_STAGE_STRING ? "String" : "Regex", text), "behavior",
                     behaviors[s->behavior], "invert", s->invert);
}

static json_t *byte_level(int prefix, int regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix, "trim_offsets", 0,
                     "use_regex", regex);
}

/* The last stages may be ByteLevel's own: its prefix space and its pattern. */
static json_t *pretok_of(const dc_pretok *p)
{
    json_t *list = json_array();
    size_t n = p->n;
    const int regex = n > 0 && p->stages[n - 1].kind == DC_STAGE_SCAN && p->stages[n - 1].scan == DC_SCAN_GPT2;
    n -= (size_t)regex;
    const int prefix = n > 0 && p->stages[n - 1].kind == DC_STAGE_PREFIX;
    n -= (size_t)prefix;
    for (size_t i = 0; i < n; i++) {
        const dc_stage *s = &p->stages[i];
        json_t *stage = s->kind == DC_STAGE_DIGITS ? json_pack("{s:s, s:b}", "type", "Digits", "individual_digits",
                                                               s->behavior == DC_SPLIT_ISOLATED)
                                                   : split_of(s);
        if (json_array_append_new(list, stage)) goto failed;
    }
    if (json_array_append_new(list, byte_level(prefix, regex))) goto failed;
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
failed:
    json_decref(list);
    return NULL;
}

static json_t *normalizer_of(const dc_tokenizer *t)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    if (!t->n_forms) return json_null();
    json_t *list = json_array();
    for (int i = 0; i < t->n_forms; i++)
        if (json_array_append_new(list, json_pack("{s:s}", "type", forms[t->forms[i]]))) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
}

static json_t *added_of(const dc_tokenizer *t)
{
    json_t *list = json_array();
    for (int64_t id = 0; id < t->size; id++) {
        const dc_token *token = &t->tokens[id];
        if (!token->text || !(token->flags & DC_TOKEN_ADDED)) continue;
        json_t *one = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id, "content", token->text,
                                (size_t)token->n, "single_word", (token->flags & DC_TOKEN_SINGLE_WORD) != 0, "lstrip",
                                (token->flags & DC_TOKEN_LSTRIP) != 0, "rstrip", (token->flags & DC_TOKEN_RSTRIP) != 0,
                                "normalized", (token->flags & DC_TOKEN_NORMALIZED) != 0, "special",
                                (token->flags & DC_TOKEN_IS_SPECIAL) != 0);
        if (json_array_append_new(list, one)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *vocab_of(const dc_tokenizer *t)
{
    json_t *vocab = json_object();
    for (int64_t id = 0; vocab && id < t->size; id++) {
        const dc_token *token = &t->tokens[id];
        if (!token->text || !(token->flags & DC_TOKEN_MODEL) || (token->flags & DC_TOKEN_UNUSED)) continue;
        if (json_object_setn_new(vocab, token->text, token->n, json_integer((json_int_t)id))) {
            json_decref(vocab);
            return NULL;
        }
    }
    return vocab;
}

static json_t *merges_of(const dc_tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        const dc_token *a = &t->tokens[t->bpe.merges[i].left], *b = &t->tokens[t->bpe.merges[i].right];
        if (json_array_append_new(list, json_pack("[s%,s%]", a->text, (size_t)a->n, b->text, (size_t)b->n))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int add_specials(json_t *single, json_t *known, const dc_tokenizer *t, const int32_t *ids, size_t n)
{
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        const char *text = t->tokens[ids[i]].text;
        failed |= json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", 0));
        failed |= json_object_set_new(known, text,
                                      json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", (int)ids[i], "tokens", text));
    }
    return failed;
}

static json_t *post_of(const dc_tokenizer *t)
{
    if (!t->n_prefix && !t->n_suffix) return byte_level(0, 0);
    json_t *single = json_array(), *known = json_object();
    int failed = !single || !known || add_specials(single, known, t, t->prefix, t->n_prefix) ||
                 json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0)) ||
                 add_specials(single, known, t, t->suffix, t->n_suffix);
    json_t *pair = failed ? NULL : json_deep_copy(single);
    failed = failed || json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
    if (failed) {
        json_decref(single);
        json_decref(pair);
        json_decref(known);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", known);
}

static int append(const char *bytes, size_t n, void *out)
{
    dc_str_append(out, bytes, n);
    return ((dc_str *)out)->failed ? -1 : 0;
}

static int dump(json_t *value, dc_str *out, dc_error *err)
{
    const int failed = !value || json_dump_callback(value, append, out, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    dc_str_putc(out, '\n');
    json_decref(value);
    return failed || out->failed ? dc_fail_memory(err, out->n, "tokenizer.json") : DC_OK;
}

int dc_tokenizer_write_json(const dc_tokenizer *t, dc_str *out, dc_error *err)
{
    json_t *model =
        json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                  t->bpe.unk >= 0 ? t->tokens[t->bpe.unk].text : NULL, "continuing_subword_prefix",
                  "end_of_word_suffix", "fuse_unk", t->bpe.fuse_unk, "byte_fallback", 0, "ignore_merges",
                  t->ignore_merges, "vocab", vocab_of(t), "merges", merges_of(t));
    json_t *all =
        json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
                  "added_tokens", added_of(t), "normalizer", normalizer_of(t), "pre_tokenizer", pretok_of(&t->pretok),
                  "post_processor", post_of(t), "decoder", byte_level(0, 0), "model", model);
    return dump(all, out, err);
}

static int set_token(json_t *config, const char *key, const dc_tokenizer *t, int32_t id)
{
    return id < 0 || !t->tokens[id].text ? 0 : json_object_set_new(config, key, json_string(t->tokens[id].text));
}

int dc_tokenizer_write_config(const dc_tokenizer *t, dc_str *out, dc_error *err)
{
    json_t *config =
        json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0);
    int failed = !config;
    failed = failed || set_token(config, "bos_token", t, t->bos) || set_token(config, "eos_token", t, t->eos) ||
             set_token(config, "pad_token", t, t->pad) || set_token(config, "unk_token", t, t->unk);
    failed =
        failed || (t->chat_template && json_object_set_new(config, "chat_template", json_string(t->chat_template)));
    if (failed) {
        json_decref(config);
        config = NULL;
    }
    return dump(config, out, err);
}

static int write_file(const char *dir, const char *name, const dc_str *text, dc_error *err)
{
    char *path = dc_path_join(dir, name);
    if (!path) return dc_fail_memory(err, strlen(dir) + strlen(name), "a path");
    const int rc = dc_file_write(path, dc_str_text(text), text->n, err);
    dc_free(path);
    return rc;
}

int dc_tokenizer_save(const dc_tokenizer *t, const char *dir, dc_error *err)
{
    dc_str json = {0}, config = {0};
    int rc = DC_OK;
    DC_TRY(dc_mkdirs(dir, err));
    if (!t->json.n) DC_TRY(dc_tokenizer_write_json(t, &json, err));
    if (!t->config.n) DC_TRY(dc_tokenizer_write_config(t, &config, err));
    DC_TRY(write_file(dir, "tokenizer.json", t->json.n ? &t->json : &json, err));
    DC_TRY(write_file(dir, "tokenizer_config.json", t->config.n ? &t->config : &config, err));
    if (t->jinja.n) rc = write_file(dir, "chat_template.jinja", &t->jinja, err);
done:
    dc_str_release(&json);
    dc_str_release(&config);
    return rc;
}
