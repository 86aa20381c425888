/* tests/lora/test_adapter.c -- which linears an adapter means, its first values, PEFT's files there and back, what is refused, merging. */
#include "lora/adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/half.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/safetensors.h"
#include "lora/adapter_private.h"
#include "tests/core/temp.h"
#include "tests/model/tiny.h"

static dc_dev *dev;
static dc_model *m;

static int setup(void **state)
{
    dc_pool_set_threads(1);
    dev = tiny_dev();
    m = tiny_model(dev, LLAMA, 1);
    return temp_setup(state);
}

static int teardown(void **state)
{
    dc_model_free(m);
    dc_dev_close(dev);
    return temp_teardown(state);
}

static dc_lora *make(const dc_lora_config *c)
{
    dc_lora *l = NULL;
    dc_error err = {0};
    if (dc_lora_new(&l, m, 0, c, 7, 1, &err) != DC_OK) fail_msg("%s", err.message);
    return l;
}

/* ---- targets ---- */

/* The adapted linears, one letter each: layer by layer "qkvogud", or '-'. */
static const char *chosen(const dc_lora *l, char *room)
{
    static const char letters[] = "qkvogud";
    size_t n = 0;
    for (size_t i = 0; i < dc_model_n_linears(m); i++) {
        if (i && i % 7 == 0) room[n++] = ' ';
        room[n++] = l->targets[i].r ? letters[i % 7] : '-';
        assert_true(!l->targets[i].r == !dc_model_linear_at(m, i)->delta[0]);
    }
    room[n] = 0;
    return room;
}

static void expect_targets(const dc_lora_config *c, const char *want)
{
    char room[64];
    dc_lora *l = make(c);
    if (strcmp(chosen(l, room), want)) fail_msg("%s ...: chose %s, expected %s", c->target_modules[0], room, want);
    dc_lora_free(l);
    for (size_t i = 0; i < dc_model_n_linears(m); i++) assert_null(dc_model_linear_at(m, i)->delta[0]);
}

#define NAMES(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)
static dc_lora_config targets(const char *const *names, size_t n)
{
    dc_lora_config c = dc_lora_defaults();
    c.target_modules = names, c.n_targets = n;
    return c;
}

static void test_targets(void **state)
{
    (void)state;
    dc_lora_config c = dc_lora_defaults();
    expect_targets(&c, "qkvogud qkvogud qkvogud");
    c = targets(NAMES("q_proj", "v_proj"));
    expect_targets(&c, "q-v---- q-v---- q-v----");
    c = targets(NAMES("mlp.up_proj"));
    expect_targets(&c, "-----u- -----u- -----u-");
    c = targets(NAMES("model.layers.1.self_attn.q_proj", "o_proj"));
    expect_targets(&c, "---o--- q--o--- ---o---");
    c = targets(NAMES(".*\\.[02]\\..*(q|down)_proj"));
    expect_targets(&c, "q-----d ------- q-----d");
    c = targets(NAMES("(a|b)|.*mlp.*")); /* the whole path must match either part */
    expect_targets(&c, "----gud ----gud ----gud");
    /* What is excluded wins, by name and by expression. */
    c = dc_lora_defaults();
    c.exclude_modules = (const char *const[]){"k_proj", "model.layers.2.mlp.up_proj"}, c.n_exclude = 2;
    expect_targets(&c, "q-vogud q-vogud q-vog-d");
    c.exclude_modules = (const char *const[]){".*layers\\.(0|1).*"}, c.n_exclude = 1;
    expect_targets(&c, "------- ------- qkvogud");
}

static void test_layers(void **state)
{
    (void)state;
    const int64_t layers[] = {2, 0};
    dc_lora_config c = targets(NAMES("q_proj"));
    c.layers_to_transform = layers, c.n_layers = 2;
    expect_targets(&c, "q------ ------- q------");
    c = dc_lora_defaults();
    c.layers_to_transform = layers, c.n_layers = 1;
    expect_targets(&c, "------- ------- qkvogud");
    c.n_layers = 0; /* PEFT: an empty list is none */
    expect_targets(&c, "qkvogud qkvogud qkvogud");
    /* A module named whole is taken whatever its layer. */
    c = targets(NAMES("model.layers.1.self_attn.q_proj", "v_proj"));
    c.layers_to_transform = layers, c.n_layers = 1;
    expect_targets(&c, "------- q------ --v----");
}

