/* tests/train/test_objective.c -- cross-entropy against double arithmetic; the size of a chunk changes nothing. */
#include "train/objective.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "tests/model/tiny.h"

enum { MOST = 32, WIDTH = 64, VOCABULARY = 64 };
static const int lengths[] = {9, 6, 11, 0};

/* A batch with labels, weights, and document boundaries among its rows. */
typedef struct labelled {
    tiny_batch batch;
    int32_t labels[MOST], cu_rows[TINY_B + 1];
    float weight[MOST];
    dc_packed packed;
} labelled;

static void labelled_init(labelled *l, const dc_model *m)
{
    tiny_batch_init(&l->batch, m, lengths, 2);
    const dc_batch *b = &l->batch.b;
    for (int64_t i = 0; i < b->M; i++) {
        l->labels[i] = (int32_t)((i * 17 + 3) % m->config.V);
        l->weight[i] = i % 3 == 0 ? 0.5f : 1;
    }
    l->packed = (dc_packed){.T = b->T,
                            .B = b->B,
                            .M = b->M,
                            .ids = b->ids,
                            .pos = b->pos,
                            .cu_seqlens = b->cu_seqlens,
                            .rows = b->rows,
                            .labels = l->labels,
                            .weight = l->weight};
}

/* Losses and the gradient of the hidden rows, from the plan's hidden rows, in double. */
static dc_losses naive(double *dhidden, const dc_model *m, const float *hidden, const labelled *l, double denominator)
{
    const int64_t C = m->config.C, V = m->config.V;
    dc_losses out = {0};
    for (int64_t i = 0; i < l->packed.M; i++) {
        double h[WIDTH], z[VOCABULARY], near[2][VOCABULARY], sum = 0, top = -INFINITY;
        int64_t best = 0;
        for (int64_t c = 0; c < C; c++) h[c] = (double)hidden[i * C + c];
        naive_logits(z, m, h);
        for (int64_t v = 0; v < V; v++)
            if (z[v] > top) top = z[v], best = v;
        for (int64_t v = 0; v < V; v++) sum += exp(z[v] - top);
        const double w = (double)l->weight[i], ce = top + log(sum) - z[l->labels[i]];
        out.loss += w * ce, out.ce += w * ce, out.weight += w, out.rows += 1, out.top1 += best == l->labels[i];
        for (int64_t c = 0; c < C; c++) { /* d(logits)/d(hidden) by central differences: the head's cap included */
            const double step = 1e-5;
            double d = 0;
            h[c] += step;
            naive_logits(near[0], m, h);
            h[c] -= 2 * step;
            naive_logits(near[1], m, h);
            h[c] += step;
            for (int64_t v = 0; v < V; v++)
                d += (exp(z[v] - top) / sum - (v == l->labels[i])) * (near[0][v] - near[1][v]) / (2 * step);
            dhidden[i * C + c] = w / denominator * d;
        }
    }
    return out;
}

static void test_values(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    for (tiny_kind kind = LLAMA; kind < TINY_KINDS; kind++) {
        dc_model *m = tiny_model(dev, kind, 0);
        const int64_t C = m->config.C, row = m->config.V * (int64_t)sizeof(float);
        const dc_plan_options po = {.max_tokens = 40, .max_docs = 4, .adapter = -1, .backward = 1};
        const dc_run run = {.adapter = -1};
        labelled l;
        dc_plan *p = NULL;
        float first_grad[MOST * WIDTH];
        double want[MOST * WIDTH];
        dc_losses first = {0};
        labelled_init(&l, m);
        assert_int_equal(dc_plan_new(&p, m, &po, NULL), DC_OK);
        const int64_t chunks[] = {1, row, 3 * row, 5 * row + 1, 0}; /* 1, 1, 3, 5, all rows */
        for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++) {
            dc_objective *o = NULL;
            dc_losses got = {0};
            double weight;
            assert_int_equal(dc_objective_cross_entropy(&o, m, chunks[k], NULL), DC_OK);
            assert_true(o->bytes(o) > 0 && !o->has_kd);
            dc_forward(p, &l.batch.b, &run);
            assert_int_equal(o->measure(o, &l.packed, &weight, NULL), DC_OK);
            const dc_losses naively = naive(want, m, dc_plan_hidden(p).data, &l, weight);
            assert_true(weight == naively.weight);
            assert_int_equal(o->run(o, p, &l.packed, &run, weight, 1, &got, NULL), DC_OK);
            assert_true(fabs(got.loss - naively.loss) <= 1e-5 * naively.loss && got.ce == got.loss && got.kd == 0);
            assert_true(got.rows == naively.rows && got.top1 == naively.top1 && got.weight == weight);
            const float *d = dc_plan_hidden_grad(p).data;
            double most = 0;
            for (int64_t i = 0; i < l.packed.M * C; i++) most = fmax(most, fabs(want[i]));
            for (int64_t i = 0; i < l.packed.M * C; i++)
                if (!(fabs((double)d[i] - want[i]) <= 3e-6 * most)) /* 4e-7 seen */
                    fail_msg("kind %d, chunk %zu, place %lld: %g, expected %g", (int)kind, k, (long long)i,
                             (double)d[i], want[i]);
            if (k == 0) first = got, memcpy(first_grad, d, (size_t)(l.packed.M * C) * sizeof *d);
            assert_true(fabs(got.loss - first.loss) <= 1e-6 * first.loss); /* a product's bits may depend on its rows */
            for (int64_t i = 0; i < l.packed.M * C; i++)
                assert_true(fabs((double)(d[i] - first_grad[i])) <= 1e-6 * most);
            /* Without a gradient: the same losses, the gradient untouched; sums are added to. */
            const float kept = d[0];
            assert_int_equal(o->run(o, p, &l.packed, &run, 1, 0, &got, NULL), DC_OK);
            assert_true(d[0] == kept && fabs(got.loss - 2 * naively.loss) <= 2e-5 * naively.loss &&
                        got.rows == 2 * naively.rows);
            o->free(o);
        }
        dc_plan_free(p);
        dc_model_free(m);
    }
    dc_dev_close(dev);
}

