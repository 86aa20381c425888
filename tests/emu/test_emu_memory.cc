/* tests/emu/test_emu_memory.cc -- poison, guard zones, limits, kinds of copies, and host code that touches what it must not. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
enum { SANITIZED = __has_feature(address_sanitizer) };
#else
enum { SANITIZED = 0 };
#endif

#ifdef DC_EMU_CLEAR_PADDING
enum { SCANS = 1 };
#else
enum { SCANS = 0 }; /* clang 14 */
#endif

static int reset(void **)
{
    dc_emu_quiet(0);
    dc_emu_reset();
    return 0;
}

static char said[4096]; /* by the last child, on stderr */

/* Runs f in a process of its own; its exit code, or 1000 + the signal that ended it. */
static int in_child(void (*f)(void))
{
    int ends[2], status = 0;
    fflush(nullptr);
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka takes it */
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        f();
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    char part[512];
    for (ssize_t got;
         (got = read(ends[0], part, sizeof part)) > 0;) { /* to its end, or the child dies of a broken pipe */
        const size_t kept = (size_t)got < sizeof said - 1 - n ? (size_t)got : sizeof said - 1 - n;
        memcpy(said + n, part, kept);
        n += kept;
    }
    said[n] = 0;
    close(ends[0]);
    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- poison ---- */

DC_KERNEL(32) read_shared(float *out)
{
    DC_SHARED(float, fixed, [32]);
    DC_SHARED(double, other, [3][5]);
    DC_DYNAMIC_SHARED(float, dynamic);
    out[threadIdx.x] = isnan(fixed[threadIdx.x]) && isnan(dynamic[threadIdx.x]) && isnan(other[2][4]) ? 1 : 0;
    __syncthreads();
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 0;
    other[2][4] = 0;
}

static void test_poison(void **)
{
    float *d, *fresh, h[32];
    assert_int_equal(cudaMalloc(&d, sizeof h), cudaSuccess);
    assert_int_equal(cudaMalloc(&fresh, sizeof h), cudaSuccess);
    assert_int_equal(cudaMemcpy(h, fresh, sizeof h, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < 32; i++) assert_true(isnan(h[i]));
    for (int again = 0; again < 2; again++) {
        DC_LAUNCH(read_shared, 3, 32, 32 * sizeof(float), nullptr, d);
        assert_int_equal(cudaMemcpy(h, d, sizeof h, cudaMemcpyDeviceToHost), cudaSuccess);
        for (int i = 0; i < 32; i++) assert_true(h[i] == 1);
    }
    float *pinned;
    assert_int_equal(cudaMallocHost(&pinned, sizeof h), cudaSuccess);
    assert_true(isnan(pinned[31]));
    cudaFreeHost(pinned);
}

/* ---- guard zones; ASan finds the damage at the very instruction ---- */

DC_KERNEL(32) write_at(char *p, ptrdiff_t offset)
{
    if (threadIdx.x == 0) p[offset] = 1;
}

static void check_damage(ptrdiff_t offset, const char *words)
{
    char *p;
    for (int on_free = 0; on_free < 2; on_free++) {
        assert_int_equal(cudaMalloc(&p, 1000), cudaSuccess);
        DC_LAUNCH(write_at, 1, 32, 0, nullptr, p, offset);
        assert_int_equal(on_free ? cudaFree(p) : cudaDeviceSynchronize(),
                         words ? cudaErrorIllegalAddress : cudaSuccess);
        if (words) {
            assert_non_null(strstr(dc_emu_report(), words));
            assert_non_null(strstr(dc_emu_report(), "an allocation of 1000 bytes"));
            assert_int_equal(cudaMalloc(&p, 4), cudaErrorIllegalAddress); /* it sticks */
        } else {
            assert_string_equal(dc_emu_report(), "");
        }
        dc_emu_reset();
    }
}

static void write_past(void)
{
    char *p;
    cudaMalloc(&p, 1000);
    DC_LAUNCH(write_at, 1, 32, 0, nullptr, p, (ptrdiff_t)1000);
    cudaDeviceSynchronize();
}
static void write_freed(void)
{
    char *p;
    cudaMalloc(&p, 1000);
    cudaFree(p);
    DC_LAUNCH(write_at, 1, 32, 0, nullptr, p, (ptrdiff_t)0);
    cudaDeviceSynchronize();
}

static void test_guards(void **)
{
    if (SANITIZED) {
        assert_int_equal(in_child(write_past), 1);
        assert_non_null(strstr(said, "AddressSanitizer: use-after-poison"));
        assert_int_equal(in_child(write_freed), 1);
        assert_non_null(strstr(said, "AddressSanitizer: use-after-poison"));
        return;
    }
    dc_emu_quiet(1);
    check_damage(0, nullptr);
    check_damage(999, nullptr);
    check_damage(1000, "wrote 0 bytes past the end");
    check_damage(1279, "wrote 279 bytes past the end");
    check_damage(-1, "wrote 1 bytes before");
    check_damage(-256, "wrote 256 bytes before");
}

DC_KERNEL(32) write_shared(int fixed_at, int dynamic_at)
{
    DC_SHARED(int, fixed, [8]);
    DC_DYNAMIC_SHARED(int, dynamic);
    if (threadIdx.x == 0) {
        ((volatile int *)fixed)[fixed_at] = 1;
        ((volatile int *)dynamic)[dynamic_at] = 1;
    }
}

static void check_shared_damage(int fixed_at, int dynamic_at, const char *words)
{
    DC_LAUNCH(write_shared, 1, 32, 40, nullptr, fixed_at, dynamic_at);
    assert_int_equal(cudaDeviceSynchronize(), words ? cudaErrorLaunchFailure : cudaSuccess);
    if (words && !strstr(dc_emu_report(), words)) fail_msg("%s", dc_emu_report());
    dc_emu_reset();
}

static void write_past_shared(void)
{
    DC_LAUNCH(write_shared, 2, 32, 40, nullptr, 8, 0);
    cudaDeviceSynchronize();
}
static void write_past_dynamic(void)
{
    DC_LAUNCH(write_shared, 2, 32, 40, nullptr, 0, 10);
    cudaDeviceSynchronize();
}

static void test_shared_guards(void **)
{
    if (SANITIZED) {
        assert_int_equal(in_child(write_past_shared), 1);
        assert_non_null(strstr(said, "AddressSanitizer: use-after-poison"));
        assert_int_equal(in_child(write_past_dynamic), 1);
        assert_non_null(strstr(said, "AddressSanitizer: use-after-poison"));
        return;
    }
    dc_emu_quiet(1);
    check_shared_damage(7, 9, nullptr);
    check_shared_damage(8, 0, "kernel write_shared, block (0,0,0): wrote past the shared array fixed of 32 bytes");
    check_shared_damage(0, 10, "wrote past the shared array (dynamic) of 40 bytes");
    check_shared_damage(0, -1, "wrote before its dynamic shared memory");
}

static void ends_damaged(void)
{
    char *p;
    cudaMalloc(&p, 100);
    dc_emu_async(0);
    DC_LAUNCH(write_at, 1, 32, 0, nullptr, p, 100);
    exit(0);
}

static void ends_well(void)
{
    char *p;
    cudaMalloc(&p, 100);
    dc_emu_async(0);
    DC_LAUNCH(write_at, 1, 32, 0, nullptr, p, 99);
    exit(0);
}

static void test_damage_at_exit(void **)
{
    if (SANITIZED) skip();
    assert_int_equal(in_child(ends_well), 0);
    assert_int_equal(in_child(ends_damaged), 1);
    assert_non_null(strstr(said, "past the end of an allocation of 100 bytes"));
}

/* ---- host code and device memory ---- */

/* A float of the device's memory, the fourth of eight, with DC_EMU_PROTECT or without. */
static volatile float *device_float(int protect)
{
    float *p;
    dc_emu_protect(protect);
    if (cudaMalloc(&p, 32) != cudaSuccess) exit(2);
    return p + 3;
}

static void touch(void) { *device_float(0) = 1; }
static void touch_protected(void) { *device_float(1) = 1; }
static void use_protected(void)
{
    float h[32], *p;
    dc_emu_protect(1);
    cudaMalloc(&p, sizeof h);
    DC_LAUNCH(read_shared, 1, 32, 128, nullptr, p);
    if (cudaMemcpy(h, p, sizeof h, cudaMemcpyDeviceToHost) != cudaSuccess || h[31] != 1) exit(3);
    if (cudaMemset(p, 0, sizeof h) != cudaSuccess || cudaFree(p) != cudaSuccess) exit(4);
}

static void test_protect(void **)
{
    if (in_child(touch)) fail_msg("%s", said);
    if (in_child(use_protected)) fail_msg("%s", said);
    if (SANITIZED) {
        assert_true(in_child(touch_protected) != 0);
        return;
    }
    assert_int_equal(in_child(touch_protected), 1000 + SIGSEGV);
    assert_non_null(strstr(said, "the host touches"));
    assert_non_null(strstr(said, "12 bytes into an allocation of 32"));
}

DC_KERNEL(32) read_null(const float *p, float *out)
{
    if (threadIdx.x == 7) *out = *(const volatile float *)p;
}
DC_KERNEL(32) overflow(float *out)
{
    volatile char big[1 << 20];
    for (size_t i = 0; i < sizeof big; i += 1024) big[sizeof big - 1 - i] = 1;
    out[0] = big[0];
}
static void run_null(void)
{
    float *p = nullptr;
    cudaMalloc(&p, 4);
    DC_LAUNCH(read_null, 1, 32, 0, nullptr, nullptr, p);
    cudaDeviceSynchronize();
}
static void run_overflow(void)
{
    float *p = nullptr;
    cudaMalloc(&p, 4);
    DC_LAUNCH(overflow, 1, 32, 0, nullptr, p);
    cudaDeviceSynchronize();
}

static void test_crash_reports(void **)
{
    if (SANITIZED) skip(); /* its own reports are better */
    assert_int_equal(in_child(run_null), 1000 + SIGSEGV);
    assert_non_null(strstr(said, "kernel read_null, block (0,0,0), thread (7,0,0) touches"));
    assert_int_equal(in_child(run_overflow), 1000 + SIGSEGV);
    assert_non_null(strstr(said, "kernel overflow, block (0,0,0), thread (0,0,0) touches"));
    assert_non_null(strstr(said, "is too small"));
}

typedef struct nested {
    int n;
    const float *x;
} nested;

DC_KERNEL(32) take_pointer(const float *) {}
DC_KERNEL(32) take_struct(nested) {}
DC_KERNEL(32) take_sizes(int4) {}

typedef struct gappy {
    short n;
    const float *x;
    short m;
} gappy;
DC_KERNEL(32) take_gappy(gappy, char, const float *) {}

static void test_host_pointers(void **)
{
    float here[4] = {0}, *d, *pinned;
    if (!SCANS) skip();
    dc_emu_quiet(1);
    cudaMalloc(&d, sizeof here);
    cudaMallocHost(&pinned, sizeof here);
    const float *good[] = {d, d + 4, pinned, nullptr};
    for (const float *p : good) {
        DC_LAUNCH(take_pointer, 1, 32, 0, nullptr, p);
        DC_LAUNCH(take_struct, 1, 32, 0, nullptr, nested{1, p});
        assert_int_equal(cudaGetLastError(), cudaSuccess);
    }
    gappy g; /* with an address in its gaps, but for the members' bytes */
    for (size_t i = 0; i < sizeof g; i += sizeof(void *)) {
        const void *where = here;
        memcpy((char *)&g + i, &where, sizeof where);
    }
    g.n = g.m = 0, g.x = d;
    DC_LAUNCH(take_gappy, 1, 32, 0, nullptr, g, 'x', d);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    /* Two sizes side by side that look like the address of a page, which is mapped. */
    const uintptr_t low = (uintptr_t)64 << 32;
    void *page = mmap((void *)low, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    DC_LAUNCH(take_sizes, 1, 32, 0, nullptr, int4{1, 64, 1, 64});
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    if (page != MAP_FAILED) munmap(page, 4096);
    DC_LAUNCH(take_pointer, 1, 32, 0, nullptr, here);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_non_null(strstr(dc_emu_report(), "kernel take_pointer: "));
    dc_emu_reset();
    DC_LAUNCH(take_struct, 1, 32, 0, nullptr, nested{1, here});
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
}

/* ---- copies ---- */

static void test_copy_kinds(void **)
{
    char here[64] = {1}, there[64], *d, *e, *pinned;
    dc_emu_quiet(1);
    cudaMalloc(&d, 64);
    cudaMalloc(&e, 64);
    cudaMallocHost(&pinned, 64);
    assert_int_equal(cudaMemcpy(d, here, 64, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cudaMemcpy(e, d, 64, cudaMemcpyDeviceToDevice), cudaSuccess);
    assert_int_equal(cudaMemcpy(pinned, e, 64, cudaMemcpyDefault), cudaSuccess);
    assert_int_equal(cudaMemcpy(there, pinned, 64, cudaMemcpyHostToHost), cudaSuccess);
    assert_memory_equal(here, there, 64);
    assert_int_equal(cudaMemcpy(here, d, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(d, e, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(here, there, 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(d + 1, here, 64, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_non_null(strstr(dc_emu_report(), "copy or fill of 64 bytes 1 bytes into an allocation of 64"));
    assert_int_equal(cudaMemset(d, 0, 65), cudaErrorInvalidValue);
    assert_int_equal(cudaMemset(here, 0, 1), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess); /* it does not stick */
    assert_int_equal(cudaMemset(d, 3, 64), cudaSuccess);
    assert_int_equal(cudaMemcpy(there, d, 64, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < 64; i++) assert_int_equal(there[i], 3);
    assert_int_equal(cudaFree(d + 8), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(d), cudaSuccess);
    assert_int_equal(cudaFree(d), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(here, d, 64, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(nullptr), cudaSuccess);
    assert_int_equal(cudaFreeHost(here), cudaErrorInvalidValue);
}

static void test_copy_2d(void **)
{
    char in[6][8], out[6][8], *d;
    memset(in, 1, sizeof in);
    memset(out, 0, sizeof out);
    cudaMalloc(&d, 6 * 5);
    assert_int_equal(cudaMemcpy2DAsync(d, 5, in, 8, 4, 6, cudaMemcpyHostToDevice, nullptr), cudaSuccess);
    assert_int_equal(cudaMemcpy2DAsync(out, 8, d, 5, 4, 6, cudaMemcpyDeviceToHost, nullptr), cudaSuccess);
    for (int i = 0; i < 48; i++) assert_int_equal(out[i / 8][i % 8], i % 8 < 4);
    assert_int_equal(cudaMemcpy2DAsync(d, 3, in, 8, 4, 6, cudaMemcpyHostToDevice, nullptr), cudaErrorInvalidValue);
}

static void test_pointer_attributes(void **)
{
    struct cudaPointerAttributes a;
    char here, *d, *pinned;
    cudaMalloc(&d, 4);
    cudaMallocHost(&pinned, 4);
    cudaPointerGetAttributes(&a, d);
    assert_int_equal(a.type, cudaMemoryTypeDevice);
    cudaPointerGetAttributes(&a, pinned);
    assert_int_equal(a.type, cudaMemoryTypeHost);
    cudaPointerGetAttributes(&a, &here);
    assert_int_equal(a.type, cudaMemoryTypeUnregistered);
    assert_int_equal(cudaHostRegister(&here, 1, cudaHostRegisterDefault), cudaSuccess);
    assert_int_equal(cudaHostRegister(&here, 1, cudaHostRegisterDefault), cudaErrorHostMemoryAlreadyRegistered);
    cudaPointerGetAttributes(&a, &here);
    assert_int_equal(a.type, cudaMemoryTypeHost);
    assert_int_equal(cudaHostUnregister(&here), cudaSuccess);
    assert_int_equal(cudaHostUnregister(&here), cudaErrorHostMemoryNotRegistered);
}

/* ---- how much there is ---- */

static void test_amounts(void **)
{
    size_t left, total;
    void *a, *b, *c;
    dc_emu_memory(1 << 20);
    assert_int_equal(cudaMemGetInfo(&left, &total), cudaSuccess);
    assert_true(left == 1 << 20 && total == 1 << 20);
    assert_int_equal(cudaMalloc(&a, 600 << 10), cudaSuccess);
    assert_true((uintptr_t)a % 256 == 0);
    assert_int_equal(cudaMalloc(&b, 600 << 10), cudaErrorMemoryAllocation);
    assert_null(b);
    assert_int_equal(cudaMallocAsync(&b, 300 << 10, nullptr), cudaSuccess);
    cudaMemGetInfo(&left, &total);
    assert_true(left < 124 << 10 && left > 120 << 10);
    dc_emu_counts n = dc_emu_count();
    assert_true(n.live == 2 && n.live_bytes == 900 << 10 && n.peak_bytes == 900 << 10);
    assert_int_equal(cudaFreeAsync(b, nullptr), cudaSuccess);
    assert_int_equal(dc_emu_count().live, 2); /* it is queued */
    assert_int_equal(cudaStreamSynchronize(nullptr), cudaSuccess);
    assert_int_equal(cudaFree(a), cudaSuccess);
    n = dc_emu_count();
    assert_true(n.live == 0 && n.live_bytes == 0 && n.peak_bytes == 900 << 10);
    for (int i = 0; i < 100; i++) { /* what was given back is found again */
        assert_int_equal(cudaMalloc(&a, 400 << 10), cudaSuccess);
        assert_int_equal(cudaMalloc(&b, 400 << 10), cudaSuccess);
        assert_int_equal(cudaFree(a), cudaSuccess);
        assert_int_equal(cudaMalloc(&c, 200 << 10), cudaSuccess);
        assert_int_equal(cudaFree(b), cudaSuccess);
        assert_int_equal(cudaFree(c), cudaSuccess);
    }
    dc_emu_malloc_fail_at(2);
    assert_int_equal(cudaMalloc(&a, 4), cudaSuccess);
    assert_int_equal(cudaMalloc(&b, 4), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&b, 4), cudaSuccess);
    dc_emu_memory((size_t)4 << 30);
}

static void test_pool(void **)
{
    cudaMemPool_t pool;
    uint64_t keep = ~0ull, got = 0;
    void *p;
    assert_int_equal(cudaDeviceGetDefaultMemPool(&pool, 0), cudaSuccess);
    assert_int_equal(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), cudaSuccess);
    assert_int_equal(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &got), cudaSuccess);
    assert_true(got == keep);
    cudaMallocAsync(&p, 1 << 20, nullptr);
    assert_int_equal(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &got), cudaSuccess);
    assert_true(got >= 1 << 20);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, reset, reset)

int main()
{
    const struct CMUnitTest tests[] = {
        CASE(test_poison),        CASE(test_guards),
        CASE(test_shared_guards), CASE(test_damage_at_exit),
        CASE(test_protect),       CASE(test_crash_reports),
        CASE(test_host_pointers), CASE(test_copy_kinds),
        CASE(test_copy_2d),       CASE(test_pointer_attributes),
        CASE(test_amounts),       CASE(test_pool),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
