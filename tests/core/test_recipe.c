/* tests/core/test_recipe.c -- recipes: what is taken, what is refused and how that is told, and what depends on which key. */
#include "core/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "tests/core/temp.h"

static dc_recipe *parse(const char *text, const char *const *overrides, size_t n)
{
    dc_error err = {0};
    dc_recipe *r = NULL;
    if (dc_recipe_parse(&r, text, "dir/a.yaml", overrides, n, &err)) fail_msg("refused: %s", err.message);
    return r;
}

/* The whole message, but for the last line, which counts. */
static void refused(const char *text, const char *override, const char *says)
{
    dc_error err = {0};
    dc_recipe *r = NULL;
    const int rc = dc_recipe_parse(&r, text, "a.yaml", &override, override != NULL, &err);
    if (rc == DC_OK) fail_msg("taken, but should have said: %s", says);
    assert_int_equal(rc, DC_EUSAGE);
    assert_int_equal(err.code, DC_EUSAGE);
    assert_null(r);
    char *last = strstr(err.message, "\n1 error, nothing was started.");
    if (last) *last = 0;
    assert_string_equal(err.message, says);
}

static const char everything[] = "seed: 7\n"
                                 "stages: [prepare, train]\n"
                                 "teacher: {model: \"{recipe_dir}/t.gguf\"}\n"
                                 "student:\n"
                                 "  init: {prune_layers: [0, 2]}\n"
                                 "data:\n"
                                 "  train:\n"
                                 "    - a.jsonl\n"
                                 "    - {path: b.jsonl.zst, format: messages, weight: 2.5, limit: 10}\n"
                                 "  eval: 'c.jsonl'\n"
                                 "  packing: no\n"
                                 "lora:\n"
                                 "  r: 16\n"
                                 "  target_modules: q_proj\n"
                                 "  rank_pattern: {k_proj: 4, v_proj: 8}\n"
                                 "  alpha_pattern: {}\n"
                                 "train:\n"
                                 "  learning_rate: 1e-3\n"
                                 "  adam_epsilon: 1e-08\n"
                                 "  num_train_epochs: 3\n"
                                 "export: [q8_0, {type: q4_0, name: small}]\n"
                                 "device: cuda:12\n";

static void values_are_read(void **state)
{
    (void)state;
    dc_recipe *r = parse(everything, NULL, 0);
    const char *key = NULL;
    assert_int_equal(dc_recipe_int(r, "seed"), 7);
    assert_int_equal(dc_recipe_count(r, "stages"), 2);
    assert_string_equal(dc_recipe_str_at(r, "stages", 1), "train");
    assert_string_equal(dc_recipe_str(r, "teacher.model"), "dir/t.gguf");
    assert_string_equal(dc_recipe_str_at(r, "student.init.prune_layers", 1), "2");
    assert_int_equal(dc_recipe_count(r, "data.train"), 2);
    assert_string_equal(dc_recipe_str(r, "data.train[0].path"), "a.jsonl");
    assert_string_equal(dc_recipe_str(r, "data.train[0].format"), "auto");
    assert_string_equal(dc_recipe_str(r, "data.train[1].path"), "b.jsonl.zst");
    assert_string_equal(dc_recipe_str(r, "data.train[1].format"), "messages");
    assert_true(dc_recipe_real(r, "data.train[1].weight") == 2.5);
    assert_int_equal(dc_recipe_int(r, "data.train[1].limit"), 10);
    assert_int_equal(dc_recipe_count(r, "data.eval"), 1);
    assert_string_equal(dc_recipe_str(r, "data.eval[0].path"), "c.jsonl");
    assert_int_equal(dc_recipe_bool(r, "data.packing"), 0);
    assert_int_equal(dc_recipe_count(r, "lora.target_modules"), 1);
    assert_string_equal(dc_recipe_str_at(r, "lora.target_modules", 0), "q_proj");
    assert_int_equal(dc_recipe_count(r, "lora.rank_pattern"), 2);
    assert_true(dc_recipe_map_at(r, "lora.rank_pattern", 1, &key) == 8);
    assert_string_equal(key, "v_proj");
    assert_string_equal(dc_recipe_str(r, "device"), "cuda:12");
    assert_int_equal(dc_recipe_count(r, "lora.alpha_pattern"), 0);
    assert_true(dc_recipe_real(r, "train.learning_rate") == 1e-3);
    assert_true(dc_recipe_real(r, "train.adam_epsilon") == 1e-8);
    assert_true(dc_recipe_real(r, "train.num_train_epochs") == 3);
    assert_string_equal(dc_recipe_str(r, "export[0].type"), "q8_0");
    assert_string_equal(dc_recipe_str(r, "export[1].name"), "small");
    assert_string_equal(dc_recipe_place(r, "lora.r"), "dir/a.yaml:13:6");
    assert_string_equal(dc_recipe_place(r, "data.train[1].path"), "dir/a.yaml:9:14");
    assert_string_equal(dc_recipe_place(r, "lora"), "dir/a.yaml:13:3");
    assert_string_equal(dc_recipe_place(r, "lora.lora_alpha"), "dir/a.yaml");
    dc_recipe_free(r);
}

