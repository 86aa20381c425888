/* tests/data/test_rows.c -- schemas, masks by position, truncation, rejects; with a tokenizer of one token a byte. */
#include "data/rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "fake_tokenizer.h"

/* Written for this test, in the manner of ChatML. */
static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '!' ~ c.function.name ~ c.function.arguments|tojson }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/* Marks answers itself, without the end of the turn. */
static const char marked[] = "{% for m in messages %}{{ m.role[0] }}:{% if m.role == 'assistant' %}{% generation %}{{ "
                             "m.content }}{% endgeneration %}"
                             "{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}";
/* Shows reasoning only in the last answer, so that an earlier one looks otherwise while it is the last. */
static const char reasons[] = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' "
                              "and loop.last %}{{ '(thinking)' }}{% endif %}"
                              "{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
                              "'<|im_start|>assistant\\n' }}{% endif %}";
/* Its generation prompt is no beginning of what an answer looks like. */
static const char torn[] = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}{% if add_generation_prompt "
                           "%}{{ 'assistant<think>' }}{% endif %}";

/* Shows only the last answer's end, so that an earlier one has no sure end. */
static const char endless[] = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
                              "{% if m.role != 'assistant' or loop.last %}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
                              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const dc_tokenizer tokenizer = {0};

static json_t *parse(const char *text)
{
    json_error_t e;
    json_t *v = json_loads(text, JSON_DECODE_ANY, &e);
    if (!v) fail_msg("%s: %s", text, e.text);
    return v;
}

/* The examples as text: targets in brackets, each example ended by '|'; or "reject: reason". */
static char *encoded(const char *row, const char *chat, const dc_rows_options *o)
{
    dc_examples out = {0};
    dc_error err = {0};
    dc_template *t = NULL;
    dc_str s = {0};
    json_t *json = parse(row);
    if (chat && dc_template_new(&t, chat, "T", &err)) fail_msg("%s", err.message);
    if (dc_rows_encode(&out, json, &tokenizer, t, o, &err)) dc_str_putf(&s, "ERROR %s", err.message);
    else if (out.reject) dc_str_putf(&s, "%s: %s", dc_reject_name(out.reject), out.reason);
    for (size_t k = 0; k < out.n; k++) {
        const dc_example *e = &out.items[k];
        size_t trained = 0;
        assert_int_equal(out.mask[e->begin], 0);
        for (size_t i = 0; i < e->n; i++) {
            const int id = out.ids[e->begin + i], on = out.mask[e->begin + i],
                      before = i ? out.mask[e->begin + i - 1] : 0;
            if (on && !before) dc_str_putc(&s, '[');
            if (!on && before) dc_str_putc(&s, ']');
            if (id < 256) dc_str_putc(&s, id == '\n' ? '~' : (char)id);
            else dc_str_puts(&s, fake_text[id - FAKE_BOS]);
            trained += (size_t)on;
        }
        if (out.mask[e->begin + e->n - 1]) dc_str_putc(&s, ']');
        dc_str_puts(&s, e->cut ? "..." : "");
        if (e->parts > 1) dc_str_putf(&s, "%u/%u", e->part, e->parts);
        dc_str_putc(&s, '|');
        assert_int_equal(trained, e->trained);
    }
    assert_int_equal(out.n == 0, out.reject != DC_REJECT_NONE || err.code != DC_OK);
    dc_template_free(t);
    dc_examples_release(&out);
    json_decref(json);
    return s.data;
}

static void expect_with(const char *row, const char *chat, const dc_rows_options *o, const char *want)
{
    char *got = encoded(row, chat, o);
    if (!got || strcmp(got, want) != 0) print_error("%s\n  wanted %s\n  got    %s\n", row, want, got ? got : "");
    assert_string_equal(got, want);
    dc_free(got);
}

static void expect(const char *row, const char *chat, const char *want)
{
    const dc_rows_options o = dc_rows_defaults();
    expect_with(row, chat, &o, want);
}

#define TWO_TURNS \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a1\"}," \
    "{\"role\":\"user\",\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"a2\"}]}"

static void texts(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    expect("{\"text\":\"xyz\"}", NULL, "<s>[xyz</s>]|");
    expect("{\"text\":\"xy</s>\"}", NULL, "<s>[xy</s>]|"); /* no second EOS */
    o.train_on_eot = 0;
    expect_with("{\"text\":\"xyz\"}", NULL, &o, "<s>[xyz]</s>|");
    o.add_special = 0;
    expect_with("{\"text\":\"xyz\"}", NULL, &o, "x[yz]|");
    expect_with("{\"text\":\"x\"}", NULL, &o, "nothing_to_learn: none of the 1 tokens is a target");
    expect("{\"text\":\"\"}", NULL, "nothing_to_learn: the text is empty");
    expect("{\"text\":5}", NULL, "schema: 'text' must be a text");
}

static void prompts_and_completions(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    expect("{\"prompt\":\"1+1=\",\"completion\":\"2\"}", NULL, "<s>1+1=[2</s>]|");
    expect("{\"prompt\":\"xa\",\"completion\":\"bc\"}", NULL,
           "<s>x[abc</s>]|"); /* the token "ab" holds a byte of the completion */
    expect("{\"prompt\":\"\",\"completion\":\"bc\"}", NULL, "<s>[bc</s>]|");
    expect("{\"prompt\":\"x\",\"completion\":\"\"}", NULL, "nothing_to_learn: the completion is empty");
    o.completion_only_loss = 0;
    expect_with("{\"prompt\":\"1+1=\",\"completion\":\"2\"}", NULL, &o, "<s>[1+1=2</s>]|");
    o = dc_rows_defaults();
    o.train_on_eot = 0;
    expect_with("{\"prompt\":\"1+1=\",\"completion\":\"2\"}", NULL, &o, "<s>1+1=[2]</s>|");
    const char *lists = "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"completion\":[{\"role\":\"assistant\","
                        "\"content\":\"z\"}]}";
    expect(lists, chatml, "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[z<|im_end|>]~|");
    expect_with(lists, chatml, &o, "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[z]<|im_end|>~|");
    expect("{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"completion\":[]}", chatml,
           "schema: 'completion' has no message");
    expect("{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"completion\":\"z\"}", chatml,
           "schema: 'completion' must be a list of messages, not a text");
    o = dc_rows_defaults();
    o.system = "be";
    expect_with(lists, chatml, &o,
                "<|im_start|>system~be<|im_end|>~<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[z<|im_end|>]~|");
}

static void answers_by_prefix(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    expect(TWO_TURNS, chatml,
           "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[a1<|im_end|>]~<|im_start|>user~r<|im_end|>~<|im_start|>"
           "assistant~[a2<|im_end|>]~|");
    o.train_on_eot = 0;
    expect_with(TWO_TURNS, chatml, &o,
                "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[a1]<|im_end|>~<|im_start|>user~r<|im_end|>~<|im_"
                "start|>assistant~[a2]<|im_end|>~|");
    o.assistant_only_loss = 0;
    o.train_on_eot = 1;
    expect_with("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", chatml, &o,
                "<|im_start|>[user~q<|im_end|>~]|");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", chatml,
           "nothing_to_learn: the conversation has no answer of the assistant");
    /* An end of turn inside of the answer's text is not the turn's end. */
    expect("{\"messages\":[{\"role\":\"assistant\",\"content\":\"x<|im_end|>y\"}]}", chatml,
           "<|im_start|>assistant~[x<|im_end|>y<|im_end|>]~|");
}

