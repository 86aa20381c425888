/* tests/model/test_kv.c -- sequences: decoding equals the packed forward, forks share and do not disturb, cuts forget. */
#include "tests/model/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "model/kv.h"

enum { PAGE = 4, LENGTH = 23 };
/* The online softmax of decoding and of the blocked forward sum in different orders. Observed 2e-6; keys of a wrong page score above 0.1. */
static const double tolerance = 2e-5;

typedef struct setup {
    dc_dev *dev;
    dc_model *m;
    tiny_adapter adapter;
    dc_plan *plan;
    dc_kv *kv;
    dc_run run;
} setup;

static setup *setup_new(tiny_kind kind, int64_t max_seqs, int64_t max_tokens)
{
    setup *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->dev = tiny_dev();
    s->m = tiny_model(s->dev, kind, 1);
    s->adapter = tiny_adapter_new(s->m, 0, 3, 0, NULL);
    const dc_plan_options o = {.max_tokens = 64, .max_docs = 4, .max_rows = 4, .adapter = 0};
    const dc_kv_options k = {.max_seqs = max_seqs, .max_tokens = max_tokens, .page = PAGE};
    assert_int_equal(dc_plan_new(&s->plan, s->m, &o, NULL), DC_OK);
    assert_int_equal(dc_kv_new(&s->kv, s->m, &k, NULL), DC_OK);
    return s;
}

static void setup_free(setup *s)
{
    dc_kv_free(s->kv);
    dc_plan_free(s->plan);
    tiny_adapter_free(&s->adapter);
    dc_model_free(s->m);
    dc_dev_close(s->dev);
    free(s);
}

/* Texts with the same hundreds, n, are equal in their first n tokens. */
static int32_t token(const setup *s, int text, int i)
{
    const int variant = i < text / 100 ? 0 : text % 100;
    return (int32_t)((variant * 31 + i * i * 7 + i) % s->m->config.V);
}

/* Hidden state of the last of the first n tokens of a text, by the judge. */
static void judge(const setup *s, double *out, int text, int n)
{
    int32_t ids[LENGTH], pos[LENGTH];
    const int32_t cu[2] = {0, n};
    for (int i = 0; i < n; i++) ids[i] = token(s, text, i), pos[i] = i;
    const dc_batch b = {.T = n, .B = 1, .M = 0, .ids = ids, .pos = pos, .cu_seqlens = cu};
    double *hidden = naive_hidden(s->m, &b, &s->run);
    memcpy(out, hidden + (n - 1) * s->m->config.C, (size_t)s->m->config.C * sizeof *out);
    free(hidden);
}

/* Appends tokens [length, length + n[b]) of text[b] to each sequence and compares the tap with the judge. */
static void extend(setup *s, int B, const int32_t *seqs, const int *texts, const int *n)
{
    int32_t ids[64], cu[5] = {0};
    const int64_t C = s->m->config.C;
    for (int b = 0; b < B; b++) {
        const int64_t from = dc_kv_length(s->kv, seqs[b]);
        cu[b + 1] = cu[b] + n[b];
        for (int i = 0; i < n[b]; i++) ids[cu[b] + i] = token(s, texts[b], (int)from + i);
    }
    dc_error err = {0};
    if (dc_forward_kv(s->plan, s->kv, seqs, ids, cu, B, &s->run, &err)) fail_msg("%s", err.message);
    const float *hidden = dc_plan_hidden(s->plan).data;
    double want[64];
    for (int b = 0; b < B; b++) {
        judge(s, want, texts[b], (int)dc_kv_length(s->kv, seqs[b]));
        for (int64_t c = 0; c < C; c++) assert_true(fabs((double)hidden[b * C + c] - want[c]) < tolerance);
    }
}

static void decoding_equals_the_whole(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < TINY_KINDS; kind++)
        for (int adapter = -1; adapter < 1; adapter++) {
            setup *s = setup_new((tiny_kind)kind, 2, 2 * LENGTH);
            s->run.adapter = adapter;
            const int32_t seq = dc_kv_open(s->kv);
            extend(s, 1, &seq, (int[]){0}, (int[]){6});  /* a prompt that ends within a page */
            extend(s, 1, &seq, (int[]){0}, (int[]){10}); /* more of it, over two borders */
            for (int i = 16; i < LENGTH; i++) extend(s, 1, &seq, (int[]){0}, (int[]){1});
            assert_int_equal(dc_kv_length(s->kv, seq), LENGTH);
            setup_free(s);
        }
}

static void ragged_sequences_go_together(void **unused)
{
    (void)unused;
    setup *s = setup_new(QWEN3, 3, 3 * LENGTH);
    int32_t seqs[3];
    for (int i = 0; i < 3; i++) seqs[i] = dc_kv_open(s->kv);
    assert_int_equal(dc_kv_open(s->kv), -1);
    const int texts[3] = {4, 5, 6};
    extend(s, 3, seqs, texts, (int[]){5, 1, 8});
    extend(s, 3, seqs, texts, (int[]){1, 9, 1});
    /* Another order, and not all of them. */
    const int32_t some[2] = {seqs[2], seqs[0]};
    extend(s, 2, some, (int[]){6, 4}, (int[]){1, 7});
    extend(s, 3, seqs, texts, (int[]){1, 1, 1});
    /* A place that was given back starts empty. */
    dc_kv_close(s->kv, seqs[1]);
    const int32_t again = dc_kv_open(s->kv);
    assert_int_equal(dc_kv_length(s->kv, again), 0);
    extend(s, 1, &again, (int[]){9}, (int[]){7});
    extend(s, 2, some, (int[]){6, 4}, (int[]){2, 1});
    setup_free(s);
}

