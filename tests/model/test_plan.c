/* tests/model/test_plan.c -- the program: its memory, what it repeats and leaves out, and which runs give the same bits. */
#include "tests/model/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/pool.h"
#include "model/plan_private.h"

static const int two_documents[] = {9, 6, 0};
static const dc_run base = {.adapter = -1}, adapted = {.adapter = 0},
                    dropping = {.adapter = 0, .training = 1, .seed = 5, .step = 9};

typedef struct setup {
    dc_dev *dev;
    dc_model *m;
    tiny_adapter adapter;
    tiny_batch batch;
} setup;

static setup *setup_new(tiny_kind kind, float dropout, int (*wanted)(size_t))
{
    setup *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->dev = tiny_dev();
    s->m = tiny_model(s->dev, kind, 1);
    s->adapter = tiny_adapter_new(s->m, 0, 3, dropout, wanted);
    tiny_batch_init(&s->batch, s->m, two_documents, 2);
    return s;
}

static void setup_free(setup *s)
{
    tiny_adapter_free(&s->adapter);
    dc_model_free(s->m);
    dc_dev_close(s->dev);
    free(s);
}

static dc_plan *plan_new(setup *s, int64_t max_tokens, int backward, int checkpoint)
{
    const dc_plan_options o = {
        .max_tokens = max_tokens, .max_docs = 4, .adapter = 0, .backward = backward, .checkpoint = checkpoint};
    dc_plan *p = NULL;
    dc_error err = {0};
    if (dc_plan_new(&p, s->m, &o, &err)) fail_msg("%s", err.message);
    memset(p->arena, 0xff, p->arena_bytes); /* NaN: what is read was written */
    return p;
}

/* Everything a pass gives: hidden states, and the gradients of all deltas, one behind another. */
typedef struct outcome {
    float *x;
    int64_t n;
} outcome;

static void take(outcome *o, const float *x, int64_t n)
{
    o->x = realloc(o->x, (size_t)(o->n + n) * sizeof *x);
    assert_non_null(o->x);
    memcpy(o->x + o->n, x, (size_t)n * sizeof *x);
    o->n += n;
}

static outcome pass(setup *s, dc_plan *p, const dc_batch *b, const dc_run *run)
{
    outcome o = {0};
    const int64_t n = b->M * s->m->config.C;
    dc_forward(p, b, run);
    take(&o, dc_plan_hidden(p).data, n);
    if (!p->o.backward || run->adapter < 0) return o;
    tiny_adapter_zero_grad(&s->adapter);
    tiny_fill(dc_plan_hidden_grad(p).data, n, 1, 3);
    dc_backward(p);
    for (size_t i = 0; i < s->adapter.n; i++) {
        const dc_linear *l = dc_model_linear_at(s->m, i);
        if (!s->adapter.deltas[i].R) continue;
        take(&o, s->adapter.deltas[i].dA, 3 * l->in);
        take(&o, s->adapter.deltas[i].dB, 3 * l->out);
    }
    return o;
}

static void assert_same(outcome a, outcome b)
{
    assert_int_equal(a.n, b.n);
    for (int64_t i = 0; i < a.n; i++) assert_true(isfinite(a.x[i]));
    assert_memory_equal(a.x, b.x, (size_t)a.n * sizeof *a.x);
    free(a.x), free(b.x);
}

static void assert_differ(outcome a, outcome b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_not_equal(a.x, b.x, (size_t)a.n * sizeof *a.x);
    free(a.x), free(b.x);
}

/* ---- memory ---- */

