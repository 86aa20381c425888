/* tests/cuda/test_comm_nccl.c -- ranks that are processes sum and share tensors by train/comm_nccl.c, over the emulation's NCCL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu.h"
#include "train/comm_engine.h"

/* In a rank, whose asserts nobody would hear of. */
#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "rank %d: line %d: %s: %s\n", r->rank, __LINE__, #condition, r->err.message); \
            return 1; \
        } \
    } while (0)

typedef struct rank_state {
    int rank;
    dc_dev *dev;
    void *link;
    dc_error err;
} rank_state;

typedef int rank_main(rank_state *r);

static const dc_comm_link *nccl(void) { return dc_comm_stream_link(); }

static int open_rank(rank_state *r, const unsigned char *id)
{
    dc_dev_options options = dc_dev_defaults();
    options.name = "cuda";
    dc_emu_quiet(1);
    NEED(dc_dev_open(&r->dev, &options, &r->err) == DC_OK);
    return nccl()->open(&r->link, r->dev, id, r->rank, 2, &r->err) == DC_OK ? 0 : 2;
}

static int run_rank(rank_main *f, int rank, const unsigned char *id)
{
    rank_state state = {.rank = rank}, *r = &state;
    const int opened = open_rank(r, id);
    if (opened == 2 && !f) NEED(strstr(r->err.message, "ncclCommInitRank: remote process exited"));
    if (opened || !f) return opened;
    const int bad = f(r);
    nccl()->close(r->link, bad);
    dc_dev_close(r->dev);
    return bad;
}

/* f as `ranks` processes of two; how they end, rank 1's code times 16. No f: open alone. */
static int ends(rank_main *f, int ranks)
{
    unsigned char id[DC_COMM_ID];
    int code = 0;
    pid_t pids[2];
    assert_int_equal(nccl()->make_id(id, NULL), DC_OK);
    fflush(NULL);
    for (int rank = 0; rank < ranks; rank++) {
        pids[rank] = fork();
        if (pids[rank] == 0) _exit(run_rank(f, rank, id));
    }
    for (int rank = 0; rank < ranks; rank++) {
        int status = 0;
        assert_true(waitpid(pids[rank], &status, 0) == pids[rank]);
        code += (WIFEXITED(status) ? WEXITSTATUS(status) : 15) << 4 * rank;
    }
    return code;
}

enum { N = (1 << 19) + 3 }; /* three parts of the emulation's */

static float value(int rank, int64_t i) { return (float)(i % 1009) + 0.25f * (float)(rank + 1); }

static dc_floats filled(const rank_state *r, float *host, int64_t n)
{
    void *memory = NULL;
    for (int64_t i = 0; i < n; i++) host[i] = value(r->rank, i);
    if (dc_dev_alloc(r->dev, &memory, (size_t)n * sizeof *host, "a tensor", NULL) != DC_OK) abort();
    dc_dev_upload(r->dev, memory, host, (size_t)n * sizeof *host);
    return (dc_floats){memory, n};
}

static int holds(const rank_state *r, dc_floats x, float *host, float (*expected)(int64_t i))
{
    dc_dev_download(r->dev, host, x.data, (size_t)x.n * sizeof *host);
    for (int64_t i = 0; i < x.n; i++)
        if (host[i] != expected(i)) return 0;
    return 1;
}

static float of_both(int64_t i) { return value(0, i) + value(1, i); }
static float of_first(int64_t i) { return value(0, i); }

/* One buffer is one collective, and nothing is copied; what was queued before is done before. */
static int sums_and_shares(rank_state *r)
{
    float *host = malloc(N * sizeof *host);
    const dc_floats flat = filled(r, host, N);
    const dc_floats two[] = {filled(r, host, 1), filled(r, host, 77)};
    NEED(dc_dev_sync(r->dev, &r->err) == DC_OK);
    const dc_emu_counts before = dc_emu_count();
    NEED(nccl()->sum(r->link, &flat, 1, &r->err) == DC_OK);
    const dc_emu_counts after = dc_emu_count();
    NEED(after.collectives == before.collectives + 1 && after.copies == before.copies);
    NEED(holds(r, flat, host, of_both));
    NEED(nccl()->share(r->link, two, 2, &r->err) == DC_OK);
    NEED(holds(r, two[0], host, of_first) && holds(r, two[1], host, of_first));
    dc_dev_upload(r->dev, (void *)(uintptr_t)two[1].data, host, sizeof *host);
    NEED(nccl()->sum(r->link, two, 2, &r->err) == DC_OK);
    dc_dev_download(r->dev, host, two[1].data, 2 * sizeof *host);
    NEED(host[0] == 2 * of_first(0) && host[1] == 2 * of_first(1));
    for (int i = 0; i < 2; i++) dc_dev_free(r->dev, (void *)(uintptr_t)two[i].data);
    dc_dev_free(r->dev, (void *)(uintptr_t)flat.data);
    free(host);
    return 0;
}

static int one_leaves(rank_state *r)
{
    float host[4];
    const dc_floats x = filled(r, host, 4);
    if (r->rank == 1) return 3;
    NEED(nccl()->sum(r->link, &x, 1, &r->err) == DC_EIO);
    NEED(strstr(r->err.message, "ncclAllReduce: remote process exited or there was a network error: "));
    return 0;
}

static int wrong_memory(rank_state *r)
{
    const float host[4] = {0};
    const dc_floats x = {host, 4};
    NEED(nccl()->sum(r->link, &x, 1, &r->err) == DC_EIO);
    NEED(strstr(r->err.message, "ncclAllReduce: invalid argument"));
    r->err = (dc_error){0}; /* the first one wins */
    NEED(nccl()->share(r->link, &x, 1, &r->err) == DC_EIO);
    NEED(strstr(r->err.message, "ncclBroadcast: invalid argument"));
    return 0;
}

static void two_ranks(void **state)
{
    (void)state;
    assert_int_equal(ends(sums_and_shares, 2), 0);
    assert_int_equal(ends(wrong_memory, 2), 0);
    assert_int_equal(ends(NULL, 2), 0);
}

static void a_rank_is_missing(void **state)
{
    (void)state;
    assert_int_equal(ends(one_leaves, 2), 3 << 4);
    setenv("DC_EMU_NCCL_TIMEOUT", "0.2", 1);
    assert_int_equal(ends(NULL, 1), 2);
    unsetenv("DC_EMU_NCCL_TIMEOUT");
}

static void library(void **state)
{
    (void)state;
    assert_string_equal(nccl()->library(), "NCCL 2.28.9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_ranks), cmocka_unit_test(a_rank_is_missing),
                                       cmocka_unit_test(library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
