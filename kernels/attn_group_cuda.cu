/* kernels/attn_group_cuda.cu -- attention by warpgroups, for cards with wgmma (compute capability 9.0): the algorithms of attn_cuda.cu and
 * attn_bwd_cuda.cu with tiles of 64 rows for a group, whose left factors and sums stay in registers and whose right factors the tensor
 * cores read from shared memory.
 *
 * Roofline. An instruction of 64 x 64 x 16 takes 32 cycles of a multiprocessor's tensor cores at the full rate and reads 2 KiB of shared
 * memory for the right factor, 16 cycles, and as much again when the left one lies there too: so S and dP (64 x 64 x D) are as near to
 * shared memory as to the tensor cores, the products from registers are not. The exponentials of a tile of 64 x 64 take 256 cycles; its
 * products in the forward 256 when D is 64 and 512 when it is 128, in the backward (7 products) 896 and 1,792. Groups of other blocks
 * compute while one waits for its products: two to four groups a multiprocessor, as the registers allow. */
#include "core/log.h"
#include "kernels/attn_bwd_cuda.cuh"
#include "kernels/cuda_wgmma.cuh"

enum { PASS = 64, STAGES = 2 };

/* Tiles begin at multiples of 1,024 bytes: kernels here have no other shared memory, and this begins where the block's does. */
#define TILES(name) DC_DYNAMIC_SHARED(dc_bf16, name)

/* Rows first .. first + ROWS of x into a tile by THREADS threads, as dc_load_rows. */
template <int KIND, int WIDTH, int ROWS, int THREADS>
DC_DEVICE void load_tile(dc_bf16 *tile, const dc_rows<const dc_bf16> *x, int first, int end, int D)
{
    constexpr int PIECES = WIDTH / 8,
                  STEP = THREADS / PIECES; /* a thread has one piece of every row that is STEP further */
    static_assert(THREADS % PIECES == 0 && STEP % 8 == 0, "the swizzle of a thread's pieces is the same");
    const int thread = static_cast<int>(dc_thread()), piece = thread % PIECES, inside = piece * 8 < D;
    dc_bf16 *to = dc_tile_piece<ROWS>(tile, thread / PIECES, piece);
#pragma unroll 2
    for (int row = thread / PIECES; row < ROWS; row += STEP, to += STEP * 64) {
        const int there = inside && first + row < end;
        dc_cp_async<16>(to, there ? dc_row<KIND>(x, first + row, D) + piece * 8 : x->base, there);
    }
}

/* The same rows of two tensors into neighbouring tiles. */
template <int KIND, int WIDTH, int ROWS, int THREADS>
DC_DEVICE void load_pair(dc_bf16 *tiles, const dc_rows<const dc_bf16> *x, const dc_rows<const dc_bf16> *y, int first,
                         int end, int D)
{
    load_tile<KIND, WIDTH, ROWS, THREADS>(tiles, x, first, end, D);
    load_tile<KIND, WIDTH, ROWS, THREADS>(tiles + ROWS * WIDTH, y, first, end, D);
}

/* The thread's copies have arrived, and every thread's are seen by products behind this. */
DC_DEVICE void tiles_there()
{
    dc_cp_async_wait();
    dc_group_publish();
    __syncthreads();
}

/* Every block finds its tile; the place for it is behind the tiles. */
DC_DEVICE const dc_attn_tile *find_tile(dc_bf16 *behind, const int32_t *cu, int B, int tokens, int G, int size, int K)
{
    dc_attn_tile *const tile = reinterpret_cast<dc_attn_tile *>(behind);
    if (dc_thread() < DC_WARP) dc_attn_find(tile, cu, B, tokens, G, size, K);
    __syncthreads();
    return tile;
}

DC_DEVICE int group_of_thread() { return static_cast<int>(dc_thread()) / DC_GROUP; }

/* The warp's first row of the block's tile. */
DC_DEVICE int warp_rows() { return static_cast<int>(dc_thread()) / DC_WARP * 16; }

