/* tests/model/test_config.c -- config.json in its forms, GGUF keys, tensor lists, rotary frequencies; every refusal. */
#include "tests/model/tiny_files.h"

#include <math.h>

#include "model/arch_table.h"

static dc_config good(const char *text)
{
    dc_error err = {0};
    dc_config c;
    OK(parse_config(&c, text, &err), err);
    return c;
}

/* The two forms of one config say the same: compared through the text that decant writes of them, and the frequencies. */
static void assert_same_config(const dc_config *a, const dc_config *b)
{
    float fa[DC_ROPE_PAIRS], fb[DC_ROPE_PAIRS];
    json_t *ja = dc_config_to_json(a), *jb = dc_config_to_json(b);
    dc_str ta = {0}, tb = {0};
    dc_json_dump(&ta, ja, 0), dc_json_dump(&tb, jb, 0);
    assert_string_equal(dc_str_text(&ta), dc_str_text(&tb));
    assert_int_equal(a->n_rot, b->n_rot);
    dc_rope_frequencies(fa, a), dc_rope_frequencies(fb, b);
    assert_memory_equal(fa, fb, (size_t)(a->n_rot / 2) * sizeof *fa);
    dc_str_release(&ta), dc_str_release(&tb);
    json_decref(ja), json_decref(jb);
}

static void published_config_is_read(void **state)
{
    (void)state;
    const dc_config c = good(
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 576, "
        "\"num_hidden_layers\": 30, "
        "\"num_attention_heads\": 9, \"num_key_value_heads\": 3, \"intermediate_size\": 1536, \"vocab_size\": 49152, "
        "\"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-05, \"rope_theta\": 100000, \"rope_scaling\": null, "
        "\"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", \"hidden_act\": \"silu\", \"bos_token_id\": 1, "
        "\"eos_token_id\": [2, 0], \"pretraining_tp\": 1, \"use_cache\": true, \"attention_bias\": false, "
        "\"is_decoder\": false}");
    assert_string_equal(dc_family_hf_type(c.family), "llama");
    const int64_t sizes[] = {c.C, c.L, c.H, c.K, c.D, c.F, c.V, c.max_position, c.n_rot};
    const int64_t expected[] = {576, 30, 9, 3, 64, 1536, 49152, 8192, 64};
    assert_memory_equal(sizes, expected, sizeof sizes);
    assert_true(c.rms_eps == 1e-5f && c.rope.theta == 100000 && c.rope.type == DC_ROPE_DEFAULT &&
                c.attn_scale == 0.125f);
    assert_true(c.tied && !c.q_bias && !c.o_bias && !c.mlp_bias && !c.qk_norm && c.dtype == DC_BF16 &&
                c.act == DC_ACT_SILU);
    assert_true(c.bos == 1 && c.eos == 2 && c.embed_scale == 1 && c.logit_scale == 1 && c.window == 0 &&
                c.norm_offset == 0);
}

static void both_forms_say_the_same(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"{\"model_type\": \"llama\", " FIXTURE_SIZES
         ", \"rope_theta\": 500000.0, \"torch_dtype\": \"float16\", \"rope_scaling\": "
         "{\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
         "\"original_max_position_embeddings\": 64}}",
         "{\"model_type\": \"llama\", " FIXTURE_SIZES
         ", \"dtype\": \"float16\", \"rope_parameters\": {\"rope_theta\": 500000.0, "
         "\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
         "\"original_max_position_embeddings\": 64}}"},
        {"{\"model_type\": \"llama\", " FIXTURE_SIZES ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}",
         "{\"model_type\": \"llama\", " FIXTURE_SIZES
         ", \"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"linear\", "
         "\"factor\": 4.0}}"},
        {"{\"model_type\": \"qwen2\", " FIXTURE_SIZES ", \"rope_theta\": 1000000.0, \"use_sliding_window\": false, "
         "\"sliding_window\": 32768, \"max_window_layers\": 2}",
         "{\"model_type\": \"qwen2\", " FIXTURE_SIZES
         ", \"rope_parameters\": {\"rope_theta\": 1000000.0, \"rope_type\": "
         "\"default\"}, \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]}"},
        {"{\"model_type\": \"qwen3\", " FIXTURE_SIZES ", \"head_dim\": 128}",
         "{\"model_type\": \"qwen3\", " FIXTURE_SIZES "}"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const dc_config a = good(pairs[i][0]), b = good(pairs[i][1]);
        assert_same_config(&a, &b);
    }
}

