/* tests/cuda/cuda_kit.h -- what the tests of CUDA ops share: arrays on the device with double twins, schedules, tolerances.
 *
 * test_cuda_ops.c makes its list from DC_OPS: each op has a function cuda_test_NAME in one of the op_*.c files here, or nothing links. The same
 * tests run on the emulated device, once for each schedule and for each type of activations, and on a card when the program is linked with
 * the real backend. Truth is the oracle in double (kernels/oracle.h) on the very inputs, rounded to the device's type. */
#ifndef DC_TESTS_CUDA_KIT_H
#define DC_TESTS_CUDA_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_TEST(name) void cuda_test_##name(dc_dev *dev);
DC_OPS(CUDA_TEST)
#undef CUDA_TEST

#define CK_COUNT(array) (sizeof(array) / sizeof *(array))

/* n elements on the device with a double twin on the host; canaries stand before and behind (ck_free looks at them). */
typedef struct ck_array {
    dc_dev *dev;
    int64_t n;
    dc_dtype type;
    void *data; /* on the device */
    double *d;
} ck_array;

void ck_reset(void); /* the random numbers begin anew */

/* Random in [-scale, scale), rounded to `type` in both twins; scale 0: zeros. `activation` arrays take dev->activation.
 * A quantized type has random blocks when it cannot be written, and n a multiple of its block; the twin is what the CPU reads. */
ck_array ck_new(dc_dev *dev, dc_dtype type, int64_t n, double scale);
ck_array ck_activation(dc_dev *dev, int64_t n, double scale);
ck_array ck_from(dc_dev *dev, dc_dtype type, int64_t n, const double *values); /* rounded to `type` in both */
void ck_check(ck_array a);                                                     /* the canaries */
void ck_free(ck_array a);

static inline dc_view ck_view(ck_array a)
{
    const dc_view v = {a.data, a.type};
    return v;
}

static inline dc_cview ck_cview(ck_array a)
{
    const dc_cview v = {a.data, a.type};
    return v;
}

/* int32 tables on the device; freed by ck_free_ints. */
int32_t *ck_ints(dc_dev *dev, const int32_t *host, int64_t n);
void ck_free_ints(dc_dev *dev, int32_t *ints);

void ck_get(ck_array a, double *out); /* waits, and fails the test when the device has an error */
double ck_worst(ck_array a);          /* largest |device - twin|; infinity when one of them alone is NaN */
double ck_largest(ck_array a);        /* largest |twin| */
/* The distance of numbers at 1 in the device's activations: 2^-7 for BF16, 2^-23 for F32. A rounding is off by half of it. */
double ck_eps(const dc_dev *dev);
double ck_uniform(void); /* in [-1, 1); the sequence begins anew with each test */
int64_t ck_below(int64_t n);

#ifdef __cplusplus
}
#endif
#endif
