/* tests/model/test_linear.c -- a linear with delta, dropout and bias against loops in double. */
#include "tests/model/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/linear.h"

enum { T = 9, IN = 13, OUT = 11, R = 3, AFTER = 16 };

/* Every operand, with room behind it that nobody may touch. */
typedef struct operands {
    float w[OUT * IN], dw[OUT * IN + AFTER], bias[OUT], dbias[OUT + AFTER], A[R * IN], dA[R * IN + AFTER], B[OUT * R],
        dB[OUT * R + AFTER], x[T * IN], y[T * OUT + AFTER], dy[T * OUT], dx[T * IN + AFTER], u[T * R + AFTER],
        du[T * R + AFTER], scratch[T * IN + AFTER], ones[T * IN], mask[T * IN];
    dc_weight weight, biases;
    dc_delta delta;
    dc_linear l;
} operands;

static operands *operands_new(float dropout)
{
    operands *o = aligned_alloc(64, (sizeof *o + 63) / 64 * 64);
    assert_non_null(o);
    memset(o, 0, sizeof *o);
    tiny_fill(o->w, OUT * IN, 1, 1), tiny_fill(o->bias, OUT, 1, 2), tiny_fill(o->A, R * IN, 1, 3);
    tiny_fill(o->B, OUT * R, 1, 4), tiny_fill(o->x, T * IN, 1, 5), tiny_fill(o->dy, T * OUT, 1, 6);
    tiny_fill(o->y, T * OUT + AFTER, 1, 7), tiny_fill(o->dx, T * IN + AFTER, 1, 8);
    tiny_fill(o->dw, OUT * IN + AFTER, 1, 9), tiny_fill(o->dA, R * IN + AFTER, 1, 10);
    tiny_fill(o->dB, OUT * R + AFTER, 1, 11), tiny_fill(o->dbias, OUT + AFTER, 1, 12);
    for (int i = 0; i < T * IN; i++) o->ones[i] = 1;
    o->weight = (dc_weight){.data = {o->w, DC_F32}, .grad = o->dw};
    o->biases = (dc_weight){.data = {o->bias, DC_F32}, .grad = o->dbias};
    o->delta = (dc_delta){.A = o->A,
                          .B = o->B,
                          .a = {o->A, DC_F32},
                          .b = {o->B, DC_F32},
                          .dA = o->dA,
                          .dB = o->dB,
                          .R = R,
                          .scale = 0.6f,
                          .dropout = dropout,
                          .place = 4};
    o->l = (dc_linear){.w = &o->weight, .bias = &o->biases, .in = IN, .out = OUT, .delta = {NULL, &o->delta}};
    return o;
}

/* A second set with the results that double loops give. */
static operands *judge(const operands *o, const dc_run *run, int accumulate)
{
    operands *j = malloc(sizeof *j);
    assert_non_null(j);
    *j = *o;
    const int adapted = run->adapter == 1;
    double u[T][R] = {{0}}, du[T][R] = {{0}};
    for (int t = 0; t < T; t++) {
        for (int r = 0; r < R && adapted; r++) {
            for (int i = 0; i < IN; i++)
                u[t][r] += (double)o->x[t * IN + i] * (double)o->mask[t * IN + i] * (double)o->A[r * IN + i];
            for (int k = 0; k < OUT; k++)
                du[t][r] += (double)o->delta.scale * (double)o->dy[t * OUT + k] * (double)o->B[k * R + r];
        }
        for (int k = 0; k < OUT; k++) {
            double y = (double)o->bias[k] + (accumulate ? (double)o->y[t * OUT + k] : 0);
            for (int i = 0; i < IN; i++) y += (double)o->x[t * IN + i] * (double)o->w[k * IN + i];
            for (int r = 0; r < R; r++) y += (double)o->delta.scale * u[t][r] * (double)o->B[k * R + r];
            j->y[t * OUT + k] = (float)y;
        }
        for (int i = 0; i < IN; i++) {
            double dx = accumulate ? (double)o->dx[t * IN + i] : 0;
            for (int k = 0; k < OUT; k++) dx += (double)o->dy[t * OUT + k] * (double)o->w[k * IN + i];
            for (int r = 0; r < R; r++) dx += du[t][r] * (double)o->A[r * IN + i] * (double)o->mask[t * IN + i];
            j->dx[t * IN + i] = (float)dx;
        }
    }
    for (int t = 0; t < T; t++) {
        for (int k = 0; k < OUT; k++) {
            j->dbias[k] += o->dy[t * OUT + k];
            for (int i = 0; i < IN; i++) j->dw[k * IN + i] += o->dy[t * OUT + k] * o->x[t * IN + i];
            for (int r = 0; r < R; r++)
                j->dB[k * R + r] += (float)((double)o->delta.scale * (double)o->dy[t * OUT + k] * u[t][r]);
        }
        for (int r = 0; r < R; r++)
            for (int i = 0; i < IN; i++)
                j->dA[r * IN + i] += (float)(du[t][r] * (double)o->x[t * IN + i] * (double)o->mask[t * IN + i]);
    }
    return j;
}

