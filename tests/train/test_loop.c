/* tests/train/test_loop.c -- the loop: accumulation, clipping, stops and resumes, ends, evaluation, numbers that are none. */
#include "tests/train/train_kit.h"

#include <math.h>
#include <signal.h>

#include "core/arena.h"
#include "core/pool.h"
#include "core/stop.h"

enum { DOCUMENTS = 26, MICRO = 64 };

static int setup(void **state)
{
    if (temp_setup(state)) return -1;
    dc_pool_set_threads(1); /* steps are so small that waiting for one another would be all the work */
    kit_documents("train", DOCUMENTS, 50);
    kit_documents("eval", 5, 50);
    return 0;
}

static dc_train_result train(kit *k)
{
    dc_error err = {0};
    dc_train_result result;
    kit_check(dc_train(&k->t, &result, &err), &err);
    return result;
}

/* An objective around another that counts its runs with a gradient, or those without, and does something at one of them. */
typedef struct trap {
    dc_objective base, *inner;
    int64_t runs, at; /* at 0: never */
    int evaluations;  /* those without a gradient count */
    void (*spring)(kit *);
    uint64_t *seen; /* unless NULL: by counter of micro-batches, what it was used for */
    kit *k;
} trap;

static int trap_measure(dc_objective *self, const dc_packed *batch, double *weight, dc_error *err)
{
    const trap *t = (trap *)self;
    return t->inner->measure(t->inner, batch, weight, err);
}

static uint64_t packed_key(const dc_packed *batch)
{
    uint64_t key = 0;
    for (int64_t b = 0; b < batch->B; b++) key = key * DOCUMENTS + (uint64_t)batch->docs[b];
    return key;
}

static int trap_run(dc_objective *self, dc_plan *plan, const dc_packed *batch, const dc_run *run, double denominator,
                    int gradient, dc_losses *out, dc_error *err)
{
    trap *t = (trap *)self;
    const int rc = t->inner->run(t->inner, plan, batch, run, denominator, gradient, out, err);
    if (gradient && t->seen) { /* the counter keys dropout: each micro-batch has its own, behind a resume as well */
        const uint64_t what = packed_key(batch) | 1ULL << 63;
        assert_true(run->step < MICRO && (t->seen[run->step] == 0 || (t->at && t->seen[run->step] == what)));
        t->seen[run->step] = what;
    }
    if (gradient != t->evaluations && ++t->runs == t->at) t->spring(t->k);
    return rc;
}

static trap trap_set(kit *k, int64_t at, void (*spring)(kit *))
{
    const trap t = {.base = {.name = "trap", .measure = trap_measure, .run = trap_run},
                    .inner = k->t.objective,
                    .at = at,
                    .spring = spring,
                    .k = k};
    return t;
}

static void ask_to_stop(kit *k)
{
    (void)k;
    dc_stop_request(SIGTERM);
}

/* One batch of four and four of one are the same step. */
static void test_accumulation(void **state)
{
    (void)state;
    for (int lora = 0; lora < 2; lora++) {
        const kit_options four = {.batch_size = 4, .lora = lora}, one = {.batch_size = 1, .lora = lora};
        kit a, b;
        kit_open(&a, lora ? "four-l" : "four", &four);
        kit_open(&b, lora ? "one-l" : "one", &one);
        b.t.options.gradient_accumulation_steps = 4;
        if (lora) /* dropout's masks are keyed by micro-batch: off here */
            for (size_t i = 0; i < dc_model_n_linears(a.m); i++)
                for (int s = 0; s < 2; s++)
                    ((dc_delta *)(uintptr_t)dc_model_linear_at(s ? b.m : a.m, i)->delta[0])->dropout = 0;
        train(&a), train(&b);
        json_t *x = kit_metrics(lora ? "four-l" : "four"), *y = kit_metrics(lora ? "one-l" : "one");
        assert_int_equal(json_array_size(x), 4);
        for (size_t i = 0; i < 4; i++) {
            assert_true(kit_number(x, i, "tokens") == kit_number(y, i, "tokens"));
            assert_true(kit_number(x, i, "trained_tokens") == kit_number(y, i, "trained_tokens"));
            assert_true(fabs(kit_number(x, i, "loss") - kit_number(y, i, "loss")) <=
                        1e-5 * kit_number(x, i, "loss")); /* 3e-7 seen */
            assert_true(fabs(kit_number(x, i, "grad_norm") - kit_number(y, i, "grad_norm")) <=
                        1e-5 * kit_number(x, i, "grad_norm"));
        }
        json_decref(x), json_decref(y);
        /* Adam divides by the gradient's own size: where that is nearly 0, rounding turns into a part of the rate of 1e-2. */
        assert_true(kit_difference(&a, &b) <= 2e-3);
        kit_close(&a), kit_close(&b);
    }
}

