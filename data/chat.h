/* data/chat.h -- chat templates: a subset of Jinja that renders as transformers renders.
 *
 * A conversation is JSON: {"messages": [{"role", "content", "tool_calls"?...}], "tools"?, ...}. Supported: what the templates of the
 * families in data/ use (for, if, elif, else, set, namespace, macro, call of filters and tests, string and list methods, slices, inline if,
 * whitespace control with trim_blocks and lstrip_blocks on, {% generation %}, raise_exception, strftime_now, tojson).
 * Refused by name with line: any other construct. Templates come from files: no recursion without bound, no output
 * without bound (64 MB), no loop without bound. */
#ifndef DC_DATA_CHAT_H
#define DC_DATA_CHAT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "data/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_template dc_template;

/* Compiles; `name` stands in messages as "NAME:LINE: ...". The text is copied. */
int dc_template_new(dc_template **out, const char *text, const char *name, dc_error *err);
void dc_template_free(dc_template *t); /* NULL is fine */
/* Has it a {% generation %} block? */
int dc_template_marks_generation(const dc_template *t);

/* A part of the rendered text inside {% generation %}: bytes [begin, end). */
typedef struct dc_span {
    size_t begin, end;
} dc_span;

typedef struct dc_spans {
    dc_span *data;
    size_t n, room;
} dc_spans;

/* Renders with variables {messages, tools, add_generation_prompt, bos_token, eos_token, ...}: an object. Spans may be NULL; they are
 * appended to, release with dc_spans_release. A template's raise_exception is DC_EFORMAT with its text. `now` is the time strftime_now
 * sees, in seconds, so that tests and hashes can fix it. */
int dc_template_render(const dc_template *t, dc_str *out, dc_spans *spans, const json_t *variables, int64_t now,
                       dc_error *err);
void dc_spans_release(dc_spans *s);

/* The variables of a conversation as transformers' apply_chat_template hands them over: keys of a message that are null are dropped, the reasoning of
 * a turn is readable as reasoning_content and thinking, `tools` is none when NULL, and the tokenizer's special tokens (may be NULL) are
 * bos_token, eos_token, pad_token. `more` (or NULL) is an object of further variables, which win. *out is a new reference. */
int dc_chat_variables(json_t **out, const json_t *messages, const json_t *tools, const json_t *more,
                      const dc_tokenizer *tokenizer, int add_generation_prompt, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
