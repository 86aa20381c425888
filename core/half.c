/* core/half.c */
#include "core/half.h"

float dc_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u;
    uint32_t mantissa = h & 0x3ffu, u;
    if (exponent == 31u) {
        /* A NaN is made quiet, as the processor's own conversion does. */
        u = 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0u);
    } else if (exponent) {
        u = (exponent + 112u) << 23 | mantissa << 13;
    } else if (mantissa) {
        /* Subnormal: mantissa * 2^-24, normal as a float. */
        uint32_t e = 113u;
        while (!(mantissa & 0x400u)) mantissa <<= 1, e--;
        u = e << 23 | (mantissa & 0x3ffu) << 13;
    } else {
        u = 0;
    }
    u |= sign;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t dc_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    const uint32_t sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (u >> 13 & 0x3ffu)); /* a NaN, made quiet */
    if (u >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);                     /* 65536 and more */
    if (u >= 0x38800000u) {
        /* Normal: a carry out of the mantissa goes into the exponent, up to infinity, as it must. */
        u = u - 0x38000000u + 0xfffu + (u >> 13 & 1u);
        return (uint16_t)(sign | u >> 13);
    }
    if (u <= 0x33000000u) return (uint16_t)sign; /* at most half the least subnormal */
    const uint32_t mantissa = (u & 0x7fffffu) | 0x800000u, shift = 126u - (u >> 23); /* 14 to 24 */
    const uint32_t half = 1u << (shift - 1), rest = mantissa & (2 * half - 1);
    uint32_t q = mantissa >> shift;
    if (rest > half || (rest == half && (q & 1u))) q++;
    return (uint16_t)(sign | q);
}
