/* data/conversation.c -- the chat schemas, all brought to the form of messages. */
#include <string.h>

#include "data/rows_internal.h"

static int no_memory(dc_error *err) { return dc_fail_memory(err, sizeof(json_t), "a conversation"); }

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"an object", "a list", "a text", "a number",
                                        "a number",  "true",   "false",  "null"};
    return v ? names[json_typeof(v)] : "absent";
}

int dc_message_is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "assistant") == 0;
}

static int known_role(const char *role)
{
    static const char *const roles[] = {"system", "developer", "user",    "assistant",
                                        "tool",   "function",  "ipython", NULL};
    for (const char *const *r = roles; *r; r++)
        if (strcmp(role, *r) == 0) return 1;
    return 0;
}

static int is_system(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

/* Checks and copies (by reference) messages of a row behind those of c. */
static int add_messages(dc_conversation *c, const json_t *list, const char *key, dc_examples *out, dc_error *err)
{
    if (!json_is_array(list))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'%s' must be a list of messages, not %s", key, type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *m = json_array_get(list, i);
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(role))
            return dc_rows_reject(out, DC_REJECT_SCHEMA, "%s[%zu] must be an object with a 'role', not %s", key, i,
                                  json_is_object(m) ? "one without" : type_name(m));
        if (!known_role(json_string_value(role)))
            return dc_rows_reject(
                out, DC_REJECT_ROLE,
                "%s[%zu] has the unknown role '%.40s'; known are system, developer, user, assistant and tool", key, i,
                json_string_value(role));
        if (content && !json_is_string(content) && !json_is_array(content) && !json_is_null(content))
            return dc_rows_reject(out, DC_REJECT_SCHEMA, "%s[%zu].content must be a text or a list of parts, not %s",
                                  key, i, type_name(content));
        if (json_array_append(c->messages, m)) return no_memory(err);
    }
    return DC_OK;
}

static int add(dc_conversation *c, const char *role, const json_t *content, dc_error *err)
{
    json_t *m = json_pack("{s:s,s:O}", "role", role, "content", content);
    return !m || json_array_append_new(c->messages, m) ? no_memory(err) : DC_OK;
}

/* ---- sharegpt ---- */
static const char *sharegpt_role(const char *from)
{
    static const char *const table[][2] = {{"human", "user"},        {"user", "user"},
                                           {"gpt", "assistant"},     {"assistant", "assistant"},
                                           {"chatgpt", "assistant"}, {"model", "assistant"},
                                           {"system", "system"},     {"observation", "tool"},
                                           {"tool", "tool"},         {"function_call", "function_call"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(from, table[i][0]) == 0) return table[i][1];
    return NULL;
}

/* One call {"name", "arguments"} or a list of them as an assistant's tool_calls. */
static int add_function_call(dc_conversation *c, const json_t *value, size_t i, dc_examples *out, dc_error *err)
{
    json_error_t e;
    int rc = DC_OK;
    json_t *parsed = json_loadb(json_string_value(value), json_string_length(value), JSON_ALLOW_NUL, &e),
           *calls = json_array();
    if (!parsed) {
        json_decref(calls);
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "conversations[%zu].value of a function_call is not JSON: %.100s",
                              i, e.text);
    }
    const size_t n = json_is_array(parsed) ? json_array_size(parsed) : 1;
    for (size_t k = 0; k < n && rc == DC_OK; k++) {
        json_t *call = json_is_array(parsed) ? json_array_get(parsed, k) : parsed;
        if (!json_is_string(json_object_get(call, "name")))
            rc = dc_rows_reject(out, DC_REJECT_SCHEMA, "conversations[%zu] calls a function without a name", i);
        else if (json_array_append_new(calls, json_pack("{s:s,s:O}", "type", "function", "function", call)))
            rc = no_memory(err);
    }
    json_t *m = rc ? NULL : json_pack("{s:s,s:s,s:O}", "role", "assistant", "content", "", "tool_calls", calls);
    if (rc == DC_OK && (!m || json_array_append_new(c->messages, m))) rc = no_memory(err);
    json_decref(calls);
    json_decref(parsed);
    return rc;
}

