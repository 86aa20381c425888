/* kernels/cuda_mma.cuh -- products of small matrices by a warp: tensor-core instructions for bf16, the same in plain FMAs for float, and the
 * asynchronous copies that feed them.
 *
 * A tile lies in shared memory by rows, `pitch` elements apart; dc_mma_pitch pads a row by 16 bytes, so that the eight rows which an
 * ldmatrix reads at once, and the eight that a float path reads, lie in different banks. Products go by steps of 16 x 8 x 16 elements
 * (mma.m16n8k16 of the PTX ISA), in which lane = 4 g + t of the warp holds
 *     C and D [16, 8], float c[4]:      c[2h + e] = C[g + 8h, 2t + e]
 *     A [16, 16], bf16 pairs a[4]:      a[h + 2j] = A[g + 8h, 8j + 2t], A[g + 8h, 8j + 2t + 1]
 *     B [16, 8], bf16 pairs b[2]:       b[j]      = B[8j + 2t, g], B[8j + 2t + 1, g]
 * (h, j, e in {0, 1}; the first of a pair in the low half). A pair of neighbouring C tiles, rounded, is an A: so a product goes into the
 * next one without leaving the registers. Float products keep C in the same layout, and whoever works on C need not know the type.
 *
 * The instructions have no counterpart on the host: under DC_CUDA_EMULATED each has a plain body that moves the same elements. It adds in the
 * order of k, in float; a tensor core keeps a few bits less. All functions take the whole warp. */
#ifndef DC_KERNELS_CUDA_MMA_CUH
#define DC_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda.cuh"

/* ---- instructions ---- */

#ifdef DC_CUDA_EMULATED

typedef struct dc_emu_mma {
    float *c;
    const unsigned *a, *b;
} dc_emu_mma;

static inline float dc_emu_half_of(unsigned pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

static void dc_emu_mma_complete(void *const *posts, unsigned)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < DC_WARP; lane++) {
        const dc_emu_mma *p = static_cast<const dc_emu_mma *>(posts[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int e = 0; e < 2; e++) {
            for (int i = 0; i < 4; i++) a[g + i % 2 * 8][i / 2 * 8 + 2 * t + e] = dc_emu_half_of(p->a[i], e);
            for (int j = 0; j < 2; j++) b[8 * j + 2 * t + e][g] = dc_emu_half_of(p->b[j], e);
        }
    }
    for (int lane = 0; lane < DC_WARP; lane++) {
        float *c = static_cast<const dc_emu_mma *>(posts[lane])->c;
        const int g = lane / 4, t = lane % 4;
        for (int k = 0; k < 16; k++)
            for (int i = 0; i < 4; i++) c[i] += a[g + i / 2 * 8][k] * b[k][2 * t + i % 2];
    }
}

/* c += A B */
static inline void dc_mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    dc_emu_mma post = {c, a, b};
    dc_emu_warp("mma", DC_FULL_WARP, &post, dc_emu_mma_complete, __FILE__, __LINE__);
}

typedef struct dc_emu_matrices {
    const dc_bf16 *row;
    unsigned *r;
    int trans;
} dc_emu_matrices;

static void dc_emu_ldmatrix_complete(void *const *posts, unsigned)
{
    for (int lane = 0; lane < DC_WARP; lane++) {
        const dc_emu_matrices *to = static_cast<const dc_emu_matrices *>(posts[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int m = 0; m < 4; m++) {
            unsigned pair[2];
            for (int e = 0; e < 2; e++) {
                const int row = to->trans ? 2 * t + e : g, col = to->trans ? g : 2 * t + e;
                const dc_bf16 *from = static_cast<const dc_emu_matrices *>(posts[8 * m + row])->row;
                pair[e] = __bfloat16_as_ushort(from[col]);
            }
            to->r[m] = pair[0] | pair[1] << 16;
        }
    }
}

static inline void dc_emu_ldmatrix(unsigned r[4], const dc_bf16 *row, int trans)
{
    if (reinterpret_cast<uintptr_t>(row) % 16) __trap();
    dc_emu_matrices post = {row, r, trans};
    dc_emu_warp("ldmatrix", DC_FULL_WARP, &post, dc_emu_ldmatrix_complete, __FILE__, __LINE__);
}

/* Four 8 x 8 matrices of shared memory: lane 8 m + i gives where row i of matrix m is (16-byte aligned); lane 4 g + t gets r[m] = elements
 * (g, 2t), (g, 2t + 1) of matrix m, or with _trans (2t, g), (2t + 1, g). */
static inline void dc_ldmatrix(unsigned r[4], const dc_bf16 *row) { dc_emu_ldmatrix(r, row, 0); }
static inline void dc_ldmatrix_trans(unsigned r[4], const dc_bf16 *row) { dc_emu_ldmatrix(r, row, 1); }

/* Copies 16 (or 8) bytes to shared memory, or zeros when not `valid`; both addresses are aligned to the size. They have arrived for the
 * thread behind its next dc_cp_async_wait, for others behind a barrier after that. */
template <int BYTES> static inline void dc_cp_async(void *shared, const void *global, int valid)
{
    dc_emu_cp_async(shared, global, BYTES, valid ? BYTES : 0, __FILE__, __LINE__);
}

static inline void dc_cp_async_wait()
{
    dc_emu_cp_async_commit();
    dc_emu_cp_async_wait(0);
}

static inline float dc_exp2(float x) { return exp2f(x); } /* 2^x, to 2 ulp; results below 2^-126 are 0 */

#else

DC_DEVICE unsigned dc_shared_address(const void *p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

DC_DEVICE void dc_mma(float c[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DC_DEVICE void dc_ldmatrix(unsigned r[4], const dc_bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(dc_shared_address(row))
                 : "memory");
}

DC_DEVICE void dc_ldmatrix_trans(unsigned r[4], const dc_bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(dc_shared_address(row))
                 : "memory");
}

template <int BYTES> DC_DEVICE void dc_cp_async(void *shared, const void *global, int valid)
{
    const int bytes = valid ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dc_shared_address(shared)),
                     "l"(__cvta_generic_to_global(global)), "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(dc_shared_address(shared)),
                     "l"(__cvta_generic_to_global(global)), "r"(bytes)
                     : "memory");
}