static void answers_that_look_otherwise_later(void **unused)
{
    (void)unused;
    expect(TWO_TURNS, reasons,
           "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[a1<|im_end|>]~<|im_start|>user~r<|im_end|>~<|im_start|>"
           "assistant~[(thinking)a2<|im_end|>]~|");
    char *got = encoded(TWO_TURNS, endless, &(dc_rows_options){.assistant_only_loss = 1});
    assert_non_null(strstr(got, "template: the template renders answer 1 otherwise alone"));
    dc_free(got);
    got = encoded(TWO_TURNS, torn, &(dc_rows_options){.assistant_only_loss = 1});
    assert_non_null(strstr(got, "template: the template renders what precedes message 1 otherwise alone"));
    dc_free(got);
}

static void answers_that_the_template_marks(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    expect(TWO_TURNS, marked, "u:q<|im_end|>a:[a1<|im_end|>]u:r<|im_end|>a:[a2<|im_end|>]|");
    o.train_on_eot = 0;
    expect_with(TWO_TURNS, marked, &o, "u:q<|im_end|>a:[a1]<|im_end|>u:r<|im_end|>a:[a2]<|im_end|>|");
    /* An answer without text has no token to learn, its end neither. */
    expect("{\"messages\":[{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"z\"}]}",
           marked, "a:<|im_end|>a:[z<|im_end|>]|");
}

