/* tests/model/test_model_open.c -- HF directories and GGUF files become the same models; every refusal names file and tensor. */
#include "tests/model/tiny_files.h"

#include <math.h>
#include <signal.h>

#include "core/safetensors.h"
#include "core/stop.h"

static dc_model *open_ok(const char *path, const dc_model_options *options)
{
    dc_error err = {0};
    dc_model *m = NULL;
    OK(dc_model_open(&m, fixture_dev, path, options, &err), err);
    return m;
}

static void refused(const char *path, const dc_model_options *options, int code, const char *message)
{
    dc_error err = {0};
    dc_model *m = NULL;
    if (dc_model_open(&m, fixture_dev, path, options, &err) == DC_OK) fail_msg("opened, expected '%s'", message);
    assert_null(m);
    assert_refused(&err, code, message);
}

/* ---- what is read ---- */

static void hf_directories_are_read(void **state)
{
    (void)state;
    static const dc_dtype types[] = {DC_F32, DC_F16, DC_BF16};
    for (size_t i = 0; i < FIXTURES; i++)
        for (size_t k = 0; k < 3; k++)
            for (int trainable = 0; trainable < 2; trainable++) {
                dc_error err = {0};
                dc_model_options o = dc_model_defaults();
                o.trainable = trainable;
                dc_model *m = fixture_model(fixture_configs[i]);
                OK(dc_model_save(m, temp_path("hf"), types[k], k == 1 ? 9000 : 0, NULL, NULL, &err), err);
                dc_model *got = open_ok(temp_path("hf"), &o);
                assert_int_equal(got->n_weights, m->n_weights);
                assert_int_equal(got->config.dtype, types[k]);
                assert_int_equal(got->embed->data.type, trainable ? DC_F32 : types[k]);
                assert_int_equal(got->final_norm->data.type, DC_F32);
                assert_true((got->embed->grad != NULL) == trainable && (got->embed->owned != NULL) == trainable);
                assert_true(!trainable || (got->embed->grad[0] == 0 && got->embed->owned == got->embed->data.data));
                assert_true((got->head.w == got->embed) == got->config.tied);
                assert_same_weights(got, m, types[k], types[k], NULL);
                dc_model_free(got);
                dc_model_free(m);
            }
}

static void gguf_files_are_read(void **state)
{
    (void)state;
    static const dc_dtype types[] = {DC_F32, DC_F16, DC_BF16, DC_Q8_0, DC_Q4_0};
    for (size_t i = 0; i < FIXTURES; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            for (int trainable = 0; trainable < 2; trainable++) {
                dc_model_options o = dc_model_defaults();
                o.trainable = trainable;
                dc_model *m = fixture_model(fixture_configs[i]);
                fixture_gguf(m, temp_path("m.gguf"), types[k], NULL);
                dc_model *got = open_ok(temp_path("m.gguf"), &o);
                assert_int_equal(got->n_weights, m->n_weights);
                assert_int_equal(got->layers[1].q.w->data.type, trainable ? DC_F32 : types[k]);
                assert_int_equal(got->config.dtype, types[k]);
                assert_memory_equal(got->inv_freq, m->inv_freq, (size_t)(m->config.n_rot / 2) * sizeof(float));
                assert_same_weights(got, m, types[k], DC_F32, NULL);
                dc_model_free(got);
                dc_model_free(m);
            }
}

static void gguf_rows_are_where_the_converter_puts_them(void **state)
{
    (void)state;
    const dc_tensor_spec s = {.n_dims = 2, .shape = {64, 32}, .permute_heads = 4},
                         same = {.n_dims = 2, .shape = {64, 32}};
    for (int64_t row = 0; row < 64; row++) {
        assert_int_equal(dc_gguf_row(&s, row), hf_row_of_gguf(&s, 4, row));
        assert_int_equal(dc_gguf_row(&same, row), row);
    }
}

static void frozen_weights_stay_in_the_file(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[2]);
    OK(dc_model_save(m, temp_path("map"), DC_F32, 0, NULL, NULL, &err), err);
    dc_model *a = open_ok(temp_path("map"), NULL);
    /* The map of a file is shared: what is written to the file through another descriptor shows in the weights. */
    const float old = ((const float *)a->layers[2].down.w->data.data)[5], now = old + 1;
    dc_map map;
    OK(dc_map_open(&map, temp_path("map/model.safetensors"), &err), err);
    int64_t at = 0;
    while (memcmp(map.data + at, a->layers[2].down.w->data.data, 64)) at++;
    dc_map_close(&map);
    FILE *f = fopen(temp_path("map/model.safetensors"), "r+b");
    assert_true(f && fseek(f, (long)at + 20, SEEK_SET) == 0 && fwrite(&now, 4, 1, f) == 1 && fclose(f) == 0);
    assert_true(((const float *)a->layers[2].down.w->data.data)[5] == now);
    dc_model_free(a);
    dc_model_free(m);
}

