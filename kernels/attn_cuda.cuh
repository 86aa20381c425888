/* kernels/attn_cuda.cuh -- what the kernels of attention share: rows, tiles of work, masks, the softmax by blocks; private to attn_*_cuda.cu.
 *
 * The rows of q that one kv head serves, G heads of each token, are numbered r = token * G + head and go through a tile together: a key
 * is read once for all of them, and a tile of rows spans fewer tokens, so that less of it lies above the diagonal. A block has four warps. A
 * warp holds 16 M rows of the block's tile and, so that the widest heads fit into its registers, 1 / PARTS of the output's columns: warps of
 * the same rows repeat each other's scores. Head widths are padded to WIDTH with zeros, in shared memory alone.
 *
 * Everything that depends on the documents is read from the device: a captured graph may be replayed with other documents in the same
 * number of rows. Blocks find their tile themselves (dc_attn_find). */
#ifndef DC_KERNELS_ATTN_CUDA_CUH
#define DC_KERNELS_ATTN_CUDA_CUH

#include "kernels/attn.h"
#include "kernels/cuda_dev.h"
#include "kernels/cuda_mma.cuh"
#include "kernels/dev_cuda.h"

extern "C" {
dc_attn_bwd_fn dc_attn_bwd_cuda;
dc_attn_decode_fn dc_attn_decode_cuda;
}

/* By warpgroups (attn_group_cuda.cu): bf16, a card of compute capability 9.0, rows in pieces of 16 bytes, D at most 128. */
int dc_attn_takes_groups(const dc_dev *dev, const dc_attn *a);
void dc_attn_fwd_groups(dc_dev *dev, dc_bf16 *o, float *lse, const dc_bf16 *q, const dc_bf16 *k, const dc_bf16 *v,
                        const dc_attn *a);

enum { DC_ATTN_WARPS = 4, DC_ATTN_THREADS = DC_ATTN_WARPS * DC_WARP };

#define DC_LOG2E 1.4426950408889634
#define DC_LN2   0.69314718055994531

/* A call's sizes and numbers. A weight is 2^(c x - ...) of x, which is the product s itself, or with `bent` x = cap tanh(pre s) (cap 0: pre s). */
typedef struct dc_attn_dims {
    int H, K, G, D, window; /* window: at least 1, and no key is too old when it is the number of tokens */
    int split; /* heads here that one kv head of the tensors stands for: K counts them all (dc_attn_split) */
    int vec;   /* rows go in pieces of 16 bytes */
    int bent;
    float c, pre, cap;
} dc_attn_dims;

/* Also for calls that have no dc_attn: decoding. `tokens` is at least the length of a document. */
static inline dc_attn_dims dc_attn_dims_of(int64_t H, int64_t K, int64_t D, int64_t tokens, int64_t window, float scale,
                                           float softcap, dc_dtype type)
{
    dc_attn_dims a = {};
    DC_ASSERT(tokens * H <= INT32_MAX / 4);
    a.H = static_cast<int>(H), a.K = static_cast<int>(K), a.G = static_cast<int>(H / K), a.D = static_cast<int>(D);
    a.window = static_cast<int>(window > 0 && window < tokens ? window : tokens);
    a.split = 1;
    a.vec = D % (type == DC_F32 ? 4 : 8) == 0;
    a.bent = softcap > 0 || !(scale > 0);
    a.cap = softcap > 0 ? softcap : 0.0f;
    a.pre = softcap > 0 ? scale / softcap : scale;
    a.c = static_cast<float>(a.bent ? DC_LOG2E : scale * DC_LOG2E);
    return a;
}

/* Each kv head becomes `parts` of them (a divisor of G), with G / parts heads of q each. */
static inline dc_attn_dims dc_attn_split(dc_attn_dims a, int parts)
{
    a.K *= parts, a.G /= parts, a.split = parts;
    return a;
}

/* Wider heads fit no kernel; a file may have them all the same, so it is the device's failure, which sticks. */
static inline int dc_attn_fits(dc_dev *dev, int64_t D, const char *op)
{
    return D <= DC_ATTN_MAX_D || dc_cuda_note(dev, cudaErrorNotSupported, op) == DC_OK;
}

/* ---- rows in memory ---- */

enum { DC_ROWS, DC_ROWS_GROUPED, DC_ROWS_PAGED };

/* Rows of one document and kv head. DC_ROWS: keys, base + r * stride. GROUPED: row r is head r % group of token r / group. PAGED: token r is row
 * r % page of page r / page, `head` elements into it. */
