/* tests/data/test_order.c -- document order, mixing and packing: what an epoch shows, and that a position is all there is to know. */
#include "data/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/arena.h"
#include "tests/core/temp.h"
#include "tests/data/set_kit.h"

enum { N = 700, SOURCES = 3, V = 5000 };

static dc_set *set; /* of N documents of SOURCES sources, opened once */

static void must(int rc, const dc_error *err)
{
    if (rc) fail_msg("%d: %s", rc, err->message);
}

static int setup(void **state)
{
    dc_error err = {0};
    return temp_setup(state) || kit_write(temp_dir, "train", N, V, SOURCES, &err) ||
           dc_set_open(&set, temp_dir, "train", &err);
}

static int teardown(void **state)
{
    dc_set_close(set);
    return temp_teardown(state);
}

static const dc_loader_options packed = {
    .seed = 5, .shuffle = 1, .packing = 1, .max_length = 100, .batch_size = 3, .window = 64};
static const dc_loader_options single = {.seed = 5, .shuffle = 1, .max_length = KIT_LONGEST, .batch_size = 4};

static dc_loader *open_loader(const dc_loader_options *o)
{
    dc_error err = {0};
    dc_loader *l = NULL;
    must(dc_loader_new(&l, set, o, &err), &err);
    return l;
}

static dc_packed next(dc_loader *l, int *ended)
{
    dc_error err = {0};
    dc_packed b;
    must(dc_loader_next(l, &b, ended, &err), &err);
    return b;
}

/* Everything a batch says follows from its documents. */
static void check_batch(const dc_packed *b)
{
    kit_doc memory;
    int64_t M = 0;
    assert_int_equal(b->cu_seqlens[0], 0);
    assert_int_equal(b->cu_rows[0], 0);
    for (int64_t i = 0; i < b->B; i++) {
        const dc_doc *doc = kit_document(&memory, b->docs[i], V, 0);
        const int64_t at = b->cu_seqlens[i];
        assert_int_equal(b->cu_seqlens[i + 1] - at, doc->n);
        assert_memory_equal(b->ids + at, doc->ids, (size_t)doc->n * sizeof *doc->ids);
        for (int64_t t = 0; t < doc->n; t++) assert_int_equal(b->pos[at + t], t);
        for (int64_t t = 1; t < doc->n; t++) {
            if (!doc->mask[t]) continue;
            assert_int_equal(b->rows[M], at + t - 1);
            assert_int_equal(b->labels[M], doc->ids[t]);
            assert_memory_equal(&b->weight[M], &doc->weight, sizeof doc->weight);
            M++;
        }
        assert_int_equal(b->cu_rows[i + 1], M);
    }
    assert_int_equal(b->T, b->cu_seqlens[b->B]);
    assert_int_equal(b->M, M);
}

/* Walks one epoch; count[d] says how often document d came, order (when not NULL) in which sequence. Returns the batches. */
static int64_t walk(dc_loader *l, int count[N], int64_t *order, int64_t *shown)
{
    int64_t T, B, M, batches = 0, n = 0;
    int ended = 0;
    dc_loader_bounds(l, &T, &B, &M);
    memset(count, 0, N * sizeof *count);
    while (!ended) {
        const dc_packed b = next(l, &ended);
        check_batch(&b);
        assert_true(b.B >= 1 && b.T <= T && b.B <= B && b.M <= M);
        for (int64_t i = 0; i < b.B; i++, n++) {
            count[b.docs[i]]++;
            if (order) order[n] = b.docs[i];
        }
        batches++;
    }
    if (shown) *shown = n;
    return batches;
}

static void every_document_comes_once_an_epoch(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        dc_loader_options o = mode & 1 ? packed : single;
        o.shuffle = mode >> 1;
        dc_loader *l = open_loader(&o);
        int count[N];
        for (int epoch = 0; epoch < 3; epoch++) {
            const int64_t expected = dc_loader_epoch_batches(l);
            assert_int_equal(walk(l, count, NULL, NULL), expected);
            for (int d = 0; d < N; d++) assert_int_equal(count[d], 1);
        }
        dc_loader_free(l);
    }
}

static void file_order_is_file_order(void **state)
{
    (void)state;
    dc_loader_options o = single;
    int count[N];
    int64_t order[N];
    o.shuffle = 0;
    dc_loader *l = open_loader(&o);
    walk(l, count, order, NULL);
    for (int64_t i = 0; i < N; i++) assert_int_equal(order[i], i);
    dc_loader_free(l);
}

