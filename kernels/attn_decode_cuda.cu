/* kernels/attn_decode_cuda.cu -- attention of new tokens over keys and values in pages.
 *
 * A sequence with many rows (new tokens times heads of a kv head: a prompt) goes as the forward does, but for where its keys are: attn_prompt.
 * One with few rows waits for memory, 4 K D bytes of bf16 a key read once, and its keys are split over blocks so that enough of them
 * are on their way (Dao et al. 2023, "Flash-Decoding"): attn_few leaves each part's largest x, sum of weights and sum of weighted values, which
 * attn_join adds up in the order of the parts. How a sequence is split depends on its own length alone, so that its bits do not depend on its
 * company in the batch. In a block each warp goes through every WARPS-th group of 16 keys at a pace of its own; they meet at the end. A step of
 * mma works on 16 rows, most of them unused, and is idle beside the loads all the same: 64 cycles of it a group and warp when D is 128,
 * while 8 KiB come in some 300 cycles at 1 / 132 of 3.35 TB/s. */
#include "kernels/attn_cuda.cuh"

enum {
    FEW = 32,   /* rows of a sequence up to which its keys are split */
    PART = 256, /* keys a part, at least: some microseconds of loads, as long as it takes to start a block and join */
    PARTS_MAX = 32, /* of a sequence: the scratch of one fits */
    GROUP = 16      /* rows, and keys, of a step */
};

/* The caches of S sequences, all of it on the device: as dc_attn_kv. */
template <typename T> struct caches {
    const int32_t *cu_new, *kv_len;
    const T *const *k_pages, *const *v_pages;
    int S, page, max_pages;
};

/* Where parts leave their sums: [S, K, parts, rows] of each, o unnormalized. */
typedef struct part_sums {
    float2 *stats; /* largest x, sum of weights */
    float *o;      /* [D] */
    int parts, rows;
} part_sums;

__host__ __device__ constexpr int part_keys(int kv_len)
{
    const int even = (kv_len + PARTS_MAX - 1) / PARTS_MAX;
    return even <= PART ? PART : (even + GROUP - 1) / GROUP * GROUP;
}

__host__ __device__ constexpr int parts_of(int kv_len) { return (kv_len + part_keys(kv_len) - 1) / part_keys(kv_len); }

DC_DEVICE size_t part_at(const part_sums *sums, const dc_attn_dims *a, int s, int head, int part, int row)
{
    return ((static_cast<size_t>(s) * a->K + head) * sums->parts + part) * sums->rows + row;
}

template <typename T>
DC_DEVICE dc_rows<const T> paged(const T *const *pages, const caches<T> *c, int s, int head, const dc_attn_dims *a)
{
    return dc_rows<const T>{
        nullptr,    pages + static_cast<int64_t>(s) * c->max_pages, static_cast<int64_t>(a->K) * a->D, 1, c->page,
        head * a->D};
}

/* ---- few rows ---- */

template <typename T, int WIDTH, int WARPS> __host__ __device__ constexpr int few_bytes()
{
    return (1 + 4 * WARPS) * GROUP * dc_mma_pitch<T>(WIDTH) * static_cast<int>(sizeof(T));
}

/* A warp's turns: keys j, j + GROUP * WARPS, ... below `end`, in buffers of its own. */
template <int WIDTH, int WARPS, typename T>
DC_DEVICE void attend_few(dc_attn_state<1, WIDTH / 8> *w, const T *qs, T *buffers, const dc_rows<const T> *k,
                          const dc_rows<const T> *v, int r0, int last, int j, int end, int past, const dc_attn_dims *a)
{
    constexpr int PITCH = dc_mma_pitch<T>(WIDTH), STEP = GROUP * WARPS;
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    for (int stage = 0; j < end; j += STEP, stage ^= 1) {
        T *const ks = buffers + stage * 2 * GROUP * PITCH, *const next = buffers + (stage ^ 1) * 2 * GROUP * PITCH;
        dc_cp_async_wait();
        __syncwarp();
        if (j + STEP < end) {
            dc_load_rows<DC_ROWS_PAGED, WIDTH, GROUP, DC_WARP>(next, k, j + STEP, end, a->D, a->vec, lane);
            dc_load_rows<DC_ROWS_PAGED, WIDTH, GROUP, DC_WARP>(next + GROUP * PITCH, v, j + STEP, end, a->D, a->vec,
                                                               lane);
        }
        float s[1][2][4] = {};
        dc_mma_abt<1, 2, WIDTH>(s, qs, ks);
        if (a->bent) dc_attn_bend<1, 2>(s, a);
        if (!dc_attn_sees_all(a, r0, last, j - past, GROUP)) dc_attn_mask<1, 2>(s, r0, j - past, a);
        dc_attn_soften<1, WIDTH / 8, 2>(w, s, a->c);
        dc_mma_pb<1, 2, WIDTH / 8, PITCH>(w->o, s, ks + GROUP * PITCH);
    }
}

