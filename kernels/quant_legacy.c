/* kernels/quant_legacy.c -- plain types and the blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. */
#include "kernels/quant_rows.h"

#include <math.h>
#include <string.h>

#include "core/half.h"

void dc_read_f32(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    memcpy(out, row, (size_t)n * sizeof *out);
}

void dc_read_f16(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const uint16_t *x = row;
    for (int64_t i = 0; i < n; i++) out[i] = dc_f16_to_f32(x[i]);
}

void dc_read_bf16(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const uint16_t *x = row;
    for (int64_t i = 0; i < n; i++) out[i] = dc_bf16_to_f32(x[i]);
}

/* In blocks of 32 the low nibbles are elements 0-15, the high ones 16-31. */
void dc_read_q4_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = dc_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            out[i + j] = (float)((b->qs[j] & 15) - 8) * d;
            out[i + j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
        }
    }
}

void dc_read_q4_1(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_1 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = dc_f16_to_f32(b->d), m = dc_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            out[i + j] = (float)(b->qs[j] & 15) * d + m;
            out[i + j + 16] = (float)(b->qs[j] >> 4) * d + m;
        }
    }
}

/* The fifth bit of element j is bit j of qh, a little-endian 32-bit number. */
static int fifth(const uint8_t *qh, int j) { return ((qh[j / 8] >> (j % 8)) & 1) << 4; }

void dc_read_q5_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = dc_f16_to_f32(b->d);
        for (int j = 0; j < 16; j++) {
            out[i + j] = (float)(((b->qs[j] & 15) | fifth(b->qh, j)) - 16) * d;
            out[i + j + 16] = (float)(((b->qs[j] >> 4) | fifth(b->qh, j + 16)) - 16) * d;
        }
    }
}

void dc_read_q5_1(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_1 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = dc_f16_to_f32(b->d), m = dc_f16_to_f32(b->m);
        for (int j = 0; j < 16; j++) {
            out[i + j] = (float)((b->qs[j] & 15) | fifth(b->qh, j)) * d + m;
            out[i + j + 16] = (float)((b->qs[j] >> 4) | fifth(b->qh, j + 16)) * d + m;
        }
    }
}

void dc_read_q8_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q8_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = dc_f16_to_f32(b->d);
        for (int j = 0; j < 32; j++) out[i + j] = (float)b->qs[j] * d;
    }
}

void dc_write_f32(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n)
{
    memcpy(row, x, (size_t)n * sizeof *x);
}

void dc_write_f16(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n)
{
    uint16_t *out = row;
    for (int64_t i = 0; i < n; i++) out[i] = dc_f32_to_f16(x[i]);
}

void dc_write_bf16(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n)
{
    uint16_t *out = row;
    for (int64_t i = 0; i < n; i++) out[i] = dc_f32_to_bf16(x[i]);
}

/* A float that may be NaN or large, as an integer in [low, high]; NaN becomes low, where a plain conversion would be
 * undefined. Truncates toward zero. */
static int truncated(float x, int low, int high) { return x >= (float)high ? high : x > (float)low ? (int)x : low; }

/* The value of largest magnitude becomes -8 exactly: the scale takes its sign. */
void dc_write_q4_0(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n)
{
    dc_q4_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        float largest = 0, extreme = 0;
        for (int j = 0; j < 32; j++)
            if (fabsf(x[i + j]) > largest) largest = fabsf(x[i + j]), extreme = x[i + j];
        const float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
        b->d = dc_f32_to_f16(d);
        for (int j = 0; j < 16; j++) {
            const int low = truncated(x[i + j] * inverse + 8.5f, 0, 15);
            const int high = truncated(x[i + j + 16] * inverse + 8.5f, 0, 15);
            b->qs[j] = (uint8_t)(low | (high << 4));
        }
    }
}

void dc_write_q8_0(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n)
{
    dc_q8_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        float largest = 0;
        for (int j = 0; j < 32; j++) largest = fmaxf(largest, fabsf(x[i + j]));
        const float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
        b->d = dc_f32_to_f16(d);
        for (int j = 0; j < 32; j++) b->qs[j] = (int8_t)truncated(roundf(x[i + j] * inverse), -128, 127);
    }
}