/* More rows than are sent at once: the same sums, and each row's own label and weight. */
static void test_many_rows(void **state)
{
    (void)state;
    enum { T = 1300, C = WIDTH };
    static int32_t ids[T], pos[T], rows[T], labels[T];
    static float weight[T], grads[2][T * C];
    const int32_t cu[] = {0, T};
    dc_dev *dev = tiny_dev();
    dc_model *m = tiny_model(dev, LLAMA, 0);
    const dc_plan_options po = {.max_tokens = T, .max_docs = 1, .adapter = -1, .backward = 1};
    const dc_run run = {.adapter = -1};
    dc_losses got[2] = {0};
    dc_plan *p = NULL;
    assert_true(m->config.C <= C);
    for (int i = 0; i < T; i++) {
        ids[i] = (int32_t)(i * 7 % m->config.V), pos[i] = rows[i] = i;
        labels[i] = (int32_t)(i * 17 % m->config.V), weight[i] = (float)(1 + i % 5) / 4;
    }
    const dc_packed packed = {.T = T,
                              .B = 1,
                              .M = T,
                              .ids = ids,
                              .pos = pos,
                              .cu_seqlens = cu,
                              .rows = rows,
                              .labels = labels,
                              .weight = weight};
    const dc_batch batch = dc_batch_of(&packed);
    assert_int_equal(dc_plan_new(&p, m, &po, NULL), DC_OK);
    for (int k = 0; k < 2; k++) { /* rows one by one, which takes three spans; all in one chunk */
        dc_objective *o = NULL;
        assert_int_equal(dc_objective_cross_entropy(&o, m, k ? 0 : 1, NULL), DC_OK);
        dc_forward(p, &batch, &run);
        assert_int_equal(o->run(o, p, &packed, &run, 100, 1, &got[k], NULL), DC_OK);
        memcpy(grads[k], dc_plan_hidden_grad(p).data, (size_t)(T * m->config.C) * sizeof(float));
        o->free(o);
    }
    double most = 0;
    for (int64_t i = 0; i < T * m->config.C; i++) most = fmax(most, fabs((double)grads[1][i]));
    assert_true(most > 1e-4 && got[0].rows == T && got[0].weight == got[1].weight && got[0].top1 == got[1].top1);
    assert_true(fabs(got[0].loss - got[1].loss) <= 1e-6 * got[1].loss);
    for (int64_t i = 0; i < T * m->config.C; i++) assert_true(fabs((double)(grads[0][i] - grads[1][i])) <= 1e-6 * most);
    dc_plan_free(p);
    dc_model_free(m);
    dc_dev_close(dev);
}

/* The head's own gradient is summed over chunks as over rows. */
static void test_head_gradient(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    dc_model *m = tiny_model(dev, LLAMA, 0);
    const int64_t n = m->config.V * m->config.C;
    const dc_plan_options po = {.max_tokens = 40, .max_docs = 4, .adapter = -1, .backward = 1};
    const dc_run run = {.adapter = -1};
    float *grads[2] = {calloc((size_t)n, sizeof(float)), calloc((size_t)n, sizeof(float))};
    labelled l;
    dc_plan *p = NULL;
    labelled_init(&l, m);
    assert_int_equal(dc_plan_new(&p, m, &po, NULL), DC_OK);
    for (int k = 0; k < 2; k++) {
        dc_objective *o = NULL;
        dc_losses got = {0};
        tiny_zero_grad(m);
        assert_int_equal(dc_objective_cross_entropy(&o, m, k ? 1 : 0, NULL), DC_OK);
        dc_forward(p, &l.batch.b, &run);
        assert_int_equal(o->run(o, p, &l.packed, &run, 10, 1, &got, NULL), DC_OK);
        memcpy(grads[k], m->head.w->grad, (size_t)n * sizeof(float));
        o->free(o);
    }
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)grads[0][i]));
    assert_true(most > 1e-3);
    for (int64_t i = 0; i < n; i++) assert_true(fabs((double)(grads[0][i] - grads[1][i])) <= 1e-6 * most);
    free(grads[0]), free(grads[1]);
    dc_plan_free(p);
    dc_model_free(m);
    dc_dev_close(dev);
}

static void test_memory(void **state)
{
    (void)state;
    dc_dev *dev = tiny_dev();
    dc_model *m = tiny_model(dev, ODD, 1);
    int rc = DC_ENOMEM;
    for (long n = 1; rc != DC_OK; n++) {
        dc_objective *o = NULL;
        dc_alloc_fail_at(n);
        rc = dc_objective_cross_entropy(&o, m, 0, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 5 : rc == DC_ENOMEM && !o);
        if (o) o->free(o);
    }
    dc_model_free(m);
    dc_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_many_rows),

        cmocka_unit_test(test_head_gradient),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