static void test_patterns(void **state)
{
    (void)state;
    const dc_pattern ranks[] = {{"layers.0.self_attn.q_proj", 3}, {"q_proj", 2}, {".*down_proj", 5}, {"own_proj", 9}};
    const dc_pattern alphas[] = {{"1.mlp.(gate|up)_proj", 24}};
    dc_lora_config c = dc_lora_defaults();
    c.r = 4, c.lora_alpha = 6;
    c.rank_pattern = ranks, c.n_rank_pattern = 4, c.alpha_pattern = alphas, c.n_alpha_pattern = 1;
    for (int rslora = 0; rslora < 2; rslora++) {
        c.use_rslora = rslora;
        dc_lora *l = make(&c);
        for (size_t i = 0; i < l->n_linears; i++) {
            const int q = i % 7 == 0, down = i % 7 == 6, middle = i / 7 == 1 && (i % 7 == 4 || i % 7 == 5);
            const double r = q ? (i == 0 ? 3 : 2) : down ? 5 : 4, alpha = middle ? 24 : 6;
            const dc_delta *d = dc_model_linear_at(m, i)->delta[0];
            assert_true((double)d->R == r);
            assert_true(d->scale == (float)(alpha / (rslora ? sqrt(r) : r)));
            assert_true(d->place == i && d->dropout == 0.0f);
        }
        assert_non_null(strstr(dc_lora_describe(l), "on 21 linears"));
        dc_lora_free(l);
    }
}

static void refused(const dc_lora_config *c, int code, const char *text)
{
    dc_error err = {0};
    dc_lora *l = NULL;
    assert_int_equal(dc_lora_new(&l, m, 0, c, 7, 1, &err), code);
    assert_null(l);
    if ((int)err.code != code || !strstr(err.message, text)) fail_msg("expected '%s', found: %s", text, err.message);
    for (size_t i = 0; i < dc_model_n_linears(m); i++) assert_null(dc_model_linear_at(m, i)->delta[0]);
}

static void test_refused_configs(void **state)
{
    (void)state;
    const int64_t layers[] = {9};
    dc_lora_config c = targets(NAMES("q_proj", "qproj"));
    refused(&c, DC_EUNKNOWN, "'qproj' names no linear of this llama model");
    c = targets(NAMES("lm_head"));
    refused(&c, DC_EUNKNOWN, "lm_head");
    c = targets(NAMES("proj")); /* a part of a name is none */
    refused(&c, DC_EUNKNOWN, "'proj'");
    c = targets(NAMES("(q"));
    refused(&c, DC_EUSAGE, "lora.target_modules: '(q' is no regular expression");
    c = targets(NAMES("(q_proj)"));
    refused(&c, DC_EUSAGE, "no linear is left");
    c = dc_lora_defaults();
    c.exclude_modules = (const char *const[]){"[q"}, c.n_exclude = 1;
    refused(&c, DC_EUSAGE, "lora.exclude_modules: '[q'");
    c = dc_lora_defaults();
    c.layers_to_transform = layers, c.n_layers = 1;
    refused(&c, DC_EUSAGE, "no linear is left");
    c = targets(NAMES(".*q_proj"));
    c.layers_to_transform = layers, c.n_layers = 1;
    refused(&c, DC_EUSAGE, "layers_to_transform");
    c = dc_lora_defaults();
    c.r = 13; /* k_proj is 12 wide */
    refused(&c, DC_EUSAGE, "rank 13 of model.layers.0.self_attn.k_proj is above its width (12 x 20)");
    c.r = INT64_MAX;
    refused(&c, DC_EUSAGE, "above its width");
    c.r = 0;
    refused(&c, DC_EUSAGE, "whole number");
    c.r = 2;
    c.rank_pattern = &(const dc_pattern){"v_proj", 1.5}, c.n_rank_pattern = 1;
    refused(&c, DC_EUSAGE, "model.layers.0.self_attn.v_proj");
    c.rank_pattern = &(const dc_pattern){"v_proj", 1e300};
    refused(&c, DC_EUSAGE, "above its width");
    c.rank_pattern = &(const dc_pattern){"v_(proj", 2};
    refused(&c, DC_EUSAGE, "lora.rank_pattern");
}