static void forks_do_not_disturb_each_other(void **unused)
{
    (void)unused;
    for (int start = 1; start <= 9; start++) { /* within a page, at its end, behind it */
        setup *s = setup_new(LLAMA, 4, 4 * LENGTH);
        const int texts[3] = {100 * start + 1, 100 * start + 2, 100 * start + 3};
        int32_t seqs[3];
        seqs[0] = dc_kv_open(s->kv);
        extend(s, 1, seqs, texts, &start);
        seqs[1] = dc_kv_fork(s->kv, seqs[0]);
        seqs[2] = dc_kv_fork(s->kv, seqs[1]);
        assert_int_equal(dc_kv_length(s->kv, seqs[2]), start);
        extend(s, 3, seqs, texts, (int[]){1, 3, 6}); /* all write to the shared page at once */
        extend(s, 3, seqs, texts, (int[]){2, 1, 1});
        /* One forgets everything and tells another text: the others are as they were. */
        dc_kv_cut(s->kv, seqs[1], 0);
        extend(s, 1, seqs + 1, (int[]){9}, (int[]){start + 2});
        extend(s, 3, seqs, (int[]){texts[0], 9, texts[2]}, (int[]){1, 1, 1});
        dc_kv_close(s->kv, seqs[0]);
        extend(s, 2, seqs + 1, (int[]){9, texts[2]}, (int[]){1, 1});
        setup_free(s);
    }
}

static void cuts_forget(void **unused)
{
    (void)unused;
    for (int at = 0; at <= 10; at++) {
        setup *s = setup_new(QWEN2, 2, 2 * LENGTH);
        const int32_t seq = dc_kv_open(s->kv);
        extend(s, 1, &seq, (int[]){0}, (int[]){10});
        const int32_t copy = dc_kv_fork(s->kv, seq);
        dc_kv_cut(s->kv, seq, at);
        assert_int_equal(dc_kv_length(s->kv, seq), at);
        const int other = 100 * at + 7;
        extend(s, 1, &seq, &other, (int[]){3}); /* within pages that the copy still reads */
        extend(s, 2, (int32_t[]){copy, seq}, (int[]){0, other}, (int[]){2, 1});
        setup_free(s);
    }
}

static void a_full_cache_refuses_and_stays(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 2, 8); /* two pages of 4, and one more for each sequence */
    int32_t seqs[2] = {dc_kv_open(s->kv), dc_kv_open(s->kv)};
    const int texts[2] = {1, 2};
    extend(s, 2, seqs, texts, (int[]){7, 7});
    int32_t ids[16] = {0};
    const int32_t cu[3] = {0, 2, 4};
    dc_error err = {0};
    assert_int_equal(dc_forward_kv(s->plan, s->kv, seqs, ids, cu, 2, &s->run, &err), DC_ENOMEM);
    assert_non_null(strstr(err.message, "KV cache is full"));
    assert_int_equal(dc_kv_length(s->kv, seqs[0]), 7);
    extend(s, 2, seqs, texts, (int[]){1, 1});
    dc_kv_close(s->kv, seqs[0]);
    extend(s, 1, seqs + 1, texts + 1, (int[]){5});
    /* All four pages are taken; the copy would need one to write its first token. */
    const int32_t copy = dc_kv_fork(s->kv, seqs[1]);
    assert_int_equal(dc_forward_kv(s->plan, s->kv, &copy, ids, (int32_t[]){0, 1}, 1, &s->run, NULL), DC_ENOMEM);
    dc_kv_close(s->kv, copy);
    extend(s, 1, seqs + 1, texts + 1, (int[]){1});
    setup_free(s);
}

/* Forked again and again within the bound: pages are counted to the last one. */
static void pages_are_given_back(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 4, 16);
    const int32_t root = dc_kv_open(s->kv);
    extend(s, 1, &root, (int[]){1}, (int[]){6});
    for (int round = 0; round < 50; round++) {
        int32_t seqs[4] = {root};
        for (int i = 1; i < 4; i++) seqs[i] = dc_kv_fork(s->kv, root);
        extend(s, 4, seqs, (int[]){1, 1, 1, 1}, (int[]){1, 1, 2, 2});
        for (int i = 1; i < 4; i++) dc_kv_close(s->kv, seqs[i]);
        dc_kv_cut(s->kv, root, 6);
    }
    setup_free(s);
}

static void failing_memory_is_an_error(void **unused)
{
    (void)unused;
    setup *s = setup_new(LLAMA, 2, 16);
    const dc_kv_options k = {.max_seqs = 2, .max_tokens = 16};
    int failures = 0;
    for (;; failures++) {
        dc_kv *kv = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(failures + 1);
        const int rc = dc_kv_new(&kv, s->m, &k, &err);
        dc_alloc_fail_at(0);
        if (rc == DC_OK) {
            /* 1 + 2 pages of 32 tokens, keys and values of three layers, 12 floats each */
            assert_int_equal(dc_kv_bytes(kv), 3 * 32 * 2 * 3 * 12 * 4);
            dc_kv_free(kv);
            break;
        }
        assert_int_equal(rc, DC_ENOMEM);
        assert_null(kv);
    }
    assert_int_equal(failures, 13);
    const dc_kv_options huge = {.max_seqs = 2, .max_tokens = INT64_MAX / 2};
    dc_kv *kv = NULL;
    assert_int_equal(dc_kv_new(&kv, s->m, &huge, NULL), DC_ENOMEM);
    setup_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_equals_the_whole),       cmocka_unit_test(ragged_sequences_go_together),
        cmocka_unit_test(forks_do_not_disturb_each_other), cmocka_unit_test(cuts_forget),
        cmocka_unit_test(a_full_cache_refuses_and_stays),  cmocka_unit_test(pages_are_given_back),
        cmocka_unit_test(failing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