static void chosen_layers_are_kept(void **state)
{
    (void)state;
    static const int64_t keep[] = {0, 2};
    for (int gguf = 0; gguf < 2; gguf++)
        for (int trainable = 0; trainable < 2; trainable++) {
            dc_error err = {0};
            const dc_model_options o = {.trainable = trainable, .keep_layers = keep, .n_keep = 2, .check_finite = 1};
            dc_model *m = fixture_model(fixture_configs[1]);
            const char *path = temp_path(gguf ? "keep.gguf" : "keep");
            if (gguf) fixture_gguf(m, path, DC_F32, NULL);
            else OK(dc_model_save(m, path, DC_F32, 0, NULL, NULL, &err), err);
            dc_model *got = open_ok(path, &o);
            assert_int_equal(got->config.L, 2);
            assert_string_equal(got->layers[1].q.w->spec.hf, "model.layers.1.self_attn.q_proj.weight");
            assert_same_weights(got, m, DC_F32, DC_F32, keep);
            dc_model_free(got);
            dc_model_free(m);
        }
    static const int64_t bad[][2] = {{2, 0}, {1, 1}, {0, 3}, {-1, 0}};
    for (size_t i = 0; i < 4; i++)
        refused(temp_path("keep"), &(dc_model_options){.keep_layers = bad[i], .n_keep = 2}, DC_EUSAGE,
                "must ascend within 0 to 2");
    refused(temp_path("keep"), &(dc_model_options){.keep_layers = keep, .n_keep = 0}, DC_EUSAGE, "empty");
}

static void accessors_find_weights(void **state)
{
    (void)state;
    dc_model *m = fixture_model(fixture_configs[1]);
    assert_int_equal(dc_model_n_linears(m), 21);
    assert_ptr_equal(dc_model_linear_at(m, 8), &m->layers[1].k);
    assert_ptr_equal(dc_model_linear(m, "model.layers.2.mlp.up_proj"), &m->layers[2].up);
    assert_null(dc_model_linear(m, "model.layers.2.mlp"));
    assert_null(dc_model_linear(m, "lm_head"));
    assert_ptr_equal(dc_model_find_hf(m, "model.layers.0.self_attn.o_proj.bias"), m->layers[0].o.bias);
    assert_null(dc_model_find_hf(m, "model.layers.0.self_attn.q_norm.weight"));
    assert_ptr_equal(dc_model_find(m, DC_W_HEAD, -1), m->head.w);
    assert_null(dc_model_find(m, DC_W_Q, 3));
    assert_true(m->layers[0].down.in == 64 && m->layers[0].down.out == 32 && m->head.out == 40 && m->head.in == 32);
    const int64_t layer =
        32 + 64 * 32 + 64 + 2 * (32 * 32 + 32) + 32 * 64 + 32 + 32 + 2 * (64 * 32 + 64) + 32 * 64 + 32;
    assert_int_equal(dc_model_parameters(m), 2 * 40 * 32 + 32 + 3 * layer);
    assert_int_equal(dc_model_bytes(m), 4 * dc_model_parameters(m));
    dc_model_free(m);
}

