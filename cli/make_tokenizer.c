/* cli/make_tokenizer.c -- a new byte-level BPE from the texts of the recipe's rows. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/session.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/log.h"
#include "core/stop.h"
#include "data/reader.h"

/* Texts of all sources, one after another: every string inside a row's values, in order. */
typedef struct texts {
    const dc_recipe *r;
    const char **paths;
    size_t n, at;
    dc_reader *reader;
    const json_t **stack; /* strings of the present row still to give */
    size_t left, room;
} texts;

static int push_strings(texts *t, const json_t *value, dc_error *err)
{
    const char *key;
    json_t *item;
    size_t i;
    int rc = DC_OK;
    if (json_is_string(value)) {
        if (dc_grow(&t->stack, t->left, &t->room, sizeof *t->stack))
            return dc_fail_memory(err, sizeof *t->stack, "texts");
        t->stack[t->left++] = value;
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, item) if (rc == DC_OK) rc = push_strings(t, item, err);
    } else if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, item) if (rc == DC_OK) rc = push_strings(t, item, err);
    }
    return rc;
}

static int next_text(void *context, const char **text, size_t *n, dc_error *err)
{
    texts *t = context;
    while (!t->left) {
        dc_record record;
        int rc = dc_stop_check("training the tokenizer", err);
        if (!t->reader && t->at == t->n) {
            *n = 0;
            return rc;
        }
        if (rc == DC_OK && !t->reader) rc = dc_reader_open(&t->reader, t->paths[t->at++], NULL, err);
        if (rc == DC_OK) rc = dc_reader_next(t->reader, &record, err);
        if (rc != DC_OK) return rc;
        if (record.kind == DC_READ_END) {
            dc_reader_close(t->reader);
            t->reader = NULL;
        } else if (record.kind == DC_READ_ROW) {
            rc = push_strings(t, record.value, err);
            if (rc != DC_OK) return rc;
        }
        while (t->left && !json_string_length(t->stack[t->left - 1])) t->left--;
    }
    const json_t *top = t->stack[--t->left];
    *text = json_string_value(top), *n = json_string_length(top);
    return DC_OK;
}

/* tokenizer.train.files, else the paths of all training sources. */
static int find_paths(texts *t, dc_error *err)
{
    static const char *const lists[] = {"teacher.data.train", "data.train"};
    size_t room = 0;
    for (size_t i = 0; i < dc_recipe_count(t->r, "tokenizer.train.files"); i++) {
        if (dc_grow(&t->paths, t->n, &room, sizeof *t->paths)) return dc_fail_memory(err, 0, "paths");
        t->paths[t->n++] = dc_recipe_str_at(t->r, "tokenizer.train.files", i);
    }
    for (size_t k = 0; !dc_recipe_count(t->r, "tokenizer.train.files") && k < 2; k++)
        for (size_t i = 0; i < dc_recipe_count(t->r, lists[k]); i++) {
            char key[96];
            snprintf(key, sizeof key, "%s[%zu].path", lists[k], i);
            if (dc_grow(&t->paths, t->n, &room, sizeof *t->paths)) return dc_fail_memory(err, 0, "paths");
            t->paths[t->n++] = dc_recipe_str(t->r, key);
        }
    return DC_OK;
}

int dc_make_tokenizer(const dc_session *s, dc_error *err)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", NULL};
    int rc = DC_OK;
    dc_tokenizer *made = NULL;
    texts t = {.r = s->recipe};
    const char *template = dc_recipe_str(s->recipe, "data.chat_template");
    const dc_bpe_options o = {.vocab_size = dc_recipe_int(s->recipe, "tokenizer.train.vocab_size"),
                              .specials = specials,
                              .eos = "<|endoftext|>",
                              .pad = "<|endoftext|>",
                              .pre = dc_recipe_str(s->recipe, "tokenizer.train.pre"),
                              .chat_template = template && strpbrk(template, "{\n") ? template : NULL};
    char *dir = dc_session_path(s, "tokenizer", err), *staging = dc_session_path(s, "tokenizer.tmp", err);
    if (!dir || !staging) {
        rc = DC_ENOMEM;
        goto done;
    }
    DC_TRY(find_paths(&t, err));
    DC_TRY(dc_bpe_train(&made, next_text, &t, &o, err));
    DC_TRY(dc_remove_tree(staging, err));
    DC_TRY(dc_mkdirs(staging, err));
    DC_TRY(dc_tokenizer_save(made, staging, err));
    DC_TRY(dc_remove_tree(dir, err));
    DC_TRY(dc_dir_publish(staging, dir, err));
    dc_log(DC_LOG_INFO, "prepare   tokenizer of %lld entries → %s", (long long)dc_tokenizer_size(made), dir);
done:
    if (rc != DC_OK && staging) dc_remove_tree(staging, NULL);
    dc_reader_close(t.reader);
    dc_tokenizer_free(made);
    dc_free(t.stack);
    dc_free(t.paths);
    dc_free(dir);
    dc_free(staging);
    return rc;
}