static void schemas_become_messages(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    expect("{\"conversations\":[{\"from\":\"system\",\"value\":\"S\"},{\"from\":\"human\",\"value\":\"q\"},{\"from\":"
           "\"gpt\",\"value\":\"z\"}]}",
           marked, "s:S<|im_end|>u:q<|im_end|>a:[z<|im_end|>]|");
    expect("{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"function_call\",\"value\":\"{"
           "\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"x\\\":1}}\"},"
           "{\"from\":\"observation\",\"value\":\"7\"},{\"from\":\"gpt\",\"value\":\"z\"}]}",
           chatml,
           "<|im_start|>user~q<|im_end|>~<|im_start|>assistant~[!f{\"x\": "
           "1}<|im_end|>]~<|im_start|>tool~7<|im_end|>~<|im_start|>assistant~[z<|im_end|>]~|");
    expect("{\"conversations\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"z\"}]}",
           marked, "u:q<|im_end|>a:[z<|im_end|>]|");
    expect("{\"instruction\":\"do\",\"input\":\"it\",\"output\":\"z\"}", marked, "u:do~it<|im_end|>a:[z<|im_end|>]|");
    expect("{\"instruction\":\"do\",\"input\":\"\",\"output\":\"z\",\"system\":\"S\",\"history\":[[\"q\",\"p\"]]}",
           marked, "s:S<|im_end|>u:q<|im_end|>a:[p<|im_end|>]u:do<|im_end|>a:[z<|im_end|>]|");
    o.system = "be";
    expect_with("{\"instruction\":\"do\",\"output\":\"z\"}", marked, &o,
                "s:be<|im_end|>u:do<|im_end|>a:[z<|im_end|>]|");
    expect_with("{\"messages\":[{\"role\":\"system\",\"content\":\"own\"},{\"role\":\"assistant\",\"content\":\"z\"}]}",
                marked, &o, "s:own<|im_end|>a:[z<|im_end|>]|");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"p\"},{\"type\":\"text\","
           "\"text\":\"q\"}]},{\"role\":\"assistant\",\"content\":\"z\"}]}",
           "{% for m in messages %}{% if m.role == 'user' %}{{ 'u' + m.content }}{% else %}{% generation %}{{ "
           "m.content }}{% endgeneration %}{% endif %}{% endfor %}",
           "upq[z]|");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"chat_template_kwargs\":{\"deep\":3},\"tools\":\"[1,"
           "2]\"}",
           "{{ deep }}{{ tools }}{% generation %}x{% endgeneration %}", "3[1, 2][x]|");
}

