/* tests/data/tok_tool.c -- the tokenizer on the command line, for tests/conformance/tokenizer.py.
 *
 * tok_tool MODEL encode [special] [plain] [offsets]   JSON strings, one a line, to lists of ids
 * tok_tool MODEL decode [skip]                        lists of ids, one a line, to JSON strings
 * tok_tool MODEL speed                                megabytes of the strings on stdin encoded in a second
 * tok_tool MODEL info                                 size, hash, special ids
 * tok_tool MODEL save DIR | gguf FILE N_VOCAB | same OTHER
 * tok_tool train DIR PRE VOCAB_SIZE SPECIAL...        learns from the strings on stdin, saves to DIR */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/gguf.h"
#include "core/json.h"
#include "core/log.h"
#include "data/tokenizer.h"

static int has(int argc, char **argv, const char *word)
{
    for (int i = 3; i < argc; i++)
        if (!strcmp(argv[i], word)) return 1;
    return 0;
}

static int next_line(json_t **value, dc_error *err)
{
    static char *line;
    static size_t room;
    const ssize_t n = getline(&line, &room, stdin);
    if (n <= 0) {
        free(line);
        line = NULL;
        room = 0;
        return 0;
    }
    *value = json_loadb(line, (size_t)n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!*value) return dc_fail(err, DC_EFORMAT, "a line that is not JSON");
    return 1;
}

static void print_ids(const dc_ids *ids)
{
    putchar('[');
    for (size_t i = 0; i < ids->n; i++) printf(i ? ",%d" : "%d", ids->data[i]);
    putchar(']');
}

static int encode(const dc_tokenizer *t, int argc, char **argv, dc_error *err)
{
    const unsigned flags =
        (has(argc, argv, "special") ? DC_TOK_SPECIAL : 0u) | (has(argc, argv, "plain") ? DC_TOK_PLAIN : 0u);
    const int with_offsets = has(argc, argv, "offsets");
    dc_ids ids = {0}, offsets = {0};
    json_t *text;
    int rc;
    while ((rc = next_line(&text, err)) == 1) {
        ids.n = offsets.n = 0;
        rc = dc_encode_offsets(t, &ids, with_offsets ? &offsets : NULL, json_string_value(text),
                               json_string_length(text), flags, err);
        json_decref(text);
        if (rc != DC_OK) break;
        if (with_offsets) {
            putchar('[');
            print_ids(&ids);
            putchar(',');
            print_ids(&offsets);
            putchar(']');
        } else {
            print_ids(&ids);
        }
        putchar('\n');
    }
    dc_ids_release(&ids);
    dc_ids_release(&offsets);
    return rc;
}