/* ---- forward ---- */

/* Groups of a block share keys and values; blocks of a multiprocessor as the registers allow. */
template <int WIDTH> __host__ __device__ constexpr int fwd_groups() { return WIDTH == 64 ? 2 : 3; }
template <int WIDTH> __host__ __device__ constexpr int fwd_threads() { return fwd_groups<WIDTH>() * DC_GROUP; }
template <int WIDTH> __host__ __device__ constexpr int fwd_rows() { return fwd_groups<WIDTH>() * DC_GROUP_ROWS; }

template <int WIDTH> __host__ __device__ constexpr int fwd_elements()
{
    return (fwd_rows<WIDTH>() + 2 * STAGES * PASS) * WIDTH;
}

template <int WIDTH>
DC_DEVICE void attend(dc_attn_state<1, WIDTH / 8> *w, dc_bf16 *tiles, const dc_rows<const dc_bf16> *q,
                      const dc_rows<const dc_bf16> *k, const dc_rows<const dc_bf16> *v, int r0, int rows,
                      const dc_attn_dims *a)
{
    constexpr int ROWS = fwd_rows<WIDTH>(), THREADS = fwd_threads<WIDTH>();
    constexpr int TILE = PASS * WIDTH, J = PASS / 8, N = WIDTH / 8;
    dc_bf16 *const qs = tiles, *const kv = tiles + ROWS * WIDTH;
    const int end = (min(r0 + ROWS, rows) - 1) / a->G + 1, begin = max(r0 / a->G - a->window + 1, 0) / PASS * PASS;
    const int mine = group_of_thread() * DC_GROUP_ROWS, last = min(r0 + mine + DC_GROUP_ROWS, rows) - 1;
    load_tile<DC_ROWS_GROUPED, WIDTH, ROWS, THREADS>(qs, q, r0, rows, a->D);
    load_pair<DC_ROWS, WIDTH, PASS, THREADS>(kv, k, v, begin, end, a->D);
    dc_attn_begin(w);
    for (int j = begin, stage = 0; j < end; j += PASS, stage ^= 1) {
        dc_bf16 *const ks = kv + stage * 2 * TILE, *const next = kv + (stage ^ 1) * 2 * TILE;
        tiles_there();
        if (j + PASS < end) load_pair<DC_ROWS, WIDTH, PASS, THREADS>(next, k, v, j + PASS, end, a->D);
        if (!dc_attn_sees(a, r0 + mine, last, j, PASS)) continue; /* the whole group */
        float s[1][J][4];
        dc_group_begin();
        dc_group_abt<J, WIDTH, ROWS>(s[0], qs, mine, ks);
        dc_group_end<J>(s[0]);
        const int r = r0 + warp_rows();
        if (a->bent) dc_attn_bend<1, J>(s, a);
        if (!dc_attn_sees_all(a, r, min(r + 16, rows) - 1, j, PASS)) dc_attn_mask<1, J>(s, r, j, a);
        dc_attn_soften<1, N, J>(w, s, a->c);
        unsigned weights[J / 2][4];
        dc_group_pack<J>(weights, s[0]);
        dc_group_begin();
        dc_group_pb<J, N>(w->o[0], weights, ks + TILE);
        dc_group_end<N>(w->o[0]);
    }
}

