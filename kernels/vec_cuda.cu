/* kernels/vec_cuda.cu -- ops on vectors: sums, searches, dropout. All are bound by memory and touch each element once; eight neighbours (four
 * where all are floats) a thread. */
#include "kernels/cuda_dev.h"
#include "kernels/cuda_list.cuh"
#include "kernels/cuda_vec.cuh"
#include "kernels/rng.cuh"

/* ---- y = a + b, y += alpha x, y = value ---- */

template <typename T> static DC_KERNEL(DC_VEC_THREADS) add_vectors(T *y, const T *a, const T *b, int64_t n)
{
    const int64_t i = dc_vec_first(8);
    float u[8], v[8];
    if (i >= n) return;
    dc_load_some(u, a + i, n - i);
    dc_load_some(v, b + i, n - i);
#pragma unroll
    for (int k = 0; k < 8; k++) u[k] += v[k];
    dc_store_some(y + i, u, n - i);
}

template <typename T> static void launch_add(dc_dev *dev, void *y, const void *a, const void *b, int64_t n)
{
    DC_LAUNCH(add_vectors<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y),
              static_cast<const T *>(a), static_cast<const T *>(b), n);
    dc_cuda_launched(dev, "add");
}

static void add_cuda(dc_dev *dev, dc_view y, dc_cview a, dc_cview b, int64_t n)
{
    DC_ASSERT(a.type == y.type && b.type == y.type);
    DC_BY_ACTIVATION(y.type, launch_add, dev, y.data, a.data, b.data, n);
}

static DC_KERNEL(DC_VEC_THREADS) add_scaled(float *y, const float *x, float alpha, int64_t n)
{
    const int64_t i = dc_vec_first(4);
    float u[4], v[4];
    if (i >= n) return;
    dc_load_some4(u, y + i, n - i);
    dc_load_some4(v, x + i, n - i);
#pragma unroll
    for (int k = 0; k < 4; k++) u[k] += alpha * v[k];
    dc_store_some4(y + i, u, n - i);
}

static void axpy_cuda(dc_dev *dev, float *y, const float *x, float alpha, int64_t n)
{
    DC_LAUNCH(add_scaled, dc_vec_blocks(n, 4), DC_VEC_THREADS, 0, dc_cuda_stream(dev), y, x, alpha, n);
    dc_cuda_launched(dev, "axpy");
}

template <typename T> static DC_KERNEL(DC_VEC_THREADS) fill_vector(T *y, float value, int64_t n)
{
    const int64_t i = dc_vec_first(8);
    const float v[8] = {value, value, value, value, value, value, value, value};
    if (i < n) dc_store_some(y + i, v, n - i);
}

template <typename T> static void launch_fill(dc_dev *dev, void *y, float value, int64_t n)
{
    DC_LAUNCH(fill_vector<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y), value,
              n);
    dc_cuda_launched(dev, "fill");
}

static void fill_cuda(dc_dev *dev, dc_view y, float value, int64_t n)
{
    DC_BY_ACTIVATION(y.type, launch_fill, dev, y.data, value, n);
}

template <typename T> static DC_KERNEL(DC_VEC_THREADS) narrow_vector(T *y, const float *x, int64_t n)
{
    const int64_t i = dc_vec_first(8);
    float v[8];
    if (i >= n) return;
    dc_load_some(v, x + i, n - i);
    dc_store_some(y + i, v, n - i);
}

template <typename T> static void launch_narrow(dc_dev *dev, void *y, const float *x, int64_t n)
{
    DC_LAUNCH(narrow_vector<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y), x, n);
    dc_cuda_launched(dev, "narrow");
}

static void narrow_cuda(dc_dev *dev, dc_view y, const float *x, int64_t n)
{
    DC_BY_ACTIVATION(y.type, launch_narrow, dev, y.data, x, n);
}

/* ---- capped logits ---- */

static DC_KERNEL(DC_VEC_THREADS) cap_forward(float *x, int64_t n, float cap)
{
    const int64_t i = dc_vec_first(4);
    float v[4];
    if (i >= n) return;
    dc_load_some4(v, x + i, n - i);
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = cap * tanhf(v[k] / cap);
    dc_store_some4(x + i, v, n - i);
}

static void softcap_fwd_cuda(dc_dev *dev, float *x, int64_t n, float cap)
{
    DC_LAUNCH(cap_forward, dc_vec_blocks(n, 4), DC_VEC_THREADS, 0, dc_cuda_stream(dev), x, n, cap);
    dc_cuda_launched(dev, "softcap_fwd");
}