static int decode(const dc_tokenizer *t, int skip, dc_error *err)
{
    dc_ids ids = {0};
    dc_str text = {0};
    json_t *list;
    int rc;
    while ((rc = next_line(&list, err)) == 1) {
        ids.n = 0;
        dc_str_clear(&text);
        for (size_t i = 0; i < json_array_size(list); i++)
            dc_ids_push(&ids, (int32_t)json_integer_value(json_array_get(list, i)));
        json_decref(list);
        rc = dc_decode(t, &text, ids.data, ids.n, skip, err);
        if (rc != DC_OK) break;
        json_t *out = json_stringn(dc_str_text(&text), text.n);
        json_dumpf(out, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        json_decref(out);
        putchar('\n');
    }
    dc_ids_release(&ids);
    dc_str_release(&text);
    return rc;
}

typedef struct texts {
    json_t *list;
    size_t at;
} texts;

static int read_all(texts *t, dc_error *err)
{
    json_t *text;
    int rc;
    t->list = json_array();
    while ((rc = next_line(&text, err)) == 1) json_array_append_new(t->list, text);
    return rc;
}

static int speed(const dc_tokenizer *t, dc_error *err)
{
    texts all = {0};
    dc_ids ids = {0};
    int rc = read_all(&all, err);
    for (int round = 0; round < 3 && rc == DC_OK; round++) {
        size_t bytes = 0, tokens = 0;
        const double start = dc_now();
        for (size_t i = 0; i < json_array_size(all.list) && rc == DC_OK; i++) {
            const json_t *text = json_array_get(all.list, i);
            ids.n = 0;
            rc = dc_encode(t, &ids, json_string_value(text), json_string_length(text), 0, err);
            bytes += json_string_length(text);
            tokens += ids.n;
        }
        printf("%.1f MB/s, %zu tokens\n", (double)bytes / 1e6 / (dc_now() - start), tokens);
    }
    dc_ids_release(&ids);
    json_decref(all.list);
    return rc;
}

static int info(const dc_tokenizer *t)
{
    size_t n;
    const int32_t *eog = dc_tokenizer_eog(t, &n);
    printf("{\"size\": %lld, \"hash\": \"%s\", \"bos\": %d, \"eos\": %d, \"pad\": %d, \"eog\": [",
           (long long)dc_tokenizer_size(t), dc_tokenizer_hash(t).hex, dc_tokenizer_bos(t), dc_tokenizer_eos(t),
           dc_tokenizer_pad(t));
    for (size_t i = 0; i < n; i++) printf(i ? ", %d" : "%d", eog[i]);
    printf("], \"chat_template\": %zu}\n", dc_tokenizer_chat_template(t) ? strlen(dc_tokenizer_chat_template(t)) : 0);
    return DC_OK;
}

static int put_gguf(const dc_tokenizer *t, const char *path, int64_t n_vocab, dc_error *err)
{
    dc_gguf_writer *w = NULL;
    int rc = dc_gguf_writer_new(&w, err);
    if (rc != DC_OK) return rc;
    dc_gguf_put_str(w, "general.architecture", "llama");
    rc = dc_tokenizer_put_gguf(t, w, n_vocab, err);
    if (rc == DC_OK) rc = dc_gguf_writer_begin(w, path, err);
    if (rc == DC_OK) rc = dc_gguf_writer_commit(w, err);
    dc_gguf_writer_free(w);
    return rc;
}

static int next_text(void *context, const char **text, size_t *n, dc_error *err)
{
    texts *t = context;
    (void)err;
    const json_t *value = json_array_get(t->list, t->at++);
    *text = json_string_value(value);
    *n = json_string_length(value);
    return DC_OK;
}

static int train(char **argv, dc_error *err)
{
    texts all = {0};
    dc_tokenizer *t = NULL;
    const dc_bpe_options o = {.vocab_size = atoll(argv[4]), .specials = (const char *const *)argv + 5, .pre = argv[3]};
    int rc = read_all(&all, err);
    if (rc == DC_OK) rc = dc_bpe_train(&t, next_text, &all, &o, err);
    if (rc == DC_OK) rc = dc_tokenizer_save(t, argv[2], err);
    dc_tokenizer_free(t);
    json_decref(all.list);
    return rc;
}

static int work(const dc_tokenizer *t, int argc, char **argv, dc_error *err)
{
    const char *what = argv[2];
    if (!strcmp(what, "encode")) return encode(t, argc, argv, err);
    if (!strcmp(what, "decode")) return decode(t, has(argc, argv, "skip"), err);
    if (!strcmp(what, "speed")) return speed(t, err);
    if (!strcmp(what, "info")) return info(t);
    if (!strcmp(what, "save") && argc > 3) return dc_tokenizer_save(t, argv[3], err);
    if (!strcmp(what, "gguf") && argc > 4) return put_gguf(t, argv[3], atoll(argv[4]), err);
    if (!strcmp(what, "same") && argc > 3) {
        dc_tokenizer *other = NULL;
        int rc = dc_tokenizer_open(&other, argv[3], err);
        if (rc == DC_OK) rc = dc_tokenizer_same(t, other, "teacher", "student", err);
        dc_tokenizer_free(other);
        return rc;
    }
    return dc_fail(err, DC_EUSAGE, "no command '%s'", what);
}

int main(int argc, char **argv)
{
    dc_error err = {0};
    dc_tokenizer *t = NULL;
    int rc;
    if (argc < 3) return 2;
    if (!strcmp(argv[1], "train") && argc > 4) {
        rc = train(argv, &err);
    } else {
        rc = dc_tokenizer_open(&t, argv[1], &err);
        if (rc == DC_OK) rc = work(t, argc, argv, &err);
        dc_tokenizer_free(t);
    }
    if (rc != DC_OK) fprintf(stderr, "%s\n", err.message);
    return rc == DC_OK ? 0 : 1;
}