template <typename T> struct dc_rows {
    T *base;
    T *const *pages;
    int64_t stride;
    int group, page, head;
};

template <int KIND, typename T> DC_DEVICE T *dc_row(const dc_rows<T> *x, int r, int width)
{
    if (KIND == DC_ROWS) return x->base + r * x->stride;
    if (KIND == DC_ROWS_GROUPED) return x->base + r / x->group * x->stride + r % x->group * width;
    return x->pages[r / x->page] + r % x->page * x->stride + x->head;
}

/* Rows first .. first + ROWS of x into a tile, by THREADS threads, of which this is number `thread`; zeros for rows from `end` on and for columns
 * behind D. Arrived as dc_cp_async says. */
template <int KIND, int WIDTH, int ROWS, int THREADS, typename T>
DC_DEVICE void dc_load_rows(T *tile, const dc_rows<const T> *x, int first, int end, int D, int vec, int thread)
{
    constexpr int PITCH = dc_mma_pitch<T>(WIDTH), PER = 16 / static_cast<int>(sizeof(T)), PIECES = WIDTH / PER;
    static_assert(ROWS * PIECES % THREADS == 0, "each thread has the same number of pieces");
    if (vec) {
#pragma unroll 4
        for (int i = 0; i < ROWS * PIECES; i += THREADS) {
            const int row = (i + thread) / PIECES, col = (i + thread) % PIECES * PER;
            dc_cp_async<16>(tile + row * PITCH + col, dc_row<KIND>(x, min(first + row, end - 1), D) + min(col, D - PER),
                            first + row < end && col < D);
        }
        return;
    }
    for (int i = thread; i < ROWS * WIDTH; i += THREADS) {
        const int row = i / WIDTH, col = i % WIDTH, inside = first + row < end && col < D;
        tile[row * PITCH + col] = inside ? dc_row<KIND>(x, first + row, D)[col] : dc_from_float<T>(0.0f);
    }
}

/* Rows first .. end of x become 0. */
template <int KIND, int THREADS, typename T>
DC_DEVICE void dc_zero_rows(const dc_rows<T> *x, int first, int end, int width)
{
    for (int i = static_cast<int>(dc_thread()); i < (end - first) * width; i += THREADS)
        dc_row<KIND>(x, first + i / width, width)[i % width] = dc_from_float<T>(0.0f);
}

/* factor * one row of C tiles c (row 8 h + g of the 16) to columns col .. col + 8 N of `row`, which may be NULL: nowhere. Stores of 8 bytes a
 * lane, and a quad's cover 32: lanes of a pair swap halves of two neighbouring tiles for that. The whole warp comes. */
template <int N>
DC_DEVICE void dc_store_row(dc_bf16 *row, const float c[N][4], int h, float factor, int col, int D, int vec)
{
    const int t = static_cast<int>(dc_thread()) % 4, odd = t % 2;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        const unsigned low = dc_pack_bf16(c[n][2 * h] * factor, c[n][2 * h + 1] * factor);
        const unsigned high = dc_pack_bf16(c[n + 1][2 * h] * factor, c[n + 1][2 * h + 1] * factor);
        const unsigned got = __shfl_xor_sync(DC_FULL_WARP, odd ? low : high, 1);
        const uint2 four = make_uint2(odd ? got : low, odd ? high : got);
        const int at = col + (n + odd) * 8 + (t - odd) * 2;
        if (!row) continue;
        if (vec) {
            if (at < D) *reinterpret_cast<uint2 *>(row + at) = four;
            continue;
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const unsigned pair = e < 2 ? four.x : four.y;
            if (at + e < D) row[at + e] = __ushort_as_bfloat16(static_cast<unsigned short>(pair >> e % 2 * 16));
        }
    }
}

template <int N>
DC_DEVICE void dc_store_row(float *row, const float c[N][4], int h, float factor, int col, int D, int vec)
{
    if (!row) return;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int at = col + n * 8 + static_cast<int>(dc_thread()) % 4 * 2;
        const float2 two = make_float2(c[n][2 * h] * factor, c[n][2 * h + 1] * factor);
        if (vec) {
            if (at < D) *reinterpret_cast<float2 *>(row + at) = two;
            continue;
        }
        if (at < D) row[at] = two.x;
        if (at + 1 < D) row[at + 1] = two.y;
    }
}

/* ---- tiles of work ---- */

/* Tile `level` of document `doc`, whose `tokens` begin at token `first`, for kv head `head`. doc B: of the rows behind the last document; -1: there is
 * nothing to do. */
typedef struct dc_attn_tile {
    int doc, level, first, tokens, head;
} dc_attn_tile;

