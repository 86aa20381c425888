/* cli/cmd_tokenize.c -- tokenize and detokenize. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/open.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"

enum { MAX_TEXT = 1 << 30 };

static void put_ids(dc_str *out, const dc_ids *ids)
{
    dc_str_putc(out, '[');
    for (size_t i = 0; i < ids->n; i++) dc_str_putf(out, i ? ", %d" : "%d", ids->data[i]);
    dc_str_putc(out, ']');
}

static int print(dc_str *out, dc_error *err)
{
    if (out->failed) return dc_fail_memory(err, out->n, "the result");
    if (fwrite(dc_str_text(out), 1, out->n, stdout) != out->n)
        return dc_fail_errno(err, "write", "the standard output");
    dc_str_clear(out);
    return DC_OK;
}

/* One text: {"ids": [...]} with --json, else the ids on a line. */
static int tokenize_text(const dc_tokenizer *t, const char *text, size_t n, unsigned flags, int json, dc_error *err)
{
    dc_ids ids = {0};
    dc_str out = {0};
    int rc = dc_encode(t, &ids, text, n, flags, err);
    if (rc == DC_OK && ids.failed) rc = dc_fail_memory(err, ids.n * sizeof(int32_t), "token ids");
    if (rc == DC_OK) {
        if (json) dc_str_puts(&out, "{\"ids\": ");
        put_ids(&out, &ids);
        dc_str_puts(&out, json ? "}\n" : "\n");
        rc = print(&out, err);
    }
    dc_ids_release(&ids);
    dc_str_release(&out);
    return rc;
}

/* Calls fn for each non-empty line of a file. */
static int each_line(const char *path, int (*fn)(void *, json_t *, dc_error *), void *context, dc_error *err)
{
    int rc = DC_OK;
    dc_map map;
    rc = dc_map_open(&map, path, err);
    if (rc != DC_OK) return rc;
    const char *at = (const char *)map.data, *end = at + map.size;
    for (int64_t line = 1; rc == DC_OK && at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t n = (size_t)((stop ? stop : end) - at);
        json_t *value = NULL;
        char name[600];
        snprintf(name, sizeof name, "%s: line %lld", path, (long long)line);
        if (n) rc = dc_json_parse(&value, at, n, name, err);
        if (n && rc == DC_OK) rc = fn(context, value, err);
        if (rc != DC_OK) dc_error_prefix(err, "%s: line %lld", path, (long long)line);
        json_decref(value);
        at += n + 1;
    }
    dc_map_close(&map);
    return rc;
}

typedef struct job {
    const dc_tokenizer *t;
    unsigned flags;
} job;

static int tokenize_line(void *context, json_t *value, dc_error *err)
{
    const job *j = context;
    if (!json_is_string(value)) return dc_fail(err, DC_EFORMAT, "a JSON string was expected");
    return tokenize_text(j->t, json_string_value(value), json_string_length(value), j->flags, 0, err);
}

static int open_tokenizer(dc_tokenizer **t, const dc_cli *cli, dc_error *err)
{
    const char *path;
    const int rc = dc_cli_need(&path, cli, "--model", err);
    return rc == DC_OK ? dc_tokenizer_open(t, path, err) : rc;
}

static int run_tokenize(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_tokenizer *t = NULL;
    dc_str text = {0};
    const char *file = dc_cli_get(cli, "--file"), *lines = dc_cli_get(cli, "--lines");
    job j = {.flags = dc_cli_get(cli, "--no-special") ? 0 : DC_TOK_SPECIAL};
    if ((file != NULL) + (lines != NULL) + (cli->n_words == 1) != 1)
        return dc_fail(err, DC_EUSAGE, "decant tokenize takes one of: TEXT, --file F, --lines F");
    DC_TRY(open_tokenizer(&t, cli, err));
    j.t = t;
    if (lines) {
        DC_TRY(each_line(lines, tokenize_line, &j, err));
    } else {
        if (file) DC_TRY(dc_file_read(&text, file, MAX_TEXT, err));
        else dc_str_puts(&text, cli->words[0]);
        DC_TRY(tokenize_text(t, dc_str_text(&text), text.n, j.flags, cli->json, err));
    }
done:
    dc_str_release(&text);
    dc_tokenizer_free(t);
    return rc;
}

/* ---- detokenize ---- */

static int decode(const dc_tokenizer *t, const dc_ids *ids, dc_str *text, dc_error *err)
{
    const int rc = dc_decode(t, text, ids->data, ids->n, 0, err);
    return rc == DC_OK && text->failed ? dc_fail_memory(err, text->n, "a text") : rc;
}

static int detokenize_line(void *context, json_t *value, dc_error *err)
{
    const job *j = context;
    dc_ids ids = {0};
    dc_str text = {0};
    int rc = dc_take_ids(&ids, value, err);
    if (rc == DC_OK) rc = decode(j->t, &ids, &text, err);
    if (rc == DC_OK) rc = dc_print_json(json_stringn(dc_str_text(&text), text.n), err);
    dc_ids_release(&ids);
    dc_str_release(&text);
    return rc;
}

static int run_detokenize(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_tokenizer *t = NULL;
    dc_ids ids = {0};
    dc_str text = {0};
    const char *file = dc_cli_get(cli, "--ids"), *lines = dc_cli_get(cli, "--lines");
    if (!file == !lines) return dc_fail(err, DC_EUSAGE, "decant detokenize takes one of: --ids F, --lines F");
    DC_TRY(open_tokenizer(&t, cli, err));
    if (lines) {
        job j = {.t = t};
        DC_TRY(each_line(lines, detokenize_line, &j, err));
        goto done;
    }
    DC_TRY(dc_read_ids(&ids, file, err));
    DC_TRY(decode(t, &ids, &text, err));
    if (cli->json) DC_TRY(dc_print_json(json_pack("{s:o}", "text", json_stringn(dc_str_text(&text), text.n)), err));
    else DC_TRY(print(&text, err));
done:
    dc_ids_release(&ids);
    dc_str_release(&text);
    dc_tokenizer_free(t);
    return rc;
}

static const dc_flag tokenize_flags[] = {
    {"--model", "M", "a .gguf, an HF directory, a folder with tokenizer files or a tokenizer.json"},
    {"--file", "F", "the text is this whole file"},
    {"--lines", "F", "a JSON string a line in, a list of ids a line out"},
    {"--no-special", NULL, "add no BOS or EOS"},
    {NULL, NULL, NULL}};

const dc_command dc_cmd_tokenize = {
    .name = "tokenize",
    .group = "look",
    .summary = "text to token ids",
    .takes = DC_TAKES_WORDS,
    .words = "[TEXT]",
    .flags = tokenize_flags,
    .examples =
        "  decant tokenize --model model.gguf \"Hello world\"\n  decant tokenize --model DIR --lines texts.jsonl\n",
    .run = run_tokenize};

static const dc_flag detokenize_flags[] = {
    {"--model", "M", "a .gguf, an HF directory, a folder with tokenizer files or a tokenizer.json"},
    {"--ids", "F", "a JSON list of ids"},
    {"--lines", "F", "a list of ids a line in, a JSON string a line out"},
    {NULL, NULL, NULL}};

const dc_command dc_cmd_detokenize = {.name = "detokenize",
                                      .group = "look",
                                      .summary = "token ids to text",
                                      .takes = DC_TAKES_NONE,
                                      .flags = detokenize_flags,
                                      .examples = "  decant detokenize --model model.gguf --ids ids.json\n",
                                      .run = run_detokenize};
