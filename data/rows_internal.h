/* data/rows_internal.h -- private to data/rows.c and data/conversation.c. */
#ifndef DC_DATA_ROWS_INTERNAL_H
#define DC_DATA_ROWS_INTERNAL_H

#include "data/rows.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A positive result beside DC_OK and the negative errors: out->reject and out->reason are set. */
enum { DC_REJECTED = 1 };

int dc_rows_reject(dc_examples *out, dc_reject reject, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A conversation in the form of messages. */
typedef struct dc_conversation {
    json_t *messages; /* checked: a list of objects, each with a known role */
    json_t *tools;    /* a list, or NULL */
    json_t *more;     /* the row's chat_template_kwargs, or NULL; borrowed */
    size_t prompt;    /* prompt_completion: messages of the prompt */
} dc_conversation;

/* From a row of schema messages, sharegpt, alpaca, or prompt_completion with lists. DC_OK, DC_REJECTED or DC_ENOMEM; release in any case. */
int dc_conversation_make(dc_conversation *c, const json_t *row, dc_schema_kind schema, const char *system,
                         dc_examples *out, dc_error *err);
/* Contents that are lists of text parts become texts: for templates that know only texts. 1 when something changed, 0 when nothing did, DC_ENOMEM. */
int dc_conversation_flatten(dc_conversation *c, dc_error *err);
void dc_conversation_release(dc_conversation *c);
int dc_message_is_assistant(const json_t *message);

#ifdef __cplusplus
}
#endif
#endif
