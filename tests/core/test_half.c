/* tests/core/test_half.c -- every half number, every tie between two of them, and the processor's own conversion. */
#include "core/half.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* The value of a finite half by its definition. */
static double half_value(uint16_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double magnitude = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static void every_half_has_its_value_and_comes_back(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        const float f = dc_f16_to_f32(h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f));
            assert_true((dc_f32_to_f16(f) & 0x7fff) > 0x7c00);
            continue;
        }
        if ((h & 0x7fff) == 0x7c00) assert_true(isinf(f));
        else assert_true((double)f == half_value(h));
        assert_int_equal(signbit(f) != 0, h >> 15);
        assert_int_equal(dc_f32_to_f16(f), h);
    }
}

/* Between two neighbours: the middle goes to the even one, its neighbouring floats to the nearer one. */
static void ties_go_to_even(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 0x7c00; i++) {
        const uint16_t low = (uint16_t)i, high = (uint16_t)(i + 1), even = i & 1 ? high : low;
        const double above = high == 0x7c00 ? 65536 : half_value(high);
        const float middle = (float)((half_value(low) + above) / 2);
        assert_int_equal(dc_f32_to_f16(middle), even);
        assert_int_equal(dc_f32_to_f16(nextafterf(middle, 0)), low);
        assert_int_equal(dc_f32_to_f16(nextafterf(middle, INFINITY)), high);
        assert_int_equal(dc_f32_to_f16(-middle), even | 0x8000);
        assert_int_equal(dc_f32_to_f16(-nextafterf(middle, 0)), low | 0x8000);
        assert_int_equal(dc_f32_to_f16(-nextafterf(middle, INFINITY)), high | 0x8000);
    }
}

static void special_numbers(void **unused)
{
    (void)unused;
    assert_int_equal(dc_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(dc_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(dc_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(dc_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(dc_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(dc_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(dc_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(dc_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(dc_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(dc_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(dc_f32_to_bf16(INFINITY), 0x7f80);
    assert_int_equal(dc_f32_to_bf16(0x1.fffffep127f), 0x7f80); /* FLT_MAX is past the middle */
    assert_int_equal(dc_f32_to_bf16(-0.0f), 0x8000);
}

static void every_bf16_and_its_ties(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t h = (uint16_t)i;
        const float f = dc_bf16_to_f32(h);
        if (isnan(f)) {
            assert_true((dc_f32_to_bf16(f) & 0x7fff) > 0x7f80);
            continue;
        }
        assert_int_equal(dc_f32_to_bf16(f), h);
        if ((h & 0x7fff) == 0x7f80) continue;
        const uint32_t tie = i << 16 | 0x8000u; /* bits of the middle between h and the next one outward */
        for (uint32_t d = 0; d < 3; d++) {
            const uint32_t bits = tie - 1 + d, expected = d == 0 ? i : d == 2 ? i + 1 : i + (i & 1);
            float middle;
            memcpy(&middle, &bits, sizeof middle);
            assert_int_equal(dc_f32_to_bf16(middle), expected);
        }
    }
    uint32_t low_payload = 0x7f800001u; /* truncation alone would make infinity of this NaN */
    float nan_value;
    memcpy(&nan_value, &low_payload, sizeof nan_value);
    assert_true((dc_f32_to_bf16(nan_value) & 0x7fff) > 0x7f80);
    assert_true((dc_f32_to_f16(nan_value) & 0x7fff) > 0x7c00);
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) static uint16_t processor_f32_to_f16(float f)
{
    return (uint16_t)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT);
}

__attribute__((target("f16c"))) static float processor_f16_to_f32(uint16_t h) { return _cvtsh_ss(h); }

static void agrees_with_the_processor(void **unused)
{
    (void)unused;
    if (!__builtin_cpu_supports("avx2")) skip(); /* all that have it have F16C, a name that clang 14 does not know */
    for (uint64_t i = 0; i < (uint64_t)1 << 32; i += 1021) { /* a prime stride meets all exponents and NaNs */
        const uint32_t bits = (uint32_t)i;
        float f;
        memcpy(&f, &bits, sizeof f);
        assert_int_equal(dc_f32_to_f16(f), processor_f32_to_f16(f));
    }
    for (uint32_t i = 0; i < 65536; i++) {
        const float a = dc_f16_to_f32((uint16_t)i), b = processor_f16_to_f32((uint16_t)i);
        assert_memory_equal(&a, &b, sizeof a);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_its_value_and_comes_back),
        cmocka_unit_test(ties_go_to_even),
        cmocka_unit_test(special_numbers),
        cmocka_unit_test(every_bf16_and_its_ties),
#if defined(__x86_64__)
        cmocka_unit_test(agrees_with_the_processor),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
