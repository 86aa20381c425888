/* tests/emu/test_emu_stream.cc -- what a host program sees when it waits too little; launch limits; errors that stick; graphs. */
#include <string.h>

#include "emu.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"

static int reset(void **)
{
    dc_emu_reset();
    dc_emu_quiet(0);
    dc_emu_async(1);
    dc_emu_capability(8, 0);
    dc_emu_devices(1);
    return 0;
}

DC_KERNEL(32) put(int *p, int value)
{
    if (threadIdx.x == 0) *p = value;
}
DC_KERNEL(32) multiply_add(int *p, int factor, int term)
{
    if (threadIdx.x == 0) *p = *p * factor + term;
}
DC_KERNEL(1024) nothing() {}
DC_KERNEL(32) fixed_shared()
{
    DC_SHARED(char, room, [40 << 10]);
    if (threadIdx.x == 0) room[0] = 1;
}
DC_KERNEL(32) too_much_fixed_shared()
{
    DC_SHARED(char, room, [49 << 10]);
    if (threadIdx.x == 0) room[0] = 1;
}
template <int N> DC_KERNEL(32) much_shared(int *out)
{
    DC_DYNAMIC_SHARED(int, room);
    room[N / 4 - 1] = 7;
    *out = room[N / 4 - 1];
}
DC_KERNEL(64) hang()
{
    if (threadIdx.x < 32) __syncthreads();
}

static cudaStream_t stream_new(unsigned flags)
{
    cudaStream_t s;
    assert_int_equal(cudaStreamCreateWithFlags(&s, flags), cudaSuccess);
    return s;
}

static int *pinned_new(int value)
{
    int *p;
    assert_int_equal(cudaMallocHost(&p, sizeof *p), cudaSuccess);
    *p = value;
    return p;
}