static void new_weights_have_their_distribution(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_config c;
    OK(parse_config(&c, fixture_configs[1], &err), err);
    dc_model *m[3];
    for (int i = 0; i < 3; i++) OK(dc_model_init(&m[i], fixture_dev, &c, i == 2 ? 6 : 5, &err), err);
    static const struct {
        dc_role role;
        double std;
    } cases[] = {
        {DC_W_Q, 0.02}, {DC_W_O, 0.02 / 2.449489742783178}, {DC_W_DOWN, 0.02 / 2.449489742783178}, {DC_W_UP, 0.02}};
    for (size_t i = 0; i < 4; i++) { /* 2048 values: the standard deviation of the estimate is 1.6 % */
        const float *x = dc_model_find(m[0], cases[i].role, 1)->owned;
        double sum = 0;
        for (int k = 0; k < 2048; k++) sum += (double)x[k] * (double)x[k];
        assert_true(fabs(sqrt(sum / 2048) / cases[i].std - 1) < 0.08);
    }
    assert_true(m[0]->layers[0].attn_norm->owned[3] == 1 && m[0]->layers[0].q.bias->owned[3] == 0);
    assert_memory_equal(m[0]->embed->owned, m[1]->embed->owned, 40 * 32 * 4);
    assert_memory_not_equal(m[0]->embed->owned, m[2]->embed->owned, 40 * 32 * 4);
    assert_memory_not_equal(m[0]->layers[0].q.w->owned, m[0]->layers[1].q.w->owned, 64 * 32 * 4);
    for (int i = 0; i < 3; i++) dc_model_free(m[i]);
}

/* ---- safetensors by hand ---- */

typedef struct edit {
    const char *drop, *add, *reshape; /* names; NULL: none */
    dc_dtype type;                    /* of `add`, and of every matrix when not F32 */
    const char *poison;               /* name of a tensor whose value `at` becomes NaN or inf */
    int64_t at;
    int infinite;
    int head; /* 1: the embedding again as lm_head.weight, 2: other values */
} edit;

static void write_tensor(dc_st_writer *w, const dc_model *m, const dc_weight *weight, const edit *e)
{
    dc_error err = {0};
    const dc_tensor_spec *s = &weight->spec;
    const int64_t columns = spec_columns(s), n = s->shape[0] * columns;
    float *x = malloc((size_t)n * sizeof *x);
    uint8_t *bytes = malloc((size_t)n * sizeof *x);
    dc_weight_rows(m, weight, x, 0, s->shape[0]);
    if (e->poison && !strcmp(e->poison, s->hf)) x[e->at] = e->infinite ? INFINITY : NAN;
    dc_row_writer(e->type, 0)(bytes, x, n);
    OK(dc_st_writer_data(w, bytes, (size_t)dc_dtype_bytes(e->type, n), &err), err);
    free(x), free(bytes);
}

static void write_edited(const dc_model *m, const char *path, const edit *e)
{
    dc_error err = {0};
    dc_st_writer *w = NULL;
    const int64_t extra = 4;
    OK(dc_st_writer_new(&w, &err), err);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < m->n_weights; i++) {
            const dc_tensor_spec *s = &m->weights[i].spec;
            if (e->drop && !strcmp(e->drop, s->hf)) continue;
            const int64_t turned[2] = {s->shape[1], s->shape[0]};
            const int turn = e->reshape && !strcmp(e->reshape, s->hf);
            if (!pass) dc_st_put_tensor(w, s->hf, e->type, s->n_dims, turn ? turned : s->shape);
            else write_tensor(w, m, &m->weights[i], e);
        }
        if (e->head && !pass) dc_st_put_tensor(w, "lm_head.weight", e->type, 2, m->embed->spec.shape);
        if (e->head && pass) write_tensor(w, m, e->head == 1 ? m->embed : m->head.w, e);
        if (e->add && !pass) dc_st_put_tensor(w, e->add, DC_F32, 1, &extra);
        if (e->add && pass) OK(dc_st_writer_data(w, (float[4]){0}, 16, &err), err);
        if (!pass) OK(dc_st_writer_begin(w, path, &err), err);
    }
    OK(dc_st_writer_commit(w, &err), err);
    dc_st_writer_free(w);
}