template <int WIDTH>
DC_KERNEL_BLOCKS(fwd_threads<WIDTH>(), WIDTH == 64 ? 2 : 1)
attn_fwd_group(dc_bf16 *o, float *lse, const dc_bf16 *q, const dc_bf16 *k, const dc_bf16 *v, const int32_t *cu, int B,
               int tokens, dc_attn_dims a)
{
    if (!DC_HAS_GROUPS) return;
    constexpr int ROWS = fwd_rows<WIDTH>(), THREADS = fwd_threads<WIDTH>();
    TILES(tiles);
    const dc_attn_tile *const tile = find_tile(tiles + fwd_elements<WIDTH>(), cu, B, tokens, a.G, ROWS, a.K);
    if (tile->doc < 0) return;
    const dc_rows<dc_bf16> to = dc_attn_rows_q(o, tile, &a);
    const dc_rows<float> to_lse = dc_attn_rows_stat(lse, tile, &a);
    const int r0 = tile->level * ROWS, n = tile->tokens * a.G;
    if (tile->doc < B) {
        dc_attn_state<1, WIDTH / 8> w;
        const dc_rows<const dc_bf16> qr = dc_attn_rows_q(q, tile, &a), kr = dc_attn_rows_kv(k, tile, &a),
                                     vr = dc_attn_rows_kv(v, tile, &a);
        attend<WIDTH>(&w, tiles, &qr, &kr, &vr, r0, n, &a);
        dc_attend_store<WIDTH, 1, 1>(&to, &to_lse, &w, r0, n, &a);
        return;
    }
    dc_zero_rows<DC_ROWS_GROUPED, THREADS>(&to, r0, min(r0 + ROWS, n), a.D);
    if (lse) dc_zero_rows<DC_ROWS_GROUPED, THREADS>(&to_lse, r0, min(r0 + ROWS, n), 1);
}

/* ---- backward: one group a block, which owns 64 rows or keys ---- */

enum { OWN = DC_GROUP_ROWS };

template <int WIDTH> __host__ __device__ constexpr int bwd_elements() { return (2 * OWN + 2 * STAGES * PASS) * WIDTH; }

/* A tile of sums times `factor` to rows first .. of `to`. */
template <int KIND, int N>
DC_DEVICE void store_sums(const dc_rows<dc_bf16> *to, const float sum[N][4], float factor, int first, int end,
                          const dc_attn_dims *a)
{
    const int row = first + warp_rows() + static_cast<int>(dc_thread()) % DC_WARP / 4;
#pragma unroll
    for (int h = 0; h < 2; h++)
        dc_store_row<N>(row + 8 * h < end ? dc_row<KIND>(to, row + 8 * h, a->D) : nullptr, sum, h, factor, 0, a->D, 1);
}

template <int WIDTH>
DC_DEVICE void sum_dq(float sum[WIDTH / 8][4], dc_bf16 *tiles, const dc_rows<const dc_bf16> *q,
                      const dc_rows<const dc_bf16> *d_o, const dc_rows<const dc_attn_stat> *stats,
                      const dc_rows<const dc_bf16> *k, const dc_rows<const dc_bf16> *v, int r0, int rows,
                      const dc_attn_dims *a)
{
    constexpr int TILE = PASS * WIDTH, J = PASS / 8, N = WIDTH / 8;
    dc_bf16 *const qs = tiles, *const dos = qs + OWN * WIDTH, *const kv = dos + OWN * WIDTH;
    const int r = r0 + warp_rows(), end = (min(r0 + OWN, rows) - 1) / a->G + 1,
              begin = max(r0 / a->G - a->window + 1, 0) / PASS * PASS;
    load_pair<DC_ROWS_GROUPED, WIDTH, OWN, DC_GROUP>(qs, q, d_o, r0, rows, a->D);
    load_pair<DC_ROWS, WIDTH, PASS, DC_GROUP>(kv, k, v, begin, end, a->D);
    dc_attn_stat of[1][2];
#pragma unroll
    for (int h = 0; h < 2; h++)
        of[0][h] =
            *dc_row<DC_ROWS_GROUPED>(stats, min(r + h * 8 + static_cast<int>(dc_thread()) % DC_WARP / 4, rows - 1), 1);
    for (int j = begin, stage = 0; j < end; j += PASS, stage ^= 1) {
        dc_bf16 *const ks = kv + stage * 2 * TILE, *const next = kv + (stage ^ 1) * 2 * TILE;
        tiles_there();
        if (j + PASS < end) load_pair<DC_ROWS, WIDTH, PASS, DC_GROUP>(next, k, v, j + PASS, end, a->D);
        float s[1][J][4], ds[1][J][4];
        dc_group_begin();
        dc_group_abt<J, WIDTH, OWN>(s[0], qs, 0, ks);
        dc_group_abt<J, WIDTH, OWN>(ds[0], dos, 0, ks + TILE);
        dc_group_end<J>(s[0], ds[0]);
        dc_attn_weigh_rows<1, J>(s, ds, of, r, min(r + 16, rows) - 1, j, a);
        unsigned packed[J / 2][4];
        dc_group_pack<J>(packed, ds[0]);
        dc_group_begin();
        dc_group_pb<J, N>(sum, packed, ks);
        dc_group_end<N>(sum);
    }
}

