/* kernels/oracle.h -- the formulas of kernels/ops.h in double: the oracle of every test. Linked into tests only.
 * Arguments as in ops.h, all values double. */
#ifndef DC_KERNELS_ORACLE_H
#define DC_KERNELS_ORACLE_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

void dc_gemm_oracle(double *c, const double *a, const double *b, const double *bias, int64_t M, int64_t N, int64_t K,
                    int64_t lda, int64_t ldb, int64_t ldc, int trans_a, int trans_b, int accumulate, double alpha);

void dc_rmsnorm_fwd_oracle(double *y, double *rstd, const double *x, const double *weight, int64_t T, int64_t C,
                           int64_t ldy, int64_t ldx, double eps, double offset);
void dc_rmsnorm_bwd_oracle(double *dx, double *dweight, const double *dy, const double *x, const double *rstd,
                           const double *weight, int64_t T, int64_t C, int64_t ldy, int64_t ldx, double offset,
                           int assign);

void dc_rope_oracle(double *x, const int32_t *pos, const float *inv_freq, int64_t T, int64_t H, int64_t D,
                    int64_t n_rot, int interleaved, double mscale, int sign);

void dc_glu_fwd_oracle(double *y, const double *gate, const double *up, int64_t n, dc_act act);
void dc_glu_bwd_oracle(double *dgate, double *dup, const double *dy, const double *gate, const double *up, int64_t n,
                       dc_act act);

void dc_adamw_oracle(double *p, double *m, double *v, const double *g, int64_t n, const dc_adamw *a);

#ifdef __cplusplus
}
#endif
#endif