/* ---- first values ---- */

static void test_first_values(void **state)
{
    (void)state;
    dc_lora_config c = dc_lora_defaults();
    for (int gaussian = 0; gaussian < 2; gaussian++) {
        c.gaussian = gaussian;
        dc_lora *l = make(&c);
        double most = 0, squares = 0, n = 0;
        assert_int_equal(dc_lora_n(l), 2 * dc_model_n_linears(m));
        for (size_t i = 0; i < dc_lora_n(l); i++) {
            const dc_lora_tensor *t = dc_lora_at(l, i);
            assert_true(((uintptr_t)t->data & 63) == 0 && ((uintptr_t)t->grad & 63) == 0);
            for (int64_t k = 0; k < t->shape[0] * t->shape[1]; k++) {
                assert_true(t->grad[k] == 0.0f);
                if (i % 2) assert_true(t->data[k] == 0.0f); /* B */
                else {
                    const double x =
                        (double)t->data[k] * (gaussian ? 8 : sqrt((double)t->shape[1])); /* std 1/r; bound 1/sqrt(in) */
                    most = fmax(most, fabs(x)), squares += x * x, n++;
                }
            }
        }
        /* Of n = 3744 draws: a uniform one on [-1, 1) has mean square 1/3, a normal one 1; five standard errors. */
        const double mean = squares / n, want = gaussian ? 1 : 1.0 / 3;
        assert_true(gaussian ? most > 3 && most < 6 : most > 0.99 && most <= 1);
        assert_true(fabs(mean - want) < 5 * (gaussian ? sqrt(2 / n) : sqrt(4.0 / 45 / n)));
        /* The same seed gives the same values, and no two tensors the same. */
        const dc_lora_tensor *a = dc_lora_at(l, 0), *b = dc_lora_at(l, 14);
        assert_true(memcmp(a->data, b->data, 8 * 20 * sizeof(float)) != 0);
        dc_lora *again = NULL;
        assert_int_equal(dc_lora_new(&again, m, 1, &c, 7, 0, NULL), DC_OK);
        assert_null(dc_lora_at(again, 0)->grad);
        for (size_t i = 0; i < dc_lora_n(l); i++) {
            const dc_lora_tensor *x = dc_lora_at(l, i), *y = dc_lora_at(again, i);
            assert_memory_equal(x->data, y->data, (size_t)(x->shape[0] * x->shape[1]) * sizeof(float));
        }
        assert_int_equal(dc_lora_adapter(again), 1);
        assert_int_equal(dc_lora_bytes(l), 2 * dc_lora_bytes(again));
        dc_lora_free(again);
        dc_lora_free(l);
    }
}

static void test_names(void **state)
{
    (void)state;
    dc_lora_config c = targets(NAMES("v_proj"));
    dc_lora *l = make(&c);
    const dc_lora_tensor *a = dc_lora_at(l, 2), *b = dc_lora_at(l, 3);
    assert_string_equal(a->name, "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight");
    assert_string_equal(b->name, "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight");
    assert_true(a->shape[0] == 8 && a->shape[1] == 20 && b->shape[0] == 12 && b->shape[1] == 8);
    assert_int_equal(dc_lora_parameters(l), 3 * (8 * 20 + 12 * 8));
    dc_lora_free(l);
}

/* ---- files ---- */

static void randomize(dc_lora *l)
{
    for (size_t i = 0; i < l->n; i++)
        tiny_fill(l->tensors[i].data, l->tensors[i].shape[0] * l->tensors[i].shape[1], 0.5, 40 + i);
}

static void save(const dc_lora *l, const char *name)
{
    dc_error err = {0};
    if (dc_lora_save(l, temp_path(name), "some/base", &err) != DC_OK) fail_msg("%s", err.message);
}

static int same_file(const char *a, const char *b)
{
    dc_str x = {0}, y = {0};
    assert_int_equal(dc_file_read(&x, a, 1 << 24, NULL), DC_OK);
    assert_int_equal(dc_file_read(&y, b, 1 << 24, NULL), DC_OK);
    const int same = x.n == y.n && !memcmp(x.data, y.data, x.n);
    dc_str_release(&x);
    dc_str_release(&y);
    return same;
}