static void defaults_are_filled_in(void **state)
{
    (void)state;
    dc_recipe *r = parse("", NULL, 0);
    assert_int_equal(dc_recipe_int(r, "seed"), 0);
    assert_true(dc_recipe_real(r, "train.learning_rate") == 5e-5);
    assert_string_equal(dc_recipe_str_at(r, "lora.target_modules", 0), "all-linear");
    assert_int_equal(dc_recipe_count(r, "data.train"), 0);
    assert_int_equal(dc_recipe_count(r, "lora.rank_pattern"), 0);
    assert_null(dc_recipe_str(r, "teacher.model"));
    assert_true(dc_recipe_real(r, "teacher.train.learning_rate") == 5e-5);
    assert_int_equal(dc_recipe_has(r, "lora"), 0);
    assert_int_equal(dc_recipe_has(r, "train.learning_rate"), 0);
    dc_recipe_free(r);
    /* A section without keys is there; one that is null is not. */
    r = parse("lora: {}\ndistill:\ntrain: {learning_rate: null, max_steps: ~}\n", NULL, 0);
    assert_int_equal(dc_recipe_has(r, "lora"), 1);
    assert_int_equal(dc_recipe_has(r, "distill"), 0);
    assert_int_equal(dc_recipe_has(r, "train"), 1);
    assert_int_equal(dc_recipe_has(r, "train.learning_rate"), 0);
    assert_true(dc_recipe_real(r, "train.learning_rate") == 5e-5);
    dc_recipe_free(r);
}

/* Every default of the table is a value that the table takes, and every key has help and known stages. */
static void the_table_is_sound(void **state)
{
    (void)state;
    for (const dc_key *k = dc_schema(); k->path; k++) {
        assert_true(k->help && *k->help && strlen(k->help) < 120);
        assert_int_equal(strspn(k->stages, "pstTme"), strlen(k->stages));
        assert_ptr_equal(dc_schema_find(k->path), k);
        assert_true(k->low <= k->high);
        const int number = k->type == DC_KEY_INT || k->type == DC_KEY_REAL || k->type == DC_KEY_BOOL;
        if (number) assert_non_null(k->fallback); /* or asking for it would have no answer */
    }
    assert_ptr_equal(dc_schema_find("data.train[12].path"), dc_schema_find("data.train[].path"));
    assert_null(dc_schema_find("data.train[12]path"));
    assert_null(dc_schema_find("lora"));
    assert_null(dc_schema_find("lora.r.x"));
}

static void json_is_a_recipe(void **state)
{
    (void)state;
    dc_recipe *r = parse("{\"lora\":{\"r\":16,\"use_rslora\":true,\"target_modules\":[\"q_proj\",\"v_proj\"]},\n"
                         "\t\"train\":{\"learning_rate\":1e-08,\"lr_scheduler_type\":\"cosine\"},\"data\":{\"train\":[{"
                         "\"path\":\"a\\u00e9\"}]}}",
                         NULL, 0);
    assert_int_equal(dc_recipe_int(r, "lora.r"), 16);
    assert_int_equal(dc_recipe_bool(r, "lora.use_rslora"), 1);
    assert_int_equal(dc_recipe_count(r, "lora.target_modules"), 2);
    assert_true(dc_recipe_real(r, "train.learning_rate") == 1e-8);
    assert_string_equal(dc_recipe_str(r, "data.train[0].path"), "a\xc3\xa9");
    dc_recipe_free(r);
}

