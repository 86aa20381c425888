/* tests/model/test_model_save.c -- HF directories written, hashes and copies. */
#include "tests/model/tiny_files.h"

#include <math.h>
#include <signal.h>

#include "core/safetensors.h"
#include "core/stop.h"

static dc_model *open_ok(const char *path)
{
    dc_error err = {0};
    dc_model *m = NULL;
    OK(dc_model_open(&m, fixture_dev, path, NULL, &err), err);
    return m;
}

static void assert_same_file(const char *a, const char *b)
{
    dc_error err = {0};
    dc_str ta = {0}, tb = {0};
    OK(dc_file_read(&ta, a, 1 << 24, &err), err);
    OK(dc_file_read(&tb, b, 1 << 24, &err), err);
    assert_int_equal(ta.n, tb.n);
    assert_memory_equal(ta.data, tb.data, ta.n);
    dc_str_release(&ta), dc_str_release(&tb);
}

/* Saved, opened and saved again: the same bytes, for each family and type. */
static void a_saved_model_is_saved_alike(void **state)
{
    (void)state;
    static const dc_dtype types[] = {DC_F32, DC_F16, DC_BF16};
    for (size_t i = 0; i < FIXTURES; i++)
        for (size_t k = 0; k < 3; k++) {
            dc_error err = {0};
            dc_model *m = fixture_model(fixture_configs[i]);
            OK(dc_model_save(m, temp_path("one"), types[k], 0, NULL, NULL, &err), err);
            dc_model *again = open_ok(temp_path("one"));
            OK(dc_model_save(again, temp_path("two"), DC_DTYPE_NONE, 0, NULL, NULL, &err), err);
            assert_same_file(temp_path("one/model.safetensors"), temp_path("two/model.safetensors"));
            assert_same_file(temp_path("one/config.json"), temp_path("two/config.json"));
            dc_model_free(again);
            dc_model_free(m);
        }
}

static void tensors_stand_in_their_order(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_st *s = NULL;
    dc_model *m = fixture_model(fixture_configs[1]);
    OK(dc_model_save(m, temp_path("order"), DC_BF16, 0, NULL, NULL, &err), err);
    OK(dc_st_open(&s, temp_path("order"), &err), err);
    assert_int_equal(dc_st_n(s), m->n_weights);
    assert_string_equal(dc_st_metadata(s, "format"), "pt");
    const uint8_t *last = NULL;
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_st_tensor *t = dc_st_find(s, m->weights[i].spec.hf);
        assert_true(t && t->type == DC_BF16 && t->n_dims == m->weights[i].spec.n_dims && (!last || t->data > last));
        last = t->data;
    }
    dc_st_close(s);
    dc_model_free(m);
}

static void shards_hold_at_most_their_size(void **state)
{
    (void)state;
    enum { SHARD = 20000 };
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[2]);
    OK(dc_model_save(m, temp_path("shards"), DC_F32, SHARD, NULL, NULL, &err), err);
    char **names;
    size_t n, shards = 0;
    OK(dc_dir_list(&names, &n, temp_path("shards"), &err), err);
    for (size_t i = 0; i < n; i++) {
        if (!strstr(names[i], "-of-")) continue;
        dc_st *s = NULL;
        int64_t bytes = 0;
        char path[128];
        snprintf(path, sizeof path, "shards/%s", names[i]);
        OK(dc_st_open(&s, temp_path(path), &err), err);
        for (int64_t k = 0; k < dc_st_n(s); k++) bytes += dc_st_at(s, k)->bytes;
        assert_true(bytes <= SHARD && bytes > 0);
        dc_st_close(s);
        shards++;
    }
    dc_names_free(names);
    assert_true(shards > 3);
    json_t *index = NULL;
    OK(dc_json_load(&index, temp_path("shards/model.safetensors.index.json"), &err), err);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")),
                     dc_model_bytes(m));
    assert_int_equal(json_object_size(json_object_get(index, "weight_map")), m->n_weights);
    json_decref(index);
    dc_model *got = open_ok(temp_path("shards"));
    assert_same_weights(got, m, DC_F32, DC_F32, NULL);
    dc_model_free(got);
    dc_model_free(m);
}

