/* tests/kernels/op_gemm.c -- the matrix product of the table; test_gemm.c has the backends of a device. */
#include "gemm_case.h"

void test_gemm(void **state)
{
    (void)state;
    unsigned paths[KIT_PATHS];
    for (size_t p = 0, n = kit_paths(paths); p < n; p++) {
        const dc_ops ops = kit_ops(paths[p]);
        gemm_all_shapes(NULL, ops.gemm);
    }
}
