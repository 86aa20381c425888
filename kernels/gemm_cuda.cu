/* kernels/gemm_cuda.cu -- the product of a CUDA device: cuBLASLt on operands of the device's own type, the others unpacked by panels.
 *
 * Operands are bf16 with sums in fp32, or fp32 when the device's activations are (CUBLAS_COMPUTE_32F: no TF32). An operand of another
 * type is converted into scratch, as much of it at a time as fits: parts of M for A, of N for B, never of K, so that a sum is not
 * rounded to bf16 half way. Unpacking writes 2 bytes an element and reads the stored ones (0.56 of Q4_K); the product then reads the
 * panel from cache or memory.
 *
 * cuBLASLt thinks in columns: our row-major C [M, N] is its column-major D [N, M] = op(B)' op(A)', so its first operand is our B. What
 * depends on the shape alone, descriptors and algorithm, is kept by shape; when it has no algorithm (alignments, say), a plain kernel
 * does the product. */
#include "kernels/dev_cuda.h"

#include <string.h>

#include "core/arena.h"
#include "kernels/quant_cuda.cuh"

enum { THREADS = 256, TILE = 16, SLOTS = 512, PROBES = 8 };

/* ---- unpacking ---- */

/* Rows and columns of a stored matrix and where they go; distances in bytes (from) and elements (to). */
typedef struct window {
    const void *from;
    int64_t stride, column; /* bytes between stored rows; the first column */
    void *to;
    int64_t ld;
    int rows, columns;
    int64_t aligned; /* plain types: groups of eight are aligned to 16 bytes */
} window;

template <typename S> DC_DEVICE void read_group(float v[8], const S *row, int64_t i, int, int64_t)
{
    dc_read8(v, row, i);
}

#define READ_PLAIN(type, element) \
    DC_DEVICE void read_group(float v[8], const element *row, int64_t i, int n, int64_t aligned) \
    { \
        if (n == 8 && aligned) { \
            dc_load8(v, row + i); \
        } else { \
            _Pragma("unroll") for (int k = 0; k < 8; k++) v[k] = k < n ? dc_to_float(row[i + k]) : 0.0f; \
        } \
    }
DC_CUDA_PLAIN(READ_PLAIN)
#undef READ_PLAIN

/* A thread takes eight columns: neighbours write neighbouring 16 bytes. The panel's rows are whole groups, the last filled with zeros. */
template <typename S, typename T> DC_KERNEL(THREADS) unpack(window w)
{
    const unsigned groups = (static_cast<unsigned>(w.columns) + 7) / 8;
    const unsigned i = blockIdx.x * THREADS + threadIdx.x, r = i / groups, c = i % groups * 8;
    if (r >= static_cast<unsigned>(w.rows)) return;
    const char *row = static_cast<const char *>(w.from) + r * w.stride;
    const int left = w.columns - static_cast<int>(c);
    float v[8];
    read_group(v, reinterpret_cast<const S *>(row), w.column + c, left < 8 ? left : 8, w.aligned);
    dc_store8(static_cast<T *>(w.to) + r * w.ld + c, v);
}

template <typename T> static void launch_unpack(cudaStream_t stream, dc_dtype type, const window *w)
{
    const int64_t groups = static_cast<int64_t>(w->rows) * ((w->columns + 7) / 8);
    const unsigned blocks = static_cast<unsigned>((groups + THREADS - 1) / THREADS);
    switch (static_cast<int>(type)) {
#define UNPACK(type_, S) \
    case type_: DC_LAUNCH((unpack<S, T>), blocks, THREADS, 0, stream, *w); break;
        DC_CUDA_PLAIN(UNPACK)
        DC_CUDA_BLOCKS(UNPACK)
#undef UNPACK
    default: DC_ASSERT(!"a type that cannot be read");
    }
}

/* ---- the product that never says no ---- */