/* The weights of the model before must not stay: a loader would read them. Other files are not touched. */
static void earlier_weights_are_removed(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[0]);
    OK(dc_model_save(m, temp_path("stale"), DC_F32, 20000, NULL, NULL, &err), err);
    temp_write("stale/tokenizer.json", "{}", 2);
    temp_write("stale/model-notes.txt", "", 0);
    OK(dc_model_save(m, temp_path("stale"), DC_F32, 0, NULL, NULL, &err), err);
    char **names;
    size_t n;
    OK(dc_dir_list(&names, &n, temp_path("stale"), &err), err);
    assert_int_equal(n, 4);
    assert_string_equal(names[0], "config.json");
    assert_string_equal(names[1], "model-notes.txt");
    assert_string_equal(names[2], "model.safetensors");
    dc_names_free(names);
    OK(dc_model_save(m, temp_path("stale"), DC_F32, 30000, NULL, NULL, &err), err);
    OK(dc_model_save(m, temp_path("stale"), DC_F32, 20000, NULL, NULL, &err), err);
    assert_false(dc_path_exists(temp_path("stale/model.safetensors")));
    dc_model *got = open_ok(temp_path("stale"));
    assert_same_weights(got, m, DC_F32, DC_F32, NULL);
    dc_model_free(got);
    dc_model_free(m);
}

static void a_quantized_model_becomes_f32(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[1]);
    fixture_gguf(m, temp_path("q.gguf"), DC_Q4_0, NULL);
    dc_model *q = open_ok(temp_path("q.gguf"));
    OK(dc_model_save(q, temp_path("q"), DC_DTYPE_NONE, 0, NULL, NULL, &err), err);
    dc_model *got = open_ok(temp_path("q"));
    assert_int_equal(got->config.dtype, DC_F32);
    assert_same_weights(got, m, DC_Q4_0, DC_F32, NULL);
    assert_memory_equal(got->inv_freq, m->inv_freq, (size_t)(m->config.n_rot / 2) * sizeof(float));
    dc_model_free(got), dc_model_free(q), dc_model_free(m);
}

/* ---- rows by a callback ---- */

typedef struct merge {
    const dc_model *m;
    float add;
} merge;

static void merged_rows(void *context, const dc_weight *w, float *out, int64_t row, int64_t n)
{
    const merge *g = context;
    dc_weight_rows(g->m, w, out, row, n);
    if (w->spec.role != DC_W_UP) return;
    for (int64_t i = 0; i < n * spec_columns(&w->spec); i++)
        out[i] += g->add * (float)(row * spec_columns(&w->spec) + i);
}

static void a_callback_gives_other_rows(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[2]);
    merge g = {m, 0.25f};
    OK(dc_model_save(m, temp_path("merged"), DC_F32, 0, merged_rows, &g, &err), err);
    dc_model *got = open_ok(temp_path("merged"));
    for (int64_t i = 0; i < 64 * 32; i++) m->layers[1].up.w->owned[i] += 0.25f * (float)i;
    for (int64_t l = 0; l < 3; l += 2)
        for (int64_t i = 0; i < 64 * 32; i++) m->layers[l].up.w->owned[i] += 0.25f * (float)i;
    assert_same_weights(got, m, DC_F32, DC_F32, NULL);
    dc_model_free(got);

    g.add = NAN;
    assert_int_equal(dc_model_save(m, temp_path("nan"), DC_F32, 0, merged_rows, &g, &err), DC_ENUMERIC);
    assert_refused(&err, DC_ENUMERIC, "tensor model.layers.0.mlp.up_proj.weight: the value");
    assert_false(dc_path_exists(temp_path("nan/model.safetensors")));
    assert_false(dc_path_exists(temp_path("nan/config.json")));
    g.add = 1000;
    assert_int_equal(dc_model_save(m, temp_path("nan"), DC_F16, 0, merged_rows, &g, &err), DC_ENUMERIC);
    assert_refused(&err, DC_ENUMERIC, "cannot be written as F16; choose bfloat16 or float32");
    OK(dc_model_save(m, temp_path("nan"), DC_BF16, 0, merged_rows, &g, &err), err);
    dc_model_free(m);
}

/* ---- failures ---- */

static void what_cannot_be_written_is_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[0]);
    assert_int_equal(dc_model_save(m, temp_path("x"), DC_Q8_0, 0, NULL, NULL, &err), DC_EUSAGE);
    assert_refused(&err, DC_EUSAGE, "F32, F16 or BF16, not Q8_0");
    temp_write("file", "", 0);
    assert_int_equal(dc_model_save(m, temp_path("file"), DC_F32, 0, NULL, NULL, &err), DC_EIO);
    assert_refused(&err, DC_EIO, "file");
    dc_stop_request(SIGUSR1);
    assert_int_equal(dc_model_save(m, temp_path("x"), DC_F32, 0, NULL, NULL, &err), DC_ESTOPPED);
    dc_stop_request(0);
    assert_false(dc_path_exists(temp_path("x/model.safetensors")));
    dc_model_free(m);
}