static void unknown_keys_are_told(void **state)
{
    (void)state;
    refused("\n\ndistill:\n  temprature: 2\n", NULL,
            "a.yaml:4:3: unknown key 'temprature' in 'distill'; did you mean 'temperature'?");
    refused("studnet: {}\n", NULL, "a.yaml:1:1: unknown key 'studnet'; did you mean 'student'?");
    refused("lora: {learning_rate: 1}", NULL,
            "a.yaml:1:8: unknown key 'learning_rate' in 'lora'; it belongs in 'train'");
    refused("lora: {lr: 1}", NULL, "a.yaml:1:8: unknown key 'lr' in 'lora'; it belongs in 'train'");
    refused("quantum: 1", NULL, "a.yaml:1:1: unknown key 'quantum'");
    refused("lora.r: 1", NULL, "a.yaml:1:1: unknown key 'lora.r'; did you mean 'lora'?");
    refused("data: {'train[0]': {path: x}}", NULL, "a.yaml:1:8: unknown key 'train[0]' in 'data'");
    refused("data: {train: [{path: x}, {path: y, wieght: 2}]}", NULL,
            "a.yaml:1:37: unknown key 'wieght' in 'data.train[1]'; did you mean 'weight'?");
    refused("teacher: {train: {lr_scheduler_typ: linear}}", NULL,
            "a.yaml:1:19: unknown key 'lr_scheduler_typ' in 'teacher.train'; did you mean 'lr_scheduler_type'?");
    refused("{}", "lora.rr=3", "command line: lora.rr: unknown key 'rr' in 'lora'");
    refused("{}", "data.trian=x", "command line: data.trian: unknown key 'trian' in 'data'; did you mean 'train'?");
}

static void wrong_values_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"lora:\n  r: sixteen", "a.yaml:2:6: lora.r must be an integer from 1 to 4096, not 'sixteen'"},
        {"lora: {r: 0}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not '0'"},
        {"lora: {r: 4097}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not '4097'"},
        {"lora: {r: 1e1}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not '1e1'"},
        {"lora: {r: 0x10}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not '0x10'"},
        {"lora: {r: '16'}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not the text '16'"},
        {"lora: {r: [16]}", "a.yaml:1:11: lora.r must be an integer from 1 to 4096, not a list"},
        {"seed: 99999999999999999999", "a.yaml:1:7: seed must be an integer of at least 0, not '99999999999999999999'"},
        {"seed: -1", "a.yaml:1:7: seed must be an integer of at least 0, not '-1'"},
        {"seed: 1.5", "a.yaml:1:7: seed must be an integer of at least 0, not '1.5'"},
        {"distill: {kd_ratio: 1.01}", "a.yaml:1:21: distill.kd_ratio must be a number from 0 to 1, not '1.01'"},
        {"distill: {kd_ratio: .nan}", "a.yaml:1:21: distill.kd_ratio must be a number from 0 to 1, not '.nan'"},
        {"distill: {kd_ratio: nan}", "a.yaml:1:21: distill.kd_ratio must be a number from 0 to 1, not 'nan'"},
        {"train: {max_grad_norm: 1e999}",
         "a.yaml:1:24: train.max_grad_norm must be a number of at least 0, not '1e999'"},
        {"train: {max_grad_norm: 1e}", "a.yaml:1:24: train.max_grad_norm must be a number of at least 0, not '1e'"},
        {"data: {packing: 1}", "a.yaml:1:17: data.packing must be true or false, not '1'"},
        {"data: {packing: 'true'}", "a.yaml:1:17: data.packing must be true or false, not the text 'true'"},
        {"teacher: {model: {a: b}}", "a.yaml:1:18: teacher.model must be a text, not a section"},
        {"data: {truncation: cutt}",
         "a.yaml:1:20: data.truncation must be one of error, cut, split, not 'cutt'; did you mean 'cut'?"},
        {"data: {truncation: 'err|cut'}",
         "a.yaml:1:20: data.truncation must be one of error, cut, split, not 'err|cut'"},
        {"train: {optim: adam}",
         "a.yaml:1:16: train.optim must be one of adamw, adamw_torch, not 'adam'; did you mean 'adamw'?"},
        {"distill: {loss: uld}", "a.yaml:1:17: distill.loss must be forward_kl, not 'uld'"},
        {"stages: [train, trian]",
         "a.yaml:1:17: stages must be one of prepare, teach, train, merge, export, not 'trian'; did you mean 'train'?"},
        {"lora: {target_modules: {a: 1}}", "a.yaml:1:24: lora.target_modules must be a list of texts, not a section"},
        {"lora: {target_modules: [[a]]}",
         "a.yaml:1:25: lora.target_modules must be a list of texts; one of them is a list"},
        {"lora: {target_modules: [a, ]\n}", NULL},
        {"lora: {target_modules: [a, ~]}",
         "a.yaml:1:28: lora.target_modules must be a list of texts; one of them is empty"},
        {"lora: {layers_to_transform: [1, x]}",
         "a.yaml:1:33: lora.layers_to_transform must be a list of integers from 0 to 511; one of them is 'x'"},
        {"lora: {rank_pattern: 3}", "a.yaml:1:22: lora.rank_pattern must be a section of names and numbers, not '3'"},
        {"lora: {rank_pattern: {q: x}}",
         "a.yaml:1:26: lora.rank_pattern: 'q' must be a number from 1 to 4096, not 'x'"},
        {"lora: {rank_pattern: {q: 1, q: 2}}", "a.yaml:1:29: lora.rank_pattern: 'q' stands there twice"},
        {"train: 5", "a.yaml:1:8: train is a section: it takes 'key: value' lines, not '5'"},
        {"train: [5]", "a.yaml:1:8: train is a section: it takes 'key: value' lines, not a list"},
        {"data: {train: [{weight: 2}]}", "a.yaml:1:16: data.train[0] needs a 'path'"},
        {"data: {train: [a, ~]}", "a.yaml:1:19: data.train[1] must be a path or a section, not empty"},
        {"data: {train: [[a]]}", "a.yaml:1:16: data.train[0] must be a path or a section, not a list"},
        {"device: cuda:-1",
         "a.yaml:1:9: device must be one of auto, cpu, cuda, cuda:N, not 'cuda:-1'; did you mean 'cuda:N'?"},
        {"device: cuda:x1",
         "a.yaml:1:9: device must be one of auto, cpu, cuda, cuda:N, not 'cuda:x1'; did you mean 'cuda:N'?"},
        {"export: [q9]", "a.yaml:1:10: export[0].type must be one of f32, f16, bf16, q8_0, q4_0, not 'q9'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].says) refused(cases[i].text, NULL, cases[i].says);
        else dc_recipe_free(parse(cases[i].text, NULL, 0));
    }
}

