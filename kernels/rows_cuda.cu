/* kernels/rows_cuda.cu -- ops that move rows: embedding, gather and scatter, unpacking of stored weights, sums of columns. Bound by memory: each
 * element is read and written once. A warp takes a row, eight columns a lane, 512 bytes of bf16 at a time. */
#include "kernels/cuda_dev.h"
#include "kernels/cuda_sums.cuh"
#include "kernels/cuda_vec.cuh"
#include "kernels/quant_cuda.cuh"

/* The row of a thread's warp, and the first column of its lane. */
DC_DEVICE int64_t row_of_warp(void)
{
    return static_cast<int64_t>(blockIdx.x) * (DC_VEC_THREADS / DC_WARP) + threadIdx.x / DC_WARP;
}

DC_DEVICE int64_t first_column(void) { return static_cast<int64_t>(threadIdx.x % DC_WARP * 8); }

static unsigned blocks_for_rows(int64_t n) { return static_cast<unsigned>(dc_ceil_div(n, DC_VEC_THREADS / DC_WARP)); }

enum { STRIDE = DC_WARP * 8 }; /* columns a warp takes at a time */

/* ---- rows to activations or floats ---- */

typedef struct stored_rows {
    const void *data;   /* [*, C], rows of row_bytes bytes */
    const int32_t *ids; /* [n], or NULL: 0, 1, ... */
    int64_t row_bytes, n, C;
    float scale;
} stored_rows;

/* Columns c .. c+7 of a row of n: of plain elements some may be missing, of blocks all are there. */
template <typename S> DC_DEVICE void read_some(float out[8], const S *row, int64_t c, int64_t)
{
    dc_read8(out, row, c);
}
#define READ_PLAIN(type, element) \
    DC_DEVICE void read_some(float out[8], const element *row, int64_t c, int64_t n) \
    { \
        dc_load_some(out, row + c, n - c); \
    }
DC_CUDA_PLAIN(READ_PLAIN)
#undef READ_PLAIN

template <typename S, typename T> static DC_KERNEL(DC_VEC_THREADS) read_rows(T *out, stored_rows r)
{
    const int64_t t = row_of_warp();
    float v[8];
    if (t >= r.n) return;
    const char *const row = static_cast<const char *>(r.data) + (r.ids ? r.ids[t] : t) * r.row_bytes;
    for (int64_t c = first_column(); c < r.C; c += STRIDE) {
        read_some(v, reinterpret_cast<const S *>(row), c, r.C);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] *= r.scale;
        dc_store_some(out + t * r.C + c, v, r.C - c);
    }
}

template <typename T>
static void launch_read(dc_dev *dev, void *out, dc_cview from, const int32_t *ids, int64_t n, int64_t C, float scale,
                        const char *op)
{
    const stored_rows r = {from.data, ids, dc_dtype_bytes(from.type, C), n, C, scale};
    const unsigned grid = blocks_for_rows(n);
    T *const to = static_cast<T *>(out);
    switch (static_cast<int>(from.type)) {
#define READ(type, S) \
    case type: DC_LAUNCH((read_rows<S, T>), grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), to, r); break;
        DC_CUDA_PLAIN(READ)
        DC_CUDA_BLOCKS(READ)
#undef READ
    default: DC_ASSERT(!"rows of a type that cannot be read");
    }
    dc_cuda_launched(dev, op);
}

static void embed_fwd_cuda(dc_dev *dev, dc_view y, const int32_t *ids, dc_cview table, int64_t T, int64_t C, int64_t V,
                           float scale)
{
    (void)V;
    DC_BY_ACTIVATION(y.type, launch_read, dev, y.data, table, ids, T, C, scale, "embed_fwd");
}

static void gather_cuda(dc_dev *dev, dc_view y, dc_cview x, const int32_t *rows, int64_t M, int64_t C)
{
    DC_ASSERT(x.type == y.type);
    DC_BY_ACTIVATION(y.type, launch_read, dev, y.data, x, rows, M, C, 1.0f, "gather");
}

static void dequant_cuda(dc_dev *dev, float *out, dc_cview w, const int32_t *rows, int64_t n, int64_t C)
{
    launch_read<float>(dev, out, w, rows, n, C, 1.0f, "dequant");
}

/* ---- rows added to rows ---- */

template <typename T>
static DC_KERNEL(DC_VEC_THREADS) add_rows(T *y, const T *x, const int32_t *rows, int64_t M, int64_t C)
{
    const int64_t m = row_of_warp();
    float u[8], v[8];
    if (m >= M) return;
    T *const to = y + rows[m] * C;
    for (int64_t c = first_column(); c < C; c += STRIDE) {
        dc_load_some(u, to + c, C - c);
        dc_load_some(v, x + m * C + c, C - c);
#pragma unroll
        for (int i = 0; i < 8; i++) u[i] += v[i];
        dc_store_some(to + c, u, C - c);
    }
}

