/* tests/emu/test_emu_math.cc -- element types against core/half.h, bit functions against their definitions, vectors in memory. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "core/half.h"
#include "cuda_fp16.h"
#include "emu_cmocka.h"
#include "kernels/cuda.cuh"

static uint32_t next(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

/* Every 16-bit pattern to float, and back; floats between, at and around the halves of the last bit. */
static void test_small_floats(void **)
{
    for (unsigned u = 0; u < 65536; u++) {
        const unsigned short bits = (unsigned short)u;
        const float b = __bfloat162float(__ushort_as_bfloat16(bits)), h = __half2float(__ushort_as_half(bits));
        assert_true(__float_as_uint(b) == __float_as_uint(dc_bf16_to_f32(bits)));
        assert_true(isnan(h) ? isnan(dc_f16_to_f32(bits))
                             : h == dc_f16_to_f32(bits) && signbit(h) == signbit(dc_f16_to_f32(bits)));
        assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(b)), isnan(b) ? 0x7fff : bits);
        assert_int_equal(__half_as_ushort(__float2half_rn(h)), isnan(h) ? 0x7fff : bits);
    }
    uint32_t state = 1;
    for (int i = 0; i < 2000000; i++) {
        uint32_t u = next(&state);
        if (i % 4 == 1) u = (u & 0xffff0000u) | 0x8000u;             /* a bf16's half */
        if (i % 4 == 2) u = (u & 0xffffe000u) | 0x1000u;             /* a half's half */
        if (i % 4 == 3) u = (u & 0x80ffffffu) | (96 + u % 48) << 23; /* around a half's range */
        const float f = __uint_as_float(u);
        if (isnan(f)) continue;
        assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(f)), dc_f32_to_bf16(f));
        assert_int_equal(__half_as_ushort(__float2half_rn(f)), dc_f32_to_f16(f));
    }
}

static void test_bits(void **)
{
    uint32_t state = 7;
    for (int i = 0; i < 20000; i++) {
        const uint32_t a = next(&state), b = next(&state), s = next(&state);
        uint32_t reversed = 0, permuted = 0;
        int ones = 0, dot = (int)s % 1000;
        for (int k = 0; k < 32; k++) {
            reversed = reversed << 1 | (a >> k & 1);
            ones += (int)(a >> k & 1);
        }
        for (int k = 0; k < 4; k++) {
            const uint32_t select = s >> 4 * k & 15, byte = ((select & 4 ? b : a) >> 8 * (select & 3)) & 255;
            permuted |= (select > 7 ? (byte > 127 ? 255u : 0u) : byte) << 8 * k;
            dot += (int8_t)(a >> 8 * k & 255) * (int8_t)(b >> 8 * k & 255);
        }
        assert_int_equal(__brev(a), reversed);
        assert_int_equal(__popc(a), ones);
        assert_int_equal(__byte_perm(a, b, s), permuted);
        assert_int_equal(__dp4a((int)a, (int)b, (int)s % 1000), dot);
        assert_int_equal(__umulhi(a, b), (uint32_t)((uint64_t)a * b >> 32));
        const unsigned n = s % 32;
        assert_int_equal(__funnelshift_l(a, b, n), n ? b << n | a >> (32 - n) : b);
        assert_int_equal(__funnelshift_r(a, b, n), n ? b << (32 - n) | a >> n : a);
    }
    assert_true(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0 && __clzll(1) == 63);
    assert_true(__ffs(0) == 0 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41);
}

static void test_conversions(void **)
{
    assert_int_equal(__float2int_rn(2.5f), 2);
    assert_int_equal(__float2int_rn(3.5f), 4);
    assert_int_equal(__float2int_rz(-2.9f), -2);
    assert_int_equal(__float2int_rd(-2.1f), -3);
    assert_int_equal(__float2int_ru(2.1f), 3);
    assert_int_equal(__float2int_rn(3e9f), INT_MAX);
    assert_int_equal(__float2int_rn(-3e9f), INT_MIN);
    assert_int_equal(__float2int_rn(NAN), 0);
    assert_true(__float2uint_rn(-1.0f) == 0 && __float2uint_rn(5e9f) == UINT_MAX);
    assert_true(__saturatef(2.0f) == 1 && __saturatef(-1.0f) == 0 && __saturatef(NAN) == 0);
    assert_true(fabsf(rsqrtf(2.0f) - 0.70710678f) < 1e-7f);
    assert_true(max(NAN, 1.0f) == 1.0f && min(2.0f, (float)NAN) == 2.0f);
}

/* Alignment decides what a vector load may touch; sizes are those of the device's instructions. */
static void test_vectors(void **)
{
    assert_true(sizeof(float4) == 16 && alignof(float4) == 16 && sizeof(uint4) == 16 && alignof(uint4) == 16);
    assert_true(sizeof(float2) == 8 && alignof(float2) == 8 && sizeof(int2) == 8 && alignof(int2) == 8);
    assert_true(sizeof(float3) == 12 && alignof(float3) == 4 && sizeof(uint3) == 12 && sizeof(dim3) == 12);
    assert_true(sizeof(double2) == 16 && alignof(double2) == 16 && sizeof(double4) == 32 && alignof(double4) == 16);
    assert_true(sizeof(short4) == 8 && alignof(short4) == 8 && sizeof(uchar4) == 4 && alignof(uchar4) == 4);
    assert_true(sizeof(__nv_bfloat16) == 2 && sizeof(__nv_bfloat162) == 4 && alignof(__nv_bfloat162) == 4);
    assert_true(sizeof(__half) == 2 && sizeof(__half2) == 4 && alignof(__half2) == 4);
    alignas(16) const unsigned short bits[8] = {0x3f80, 0xc000, 0x4040, 0, 0x7f80, 0x4080, 0x3f00, 0xbf80};
    const float want[8] = {1, -2, 3, 0, INFINITY, 4, 0.5f, -1};
    alignas(16) dc_bf16 p[8], q[8];
    alignas(16) float f[8], g[8];
    memcpy(p, bits, sizeof p);
    dc_load8(f, p);
    assert_memory_equal(f, want, sizeof f);
    dc_store8(q, f);
    assert_memory_equal(q, p, sizeof q);
    dc_store8(g, f);
    dc_load8(f, g);
    assert_memory_equal(f, want, sizeof f);
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small_floats), cmocka_unit_test(test_bits),
                                       cmocka_unit_test(test_conversions), cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