static void what_yaml_has_too_much_is_refused(void **state)
{
    (void)state;
    refused("a: &x 1", NULL, "a.yaml:1:4: YAML anchors (&name) are not part of a recipe");
    refused("a: *x", NULL, "a.yaml:1:4: YAML aliases (*name) are not part of a recipe");
    refused("a: !!int 3", NULL, "a.yaml:1:4: YAML tags (!name) are not part of a recipe");
    refused("seed: 1\n---\nseed: 2\n", NULL, "a.yaml:2:1: a recipe is one YAML document; here a second one begins");
    refused("[a]: b", NULL, "a.yaml:1:1: a key must be a plain word");
    refused("- a", NULL, "a.yaml:1:1: a recipe is made of 'key: value' lines");
    refused("just text", NULL, "a.yaml:1:1: a recipe is made of 'key: value' lines");
    refused("seed: \"a\\0b\"", NULL, "a.yaml:1:7: a text holds the character U+0000");
    refused("seed: 1\nseed: 2", NULL, "a.yaml:2:1: key 'seed' stands there twice");
    refused("lora: {rank: 4, r: 8}", NULL, "a.yaml:1:17: 'rank' and 'r' are the same key");
    refused("seed: [1", NULL, "a.yaml:2:1: while parsing a flow sequence: did not find expected ',' or ']'");
    refused("seed: \xff", NULL, "a.yaml: not valid UTF-8 text: invalid leading UTF-8 octet at byte 6");
    refused("teacher:\n  model: {recipe_dir}/t.gguf\n", NULL,
            "a.yaml:2:22: while parsing a block mapping: did not find expected key "
            "(a value that begins with { needs quotes: \"{recipe_dir}/...\")");
    char deep[101];
    memset(deep, '[', 100);
    deep[100] = 0;
    refused(deep, NULL, "a.yaml:1:33: nested too deeply");
}

