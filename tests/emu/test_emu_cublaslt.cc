/* tests/emu/test_emu_cublaslt.cc -- products against double, and what is refused.
 *
 * Tolerance: operands are exact in float after their rounding, so what is left is the sum of k products in float and the result's own
 * rounding: eps_float * (k + 4) * sum |a b| + eps_out * |d|. */
#include <math.h>
#include <string.h>

#include "cublasLt.h"
#include "emu.h"
#include "emu_cmocka.h"
#include "cuda_fp16.h"
#include "kernels/cuda.cuh"

typedef struct shape {
    int m, n, k, ta, tb, batch, ld_extra;
    cudaDataType in, out;
    cublasComputeType_t compute;
    uint32_t epilogue;
    float alpha, beta;
    int in_place; /* C is D */
} shape;

typedef struct matrix {
    cudaDataType type;
    int rows, cols, ld, batch;
    size_t n;
    double *values; /* what is stored, exactly */
    void *data;     /* on the device */
    cublasLtMatrixLayout_t layout;
} matrix;

static uint64_t seed = 1;
static double draw()
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(seed >> 11) / (double)(1ull << 52) - 1;
}

static size_t bytes_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

static double stored(cudaDataType type, void *p, size_t i, double v)
{
    if (type == CUDA_R_16BF) return __bfloat162float(((dc_bf16 *)p)[i] = __float2bfloat16_rn((float)v));
    if (type == CUDA_R_16F) return __half2float(((__half *)p)[i] = __float2half_rn((float)v));
    return ((float *)p)[i] = (float)v;
}

static double loaded(cudaDataType type, const void *p, size_t i)
{
    if (type == CUDA_R_16BF) return __bfloat162float(((const dc_bf16 *)p)[i]);
    if (type == CUDA_R_16F) return __half2float(((const __half *)p)[i]);
    return ((const float *)p)[i];
}

