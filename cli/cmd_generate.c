/* cli/cmd_generate.c -- text from a model, as it comes. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/open.h"
#include "core/arena.h"
#include "data/chat.h"
#include "train/score.h"

/* Streams whole characters: bytes of a token that end inside one wait for the next. */
typedef struct stream {
    const dc_tokenizer *t;
    dc_ids ids;
    size_t shown; /* bytes of the text printed */
    int quiet;
    dc_str text; /* the whole answer */
} stream;

static void on_token(void *context, int32_t id)
{
    stream *s = context;
    dc_str text = {0};
    dc_ids_push(&s->ids, id);
    if (s->quiet || s->ids.failed || dc_decode(s->t, &text, s->ids.data, s->ids.n, 1, NULL) != DC_OK) {
        dc_str_release(&text);
        return;
    }
    size_t n = text.n; /* an unfinished character shows as U+FFFD at the end: hold it back */
    while (n >= 3 && !memcmp(text.data + n - 3, "\xef\xbf\xbd", 3)) n -= 3;
    if (n > s->shown) {
        fwrite(text.data + s->shown, 1, n - s->shown, stdout);
        fflush(stdout);
        s->shown = n;
    }
    dc_str_release(&text);
}

static int on_done(void *context, size_t i, const int32_t *ids, size_t n, int ended, dc_error *err)
{
    stream *s = context;
    (void)i, (void)ended;
    const int rc = dc_decode(s->t, &s->text, ids, n, 1, err);
    if (rc != DC_OK) return rc;
    if (!s->quiet && s->text.n > s->shown) fwrite(s->text.data + s->shown, 1, s->text.n - s->shown, stdout);
    if (!s->quiet) putchar('\n');
    return DC_OK;
}

static int put_message(json_t *messages, const char *role, const char *content)
{
    return json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", content));
}

static int chat_prompt(dc_str *out, const dc_tokenizer *t, const char *prompt, const char *system, dc_error *err)
{
    int rc = DC_OK;
    dc_template *chat = NULL;
    const char *source = dc_tokenizer_chat_template(t);
    json_t *messages = json_array(), *variables = NULL;
    if (!source) {
        rc = dc_fail(err, DC_EMISMATCH, "--chat: the model has no chat template; give the prompt without --chat");
        goto done;
    }
    if ((system && put_message(messages, "system", system)) || put_message(messages, "user", prompt)) {
        rc = dc_fail(err, DC_EFORMAT, "--prompt and --system must be valid UTF-8 for --chat");
        goto done;
    }
    DC_TRY(dc_chat_variables(&variables, messages, NULL, NULL, t, 1, err));
    DC_TRY(dc_template_new(&chat, source, "chat_template", err));
    DC_TRY(dc_template_render(chat, out, NULL, variables, (int64_t)time(NULL), err));
done:
    dc_template_free(chat);
    json_decref(messages);
    json_decref(variables);
    return rc;
}

static int options_of(dc_generate_options *o, const dc_cli *cli, dc_error *err)
{
    double temperature, top_p;
    long long top_k, max_new, seed;
    int rc = DC_OK;
    *o = dc_generate_defaults();
    DC_TRY(dc_cli_real(&temperature, cli, "--temperature", 0, 0, 100, err));
    DC_TRY(dc_cli_real(&top_p, cli, "--top-p", 1, 0, 1, err));
    DC_TRY(dc_cli_int(&top_k, cli, "--top-k", 0, 0, 1 << 30, err));
    DC_TRY(dc_cli_int(&max_new, cli, "--max-new-tokens", 256, 1, 1 << 30, err));
    DC_TRY(dc_cli_int(&seed, cli, "--seed", 0, 0, INT64_MAX, err));
    o->temperature = (float)temperature, o->top_p = (float)top_p, o->top_k = top_k, o->max_new_tokens = max_new,
    o->seed = (uint64_t)seed;
done:
    return rc;
}

static int print_json(const stream *s, const dc_ids *prompt, dc_scorer *scorer, dc_error *err)
{
    int64_t prefilled, decoded;
    double prefill_seconds, decode_seconds;
    json_t *ids = json_array();
    dc_scorer_rates(scorer, &prefilled, &prefill_seconds, &decoded, &decode_seconds);
    for (size_t i = 0; i < s->ids.n; i++) json_array_append_new(ids, json_integer(s->ids.data[i]));
    return dc_print_json(json_pack("{s:o, s:o, s:I, s:f, s:f}", "text", json_stringn(dc_str_text(&s->text), s->text.n),
                                   "ids", ids, "prompt_tokens", (json_int_t)prompt->n, "prefill_seconds",
                                   prefill_seconds, "decode_seconds", decode_seconds),
                         err);
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o = {.adapter = -1};
    dc_scorer *scorer = NULL;
    dc_ids prompt = {0};
    dc_str text = {0};
    stream s = {.quiet = cli->json};
    dc_generate_options options;
    const char *given;
    const int chat = dc_cli_get(cli, "--chat") != NULL;
    DC_TRY(options_of(&options, cli, err));
    DC_TRY(dc_cli_need(&given, cli, "--prompt", err));
    DC_TRY(dc_opened_model(&o, cli, 1, err));
    s.t = o.tokenizer;
    if (chat) DC_TRY(chat_prompt(&text, o.tokenizer, given, dc_cli_get(cli, "--system"), err));
    else dc_str_puts(&text, given);
    DC_TRY(dc_encode(o.tokenizer, &prompt, dc_str_text(&text), text.n, chat ? 0 : DC_TOK_SPECIAL, err));
    DC_TRY(dc_scorer_new(&scorer, o.model, o.tokenizer, o.adapter, 0, err));
    DC_TRY(dc_score_generate(scorer, &prompt, 1, &options, on_done, on_token, &s, err));
    if (cli->json) DC_TRY(print_json(&s, &prompt, scorer, err));
done:
    dc_scorer_free(scorer);
    dc_opened_release(&o);
    dc_ids_release(&prompt);
    dc_ids_release(&s.ids);
    dc_str_release(&s.text);
    dc_str_release(&text);
    return rc;
}

static const dc_flag flags[] = {{"--model", "M", "an HF directory or a .gguf"},
                                {"--adapter", "A", "a PEFT directory"},
                                {"--prompt", "P", "the text to go on from"},
                                {"--chat", NULL, "the prompt is a user's turn: apply the model's chat template"},
                                {"--system", "TEXT", "with --chat: the system message"},
                                {"--temperature", "X", "0: greedy (default)"},
                                {"--top-p", "X", "keep the most probable tokens up to this mass (1)"},
                                {"--top-k", "N", "keep so many tokens; 0: all (0)"},
                                {"--max-new-tokens", "N", "at most so many (256)"},
                                {"--seed", "N", "of the draws (0)"},
                                DC_FLAG_DEVICE,
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_generate = {
    .name = "generate",
    .group = "look",
    .summary = "text from a model, with its KV cache",
    .takes = DC_TAKES_NONE,
    .flags = flags,
    .examples = "  decant generate --model model.gguf --prompt \"Once upon\"\n"
                "  decant generate --chat --model model.gguf --prompt \"Hello\" --temperature 0.7\n",
    .run = run};
