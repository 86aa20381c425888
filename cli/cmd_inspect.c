/* cli/cmd_inspect.c -- which kind of file it is, and the two forms of what is in it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/inspect.h"
#include "cli/open.h"
#include "core/arena.h"
#include "core/file.h"

void dc_inspect_text(dc_str *out, const char *text, size_t n, size_t most)
{
    const size_t end = most && n > most ? most : n;
    size_t i = 0;
    while (i < end) {
        int32_t cp;
        const size_t used = dc_utf8_decode(&cp, text + i, n - i);
        if (cp == '\n') dc_str_puts(out, "\\n");
        else if (cp == '\t') dc_str_puts(out, "\\t");
        else if ((cp >= 0 && cp < 32) || (cp >= 127 && cp < 160)) dc_str_putf(out, "\\x%02x", (unsigned)cp);
        else if (cp < 0) dc_str_puts(out, "\xef\xbf\xbd");
        else dc_str_append(out, text + i, used);
        i += used;
    }
    if (end < n) dc_str_puts(out, "...");
}

void dc_inspect_fact(dc_inspect *v, const char *name, const char *key, json_t *value, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dc_str_putf(&v->text, "%-13s ", name);
    dc_inspect_text(&v->text, text, strlen(text), 0);
    dc_str_putc(&v->text, '\n');
    if (json_object_set_new(v->json, key, value)) v->text.failed = 1;
}

int64_t dc_inspect_count(const dc_inspect *v, int64_t n, int64_t usual)
{
    const int64_t want = v->limit < 0 ? usual : v->limit;
    return want == 0 || want > n ? n : want;
}

void dc_inspect_more(dc_inspect *v, int64_t shown, int64_t n, const char *what)
{
    char count[32];
    if (shown < n)
        dc_str_putf(&v->text, "... %s more %s; --limit 0 shows all\n", dc_human_count(count, sizeof count, n - shown),
                    what);
}

/* ---- which kind ---- */

typedef int inspect_fn(dc_inspect *v, dc_error *err);

static int has(const char *dir, const char *name)
{
    char *path = dc_path_join(dir, name);
    const int there = path && dc_path_exists(path);
    dc_free(path);
    return there;
}

static int ends(const char *text, const char *with)
{
    const size_t n = strlen(text), m = strlen(with);
    return n >= m && !strcmp(text + n - m, with);
}

static int has_ending(const char *dir, const char *ending)
{
    char **names = NULL;
    size_t n = 0;
    int found = 0;
    if (dc_dir_list(&names, &n, dir, NULL) != DC_OK) return 0;
    for (size_t i = 0; i < n; i++) found |= ends(names[i], ending);
    dc_names_free(names);
    return found;
}

static inspect_fn *kind_of_dir(const char *path)
{
    if (has(path, "adapter_config.json")) return dc_inspect_adapter;
    if (has(path, "manifest.json") && has(path, "state.json")) return dc_inspect_checkpoint;
    if (has(path, "recipe.json")) return dc_inspect_run;
    if (has(path, "config.json")) return dc_inspect_model;
    if (has_ending(path, "-00000.h5")) return dc_inspect_sets;
    if (has(path, "tokenizer.json")) return dc_inspect_tokenizer;
    if (has(path, "summary.json")) return dc_inspect_stage;
    return has_ending(path, ".safetensors") ? dc_inspect_safetensors : NULL;
}

/* By the first bytes where a format has them, else by the name. */
static int kind_of_file(inspect_fn **kind, const char *path, dc_error *err)
{
    dc_map map;
    int rc = dc_map_open(&map, path, err);
    if (rc != DC_OK) return rc;
    const size_t n = map.size < 8 ? (size_t)map.size : 8;
    const char *bytes = (const char *)map.data;
    if ((n >= 4 && !memcmp(bytes, "GGUF", 4)) || ends(path, ".gguf")) *kind = dc_inspect_gguf;
    else if (n == 8 && !memcmp(bytes, "\x89HDF\r\n\x1a\n", 8)) *kind = dc_inspect_sets;
    else if (n >= 6 && !memcmp(bytes, "\x93NUMPY", 6)) *kind = dc_inspect_npy;
    else if (ends(path, ".safetensors")) *kind = dc_inspect_safetensors;
    else if (ends(path, ".yaml") || ends(path, ".yml")) *kind = dc_inspect_recipe;
    else if (!strcmp(dc_path_base(path), "tokenizer.json")) *kind = dc_inspect_tokenizer;
    else if (!strcmp(dc_path_base(path), "metrics.jsonl")) *kind = dc_inspect_metrics;
    else if (ends(path, ".json") && n && bytes[0] == '{') *kind = dc_inspect_json;
    else *kind = dc_inspect_rows; /* whose reader tells what it can read */
    dc_map_close(&map);
    return DC_OK;
}

static int find_kind(inspect_fn **kind, const char *path, dc_error *err)
{
    if (!dc_path_is_dir(path)) return kind_of_file(kind, path, err);
    *kind = kind_of_dir(path);
    if (*kind) return DC_OK;
    return dc_fail(err, DC_EUNKNOWN,
                   "%s: nothing decant knows is in this folder: no model (config.json), adapter (adapter_config.json), "
                   "checkpoint, run "
                   "(recipe.json), stage of a run (summary.json), token shards or targets (*-00000.h5), tokenizer",
                   path);
}

static int show(dc_inspect *v, const dc_cli *cli, dc_error *err)
{
    if (v->text.failed) return dc_fail_memory(err, v->text.n, "what is in the file");
    if (cli->json) return dc_print_json(json_incref(v->json), err);
    fwrite(dc_str_text(&v->text), 1, v->text.n, stdout);
    return DC_OK;
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    long long limit;
    inspect_fn *kind;
    const char *model = dc_cli_get(cli, "--model");
    dc_inspect v = {.color = isatty(STDOUT_FILENO) && !cli->json, .json = json_object()};
    if (!v.json) return dc_fail_memory(err, 0, "what is in the file");
    if (cli->n_words != 1) {
        rc = dc_fail(err, DC_EUSAGE, "decant inspect takes one file or folder; see decant inspect --help");
        goto done;
    }
    v.path = cli->words[0];
    DC_TRY(dc_cli_int(&limit, cli, "--limit", -1, 0, INT64_MAX, err));
    v.limit = limit;
    DC_TRY(find_kind(&kind, v.path, err));
    if (model) DC_TRY(dc_tokenizer_open(&v.tokenizer, model, err));
    json_object_set_new(v.json, "path", json_string(v.path));
    DC_TRY(kind(&v, err));
    DC_TRY(show(&v, cli, err));
done:
    dc_tokenizer_free(v.tokenizer);
    dc_str_release(&v.text);
    json_decref(v.json);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "token shards: the model whose tokenizer turns ids into text"},
                                {"--limit", "N", "items shown of a list: tensors, documents, rows; 0: all"},
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_inspect = {.name = "inspect",
                                   .group = "look",
                                   .summary = "what is in any file or folder that decant reads or writes",
                                   .takes = DC_TAKES_WORDS,
                                   .words = "FILE | DIR",
                                   .flags = flags,
                                   .examples = "  decant inspect model.gguf\n  decant inspect runs/quickstart/data "
                                               "--model runs/quickstart/tokenizer --limit 5\n",
                                   .run = run};
