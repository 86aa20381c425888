/* tests/train/test_score.c -- the scorer: logits, log-probabilities, and generation against one full forward a token. */
#include "train/score.h"

#include "core/pool.h"
#include "core/stop.h"
#include "tests/data/tok_small.h"
#include "tests/model/tiny_files.h"
#include "train/score_private.h"

#include <math.h>
#include <signal.h>

#define SIZES \
    "\"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, " \
    "\"intermediate_size\": 48, \"vocab_size\": 288, \"max_position_embeddings\": 700, \"rms_norm_eps\": 1e-5"
static const char config_text[] = "{\"model_type\": \"llama\", " SIZES "}";

enum { V = 288, EOG = 272, PROMPTS = 21, NEW = 12 };

static dc_model *m;
static dc_tokenizer *tokenizer;
static dc_scorer *scorer;
static int32_t prompt_ids[PROMPTS][640];
static dc_ids prompts[PROMPTS];

static int setup(void **state)
{
    dc_str text = {0};
    dc_error err = {0};
    if (fixture_setup(state)) return -1;
    dc_pool_set_threads(1);
    small_json(&text, &(small){0});
    OK(dc_tokenizer_open(&tokenizer, temp_write("tokenizer.json", text.data, text.n), &err), err);
    dc_str_release(&text);
    m = fixture_model(config_text);
    /* Logits that leave no ties, and an end that comes in some answers. */
    for (size_t i = 0; i < m->n_weights; i++)
        if (m->weights[i].spec.role == DC_W_HEAD)
            for (int64_t c = 0; c < m->config.C; c++) m->weights[i].owned[EOG * m->config.C + c] *= 2;
    OK(dc_scorer_new(&scorer, m, tokenizer, -1, 0, &err), err);
    for (int i = 0; i < PROMPTS; i++) {
        const size_t n = i == 3 ? 600 : i == 7 ? 1 : 2 + (size_t)(i * 13 % 37); /* one longer than a piece of prefill */
        for (size_t t = 0; t < n; t++) prompt_ids[i][t] = (int32_t)((t * 31 + (size_t)i * 57 + t * t % 11) % 256);
        prompts[i] = (dc_ids){.data = prompt_ids[i], .n = n};
    }
    return 0;
}

static int teardown(void **state)
{
    dc_scorer_free(scorer);
    dc_model_free(m);
    dc_tokenizer_free(tokenizer);
    return fixture_teardown(state);
}

/* Rows do not depend on what comes behind them, nor on how many chunks there are. */
static void test_logits(void **state)
{
    (void)state;
    const int64_t T = (int64_t)prompts[3].n, half = 300;
    float *all = malloc((size_t)(T * V) * sizeof *all), *some = malloc((size_t)(T * V) * sizeof *some);
    assert_int_equal(dc_score_logits(scorer, all, prompt_ids[3], T, NULL), DC_OK);
    assert_int_equal(dc_score_logits(scorer, some, prompt_ids[3], half, NULL), DC_OK);
    for (int64_t i = 0; i < half * V; i++) assert_true(fabsf(all[i] - some[i]) <= 2e-4f);
    dc_scorer *small_chunks = NULL;
    assert_int_equal(dc_scorer_new(&small_chunks, m, tokenizer, -1, 0, NULL), DC_OK);
    assert_int_equal(dc_scorer_room(small_chunks, 7, NULL), DC_OK);
    assert_int_equal(dc_score_logits(small_chunks, some, prompt_ids[3], T, NULL), DC_OK);
    for (int64_t i = 0; i < T * V; i++) assert_true(fabsf(all[i] - some[i]) <= 2e-4f);
    dc_scorer_free(small_chunks);
    free(all), free(some);
}