/* The first step by hand: gradient, norm, factor, AdamW with the schedule's rate, decay by flag. */
static void test_step(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 3};
    for (int clip = 0; clip < 2; clip++) {
        kit a, b;
        dc_packed packed;
        dc_losses sums = {0};
        double weight, norm;
        const dc_run run = {.adapter = -1, .training = 1};
        kit_open(&a, clip ? "step-clip" : "step", &o);
        kit_open(&b, "by-hand", &o);
        a.t.options.max_steps = 1;
        a.t.options.max_grad_norm = clip ? 0.25 : 1e6;
        train(&a);
        assert_int_equal(dc_loader_next(b.t.loader, &packed, NULL, NULL), DC_OK);
        const dc_batch batch = dc_batch_of(&packed);
        assert_int_equal(b.t.objective->measure(b.t.objective, &packed, &weight, NULL), DC_OK);
        dc_params_zero_grad(&b.params);
        dc_forward(b.plan, &batch, &run);
        assert_int_equal(b.t.objective->run(b.t.objective, b.plan, &packed, &run, weight, 1, &sums, NULL), DC_OK);
        dc_backward(b.plan);
        assert_int_equal(dc_params_grad_norm(&b.params, &norm, NULL), DC_OK);
        assert_true(norm > 0.5);
        for (size_t i = 0; i < b.params.n; i++) {
            const dc_param *p = &b.params.items[i];
            const dc_adamw w = {.lr = 1e-2,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .eps = 1e-8,
                                .weight_decay = 0.1,
                                .step = 1,
                                .grad_scale = clip ? 0.25 / (norm + 1e-6) : 1};
            float *moments = calloc((size_t)p->n * 2, sizeof *moments);
            const dc_adamw_item item = {p->data, moments, moments + p->n, p->grad, p->n, 1, p->decay};
            b.dev->op.adamw(b.dev, &item, 1, &w);
            free(moments);
        }
        assert_true(kit_difference(&a, &b) == 0);
        json_t *metrics = kit_metrics(clip ? "step-clip" : "step");
        assert_true(fabs(kit_number(metrics, 0, "grad_norm") - norm) <=
                    1e-8 * norm); /* before clipping; nine digits are written */
        assert_true(fabs(kit_number(metrics, 0, "loss") - sums.loss / weight) <= 1e-8 * sums.loss / weight);
        json_decref(metrics);
        kit_close(&a), kit_close(&b);
    }
}

