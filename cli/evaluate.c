/* cli/evaluate.c */
#include "cli/evaluate.h"

#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "core/arena.h"
#include "core/json.h"
#include "data/chat.h"
#include "data/reader.h"
#include "train/score.h"

typedef struct work {
    const dc_task *task;
    const dc_tokenizer *t;
    dc_template *chat;
    dc_ids *prompts;
    dc_str *answers;
    size_t n, room_prompts, room_answers;
    dc_task_result *out;
} work;

static int render(work *w, dc_str *text, json_t *messages, dc_error *err)
{
    const char *source = dc_tokenizer_chat_template(w->t);
    if (!source)
        return dc_fail(err, DC_EMISMATCH, "%s: a prompt is a list of messages, and the model has no chat template",
                       w->task->path);
    json_t *variables = NULL;
    int rc = w->chat ? DC_OK : dc_template_new(&w->chat, source, "chat_template", err);
    if (rc == DC_OK) rc = dc_chat_variables(&variables, messages, NULL, NULL, w->t, 1, err);
    if (rc == DC_OK) rc = dc_template_render(w->chat, text, NULL, variables, 0, err);
    json_decref(variables);
    return rc;
}

static int take_row(work *w, const dc_record *record, dc_error *err)
{
    dc_str text = {0};
    json_t *prompt = json_object_get(record->value, w->task->prompt_field),
           *answer = json_object_get(record->value, w->task->answer_field);
    if (!prompt || !answer)
        return dc_fail(err, DC_EFORMAT, "%s: the row has no '%s'", record->place,
                       prompt ? w->task->answer_field : w->task->prompt_field);
    if (dc_grow(&w->prompts, w->n, &w->room_prompts, sizeof *w->prompts) ||
        dc_grow(&w->answers, w->n, &w->room_answers, sizeof *w->answers))
        return dc_fail_memory(err, 0, "prompts");
    int rc = DC_OK;
    const int chat = json_is_array(prompt);
    if (chat) rc = render(w, &text, prompt, err);
    else if (json_is_string(prompt)) dc_str_append(&text, json_string_value(prompt), json_string_length(prompt));
    else
        rc = dc_fail(err, DC_EFORMAT, "%s: '%s' must be a text or a list of messages", record->place,
                     w->task->prompt_field);
    dc_ids ids = {0};
    if (rc == DC_OK) rc = dc_encode(w->t, &ids, dc_str_text(&text), text.n, chat ? 0 : DC_TOK_SPECIAL, err);
    dc_str_release(&text);
    dc_str meant = {0};
    if (json_is_string(answer)) dc_str_append(&meant, json_string_value(answer), json_string_length(answer));
    else dc_json_dump(&meant, answer, 0);
    if (rc == DC_OK && (meant.failed || ids.failed)) rc = dc_fail_memory(err, 0, "prompts");
    if (rc != DC_OK) {
        dc_ids_release(&ids);
        dc_str_release(&meant);
        return rc;
    }
    w->prompts[w->n] = ids;
    w->answers[w->n++] = meant;
    return DC_OK;
}

static int read_rows(work *w, dc_error *err)
{
    int rc = DC_OK;
    dc_reader *reader = NULL;
    DC_TRY(dc_reader_open(&reader, w->task->path, NULL, err));
    while (!w->task->limit || (int64_t)w->n < w->task->limit) {
        dc_record record;
        DC_TRY(dc_reader_next(reader, &record, err));
        if (record.kind == DC_READ_END) break;
        if (record.kind == DC_READ_BAD) {
            rc = dc_fail(err, DC_EFORMAT, "%s: %s", record.place, record.reason);
            goto done;
        }
        DC_TRY(take_row(w, &record, err));
    }
    if (!w->n) rc = dc_fail(err, DC_EFORMAT, "%s has no rows to evaluate on", w->task->path);
done:
    dc_reader_close(reader);
    return rc;
}

static int equal_fields(const dc_task *task, const json_t *said, const json_t *meant)
{
    const char *key;
    json_t *value;
    for (size_t i = 0; i < task->n_fields; i++)
        if (!json_equal(json_object_get(said, task->fields[i]), json_object_get(meant, task->fields[i]))) return 0;
    if (!task->n_fields)
        json_object_foreach((json_t *)meant, key, value) if (!json_equal(json_object_get(said, key), value)) return 0;
    return 1;
}

static const char *trimmed(const char *text, size_t *n)
{
    while (isspace((unsigned char)*text)) text++;
    *n = strlen(text);
    while (*n && isspace((unsigned char)text[*n - 1])) (*n)--;
    return text;
}

static int compare(work *w, const char *said, const char *meant)
{
    if (w->task->json_fields) {
        json_t *a = json_loads(said, JSON_ALLOW_NUL, NULL), *b = json_loads(meant, JSON_ALLOW_NUL, NULL);
        const int valid = json_is_object(a), right = valid && json_is_object(b) && equal_fields(w->task, a, b);
        w->out->valid += valid;
        json_decref(a);
        json_decref(b);
        return right;
    }
    size_t n, m;
    said = trimmed(said, &n), meant = trimmed(meant, &m);
    return n == m && !memcmp(said, meant, n);
}

static int done_one(void *context, size_t i, const int32_t *ids, size_t n_ids, int ended, dc_error *err)
{
    work *w = context;
    dc_str text = {0};
    (void)ended;
    int rc = dc_decode(w->t, &text, ids, n_ids, 1, err);
    if (rc == DC_OK && text.failed) rc = dc_fail_memory(err, text.n, "an answer");
    if (rc == DC_OK) w->out->right += compare(w, dc_str_text(&text), dc_str_text(&w->answers[i]));
    w->out->n++;
    dc_str_release(&text);
    return rc;
}

int dc_evaluate_task(dc_task_result *out, const dc_task *task, dc_model *m, int adapter, const dc_tokenizer *t,
                     dc_error *err)
{
    int rc = DC_OK;
    work w = {.task = task, .t = t, .out = out};
    dc_scorer *scorer = NULL;
    int64_t prefilled;
    double prefill_seconds;
    dc_generate_options o = dc_generate_defaults();
    o.max_new_tokens = task->max_new_tokens;
    *out = (dc_task_result){0};
    DC_TRY(read_rows(&w, err));
    DC_TRY(dc_scorer_new(&scorer, m, t, adapter, 0, err));
    DC_TRY(dc_score_generate(scorer, w.prompts, w.n, &o, done_one, NULL, &w, err));
    dc_scorer_rates(scorer, &prefilled, &prefill_seconds, &out->decoded, &out->decode_seconds);
done:
    dc_scorer_free(scorer);
    dc_template_free(w.chat);
    for (size_t i = 0; i < w.n; i++) {
        dc_ids_release(&w.prompts[i]);
        dc_str_release(&w.answers[i]);
    }
    dc_free(w.prompts);
    dc_free(w.answers);
    return rc;
}
