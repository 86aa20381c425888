/* tests/export/test_parity.c -- the comparison of two models against sums in double. */
#include "export/parity.h"

#include "tests/train/train_kit.h"

#include <math.h>
#include <signal.h>

#include "core/arena.h"
#include "core/pool.h"
#include "core/stop.h"

enum { V = 50, C = 20 };

static dc_dev *dev;
static dc_model *a, *b;
static dc_set *set;
static dc_loader *loader;

static int setup(void **state)
{
    dc_error err = {0};
    if (temp_setup(state)) return -1;
    dc_pool_set_threads(1);
    dev = tiny_dev();
    a = tiny_model(dev, LLAMA, 1), b = tiny_model(dev, QWEN2, 1);
    kit_documents("eval", 11, V);
    kit_check(dc_set_open(&set, temp_dir, "eval", &err), &err);
    const dc_loader_options o = {.max_length = 16, .batch_size = 4};
    kit_check(dc_loader_new(&loader, set, &o, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    dc_loader_free(loader);
    dc_set_close(set);
    dc_model_free(a), dc_model_free(b);
    dc_dev_close(dev);
    return temp_teardown(state);
}

static dc_parity measure(int adapter, dc_model *file, int file_adapter, int64_t most)
{
    dc_parity p;
    dc_error err = {0};
    kit_check(dc_parity_measure(&p, a, adapter, file, file_adapter, loader, most, &err), &err);
    return p;
}

static void log_softmax(double *z)
{
    double top = -INFINITY, sum = 0;
    for (int v = 0; v < V; v++) top = fmax(top, z[v]);
    for (int v = 0; v < V; v++) sum += exp(z[v] - top);
    for (int v = 0; v < V; v++) z[v] -= top + log(sum);
}

static int best(const double *z)
{
    int at = 0;
    for (int v = 1; v < V; v++)
        if (z[v] > z[at]) at = v;
    return at;
}

static void test_values(void **state)
{
    (void)state;
    double kl = 0, kl_max = 0, same = 0, ce[2] = {0}, difference = 0, size = 0;
    const dc_run run = {.adapter = -1};
    dc_packed packed;
    int ended = 0;
    int64_t n = 0;
    dc_loader_seek(loader, (dc_position){0});
    while (!ended) {
        assert_int_equal(dc_loader_next(loader, &packed, &ended, NULL), DC_OK);
        const dc_batch batch = dc_batch_of(&packed);
        double *ha = naive_hidden(a, &batch, &run), *hb = naive_hidden(b, &batch, &run);
        for (int64_t i = 0; i < packed.M; i++, n++) {
            double za[V], zb[V], row = 0;
            naive_logits(za, a, ha + packed.rows[i] * C), naive_logits(zb, b, hb + packed.rows[i] * C);
            for (int v = 0; v < V; v++) difference += (za[v] - zb[v]) * (za[v] - zb[v]), size += za[v] * za[v];
            log_softmax(za), log_softmax(zb);
            for (int v = 0; v < V; v++) row += exp(za[v]) * (za[v] - zb[v]);
            kl += row, kl_max = fmax(kl_max, row), same += best(za) == best(zb);
            ce[0] -= za[packed.labels[i]], ce[1] -= zb[packed.labels[i]];
        }
        free(ha), free(hb);
    }
    const dc_parity p = measure(-1, b, -1, 0);
    const double N = (double)n;
    assert_true(p.tokens == n && n == dc_set_trained(set));
    assert_true(fabs(p.kl - kl / N) <= 1e-5 * kl / N && fabs(p.kl_max - kl_max) <= 1e-5 * kl_max);
    assert_true(p.top1 == same / N && fabs(p.nmse - difference / size) <= 1e-5 * difference / size);
    assert_true(fabs(p.ppl_reference - exp(ce[0] / N)) <= 1e-5 * p.ppl_reference &&
                fabs(p.ppl_file - exp(ce[1] / N)) <= 1e-5 * p.ppl_file);
    json_t *json = dc_parity_json(&p);
    assert_true(json_number_value(json_object_get(json, "kl")) == p.kl);
    assert_int_equal(json_integer_value(json_object_get(json, "tokens")), n);
    json_decref(json);
}

/* What a measurement of its own says, to the bit. */
static void assert_against(dc_parity_reference *r, dc_model *file, const dc_parity *alone)
{
    dc_parity p;
    assert_int_equal(dc_parity_against(&p, r, file, -1, NULL), DC_OK);
    assert_memory_equal(&p, alone, sizeof p);
}

/* The layers of a reference run for the first file alone: a change behind it is not seen. */
static void test_reference(void **state)
{
    (void)state;
    const int64_t bounds[] = {7, 1000};
    float *weight = (float *)(uintptr_t)a->layers[0].down.w->data.data;
    for (size_t i = 0; i < 2; i++) {
        dc_parity_reference *r = NULL;
        const dc_parity with_b = measure(-1, b, -1, bounds[i]), with_a = measure(-1, a, -1, bounds[i]);
        assert_int_equal(dc_parity_reference_new(&r, a, -1, loader, bounds[i], NULL), DC_OK);
        assert_against(r, b, &with_b);
        assert_against(r, a, &with_a);
        weight[3] += 1;
        assert_against(r, b, &with_b);
        const dc_parity changed = measure(-1, b, -1, bounds[i]);
        assert_memory_not_equal(&changed, &with_b, sizeof changed);
        weight[3] -= 1;
        dc_parity_reference_free(r);
    }
    dc_parity_reference_free(NULL);
}

/* A model agrees with itself, and with its own adapter not; a bound on the tokens holds to a batch. */
static void test_self(void **state)
{
    (void)state;
    tiny_adapter adapter = tiny_adapter_new(a, 1, 2, 0, NULL);
    dc_parity p = measure(-1, a, -1, 0);
    assert_true(fabs(p.kl) <= 1e-6 && p.top1 == 1 && p.nmse == 0 && p.ppl_reference == p.ppl_file);
    p = measure(1, a, 1, 0);
    assert_true(fabs(p.kl) <= 1e-6 && p.top1 == 1 && p.nmse == 0);
    p = measure(1, a, -1, 10);
    assert_true(p.kl > 0.01 && p.nmse > 0.01 && p.tokens >= 10 && p.tokens < dc_set_trained(set));
    tiny_adapter_free(&adapter);
}

static void test_refusals(void **state)
{
    (void)state;
    dc_parity p;
    dc_error err = {0};
    b->config.V = V - 1;
    assert_int_equal(dc_parity_measure(&p, a, -1, b, -1, loader, 0, &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "49"));
    b->config.V = V;
    float *head = (float *)(uintptr_t)b->head.w->data.data;
    const float kept = head[5];
    head[5] = NAN;
    err = (dc_error){0};
    assert_int_equal(dc_parity_measure(&p, a, -1, b, -1, loader, 0, &err), DC_ENUMERIC);
    assert_non_null(strstr(err.message, "not finite"));
    head[5] = kept;
    dc_stop_request(SIGTERM);
    assert_int_equal(dc_parity_measure(&p, a, -1, b, -1, loader, 0, NULL), DC_ESTOPPED);
    dc_stop_request(0);
    int rc = DC_ENOMEM;
    for (long n = 1; rc != DC_OK; n++) {
        dc_alloc_fail_at(n);
        rc = dc_parity_measure(&p, a, -1, b, -1, loader, 5, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 10 : rc == DC_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
