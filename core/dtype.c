/* core/dtype.c */
#include "core/dtype.h"

#include <strings.h>

static const dc_dtype_info infos[DC_DTYPE_COUNT] = {
    [DC_F32] = {"F32", 1, 4},
    [DC_F16] = {"F16", 1, 2},
    [DC_Q4_0] = {"Q4_0", 32, 18},
    [DC_Q4_1] = {"Q4_1", 32, 20},
    [DC_Q5_0] = {"Q5_0", 32, 22},
    [DC_Q5_1] = {"Q5_1", 32, 24},
    [DC_Q8_0] = {"Q8_0", 32, 34},
    [DC_Q8_1] = {"Q8_1", 32, 36},
    [DC_Q2_K] = {"Q2_K", 256, 84},
    [DC_Q3_K] = {"Q3_K", 256, 110},
    [DC_Q4_K] = {"Q4_K", 256, 144},
    [DC_Q5_K] = {"Q5_K", 256, 176},
    [DC_Q6_K] = {"Q6_K", 256, 210},
    [DC_Q8_K] = {"Q8_K", 256, 292},
    [DC_IQ2_XXS] = {"IQ2_XXS", 256, 66},
    [DC_IQ2_XS] = {"IQ2_XS", 256, 74},
    [DC_IQ3_XXS] = {"IQ3_XXS", 256, 98},
    [DC_IQ1_S] = {"IQ1_S", 256, 50},
    [DC_IQ4_NL] = {"IQ4_NL", 32, 18},
    [DC_IQ3_S] = {"IQ3_S", 256, 110},
    [DC_IQ2_S] = {"IQ2_S", 256, 82},
    [DC_IQ4_XS] = {"IQ4_XS", 256, 136},
    [DC_I8] = {"I8", 1, 1},
    [DC_I16] = {"I16", 1, 2},
    [DC_I32] = {"I32", 1, 4},
    [DC_I64] = {"I64", 1, 8},
    [DC_F64] = {"F64", 1, 8},
    [DC_IQ1_M] = {"IQ1_M", 256, 56},
    [DC_BF16] = {"BF16", 1, 2},
    [DC_TQ1_0] = {"TQ1_0", 256, 54},
    [DC_TQ2_0] = {"TQ2_0", 256, 66},
    [DC_MXFP4] = {"MXFP4", 32, 17},
    [DC_NVFP4] = {"NVFP4", 64, 36},
    [DC_Q1_0] = {"Q1_0", 128, 18},
    [DC_Q2_0] = {"Q2_0", 64, 18},
};

static const dc_dtype_info unknown = {NULL, 1, 0};

const dc_dtype_info *dc_dtype_get(int type)
{
    return type >= 0 && type < DC_DTYPE_COUNT && infos[type].name ? &infos[type] : &unknown;
}

dc_dtype dc_dtype_by_name(const char *name)
{
    for (int t = 0; t < DC_DTYPE_COUNT; t++)
        if (infos[t].name && !strcasecmp(infos[t].name, name)) return (dc_dtype)t;
    return DC_DTYPE_NONE;
}

int64_t dc_dtype_bytes(dc_dtype type, int64_t n)
{
    const dc_dtype_info *info = dc_dtype_get(type);
    int64_t bytes;
    if (!info->name || n < 0 || n % info->block) return -1;
    return dc_mul_size(&bytes, n / info->block, info->bytes) ? -1 : bytes;
}

int dc_mul_size(int64_t *out, int64_t a, int64_t b)
{
    int64_t product;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product)) return -1;
    *out = product;
    return 0;
}

int dc_add_size(int64_t *out, int64_t a, int64_t b)
{
    int64_t sum;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &sum)) return -1;
    *out = sum;
    return 0;
}
