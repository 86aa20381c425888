/* tests/export/test_gguf_model.c -- models as GGUF: every type and family read back, merged rows, widths, planted faults, kills. */
#include "export/gguf_model.h"

#include "tests/data/tok_small.h"
#include "tests/model/tiny_files.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/pool.h"
#include "core/stop.h"
#include "export/gguf_private.h"

#define EXPORT_SIZES \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, " \
    "\"vocab_size\": 288, \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5"

static const char *const configs[] = {
    "{\"model_type\": \"llama\", \"hidden_size\": 32, \"intermediate_size\": 64, " EXPORT_SIZES
    ", \"tie_word_embeddings\": true}",
    "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, " EXPORT_SIZES
    ", \"attention_bias\": true, \"mlp_bias\": true, \"rope_theta\": 10000.3, \"rope_scaling\": "
    "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
    "\"original_max_position_embeddings\": 64}}",
    "{\"model_type\": \"qwen2\", \"hidden_size\": 64, \"intermediate_size\": 96, " EXPORT_SIZES
    ", \"rope_theta\": 1000000.0}",
    "{\"model_type\": \"qwen3\", \"hidden_size\": 32, \"intermediate_size\": 64, " EXPORT_SIZES
    ", \"head_dim\": 16, \"tie_word_embeddings\": true}",
    /* rows of 40 and 72: no block of 32 fits */
    "{\"model_type\": \"llama\", \"hidden_size\": 40, \"intermediate_size\": 72, " EXPORT_SIZES "}",
};
enum { CONFIGS = sizeof configs / sizeof *configs, ODD_WIDTH = CONFIGS - 1 };

static const dc_dtype asked[] = {DC_F32, DC_F16, DC_BF16, DC_Q8_0, DC_Q4_0};
enum { TYPES = sizeof asked / sizeof *asked };

static dc_tokenizer *tokenizer;

static int setup(void **state)
{
    dc_str text = {0};
    dc_error err = {0};
    if (fixture_setup(state)) return -1;
    dc_pool_set_threads(1);
    small_json(&text, &(small){0});
    OK(dc_tokenizer_open(&tokenizer, temp_write("tokenizer.json", text.data, text.n), &err), err);
    dc_str_release(&text);
    return 0;
}

static int teardown(void **state)
{
    dc_tokenizer_free(tokenizer);
    return fixture_teardown(state);
}

static dc_export_result export_ok(const char *path, const dc_model *m, const dc_export_options *o)
{
    dc_error err = {0};
    dc_export_result result;
    int64_t forecast;
    OK(dc_export_size(&forecast, m, tokenizer, o, &err), err);
    OK(dc_export_gguf(path, m, tokenizer, o, &result, &err), err);
    assert_true(result.bytes == dc_file_size(path));
    assert_true(result.bytes == forecast || (!o->name && llabs(result.bytes - forecast) <= 64));
    assert_false(dc_path_exists(temp_path("m.gguf.part")));
    assert_false(dc_path_exists(temp_path("m.gguf.part.tmp")));
    return result;
}

/* What llama.cpp reads: each row of the file is the row of the model that convert_hf_to_gguf.py puts there, in the type expected. */
static void check_file(const char *path, const dc_model *m, dc_dtype type, const dc_export_result *result)
{
    dc_gguf *g = NULL;
    dc_error err = {0};
    int64_t tensors = 0, fallbacks = 0;
    const int llama = !strcmp(dc_family_gguf_arch(m->config.family), "llama");
    OK(dc_gguf_open(&g, path, &err), err);
    for (size_t i = 0; i < m->n_weights; i++) {
        const dc_weight *w = &m->weights[i];
        const dc_tensor_spec *s = &w->spec;
        const dc_gguf_tensor *t = dc_gguf_tensor_find(g, s->gguf);
        const int64_t columns = spec_columns(s);
        const int head = s->role == DC_W_HEAD || (s->role == DC_W_EMBED && m->config.tied);
        dc_dtype want = s->n_dims < 2 ? DC_F32 : type == DC_Q4_0 && head ? DC_Q8_0 : type;
        if (columns % dc_dtype_get(want)->block && s->n_dims == 2) want = DC_F16, fallbacks++;
        assert_non_null(t);
        assert_int_equal(t->type, want);
        assert_true(t->ne[0] == (s->n_dims == 2 ? columns : s->shape[0]) &&
                    t->ne[1] == (s->n_dims == 2 ? s->shape[0] : 1));
        const int q = s->role == DC_W_Q || s->role == DC_W_Q_BIAS, k = s->role == DC_W_K || s->role == DC_W_K_BIAS;
        const int64_t heads = llama && q ? m->config.H : llama && k ? m->config.K : 0;
        for (int64_t row = 0; row < s->shape[0]; row++) {
            float meant[FIXTURE_ROW], read[FIXTURE_ROW];
            dc_weight_rows(m, w, meant, heads ? hf_row_of_gguf(s, heads, row) : row, 1);
            through_type(meant, want, columns);
            dc_row_reader(want, 0)(read, t->data + row * dc_dtype_bytes(want, columns), columns);
            if (memcmp(meant, read, (size_t)columns * sizeof *read)) fail_msg("%s, row %lld", s->gguf, (long long)row);
        }
        tensors++;
    }
    float freqs[DC_ROPE_PAIRS];
    if (dc_config_rope_freqs(freqs, &m->config)) {
        const dc_gguf_tensor *t = dc_gguf_tensor_find(g, "rope_freqs.weight");
        assert_true(t && t->ne[0] == m->config.n_rot / 2);
        assert_memory_equal(t->data, freqs, (size_t)t->bytes);
        tensors++;
    }
    assert_true(dc_gguf_n_tensors(g) == tensors && result->tensors == tensors && result->fallbacks == fallbacks);
    dc_gguf_close(g);
}

