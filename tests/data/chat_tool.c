/* tests/data/chat_tool.c -- renders templates for the conformance test.
 *
 * stdin: one JSON object a line, {"template", "variables", "now"} or {"template", "messages", "tools"?, "more"?, "now"}; stdout: one line
 * each, {"text", "spans": [[begin, end], ...]} in bytes or {"error"}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/chat.h"
#include "fake_tokenizer.h"

static json_t *render(const json_t *job)
{
    dc_error err = {0};
    dc_template *t = NULL;
    dc_str out = {0};
    dc_spans spans = {0};
    json_t *made = NULL, *answer;
    const json_t *variables = json_object_get(job, "variables");
    int rc = dc_template_new(&t, json_string_value(json_object_get(job, "template")), "template", &err);
    if (!rc && !variables) {
        const json_t *tools = json_object_get(job, "tools");
        rc = dc_chat_variables(&made, json_object_get(job, "messages"), tools, json_object_get(job, "more"), NULL,
                               json_is_true(json_object_get(job, "add_generation_prompt")), &err);
        variables = made;
    }
    if (!rc)
        rc = dc_template_render(t, &out, dc_template_marks_generation(t) ? &spans : NULL, variables,
                                json_integer_value(json_object_get(job, "now")), &err);
    if (rc) {
        answer = json_pack("{s:s}", "error", err.message);
    } else {
        json_t *list = json_array();
        for (size_t i = 0; i < spans.n; i++)
            json_array_append_new(list,
                                  json_pack("[I,I]", (json_int_t)spans.data[i].begin, (json_int_t)spans.data[i].end));
        answer = json_pack("{s:o,s:o}", "text", json_stringn(dc_str_text(&out), out.n), "spans", list);
    }
    json_decref(made);
    dc_template_free(t);
    dc_str_release(&out);
    dc_spans_release(&spans);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
        json_error_t error;
        json_t *job = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &error);
        if (!job) {
            fprintf(stderr, "chat_tool: %s\n", error.text);
            return 1;
        }
        json_t *answer = render(job);
        json_dumpf(answer, stdout, JSON_ENSURE_ASCII | JSON_COMPACT);
        putchar('\n');
        json_decref(answer);
        json_decref(job);
    }
    free(line);
    return 0;
}