static void failing_allocations_are_survived(void **state)
{
    (void)state;
    dc_model *m = fixture_model(fixture_configs[0]);
    for (int what = 0; what < 3; what++) {
        for (long n = 1;; n++) {
            dc_error err = {0};
            dc_model *copy = NULL;
            dc_hash hash;
            dc_alloc_fail_at(n);
            const int rc = what == 0   ? dc_model_save(m, temp_path("oom"), DC_F16, 20000, NULL, NULL, &err)
                           : what == 1 ? dc_model_copy(&copy, m, NULL, &err)
                                       : dc_model_hash(&hash, m, &err);
            dc_alloc_fail_at(0);
            dc_model_free(copy);
            if (rc == DC_OK) break;
            assert_int_equal(rc, DC_ENOMEM);
            assert_null(copy);
        }
    }
    dc_model_free(m);
}

/* ---- hash and copy ---- */

static dc_hash hash_of(const dc_model *m)
{
    dc_error err = {0};
    dc_hash h;
    OK(dc_model_hash(&h, m, &err), err);
    return h;
}

static void a_hash_sees_every_change(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[2]), *same = fixture_model(fixture_configs[2]);
    const dc_hash h = hash_of(m), again = hash_of(same);
    assert_true(dc_hash_equal(&h, &again));
    float *places[] = {&m->embed->owned[0], &m->layers[2].down.w->owned[64 * 32 - 1], &m->final_norm->owned[31]};
    for (int i = 0; i < 3; i++) {
        const float old = *places[i];
        *places[i] = nextafterf(old, 2);
        const dc_hash other = hash_of(m);
        assert_false(dc_hash_equal(&h, &other));
        *places[i] = old;
    }
    m->config.rope.theta = 5000;
    const dc_hash other = hash_of(m);
    assert_false(dc_hash_equal(&h, &other));
    OK(dc_model_save(same, temp_path("hash"), DC_F16, 0, NULL, NULL, &err), err);
    dc_model *half = open_ok(temp_path("hash"));
    const dc_hash halves = hash_of(half);
    assert_false(dc_hash_equal(&h, &halves));
    dc_model_free(half), dc_model_free(m), dc_model_free(same);
}

static void copies_are_f32_of_chosen_layers(void **state)
{
    (void)state;
    static const int64_t keep[] = {1, 2};
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[1]);
    fixture_gguf(m, temp_path("copy.gguf"), DC_Q8_0, NULL);
    dc_model *q = open_ok(temp_path("copy.gguf")), *all = NULL, *some = NULL;
    OK(dc_model_copy(&all, q, NULL, &err), err);
    OK(dc_model_copy(&some, q, &(dc_model_options){.keep_layers = keep, .n_keep = 2}, &err), err);
    dc_model_free(q); /* a copy needs nothing of its source */
    assert_true(all->trainable && all->embed->owned && all->embed->grad && all->embed->grad[7] == 0);
    assert_true(!some->trainable && !some->embed->owned && !some->embed->grad && some->config.L == 2);
    assert_same_weights(all, m, DC_Q8_0, DC_F32, NULL);
    assert_same_weights(some, m, DC_Q8_0, DC_F32, keep);
    dc_model *none = NULL;
    assert_int_equal(dc_model_copy(&none, m, &(dc_model_options){.keep_layers = (int64_t[]){5}, .n_keep = 1}, &err),
                     DC_EUSAGE);
    dc_model_free(all), dc_model_free(some), dc_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_model_is_saved_alike),      cmocka_unit_test(tensors_stand_in_their_order),
        cmocka_unit_test(shards_hold_at_most_their_size),    cmocka_unit_test(earlier_weights_are_removed),
        cmocka_unit_test(a_quantized_model_becomes_f32),     cmocka_unit_test(a_callback_gives_other_rows),
        cmocka_unit_test(what_cannot_be_written_is_refused), cmocka_unit_test(failing_allocations_are_survived),
        cmocka_unit_test(a_hash_sees_every_change),          cmocka_unit_test(copies_are_f32_of_chosen_layers),
    };
    dc_log_set_level(DC_LOG_ERROR);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