static void every_bad_safetensors_is_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    static const struct {
        edit e;
        int code;
        const char *message;
    } cases[] = {
        {{.drop = "model.layers.1.mlp.up_proj.weight"},
         DC_EFORMAT,
         "tensor model.layers.1.mlp.up_proj.weight is missing"},
        {{.drop = "model.norm.weight"}, DC_EFORMAT, "tensor model.norm.weight is missing"},
        {{.drop = "lm_head.weight"}, DC_EFORMAT, "tensor lm_head.weight is missing (tie_word_embeddings is false)"},
        {{.add = "model.layers.3.mlp.up_proj.weight"},
         DC_EUNKNOWN,
         "model.safetensors: tensor model.layers.3.mlp.up_proj.weight is none that a model of type 'llama'"},
        {{.add = "model.layers.0.self_attn.q_proj.lora_A.weight"}, DC_EUNKNOWN, "lora_A"},
        {{.reshape = "model.layers.2.mlp.down_proj.weight"},
         DC_EMISMATCH,
         "tensor model.layers.2.mlp.down_proj.weight has shape [64, 32], expected [32, 64]"},
        {{.poison = "model.layers.0.mlp.up_proj.weight", .at = 33},
         DC_ENUMERIC,
         "tensor model.layers.0.mlp.up_proj.weight: a value is not finite (row 1, column 1)"},
        {{.poison = "model.norm.weight", .at = 31, .infinite = 1}, DC_ENUMERIC, "model.norm.weight"},
        {{.poison = "lm_head.weight", .at = 1279, .type = DC_F16},
         DC_ENUMERIC,
         "lm_head.weight: a value is not finite (row 39, column 31)"},
        {{.poison = "lm_head.weight", .at = 0, .type = DC_BF16, .infinite = 1}, DC_ENUMERIC, "(row 0, column 0)"},
    };
    dc_model *m = fixture_model(fixture_configs[1]);
    OK(dc_model_save(m, temp_path("bad"), DC_F32, 0, NULL, NULL, &err), err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_edited(m, temp_path("bad/model.safetensors"), &cases[i].e);
        refused(temp_path("bad"), NULL, cases[i].code, cases[i].message);
    }
    dc_model_options o = dc_model_defaults();
    o.check_finite = 0;
    write_edited(m, temp_path("bad/model.safetensors"), &cases[6].e);
    dc_model_free(open_ok(temp_path("bad"), &o));
    /* The file's type counts, not config.json's float32. */
    write_edited(m, temp_path("bad/model.safetensors"), &(edit){.type = DC_BF16});
    dc_model *half = open_ok(temp_path("bad"), NULL);
    assert_int_equal(half->config.dtype, DC_BF16);
    dc_model_free(half);
    /* Frequencies that old checkpoints hold are no weights. */
    write_edited(m, temp_path("bad/model.safetensors"), &(edit){.add = "model.layers.0.self_attn.rotary_emb.inv_freq"});
    dc_model_free(open_ok(temp_path("bad"), NULL));
    dc_model_free(m);
}

