/* kernels/quant_cuda.cuh -- stored element types on the device: eight elements of a row to float.
 *
 * dc_read8(out, row, i) gives elements i .. i+7 of a row, i a multiple of 8, for every type that kernels/quant.h reads; a whole group of
 * eight must be in the row. The layouts are explained in quant_legacy.c and quant_k.c, and the bits are theirs: products and sums are
 * rounded one by one (__fmul_rn is never fused). A block is aligned to two bytes, so it is read in pairs of bytes; neighbouring threads
 * read neighbouring bytes, and the scales of a block come from the cache but for the first of them. */
#ifndef DC_KERNELS_QUANT_CUDA_CUH
#define DC_KERNELS_QUANT_CUDA_CUH

#include <cuda_fp16.h>

#include "kernels/cuda.cuh"
#include "kernels/quant_rows.h"

/* X(type, its element or block): plain types, blocks. */
#define DC_CUDA_PLAIN(X) X(DC_F32, float) X(DC_F16, __half) X(DC_BF16, dc_bf16)
#define DC_CUDA_BLOCKS(X) \
    X(DC_Q4_0, dc_q4_0) \
    X(DC_Q4_1, dc_q4_1) \
    X(DC_Q5_0, dc_q5_0) \
    X(DC_Q5_1, dc_q5_1) \
    X(DC_Q8_0, dc_q8_0) \
    X(DC_Q2_K, dc_q2_k) \
    X(DC_Q3_K, dc_q3_k) \
    X(DC_Q4_K, dc_q4_k) \
    X(DC_Q5_K, dc_q5_k) \
    X(DC_Q6_K, dc_q6_k)

DC_DEVICE float dc_to_float(__half x) { return __half2float(x); }

DC_DEVICE void dc_load8(float out[8], const __half *p)
{
    const uint4 u = *reinterpret_cast<const uint4 *>(p);
    const unsigned word[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 8; i++)
        out[i] = __half2float(__ushort_as_half(static_cast<unsigned short>(word[i / 2] >> (i % 2 * 16))));
}

/* Plain types: whatever their alignment. */
#define DC_READ8_PLAIN(type, element) \
    DC_DEVICE void dc_read8(float out[8], const element *row, int64_t i) \
    { \
        _Pragma("unroll") for (int k = 0; k < 8; k++) out[k] = dc_to_float(row[i + k]); \
    }
DC_CUDA_PLAIN(DC_READ8_PLAIN)
#undef DC_READ8_PLAIN

DC_DEVICE float dc_half_at(const uint16_t *bits) { return __half2float(__ushort_as_half(*bits)); }
DC_DEVICE unsigned dc_two_bytes(const uint8_t *p) { return *reinterpret_cast<const uint16_t *>(p); }

DC_DEVICE void dc_eight_bytes(unsigned out[8], const uint8_t *p)
{
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const unsigned both = dc_two_bytes(p + 2 * k);
        out[2 * k] = both & 255u;
        out[2 * k + 1] = both >> 8;
    }
}

/* Nibbles of eight elements of a block of 32: the low ones are elements 0-15, the high ones 16-31. */
DC_DEVICE void dc_eight_nibbles(unsigned out[8], const uint8_t *qs, int j)
{
    dc_eight_bytes(out, qs + j % 16);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = out[k] >> (j / 16 * 4) & 15u;
}

/* The fifth bits of eight elements, at bit 4. */
DC_DEVICE void dc_add_fifth(unsigned q[8], const uint8_t *qh, int j)
{
    const unsigned bits = (dc_two_bytes(qh + j / 16 * 2) >> (j % 16)) & 255u;
#pragma unroll
    for (int k = 0; k < 8; k++) q[k] |= (bits >> k & 1u) << 4;
}

DC_DEVICE void dc_read8(float out[8], const dc_q4_0 *row, int64_t i)
{
    const dc_q4_0 *b = row + i / 32;
    const float d = dc_half_at(&b->d);
    unsigned q[8];
    dc_eight_nibbles(q, b->qs, static_cast<int>(i % 32));
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fmul_rn(static_cast<float>(static_cast<int>(q[k]) - 8), d);
}

DC_DEVICE void dc_read8(float out[8], const dc_q4_1 *row, int64_t i)
{
    const dc_q4_1 *b = row + i / 32;
    const float d = dc_half_at(&b->d), m = dc_half_at(&b->m);
    unsigned q[8];
    dc_eight_nibbles(q, b->qs, static_cast<int>(i % 32));
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fadd_rn(__fmul_rn(static_cast<float>(q[k]), d), m);
}

DC_DEVICE void dc_read8(float out[8], const dc_q5_0 *row, int64_t i)
{
    const dc_q5_0 *b = row + i / 32;
    const int j = static_cast<int>(i % 32);
    const float d = dc_half_at(&b->d);
    unsigned q[8];
    dc_eight_nibbles(q, b->qs, j);
    dc_add_fifth(q, b->qh, j);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fmul_rn(static_cast<float>(static_cast<int>(q[k]) - 16), d);
}

