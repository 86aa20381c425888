/* kernels/attn_bwd_cuda.cu -- the backward of attention: flash attention 2 (Dao 2023, arXiv 2307.08691) without atomics.
 *
 * Three kernels: attn_stats forms delta = sum(do * o) and lays lse beside it; attn_dq goes by tiles of rows, as the forward does, and attn_dkv by
 * tiles of keys, over the rows of one of the G heads, or of several in their order; attn_sum_parts adds the heads' parts up. Both recompute
 * scores from q and k and never leave the registers with them:
 *     p = exp(s - lse),  ds = scale * p * (do v^T - delta) * (1 - (x / cap)^2),  dq = ds k,  dv = p^T do,  dk = ds^T q.
 * That is 7 products where adding dq up with atomics would take 5; in return each gradient has one writer and a fixed order. attn_dkv
 * computes the transposes of scores and ds, so that they are the left factors of its products.
 *
 * Roofline. A tile of R owned rows (or keys) takes 4 D bytes of the second-level cache a passing key (or row) for 6 R D (attn_dq) or 8 R D
 * flops (attn_dkv): with R = 128, 192 and 256 flops a byte. So the bound is mma, and close behind it shared memory: operands of an mma
 * come to 213 and 256 bytes when D is 64 (M = 2), to 341 and 320 when it is 128 (M = 1: accumulators leave no room), and in the two
 * cycles of an mma an A100 reads 256. The split by heads is for cards with many multiprocessors: without it 9 heads on 3 of keys, four documents
 * of 2,048, were 192 blocks, and attn_dkv took 511 us of an H200, 8 % of its rate. attn_group_cuda.cu has the same for warpgroups. */
#include "kernels/attn_bwd_cuda.cuh"

enum { STATS_THREADS = 256, STATS_LANES = 8 };

/* stats[i] of n rows of width D. Eight lanes a row: with D of 64 in bf16 a piece of 16 bytes each. 4 D + 12 bytes a row. */
template <typename T>
DC_KERNEL(STATS_THREADS)
attn_stats(dc_attn_stat *stats, const T *d_o, const T *o, const float *lse, int n, int D, int vec)
{
    const int i = static_cast<int>(blockIdx.x * STATS_THREADS + threadIdx.x), lane = i % STATS_LANES;
    const int row = min(i / STATS_LANES, n - 1);
    const T *const x = o + static_cast<int64_t>(row) * D, *const y = d_o + static_cast<int64_t>(row) * D;
    float sum = 0.0f;
    if (vec)
        for (int d = lane * 8; d < D; d += STATS_LANES * 8) {
            float a[8], b[8];
            dc_load8(a, x + d), dc_load8(b, y + d);
#pragma unroll
            for (int j = 0; j < 8; j++) sum = fmaf(a[j], b[j], sum);
        }
    else
        for (int d = lane; d < D; d += STATS_LANES) sum = fmaf(dc_to_float(x[d]), dc_to_float(y[d]), sum);
#pragma unroll
    for (int j = STATS_LANES / 2; j > 0; j /= 2) sum += __shfl_xor_sync(DC_FULL_WARP, sum, j);
    if (lane == 0 && i / STATS_LANES < n) stats[row] = make_float2(lse[row] * static_cast<float>(DC_LOG2E), sum);
}

/* Shared memory of both kernels: two tiles that the block owns, two that pass by, twice over. */
template <typename T, int WIDTH, int M, int PARTS, int PASS> __host__ __device__ constexpr int tile_bytes()
{
    return (2 * dc_attend_rows(M, PARTS) + 4 * PASS) * dc_mma_pitch<T>(WIDTH) * static_cast<int>(sizeof(T));
}

/* ---- dq ---- */

