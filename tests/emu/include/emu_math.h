/* tests/emu/include/emu_math.h -- CUDA's mathematical and bit functions that the host's libm lacks.
 *
 * Approximate intrinsics are the exact functions: what a card's ex2.approx or rcp.approx loses is not emulated. */
#ifndef DC_EMU_MATH_H
#define DC_EMU_MATH_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emu_types.h"

static inline float dc_emu_rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline double dc_emu_rsqrt(double x) { return 1.0 / sqrt(x); }

/* Macros where a C library may declare functions of these names for itself. */
#define rsqrtf(x)          dc_emu_rsqrtf(x)
#define rsqrt(x)           dc_emu_rsqrt(x)
#define __expf(x)          expf(x)
#define __exp10f(x)        exp10f(x)
#define __logf(x)          logf(x)
#define __log2f(x)         log2f(x)
#define __log10f(x)        log10f(x)
#define __powf(x, y)       powf(x, y)
#define __sinf(x)          sinf(x)
#define __cosf(x)          cosf(x)
#define __sincosf(x, s, c) sincosf(x, s, c)
#define __tanhf(x)         tanhf(x)

static inline float __fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return dc_emu_rsqrtf(x); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

/* Conversions; out of range they saturate and a NaN gives 0, as the device's do and a host's cast need not. */
static inline int __float2int_rn(float x)
{
    return isnan(x) ? 0 : x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)rintf(x);
}
static inline int __float2int_rz(float x) { return __float2int_rn(truncf(x)); }
static inline int __float2int_rd(float x) { return __float2int_rn(floorf(x)); }
static inline int __float2int_ru(float x) { return __float2int_rn(ceilf(x)); }
static inline unsigned __float2uint_rn(float x)
{
    return isnan(x) || x <= 0.0f ? 0 : x >= 4294967296.0f ? 4294967295u : (unsigned)rintf(x);
}
static inline unsigned __float2uint_rz(float x) { return __float2uint_rn(truncf(x)); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __ll2float_rn(long long x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }

/* The same bits as another type. */
#define DC_EMU_BITS(name, to, from) \
    static inline to name(from x) \
    { \
        to y; \
        memcpy(&y, &x, sizeof y); \
        return y; \
    }
DC_EMU_BITS(__float_as_int, int, float)
DC_EMU_BITS(__float_as_uint, unsigned, float)
DC_EMU_BITS(__int_as_float, float, int)
DC_EMU_BITS(__uint_as_float, float, unsigned)
DC_EMU_BITS(__double_as_longlong, long long, double)
DC_EMU_BITS(__longlong_as_double, double, long long)
#undef DC_EMU_BITS

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1u) << (31 - i);
    return y;
}
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
static inline int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    __extension__ typedef unsigned __int128 wide;
    return (unsigned long long)((wide)x * y >> 64);
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift)
{
    const unsigned long long both = (unsigned long long)hi << 32 | lo;
    return (unsigned)(both << (shift & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift)
{
    const unsigned long long both = (unsigned long long)hi << 32 | lo;
    return (unsigned)(both >> (shift & 31));
}
/* Byte i of the result is byte (s >> 4 i & 7) of y:x, or its sign spread over the byte when bit 3 of the selector is set. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
    const unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned select = s >> 4 * i & 15u;
        const unsigned byte = (unsigned)(both >> 8 * (select & 7u)) & 255u;
        r |= (select & 8u ? (byte & 128u ? 255u : 0u) : byte) << 8 * i;
    }
    return r;
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++) c += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
    return c;
}

#define DC_EMU_MINMAX(type) \
    static inline type min(type a, type b) { return a < b ? a : b; } \
    static inline type max(type a, type b) { return a > b ? a : b; }
DC_EMU_MINMAX(int)
DC_EMU_MINMAX(unsigned)
DC_EMU_MINMAX(long)
DC_EMU_MINMAX(unsigned long)
DC_EMU_MINMAX(long long)
DC_EMU_MINMAX(unsigned long long)
#undef DC_EMU_MINMAX
/* The number when the other is NaN, as on the device. */
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#endif