DC_DEVICE int dc_attn_tiles(const int32_t *cu, int b, int G, int size)
{
    return ((cu[b + 1] - cu[b]) * G + size - 1) / size;
}

/* Tiles of all documents with a level of at least `level`. */
DC_DEVICE int dc_attn_tiles_from(const int32_t *cu, int B, int G, int size, int level)
{
    int n = 0;
    for (int b = static_cast<int>(dc_thread()) % DC_WARP; b < B; b += DC_WARP)
        n += max(dc_attn_tiles(cu, b, G, size) - level, 0);
    return static_cast<int>(__reduce_add_sync(DC_FULL_WARP, static_cast<unsigned>(n)));
}

/* Tile number i = blockIdx.x / K for head blockIdx.x % K, by one warp: tiles of `size` rows (G a token) of B documents, the highest level of all
 * first, for it is the longest work; of equal levels the first document. Behind them tiles of the rows up to T that belong to none. */
DC_DEVICE void dc_attn_find(dc_attn_tile *out, const int32_t *cu, int B, int T, int G, int size, int K)
{
    const int i = static_cast<int>(blockIdx.x) / K, head = static_cast<int>(blockIdx.x) % K;
    const int lane = static_cast<int>(dc_thread()) % DC_WARP, end = cu[B],
              total = dc_attn_tiles_from(cu, B, G, size, 0);
    if (i >= total) {
        const int level = i - total, rest = T - end;
        if (lane == 0) *out = dc_attn_tile{level * size < rest * G ? B : -1, level, end, rest, head};
        return;
    }
    int level = 0, above = (end * G + size - 1) / size; /* more than i tiles from level on, none from above on */
    while (above - level > 1) {
        const int middle = (level + above) / 2;
        if (dc_attn_tiles_from(cu, B, G, size, middle) > i) level = middle;
        else above = middle;
    }
    int skip = i - dc_attn_tiles_from(cu, B, G, size, level + 1);
    for (int b = lane;; b += DC_WARP) {
        const int has = b < B && dc_attn_tiles(cu, b, G, size) > level;
        const unsigned those = __ballot_sync(DC_FULL_WARP, has);
        const int before = __popc(those & ((1u << lane) - 1));
        if (has && before == skip) *out = dc_attn_tile{b, level, cu[b], cu[b + 1] - cu[b], head};
        skip -= __popc(those);
        if (skip < 0) return;
    }
}

/* The tile's document and head in a tensor: rows of q and what lies as q does, numbers by row such as lse (NULL stays NULL), keys. */
template <typename T> DC_DEVICE dc_rows<T> dc_attn_rows_q(T *q, const dc_attn_tile *tile, const dc_attn_dims *a)
{
    const int64_t stride = static_cast<int64_t>(a->H) * a->D;
    return dc_rows<T>{q + tile->first * stride + tile->head * a->G * a->D, nullptr, stride, a->G, 0, 0};
}

template <typename T> DC_DEVICE dc_rows<T> dc_attn_rows_stat(T *x, const dc_attn_tile *tile, const dc_attn_dims *a)
{
    T *const base = x ? x + static_cast<int64_t>(tile->first) * a->H + tile->head * a->G : nullptr;
    return dc_rows<T>{base, nullptr, a->H, a->G, 0, 0};
}

template <typename T> DC_DEVICE dc_rows<T> dc_attn_rows_kv(T *k, const dc_attn_tile *tile, const dc_attn_dims *a)
{
    const int64_t stride = static_cast<int64_t>(a->K / a->split) * a->D;
    return dc_rows<T>{k + tile->first * stride + tile->head / a->split * a->D, nullptr, stride, 1, 0, 0};
}

/* The same rows of a tensor that has all K heads, whatever is split. */
template <typename T> DC_DEVICE dc_rows<T> dc_attn_rows_part(T *k, const dc_attn_tile *tile, const dc_attn_dims *a)
{
    const int64_t stride = static_cast<int64_t>(a->K) * a->D;
    return dc_rows<T>{k + tile->first * stride + tile->head * a->D, nullptr, stride, 1, 0, 0};
}

/* What tiles of any documents with T rows number at most: the grid. */
static inline unsigned dc_attn_grid(int64_t T, int64_t B, int64_t G, int size, int64_t heads)
{
    const int64_t n = (T * G / size + B + 1) * heads;
    DC_ASSERT(n <= INT32_MAX);
    return static_cast<unsigned>(n);
}

/* ---- scores ---- */

