/* kernels/real_float.h -- makes a *_tmpl.c the float reference. Included by *_ref.c alone.
 *
 * A template writes each formula once over REAL, in functions LINKAGE void FN(op); a reference wraps them as ops,
 * kernels/real_double.h makes the oracle of the tests from them. WEIGHT is what a weight comes as. */
#ifndef DC_KERNELS_REAL_FLOAT_H
#define DC_KERNELS_REAL_FLOAT_H

#include <math.h>
#include <stdint.h>

#include "kernels/table.h"

#define REAL            float
#define LINKAGE         static
#define FN(name)        name##_float
#define ABS             fabsf
#define ERF             erff
#define EXP             expf
#define SQRT            sqrtf
#define TANH            tanhf
#define WEIGHT          dc_cview
#define WEIGHT_AT(w, i) dc_weight_at(w, i)

#endif
