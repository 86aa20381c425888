/* tests/emu/include/cuda_fp16.h -- IEEE half on the host: storage and conversions, as stored weights need them. */
#ifndef DC_EMU_CUDA_FP16_H
#define DC_EMU_CUDA_FP16_H

#include "emu_device.h"

typedef struct __half_raw {
    unsigned short x;
} __half_raw;

/* Exact: every half is a float. */
static inline float dc_emu_half_value(unsigned short h)
{
    const unsigned sign = (unsigned)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, mantissa = h & 1023u;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
    const float value = (float)mantissa * 0x1p-24f;
    return sign ? -value : value;
}

/* To nearest even; NaN to 0x7fff. */
static inline unsigned short dc_emu_half_bits(float f)
{
    const unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000u;
    const float a = fabsf(f);
    if (a != a) return 0x7fff;
    if (a >= 65520.0f) return (unsigned short)(sign | 0x7c00u);
    if (a < 0x1p-14f) return (unsigned short)(sign | (unsigned)(int)rintf(a * 0x1p24f));
    const unsigned m = u & 0x7fffffffu;
    return (unsigned short)(sign | ((m + 0xfffu + (m >> 13 & 1u)) - (112u << 23)) >> 13);
}

struct __half {
    unsigned short __x;
    __half() = default;
    __half(const __half_raw &r) : __x(r.x) {}
    __half(float f) : __x(dc_emu_half_bits(f)) {}
    operator float() const { return dc_emu_half_value(__x); }
    operator __half_raw() const { return __half_raw{__x}; }
};

struct __attribute__((aligned(4))) __half2 {
    __half x, y;
    __half2() = default;
    __half2(const __half &a, const __half &b) : x(a), y(b) {}
};

typedef __half half;
typedef __half2 half2;

static inline __half __ushort_as_half(unsigned short bits) { return __half(__half_raw{bits}); }
static inline unsigned short __half_as_ushort(__half h) { return h.__x; }
static inline float __half2float(__half h) { return h; }
static inline __half __float2half(float f) { return __half(f); }
static inline __half __float2half_rn(float f) { return __half(f); }
static inline float2 __half22float2(__half2 h) { return float2{h.x, h.y}; }
static inline __half2 __floats2half2_rn(float a, float b) { return __half2(__half(a), __half(b)); }

#endif