static int from_sharegpt(dc_conversation *c, const json_t *row, dc_examples *out, dc_error *err)
{
    const json_t *list = json_object_get(row, "conversations");
    if (!json_is_array(list))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'conversations' must be a list, not %s", type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *turn = json_array_get(list, i), *value = json_object_get(turn, "value");
        const char *from = json_string_value(json_object_get(turn, "from"));
        if (!from || !json_is_string(value))
            return dc_rows_reject(out, DC_REJECT_SCHEMA,
                                  "conversations[%zu] must have a text 'from' and a text 'value'", i);
        const char *role = sharegpt_role(from);
        if (!role)
            return dc_rows_reject(
                out, DC_REJECT_ROLE,
                "conversations[%zu] is from '%.40s'; known are human, gpt, system, function_call and observation", i,
                from);
        const int rc =
            strcmp(role, "function_call") == 0 ? add_function_call(c, value, i, out, err) : add(c, role, value, err);
        if (rc) return rc;
    }
    return DC_OK;
}

/* ---- alpaca ---- */
/* instruction, and behind a newline the input when there is one. */
static int add_instruction(dc_conversation *c, const json_t *instruction, const json_t *input, dc_error *err)
{
    if (!json_string_length(input)) return add(c, "user", instruction, err);
    dc_str text = {0};
    dc_str_append(&text, json_string_value(instruction), json_string_length(instruction));
    dc_str_putc(&text, '\n');
    dc_str_append(&text, json_string_value(input), json_string_length(input));
    json_t *both = text.failed ? NULL : json_stringn(text.data, text.n);
    dc_str_release(&text);
    const int rc = both ? add(c, "user", both, err) : no_memory(err);
    json_decref(both);
    return rc;
}

static int from_alpaca(dc_conversation *c, const json_t *row, dc_examples *out, dc_error *err)
{
    const json_t *instruction = json_object_get(row, "instruction"), *input = json_object_get(row, "input");
    const json_t *output = json_object_get(row, "output"), *history = json_object_get(row, "history");
    int rc = DC_OK;
    if (!json_is_string(instruction) || !json_is_string(output))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'instruction' and 'output' must be texts, not %s and %s",
                              type_name(instruction), type_name(output));
    if (input && !json_is_string(input) && !json_is_null(input))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'input' must be a text, not %s", type_name(input));
    if (history && !json_is_array(history) && !json_is_null(history))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'history' must be a list of pairs, not %s", type_name(history));
    for (size_t i = 0; i < json_array_size(history) && rc == DC_OK; i++) {
        const json_t *pair = json_array_get(history, i), *question = json_array_get(pair, 0),
                     *answer = json_array_get(pair, 1);
        if (!json_is_string(question) || !json_is_string(answer))
            return dc_rows_reject(out, DC_REJECT_SCHEMA, "history[%zu] must be a pair of texts", i);
        rc = add(c, "user", question, err);
        if (rc == DC_OK) rc = add(c, "assistant", answer, err);
    }
    if (rc == DC_OK) rc = add_instruction(c, instruction, input, err);
    return rc ? rc : add(c, "assistant", output, err);
}

/* ---- all ---- */
/* The row's tools: a list, or a text that is one. */
static int take_tools(dc_conversation *c, const json_t *row, dc_examples *out)
{
    json_t *tools = json_object_get(row, "tools");
    json_error_t e;
    if (json_is_string(tools) && json_string_length(tools)) {
        c->tools = json_loadb(json_string_value(tools), json_string_length(tools), JSON_ALLOW_NUL, &e);
        if (!c->tools)
            return dc_rows_reject(out, DC_REJECT_SCHEMA, "'tools' is a text that is not JSON: %.100s", e.text);
    } else if (tools && !json_is_null(tools) && !json_is_string(tools)) {
        c->tools = json_incref(tools);
    }
    if (c->tools && !json_is_array(c->tools))
        return dc_rows_reject(out, DC_REJECT_SCHEMA, "'tools' must be a list, not %s", type_name(c->tools));
    return DC_OK;
}

