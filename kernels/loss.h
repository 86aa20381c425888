/* kernels/loss.h -- who fills the table with the loss; private to kernels/ and its tests.
 *
 * What the contract in ops.h leaves open is settled here, for every path:
 *   - A sparse target's gradient is that of the reported loss: mass * q - p, where mass is the sum of the row's targets and tail (1 up to
 *     rounding). A row without sparse entries has no sampled target: KD = 0, no gradient.
 *   - p_tail = max(0, 1 - sum p); 0 when nothing is outside the k entries, or all of it is masked.
 *   - A masked entry (-inf) is masked on both sides: a dense teacher is renormalized over the rest, a sparse target there is left out.
 *     A label there gives CE = inf. A row that is masked as a whole has lse = -inf, KD = 0 and gradient 0.
 *   - ce, kd and lse are reported whatever the weights; a row whose weights are 0 has gradient 0.
 * Columns V .. ld of a row are neither read nor written. */
#ifndef DC_KERNELS_LOSS_H
#define DC_KERNELS_LOSS_H

#include "kernels/ops.h"

dc_loss_fn dc_loss_ref;

void dc_loss_overlay_avx2(dc_ops *ops);
void dc_loss_overlay_avx512(dc_ops *ops);

/* The same formulas in double: the oracle of every test. ce, kd, lse are [M] or NULL and take the place of those in *loss; top1 is
 * written as given there. Linked into tests only. */
void dc_loss_oracle(double *logits, double *ce, double *kd, double *lse, const dc_loss *loss);

#endif