static int *device_new(int value)
{
    int *p;
    assert_int_equal(cudaMalloc(&p, sizeof *p), cudaSuccess);
    assert_int_equal(cudaMemcpy(p, &value, sizeof value, cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}

static int device_get(const int *p)
{
    int v;
    assert_int_equal(cudaMemcpy(&v, p, sizeof v, cudaMemcpyDeviceToHost), cudaSuccess);
    return v;
}

/* ---- waiting ---- */

static void test_results_come_late(void **)
{
    cudaStream_t s = stream_new(cudaStreamNonBlocking);
    int *d = device_new(1), *out = pinned_new(-5);
    DC_LAUNCH(put, 1, 32, 0, s, d, 42);
    cudaMemcpyAsync(out, d, sizeof *out, cudaMemcpyDeviceToHost, s);
    assert_int_equal(*out, -5); /* nobody has waited */
    assert_int_equal(cudaStreamQuery(s), cudaErrorNotReady);
    assert_int_equal(cudaStreamSynchronize(s), cudaSuccess);
    assert_int_equal(*out, 42);
    assert_int_equal(cudaStreamQuery(s), cudaSuccess);

    *out = -5;
    DC_LAUNCH(put, 1, 32, 0, s, d, 43);
    cudaMemcpyAsync(out, d, sizeof *out, cudaMemcpyDeviceToHost, s);
    for (int polls = 0; cudaStreamQuery(s) == cudaErrorNotReady; polls++) assert_true(polls < 10);
    assert_int_equal(*out, 43);

    dc_emu_async(0);
    DC_LAUNCH(put, 1, 32, 0, s, d, 44);
    cudaMemcpyAsync(out, d, sizeof *out, cudaMemcpyDeviceToHost, s);
    assert_int_equal(*out, 44);
}

static void test_sources_are_read_late(void **)
{
    cudaStream_t s = stream_new(cudaStreamNonBlocking);
    int *d = device_new(1), *in = pinned_new(10), pageable = 20;
    cudaMemcpyAsync(d, in, sizeof *in, cudaMemcpyHostToDevice, s);
    *in = 11; /* too early */
    cudaStreamSynchronize(s);
    assert_int_equal(device_get(d), 11);
    cudaMemcpyAsync(d, &pageable, sizeof pageable, cudaMemcpyHostToDevice, s);
    pageable = 21; /* was staged */
    cudaStreamSynchronize(s);
    assert_int_equal(device_get(d), 20);
    DC_LAUNCH(put, 1, 32, 0, s, d, pageable);
    pageable = 22; /* arguments were copied */
    int out = 0;
    cudaMemcpyAsync(&out, d, sizeof out, cudaMemcpyDeviceToHost, s); /* pageable: waits */
    assert_int_equal(out, 21);
}

static void test_order_across_streams(void **)
{
    cudaStream_t a = stream_new(cudaStreamNonBlocking), b = stream_new(cudaStreamNonBlocking);
    cudaEvent_t e, never;
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    cudaEventCreate(&never);
    int *d = device_new(1);
    for (int event = 0; event < 2; event++) {
        DC_LAUNCH(put, 1, 32, 0, a, d, 5);
        cudaEventRecord(e, a);
        DC_LAUNCH(multiply_add, 1, 32, 0, a, d, 1, 100); /* after the event: b does not wait for it */
        if (event) assert_int_equal(cudaStreamWaitEvent(b, e, 0), cudaSuccess);
        DC_LAUNCH(multiply_add, 1, 32, 0, b, d, 10, 3);
        assert_int_equal(cudaStreamSynchronize(b), cudaSuccess);
        assert_int_equal(device_get(d), event ? 53 : 13);
        cudaStreamSynchronize(a);
        assert_int_equal(device_get(d), event ? 153 : 105);
        DC_LAUNCH(put, 1, 32, 0, a, d, 1);
        cudaStreamSynchronize(a);
    }
    assert_int_equal(cudaStreamWaitEvent(b, never, 0), cudaSuccess);
    assert_int_equal(cudaEventQuery(never), cudaSuccess);
    DC_LAUNCH(put, 1, 32, 0, a, d, 8);
    cudaEventRecord(e, a);
    DC_LAUNCH(put, 1, 32, 0, a, d, 9);
    assert_int_equal(cudaEventSynchronize(e), cudaSuccess);
    assert_int_equal(device_get(d), 8);
    assert_int_equal(cudaStreamDestroy(a), cudaSuccess);
    assert_int_equal(device_get(d), 9);
    assert_int_equal(cudaStreamWaitEvent(b, e, 0), cudaSuccess);
    assert_int_equal(cudaEventDestroy(e), cudaSuccess);
    assert_int_equal(cudaEventDestroy(e), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaStreamSynchronize(a), cudaErrorInvalidResourceHandle);
}

static void test_default_stream(void **)
{
    cudaStream_t blocking = stream_new(cudaStreamDefault), free_running = stream_new(cudaStreamNonBlocking);
    int *d = device_new(1), *e = device_new(1);
    DC_LAUNCH(put, 1, 32, 0, blocking, d, 2);
    DC_LAUNCH(put, 1, 32, 0, free_running, e, 2);
    DC_LAUNCH(multiply_add, 1, 32, 0, nullptr, d, 10, 0);     /* after blocking's */
    DC_LAUNCH(multiply_add, 1, 32, 0, nullptr, e, 10, 0);     /* not after free_running's */
    DC_LAUNCH(multiply_add, 1, 32, 0, blocking, d, 1, 1);     /* after the default stream's */
    DC_LAUNCH(multiply_add, 1, 32, 0, free_running, e, 1, 1); /* at any time */
    assert_int_equal(cudaStreamSynchronize(blocking), cudaSuccess);
    cudaStreamSynchronize(free_running);
    assert_int_equal(device_get(d), 21);
    assert_int_equal(device_get(e), 3);
    DC_LAUNCH(put, 1, 32, 0, free_running, d, 99);
    assert_int_equal(device_get(d), 21);
    cudaDeviceSynchronize();
    assert_int_equal(device_get(d), 99);
}

static void host_work(void *p) { ++*(int *)p; }

static void test_host_functions_and_times(void **)
{
    cudaEvent_t from, to, untimed;
    int n = 0;
    float ms = -1;
    cudaEventCreate(&from);
    cudaEventCreate(&to);
    cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming);
    cudaStream_t s = stream_new(cudaStreamNonBlocking);
    cudaEventRecord(from, s);
    cudaLaunchHostFunc(s, host_work, &n);
    cudaEventRecord(to, s);
    cudaEventRecord(untimed, s);
    assert_int_equal(n, 0);
    assert_int_equal(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(to), cudaErrorNotReady);
    cudaStreamSynchronize(s);
    assert_int_equal(n, 1);
    assert_int_equal(cudaEventElapsedTime(&ms, from, to), cudaSuccess);
    assert_true(ms >= 0);
    assert_int_equal(cudaEventElapsedTime(&ms, from, untimed), cudaErrorInvalidResourceHandle);
}

/* ---- limits ---- */

static cudaError_t launch_nothing(dim3 grid, dim3 block, size_t shared)
{
    DC_LAUNCH(nothing, grid, block, shared, nullptr);
    const cudaError_t e = cudaGetLastError();
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    return e;
}

static void test_launch_limits(void **)
{
    assert_int_equal(launch_nothing(1, 1024, 0), cudaSuccess);
    assert_int_equal(launch_nothing(1, 1025, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(1, dim3(1, 1, 64), 0), cudaSuccess);
    assert_int_equal(launch_nothing(1, dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(1, dim3(32, 32, 2), 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(0, 32, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(1, 0, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(dim3(1, 65535), 1, 0), cudaSuccess);
    assert_int_equal(launch_nothing(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(dim3(1, 1, 65536), 1, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_nothing(70000, 1, 0), cudaSuccess);
    assert_int_equal(launch_nothing(1, 32, 48 << 10), cudaSuccess);
    assert_int_equal(launch_nothing(1, 32, (48 << 10) + 1), cudaErrorInvalidValue);
}

/* N is a capability's most, in KiB. */
template <int N> static void check_opt_in(int major, int minor)
{
    int *d = device_new(0), room = 0;
    assert_int_equal(dc_emu_capability(major, minor), 0);
    cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    assert_int_equal(room, N << 10);
    DC_LAUNCH((much_shared<(N << 10)>), 1, 32, N << 10, nullptr, d);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(
        cudaFuncSetAttribute(much_shared<(N << 10)>, cudaFuncAttributeMaxDynamicSharedMemorySize, (N << 10) + 1),
        cudaErrorInvalidValue);
    cudaGetLastError();
    assert_int_equal(cudaFuncSetAttribute(much_shared<(N << 10)>, cudaFuncAttributeMaxDynamicSharedMemorySize, N << 10),
                     cudaSuccess);
    DC_LAUNCH((much_shared<(N << 10)>), 1, 32, N << 10, nullptr, d);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(device_get(d), 7);
    cudaFuncSetAttribute(much_shared<(N << 10)>, cudaFuncAttributeMaxDynamicSharedMemorySize, (N << 10) - 16);
    DC_LAUNCH((much_shared<(N << 10)>), 1, 32, N << 10, nullptr, d);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue); /* more than it opted in to */
    int blocks = 0;
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, much_shared<(N << 10)>, 32, N << 10);
    assert_int_equal(blocks, 1);
}

static void test_shared_opt_in(void **)
{
    check_opt_in<163>(8, 0);
    check_opt_in<99>(8, 6);
    check_opt_in<227>(9, 0);
    check_opt_in<64>(7, 5);
    assert_int_equal(dc_emu_capability(8, 1), -1);
}

static void test_static_shared(void **)
{
    struct cudaFuncAttributes a;
    dc_emu_quiet(1);
    DC_LAUNCH(fixed_shared, 1, 32, 8 << 10, nullptr);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    cudaFuncGetAttributes(&a, fixed_shared);
    assert_int_equal(a.sharedSizeBytes, 40 << 10);
    DC_LAUNCH(fixed_shared, 1, 32, (8 << 10) + 4, nullptr); /* known by now: refused like any launch */
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    DC_LAUNCH(too_much_fixed_shared, 1, 32, 0, nullptr);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_non_null(strstr(dc_emu_report(), "static arrays may have 48 KiB"));
}

/* ---- devices and errors ---- */

static void test_devices(void **)
{
    struct cudaDeviceProp p;
    int n = -1, v = 0;
    void *memory;
    assert_int_equal(cudaGetDeviceCount(&n), cudaSuccess);
    assert_int_equal(n, 1);
    assert_int_equal(cudaGetDeviceProperties(&p, 0), cudaSuccess);
    assert_true(p.major == 8 && p.minor == 0 && p.warpSize == 32 && p.sharedMemPerBlockOptin == 163 << 10);
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetDeviceProperties(&p, 1), cudaErrorInvalidDevice);
    dc_emu_devices(2);
    assert_int_equal(cudaSetDevice(1), cudaSuccess);
    assert_int_equal(cudaGetDevice(&v), cudaSuccess);
    assert_int_equal(v, 1);
    assert_int_equal(cudaSetDevice(0), cudaSuccess);
    dc_emu_devices(0);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_int_equal(n, 0);
    assert_int_equal(cudaMalloc(&memory, 4), cudaErrorNoDevice);
    DC_LAUNCH(nothing, 1, 32, 0, nullptr);
    assert_int_equal(cudaGetLastError(), cudaErrorNoDevice);
}

static void test_sticky(void **)
{
    dc_emu_quiet(1);
    cudaStream_t s = stream_new(cudaStreamNonBlocking);
    int *d = device_new(1), *out = pinned_new(-5);
    cudaEvent_t e;
    cudaEventCreate(&e);
    DC_LAUNCH(hang, 1, 64, 0, s);
    DC_LAUNCH(put, 1, 32, 0, s, d, 2);
    cudaMemcpyAsync(out, d, sizeof *out, cudaMemcpyDeviceToHost, s);
    assert_int_equal(cudaPeekAtLastError(), cudaSuccess); /* not found out yet */
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorLaunchFailure);
    assert_int_equal(*out, -5); /* what came after was not done */
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaEventRecord(e, s), cudaErrorLaunchFailure);
    assert_int_equal(cudaMemcpyAsync(out, d, sizeof *out, cudaMemcpyDeviceToHost, s), cudaErrorLaunchFailure);
    assert_int_equal(cudaFree(d), cudaErrorLaunchFailure);
    assert_string_equal(cudaGetErrorName(cudaErrorLaunchFailure), "cudaErrorLaunchFailure");
    assert_string_equal(cudaGetErrorString(cudaErrorLaunchFailure), "unspecified launch failure");
    assert_int_equal(cudaDeviceReset(), cudaSuccess);
    assert_int_equal(device_get(device_new(3)), 3);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

/* ---- graphs ---- */

static cudaGraphExec_t instantiated(cudaGraph_t g)
{
    cudaGraphExec_t x;
    assert_int_equal(cudaGraphInstantiate(&x, g), cudaSuccess);
    return x;
}

static cudaGraph_t capture(cudaStream_t s, int *d, int factor, int *in)
{
    cudaGraph_t g;
    assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    if (in) cudaMemcpyAsync(d, in, sizeof *in, cudaMemcpyHostToDevice, s);
    DC_LAUNCH(multiply_add, 1, 32, 0, s, d, factor, 1);
    DC_LAUNCH(multiply_add, 1, 32, 0, s, d, factor, 2);
    assert_int_equal(cudaStreamEndCapture(s, &g), cudaSuccess);
    return g;
}

static void test_graph_replay(void **)
{
    cudaStream_t s = stream_new(cudaStreamNonBlocking);
    int *d = device_new(1), *in = pinned_new(3);
    size_t n = 0;
    cudaGraph_t g = capture(s, d, 2, in);
    assert_int_equal(cudaGraphGetNodes(g, nullptr, &n), cudaSuccess);
    assert_int_equal(n, 3);
    cudaGraphExec_t x = instantiated(g);
    cudaDeviceSynchronize();
    assert_int_equal(device_get(d), 1); /* capturing did nothing */
    for (int i = 0; i < 3; i++) {
        *in = 3 + i; /* read at each replay */
        assert_int_equal(cudaGraphLaunch(x, s), cudaSuccess);
        cudaStreamSynchronize(s);
        assert_int_equal(device_get(d), (2 * (3 + i) + 1) * 2 + 2);
    }
    cudaGraphExecUpdateResultInfo info;
    cudaGraph_t other = capture(s, d, 3, in), shorter = capture(s, d, 3, nullptr);
    assert_int_equal(cudaGraphExecUpdate(x, shorter, &info), cudaErrorGraphExecUpdateFailure);
    assert_int_equal(info.result, cudaGraphExecUpdateErrorTopologyChanged);
    cudaGetLastError();
    cudaGraphLaunch(x, s);
    assert_int_equal(cudaGraphExecUpdate(x, other, &info), cudaSuccess);
    cudaStreamSynchronize(s); /* the launch before the update does as it was then */
    assert_int_equal(device_get(d), 24);
    cudaGraphLaunch(x, s);
    cudaStreamSynchronize(s);
    assert_int_equal(device_get(d), (3 * 5 + 1) * 3 + 2);
    assert_int_equal(cudaGraphDestroy(g), cudaSuccess);
    assert_int_equal(cudaGraphExecDestroy(x), cudaSuccess);
    assert_int_equal(cudaGraphLaunch(x, s), cudaErrorInvalidValue);
}

static void test_capture_of_two_streams(void **)
{
    cudaStream_t a = stream_new(cudaStreamNonBlocking), b = stream_new(cudaStreamNonBlocking);
    cudaEvent_t fork, join;
    cudaGraph_t g;
    cudaEventCreate(&fork);
    cudaEventCreate(&join);
    int *d = device_new(1);
    for (int joined = 0; joined < 2; joined++) {
        cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
        DC_LAUNCH(multiply_add, 1, 32, 0, a, d, 2, 0);
        cudaEventRecord(fork, a);
        assert_int_equal(cudaStreamWaitEvent(b, fork, 0), cudaSuccess);
        DC_LAUNCH(multiply_add, 1, 32, 0, b, d, 3, 1);
        cudaEventRecord(join, b);
        if (joined) assert_int_equal(cudaStreamWaitEvent(a, join, 0), cudaSuccess);
        enum cudaStreamCaptureStatus status;
        cudaStreamIsCapturing(b, &status);
        assert_int_equal(status, cudaStreamCaptureStatusActive);
        assert_int_equal(cudaStreamEndCapture(a, &g), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        cudaStreamIsCapturing(b, &status);
        assert_int_equal(status, cudaStreamCaptureStatusNone);
        cudaGetLastError();
    }
    cudaGraphLaunch(instantiated(g), a);
    cudaStreamSynchronize(a);
    assert_int_equal(device_get(d), 7);
}

static void test_capture_refusals(void **)
{
    cudaStream_t s = stream_new(cudaStreamNonBlocking), blocking = stream_new(cudaStreamDefault);
    cudaGraph_t g;
    void *p;
    assert_int_equal(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &g), cudaErrorIllegalState);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
    assert_null(g);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated);
    cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal);
    DC_LAUNCH(nothing, 1, 32, 0, nullptr);
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureImplicit);
    assert_int_equal(cudaStreamEndCapture(blocking, &g), cudaErrorStreamCaptureInvalidated);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed);
    assert_int_equal(cudaMalloc(&p, 4), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(s, &g), cudaSuccess);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, reset, reset)

int main()
{
    const struct CMUnitTest tests[] = {
        CASE(test_results_come_late),
        CASE(test_sources_are_read_late),
        CASE(test_order_across_streams),
        CASE(test_default_stream),
        CASE(test_host_functions_and_times),
        CASE(test_launch_limits),
        CASE(test_shared_opt_in),
        CASE(test_static_shared),
        CASE(test_devices),
        CASE(test_sticky),
        CASE(test_graph_replay),
        CASE(test_capture_of_two_streams),
        CASE(test_capture_refusals),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
