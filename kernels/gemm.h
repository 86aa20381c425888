/* kernels/gemm.h -- matrix products: one contract, several backends.
 *
 *     C[M, N] = alpha * op(A) * op(B) (+ C) (+ bias),   op(A) is [M, K], op(B) is [K, N], row-major.
 *
 * A is stored [M, K] with row distance lda, or [K, M] when trans_a. B is stored [K, N] with row distance ldb, or [N, K] when trans_b:
 * a linear's weight [out, in] is B with trans_b. Types: A and C F32 or the device's activations; B likewise, or, for weights, any type that
 * kernels/quant.h reads. A quantized weight keeps its blocks: panels of it are unpacked into scratch that the device owns
 * and the plan counts. trans_b 0 with a quantized B (the backward of a linear: dx = dy W) is supported as well.
 *
 * Backends on a CPU: decant's own kernels (default from AVX2 on), oneDNN, OpenBLAS, and the plain C reference (DC_CPU=none). The
 * libraries are there to be chosen, and are the second opinions of the tests.
 *
 * Bits. Every backend gives the same with any number of threads. The own kernels promise more: an element of C depends on its row of
 * op(A), its column of op(B), K, and what stands in C and bias, alone. So rows or columns computed apart have the bits they have
 * within the whole product, however operands are stored or transposed, with AVX2 as with AVX-512. Excepted are products of at
 * most 16 rows with trans_b, as in decoding, whose sums run in another order. */
#ifndef DC_KERNELS_GEMM_H
#define DC_KERNELS_GEMM_H

#include <stdint.h>

#include "core/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_gemm {
    dc_view c;
    dc_cview a, b;
    const float *bias; /* [N], added to every row; or NULL */
    int64_t M, N, K, lda, ldb, ldc;
    int trans_a, trans_b;
    int accumulate; /* C is added to */
    float alpha;    /* multiplies the product, not the bias */
} dc_gemm;

typedef enum dc_gemm_backend {
    DC_GEMM_REF,
    DC_GEMM_OPENBLAS,
    DC_GEMM_ONEDNN,
    DC_GEMM_OWN,
    DC_GEMM_BACKENDS
} dc_gemm_backend;

/* Was the backend compiled in (and, for DC_GEMM_OWN, do this processor and DC_CPU allow it)? Its name with version and, where the library tells it, the kernels it chose: for doctor and logs. */
int dc_gemm_has(dc_gemm_backend backend);
const char *dc_gemm_describe(dc_gemm_backend backend);

#ifdef __cplusplus
}
#endif
#endif