static void nobody_alive_shares_memory(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < TINY_KINDS; kind++)
        for (int mode = 0; mode < 3; mode++) {
            setup *s = setup_new((tiny_kind)kind, 0.1f, NULL);
            dc_plan *p = plan_new(s, 48, mode > 0, mode > 1);
            size_t end = 0;
            for (int i = 0; i < p->n_buffers; i++) {
                const dc_buffer *a = &p->buffers[i];
                if (a->first < 0) continue;
                const int64_t rows = a->rows == DC_SYMBOL_ONE  ? 1
                                     : a->rows == DC_SYMBOL_B1 ? 4 + 1
                                                               : 48; /* plan_new: four documents */
                assert_true(a->offset % 64 == 0 && a->bytes >= (size_t)(rows * a->width) * 4);
                end = a->offset + a->bytes > end ? a->offset + a->bytes : end;
                for (int k = 0; k < i; k++) {
                    const dc_buffer *b = &p->buffers[k];
                    if (b->first < 0 || a->last < b->first || b->last < a->first) continue;
                    assert_true(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
                }
            }
            assert_int_equal(end, dc_plan_bytes(p));
            assert_true(p->live_bytes <= p->arena_bytes);
            /* Observed: 1.00 to 1.07 times what is alive. */
            assert_true((double)p->arena_bytes < 1.1 * (double)p->live_bytes);
            size_t forecast = 0;
            assert_int_equal(dc_plan_forecast(&forecast, s->m, dc_plan_options_of(p), NULL), DC_OK);
            assert_int_equal(forecast, dc_plan_bytes(p));
            dc_plan_free(p);
            setup_free(s);
        }
}

static void checkpoint_takes_less(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *all = plan_new(s, 48, 1, 0), *checkpoint = plan_new(s, 48, 1, 1), *forward = plan_new(s, 48, 0, 0);
    assert_true(dc_plan_bytes(checkpoint) < dc_plan_bytes(all) * 2 / 3);
    assert_true(dc_plan_bytes(forward) < dc_plan_bytes(checkpoint));
    dc_plan_free(all), dc_plan_free(checkpoint), dc_plan_free(forward);
    setup_free(s);
}

static void running_allocates_nothing(void **unused)
{
    (void)unused;
    setup *s = setup_new(QWEN3, 0.1f, NULL);
    dc_plan *p = plan_new(s, 16, 1, 1);
    free(pass(s, p, &s->batch.b, &dropping).x); /* the GEMM library makes its kernels at first use */
    dc_alloc_fail_at(1);
    dc_forward(p, &s->batch.b, &dropping);
    dc_backward(p);
    assert_null(dc_malloc(1)); /* the failure that was ordered is still there */
    dc_plan_free(p);
    setup_free(s);
}

static void failing_memory_is_an_error(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0.1f, NULL);
    const dc_plan_options o = {.max_tokens = 16, .max_docs = 4, .adapter = 0, .backward = 1};
    int failures = 0;
    for (;; failures++) {
        dc_plan *p = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(failures + 1);
        const int rc = dc_plan_new(&p, s->m, &o, &err);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) {
            dc_plan_free(p);
            break;
        }
        assert_int_equal(rc, DC_ENOMEM);
        assert_null(p);
        assert_true(err.message[0] != 0);
    }
    assert_true(failures >= 7);
    setup_free(s);
}

static void what_cannot_fit_is_refused_with_figures(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    const dc_plan_options o = {.max_tokens = INT32_MAX, .max_docs = 4, .adapter = 0, .backward = 1};
    dc_plan *p = NULL;
    dc_error err = {0};
    assert_int_equal(dc_plan_new(&p, s->m, &o, &err), DC_ENOMEM);
    assert_non_null(strstr(err.message, "2147483647 tokens"));
    assert_non_null(strstr(err.message, "TB"));
    setup_free(s);
}

/* ---- same bits ---- */

static void checkpoint_gives_the_same_bits(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        setup *s = setup_new((tiny_kind)kind, 0.2f, NULL);
        dc_plan *all = plan_new(s, 16, 1, 0), *checkpoint = plan_new(s, 16, 1, 1);
        assert_same(pass(s, all, &s->batch.b, &dropping), pass(s, checkpoint, &s->batch.b, &dropping));
        dc_plan_free(all), dc_plan_free(checkpoint);
        setup_free(s);
    }
}

static void a_smaller_batch_gives_the_same_bits(void **unused)
{
    (void)unused;
    setup *s = setup_new(ODD, 0.2f, NULL);
    dc_plan *tight = plan_new(s, s->batch.b.T, 1, 0), *wide = plan_new(s, 200, 1, 0);
    assert_same(pass(s, tight, &s->batch.b, &dropping), pass(s, wide, &s->batch.b, &dropping));
    assert_same(pass(s, wide, &s->batch.b, &dropping), pass(s, wide, &s->batch.b, &dropping));
    dc_plan_free(tight), dc_plan_free(wide);
    setup_free(s);
}

