/* kernels/adamw_oracle.c -- AdamW in double, for tests. */
#include "kernels/real_double.h"

#include "kernels/adamw_tmpl.c"
