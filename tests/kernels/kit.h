/* tests/kernels/kit.h -- what the tests of ops share: arrays with double twins and canaries, random numbers, paths.
 *
 * test_ops.c makes its list of tests from DC_OPS: each op has a function test_NAME in one of the op_*.c files, or
 * nothing links. */
#ifndef DC_TESTS_KERNELS_KIT_H
#define DC_TESTS_KERNELS_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernels/ops.h"

#define KIT_TEST(name) void test_##name(void **state);
DC_OPS(KIT_TEST)
#undef KIT_TEST

#define KIT_COUNT(array) (sizeof(array) / sizeof *(array))

/* A float array with its double twin. Canaries stand before and behind the floats; kit_free looks at them. */
typedef struct kit_array {
    int64_t n;
    float *f;
    double *d;
} kit_array;

int kit_reset(void **state);  /* a test's set-up: its random numbers do not depend on the tests before it */
double kit_uniform(void);     /* in [-1, 1) */
int64_t kit_below(int64_t n); /* an integer in [0, n) */

kit_array kit_new(int64_t n, double scale); /* random in [-scale, scale), both twins equal; scale 0: zeros */
kit_array kit_like(kit_array a);            /* a copy of the floats, in both twins */
void kit_free(kit_array a);
void kit_check(kit_array a);     /* the canaries */
double kit_worst(kit_array a);   /* largest |f - d|; infinity when one of them alone is NaN */
double kit_largest(kit_array a); /* largest |d| */

static inline dc_view kit_view(kit_array a) { return (dc_view){a.f, DC_F32}; }
static inline dc_cview kit_cview(kit_array a) { return (dc_cview){a.f, DC_F32}; }

/* The feature sets to test: none (the reference), AVX2 alone, and all that this processor has if that is more. kit_all_paths adds the sources for
 * AVX-512 in pairs of AVX2 registers: for ops that have such. kit_ops gives the table of one. */
enum { KIT_PATHS = 4 };
#define KIT_PAIR (1u << 31)
size_t kit_paths(unsigned out[KIT_PATHS]);
size_t kit_all_paths(unsigned out[KIT_PATHS]);
dc_ops kit_ops(unsigned features);
/* pair_*.c */
void kit_attn_overlay_pair(dc_ops *ops);
void kit_glu_overlay_pair(dc_ops *ops);
void kit_loss_overlay_pair(dc_ops *ops);

/* Fails the test when the arrays differ in a bit. */
void kit_same_bits(const float *a, const float *b, int64_t n);

/* Central difference of loss(context) in *at, and an assertion that `slope` is it up to `tolerance`. */
void kit_is_slope(double (*loss)(void *context), void *context, double *at, double slope, double tolerance);

#endif
