/* tests/emu/test_emu_nccl.cc -- collectives between processes, and ranks that do not play along. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"
#include "nccl.h"

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "rank %d: line %d: %s\n", rank, __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

typedef int rank_main(int rank, int n, ncclComm_t comm, cudaStream_t stream);

static int run_rank(rank_main *f, int rank, int n, ncclUniqueId id)
{
    ncclComm_t comm;
    cudaStream_t stream;
    int r = -1, count = -1;
    NEED(ncclCommInitRank(&comm, n, id, rank) == ncclSuccess);
    NEED(ncclCommUserRank(comm, &r) == ncclSuccess && r == rank);
    NEED(ncclCommCount(comm, &count) == ncclSuccess && count == n);
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    const int bad = f(rank, n, comm, stream);
    ncclCommDestroy(comm);
    return bad;
}

/* f as n processes; how many fail. Rank `absent` is not started. */
static int failures(rank_main *f, int n, int absent)
{
    ncclUniqueId id;
    int bad = 0;
    pid_t pids[8];
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    fflush(nullptr);
    for (int rank = 0; rank < n; rank++) {
        if (rank == absent) continue;
        pids[rank] = fork();
        if (pids[rank] == 0) _exit(run_rank(f, rank, n, id));
    }
    for (int rank = 0; rank < n; rank++) {
        int status = 0;
        if (rank == absent) continue;
        assert_true(waitpid(pids[rank], &status, 0) == pids[rank]);
        bad += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return bad;
}

template <class T> static T *filled(size_t n, T (*value)(int rank, size_t i), int rank)
{
    T *host = (T *)malloc(n * sizeof(T)), *d = nullptr;
    for (size_t i = 0; i < n; i++) host[i] = value(rank, i);
    cudaMalloc(&d, n * sizeof(T));
    cudaMemcpy(d, host, n * sizeof(T), cudaMemcpyHostToDevice);
    free(host);
    return d;
}

/* Small integers: exact in every type. */
template <class T> static T number(int rank, size_t i) { return (T)(float)((i * 7 + (size_t)rank * 3) % 23); }

template <class T> static int all_collectives(int rank, int n, ncclComm_t comm, cudaStream_t s, ncclDataType_t type)
{
    const size_t ranks = (size_t)n, mine = (size_t)rank,
                 N = (1 << 20) / sizeof(T) + 5; /* two parts, the last one short */
    T *x = filled<T>(N * ranks, number<T>, rank), *y = nullptr, *h = (T *)malloc(N * ranks * sizeof(T));
    cudaMalloc(&y, N * ranks * sizeof(T));

    NEED(ncclAllReduce(x, y, N, type, ncclSum, comm, s) == ncclSuccess);
    cudaMemcpyAsync(h, y, N * sizeof(T), cudaMemcpyDeviceToHost, s);
    NEED(cudaStreamSynchronize(s) == cudaSuccess);
    for (size_t i = 0; i < N; i++) {
        float sum = 0;
        for (int r = 0; r < n; r++) sum += (float)number<T>(r, i);
        NEED((float)h[i] == sum);
    }
    NEED(ncclReduceScatter(x, y, N, type, ncclMax, comm, s) == ncclSuccess);
    cudaMemcpyAsync(h, y, N * sizeof(T), cudaMemcpyDeviceToHost, s);
    NEED(cudaStreamSynchronize(s) == cudaSuccess);
    for (size_t i = 0; i < N; i++) {
        float most = 0;
        for (int r = 0; r < n; r++) most = fmaxf(most, (float)number<T>(r, mine * N + i));
        NEED((float)h[i] == most);
    }
    NEED(ncclBroadcast(x, y, N, type, n - 1, comm, s) == ncclSuccess);
    cudaMemcpyAsync(h, y, N * sizeof(T), cudaMemcpyDeviceToHost, s);
    NEED(cudaStreamSynchronize(s) == cudaSuccess);
    for (size_t i = 0; i < N; i++) NEED((float)h[i] == (float)number<T>(n - 1, i));
    /* In place: each rank's own part lies where it belongs. */
    cudaMemcpyAsync(y + mine * N, x, N * sizeof(T), cudaMemcpyDeviceToDevice, s);
    NEED(ncclAllGather(y + mine * N, y, N, type, comm, s) == ncclSuccess);
    cudaMemcpyAsync(h, y, N * ranks * sizeof(T), cudaMemcpyDeviceToHost, s);
    NEED(cudaStreamSynchronize(s) == cudaSuccess);
    for (size_t i = 0; i < N * ranks; i++) NEED((float)h[i] == (float)number<T>((int)(i / N), i % N));
    free(h);
    cudaFree(x);
    cudaFree(y);
    return 0;
}

static int all_types(int rank, int n, ncclComm_t comm, cudaStream_t s)
{
    return all_collectives<float>(rank, n, comm, s, ncclFloat) ||
           all_collectives<double>(rank, n, comm, s, ncclDouble) ||
           all_collectives<dc_bf16>(rank, n, comm, s, ncclBfloat16) ||
           all_collectives<int>(rank, n, comm, s, ncclInt32) || all_collectives<long long>(rank, n, comm, s, ncclInt64);
}

static void test_collectives(void **)
{
    for (int n = 1; n <= 3; n++) assert_int_equal(failures(all_types, n, -1), 0);
}

/* Two sums in a group, which are queued when it closes. */
static int grouped(int rank, int n, ncclComm_t comm, cudaStream_t s)
{
    float *a = filled<float>(1, number<float>, rank), *b = filled<float>(1, number<float>, rank), h = -1;
    NEED(ncclGroupStart() == ncclSuccess);
    NEED(ncclAllReduce(a, a, 1, ncclFloat, ncclAvg, comm, s) == ncclSuccess);
    NEED(ncclAllReduce(b, b, 1, ncclFloat, ncclProd, comm, s) == ncclSuccess);
    NEED(cudaMemcpyAsync(&h, a, sizeof h, cudaMemcpyDeviceToHost, s) == cudaSuccess);
    NEED(h == number<float>(rank, 0));
    NEED(ncclGroupEnd() == ncclSuccess);
    NEED(ncclGroupEnd() == ncclInvalidUsage);
    NEED(cudaMemcpyAsync(&h, a, sizeof h, cudaMemcpyDeviceToHost, s) == cudaSuccess);
    NEED(h == 3.0f * (float)(n - 1) / 2);
    NEED(cudaMemcpyAsync(&h, b, sizeof h, cudaMemcpyDeviceToHost, s) == cudaSuccess);
    NEED(h == 0);
    return 0;
}

static void test_groups(void **) { assert_int_equal(failures(grouped, 2, -1), 0); }

static int different_counts(int rank, int, ncclComm_t comm, cudaStream_t s)
{
    ncclResult_t r = ncclSuccess;
    float *x = filled<float>(16, number<float>, rank);
    dc_emu_quiet(1);
    NEED(ncclAllReduce(x, x, rank ? 16 : 8, ncclFloat, ncclSum, comm, s) == ncclSuccess);
    NEED(cudaStreamSynchronize(s) == cudaErrorLaunchFailure);
    NEED(strstr(dc_emu_report(), "do not call the same collective"));
    NEED(ncclCommGetAsyncError(comm, &r) == ncclSuccess && r == ncclInvalidUsage);
    return 0;
}

static int one_leaves(int rank, int, ncclComm_t comm, cudaStream_t s)
{
    float *x = filled<float>(16, number<float>, rank);
    dc_emu_quiet(1);
    if (rank == 1) return 0;
    NEED(ncclAllReduce(x, x, 16, ncclFloat, ncclSum, comm, s) == ncclSuccess);
    NEED(cudaStreamSynchronize(s) == cudaErrorLaunchFailure);
    NEED(strstr(dc_emu_report(), "another rank does not come"));
    return 0;
}

static int bad_arguments(int rank, int, ncclComm_t comm, cudaStream_t s)
{
    float *x = filled<float>(16, number<float>, rank), here[16];
    NEED(ncclAllReduce(here, x, 16, ncclFloat, ncclSum, comm, s) == ncclInvalidArgument);
    NEED(ncclAllReduce(x, x, 17, ncclFloat, ncclSum, comm, s) == ncclInvalidArgument);
    NEED(ncclBroadcast(x, x, 16, ncclFloat, 1, comm, s) == ncclInvalidArgument);
    NEED(ncclAllReduce(x, x, 16, ncclFloat, ncclSum, nullptr, s) == ncclInvalidArgument);
    return 0;
}

static void test_disagreements(void **)
{
    setenv("DC_EMU_NCCL_TIMEOUT", "1", 1);
    assert_int_equal(failures(different_counts, 2, -1), 0);
    assert_int_equal(failures(one_leaves, 2, -1), 0);
    assert_int_equal(failures(bad_arguments, 1, -1), 0);
    assert_int_equal(failures(grouped, 2, 1), 1); /* the other is never there */
    unsetenv("DC_EMU_NCCL_TIMEOUT");
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_collectives), cmocka_unit_test(test_groups),
                                       cmocka_unit_test(test_disagreements)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