template <int WIDTH>
DC_KERNEL_BLOCKS(DC_GROUP, 3)
attn_dq_group(dc_attn_grads<dc_bf16> x, const int32_t *cu, int B, int tokens, float scale, dc_attn_dims a)
{
    if (!DC_HAS_GROUPS) return;
    TILES(tiles);
    const dc_attn_tile *const tile = find_tile(tiles + bwd_elements<WIDTH>(), cu, B, tokens, a.G, OWN, a.K);
    if (tile->doc < 0) return;
    const int r0 = tile->level * OWN, rows = tile->tokens * a.G;
    float sum[WIDTH / 8][4] = {};
    if (tile->doc < B) {
        const dc_rows<const dc_bf16> q = dc_attn_rows_q(x.q, tile, &a), d_o = dc_attn_rows_q(x.d_o, tile, &a),
                                     k = dc_attn_rows_kv(x.k, tile, &a), v = dc_attn_rows_kv(x.v, tile, &a);
        const dc_rows<const dc_attn_stat> stats = dc_attn_rows_stat(x.stats, tile, &a);
        sum_dq<WIDTH>(sum, tiles, &q, &d_o, &stats, &k, &v, r0, rows, &a);
    }
    /* Rows of no document have summed nothing: zeros. */
    const dc_rows<dc_bf16> to = dc_attn_rows_q(x.dq, tile, &a);
    store_sums<DC_ROWS_GROUPED, WIDTH / 8>(&to, sum, scale, r0, rows, &a);
}

/* What passes by the keys of attn_dkv_group: rows of q and do, and their numbers behind the tiles. Where a document's rows are is formed anew for
 * each load: registers are scarce. */
template <int KIND, int WIDTH>
DC_DEVICE void load_pass(dc_bf16 *to, dc_attn_stat *to_stats, const dc_attn_grads<dc_bf16> *x, const dc_attn_tile *tile,
                         int r, int end, const dc_attn_dims *a)
{
    const int thread = static_cast<int>(dc_thread());
    const dc_rows<const dc_bf16> q = dc_attn_rows_q(x->q, tile, a), d_o = dc_attn_rows_q(x->d_o, tile, a);
    const dc_rows<const dc_attn_stat> stats = dc_attn_rows_stat(x->stats, tile, a);
    load_pair<KIND, WIDTH, PASS, DC_GROUP>(to, &q, &d_o, r, end, a->D);
    if (thread < PASS)
        dc_cp_async<8>(to_stats + thread, dc_row<KIND>(&stats, min(r + thread, end - 1), 1), r + thread < end);
}