/* The warps' states, in shared memory: [WARPS] of o [GROUP, WIDTH], each in the first buffers of its warp, and stats. */
template <int WIDTH, int STRIDE>
DC_DEVICE void leave_state(float *o, float2 *stats, const dc_attn_state<1, WIDTH / 8> *w)
{
    const int lane = static_cast<int>(dc_thread()) % DC_WARP, warp = static_cast<int>(dc_thread()) / DC_WARP;
    __syncwarp(); /* its lanes have read what the state takes the place of */
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float *const row = o + warp * STRIDE + (lane / 4 + 8 * h) * WIDTH + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++)
            *reinterpret_cast<float2 *>(row + n * 8) = make_float2(w->o[0][n][2 * h], w->o[0][n][2 * h + 1]);
        const float sum = dc_quad_sum(w->sum[0][h]);
        if (lane % 4 == 0) stats[warp * GROUP + lane / 4 + 8 * h] = make_float2(w->max[0][h], sum);
    }
}

/* What sums under a largest x of stats.x count for under `top`; without a key they have no largest x. */
DC_DEVICE float weight_of(float2 stats, float top, float c)
{
    return stats.y == 0.0f ? 0.0f : dc_exp2((stats.x - top) * c);
}

template <typename T, int WIDTH, int WARPS>
DC_KERNEL_BLOCKS(WARPS *DC_WARP, 2)
attn_few(T *o, part_sums sums, const T *q, caches<T> c, int tiles, dc_attn_dims a)
{
    constexpr int PITCH = dc_mma_pitch<T>(WIDTH), BUFFERS = 4 * GROUP * PITCH, PER_ROW = WARPS * DC_WARP / GROUP;
    constexpr int STRIDE =
        BUFFERS * static_cast<int>(sizeof(T)) / static_cast<int>(sizeof(float)); /* from warp to warp */
    DC_DYNAMIC_SHARED(T, shared);
    DC_SHARED(float2, stats, [WARPS * GROUP]);
    const int thread = static_cast<int>(dc_thread()), warp = thread / DC_WARP, lane = thread % DC_WARP;
    const int block = static_cast<int>(blockIdx.x), head = block % a.K, part = block / a.K % sums.parts;
    const int s = block / a.K / sums.parts / tiles, r0 = block / a.K / sums.parts % tiles * GROUP, first = c.cu_new[s];
    const int n = c.cu_new[s + 1] - first, rows = n * a.G, kv_len = c.kv_len[s], past = kv_len - n,
              parts = parts_of(kv_len);
    if (rows > FEW || r0 >= rows || part >= parts) return;
    const dc_attn_tile tile = {s, 0, first, n, head};
    const dc_rows<const T> qr = dc_attn_rows_q(q, &tile, &a);
    const dc_rows<const T> k = paged(c.k_pages, &c, s, head, &a), v = paged(c.v_pages, &c, s, head, &a);
    const int last = min(r0 + GROUP, rows) - 1, oldest = past + r0 / a.G - a.window + 1;
    const int begin = max(part * part_keys(kv_len), max(oldest, 0) / GROUP * GROUP) + warp * GROUP;
    const int end = min((part + 1) * part_keys(kv_len), past + last / a.G + 1);
    T *const buffers = shared + GROUP * PITCH + warp * BUFFERS;
    dc_load_rows<DC_ROWS_GROUPED, WIDTH, GROUP, WARPS * DC_WARP>(shared, &qr, r0, rows, a.D, a.vec, thread);
    if (begin < end) {
        dc_load_rows<DC_ROWS_PAGED, WIDTH, GROUP, DC_WARP>(buffers, &k, begin, end, a.D, a.vec, lane);
        dc_load_rows<DC_ROWS_PAGED, WIDTH, GROUP, DC_WARP>(buffers + GROUP * PITCH, &v, begin, end, a.D, a.vec, lane);
    }
    dc_cp_async_wait();
    __syncthreads(); /* q */
    dc_attn_state<1, WIDTH / 8> w;
    dc_attn_begin(&w);
    attend_few<WIDTH, WARPS>(&w, shared, buffers, &k, &v, r0, last, begin, end, past, &a);
    float *const states = reinterpret_cast<float *>(shared + GROUP * PITCH);
    leave_state<WIDTH, STRIDE>(states, stats, &w);
    __syncthreads();

    const int row = thread / PER_ROW;
    float top = -INFINITY, sum = 0.0f, weight[WARPS];
#pragma unroll
    for (int i = 0; i < WARPS; i++) top = fmaxf(top, stats[i * GROUP + row].x);
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        weight[i] = weight_of(stats[i * GROUP + row], top, a.c);
        sum += weight[i] * stats[i * GROUP + row].y;
    }
    if (r0 + row > last) return;
    const dc_rows<T> to = dc_attn_rows_q(o, &tile, &a);
    const size_t at = part_at(&sums, &a, s, head, part, r0 + row);
    if (parts > 1 && thread % PER_ROW == 0) sums.stats[at] = make_float2(top, sum);
    for (int d = thread % PER_ROW; d < a.D; d += PER_ROW) {
        float x = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS; i++) x = fmaf(weight[i], states[i * STRIDE + row * WIDTH + d], x);
        if (parts > 1) sums.o[at * a.D + d] = x;
        else dc_row<DC_ROWS_GROUPED>(&to, r0 + row, a.D)[d] = dc_from_float<T>(x / sum);
    }
}