static void test_logprobs(void **state)
{
    (void)state;
    for (int p = 0; p < PROMPTS; p += 3) {
        const int64_t T = (int64_t)prompts[p].n;
        float *z = malloc((size_t)(T * V) * sizeof *z);
        double *got = malloc((size_t)T * sizeof *got);
        assert_int_equal(dc_score_logits(scorer, z, prompt_ids[p], T, NULL), DC_OK);
        assert_int_equal(dc_score_logprobs(scorer, got, prompt_ids[p], T, NULL), DC_OK);
        for (int64_t t = 0; t + 1 < T; t++) {
            double sum = 0;
            for (int64_t v = 0; v < V; v++) sum += exp((double)z[t * V + v]);
            const double want = (double)z[t * V + prompt_ids[p][t + 1]] - log(sum);
            if (!(fabs(got[t] - want) <= 1e-9))
                fail_msg("prompt %d, token %lld: %g, expected %g", p, (long long)t, got[t], want);
        }
        free(z), free(got);
    }
}

typedef struct answer {
    int32_t ids[NEW];
    size_t n;
    int ended;
} answer;

typedef struct answers {
    answer of[PROMPTS];
    size_t told, streamed;
    int32_t stream[NEW];
} answers;

static int take(void *context, size_t i, const int32_t *ids, size_t n, int ended, dc_error *err)
{
    answers *a = context;
    (void)err;
    assert_int_equal(i, a->told++); /* in order, each once */
    assert_true(n <= NEW);
    if (n) memcpy(a->of[i].ids, ids, n * sizeof *ids);
    a->of[i].n = n, a->of[i].ended = ended;
    return DC_OK;
}

static void stream(void *context, int32_t id)
{
    answers *a = context;
    assert_int_equal(a->told, 0);
    a->stream[a->streamed++] = id;
}

static answers generate(const dc_generate_options *o, size_t n)
{
    answers a = {0};
    dc_error err = {0};
    OK(dc_score_generate(scorer, prompts, n, o, take, stream, &a, &err), err);
    assert_int_equal(a.told, n);
    assert_int_equal(a.streamed, a.of[0].n);
    assert_memory_equal(a.stream, a.of[0].ids, a.streamed * sizeof *a.stream);
    return a;
}

/* One full forward a token. */
static answer step_by_step(size_t p, const dc_generate_options *o)
{
    answer a = {0};
    int32_t ids[700];
    float *z = malloc((size_t)(prompts[p].n + NEW) * V * sizeof *z);
    double scratch[V];
    size_t n = prompts[p].n;
    const dc_sampler s = {
        .temperature = o->temperature, .top_p = o->top_p, .top_k = o->top_k, .seed = o->seed, .key = p};
    memcpy(ids, prompts[p].data, n * sizeof *ids);
    while (a.n < (size_t)o->max_new_tokens && !a.ended) {
        assert_int_equal(dc_score_logits(scorer, z, ids, (int64_t)n, NULL), DC_OK);
        const int32_t id = dc_sample(&s, z + (n - 1) * V, V, (uint32_t)a.n, scratch);
        a.ended = id == EOG;
        if (!a.ended) a.ids[a.n++] = ids[n++] = id;
    }
    free(z);
    return a;
}

static void assert_same(const answers *a, const answers *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(a->of[i].n, b->of[i].n);
        assert_int_equal(a->of[i].ended, b->of[i].ended);
        assert_memory_equal(a->of[i].ids, b->of[i].ids, a->of[i].n * sizeof(int32_t));
    }
}

/* Greedy and drawn; prompts alone, a few and all at once, with slots taken up again as answers end. */
static void test_generate(void **state)
{
    (void)state;
    for (int drawn = 0; drawn < 2; drawn++) {
        dc_generate_options o = dc_generate_defaults();
        o.max_new_tokens = NEW, o.seed = 11;
        if (drawn) o.temperature = 2, o.top_k = 40, o.top_p = 0.95f;
        answers want = {0};
        size_t ended = 0;
        for (size_t p = 0; p < PROMPTS; p++) want.of[p] = step_by_step(p, &o), ended += (size_t)want.of[p].ended;
        assert_true(ended > 1 && ended < PROMPTS - 1);
        for (int64_t batch = 0; batch <= 24; batch += 4) {
            o.batch = batch == 4 ? 1 : batch;
            const answers got = generate(&o, PROMPTS);
            assert_same(&got, &want, PROMPTS);
        }
        const answers alone = generate(&o, 1);
        assert_same(&alone, &want, 1);
    }
    int64_t prefilled, decoded;
    double prefill_seconds, decode_seconds;
    dc_scorer_rates(scorer, &prefilled, &prefill_seconds, &decoded, &decode_seconds);
    assert_true(prefilled > 600 && decoded > 100 && prefill_seconds > 0 && decode_seconds > 0);
}

