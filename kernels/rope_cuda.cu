/* kernels/rope_cuda.cu -- rotary embedding. A block takes as many tokens as have 256 pairs between them: its threads form one sine and
 * cosine each, into shared memory, and then rotate all heads of these tokens, eight pairs a thread. Bound by memory: an element is
 * read and written once (4 bytes of bf16). Of double arithmetic there are eight operations a pair and token, whatever the heads: a card
 * whose doubles run at 1/64 of its floats is not slowed. */
#include "kernels/cuda_dev.h"
#include "kernels/cuda_vec.cuh"

enum { PAIRS = DC_VEC_THREADS }; /* of a block */

/* cos and sin of an angle: a = q pi/2 + r with |r| <= pi/4 in double, pi/2 in two parts (good for angles to 2^40), then polynomials of the
 * float r, fitted on [-pi/4, pi/4] with errors of 2e-9 and 1e-10, below a rounding. sincos() of a double would need local memory. */
DC_DEVICE float2 turn(double a)
{
    const double q = rint(a * 0x1.45f306dc9c883p-1);
    const float r = static_cast<float>(fma(-q, 0x1.1a62633145c07p-54, fma(-q, 0x1.921fb54442d18p+0, a)));
    const int quadrant = static_cast<int>(static_cast<long long>(q) & 3);
    const float z = r * r;
    const float s = fmaf(fmaf(fmaf(-0x1.98d6b8p-13f, z, 0x1.1105a8p-7f), z, -0x1.555540p-3f) * z, r, r);
    const float c = fmaf(fmaf(fmaf(fmaf(0x1.99ff40p-16f, z, -0x1.6c0c82p-10f), z, 0x1.55554ap-5f), z, -0.5f), z, 1.0f);
    const float2 at = quadrant & 1 ? make_float2(-s, c) : make_float2(c, s);
    return quadrant & 2 ? make_float2(-at.x, -at.y) : at;
}

/* Pairs (u[i], v[i]), i < n, of which the first is at `row`: v is `apart` elements behind u, or beside it when `interleaved`. */
template <typename T>
DC_DEVICE void load_pairs(float u[8], float v[8], const T *row, int64_t apart, int64_t n, int interleaved)
{
    if (!interleaved) {
        dc_load_some(u, row, n);
        dc_load_some(v, row + apart, n);
        return;
    }
    float both[16];
    dc_load_some(both, row, 2 * n);
    dc_load_some(both + 8, row + 8, 2 * n - 8);
#pragma unroll
    for (int i = 0; i < 8; i++) u[i] = both[2 * i], v[i] = both[2 * i + 1];
}

template <typename T>
DC_DEVICE void store_pairs(T *row, const float u[8], const float v[8], int64_t apart, int64_t n, int interleaved)
{
    if (!interleaved) {
        dc_store_some(row, u, n);
        dc_store_some(row + apart, v, n);
        return;
    }
    float both[16];
#pragma unroll
    for (int i = 0; i < 8; i++) both[2 * i] = u[i], both[2 * i + 1] = v[i];
    dc_store_some(row, both, 2 * n);
    dc_store_some(row + 8, both + 8, 2 * n - 8);
}

typedef struct rope_args {
    const int32_t *pos;
    const float *inv_freq;
    int64_t T, H, D, half;
    int tokens, interleaved, sign;
    float mscale;
} rope_args;

/* Grid: groups of a.tokens tokens, and slices of PAIRS pairs. */
template <typename T> static DC_KERNEL(DC_VEC_THREADS) rotate(T *x, rope_args a)
{
    DC_SHARED(float2, turns, [PAIRS]); /* [tokens, pairs] */
    const int64_t t0 = static_cast<int64_t>(blockIdx.x) * a.tokens, first = static_cast<int64_t>(blockIdx.y) * PAIRS;
    const unsigned tokens = static_cast<unsigned>(min(static_cast<int64_t>(a.tokens), a.T - t0));
    const unsigned pairs = static_cast<unsigned>(min(static_cast<int64_t>(PAIRS), a.half - first));
    const unsigned chunks = (pairs + 7) / 8, heads = static_cast<unsigned>(a.H);
    if (threadIdx.x < tokens * pairs) {
        const double at = static_cast<double>(a.pos[t0 + threadIdx.x / pairs]) * a.sign;
        turns[threadIdx.x] = turn(at * static_cast<double>(a.inv_freq[first + threadIdx.x % pairs]));
    }
    __syncthreads();
    for (unsigned unit = threadIdx.x; unit < tokens * heads * chunks; unit += DC_VEC_THREADS) {
        const unsigned i = unit % chunks * 8, row = unit / chunks, token = row / heads;
        const float2 *const by = turns + token * pairs + i;
        const int64_t n = pairs - i, step = a.interleaved ? 2 : 1;
        T *const at = x + (t0 * a.H + row) * a.D + (first + i) * step;
        float u[8], v[8];
        load_pairs(u, v, at, a.half, n, a.interleaved);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            const float2 by_k = k < n ? by[k] : make_float2(1.0f, 0.0f);
            const float was = u[k];
            u[k] = (was * by_k.x - v[k] * by_k.y) * a.mscale;
            v[k] = (was * by_k.y + v[k] * by_k.x) * a.mscale;
        }
        store_pairs(at, u, v, a.half, n, a.interleaved);
    }
}

template <typename T> static void launch_rotate(dc_dev *dev, void *x, const rope_args &a)
{
    const dim3 grid(static_cast<unsigned>(dc_ceil_div(a.T, a.tokens)),
                    static_cast<unsigned>(dc_ceil_div(a.half, PAIRS)));
    DC_LAUNCH(rotate<T>, grid, DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(x), a);
    dc_cuda_launched(dev, "rope");
}

static void rope_cuda(dc_dev *dev, dc_view x, const int32_t *pos, const float *inv_freq, int64_t T, int64_t H,
                      int64_t D, int64_t n_rot, int interleaved, float mscale, int sign)
{
    const int64_t pairs = n_rot / 2;
    const int tokens = pairs < PAIRS ? static_cast<int>(PAIRS / pairs) : 1;
    const rope_args a = {pos, inv_freq, T, H, D, pairs, tokens, interleaved, sign, mscale};
    DC_BY_ACTIVATION(x.type, launch_rotate, dev, x.data, a);
}

void dc_rope_overlay_cuda(dc_ops *ops) { ops->rope = rope_cuda; }
