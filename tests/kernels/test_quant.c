/* tests/kernels/test_quant.c -- rows of stored types: golden values from gguf-py, equal bits of all variants, and
 * properties. */
#include "kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "kernels/cpu.h"
#include "kernels/quant.h"
#include "kernels/quant_rows.h"

typedef struct golden_read {
    dc_dtype type;
    uint64_t hash;
    float first[3];
} golden_read;

typedef struct golden_write {
    dc_dtype type;
    uint64_t hash;
    uint8_t first[6];
} golden_write;

#include "quant_golden.h"

/* The generator of quant_golden.py. */
static uint64_t state;

static uint32_t bits(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static const struct {
    dc_dtype type;
    int at[2];
} halves[] = {{DC_Q4_0, {0, 0}},   {DC_Q4_1, {0, 2}},     {DC_Q5_0, {0, 0}}, {DC_Q5_1, {0, 2}}, {DC_Q8_0, {0, 0}},
              {DC_Q2_K, {80, 82}}, {DC_Q3_K, {108, 108}}, {DC_Q4_K, {0, 2}}, {DC_Q5_K, {0, 2}}, {DC_Q6_K, {208, 208}}};

enum { BLOCKS = 64, ELEMENTS = 32 * BLOCKS };

static void make_blocks(uint8_t *out, dc_dtype type)
{
    const int bytes = dc_dtype_get(type)->bytes, count = ELEMENTS / dc_dtype_get(type)->block;
    state = 7;
    for (int i = 0; i < count * bytes; i++) out[i] = (uint8_t)bits();
    for (size_t h = 0; h < KIT_COUNT(halves); h++) {
        if (halves[h].type != type) continue;
        for (int b = 0; b < count; b++)
            for (int k = 0; k < 2; k++) out[b * bytes + halves[h].at[k] + 1] &= 0xbf;
    }
}

static void make_floats(float x[ELEMENTS])
{
    state = 7;
    for (int i = 0; i < ELEMENTS; i++)
        x[i] = ldexpf((float)(((double)bits() - 2147483648.0) / 2147483648.0), i / 32 % 40 - 20);
    for (int i = 0; i < 32; i++) {
        x[32 + i] = -0.5f;
        x[64 + i] = 0;
        x[96 + i] = i ? (float)(i - 16) / 2 : 127;
    }
}

static uint64_t fnv(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static void reads_are_golden(void **unused)
{
    (void)unused;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        for (size_t i = 0; i < KIT_COUNT(golden_reads); i++) {
            const golden_read *g = &golden_reads[i];
            uint8_t blocks[ELEMENTS * 4];
            float out[ELEMENTS];
            make_blocks(blocks, g->type);
            dc_row_reader(g->type, paths[p])(out, blocks, ELEMENTS);
            for (int k = 0; k < 3; k++) assert_true(out[k] == g->first[k]);
            assert_true(fnv(out, sizeof out) == g->hash);
        }
    }
}

static void writes_are_golden(void **unused)
{
    (void)unused;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        for (size_t i = 0; i < KIT_COUNT(golden_writes); i++) {
            const golden_write *g = &golden_writes[i];
            float x[ELEMENTS];
            uint8_t out[ELEMENTS * 4];
            make_floats(x);
            dc_row_writer(g->type, paths[p])(out, x, ELEMENTS);
            assert_memory_equal(out, g->first, sizeof g->first);
            assert_true(fnv(out, (size_t)dc_dtype_bytes(g->type, ELEMENTS)) == g->hash);
        }
    }
}

static const dc_dtype readable[] = {DC_F32,  DC_F16,  DC_BF16, DC_Q4_0, DC_Q4_1, DC_Q5_0, DC_Q5_1,
                                    DC_Q8_0, DC_Q2_K, DC_Q3_K, DC_Q4_K, DC_Q5_K, DC_Q6_K};

/* Any bytes at all, infinite and NaN scales included, at an odd address for a mapped file, and lengths that end
 * within a vector. The sign and payload of a NaN that arithmetic makes are the processor's business; where a NaN
 * stands is not. */
