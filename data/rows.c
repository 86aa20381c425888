/* data/rows.c -- rows to token ids and masks. */
#include "data/rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "data/rows_internal.h"

static const char *const kind_names[] = {"auto",     "text", "messages", "sharegpt", "alpaca", "prompt_completion",
                                         "tokenized"};

const char *dc_schema_kind_name(dc_schema_kind kind)
{
    return (size_t)kind < sizeof kind_names / sizeof *kind_names ? kind_names[kind] : "?";
}

int dc_schema_kind_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof kind_names / sizeof *kind_names; i++)
        if (strcmp(name, kind_names[i]) == 0) return (int)i;
    return name ? -1 : DC_ROWS_AUTO;
}

const char *dc_reject_name(dc_reject reject)
{
    static const char *const names[] = {"none", "schema", "role",     "template",
                                        "text", "ids",    "too_long", "nothing_to_learn"};
    return names[reject];
}

dc_rows_options dc_rows_defaults(void)
{
    return (dc_rows_options){.assistant_only_loss = 1, .completion_only_loss = 1, .train_on_eot = 1, .add_special = 1};
}

dc_schema_kind dc_schema_guess(const json_t *row)
{
    const json_t *turns = json_object_get(row, "conversations");
    if (json_object_get(row, "input_ids")) return DC_ROWS_TOKENIZED;
    if (json_object_get(row, "messages")) return DC_ROWS_MESSAGES;
    if (turns) return json_object_get(json_array_get(turns, 0), "role") ? DC_ROWS_MESSAGES : DC_ROWS_SHAREGPT;
    if (json_object_get(row, "prompt") && json_object_get(row, "completion")) return DC_ROWS_PROMPT_COMPLETION;
    if (json_object_get(row, "instruction") && json_object_get(row, "output")) return DC_ROWS_ALPACA;
    return json_object_get(row, "text") ? DC_ROWS_TEXT : DC_ROWS_AUTO;
}

/* A turn whose end is not known from texts alone. */
typedef struct open_turn {
    size_t span;
    dc_str text; /* of the conversation up to and with the turn */
} open_turn;

/* What one call works with. */
typedef struct work {
    dc_examples *out;
    const json_t *row;
    const dc_tokenizer *tokenizer;
    const dc_template *chat;
    const dc_rows_options *o;
    dc_error *err;
    dc_str text;    /* what is tokenized */
    dc_spans spans; /* of it: what is to be learnt, ascending */
    int trim;       /* spans were found by prefixes: whitespace behind the end-of-turn token is the template's */
    open_turn *open;
    size_t n_open, open_room;
    dc_ids ids, offsets;
    uint8_t *mask; /* [ids.n] */
} work;

int dc_rows_reject(dc_examples *out, dc_reject reject, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(out->reason, sizeof out->reason, format, args);
    va_end(args);
    for (char *c = out->reason; *c; c++)
        if ((unsigned char)*c < 0x20) *c = ' ';
    out->reject = reject;
    return DC_REJECTED;
}

/* ---- tokens and spans ---- */
static int tokenize(work *w, unsigned flags)
{
    dc_error local = {0};
    const int rc =
        dc_encode_offsets(w->tokenizer, &w->ids, &w->offsets, dc_str_text(&w->text), w->text.n, flags, &local);
    if (rc == DC_EFORMAT) return dc_rows_reject(w->out, DC_REJECT_TEXT, "%s", local.message);
    if (rc) return dc_fail(w->err, local.code, "%s", local.message);
    w->mask = dc_calloc(w->ids.n + 1, 1);
    return w->mask ? DC_OK : dc_fail_memory(w->err, w->ids.n, "a row's mask");
}

static int add_span(work *w, size_t begin, size_t end)
{
    dc_spans *s = &w->spans;
    if (dc_grow(&s->data, s->n, &s->room, sizeof *s->data))
        return dc_fail_memory(w->err, s->n * sizeof *s->data, "spans");
    s->data[s->n++] = (dc_span){begin, end};
    return DC_OK;
}

static size_t token_begin(const work *w, size_t i) { return i < w->ids.n ? (size_t)w->offsets.data[i] : w->text.n; }

/* A token is in a span when a byte of it is; one without bytes (a part of a normalized character) when it stands there. */
static int token_in(const work *w, size_t i, const dc_span *s)
{
    const size_t begin = token_begin(w, i), end = token_begin(w, i + 1);
    return end > begin ? begin < s->end && end > s->begin : begin >= s->begin && begin < s->end;
}