/* C in tiles of TILE x TILE, a thread an element; sums over k in order. */
template <typename T, typename U> DC_KERNEL(TILE *TILE) plain_product(dc_gemm g)
{
    DC_SHARED(float, a, [TILE][TILE + 1]);
    DC_SHARED(float, b, [TILE][TILE + 1]);
    const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
    const int64_t n = static_cast<int64_t>(blockIdx.x) * TILE + x;
    const T *A = static_cast<const T *>(g.a.data), *B = static_cast<const T *>(g.b.data);
    for (int64_t m0 = static_cast<int64_t>(blockIdx.y) * TILE; m0 < g.M; m0 += static_cast<int64_t>(gridDim.y) * TILE) {
        const int64_t m = m0 + y;
        float sum = 0;
        for (int64_t k0 = 0; k0 < g.K; k0 += TILE) {
            const int64_t ka = k0 + x, kb = k0 + y;
            a[y][x] = m < g.M && ka < g.K ? dc_to_float(A[g.trans_a ? ka * g.lda + m : m * g.lda + ka]) : 0.0f;
            b[y][x] = n < g.N && kb < g.K ? dc_to_float(B[g.trans_b ? n * g.ldb + kb : kb * g.ldb + n]) : 0.0f;
            __syncthreads();
#pragma unroll
            for (int k = 0; k < TILE; k++) sum += a[y][k] * b[k][x];
            __syncthreads();
        }
        if (m >= g.M || n >= g.N) continue;
        U *c = static_cast<U *>(g.c.data) + m * g.ldc + n;
        *c = dc_from_float<U>(g.alpha * sum + (g.accumulate ? dc_to_float(*c) : 0.0f) + (g.bias ? g.bias[n] : 0.0f));
    }
}

static void launch_plain(dc_dev *dev, const dc_gemm *g)
{
    const int64_t down = (g->M + TILE - 1) / TILE;
    const dim3 grid(static_cast<unsigned>((g->N + TILE - 1) / TILE),
                    static_cast<unsigned>(down < 65535 ? down : 65535));
    const dim3 block(TILE, TILE);
    const cudaStream_t stream = dc_cuda_stream(dev);
    if (g->a.type == DC_F32) DC_LAUNCH((plain_product<float, float>), grid, block, 0, stream, *g);
    else if (g->c.type == DC_F32) DC_LAUNCH((plain_product<dc_bf16, float>), grid, block, 0, stream, *g);
    else DC_LAUNCH((plain_product<dc_bf16, dc_bf16>), grid, block, 0, stream, *g);
    dc_cuda_launched(dev, "gemm");
}

/* ---- cuBLASLt, by shape ---- */

typedef struct shape {
    int64_t M, N, K, lda, ldb, ldc;
    int32_t trans_a, trans_b, operands, result, bias;
    uint32_t align_a, align_b, align_c;
} shape;

typedef struct entry {
    shape key;
    uint64_t used; /* the call that used it last; 0: free */
    int usable;    /* there is an algorithm */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    size_t workspace; /* bytes it needs */
} entry;

struct dc_cuda_products {
    uint64_t calls;
    cublasLtMatmulPreference_t preference;
    entry slot[SLOTS];
};

int dc_cuda_products_new(struct dc_cuda_products **out, size_t workspace_bytes, dc_error *err)
{
    struct dc_cuda_products *p = static_cast<struct dc_cuda_products *>(dc_calloc(1, sizeof *p));
    const uint64_t workspace = workspace_bytes;
    const uint32_t partial_sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* in fp32, whatever the type of C */
    if (!p) return dc_fail_memory(err, sizeof *p, "a table of products");
    *out = p;
    if (cublasLtMatmulPreferenceCreate(&p->preference) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulPreferenceSetAttribute(p->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                             sizeof workspace) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulPreferenceSetAttribute(p->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &partial_sums,
                                             sizeof partial_sums) != CUBLAS_STATUS_SUCCESS)
        return dc_fail(err, DC_EIO, "cuBLASLt takes no preference");
    return DC_OK;
}

static void free_entry(entry *e)
{
    if (e->product) cublasLtMatmulDescDestroy(e->product);
    if (e->a) cublasLtMatrixLayoutDestroy(e->a);
    if (e->b) cublasLtMatrixLayoutDestroy(e->b);
    if (e->c) cublasLtMatrixLayoutDestroy(e->c);
    memset(e, 0, sizeof *e);
}