/* A stop in the middle of an accumulation, then the same command: the bits and the metrics of a run that nothing disturbed. */
static void test_resume(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 2, .lora = 1, .packing = 1, .shuffle = 1, .eval = 1};
    kit whole, part;
    char name[32];
    kit_open(&whole, "whole", &o);
    whole.t.options.max_steps = 11, whole.t.options.gradient_accumulation_steps = 2, whole.t.options.eval_steps = 3;
    whole.t.options.max_grad_norm = 1, whole.t.options.warmup_ratio = 0.2;
    whole.t.options.schedule.type = DC_SCHEDULE_COSINE;
    uint64_t seen[MICRO] = {0};
    trap watch = trap_set(&whole, 0, NULL);
    watch.seen = seen;
    whole.t.eval_objective = whole.t.objective, whole.t.objective = &watch.base;
    dc_train_result want = train(&whole);
    whole.t.objective = whole.t.eval_objective;
    assert_true(dc_loader_position(whole.t.loader).epoch > 0 && want.steps == 11 && !want.resumed);
    json_t *expected = kit_metrics("whole");
    for (int64_t at = 1; at <= 8; at++) { /* the micro-batch of each process that the signal comes in */
        dc_error err = {0};
        dc_train_result result;
        int stops = 0, rc;
        snprintf(name, sizeof name, "part-%lld", (long long)at);
        for (;; stops++) {
            kit_open(&part, name, &o);
            part.t.options = whole.t.options;
            part.t.options.save_steps = at % 2 ? 0 : 4;
            trap t = trap_set(&part, at, ask_to_stop);
            t.seen = seen;
            dc_objective *inner = part.t.objective;
            part.t.objective = &t.base, part.t.eval_objective = inner;
            err = (dc_error){0};
            rc = dc_train(&part.t, &result, &err);
            dc_stop_request(0);
            part.t.objective = inner;
            assert_int_equal(result.resumed, stops > 0);
            if (rc != DC_ESTOPPED || at == 1) break;
            kit_close(&part);
        }
        if (at == 1) { /* within the first step: there is nothing to save */
            assert_true(rc == DC_ESTOPPED && result.steps == 0);
            kit_close(&part);
            continue;
        }
        kit_check(rc, &err);
        assert_true(stops > 0 && result.steps == 11 && result.tokens == want.tokens &&
                    result.trained_tokens == want.trained_tokens);
        assert_true(kit_difference(&whole, &part) == 0);
        json_t *found = kit_metrics(name);
        if (!json_equal(expected, found)) {
            char *a = json_dumps(expected, 0), *b = json_dumps(found, 0);
            fail_msg("stop at %lld:\n%s\n%s", (long long)at, a, b);
        }
        json_decref(found);
        kit_close(&part);
    }
    json_decref(expected);
    kit_close(&whole);
}

static void read_state(char *out, size_t size, const kit *k)
{
    char path[512];
    snprintf(path, sizeof path, "%s/checkpoint-%lld/state.json", k->t.dir, (long long)k->t.options.max_steps);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("no %s", path);
    out[fread(out, 1, size - 1, f)] = 0;
    fclose(f);
}

/* A stop in the middle of the evaluation behind the last step: the checkpoint of that step is the undisturbed run's, and the evaluation is done
 * by the next command. */
static void test_stop_in_evaluation(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 1, .eval = 1};
    kit whole, part;
    char expected[8192], found[8192];
    kit_open(&whole, "evaluated", &o);
    whole.t.options.max_steps = 4, whole.t.options.eval_steps = 2;
    const dc_train_result want = train(&whole);
    read_state(expected, sizeof expected, &whole);
    kit_open(&part, "stopped", &o);
    part.t.options = whole.t.options;
    trap t = trap_set(&part, 1 + (int64_t)dc_loader_epoch_batches(part.t.eval_loader), ask_to_stop);
    t.evaluations = 1; /* of step 4, the first batch */
    dc_objective *inner = part.t.objective;
    part.t.eval_objective = &t.base;
    dc_train_result result;
    assert_int_equal(dc_train(&part.t, &result, NULL), DC_ESTOPPED);
    assert_int_equal(result.steps, 4);
    dc_stop_request(0);
    part.t.eval_objective = inner;
    kit_close(&part);
    kit_open(&part, "stopped", &o);
    part.t.options = whole.t.options;
    result = train(&part);
    assert_true(result.resumed && result.eval_loss == want.eval_loss);
    read_state(found, sizeof found, &part);
    assert_string_equal(expected, found);
    json_t *a = kit_metrics("evaluated"), *b = kit_metrics("stopped");
    assert_true(json_equal(a, b));
    json_decref(a), json_decref(b);
    kit_close(&whole), kit_close(&part);
}