static void test_round_trip(void **state)
{
    (void)state;
    const int64_t layers[] = {0, 2};
    const dc_pattern ranks[] = {{"q_proj", 3}}, alphas[] = {{"v_proj", 2.5}};
    dc_lora_config many = targets(NAMES("q_proj", "v_proj", "down_proj"));
    many.layers_to_transform = layers, many.n_layers = 2, many.rank_pattern = ranks, many.n_rank_pattern = 1;
    many.alpha_pattern = alphas, many.n_alpha_pattern = 1, many.lora_dropout = 0.25, many.gaussian = 1,
    many.lora_alpha = 3.5;
    dc_lora_config regex = targets(NAMES(".*\\.1\\..*")), all = dc_lora_defaults();
    regex.exclude_modules = (const char *const[]){"k_proj"}, regex.n_exclude = 1, regex.use_rslora = 1;
    all.exclude_modules = (const char *const[]){".*gate.*"}, all.n_exclude = 1;
    const dc_lora_config *const configs[] = {&many, &regex, &all};
    for (size_t k = 0; k < 3; k++) {
        dc_error err = {0};
        char want[64], got[64];
        dc_lora *l = make(configs[k]), *back = NULL;
        randomize(l);
        save(l, "first");
        save(l, "first"); /* in the place of another */
        assert_false(dc_path_exists(temp_path("first.tmp")));
        chosen(l, want);
        float *kept = malloc((size_t)l->numbers * sizeof *kept);
        memcpy(kept, l->data, (size_t)l->numbers * sizeof *kept);
        const int64_t numbers = l->numbers;
        float scales[21] = {0};
        for (size_t i = 0; i < 21; i++) scales[i] = l->deltas[i].scale;
        const double dropout = l->config.lora_dropout;
        dc_lora_free(l);
        if (dc_lora_open(&back, m, 0, temp_path("first"), 1, &err) != DC_OK) fail_msg("%s", err.message);
        assert_string_equal(chosen(back, got), want);
        assert_true(back->numbers == numbers && !memcmp(back->data, kept, (size_t)numbers * sizeof *kept));
        for (size_t i = 0; i < 21; i++) assert_true(back->deltas[i].scale == scales[i]);
        assert_true(back->config.lora_dropout == dropout && back->config.gaussian == configs[k]->gaussian);
        save(back, "second");
        assert_true(
            same_file(temp_path("first/adapter_model.safetensors"), temp_path("second/adapter_model.safetensors")));
        assert_true(same_file(temp_path("first/adapter_config.json"), temp_path("second/adapter_config.json")));
        free(kept);
        dc_lora_free(back);
    }
    json_t *config = NULL;
    assert_int_equal(dc_json_load(&config, temp_path("first/adapter_config.json"), NULL), DC_OK);
    assert_string_equal(json_string_value(json_object_get(config, "base_model_name_or_path")), "some/base");
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")),
                     6); /* all-linear is stored as names, as PEFT does */
    assert_true(json_is_string(json_object_get(config, "exclude_modules")));
    json_decref(config);
}

/* Halves stored in half precision come back as what they round to. */
static void test_half_files(void **state)
{
    (void)state;
    static const dc_dtype types[] = {DC_F16, DC_BF16};
    dc_lora_config c = targets(NAMES("q_proj"));
    for (int k = 0; k < 2; k++) {
        dc_lora *l = make(&c);
        dc_st_writer *w = NULL;
        randomize(l);
        save(l, "half");
        assert_int_equal(dc_st_writer_new(&w, NULL), DC_OK);
        for (size_t i = 0; i < l->n; i++) dc_st_put_tensor(w, l->tensors[i].name, types[k], 2, l->tensors[i].shape);
        assert_int_equal(dc_st_writer_begin(w, temp_path("half/adapter_model.safetensors"), NULL), DC_OK);
        for (size_t i = 0; i < l->n; i++)
            for (int64_t j = 0; j < l->tensors[i].shape[0] * l->tensors[i].shape[1]; j++) {
                const uint16_t h = k ? dc_f32_to_bf16(l->tensors[i].data[j]) : dc_f32_to_f16(l->tensors[i].data[j]);
                assert_int_equal(dc_st_writer_data(w, &h, 2, NULL), DC_OK);
                l->tensors[i].data[j] = k ? dc_bf16_to_f32(h) : dc_f16_to_f32(h);
            }
        assert_int_equal(dc_st_writer_commit(w, NULL), DC_OK);
        dc_st_writer_free(w);
        dc_lora *back = NULL;
        assert_int_equal(dc_lora_open(&back, m, 1, temp_path("half"), 0, NULL), DC_OK);
        for (size_t i = 0; i < l->n; i++)
            assert_memory_equal(l->tensors[i].data, back->tensors[i].data,
                                (size_t)(l->tensors[i].shape[0] * l->tensors[i].shape[1]) * sizeof(float));
        dc_lora_free(back);
        dc_lora_free(l);
    }
}

