/* tests/emu/include/emu_types.h -- CUDA's qualifiers, vector types and dim3 for a host compiler.
 *
 * Names, members and alignments are those of NVIDIA's headers, so that a file compiled here also compiles with nvcc; only
 * what decant uses is declared. */
#ifndef DC_EMU_TYPES_H
#define DC_EMU_TYPES_H

#include <stddef.h>
#include <stdint.h>

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define CUDART_CB

/* One line a type: the vectors of 1 to 4 members, aligned as the device's load instructions want them. */
#define DC_EMU_VECTOR(type, base, align) \
    typedef struct base##1 { type x; } \
    base##1; \
    typedef struct __attribute__((aligned(2 * (align)))) base##2 { type x, y; } \
    base##2; \
    typedef struct base##3 { type x, y, z; } \
    base##3; \
    typedef struct __attribute__((aligned((4 * (align)) > 16 ? 16 : 4 * (align)))) base##4 { type x, y, z, w; } \
    base##4;

DC_EMU_VECTOR(signed char, char, 1)
DC_EMU_VECTOR(unsigned char, uchar, 1)
DC_EMU_VECTOR(short, short, 2)
DC_EMU_VECTOR(unsigned short, ushort, 2)
DC_EMU_VECTOR(int, int, 4)
DC_EMU_VECTOR(unsigned, uint, 4)
DC_EMU_VECTOR(float, float, 4)
DC_EMU_VECTOR(long long, longlong, 8)
DC_EMU_VECTOR(unsigned long long, ulonglong, 8)
DC_EMU_VECTOR(double, double, 8)
#undef DC_EMU_VECTOR

#ifdef __cplusplus

#define DC_EMU_MAKE(type, base) \
    static inline base##1 make_##base##1(type x) { return base##1 {x}; } \
    static inline base##2 make_##base##2(type x, type y) { return base##2 {x, y}; } \
    static inline base##3 make_##base##3(type x, type y, type z) { return base##3 {x, y, z}; } \
    static inline base##4 make_##base##4(type x, type y, type z, type w) { return base##4 {x, y, z, w}; }

DC_EMU_MAKE(signed char, char)
DC_EMU_MAKE(unsigned char, uchar)
DC_EMU_MAKE(short, short)
DC_EMU_MAKE(unsigned short, ushort)
DC_EMU_MAKE(int, int)
DC_EMU_MAKE(unsigned, uint)
DC_EMU_MAKE(float, float)
DC_EMU_MAKE(long long, longlong)
DC_EMU_MAKE(unsigned long long, ulonglong)
DC_EMU_MAKE(double, double)
#undef DC_EMU_MAKE

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};

#else

typedef struct dim3 {
    unsigned x, y, z;
} dim3;

#endif
#endif