static void families_differ_as_their_rows_say(void **state)
{
    (void)state;
    const dc_config llama = good(fixture_configs[1]), qwen2 = good(fixture_configs[2]),
                    qwen3 = good(fixture_configs[3]);
    assert_true(llama.q_bias && llama.o_bias && llama.mlp_bias && !llama.qk_norm && llama.D == 16 && !llama.tied);
    assert_true(qwen2.q_bias && !qwen2.o_bias && !qwen2.mlp_bias && !qwen2.qk_norm && qwen2.D == 8);
    assert_true(!qwen3.q_bias && !qwen3.o_bias && qwen3.qk_norm && qwen3.D == 16 && qwen3.tied);
    /* What stands in for an absent or null key: the class's default, or the number of heads. */
    const dc_config absent =
        good("{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 8, "
             "\"intermediate_size\": 4, \"vocab_size\": 5}");
    assert_true(absent.K == 8 && absent.D == 8 && absent.max_position == 2048 && absent.rms_eps == 1e-6f &&
                absent.eos == -1);
    const dc_config null =
        good("{\"model_type\": \"qwen2\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, "
             "\"num_key_value_heads\": null, \"intermediate_size\": 4, \"vocab_size\": 5}");
    assert_true(null.K == 4 && null.max_position == 32768);
}