static DC_KERNEL(DC_VEC_THREADS) cap_backward(float *dx, const float *y, int64_t n, float cap)
{
    const int64_t i = dc_vec_first(4);
    float d[4], v[4];
    if (i >= n) return;
    dc_load_some4(d, dx + i, n - i);
    dc_load_some4(v, y + i, n - i);
#pragma unroll
    for (int k = 0; k < 4; k++) d[k] *= 1.0f - v[k] / cap * (v[k] / cap);
    dc_store_some4(dx + i, d, n - i);
}

static void softcap_bwd_cuda(dc_dev *dev, float *dx, const float *y, int64_t n, float cap)
{
    DC_LAUNCH(cap_backward, dc_vec_blocks(n, 4), DC_VEC_THREADS, 0, dc_cuda_stream(dev), dx, y, n, cap);
    dc_cuda_launched(dev, "softcap_bwd");
}

/* ---- dropout ---- */

/* Two counters of four numbers for a thread's eight elements. Product and sum are rounded one after the other, as on a CPU: fused they
 * would be other bits. */
template <typename T>
static DC_KERNEL(DC_VEC_THREADS) drop_elements(T *y, const T *x, int64_t n, dc_dropout d, float scale, int accumulate)
{
    const int64_t i = dc_vec_first(8);
    const uint64_t counter = static_cast<uint64_t>(*d.step) << 32 | static_cast<uint64_t>(i / 4);
    uint32_t u[8];
    float v[8], before[8] = {0};
    if (i >= n) return;
    dc_philox(u, d.seed, DC_RNG_DROPOUT, counter, d.place);
    dc_philox(u + 4, d.seed, DC_RNG_DROPOUT, counter | 1, d.place);
    dc_load_some(v, x + i, n - i);
    if (accumulate) dc_load_some(before, y + i, n - i);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        v[k] = dc_uniform(u[k]) >= d.p ? __fmul_rn(v[k], scale) : 0.0f;
        if (accumulate) v[k] = __fadd_rn(before[k], v[k]);
    }
    dc_store_some(y + i, v, n - i);
}

template <typename T>
static void launch_dropout(dc_dev *dev, void *y, const void *x, int64_t n, const dc_dropout *d, int accumulate)
{
    const float scale = d->p < 1 ? static_cast<float>(1 / (1 - static_cast<double>(d->p))) : 0.0f;
    DC_LAUNCH(drop_elements<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y),
              static_cast<const T *>(x), n, *d, scale, accumulate);
    dc_cuda_launched(dev, "dropout");
}

static void dropout_cuda(dc_dev *dev, dc_view y, dc_cview x, int64_t n, const dc_dropout *d, int accumulate)
{
    DC_ASSERT(x.type == y.type);
    DC_BY_ACTIVATION(y.type, launch_dropout, dev, y.data, x.data, n, d, accumulate);
}

/* ---- sums of squares ---- */

/* Spans of a tensor: 4096 elements, and more of more than 4 million, so that a tensor has at most 1024. */
enum { SPAN = 4096, SPANS = 1024 };

typedef struct sums_row {
    int64_t first; /* span of the list */
    int64_t n, span;
    const float *x;
} sums_row;