void dc_cuda_products_free(struct dc_cuda_products *products)
{
    if (!products) return;
    for (int i = 0; i < SLOTS; i++) free_entry(&products->slot[i]);
    if (products->preference) cublasLtMatmulPreferenceDestroy(products->preference);
    dc_free(products);
}

/* The bytes that a pointer and the distance of its rows are multiples of, up to the 256 that cudaMalloc gives. */
static uint32_t alignment(const void *p, int64_t ld, dc_dtype type)
{
    const uint64_t bits = reinterpret_cast<uintptr_t>(p) | static_cast<uint64_t>(ld) * dc_element_bytes(type) | 256u;
    return static_cast<uint32_t>(bits & (~bits + 1));
}

static shape shape_of(const dc_gemm *g)
{
    shape k;
    memset(&k, 0, sizeof k); /* it is compared as bytes */
    k.M = g->M, k.N = g->N, k.K = g->K;
    k.lda = g->lda, k.ldb = g->ldb, k.ldc = g->ldc;
    k.trans_a = g->trans_a != 0, k.trans_b = g->trans_b != 0;
    k.operands = g->a.type, k.result = g->c.type, k.bias = g->bias != nullptr;
    k.align_a = alignment(g->a.data, g->lda, g->a.type);
    k.align_b = alignment(g->b.data, g->ldb, g->b.type);
    k.align_c = alignment(g->c.data, g->ldc, g->c.type);
    return k;
}

