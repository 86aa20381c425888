/* data/chat.c -- chat templates: compiling, rendering, and the variables of a conversation. */
#include "data/chat.h"

#include <string.h>

#include "core/arena.h"
#include "data/jinja_tree.h"

/* Newlines as '\n', and one newline at the end gone, as Jinja reads a template. */
static int normalize(dc_template *t, const char *text)
{
    const size_t n = strlen(text);
    char *out = dc_arena_alloc(&t->arena, n + 1);
    size_t used = 0;
    if (!out) return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && text[i + 1] == '\n') continue;
        out[used++] = (char)(text[i] == '\r' ? '\n' : text[i]);
    }
    if (used && out[used - 1] == '\n') used--;
    t->text = out;
    t->n = used;
    return 0;
}

int dc_template_new(dc_template **out, const char *text, const char *name, dc_error *err)
{
    int rc = DC_OK;
    jtoken *tokens = NULL;
    dc_template *t = dc_calloc(1, sizeof *t);
    if (!t) return dc_fail_memory(err, sizeof *t, "a template");
    t->name = dc_arena_strdup(&t->arena, name);
    if (!t->name || normalize(t, text)) DC_TRY(dc_fail_memory(err, strlen(text), "a template"));
    if (!dc_utf8_valid(t->text, t->n)) DC_TRY(dc_fail(err, DC_EFORMAT, "%s: the template is not valid UTF-8", name));
    DC_TRY(dc_jj_lex(t, &tokens, err));
    DC_TRY(dc_jj_parse(t, tokens, err));
done:
    dc_free(tokens);
    if (rc == DC_OK) *out = t;
    else dc_template_free(t);
    return rc;
}

void dc_template_free(dc_template *t)
{
    if (!t) return;
    dc_arena_release(&t->arena);
    dc_free(t);
}

int dc_template_marks_generation(const dc_template *t) { return t->generation; }

int dc_template_render(const dc_template *t, dc_str *out, dc_spans *spans, const json_t *variables, int64_t now,
                       dc_error *err)
{
    const size_t out_before = out->n, spans_before = spans ? spans->n : 0;
    dc_str text = {0};
    jrun r = {.t = t, .line = 1, .err = err, .out = &text, .spans = spans, .time = now};
    jscope root = {0};
    if (!json_is_object(variables))
        return dc_fail(err, DC_EUSAGE, "%s: a template's variables must be an object", t->name);
    const jval all = dc_jj_from_json(&r, variables);
    for (size_t i = 0; !r.rc && i < all.as.dict->n; i++)
        dc_jj_set(&r, &root, all.as.dict->keys[i].as.s, all.as.dict->values[i]);
    r.scope = &root;
    dc_jj_exec(&r, t->body);
    if (!r.rc) {
        dc_str_append(out, dc_str_text(&text), text.n);
        if (text.failed || out->failed) r.rc = dc_fail_memory(err, text.n, "a conversation's rendering");
    }
    for (size_t i = spans_before; spans && i < spans->n; i++)
        spans->data[i].begin += out_before, spans->data[i].end += out_before;
    if (r.rc && spans) spans->n = spans_before;
    dc_str_release(&text);
    dc_arena_release(&r.arena);
    return r.rc;
}

void dc_spans_release(dc_spans *s)
{
    dc_free(s->data);
    *s = (dc_spans){0};
}

/* ---- variables ---- */
/* A message without its null keys, its reasoning under both names that templates read. NULL when memory is out. */
static json_t *plain_message(const json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *object = (json_t *)message; /* jansson's iteration takes no const, and changes nothing */
    json_t *reasoning = NULL, *out = json_object();
    int bad = 0;
    for (size_t i = 0; i < 3 && !reasoning; i++) {
        reasoning = json_object_get(message, names[i]);
        if (json_is_null(reasoning)) reasoning = NULL;
    }
    if (reasoning) bad |= json_object_set(out, "thinking", reasoning);
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it))
        if (!json_is_null(json_object_iter_value(it)))
            bad |= json_object_set(out, json_object_iter_key(it), json_object_iter_value(it));
    if (reasoning) bad |= json_object_set(out, "reasoning_content", reasoning);
    if (!bad) return out;
    json_decref(out);
    return NULL;
}

static int put_token(json_t *object, const char *key, const dc_tokenizer *t, int32_t id)
{
    size_t n;
    const char *text = id >= 0 ? dc_token_bytes(t, id, &n) : NULL;
    return text ? json_object_set_new(object, key, json_stringn(text, n)) : 0;
}

int dc_chat_variables(json_t **out, const json_t *messages, const json_t *tools, const json_t *more,
                      const dc_tokenizer *tokenizer, int add_generation_prompt, dc_error *err)
{
    json_t *object = json_object(), *list = json_array();
    int bad = !object || !list;
    for (size_t i = 0; i < json_array_size(messages) && !bad; i++) {
        const json_t *message = json_array_get(messages, i);
        bad = json_array_append_new(list, json_is_object(message) ? plain_message(message) : json_deep_copy(message));
    }
    bad = bad || json_object_set(object, "messages", list);
    bad = bad || json_object_set_new(object, "tools", tools ? json_incref((json_t *)tools) : json_null());
    bad = bad || json_object_set_new(object, "documents", json_null());
    bad = bad || json_object_set_new(object, "add_generation_prompt", json_boolean(add_generation_prompt));
    if (tokenizer) {
        bad = bad || put_token(object, "bos_token", tokenizer, dc_tokenizer_bos(tokenizer));
        bad = bad || put_token(object, "eos_token", tokenizer, dc_tokenizer_eos(tokenizer));
        bad = bad || put_token(object, "pad_token", tokenizer, dc_tokenizer_pad(tokenizer));
    }
    bad = bad || (more && json_object_update(object, (json_t *)more));
    json_decref(list);
    if (bad) {
        json_decref(object);
        return dc_fail_memory(err, sizeof(json_t), "a conversation's variables");
    }
    *out = object;
    return DC_OK;
}