static void refused_file(const char *dir, int code, const char *text)
{
    dc_error err = {0};
    dc_lora *l = NULL;
    if (dc_lora_open(&l, m, 0, temp_path(dir), 1, &err) != code || !strstr(err.message, text))
        fail_msg("expected code %d and '%s', found %d: %s", code, text, (int)err.code, err.message);
    assert_null(l);
    for (size_t i = 0; i < dc_model_n_linears(m); i++) assert_null(dc_model_linear_at(m, i)->delta[0]);
}

/* Opens a copy of the good config with one member set. */
static void refused_member(const char *key, const char *json, int code, const char *text)
{
    json_t *config = NULL;
    assert_int_equal(dc_json_load(&config, temp_path("good/adapter_config.json"), NULL), DC_OK);
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    json_object_set_new(config, key, value);
    assert_int_equal(dc_json_save(config, temp_path("bad/adapter_config.json"), NULL), DC_OK);
    json_decref(config);
    if (code != DC_OK) {
        refused_file("bad", code, text);
        return;
    }
    dc_lora *l = NULL;
    dc_error err = {0};
    if (dc_lora_open(&l, m, 0, temp_path("bad"), 0, &err) != DC_OK) fail_msg("%s %s: %s", key, json, err.message);
    dc_lora_free(l);
}

static void good_and_bad(void)
{
    dc_lora_config c = targets(NAMES("q_proj"));
    dc_lora *l = make(&c);
    randomize(l);
    save(l, "good");
    save(l, "bad");
    dc_lora_free(l);
}

static void test_refused_members(void **state)
{
    (void)state;
    good_and_bad();
    refused_member("use_dora", "true", DC_EUNKNOWN, "use_dora");
    refused_member("use_dora", "true", DC_EUNKNOWN, "DoRA");
    refused_member("modules_to_save", "[\"lm_head\"]", DC_EUNKNOWN, "modules_to_save");
    refused_member("modules_to_save", "[]", DC_OK, "");
    refused_member("bias", "\"all\"", DC_EUNKNOWN, "bias 'all'");
    refused_member("fan_in_fan_out", "true", DC_EUNKNOWN, "fan_in_fan_out");
    refused_member("trainable_token_indices", "{\"embed_tokens\": [1]}", DC_EUNKNOWN, "trainable_token_indices");
    refused_member("target_parameters", "[\"x\"]", DC_EUNKNOWN, "target_parameters");
    refused_member("layer_replication", "[[0, 2]]", DC_EUNKNOWN, "layer_replication");
    refused_member("peft_type", "\"IA3\"", DC_EUNKNOWN, "IA3");
    refused_member("peft_type", "null", DC_EUNKNOWN, "(none)");
    refused_member("init_lora_weights", "\"pissa\"", DC_EUNKNOWN, "pissa");
    refused_member("init_lora_weights", "\"gaussian\"", DC_OK, "");
    refused_member("init_lora_weights", "true", DC_OK, "");
    refused_member("target_modules", "null", DC_EFORMAT, "target_modules");
    refused_member("target_modules", "[3]", DC_EFORMAT, "no string");
    refused_member("target_modules", "[]", DC_EUSAGE, "no linear is left");
    refused_member("target_modules", "[\"q_proj\", \"k_proj\"]", DC_EMISMATCH,
                   "lora_A of model.layers.0.self_attn.k_proj is missing");
    refused_member("target_modules", "[\"model.layers.0.self_attn.q_proj\"]", DC_EUNKNOWN,
                   "belongs to no targeted linear");
    refused_member("layers_to_transform", "1", DC_EUNKNOWN, "belongs to no targeted linear");
    refused_member("layers_to_transform", "[]", DC_OK, "");
    refused_member("r", "4", DC_EMISMATCH, "[8, 20], this model and rank need [4, 20]");
    refused_member("r", "1000000000000", DC_EUSAGE, "above its width");
    refused_member("r", "\"8\"", DC_EFORMAT, "r");
    refused_member("lora_dropout", "1.0", DC_EFORMAT, "lora_dropout");
    refused_member("lora_dropout", "-0.5", DC_EFORMAT, "lora_dropout");
    refused_member("rank_pattern", "{\"q_proj\": \"4\"}", DC_EFORMAT, "q_proj");
}

