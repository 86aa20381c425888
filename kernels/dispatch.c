/* kernels/dispatch.c -- the table of ops of a processor: the references, overlaid by what its features allow. */
#include "kernels/attn.h"
#include "kernels/loss.h"
#include "kernels/table.h"

void dc_cpu_ops(dc_ops *ops, unsigned features)
{
    *ops = (dc_ops){
#define REFERENCE(name) .name = dc_##name##_ref,
        DC_OPS(REFERENCE)
#undef REFERENCE
    };
    if ((features & DC_FEATURES_AVX2) == DC_FEATURES_AVX2) {
        dc_adamw_overlay_avx2(ops);
        dc_attn_overlay_avx2(ops);
        dc_dropout_overlay_avx2(ops);
        dc_glu_overlay_avx2(ops);
        dc_loss_overlay_avx2(ops);
        dc_norm_overlay_avx2(ops);
        dc_rope_overlay_avx2(ops);
        dc_rows_overlay_avx2(ops);
    }
    if ((features & DC_FEATURES_AVX512) == DC_FEATURES_AVX512) {
        dc_attn_overlay_avx512(ops);
        dc_glu_overlay_avx512(ops);
        dc_loss_overlay_avx512(ops);
    }
}
