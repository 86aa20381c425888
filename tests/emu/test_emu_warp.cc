/* tests/emu/test_emu_warp.cc -- collectives of a warp, atomics and asynchronous copies against plain loops over lanes. */
#include <string.h>

#include "emu.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"

static const char *const schedules[] = {"forward", "reverse", "random:1", "random:2"};
enum { N_SCHEDULES = sizeof schedules / sizeof *schedules, T = 64 };

/* Runs `code` under each schedule. */
#define EACH_SCHEDULE \
    for (int schedule_ = 0; schedule_ < N_SCHEDULES && !dc_emu_schedule(schedules[schedule_]); schedule_++)

template <class V> static V *device(size_t n)
{
    V *p;
    assert_int_equal(cudaMalloc(&p, n * sizeof(V)), cudaSuccess);
    return p;
}

template <class V> static void fetch(V *to, const V *from, size_t n)
{
    assert_int_equal(cudaMemcpy(to, from, n * sizeof(V), cudaMemcpyDeviceToHost), cudaSuccess);
}

/* ---- shuffles ---- */

template <class V> DC_KERNEL(64) shuffles(V *out, int b, int width)
{
    const V mine = (V)(100 + threadIdx.x);
    V *row = out + 4 * threadIdx.x;
    row[0] = __shfl_sync(DC_FULL_WARP, mine, b, width);
    row[1] = __shfl_up_sync(DC_FULL_WARP, mine, (unsigned)b, width);
    row[2] = __shfl_down_sync(DC_FULL_WARP, mine, (unsigned)b, width);
    row[3] = __shfl_xor_sync(DC_FULL_WARP, mine, b, width);
}

/* The source lanes in the words of the programming guide. */
static int source(int mode, int lane, int b, int width)
{
    const int segment = lane / width * width, in = lane % width;
    if (mode == 0) return segment + b % width;
    if (mode == 1) return in >= b ? lane - b : lane;
    if (mode == 2) return in + b < width ? lane + b : lane;
    return (lane ^ b) < segment + width ? lane ^ b : lane;
}

template <class V> static void check_shuffles()
{
    V *d = device<V>(4 * T), h[4 * T];
    for (int width = 2; width <= 32; width *= 2)
        for (int b = 0; b < 32; b++) {
            DC_LAUNCH(shuffles<V>, 1, T, 0, nullptr, d, b, width);
            fetch(h, d, 4 * T);
            for (int t = 0; t < T; t++)
                for (int mode = 0; mode < 4; mode++)
                    assert_true(h[4 * t + mode] == (V)(100 + t / 32 * 32 + source(mode, t % 32, b, width)));
        }
    cudaFree(d);
}

static void test_shuffles(void **)
{
    EACH_SCHEDULE
    {
        check_shuffles<float>();
        check_shuffles<unsigned long long>();
    }
}

/* What lies outside the mask, or beyond the block's last lane, is poison. */
DC_KERNEL(48) shuffle_outside(unsigned *out, unsigned mask)
{
    const unsigned lane = threadIdx.x % 32;
    if (mask >> lane & 1) out[threadIdx.x] = __shfl_sync(mask, lane, 20);
}

static void test_shuffle_outside(void **)
{
    unsigned *d = device<unsigned>(48), h[48];
    EACH_SCHEDULE
    {
        DC_LAUNCH(shuffle_outside, 1, 48, 0, nullptr, d, DC_FULL_WARP);
        fetch(h, d, 48);
        assert_int_equal(h[3], 20);
        assert_int_equal(h[35], ~0u);
        DC_LAUNCH(shuffle_outside, 1, 32, 0, nullptr, d, 0xffu);
        fetch(h, d, 48);
        assert_int_equal(h[3], ~0u);
    }
    cudaFree(d);
}

/* ---- votes, matches, reductions, under a mask of some lanes ---- */

typedef struct votes {
    unsigned ballot, match, activemask;
    int any, all, any0, all1, count, both, either;
    unsigned add, lo, hi, bits_and, bits_or, bits_xor;
    int signed_lo, signed_hi;
} votes;