static int ends_generation(const work *w, int32_t id)
{
    size_t n;
    const int32_t *eog = dc_tokenizer_eog(w->tokenizer, &n);
    for (size_t i = 0; i < n; i++)
        if (eog[i] == id) return 1;
    return 0;
}

static int is_blank(const work *w, size_t token)
{
    for (size_t i = token_begin(w, token); i < token_begin(w, token + 1); i++)
        if (!strchr(" \t\r\n", w->text.data[i]) || !w->text.data[i]) return 0;
    return 1;
}

/* The token that ends the turn: the last of tokens [first, behind) but for whitespace, or the one behind. Position decides, and only there is asked
 * whether it is an end. */
static void settle_end(work *w, size_t first, size_t behind)
{
    size_t last = behind;
    while (last > first && is_blank(w, last - 1)) last--;
    if (last > first && ends_generation(w, w->ids.data[last - 1])) {
        if (!w->o->train_on_eot) w->mask[last - 1] = 0;
        for (size_t i = last; w->trim && i < behind; i++) w->mask[i] = 0;
    } else if (behind < w->ids.n && behind > first && ends_generation(w, w->ids.data[behind])) {
        w->mask[behind] = (uint8_t)(w->o->train_on_eot != 0);
    }
}

static void mark_spans(work *w)
{
    size_t i = 0;
    for (size_t k = 0; k < w->spans.n; k++) {
        const dc_span *s = &w->spans.data[k];
        while (i > 0 && token_in(w, i - 1, s)) i--;
        while (i < w->ids.n && !token_in(w, i, s) && token_begin(w, i) < s->end) i++;
        const size_t first = i;
        while (i < w->ids.n && token_in(w, i, s)) w->mask[i++] = 1;
        settle_end(w, first, i);
    }
}

static void mark_all(work *w)
{
    if (w->ids.n) memset(w->mask, 1, w->ids.n);
}

/* EOS behind a text; it is there already when the post-processor puts it. */
static int end_with_eos(work *w)
{
    const int32_t eos = dc_tokenizer_eos(w->tokenizer);
    if (!w->o->add_special || eos < 0) return DC_OK;
    if (!w->ids.n || w->ids.data[w->ids.n - 1] != eos) {
        dc_ids_push(&w->ids, eos);
        dc_ids_push(&w->offsets, (int32_t)w->text.n);
        uint8_t *mask = w->ids.failed || w->offsets.failed ? NULL : dc_realloc(w->mask, w->ids.n + 1);
        if (!mask) return dc_fail_memory(w->err, w->ids.n, "a row's tokens");
        w->mask = mask;
    }
    w->mask[w->ids.n - 1] = (uint8_t)(w->o->train_on_eot != 0);
    return DC_OK;
}

/* ---- texts ---- */
static int take_text(work *w, const char *key)
{
    const json_t *v = json_object_get(w->row, key);
    if (!json_is_string(v)) return dc_rows_reject(w->out, DC_REJECT_SCHEMA, "'%s' must be a text", key);
    dc_str_append(&w->text, json_string_value(v), json_string_length(v));
    return w->text.failed ? dc_fail_memory(w->err, json_string_length(v), "a row's text") : DC_OK;
}

static unsigned text_flags(const work *w) { return w->o->add_special ? DC_TOK_SPECIAL : 0; }

static const char *text_key(const dc_rows_options *o) { return o->text_field ? o->text_field : "text"; }

static int encode_text(work *w)
{
    int rc = take_text(w, text_key(w->o));
    if (rc == DC_OK && !w->text.n) rc = dc_rows_reject(w->out, DC_REJECT_NOTHING, "the text is empty");
    if (rc == DC_OK) rc = tokenize(w, text_flags(w));
    if (rc) return rc;
    mark_all(w);
    return end_with_eos(w);
}

static int encode_prompt_text(work *w)
{
    int rc = take_text(w, "prompt");
    const size_t prompt = w->text.n;
    if (rc == DC_OK) rc = take_text(w, "completion");
    if (rc == DC_OK && w->text.n == prompt) rc = dc_rows_reject(w->out, DC_REJECT_NOTHING, "the completion is empty");
    if (rc == DC_OK) rc = tokenize(w, text_flags(w));
    if (rc == DC_OK && w->o->completion_only_loss) rc = add_span(w, prompt, w->text.n);
    if (rc) return rc;
    if (w->o->completion_only_loss) mark_spans(w);
    else mark_all(w);
    return end_with_eos(w);
}