static void a_tied_head_may_be_stored_once_more(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[0]);
    OK(dc_model_save(m, temp_path("tied"), DC_F32, 0, NULL, NULL, &err), err);
    write_edited(m, temp_path("tied/model.safetensors"), &(edit){.head = 1});
    dc_model *got = open_ok(temp_path("tied"), NULL);
    assert_ptr_equal(got->head.w, got->embed);
    dc_model_free(got);
    m->head.w = &(dc_weight){.spec = m->embed->spec, .data = m->layers[0].up.w->data};
    m->head.w->spec.shape[0] = 40;
    write_edited(m, temp_path("tied/model.safetensors"), &(edit){.head = 2});
    refused(temp_path("tied"), NULL, DC_EMISMATCH, "lm_head.weight differs from model.embed_tokens.weight");
    dc_model_free(m);
}

/* A header of odd length: no tensor of the file is aligned to its element. */
static void misaligned_tensors_are_copied(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        dc_error err = {0};
        dc_str file = {0}, moved = {0};
        dc_model *m = fixture_model(fixture_configs[2]);
        OK(dc_model_save(m, temp_path("odd"), type ? DC_BF16 : DC_F32, 0, NULL, NULL, &err), err);
        OK(dc_file_read(&file, temp_path("odd/model.safetensors"), 1 << 24, &err), err);
        uint64_t n;
        memcpy(&n, file.data, 8);
        const uint64_t longer = n + 1;
        dc_str_append(&moved, &longer, 8);
        dc_str_append(&moved, file.data + 8, (size_t)n);
        dc_str_putc(&moved, ' ');
        dc_str_append(&moved, file.data + 8 + n, file.n - 8 - (size_t)n);
        OK(dc_file_write(temp_path("odd/model.safetensors"), moved.data, moved.n, &err), err);
        dc_model *got = open_ok(temp_path("odd"), NULL);
        assert_int_equal((uintptr_t)got->embed->data.data % 4, 0);
        assert_same_weights(got, m, type ? DC_BF16 : DC_F32, type ? DC_BF16 : DC_F32, NULL);
        dc_model_free(got);
        dc_model_free(m);
        dc_str_release(&file), dc_str_release(&moved);
    }
}

/* ---- GGUF ---- */

static void patched(const char *from, const char *to, int64_t at, const void *bytes, size_t n)
{
    dc_error err = {0};
    dc_str file = {0};
    OK(dc_file_read(&file, from, 1 << 24, &err), err);
    memcpy(file.data + at, bytes, n);
    OK(dc_file_write(to, file.data, file.n, &err), err);
    dc_str_release(&file);
}

/* Bytes of a tensor inside its file. */
static int64_t place_of(const char *path, const char *tensor)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    dc_map map;
    OK(dc_gguf_open(&g, path, &err), err);
    OK(dc_map_open(&map, path, &err), err);
    const dc_gguf_tensor *t = dc_gguf_tensor_find(g, tensor);
    assert_non_null(t);
    int64_t at = 0;
    while (memcmp(map.data + at, t->data, (size_t)t->bytes)) at++;
    dc_map_close(&map);
    dc_gguf_close(g);
    return at;
}

static void scales_of_quantized_blocks_are_checked(void **state)
{
    (void)state;
    const uint16_t nan = 0x7e00, inf = 0xfc00;
    dc_model *m = fixture_model(fixture_configs[2]);
    fixture_gguf(m, temp_path("q.gguf"), DC_Q8_0, NULL);
    const int64_t at = place_of(temp_path("q.gguf"), "blk.1.ffn_down.weight");
    patched(temp_path("q.gguf"), temp_path("p.gguf"), at + 34 * 3, &nan, 2); /* block 3 of rows of 2 blocks */
    refused(temp_path("p.gguf"), NULL, DC_ENUMERIC,
            "p.gguf: tensor blk.1.ffn_down.weight: the scale of a block is not finite (row 1, column 32)");
    patched(temp_path("q.gguf"), temp_path("p.gguf"), at, &inf, 2);
    refused(temp_path("p.gguf"), NULL, DC_ENUMERIC, "(row 0, column 0)");
    const uint16_t quants = 0x7fff; /* the same bits among the quants are numbers like any other */
    patched(temp_path("q.gguf"), temp_path("p.gguf"), at + 2, &quants, 2);
    dc_model_free(open_ok(temp_path("p.gguf"), NULL));
    dc_model_free(m);
}