DC_KERNEL(64) vote(votes *out, unsigned mask)
{
    const unsigned t = threadIdx.x, lane = t % 32;
    votes v = {};
    if (mask >> lane & 1) {
        v.ballot = __ballot_sync(mask, lane % 3 == 0);
        v.any = __any_sync(mask, lane == 5);
        v.any0 = __any_sync(mask, 0);
        v.all = __all_sync(mask, lane != 5);
        v.all1 = __all_sync(mask, 1);
        v.match = __match_any_sync(mask, lane % 5);
        v.add = __reduce_add_sync(mask, t + 1);
        v.lo = __reduce_min_sync(mask, t - 4u);
        v.hi = __reduce_max_sync(mask, t - 4u);
        v.signed_lo = __reduce_min_sync(mask, (int)t - 4);
        v.signed_hi = __reduce_max_sync(mask, (int)t - 4);
        v.bits_and = __reduce_and_sync(mask, t | 0xf0u);
        v.bits_or = __reduce_or_sync(mask, 1u << lane);
        v.bits_xor = __reduce_xor_sync(mask, t * 7);
        v.activemask = __activemask();
    }
    v.count = __syncthreads_count(t % 3 == 0);
    v.both = __syncthreads_and(t < 64) * 2 + __syncthreads_and(t != 63);
    v.either = __syncthreads_or(t == 63) * 2 + __syncthreads_or(0);
    out[t] = v;
}

static votes expected_votes(int t, unsigned mask)
{
    votes v = {};
    v.count = 22, v.both = 2, v.either = 2;
    if (!(mask >> t % 32 & 1)) return v;
    v.lo = ~0u, v.signed_lo = 1000, v.signed_hi = -1000, v.bits_and = ~0u;
    v.all = 1, v.all1 = 1;
    v.activemask = 1u << t % 32;
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        const unsigned u = (unsigned)(t / 32 * 32 + lane);
        v.ballot |= (unsigned)(lane % 3 == 0) << lane;
        v.any |= lane == 5;
        v.all &= lane != 5;
        v.match |= (unsigned)(lane % 5 == t % 32 % 5) << lane;
        v.add += u + 1;
        v.lo = u - 4u < v.lo ? u - 4u : v.lo;
        v.hi = u - 4u > v.hi ? u - 4u : v.hi;
        v.signed_lo = (int)u - 4 < v.signed_lo ? (int)u - 4 : v.signed_lo;
        v.signed_hi = (int)u - 4 > v.signed_hi ? (int)u - 4 : v.signed_hi;
        v.bits_and &= u | 0xf0u;
        v.bits_or |= 1u << lane;
        v.bits_xor ^= u * 7;
    }
    return v;
}

static void test_votes(void **)
{
    const unsigned masks[] = {DC_FULL_WARP, 0x0000ffffu, 0x80000001u, 0x5a5a00ffu, 0x00000020u};
    votes *d = device<votes>(T), h[T];
    EACH_SCHEDULE
    {
        for (const unsigned mask : masks) {
            DC_LAUNCH(vote, 1, T, 0, nullptr, d, mask);
            fetch(h, d, T);
            for (int t = 0; t < T; t++) {
                const votes v = expected_votes(t, mask);
                assert_memory_equal(&h[t], &v, sizeof v);
            }
        }
    }
    cudaFree(d);
}

/* Halves of a warp on different paths, each with its own mask and number of meetings, then all together. */
DC_KERNEL(32) two_paths(int *out)
{
    const int lane = (int)threadIdx.x;
    int x = lane;
    if (lane < 16)
        for (int i = 0; i < 5; i++) x += __shfl_xor_sync(0x0000ffffu, x, 1);
    else
        for (int i = 0; i < 3; i++) x += __shfl_xor_sync(0xffff0000u, x, 1);
    out[lane] = __shfl_sync(DC_FULL_WARP, x, 31 - lane);
}

static void test_two_paths(void **)
{
    int *d = device<int>(32), h[32];
    EACH_SCHEDULE
    {
        DC_LAUNCH(two_paths, 1, 32, 0, nullptr, d);
        fetch(h, d, 32);
        for (int lane = 0; lane < 32; lane++) {
            const int from = 31 - lane, pair = from / 2 * 4 + 1, doublings = from < 16 ? 4 : 2;
            assert_int_equal(h[lane], pair << doublings);
        }
    }
    cudaFree(d);
}