/* x of the products s. */
template <int M, int N> DC_DEVICE void dc_attn_bend(float s[M][N][4], const dc_attn_dims *a)
{
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) {
        float *x = &s[i / (N * 4)][i / 4 % N][i % 4];
        *x = a->cap > 0.0f ? a->cap * tanhf(a->pre * *x) : a->pre * *x;
    }
}

/* A key that is `key` tokens behind the token of row 0 is seen by the rows from key * G up to, not including, (key + window) * G. */
DC_DEVICE int dc_attn_from(const dc_attn_dims *a, int key) { return key * a->G; }
DC_DEVICE int dc_attn_to(const dc_attn_dims *a, int key) { return (key + a->window) * a->G; }

/* Do rows first .. last see any of keys j .. j + n, and all of them? */
DC_DEVICE int dc_attn_sees(const dc_attn_dims *a, int first, int last, int j, int n)
{
    return dc_attn_from(a, j) <= last && dc_attn_to(a, j + n - 1) > first;
}

DC_DEVICE int dc_attn_sees_all(const dc_attn_dims *a, int first, int last, int j, int n)
{
    return dc_attn_from(a, j + n - 1) <= first && dc_attn_to(a, j) > last;
}

/* x = -inf where rows r .. r + 16 M do not see keys j .. j + 8 N. */
template <int M, int N> DC_DEVICE void dc_attn_mask(float s[M][N][4], int r, int j, const dc_attn_dims *a)
{
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    r += lane / 4, j += lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        const int from = dc_attn_from(a, j + i / 2 * 8 + i % 2), to = dc_attn_to(a, j + i / 2 * 8 + i % 2);
#pragma unroll
        for (int k = 0; k < 2 * M; k++)
            if (r + k * 8 < from || r + k * 8 >= to) s[k / 2][i / 2][k % 2 * 2 + i % 2] = -INFINITY;
    }
}

/* The state of rows between blocks of keys: o = sum 2^(c x - base) v and the lane's own part of the sum of weights, with base = c * max, 0 while
 * no key was seen. */
template <int M, int N> struct dc_attn_state {
    float o[M][N][4], max[M][2], sum[M][2];
};

template <int M, int N> DC_DEVICE void dc_attn_begin(dc_attn_state<M, N> *w)
{
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) w->o[i / (N * 4)][i / 4 % N][i % 4] = 0.0f;
#pragma unroll
    for (int i = 0; i < 2 * M; i++) w->max[i / 2][i % 2] = -INFINITY, w->sum[i / 2][i % 2] = 0.0f;
}

/* Online softmax: x becomes weights, and what was summed under the old maximum is scaled to the new one. */
template <int M, int N, int J> DC_DEVICE void dc_attn_soften(dc_attn_state<M, N> *w, float s[M][J][4], float c)
{
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int m = i / 2, h = i % 2;
        float top = w->max[m][h];
#pragma unroll
        for (int n = 0; n < J; n++) top = fmaxf(top, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(DC_FULL_WARP, top, 1));
        top = fmaxf(top, __shfl_xor_sync(DC_FULL_WARP, top, 2));
        const float base = top == -INFINITY ? 0.0f : top * c, keep = dc_exp2(fmaf(w->max[m][h], c, -base));
        float sum = w->sum[m][h] * keep;
        w->max[m][h] = top;
#pragma unroll
        for (int n = 0; n < J; n++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[m][n][e] = dc_exp2(fmaf(s[m][n][e], c, -base));
                sum += s[m][n][e];
            }
        w->sum[m][h] = sum;
#pragma unroll
        for (int n = 0; n < N; n++) w->o[m][n][2 * h] *= keep, w->o[m][n][2 * h + 1] *= keep;
    }
}

/* The sum of a row's weights, from the four lanes that share it. */
DC_DEVICE float dc_quad_sum(float x)
{
    x += __shfl_xor_sync(DC_FULL_WARP, x, 1);
    return x + __shfl_xor_sync(DC_FULL_WARP, x, 2);
}

/* ---- the forward of one tile ---- */

/* Rows of a block's tile, and bytes of shared memory: the rows of q, and k and v twice over. */
__host__ __device__ constexpr int dc_attend_rows(int M, int PARTS) { return DC_ATTN_WARPS / PARTS * 16 * M; }

template <typename T, int WIDTH, int M, int PARTS, int KEYS> __host__ __device__ constexpr int dc_attend_bytes()
{
    return (dc_attend_rows(M, PARTS) + 4 * KEYS) * dc_mma_pitch<T>(WIDTH) * static_cast<int>(sizeof(T));
}