static void all_errors_are_told_in_order(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_recipe *r = NULL;
    const char *overrides[] = {"seed=x"};
    assert_int_equal(
        dc_recipe_parse(&r, "lora:\n  r: x\n  zzzzzz: 1\ntrain: {optim: lion}\n", "a.yaml", overrides, 1, &err),
        DC_EUSAGE);
    assert_string_equal(err.message, "a.yaml:2:6: lora.r must be an integer from 1 to 4096, not 'x'\n"
                                     "a.yaml:3:3: unknown key 'zzzzzz' in 'lora'\n"
                                     "a.yaml:4:16: train.optim must be one of adamw, adamw_torch, not 'lion'\n"
                                     "command line: seed: seed must be an integer of at least 0, not 'x'\n"
                                     "4 errors, nothing was started.");
    /* More than a message holds. */
    dc_str s = {0};
    for (int i = 0; i < 100; i++) dc_str_putf(&s, "unknown_key_%d: 1\n", i);
    err = (dc_error){0};
    assert_int_equal(dc_recipe_parse(&r, s.data, "a.yaml", NULL, 0, &err), DC_EUSAGE);
    assert_non_null(strstr(err.message, "a.yaml:1:1: unknown key 'unknown_key_0'\n"));
    assert_non_null(strstr(err.message, "more\n100 errors, nothing was started."));
    /* One that is longer than a message. */
    dc_str_clear(&s);
    dc_str_puts(&s, "seed: ");
    for (int i = 0; i < 3000; i++) dc_str_putc(&s, 'x');
    refused(s.data, NULL,
            "a.yaml:1:7: seed must be an integer of at least 0, not "
            "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'");
    dc_str_release(&s);
}

static void overrides_win(void **state)
{
    (void)state;
    static const char *const overrides[] = {"lora.r=32",
                                            "lora.lora_dropout=0.5",
                                            "train.learning_rate=",
                                            "teacher.model=http://x: {y}",
                                            "data.train[0].weight=3",
                                            "data.train[1].path={recipe_dir}/z",
                                            "data.train[2]={path: w, format: text}",
                                            "distill.kd_temperature=4",
                                            "student.init.prune_layers=[1]",
                                            "export=f16",
                                            "output_dir=\"a b\"",
                                            "teacher.train.batch_size=9",
                                            "data.eval={recipe_dir}/e"};
    dc_recipe *r =
        parse("lora: {rank: 8}\ntrain: {learning_rate: 1}\ndata: {train: [{path: x}, {path: y}]}\n", overrides, 13);
    assert_int_equal(dc_recipe_int(r, "lora.r"), 32);
    assert_string_equal(dc_recipe_place(r, "lora.r"), "command line: lora.r");
    assert_true(dc_recipe_real(r, "lora.lora_dropout") == 0.5);
    assert_int_equal(dc_recipe_has(r, "train.learning_rate"), 0);
    assert_string_equal(dc_recipe_str(r, "teacher.model"), "http://x: {y}");
    assert_string_equal(dc_recipe_str(r, "data.train[0].path"), "x");
    assert_true(dc_recipe_real(r, "data.train[0].weight") == 3);
    assert_string_equal(dc_recipe_str(r, "data.train[1].path"), "dir/z");
    assert_int_equal(dc_recipe_count(r, "data.train"), 3);
    assert_string_equal(dc_recipe_str(r, "data.train[2].format"), "text");
    assert_true(dc_recipe_real(r, "distill.temperature") == 4);
    assert_string_equal(dc_recipe_str_at(r, "student.init.prune_layers", 0), "1");
    assert_string_equal(dc_recipe_str(r, "export[0].type"), "f16");
    assert_string_equal(dc_recipe_str(r, "output_dir"), "a b");
    assert_int_equal(dc_recipe_int(r, "teacher.train.per_device_train_batch_size"), 9);
    assert_string_equal(dc_recipe_str(r, "data.eval[0].path"), "dir/e");
    dc_recipe_free(r);
    /* A text that stands for a section is one when a key of it is set. */
    static const char *const inside[] = {"export[0].name=n", "data.train[0].limit=5"};
    r = parse("export: [q8_0, f16]\ndata: {train: x}\n", inside, 2);
    assert_string_equal(dc_recipe_str(r, "export[0].type"), "q8_0");
    assert_string_equal(dc_recipe_str(r, "export[0].name"), "n");
    assert_string_equal(dc_recipe_str(r, "export[1].type"), "f16");
    assert_string_equal(dc_recipe_str(r, "data.train[0].path"), "x");
    assert_int_equal(dc_recipe_int(r, "data.train[0].limit"), 5);
    dc_recipe_free(r);
    refused("{}", "lora.r", "command line: 'lora.r': an override is written section.key=value");
    refused("{}", "=3", "command line: '=3': an override is written section.key=value");
    refused("{}", "teacher.model=\xff", "command line: teacher.model: not valid UTF-8 text");
    refused("{}", "lora..r=3", "command line: lora..r: an override is written section.key=value");
    refused("{}", "data.train[x].path=3", "command line: data.train[x].path: an override is written section.key=value");
    refused("{}", "data.train[1].path=3", "command line: data.train[1].path: there is no such item");
    refused("data: {train: x}", "data.train[1].path=3", "command line: data.train[1].path: there is no such item");
    refused("seed: 3", "seed.x=3", "command line: seed.x: what stands there is no section");
    refused("{}", "lora.r=[1", "command line: lora.r: while parsing a flow sequence: did not find expected ',' or ']'");
}

