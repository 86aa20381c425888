/* kernels/gemm_openblas.c -- OpenBLAS's sgemm, one call in one thread. */
#include "kernels/gemm_library.h"

#include <cblas.h>

#include "core/error.h"

int dc_openblas_sgemm(const dc_gemm_tile *t)
{
    cblas_sgemm(CblasRowMajor, t->trans_a ? CblasTrans : CblasNoTrans, t->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)t->M, (blasint)t->N, (blasint)t->K, t->alpha, t->a, (blasint)t->lda, t->b, (blasint)t->ldb,
                t->accumulate ? 1.0f : 0.0f, t->c, (blasint)t->ldc);
    return DC_OK;
}

const char *dc_openblas_describe(void) { return openblas_get_config(); }
