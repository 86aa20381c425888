/* model/linear.c -- a linear with its low-rank delta, forward and backward. */
#include "model/linear.h"

#include <stddef.h>

static const float *bias_of(const dc_linear *l) { return l->bias ? l->bias->data.data : NULL; }

static const dc_delta *active(const dc_linear *l, const dc_run *run)
{
    return run->adapter >= 0 ? l->delta[run->adapter] : NULL;
}

static const dc_joint *joint_of(const dc_linear *l, const dc_run *run)
{
    const dc_delta *d = active(l, run);
    return d ? d->joint : NULL;
}

static int drops(const dc_delta *d, const dc_run *run) { return run->training && d->dropout > 0; }

static dc_dropout mask(const dc_delta *d, const dc_run *run)
{
    const dc_dropout m = {d->dropout, run->seed, d->place, run->device_step};
    return m;
}

/* From row to row of u and du. */
static int64_t low_stride(const dc_delta *d) { return d->joint ? d->joint->R : d->R; }

/* The delta's columns of u or du. */
static dc_view low_columns(const dc_delta *d, dc_view u) { return d->joint ? dc_view_at(u, d->first) : u; }

/* y = alpha * x w^T (+ y) (+ bias), x [M, K] with rows ldx apart, w [N, K]. */
static void product_nt(dc_dev *dev, dc_view y, dc_cview x, dc_cview w, const float *bias, int64_t M, int64_t N,
                       int64_t K, int64_t ldx, float alpha, int accumulate)
{
    const dc_gemm g = {.c = y,
                       .a = x,
                       .b = w,
                       .bias = bias,
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = ldx,
                       .ldb = K,
                       .ldc = N,
                       .trans_b = 1,
                       .accumulate = accumulate,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

/* y = alpha * x w (+ y), y [M, N] with rows ldy apart, w [K, N]. */
static void product_nn(dc_dev *dev, dc_view y, dc_cview x, dc_cview w, int64_t M, int64_t N, int64_t K, int64_t ldy,
                       float alpha, int accumulate)
{
    const dc_gemm g = {.c = y,
                       .a = x,
                       .b = w,
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = K,
                       .ldb = N,
                       .ldc = ldy,
                       .accumulate = accumulate,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

/* dw += alpha * dy^T x, dy [T, M], x [T, N] with rows ldx apart. */
static void product_tn(dc_dev *dev, float *dw, dc_cview dy, dc_cview x, int64_t M, int64_t N, int64_t T, int64_t ldx,
                       float alpha)
{
    const dc_gemm g = {.c = dc_floats_view(dw),
                       .a = dy,
                       .b = x,
                       .M = M,
                       .N = N,
                       .K = T,
                       .lda = M,
                       .ldb = ldx,
                       .ldc = N,
                       .trans_a = 1,
                       .accumulate = 1,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

void dc_joint_fwd(dc_dev *dev, const dc_linear *l, dc_view u, dc_cview x, int64_t T, const dc_run *run)
{
    const dc_joint *j = joint_of(l, run);
    if (j) product_nt(dev, u, x, j->a, NULL, T, j->R, l->in, l->in, 1, 0);
}

void dc_joint_bwd(dc_dev *dev, const dc_linear *l, dc_view dx, dc_cview du, dc_cview x, int64_t T, int accumulate,
                  const dc_run *run)
{
    const dc_joint *j = joint_of(l, run);
    if (!j) return;
    if (j->dA) product_tn(dev, j->dA, du, x, j->R, l->in, T, l->in, 1);
    if (dx.data) product_nn(dev, dx, du, j->a, T, l->in, j->R, l->in, 1, accumulate);
}

/* The delta comes first where it can, in both directions: its product is all writing, and the base's, which has arithmetic to hide it behind,
 * reads y. */
static void delta_fwd(dc_dev *dev, const dc_linear *l, const dc_delta *d, dc_view y, dc_view u, dc_view scratch,
                      dc_cview x, int64_t T, int accumulate, const dc_run *run)
{
    if (drops(d, run)) {
        const dc_dropout m = mask(d, run);
        dev->op.dropout(dev, scratch, x, T * l->in, &m, 0);
        x = dc_view_read(scratch);
    }
    if (!d->joint) product_nt(dev, u, x, d->a, NULL, T, d->R, l->in, l->in, 1, 0);
    product_nt(dev, y, dc_view_read(low_columns(d, u)), d->b, NULL, T, l->out, d->R, low_stride(d), d->scale,
               accumulate);
}

void dc_linear_fwd(dc_dev *dev, const dc_linear *l, dc_view y, dc_view u, dc_view scratch, dc_cview x, int64_t T,
                   int accumulate, const dc_run *run)
{
    const dc_delta *d = active(l, run);
    if (d) delta_fwd(dev, l, d, y, u, scratch, x, T, accumulate, run);
    product_nt(dev, y, x, l->w->data, bias_of(l), T, l->out, l->in, l->in, 1, accumulate || d);
}

/* dA, and the delta's dx, set or added to, of one that stands alone. */
static void alone_bwd(dc_dev *dev, const dc_linear *l, const dc_delta *d, dc_view dx, dc_cview du, dc_view scratch,
                      dc_cview x, int64_t T, int accumulate, const dc_run *run)
{
    const dc_dropout m = mask(d, run);
    if (d->dA) {
        if (drops(d, run)) {
            dev->op.dropout(dev, scratch, x, T * l->in, &m, 0);
            x = dc_view_read(scratch);
        }
        product_tn(dev, d->dA, du, x, d->R, l->in, T, l->in, 1);
    }
    if (!dx.data) return;
    if (drops(d, run)) {
        product_nn(dev, scratch, du, d->a, T, l->in, d->R, l->in, 1, 0);
        dev->op.dropout(dev, dx, dc_view_read(scratch), T * l->in, &m, accumulate);
    } else {
        product_nn(dev, dx, du, d->a, T, l->in, d->R, l->in, 1, accumulate);
    }
}

void dc_linear_bwd(dc_dev *dev, const dc_linear *l, dc_view dx, dc_view du, dc_view scratch, dc_cview dy, dc_cview x,
                   dc_cview u, int64_t T, int accumulate, const dc_run *run)
{
    const dc_delta *d = active(l, run);
    const int alone = d && !d->joint;
    if (d && d->dB) {
        const dc_cview columns = d->joint ? dc_cview_at(u, d->first) : u;
        product_tn(dev, d->dB, dy, columns, l->out, d->R, T, low_stride(d), d->scale);
    }
    if (d && du.data) product_nn(dev, low_columns(d, du), dy, d->b, T, d->R, l->out, low_stride(d), d->scale, 0);
    if (alone && du.data) alone_bwd(dev, l, d, dx, dc_view_read(du), scratch, x, T, accumulate, run);
    if (dx.data) product_nn(dev, dx, dy, l->w->data, T, l->in, l->out, l->in, 1, accumulate || alone);
    if (l->bias && l->bias->grad) dev->op.colsum(dev, l->bias->grad, dy, T, l->out);
    if (l->w->grad) product_tn(dev, l->w->grad, dy, x, l->out, l->in, T, l->in, 1);
}

int dc_linear_trains(const dc_linear *l, int adapter)
{
    const dc_delta *d = adapter >= 0 ? l->delta[adapter] : NULL;
    return l->w->grad || (l->bias && l->bias->grad) || (d && (d->dA || d->dB));
}