static void epochs_and_seeds_differ(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        dc_loader_options o = mode ? packed : single;
        int count[N];
        int64_t a[N], b[N], c[N];
        dc_loader *l = open_loader(&o);
        walk(l, count, a, NULL);
        walk(l, count, b, NULL);
        dc_loader_free(l);
        o.seed++;
        l = open_loader(&o);
        walk(l, count, c, NULL);
        dc_loader_free(l);
        int same_epoch = 0, same_seed = 0;
        for (int i = 0; i < N; i++) same_epoch += a[i] == b[i], same_seed += a[i] == c[i];
        assert_true(same_epoch < 20 && same_seed < 20); /* 1 is expected of a random order */
    }
}

/* Sequences within max_length, hardly any room left, and no documents from outside the window. */
static void packing_fills_and_never_exceeds(void **state)
{
    (void)state;
    dc_loader_options o = packed;
    o.batch_size = 1; /* a micro-batch is a sequence */
    dc_loader *l = open_loader(&o);
    int64_t tokens = 0, sequences = 0;
    int ended = 0;
    while (!ended) {
        const dc_packed b = next(l, &ended);
        assert_true(b.T <= o.max_length);
        tokens += b.T, sequences++;
    }
    assert_int_equal(tokens, dc_set_tokens(set));
    /* best fit over 64 documents of 1 to 64 tokens in 100: measured 0.96; one document a sequence would give 0.33 */
    assert_true((double)tokens / ((double)sequences * (double)o.max_length) > 0.93);
    /* no length is special to the place in a window: the first sequences are not the longest documents */
    dc_loader_seek(l, (dc_position){0});
    int64_t longest_first = 0;
    for (int k = 0; k < 10; k++) {
        const dc_packed b = next(l, NULL);
        longest_first += b.cu_seqlens[1] > 50;
    }
    assert_true(longest_first < 10);
    dc_loader_free(l);
}

static void seek_is_walking(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        const dc_loader_options *o = mode ? &packed : &single;
        dc_loader *a = open_loader(o), *b = open_loader(o);
        const int64_t batches = dc_loader_epoch_batches(a);
        for (int64_t i = 0; i < 2 * batches + 3; i++) {
            const dc_position at = dc_loader_position(a);
            int ended[2];
            const dc_packed x = next(a, &ended[0]);
            if (i % 7 && i < batches - 2) continue;
            dc_loader_seek(b, at);
            const dc_packed y = next(b, &ended[1]);
            assert_int_equal(ended[0], ended[1]);
            assert_int_equal(x.T, y.T);
            assert_int_equal(x.B, y.B);
            assert_memory_equal(x.docs, y.docs, (size_t)x.B * sizeof *x.docs);
            assert_memory_equal(x.ids, y.ids, (size_t)x.T * sizeof *x.ids);
        }
        dc_loader_free(a);
        dc_loader_free(b);
    }
}

static void a_position_behind_the_end_goes_on(void **state)
{
    (void)state;
    dc_loader *l = open_loader(&packed);
    static const dc_position behind[] = {{3, 1000, 0}, {3, 10, 1 << 20}, {3, INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++) {
        dc_loader_seek(l, behind[i]);
        assert_int_equal(dc_loader_position(l).epoch, 4);
        assert_int_equal(dc_loader_position(l).window, 0);
        assert_true(next(l, NULL).B > 0);
    }
    dc_loader_seek(l, (dc_position){3, 2, 1 << 20});
    assert_int_equal(dc_loader_position(l).window, 3);
    dc_loader_seek(l, (dc_position){-1, 2, 3});
    assert_int_equal(dc_loader_position(l).epoch, 0);
    dc_loader_free(l);
}

/* What R ranks see is what one sees, dealt in turn; and a run goes on with another number of ranks. */
static void ranks_deal_the_global_order(void **state)
{
    (void)state;
    for (int64_t ranks = 2; ranks <= 5; ranks++) {
        dc_loader *all = open_loader(&packed), *l[5];
        for (int64_t r = 0; r < ranks; r++) {
            dc_loader_options o = packed;
            o.ranks = ranks, o.rank = r;
            l[r] = open_loader(&o);
        }
        for (int step = 0; step < 60; step++) {
            int first = 0, any = 0;
            for (int64_t r = 0; r < ranks; r++) {
                int ended = 0, one = 0;
                const dc_packed x = next(all, &one);
                const dc_packed y = next(l[r], &ended);
                assert_int_equal(x.B, y.B);
                assert_memory_equal(x.docs, y.docs, (size_t)x.B * sizeof *x.docs);
                assert_memory_equal(x.ids, y.ids, (size_t)x.T * sizeof *x.ids);
                if (r == 0) first = ended;
                assert_int_equal(ended, first);
                any |= one;
            }
            assert_int_equal(any, first);
            const dc_position a = dc_loader_position(all), b = dc_loader_position(l[0]);
            assert_true(a.epoch == b.epoch && a.window == b.window && a.bin == b.bin);
        }
        dc_loader_free(all);
        for (int64_t r = 0; r < ranks; r++) dc_loader_free(l[r]);
    }
}

static void weights_say_how_often(void **state)
{
    static const double weights[SOURCES] = {0.25, 2.5, 0};
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        dc_loader_options o = mode & 1 ? packed : single;
        int count[N], total[N] = {0};
        int64_t shown = 0;
        o.weights = weights, o.n_weights = SOURCES, o.shuffle = mode >> 1;
        dc_loader *l = open_loader(&o);
        int64_t of_source[SOURCES] = {0}, expected = 0;
        for (int d = 0; d < N; d++) of_source[dc_set_doc_source(set, d)]++;
        for (int s = 0; s < SOURCES; s++) expected += (int64_t)((double)of_source[s] * weights[s] + 0.5);
        for (int epoch = 0; epoch < 4; epoch++) {
            walk(l, count, NULL, &shown);
            assert_int_equal(shown, expected);
            for (int d = 0; d < N; d++) {
                const uint32_t s = dc_set_doc_source(set, d);
                total[d] += count[d];
                assert_true(s == 0 ? count[d] <= 1 : s == 1 ? count[d] == 2 || count[d] == 3 : count[d] == 0);
            }
        }
        /* four quarters: each document once, give or take the rounding of the quarter; 4 times 2.5 */
        int off = 0;
        for (int d = 0; d < N; d++) {
            const uint32_t s = dc_set_doc_source(set, d);
            off += total[d] != (s == 0 ? 1 : s == 1 ? 10 : 0);
        }
        assert_true(off <= 4);
        dc_loader_free(l);
    }
}

