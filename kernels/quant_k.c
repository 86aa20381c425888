/* kernels/quant_k.c -- the super-blocks of 256: Q2_K to Q6_K, unpacked. The order of the multiplications is
 * llama.cpp's. */
#include "kernels/quant_rows.h"

#include "core/half.h"

/* Two halves of 128; in each, byte l of 32 holds elements l, l + 32, l + 64, l + 96, two bits each. A scale is for
 * 16. */
void dc_read_q2_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q2_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = dc_f16_to_f32(b->d), dmin = dc_f16_to_f32(b->dmin);
        for (int j = 0; j < 256; j++) {
            const uint8_t scale = b->scales[j / 16];
            const int q = (b->qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2)) & 3;
            out[i + j] = d * (float)(scale & 15) * (float)q - dmin * (float)(scale >> 4);
        }
    }
}

/* As Q2_K, with a third bit (bit j / 32 of hmask) that takes 4 off when it is not set. */
void dc_read_q3_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q3_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = dc_f16_to_f32(b->d);
        int8_t scales[16];
        dc_scales_q3_k(scales, b->scales);
        for (int j = 0; j < 256; j++) {
            const int low = (b->qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2)) & 3;
            const int q = low - ((b->hmask[j % 32] >> (j / 32)) & 1 ? 0 : 4);
            out[i + j] = d * (float)scales[j / 16] * (float)q;
        }
    }
}

/* Eight groups of 32, in pairs that share 32 bytes: low nibbles the even group, high ones the odd. */
void dc_read_q4_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = dc_f16_to_f32(b->d), dmin = dc_f16_to_f32(b->dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            dc_scale_min_k4(g, b->scales, &scale, &min);
            const float dg = d * (float)scale, mg = dmin * (float)min;
            const uint8_t *q = b->qs + g / 2 * 32;
            for (int j = 0; j < 32; j++) out[i + 32 * g + j] = dg * (float)((q[j] >> (g % 2 * 4)) & 15) - mg;
        }
    }
}

/* As Q4_K; the fifth bit of element j of group g is bit g of qh[j]. */
void dc_read_q5_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = dc_f16_to_f32(b->d), dmin = dc_f16_to_f32(b->dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            dc_scale_min_k4(g, b->scales, &scale, &min);
            const float dg = d * (float)scale, mg = dmin * (float)min;
            const uint8_t *q = b->qs + g / 2 * 32;
            for (int j = 0; j < 32; j++) {
                const int v = ((q[j] >> (g % 2 * 4)) & 15) + ((b->qh[j] >> g) & 1 ? 16 : 0);
                out[i + 32 * g + j] = dg * (float)v - mg;
            }
        }
    }
}

/* Two halves of 128, each four quarters of 32: nibbles from ql (quarters 0 and 2 share bytes, 1 and 3), two upper bits
 * from qh. A signed scale is for 16. */
void dc_read_q6_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q6_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = dc_f16_to_f32(b->d);
        for (int j = 0; j < 256; j++) {
            const int half = j / 128, quarter = j % 128 / 32, l = j % 32;
            const int low = (b->ql[64 * half + quarter % 2 * 32 + l] >> (quarter / 2 * 4)) & 15;
            const int high = (b->qh[32 * half + l] >> (2 * quarter)) & 3;
            out[i + j] = d * (float)b->scales[j / 16] * (float)((low | (high << 4)) - 32);
        }
    }
}
