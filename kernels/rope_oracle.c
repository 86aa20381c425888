/* kernels/rope_oracle.c -- rotary embedding in double, for tests. */
#include "kernels/real_double.h"

#include "kernels/rope_tmpl.c"