static void every_bad_config_is_refused(void **state)
{
    (void)state;
#define LLAMA(more) "{\"model_type\": \"llama\", " FIXTURE_SIZES more "}"
#define QWEN2(more) "{\"model_type\": \"qwen2\", " FIXTURE_SIZES more "}"
    static const struct {
        const char *text;
        int code;
        const char *message;
    } cases[] = {
        {"[]", DC_EFORMAT, "must hold an object"},
        {"{}", DC_EFORMAT, "'model_type' is missing"},
        {"{\"model_type\": \"mamba\"}", DC_EUNKNOWN,
         "model_type 'mamba' is not supported; decant knows llama, qwen2, qwen3"},
        {"{\"model_type\": \"llama\"}", DC_EFORMAT, "'hidden_size' is missing"},
        {LLAMA(", \"head_dim\": \"8\""), DC_EFORMAT, "head_dim"},
        {LLAMA(", \"head_dim\": 0"), DC_EFORMAT, "'head_dim' is 0"},
        {LLAMA(", \"head_dim\": 7"), DC_EFORMAT, "7 of 7 columns"},
        {LLAMA(", \"head_dim\": 1024"), DC_EFORMAT, "1024 of 1024 columns"},
        {LLAMA(", \"partial_rotary_factor\": 0.5"), DC_EUNKNOWN, "'partial_rotary_factor'"},
        {LLAMA(", \"quantization_config\": {\"quant_method\": \"bitsandbytes\"}"), DC_EUNKNOWN,
         "'quantization_config'"},
        {LLAMA(", \"num_local_experts\": 8"), DC_EUNKNOWN, "'num_local_experts'"},
        {LLAMA(", \"final_logit_softcapping\": 30.0"), DC_EUNKNOWN, "'final_logit_softcapping'"},
        {LLAMA(", \"logits_scaling\": 8"), DC_EUNKNOWN, "'logits_scaling'"},
        {LLAMA(", \"hidden_act\": \"relu\""), DC_EUNKNOWN, "hidden_act 'relu'"},
        {LLAMA(", \"torch_dtype\": \"float8_e4m3fn\""), DC_EUNKNOWN, "dtype 'float8_e4m3fn'"},
        {LLAMA(", \"eos_token_id\": \"</s>\""), DC_EFORMAT, "'eos_token_id'"},
        {LLAMA(", \"bos_token_id\": -2"), DC_EFORMAT, "'bos_token_id'"},
        {LLAMA(", \"rope_scaling\": 2"), DC_EFORMAT, "rope_scaling must be an object"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0}"), DC_EUNKNOWN, "rope type 'yarn'"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4.0}"), DC_EUNKNOWN, "rope type 'dynamic'"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\"}"), DC_EFORMAT, "needs a factor"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": -1}"), DC_EFORMAT, "factor is -1"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}"), DC_EFORMAT, "low_freq_factor"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
               "\"high_freq_factor\": 4}"),
         DC_EFORMAT, "0 < low_freq_factor < high_freq_factor"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [1, 2]}"), DC_EUNKNOWN, "mrope_section"},
        {LLAMA(", \"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.25}"), DC_EUNKNOWN,
         "0.25"},
        {LLAMA(", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e4}}"), DC_EUNKNOWN, "full_attention"},
        {LLAMA(", \"rope_parameters\": {\"rope_theta\": 5}, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}"),
         DC_EMISMATCH, "differ"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [2]}"),
         DC_EUNKNOWN, "longrope"},
        {LLAMA(", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1], "
               "\"attention_factor\": 1}"),
         DC_EFORMAT, "expected 4"},
        {LLAMA(", \"rope_theta\": 0"), DC_EFORMAT, "theta is 0"},
        {QWEN2(", \"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 1"), DC_EUNKNOWN,
         "use_sliding_window"},
        {QWEN2(", \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]"), DC_EUNKNOWN,
         "layer_types[1] is 'sliding_attention'"},
        {QWEN2(", \"layer_types\": [\"full_attention\"]"), DC_EFORMAT, "must list 3 layers"},
        {"{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 8, "
         "\"num_key_value_heads\": 3, \"intermediate_size\": 4, \"vocab_size\": 5}",
         DC_EFORMAT, "8 attention heads cannot share 3"},
        {"{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1000000, \"num_attention_heads\": 8, "
         "\"intermediate_size\": 4, \"vocab_size\": 5}",
         DC_EFORMAT, "number of layers is 1000000"},
        {"{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 8, "
         "\"intermediate_size\": 4, \"vocab_size\": 99999999999}",
         DC_EFORMAT, "vocabulary size is 99999999999"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error err = {0};
        dc_config c;
        assert_int_equal(parse_config(&c, cases[i].text, &err), cases[i].code);
        assert_refused(&err, cases[i].code, cases[i].message);
    }
}

static void neutral_and_unknown_keys_are_taken(void **state)
{
    (void)state;
    good(
        LLAMA(", \"partial_rotary_factor\": 1.0, \"num_local_experts\": 0, \"final_logit_softcapping\": null, "
              "\"quantization_config\": "
              "null, \"logits_scaling\": 1.0, \"pruned_heads\": {}, \"use_mrope\": false, \"some_key_of_tomorrow\": 3, "
              "\"rope_scaling\": {\"rope_type\": \"default\", \"also_unknown\": 1}"));
    good(QWEN2(", \"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 3"));
}

static void json_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        dc_error err = {0};
        const dc_config a = good(fixture_configs[i]);
        dc_config b;
        json_t *json = dc_config_to_json(&a);
        OK(dc_config_from_json(&b, json, "again", &err), err);
        json_decref(json);
        assert_same_config(&a, &b);
    }
}

/* ---- tensors ---- */