/* A warp a row: o = sum of parts, each scaled to the largest x of all. 4 (D + 2) bytes a part. */
enum { JOIN_THREADS = 128 };

template <typename T>
DC_KERNEL(JOIN_THREADS)
attn_join(T *o, part_sums sums, const int32_t *cu_new, const int32_t *all_len, int S, dc_attn_dims a)
{
    const int i = static_cast<int>(blockIdx.x * JOIN_THREADS + threadIdx.x) / DC_WARP,
              lane = static_cast<int>(threadIdx.x) % DC_WARP;
    const int row = i % sums.rows, head = i / sums.rows % a.K, s = i / sums.rows / a.K;
    if (s >= S) return;
    const int rows = (cu_new[s + 1] - cu_new[s]) * a.G, parts = parts_of(all_len[s]);
    if (rows > FEW || row >= rows || parts == 1) return;
    const size_t at = part_at(&sums, &a, s, head, 0, row), step = static_cast<size_t>(sums.rows);
    T *const to = o + (static_cast<int64_t>(cu_new[s] + row / a.G) * a.H + head * a.G + row % a.G) * a.D;
    float top = -INFINITY, sum = 0.0f;
    for (int p = 0; p < parts; p++) top = fmaxf(top, sums.stats[at + p * step].x);
    for (int p = 0; p < parts; p++)
        sum = fmaf(weight_of(sums.stats[at + p * step], top, a.c), sums.stats[at + p * step].y, sum);
    for (int d = lane; d < a.D; d += DC_WARP) {
        float x = 0.0f;
        for (int p = 0; p < parts; p++)
            x = fmaf(weight_of(sums.stats[at + p * step], top, a.c), sums.o[(at + p * step) * a.D + d], x);
        to[d] = dc_from_float<T>(x / sum);
    }
}

/* ---- many rows ---- */