static void test_limits(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_generate_options o = dc_generate_defaults();
    int32_t bad[] = {3, V};
    const dc_ids empty = {0}, outside = {.data = bad, .n = 2};
    double logprob[2];
    float z[2 * V];
    o.max_new_tokens = 1;
    const answers one = generate(&o, PROMPTS);
    for (size_t i = 0; i < PROMPTS; i++) assert_int_equal(one.of[i].n, one.of[i].ended ? 0 : 1);
    assert_int_equal(dc_score_generate(scorer, prompts, 0, &o, take, NULL, NULL, NULL), DC_OK);
    assert_int_equal(dc_score_generate(scorer, &empty, 1, &o, NULL, NULL, NULL, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "empty");
    assert_int_equal(dc_score_generate(scorer, &outside, 1, &o, NULL, NULL, NULL, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "id 288");
    o.max_new_tokens = 101; /* 600 and 101 pass 700 */
    assert_int_equal(dc_score_generate(scorer, prompts, 4, &o, NULL, NULL, NULL, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "prompt 3 has 600 tokens");
    o.max_new_tokens = 0;
    assert_int_equal(dc_score_generate(scorer, prompts, 4, &o, NULL, NULL, NULL, &err), DC_EUSAGE);
    assert_refused(&err, DC_EUSAGE, "max_new_tokens");
    assert_int_equal(dc_score_logprobs(scorer, logprob, bad, 2, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "id 288");
    assert_int_equal(dc_score_logits(scorer, z, bad, 0, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "without tokens");
    assert_int_equal(dc_score_logits(scorer, z, bad, 701, &err), DC_EMISMATCH);
    assert_refused(&err, DC_EMISMATCH, "701");
    dc_stop_request(SIGTERM);
    o.max_new_tokens = 4;
    assert_int_equal(dc_score_generate(scorer, prompts, 1, &o, NULL, NULL, NULL, NULL), DC_ESTOPPED);
    assert_int_equal(dc_score_logits(scorer, z, prompt_ids[0], 1, NULL), DC_ESTOPPED);
    dc_stop_request(0);
}

static void test_memory(void **state)
{
    (void)state;
    dc_generate_options o = dc_generate_defaults();
    o.max_new_tokens = 3, o.batch = 2;
    for (int part = 0; part < 2; part++) {
        dc_scorer *s = NULL;
        int rc = DC_ENOMEM;
        assert_int_equal(dc_scorer_new(&s, m, tokenizer, -1, 0, NULL), DC_OK);
        for (long n = 1; rc != DC_OK; n++) { /* a scorer that failed goes on */
            double logprob[40];
            dc_alloc_fail_at(n);
            rc = part ? dc_score_generate(s, prompts, 3, &o, NULL, NULL, NULL, NULL)
                      : dc_score_logprobs(s, logprob, prompt_ids[0], 2, NULL);
            dc_alloc_fail_at(0);
            assert_true(rc == DC_OK ? n > 5 : rc == DC_ENOMEM);
        }
        dc_scorer_free(s);
    }
    dc_alloc_fail_at(1);
    dc_scorer *s = NULL;
    assert_int_equal(dc_scorer_new(&s, m, tokenizer, -1, 0, NULL), DC_ENOMEM);
    dc_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits), cmocka_unit_test(test_logprobs), cmocka_unit_test(test_generate),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