static void test_types(void **state)
{
    (void)state;
    for (size_t c = 0; c < CONFIGS; c++) {
        dc_model *m = fixture_model(configs[c]);
        double before = 0;
        for (size_t k = 0; k < TYPES; k++) {
            const dc_export_options o = {.type = asked[k]};
            const char *path = temp_path("m.gguf");
            dc_model *back = NULL;
            dc_tokenizer *read = NULL;
            dc_error err = {0};
            const dc_export_result result = export_ok(path, m, &o);
            check_file(path, m, asked[k], &result);
            if (asked[k] == DC_F32) assert_true(result.worst_error == 0);
            else assert_true(result.worst_error > 0 && result.worst_error < 0.13);
            before += result.worst_error;
            OK(dc_model_open(&back, fixture_dev, path, NULL, &err), err);
            assert_true(back->config.V == m->config.V && back->config.tied == m->config.tied &&
                        back->n_weights == m->n_weights);
            if (asked[k] == DC_F32) assert_same_weights(back, m, DC_F32, DC_F32, NULL);
            OK(dc_tokenizer_open(&read, path, &err), err);
            OK(dc_tokenizer_same(tokenizer, read, "a", "b", &err), err);
            dc_tokenizer_free(read);
            dc_model_free(back);
        }
        assert_true(before > 0);
        dc_model_free(m);
    }
}

static const char *text_of(dc_gguf *g, const char *key)
{
    const char *text;
    assert_int_equal(dc_gguf_str(&text, g, key, "(none)", NULL), DC_OK);
    return text;
}

static void test_keys(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[0]);
    dc_export_options o = {.type = DC_Q8_0, .license = "apache-2.0", .base_model = "Base 1B"};
    dc_gguf *g = NULL;
    int64_t number;
    export_ok(temp_path("small.gguf-1.gguf"), m, &o);
    assert_int_equal(dc_gguf_open(&g, temp_path("small.gguf-1.gguf"), NULL), DC_OK);
    assert_string_equal(text_of(g, "general.name"), "small.gguf-1");
    assert_string_equal(text_of(g, "general.architecture"), "llama");
    assert_string_equal(text_of(g, "general.type"), "model");
    assert_string_equal(text_of(g, "general.license"), "apache-2.0");
    assert_string_equal(text_of(g, "general.base_model.0.name"), "Base 1B");
    assert_int_equal(dc_gguf_i64(&number, g, "general.file_type", -1, NULL), DC_OK);
    assert_int_equal(number, 7);
    assert_int_equal(dc_gguf_i64(&number, g, "general.quantization_version", -1, NULL), DC_OK);
    assert_int_equal(number, 2);
    assert_int_equal(dc_gguf_find(g, "tokenizer.ggml.tokens")->n, 288); /* padded to the embedding's rows */
    dc_gguf_close(g);
    o = (dc_export_options){.type = DC_F16, .name = "a.gguf"};
    export_ok(temp_path("m.gguf"), m, &o);
    assert_int_equal(dc_gguf_open(&g, temp_path("m.gguf"), NULL), DC_OK);
    assert_string_equal(text_of(g, "general.name"), "a.gguf");
    assert_null(dc_gguf_find(g, "general.license"));
    dc_gguf_close(g);
    dc_dtype type;
    dc_error err = {0};
    assert_int_equal(dc_export_type(&type, "q4_0", NULL), DC_OK);
    assert_int_equal(type, DC_Q4_0);
    assert_int_equal(dc_export_type(&type, "q5_9", &err), DC_EUNKNOWN);
    assert_refused(&err, DC_EUNKNOWN, "q8_0");
    dc_model_free(m);
}