/* The tile of dq that begins with row r0, times 1 / scale. Rows of q and do are the left factors. */
template <int WIDTH, int M, int PARTS, int PASS, typename T>
DC_DEVICE void sum_dq(float sum[M][WIDTH / PARTS / 8][4], T *shared, const dc_rows<const T> *q,
                      const dc_rows<const T> *d_o, const dc_rows<const dc_attn_stat> *stats, const dc_rows<const T> *k,
                      const dc_rows<const T> *v, int r0, int rows, const dc_attn_dims *a)
{
    constexpr int OWN = dc_attend_rows(M, PARTS), PITCH = dc_mma_pitch<T>(WIDTH), N = WIDTH / PARTS / 8, J = PASS / 8;
    const int thread = static_cast<int>(dc_thread()), warp = thread / DC_WARP, mine = warp / PARTS * 16 * M;
    T *const qs = shared, *const dos = qs + OWN * PITCH, *const kv = dos + OWN * PITCH;
    const int r = r0 + mine, last = min(r + 16 * M, rows) - 1, end = (min(r0 + OWN, rows) - 1) / a->G + 1;
    const int begin = max(r0 / a->G - a->window + 1, 0) / PASS * PASS;
    dc_load_rows<DC_ROWS_GROUPED, WIDTH, OWN, DC_ATTN_THREADS>(qs, q, r0, rows, a->D, a->vec, thread);
    dc_load_rows<DC_ROWS_GROUPED, WIDTH, OWN, DC_ATTN_THREADS>(dos, d_o, r0, rows, a->D, a->vec, thread);
    dc_load_rows<DC_ROWS, WIDTH, PASS, DC_ATTN_THREADS>(kv, k, begin, end, a->D, a->vec, thread);
    dc_load_rows<DC_ROWS, WIDTH, PASS, DC_ATTN_THREADS>(kv + PASS * PITCH, v, begin, end, a->D, a->vec, thread);
    dc_attn_stat of[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++)
        of[i / 2][i % 2] = *dc_row<DC_ROWS_GROUPED>(stats, min(r + i * 8 + thread % DC_WARP / 4, rows - 1), 1);
    for (int j = begin, stage = 0; j < end; j += PASS, stage ^= 1) {
        T *const ks = kv + stage * 2 * PASS * PITCH, *const next = kv + (stage ^ 1) * 2 * PASS * PITCH;
        dc_cp_async_wait();
        __syncthreads();
        if (j + PASS < end) {
            dc_load_rows<DC_ROWS, WIDTH, PASS, DC_ATTN_THREADS>(next, k, j + PASS, end, a->D, a->vec, thread);
            dc_load_rows<DC_ROWS, WIDTH, PASS, DC_ATTN_THREADS>(next + PASS * PITCH, v, j + PASS, end, a->D, a->vec,
                                                                thread);
        }
        if (!dc_attn_sees(a, r, last, j, PASS)) continue;
        float s[M][J][4] = {}, ds[M][J][4] = {};
        dc_mma_abt<M, J, WIDTH>(s, qs + mine * PITCH, ks);
        dc_mma_abt<M, J, WIDTH>(ds, dos + mine * PITCH, ks + PASS * PITCH);
        dc_attn_weigh_rows<M, J>(s, ds, of, r, last, j, a);
        dc_mma_pb<M, J, N, PITCH>(sum, ds, ks + warp % PARTS * (WIDTH / PARTS));
    }
}

