/* kernels/cuda_vec.cuh -- eight elements (four floats) at a time from rows that begin and end anywhere; launchers of kernels over n elements.
 *
 * A thread's eight neighbours are one 16-byte access of bf16 and two of floats wherever they are aligned and all there. Each row is asked
 * anew: of an odd width every eighth row is aligned. */
#ifndef DC_KERNELS_CUDA_VEC_CUH
#define DC_KERNELS_CUDA_VEC_CUH

#include "core/dtype.h"
#include "core/error.h"
#include "kernels/cuda.cuh"

static inline __host__ __device__ bool dc_is_aligned(const void *p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/* out = p[0 .. n) and zeros behind, for n below 8; n may be negative. */
template <typename T> DC_DEVICE void dc_load_some(float out[8], const T *p, int64_t n)
{
    const int here = static_cast<int>(min(n, static_cast<int64_t>(8)));
    if (here == 8 && dc_is_aligned(p)) {
        dc_load8(out, p);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) out[i] = i < here ? dc_to_float(p[i]) : 0.0f;
    }
}

template <typename T> DC_DEVICE void dc_store_some(T *p, const float in[8], int64_t n)
{
    const int here = static_cast<int>(min(n, static_cast<int64_t>(8)));
    if (here == 8 && dc_is_aligned(p)) {
        dc_store8(p, in);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < here) p[i] = dc_from_float<T>(in[i]);
    }
}

/* ---- floats alone: neighbours of a warp share their sectors in each single access ---- */

DC_DEVICE void dc_load_some4(float out[4], const float *p, int64_t n)
{
    const int here = static_cast<int>(min(n, static_cast<int64_t>(4)));
    if (here == 4 && dc_is_aligned(p)) {
        const float4 v = *reinterpret_cast<const float4 *>(p);
        out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) out[i] = i < here ? p[i] : 0.0f;
    }
}

DC_DEVICE void dc_store_some4(float *p, const float in[4], int64_t n)
{
    const int here = static_cast<int>(min(n, static_cast<int64_t>(4)));
    if (here == 4 && dc_is_aligned(p)) {
        *reinterpret_cast<float4 *>(p) = make_float4(in[0], in[1], in[2], in[3]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < here) p[i] = in[i];
    }
}

/* ---- launchers ---- */

/* function<float or dc_bf16>(...), by the type of activations. */
#define DC_BY_ACTIVATION(type, function, ...) \
    do { \
        if ((type) == DC_F32) { \
            function<float>(__VA_ARGS__); \
        } else { \
            DC_ASSERT((type) == DC_BF16); \
            function<dc_bf16>(__VA_ARGS__); \
        } \
    } while (0)

enum { DC_VEC_THREADS = 256 };

/* The first element of a thread that has `each` of them, and blocks for n. */
DC_DEVICE int64_t dc_vec_first(int each)
{
    return (static_cast<int64_t>(blockIdx.x) * DC_VEC_THREADS + threadIdx.x) * each;
}

static inline int64_t dc_ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

static inline unsigned dc_vec_blocks(int64_t n, int each)
{
    return static_cast<unsigned>(dc_ceil_div(n, static_cast<int64_t>(DC_VEC_THREADS) * each));
}

#endif
