/* kernels/real_double.h -- makes a *_tmpl.c the double oracle. Included by *_oracle.c alone; see
 * kernels/real_float.h. */
#ifndef DC_KERNELS_REAL_DOUBLE_H
#define DC_KERNELS_REAL_DOUBLE_H

#include <math.h>
#include <stdint.h>

#include "kernels/oracle.h"

#define REAL double
#define LINKAGE
#define FN(name)        dc_##name##_oracle
#define ABS             fabs
#define ERF             erf
#define EXP             exp
#define SQRT            sqrt
#define TANH            tanh
#define WEIGHT          const double *
#define WEIGHT_AT(w, i) (w)[i]

#endif