/* The row's own system text, else the one of the options, before a conversation that has none. */
static int put_system(dc_conversation *c, const json_t *row, const char *system, dc_error *err)
{
    const json_t *own = json_object_get(row, "system");
    if (is_system(json_array_get(c->messages, 0))) return DC_OK;
    const int has_own = json_is_string(own) && json_string_length(own);
    if (!has_own && (!system || !*system)) return DC_OK;
    json_t *m = has_own ? json_pack("{s:s,s:O}", "role", "system", "content", own)
                        : json_pack("{s:s,s:s}", "role", "system", "content", system);
    if (!m || json_array_insert_new(c->messages, 0, m)) return no_memory(err);
    if (c->prompt) c->prompt++;
    return DC_OK;
}

int dc_conversation_make(dc_conversation *c, const json_t *row, dc_schema_kind schema, const char *system,
                         dc_examples *out, dc_error *err)
{
    *c = (dc_conversation){.messages = json_array(), .more = json_object_get(row, "chat_template_kwargs")};
    if (!c->messages) return no_memory(err);
    if (c->more && !json_is_object(c->more)) c->more = NULL;
    int rc;
    if (schema == DC_ROWS_SHAREGPT) {
        rc = from_sharegpt(c, row, out, err);
    } else if (schema == DC_ROWS_ALPACA) {
        rc = from_alpaca(c, row, out, err);
    } else if (schema == DC_ROWS_PROMPT_COMPLETION) {
        rc = add_messages(c, json_object_get(row, "prompt"), "prompt", out, err);
        c->prompt = json_array_size(c->messages);
        if (rc == DC_OK) rc = add_messages(c, json_object_get(row, "completion"), "completion", out, err);
        if (rc == DC_OK && (!c->prompt || c->prompt == json_array_size(c->messages)))
            rc = dc_rows_reject(out, DC_REJECT_SCHEMA, "'%s' has no message", c->prompt ? "completion" : "prompt");
    } else {
        const char *key = json_object_get(row, "messages") ? "messages" : "conversations";
        rc = add_messages(c, json_object_get(row, key), key, out, err);
    }
    if (rc == DC_OK && !json_array_size(c->messages))
        rc = dc_rows_reject(out, DC_REJECT_SCHEMA, "the conversation has no message");
    if (rc == DC_OK) rc = take_tools(c, row, out);
    if (rc == DC_OK) rc = put_system(c, row, system, err);
    return rc;
}

/* The joined text of a list of text parts, NULL when it is none. */
static json_t *joined_text(const json_t *content, dc_error *err, int *rc)
{
    dc_str text = {0};
    json_t *joined = NULL;
    int all_text = json_is_array(content);
    for (size_t i = 0; all_text && i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i),
                     *s = json_is_string(part) ? part : json_object_get(part, "text");
        all_text = json_is_string(s);
        if (all_text) dc_str_append(&text, json_string_value(s), json_string_length(s));
    }
    if (all_text) joined = text.failed ? NULL : json_stringn(dc_str_text(&text), text.n);
    if (all_text && !joined) *rc = no_memory(err);
    dc_str_release(&text);
    return joined;
}

int dc_conversation_flatten(dc_conversation *c, dc_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < json_array_size(c->messages) && rc >= 0; i++) {
        const json_t *message = json_array_get(c->messages, i);
        json_t *text = joined_text(json_object_get(message, "content"), err, &rc);
        if (!text) continue;
        json_t *copy = json_copy((json_t *)message); /* the row itself stays as it is; jansson's copy takes no const */
        if (!copy || json_object_set_new(copy, "content", text) || json_array_set_new(c->messages, i, copy))
            rc = no_memory(err);
        else rc = 1;
    }
    return rc;
}

void dc_conversation_release(dc_conversation *c)
{
    json_decref(c->messages);
    json_decref(c->tools);
    *c = (dc_conversation){0};
}
