/* cli/cmd_eval.c -- how well a model predicts held-out rows, how near it is to another model, and how often its answers are right. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/evaluate.h"
#include "cli/open.h"
#include "cli/rows_set.h"
#include "core/arena.h"
#include "export/parity.h"
#include "train/loop.h"

/* The model that --against names, on the device of the first. */
typedef struct other {
    dc_model *model;
    dc_lora *lora;
    dc_tokenizer *tokenizer;
} other;

static void other_release(other *k)
{
    dc_tokenizer_free(k->tokenizer);
    dc_lora_free(k->lora);
    dc_model_free(k->model);
    *k = (other){0};
}

static int other_open(other *k, const dc_cli *cli, const dc_opened *o, dc_error *err)
{
    int rc = DC_OK;
    const char *path = dc_cli_get(cli, "--against"), *adapter = dc_cli_get(cli, "--against-adapter");
    const dc_model_options options = dc_model_defaults();
    if (!path) return adapter ? dc_fail(err, DC_EUSAGE, "decant eval: --against-adapter goes with --against") : DC_OK;
    DC_TRY(dc_tokenizer_open(&k->tokenizer, path, err));
    DC_TRY(dc_tokenizer_same(k->tokenizer, o->tokenizer, path, dc_cli_get(cli, "--model"), err));
    DC_TRY(dc_model_open(&k->model, o->dev, path, &options, err));
    if (adapter) DC_TRY(dc_lora_open(&k->lora, k->model, 0, adapter, 0, err));
done:
    return rc;
}

/* ---- likelihood ---- */

/* Cross-entropy and accuracy over all targets of the rows. */
static int measure_likelihood(dc_losses *out, const dc_opened *o, dc_loader *loader, dc_error *err)
{
    int rc = DC_OK;
    dc_plan *plan = NULL;
    dc_objective *objective = NULL;
    dc_plan_options options = {.adapter = o->adapter};
    *out = (dc_losses){0};
    dc_loader_bounds(loader, &options.max_tokens, &options.max_docs, &options.max_rows);
    DC_TRY(dc_plan_new(&plan, o->model, &options, err));
    DC_TRY(dc_objective_cross_entropy(&objective, o->model, 0, err));
    DC_TRY(dc_evaluate(plan, objective, loader, o->adapter, "eval", NULL, out, err));
done:
    if (objective) objective->free(objective);
    dc_plan_free(plan);
    return rc;
}

static int print_likelihood(const dc_cli *cli, const dc_rows_set *s, const dc_losses *l, const dc_parity *p,
                            dc_error *err)
{
    const double n = l->rows > 0 ? l->rows : 1, nll = l->ce / n;
    if (cli->json) {
        json_t *out = json_pack("{s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "rows", (json_int_t)s->rows, "rejected",
                                (json_int_t)s->rejected, "tokens", (json_int_t)s->tokens, "scored", (json_int_t)l->rows,
                                "nll", nll, "perplexity", exp(nll), "accuracy", l->top1 / n);
        if (out && p)
            json_object_set_new(out, "against",
                                json_pack("{s:f, s:f, s:f, s:f, s:f}", "kl", p->kl, "kl_max", p->kl_max,
                                          "top1_agreement", p->top1, "nll", log(p->ppl_reference), "perplexity",
                                          p->ppl_reference));
        return dc_print_json(out, err);
    }
    char rows[32], tokens[32], scored[32];
    printf("rows         %s · %s tokens, %s of them scored", dc_human_count(rows, sizeof rows, s->rows - s->rejected),
           dc_human_count(tokens, sizeof tokens, s->tokens), dc_human_count(scored, sizeof scored, (int64_t)l->rows));
    printf(s->rejected ? " · %lld rows of no use\n" : "\n", (long long)s->rejected);
    printf("NLL          %.4f nats a token\nperplexity   %.4f\naccuracy     %.2f %% of the next tokens are the most "
           "probable one\n",
           nll, exp(nll), 100 * l->top1 / n);
    if (!p) return DC_OK;
    printf("\nagainst      %s\n", dc_cli_get(cli, "--against"));
    printf("its NLL      %.4f, perplexity %.4f\n", log(p->ppl_reference), p->ppl_reference);
    printf("KL           %.6f nats a token from it to the model, greatest %.4f\nsame top-1   %.2f %%\n", p->kl,
           p->kl_max, 100 * p->top1);
    return DC_OK;
}

