/* kernels/cuda_dev.h -- a CUDA device as its ops see it; private to kernels/ and its tests.
 *
 * One stream carries everything an op queues; ops return before their work is done. What goes wrong sticks, with the name of the first op
 * that failed, and comes out of dc_dev_sync; after that ops still may be called and queue nothing that matters. An op allocates nothing:
 * scratch and staging are the device's, sized when it is opened (and counted by dc_dev_scratch_bytes) or when a plan is made.
 *
 * Activations are dev->activation: BF16, or F32 when the device was opened so (for comparisons: products are then fp32, not TF32). Kernels
 * are templates over the two and do their arithmetic in float; sums over many elements are fp32 in an order that the shape fixes,
 * sums of squares and losses double. Nothing is added by atomics whose order could change a bit. */
#ifndef DC_KERNELS_CUDA_DEV_H
#define DC_KERNELS_CUDA_DEV_H

#include <cuda_runtime.h>

#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The stream of a device: what every launch and copy of an op takes. */
cudaStream_t dc_cuda_stream(const dc_dev *dev);

/* Behind each launch: notes cudaGetLastError() under the op's name ("attn_fwd"). */
void dc_cuda_launched(dc_dev *dev, const char *op);

/* A table that an op has on the host (page tables, lists of tensors), at most DC_CUDA_STAGE bytes: its copy on the device, 16-byte aligned,
 * valid for what the op queues. The host's table may change once this returns. NULL when it is larger or the copy fails (noted). */
enum { DC_CUDA_STAGE = 1 << 20 };
void *dc_cuda_stage(dc_dev *dev, const void *host, size_t bytes, const char *op);

/* Device scratch of the op that asks, 256-byte aligned, undefined contents, valid until the next op asks: one piece an op, divided by the op
 * itself. At most dc_cuda_scratch_room(dev) bytes; an op whose need grows with the batch works in slices of its rows. */
void *dc_cuda_scratch(dc_dev *dev, size_t bytes);
size_t dc_cuda_scratch_room(const dc_dev *dev);
/* For tests: less of it, so that small operands have to be cut; SIZE_MAX: all. */
void dc_cuda_limit_scratch(dc_dev *dev, size_t bytes);

/* Results for the host (doubles of sumsq, the index of nonfinite): queues a copy of `bytes` from device memory to `host`, which is complete
 * after dc_dev_sync. `host` is pageable: it goes through pinned staging and is written by dc_dev_sync. */
void dc_cuda_result(dc_dev *dev, void *host, const void *from, size_t bytes, const char *op);

/* Multiprocessors, for grids that fill the card. A grid chosen from it must not change the order of any sum. */
int dc_cuda_multiprocessors(const dc_dev *dev);

/* Bytes that dc_dev_alloc and dc_dev_import have handed out and that were not given back, and the most there ever were: what a plan's
 * forecast is compared with. The device's own scratch is not among them. */
size_t dc_cuda_handed_out(const dc_dev *dev, size_t *peak);

/* Who fills the table: one function a file NAME_cuda.cu. */
void dc_adamw_overlay_cuda(dc_ops *ops); /* adamw */
void dc_attn_overlay_cuda(dc_ops *ops);  /* attn_fwd, attn_bwd, attn_decode */
void dc_gemm_overlay_cuda(dc_ops *ops);  /* gemm */
void dc_glu_overlay_cuda(dc_ops *ops);   /* glu_fwd, glu_bwd */
void dc_loss_overlay_cuda(dc_ops *ops);  /* loss */
void dc_norm_overlay_cuda(dc_ops *ops);  /* rmsnorm_fwd, rmsnorm_bwd */
void dc_rope_overlay_cuda(dc_ops *ops);  /* rope */
void dc_rows_overlay_cuda(dc_ops *ops);  /* embed_fwd, embed_bwd, gather, scatter_add, colsum, dequant */
void dc_vec_overlay_cuda(
    dc_ops *ops); /* sumsq, add, axpy, fill, narrow, softcap_fwd, softcap_bwd, dropout, nonfinite */

#ifdef __cplusplus
}
#endif
#endif
