/* kernels/gemm_openblas.c -- OpenBLAS behind kernels/gemm.h. */
#include "kernels/dev_cpu.h"

#include <cblas.h>

void dc_openblas_gemm(const dc_gemm *g)
{
    if (g->bias) dc_gemm_prime_bias(g);
    cblas_sgemm(CblasRowMajor, g->trans_a ? CblasTrans : CblasNoTrans, g->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)g->M, (blasint)g->N, (blasint)g->K, g->alpha, g->a.data, (blasint)g->lda, g->b.data,
                (blasint)g->ldb, g->accumulate || g->bias ? 1.0f : 0.0f, g->c.data, (blasint)g->ldc);
}

const char *dc_openblas_describe(void) { return openblas_get_config(); }
