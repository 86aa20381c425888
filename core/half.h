/* core/half.h -- one half or bfloat16 number to and from float, rounding to nearest even; NaN stays NaN.
 * Rows are converted by kernels/quant.h. */
#ifndef DC_CORE_HALF_H
#define DC_CORE_HALF_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline float dc_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint16_t dc_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 64u); /* a NaN, made quiet */
    return (uint16_t)((u + (0x7fffu + ((u >> 16) & 1u))) >> 16);
}

float dc_f16_to_f32(uint16_t h);
uint16_t dc_f32_to_f16(float f);

#ifdef __cplusplus
}
#endif
#endif
