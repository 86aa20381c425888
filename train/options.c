/* train/options.c -- the loop's options from a recipe. */
#include <stdio.h>
#include <string.h>

#include "train/loop.h"

static const char *key(char room[96], const char *prefix, const char *name)
{
    snprintf(room, 96, "%s.%s", prefix, name);
    return room;
}

void dc_train_options_from_recipe(dc_train_options *out, const dc_recipe *r, const char *prefix)
{
    static const struct {
        const char *name;
        dc_schedule_type type;
    } types[] = {{"constant", DC_SCHEDULE_CONSTANT},
                 {"constant_with_warmup", DC_SCHEDULE_CONSTANT_WITH_WARMUP},
                 {"linear", DC_SCHEDULE_LINEAR},
                 {"cosine", DC_SCHEDULE_COSINE}};
    char k[96];
#define INT(name)  dc_recipe_int(r, key(k, prefix, name))
#define REAL(name) dc_recipe_real(r, key(k, prefix, name))
#define BOOL(name) dc_recipe_bool(r, key(k, prefix, name))
    *out = (dc_train_options){
        .max_steps = INT("max_steps"),
        .num_train_epochs = REAL("num_train_epochs"),
        .gradient_accumulation_steps = INT("gradient_accumulation_steps"),
        .max_grad_norm = REAL("max_grad_norm"),
        .adamw = {.beta1 = REAL("adam_beta1"),
                  .beta2 = REAL("adam_beta2"),
                  .eps = REAL("adam_epsilon"),
                  .weight_decay = REAL("weight_decay")},
        .schedule = {.learning_rate = REAL("learning_rate"), .warmup_steps = INT("warmup_steps")},
        .save_steps = INT("save_steps"),
        .save_total_limit = INT("save_total_limit"),
        .eval_steps = INT("eval_steps"),
        .eval_on_start = BOOL("eval_on_start"),
        .logging_steps = INT("logging_steps"),
        .seed = (uint64_t)dc_recipe_int(r, "seed"),
    };
    out->warmup_ratio = REAL("warmup_ratio");
    const char *name = dc_recipe_str(r, key(k, prefix, "lr_scheduler_type"));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name)) out->schedule.type = types[i].type;
#undef INT
#undef REAL
}