/* Over the block, in the order of lanes and warps; the result is thread 0's. */
DC_DEVICE double block_sum(double x, double *scratch)
{
    const int warp = static_cast<int>(threadIdx.x) / DC_WARP;
#pragma unroll
    for (int lanes = DC_WARP / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(DC_FULL_WARP, x, lanes);
    if (threadIdx.x % DC_WARP == 0) scratch[warp] = x;
    __syncthreads();
    double sum = 0;
    if (threadIdx.x == 0)
        for (int w = 0; w < DC_VEC_THREADS / DC_WARP; w++) sum += scratch[w];
    return sum;
}

/* partial[b] = the sum over span b of the list, a block each. */
static DC_KERNEL(DC_VEC_THREADS) sum_spans(double *partial, const sums_row *rows, int n_rows)
{
    DC_SHARED(double, scratch, [DC_VEC_THREADS / DC_WARP]);
    const sums_row r = rows[dc_list_find(&rows->first, sizeof *rows, n_rows, blockIdx.x)];
    const int64_t low = (blockIdx.x - r.first) * r.span, high = min(low + r.span, r.n);
    double sum = 0;
    for (int64_t i = low + threadIdx.x * 4; i < high; i += DC_VEC_THREADS * 4) {
        float v[4];
        dc_load_some4(v, r.x + i, high - i);
#pragma unroll
        for (int k = 0; k < 4; k++) sum += static_cast<double>(v[k]) * static_cast<double>(v[k]);
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* out[i] = the spans of row i, a block each. */
static DC_KERNEL(DC_VEC_THREADS) sum_rows(double *out, const double *partial, const sums_row *rows)
{
    DC_SHARED(double, scratch, [DC_VEC_THREADS / DC_WARP]);
    const sums_row r = rows[blockIdx.x];
    const int64_t spans = (r.n + r.span - 1) / r.span;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < spans; i += DC_VEC_THREADS) sum += partial[r.first + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

/* The next rows of the table: at most DC_LIST items. Returns how many; *spans counts theirs. */
static size_t sums_table(sums_row *rows, int64_t *spans, const dc_floats *items, size_t n_items)
{
    size_t n = 0;
    *spans = 0;
    for (; n < n_items && n < DC_LIST; n++) {
        const int64_t span = dc_ceil_div(dc_ceil_div(items[n].n, SPANS), SPAN) * SPAN;
        rows[n] = {*spans, items[n].n, span, items[n].data};
        *spans += dc_ceil_div(items[n].n, span);
    }
    return n;
}

static void sumsq_cuda(dc_dev *dev, double *out, const dc_floats *items, size_t n_items)
{
    sums_row table[DC_LIST];
    const cudaStream_t stream = dc_cuda_stream(dev);
    for (size_t done = 0, n; done < n_items; done += n) {
        int64_t spans;
        n = sums_table(table, &spans, items + done, n_items - done);
        const auto *rows = static_cast<const sums_row *>(dc_cuda_stage(dev, table, n * sizeof *table, "sumsq"));
        if (!rows) return;
        const size_t bytes = (static_cast<size_t>(spans) + n) * sizeof(double);
        double *const sums = static_cast<double *>(dc_cuda_scratch(dev, bytes)), *const partial = sums + n;
        DC_LAUNCH(sum_spans, static_cast<unsigned>(spans), DC_VEC_THREADS, 0, stream, partial, rows,
                  static_cast<int>(n));
        DC_LAUNCH(sum_rows, static_cast<unsigned>(n), DC_VEC_THREADS, 0, stream, sums, partial, rows);
        dc_cuda_launched(dev, "sumsq");
        dc_cuda_result(dev, out + done, sums, n * sizeof *sums, "sumsq");
    }
}

/* ---- the first that is not finite ---- */

/* *found, all bits set before, becomes the least index: an integer, so that the order of the atomics changes nothing. */
template <typename T> static DC_KERNEL(DC_VEC_THREADS) find_nonfinite(unsigned long long *found, const T *x, int64_t n)
{
    const int64_t i = dc_vec_first(8);
    float v[8];
    int at = 8;
    if (i >= n) return;
    dc_load_some(v, x + i, n - i);
#pragma unroll
    for (int k = 7; k >= 0; k--)
        if ((__float_as_uint(v[k]) & 0x7f800000u) == 0x7f800000u) at = k;
    if (at == 8) return;
    const int64_t first = i + at;
    atomicMin(found, static_cast<unsigned long long>(first));
}

template <typename T> static void launch_nonfinite(dc_dev *dev, int64_t *out, const void *x, int64_t n)
{
    const cudaStream_t stream = dc_cuda_stream(dev);
    auto *const found = static_cast<unsigned long long *>(dc_cuda_scratch(dev, sizeof(unsigned long long)));
    cudaMemsetAsync(found, 0xff, sizeof *found, stream);
    DC_LAUNCH(find_nonfinite<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, stream, found, static_cast<const T *>(x), n);
    dc_cuda_launched(dev, "nonfinite");
    dc_cuda_result(dev, out, found, sizeof *out, "nonfinite");
}

static void nonfinite_cuda(dc_dev *dev, int64_t *out, dc_cview x, int64_t n)
{
    DC_BY_ACTIVATION(x.type, launch_nonfinite, dev, out, x.data, n);
}

void dc_vec_overlay_cuda(dc_ops *ops)
{
    ops->add = add_cuda;
    ops->axpy = axpy_cuda;
    ops->fill = fill_cuda;
    ops->narrow = narrow_cuda;
    ops->softcap_fwd = softcap_fwd_cuda;
    ops->softcap_bwd = softcap_bwd_cuda;
    ops->dropout = dropout_cuda;
    ops->sumsq = sumsq_cuda;
    ops->nonfinite = nonfinite_cuda;
}