template <typename T>
static void launch_add_rows(dc_dev *dev, void *y, const void *x, const int32_t *rows, int64_t M, int64_t C)
{
    DC_LAUNCH(add_rows<T>, blocks_for_rows(M), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y),
              static_cast<const T *>(x), rows, M, C);
    dc_cuda_launched(dev, "scatter_add");
}

static void scatter_add_cuda(dc_dev *dev, dc_view y, dc_cview x, const int32_t *rows, int64_t M, int64_t C)
{
    DC_ASSERT(x.type == y.type);
    DC_BY_ACTIVATION(y.type, launch_add_rows, dev, y.data, x.data, rows, M, C);
}

/* ---- the gradient of an embedding ---- */

enum { EMBED_THREADS = 128, EMBED_WARPS = EMBED_THREADS / DC_WARP, EMBED_COLUMNS = EMBED_THREADS * 8 };

/* Whether an earlier token than t has t's id: then that token's block adds t's row. */
DC_DEVICE bool is_repeated(const int32_t *ids, int64_t t)
{
    const int32_t id = ids[t];
    for (int64_t low = 0; low < t; low += EMBED_THREADS)
        if (__syncthreads_or(low + threadIdx.x < t && ids[low + threadIdx.x] == id)) return true;
    return false;
}

/* dtable[ids[t]] += scale * the rows of all tokens with that id, in their order, by the block of the first of them: blockIdx.x; blockIdx.y is a
 * slice of columns, eight a thread. The table's row is read and written once however often its token occurs. T^2 / 2 ids are compared, from the
 * caches: 8 million for 4096 tokens, little beside the rows. */
template <typename T>
static DC_KERNEL(EMBED_THREADS)
    add_embedded(float *dtable, const int32_t *ids, const T *dy, int64_t n_tokens, int64_t C, float scale)
{
    DC_SHARED(unsigned, found, [EMBED_WARPS]);
    const int64_t first = blockIdx.x, c = static_cast<int64_t>(blockIdx.y) * EMBED_COLUMNS + threadIdx.x * 8;
    float *const row = dtable + ids[first] * C + c;
    float sum[8], d[8];
    if (is_repeated(ids, first)) return;
    dc_load_some(sum, row, C - c);
    for (int64_t low = first; low < n_tokens; low += EMBED_THREADS) {
        const int64_t t = low + threadIdx.x;
        const unsigned same = __ballot_sync(DC_FULL_WARP, t < n_tokens && ids[t] == ids[first]);
        if (threadIdx.x % DC_WARP == 0) found[threadIdx.x / DC_WARP] = same;
        __syncthreads();
        for (int w = 0; w < EMBED_WARPS; w++)
            for (unsigned left = found[w]; left; left &= left - 1) {
                const int64_t at = low + w * DC_WARP + __ffs(static_cast<int>(left)) - 1;
                dc_load_some(d, dy + at * C + c, C - c);
#pragma unroll
                for (int i = 0; i < 8; i++) sum[i] = __fadd_rn(sum[i], __fmul_rn(scale, d[i]));
            }
        __syncthreads(); /* before `found` is written again */
    }
    dc_store_some(row, sum, C - c);
}

template <typename T>
static void launch_embed_bwd(dc_dev *dev, float *dtable, const int32_t *ids, const void *dy, int64_t n_tokens,
                             int64_t C, float scale)
{
    const dim3 grid(static_cast<unsigned>(n_tokens), static_cast<unsigned>(dc_ceil_div(C, EMBED_COLUMNS)));
    DC_LAUNCH(add_embedded<T>, grid, EMBED_THREADS, 0, dc_cuda_stream(dev), dtable, ids, static_cast<const T *>(dy),
              n_tokens, C, scale);
    dc_cuda_launched(dev, "embed_bwd");
}

static void embed_bwd_cuda(dc_dev *dev, float *dtable, const int32_t *ids, dc_cview dy, int64_t T, int64_t C, int64_t V,
                           float scale)
{
    (void)V;
    DC_BY_ACTIVATION(dy.type, launch_embed_bwd, dev, dtable, ids, dy.data, T, C, scale);
}

/* ---- sums of columns ---- */

template <typename T> static void launch_colsum(dc_dev *dev, float *out, const void *x, int64_t rows, int64_t C)
{
    const dc_sums<T> s = {static_cast<const T *>(x), nullptr, nullptr, rows, C, C, 0};
    dc_sums_columns(dev, out, s, "colsum");
}

static void colsum_cuda(dc_dev *dev, float *out, dc_cview x, int64_t T, int64_t C)
{
    DC_BY_ACTIVATION(x.type, launch_colsum, dev, out, x.data, T, C);
}

void dc_rows_overlay_cuda(dc_ops *ops)
{
    ops->embed_fwd = embed_fwd_cuda;
    ops->embed_bwd = embed_bwd_cuda;
    ops->gather = gather_cuda;
    ops->scatter_add = scatter_add_cuda;
    ops->colsum = colsum_cuda;
    ops->dequant = dequant_cuda;
}