static void assert_tensor(const dc_tensor_spec *s, const char *hf, const char *gguf, int n_dims, int64_t out,
                          int64_t in, int64_t heads)
{
    assert_string_equal(s->hf, hf);
    assert_string_equal(s->gguf, gguf);
    assert_int_equal(s->n_dims, n_dims);
    assert_int_equal(s->shape[0], out);
    assert_int_equal(s->shape[1], in);
    assert_int_equal(s->permute_heads, heads);
}

static void tensors_are_listed_in_order(void **state)
{
    (void)state;
    static const size_t counts[FIXTURES] = {2 + 3 * 9, 3 + 3 * 16, 3 + 3 * 12, 2 + 3 * 11};
    for (size_t i = 0; i < FIXTURES; i++) {
        dc_error err = {0};
        const dc_config c = good(fixture_configs[i]);
        dc_tensor_spec *specs;
        size_t n;
        OK(dc_config_tensors(&specs, &n, &c, &err), err);
        assert_int_equal(n, counts[i]);
        for (size_t k = 1; k < n; k++)
            assert_true(specs[k].layer > specs[k - 1].layer || specs[k].layer == -1 ||
                        (specs[k].layer == specs[k - 1].layer && specs[k].role > specs[k - 1].role));
        dc_free(specs);
    }
    dc_error err = {0};
    const dc_config c = good(fixture_configs[1]);
    dc_tensor_spec *s;
    size_t n;
    OK(dc_config_tensors(&s, &n, &c, &err), err);
    assert_tensor(&s[0], "model.embed_tokens.weight", "token_embd.weight", 2, 40, 32, 0);
    assert_tensor(&s[2], "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 2, 64, 32, 4);
    assert_tensor(&s[5], "model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias", 1, 32, 1, 2);
    assert_tensor(&s[8], "model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight", 2, 32, 64, 0);
    assert_tensor(&s[1 + 16 + 14], "model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight", 2, 32, 64, 0);
    assert_tensor(&s[n - 1], "lm_head.weight", "output.weight", 2, 40, 32, 0);
    dc_free(s);
    dc_alloc_fail_at(1);
    assert_int_equal(dc_config_tensors(&s, &n, &c, &err), DC_ENOMEM);
    dc_alloc_fail_at(0);
}

/* ---- rope ---- */

static void frequencies_follow_the_formulas(void **state)
{
    (void)state;
    const dc_config plain = good(fixture_configs[2]);
    float f[DC_ROPE_PAIRS], g[DC_ROPE_PAIRS];
    dc_rope_frequencies(f, &plain);
    for (int i = 0; i < 4; i++) assert_true(fabs((double)f[i] * pow(1e6, 2.0 * i / 8) - 1) < 3e-7);

    dc_config linear = plain;
    linear.rope.type = DC_ROPE_LINEAR, linear.rope.factor = 4;
    dc_rope_frequencies(g, &linear);
    for (int i = 0; i < 4; i++) assert_true(g[i] == f[i] / 4);

    /* theta 1e4, heads of 16, original context 64: waves 2 pi 10^(i/2) are 6.3, 19.9, 62.8 and longer; the bands end at 16 and 64. */
    const dc_config llama3 = good(fixture_configs[1]);
    dc_config base = llama3;
    base.rope.type = DC_ROPE_DEFAULT;
    dc_rope_frequencies(f, &base);
    dc_rope_frequencies(g, &llama3);
    assert_true(g[0] == f[0]);
    for (int i = 1; i < 3; i++) {
        const double smooth = (64 * (double)f[i] / 6.283185307179586 - 1) / 3,
                     want = (double)f[i] * ((1 - smooth) / 8 + smooth);
        assert_true(smooth > 0 && smooth < 1 && fabs((double)g[i] / want - 1) < 1e-6);
    }
    for (int i = 3; i < 8; i++) assert_true(g[i] == f[i] / 8);
    float factors[DC_ROPE_PAIRS];
    assert_int_equal(dc_config_rope_freqs(factors, &llama3), 1);
    for (int i = 0; i < 8; i++) assert_true(fabs((double)(f[i] / factors[i] / g[i]) - 1) < 1e-6);
    assert_int_equal(dc_config_rope_freqs(factors, &plain), 0);
}

static dc_config reread(const dc_model *m, const float *freqs)
{
    dc_error err = {0};
    dc_gguf *g = NULL;
    dc_config c;
    fixture_gguf(m, temp_path("config.gguf"), DC_F32, freqs);
    OK(dc_gguf_open(&g, temp_path("config.gguf"), &err), err);
    OK(dc_config_from_gguf(&c, g, &err), err);
    dc_gguf_close(g);
    return c;
}

static void gguf_keys_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIXTURES; i++) {
        dc_model *m = fixture_model(fixture_configs[i]);
        const dc_config c = reread(m, NULL);
        m->config.eos = 2; /* the fixture's key */
        assert_same_config(&c, &m->config);
        dc_model_free(m);
    }
    dc_model *m = fixture_model(LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}"));
    const dc_config c = reread(m, NULL);
    assert_true(c.rope.type == DC_ROPE_LINEAR && c.rope.factor == 2.5);
    dc_model_free(m);
}