template <typename T, int WIDTH, int M, int PARTS, int PASS>
DC_KERNEL_BLOCKS(DC_ATTN_THREADS, 2)
attn_dq(T *dq, const T *q, const T *k, const T *v, const T *d_o, const dc_attn_stat *stats, const int32_t *cu, int B,
        int tokens, float scale, dc_attn_dims a)
{
    constexpr int OWN = dc_attend_rows(M, PARTS), N = WIDTH / PARTS / 8;
    DC_DYNAMIC_SHARED(T, shared);
    DC_SHARED(dc_attn_tile, tile, [1]);
    if (dc_thread() < DC_WARP) dc_attn_find(tile, cu, B, tokens, a.G, OWN, a.K);
    __syncthreads();
    if (tile->doc < 0) return;
    float sum[M][N][4] = {};
    if (tile->doc < B) {
        const dc_rows<const T> qr = dc_attn_rows_q(q, tile, &a), dor = dc_attn_rows_q(d_o, tile, &a);
        const dc_rows<const T> kr = dc_attn_rows_kv(k, tile, &a), vr = dc_attn_rows_kv(v, tile, &a);
        const dc_rows<const dc_attn_stat> sr = dc_attn_rows_stat(stats, tile, &a);
        sum_dq<WIDTH, M, PARTS, PASS>(sum, shared, &qr, &dor, &sr, &kr, &vr, tile->level * OWN, tile->tokens * a.G, &a);
    }
    /* Rows of no document have summed nothing: zeros. */
    const int warp = static_cast<int>(dc_thread()) / DC_WARP, g = static_cast<int>(dc_thread()) % DC_WARP / 4;
    const dc_rows<T> to = dc_attn_rows_q(dq, tile, &a);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int row = tile->level * OWN + warp / PARTS * 16 * M + i * 8 + g, there = row < tile->tokens * a.G;
        dc_store_row<N>(there ? dc_row<DC_ROWS_GROUPED>(&to, row, a.D) : nullptr, sum[i / 2], i % 2, scale,
                        warp % PARTS * (WIDTH / PARTS), a.D, a.vec);
    }
}

/* ---- dk and dv ---- */

/* What attn_dkv reads that passes by its keys. Where a document's rows are is formed anew for each load: registers are scarce. */
template <typename T> struct passing {
    const T *q, *d_o;
    const dc_attn_stat *stats;
};

template <int WIDTH, int PASS, typename T>
DC_DEVICE void load_pass(T *tiles, dc_attn_stat *stats, const passing<T> *x, const dc_attn_tile *tile, int r, int end,
                         const dc_attn_dims *a)
{
    const int thread = static_cast<int>(dc_thread());
    const dc_rows<const T> q = dc_attn_rows_q(x->q, tile, a), d_o = dc_attn_rows_q(x->d_o, tile, a);
    const dc_rows<const dc_attn_stat> from = dc_attn_rows_stat(x->stats, tile, a);
    dc_load_rows<DC_ROWS_GROUPED, WIDTH, PASS, DC_ATTN_THREADS>(tiles, &q, r, end, a->D, a->vec, thread);
    dc_load_rows<DC_ROWS_GROUPED, WIDTH, PASS, DC_ATTN_THREADS>(tiles + PASS * dc_mma_pitch<T>(WIDTH), &d_o, r, end,
                                                                a->D, a->vec, thread);
    if (thread < PASS)
        dc_cp_async<8>(stats + thread, dc_row<DC_ROWS_GROUPED>(&from, min(r + thread, end - 1), 1), r + thread < end);
}