static uint64_t hash(const shape *k)
{
    uint64_t words[sizeof *k / sizeof(uint64_t)], h = 0;
    memcpy(words, k, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) h = (h ^ words[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 32;
    return h;
}

static cudaDataType_t library_type(int type) { return type == DC_F32 ? CUDA_R_32F : CUDA_R_16BF; }

static int set_product(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(d, what, value, size) == CUBLAS_STATUS_SUCCESS;
}

static int set_preference(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t what, uint32_t value)
{
    return cublasLtMatmulPreferenceSetAttribute(p, what, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
}

/* Its A is our B and its B our A, each as stored; the bias runs down its rows, our columns. */
static int describe(entry *e)
{
    const shape *k = &e->key;
    const cublasOperation_t t = CUBLAS_OP_T, n = CUBLAS_OP_N;
    const cublasLtEpilogue_t with_bias = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t operands = library_type(k->operands), result = library_type(k->result);
    const uint64_t M = static_cast<uint64_t>(k->M), N = static_cast<uint64_t>(k->N), K = static_cast<uint64_t>(k->K);
    return cublasLtMatmulDescCreate(&e->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           set_product(e->product, CUBLASLT_MATMUL_DESC_TRANSA, k->trans_b ? &t : &n, sizeof t) &&
           set_product(e->product, CUBLASLT_MATMUL_DESC_TRANSB, k->trans_a ? &t : &n, sizeof t) &&
           (!k->bias || (set_product(e->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &with_bias, sizeof with_bias) &&
                         set_product(e->product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &result, sizeof result))) &&
           cublasLtMatrixLayoutCreate(&e->a, operands, k->trans_b ? K : N, k->trans_b ? N : K, k->ldb) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&e->b, operands, k->trans_a ? M : K, k->trans_a ? K : M, k->lda) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutCreate(&e->c, result, N, M, k->ldc) == CUBLAS_STATUS_SUCCESS;
}

static int choose(dc_cuda_state *s, entry *e, const void *bias)
{
    const cublasLtMatmulPreference_t p = s->products->preference;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    if (!describe(e) || (bias && !set_product(e->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)) ||
        !set_preference(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, e->key.align_b) ||
        !set_preference(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, e->key.align_a) ||
        !set_preference(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, e->key.align_c) ||
        !set_preference(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, e->key.align_c) ||
        cublasLtMatmulAlgoGetHeuristic(s->blas, e->product, e->a, e->b, e->c, e->c, p, 1, &found, &n) !=
            CUBLAS_STATUS_SUCCESS)
        return 0;
    if (n < 1 || found.state != CUBLAS_STATUS_SUCCESS) return 0;
    e->algo = found.algo;
    e->workspace = found.workspaceSize;
    return 1;
}

/* The shape's entry; a new one takes a free place of a few, or that of the one not used for longest. */
static entry *entry_of(dc_cuda_state *s, const shape *key, const void *bias)
{
    struct dc_cuda_products *p = s->products;
    const uint64_t h = hash(key);
    entry *e = &p->slot[h % SLOTS];
    p->calls++;
    for (uint64_t i = 0; i < PROBES; i++) {
        entry *at = &p->slot[(h + i) % SLOTS];
        if (at->used && !memcmp(&at->key, key, sizeof *key)) {
            at->used = p->calls;
            return at;
        }
        if (at->used < e->used) e = at;
    }
    free_entry(e);
    e->key = *key;
    e->used = p->calls;
    e->usable = choose(s, e, bias);
    return e;
}

/* One product of operands in the device's type. `bias` is g->bias in the type of C. */
static void product(dc_dev *dev, const dc_gemm *g, const void *bias)
{
    dc_cuda_state *s = dc_cuda_state_of(dev);
    const shape key = shape_of(g);
    const entry *e = s->blas ? entry_of(s, &key, bias) : nullptr;
    const float beta = g->accumulate ? 1.0f : 0.0f;
    if (!e || !e->usable) {
        launch_plain(dev, g);
        return;
    }
    if (bias) set_product(e->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    const cublasStatus_t status =
        cublasLtMatmul(s->blas, e->product, &g->alpha, g->b.data, e->a, g->a.data, e->b, &beta, g->c.data, e->c,
                       g->c.data, e->c, &e->algo, s->workspace, e->workspace, dc_cuda_stream(dev));
    if (status != CUBLAS_STATUS_SUCCESS)
        dc_fail(&s->failed, DC_EIO, "gemm: cuBLASLt refuses a product of %lld x %lld x %lld: %s",
                static_cast<long long>(g->M), static_cast<long long>(g->N), static_cast<long long>(g->K),
                cublasLtGetStatusString(status));
}

/* ---- panels ---- */

/* An operand: its free dimension (M or N) runs down its stored rows, or across them. */
typedef struct side {
    dc_cview stored;
    int64_t ld, free, K, part; /* part: of the free dimension, that is unpacked at a time */
    int across;
    dc_dtype type; /* it is to have */
    void *panel;   /* NULL: it has it */
} side;

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static size_t panel_bytes(const side *o, int64_t part)
{
    return static_cast<size_t>(o->across ? o->K * up(part, 8) : part * up(o->K, 8)) * dc_element_bytes(o->type);
}

/* As much of it as fits `room`, evenly spread and in multiples of 64 where possible. 0: not even eight. */
static void fit(side *o, size_t room)
{
    if (panel_bytes(o, o->free) <= room) {
        o->part = o->free;
        return;
    }
    const int64_t most = static_cast<int64_t>(room / panel_bytes(o, 8)) * 8, unit = most >= 64 ? 64 : 8;
    if (most == 0) {
        o->part = 0;
        return;
    }
    const int64_t fits = most / unit * unit, pieces = (o->free + fits - 1) / fits;
    o->part = up((o->free + pieces - 1) / pieces, unit);
}

static void fill_panel(dc_dev *dev, const side *o, int64_t first, int64_t n)
{
    const int64_t element = o->stored.type == DC_F32 ? 4 : 2;
    window w;
    w.stride = dc_dtype_bytes(o->stored.type, o->ld);
    w.from = static_cast<const char *>(o->stored.data) + (o->across ? 0 : first * w.stride);
    w.column = o->across ? first : 0;
    w.to = o->panel;
    w.rows = static_cast<int>(o->across ? o->K : n);
    w.columns = static_cast<int>(o->across ? n : o->K);
    w.ld = up(w.columns, 8);
    w.aligned = (reinterpret_cast<uintptr_t>(w.from) | static_cast<uintptr_t>(w.stride) |
                 static_cast<uintptr_t>(w.column * element)) %
                    16 ==
                0;
    if (o->type == DC_F32) launch_unpack<float>(dc_cuda_stream(dev), o->stored.type, &w);
    else launch_unpack<dc_bf16>(dc_cuda_stream(dev), o->stored.type, &w);
    dc_cuda_launched(dev, "gemm");
}

/* Where elements `first` and on of the free dimension are, in the wanted type; *ld: their rows' distance. */
static dc_cview part_of(const side *o, int64_t first, int64_t n, int64_t *ld)
{
    *ld = o->ld;
    if (!o->panel) {
        const int64_t at = o->across ? first : first * o->ld;
        const dc_cview v = {
            static_cast<const char *>(o->stored.data) + at * static_cast<int64_t>(dc_element_bytes(o->type)), o->type};
        return v;
    }
    *ld = up(o->across ? n : o->K, 8);
    const dc_cview v = {o->panel, o->type};
    return v;
}

/* The bias in the type of C, at the front of the scratch; *used: its bytes there. */
static const void *bias_for(dc_dev *dev, const dc_gemm *g, void *scratch, size_t *used)
{
    *used = 0;
    if (!g->bias || g->c.type == DC_F32) return g->bias;
    *used = static_cast<size_t>(up(g->N * 2, 256));
    const side o = {{g->bias, DC_F32}, g->N, 1, g->N, 1, 0, DC_BF16, scratch};
    fill_panel(dev, &o, 0, 1);
    return scratch;
}

/* Gives each operand that needs one its panel. */
static int place_panels(dc_dev *dev, side *a, side *b, char *scratch, size_t used)
{
    const size_t room = dc_cuda_scratch_room(dev) - used;
    a->part = a->free;
    b->part = b->free;
    size_t first = 0;
    if (a->stored.type != a->type) {
        fit(a, b->stored.type == b->type ? room : room / 2 / 256 * 256);
        a->panel = scratch + used;
        first = static_cast<size_t>(up(static_cast<int64_t>(panel_bytes(a, a->part)), 256));
    }
    if (b->stored.type != b->type) {
        fit(b, room - first);
        b->panel = scratch + used + first;
    }
    if (a->part && b->part) return DC_OK;
    return dc_fail(&dc_cuda_state_of(dev)->failed, DC_ENOMEM, "gemm: rows of %lld do not fit the scratch of %zu bytes",
                   static_cast<long long>(a->K), room);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* A panel of B is unpacked once and serves all parts of A; a panel of A once, unless A has several parts. */
static void gemm(dc_dev *dev, const dc_gemm *g)
{
    side a = {g->a, g->lda, g->M, g->K, 0, g->trans_a, dev->activation, nullptr};
    side b = {g->b, g->ldb, g->N, g->K, 0, !g->trans_b, dev->activation, nullptr};
    char *scratch = static_cast<char *>(dc_cuda_scratch(dev, dc_cuda_scratch_room(dev)));
    size_t used;
    const void *bias = bias_for(dev, g, scratch, &used);
    if (place_panels(dev, &a, &b, scratch, used) != DC_OK) return;
    for (int64_t n = 0; n < g->N; n += b.part) {
        const int64_t columns = least(b.part, g->N - n);
        if (b.panel) fill_panel(dev, &b, n, columns);
        for (int64_t m = 0; m < g->M; m += a.part) {
            const int64_t rows = least(a.part, g->M - m);
            if (a.panel && (n == 0 || a.part < g->M)) fill_panel(dev, &a, m, rows);
            dc_gemm part = *g;
            part.M = rows;
            part.N = columns;
            part.a = part_of(&a, m, rows, &part.lda);
            part.b = part_of(&b, n, columns, &part.ldb);
            part.c = dc_view_at(g->c, m * g->ldc + n);
            part.bias = g->bias ? g->bias + n : nullptr;
            const size_t skip = static_cast<size_t>(n) * dc_element_bytes(g->c.type);
            product(dev, &part, bias ? static_cast<const char *>(bias) + skip : nullptr);
        }
    }
}

void dc_gemm_overlay_cuda(dc_ops *ops) { ops->gemm = gemm; }
