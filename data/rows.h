/* data/rows.h -- from a row of a data set to token ids and a loss mask.
 *
 * Schemas, by the names that people's files have:
 *
 *   text               {"text"}
 *   messages           {"messages": [{"role", "content", "tool_calls"?, ...}], "tools"?, "chat_template_kwargs"?}
 *   sharegpt           {"conversations": [{"from": human|gpt|system|function_call|observation, "value"}], "system"?, "tools"?}
 *   alpaca             {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], ...]}
 *   prompt_completion  {"prompt", "completion"}: two texts, or two lists of messages
 *   tokenized          {"input_ids", "labels"?}: labels aligned with input_ids, -100 is no target
 *
 * The mask is by position, never by token id: a padding token that is also the end of a turn stays trained. mask[0] is always 0, since nothing
 * predicts the first token. Where the answer's text begins or ends inside a token, that token counts as answer (as in transformers' assistant
 * masks).
 *
 * assistant_only_loss takes the spans of {% generation %}. Where the template has none, the conversation is rendered turn by turn: what stands
 * behind "messages before this turn + generation prompt" is the turn, if that text is a beginning of the whole; the turn ends where "messages
 * with this turn" ends, or, where the template shows a turn otherwise once another follows (reasoning that is dropped), with its end-of-turn
 * token. Where neither holds, the row is rejected rather than trained on a guess. */
#ifndef DC_DATA_ROWS_H
#define DC_DATA_ROWS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "data/chat.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_schema_kind {
    DC_ROWS_AUTO = 0,
    DC_ROWS_TEXT,
    DC_ROWS_MESSAGES,
    DC_ROWS_SHAREGPT,
    DC_ROWS_ALPACA,
    DC_ROWS_PROMPT_COMPLETION,
    DC_ROWS_TOKENIZED
} dc_schema_kind;

const char *dc_schema_kind_name(dc_schema_kind kind); /* "text" ...; "auto" */
int dc_schema_kind_find(const char *name);            /* -1: unknown; NULL: AUTO */
/* What a row looks like; DC_ROWS_AUTO when it looks like none. */
dc_schema_kind dc_schema_guess(const json_t *row);

/* What happens to a row of more than max_length tokens. */
typedef enum dc_truncation {
    DC_TRUNCATE_ERROR = 0, /* rejected as DC_REJECT_LONG; the caller may make that an error */
    DC_TRUNCATE_CUT,       /* its first max_length tokens */
    DC_TRUNCATE_SPLIT      /* pieces of max_length, each an example; pieces without a target are left out */
} dc_truncation;

typedef struct dc_rows_options {
    dc_schema_kind schema;    /* AUTO: guessed for each row */
    int assistant_only_loss;  /* conversations: only the assistant's turns are targets */
    int completion_only_loss; /* prompt_completion: only the completion */
    int train_on_eot;         /* the token that ends an assistant's turn, a completion or a text is a target */
    int add_special; /* text, and prompts that are texts: BOS as the tokenizer's post-processor says, and EOS at the end */
    const char *system;     /* put before conversations that have no system message; NULL: none */
    const char *text_field; /* the key of a text row's text; NULL: "text" */
    int64_t max_length;     /* tokens; 0: no bound */
    dc_truncation truncation;
    int64_t now; /* seconds, for templates that print the date */
} dc_rows_options;

/* AUTO, assistant and completion only, EOT trained, special tokens added, no system text, no bound, ERROR, now 0. */
dc_rows_options dc_rows_defaults(void);

/* One document: ids[begin .. begin + n) of its dc_examples. */
typedef struct dc_example {
    size_t begin, n;
    size_t trained;       /* tokens with mask 1 */
    uint32_t part, parts; /* of a split row, counted before pieces were left out; 0 of 1 otherwise */
    int cut;              /* tokens of the row are missing behind this one */
} dc_example;

typedef enum dc_reject {
    DC_REJECT_NONE = 0,
    DC_REJECT_SCHEMA,   /* not an object, a key is missing or has another type */
    DC_REJECT_ROLE,     /* an unknown role */
    DC_REJECT_TEMPLATE, /* the template refused the conversation, or renders turns otherwise alone than together */
    DC_REJECT_TEXT,     /* not valid UTF-8 */
    DC_REJECT_IDS,      /* an id outside of the vocabulary, labels of another length */
    DC_REJECT_LONG,
    DC_REJECT_NOTHING /* no token is a target: nothing to learn */
} dc_reject;

const char *dc_reject_name(dc_reject reject); /* "schema" ..., for counts in a report */

/* The examples of one row, or why there are none. A zeroed one is empty; each dc_rows_encode begins it anew and keeps its memory. */
typedef struct dc_examples {
    int32_t *ids;  /* [T] all examples, one behind another */
    uint8_t *mask; /* [T] 1: a target */
    size_t T, room;
    dc_example *items; /* [n] */
    size_t n, items_room;
    dc_schema_kind schema; /* the one used */
    size_t length;         /* tokens of the row before truncation */
    dc_reject reject;
    char reason[512]; /* one line: what was expected and found; empty when reject is NONE */
} dc_examples;

/* Encodes one row. `chat` may be NULL when the rows need none. A row that cannot be used is DC_OK with out->reject and out->reason. Errors: DC_ENOMEM;
 * DC_EUSAGE when a conversation comes and there is no chat template. tokenizer and chat are only read: threads may share them, each with its own
 * `out`. */
int dc_rows_encode(dc_examples *out, const json_t *row, const dc_tokenizer *tokenizer, const dc_template *chat,
                   const dc_rows_options *options, dc_error *err);
void dc_examples_release(dc_examples *e); /* twice is safe */

#ifdef __cplusplus
}
#endif
#endif
