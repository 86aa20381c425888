/* kernels/attn_bwd_cuda.cuh -- what both backwards of attention, by warps and by warpgroups, make of a score; private to attn_*_cuda.cu. */
#ifndef DC_KERNELS_ATTN_BWD_CUDA_CUH
#define DC_KERNELS_ATTN_BWD_CUDA_CUH

#include "kernels/attn_cuda.cuh"

/* lse in powers of 2, and delta = sum(do * o), of a row. */
typedef float2 dc_attn_stat;

/* Of products s and dp - delta: x and (dp - delta) dx/ds, but for the factor scale. */
template <int M, int N> DC_DEVICE void dc_attn_bend_both(float s[M][N][4], float dp[M][N][4], const dc_attn_dims *a)
{
    const float per_cap = 1.0f / a->cap;
    dc_attn_bend<M, N>(s, a);
    if (!(a->cap > 0.0f)) return;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) dp[m][n][e] *= 1.0f - s[m][n][e] * per_cap * (s[m][n][e] * per_cap);
}

/* ds of the products s and dp of rows r .. r + 16 M, whose numbers are `of`, and keys from j on. Left in dp, but for the factor scale. */
template <int M, int J>
DC_DEVICE void dc_attn_weigh_rows(float s[M][J][4], float dp[M][J][4], const dc_attn_stat of[M][2], int r, int last,
                                  int j, const dc_attn_dims *a)
{
#pragma unroll
    for (int i = 0; i < M * J * 4; i++) dp[i / (J * 4)][i / 4 % J][i % 4] -= of[i / (J * 4)][i / 2 % 2].y;
    if (a->bent) dc_attn_bend_both<M, J>(s, dp, a);
    if (!dc_attn_sees_all(a, r, last, j, 8 * J)) dc_attn_mask<M, J>(s, r, j, a);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < J; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) dp[m][n][e] *= dc_exp2(fmaf(s[m][n][e], a->c, -of[m][e / 2].x));
}

/* x = -inf where rows r .. r + 8 J do not see keys `key` .. key + 16 M, in the transposed products. */
template <int M, int J> DC_DEVICE void dc_attn_mask_keys(float p[M][J][4], int r, int key, const dc_attn_dims *a)
{
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    r += lane % 4 * 2, key += lane / 4;
#pragma unroll
    for (int k = 0; k < 2 * M; k++) {
        const int from = dc_attn_from(a, key + k * 8) - r, to = dc_attn_to(a, key + k * 8) - r;
#pragma unroll
        for (int i = 0; i < 2 * J; i++) {
            const int row = i / 2 * 8 + i % 2;
            if (row < from || row >= to) p[k / 2][i / 2][k % 2 * 2 + i % 2] = -INFINITY;
        }
    }
}

/* Weights and ds, for the rows that passed, from the transposed products: p[key][row] and dp[key][row]. A row that is none has zeros
 * everywhere: its weights are 1, and count for nothing. */
template <int M, int J>
DC_DEVICE void dc_attn_weigh_keys(float p[M][J][4], float dp[M][J][4], const dc_attn_stat *stats, int r, int last,
                                  int key, const dc_attn_dims *a)
{
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    if (a->bent) {
#pragma unroll
        for (int i = 0; i < M * J * 4; i++)
            dp[i / (J * 4)][i / 4 % J][i % 4] -= stats[i / 4 % J * 8 + lane % 4 * 2 + i % 2].y;
        dc_attn_bend_both<M, J>(p, dp, a);
    }
    if (!dc_attn_sees_all(a, r, last, key, 16 * M)) dc_attn_mask_keys<M, J>(p, r, key, a);
#pragma unroll
    for (int i = 0; i < 2 * J; i++) {
        dc_in_order(); /* or the numbers of all rows are loaded first, into registers that are not there */
        const dc_attn_stat of = stats[i / 2 * 8 + lane % 4 * 2 + i % 2];
        const float delta = a->bent ? 0.0f : of.y;
#pragma unroll
        for (int k = 0; k < 2 * M; k++) {
            float *const x = &p[k / 2][i / 2][k % 2 * 2 + i % 2], *const d = &dp[k / 2][i / 2][k % 2 * 2 + i % 2];
            *x = dc_exp2(fmaf(*x, a->c, -of.x));
            *d = (*d - delta) * *x;
        }
    }
}

/* What the kernels of a backward work on, all of it on the device. dk and dv are of the heads of `dims`: parts that are still to be summed when
 * those are split. */
template <typename T> struct dc_attn_grads {
    T *dq, *dk, *dv;
    const T *q, *k, *v, *d_o;
    const dc_attn_stat *stats;
};

/* By warpgroups (attn_group_cuda.cu), for what dc_attn_takes_groups. */
void dc_attn_dq_groups(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a);
void dc_attn_dkv_groups(dc_dev *dev, const dc_attn_grads<dc_bf16> *x, const dc_attn *a, int split);

#endif
