/* kernels/cuda.cuh -- what every .cu file begins with: the macros in which nvcc and the emulation differ, and small device helpers.
 *
 * A .cu file is compiled by nvcc and, for tests, as C++17 by the host's compiler against tests/emu/include; where instructions are
 * inline PTX, a plain body stands beside them under DC_CUDA_EMULATED. All threads named by a collective must come to it: helpers
 * of a warp take all 32 lanes, helpers of a block all its threads, whose number is a multiple of 32. */
#ifndef DC_KERNELS_CUDA_CUH
#define DC_KERNELS_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__

/* A kernel for blocks of at most `threads`. */
#define DC_KERNEL(threads) __global__ void __launch_bounds__(threads)
/* The same for a kernel that wants many registers: so many that `blocks` of them still fit a multiprocessor. Unless that is said ptxas may
 * spill a few to fit one more. */
#define DC_KERNEL_BLOCKS(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
/* Queues kernel(args...); a kernel with several template arguments stands in parentheses. cudaGetLastError says whether it could be. */
#define DC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
/* A shared array `type name dims`, as DC_SHARED(float, tile, [32][33]); not initialized. */
#define DC_SHARED(type, name, dims) __shared__ type name dims
/* The launch's dynamic shared memory as `type *name`, aligned to 16 bytes. */
#define DC_DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char dc_dynamic_shared[]; \
    type *const name = reinterpret_cast<type *>(dc_dynamic_shared)

#else

#define DC_CUDA_EMULATED                  1
#define DC_KERNEL(threads)                void
#define DC_KERNEL_BLOCKS(threads, blocks) void
#define DC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    dc_emu_launch(#kernel, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)
#define DC_SHARED(type, name, dims) \
    typedef type name##_shared dims; \
    static char name##_key; \
    name##_shared &name = *reinterpret_cast<name##_shared *>( \
        dc_emu_shared_static(&name##_key, #name, sizeof(name##_shared), alignof(name##_shared)))
#define DC_DYNAMIC_SHARED(type, name) type *const name = reinterpret_cast<type *>(dc_emu_shared_dynamic())

#endif

#define DC_DEVICE static __device__ __forceinline__

enum { DC_WARP = 32 };

/* The compiler moves no load or store of memory across this: values are read when they are needed, not held in registers until then. */
DC_DEVICE void dc_in_order() { asm volatile("" ::: "memory"); }
#define DC_FULL_WARP 0xffffffffu

/* ---- element types: float and bf16, arithmetic in float ---- */

typedef __nv_bfloat16 dc_bf16;

DC_DEVICE float dc_to_float(float x) { return x; }
DC_DEVICE float dc_to_float(dc_bf16 x) { return __bfloat162float(x); }

template <typename T> DC_DEVICE T dc_from_float(float x);
template <> __device__ __forceinline__ float dc_from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ dc_bf16 dc_from_float<dc_bf16>(float x) { return __float2bfloat16_rn(x); }

/* Eight elements in 16-byte loads and stores; p is aligned to 16 bytes. */
DC_DEVICE void dc_load8(float out[8], const dc_bf16 *p)
{
    const uint4 u = *reinterpret_cast<const uint4 *>(p);
    const unsigned word[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = __uint_as_float(word[i] << 16);
        out[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
}

DC_DEVICE void dc_load8(float out[8], const float *p)
{
    const float4 a = reinterpret_cast<const float4 *>(p)[0], b = reinterpret_cast<const float4 *>(p)[1];
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
    out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}

DC_DEVICE unsigned dc_pack_bf16(float low, float high)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
}

DC_DEVICE void dc_store8(dc_bf16 *p, const float in[8])
{
    *reinterpret_cast<uint4 *>(p) = make_uint4(dc_pack_bf16(in[0], in[1]), dc_pack_bf16(in[2], in[3]),
                                               dc_pack_bf16(in[4], in[5]), dc_pack_bf16(in[6], in[7]));
}

DC_DEVICE void dc_store8(float *p, const float in[8])
{
    reinterpret_cast<float4 *>(p)[0] = make_float4(in[0], in[1], in[2], in[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(in[4], in[5], in[6], in[7]);
}

/* ---- reductions; every participant gets the result, and the order of summation depends on the shape alone ---- */

DC_DEVICE float dc_warp_sum(float x)
{
#pragma unroll
    for (int lanes = DC_WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(DC_FULL_WARP, x, lanes);
    return x;
}

/* The thread's number in its block, and the block's threads, in the order of warps. */
DC_DEVICE unsigned dc_thread(void) { return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; }
DC_DEVICE unsigned dc_threads(void) { return blockDim.x * blockDim.y * blockDim.z; }

/* Over the block. `scratch` is DC_BLOCK_SCRATCH floats of shared memory, which others may still read on return: a barrier must stand before
 * it is used again. */
enum { DC_BLOCK_SCRATCH = 32 };

DC_DEVICE float dc_block_sum(float x, float *scratch)
{
    const unsigned lane = dc_thread() % DC_WARP, warp = dc_thread() / DC_WARP;
    x = dc_warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    return dc_warp_sum(lane < dc_threads() / DC_WARP ? scratch[lane] : 0.0f);
}

#endif