/* A weight above 1 may put the longest document into a micro-batch twice; the bounds must hold it. */
static void bounds_hold_repeated_documents(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_set *pair = NULL;
    dc_loader *l = NULL;
    const double weight = 3;
    int32_t ids[KIT_LONGEST] = {0};
    uint8_t mask[KIT_LONGEST];
    memset(mask, 1, sizeof mask);
    dc_shard_writer *w = NULL;
    const dc_set_info info = kit_info(V);
    must(dc_shard_writer_new(&w, temp_dir, "pair", &info, &err), &err);
    for (int64_t n = KIT_LONGEST; n >= 1; n -= KIT_LONGEST - 1) {
        const dc_doc doc = {.ids = ids, .mask = mask, .n = n, .weight = 1};
        must(dc_shard_writer_add(w, &doc, &err), &err);
    }
    must(dc_shard_writer_commit(w, &err), &err);
    dc_shard_writer_free(w);
    must(dc_set_open(&pair, temp_dir, "pair", &err), &err);
    for (int packing = 0; packing < 2; packing++) {
        const dc_loader_options o = {.seed = 1,
                                     .shuffle = 1,
                                     .packing = packing,
                                     .max_length = 200,
                                     .batch_size = 3,
                                     .weights = &weight,
                                     .n_weights = 1};
        int64_t T, B, M, most = 0;
        must(dc_loader_new(&l, pair, &o, &err), &err);
        dc_loader_bounds(l, &T, &B, &M);
        for (int i = 0; i < 200; i++) {
            dc_packed b;
            must(dc_loader_next(l, &b, NULL, &err), &err);
            assert_true(b.T <= T && b.B <= B && b.M <= M);
            most = b.T > most ? b.T : most;
        }
        assert_true(most > KIT_LONGEST + 2);
        dc_loader_free(l);
    }
    dc_set_close(pair);
}

static void what_cannot_be_is_refused(void **state)
{
    static const double none[SOURCES] = {0, 0, 0}, wrong[SOURCES] = {1, -1, 1};
    (void)state;
    dc_error err = {0};
    dc_loader *l = NULL;
    dc_loader_options o = packed;
    o.weights = none, o.n_weights = SOURCES;
    assert_int_equal(dc_loader_new(&l, set, &o, &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "no documents to show"));
    err = (dc_error){0};
    o.weights = wrong;
    assert_int_equal(dc_loader_new(&l, set, &o, &err), DC_EUSAGE);
    assert_non_null(strstr(err.message, "source 1 of the data has weight -1"));
    err = (dc_error){0};
    o = packed, o.max_length = KIT_LONGEST - 1;
    assert_int_equal(dc_loader_new(&l, set, &o, &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "has 64 tokens, a packed sequence only 63"));
    assert_null(l);
    int rc = DC_ENOMEM;
    long n = 1;
    for (; rc != DC_OK && n < 100; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = dc_loader_new(&l, set, &packed, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(rc == DC_OK && n > 10);
    dc_loader_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_comes_once_an_epoch),
        cmocka_unit_test(file_order_is_file_order),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(packing_fills_and_never_exceeds),
        cmocka_unit_test(seek_is_walking),
        cmocka_unit_test(a_position_behind_the_end_goes_on),
        cmocka_unit_test(ranks_deal_the_global_order),
        cmocka_unit_test(weights_say_how_often),
        cmocka_unit_test(bounds_hold_repeated_documents),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
