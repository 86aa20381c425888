/* kernels/gemm_tmpl.c -- the matrix product in plain C; see norm_tmpl.c for how it is used. */

LINKAGE void FN(gemm)(REAL *c, const REAL *a, const REAL *b, const REAL *bias, int64_t M, int64_t N, int64_t K,
                      int64_t lda, int64_t ldb, int64_t ldc, int trans_a, int trans_b, int accumulate, REAL alpha)
{
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n = 0; n < N; n++) {
            REAL sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += a[trans_a ? k * lda + m : m * lda + k] * b[trans_b ? n * ldb + k : k * ldb + n];
            REAL *at = c + m * ldc + n;
            *at = alpha * sum + (accumulate ? *at : 0) + (bias ? bias[n] : 0);
        }
    }
}