/* Files with a tensor too many, too few, of another shape or type. */
static void every_bad_gguf_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        int change;
        int code;
        const char *message;
    } cases[] = {
        {"blk.2.attn_q.weight", 'm', DC_EFORMAT, "bad.gguf: tensor blk.2.attn_q.weight is missing"},
        {"output_norm.weight", 'm', DC_EFORMAT, "tensor output_norm.weight is missing"},
        {"blk.0.attn_q.bias", 'm', DC_EFORMAT, "tensor blk.0.attn_q.bias is missing"},
        {"blk.3.attn_q.weight", 'a', DC_EUNKNOWN, "tensor blk.3.attn_q.weight is none that a model of type 'qwen2'"},
        {"rope_freqs.weight", 'a', DC_EUNKNOWN, "rope_freqs.weight"},
        {"blk.1.ffn_up.weight", 's', DC_EMISMATCH, "tensor blk.1.ffn_up.weight has shape [32, 64], expected [64, 32]"},
        {"blk.1.ffn_up.weight", 't', DC_EUNKNOWN,
         "tensor blk.1.ffn_up.weight has type I32, which decant does not read; expected F32, F16"},
    };
    dc_model *m = fixture_model(fixture_configs[2]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error err = {0};
        dc_gguf_writer *w = NULL;
        const int64_t four = 4;
        OK(dc_gguf_writer_new(&w, &err), err);
        dc_gguf_put_str(w, "general.architecture", "qwen2");
        OK(dc_config_put_gguf(&m->config, w, &err), err);
        for (int pass = 0; pass < 2; pass++) {
            for (size_t k = 0; k < m->n_weights; k++) {
                const dc_tensor_spec *s = &m->weights[k].spec;
                const int hit = !strcmp(s->gguf, cases[i].tensor);
                if (hit && cases[i].change == 'm') continue;
                int64_t ne[2] = {s->n_dims == 2 ? s->shape[1] : s->shape[0], s->shape[0]};
                if (hit && cases[i].change == 's') ne[1] = ne[0], ne[0] = s->shape[0];
                if (!pass)
                    dc_gguf_put_tensor(w, s->gguf, hit && cases[i].change == 't' ? DC_I32 : DC_F32, s->n_dims, ne);
                else put_gguf_data(w, m, &m->weights[k], DC_F32);
            }
            if (cases[i].change == 'a' && !pass) dc_gguf_put_tensor(w, cases[i].tensor, DC_F32, 1, &four);
            if (cases[i].change == 'a' && pass) OK(dc_gguf_writer_data(w, (float[4]){1, 1, 1, 1}, 16, &err), err);
            if (!pass) OK(dc_gguf_writer_begin(w, temp_path("bad.gguf"), &err), err);
        }
        OK(dc_gguf_writer_commit(w, &err), err);
        dc_gguf_writer_free(w);
        refused(temp_path("bad.gguf"), NULL, cases[i].code, cases[i].message);
    }
    dc_model_free(m);
}

/* ---- damage, memory, signals ---- */

static void paths_that_are_no_models(void **state)
{
    (void)state;
    refused(temp_path("nothing"), NULL, DC_EIO, "nothing");
    refused("model.safetensors", NULL, DC_EUSAGE, "give the directory");
    dc_mkdirs(temp_path("hollow"), NULL);
    refused(temp_path("hollow"), NULL, DC_EIO, "config.json");
    temp_write("hollow/config.json", fixture_configs[0], strlen(fixture_configs[0]));
    refused(temp_path("hollow"), NULL, DC_EIO, "hollow");
    refused(temp_write("text.gguf", "hello", 5), NULL, DC_EFORMAT, "text.gguf");
}