template <typename T, int WIDTH, int M, int PARTS, int KEYS>
DC_KERNEL_BLOCKS(DC_ATTN_THREADS, 2)
attn_prompt(T *o, const T *q, caches<T> c, dc_attn_dims a)
{
    constexpr int ROWS = dc_attend_rows(M, PARTS);
    DC_DYNAMIC_SHARED(T, shared);
    DC_SHARED(dc_attn_tile, tile, [1]);
    if (dc_thread() < DC_WARP) dc_attn_find(tile, c.cu_new, c.S, c.cu_new[c.S], a.G, ROWS, a.K);
    __syncthreads();
    const int rows = tile->tokens * a.G, r0 = tile->level * ROWS;
    if (tile->doc < 0 || rows <= FEW) return;
    dc_attn_state<M, WIDTH / PARTS / 8> w;
    {
        const dc_rows<const T> qr = dc_attn_rows_q(q, tile, &a);
        const dc_rows<const T> k = paged(c.k_pages, &c, tile->doc, tile->head, &a);
        const dc_rows<const T> v = paged(c.v_pages, &c, tile->doc, tile->head, &a);
        dc_attend<DC_ROWS_PAGED, WIDTH, M, PARTS, KEYS>(&w, shared, &qr, &k, &v, r0, rows,
                                                        c.kv_len[tile->doc] - tile->tokens, &a);
    }
    const dc_rows<T> to = dc_attn_rows_q(o, tile, &a);
    const dc_rows<float> no_lse = {};
    dc_attend_store<WIDTH, M, PARTS>(&to, &no_lse, &w, r0, rows, &a);
}

/* ---- launches ---- */

/* What is needed for sequences s0 .. s1: rows of those whose keys are split, parts, rows of the others. */
typedef struct extent {
    int64_t few, parts, many;
} extent;

static void extend(extent *e, const dc_attn_kv *a, int64_t s)
{
    const int64_t rows = (a->cu_new[s + 1] - a->cu_new[s]) * (a->H / a->K);
    if (rows > FEW) {
        e->many += rows;
        return;
    }
    const int parts = parts_of(a->kv_len[s]);
    if (rows > e->few) e->few = rows;
    if (parts > e->parts) e->parts = parts;
}

static size_t part_bytes(const extent *e, const dc_attn_kv *a, int64_t S)
{
    return e->parts < 2 ? 0
                        : static_cast<size_t>(S * a->K * e->parts * e->few) *
                              (sizeof(float2) + sizeof(float) * static_cast<size_t>(a->D));
}

/* The first sequence behind s0 that no longer fits into scratch and tables. */
static int64_t slice(extent *e, const dc_dev *dev, const dc_attn_kv *a, int64_t s0)
{
    int64_t s = s0;
    *e = extent{};
    for (; s < a->S; s++) {
        extent more = *e;
        extend(&more, a, s);
        const int fits = part_bytes(&more, a, s + 1 - s0) <= dc_cuda_scratch_room(dev) &&
                         (s + 1 - s0) * a->max_pages <= static_cast<int64_t>(DC_CUDA_STAGE / sizeof(void *));
        if (!fits && s > s0) break;
        *e = more;
    }
    return s;
}

/* Copies on the device of the slice's tables; 0 when one could not be made, which is noted. */
template <typename T> static int stage(caches<T> *c, dc_dev *dev, const dc_attn_kv *a, int64_t s0, int64_t s1)
{
    const size_t S = static_cast<size_t>(s1 - s0), pages = S * static_cast<size_t>(a->max_pages) * sizeof(void *);
    const void *const cu_new = dc_cuda_stage(dev, a->cu_new + s0, (S + 1) * sizeof(int32_t), "attn_decode");
    const void *const kv_len = dc_cuda_stage(dev, a->kv_len + s0, S * sizeof(int32_t), "attn_decode");
    const void *const k = dc_cuda_stage(dev, a->k_pages + s0 * a->max_pages, pages, "attn_decode");
    const void *const v = dc_cuda_stage(dev, a->v_pages + s0 * a->max_pages, pages, "attn_decode");
    *c = caches<T>{static_cast<const int32_t *>(cu_new),
                   static_cast<const int32_t *>(kv_len),
                   static_cast<const T *const *>(k),
                   static_cast<const T *const *>(v),
                   static_cast<int>(S),
                   static_cast<int>(a->page),
                   static_cast<int>(a->max_pages)};
    return cu_new && kv_len && k && v;
}

static dc_attn_dims dims_of(const dc_dev *dev, const dc_attn_kv *a)
{
    int64_t most = 1;
    for (int64_t s = 0; s < a->S; s++)
        if (a->kv_len[s] > most) most = a->kv_len[s];
    return dc_attn_dims_of(a->H, a->K, a->D, most, a->window, a->scale, a->softcap, dev->activation);
}

