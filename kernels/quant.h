/* kernels/quant.h -- rows of stored element types: unpacking to float, and packing.
 *
 * Layouts and rounding are llama.cpp's (ggml-common.h, ggml-quants.c): unpacking gives the bits its dequantize_row_* give, packing
 * the bytes its quantize_row_*_ref give (files of this part are compiled with -ffp-contract=off). A row's length is a
 * multiple of the type's block. */
#ifndef DC_KERNELS_QUANT_H
#define DC_KERNELS_QUANT_H

#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void dc_row_read_fn(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n);
typedef void dc_row_write_fn(void *DC_RESTRICT row, const float *DC_RESTRICT x, int64_t n);

/* NULL when the type cannot be read (written). Read: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K. Written: F32,
 * F16, BF16, Q8_0, Q4_0. `features` chooses among variants that give the same bits. */
dc_row_read_fn *dc_row_reader(dc_dtype type, unsigned features);
dc_row_write_fn *dc_row_writer(dc_dtype type, unsigned features);

/* The names of all types that can be read (written), "F32, F16, ...": for messages. */
const char *dc_row_readable(void);
const char *dc_row_writable(void);

#ifdef __cplusplus
}
#endif
#endif