static void set_and_copy_keep_the_first(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_recipe *r = parse(everything, NULL, 0), *copy = NULL;
    assert_int_equal(dc_recipe_copy(&copy, r, &err), DC_OK);
    assert_int_equal(dc_recipe_set(copy, "lora.r", "64", &err), DC_OK);
    assert_int_equal(dc_recipe_int(copy, "lora.r"), 64);
    assert_int_equal(dc_recipe_int(r, "lora.r"), 16);
    assert_int_equal(dc_recipe_set(copy, "lora.r", "x", &err), DC_EUSAGE);
    assert_int_equal(dc_recipe_int(copy, "lora.r"), 64);
    assert_string_equal(dc_recipe_place(copy, "train.learning_rate"), "dir/a.yaml:18:18");
    dc_recipe_free(r);
    assert_string_equal(dc_recipe_str(copy, "teacher.model"), "dir/t.gguf");
    dc_recipe_free(copy);
}

static void hashes_know_what_matters(void **state)
{
    (void)state;
    static const struct {
        const char *override, *stages;
    } cases[] = {
        {"lora.r=3", "T"},
        {"train.learning_rate=3", "T"},
        {"distill.topk=3", "t"},
        {"distill.temperature=3", "tT"},
        {"seed=3", "pstT"},
        {"export=[q8_0]", "e"},
        {"export[0].name=n", "e"},
        {"data.train[1].weight=3", "p"},
        {"data.max_length=3", "psT"},
        {"train.save_steps=3", ""},
        {"output_dir=x", ""},
        {"student.init.prune_layers=[0]", "Tme"},
        {"lora.rank_pattern={k_proj: 5}", "T"},
        {"train.learning_rate=0.001", ""},
        {"lora.r=16", ""},
        {"data.eval=[{path: c.jsonl}]", ""},
        {"teacher.train.max_steps=3", "s"},
        {"data.shuffle=no", "sT"},
    };
    dc_recipe *r = parse(everything, NULL, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_recipe *other = parse(everything, &cases[i].override, 1);
        for (const char *stage = "pstTme"; *stage; stage++) {
            const dc_hash a = dc_recipe_hash(r, *stage), b = dc_recipe_hash(other, *stage);
            if (dc_hash_equal(&a, &b) != !strchr(cases[i].stages, *stage))
                fail_msg("%s: stage %c", cases[i].override, *stage);
        }
        dc_recipe_free(other);
    }
    /* Not where the recipe lies. */
    dc_recipe *elsewhere = NULL;
    assert_int_equal(dc_recipe_parse(&elsewhere, everything, "/other/place.yaml", NULL, 0, NULL), DC_OK);
    const dc_hash a = dc_recipe_hash(r, 'T'), b = dc_recipe_hash(elsewhere, 'T');
    assert_true(dc_hash_equal(&a, &b));
    assert_string_equal(dc_recipe_str(elsewhere, "teacher.model"), "/other/t.gguf");
    dc_recipe_free(elsewhere);
    dc_recipe_free(r);
}

static void resumable_in(const char *stages, const json_t *before, const char *override, const char *says)
{
    dc_error err = {0};
    dc_recipe *r = parse(everything, &override, override != NULL);
    const int rc = dc_recipe_resumable(r, stages, before, &err);
    if (!says) {
        if (rc) fail_msg("refused: %s", err.message);
    } else {
        assert_int_equal(rc, DC_EMISMATCH);
        if (strncmp(err.message, says, strlen(says))) fail_msg("said '%s', not '%s'", err.message, says);
        assert_non_null(strstr(err.message, "--restart"));
    }
    dc_recipe_free(r);
}