template <typename T, int WIDTH, int WARPS>
static void launch_few(dc_dev *dev, T *o, const T *q, const caches<T> *c, const extent *e, const dc_attn_dims *dims)
{
    constexpr int BYTES = few_bytes<T, WIDTH, WARPS>();
    const int tiles = (static_cast<int>(e->few) + GROUP - 1) / GROUP;
    const size_t slots = static_cast<size_t>(c->S * dims->K) * static_cast<size_t>(e->parts * e->few);
    part_sums sums = {nullptr, nullptr, static_cast<int>(e->parts), static_cast<int>(e->few)};
    if (e->parts > 1) {
        sums.stats = static_cast<float2 *>(
            dc_cuda_scratch(dev, slots * (sizeof(float2) + sizeof(float) * static_cast<size_t>(dims->D))));
        sums.o = reinterpret_cast<float *>(sums.stats + slots);
    }
    const unsigned grid = static_cast<unsigned>(c->S * tiles) * static_cast<unsigned>(sums.parts * dims->K);
    cudaFuncSetAttribute(attn_few<T, WIDTH, WARPS>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    DC_LAUNCH((attn_few<T, WIDTH, WARPS>), grid, WARPS * DC_WARP, BYTES, dc_cuda_stream(dev), o, sums, q, *c, tiles,
              *dims);
    dc_cuda_launched(dev, "attn_decode");
    if (e->parts < 2) return;
    const unsigned rows = static_cast<unsigned>(c->S * dims->K * sums.rows), warps = JOIN_THREADS / DC_WARP;
    DC_LAUNCH(attn_join<T>, (rows + warps - 1) / warps, JOIN_THREADS, 0, dc_cuda_stream(dev), o, sums, c->cu_new,
              c->kv_len, c->S, *dims);
    dc_cuda_launched(dev, "attn_decode");
}

template <typename T, int WIDTH, int WARPS, int M, int PARTS, int KEYS>
static void launch(dc_dev *dev, dc_view o, dc_cview q, const dc_attn_kv *a)
{
    constexpr int BYTES = dc_attend_bytes<T, WIDTH, M, PARTS, KEYS>();
    const dc_attn_dims dims = dims_of(dev, a);
    T *const to = static_cast<T *>(o.data);
    const T *const from = static_cast<const T *>(q.data);
    extent e;
    for (int64_t s0 = 0, s1; s0 < a->S; s0 = s1) {
        caches<T> c;
        s1 = slice(&e, dev, a, s0);
        if (!stage(&c, dev, a, s0, s1)) return;
        if (e.few) launch_few<T, WIDTH, WARPS>(dev, to, from, &c, &e, &dims);
        if (!e.many) continue;
        const int64_t tokens = a->cu_new[s1] - a->cu_new[s0];
        cudaFuncSetAttribute(attn_prompt<T, WIDTH, M, PARTS, KEYS>, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
        DC_LAUNCH((attn_prompt<T, WIDTH, M, PARTS, KEYS>),
                  dc_attn_grid(tokens, s1 - s0, dims.G, dc_attend_rows(M, PARTS), a->K), DC_ATTN_THREADS, BYTES,
                  dc_cuda_stream(dev), to, from, c, dims);
        dc_cuda_launched(dev, "attn_decode");
    }
}

void dc_attn_decode_cuda(dc_dev *dev, dc_view o, dc_cview q, const dc_attn_kv *a)
{
    DC_ASSERT(o.type == dev->activation && q.type == o.type);
    if (!dc_attn_fits(dev, a->D, "attn_decode, heads wider than 256")) return;
    if (o.type == DC_BF16) {
        if (a->D <= 64) launch<dc_bf16, 64, 4, 2, 1, 64>(dev, o, q, a);
        else if (a->D <= 128) launch<dc_bf16, 128, 4, 2, 1, 32>(dev, o, q, a);
        else launch<dc_bf16, 256, 2, 1, 1, 16>(dev, o, q, a);
    } else {
        if (a->D <= 64) launch<float, 64, 4, 1, 1, 32>(dev, o, q, a);
        else if (a->D <= 128) launch<float, 128, 2, 1, 1, 16>(dev, o, q, a);
        else launch<float, 256, 1, 1, 2, 16>(dev, o, q, a);
    }
}