static void variants_agree(void **unused)
{
    (void)unused;
    const unsigned found = dc_cpu_found();
    state = 11;
    for (size_t t = 0; t < KIT_COUNT(readable); t++) {
        const dc_dtype_info *info = dc_dtype_get(readable[t]);
        for (int round = 0; round < 200; round++) {
            const int64_t n = info->block * (1 + (int64_t)(bits() % 37)), bytes = dc_dtype_bytes(readable[t], n);
            const int odd = info->block > 1 ? 2 : info->bytes;
            uint8_t *row = malloc((size_t)bytes + 4);
            float *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
            assert_true(row && a && b);
            for (int64_t i = 0; i < bytes + 4; i++) row[i] = (uint8_t)bits();
            dc_row_reader(readable[t], 0)(a, row + odd, n);
            dc_row_reader(readable[t], found)(b, row + odd, n);
            for (int64_t i = 0; i < n; i++)
                if (!(isnan(a[i]) && isnan(b[i]))) assert_memory_equal(a + i, b + i, sizeof *a);
            free(row), free(a), free(b);
        }
    }
}

static void every_half_is_read(void **unused)
{
    (void)unused;
    unsigned paths[KIT_PATHS];
    static uint16_t all[65536];
    static float out[65536];
    for (int i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        dc_row_reader(DC_F16, paths[p])(out, all, 65536);
        for (int i = 0; i < 65536; i++) {
            const float truth = dc_f16_to_f32((uint16_t)i);
            assert_memory_equal(&out[i], &truth, sizeof truth);
        }
        dc_row_reader(DC_BF16, paths[p])(out, all, 65536);
        for (int i = 0; i < 65536; i++) {
            const float truth = dc_bf16_to_f32((uint16_t)i);
            assert_memory_equal(&out[i], &truth, sizeof truth);
        }
    }
}

/* Q8_0 is off by half a step of 1/127 of the largest, and by the half's rounding of that step; the largest itself
 * survives. */
static void packing_is_near(void **unused)
{
    (void)unused;
    float x[ELEMENTS], y[ELEMENTS];
    uint8_t row[ELEMENTS * 4];
    make_floats(x);
    const struct {
        dc_dtype type;
        float share;
    } cases[] = {
        {DC_F32, 0}, {DC_F16, 0x1p-11f}, {DC_BF16, 0x1p-8f}, {DC_Q8_0, 0.51f / 127 + 0x1p-11f}, {DC_Q4_0, 1.01f / 8}};
    for (size_t c = 0; c < KIT_COUNT(cases); c++) {
        dc_row_writer(cases[c].type, 0)(row, x, ELEMENTS);
        dc_row_reader(cases[c].type, 0)(y, row, ELEMENTS);
        for (int b = 0; b < BLOCKS; b++) {
            float largest = 0;
            for (int i = 0; i < 32; i++) largest = fmaxf(largest, fabsf(x[32 * b + i]));
            if (largest < 0x1p-6f || largest > 0x1p15f) continue; /* beyond, halves are subnormal or infinite */
            for (int i = 0; i < 32; i++) assert_true(fabsf(x[32 * b + i] - y[32 * b + i]) <= cases[c].share * largest);
        }
        /* What was read once is written back to the same bytes: a step is a multiple of itself. */
        uint8_t again[ELEMENTS * 4];
        if (cases[c].type == DC_Q4_0 || cases[c].type == DC_Q8_0) continue;
        dc_row_writer(cases[c].type, 0)(again, y, ELEMENTS);
        assert_memory_equal(again, row, (size_t)dc_dtype_bytes(cases[c].type, ELEMENTS));
    }
}

static void names(void **unused)
{
    (void)unused;
    assert_string_equal(dc_row_readable(),
                        "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K");
    assert_string_equal(dc_row_writable(), "F32, F16, BF16, Q8_0, Q4_0");
    for (int t = -1; t < DC_DTYPE_COUNT; t++) {
        int known = 0;
        for (size_t i = 0; i < KIT_COUNT(readable); i++) known |= readable[i] == (dc_dtype)t;
        assert_true((dc_row_reader((dc_dtype)t, ~0u) != NULL) == known);
    }
    assert_null(dc_row_writer(DC_Q4_K, ~0u));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_golden),   cmocka_unit_test(writes_are_golden), cmocka_unit_test(variants_agree),
        cmocka_unit_test(every_half_is_read), cmocka_unit_test(packing_is_near),   cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
