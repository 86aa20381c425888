/* tests/emu/test_emu_engine.cc -- grids, schedules, barriers and collectives; what is wrong with them must be seen. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "emu.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"

static const char *const schedules[] = {"forward", "reverse", "random:1", "random:2", "random:3"};
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules };

/* ---- indices and arguments ---- */

typedef struct wide_arg {
    double scale;
    int *out;
    short shift;
} wide_arg;

DC_KERNEL(256) write_index(wide_arg a, int n)
{
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int i = (int)(block * dc_threads() + dc_thread());
    if (i < n) a.out[i] = (int)(i * a.scale) + a.shift;
}

static void test_indices(void **)
{
    enum { N = 3 * 4 * 5 * 42 };
    int *d, h[N];
    for (int s = 0; s < N_SCHEDULES; s++) {
        assert_int_equal(dc_emu_schedule(schedules[s]), 0);
        for (int threads = 1; threads <= 3; threads += 2) {
            dc_emu_threads(threads);
            assert_int_equal(cudaMalloc(&d, sizeof h), cudaSuccess);
            DC_LAUNCH(write_index, dim3(3, 4, 5), dim3(7, 3, 2), 0, nullptr, wide_arg{2.0, d, 5}, N - 1);
            assert_int_equal(cudaMemcpy(h, d, sizeof h, cudaMemcpyDeviceToHost), cudaSuccess);
            for (int i = 0; i < N - 1; i++) assert_int_equal(h[i], 2 * i + 5);
            assert_int_equal(h[N - 1], -1); /* poison */
            assert_int_equal(cudaFree(d), cudaSuccess);
        }
    }
    dc_emu_threads(1);
}

/* ---- who runs when ---- */

/* The order in which threads come by, before a barrier and after it. */
DC_KERNEL(96) sign_in(int *order, int *tickets)
{
    const int n = (int)(gridDim.x * blockDim.x), me = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    order[atomicAdd(&tickets[0], 1)] = me;
    __syncthreads();
    order[n + atomicAdd(&tickets[1], 1)] = me;
}

enum { SIGN_BLOCKS = 3, SIGN_THREADS = 96, SIGNED = SIGN_BLOCKS * SIGN_THREADS };