/* ---- conversations ---- */
/* The first n messages as text, appended to `out`. A refusal of the template is DC_REJECTED. */
static int render(work *w, const dc_conversation *c, size_t n, int prompt, dc_str *out, dc_spans *spans)
{
    json_t *some = json_array(), *variables = NULL;
    dc_error local = {0};
    int rc = some ? DC_OK : DC_ENOMEM;
    for (size_t i = 0; i < n && rc == DC_OK; i++)
        if (json_array_append(some, json_array_get(c->messages, i))) rc = DC_ENOMEM;
    if (rc) dc_fail_memory(&local, n, "messages");
    else rc = dc_chat_variables(&variables, some, c->tools, c->more, w->tokenizer, prompt, &local);
    if (rc == DC_OK) rc = dc_template_render(w->chat, out, spans, variables, w->o->now, &local);
    json_decref(variables);
    json_decref(some);
    if (rc == DC_EFORMAT || rc == DC_EUNKNOWN) return dc_rows_reject(w->out, DC_REJECT_TEMPLATE, "%s", local.message);
    return rc ? dc_fail(w->err, local.code, "%s", local.message) : DC_OK;
}

static int begins_with(const dc_str *whole, const dc_str *part)
{
    return part->n <= whole->n && (part->n == 0 || memcmp(whole->data, part->data, part->n) == 0);
}

/* Where message k's answer begins in the whole text: behind all before it and the generation prompt. */
static int turn_begin(work *w, const dc_conversation *c, size_t k, size_t *begin)
{
    dc_str before = {0};
    int rc = render(w, c, k, 1, &before, NULL);
    if (rc == DC_OK && !begins_with(&w->text, &before))
        rc = dc_rows_reject(
            w->out, DC_REJECT_TEMPLATE,
            "the template renders what precedes message %zu otherwise alone than in the whole "
            "conversation, so its answer has no sure place; a template with {%% generation %%} would tell it",
            k);
    *begin = before.n;
    dc_str_release(&before);
    return rc;
}

/* Where it ends: with the text of the messages so far. SIZE_MAX when that is no beginning of the whole; the text is kept. */
static int turn_end(work *w, const dc_conversation *c, size_t k, size_t begin, size_t *end)
{
    dc_str so_far = {0};
    *end = w->text.n;
    if (k + 1 == json_array_size(c->messages)) return DC_OK;
    int rc = render(w, c, k + 1, 0, &so_far, NULL);
    const int agrees = begins_with(&w->text, &so_far) && so_far.n >= begin;
    *end = agrees ? so_far.n : SIZE_MAX;
    if (rc == DC_OK && !agrees) {
        if (dc_grow(&w->open, w->n_open, &w->open_room, sizeof *w->open)) {
            rc = dc_fail_memory(w->err, so_far.n, "a turn");
        } else {
            w->open[w->n_open++] = (open_turn){w->spans.n, so_far};
            return DC_OK;
        }
    }
    dc_str_release(&so_far);
    return rc;
}

/* The spans of the assistant's turns by rendering beginnings of the conversation. An end of SIZE_MAX is settled when there are tokens. */
static int spans_by_prefix(work *w, const dc_conversation *c)
{
    int rc = DC_OK;
    w->trim = 1;
    for (size_t k = 0; k < json_array_size(c->messages) && rc == DC_OK; k++) {
        size_t begin, end;
        if (!dc_message_is_assistant(json_array_get(c->messages, k))) continue;
        rc = turn_begin(w, c, k, &begin);
        if (rc == DC_OK) rc = turn_end(w, c, k, begin, &end);
        if (rc == DC_OK) rc = add_span(w, begin, end);
    }
    return rc;
}

/* Does `text`, but for whitespace at its end, end with bytes [begin, end) of the whole? */
static int ends_with(const work *w, const dc_str *text, size_t begin, size_t end)
{
    size_t n = text->n;
    while (n && text->data[n - 1] && strchr(" \t\r\n", text->data[n - 1])) n--;
    return end - begin <= n && memcmp(text->data + n - (end - begin), w->text.data + begin, end - begin) == 0;
}

/* Turns that the template shows otherwise when others follow (it drops their reasoning, say): one ends with its first end-of-turn token, if the text up
 * to there is also how the turn ended while it was the last. */
static int settle_open_spans(work *w)
{
    for (size_t k = 0; k < w->n_open; k++) {
        dc_span *s = &w->spans.data[w->open[k].span];
        size_t i = 0;
        while (i < w->ids.n && !(token_begin(w, i) >= s->begin && ends_generation(w, w->ids.data[i]))) i++;
        s->end = token_begin(w, i + 1);
        if (i == w->ids.n || !ends_with(w, &w->open[k].text, s->begin, s->end))
            return dc_rows_reject(
                w->out, DC_REJECT_TEMPLATE,
                "the template renders answer %zu otherwise alone than in the whole "
                "conversation, so its end has no sure place; a template with {%% generation %%} would tell it",
                w->open[k].span + 1);
    }
    return DC_OK;
}