static void put_tensors(const dc_lora *l, size_t skip, size_t turned, const char *extra, float spoil)
{
    dc_st_writer *w = NULL;
    const float zero = 0;
    assert_int_equal(dc_st_writer_new(&w, NULL), DC_OK);
    for (size_t i = 0; i < l->n; i++) {
        const int64_t *shape = l->tensors[i].shape, other[2] = {shape[1], shape[0]};
        if (i != skip) dc_st_put_tensor(w, l->tensors[i].name, DC_F32, 2, i == turned ? other : shape);
    }
    if (extra) dc_st_put_tensor(w, extra, DC_F32, 1, &(const int64_t){1});
    assert_int_equal(dc_st_writer_begin(w, temp_path("bad/adapter_model.safetensors"), NULL), DC_OK);
    for (size_t i = 0; i < l->n; i++) {
        const int64_t n = l->tensors[i].shape[0] * l->tensors[i].shape[1];
        for (int64_t j = 0; i != skip && j < n; j++)
            assert_int_equal(
                dc_st_writer_data(w, i == 3 && j == n - 1 && spoil != 0 ? &spoil : &l->tensors[i].data[j], 4, NULL),
                DC_OK);
    }
    if (extra) assert_int_equal(dc_st_writer_data(w, &zero, 4, NULL), DC_OK);
    assert_int_equal(dc_st_writer_commit(w, NULL), DC_OK);
    dc_st_writer_free(w);
}

static void test_refused_tensors(void **state)
{
    (void)state;
    enum { NONE = 99 };
    good_and_bad();
    dc_lora_config c = targets(NAMES("q_proj"));
    dc_lora *l = NULL;
    assert_int_equal(dc_lora_new(&l, m, 2, &c, 7, 0, NULL), DC_OK);
    put_tensors(l, 3, NONE, NULL, 0);
    refused_file("bad", DC_EMISMATCH, "lora_B of model.layers.1.self_attn.q_proj is missing");
    put_tensors(l, 4, NONE, NULL, 0);
    refused_file("bad", DC_EMISMATCH, "lora_A of model.layers.2.self_attn.q_proj is missing");
    put_tensors(l, NONE, 2, NULL, 0);
    refused_file("bad", DC_EMISMATCH, "lora_A.weight is [20, 8], this model and rank need [8, 20]");
    put_tensors(l, NONE, NONE, "base_model.model.lm_head.weight", 0);
    refused_file("bad", DC_EUNKNOWN, "base_model.model.lm_head.weight belongs to no targeted linear");
    put_tensors(l, NONE, NONE, NULL, NAN);
    refused_file("bad", DC_ENUMERIC, "model.layers.1.self_attn.q_proj.lora_B.weight has a value that is not finite");
    put_tensors(l, NONE, NONE, NULL, INFINITY);
    refused_file("bad", DC_ENUMERIC, "not finite");
    put_tensors(l, NONE, NONE, NULL, 0);
    dc_lora *good = NULL;
    assert_int_equal(dc_lora_open(&good, m, 0, temp_path("bad"), 0, NULL), DC_OK);
    dc_lora_free(good);
    dc_lora_free(l);
    assert_int_equal(unlink(temp_path("bad/adapter_model.safetensors")), 0);
    refused_file("bad", DC_EIO, "adapter_model.safetensors");
    refused_file("nowhere", DC_EIO, "adapter_config.json");
}

static void test_cut_files(void **state)
{
    (void)state;
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    for (int k = 0; k < 2; k++) {
        good_and_bad();
        char path[64];
        snprintf(path, sizeof path, "bad/%s", files[k]);
        const int64_t size = dc_file_size(temp_path(path));
        for (int64_t cut = size - 2; cut >= 0; cut -= 1 + cut / 29) {
            dc_lora *l = NULL;
            assert_int_equal(truncate(temp_path(path), (off_t)cut), 0);
            assert_true(dc_lora_open(&l, m, 0, temp_path("bad"), 0, NULL) != DC_OK && !l);
        }
    }
}

