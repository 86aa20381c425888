/* kernels/norm_cuda.cu -- RMSNorm. A row is read once, into the registers of the threads that share it: 8 of them up to width 256 (norms
 * of heads), a warp up to 1024, a block up to 8192. Bound by memory: forward 2 elements a column (4 bytes of bf16), backward 3, and 4
 * when dx is added to; the weight comes from the caches. Wider rows, and rows whose width, distance or place keeps them from 16-byte
 * accesses, go element by element and are read twice, the second time from a cache.
 *
 * dweight is a pass of its own over dy and x (kernels/cuda_sums.cuh), first, since dx may be dy: a micro-batch's activations of one norm
 * are still in the second-level cache (50 MB on an H100; 4096 tokens of width 2048 are 34 MB) when dx reads them, and a frozen norm,
 * as beside LoRA, has no such pass. */
#include <cuda_fp16.h>

#include "kernels/cuda_dev.h"
#include "kernels/cuda_sums.cuh"
#include "kernels/cuda_vec.cuh"

typedef struct norm_args {
    void *out; /* y or dx */
    float *rstd_out;
    const void *x, *dy, *weight;
    const float *rstd;
    dc_dtype weight_type;
    int64_t T, C, ldx, ldy;
    float eps, offset;
    int assign;
} norm_args;

/* ---- the weight, F32, F16 or BF16: the type is the same for the whole grid, so that the branch costs little ---- */

DC_DEVICE float from_bits(unsigned bits, dc_dtype type) /* of 16 */
{
    return type == DC_BF16 ? __uint_as_float(bits << 16)
                           : __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

DC_DEVICE float weight_at(const void *weight, dc_dtype type, int64_t i)
{
    return type == DC_F32 ? static_cast<const float *>(weight)[i]
                          : from_bits(static_cast<const unsigned short *>(weight)[i], type);
}

/* Elements c .. c+7, aligned to 16 bytes. */
DC_DEVICE void load8_weight(float out[8], const void *weight, dc_dtype type, int64_t c)
{
    if (type == DC_F32) {
        dc_load8(out, static_cast<const float *>(weight) + c);
    } else {
        const uint4 u = *reinterpret_cast<const uint4 *>(static_cast<const unsigned short *>(weight) + c);
        const unsigned word[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int i = 0; i < 8; i++) out[i] = from_bits(word[i / 2] >> 16 * (i % 2) & 0xffffu, type);
    }
}

/* ---- rows and their threads ---- */

/* Over the LANES threads of a row. */
template <int LANES> DC_DEVICE float row_sum(float x, float *scratch)
{
    if constexpr (LANES > DC_WARP) {
        return dc_block_sum(x, scratch);
    } else {
#pragma unroll
        for (int lanes = LANES / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(DC_FULL_WARP, x, lanes);
        return x;
    }
}

template <int LANES> DC_DEVICE int64_t row_of_thread(void)
{
    return static_cast<int64_t>(blockIdx.x) * (DC_VEC_THREADS / LANES) + threadIdx.x / LANES;
}

/* The column of the thread's first vector; the next is 8 LANES behind it. */
template <int LANES> DC_DEVICE int first_column(void) { return static_cast<int>(threadIdx.x) % LANES * 8; }

DC_DEVICE float rstd_of(float sum, const norm_args &a) { return 1.0f / sqrtf(sum / static_cast<float>(a.C) + a.eps); }

/* ---- forward ---- */

/* y = x * r * (offset + weight). LANES threads a row, each of which keeps HELD vectors of eight columns. y may be x: a thread writes
 * where it alone has read, and after the sum. Threads behind the last row have a row of no columns: they come to the sum too. */
template <typename T, int LANES, int HELD> static DC_KERNEL(DC_VEC_THREADS) norm_forward(norm_args a)
{
    DC_SHARED(float, scratch, [DC_BLOCK_SCRATCH]);
    const int64_t t = row_of_thread<LANES>();
    const int n = t < a.T ? static_cast<int>(a.C) : 0, first = first_column<LANES>();
    const T *const x = static_cast<const T *>(a.x) + t * a.ldx;
    T *const y = static_cast<T *>(a.out) + t * a.ldy;
    float held[HELD][8], w[8], sum = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int c = first + k * LANES * 8;
        if (c >= n) break;
        dc_load8(held[k], x + c);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += held[k][i] * held[k][i];
    }
    const float r = rstd_of(row_sum<LANES>(sum, scratch), a);
    if (a.rstd_out && n > 0 && threadIdx.x % LANES == 0) a.rstd_out[t] = r;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int c = first + k * LANES * 8;
        if (c >= n) break;
        load8_weight(w, a.weight, a.weight_type, c);
#pragma unroll
        for (int i = 0; i < 8; i++) held[k][i] *= r * (a.offset + w[i]);
        dc_store8(y + c, held[k]);
    }
}