static int conversation_spans(work *w, const dc_conversation *c, dc_schema_kind schema)
{
    if (schema == DC_ROWS_PROMPT_COMPLETION) {
        size_t begin;
        w->trim = 1;
        const int rc = turn_begin(w, c, c->prompt, &begin);
        return rc ? rc : add_span(w, begin, w->text.n);
    }
    return dc_template_marks_generation(w->chat) ? DC_OK : spans_by_prefix(w, c);
}

static int render_whole(work *w, dc_conversation *c, int want_spans)
{
    const size_t n = json_array_size(c->messages);
    dc_spans *spans = want_spans ? &w->spans : NULL;
    int rc = render(w, c, n, 0, &w->text, spans);
    if (rc != DC_REJECTED) return rc;
    const int changed = dc_conversation_flatten(c, w->err);
    if (changed <= 0) return changed ? changed : rc;
    w->out->reject = DC_REJECT_NONE;
    w->out->reason[0] = 0;
    return render(w, c, n, 0, &w->text, spans);
}

static int encode_conversation(work *w, dc_schema_kind schema)
{
    if (!w->chat)
        return dc_fail(w->err, DC_EUSAGE,
                       "rows of schema '%s' need a chat template, and the tokenizer has none; set data.chat_template",
                       dc_schema_kind_name(schema));
    dc_conversation c;
    const int only = schema == DC_ROWS_PROMPT_COMPLETION ? w->o->completion_only_loss : w->o->assistant_only_loss;
    int rc = dc_conversation_make(&c, w->row, schema, w->o->system, w->out, w->err);
    if (rc == DC_OK)
        rc = render_whole(w, &c, only && schema != DC_ROWS_PROMPT_COMPLETION && dc_template_marks_generation(w->chat));
    if (rc == DC_OK && only) rc = conversation_spans(w, &c, schema);
    if (rc == DC_OK && only && !w->spans.n)
        rc = dc_rows_reject(w->out, DC_REJECT_NOTHING, "the conversation has no answer of the assistant");
    if (rc == DC_OK) rc = tokenize(w, 0);
    if (rc == DC_OK && only) rc = settle_open_spans(w);
    if (rc == DC_OK && only) mark_spans(w);
    if (rc == DC_OK && !only) mark_all(w);
    dc_conversation_release(&c);
    return rc;
}

/* ---- tokens as they are ---- */
static int whole_number(const json_t *list, size_t i, json_int_t *out)
{
    const json_t *v = json_array_get(list, i);
    *out = json_integer_value(v);
    return json_is_integer(v);
}

static int encode_tokens(work *w)
{
    const json_t *ids = json_object_get(w->row, "input_ids"), *labels = json_object_get(w->row, "labels");
    const json_t *attention = json_object_get(w->row, "attention_mask");
    const size_t n = json_array_size(ids);
    const int64_t size = dc_tokenizer_size(w->tokenizer);
    if (!json_is_array(ids) || !n)
        return dc_rows_reject(w->out, DC_REJECT_SCHEMA, "'input_ids' must be a list of token ids");
    if (labels && !json_is_null(labels) && json_array_size(labels) != n)
        return dc_rows_reject(w->out, DC_REJECT_IDS, "%zu labels for %zu input_ids", json_array_size(labels), n);
    w->mask = dc_calloc(n, 1);
    if (!w->mask) return dc_fail_memory(w->err, n, "a row's mask");
    for (size_t i = 0; i < n; i++) {
        json_int_t id, label, attends;
        if (!whole_number(ids, i, &id) || id < 0 || id >= size)
            return dc_rows_reject(w->out, DC_REJECT_IDS, "input_ids[%zu] is not an id of the vocabulary of %lld", i,
                                  (long long)size);
        if (json_is_array(attention) && (!whole_number(attention, i, &attends) || attends != 1))
            return dc_rows_reject(w->out, DC_REJECT_IDS, "attention_mask[%zu] is not 1; rows must come without padding",
                                  i);
        dc_ids_push(&w->ids, (int32_t)id);
        w->mask[i] = 1;
        if (!json_is_array(labels)) continue;
        if (!whole_number(labels, i, &label) || (label != -100 && label != id))
            return dc_rows_reject(w->out, DC_REJECT_IDS, "labels[%zu] must be -100 or the id at its place, %lld", i,
                                  (long long)id);
        w->mask[i] = label != -100;
    }
    return w->ids.failed ? dc_fail_memory(w->err, n, "a row's ids") : DC_OK;
}

