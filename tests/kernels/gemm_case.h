/* tests/kernels/gemm_case.h -- one product against the oracle, and all the shapes that every backend is put through. */
#ifndef DC_TESTS_KERNELS_GEMM_CASE_H
#define DC_TESTS_KERNELS_GEMM_CASE_H

#include "kit.h"

typedef struct gemm_case {
    int64_t M, N, K, pad; /* pad: how much longer than needed the rows are */
    int trans_a, trans_b, accumulate, bias;
    float alpha;
    dc_dtype type; /* of B */
} gemm_case;

/* The largest error as a share of the bound. `wrong` spoils the operands of the oracle a little: the share must
 * then be large. The bits with one thread and with two must be equal when `same_bits`. */
double gemm_share(dc_dev *dev, dc_gemm_fn *gemm, gemm_case k, int wrong, int same_bits);

/* Every transposition, accumulation, bias and alpha at odd shapes, and every stored type. */
void gemm_all_shapes(dc_dev *dev, dc_gemm_fn *gemm);

#endif