/* ---- what is refused ---- */

DC_KERNEL(32) not_in_mask(int *out) { out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0); }
DC_KERNEL(32) two_kinds(int *out)
{
    if (threadIdx.x < 16) out[threadIdx.x] = __any_sync(DC_FULL_WARP, 1);
    else __syncwarp();
}
DC_KERNEL(32) one_is_missing(int *out)
{
    if (threadIdx.x != 7) out[threadIdx.x] = __any_sync(DC_FULL_WARP, 1);
}
DC_KERNEL(32) two_masks(int *out) { out[threadIdx.x] = __any_sync(threadIdx.x < 16 ? DC_FULL_WARP : 0xffffff00u, 1); }
DC_KERNEL(64) warp_and_block(int *out)
{
    if (threadIdx.x == 40) __syncthreads();
    else if (threadIdx.x > 31) __syncwarp();
    out[threadIdx.x] = 0;
}
DC_KERNEL(64) two_barriers(int *out)
{
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
    out[threadIdx.x] = 0;
}
DC_KERNEL(32) odd_width(int *out) { out[threadIdx.x] = __shfl_sync(DC_FULL_WARP, 1, 0, 12); }
DC_KERNEL(32) leaves_copies(int *out)
{
    DC_SHARED(int, box, [32]);
    dc_emu_cp_async(&box[threadIdx.x], out, 4, 4, __FILE__, __LINE__);
    dc_emu_cp_async_commit();
    if (threadIdx.x != 3) dc_emu_cp_async_wait(0);
}
DC_KERNEL(32) misaligned_copy(int *out)
{
    DC_SHARED(int, box, [64]);
    dc_emu_cp_async(&box[4 * (threadIdx.x % 4) + 1], out, 16, 16, __FILE__, __LINE__);
}
DC_KERNEL(32) trap(int *out)
{
    if (threadIdx.x == 9) __trap();
    out[threadIdx.x] = 1;
}

static void check_refused(void (*kernel)(int *), unsigned block, const char *words, const char *more)
{
    EACH_SCHEDULE
    {
        int *d = device<int>(64);
        dc_emu_launch("the_kernel", kernel, 3, block, 0, nullptr, d);
        assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
        assert_non_null(strstr(dc_emu_report(), "kernel the_kernel, block ("));
        if (!strstr(dc_emu_report(), words) || !strstr(dc_emu_report(), more)) fail_msg("%s", dc_emu_report());
        dc_emu_reset();
    }
}

static void test_refused(void **)
{
    dc_emu_quiet(1);
    check_refused(not_in_mask, 32, "with the mask 0000ffff, which lacks it", "__shfl_sync");
    check_refused(two_kinds, 32, "__syncwarp", "__any_sync");
    check_refused(one_is_missing, 32, "31 wait in __any_sync of lanes ffffffff",
                  "1 have finished (first: thread (7,0,0))");
    check_refused(two_masks, 32, "16 wait in __any_sync of lanes ffffffff", "16 wait in __any_sync of lanes ffffff00");
    check_refused(warp_and_block, 64, "31 wait in __syncwarp", "1 wait in __syncthreads");
    check_refused(two_barriers, 64, "divergent: it waits in __syncthreads", ", thread (");
    check_refused(odd_width, 32, "with a width of 12", "__shfl_sync");
    check_refused(leaves_copies, 32, "ends with asynchronous copies under way", "thread (3,0,0)");
    check_refused(misaligned_copy, 32, "misaligned asynchronous copy of 16 bytes", "test_emu_warp.cc:");
    check_refused(trap, 32, "trap", "thread (9,0,0)");
    dc_emu_quiet(0);
}

/* ---- atomics ---- */

typedef struct tallies {
    int add, sub, most, least, either, both, odd;
    unsigned inc, dec, cas, exchanged;
    unsigned long long wide;
    float real;
    double precise;
} tallies;

