/* kernels/quant.c -- which row functions there are, and which is the fastest here. */
#include "kernels/quant_rows.h"

#include <stddef.h>

#include "kernels/table.h"

_Static_assert(sizeof(dc_q4_0) == 18 && sizeof(dc_q4_1) == 20 && sizeof(dc_q5_0) == 22 && sizeof(dc_q5_1) == 24 &&
                   sizeof(dc_q8_0) == 34 && sizeof(dc_q2_k) == 84 && sizeof(dc_q3_k) == 110 && sizeof(dc_q4_k) == 144 &&
                   sizeof(dc_q5_k) == 176 && sizeof(dc_q6_k) == 210,
               "blocks have no padding");

#define READABLE(X) \
    X(F32, f32) \
    X(F16, f16) \
    X(BF16, bf16) \
    X(Q4_0, q4_0) \
    X(Q4_1, q4_1) \
    X(Q5_0, q5_0) \
    X(Q5_1, q5_1) \
    X(Q8_0, q8_0) \
    X(Q2_K, q2_k) \
    X(Q3_K, q3_k) \
    X(Q4_K, q4_k) \
    X(Q5_K, q5_k) \
    X(Q6_K, q6_k)
#define WRITABLE(X)      X(F32, f32) X(F16, f16) X(BF16, bf16) X(Q8_0, q8_0) X(Q4_0, q4_0)
#define TEXT(type, name) ", " #type

dc_row_read_fn *dc_row_reader(dc_dtype type, unsigned features)
{
    if ((features & DC_FEATURES_AVX2) == DC_FEATURES_AVX2) {
        dc_row_read_fn *fast = dc_row_reader_avx2(type);
        if (fast) return fast;
    }
    switch ((int)type) {
#define CASE(type_, name) \
    case DC_##type_: return dc_read_##name;
        READABLE(CASE)
#undef CASE
    default: return NULL;
    }
}

dc_row_write_fn *dc_row_writer(dc_dtype type, unsigned features)
{
    (void)features; /* one variant so far: packing is done once, when a file is written */
    switch ((int)type) {
#define CASE(type_, name) \
    case DC_##type_: return dc_write_##name;
        WRITABLE(CASE)
#undef CASE
    default: return NULL;
    }
}

/* The first comma is left out. */
const char *dc_row_readable(void) { return &READABLE(TEXT)[2]; }
const char *dc_row_writable(void) { return &WRITABLE(TEXT)[2]; }
