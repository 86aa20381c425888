/* kernels/gemm_oracle.c -- the matrix product in double, for tests. */
#include "kernels/real_double.h"

#include "kernels/gemm_tmpl.c"