/* Divisors of other parameters than the published ones are taken apart, or kept as they are. */
static void rope_factors_are_recovered_or_kept(void **state)
{
    (void)state;
    dc_model *m = fixture_model(LLAMA(", \"head_dim\": 64"));
    m->config.rope = (dc_rope_config){.type = DC_ROPE_LLAMA3,
                                      .theta = 10000,
                                      .factor = 5,
                                      .low_freq_factor = 1,
                                      .high_freq_factor = 6.5,
                                      .original_max_position = 777};
    dc_config c = reread(m, NULL);
    assert_int_equal(c.rope.type, DC_ROPE_LLAMA3);
    assert_true(c.rope.factor == 5 && c.rope.low_freq_factor == 1 && c.rope.high_freq_factor == 6.5);
    assert_int_equal(c.rope.original_max_position, 777);

    float odd[32], back[DC_ROPE_PAIRS];
    for (int i = 0; i < 32; i++) odd[i] = 1.0f + 0.1f * (float)(i % 7);
    c = reread(m, odd);
    assert_int_equal(c.rope.type, DC_ROPE_FACTORS);
    assert_memory_equal(c.rope.factors, odd, sizeof odd);
    assert_int_equal(dc_config_rope_freqs(back, &c), 1);
    assert_memory_equal(back, odd, sizeof odd);
    dc_error err = {0};
    dc_config again;
    json_t *json = dc_config_to_json(&c);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "rope_scaling"), "rope_type")),
                        "longrope");
    OK(dc_config_from_json(&again, json, "again", &err), err);
    json_decref(json);
    assert_same_config(&c, &again);
    dc_model_free(m);
}

static void gguf_cannot_say_everything(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"model_type\": \"qwen3\", " FIXTURE_SIZES ", \"attention_bias\": true}", "biases of q, k and v"},
        {QWEN2(", \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
               "\"high_freq_factor\": 4}"),
         "llama3"},
        {LLAMA(", \"hidden_act\": \"gelu\""), "silu"},
        {QWEN2(", \"head_dim\": 16"), "heads of 16 columns"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error err = {0};
        dc_gguf_writer *w = NULL;
        const dc_config c = good(cases[i].text);
        OK(dc_gguf_writer_new(&w, &err), err);
        assert_int_equal(dc_config_put_gguf(&c, w, &err), DC_EUNKNOWN);
        assert_refused(&err, DC_EUNKNOWN, cases[i].message);
        dc_gguf_writer_free(w);
    }
}

/* ---- GGUF refusals ---- */

typedef struct gguf_case {
    const char *key, *text; /* put over the good file's keys; text NULL: the number */
    uint32_t number;
    int code;
    const char *message;
} gguf_case;

