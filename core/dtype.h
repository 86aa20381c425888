/* core/dtype.h -- element types of tensors, with ggml's numbers, and the sizes of their blocks.
 *
 * A quantized type stores rows in blocks: `block` elements in `bytes` bytes. Layouts are those of llama.cpp's
 * ggml-common.h. The table knows every type a GGUF may hold; whether a kernel can read one is kernels/quant.h's to say. */
#ifndef DC_CORE_DTYPE_H
#define DC_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_dtype {
    DC_F32 = 0,
    DC_F16 = 1,
    DC_Q4_0 = 2,
    DC_Q4_1 = 3,
    DC_Q5_0 = 6,
    DC_Q5_1 = 7,
    DC_Q8_0 = 8,
    DC_Q8_1 = 9,
    DC_Q2_K = 10,
    DC_Q3_K = 11,
    DC_Q4_K = 12,
    DC_Q5_K = 13,
    DC_Q6_K = 14,
    DC_Q8_K = 15,
    DC_IQ2_XXS = 16,
    DC_IQ2_XS = 17,
    DC_IQ3_XXS = 18,
    DC_IQ1_S = 19,
    DC_IQ4_NL = 20,
    DC_IQ3_S = 21,
    DC_IQ2_S = 22,
    DC_IQ4_XS = 23,
    DC_I8 = 24,
    DC_I16 = 25,
    DC_I32 = 26,
    DC_I64 = 27,
    DC_F64 = 28,
    DC_IQ1_M = 29,
    DC_BF16 = 30,
    DC_TQ1_0 = 34,
    DC_TQ2_0 = 35,
    DC_MXFP4 = 39,
    DC_NVFP4 = 40,
    DC_Q1_0 = 41,
    DC_Q2_0 = 42,
    DC_DTYPE_COUNT = 43,
    DC_DTYPE_NONE = -1
} dc_dtype;

typedef struct dc_dtype_info {
    const char *name; /* ggml's: "F32", "Q4_K"; NULL for a number ggml does not use (or no longer) */
    int32_t block;    /* elements a block; 1 for plain types */
    int32_t bytes;    /* bytes a block */
} dc_dtype_info;

/* The row of a type; never NULL, its name is NULL for an unknown number. */
const dc_dtype_info *dc_dtype_get(int type);

/* The type of a name, in any case ("q4_k", "BF16"); DC_DTYPE_NONE when there is none. */
dc_dtype dc_dtype_by_name(const char *name);

/* Bytes of `n` elements in sequence. n must be a multiple of the block; -1 when it is not or the product overflows, so
 * that sizes read from a file can be checked with it. */
int64_t dc_dtype_bytes(dc_dtype type, int64_t n);

/* a * b and a + b of sizes read from a file: 0 on success, -1 on overflow or a negative operand. */
int dc_mul_size(int64_t *out, int64_t a, int64_t b);
int dc_add_size(int64_t *out, int64_t a, int64_t b);

/* A place with elements: what ops take. The pointer belongs to a device, is 64-byte aligned unless the contract says
 * otherwise. dc_cview is only read. */
typedef struct dc_view {
    void *data;
    dc_dtype type;
} dc_view;

typedef struct dc_cview {
    const void *data;
    dc_dtype type;
} dc_cview;

/* Bytes of an element of a plain type: of activations, say. */
static inline size_t dc_element_bytes(dc_dtype type) { return type == DC_F32 ? 4 : 2; }

/* The same place, to be read; from its element i on (plain types). */
static inline dc_cview dc_view_read(dc_view v)
{
    const dc_cview r = {v.data, v.type};
    return r;
}

static inline dc_view dc_view_at(dc_view v, int64_t i)
{
    const dc_view r = {(char *)v.data + i * (int64_t)dc_element_bytes(v.type), v.type};
    return r;
}

static inline dc_cview dc_cview_at(dc_cview v, int64_t i)
{
    const dc_cview at = {(const char *)v.data + i * (int64_t)dc_element_bytes(v.type), v.type};
    return at;
}

static inline dc_view dc_floats_view(float *x)
{
    const dc_view v = {x, DC_F32};
    return v;
}

#ifdef __cplusplus
}
#endif
#endif
