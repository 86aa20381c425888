/* kernels/cpu.h -- what a processor can do: a set of bits, not a ladder (AVX-VNNI comes without AVX-512). */
#ifndef DC_KERNELS_CPU_H
#define DC_KERNELS_CPU_H

#include <stddef.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off */
#define DC_CPU_FEATURES(X) \
    X(AVX2, "avx2") \
    X(FMA, "fma") X(F16C, "f16c") X(AVX512F, "avx512f") X(AVX512BW, "avx512bw") X(AVX512VL, "avx512vl") \
        X(AVX512DQ, "avx512dq") X(AVX512_BF16, "avx512bf16") X(AVX512_VNNI, "avx512vnni") X(AVX_VNNI, "avxvnni") \
            X(AMX_TILE, "amxtile") X(AMX_BF16, "amxbf16") X(AMX_INT8, "amxint8")
/* clang-format on */

enum dc_cpu_bit {
#define DC_CPU_BIT(name, text) DC_CPU_BIT_##name,
    DC_CPU_FEATURES(DC_CPU_BIT)
#undef DC_CPU_BIT
        DC_CPU_BITS
};

typedef enum dc_cpu_feature {
#define DC_CPU_MASK(name, text) DC_CPU_##name = 1 << DC_CPU_BIT_##name,
    DC_CPU_FEATURES(DC_CPU_MASK)
#undef DC_CPU_MASK
        DC_CPU_NONE = 0
} dc_cpu_feature;

/* Features that this processor has and its operating system saves (xgetbv). */
unsigned dc_cpu_found(void);

/* dc_cpu_found() masked by the environment: DC_CPU=avx2,fma allows just these, DC_CPU=none none. An unknown name is
 * DC_EUNKNOWN. The GEMM library is masked accordingly (DNNL_MAX_CPU_ISA) where it allows that. */
int dc_cpu_allowed(unsigned *out, dc_error *err);

/* "AVX2, FMA, F16C" into out. */
void dc_cpu_describe(char *out, size_t room, unsigned features);
/* The brand string, "" when there is none. */
void dc_cpu_brand(char out[64]);

#ifdef __cplusplus
}
#endif
#endif