static int run_likelihood(const dc_cli *cli, const dc_opened *o, const other *k, const char *data, dc_error *err)
{
    int rc = DC_OK;
    long long max_length, max_tokens;
    dc_rows_set s = {0};
    dc_losses losses;
    dc_parity parity;
    DC_TRY(dc_cli_int(&max_length, cli, "--max-length", 1024, 2, 1 << 20, err));
    DC_TRY(dc_cli_int(&max_tokens, cli, "--max-tokens", 0, 0, INT64_MAX, err));
    const dc_rows_set_options options = {
        .schema = dc_cli_get(cli, "--format"), .max_length = max_length, .max_tokens = max_tokens};
    DC_TRY(dc_rows_set_open(&s, data, o->tokenizer, &options, err));
    DC_TRY(measure_likelihood(&losses, o, s.loader, err));
    if (k->model)
        DC_TRY(dc_parity_measure(&parity, k->model, k->lora ? 0 : -1, o->model, o->adapter, s.loader, 0, err));
    DC_TRY(print_likelihood(cli, &s, &losses, k->model ? &parity : NULL, err));
done:
    dc_rows_set_close(&s);
    return rc;
}

/* ---- answers ---- */

enum { MAX_FIELDS = 64 };

/* "a,b" into names; `copy` keeps the text. */
static int split_fields(const char *names[MAX_FIELDS], size_t *n, char **copy, const char *text, dc_error *err)
{
    *n = 0, *copy = NULL;
    if (!text) return DC_OK;
    *copy = dc_strdup(text);
    if (!*copy) return dc_fail_memory(err, strlen(text), "names of fields");
    char *rest = *copy;
    for (char *name = strsep(&rest, ","); name; name = strsep(&rest, ",")) {
        if (!*name)
            return dc_fail(err, DC_EUSAGE, "decant eval: --fields takes names with commas between them, not '%s'",
                           text);
        if (*n == MAX_FIELDS) return dc_fail(err, DC_EUSAGE, "decant eval: at most %d --fields", MAX_FIELDS);
        names[(*n)++] = name;
    }
    return DC_OK;
}

static json_t *task_json(const dc_task_result *r, int json_fields)
{
    json_t *out = json_pack("{s:I, s:I, s:f, s:I, s:f}", "n", (json_int_t)r->n, "right", (json_int_t)r->right,
                            "exact_match", (double)r->right / (double)r->n, "decoded_tokens", (json_int_t)r->decoded,
                            "decode_seconds", r->decode_seconds);
    if (out && json_fields) json_object_set_new(out, "valid_json", json_integer((json_int_t)r->valid));
    return out;
}

static void task_text(const char *name, const dc_task_result *r, int json_fields)
{
    printf("%-12s %lld of %lld answers right, %.1f %%", name, (long long)r->right, (long long)r->n,
           100 * (double)r->right / (double)r->n);
    if (json_fields) printf(" · %lld valid JSON objects", (long long)r->valid);
    if (r->decode_seconds > 0) printf(" · %.0f tok/s", (double)r->decoded / r->decode_seconds);
    putchar('\n');
}

static int task_of(dc_task *task, const dc_cli *cli, const char *data, dc_error *err)
{
    long long limit, max_new;
    const char *kind = dc_cli_get(cli, "--task"), *prompt = dc_cli_get(cli, "--prompt-field"),
               *answer = dc_cli_get(cli, "--answer-field");
    if (strcmp(kind, "exact") && strcmp(kind, "json_fields"))
        return dc_fail(err, DC_EUSAGE, "decant eval: --task must be exact or json_fields, not '%s'", kind);
    int rc = dc_cli_int(&limit, cli, "--limit", 0, 0, INT64_MAX, err);
    if (rc == DC_OK) rc = dc_cli_int(&max_new, cli, "--max-new-tokens", 128, 1, 1 << 20, err);
    if (rc != DC_OK) return rc;
    *task = (dc_task){.path = data,
                      .prompt_field = prompt ? prompt : "prompt",
                      .answer_field = answer ? answer : "completion",
                      .json_fields = !strcmp(kind, "json_fields"),
                      .limit = limit,
                      .max_new_tokens = max_new};
    return DC_OK;
}