/* The tiles of dk, times 1 / scale, and dv that begin with key j0. Keys and values are the left factors. */
template <int WIDTH, int M, int PARTS, int PASS, typename T>
DC_DEVICE void sum_dkv(float dk[M][WIDTH / PARTS / 8][4], float dv[M][WIDTH / PARTS / 8][4], T *shared,
                       const passing<T> *x, const dc_rows<const T> *k, const dc_rows<const T> *v,
                       const dc_attn_tile *tile, int j0, const dc_attn_dims *a)
{
    constexpr int OWN = dc_attend_rows(M, PARTS), PITCH = dc_mma_pitch<T>(WIDTH), N = WIDTH / PARTS / 8, J = PASS / 8;
    const int thread = static_cast<int>(dc_thread()), warp = thread / DC_WARP, mine = warp / PARTS * 16 * M;
    T *const ks = shared, *const vs = ks + OWN * PITCH, *const pass = vs + OWN * PITCH;
    dc_attn_stat *const stats = reinterpret_cast<dc_attn_stat *>(pass + 4 * PASS * PITCH);
    const int keys = tile->tokens, key = j0 + mine, n_keys = min(16 * M, keys - key),
              col = warp % PARTS * (WIDTH / PARTS);
    const int begin = dc_attn_from(a, j0), end = min(dc_attn_to(a, min(j0 + OWN, keys) - 1), keys * a->G);
    dc_load_rows<DC_ROWS, WIDTH, OWN, DC_ATTN_THREADS>(ks, k, j0, keys, a->D, a->vec, thread);
    dc_load_rows<DC_ROWS, WIDTH, OWN, DC_ATTN_THREADS>(vs, v, j0, keys, a->D, a->vec, thread);
    load_pass<WIDTH, PASS>(pass, stats, x, tile, begin, end, a);
    for (int r = begin, stage = 0; r < end; r += PASS, stage ^= 1) {
        T *const qs = pass + stage * 2 * PASS * PITCH, *const dos = qs + PASS * PITCH;
        const int last = min(r + PASS, end) - 1;
        dc_cp_async_wait();
        __syncthreads();
        if (r + PASS < end)
            load_pass<WIDTH, PASS>(pass + (stage ^ 1) * 2 * PASS * PITCH, stats + (stage ^ 1) * PASS, x, tile, r + PASS,
                                   end, a);
        if (n_keys <= 0 || !dc_attn_sees(a, r, last, key, n_keys)) continue;
        float p[M][J][4] = {}, ds[M][J][4] = {};
        dc_mma_abt<M, J, WIDTH>(p, ks + mine * PITCH, qs);
        dc_mma_abt<M, J, WIDTH>(ds, vs + mine * PITCH, dos);
        dc_attn_weigh_keys<M, J>(p, ds, stats + stage * PASS, r, last, key, a);
        dc_mma_pb<M, J, N, PITCH>(dv, p, dos + col);
        dc_mma_pb<M, J, N, PITCH>(dk, ds, qs + col);
    }
}

template <typename T, int WIDTH, int M, int PARTS, int PASS>
DC_KERNEL_BLOCKS(DC_ATTN_THREADS, 2)
attn_dkv(T *dk, T *dv, const T *q, const T *k, const T *v, const T *d_o, const dc_attn_stat *stats, const int32_t *cu,
         int B, int tokens, float scale, dc_attn_dims a)
{
    constexpr int OWN = dc_attend_rows(M, PARTS), N = WIDTH / PARTS / 8;
    DC_DYNAMIC_SHARED(T, shared);
    DC_SHARED(dc_attn_tile, tile, [1]);
    if (dc_thread() < DC_WARP) dc_attn_find(tile, cu, B, tokens, 1, OWN, a.K);
    __syncthreads();
    if (tile->doc < 0) return;
    /* The highest level is the longest work: the document's first keys, which most rows see. */
    const int j0 = (tile->doc < B ? (tile->tokens - 1) / OWN - tile->level : tile->level) * OWN;
    float sum_k[M][N][4] = {}, sum_v[M][N][4] = {};
    if (tile->doc < B) {
        const passing<T> x = {q, d_o, stats};
        const dc_rows<const T> kr = dc_attn_rows_kv(k, tile, &a), vr = dc_attn_rows_kv(v, tile, &a);
        sum_dkv<WIDTH, M, PARTS, PASS>(sum_k, sum_v, shared, &x, &kr, &vr, tile, j0, &a);
    }
    const int warp = static_cast<int>(dc_thread()) / DC_WARP, g = static_cast<int>(dc_thread()) % DC_WARP / 4;
    const dc_rows<T> to_k = dc_attn_rows_part(dk, tile, &a), to_v = dc_attn_rows_part(dv, tile, &a);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int j = j0 + warp / PARTS * 16 * M + i * 8 + g, there = j < tile->tokens,
                  col = warp % PARTS * (WIDTH / PARTS);
        dc_store_row<N>(there ? dc_row<DC_ROWS>(&to_k, j, a.D) : nullptr, sum_k[i / 2], i % 2, scale, col, a.D, a.vec);
        dc_store_row<N>(there ? dc_row<DC_ROWS>(&to_v, j, a.D) : nullptr, sum_v[i / 2], i % 2, 1.0f, col, a.D, a.vec);
    }
}

/* ---- heads that were split ---- */