/* Rows that somebody else gives, here of another sign, stand in the file: vectors as well. */
static void negated(void *context, const dc_weight *w, float *out, int64_t row, int64_t n)
{
    dc_weight_rows(context, w, out, row, n);
    for (int64_t i = 0; i < n * spec_columns(&w->spec); i++) out[i] = -out[i];
}

static void test_given_rows(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[1]);
    const dc_export_options o = {.type = DC_F16, .rows = negated, .rows_context = m};
    const dc_export_result result = export_ok(temp_path("m.gguf"), m, &o);
    for (size_t i = 0; i < m->n_weights; i++)
        for (int64_t k = 0; k < m->weights[i].spec.shape[0] * spec_columns(&m->weights[i].spec); k++)
            m->weights[i].owned[k] *= -1;
    check_file(temp_path("m.gguf"), m, DC_F16, &result);
    dc_model_free(m);
}

/* Magnitudes for which a quantized row's scale is a subnormal half, or nothing; and one that F16 cannot hold. */
static void test_magnitudes(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[2]);
    float *up = dc_model_find(m, DC_W_UP, 0)->owned;
    const int64_t rows = 96, cols = 64;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) up[r * cols + c] *= r < 90 ? powf(10, -(float)r / 9) : 0;
    for (size_t k = 0; k < TYPES; k++) {
        const dc_export_options o = {.type = asked[k]};
        const dc_export_result result = export_ok(temp_path("m.gguf"), m, &o);
        check_file(temp_path("m.gguf"), m, asked[k], &result);
    }
    /* Nearly half a step off everywhere, with the scale rounded by most of half a unit. */
    for (int64_t r = 0; r < rows; r++) {
        const float d = 1 + (float)r * 0x1p-17f;
        for (int64_t c = 0; c < cols; c++) up[r * cols + c] = d * (c % 32 ? (float)(126 - c % 32) + 0.499f : 127);
    }
    const dc_export_options q8 = {.type = DC_Q8_0}, f16 = {.type = DC_F16};
    export_ok(temp_path("m.gguf"), m, &q8);
    dc_export_result result;
    dc_error err = {0};
    up[5] = 70000;
    assert_int_equal(dc_export_gguf(temp_path("big.gguf"), m, tokenizer, &f16, &result, &err), DC_ENUMERIC);
    assert_refused(&err, DC_ENUMERIC, "row 0 of blk.0.ffn_up.weight");
    assert_false(dc_path_exists(temp_path("big.gguf")));
    assert_false(dc_path_exists(temp_path("big.gguf.part")));
    up[5] = NAN;
    assert_int_equal(dc_export_gguf(temp_path("big.gguf"), m, tokenizer, &q8, &result, &err), DC_ENUMERIC);
    assert_refused(&err, DC_ENUMERIC, "row 0 of blk.0.ffn_up.weight");
    dc_model_free(m);
}

