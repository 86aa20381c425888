/* kernels/quant_rows.h -- layouts of the stored blocks and the row functions behind kernels/quant.h; private to
 * kernels/.
 *
 * The structs are llama.cpp's (ggml-common.h), byte for byte, little-endian, without padding. A row in a mapped
 * file is only aligned to its element, which for every struct here is at most two bytes. */
#ifndef DC_KERNELS_QUANT_ROWS_H
#define DC_KERNELS_QUANT_ROWS_H

#include "kernels/quant.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __CUDACC__
#define DC_QUANT_INLINE static __host__ __device__ __forceinline__
#else
#define DC_QUANT_INLINE static inline
#endif

typedef struct dc_q4_0 {
    uint16_t d;
    uint8_t qs[16];
} dc_q4_0;
typedef struct dc_q4_1 {
    uint16_t d, m;
    uint8_t qs[16];
} dc_q4_1;
typedef struct dc_q5_0 {
    uint16_t d;
    uint8_t qh[4], qs[16];
} dc_q5_0;
typedef struct dc_q5_1 {
    uint16_t d, m;
    uint8_t qh[4], qs[16];
} dc_q5_1;
typedef struct dc_q8_0 {
    uint16_t d;
    int8_t qs[32];
} dc_q8_0;
typedef struct dc_q2_k {
    uint8_t scales[16], qs[64];
    uint16_t d, dmin;
} dc_q2_k;
typedef struct dc_q3_k {
    uint8_t hmask[32], qs[64], scales[12];
    uint16_t d;
} dc_q3_k;
typedef struct dc_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12], qs[128];
} dc_q4_k;
typedef struct dc_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12], qh[32], qs[128];
} dc_q5_k;
typedef struct dc_q6_k {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint16_t d;
} dc_q6_k;

/* The j-th of a Q4_K or Q5_K block's eight 6-bit scales and mins. Four of each stand in bytes 0-3 and 4-7; the low
 * halves of the others in bytes 8-11, and their upper two bits on top of the first eight bytes. */
DC_QUANT_INLINE void dc_scale_min_k4(int j, const uint8_t *s, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4));
        *min = (uint8_t)((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
    }
}

/* The j-th of a Q3_K block's sixteen 6-bit scales, 32 taken off. */
DC_QUANT_INLINE int dc_scale_q3_k(int j, const uint8_t *s)
{
    const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    const int high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
    return (low | (high << 4)) - 32;
}

static inline void dc_scales_q3_k(int8_t out[16], const uint8_t *s)
{
    for (int j = 0; j < 16; j++) out[j] = (int8_t)dc_scale_q3_k(j, s);
}

/* Plain C: the specification of the layouts. */
dc_row_read_fn dc_read_f32, dc_read_f16, dc_read_bf16, dc_read_q4_0, dc_read_q4_1, dc_read_q5_0, dc_read_q5_1,
    dc_read_q8_0, dc_read_q2_k, dc_read_q3_k, dc_read_q4_k, dc_read_q5_k, dc_read_q6_k;
dc_row_write_fn dc_write_f32, dc_write_f16, dc_write_bf16, dc_write_q4_0, dc_write_q8_0;

/* AVX2 and F16C: the same bits. NULL when there is no faster variant. */
dc_row_read_fn *dc_row_reader_avx2(dc_dtype type);

#ifdef __cplusplus
}
#endif
#endif
