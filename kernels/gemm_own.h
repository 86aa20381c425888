/* kernels/gemm_own.h -- decant's own matrix product; private to kernels/ and its tests. */
#ifndef DC_KERNELS_GEMM_OWN_H
#define DC_KERNELS_GEMM_OWN_H

#include "kernels/gemm_tile.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The widest kernel that `features` (kernels/cpu.h) allow; NULL when there is none. */
const dc_gemm_kernel *dc_gemm_own_kernel(unsigned features);

/* The product of gemm.h on dc_pool_threads() threads. Every element is summed over K in blocks that depend on K alone, each block in
 * order; so its bits depend on its row of op(A), its column of op(B) and K, not on M, N, the place in C, the kernel or the
 * threads. `scratch`: DC_PANEL_FLOATS floats (kernels/dev_cpu.h). */
void dc_gemm_own(const dc_gemm_kernel *kernel, float *scratch, const dc_gemm *g);

#ifdef __cplusplus
}
#endif
#endif