template <int KIND, int WIDTH>
DC_DEVICE void sum_dkv(float dk[WIDTH / 8][4], float dv[WIDTH / 8][4], dc_bf16 *tiles, dc_attn_stat *stats,
                       const dc_attn_grads<dc_bf16> *x, const dc_attn_tile *tile, int j0, const dc_attn_dims *a)
{
    constexpr int TILE = PASS * WIDTH, J = PASS / 8, N = WIDTH / 8;
    dc_bf16 *const ks = tiles, *const vs = ks + OWN * WIDTH, *const pass = vs + OWN * WIDTH;
    const dc_rows<const dc_bf16> k = dc_attn_rows_kv(x->k, tile, a), v = dc_attn_rows_kv(x->v, tile, a);
    load_pair<DC_ROWS, WIDTH, OWN, DC_GROUP>(ks, &k, &v, j0, tile->tokens, a->D);
    const int keys = tile->tokens, begin = dc_attn_from(a, j0),
              end = min(dc_attn_to(a, min(j0 + OWN, keys) - 1), keys * a->G);
    load_pass<KIND, WIDTH>(pass, stats, x, tile, begin, end, a);
    for (int r = begin, stage = 0; r < end; r += PASS, stage ^= 1) {
        dc_bf16 *const qs = pass + stage * 2 * TILE, *const dos = qs + TILE;
        tiles_there();
        if (r + PASS < end)
            load_pass<KIND, WIDTH>(pass + (stage ^ 1) * 2 * TILE, stats + (stage ^ 1) * PASS, x, tile, r + PASS, end,
                                   a);
        float p[1][J][4], ds[1][J][4];
        dc_group_begin();
        dc_group_abt<J, WIDTH, OWN>(p[0], ks, 0, qs);
        dc_group_abt<J, WIDTH, OWN>(ds[0], vs, 0, dos);
        dc_group_end<J>(p[0], ds[0]);
        dc_attn_weigh_keys<1, J>(p, ds, stats + stage * PASS, r, r + PASS - 1, j0 + warp_rows(), a);
        unsigned packed_p[J / 2][4], packed_ds[J / 2][4];
        dc_group_pack<J>(packed_p, p[0]);
        dc_group_pack<J>(packed_ds, ds[0]);
        dc_group_begin();
        dc_group_pb<J, N>(dv, packed_p, dos);
        dc_group_pb<J, N>(dk, packed_ds, qs);
        dc_group_end<N>(dv, dk);
    }
}

/* The highest level is the longest work: the document's first keys, which most rows see. */
DC_DEVICE int first_key(const dc_attn_tile *tile, int B)
{
    return (tile->doc < B ? (tile->tokens - 1) / OWN - tile->level : tile->level) * OWN;
}

/* KIND: DC_ROWS when every head of q has its own part. */
template <int KIND, int WIDTH>
DC_KERNEL_BLOCKS(DC_GROUP, WIDTH == 64 ? 3 : 2)
attn_dkv_group(dc_attn_grads<dc_bf16> x, const int32_t *cu, int B, int tokens, float scale, dc_attn_dims a)
{
    if (!DC_HAS_GROUPS) return;
    TILES(tiles);
    dc_attn_stat *const stats = reinterpret_cast<dc_attn_stat *>(tiles + bwd_elements<WIDTH>());
    const dc_attn_tile *const tile =
        find_tile(reinterpret_cast<dc_bf16 *>(stats + STAGES * PASS), cu, B, tokens, 1, OWN, a.K);
    if (tile->doc < 0) return;
    float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};
    if (tile->doc < B) sum_dkv<KIND, WIDTH>(dk, dv, tiles, stats, &x, tile, first_key(tile, B), &a);
    const dc_rows<dc_bf16> to_k = dc_attn_rows_part(x.dk, tile, &a), to_v = dc_attn_rows_part(x.dv, tile, &a);
    const int j0 = first_key(tile, B);
    store_sums<DC_ROWS, WIDTH / 8>(&to_k, dk, scale, j0, tile->tokens, &a);
    store_sums<DC_ROWS, WIDTH / 8>(&to_v, dv, 1.0f, j0, tile->tokens, &a);
}

/* ---- launches ---- */

enum { BEHIND = 64 }; /* bytes for the block's tile of work */

static dc_attn_dims dims_of(const dc_attn *a)
{
    return dc_attn_dims_of(a->H, a->K, a->D, a->T, a->window, a->scale, a->softcap, DC_BF16);
}

/* ---- whether they are right here ---- */

enum { PROBE_WIDTH = 128, PROBE_ROWS = 128, PROBE_ELEMENTS = (PROBE_ROWS + 2 * PASS) * PROBE_WIDTH };