/* Every truncation of a file is refused; each with a message. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    static const char *const files[] = {"cut/model.safetensors", "cut/config.json", "cut.gguf"};
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[3]);
    OK(dc_model_save(m, temp_path("cut"), DC_F32, 0, NULL, NULL, &err), err);
    fixture_gguf(m, temp_path("cut.gguf"), DC_Q8_0, NULL);
    for (size_t i = 0; i < 3; i++) {
        dc_str file = {0};
        OK(dc_file_read(&file, temp_path(files[i]), 1 << 24, &err), err);
        const size_t step = file.n < 2000 ? 1 : file.n / 150;
        const size_t most = i == 1 ? file.n - 2 : file.n; /* without its last newline JSON is whole */
        for (size_t n = 0; n < most; n += step) {
            dc_model *got = NULL;
            err = (dc_error){0};
            temp_write(files[i], file.data, n);
            if (dc_model_open(&got, fixture_dev, temp_path(i == 2 ? "cut.gguf" : "cut"), NULL, &err) == DC_OK)
                fail_msg("%s of %zu bytes was taken", files[i], n);
            assert_true(err.message[0] != 0);
        }
        err = (dc_error){0};
        temp_write(files[i], file.data, file.n);
        dc_str_release(&file);
    }
    dc_model_free(open_ok(temp_path("cut"), NULL));
    dc_model_free(m);
}

static void failing_allocations_are_survived(void **state)
{
    (void)state;
    static const int64_t keep[] = {1};
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[0]);
    OK(dc_model_save(m, temp_path("oom"), DC_BF16, 9000, NULL, NULL, &err), err);
    fixture_gguf(m, temp_path("oom.gguf"), DC_Q8_0, NULL);
    for (int i = 0; i < 4; i++) {
        const dc_model_options o = {
            .trainable = i / 2, .keep_layers = i / 2 ? keep : NULL, .n_keep = 1, .check_finite = 1};
        long n = 1;
        for (;; n++) {
            dc_model *got = NULL;
            err = (dc_error){0};
            dc_alloc_fail_at(n);
            const int rc = dc_model_open(&got, fixture_dev, temp_path(i % 2 ? "oom.gguf" : "oom"), &o, &err);
            dc_alloc_fail_at(0);
            if (rc == DC_OK) {
                dc_model_free(got);
                break;
            }
            assert_int_equal(rc, DC_ENOMEM);
            assert_null(got);
        }
        assert_true(n > 20);
    }
    dc_model_free(m);
}

static void a_signal_stops_the_loading(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_model *m = fixture_model(fixture_configs[0]);
    OK(dc_model_save(m, temp_path("stop"), DC_F32, 0, NULL, NULL, &err), err);
    dc_stop_request(SIGTERM);
    refused(temp_path("stop"), NULL, DC_ESTOPPED, "SIGTERM");
    dc_stop_request(0);
    dc_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hf_directories_are_read),
        cmocka_unit_test(gguf_files_are_read),
        cmocka_unit_test(gguf_rows_are_where_the_converter_puts_them),
        cmocka_unit_test(frozen_weights_stay_in_the_file),
        cmocka_unit_test(chosen_layers_are_kept),
        cmocka_unit_test(accessors_find_weights),
        cmocka_unit_test(new_weights_have_their_distribution),
        cmocka_unit_test(every_bad_safetensors_is_refused),
        cmocka_unit_test(a_tied_head_may_be_stored_once_more),
        cmocka_unit_test(misaligned_tensors_are_copied),
        cmocka_unit_test(scales_of_quantized_blocks_are_checked),
        cmocka_unit_test(every_bad_gguf_is_refused),
        cmocka_unit_test(paths_that_are_no_models),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(failing_allocations_are_survived),
        cmocka_unit_test(a_signal_stops_the_loading),
    };
    dc_log_set_level(DC_LOG_ERROR);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