static int run_task(const dc_cli *cli, const dc_opened *o, const other *k, const char *data, dc_error *err)
{
    int rc = DC_OK;
    const char *fields[MAX_FIELDS];
    char *copy = NULL;
    dc_task task;
    dc_task_result mine, its;
    DC_TRY(task_of(&task, cli, data, err));
    task.fields = fields;
    DC_TRY(split_fields(fields, &task.n_fields, &copy, dc_cli_get(cli, "--fields"), err));
    DC_TRY(dc_evaluate_task(&mine, &task, o->model, o->adapter, o->tokenizer, err));
    if (k->model) DC_TRY(dc_evaluate_task(&its, &task, k->model, k->lora ? 0 : -1, k->tokenizer, err));
    if (cli->json) {
        json_t *out = task_json(&mine, task.json_fields);
        if (out && k->model) json_object_set_new(out, "against", task_json(&its, task.json_fields));
        DC_TRY(dc_print_json(out, err));
    } else {
        task_text("model", &mine, task.json_fields);
        if (k->model) task_text("against", &its, task.json_fields);
    }
done:
    dc_free(copy);
    return rc;
}

/* Flags that only one of the two kinds of evaluation reads: a typed one that nobody would obey is an error. */
static int check_flags(const dc_cli *cli, dc_error *err)
{
    static const char *const of_task[] = {"--prompt-field", "--answer-field", "--fields", "--limit",
                                          "--max-new-tokens"};
    static const char *const of_rows[] = {"--max-length", "--max-tokens", "--format"};
    const int task = dc_cli_get(cli, "--task") != NULL;
    for (size_t i = 0; !task && i < sizeof of_task / sizeof *of_task; i++)
        if (dc_cli_get(cli, of_task[i])) return dc_fail(err, DC_EUSAGE, "decant eval: %s goes with --task", of_task[i]);
    for (size_t i = 0; task && i < sizeof of_rows / sizeof *of_rows; i++)
        if (dc_cli_get(cli, of_rows[i]))
            return dc_fail(err, DC_EUSAGE, "decant eval: %s does not go with --task", of_rows[i]);
    return DC_OK;
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_opened o = {.adapter = -1};
    other k = {0};
    const char *data;
    DC_TRY(dc_cli_need(&data, cli, "--data", err));
    DC_TRY(check_flags(cli, err));
    DC_TRY(dc_opened_model(&o, cli, 1, err));
    DC_TRY(other_open(&k, cli, &o, err));
    DC_TRY((dc_cli_get(cli, "--task") ? run_task : run_likelihood)(cli, &o, &k, data, err));
done:
    other_release(&k);
    dc_opened_release(&o);
    return rc;
}

static const dc_flag flags[] = {
    {"--model", "M", "an HF directory or a .gguf"},
    {"--adapter", "A", "a PEFT directory"},
    {"--data", "F", "rows of any schema: .jsonl .json .csv .tsv .txt, plain, .gz or .zst"},
    {"--against", "M2", "a model to compare with: KL from it, same top-1"},
    {"--against-adapter", "A2", "its adapter"},
    {"--format", "SCHEMA",
     "of the rows: text, messages, sharegpt, alpaca, prompt_completion, tokenized (each is guessed)"},
    {"--max-length", "N", "longer rows are split (1024)"},
    {"--max-tokens", "N", "read no further than this; 0: all (0)"},
    {"--task", "KIND", "let the model answer instead: exact, or json_fields"},
    {"--prompt-field", "KEY", "of a task's rows: a text, or a list of messages (prompt)"},
    {"--answer-field", "KEY", "the right answer (completion)"},
    {"--fields", "A,B", "of json_fields: what must be equal (all of the answer's)"},
    {"--limit", "N", "use at most so many rows; 0: all (0)"},
    {"--max-new-tokens", "N", "longest answer (128)"},
    DC_FLAG_DEVICE,
    {NULL, NULL, NULL}};

const dc_command dc_cmd_eval = {
    .name = "eval",
    .group = "look",
    .summary = "perplexity and accuracy on rows, KL against another model, or right answers",
    .takes = DC_TAKES_NONE,
    .flags = flags,
    .examples =
        "  decant eval --model student --adapter runs/my/train/adapter --data held_out.jsonl --against teacher\n"
        "  decant eval --model model.gguf --data questions.jsonl --task json_fields --fields name,total\n",
    .run = run};
