/* kernels/glu_oracle.c -- gated activations in double, for tests. */
#include "kernels/real_double.h"

#include "kernels/glu_tmpl.c"