static void resumable(const json_t *before, const char *override, const char *says)
{
    resumable_in("pstT", before, override, says);
}

static void only_harmless_changes_are_resumable(void **state)
{
    (void)state;
    dc_recipe *r = parse(everything, NULL, 0);
    json_t *json = dc_recipe_json(r), *before = NULL;
    /* Through a file, as a checkpoint keeps it. */
    assert_int_equal(dc_json_save(json, temp_path("recipe.json"), NULL), DC_OK);
    assert_int_equal(dc_json_load(&before, temp_path("recipe.json"), NULL), DC_OK);
    json_decref(json);
    resumable(before, NULL, NULL);
    resumable(before, "train.save_steps=7", NULL);
    resumable(before, "output_dir=elsewhere", NULL);
    resumable(before, "export=[f32]", NULL);
    resumable(before, "train.learning_rate=0.001", NULL);
    resumable(before, "train.learning_rate=0.002",
              "command line: train.learning_rate: train.learning_rate is 0.002, but the run in this output_dir was "
              "started with 0.001.\n");
    resumable(before, "train.weight_decay=0.1",
              "command line: train.weight_decay: train.weight_decay is 0.1, but the run in this output_dir was started "
              "with 0.0.");
    resumable(before, "lora.r=17",
              "command line: lora.r: lora.r is 17, but the run in this output_dir was started with 16.");
    resumable(before, "lora.r=", "dir/a.yaml: lora.r is 8, but");
    resumable(before, "lora.rank_pattern=",
              "dir/a.yaml: lora.rank_pattern is not given, but the run in this output_dir was started with {");
    resumable(before, "data.train=[a.jsonl]",
              "command line: data.train: data.train is a list of 1, but the run in this output_dir was started with a "
              "list of 2.");
    resumable(before, "data.train[1].weight=3", "command line: data.train[1].weight: data.train[1].weight is 3.0, but");
    /* A stage minds its own keys. */
    resumable_in("s", before, "train.learning_rate=0.002", NULL);
    resumable_in("s", before, "lora.r=17", NULL);
    resumable_in("s", before, "distill.topk=9", NULL);
    resumable_in("s", before, "teacher.train.learning_rate=0.002",
                 "command line: teacher.train.learning_rate: teacher.train.learning_rate is 0.002, but the run in this "
                 "output_dir was started with 5e-5.");
    resumable_in("s", before, "data.shuffle=no", "command line: data.shuffle: data.shuffle is false, but");
    resumable_in("T", before, "teacher.train.learning_rate=0.002", NULL);
    resumable_in("T", before, "lora.r=17", "command line: lora.r: lora.r is 17, but");
    /* A key that the earlier run's program did not know. */
    json_object_del(json_object_get(before, "train"), "weight_decay");
    resumable(before, NULL, NULL);
    resumable(before, "train.weight_decay=0.1",
              "command line: train.weight_decay: train.weight_decay is 0.1, but the run in this output_dir was started "
              "with not given.");
    json_decref(before);
    dc_recipe_free(r);
}

/* What a run writes is itself a recipe, and the same one. */
static void resolved_json_reads_back(void **state)
{
    (void)state;
    dc_recipe *r = parse(everything, NULL, 0);
    json_t *json = dc_recipe_json(r);
    char *text = json_dumps(json, 0);
    dc_recipe *again = parse(text, NULL, 0);
    json_t *second = dc_recipe_json(again);
    assert_true(json_equal(json, second));
    free(text);
    json_decref(json);
    json_decref(second);
    dc_recipe_free(r);
    dc_recipe_free(again);
}

static void files_are_read(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_recipe *r = NULL;
    assert_int_equal(dc_recipe_load(&r, temp_write("r.yaml", everything, sizeof everything - 1), NULL, 0, &err), DC_OK);
    assert_string_equal(dc_recipe_str(r, "teacher.model"), temp_path("t.gguf"));
    dc_recipe_free(r);
    r = NULL;
    assert_int_equal(dc_recipe_load(&r, temp_path("absent.yaml"), NULL, 0, &err), DC_EIO);
    assert_non_null(strstr(err.message, "absent.yaml"));
    assert_int_equal(dc_recipe_load(&r, temp_write("zero.yaml", "seed: 1\0", 8), NULL, 0, NULL), DC_EUSAGE);
    assert_null(r);
}