static void test_memory(void **state)
{
    (void)state;
    dc_lora_config c = targets(NAMES(".*q_proj"));
    int rc = DC_ENOMEM;
    c.rank_pattern = &(const dc_pattern){"q_proj", 2}, c.n_rank_pattern = 1;
    c.exclude_modules = (const char *const[]){"k_proj"}, c.n_exclude = 1;
    dc_lora *l = NULL;
    for (long n = 1; rc != DC_OK; n++) {
        dc_alloc_fail_at(n);
        rc = dc_lora_new(&l, m, 0, &c, 7, 1, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 10 : rc == DC_ENOMEM && !l);
    }
    randomize(l);
    save(l, "memory");
    rc = DC_ENOMEM;
    for (long n = 1; rc != DC_OK; n++) {
        dc_alloc_fail_at(n);
        rc = dc_lora_save(l, temp_path("memory"), "b", NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 5 : rc == DC_ENOMEM);
        assert_false(dc_path_exists(temp_path("memory.tmp")));
    }
    dc_lora_free(l);
    rc = DC_ENOMEM;
    for (long n = 1; rc != DC_OK; n++) {
        l = NULL;
        dc_alloc_fail_at(n);
        rc = dc_lora_open(&l, m, 0, temp_path("memory"), 1, NULL);
        dc_alloc_fail_at(0);
        if (rc == DC_OK ? n <= 5 : rc != DC_ENOMEM || l) fail_msg("allocation %ld: %d", n, rc);
    }
    dc_alloc_fail_at(1);
    assert_int_equal(dc_lora_prepare_merge(l, NULL), DC_ENOMEM);
    dc_alloc_fail_at(0);
    dc_lora_free(l);
    dc_lora_free(NULL);
}

/* ---- merging ---- */

static void test_merge(void **state)
{
    (void)state;
    dc_lora_config c = targets(NAMES("q_proj", "down_proj"));
    c.r = 5, c.lora_alpha = 3;
    dc_lora *l = make(&c);
    for (int round = 0; round < 2; round++) { /* again behind a change of the values */
        for (size_t i = 0; i < l->n; i++)
            tiny_fill(l->tensors[i].data, l->tensors[i].shape[0] * l->tensors[i].shape[1], 0.5, (size_t)round * 77 + i);
        assert_int_equal(dc_lora_prepare_merge(l, NULL), DC_OK);
        for (size_t k = 0; k < m->n_weights; k++) {
            const dc_weight *w = &m->weights[k];
            const int64_t cols = w->spec.n_dims == 2 ? w->spec.shape[1] : 1, first = 2, n = w->spec.shape[0] - 3;
            float *got = malloc((size_t)(n * cols) * sizeof *got), *base = malloc((size_t)(n * cols) * sizeof *base);
            dc_lora_merged_rows(l, w, got, first, n);
            dc_weight_rows(m, w, base, first, n);
            const dc_delta *d = NULL;
            for (size_t i = 0; i < l->n_linears; i++)
                if (dc_model_linear_at(m, i)->w == w && l->targets[i].r) d = dc_model_linear_at(m, i)->delta[0];
            assert_true(!d == !(w->spec.role == DC_W_Q || w->spec.role == DC_W_DOWN));
            for (int64_t i = 0; i < n * cols; i++) {
                double want = (double)base[i];
                for (int64_t r = 0; d && r < 5; r++)
                    want += 3.0 / 5 * (double)d->B[(first + i / cols) * 5 + r] * (double)d->A[r * cols + i % cols];
                assert_true(fabs((double)got[i] - want) <= (d ? 3e-7 : 0)); /* terms of at most 0.25 * 0.6 */
            }
            free(got), free(base);
        }
    }
    dc_lora_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),         cmocka_unit_test(test_layers),
        cmocka_unit_test(test_patterns),        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_first_values),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_half_files),
        cmocka_unit_test(test_refused_members), cmocka_unit_test(test_refused_tensors),
        cmocka_unit_test(test_cut_files),       cmocka_unit_test(test_memory),
        cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