/* Eight columns of a kv head: the sum of its parts in their order. part [T, K * split, D], to [T, K, D]; n: groups of eight in `to`. */
template <typename T> DC_KERNEL(STATS_THREADS) attn_sum_parts(T *to, const T *part, int64_t n, int per_head, int split)
{
    const int64_t i = static_cast<int64_t>(blockIdx.x) * STATS_THREADS + threadIdx.x;
    if (i >= n) return;
    const T *const from = part + (i / per_head * split * per_head + i % per_head) * 8;
    float sum[8], more[8];
    dc_load8(sum, from);
    for (int s = 1; s < split; s++) {
        dc_load8(more, from + static_cast<int64_t>(s) * per_head * 8);
#pragma unroll
        for (int e = 0; e < 8; e++) sum[e] += more[e];
    }
    dc_store8(to + i * 8, sum);
}

/* ---- launches ---- */

/* Passing rows and keys are as many as the registers allow. */
template <typename T, int WIDTH, int M, int PARTS, int PASS_ROWS, int PASS_KEYS>
static void launch(dc_dev *dev, const dc_attn_grads<T> *x, const dc_attn *a, int split)
{
    constexpr int OWN = dc_attend_rows(M, PARTS), BYTES_Q = tile_bytes<T, WIDTH, M, PARTS, PASS_KEYS>();
    constexpr int BYTES_KV =
        tile_bytes<T, WIDTH, M, PARTS, PASS_ROWS>() + 2 * PASS_ROWS * static_cast<int>(sizeof(dc_attn_stat));
    const dc_attn_dims dims = dc_attn_dims_of(a->H, a->K, a->D, a->T, a->window, a->scale, a->softcap, dev->activation),
                       parts = dc_attn_split(dims, split);
    const int B = static_cast<int>(a->B), tokens = static_cast<int>(a->T);
    const cudaStream_t stream = dc_cuda_stream(dev);
    cudaFuncSetAttribute(attn_dkv<T, WIDTH, M, PARTS, PASS_ROWS>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         BYTES_KV);
    DC_LAUNCH((attn_dkv<T, WIDTH, M, PARTS, PASS_ROWS>), dc_attn_grid(a->T, a->B, 1, OWN, parts.K), DC_ATTN_THREADS,
              BYTES_KV, stream, x->dk, x->dv, x->q, x->k, x->v, x->d_o, x->stats, a->cu_device, B, tokens, a->scale,
              parts);
    dc_cuda_launched(dev, "attn_bwd");
    cudaFuncSetAttribute(attn_dq<T, WIDTH, M, PARTS, PASS_KEYS>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES_Q);
    DC_LAUNCH((attn_dq<T, WIDTH, M, PARTS, PASS_KEYS>), dc_attn_grid(a->T, a->B, dims.G, OWN, a->K), DC_ATTN_THREADS,
              BYTES_Q, stream, x->dq, x->q, x->k, x->v, x->d_o, x->stats, a->cu_device, B, tokens, a->scale, dims);
    dc_cuda_launched(dev, "attn_bwd");
}

static void launch_kernels(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a, int split)
{
    if (dc_attn_takes_groups(dev, a)) {
        dc_attn_dkv_groups(dev, x, a, split);
        dc_attn_dq_groups(dev, x, a);
    } else if (a->D <= 64) {
        launch<dc_bf16, 64, 2, 1, 16, 32>(dev, x, a, split);
    } else if (a->D <= 128) {
        launch<dc_bf16, 128, 1, 1, 32, 32>(dev, x, a, split);
    } else {
        launch<dc_bf16, 256, 1, 2, 16, 16>(dev, x, a, split);
    }
}

static void launch_kernels(dc_dev *dev, const dc_attn_grads<float> *x, const dc_attn *a, int split)
{
    if (a->D <= 64) launch<float, 64, 1, 1, 32, 32>(dev, x, a, split);
    else if (a->D <= 128) launch<float, 128, 1, 2, 16, 16>(dev, x, a, split);
    else launch<float, 256, 1, 4, 16, 16>(dev, x, a, split);
}

