/* kernels/attn_cuda.cu -- the forward of attention: flash attention over packed documents (Dao et al. 2022, arXiv 2205.14135).
 *
 * A block attends for a tile of rows of one document and kv head: q stays in shared memory, scores, weights and o in registers, k and v pass by.
 *
 * Roofline. q, k, v and o pass memory once, 4 T (H + K) D bytes in bf16, beside 2 n H D flops a token of a document of n tokens: from some
 * hundred tokens on memory is idle. A tile of R rows takes 4 D bytes of the second-level cache for the 4 R D flops of a key: with R = 128, 128
 * flops a byte. So the bound is mma. Nearest to it are shared memory, where with M = 2 a row of k or v is read once for 32 rows of q, one
 * cycle for each mma beside the two that an A100's tensor cores take, and the exponentials, one a score, 16 a cycle: half of the time
 * of mma when D is 64, a quarter when it is 128 (on an H100 all and half of it). Measured on an H200 with D of 64, four documents of 2,048:
 * 88 us, 22 % of 989 TFLOPS, whose full rate only wgmma reaches (attn_group_cuda.cu). */
#include "kernels/attn_cuda.cuh"

template <typename T, int WIDTH, int M, int PARTS, int KEYS>
DC_KERNEL_BLOCKS(DC_ATTN_THREADS, 2)
attn_fwd(T *o, float *lse, const T *q, const T *k, const T *v, const int32_t *cu, int B, int rows, dc_attn_dims a)
{
    constexpr int ROWS = dc_attend_rows(M, PARTS);
    DC_DYNAMIC_SHARED(T, shared);
    DC_SHARED(dc_attn_tile, tile, [1]);
    if (dc_thread() < DC_WARP) dc_attn_find(tile, cu, B, rows, a.G, ROWS, a.K);
    __syncthreads();
    if (tile->doc < 0) return;
    dc_attn_state<M, WIDTH / PARTS / 8> w;
    if (tile->doc < B) {
        const dc_rows<const T> qr = dc_attn_rows_q(q, tile, &a), kr = dc_attn_rows_kv(k, tile, &a),
                               vr = dc_attn_rows_kv(v, tile, &a);
        dc_attend<DC_ROWS, WIDTH, M, PARTS, KEYS>(&w, shared, &qr, &kr, &vr, tile->level * ROWS, tile->tokens * a.G, 0,
                                                  &a);
    }
    const dc_rows<T> to = dc_attn_rows_q(o, tile, &a);
    const dc_rows<float> to_lse = dc_attn_rows_stat(lse, tile, &a);
    const int r0 = tile->level * ROWS, n = tile->tokens * a.G;
    if (tile->doc < B) {
        dc_attend_store<WIDTH, M, PARTS>(&to, &to_lse, &w, r0, n, &a);
        return;
    }
    dc_zero_rows<DC_ROWS_GROUPED, DC_ATTN_THREADS>(&to, r0, min(r0 + ROWS, n), a.D);
    if (lse) dc_zero_rows<DC_ROWS_GROUPED, DC_ATTN_THREADS>(&to_lse, r0, min(r0 + ROWS, n), 1);
}

template <typename T, int WIDTH, int M, int PARTS, int KEYS>
static void launch(dc_dev *dev, dc_view o, float *lse, dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    constexpr int BYTES = dc_attend_bytes<T, WIDTH, M, PARTS, KEYS>();
    const dc_attn_dims dims = dc_attn_dims_of(a->H, a->K, a->D, a->T, a->window, a->scale, a->softcap, o.type);
    const unsigned grid = dc_attn_grid(a->T, a->B, dims.G, dc_attend_rows(M, PARTS), a->K);
    cudaFuncSetAttribute(attn_fwd<T, WIDTH, M, PARTS, KEYS>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    DC_LAUNCH((attn_fwd<T, WIDTH, M, PARTS, KEYS>), grid, DC_ATTN_THREADS, BYTES, dc_cuda_stream(dev),
              static_cast<T *>(o.data), lse, static_cast<const T *>(q.data), static_cast<const T *>(k.data),
              static_cast<const T *>(v.data), a->cu_device, static_cast<int>(a->B), static_cast<int>(a->T), dims);
    dc_cuda_launched(dev, "attn_fwd");
}

static void attn_fwd_cuda(dc_dev *dev, dc_view o, float *lse, dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    DC_ASSERT(o.type == dev->activation && q.type == o.type && k.type == o.type && v.type == o.type);
    if (!dc_attn_fits(dev, a->D, "attn_fwd, heads wider than 256")) return;
    if (o.type == DC_BF16) {
        if (dc_attn_takes_groups(dev, a))
            dc_attn_fwd_groups(dev, static_cast<dc_bf16 *>(o.data), lse, static_cast<const dc_bf16 *>(q.data),
                               static_cast<const dc_bf16 *>(k.data), static_cast<const dc_bf16 *>(v.data), a);
        else if (a->D <= 64) launch<dc_bf16, 64, 2, 1, 64>(dev, o, lse, q, k, v, a);
        else if (a->D <= 128) launch<dc_bf16, 128, 2, 1, 32>(dev, o, lse, q, k, v, a);
        else launch<dc_bf16, 256, 1, 1, 16>(dev, o, lse, q, k, v, a);
    } else {
        DC_ASSERT(o.type == DC_F32);
        if (a->D <= 64) launch<float, 64, 1, 1, 32>(dev, o, lse, q, k, v, a);
        else if (a->D <= 128) launch<float, 128, 1, 1, 16>(dev, o, lse, q, k, v, a);
        else launch<float, 256, 1, 2, 16>(dev, o, lse, q, k, v, a);
    }
}

void dc_attn_overlay_cuda(dc_ops *ops)
{
    ops->attn_fwd = attn_fwd_cuda;
    ops->attn_bwd = dc_attn_bwd_cuda;
    ops->attn_decode = dc_attn_decode_cuda;
}