static void forward_plans_give_the_same_bits(void **unused)
{
    (void)unused;
    setup *s = setup_new(QWEN2, 0, NULL);
    dc_plan *training = plan_new(s, 16, 1, 0), *forward = plan_new(s, 16, 0, 0);
    dc_forward(training, &s->batch.b, &adapted);
    outcome a = {0};
    take(&a, dc_plan_hidden(training).data, s->batch.b.M * s->m->config.C);
    assert_same(a, pass(s, forward, &s->batch.b, &adapted));
    dc_plan_free(training), dc_plan_free(forward);
    setup_free(s);
}

static void packed_documents_equal_separate_ones(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        setup *s = setup_new((tiny_kind)kind, 0, NULL);
        dc_plan *p = plan_new(s, 16, 0, 0);
        tiny_batch_init(&s->batch, s->m, two_documents, 1);
        outcome together = pass(s, p, &s->batch.b, &adapted), apart = {0};
        for (int doc = 0; doc < 2; doc++) {
            const int32_t first = s->batch.cu_seqlens[doc], n = s->batch.cu_seqlens[doc + 1] - first, cu[2] = {0, n};
            const dc_batch b = {.T = n,
                                .B = 1,
                                .M = n,
                                .ids = s->batch.ids + first,
                                .pos = s->batch.pos + first,
                                .cu_seqlens = cu,
                                .rows = s->batch.rows};
            outcome one = pass(s, p, &b, &adapted);
            take(&apart, one.x, one.n);
            free(one.x);
        }
        /* A GEMM library may round differently for another number of rows. */
        assert_int_equal(together.n, apart.n);
        for (int64_t i = 0; i < together.n; i++) assert_true(fabsf(together.x[i] - apart.x[i]) < 5e-6f);
        free(together.x), free(apart.x);
        dc_plan_free(p);
        setup_free(s);
    }
}

static void no_adapter_is_the_base(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    assert_differ(pass(s, p, &s->batch.b, &base), (outcome){calloc(8 * 20, 4), s->batch.b.M * 20});
    outcome with = pass(s, p, &s->batch.b, &base);
    tiny_adapter_free(&s->adapter); /* the model as it was */
    const dc_plan_options o = {.max_tokens = 16, .max_docs = 4, .adapter = -1};
    dc_plan *bare = NULL;
    assert_int_equal(dc_plan_new(&bare, s->m, &o, NULL), DC_OK);
    assert_same(with, pass(s, bare, &s->batch.b, &base));
    s->adapter = tiny_adapter_new(s->m, 0, 3, 0, NULL);
    dc_plan_free(p), dc_plan_free(bare);
    setup_free(s);
}

static void dropout_replays(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0.2f, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    dc_run other_step = dropping, other_seed = dropping;
    other_step.step++, other_seed.seed++;
    assert_same(pass(s, p, &s->batch.b, &dropping), pass(s, p, &s->batch.b, &dropping));
    assert_differ(pass(s, p, &s->batch.b, &dropping), pass(s, p, &s->batch.b, &other_step));
    assert_differ(pass(s, p, &s->batch.b, &dropping), pass(s, p, &s->batch.b, &other_seed));
    assert_differ(pass(s, p, &s->batch.b, &dropping), pass(s, p, &s->batch.b, &adapted));
    dc_plan_free(p);
    setup_free(s);
}