static void every_bad_gguf_is_refused(void **state)
{
    (void)state;
    static const gguf_case cases[] = {
        {"general.architecture", "mamba", 0, DC_EUNKNOWN,
         "architecture 'mamba' is not supported; decant knows llama, qwen2, qwen3"},
        {"general.architecture", "", 0, DC_EFORMAT, "'general.architecture' is missing"},
        {"general.architecture", "qwen2", 0, DC_EFORMAT, "'qwen2.embedding_length' is missing"},
        {"general.type", "adapter", 0, DC_EMISMATCH, "type 'adapter', not a model"},
        {"llama.embedding_length", "x", 0, DC_EFORMAT, "llama.embedding_length"},
        {"llama.block_count", NULL, 0, DC_EFORMAT, "'llama.block_count' is 0"},
        {"llama.block_count", NULL, 1u << 30, DC_EFORMAT, "number of layers"},
        {"llama.attention.head_count_kv", NULL, 3, DC_EFORMAT, "cannot share 3"},
        {"llama.attention.value_length", NULL, 16, DC_EUNKNOWN, "different widths"},
        {"llama.rope.dimension_count", NULL, 4, DC_EUNKNOWN, "'llama.rope.dimension_count' is 4"},
        {"llama.expert_count", NULL, 8, DC_EUNKNOWN, "'llama.expert_count'"},
        {"llama.attention.sliding_window", NULL, 4096, DC_EUNKNOWN, "'llama.attention.sliding_window'"},
        {"llama.rope.scaling.type", "yarn", 0, DC_EUNKNOWN, "rope scaling 'yarn'"},
        {"llama.attention.layer_norm_rms_epsilon", "x", 0, DC_EFORMAT, "rms_epsilon"},
        {"tokenizer.ggml.bos_token_id", NULL, 3000000000u, DC_EFORMAT, "bos_token_id"},
    };
    const dc_config c = good(fixture_configs[0]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dc_error err = {0};
        dc_gguf_writer *w = NULL;
        dc_gguf *g = NULL;
        dc_config out;
        OK(dc_gguf_writer_new(&w, &err), err);
        dc_gguf_put_str(w, "general.architecture", "llama");
        OK(dc_config_put_gguf(&c, w, &err), err);
        if (cases[i].text) dc_gguf_put_str(w, cases[i].key, cases[i].text);
        else dc_gguf_put_u32(w, cases[i].key, cases[i].number);
        dc_gguf_put_tensor(w, "token_embd.weight", DC_F32, 2, (int64_t[]){32, 1});
        OK(dc_gguf_writer_begin(w, temp_path("bad.gguf"), &err), err);
        OK(dc_gguf_writer_data(w, (float[32]){0}, 128, &err), err);
        OK(dc_gguf_writer_commit(w, &err), err);
        dc_gguf_writer_free(w);
        OK(dc_gguf_open(&g, temp_path("bad.gguf"), &err), err);
        assert_int_equal(dc_config_from_gguf(&out, g, &err), cases[i].code);
        assert_refused(&err, cases[i].code, cases[i].message);
        dc_gguf_close(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_config_is_read),
        cmocka_unit_test(both_forms_say_the_same),
        cmocka_unit_test(families_differ_as_their_rows_say),
        cmocka_unit_test(every_bad_config_is_refused),
        cmocka_unit_test(neutral_and_unknown_keys_are_taken),
        cmocka_unit_test(json_comes_back),
        cmocka_unit_test(tensors_are_listed_in_order),
        cmocka_unit_test(frequencies_follow_the_formulas),
        cmocka_unit_test(gguf_keys_come_back),
        cmocka_unit_test(rope_factors_are_recovered_or_kept),
        cmocka_unit_test(gguf_cannot_say_everything),
        cmocka_unit_test(every_bad_gguf_is_refused),
    };
    dc_log_set_level(DC_LOG_ERROR);
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