static void flip(const char *path, int64_t at, uint8_t mask)
{
    uint8_t byte;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= mask;
    assert_true(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

/* A fault in the written file is found: in each tensor, in the metadata, in the tokenizer. */
static void test_planted_faults(void **state)
{
    (void)state;
    for (size_t c = 0; c < 3; c++)
        for (size_t k = 0; k < TYPES; k++) {
            dc_model *m = fixture_model(configs[c]);
            const dc_export_options o = {.type = asked[k]};
            const char *path = temp_path("m.gguf");
            dc_gguf *g = NULL;
            dc_error err = {0};
            double worst;
            export_ok(path, m, &o);
            OK(dc_export_check(path, m, tokenizer, &o, &worst, &err), err);
            assert_int_equal(dc_gguf_open(&g, path, NULL), DC_OK);
            for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
                const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
                if (!strcmp(t->name, "rope_freqs.weight")) continue;
                /* The sign of a value in the middle; of a Q block its scale's. The offset within the file: found by content. */
                const int64_t block = dc_dtype_get(t->type)->bytes,
                              at = t->bytes / 2 / block * block + (t->type == DC_F32 ? 3 : 1);
                int64_t start = dc_file_size(path);
                for (int64_t j = dc_gguf_n_tensors(g) - 1; j >= i; j--)
                    start -= (dc_gguf_tensor_at(g, j)->bytes + 31) / 32 * 32;
                flip(path, start + at, 0xC0);
                const int rc = dc_export_check(path, m, tokenizer, &o, &worst, &err);
                if (rc == DC_OK || !strstr(err.message, t->name))
                    fail_msg("type %zu, %s: not found (%s)", k, t->name, err.message);
                err = (dc_error){0};
                flip(path, start + at, 0xC0);
            }
            OK(dc_export_check(path, m, tokenizer, &o, &worst, &err), err);
            dc_gguf_close(g);
            dc_model_free(m);
        }
}

/* What was written for one model is not taken for another. */
static void test_other_config(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[2]);
    const dc_export_options o = {.type = DC_F16}, other = {.type = DC_F32};
    double worst;
    dc_error err = {0};
    export_ok(temp_path("m.gguf"), m, &o);
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &other, &worst, &err), DC_EFORMAT);
    assert_refused(&err, DC_EFORMAT, "another shape or type");
    const dc_config c = m->config;
    m->config.rope.theta = 990000;
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &o, &worst, &err), DC_EFORMAT);
    assert_refused(&err, DC_EFORMAT, "the config");
    m->config = c;
    m->config.rms_eps = 1e-6f;
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &o, &worst, NULL), DC_EFORMAT);
    m->config = c;
    m->config.max_position = 64;
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &o, &worst, NULL), DC_EFORMAT);
    m->config = c;
    m->config.logit_scale = 0.5f;
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &o, &worst, NULL), DC_EFORMAT);
    m->config = c;
    assert_int_equal(dc_export_check(temp_path("m.gguf"), m, tokenizer, &o, &worst, NULL), DC_OK);
    dc_model_free(m);
}

/* A full disk, a stop, no memory: nothing under the name, or what stood there before. */
static void test_failures(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[0]);
    const dc_export_options o = {.type = DC_Q8_0};
    dc_export_result result;
    dc_error err = {0};
    const char *path = temp_path("fail.gguf");
    struct rlimit kept;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &kept);
    const struct rlimit limit = {30000, kept.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const int rc = dc_export_gguf(path, m, tokenizer, &o, &result, &err);
    setrlimit(RLIMIT_FSIZE, &kept);
    assert_int_equal(rc, DC_EIO);
    assert_refused(&err, DC_EIO, "fail.gguf");
    dc_stop_request(SIGTERM);
    assert_int_equal(dc_export_gguf(path, m, tokenizer, &o, &result, NULL), DC_ESTOPPED);
    dc_stop_request(0);
    int failed = DC_ENOMEM;
    for (long n = 1; failed != DC_OK; n++) {
        assert_false(dc_path_exists(path));
        assert_false(dc_path_exists(temp_path("fail.gguf.part")));
        assert_false(dc_path_exists(temp_path("fail.gguf.part.tmp")));
        dc_alloc_fail_at(n);
        failed = dc_export_gguf(temp_path("fail.gguf"), m, tokenizer, &o, &result, &err);
        dc_alloc_fail_at(0);
        if (failed == DC_OK ? n <= 20 : failed != DC_ENOMEM) fail_msg("allocation %ld: %d, %s", n, failed, err.message);
        err = (dc_error){0};
    }
    dc_model_free(m);
}

static void test_kill(void **state)
{
    (void)state;
    dc_model *m = fixture_model(configs[1]);
    const dc_export_options o = {.type = DC_Q4_0};
    const char *path = temp_path("kill.gguf");
    unsigned seed = 99;
    for (int round = 0; round < 20; round++) {
        remove(path);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            dc_export_result result;
            dc_export_gguf(path, m, tokenizer, &o, &result, NULL);
            _exit(0);
        }
        usleep((useconds_t)(rand_r(&seed) % 6000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (!dc_path_exists(path)) continue;
        double worst;
        assert_int_equal(dc_export_check(path, m, tokenizer, &o, &worst, NULL), DC_OK);
    }
    export_ok(path, m, &o);
    dc_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),      cmocka_unit_test(test_keys),           cmocka_unit_test(test_given_rows),
        cmocka_unit_test(test_magnitudes), cmocka_unit_test(test_planted_faults), cmocka_unit_test(test_other_config),
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_kill),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
