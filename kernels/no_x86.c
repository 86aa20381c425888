/* kernels/no_x86.c -- stands in for the *_avx2.c and *_avx512.c files on other processors; nothing calls it, because no feature
 * is found there. */
#include "kernels/attn.h"
#include "kernels/gemm_small.h"
#include "kernels/gemm_tile.h"
#include "kernels/loss.h"
#include "kernels/quant_rows.h"
#include "kernels/table.h"

void dc_gemm_small_avx2(const dc_gemm *g)
{
    (void)g;
    DC_ASSERT(!"reached");
}

const dc_gemm_kernel dc_gemm_kernel_avx2, dc_gemm_kernel_avx512;

void dc_gemm_pack_avx2(const dc_gemm_pack *p)
{
    (void)p;
    DC_ASSERT(!"reached");
}

dc_row_read_fn *dc_row_reader_avx2(dc_dtype type)
{
    (void)type;
    return NULL;
}

void dc_adamw_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_attn_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_attn_overlay_avx512(dc_ops *ops) { (void)ops; }
void dc_dropout_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_glu_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_glu_overlay_avx512(dc_ops *ops) { (void)ops; }
void dc_loss_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_loss_overlay_avx512(dc_ops *ops) { (void)ops; }
void dc_norm_overlay_avx2(dc_ops *ops) { (void)ops; }
void dc_rope_overlay_avx2(dc_ops *ops) { (void)ops; }