/* Another command line behind a finished run does nothing; --restart begins anew and comes to the same. */
static void test_again(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 4};
    kit a, b, c;
    kit_open(&a, "again", &o);
    const dc_train_result once = train(&a);
    json_t *first = kit_metrics("again");
    kit_open(&b, "again", &o);
    dc_train_result result = train(&b);
    assert_true(result.resumed && result.steps == 4 && result.loss == once.loss);
    assert_true(kit_difference(&a, &b) == 0);
    kit_open(&c, "again", &o);
    c.t.restart = 1;
    result = train(&c);
    assert_true(!result.resumed && result.steps == 4);
    assert_true(kit_difference(&a, &c) == 0);
    json_t *last = kit_metrics("again");
    assert_true(json_equal(first, last));
    json_decref(first), json_decref(last);
    kit_close(&a), kit_close(&b), kit_close(&c);
}

/* Steps of epochs: an epoch's last step takes what is left. Rates follow the schedule to its end. */
static void test_schedule(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 3}; /* 26 documents: 9 batches, 5 steps of 2 */
    kit k;
    kit_open(&k, "epochs", &o);
    k.t.options.max_steps = 0, k.t.options.num_train_epochs = 1.5, k.t.options.gradient_accumulation_steps = 2;
    k.t.options.schedule.type = DC_SCHEDULE_LINEAR, k.t.options.warmup_ratio = 0.25;
    const dc_train_result result = train(&k);
    const dc_schedule s = {DC_SCHEDULE_LINEAR, 1e-2, 2, 8};
    assert_int_equal(result.steps, 8);
    json_t *metrics = kit_metrics("epochs");
    assert_int_equal(json_array_size(metrics), 8);
    double tokens = 0;
    for (size_t i = 0; i < 8; i++) {
        assert_true(kit_number(metrics, i, "step") == (double)i + 1);
        assert_true(fabs(kit_number(metrics, i, "learning_rate") - dc_schedule_rate(&s, (int64_t)i)) <= 1e-11);
        if (i < 5) tokens += kit_number(metrics, i, "tokens");
    }
    assert_true(tokens == (double)dc_set_tokens(k.set)); /* five steps are the whole epoch, and no more */
    assert_true(kit_number(metrics, 4, "tokens") < kit_number(metrics, 3, "tokens"));
    json_decref(metrics);
    kit_close(&k);
}

/* Every eval_steps and at the end, once each, with eval_on_start also before the first step; the figures are those of dc_evaluate. */
static void test_evaluation(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 3, .eval = 1};
    for (int64_t every = 0; every <= 4; every += 2) {
        kit k;
        char name[32];
        size_t n = 0;
        snprintf(name, sizeof name, "eval-%lld", (long long)every);
        kit_open(&k, name, &o);
        k.t.options.eval_steps = every;
        k.t.options.eval_on_start = every == 4;
        const dc_train_result result = train(&k);
        json_t *metrics = kit_metrics(name);
        for (size_t i = 0; i < json_array_size(metrics); i++)
            n += json_object_get(json_array_get(metrics, i), "eval_loss") != NULL;
        assert_int_equal(n, every ? 2 : 1);
        assert_true(every != 4 ||
                    (kit_number(metrics, 0, "step") == 0 && json_object_get(json_array_get(metrics, 0), "eval_loss")));
        dc_losses sums = {0};
        assert_int_equal(dc_evaluate(k.plan, k.t.objective, k.t.eval_loader, -1, NULL, NULL, &sums, NULL), DC_OK);
        const size_t last = json_array_size(metrics) - 1;
        assert_true(result.eval_loss == sums.loss / sums.weight && sums.rows == (double)dc_set_trained(k.eval_set));
        assert_true(fabs(kit_number(metrics, last, "eval_loss") - result.eval_loss) <= 1e-8 * result.eval_loss);
        assert_true(isnan(result.eval_kd) && kit_number(metrics, last, "step") == 4);
        json_decref(metrics);
        kit_close(&k);
    }
}