static void bad_rows_say_why(void **unused)
{
    (void)unused;
    expect("5", chatml, "schema: the row is not an object");
    expect("{\"messages\":\"x\"}", chatml, "schema: 'messages' must be a list of messages, not a text");
    expect("{\"messages\":[]}", chatml, "schema: the conversation has no message");
    expect("{\"messages\":[7]}", chatml, "schema: messages[0] must be an object with a 'role', not a number");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":7}]}", chatml,
           "schema: messages[0].content must be a text or a list of parts, not a number");
    expect("{\"messages\":[{\"role\":\"usr\",\"content\":\"q\"}]}", chatml,
           "role: messages[0] has the unknown role 'usr'; known are system, developer, user, assistant and tool");
    expect("{\"conversations\":[{\"from\":\"me\",\"value\":\"q\"}]}", chatml,
           "role: conversations[0] is from 'me'; known are human, gpt, system, function_call and observation");
    expect("{\"conversations\":[{\"from\":\"gpt\"}]}", chatml,
           "schema: conversations[0] must have a text 'from' and a text 'value'");
    expect("{\"conversations\":[{\"from\":\"function_call\",\"value\":\"f(\"}]}", chatml,
           "schema: conversations[0].value of a function_call is not JSON: '[' or '{' expected near 'f'");
    expect("{\"instruction\":\"x\",\"output\":5}", chatml,
           "schema: 'instruction' and 'output' must be texts, not a text and a number");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"tools\":{}}", chatml,
           "schema: 'tools' must be a list, not an object");
    expect("{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "{{ raise_exception('never') }}",
           "template: T:1: the template says: never");
    char *got = encoded("{\"question\":\"x\"}", chatml, &(dc_rows_options){0});
    assert_non_null(strstr(got, "schema: the row has none of text"));
    dc_free(got);
    expect(TWO_TURNS, NULL,
           "ERROR rows of schema 'messages' need a chat template, and the tokenizer has none; set data.chat_template");
}

static void token_rows(void **unused)
{
    (void)unused;
    expect("{\"input_ids\":[120,121,122]}", NULL, "x[yz]|");
    expect("{\"input_ids\":[120,121,122],\"labels\":[120,-100,122]}", NULL, "xy[z]|");
    expect("{\"input_ids\":[120,121],\"labels\":[120,-100]}", NULL,
           "nothing_to_learn: none of the 2 tokens is a target");
    expect("{\"input_ids\":[120,121],\"labels\":[-100]}", NULL, "ids: 1 labels for 2 input_ids");
    expect("{\"input_ids\":[120,999]}", NULL, "ids: input_ids[1] is not an id of the vocabulary of 261");
    expect("{\"input_ids\":[-1]}", NULL, "ids: input_ids[0] is not an id of the vocabulary of 261");
    expect("{\"input_ids\":[120,\"x\"]}", NULL, "ids: input_ids[1] is not an id of the vocabulary of 261");
    expect("{\"input_ids\":[120,121],\"labels\":[120,5]}", NULL,
           "ids: labels[1] must be -100 or the id at its place, 121");
    expect("{\"input_ids\":[120,257],\"attention_mask\":[1,0]}", NULL,
           "ids: attention_mask[1] is not 1; rows must come without padding");
    expect("{\"input_ids\":[]}", NULL, "schema: 'input_ids' must be a list of token ids");
}

static void long_rows(void **unused)
{
    (void)unused;
    dc_rows_options o = dc_rows_defaults();
    const char *row = "{\"input_ids\":[120,121,122,119,118],\"labels\":[-100,121,122,119,-100]}";
    o.max_length = 2;
    expect_with(row, NULL, &o, "too_long: 5 tokens, and max_length is 2; truncation: cut or split would keep a part");
    o.truncation = DC_TRUNCATE_CUT;
    expect_with(row, NULL, &o, "x[y]...|");
    expect_with("{\"input_ids\":[1,2,120],\"labels\":[-100,-100,120]}", NULL, &o,
                "nothing_to_learn: none of the first 2 tokens is a target");
    o.truncation = DC_TRUNCATE_SPLIT;
    expect_with(row, NULL, &o, "x[y]...0/3|z[w]...1/3|"); /* the third piece has no target */
    o.max_length = 3;
    expect_with(row, NULL, &o, "x[yz]...0/2|");
    o.max_length = 5;
    expect_with(row, NULL, &o, "x[yzw]v|");
    o.max_length = 4;
    expect_with("{\"text\":\"123456789\"}", NULL, &o, "<s>[123]...0/3|4[567]...1/3|8[9</s>]2/3|");
}

