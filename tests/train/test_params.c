/* tests/train/test_params.c -- the trainable set: the norm of its gradients, a bad one named, a model's weights and their decay. */
#include "train/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "tests/model/tiny.h"

static int64_t count(const dc_tensor_spec *s) { return s->shape[0] * (s->n_dims > 1 ? s->shape[1] : 1); }

/* All weights with a gradient, in the model's order; decay for matrices alone. */
static void test_model(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    for (tiny_kind kind = LLAMA; kind < TINY_KINDS; kind++) {
        dc_model *m = tiny_model(dev, kind, 0);
        dc_params p = {0};
        size_t n = 0;
        assert_int_equal(dc_params_add_model(&p, m, NULL), DC_OK);
        assert_int_equal(dc_params_count(&p), dc_model_parameters(m));
        for (size_t i = 0; i < m->n_weights; i++) {
            const dc_weight *w = &m->weights[i];
            if (!w->grad) continue;
            const dc_param *item = &p.items[n++];
            assert_string_equal(item->name, w->spec.hf);
            assert_true(item->data == w->owned && item->grad == w->grad && item->n == count(&w->spec) &&
                        item->lr_scale == 1.0f);
            const int vector = strstr(w->spec.hf, "norm") || strstr(w->spec.hf, "bias");
            assert_int_equal(item->decay, !vector);
        }
        assert_int_equal(n, p.n);
        dc_params_release(&p);
        dc_params_release(&p);
        dc_model_free(m);
    }
    dc_dev_close(dev);
}

static void test_norm(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    dc_model *m = tiny_model(dev, QWEN2, 0);
    dc_params p = {0};
    double want = 0, norm;
    assert_int_equal(dc_params_add_model(&p, m, NULL), DC_OK);
    for (size_t i = 0; i < p.n; i++) {
        tiny_fill(p.items[i].grad, p.items[i].n, 3, i + 1);
        for (int64_t k = 0; k < p.items[i].n; k++) want += (double)p.items[i].grad[k] * (double)p.items[i].grad[k];
    }
    assert_int_equal(dc_params_grad_norm(&p, &norm, NULL), DC_OK);
    assert_true(fabs(norm - sqrt(want)) <= 1e-6 * sqrt(want)); /* an op may sum a stretch in float */
    /* The first tensor with a bad value is named, wherever in it the value stands. */
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t b = 0; b < 3; b++)
        for (size_t i = 0; i < p.n; i += 5) {
            dc_error err = {0};
            float *at = &p.items[i].grad[b == 1 ? p.items[i].n - 1 : 0], *later = &p.items[p.n - 1].grad[0];
            const float kept = *at, kept_later = *later;
            *later = bad[b], *at = bad[b];
            assert_int_equal(dc_params_grad_norm(&p, &norm, &err), DC_ENUMERIC);
            if (!strstr(err.message, p.items[i].name)) fail_msg("%s is not in: %s", p.items[i].name, err.message);
            *at = kept;
            if (at != later) *later = kept_later;
        }
    dc_params_zero_grad(&p);
    assert_int_equal(dc_params_grad_norm(&p, &norm, NULL), DC_OK);
    assert_true(norm == 0);
    dc_params_release(&p);
    dc_model_free(m);
    dc_dev_close(dev);
}

static void test_memory(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    dc_model *m = tiny_model(dev, LLAMA, 0);
    int rc = DC_ENOMEM;
    for (long n = 1; rc != DC_OK; n++) {
        dc_params p = {0};
        dc_alloc_fail_at(n);
        rc = dc_params_add_model(&p, m, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 1 : rc == DC_ENOMEM);
        dc_params_release(&p);
    }
    dc_model_free(m);
    dc_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
