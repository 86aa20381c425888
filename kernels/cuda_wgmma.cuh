/* kernels/cuda_wgmma.cuh -- products of small matrices by a warpgroup, four warps: Hopper's wgmma, which reads shared memory by itself.
 *
 * A tile has rows of WIDTH bf16, a multiple of 64, as the instruction wants them with its swizzle of 128 bytes: columns 64 p .. 64 p + 64 of
 * all rows form a panel, whose rows follow one another; piece c of row r (16 bytes) lies where piece c ^ (r % 8) would. A tile begins at
 * a multiple of 1,024 bytes and has a multiple of 64 rows. The same tile is read by rows (its width summed over) or, when it is the right
 * factor, by columns (its rows summed over). Reference: PTX ISA, asynchronous warpgroup level matrix instructions.
 *
 * Warp w of the group holds rows 16 w .. 16 w + 16 of a result [64, 8 N], laid out as C in cuda_mma.cuh: float c[N][4]. Products are issued
 * between dc_group_begin and dc_group_end and are there behind the latter. All 128 threads come to each call.
 *
 * Only code for sm_90a has the instructions. The plain bodies, of a warp's own products, are for the emulation: kernels of warpgroups return at
 * once where DC_HAS_GROUPS is 0, and dc_cuda_state says whether the code that runs has them. */
#ifndef DC_KERNELS_CUDA_WGMMA_CUH
#define DC_KERNELS_CUDA_WGMMA_CUH

#include "kernels/cuda_mma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define DC_WGMMA      1
#define DC_HAS_GROUPS 1
#elif defined(DC_CUDA_EMULATED)
#define DC_WGMMA      0
#define DC_HAS_GROUPS 1
#else
#define DC_WGMMA      0
#define DC_HAS_GROUPS 0
#endif

enum { DC_GROUP = 128, DC_GROUP_ROWS = 64 };

/* Where the eight elements of a piece lie in a tile of ROWS rows. */
template <int ROWS, typename T> DC_DEVICE T *dc_tile_piece(T *tile, int row, int piece)
{
    return tile + (piece / 8 * ROWS + row) * 64 + (piece ^ row) % 8 * 8;
}

#if DC_WGMMA

/* What threads wrote or copied to shared memory is seen by products behind the next barrier. */
DC_DEVICE void dc_group_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

DC_DEVICE void dc_group_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

template <int N> DC_DEVICE void dc_group_keep(float c[N][4])
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++) asm volatile("" : "+f"(c[i / 4][i % 4])::"memory");
}

template <int N> DC_DEVICE void dc_group_end(float a[N][4])
{
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
    dc_group_keep<N>(a);
}

/* The descriptor of what begins at p: swizzle of 128 bytes, 1,024 bytes from eight rows to the next. */
DC_DEVICE uint64_t dc_group_matrix(const dc_bf16 *p)
{
    return static_cast<uint64_t>((dc_shared_address(p) & 0x3ffffu) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define DC_WGMMA_OUT \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31}"
#define DC_WGMMA_FOUR(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])
#define DC_WGMMA_SUMS(c) \
    DC_WGMMA_FOUR((c)[0]), DC_WGMMA_FOUR((c)[1]), DC_WGMMA_FOUR((c)[2]), DC_WGMMA_FOUR((c)[3]), DC_WGMMA_FOUR((c)[4]), \
        DC_WGMMA_FOUR((c)[5]), DC_WGMMA_FOUR((c)[6]), DC_WGMMA_FOUR((c)[7])

/* c (+)= A B^T over 16 columns of both, c [64, 64]. */
template <int ADD> DC_DEVICE void dc_wgmma_tiles(float c[8][4], uint64_t a, uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DC_WGMMA_OUT ", %32, %33, %34, 1, 1, 0, 0;"
                 : DC_WGMMA_SUMS(c)
                 : "l"(a), "l"(b), "n"(ADD));
}

