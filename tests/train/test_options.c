/* tests/train/test_options.c -- the loop's options from a recipe: each key arrives, as the double that was written. */
#include "train/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

static dc_train_options options(const char *text, const char *prefix)
{
    dc_recipe *r = NULL;
    dc_error err = {0};
    dc_train_options o;
    if (dc_recipe_parse(&r, text, "r.yaml", NULL, 0, &err)) fail_msg("%s", err.message);
    dc_train_options_from_recipe(&o, r, prefix);
    dc_recipe_free(r);
    return o;
}

static void test_keys(void **state)
{
    (void)state;
    const dc_train_options o = options(
        "output_dir: out\nseed: 77\nstudent: {model: m}\ndata: {train: a.jsonl}\n"
        "train: {learning_rate: 3e-4, max_steps: 7, num_train_epochs: 2.5, gradient_accumulation_steps: 3, "
        "max_grad_norm: 0.7,\n"
        "  adam_beta1: 0.85, adam_beta2: 0.997, adam_epsilon: 1e-7, weight_decay: 0.03, warmup_steps: 5, warmup_ratio: "
        "0.1,\n"
        "  save_steps: 11, save_total_limit: 4, eval_steps: 13, logging_steps: 17, lr_scheduler_type: cosine}\n",
        "train");
    assert_true(o.max_steps == 7 && o.num_train_epochs == 2.5 && o.gradient_accumulation_steps == 3 &&
                o.max_grad_norm == 0.7);
    assert_true(o.adamw.beta1 == 0.85 && o.adamw.beta2 == 0.997 && o.adamw.eps == 1e-7 && o.adamw.weight_decay == 0.03);
    assert_true(o.schedule.type == DC_SCHEDULE_COSINE && o.schedule.learning_rate == 3e-4 &&
                o.schedule.warmup_steps == 5);
    assert_true(o.warmup_ratio == 0.1 && o.save_steps == 11 && o.save_total_limit == 4 && o.eval_steps == 13 &&
                o.logging_steps == 17);
    assert_true(o.seed == 77);
}

static void test_schedules(void **state)
{
    (void)state;
    static const char *const names[] = {"constant", "constant_with_warmup", "linear", "cosine"};
    for (int i = 0; i < 4; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "output_dir: out\nstudent: {model: m}\ndata: {train: a.jsonl}\ntrain: {lr_scheduler_type: %s}\n",
                 names[i]);
        assert_int_equal(options(text, "train").schedule.type, i); /* the enumeration's order */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