DC_DEVICE void dc_read8(float out[8], const dc_q5_1 *row, int64_t i)
{
    const dc_q5_1 *b = row + i / 32;
    const int j = static_cast<int>(i % 32);
    const float d = dc_half_at(&b->d), m = dc_half_at(&b->m);
    unsigned q[8];
    dc_eight_nibbles(q, b->qs, j);
    dc_add_fifth(q, b->qh, j);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fadd_rn(__fmul_rn(static_cast<float>(q[k]), d), m);
}

DC_DEVICE void dc_read8(float out[8], const dc_q8_0 *row, int64_t i)
{
    const dc_q8_0 *b = row + i / 32;
    const float d = dc_half_at(&b->d);
    unsigned q[8];
    dc_eight_bytes(q, reinterpret_cast<const uint8_t *>(b->qs) + i % 32);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fmul_rn(static_cast<float>(static_cast<int8_t>(q[k])), d);
}

/* Two bits each of eight elements of a super-block of 256. */
DC_DEVICE void dc_eight_crumbs(unsigned out[8], const uint8_t *qs, int j)
{
    dc_eight_bytes(out, qs + j / 128 * 32 + j % 32);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = out[k] >> (j % 128 / 32 * 2) & 3u;
}

DC_DEVICE void dc_read8(float out[8], const dc_q2_k *row, int64_t i)
{
    const dc_q2_k *b = row + i / 256;
    const int j = static_cast<int>(i % 256);
    const unsigned scale = b->scales[j / 16];
    const float d = __fmul_rn(dc_half_at(&b->d), static_cast<float>(scale & 15u));
    const float m = __fmul_rn(dc_half_at(&b->dmin), static_cast<float>(scale >> 4));
    unsigned q[8];
    dc_eight_crumbs(q, b->qs, j);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fsub_rn(__fmul_rn(d, static_cast<float>(q[k])), m);
}

DC_DEVICE void dc_read8(float out[8], const dc_q3_k *row, int64_t i)
{
    const dc_q3_k *b = row + i / 256;
    const int j = static_cast<int>(i % 256);
    const float d = __fmul_rn(dc_half_at(&b->d), static_cast<float>(dc_scale_q3_k(j / 16, b->scales)));
    unsigned q[8], mask[8];
    dc_eight_crumbs(q, b->qs, j);
    dc_eight_bytes(mask, b->hmask + j % 32);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int below = mask[k] >> (j / 32) & 1u ? 0 : 4;
        out[k] = __fmul_rn(d, static_cast<float>(static_cast<int>(q[k]) - below));
    }
}

/* Groups of 32 in pairs that share 32 bytes. */
DC_DEVICE void dc_eight_of_pairs(unsigned out[8], const uint8_t *qs, int j)
{
    dc_eight_bytes(out, qs + j / 64 * 32 + j % 32);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = out[k] >> (j / 32 % 2 * 4) & 15u;
}

DC_DEVICE void dc_read8(float out[8], const dc_q4_k *row, int64_t i)
{
    const dc_q4_k *b = row + i / 256;
    const int j = static_cast<int>(i % 256);
    uint8_t scale, min;
    dc_scale_min_k4(j / 32, b->scales, &scale, &min);
    const float d = __fmul_rn(dc_half_at(&b->d), static_cast<float>(scale));
    const float m = __fmul_rn(dc_half_at(&b->dmin), static_cast<float>(min));
    unsigned q[8];
    dc_eight_of_pairs(q, b->qs, j);
#pragma unroll
    for (int k = 0; k < 8; k++) out[k] = __fsub_rn(__fmul_rn(d, static_cast<float>(q[k])), m);
}

DC_DEVICE void dc_read8(float out[8], const dc_q5_k *row, int64_t i)
{
    const dc_q5_k *b = row + i / 256;
    const int j = static_cast<int>(i % 256);
    uint8_t scale, min;
    dc_scale_min_k4(j / 32, b->scales, &scale, &min);
    const float d = __fmul_rn(dc_half_at(&b->d), static_cast<float>(scale));
    const float m = __fmul_rn(dc_half_at(&b->dmin), static_cast<float>(min));
    unsigned q[8], high[8];
    dc_eight_of_pairs(q, b->qs, j);
    dc_eight_bytes(high, b->qh + j % 32);
#pragma unroll
    for (int k = 0; k < 8; k++)
        out[k] = __fsub_rn(__fmul_rn(d, static_cast<float>(q[k] + (high[k] >> (j / 32) & 1u) * 16u)), m);
}

DC_DEVICE void dc_read8(float out[8], const dc_q6_k *row, int64_t i)
{
    const dc_q6_k *b = row + i / 256;
    const int j = static_cast<int>(i % 256), upper = j / 128, quarter = j % 128 / 32, l = j % 32;
    const float d = __fmul_rn(dc_half_at(&b->d), static_cast<float>(b->scales[j / 16]));
    unsigned low[8], high[8];
    dc_eight_bytes(low, b->ql + 64 * upper + quarter % 2 * 32 + l);
    dc_eight_bytes(high, b->qh + 32 * upper + l);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const unsigned q = (low[k] >> (quarter / 2 * 4) & 15u) | (high[k] >> (2 * quarter) & 3u) << 4;
        out[k] = __fmul_rn(d, static_cast<float>(static_cast<int>(q) - 32));
    }
}

#endif