/* Worst difference, what lies behind included. */
static double off(const float *a, const float *b, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* Sums of at most 25 products of numbers below 2. Observed 2e-6. A forgotten scale scores 0.9. */
static const double tolerance = 1e-5;

static void compare(dc_dev *dev, float dropout, dc_run run, int accumulate)
{
    operands *o = operands_new(dropout);
    run.device_step = &run.step;
    memcpy(o->mask, o->ones, sizeof o->mask);
    if (dropout > 0 && run.training) {
        const dc_dropout d = {dropout, run.seed, 4, &run.step};
        dev->op.dropout(dev, (dc_view){o->mask, DC_F32}, (dc_cview){o->ones, DC_F32}, T * IN, &d, 0);
    }
    operands *j = judge(o, &run, accumulate);
    const dc_cview x = {o->x, DC_F32}, dy = {o->dy, DC_F32};
    float *scratch = dropout > 0 ? o->scratch : NULL;
    dc_linear_fwd(dev, &o->l, dc_floats_view(o->y), dc_floats_view(o->u), dc_floats_view(scratch), x, T, accumulate,
                  &run);
    assert_true(off(o->y, j->y, T * OUT + AFTER) < tolerance);
    dc_linear_bwd(dev, &o->l, dc_floats_view(o->dx), dc_floats_view(o->du), dc_floats_view(scratch), dy, x,
                  (dc_cview){o->u, DC_F32}, T, accumulate, &run);
    assert_true(off(o->dx, j->dx, T * IN + AFTER) < tolerance);
    assert_true(off(o->dw, j->dw, OUT * IN + AFTER) < tolerance);
    assert_true(off(o->dbias, j->dbias, OUT + AFTER) < tolerance);
    assert_true(off(o->dA, j->dA, R * IN + AFTER) < tolerance);
    assert_true(off(o->dB, j->dB, OUT * R + AFTER) < tolerance);
    for (int i = 0; i < AFTER; i++)
        assert_true(o->u[T * R + i] == 0 && o->du[T * R + i] == 0 && o->scratch[T * IN + i] == 0);
    free(o), free(j);
}

static void equals_double(void **unused)
{
    (void)unused;
    dc_dev *dev = tiny_dev();
    for (int adapter = -1; adapter < 3; adapter++) /* 1 has a delta, 0 and 2 leave the linear alone */
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            compare(dev, 0, (dc_run){.adapter = adapter}, accumulate);
            compare(dev, 0.25f, (dc_run){.adapter = adapter, .training = 1, .seed = 3, .step = 8}, accumulate);
            compare(dev, 0.25f, (dc_run){.adapter = adapter}, accumulate); /* does not train: nothing is dropped */
        }
    dc_dev_close(dev);
}

static void what_is_frozen_is_not_touched(void **unused)
{
    (void)unused;
    dc_dev *dev = tiny_dev();
    operands *o = operands_new(0.5f), *was = malloc(sizeof *was);
    o->weight.grad = o->biases.grad = o->delta.dA = o->delta.dB = NULL;
    *was = *o;
    dc_run run = {.adapter = 1, .training = 1};
    run.device_step = &run.step;
    assert_false(dc_linear_trains(&o->l, 1));
    dc_linear_bwd(dev, &o->l, dc_floats_view(NULL), dc_floats_view(NULL), dc_floats_view(NULL),
                  (dc_cview){o->dy, DC_F32}, (dc_cview){NULL, DC_F32}, (dc_cview){NULL, DC_F32}, T, 0, &run);
    assert_memory_equal(o, was, offsetof(operands, weight));
    dc_linear_bwd(dev, &o->l, dc_floats_view(o->dx), dc_floats_view(o->du), dc_floats_view(o->scratch),
                  (dc_cview){o->dy, DC_F32}, (dc_cview){NULL, DC_F32}, (dc_cview){NULL, DC_F32}, T, 0, &run);
    assert_memory_equal(o->dA, was->dA, sizeof o->dA);
    assert_memory_equal(o->dw, was->dw, sizeof o->dw);
    assert_true(off(o->dx, was->dx, T * IN) > 0.1);
    free(o), free(was);
    dc_dev_close(dev);
}

static void says_what_trains(void **unused)
{
    (void)unused;
    operands *o = operands_new(0);
    o->weight.grad = NULL;
    assert_true(dc_linear_trains(&o->l, -1));
    o->biases.grad = NULL;
    assert_false(dc_linear_trains(&o->l, -1));
    assert_false(dc_linear_trains(&o->l, 0));
    assert_true(dc_linear_trains(&o->l, 1));
    o->delta.dA = NULL;
    assert_true(dc_linear_trains(&o->l, 1));
    o->delta.dB = NULL;
    assert_false(dc_linear_trains(&o->l, 1));
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_double),
        cmocka_unit_test(what_is_frozen_is_not_touched),
        cmocka_unit_test(says_what_trains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
