/* tests/cuda/small.h -- what the tests of the small ops add to cuda_kit.h: rounding to the device's activations, errors as shares. */
#ifndef DC_TESTS_CUDA_SMALL_H
#define DC_TESTS_CUDA_SMALL_H

#include "cuda_kit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "core/half.h"

/* The largest relative error of a rounding to activations. */
static inline double small_unit(const dc_dev *dev) { return ck_eps(dev) / 2; }

static inline float small_round(const dc_dev *dev, float x)
{
    return dev->activation == DC_BF16 ? dc_bf16_to_f32(dc_f32_to_bf16(x)) : x;
}

static inline double *small_values(ck_array a)
{
    double *got = malloc((size_t)a.n * sizeof *got);
    assert_non_null(got);
    ck_get(a, got);
    return got;
}

/* The largest |device - twin| / (relative |twin| + absolute); infinity when one of them alone is NaN. */
static inline double small_share(ck_array a, double relative, double absolute)
{
    double worst = 0, *got = small_values(a);
    for (int64_t i = 0; i < a.n; i++) {
        if (isnan(got[i]) != isnan(a.d[i])) worst = INFINITY;
        if (!isnan(a.d[i])) worst = fmax(worst, fabs(got[i] - a.d[i]) / (relative * fabs(a.d[i]) + absolute));
    }
    free(got);
    return worst;
}

/* The twin becomes what the device holds now: what is compared later with it must have the same bits. */
static inline void small_keep(ck_array a) { ck_get(a, a.d); }

/* The array from its element `first` on: for rows that begin at odd places. */
static inline dc_view small_at(ck_array a, int64_t first) { return dc_view_at(ck_view(a), first); }

#endif