/* Parts of a kv head: as many as it has heads of q, or fewer when their sums would not fit behind `used` bytes of scratch. */
template <typename T> static int parts_of(const dc_dev *dev, const dc_attn *a, size_t used)
{
    const int64_t G = a->H / a->K;
    const size_t one = 2 * static_cast<size_t>(a->T * a->K * a->D) * sizeof(T), room = dc_cuda_scratch_room(dev);
    if (a->D % 8 != 0) return 1; /* attn_sum_parts goes by eight */
    for (int64_t parts = G; parts > 1; parts--)
        if (G % parts == 0 && used + static_cast<size_t>(parts) * one <= room) return static_cast<int>(parts);
    return 1;
}

template <typename T> static void sum_parts(dc_dev *dev, T *to, const T *part, const dc_attn *a, int split)
{
    const int64_t n = a->T * a->K * a->D / 8;
    DC_LAUNCH(attn_sum_parts<T>, static_cast<unsigned>((n + STATS_THREADS - 1) / STATS_THREADS), STATS_THREADS, 0,
              dc_cuda_stream(dev), to, part, n, static_cast<int>(a->D / 8), split);
    dc_cuda_launched(dev, "attn_bwd");
}

template <typename T>
static void run(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse, dc_cview q,
                dc_cview k, dc_cview v, const dc_attn *a)
{
    const int64_t rows = a->T * a->H, lanes = rows * STATS_LANES, kv = a->T * a->K * a->D;
    const size_t used = (static_cast<size_t>(rows) * sizeof(dc_attn_stat) + 255) / 256 * 256;
    const int split = parts_of<T>(dev, a, used);
    const size_t parts = split > 1 ? 2 * static_cast<size_t>(split * kv) * sizeof(T) : 0;
    char *const scratch = static_cast<char *>(dc_cuda_scratch(dev, used + parts));
    dc_attn_stat *const stats = reinterpret_cast<dc_attn_stat *>(scratch);
    T *const to_k = static_cast<T *>(dk.data), *const to_v = static_cast<T *>(dv.data);
    T *const part_k = split > 1 ? reinterpret_cast<T *>(scratch + used) : to_k;
    T *const part_v = split > 1 ? part_k + split * kv : to_v;
    const dc_attn_grads<T> x = {static_cast<T *>(dq.data),
                                part_k,
                                part_v,
                                static_cast<const T *>(q.data),
                                static_cast<const T *>(k.data),
                                static_cast<const T *>(v.data),
                                static_cast<const T *>(d_o.data),
                                stats};
    DC_LAUNCH(attn_stats<T>, static_cast<unsigned>((lanes + STATS_THREADS - 1) / STATS_THREADS), STATS_THREADS, 0,
              dc_cuda_stream(dev), stats, x.d_o, static_cast<const T *>(o.data), lse, static_cast<int>(rows),
              static_cast<int>(a->D), a->D % (16 / static_cast<int64_t>(sizeof(T))) == 0);
    dc_cuda_launched(dev, "attn_bwd");
    launch_kernels(dev, &x, a, split);
    if (split == 1) return;
    sum_parts(dev, to_k, part_k, a, split);
    sum_parts(dev, to_v, part_v, a, split);
}

void dc_attn_bwd_cuda(dc_dev *dev, dc_view dq, dc_view dk, dc_view dv, dc_cview d_o, dc_cview o, const float *lse,
                      dc_cview q, dc_cview k, dc_cview v, const dc_attn *a)
{
    const dc_dtype type = dev->activation;
    DC_ASSERT(dq.type == type && dk.type == type && dv.type == type && d_o.type == type);
    DC_ASSERT(o.type == type && q.type == type && k.type == type && v.type == type);
    if (!dc_attn_fits(dev, a->D, "attn_bwd, heads wider than 256")) return;
    if (type == DC_BF16) run<dc_bf16>(dev, dq, dk, dv, d_o, o, lse, q, k, v, a);
    else run<float>(dev, dq, dk, dv, d_o, o, lse, q, k, v, a);
}
