/* kernels/norm_oracle.c -- RMSNorm in double, for tests. */
#include "kernels/real_double.h"

#include "kernels/norm_tmpl.c"