static void threads_do_not_matter(void **unused)
{
    (void)unused;
    setup *s = setup_new(QWEN3, 0.2f, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    dc_pool_set_threads(1);
    outcome one = pass(s, p, &s->batch.b, &dropping);
    dc_pool_set_threads(3);
    assert_same(one, pass(s, p, &s->batch.b, &dropping));
    dc_pool_set_threads(0);
    dc_plan_free(p);
    setup_free(s);
}

/* ---- the list ---- */

static int count(const dc_plan *p, dc_step_op op, int layer, int again)
{
    int n = 0;
    for (int i = 0; i < p->n_steps; i++)
        n += p->steps[i].op == op && p->steps[i].layer == layer && p->steps[i].again == again;
    return n;
}

/* All linears of a frozen model adapted: what lies below the lowest norm wants no gradient. */
static void backward_stops_at_the_bottom(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    assert_int_equal(count(p, DC_STEP_LINEAR_BWD, 0, 0), 7);
    assert_int_equal(count(p, DC_STEP_NORM_BWD, 0, 0), 1); /* of the feed-forward, not of the attention */
    assert_int_equal(count(p, DC_STEP_NORM_BWD, 1, 0), 2);
    assert_int_equal(count(p, DC_STEP_EMBED_BWD, -1, 0), 0);
    for (int i = 0; i < p->n_steps; i++) {
        const dc_step *b = &p->steps[i];
        if (b->op != DC_STEP_LINEAR_BWD || b->layer != 0) continue;
        const dc_layer *l = &s->m->layers[0];
        assert_int_equal(b->out[0] < 0, b->linear == &l->q || b->linear == &l->k || b->linear == &l->v);
    }
    dc_plan_free(p);
    setup_free(s);
}

static int down_of_the_last(size_t i) { return i == 20; }

static void nothing_runs_below_the_lowest_adapter(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, down_of_the_last);
    dc_plan *p = plan_new(s, 16, 1, 0);
    /* The final norm's, the gated product again, and the one linear, without dx. */
    assert_int_equal(p->n_steps - p->objective - 1, 3);
    assert_int_equal(count(p, DC_STEP_LINEAR_BWD, 2, 0), 1);
    assert_int_equal(p->steps[p->n_steps - 1].out[0], -1);
    dc_plan_free(p);
    setup_free(s);
}

static void repeats_are_norms_and_products(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0), *checkpoint = plan_new(s, 16, 1, 1);
    for (int i = 0; i < p->n_steps; i++)
        assert_true(!p->steps[i].again || p->steps[i].op == DC_STEP_NORM || p->steps[i].op == DC_STEP_GLU);
    assert_int_equal(count(p, DC_STEP_NORM, 1, 1), 2);
    assert_int_equal(count(p, DC_STEP_GLU, 1, 1), 1);
    assert_int_equal(count(checkpoint, DC_STEP_ATTN, 1, 1), 1);
    assert_int_equal(count(checkpoint, DC_STEP_LINEAR, 1, 1), 6); /* not down, whose output and u are kept */
    assert_int_equal(count(checkpoint, DC_STEP_NORM, 1, 1), 2);   /* once for all three linears that read it */
    assert_int_equal(count(checkpoint, DC_STEP_ATTN, 2, 1), 0);   /* the last layer is kept */
    dc_plan_free(p), dc_plan_free(checkpoint);
    setup_free(s);
}

static void a_batch_may_want_no_row(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    s->batch.b.M = 0;
    outcome o = pass(s, p, &s->batch.b, &adapted);
    for (int64_t i = 0; i < o.n; i++) assert_true(o.x[i] == 0);
    free(o.x);
    dc_plan_free(p);
    setup_free(s);
}

static void what_is_not_finite_is_named(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    for (int mode = 0; mode < 3; mode++) {
        dc_plan *p = plan_new(s, 16, mode > 0, mode > 1);
        dc_str what = {0};
        dc_forward(p, &s->batch.b, &adapted);
        assert_int_equal(dc_plan_find_nonfinite(p, &what), 0);
        float *w = (float *)(uintptr_t)s->m->layers[1].down.w->data.data, was = *w;
        *w = INFINITY;
        dc_forward(p, &s->batch.b, &adapted);
        assert_int_equal(dc_plan_find_nonfinite(p, &what), 1);
        assert_string_equal(dc_str_text(&what), "model.layers.1.mlp.down_proj output, row 0");
        *w = was;
        /* Behind the last attention the first wanted row is token 1. */
        dc_str_clear(&what);
        float *rows = (float *)(uintptr_t)s->m->layers[2].o.w->data.data, kept = *rows;
        *rows = NAN;
        dc_forward(p, &s->batch.b, &adapted);
        assert_int_equal(dc_plan_find_nonfinite(p, &what), 1);
        assert_string_equal(dc_str_text(&what), "model.layers.2.self_attn.o_proj output, row 1");
        *rows = kept;
        dc_str_release(&what);
        dc_plan_free(p);
    }
    setup_free(s);
}