DC_KERNEL(64) tally(tallies *a)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(&a->add, i);
    atomicSub(&a->sub, 1);
    atomicMax(&a->most, i);
    atomicMin(&a->least, -i);
    atomicOr(&a->either, i);
    atomicAnd(&a->both, i | 1024);
    atomicXor(&a->odd, i);
    atomicInc(&a->inc, 9);
    atomicDec(&a->dec, 9);
    atomicAdd(&a->wide, 1ull << 40);
    atomicAdd(&a->real, 0.5f);
    atomicAdd(&a->precise, 0.25);
    atomicExch(&a->exchanged, 77u);
    unsigned old = a->cas, seen;
    while ((seen = atomicCAS(&a->cas, old, old + 2)) != old) old = seen;
}

static void test_atomics(void **)
{
    enum { BLOCKS = 40, N = 64 * BLOCKS };
    for (int threads = 1; threads <= 2; threads++) {
        tallies h = {}, *d = device<tallies>(1);
        h.both = -1;
        dc_emu_threads(threads);
        cudaMemcpy(d, &h, sizeof h, cudaMemcpyHostToDevice);
        DC_LAUNCH(tally, BLOCKS, 64, 0, nullptr, d);
        fetch(&h, d, 1);
        assert_int_equal(h.add, N * (N - 1) / 2);
        assert_int_equal(h.sub, -N);
        assert_int_equal(h.most, N - 1);
        assert_int_equal(h.least, 1 - N);
        assert_int_equal(h.either, 4095);
        assert_int_equal(h.both, 1024);
        assert_int_equal(h.odd, 0);
        assert_int_equal(h.inc, N % 10);
        assert_int_equal(h.dec, (10 - N % 10) % 10);
        assert_true(h.wide == (unsigned long long)N << 40);
        assert_true(h.real == 0.5f * (float)N && h.precise == 0.25 * (double)N);
        assert_int_equal(h.exchanged, 77);
        assert_int_equal(h.cas, 2 * N);
        cudaFree(d);
    }
    dc_emu_threads(1);
}

/* ---- asynchronous copies ---- */

/* Two groups under way; `pending` of them need not have arrived. */
DC_KERNEL(32) copy_async(float *out, const float *in, int pending)
{
    DC_SHARED(float4, box, [2][32]);
    const unsigned t = threadIdx.x;
    for (int i = 0; i < 2; i++) {
        dc_emu_cp_async(&box[i][t], in + 4 * (32 * (unsigned)i + t), 16, t == 31 ? 8 : 16, __FILE__, __LINE__);
        dc_emu_cp_async_commit();
    }
    dc_emu_cp_async_wait(pending);
    __syncwarp();
    const float4 a = box[0][31 - t], b = box[1][31 - t];
    out[4 * t] = a.x, out[4 * t + 1] = a.w, out[4 * t + 2] = b.x, out[4 * t + 3] = b.w;
    __syncwarp();
    dc_emu_cp_async_wait(0);
}

static void test_async_copies(void **)
{
    float h[256], got[128], *in = device<float>(256), *out = device<float>(128);
    for (int i = 0; i < 256; i++) h[i] = (float)i;
    cudaMemcpy(in, h, sizeof h, cudaMemcpyHostToDevice);
    EACH_SCHEDULE
    {
        for (int pending = 0; pending <= 2; pending++) {
            DC_LAUNCH(copy_async, 1, 32, 0, nullptr, out, in, pending);
            fetch(got, out, 128);
            for (int t = 0; t < 32; t++) {
                const float first = (float)(4 * (31 - t));
                if (pending < 2) assert_true(got[4 * t] == first && got[4 * t + 1] == (t == 0 ? 0 : first + 3));
                else assert_true(got[4 * t] != got[4 * t]); /* not waited for: poison */
                if (pending < 1)
                    assert_true(got[4 * t + 2] == first + 128 && got[4 * t + 3] == (t == 0 ? 0 : first + 131));
                else assert_true(got[4 * t + 2] != got[4 * t + 2]);
            }
        }
    }
    cudaFree(in);
    cudaFree(out);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shuffles),     cmocka_unit_test(test_shuffle_outside), cmocka_unit_test(test_votes),
        cmocka_unit_test(test_two_paths),    cmocka_unit_test(test_refused),         cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_async_copies),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
