/* cli/student.c */
#include "cli/student.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

static int names_of(const char *const **out, size_t *n, dc_arena *arena, const dc_recipe *r, const char *key,
                    dc_error *err)
{
    *n = dc_recipe_count(r, key);
    const char **names = dc_arena_alloc(arena, (*n + 1) * sizeof *names);
    if (!names) return dc_fail_memory(err, *n * sizeof *names, "the adapter's config");
    for (size_t i = 0; i < *n; i++) names[i] = dc_recipe_str_at(r, key, i);
    *out = names;
    return DC_OK;
}

static int patterns_of(const dc_pattern **out, size_t *n, dc_arena *arena, const dc_recipe *r, const char *key,
                       dc_error *err)
{
    *n = dc_recipe_count(r, key);
    dc_pattern *patterns = dc_arena_alloc(arena, (*n + 1) * sizeof *patterns);
    if (!patterns) return dc_fail_memory(err, *n * sizeof *patterns, "the adapter's config");
    for (size_t i = 0; i < *n; i++) patterns[i].value = dc_recipe_map_at(r, key, i, &patterns[i].key);
    *out = patterns;
    return DC_OK;
}

static int layers_of(dc_lora_config *c, dc_arena *arena, const dc_recipe *r, dc_error *err)
{
    const char *key = "lora.layers_to_transform";
    c->n_layers = dc_recipe_count(r, key);
    if (!c->n_layers) return DC_OK;
    int64_t *layers = dc_arena_alloc(arena, c->n_layers * sizeof *layers);
    if (!layers) return dc_fail_memory(err, c->n_layers * sizeof *layers, "the adapter's config");
    for (size_t i = 0; i < c->n_layers; i++) {
        char *end;
        const char *text = dc_recipe_str_at(r, key, i);
        layers[i] = strtoll(text, &end, 10);
        if (end == text || *end)
            return dc_fail(err, DC_EUSAGE, "%s: %s must be layer numbers, not '%s'", dc_recipe_place(r, key), key,
                           text);
    }
    c->layers_to_transform = layers;
    return DC_OK;
}

int dc_student_lora(dc_lora **out, dc_model *m, const dc_recipe *r, int64_t repeat, dc_error *err)
{
    int rc = DC_OK;
    dc_arena arena = {0};
    dc_lora_config c = dc_lora_defaults();
    const char *from = dc_recipe_str(r, "lora.init_from");
    if (from) return dc_lora_open(out, m, 0, from, 1, err);
    c.r = dc_recipe_int(r, "lora.r");
    c.lora_alpha = dc_recipe_real(r, "lora.lora_alpha");
    c.lora_dropout = dc_recipe_real(r, "lora.lora_dropout");
    c.use_rslora = dc_recipe_bool(r, "lora.use_rslora");
    c.gaussian = !strcmp(dc_recipe_str(r, "lora.init_lora_weights"), "gaussian");
    DC_TRY(names_of(&c.target_modules, &c.n_targets, &arena, r, "lora.target_modules", err));
    DC_TRY(names_of(&c.exclude_modules, &c.n_exclude, &arena, r, "lora.exclude_modules", err));
    DC_TRY(patterns_of(&c.rank_pattern, &c.n_rank_pattern, &arena, r, "lora.rank_pattern", err));
    DC_TRY(patterns_of(&c.alpha_pattern, &c.n_alpha_pattern, &arena, r, "lora.alpha_pattern", err));
    DC_TRY(layers_of(&c, &arena, r, err));
    DC_TRY(dc_lora_new(out, m, 0, &c, (uint64_t)(dc_recipe_int(r, "seed") + repeat), 1, err));
done:
    dc_arena_release(&arena);
    return rc;
}

int dc_student_params(dc_params *out, dc_model *m, const dc_lora *l, dc_error *err)
{
    out->dev = m->dev;
    out->flat_grads = dc_lora_grads(l);
    for (size_t i = 0; i < dc_lora_n(l); i++) {
        const dc_lora_tensor *t = dc_lora_at(l, i);
        const dc_param item = {.name = t->name,
                               .data = t->data,
                               .grad = t->grad,
                               .n = t->shape[0] * t->shape[1],
                               .n_dims = 2,
                               .shape = {t->shape[0], t->shape[1]},
                               .lr_scale = 1,
                               .decay = 1};
        const int rc = dc_params_add(out, &item, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}