static void padding_that_is_eos_stays_trained(void **unused)
{
    (void)unused;
    const dc_tokenizer same = {.pad_is_eos = 1};
    const dc_rows_options o = dc_rows_defaults();
    dc_examples out = {0};
    json_t *row = parse("{\"text\":\"x</s>y\"}");
    assert_int_equal(dc_rows_encode(&out, row, &same, NULL, &o, NULL), DC_OK);
    assert_int_equal(out.items[0].trained, 4);
    assert_int_equal(out.length, 5);
    dc_examples_release(&out);
    dc_examples_release(&out);
    json_decref(row);
}

static void schemas_are_guessed(void **unused)
{
    (void)unused;
    static const struct {
        const char *row;
        dc_schema_kind kind;
    } table[] = {{"{\"text\":\"x\"}", DC_ROWS_TEXT},
                 {"{\"messages\":[]}", DC_ROWS_MESSAGES},
                 {"{\"conversations\":[{\"from\":\"x\"}]}", DC_ROWS_SHAREGPT},
                 {"{\"conversations\":[{\"role\":\"x\"}]}", DC_ROWS_MESSAGES},
                 {"{\"instruction\":\"\",\"output\":\"\",\"text\":\"\"}", DC_ROWS_ALPACA},
                 {"{\"prompt\":\"\",\"completion\":\"\"}", DC_ROWS_PROMPT_COMPLETION},
                 {"{\"input_ids\":[],\"text\":\"\"}", DC_ROWS_TOKENIZED},
                 {"{\"prompt\":\"\"}", DC_ROWS_AUTO},
                 {"[]", DC_ROWS_AUTO}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        json_t *row = parse(table[i].row);
        assert_int_equal(dc_schema_guess(row), table[i].kind);
        json_decref(row);
    }
    for (int k = 0; k <= DC_ROWS_TOKENIZED; k++)
        assert_int_equal(dc_schema_kind_find(dc_schema_kind_name((dc_schema_kind)k)), k);
    assert_int_equal(dc_schema_kind_find("chat"), -1);
    dc_examples out = {0};
    dc_rows_options o = dc_rows_defaults();
    json_t *row = parse("{\"text\":\"xy\",\"prompt\":\"p\",\"completion\":\"c\"}");
    o.schema = DC_ROWS_TEXT; /* what is asked for wins over the guess */
    assert_int_equal(dc_rows_encode(&out, row, &tokenizer, NULL, &o, NULL), DC_OK);
    assert_int_equal(out.schema, DC_ROWS_TEXT);
    assert_int_equal(out.T, 4);
    dc_examples_release(&out);
    json_decref(row);
}

static void failing_memory_is_reported(void **unused)
{
    (void)unused;
    static const char *const rows[] = {TWO_TURNS, "{\"text\":\"xyz\"}", "{\"input_ids\":[1,2]}",
                                       "{\"instruction\":\"do\",\"input\":\"it\",\"output\":\"z\"}"};
    dc_template *t = NULL;
    assert_int_equal(dc_template_new(&t, chatml, "T", NULL), DC_OK);
    for (size_t i = 0; i < 4; i++) {
        json_t *row = parse(rows[i]);
        const dc_rows_options o = dc_rows_defaults();
        int failures = 0;
        for (long n = 1;; n++) {
            dc_examples out = {0};
            dc_alloc_fail_at(n);
            const int rc = dc_rows_encode(&out, row, &tokenizer, t, &o, NULL);
            dc_alloc_fail_at(0);
            dc_examples_release(&out);
            if (rc == DC_OK) break;
            assert_int_equal(rc, DC_ENOMEM);
            failures++;
        }
        assert_true(failures >= 4);
        json_decref(row);
    }
    dc_template_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(prompts_and_completions),
        cmocka_unit_test(answers_by_prefix),
        cmocka_unit_test(answers_that_look_otherwise_later),
        cmocka_unit_test(answers_that_the_template_marks),
        cmocka_unit_test(schemas_become_messages),
        cmocka_unit_test(bad_rows_say_why),
        cmocka_unit_test(token_rows),
        cmocka_unit_test(long_rows),
        cmocka_unit_test(padding_that_is_eos_stays_trained),
        cmocka_unit_test(schemas_are_guessed),
        cmocka_unit_test(failing_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
