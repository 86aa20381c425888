/* tests/cuda/test_plan_record.c -- passes replayed from recordings have the bits of passes queued op by op. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "emu.h"
#include "kernels/dev.h"
#include "model/plan_private.h"
#include "tests/model/tiny.h"

enum { R = 3, MOST = TINY_T * 64 };

/* One document, three, four, two; all of 20 tokens but the last. Three and four are the same shape, since B is rounded up. */
static const int batches[][5] = {{20}, {9, 6, 5}, {5, 5, 7, 3}, {3, 17}, {11, 8}};
static const int order[] = {0, 1, 2, 0, 2, 4, 1, 0, 3, 2, 3, 4, 1, 3, 4, 0};
enum { BATCHES = sizeof order / sizeof *order };

static dc_dev *open_card(int records)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    dc_dev_options o = dc_dev_defaults();
    o.name = "cuda";
    setenv("DC_CUDA_GRAPHS", records ? "on" : "off", 1);
    if (dc_dev_open(&dev, &o, &err)) fail_msg("%s", err.message);
    assert_int_equal(dc_dev_records(dev), records);
    return dev;
}

static void *on_device(dc_dev *dev, const void *host, size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(dc_dev_alloc(dev, &memory, bytes, "a test", NULL), DC_OK);
    dc_dev_upload(dev, memory, host, bytes);
    return memory;
}

/* The adapter's arrays on the device; the host's are kept in `host`. */
static dc_delta *move_to_device(dc_dev *dev, tiny_adapter *a)
{
    dc_delta *host = malloc(a->n * sizeof *host);
    memcpy(host, a->deltas, a->n * sizeof *host);
    for (size_t i = 0; i < a->n; i++) {
        const dc_linear *l = dc_model_linear_at(a->m, i);
        dc_delta *d = &a->deltas[i];
        d->A = on_device(dev, host[i].A, (size_t)(R * l->in) * 4),
        d->dA = on_device(dev, host[i].dA, (size_t)(R * l->in) * 4);
        d->B = on_device(dev, host[i].B, (size_t)(R * l->out) * 4),
        d->dB = on_device(dev, host[i].dB, (size_t)(R * l->out) * 4);
        d->a.data = d->A, d->b.data = d->B;
        d->joint = NULL; /* each A is somewhere else now */
    }
    return host;
}

static void free_moved(dc_dev *dev, tiny_adapter *a, dc_delta *host)
{
    for (size_t i = 0; i < a->n; i++) {
        const dc_delta *d = &a->deltas[i];
        dc_dev_free(dev, (void *)(uintptr_t)d->A), dc_dev_free(dev, (void *)(uintptr_t)d->B);
        dc_dev_free(dev, d->dA), dc_dev_free(dev, d->dB);
    }
    memcpy(a->deltas, host, a->n * sizeof *host);
    free(host);
}

/* Hidden rows of a batch behind those of the batches before. */
typedef struct trace {
    unsigned char hidden[BATCHES + 1][MOST];
    float grads[MOST];
    int replays; /* of recordings that there were in the end */
} trace;

static void train(dc_dev *dev, dc_plan *p, const dc_model *m, int which, int number, trace *t, int backward)
{
    tiny_batch batch;
    dc_error err = {0};
    float d[TINY_T * 20];
    tiny_batch_init(&batch, m, batches[which], which % 2 ? 2 : 3);
    const dc_run run = {.adapter = 0, .training = 1, .seed = 5, .step = (uint32_t)number};
    dc_forward(p, &batch.b, &run);
    if (dc_dev_sync(dev, &err)) fail_msg("%s", err.message);
    const dc_view hidden = dc_plan_hidden(p), back = dc_plan_hidden_grad(p);
    const int64_t n = batch.b.M * m->config.C;
    assert_true((size_t)n * dc_element_bytes(hidden.type) <= MOST);
    dc_dev_download(dev, t->hidden[number], hidden.data, (size_t)n * dc_element_bytes(hidden.type));
    if (!backward) return;
    tiny_fill(d, n, 1, (uint64_t)which);
    uint16_t small[TINY_T * 20];
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &d[i], sizeof bits);
        small[i] = (uint16_t)(bits >> 16);
    }
    dc_dev_upload(dev, back.data, back.type == DC_BF16 ? (void *)small : (void *)d,
                  (size_t)n * dc_element_bytes(back.type));
    dc_backward(p);
    if (dc_dev_sync(dev, &err)) fail_msg("%s", err.message);
}

