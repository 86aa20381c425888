/* model/linear.h -- y = x W^T + bias + sum of the active delta: forward and backward, over the op table.
 *
 * Source: Hu et al. 2021, arXiv 2106.09685. With u = drop(x) A^T:
 *     y = x W^T + b + scale * u B^T
 *     du = scale * dy B;  dB += scale * dy^T u;  dA += du^T drop(x);  dx += dy W + drop'(du A);  dW += dy^T x when W is trained.
 * A frozen weight never gets a gradient buffer. */
#ifndef DC_MODEL_LINEAR_H
#define DC_MODEL_LINEAR_H

#include "model/model.h"
#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A joint's u = x a^T: [T, joint R], for the delta of l that is active and has a joint; else nothing. */
void dc_joint_fwd(dc_dev *dev, const dc_linear *l, dc_view u, dc_cview x, int64_t T, const dc_run *run);
/* dA += du^T x, and dx set, or added to with `accumulate`; NULL data: not wanted. du: of all members, whose backward was before. */
void dc_joint_bwd(dc_dev *dev, const dc_linear *l, dc_view dx, dc_cview du, dc_cview x, int64_t T, int accumulate,
                  const dc_run *run);

/* All activations are of the device's type. A delta with a joint: u is the joint's, read here, and du the joint's, whose columns are set; dA
 * and the delta's part of dx are dc_joint_bwd's. One without: u: [T, R] of the active delta, written by the forward and read by the backward; scratch:
 * [T, in] when the delta drops, else NULL data. accumulate adds to y (a residual). */
void dc_linear_fwd(dc_dev *dev, const dc_linear *l, dc_view y /* [T, out] */, dc_view u, dc_view scratch,
                   dc_cview x /* [T, in] */, int64_t T, int accumulate, const dc_run *run);
/* dx: set, or added to with `accumulate`; NULL data: not wanted. du: [T, R] scratch. */
void dc_linear_bwd(dc_dev *dev, const dc_linear *l, dc_view dx, dc_view du, dc_view scratch, dc_cview dy, dc_cview x,
                   dc_cview u, int64_t T, int accumulate, const dc_run *run);
/* Is there anything to do in the backward besides dx? */
int dc_linear_trains(const dc_linear *l, int adapter);

#ifdef __cplusplus
}
#endif
#endif
