/* kernels/gemm_library.h -- a GEMM library as decant uses it: one product of floats in one thread; private to
 * kernels/. */
#ifndef DC_KERNELS_GEMM_LIBRARY_H
#define DC_KERNELS_GEMM_LIBRARY_H

#include "kernels/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* c = alpha op(a) op(b) (+ c), as in gemm.h. */
typedef struct dc_gemm_tile {
    float *c;
    const float *a, *b;
    int64_t M, N, K, lda, ldb, ldc;
    int trans_a, trans_b, accumulate;
    float alpha;
} dc_gemm_tile;

/* Called where OpenMP gives one thread: in a parallel region, or after omp_set_num_threads(1). DC_OK, DC_ENOMEM or
 * DC_EIO. */
int dc_openblas_sgemm(const dc_gemm_tile *t);
const char *dc_openblas_describe(void);

#ifdef DC_HAVE_ONEDNN
int dc_onednn_sgemm(const dc_gemm_tile *t);
const char *dc_onednn_describe(void);
/* Masks the library's instruction sets. That works only before the process's first product: the first device
 * decides. */
void dc_onednn_limit(unsigned features);
#endif

#ifdef __cplusplus
}
#endif
#endif
