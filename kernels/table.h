/* kernels/table.h -- who fills the table of ops for a CPU; private to kernels/ and its tests. */
#ifndef DC_KERNELS_TABLE_H
#define DC_KERNELS_TABLE_H

#include "core/half.h"
#include "kernels/cpu.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The references: dc_gemm_ref, dc_rmsnorm_fwd_ref, ... They take any dev, NULL included, and need no feature. */
#define DC_OPS_REF(name) dc_##name##_fn dc_##name##_ref;
DC_OPS(DC_OPS_REF)
#undef DC_OPS_REF

/* What an overlay named avx2 needs: F16C came with AVX2 on every processor so far. */
enum { DC_FEATURES_AVX2 = DC_CPU_AVX2 | DC_CPU_FMA | DC_CPU_F16C };
/* One named avx512: what the first servers with it had. */
enum { DC_FEATURES_AVX512 = DC_FEATURES_AVX2 | DC_CPU_AVX512F | DC_CPU_AVX512BW | DC_CPU_AVX512VL | DC_CPU_AVX512DQ };
void dc_adamw_overlay_avx2(dc_ops *ops);
void dc_dropout_overlay_avx2(dc_ops *ops);
void dc_glu_overlay_avx2(dc_ops *ops);
void dc_glu_overlay_avx512(dc_ops *ops);
void dc_norm_overlay_avx2(dc_ops *ops);
void dc_rope_overlay_avx2(dc_ops *ops);
void dc_rows_overlay_avx2(dc_ops *ops);

/* The step of one item. */
static inline dc_adamw dc_adamw_of(const dc_adamw *a, const dc_adamw_item *item)
{
    dc_adamw one = *a;
    one.lr *= item->lr_scale;
    if (!item->decay) one.weight_decay = 0;
    return one;
}

/* Element i of a weight that is F32, F16 or BF16. */
static inline float dc_weight_at(dc_cview w, int64_t i)
{
    switch ((int)w.type) {
    case DC_F16: return dc_f16_to_f32(((const uint16_t *)w.data)[i]);
    case DC_BF16: return dc_bf16_to_f32(((const uint16_t *)w.data)[i]);
    default: return ((const float *)w.data)[i];
    }
}

/* Row r of a matrix of width n in any type. */
static inline const void *dc_row_at(dc_cview w, int64_t r, int64_t n)
{
    return (const char *)w.data + r * dc_dtype_bytes(w.type, n);
}

/* The [low, high) of block i of n things in blocks of `size`. */
typedef struct dc_span {
    int64_t low, high;
} dc_span;

static inline dc_span dc_block(int64_t i, int64_t n, int64_t size)
{
    const int64_t low = i * size, high = low + size;
    return (dc_span){low, high < n ? high : n};
}

static inline int64_t dc_blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* How many rows of width C make a block of work: about 16,384 elements, for which starting a thread's turn costs
 * little. Depends on the shape alone. */
static inline int64_t dc_rows_a_block(int64_t C) { return C >= 16384 ? 1 : 16384 / C; }

/* Sums and searches over n elements go by blocks of this many, at most DC_PARTIALS of them, combined in order. */
enum { DC_PARTIALS = 1024 };
static inline int64_t dc_sum_block(int64_t n)
{
    const int64_t least = dc_blocks(n, DC_PARTIALS);
    return least < 16384 ? 16384 : dc_blocks(least, 16384) * 16384;
}

#ifdef __cplusplus
}
#endif
#endif