/* A warp a row, one element a lane at a time. */
template <typename T> static DC_KERNEL(DC_VEC_THREADS) norm_forward_any(norm_args a)
{
    const int64_t t = row_of_thread<DC_WARP>(), first = threadIdx.x % DC_WARP;
    const T *const x = static_cast<const T *>(a.x) + t * a.ldx;
    T *const y = static_cast<T *>(a.out) + t * a.ldy;
    float sum = 0;
    if (t >= a.T) return;
    for (int64_t c = first; c < a.C; c += DC_WARP) sum += dc_to_float(x[c]) * dc_to_float(x[c]);
    const float r = rstd_of(dc_warp_sum(sum), a);
    if (a.rstd_out && first == 0) a.rstd_out[t] = r;
    for (int64_t c = first; c < a.C; c += DC_WARP)
        y[c] = dc_from_float<T>(dc_to_float(x[c]) * r * (a.offset + weight_at(a.weight, a.weight_type, c)));
}

/* ---- backward: dx (+)= rstd * (g - x * k) with g = dy * (offset + weight) and k = rstd^2 * mean(g * x) ---- */

template <typename T, int LANES, int HELD> static DC_KERNEL_BLOCKS(DC_VEC_THREADS, 8 / HELD) norm_backward(norm_args a)
{
    DC_SHARED(float, scratch, [DC_BLOCK_SCRATCH]);
    const int64_t t = row_of_thread<LANES>();
    const int n = t < a.T ? static_cast<int>(a.C) : 0, first = first_column<LANES>();
    const T *const x = static_cast<const T *>(a.x) + t * a.ldx, *const dy = static_cast<const T *>(a.dy) + t * a.ldy;
    T *const dx = static_cast<T *>(a.out) + t * a.ldx;
    float held[HELD][8], g[HELD][8], more[8], dot = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int c = first + k * LANES * 8;
        if (c >= n) break;
        dc_load8(held[k], x + c);
        dc_load8(g[k], dy + c);
        load8_weight(more, a.weight, a.weight_type, c);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            g[k][i] *= a.offset + more[i];
            dot += g[k][i] * held[k][i];
        }
    }
    dot = row_sum<LANES>(dot, scratch);
    if (n == 0) return;
    const float r = a.rstd[t], scale = dot * r * r / static_cast<float>(a.C);
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int c = first + k * LANES * 8;
        if (c >= n) break;
        if (!a.assign) dc_load8(more, dx + c);
#pragma unroll
        for (int i = 0; i < 8; i++) g[k][i] = r * (g[k][i] - held[k][i] * scale) + (a.assign ? 0.0f : more[i]);
        dc_store8(dx + c, g[k]);
    }
}

template <typename T> static DC_KERNEL(DC_VEC_THREADS) norm_backward_any(norm_args a)
{
    const int64_t t = row_of_thread<DC_WARP>(), first = threadIdx.x % DC_WARP;
    const T *const x = static_cast<const T *>(a.x) + t * a.ldx, *const dy = static_cast<const T *>(a.dy) + t * a.ldy;
    T *const dx = static_cast<T *>(a.out) + t * a.ldx;
    float dot = 0;
    if (t >= a.T) return;
    for (int64_t c = first; c < a.C; c += DC_WARP)
        dot += dc_to_float(dy[c]) * (a.offset + weight_at(a.weight, a.weight_type, c)) * dc_to_float(x[c]);
    const float r = a.rstd[t], scale = dc_warp_sum(dot) * r * r / static_cast<float>(a.C);
    for (int64_t c = first; c < a.C; c += DC_WARP) {
        const float g = dc_to_float(dy[c]) * (a.offset + weight_at(a.weight, a.weight_type, c));
        const float d = r * (g - dc_to_float(x[c]) * scale);
        dx[c] = dc_from_float<T>(a.assign ? d : dc_to_float(dx[c]) + d);
    }
}

/* ---- launches ---- */

