/* kernels/gemm_onednn.c -- oneDNN's sgemm, one call in one thread. It has the same face in versions 2 and 3, keeps
 * no state by shape (the number of tokens changes from batch to batch), takes operands as they are stored, and is
 * fp32 whatever the environment says about faster modes. Measured beside its matmul primitives: the same rate. */
#include "kernels/gemm_library.h"

#include <dnnl.h>

#include "kernels/cpu.h"
#include "kernels/table.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)
#define VERSION    "oneDNN " STRING(DNNL_VERSION_MAJOR) "." STRING(DNNL_VERSION_MINOR) "." STRING(DNNL_VERSION_PATCH)

int dc_onednn_sgemm(const dc_gemm_tile *t)
{
    const dnnl_status_t status = dnnl_sgemm(t->trans_a ? 'T' : 'N', t->trans_b ? 'T' : 'N', t->M, t->N, t->K, t->alpha,
                                            t->a, t->lda, t->b, t->ldb, t->accumulate ? 1.0f : 0.0f, t->c, t->ldc);
    return status == dnnl_success ? DC_OK : status == dnnl_out_of_memory ? DC_ENOMEM : DC_EIO;
}

/* The widest instruction set that `features` leaves to the library. */
static dnnl_cpu_isa_t widest(unsigned features)
{
    const unsigned core = DC_FEATURES_AVX2 | DC_CPU_AVX512F | DC_CPU_AVX512BW | DC_CPU_AVX512VL | DC_CPU_AVX512DQ;
    const unsigned vnni = core | DC_CPU_AVX512_VNNI, bf16 = vnni | DC_CPU_AVX512_BF16;
    const unsigned amx = bf16 | DC_CPU_AMX_TILE | DC_CPU_AMX_BF16 | DC_CPU_AMX_INT8;
    if ((features & amx) == amx) return (dnnl_cpu_isa_t)0; /* no limit; its name differs between versions */
    if ((features & bf16) == bf16) return dnnl_cpu_isa_avx512_core_bf16;
    if ((features & vnni) == vnni) return dnnl_cpu_isa_avx512_core_vnni;
    if ((features & core) == core) return dnnl_cpu_isa_avx512_core;
    if ((features & DC_FEATURES_AVX2) == DC_FEATURES_AVX2) return dnnl_cpu_isa_avx2;
    return dnnl_cpu_isa_sse41;
}

void dc_onednn_limit(unsigned features)
{
    if (features != dc_cpu_found()) dnnl_set_max_cpu_isa(widest(features));
}

const char *dc_onednn_describe(void)
{
    switch ((int)dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41: return VERSION " (SSE4.1)";
    case dnnl_cpu_isa_avx: return VERSION " (AVX)";
    case dnnl_cpu_isa_avx2: return VERSION " (AVX2)";
    case dnnl_cpu_isa_avx512_core: return VERSION " (AVX-512)";
    case dnnl_cpu_isa_avx512_core_vnni: return VERSION " (AVX-512 VNNI)";
    case dnnl_cpu_isa_avx512_core_bf16: return VERSION " (AVX-512 BF16)";
    case dnnl_cpu_isa_avx512_core_amx: return VERSION " (AMX)";
    default: return VERSION " (other)";
    }
}