DC_DEVICE void dc_cp_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

DC_DEVICE float dc_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

/* ---- tiles ---- */

/* Elements from row to row of a tile whose rows have `width`. */
template <typename T> __host__ __device__ constexpr int dc_mma_pitch(int width)
{
    return width + 16 / static_cast<int>(sizeof(T));
}

/* c[m][n] += A B^T: A has 16 M rows, B 8 N rows (N even) of WIDTH elements (a multiple of 16), both in shared memory. A row of B is read once
 * for all M. */
template <int M, int N, int WIDTH> DC_DEVICE void dc_mma_abt(float c[M][N][4], const dc_bf16 *a, const dc_bf16 *b)
{
    static_assert(N % 2 == 0 && WIDTH % 16 == 0, "whole steps");
    constexpr int PITCH = dc_mma_pitch<dc_bf16>(WIDTH);
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    a += lane % 16 * PITCH + lane / 16 * 8;
    b += (lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < WIDTH; k += 16) {
        unsigned as[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) dc_ldmatrix(as[m], a + m * 16 * PITCH + k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned bs[4];
            dc_ldmatrix(bs, b + n * 8 * PITCH + k);
#pragma unroll
            for (int m = 0; m < M; m++) dc_mma(c[m][n], as[m], bs), dc_mma(c[m][n + 1], as[m], bs + 2);
        }
    }
}

template <int M, int N, int WIDTH> DC_DEVICE void dc_mma_abt(float c[M][N][4], const float *a, const float *b)
{
    constexpr int PITCH = dc_mma_pitch<float>(WIDTH);
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    a += lane / 4 * PITCH;
    b += lane % 4 * 2 * PITCH;
#pragma unroll 2
    for (int k = 0; k < WIDTH; k += 4) {
        float4 as[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) as[i / 2][i % 2] = *reinterpret_cast<const float4 *>(a + i * 8 * PITCH + k);
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const float4 bs = *reinterpret_cast<const float4 *>(b + (i / 2 * 8 + i % 2) * PITCH + k);
#pragma unroll
            for (int j = 0; j < 2 * M; j++) {
                const float4 x = as[j / 2][j % 2];
                float *sum = &c[j / 2][i / 2][j % 2 * 2 + i % 2];
                *sum = fmaf(x.w, bs.w, fmaf(x.z, bs.z, fmaf(x.y, bs.y, fmaf(x.x, bs.x, *sum))));
            }
        }
    }
}

/* c[m][n] += P B: P [16 M, 8 J] (J even) in registers, laid out as C; B has 8 J rows in shared memory, PITCH apart, of which 8 N columns (N
 * even) from b on are used. */
template <int M, int J, int N, int PITCH>
DC_DEVICE void dc_mma_pb(float c[M][N][4], const float p[M][J][4], const dc_bf16 *b)
{
    static_assert(J % 2 == 0 && N % 2 == 0, "whole steps");
    const int lane = static_cast<int>(dc_thread()) % DC_WARP;
    b += lane % 16 * PITCH + lane / 16 * 8;
#pragma unroll
    for (int j = 0; j < J; j += 2) {
        unsigned as[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                as[m][i] = dc_pack_bf16(p[m][j + i / 2][i % 2 * 2], p[m][j + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned bs[4];
            dc_ldmatrix_trans(bs, b + j * 8 * PITCH + n * 8);
#pragma unroll
            for (int m = 0; m < M; m++) dc_mma(c[m][n], as[m], bs), dc_mma(c[m][n + 1], as[m], bs + 2);
        }
    }
}

template <int M, int J, int N, int PITCH>
DC_DEVICE void dc_mma_pb(float c[M][N][4], const float p[M][J][4], const float *b)
{
    const int lane = static_cast<int>(dc_thread()) % DC_WARP, quad = lane / 4 * 4;
    b += lane % 4 * 2;
#pragma unroll
    for (int k = 0; k < 8 * J; k++) {
        float x[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++)
            x[i / 2][i % 2] = __shfl_sync(DC_FULL_WARP, p[i / 2][k / 8][i % 2 * 2 + k % 2], quad + k % 8 / 2);
#pragma unroll
        for (int n = 0; n < N; n++) {
            const float2 bs = *reinterpret_cast<const float2 *>(b + k * PITCH + n * 8);
#pragma unroll
            for (int i = 0; i < 2 * M; i++) {
                float *sum = &c[i / 2][n][i % 2 * 2];
                sum[0] = fmaf(x[i / 2][i % 2], bs.x, sum[0]);
                sum[1] = fmaf(x[i / 2][i % 2], bs.y, sum[1]);
            }
        }
    }
}

#endif