/* Small integers: sums of their products are exact. */
DC_DEVICE float pattern(int which, int row, int col)
{
    return static_cast<float>((which + row * 7 + col * 5 + row * col) % 9 - 4);
}

template <int ROWS> DC_DEVICE void fill_tile(dc_bf16 *tile, int which)
{
    for (int i = static_cast<int>(dc_thread()); i < ROWS * PROBE_WIDTH; i += DC_GROUP) {
        const int row = i / PROBE_WIDTH, col = i % PROBE_WIDTH;
        dc_tile_piece<ROWS>(tile, row, col / 8)[col % 8] = dc_from_float<dc_bf16>(pattern(which, row, col));
    }
}

/* Row and column of element i of a thread's part of a result. */
DC_DEVICE int row_of(int i) { return warp_rows() + static_cast<int>(dc_thread()) % DC_WARP / 4 + i % 4 / 2 * 8; }
DC_DEVICE int col_of(int i) { return i / 4 * 8 + static_cast<int>(dc_thread()) % 4 * 2 + i % 2; }

enum { GROUPS_ABSENT, GROUPS_WRONG, GROUPS_RIGHT };

/* Is a product by the group what its definition says? Descriptors and swizzle have no other judge than the card. *out is GROUPS_RIGHT before. */
static DC_KERNEL(DC_GROUP) probe(int *out)
{
    constexpr int J = PASS / 8, N = PROBE_WIDTH / 8, FIRST = DC_GROUP_ROWS;
    if (!DC_HAS_GROUPS) {
        *out = GROUPS_ABSENT;
        return;
    }
    TILES(a);
    dc_bf16 *const b = a + PROBE_ROWS * PROBE_WIDTH, *const v = b + PASS * PROBE_WIDTH;
    fill_tile<PROBE_ROWS>(a, 1);
    fill_tile<PASS>(b, 2);
    fill_tile<PASS>(v, 3);
    tiles_there();
    float s[J][4], p[J][4], o[N][4] = {};
    unsigned packed[J / 2][4];
#pragma unroll
    for (int i = 0; i < 4 * J; i++) p[i / 4][i % 4] = pattern(4, row_of(i), col_of(i));
    dc_group_pack<J>(packed, p);
    dc_group_begin();
    dc_group_abt<J, PROBE_WIDTH, PROBE_ROWS>(s, a, FIRST, b);
    dc_group_pb<J, N>(o, packed, v);
    dc_group_end<J>(s);
    dc_group_end<N>(o);
    int wrong = 0;
#pragma unroll
    for (int i = 0; i < 4 * J; i++) {
        float want = 0.0f;
        for (int k = 0; k < PROBE_WIDTH; k++) want += pattern(1, FIRST + row_of(i), k) * pattern(2, col_of(i), k);
        wrong |= s[i / 4][i % 4] != want;
    }
#pragma unroll
    for (int i = 0; i < 4 * N; i++) {
        float want = 0.0f;
        for (int k = 0; k < PASS; k++) want += pattern(4, row_of(i), k) * pattern(3, k, col_of(i));
        wrong |= o[i / 4][i % 4] != want;
    }
    if (wrong) *out = GROUPS_WRONG;
}

