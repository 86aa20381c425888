/* tests/core/test_dtype.c -- block sizes from the layouts, names, and size arithmetic at its edges. */
#include "core/dtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

/* Bytes a block as the sum of its fields (ggml-common.h), so that the table is checked against something else than
 * itself: half scales are 2 bytes, K is the super-block of 256. */
enum { H = 2, K = 256 };
static const struct {
    dc_dtype type;
    const char *name;
    int block, bytes;
} layouts[] = {
    {DC_F32, "F32", 1, 4},
    {DC_F16, "F16", 1, 2},
    {DC_BF16, "BF16", 1, 2},
    {DC_F64, "F64", 1, 8},
    {DC_I8, "I8", 1, 1},
    {DC_I16, "I16", 1, 2},
    {DC_I32, "I32", 1, 4},
    {DC_I64, "I64", 1, 8},
    {DC_Q4_0, "Q4_0", 32, H + 32 / 2},
    {DC_Q4_1, "Q4_1", 32, 2 * H + 32 / 2},
    {DC_Q5_0, "Q5_0", 32, H + 4 + 32 / 2},
    {DC_Q5_1, "Q5_1", 32, 2 * H + 4 + 32 / 2},
    {DC_Q8_0, "Q8_0", 32, H + 32},
    {DC_Q8_1, "Q8_1", 32, 2 * H + 32},
    {DC_Q2_K, "Q2_K", K, K / 16 + K / 4 + 2 * H},
    {DC_Q3_K, "Q3_K", K, K / 8 + K / 4 + 12 + H},
    {DC_Q4_K, "Q4_K", K, 2 * H + 12 + K / 2},
    {DC_Q5_K, "Q5_K", K, 2 * H + 12 + K / 8 + K / 2},
    {DC_Q6_K, "Q6_K", K, K / 2 + K / 4 + K / 16 + H},
    {DC_Q8_K, "Q8_K", K, 4 + K + K / 16 * 2},
    {DC_IQ2_XXS, "IQ2_XXS", K, H + K / 8 * 2},
    {DC_IQ2_XS, "IQ2_XS", K, H + K / 8 * 2 + K / 32},
    {DC_IQ2_S, "IQ2_S", K, H + K / 4 + K / 32 + K / 32},
    {DC_IQ3_XXS, "IQ3_XXS", K, H + 3 * (K / 8)},
    {DC_IQ3_S, "IQ3_S", K, H + K / 4 + K / 32 + K / 8 + K / 64},
    {DC_IQ1_S, "IQ1_S", K, H + K / 8 + K / 32 * 2},
    {DC_IQ1_M, "IQ1_M", K, K / 8 + K / 16 + K / 32},
    {DC_IQ4_NL, "IQ4_NL", 32, H + 32 / 2},
    {DC_IQ4_XS, "IQ4_XS", K, H + 2 + K / 64 + K / 2},
    {DC_TQ1_0, "TQ1_0", K, (K - 4 * K / 64) / 5 + K / 64 + H},
    {DC_TQ2_0, "TQ2_0", K, K / 4 + H},
    {DC_MXFP4, "MXFP4", 32, 1 + 32 / 2},
    {DC_NVFP4, "NVFP4", 64, 64 / 16 + 64 / 2},
    {DC_Q1_0, "Q1_0", 128, H + 128 / 8},
    {DC_Q2_0, "Q2_0", 64, H + 64 / 4},
};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static void table_agrees_with_the_layouts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < LAYOUTS; i++) {
        const dc_dtype_info *info = dc_dtype_get(layouts[i].type);
        assert_string_equal(info->name, layouts[i].name);
        assert_int_equal(info->block, layouts[i].block);
        assert_int_equal(info->bytes, layouts[i].bytes);
        assert_int_equal(dc_dtype_by_name(layouts[i].name), layouts[i].type);
    }
}

static void unused_numbers_have_no_name(void **unused)
{
    (void)unused;
    size_t named = 0;
    for (int t = -2; t < DC_DTYPE_COUNT + 2; t++) {
        assert_non_null(dc_dtype_get(t));
        named += dc_dtype_get(t)->name != NULL;
    }
    assert_int_equal(named, LAYOUTS);
    static const int gone[] = {-1, 4, 5, 31, 32, 33, 36, 37, 38, DC_DTYPE_COUNT, 1 << 30};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        assert_null(dc_dtype_get(gone[i])->name);
        assert_int_equal(dc_dtype_bytes((dc_dtype)gone[i], 256), -1);
    }
}

static void names_in_any_case(void **unused)
{
    (void)unused;
    assert_int_equal(dc_dtype_by_name("q4_k"), DC_Q4_K);
    assert_int_equal(dc_dtype_by_name("Bf16"), DC_BF16);
    assert_int_equal(dc_dtype_by_name("Q4"), DC_DTYPE_NONE);
    assert_int_equal(dc_dtype_by_name(""), DC_DTYPE_NONE);
}

static void bytes_refuse_broken_blocks_and_overflow(void **unused)
{
    (void)unused;
    assert_int_equal(dc_dtype_bytes(DC_Q4_K, 512), 288);
    assert_int_equal(dc_dtype_bytes(DC_Q4_K, 0), 0);
    assert_int_equal(dc_dtype_bytes(DC_Q4_K, 255), -1);
    assert_int_equal(dc_dtype_bytes(DC_F32, -4), -1);
    assert_int_equal(dc_dtype_bytes(DC_F32, INT64_MAX / 4), INT64_MAX / 4 * 4);
    assert_int_equal(dc_dtype_bytes(DC_F32, INT64_MAX / 4 + 1), -1);
}

static void size_arithmetic_at_its_edges(void **unused)
{
    (void)unused;
    int64_t x = 5;
    assert_int_equal(dc_mul_size(&x, (int64_t)1 << 32, (int64_t)1 << 31), -1);
    assert_int_equal(dc_mul_size(&x, -1, 1), -1);
    assert_int_equal(dc_mul_size(&x, 1, -1), -1);
    assert_int_equal(dc_add_size(&x, INT64_MAX, 1), -1);
    assert_int_equal(dc_add_size(&x, -1, 2), -1);
    assert_int_equal(x, 5); /* untouched by a failure */
    assert_int_equal(dc_mul_size(&x, 1, INT64_MAX), 0);
    assert_true(x == INT64_MAX);
    assert_int_equal(dc_add_size(&x, x, 0), 0);
    assert_true(x == INT64_MAX);
    assert_int_equal(dc_mul_size(&x, 0, INT64_MAX), 0);
    assert_int_equal(x, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_agrees_with_the_layouts),
        cmocka_unit_test(unused_numbers_have_no_name),
        cmocka_unit_test(names_in_any_case),
        cmocka_unit_test(bytes_refuse_broken_blocks_and_overflow),
        cmocka_unit_test(size_arithmetic_at_its_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