static matrix matrix_new(cudaDataType type, int rows, int cols, int ld, int batch)
{
    matrix a = {type, rows, cols, ld, batch, (size_t)ld * (size_t)cols * (size_t)batch, nullptr, nullptr, nullptr};
    void *host = malloc(a.n * 4);
    a.values = (double *)malloc(a.n * sizeof(double));
    for (size_t i = 0; i < a.n; i++) a.values[i] = stored(type, host, i, draw());
    assert_int_equal(cudaMalloc(&a.data, a.n * bytes_of(type)), cudaSuccess);
    assert_int_equal(cudaMemcpy(a.data, host, a.n * bytes_of(type), cudaMemcpyHostToDevice), cudaSuccess);
    free(host);
    assert_int_equal(cublasLtMatrixLayoutCreate(&a.layout, type, (uint64_t)rows, (uint64_t)cols, ld),
                     CUBLAS_STATUS_SUCCESS);
    const int64_t stride = (int64_t)ld * cols;
    cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    cublasLtMatrixLayoutSetAttribute(a.layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    return a;
}

static void matrix_free(matrix *a)
{
    free(a->values);
    cudaFree(a->data);
    cublasLtMatrixLayoutDestroy(a->layout);
}

static double at(const matrix *a, int batch, int r, int c)
{
    return a->values[(size_t)batch * (size_t)a->ld * (size_t)a->cols + (size_t)r + (size_t)c * (size_t)a->ld];
}

static cublasLtMatmulDesc_t desc_new(const shape *s, const void *bias)
{
    cublasLtMatmulDesc_t d;
    assert_int_equal(cublasLtMatmulDescCreate(&d, s->compute, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    const int32_t ta = s->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = s->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
    cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
    cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &s->epilogue, sizeof s->epilogue);
    cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    return d;
}

/* Operands to the mantissa of the compute type, in double. */
static double rounded(cublasComputeType_t compute, double v)
{
    const int bits = compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? 10 : compute == CUBLAS_COMPUTE_32F_FAST_16BF ? 7 : 0;
    if (!bits || v == 0) return v;
    int e;
    const double m = frexp(v, &e), scaled = ldexp(m, bits + 1);
    return ldexp(bits == 10 ? round(scaled) : nearbyint(scaled), e - bits - 1);
}

static double activated(uint32_t epilogue, double x)
{
    if (epilogue & CUBLASLT_EPILOGUE_RELU) return x > 0 ? x : 0;
    if (epilogue & CUBLASLT_EPILOGUE_GELU) return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    return x;
}

typedef struct operands {
    matrix a, b, c, d, bias;
} operands;

static void check_result(const shape *s, const operands *o)
{
    const double eps = 0x1p-24, eps_out = s->out == CUDA_R_16BF ? 0x1p-8 : s->out == CUDA_R_16F ? 0x1p-11 : eps;
    void *got = malloc(o->d.n * 4);
    assert_int_equal(cudaMemcpy(got, o->d.data, o->d.n * bytes_of(s->out), cudaMemcpyDeviceToHost), cudaSuccess);
    for (int batch = 0; batch < s->batch; batch++)
        for (int c = 0; c < s->n; c++)
            for (int r = 0; r < o->d.ld; r++) {
                const size_t i = ((size_t)batch * (size_t)s->n + (size_t)c) * (size_t)o->d.ld + (size_t)r;
                const double d = loaded(s->out, got, i);
                if (r >= s->m) { /* between columns nothing is written */
                    assert_true(d == o->d.values[i]);
                    continue;
                }
                double sum = 0, size = 0;
                for (int k = 0; k < s->k; k++) {
                    const double x = rounded(s->compute, s->ta ? at(&o->a, batch, k, r) : at(&o->a, batch, r, k));
                    const double y = rounded(s->compute, s->tb ? at(&o->b, batch, c, k) : at(&o->b, batch, k, c));
                    sum += x * y, size += fabs(x * y);
                }
                sum = s->alpha * sum + (s->beta != 0 ? s->beta * at(s->in_place ? &o->d : &o->c, batch, r, c) : 0);
                size = fabs(s->alpha) * size + 2;
                if (s->epilogue & CUBLASLT_EPILOGUE_BIAS) sum += at(&o->bias, 0, r, 0);
                const double want = activated(s->epilogue, sum), room = eps * (s->k + 8) * size + eps_out * fabs(want);
                if (!(fabs(d - want) <= room))
                    fail_msg("m %d n %d k %d: [%d, %d] is %g, not %g +- %g", s->m, s->n, s->k, r, c, d, want, room);
            }
    free(got);
}

static cublasStatus_t run_product(const shape *s, const operands *o, cudaStream_t stream)
{
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t found;
    void *workspace;
    const uint64_t room = 4 << 20;
    int n_found = 0;
    float alpha = s->alpha, beta = s->beta;
    assert_int_equal(cublasLtCreate(&handle), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceCreate(&pref);
    cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room);
    cublasLtMatmulDesc_t desc = desc_new(s, o->bias.data);
    const matrix *c = s->in_place ? &o->d : &o->c;
    cublasStatus_t r = cublasLtMatmulAlgoGetHeuristic(handle, desc, o->a.layout, o->b.layout, c->layout, o->d.layout,
                                                      pref, 1, &found, &n_found);
    if (r == CUBLAS_STATUS_SUCCESS) {
        assert_true(n_found == 1 && found.workspaceSize <= room);
        cudaMalloc(&workspace, found.workspaceSize);
        r = cublasLtMatmul(handle, desc, &alpha, o->a.data, o->a.layout, o->b.data, o->b.layout, &beta, c->data,
                           c->layout, o->d.data, o->d.layout, &found.algo, workspace, found.workspaceSize, stream);
        alpha = beta = NAN; /* they were read */
        cublasLtMatmulDescDestroy(desc);
        cudaFreeAsync(workspace, stream);
    }
    cublasLtMatmulPreferenceDestroy(pref);
    cublasLtDestroy(handle);
    return r;
}

static operands operands_new(const shape *s)
{
    operands o;
    const int a_rows = s->ta ? s->k : s->m, a_cols = s->ta ? s->m : s->k, b_rows = s->tb ? s->n : s->k,
              b_cols = s->tb ? s->k : s->n;
    o.a = matrix_new(s->in, a_rows, a_cols, a_rows + s->ld_extra, s->batch);
    o.b = matrix_new(s->in, b_rows, b_cols, b_rows + s->ld_extra, s->batch);
    o.c = matrix_new(s->out, s->m, s->n, s->m, s->batch);
    o.d = matrix_new(s->out, s->m, s->n, s->m + s->ld_extra, s->batch);
    o.bias = matrix_new(s->out, s->m, 1, s->m, 1);
    return o;
}

static void operands_free(operands *o)
{
    matrix_free(&o->a), matrix_free(&o->b), matrix_free(&o->c), matrix_free(&o->d), matrix_free(&o->bias);
}

static void check(shape s)
{
    operands o = operands_new(&s);
    assert_int_equal(run_product(&s, &o, nullptr), CUBLAS_STATUS_SUCCESS);
    check_result(&s, &o);
    operands_free(&o);
}

static void test_products(void **)
{
    const shape plain = {
        33, 20, 65, 0, 0, 1, 0, CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0};
    const cudaDataType types[][2] = {{CUDA_R_16BF, CUDA_R_16BF},
                                     {CUDA_R_16BF, CUDA_R_32F},
                                     {CUDA_R_16F, CUDA_R_16F},
                                     {CUDA_R_16F, CUDA_R_32F},
                                     {CUDA_R_32F, CUDA_R_32F}};
    for (const auto &type : types)
        for (int t = 0; t < 4; t++) {
            shape s = plain;
            s.in = type[0], s.out = type[1];
            s.ta = t & 1, s.tb = t >> 1;
            check(s);
            s.ld_extra = 8, s.alpha = -0.75f, s.beta = 0.5f, s.batch = 3;
            check(s);
            s.in_place = 1;
            check(s);
        }
}

static void test_epilogues(void **)
{
    const uint32_t all[] = {CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS,
                            CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS};
    for (const uint32_t epilogue : all)
        for (int f32 = 0; f32 < 2; f32++)
            check(shape{17, 9, 40, 1, 0, 1, 0, CUDA_R_16BF, f32 ? CUDA_R_32F : CUDA_R_16BF, CUBLAS_COMPUTE_32F,
                        epilogue, 2, 1, 0});
}

static void test_rounded_operands(void **)
{
    const cublasComputeType_t all[] = {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F_FAST_16BF};
    for (const cublasComputeType_t compute : all)
        check(shape{16, 16, 128, 0, 1, 1, 0, CUDA_R_32F, CUDA_R_32F, compute, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0});
}

/* NaN in what must not be read, when beta is 0; products in the order of their stream. */
static void test_queued(void **)
{
    shape s = {8, 8, 8, 0, 0, 1, 0, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT, 1, 0, 0};
    operands o = operands_new(&s);
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaMemset(o.c.data, 0xff, o.c.n * 4);
    cudaDeviceSynchronize();
    assert_int_equal(run_product(&s, &o, stream), CUBLAS_STATUS_SUCCESS);
    cudaMemsetAsync(o.a.data, 0, o.a.n * 4, stream);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    check_result(&s, &o);
    operands_free(&o);
}

static void test_refusals(void **)
{
    shape s = {16, 16, 16, 0, 0, 1, 0, CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT,
               1,  0,  0};
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    const float one = 1, zero = 0;
    const uint32_t loose = 2;
    operands o = operands_new(&s);
    dc_emu_quiet(1);
    cublasLtCreate(&handle);
    cublasLtMatmulPreferenceCreate(&pref);
    cublasLtMatmulDesc_t desc = desc_new(&s, nullptr);
#define FIND() \
    cublasLtMatmulAlgoGetHeuristic(handle, desc, o.a.layout, o.b.layout, o.c.layout, o.d.layout, pref, 1, &found, &n)
#define RUN(A, D) \
    cublasLtMatmul(handle, desc, &one, A, o.a.layout, o.b.data, o.b.layout, &zero, o.c.data, o.c.layout, D, \
                   o.d.layout, &found.algo, nullptr, 0, nullptr)
    assert_int_equal(FIND(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(RUN(o.a.data, o.d.data), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(RUN(nullptr, o.d.data), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(RUN(o.a.data, o.a.data), CUBLAS_STATUS_INVALID_VALUE);

    /* A matrix that starts 2 bytes into its memory and has one column less. */
    const uint64_t fewer = 15;
    cublasLtMatrixLayoutSetAttribute(o.a.layout, CUBLASLT_MATRIX_LAYOUT_COLS, &fewer, sizeof fewer);
    assert_int_equal(FIND(), CUBLAS_STATUS_INVALID_VALUE); /* k differs */
    cublasLtMatrixLayoutSetAttribute(o.b.layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &fewer, sizeof fewer);
    assert_int_equal(FIND(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(RUN((char *)o.a.data + 2, o.d.data), CUBLAS_STATUS_INVALID_VALUE);
    assert_non_null(strstr(dc_emu_report(), "A is not aligned to 256 bytes"));
    cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &loose, sizeof loose);
    assert_int_equal(FIND(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(RUN((char *)o.a.data + 2, o.d.data), CUBLAS_STATUS_SUCCESS);

    const int64_t short_ld = 15;
    cublasLtMatrixLayoutSetAttribute(o.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &short_ld, sizeof short_ld);
    assert_int_equal(FIND(), CUBLAS_STATUS_INVALID_VALUE);
    const int64_t ld = 16;
    cublasLtMatrixLayoutSetAttribute(o.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld);
    const cudaDataType f32 = CUDA_R_32F;
    cublasLtMatrixLayoutSetAttribute(o.b.layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &f32, sizeof f32);
    assert_int_equal(FIND(), CUBLAS_STATUS_NOT_SUPPORTED); /* bf16 by float */
    const cudaDataType bf16 = CUDA_R_16BF;
    cublasLtMatrixLayoutSetAttribute(o.b.layout, CUBLASLT_MATRIX_LAYOUT_TYPE, &bf16, sizeof bf16);
    const uint32_t bias = CUBLASLT_EPILOGUE_BIAS;
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias);
    assert_int_equal(FIND(), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(RUN(o.a.data, o.d.data), CUBLAS_STATUS_INVALID_VALUE); /* no pointer */
    assert_int_equal(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, 8),
                     CUBLAS_STATUS_INVALID_VALUE);

    /* Memory that ends before the matrix does is no harmless mistake. */
    assert_int_equal(RUN((char *)o.a.data + 256, o.d.data), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_non_null(strstr(dc_emu_report(), "A needs 480 bytes and is 256 bytes into an allocation of 512"));
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    cublasLtMatmulDescDestroy(desc);
    cublasLtMatmulPreferenceDestroy(pref);
    cublasLtDestroy(handle);
    operands_free(&o);
    dc_emu_reset();
    dc_emu_quiet(0);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_epilogues), cmocka_unit_test(test_rounded_operands),
        cmocka_unit_test(test_queued),   cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