static void truncated_recipes_do_no_harm(void **state)
{
    (void)state;
    char text[sizeof everything];
    for (size_t n = 0; n < sizeof everything; n++) {
        dc_error err = {0};
        dc_recipe *r = NULL;
        memcpy(text, everything, n);
        text[n] = 0;
        const int rc = dc_recipe_parse(&r, text, "a.yaml", NULL, 0, &err);
        assert_true(rc == DC_OK ||
                    (rc == DC_EUSAGE && strstr(err.message, "a.yaml") && strstr(err.message, "nothing was started.")));
        dc_recipe_free(r);
    }
}

static void failing_memory_is_told(void **state)
{
    (void)state;
    static const char *const overrides[] = {"lora.r=3", "data.train[2]=x"};
    int rc = DC_ENOMEM;
    long n = 0;
    for (; rc; n++) {
        dc_error err = {0};
        dc_recipe *r = NULL, *copy = NULL;
        dc_alloc_fail_at(n + 1);
        rc = dc_recipe_parse(&r, everything, "a.yaml", overrides, 2, &err);
        if (!rc) rc = dc_recipe_copy(&copy, r, &err);
        if (!rc) rc = dc_recipe_set(copy, "seed", "3", &err);
        dc_alloc_fail_at(0);
        if (rc) assert_int_equal(rc, DC_ENOMEM), assert_int_equal(err.code, rc);
        dc_recipe_free(r);
        dc_recipe_free(copy);
    }
    assert_true(n > 20);
    for (rc = DC_ENOMEM, n = 0; rc == DC_ENOMEM; n++) { /* while errors are gathered */
        dc_recipe *r = NULL;
        dc_alloc_fail_at(n + 1);
        rc = dc_recipe_parse(&r, "sed: 1\nlora: {learning_rate: 2, r: x}\ndata: {truncation: cutt}", "a.yaml", NULL, 0,
                             NULL);
        dc_alloc_fail_at(0);
        assert_null(r);
    }
    assert_int_equal(rc, DC_EUSAGE);
}

static void help_is_complete(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_str s = {0};
    dc_schema_markdown(&s);
    for (const dc_key *k = dc_schema(); k->path; k++) {
        char name[128];
        const char *dot = strrchr(k->path, '.');
        snprintf(name, sizeof name, "| `%s` |", dot ? dot + 1 : k->path);
        if (!strstr(s.data, name)) fail_msg("%s is not in the markdown", k->path);
        dc_str one = {0};
        assert_int_equal(dc_schema_help(&one, k->path, &err), DC_OK);
        assert_non_null(strstr(one.data, k->help));
        dc_str_release(&one);
    }
    dc_str_clear(&s);
    assert_int_equal(dc_schema_help(&s, "lora.r", &err), DC_OK);
    assert_string_equal(s.data,
                        "lora.r: rank; also lora_r, lora_rank, rank\n  takes    integer, 1 to 4096\n  default  8\n"
                        "  change   a stage that reads it cannot go on with another value; --restart begins anew\n");
    dc_str_clear(&s);
    assert_int_equal(dc_schema_help(&s, "lora", &err), DC_OK);
    assert_non_null(strstr(s.data, "target_modules"));
    assert_null(strstr(s.data, "learning_rate"));
    assert_int_equal(dc_schema_help(&s, "lora.rr", &err), DC_EUNKNOWN);
    assert_string_equal(err.message, "a recipe has no key or section 'lora.rr'; did you mean 'lora.r'?");
    dc_str_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(json_is_a_recipe),
        cmocka_unit_test(unknown_keys_are_told),
        cmocka_unit_test(wrong_values_are_told),
        cmocka_unit_test(what_yaml_has_too_much_is_refused),
        cmocka_unit_test(all_errors_are_told_in_order),
        cmocka_unit_test(overrides_win),
        cmocka_unit_test(set_and_copy_keep_the_first),
        cmocka_unit_test(hashes_know_what_matters),
        cmocka_unit_test(only_harmless_changes_are_resumable),
        cmocka_unit_test(resolved_json_reads_back),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(truncated_recipes_do_no_harm),
        cmocka_unit_test(failing_memory_is_told),
        cmocka_unit_test(help_is_complete),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
