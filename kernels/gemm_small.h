/* kernels/gemm_small.h -- products with few rows, as in decoding, where the libraries are several times below the
 * speed of memory; private to kernels/. */
#ifndef DC_KERNELS_GEMM_SMALL_H
#define DC_KERNELS_GEMM_SMALL_H

#include "kernels/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DC_GEMM_SMALL_M = 16 };

/* M at most DC_GEMM_SMALL_M, trans_b 1, trans_a 0; B of any type that can be read. */
void dc_gemm_small_avx2(const dc_gemm *g);

#ifdef __cplusplus
}
#endif
#endif