/* ---- examples ---- */
static int make_room(dc_examples *out, size_t T, size_t n)
{
    if (T > out->room) {
        int32_t *ids = dc_realloc(out->ids, T * sizeof *ids);
        if (!ids) return -1;
        out->ids = ids;
        uint8_t *mask = dc_realloc(out->mask, T);
        if (!mask) return -1;
        out->mask = mask;
        out->room = T;
    }
    if (n > out->items_room) {
        dc_example *items = dc_realloc(out->items, n * sizeof *items);
        if (!items) return -1;
        out->items = items;
        out->items_room = n;
    }
    return 0;
}

/* Cuts the row into its examples; pieces without a target are left out. */
static int emit(work *w)
{
    dc_examples *out = w->out;
    const size_t T = w->ids.n, max = w->o->max_length > 0 ? (size_t)w->o->max_length : T,
                 parts = T > max ? (T + max - 1) / max : 1;
    out->length = T;
    if (parts > 1 && w->o->truncation == DC_TRUNCATE_ERROR)
        return dc_rows_reject(out, DC_REJECT_LONG,
                              "%zu tokens, and max_length is %zu; truncation: cut or split would keep a part", T, max);
    const size_t kept = w->o->truncation == DC_TRUNCATE_SPLIT ? parts : 1;
    if (make_room(out, T < kept * max ? T : kept * max, kept)) return dc_fail_memory(w->err, T * 5, "a row's tokens");
    for (size_t k = 0; k < kept; k++) {
        const size_t from = k * max, n = T - from < max ? T - from : max;
        size_t trained = 0;
        for (size_t i = 1; i < n; i++) trained += w->mask[from + i];
        if (!trained) continue;
        memcpy(out->ids + out->T, w->ids.data + from, n * sizeof *out->ids);
        memcpy(out->mask + out->T, w->mask + from, n);
        out->mask[out->T] = 0; /* nothing predicts the first token */
        const int split = kept > 1;
        out->items[out->n++] =
            (dc_example){out->T, n, trained, split ? (uint32_t)k : 0, split ? (uint32_t)parts : 1, from + n < T};
        out->T += n;
    }
    if (out->n) return DC_OK;
    return dc_rows_reject(out, DC_REJECT_NOTHING,
                          parts > 1 && kept == 1 ? "none of the first %zu tokens is a target"
                                                 : "none of the %zu tokens is a target",
                          parts > 1 && kept == 1 ? max : T);
}

static int encode(work *w)
{
    const dc_schema_kind kind = w->o->schema == DC_ROWS_AUTO ? dc_schema_guess(w->row) : w->o->schema;
    w->out->schema = kind;
    if (!json_is_object(w->row)) return dc_rows_reject(w->out, DC_REJECT_SCHEMA, "the row is not an object");
    switch (kind) {
    case DC_ROWS_TEXT: return encode_text(w);
    case DC_ROWS_TOKENIZED: return encode_tokens(w);
    case DC_ROWS_PROMPT_COMPLETION:
        return json_is_array(json_object_get(w->row, "prompt")) ? encode_conversation(w, kind) : encode_prompt_text(w);
    case DC_ROWS_MESSAGES:
    case DC_ROWS_SHAREGPT:
    case DC_ROWS_ALPACA: return encode_conversation(w, kind);
    case DC_ROWS_AUTO: break;
    }
    return dc_rows_reject(
        w->out, DC_REJECT_SCHEMA,
        "the row has none of text, messages, conversations, instruction and output, prompt and completion, "
        "input_ids; set data's schema or rename its keys");
}

int dc_rows_encode(dc_examples *out, const json_t *row, const dc_tokenizer *tokenizer, const dc_template *chat,
                   const dc_rows_options *options, dc_error *err)
{
    work w = {.out = out, .row = row, .tokenizer = tokenizer, .chat = chat, .o = options, .err = err};
    out->T = out->n = out->length = 0;
    out->reject = DC_REJECT_NONE;
    out->reason[0] = 0;
    int rc = encode(&w);
    if (rc == DC_OK) rc = emit(&w);
    dc_str_release(&w.text);
    dc_spans_release(&w.spans);
    for (size_t i = 0; i < w.n_open; i++) dc_str_release(&w.open[i].text);
    dc_free(w.open);
    dc_ids_release(&w.ids);
    dc_ids_release(&w.offsets);
    dc_free(w.mask);
    if (rc) out->n = out->T = 0;
    return rc == DC_REJECTED ? DC_OK : rc;
}

void dc_examples_release(dc_examples *e)
{
    dc_free(e->ids);
    dc_free(e->mask);
    dc_free(e->items);
    *e = (dc_examples){0};
}