static void spoil_weight(kit *k) { k->params.items[k->params.n / 2].data[3] = NAN; }
static void spoil_gradient(kit *k) { k->params.items[2].grad[1] = INFINITY; }

static int run_to_nan(dc_objective *self, dc_plan *plan, const dc_packed *batch, const dc_run *run, double denominator,
                      int gradient, dc_losses *out, dc_error *err)
{
    (void)self, (void)plan, (void)batch, (void)run, (void)denominator, (void)gradient, (void)err;
    out->loss = NAN;
    return DC_OK;
}

static void test_not_finite(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 3};
    dc_train_result result;
    for (int gradient = 0; gradient < 2; gradient++) {
        kit k;
        dc_error err = {0};
        kit_open(&k, gradient ? "bad-gradient" : "bad-weight", &o);
        k.t.options.save_steps = 1, k.t.options.max_steps = 6;
        /* A weight spoiled behind the forward of step 3 is met in step 4; a gradient in its own step. */
        trap t = trap_set(&k, 3, gradient ? spoil_gradient : spoil_weight);
        dc_objective *inner = k.t.objective;
        k.t.objective = &t.base;
        assert_int_equal(dc_train(&k.t, &result, &err), DC_ENUMERIC);
        k.t.objective = inner;
        const char *step = gradient ? "step 3: " : "step ", *name = k.params.items[gradient ? 2 : k.params.n / 2].name;
        if (!strstr(err.message, step) || !strstr(err.message, "Last good checkpoint: step "))
            fail_msg("%s", err.message);
        if (gradient && !strstr(err.message, name)) fail_msg("%s is not in: %s", name, err.message);
        if (!gradient && !strstr(err.message, "model.layers.")) fail_msg("no place in: %s", err.message);
        kit_close(&k);
        /* The checkpoint is whole: the next run goes on from it. */
        kit_open(&k, gradient ? "bad-gradient" : "bad-weight", &o);
        result = train(&k);
        assert_true(result.resumed && result.steps == 4);
        kit_close(&k);
    }
    kit k;
    dc_error err = {0};
    const kit_options evaluating = {.batch_size = 3, .eval = 1};
    kit_open(&k, "bad-eval", &evaluating);
    k.t.options.max_steps = 1;
    dc_objective none = {.name = "none", .run = run_to_nan};
    k.t.eval_objective = &none;
    assert_int_equal(dc_train(&k.t, &result, &err), DC_ENUMERIC);
    assert_non_null(strstr(err.message, "step 1: the evaluation's loss is not finite"));
    kit_close(&k);
}

static void test_memory(void **state)
{
    (void)state;
    const kit_options o = {.batch_size = 3, .eval = 1};
    kit k;
    int rc = DC_ENOMEM;
    kit_open(&k, "memory", &o);
    k.t.options.max_steps = 1;
    for (long n = 1; rc != DC_OK; n++) {
        dc_train_result result;
        dc_error err = {0};
        k.t.restart = 1;
        dc_alloc_fail_at(n);
        rc = dc_train(&k.t, &result, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK && rc != DC_ENOMEM) fail_msg("allocation %ld: %s", n, err.message);
    }
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accumulation),       cmocka_unit_test(test_step),       cmocka_unit_test(test_resume),
        cmocka_unit_test(test_stop_in_evaluation), cmocka_unit_test(test_again),      cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_evaluation),         cmocka_unit_test(test_not_finite), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, temp_teardown);
}