static void signed_in(const char *schedule, int got[2 * SIGNED])
{
    int *order, *tickets;
    dc_emu_reset(); /* a drawn order depends on the launches before */
    assert_int_equal(dc_emu_schedule(schedule), 0);
    assert_int_equal(cudaMalloc(&order, 2 * SIGNED * sizeof(int)), cudaSuccess);
    assert_int_equal(cudaMalloc(&tickets, 2 * sizeof(int)), cudaSuccess);
    cudaMemset(tickets, 0, 2 * sizeof(int));
    DC_LAUNCH(sign_in, SIGN_BLOCKS, SIGN_THREADS, 0, nullptr, order, tickets);
    assert_int_equal(cudaMemcpy(got, order, 2 * SIGNED * sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
    cudaFree(order);
    cudaFree(tickets);
}

static void test_schedules(void **)
{
    int got[2 * SIGNED], again[2 * SIGNED], seen[SIGNED] = {0};
    signed_in("forward", got);
    for (int i = 0; i < 2 * SIGNED; i++) assert_int_equal(got[i], i % SIGNED);
    signed_in("reverse", got);
    for (int i = 0; i < 2 * SIGNED; i++) assert_int_equal(got[i], SIGNED - 1 - i % SIGNED);
    signed_in("random:7", got);
    int ascents = 0;
    for (int i = 0; i < SIGNED; i++) {
        assert_int_equal(seen[got[i]]++, 0);
        ascents += i && got[i] > got[i - 1];
    }
    assert_true(ascents > SIGNED / 4 && ascents < SIGNED * 3 / 4);
    assert_memory_not_equal(got, got + SIGNED, SIGNED * sizeof(int));
    signed_in("random:7", again);
    assert_memory_equal(got, again, sizeof got);
    signed_in("random:8", again);
    assert_memory_not_equal(got, again, sizeof got);
    const char *const bad[] = {"", "sideways", "random", "random:", "random:x", "random:1x"};
    for (const char *text : bad) assert_int_equal(dc_emu_schedule(text), -1);
}

/* ---- barriers ---- */

/* out = transpose of in by tiles, in place in shared memory; `barrier` 0 leaves the barrier out. */
template <int TILE> DC_KERNEL(TILE *TILE) transpose(float *out, const float *in, int n, int barrier)
{
    DC_SHARED(float, tile, [TILE][TILE + 1]);
    const int x = (int)threadIdx.x, y = (int)threadIdx.y, bx = (int)blockIdx.x * TILE, by = (int)blockIdx.y * TILE;
    tile[y][x] = in[(by + y) * n + bx + x];
    if (barrier) __syncthreads();
    out[(bx + y) * n + by + x] = tile[x][y];
}

static int wrong_transposes(int barrier)
{
    enum { N = 64, TILE = 16 };
    static float h[N * N], back[N * N];
    float *in, *out;
    int wrong = 0;
    for (int i = 0; i < N * N; i++) h[i] = (float)i;
    cudaMalloc(&in, sizeof h);
    cudaMalloc(&out, sizeof h);
    cudaMemcpy(in, h, sizeof h, cudaMemcpyHostToDevice);
    DC_LAUNCH((transpose<TILE>), dim3(N / TILE, N / TILE), dim3(TILE, TILE), 0, nullptr, out, in, N, barrier);
    assert_int_equal(cudaMemcpy(back, out, sizeof h, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < N * N; i++) wrong += back[i] != h[i % N * N + i / N];
    cudaFree(in);
    cudaFree(out);
    return wrong;
}

static void test_missing_barrier(void **)
{
    for (int s = 0; s < N_SCHEDULES; s++) {
        dc_emu_schedule(schedules[s]);
        assert_int_equal(wrong_transposes(1), 0);
        assert_true(wrong_transposes(0) > 0);
    }
}

/* Each lane hands its value to its neighbour through shared memory. */
DC_KERNEL(64) rotate_in_warp(int *out, int sync)
{
    DC_SHARED(int, box, [64]);
    const unsigned t = threadIdx.x, warp = t / 32 * 32;
    box[t] = (int)t;
    if (sync) __syncwarp();
    out[t] = box[warp + (t + 1) % 32];
}

static void test_missing_syncwarp(void **)
{
    int *d, h[64];
    cudaMalloc(&d, sizeof h);
    for (int s = 0; s < N_SCHEDULES; s++)
        for (int sync = 0; sync < 2; sync++) {
            int wrong = 0;
            dc_emu_schedule(schedules[s]);
            DC_LAUNCH(rotate_in_warp, 1, 64, 0, nullptr, d, sync);
            assert_int_equal(cudaMemcpy(h, d, sizeof h, cudaMemcpyDeviceToHost), cudaSuccess);
            for (int t = 0; t < 64; t++) wrong += h[t] != t / 32 * 32 + (t + 1) % 32;
            assert_true(sync ? wrong == 0 : wrong > 0);
        }
    cudaFree(d);
}

/* ---- helpers of kernels/cuda.cuh ---- */

template <typename T> DC_KERNEL(256) row_stats(float *sum, float *squares, const T *x, int C)
{
    DC_SHARED(float, scratch, [DC_BLOCK_SCRATCH]);
    const T *row = x + (size_t)blockIdx.x * (size_t)C;
    float s = 0, q = 0;
    for (int c = (int)threadIdx.x * 8; c < C; c += (int)blockDim.x * 8) {
        float v[8];
        dc_load8(v, row + c);
        for (int i = 0; i < 8; i++) s += v[i], q += v[i] * v[i];
    }
    s = dc_block_sum(s, scratch);
    __syncthreads(); /* all have read the scratch */
    q = dc_block_sum(q, scratch);
    if (dc_thread() == 0) sum[blockIdx.x] = s, squares[blockIdx.x] = q;
}

template <typename T> static void check_row_stats()
{
    enum { ROWS = 3, C = 1000 };
    static T h[ROWS * C];
    T *x;
    float *out, got[2 * ROWS];
    for (int i = 0; i < ROWS * C; i++) h[i] = dc_from_float<T>((float)(i * 7919 % 201 - 100));
    cudaMalloc(&x, sizeof h);
    cudaMalloc(&out, sizeof got);
    cudaMemcpy(x, h, sizeof h, cudaMemcpyHostToDevice);
    for (int s = 0; s < N_SCHEDULES; s++) {
        dc_emu_schedule(schedules[s]);
        DC_LAUNCH(row_stats<T>, ROWS, 96, 0, nullptr, out, out + ROWS, x, C);
        assert_int_equal(cudaMemcpy(got, out, sizeof got, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int r = 0; r < ROWS; r++) {
            float sum = 0, squares = 0;
            for (int c = 0; c < C; c++) {
                const float v = dc_to_float(h[r * C + c]);
                sum += v, squares += v * v;
            }
            assert_true(got[r] == sum && got[ROWS + r] == squares); /* integers below 2^24: exact */
        }
    }
    cudaFree(x);
    cudaFree(out);
}

static void test_block_helpers(void **)
{
    check_row_stats<float>();
    check_row_stats<dc_bf16>();
}

/* ---- divergence ---- */

enum { BARRIER_LINE = __LINE__ + 4 };
DC_KERNEL(64) half_leaves()
{
    if (threadIdx.x >= 32) return;
    __syncthreads();
}

static void test_divergent_barrier(void **)
{
    dc_emu_quiet(1);
    for (int s = 0; s < N_SCHEDULES; s++) {
        dc_emu_schedule(schedules[s]);
        DC_LAUNCH(half_leaves, 2, 64, 0, nullptr);
        assert_int_equal(cudaGetLastError(), cudaSuccess);
        assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "test_emu_engine.cc:%d", BARRIER_LINE);
        const char *report = dc_emu_report();
        assert_non_null(strstr(report, "kernel half_leaves, block ("));
        assert_non_null(strstr(report, "32 wait in __syncthreads"));
        assert_non_null(strstr(report, wanted));
        assert_non_null(strstr(report, "32 have finished (first: thread (32,0,0))"));
        assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
        assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure); /* it sticks */
        dc_emu_reset();
    }
    dc_emu_quiet(0);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),       cmocka_unit_test(test_indices),
        cmocka_unit_test(test_missing_barrier), cmocka_unit_test(test_missing_syncwarp),
        cmocka_unit_test(test_block_helpers),   cmocka_unit_test(test_divergent_barrier),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