/* c += P B over 16 rows of B, P in registers. */
DC_DEVICE void dc_wgmma_registers(float c[8][4], const unsigned p[4], uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " DC_WGMMA_OUT
                 ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : DC_WGMMA_SUMS(c)
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(b));
}

#else

DC_DEVICE void dc_group_publish() {}
DC_DEVICE void dc_group_begin() {}
template <int N> DC_DEVICE void dc_group_keep(float[N][4]) {}
template <int N> DC_DEVICE void dc_group_end(float[N][4]) {}

#endif

template <int N> DC_DEVICE void dc_group_end(float a[N][4], float b[N][4])
{
    dc_group_end<N>(a);
    dc_group_keep<N>(b);
}

/* c = A B^T: A is rows `row` .. row + 64 of a tile (row a multiple of 64), B all 8 N rows of another. */
template <int N, int WIDTH, int A_ROWS>
DC_DEVICE void dc_group_abt(float c[N][4], const dc_bf16 *a, int row, const dc_bf16 *b)
{
    static_assert(N % 8 == 0 && WIDTH % 64 == 0 && A_ROWS % 64 == 0, "whole instructions");
    constexpr int B_ROWS = 8 * N;
#if DC_WGMMA
#pragma unroll
    for (int n = 0; n < N; n += 8)
#pragma unroll
        for (int k = 0; k < WIDTH; k += 16) {
            const uint64_t left = dc_group_matrix(a + (k / 64 * A_ROWS + row) * 64 + k % 64),
                           right = dc_group_matrix(b + (k / 64 * B_ROWS + n * 8) * 64 + k % 64);
            if (k == 0) dc_wgmma_tiles<0>(c + n, left, right);
            else dc_wgmma_tiles<1>(c + n, left, right);
        }
#else
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    row += static_cast<int>(dc_thread()) / DC_WARP % 4 * 16;
#pragma unroll
    for (int i = 0; i < 4 * N; i++) c[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int k = 0; k < WIDTH; k += 16) {
        unsigned as[4];
        dc_ldmatrix(as, dc_tile_piece<A_ROWS>(a, row + lane % 16, k / 8 + lane / 16));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned bs[4];
            dc_ldmatrix(bs, dc_tile_piece<B_ROWS>(b, n * 8 + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
            dc_mma(c[n], as, bs), dc_mma(c[n + 1], as, bs + 2);
        }
    }
#endif
}

/* P [64, 8 J], laid out as C, rounded to be a left factor. */
template <int J> DC_DEVICE void dc_group_pack(unsigned f[J / 2][4], const float p[J][4])
{
#pragma unroll
    for (int j = 0; j < J; j += 2)
#pragma unroll
        for (int i = 0; i < 4; i++) f[j / 2][i] = dc_pack_bf16(p[j + i / 2][i % 2 * 2], p[j + i / 2][i % 2 * 2 + 1]);
}

/* c += P B: P packed, B a tile of 8 J rows of 8 N columns. */
template <int J, int N> DC_DEVICE void dc_group_pb(float c[N][4], const unsigned p[J / 2][4], const dc_bf16 *b)
{
    static_assert(J % 8 == 0 && N % 8 == 0, "whole instructions");
    constexpr int ROWS = 8 * J;
#if DC_WGMMA
#pragma unroll
    for (int j = 0; j < J; j += 2)
#pragma unroll
        for (int n = 0; n < N; n += 8)
            dc_wgmma_registers(c + n, p[j / 2], dc_group_matrix(b + (n / 8 * ROWS + j * 8) * 64));
#else
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
#pragma unroll
    for (int j = 0; j < J; j += 2)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned bs[4];
            dc_ldmatrix_trans(bs, dc_tile_piece<ROWS>(b, j * 8 + lane % 16, n + lane / 16));
            dc_mma(c[n], p[j / 2], bs), dc_mma(c[n + 1], p[j / 2], bs + 2);
        }
#endif
}

#endif