static void run_all(trace *t, tiny_kind kind, int records, float dropout)
{
    dc_emu_reset();
    dc_dev *dev = open_card(records);
    dc_model *m = tiny_model(dev, kind, 1);
    tiny_adapter a = tiny_adapter_new(m, 0, R, dropout, NULL);
    dc_delta *host = move_to_device(dev, &a);
    const dc_plan_options o = {.max_tokens = TINY_T, .max_docs = TINY_B, .adapter = 0, .backward = 1};
    dc_plan *p = NULL;
    memset(t, 0, sizeof *t);
    assert_int_equal(dc_plan_new(&p, m, &o, NULL), DC_OK);
    for (int i = 0; i < BATCHES; i++) {
        if (i == BATCHES - 3) { /* an array elsewhere, with other numbers: an old recording would read the old one */
            const dc_linear *l = dc_model_linear_at(m, 0);
            float other[R * 64];
            tiny_fill(other, R * l->in, 1, 99);
            dc_dev_free(dev, (void *)(uintptr_t)a.deltas[0].A);
            static const char nothing[4096];
            void *gap = on_device(dev, nothing, sizeof nothing); /* so that it is not the same place again */
            a.deltas[0].A = on_device(dev, other, (size_t)(R * l->in) * 4);
            a.deltas[0].a.data = a.deltas[0].A;
            dc_dev_free(dev, gap);
        }
        train(dev, p, m, order[i], i, t, i != 6);
    }
    size_t at = 0;
    for (size_t i = 0; i < a.n; i++) {
        const dc_linear *l = dc_model_linear_at(m, i);
        assert_true(at + (size_t)(R * (l->in + l->out)) <= MOST);
        dc_dev_download(dev, t->grads + at, a.deltas[i].dA, (size_t)(R * l->in) * 4), at += (size_t)(R * l->in);
        dc_dev_download(dev, t->grads + at, a.deltas[i].dB, (size_t)(R * l->out) * 4), at += (size_t)(R * l->out);
    }
    for (int i = 0; i < DC_SHAPES; i++)
        t->replays += p->shapes[i].recording[0] != NULL && p->shapes[i].recording[1] != NULL;
    for (int i = 0; i < DC_PASSES && records; i++) assert_true(p->stretch[i].end - p->stretch[i].first > 3 * 10);
    dc_plan_free(p);
    free_moved(dev, &a, host);
    tiny_adapter_free(&a);
    dc_model_free(m);
    dc_dev_close(dev);
    assert_int_equal(dc_emu_reset(), 0);
}

static void same_bits(void **state)
{
    (void)state;
    trace *plain = malloc(sizeof *plain), *replayed = malloc(sizeof *replayed);
    for (tiny_kind kind = LLAMA; kind < TINY_KINDS; kind++) {
        for (int drop = 0; drop < 2; drop++) {
            run_all(plain, kind, 0, drop ? 0.25f : 0);
            run_all(replayed, kind, 1, drop ? 0.25f : 0);
            assert_true(plain->replays == 0 && replayed->replays >= 3);
            for (int i = 0; i < BATCHES; i++) assert_memory_equal(plain->hidden[i], replayed->hidden[i], MOST);
            assert_memory_equal(plain->grads, replayed->grads, sizeof plain->grads);
            float sum = 0;
            for (int i = 0; i < MOST; i++) sum += plain->grads[i] * plain->grads[i];
            assert_true(sum > 1e-3f);
        }
    }
    free(plain), free(replayed);
}

/* More shapes than are kept: the one that was used longest ago goes, and nothing is lost. */
static void many_shapes(void **state)
{
    (void)state;
    dc_emu_reset();
    unsigned char first[MOST] = {0};
    dc_dev *dev = open_card(1);
    dc_model *m = tiny_model(dev, LLAMA, 1);
    const dc_plan_options o = {.max_tokens = TINY_T, .max_docs = 1, .adapter = -1};
    const dc_run run = {.adapter = -1};
    dc_plan *p = NULL;
    assert_int_equal(dc_plan_new(&p, m, &o, NULL), DC_OK);
    for (int turn = 0; turn < 3; turn++) {
        for (int length = 10; length < 10 + 2 * DC_SHAPES; length++) {
            for (int again = 0; again < 3; again++) {
                tiny_batch batch;
                const int lengths[] = {length, 0};
                unsigned char bytes[MOST] = {0};
                tiny_batch_init(&batch, m, lengths,
                                length - 1); /* rows `length - 2` alone: always the same prefix before it */
                dc_forward(p, &batch.b, &run);
                dc_dev_download(dev, bytes, dc_plan_hidden(p).data, (size_t)m->config.C * 2);
                if (length == 10 && turn == 0 && again == 0) memcpy(first, bytes, sizeof first);
                if (length == 10) assert_memory_equal(bytes, first, sizeof first);
            }
        }
    }
    int recordings = 0;
    for (int i = 0; i < DC_SHAPES; i++) recordings += p->shapes[i].recording[0] != NULL;
    assert_int_equal(recordings, DC_SHAPES);
    dc_plan_free(p);
    dc_model_free(m);
    dc_dev_close(dev);
    assert_int_equal(dc_emu_reset(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(many_shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
