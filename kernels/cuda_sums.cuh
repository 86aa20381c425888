/* kernels/cuda_sums.cuh -- sums over tokens, column by column: gradients of biases and of norms' weights.
 *
 * Two levels. A block takes 64 columns and a tile of at least 256 rows, which it reads once, 128 bytes of bf16 a row: each of 32 threads a
 * column every 32nd row, then the four of a warp, then the warps in order. Of more than one tile the sums are rows of scratch, at most 256
 * of them, which the same kernel adds up in a second launch. Tiles depend on the number of rows alone. */
#ifndef DC_KERNELS_CUDA_SUMS_CUH
#define DC_KERNELS_CUDA_SUMS_CUH

#include "kernels/cuda_dev.h"
#include "kernels/cuda_vec.cuh"

enum { DC_SUMS_COLUMNS = 64, DC_SUMS_SLOTS = 32, DC_SUMS_ROWS = 256, DC_SUMS_TILES = 256 };

/* What is summed: x[t,c], or dy[t,c] * x[t,c] * rstd[t] unless dy is NULL. */
template <typename T> struct dc_sums {
    const T *x, *dy;   /* [rows, C], row distances ldx, ldy */
    const float *rstd; /* [rows] */
    int64_t rows, C, ldx, ldy;
};

template <typename T> DC_DEVICE void dc_sums_add_row(float sum[8], const dc_sums<T> &s, int64_t t, int64_t c)
{
    float x[8], dy[8];
    dc_load_some(x, s.x + t * s.ldx + c, s.C - c);
    if (s.dy) {
        const float r = s.rstd[t];
        dc_load_some(dy, s.dy + t * s.ldy + c, s.C - c);
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] *= dy[i] * r;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] += x[i];
}

/* Tile blockIdx.y, columns 64 blockIdx.x on: to row blockIdx.y of out [tiles, C], added with `accumulate` (one tile). */
template <typename T>
static DC_KERNEL(DC_VEC_THREADS) sum_columns(float *out, dc_sums<T> s, int64_t tile, int accumulate)
{
    DC_SHARED(float, part, [DC_VEC_THREADS / DC_WARP][DC_SUMS_COLUMNS]);
    const int thread = static_cast<int>(threadIdx.x), at = thread % 8 * 8;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * DC_SUMS_COLUMNS;
    const int64_t low = blockIdx.y * tile, high = min(low + tile, s.rows);
    float sum[8] = {0};
    for (int64_t t = low + thread / 8; t < high; t += DC_SUMS_SLOTS) dc_sums_add_row(sum, s, t, first + at);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum[i] += __shfl_xor_sync(DC_FULL_WARP, sum[i], 8);
        sum[i] += __shfl_xor_sync(DC_FULL_WARP, sum[i], 16);
        if (thread % DC_WARP < 8) part[thread / DC_WARP][at + i] = sum[i];
    }
    __syncthreads();
    if (thread >= DC_SUMS_COLUMNS || first + thread >= s.C) return;
    float total = 0;
    for (int w = 0; w < DC_VEC_THREADS / DC_WARP; w++) total += part[w][thread];
    float *const to = out + blockIdx.y * s.C + first + thread;
    *to = accumulate ? *to + total : total;
}

template <typename T>
static void dc_sums_launch(dc_dev *dev, float *out, dc_sums<T> s, int64_t tile, int accumulate, const char *op)
{
    const dim3 grid(static_cast<unsigned>(dc_ceil_div(s.C, DC_SUMS_COLUMNS)),
                    static_cast<unsigned>(dc_ceil_div(s.rows, tile)));
    DC_LAUNCH(sum_columns<T>, grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), out, s, tile, accumulate);
    dc_cuda_launched(dev, op);
}

/* out[c] += the sum over the rows. Takes the device's scratch: what does not fit goes by slices of columns. */
template <typename T> static void dc_sums_columns(dc_dev *dev, float *out, dc_sums<T> s, const char *op)
{
    int64_t tile = dc_ceil_div(dc_ceil_div(s.rows, DC_SUMS_TILES), DC_SUMS_SLOTS) * DC_SUMS_SLOTS;
    if (tile < DC_SUMS_ROWS) tile = DC_SUMS_ROWS;
    const int64_t tiles = dc_ceil_div(s.rows, tile), C = s.C;
    if (tiles == 1) return dc_sums_launch(dev, out, s, tile, 1, op);
    const int64_t room = static_cast<int64_t>(dc_cuda_scratch_room(dev) / sizeof(float)) / tiles;
    const int64_t slice = C <= room ? C : room / DC_SUMS_COLUMNS * DC_SUMS_COLUMNS;
    for (int64_t c = 0; c < C; c += slice) {
        s.C = C - c < slice ? C - c : slice;
        float *const partial =
            static_cast<float *>(dc_cuda_scratch(dev, static_cast<size_t>(tiles * s.C) * sizeof(float)));
        const dc_sums<float> again = {partial, nullptr, nullptr, tiles, s.C, s.C, 0};
        dc_sums_launch(dev, partial, s, tile, 0, op);
        dc_sums_launch(dev, out + c, again, DC_SUMS_TILES, 1, op);
        s.x += slice;
        if (s.dy) s.dy += slice;
    }
}

#endif
