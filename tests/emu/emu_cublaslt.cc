/* tests/emu/emu_cublaslt.cc -- cuBLASLt on OpenBLAS: operands rounded as the card would, products and sums in float.
 *
 * An algorithm from the heuristic remembers the alignments and the workspace that the preference promised; a product that does not keep
 * the promise is refused, and the workspace is scribbled over, so that whoever lends memory that is in use notices. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emu_internal.h"

struct cublasLtContext {
    int alive;
};

struct dc_emu_matmul_desc {
    cublasComputeType_t compute;
    cudaDataType scale, bias_type;
    int has_bias_type, pointer_mode, transa, transb, epilogue;
    const void *bias;
    int64_t bias_stride;
};

struct dc_emu_matrix_layout {
    cudaDataType type;
    int order, batch;
    uint64_t rows, cols;
    int64_t ld, stride;
};

struct dc_emu_matmul_preference {
    uint64_t workspace;
    uint32_t align[4]; /* of A, B, C, D */
};

/* What cublasLtMatmulAlgo_t.data holds. */
enum { ALGO_MAGIC, ALGO_WORKSPACE, ALGO_ALIGN };
static const uint64_t magic = 0x6465632d656d756cu;
static const uint32_t default_align = 256;

/* ---- descriptors ---- */

template <class T> static cublasStatus_t created(T **out, T value)
{
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new T(value);
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> static cublasStatus_t destroyed(T *object)
{
    if (!object) return CUBLAS_STATUS_INVALID_VALUE;
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set(void *field, size_t size, const void *buf, size_t given)
{
    if (!buf || given != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, buf, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *lightHandle)
{
    if (dc_emu_usable() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    return created(lightHandle, cublasLtContext{1});
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lightHandle)
{
    return lightHandle ? destroyed(lightHandle) : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *matmulDesc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType)
{
    dc_emu_matmul_desc d = {};
    d.compute = computeType;
    d.scale = scaleType;
    d.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return created(matmulDesc, d);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmulDesc) { return destroyed(matmulDesc); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc, cublasLtMatmulDescAttributes_t attr,
                                              const void *buf, size_t sizeInBytes)
{
    dc_emu_matmul_desc *d = matmulDesc;
    if (!d) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attr) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return set(&d->compute, sizeof d->compute, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return set(&d->scale, sizeof d->scale, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(&d->pointer_mode, sizeof d->pointer_mode, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->transa, sizeof d->transa, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->transb, sizeof d->transb, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, sizeof d->epilogue, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, sizeof d->bias, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE: return set(&d->bias_stride, sizeof d->bias_stride, buf, sizeInBytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        d->has_bias_type = 1;
        return set(&d->bias_type, sizeof d->bias_type, buf, sizeInBytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *matLayout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    dc_emu_matrix_layout l = {};
    l.type = type;
    l.batch = 1;
    l.rows = rows;
    l.cols = cols;
    l.ld = ld;
    return created(matLayout, l);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matLayout) { return destroyed(matLayout); }

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t matLayout, cublasLtMatrixLayoutAttribute_t attr,
                                                const void *buf, size_t sizeInBytes)
{
    dc_emu_matrix_layout *l = matLayout;
    if (!l) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attr) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(&l->type, sizeof l->type, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(&l->order, sizeof l->order, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(&l->rows, sizeof l->rows, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return set(&l->cols, sizeof l->cols, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_LD: return set(&l->ld, sizeof l->ld, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(&l->batch, sizeof l->batch, buf, sizeInBytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(&l->stride, sizeof l->stride, buf, sizeInBytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *pref)
{
    return created(pref, dc_emu_matmul_preference{0, {default_align, default_align, default_align, default_align}});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) { return destroyed(pref); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void *buf,
                                                    size_t sizeInBytes)
{
    uint32_t ignored;
    if (!pref) return CUBLAS_STATUS_INVALID_VALUE;
    switch (attr) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&pref->workspace, sizeof pref->workspace, buf, sizeInBytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&pref->align[attr - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof *pref->align, buf,
                   sizeInBytes);
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&ignored, sizeof ignored, buf, sizeInBytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

/* ---- what can be multiplied ---- */

static size_t type_bytes(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

static uint64_t op_rows(const dc_emu_matrix_layout *l, int trans) { return trans == CUBLAS_OP_N ? l->rows : l->cols; }
static uint64_t op_cols(const dc_emu_matrix_layout *l, int trans) { return trans == CUBLAS_OP_N ? l->cols : l->rows; }

static int good_layout(const dc_emu_matrix_layout *l)
{
    const uint64_t along = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
    return l->rows && l->cols && l->batch >= 1 && l->ld > 0 && (uint64_t)l->ld >= along &&
           (l->order == CUBLASLT_ORDER_COL || l->order == CUBLASLT_ORDER_ROW);
}

/* The table of supported types in cuBLASLt's documentation of cublasLtMatmul, as far as it is of floats. */
static int good_types(const dc_emu_matmul_desc *d, cudaDataType a, cudaDataType b, cudaDataType c, cudaDataType out)
{
    if (a != b || c != out || d->scale != CUDA_R_32F) return 0;
    switch (d->compute) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
        return a == CUDA_R_32F ? out == CUDA_R_32F
                               : (a == CUDA_R_16BF || a == CUDA_R_16F) && (out == a || out == CUDA_R_32F);
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32: return a == CUDA_R_32F && out == CUDA_R_32F;
    default: return 0;
    }
}

static cublasStatus_t check_shapes(const dc_emu_matmul_desc *d, const dc_emu_matrix_layout *a,
                                   const dc_emu_matrix_layout *b, const dc_emu_matrix_layout *c,
                                   const dc_emu_matrix_layout *out)
{
    if (!d || !a || !b || !c || !out) return CUBLAS_STATUS_INVALID_VALUE;
    if (!good_layout(a) || !good_layout(b) || !good_layout(c) || !good_layout(out)) return CUBLAS_STATUS_INVALID_VALUE;
    if (op_cols(a, d->transa) != op_rows(b, d->transb) || out->rows != op_rows(a, d->transa) ||
        out->cols != op_cols(b, d->transb) || c->rows != out->rows || c->cols != out->cols)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a->batch != out->batch || b->batch != out->batch || c->batch != out->batch) return CUBLAS_STATUS_INVALID_VALUE;
    if (!good_types(d, a->type, b->type, c->type, out->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
    const int activation = d->epilogue & ~(CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_DEFAULT);
    if (activation && activation != CUBLASLT_EPILOGUE_RELU && activation != CUBLASLT_EPILOGUE_GELU)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (d->epilogue & CUBLASLT_EPILOGUE_BIAS) {
        if (d->has_bias_type && d->bias_type != out->type) return CUBLAS_STATUS_NOT_SUPPORTED;
        if (out->order != CUBLASLT_ORDER_COL) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc,
                                              cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc,
                                              cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc,
                                              cublasLtMatmulPreference_t preference, int requestedAlgoCount,
                                              cublasLtMatmulHeuristicResult_t heuristicResultsArray[],
                                              int *returnAlgoCount)
{
    if (!lightHandle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!preference || requestedAlgoCount < 1 || !heuristicResultsArray || !returnAlgoCount)
        return CUBLAS_STATUS_INVALID_VALUE;
    *returnAlgoCount = 0;
    const cublasStatus_t s = check_shapes(operationDesc, Adesc, Bdesc, Cdesc, Ddesc);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    cublasLtMatmulHeuristicResult_t r = {};
    r.workspaceSize = preference->workspace < 65536 ? preference->workspace : 65536;
    r.state = CUBLAS_STATUS_SUCCESS;
    r.wavesCount = 1.0f;
    r.algo.data[ALGO_MAGIC] = magic;
    r.algo.data[ALGO_WORKSPACE] = r.workspaceSize;
    for (int i = 0; i < 4; i++) r.algo.data[ALGO_ALIGN + i] = preference->align[i];
    heuristicResultsArray[0] = r;
    *returnAlgoCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---- */

/* All that it needs, by value: descriptors may be destroyed as soon as it is queued. */
typedef struct product {
    dc_emu_matmul_desc d;
    dc_emu_matrix_layout a, b, c, out;
    const void *A, *B, *C;
    void *D, *workspace;
    size_t workspace_bytes;
    float alpha, beta;
    const float *alpha_device, *beta_device;
} product;

static float load(const void *p, cudaDataType type, size_t i)
{
    switch ((int)type) {
    case CUDA_R_16BF: return ((const __nv_bfloat16 *)p)[i];
    case CUDA_R_16F: return ((const __half *)p)[i];
    default: return ((const float *)p)[i];
    }
}

static void store(void *p, cudaDataType type, size_t i, float v)
{
    switch ((int)type) {
    case CUDA_R_16BF: ((__nv_bfloat16 *)p)[i] = __nv_bfloat16(v); break;
    case CUDA_R_16F: ((__half *)p)[i] = __half(v); break;
    default: ((float *)p)[i] = v;
    }
}

static size_t at(const dc_emu_matrix_layout *l, int batch, uint64_t row, uint64_t col)
{
    const uint64_t ld = (uint64_t)l->ld, first = (uint64_t)batch * (uint64_t)l->stride;
    return (size_t)(first + (l->order == CUBLASLT_ORDER_COL ? row + col * ld : row * ld + col));
}

/* To the 10 bits of mantissa of TF32, halves away from zero (cvt.rna.tf32). */
static float round_tf32(float x)
{
    if (!isfinite(x)) return x;
    return __uint_as_float((__float_as_uint(x) + 0x1000u) & ~0x1fffu);
}

static float round_operand(cublasComputeType_t compute, float x)
{
    switch (compute) {
    case CUBLAS_COMPUTE_32F_FAST_TF32: return round_tf32(x);
    case CUBLAS_COMPUTE_32F_FAST_16BF: return __nv_bfloat16(x);
    case CUBLAS_COMPUTE_32F_FAST_16F: return __half(x);
    default: return x;
    }
}

/* A matrix of the batch as column-major floats without gaps. */
static std::vector<float> unpack(const product *p, const void *data, const dc_emu_matrix_layout *l, int batch)
{
    std::vector<float> m((size_t)(l->rows * l->cols));
    for (uint64_t c = 0; c < l->cols; c++)
        for (uint64_t r = 0; r < l->rows; r++)
            m[(size_t)(r + c * l->rows)] = round_operand(p->d.compute, load(data, l->type, at(l, batch, r, c)));
    return m;
}

static float activated(int epilogue, float x)
{
    if (epilogue & CUBLASLT_EPILOGUE_RELU) return x > 0 ? x : 0;
    if (epilogue & CUBLASLT_EPILOGUE_GELU)
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    return x;
}

/* D = activation(alpha * op(A) op(B) + beta * C + bias of the row); C is not read when beta is 0. */
static void multiply(const product *p, int batch, float alpha, float beta)
{
    const int m = (int)p->out.rows, n = (int)p->out.cols, k = (int)op_cols(&p->a, p->d.transa);
    const std::vector<float> a = unpack(p, p->A, &p->a, batch), b = unpack(p, p->B, &p->b, batch);
    std::vector<float> sum((size_t)m * (size_t)n);
    cblas_sgemm(CblasColMajor, p->d.transa == CUBLAS_OP_N ? CblasNoTrans : CblasTrans,
                p->d.transb == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, k, 1.0f, a.data(), (int)p->a.rows,
                b.data(), (int)p->b.rows, 0.0f, sum.data(), m);
    const size_t bias_first = (size_t)((uint64_t)batch * (uint64_t)p->d.bias_stride);
    for (int c = 0; c < n; c++)
        for (int r = 0; r < m; r++) {
            float v = alpha * sum[(size_t)r + (size_t)c * (size_t)m];
            if (beta != 0) v += beta * load(p->C, p->c.type, at(&p->c, batch, (uint64_t)r, (uint64_t)c));
            if (p->d.epilogue & CUBLASLT_EPILOGUE_BIAS) v += load(p->d.bias, p->out.type, bias_first + (size_t)r);
            store(p->D, p->out.type, at(&p->out, batch, (uint64_t)r, (uint64_t)c), activated(p->d.epilogue, v));
        }
}

static cudaError_t run(const product *p)
{
    if (p->workspace_bytes) memset(p->workspace, DC_EMU_POISON, p->workspace_bytes);
    const float alpha = p->alpha_device ? *p->alpha_device : p->alpha,
                beta = p->beta_device ? *p->beta_device : p->beta;
    for (int i = 0; i < p->out.batch; i++) multiply(p, i, alpha, beta);
    return cudaSuccess;
}

/* ---- refusals ---- */

static size_t extent(const dc_emu_matrix_layout *l)
{
    return (at(l, l->batch - 1, l->rows - 1, l->cols - 1) + 1) * type_bytes(l->type);
}

static cublasStatus_t check_operand(const char *name, const void *p, size_t bytes, uint64_t align)
{
    if (!p) return CUBLAS_STATUS_INVALID_VALUE;
    if ((uintptr_t)p % align) {
        dc_emu_fail(cudaErrorInvalidValue,
                    "cublasLtMatmul: %s is not aligned to %llu bytes, as the heuristic was promised", name,
                    (unsigned long long)align);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (dc_emu_place_of(p, bytes) == DC_EMU_DEVICE) return CUBLAS_STATUS_SUCCESS;
    char text[96];
    dc_emu_fail(cudaErrorIllegalAddress, "cublasLtMatmul: %s needs %zu bytes and is %s", name, bytes,
                dc_emu_describe_pointer(p, text, sizeof text));
    return CUBLAS_STATUS_EXECUTION_FAILED;
}

static cublasStatus_t check_memory(const product *p, const cublasLtMatmulAlgo_t *algo)
{
    const struct {
        const char *name;
        const void *data;
        const dc_emu_matrix_layout *layout;
    } operands[] = {{"A", p->A, &p->a}, {"B", p->B, &p->b}, {"C", p->C, &p->c}, {"D", p->D, &p->out}};
    for (int i = 0; i < 4; i++) {
        const uint64_t align = algo ? algo->data[ALGO_ALIGN + i] : default_align;
        const cublasStatus_t s = check_operand(operands[i].name, operands[i].data, extent(operands[i].layout), align);
        if (s != CUBLAS_STATUS_SUCCESS) return s;
    }
    if (p->C == p->D && (p->c.ld != p->out.ld || p->c.order != p->out.order)) return CUBLAS_STATUS_INVALID_VALUE;
    if (p->D == p->A || p->D == p->B) return CUBLAS_STATUS_INVALID_VALUE;
    if (p->d.epilogue & CUBLASLT_EPILOGUE_BIAS) {
        const size_t n = (size_t)p->out.rows + (size_t)(p->out.batch - 1) * (size_t)p->d.bias_stride;
        const cublasStatus_t s =
            check_operand("the bias", p->d.bias, n * type_bytes(p->out.type), type_bytes(p->out.type));
        if (s != CUBLAS_STATUS_SUCCESS) return s;
    }
    if (!p->workspace_bytes) return CUBLAS_STATUS_SUCCESS;
    return check_operand("the workspace", p->workspace, p->workspace_bytes, default_align);
}

static cublasStatus_t set_scales(product *p, const void *alpha, const void *beta)
{
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    const int on_device = p->d.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
    if (on_device != (dc_emu_place_of(alpha, sizeof(float)) == DC_EMU_DEVICE) ||
        on_device != (dc_emu_place_of(beta, sizeof(float)) == DC_EMU_DEVICE)) {
        dc_emu_fail(cudaErrorInvalidValue, "cublasLtMatmul: alpha and beta are not where the pointer mode says");
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (on_device) {
        p->alpha_device = (const float *)alpha;
        p->beta_device = (const float *)beta;
    } else {
        p->alpha = *(const float *)alpha;
        p->beta = *(const float *)beta;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t Adesc, const void *B, cublasLtMatrixLayout_t Bdesc,
                              const void *beta, const void *C, cublasLtMatrixLayout_t Cdesc, void *D,
                              cublasLtMatrixLayout_t Ddesc, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspaceSizeInBytes, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!lightHandle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (dc_emu_usable() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
    cublasStatus_t s = check_shapes(computeDesc, Adesc, Bdesc, Cdesc, Ddesc);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    if (algo && algo->data[ALGO_MAGIC] != magic) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo && workspaceSizeInBytes < algo->data[ALGO_WORKSPACE]) return CUBLAS_STATUS_INVALID_VALUE;
    product p = {*computeDesc,         *Adesc, *Bdesc, *Cdesc,  *Ddesc, A, B, C, D, workspace,
                 workspaceSizeInBytes, 0,      0,      nullptr, nullptr};
    s = set_scales(&p, alpha, beta);
    if (s == CUBLAS_STATUS_SUCCESS) s = check_memory(&p, algo);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    const cudaError_t e = dc_emu_enqueue(stream, DC_EMU_OP_LIBRARY, [p] { return run(&p); });
    return e == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

/* ---- names ---- */

size_t cublasLtGetVersion(void) { return 130000; }

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "CUBLAS_STATUS unknown";
}

const char *cublasGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }
const char *cublasLtGetStatusName(cublasStatus_t status) { return cublasGetStatusName(status); }
const char *cublasLtGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }
