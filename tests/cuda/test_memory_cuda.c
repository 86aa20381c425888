/* tests/cuda/test_memory_cuda.c -- what a training is said to take of a card is what the card hands out, to the byte, and steps take no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "emu.h"
#include "kernels/cuda_dev.h"
#include "lora/adapter.h"
#include "tests/model/tiny.h"
#include "train/objective.h"
#include "train/params.h"

enum { T = 40 };
static const int lengths[] = {9, 6, 11, 0};

static size_t handed_out(dc_dev *dev) { return dc_cuda_handed_out(dev, NULL); }

/* The weights alone, as a training that freezes them has them. */
static dc_model *frozen_model(dc_dev *dev, tiny_kind kind)
{
    dc_model *whole = tiny_model(dev, kind, 0), *m = NULL;
    const dc_model_options frozen = dc_model_defaults();
    assert_int_equal(dc_model_copy(&m, whole, &frozen, NULL), DC_OK);
    dc_model_free(whole);
    return m;
}

static void step(dc_plan *p, dc_objective *o, const dc_model *m, const dc_params *params, int number)
{
    tiny_batch batch;
    int32_t labels[T];
    float weight[T];
    dc_losses losses = {0};
    double norm;
    dc_error err = {0};
    tiny_batch_init(&batch, m, lengths, 1 + number % 2);
    const dc_batch *b = &batch.b;
    for (int64_t i = 0; i < b->M; i++) labels[i] = (int32_t)(i % m->config.V), weight[i] = 1;
    const dc_packed packed = {.T = b->T,
                              .B = b->B,
                              .M = b->M,
                              .ids = b->ids,
                              .pos = b->pos,
                              .cu_seqlens = b->cu_seqlens,
                              .rows = b->rows,
                              .labels = labels,
                              .weight = weight};
    const dc_run run = {.adapter = 0, .training = 1, .step = (uint32_t)number};
    dc_params_zero_grad(params);
    dc_forward(p, b, &run);
    if (o->run(o, p, &packed, &run, (double)b->M, 1, &losses, &err)) fail_msg("%s", err.message);
    dc_backward(p);
    if (dc_params_grad_norm(params, &norm, &err)) fail_msg("%s", err.message);
}

static void planned_is_handed_out(void **state)
{
    (void)state;
    for (int turn = 0; turn < 2 * TINY_KINDS; turn++) {
        dc_emu_reset();
        dc_dev *dev = NULL;
        dc_dev_options options = dc_dev_defaults();
        options.name = "cuda";
        assert_int_equal(dc_dev_open(&dev, &options, NULL), DC_OK);
        dc_model *m = frozen_model(dev, (tiny_kind)(turn / 2));
        size_t planned = handed_out(dev), peak;
        assert_true(planned >= (size_t)dc_model_bytes(m)); /* small tables of the model beside its weights */
        assert_true(planned <= (size_t)dc_model_bytes(m) + 4096);

        dc_lora *lora = NULL;
        dc_params params = {.dev = dev};
        dc_lora_config config = dc_lora_defaults();
        config.r = 4, config.lora_dropout = turn % 2 ? 0.1 : 0;
        assert_int_equal(dc_lora_new(&lora, m, 0, &config, 1, 1, NULL), DC_OK);
        for (size_t i = 0; i < dc_lora_n(lora); i++) {
            const dc_lora_tensor *t = dc_lora_at(lora, i);
            const int64_t n = t->shape[0] * t->shape[1];
            const dc_param item = {
                .name = t->name, .data = t->data, .grad = t->grad, .n = n, .n_dims = 1, .shape = {n}, .lr_scale = 1};
            assert_int_equal(dc_params_add(&params, &item, NULL), DC_OK);
        }
        assert_int_equal(handed_out(dev), planned += dc_lora_bytes(lora));

        dc_plan *p = NULL;
        size_t forecast;
        const dc_plan_options o = {
            .max_tokens = T, .max_docs = TINY_B, .adapter = 0, .backward = 1, .checkpoint = turn % 2};
        assert_int_equal(dc_plan_forecast(&forecast, m, &o, NULL), DC_OK);
        assert_int_equal(handed_out(dev), planned); /* a forecast takes nothing */
        assert_int_equal(dc_plan_new(&p, m, &o, NULL), DC_OK);
        assert_int_equal(dc_plan_bytes(p), forecast);
        assert_int_equal(handed_out(dev), planned += forecast);

        dc_objective *objective = NULL;
        assert_int_equal(dc_objective_cross_entropy(&objective, m, turn % 2 ? 4096 : 0, NULL), DC_OK);
        assert_int_equal(handed_out(dev), planned += objective->bytes(objective));
        dc_cuda_handed_out(dev, &peak);
        const dc_emu_counts before = dc_emu_count();
        for (int i = 0; i < 5; i++) step(p, objective, m, &params, i);
        size_t later;
        assert_int_equal(dc_cuda_handed_out(dev, &later), planned);
        assert_int_equal(later, peak);
        assert_int_equal(dc_emu_count().live_bytes,
                         before.live_bytes); /* nor does a step take any behind the device's back */
        assert_int_equal(dc_emu_count().peak_bytes, before.peak_bytes);

        objective->free(objective);
        dc_plan_free(p);
        dc_params_release(&params);
        dc_lora_free(lora);
        dc_model_free(m);
        assert_int_equal(handed_out(dev), 0);
        dc_dev_close(dev);
        assert_int_equal(dc_emu_reset(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planned_is_handed_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
