/* kernels/attn.h -- who fills the table with attention; private to kernels/ and its tests.
 *
 * Rows of q that belong to no document (T beyond the last of cu_seqlens) get o = 0, lse = 0 and gradients 0. A NaN in q, k or v comes out
 * as a NaN in what depends on it. Scratch is on the thread's stack, at most DC_ATTN_STACK bytes: an op has no way to report
 * that memory ran out, and a training step allocates nothing. */
#ifndef DC_KERNELS_ATTN_H
#define DC_KERNELS_ATTN_H

#include "kernels/ops.h"

#define DC_ATTN_MAX_D 256 /* the widest head that the contract asks for */
#define DC_ATTN_STACK (512 << 10)

dc_attn_fwd_fn dc_attn_fwd_ref;
dc_attn_bwd_fn dc_attn_bwd_ref;
dc_attn_decode_fn dc_attn_decode_ref;

void dc_attn_overlay_avx2(dc_ops *ops);
void dc_attn_overlay_avx512(dc_ops *ops);

/* The same formulas in double: the oracle of every test. Pages of decode hold doubles. Linked into tests only. */
void dc_attn_fwd_oracle(double *o, double *lse, const double *q, const double *k, const double *v, const dc_attn *a);
void dc_attn_bwd_oracle(double *dq, double *dk, double *dv, const double *d_o, const double *o, const double *lse,
                        const double *q, const double *k, const double *v, const dc_attn *a);
void dc_attn_decode_oracle(double *o, const double *q, const dc_attn_kv *a);

#endif