int dc_cuda_has_groups(dc_dev *dev)
{
    const dc_cuda_state *s = dc_cuda_state_of(dev);
    constexpr int BYTES = PROBE_ELEMENTS * 2;
    int has = GROUPS_RIGHT, *const there = reinterpret_cast<int *>(s->scratch);
    if (s->capability != 90) return 0;
    cudaFuncSetAttribute(probe, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    if (cudaMemcpyAsync(there, &has, sizeof has, cudaMemcpyHostToDevice, s->stream) != cudaSuccess) return 0;
    DC_LAUNCH(probe, 1, DC_GROUP, BYTES, s->stream, there);
    dc_cuda_launched(dev, "probe");
    if (cudaMemcpyAsync(&has, there, sizeof has, cudaMemcpyDeviceToHost, s->stream) != cudaSuccess ||
        cudaStreamSynchronize(s->stream) != cudaSuccess)
        return 0;
    if (has == GROUPS_WRONG)
        dc_log(DC_LOG_WARN, "%s: products by warpgroups are wrong; attention goes without them. Please report this.",
               s->name);
    return has == GROUPS_RIGHT;
}

int dc_attn_takes_groups(const dc_dev *dev, const dc_attn *a)
{
    return dc_cuda_state_of(dev)->groups && a->D % 8 == 0 && a->D <= 128;
}

template <int WIDTH>
static void launch_fwd(dc_dev *dev, dc_bf16 *o, float *lse, const dc_bf16 *q, const dc_bf16 *k, const dc_bf16 *v,
                       const dc_attn *a)
{
    constexpr int BYTES = fwd_elements<WIDTH>() * 2 + BEHIND;
    const dc_attn_dims dims = dims_of(a);
    cudaFuncSetAttribute(attn_fwd_group<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    DC_LAUNCH(attn_fwd_group<WIDTH>, dc_attn_grid(a->T, a->B, dims.G, fwd_rows<WIDTH>(), a->K), fwd_threads<WIDTH>(),
              BYTES, dc_cuda_stream(dev), o, lse, q, k, v, a->cu_device, static_cast<int>(a->B), static_cast<int>(a->T),
              dims);
    dc_cuda_launched(dev, "attn_fwd");
}

void dc_attn_fwd_groups(dc_dev *dev, dc_bf16 *o, float *lse, const dc_bf16 *q, const dc_bf16 *k, const dc_bf16 *v,
                        const dc_attn *a)
{
    if (a->D <= 64) launch_fwd<64>(dev, o, lse, q, k, v, a);
    else launch_fwd<128>(dev, o, lse, q, k, v, a);
}

template <int WIDTH> static void launch_dq(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a)
{
    constexpr int BYTES = bwd_elements<WIDTH>() * 2 + BEHIND;
    const dc_attn_dims dims = dims_of(a);
    cudaFuncSetAttribute(attn_dq_group<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    DC_LAUNCH(attn_dq_group<WIDTH>, dc_attn_grid(a->T, a->B, dims.G, OWN, a->K), DC_GROUP, BYTES, dc_cuda_stream(dev),
              *x, a->cu_device, static_cast<int>(a->B), static_cast<int>(a->T), a->scale, dims);
    dc_cuda_launched(dev, "attn_bwd");
}

void dc_attn_dq_groups(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a)
{
    if (a->D <= 64) launch_dq<64>(dev, x, a);
    else launch_dq<128>(dev, x, a);
}

template <int KIND, int WIDTH>
static void launch_dkv(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a, const dc_attn_dims *dims)
{
    constexpr int BYTES = bwd_elements<WIDTH>() * 2 + STAGES * PASS * static_cast<int>(sizeof(dc_attn_stat)) + BEHIND;
    cudaFuncSetAttribute(attn_dkv_group<KIND, WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    DC_LAUNCH((attn_dkv_group<KIND, WIDTH>), dc_attn_grid(a->T, a->B, 1, OWN, dims->K), DC_GROUP, BYTES,
              dc_cuda_stream(dev), *x, a->cu_device, static_cast<int>(a->B), static_cast<int>(a->T), a->scale, *dims);
    dc_cuda_launched(dev, "attn_bwd");
}

void dc_attn_dkv_groups(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a, int split)
{
    const dc_attn_dims dims = dc_attn_split(dims_of(a), split);
    if (a->D <= 64) {
        if (dims.G == 1) launch_dkv<DC_ROWS, 64>(dev, x, a, &dims);
        else launch_dkv<DC_ROWS_GROUPED, 64>(dev, x, a, &dims);
    } else {
        if (dims.G == 1) launch_dkv<DC_ROWS, 128>(dev, x, a, &dims);
        else launch_dkv<DC_ROWS_GROUPED, 128>(dev, x, a, &dims);
    }
}