/* Rows r0 .. of q (`rows` in all, row 0 of token `past`) attend to k and v, by the whole block; the warp's rows are r0 + mine .. r0 + mine + 16 M.
 * Keys go by blocks of KEYS through one of two buffers while the next is on its way into the other. The barrier at the top of a turn says
 * both that a block of keys is there and that nobody uses the one before. */
template <int KIND, int WIDTH, int M, int PARTS, int KEYS, typename T>
DC_DEVICE void dc_attend(dc_attn_state<M, WIDTH / PARTS / 8> *w, T *shared, const dc_rows<const T> *q,
                         const dc_rows<const T> *k, const dc_rows<const T> *v, int r0, int rows, int past,
                         const dc_attn_dims *a)
{
    constexpr int ROWS = dc_attend_rows(M, PARTS), PITCH = dc_mma_pitch<T>(WIDTH), N = WIDTH / PARTS / 8, J = KEYS / 8;
    const int thread = static_cast<int>(dc_thread()), warp = thread / DC_WARP, mine = warp / PARTS * 16 * M;
    T *const qs = shared, *const kv = shared + ROWS * PITCH;
    const int first = past + r0 / a->G, end = past + (min(r0 + ROWS, rows) - 1) / a->G + 1;
    const int begin = max(first - a->window + 1, 0) / KEYS * KEYS;

    dc_load_rows<DC_ROWS_GROUPED, WIDTH, ROWS, DC_ATTN_THREADS>(qs, q, r0, rows, a->D, a->vec, thread);
    dc_load_rows<KIND, WIDTH, KEYS, DC_ATTN_THREADS>(kv, k, begin, end, a->D, a->vec, thread);
    dc_load_rows<KIND, WIDTH, KEYS, DC_ATTN_THREADS>(kv + KEYS * PITCH, v, begin, end, a->D, a->vec, thread);
    dc_attn_begin(w);
    for (int j = begin, stage = 0; j < end; j += KEYS, stage ^= 1) {
        T *const ks = kv + stage * 2 * KEYS * PITCH;
        dc_cp_async_wait();
        __syncthreads();
        if (j + KEYS < end) {
            T *const next = kv + (stage ^ 1) * 2 * KEYS * PITCH;
            dc_load_rows<KIND, WIDTH, KEYS, DC_ATTN_THREADS>(next, k, j + KEYS, end, a->D, a->vec, thread);
            dc_load_rows<KIND, WIDTH, KEYS, DC_ATTN_THREADS>(next + KEYS * PITCH, v, j + KEYS, end, a->D, a->vec,
                                                             thread);
        }
        const int r = r0 + mine, last = min(r + 16 * M, rows) - 1;
        if (!dc_attn_sees(a, r, last, j - past, KEYS)) continue;
        float s[M][J][4] = {};
        dc_mma_abt<M, J, WIDTH>(s, qs + mine * PITCH, ks);
        if (a->bent) dc_attn_bend<M, J>(s, a);
        if (!dc_attn_sees_all(a, r, last, j - past, KEYS)) dc_attn_mask<M, J>(s, r, j - past, a);
        dc_attn_soften<M, N, J>(w, s, a->c);
        dc_mma_pb<M, J, N, PITCH>(w->o, s, ks + KEYS * PITCH + warp % PARTS * (WIDTH / PARTS));
    }
}

/* What dc_attend has left to o and, unless its base is NULL, lse. */
template <int WIDTH, int M, int PARTS, typename T>
DC_DEVICE void dc_attend_store(const dc_rows<T> *o, const dc_rows<float> *lse,
                               const dc_attn_state<M, WIDTH / PARTS / 8> *w, int r0, int rows, const dc_attn_dims *a)
{
    const int thread = static_cast<int>(dc_thread()), warp = thread / DC_WARP, col = warp % PARTS * (WIDTH / PARTS);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int m = i / 2, h = i % 2, r = r0 + warp / PARTS * 16 * M + i * 8 + thread % DC_WARP / 4, there = r < rows;
        const float sum = dc_quad_sum(w->sum[m][h]);
        dc_store_row<WIDTH / PARTS / 8>(there ? dc_row<DC_ROWS_GROUPED>(o, r, a->D) : nullptr, w->o[m], h, 1.0f / sum,
                                        col, a->D, a->vec);
        if (there && lse->base && col == 0 && thread % 4 == 0)
            *dc_row<DC_ROWS_GROUPED>(lse, r, 1) = fmaf(w->max[m][h], a->c, log2f(sum)) * static_cast<float>(DC_LN2);
    }
}

#endif
