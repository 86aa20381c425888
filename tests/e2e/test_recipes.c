/* The recipes that come with decant: each is accepted by the table of keys, and says what the documentation promises of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/recipe.h"

static dc_recipe *load(const char *path)
{
    dc_recipe *r = NULL;
    dc_error err = {0};
    if (dc_recipe_load(&r, path, NULL, 0, &err) != DC_OK) fail_msg("%s", err.message);
    return r;
}

static void every_file_exists(const dc_recipe *r, const char *items)
{
    assert_true(dc_recipe_count(r, items) > 0);
    for (size_t i = 0; i < dc_recipe_count(r, items); i++) {
        char key[96];
        snprintf(key, sizeof key, "%s[%zu].path", items, i);
        if (!dc_path_exists(dc_recipe_str(r, key))) fail_msg("%s: %s is not there", key, dc_recipe_str(r, key));
    }
}

/* The demo needs nothing that is not in the tree, and shows the comparison it is made for. */
static void quickstart_is_complete(void **state)
{
    (void)state;
    dc_recipe *r = load("configs/quickstart.yaml");
    every_file_exists(r, "teacher.data.train");
    every_file_exists(r, "data.train");
    every_file_exists(r, "data.eval");
    every_file_exists(r, "eval.generate");
    assert_string_equal(dc_recipe_str(r, "output_dir"), "runs/quickstart");
    assert_true(dc_recipe_has(r, "teacher.init.config"));
    assert_true(dc_recipe_count(r, "student.init.prune_layers") > 0);
    assert_true(dc_recipe_bool(r, "distill.control"));
    assert_int_equal(dc_recipe_int(r, "train.repeats"), 3);
    assert_int_equal(dc_recipe_count(r, "export"), 2);
    assert_string_equal(dc_recipe_str(r, "export[0].type"), "q8_0");
    assert_string_equal(dc_recipe_str(r, "export[1].type"), "q4_0");
    assert_string_equal(dc_recipe_str(r, "eval.generate[0].kind"), "json_fields");
    assert_int_equal(dc_recipe_count(r, "eval.generate[0].fields"), 3);
    dc_recipe_free(r);
}

/* Q8_0 and Q4_0 keep blocks of 32 along a row, so every width of a made model must be a multiple. */
static void quickstart_widths_can_be_quantized(void **state)
{
    (void)state;
    dc_recipe *r = load("configs/quickstart.yaml");
    assert_int_equal(dc_recipe_int(r, "teacher.init.config.hidden_size") % 32, 0);
    assert_int_equal(dc_recipe_int(r, "teacher.init.config.intermediate_size") % 32, 0);
    assert_int_equal(dc_recipe_int(r, "teacher.init.config.hidden_size") %
                         dc_recipe_int(r, "teacher.init.config.num_attention_heads"),
                     0);
    for (size_t i = 0; i < dc_recipe_count(r, "student.init.prune_layers"); i++) {
        int layer = -1;
        assert_int_equal(sscanf(dc_recipe_str_at(r, "student.init.prune_layers", i), "%d", &layer), 1);
        assert_in_range(layer, 0, dc_recipe_int(r, "teacher.init.config.num_hidden_layers") - 1);
    }
    dc_recipe_free(r);
}

static void qwen_coder_can_be_pointed_elsewhere(void **state)
{
    (void)state;
    const char *const overrides[] = {"teacher.model=/m/1.5b.gguf", "student.model=/m/0.5b.gguf",
                                     "data.train=/d/text.jsonl.zst", "distill.targets=topk", "distill.topk=256"};
    dc_recipe *r = NULL;
    dc_error err = {0};
    if (dc_recipe_load(&r, "configs/qwen_coder.yaml", overrides, 5, &err) != DC_OK) fail_msg("%s", err.message);
    assert_string_equal(dc_recipe_str(r, "teacher.model"), "/m/1.5b.gguf");
    assert_string_equal(dc_recipe_str(r, "student.model"), "/m/0.5b.gguf");
    assert_int_equal(dc_recipe_count(r, "data.train"), 1);
    assert_string_equal(dc_recipe_str(r, "data.train[0].path"), "/d/text.jsonl.zst");
    assert_string_equal(dc_recipe_str(r, "distill.targets"), "topk");
    assert_int_equal(dc_recipe_int(r, "data.max_length"), 512);
    dc_recipe_free(r);
}

static void smollm2_needs_no_teacher(void **state)
{
    (void)state;
    dc_recipe *r = load("configs/smollm2_lora.yaml");
    assert_false(dc_recipe_has(r, "teacher"));
    assert_false(dc_recipe_has(r, "distill"));
    assert_true(dc_recipe_has(r, "lora"));
    dc_recipe_free(r);
}

/* A recipe that no test above knows is accepted as well. */
static void every_recipe_is_accepted(void **state)
{
    (void)state;
    char **names = NULL;
    size_t n = 0, recipes = 0;
    dc_error err = {0};
    assert_int_equal(dc_dir_list(&names, &n, "configs", &err), DC_OK);
    for (size_t i = 0; i < n; i++) {
        char path[256];
        const char *end = strrchr(names[i], '.');
        if (!end || strcmp(end, ".yaml")) continue;
        snprintf(path, sizeof path, "configs/%s", names[i]);
        dc_recipe_free(load(path));
        recipes++;
    }
    dc_names_free(names);
    assert_true(recipes >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quickstart_is_complete),
        cmocka_unit_test(quickstart_widths_can_be_quantized),
        cmocka_unit_test(qwen_coder_can_be_pointed_elsewhere),
        cmocka_unit_test(smollm2_needs_no_teacher),
        cmocka_unit_test(every_recipe_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