/* Whether every vector of eight columns is aligned to 16 bytes. */
template <typename T> static int has_vectors(const norm_args &a)
{
    const int64_t each = 16 / sizeof(T);
    return a.C % 8 == 0 && a.ldx % each == 0 && a.ldy % each == 0 && dc_is_aligned(a.out) && dc_is_aligned(a.x) &&
           dc_is_aligned(a.dy) && dc_is_aligned(a.weight);
}

template <typename T, int LANES, int HELD> static void launch_shared(dc_dev *dev, const norm_args &a, unsigned grid)
{
    if (a.dy) DC_LAUNCH((norm_backward<T, LANES, HELD>), grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), a);
    else DC_LAUNCH((norm_forward<T, LANES, HELD>), grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), a);
}

template <typename T> static void launch_any(dc_dev *dev, const norm_args &a, unsigned grid)
{
    if (a.dy) DC_LAUNCH(norm_backward_any<T>, grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), a);
    else DC_LAUNCH(norm_forward_any<T>, grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), a);
}

static unsigned blocks_for(int64_t rows, int lanes)
{
    return static_cast<unsigned>(dc_ceil_div(rows, DC_VEC_THREADS / lanes));
}

template <typename T> static void launch_norm(dc_dev *dev, const norm_args &a, const char *op)
{
    DC_ASSERT(a.weight_type == DC_F32 || a.weight_type == DC_F16 || a.weight_type == DC_BF16);
    if (!has_vectors<T>(a) || a.C > DC_VEC_THREADS * 4 * 8) launch_any<T>(dev, a, blocks_for(a.T, DC_WARP));
    else if (a.C <= 8 * 4 * 8) launch_shared<T, 8, 4>(dev, a, blocks_for(a.T, 8));
    else if (a.C <= DC_WARP * 4 * 8) launch_shared<T, DC_WARP, 4>(dev, a, blocks_for(a.T, DC_WARP));
    else if (a.C <= DC_VEC_THREADS * 2 * 8)
        launch_shared<T, DC_VEC_THREADS, 2>(dev, a, blocks_for(a.T, DC_VEC_THREADS));
    else launch_shared<T, DC_VEC_THREADS, 4>(dev, a, blocks_for(a.T, DC_VEC_THREADS));
    dc_cuda_launched(dev, op);
}

template <typename T> static void launch_dweight(dc_dev *dev, float *dweight, const norm_args &a)
{
    const dc_sums<T> s = {static_cast<const T *>(a.x), static_cast<const T *>(a.dy), a.rstd, a.T, a.C, a.ldx, a.ldy};
    dc_sums_columns(dev, dweight, s, "rmsnorm_bwd");
}

static void rmsnorm_fwd_cuda(dc_dev *dev, dc_view y, float *rstd, dc_cview x, dc_cview weight, int64_t T, int64_t C,
                             int64_t ldy, int64_t ldx, float eps, float offset)
{
    norm_args a = {};
    DC_ASSERT(x.type == y.type);
    a.out = y.data, a.rstd_out = rstd, a.x = x.data, a.weight = weight.data, a.weight_type = weight.type;
    a.T = T, a.C = C, a.ldx = ldx, a.ldy = ldy, a.eps = eps, a.offset = offset;
    DC_BY_ACTIVATION(y.type, launch_norm, dev, a, "rmsnorm_fwd");
}

static void rmsnorm_bwd_cuda(dc_dev *dev, dc_view dx, float *dweight, dc_cview dy, dc_cview x, const float *rstd,
                             dc_cview weight, int64_t T, int64_t C, int64_t ldy, int64_t ldx, float offset, int assign)
{
    norm_args a = {};
    DC_ASSERT(x.type == dx.type && dy.type == dx.type);
    a.out = dx.data, a.x = x.data, a.dy = dy.data, a.rstd = rstd, a.weight = weight.data, a.weight_type = weight.type;
    a.T = T, a.C = C, a.ldx = ldx, a.ldy = ldy, a.offset = offset, a.assign = assign;
    if (dweight) DC_BY_ACTIVATION(dx.type, launch_dweight, dev, dweight, a);
    DC_BY_ACTIVATION(dx.type, launch_norm, dev, a, "rmsnorm_bwd");
}

void dc_norm_overlay_cuda(dc_ops *ops)
{
    ops->rmsnorm_fwd = rmsnorm_fwd_cuda;
    ops->rmsnorm_bwd = rmsnorm_bwd_cuda;
}