static void the_list_can_be_printed(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0.1f, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    dc_str text = {0};
    dc_plan_print(p, &text);
    const char *const parts[] = {"T <= 16 tokens",
                                 "model.layers.2.mlp.gate_proj",
                                 "model.layers.0 attention",
                                 "objective",
                                 "d_hidden[M,20]",
                                 "gate.1[T,28]",
                                 "glu.1'[T,28]",
                                 "linear_bwd",
                                 "kept"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(dc_str_text(&text), parts[i])) fail_msg("no '%s' in\n%s", parts[i], dc_str_text(&text));
    dc_str_release(&text);
    dc_plan_free(p);
    setup_free(s);
}

static void the_profile_counts(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 0, NULL);
    dc_plan *p = plan_new(s, 16, 1, 0);
    dc_plan_profile(p, 1);
    free(pass(s, p, &s->batch.b, &adapted).x);
    dc_profile_row rows[DC_STEP_OPS];
    const size_t n = dc_plan_profile_rows(p, rows, DC_STEP_OPS);
    double linear = 0, attn = 0, attn_bytes = 0, glu_bytes = 0, linear_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].calls > 0 && rows[i].seconds >= 0 && rows[i].bytes > 0);
        if (!strcmp(rows[i].name, "linear") || !strcmp(rows[i].name, "joint"))
            linear += rows[i].flops, linear_bytes += rows[i].bytes;
        if (!strcmp(rows[i].name, "attn")) attn = rows[i].flops, attn_bytes = rows[i].bytes;
        if (!strcmp(rows[i].name, "glu")) glu_bytes = rows[i].bytes;
    }
    /* C 20, q 24, k and v 12, F 28, R 3; 15 tokens in three layers, but 7 rows behind the last attention. */
    const double qkv = 20 * 24 + 2 * 20 * 12 + 3 * (20 + 24 + 2 * (20 + 12));
    const double rest = 24 * 20 + 3 * 20 * 28 + 3 * (24 + 20 + 3 * (20 + 28));
    assert_true(linear == 2 * (3 * 15 * qkv + (2 * 15 + 7) * rest));
    assert_true(attn == 4.0 * 24 * 3 * (45 + 21));
    /* Floats, read or written once: q, k, v, o and its lse; gate, up, and their product. */
    assert_true(attn_bytes == 4.0 * 3 * 15 * (2 * 24 + 2 * 12 + 4));
    assert_true(glu_bytes == 2 * 4.0 * 3 * 28 * (2 * 15 + 7)); /* made again in the backward */
    /* Base: x, y. Delta: x, once for those that share it, u twice, y twice. The residual of o and of down is copied, and then added to. */
    const double weights = qkv + rest, x = 4 * 20, y = 3 * (24 + 12 + 12), u = 2 * 3 * 3;
    const double x_rest = 2 * 24 + 3 * 20 + 2 * 28, y_rest = 3 * (28 + 28) + 6 * (20 + 20), u_rest = 2 * 4 * 3;
    assert_true(linear_bytes == 4 * (3 * weights + 3 * 15 * (x + y + u) + (2 * 15 + 7) * (x_rest + y_rest + u_rest)));
    assert_int_equal(dc_plan_profile_rows(p, rows, DC_STEP_OPS), 0);
    dc_plan_free(p);
    setup_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_alive_shares_memory),
        cmocka_unit_test(checkpoint_takes_less),
        cmocka_unit_test(running_allocates_nothing),
        cmocka_unit_test(failing_memory_is_an_error),
        cmocka_unit_test(what_cannot_fit_is_refused_with_figures),
        cmocka_unit_test(checkpoint_gives_the_same_bits),
        cmocka_unit_test(a_smaller_batch_gives_the_same_bits),
        cmocka_unit_test(forward_plans_give_the_same_bits),
        cmocka_unit_test(packed_documents_equal_separate_ones),
        cmocka_unit_test(no_adapter_is_the_base),
        cmocka_unit_test(dropout_replays),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(backward_stops_at_the_bottom),
        cmocka_unit_test(nothing_runs_below_the_lowest_adapter),
        cmocka_unit_test(repeats_are_norms_and_products),
        cmocka_unit_test(a_batch_may_want_no_row),
        cmocka_unit_test(what_is_not_finite_is_named),
        cmocka_unit_test(the_list_can_be_printed),
        cmocka_unit_test(the_profile_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
