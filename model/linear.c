/* model/linear.c -- a linear with its low-rank delta, forward and backward. */
#include "model/linear.h"

#include <stddef.h>

static dc_cview read_f32(const float *x)
{
    const dc_cview v = {x, DC_F32};
    return v;
}

static const float *bias_of(const dc_linear *l) { return l->bias ? l->bias->data.data : NULL; }

static const dc_delta *active(const dc_linear *l, const dc_run *run)
{
    return run->adapter >= 0 ? l->delta[run->adapter] : NULL;
}

static int drops(const dc_delta *d, const dc_run *run) { return run->training && d->dropout > 0; }

static dc_dropout mask(const dc_delta *d, const dc_run *run)
{
    const dc_dropout m = {d->dropout, run->seed, d->place, run->device_step};
    return m;
}

/* y = alpha * x w^T (+ y) (+ bias), w [N, K]. */
static void product_nt(dc_dev *dev, dc_view y, dc_cview x, dc_cview w, const float *bias, int64_t M, int64_t N,
                       int64_t K, float alpha, int accumulate)
{
    const dc_gemm g = {.c = y,
                       .a = x,
                       .b = w,
                       .bias = bias,
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = K,
                       .ldb = K,
                       .ldc = N,
                       .trans_b = 1,
                       .accumulate = accumulate,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

/* y = alpha * x w (+ y), w [K, N]. */
static void product_nn(dc_dev *dev, dc_view y, dc_cview x, dc_cview w, int64_t M, int64_t N, int64_t K, float alpha,
                       int accumulate)
{
    const dc_gemm g = {.c = y,
                       .a = x,
                       .b = w,
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = K,
                       .ldb = N,
                       .ldc = N,
                       .accumulate = accumulate,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

/* dw += alpha * dy^T x, dy [T, M], x [T, N]. */
static void product_tn(dc_dev *dev, float *dw, dc_cview dy, dc_cview x, int64_t M, int64_t N, int64_t T, float alpha)
{
    const dc_gemm g = {.c = dc_floats_view(dw),
                       .a = dy,
                       .b = x,
                       .M = M,
                       .N = N,
                       .K = T,
                       .lda = M,
                       .ldb = N,
                       .ldc = N,
                       .trans_a = 1,
                       .accumulate = 1,
                       .alpha = alpha};
    dev->op.gemm(dev, &g);
}

void dc_linear_fwd(dc_dev *dev, const dc_linear *l, dc_view y, dc_view u, dc_view scratch, dc_cview x, int64_t T,
                   int accumulate, const dc_run *run)
{
    product_nt(dev, y, x, l->w->data, bias_of(l), T, l->out, l->in, 1, accumulate);
    const dc_delta *d = active(l, run);
    if (!d) return;
    if (drops(d, run)) {
        const dc_dropout m = mask(d, run);
        dev->op.dropout(dev, scratch, x, T * l->in, &m, 0);
        x = dc_view_read(scratch);
    }
    product_nt(dev, u, x, read_f32(d->A), NULL, T, d->R, l->in, 1, 0);
    product_nt(dev, y, dc_view_read(u), read_f32(d->B), NULL, T, l->out, d->R, d->scale, 1);
}

/* The delta's part: gradients of A and B, and what it adds to dx. */
static void delta_bwd(dc_dev *dev, const dc_linear *l, const dc_delta *d, dc_view dx, dc_view du, dc_view scratch,
                      dc_cview dy, dc_cview x, dc_cview u, int64_t T, const dc_run *run)
{
    const dc_dropout m = mask(d, run);
    if (d->dB) product_tn(dev, d->dB, dy, u, l->out, d->R, T, d->scale);
    if (!d->dA && !dx.data) return;
    product_nn(dev, du, dy, read_f32(d->B), T, d->R, l->out, d->scale, 0);
    if (d->dA) {
        if (drops(d, run)) {
            dev->op.dropout(dev, scratch, x, T * l->in, &m, 0);
            x = dc_view_read(scratch);
        }
        product_tn(dev, d->dA, dc_view_read(du), x, d->R, l->in, T, 1);
    }
    if (!dx.data) return;
    if (drops(d, run)) {
        product_nn(dev, scratch, dc_view_read(du), read_f32(d->A), T, l->in, d->R, 1, 0);
        dev->op.dropout(dev, dx, dc_view_read(scratch), T * l->in, &m, 1);
    } else {
        product_nn(dev, dx, dc_view_read(du), read_f32(d->A), T, l->in, d->R, 1, 1);
    }
}

void dc_linear_bwd(dc_dev *dev, const dc_linear *l, dc_view dx, dc_view du, dc_view scratch, dc_cview dy, dc_cview x,
                   dc_cview u, int64_t T, int accumulate, const dc_run *run)
{
    if (dx.data) product_nn(dev, dx, dy, l->w->data, T, l->in, l->out, 1, accumulate);
    if (l->bias && l->bias->grad) dev->op.colsum(dev, l->bias->grad, dy, T, l->out);
    if (l->w->grad) product_tn(dev, l->w->grad, dy, x, l->out, l->in, T, 1);
    const dc_delta *d = active(l, run);
    if (d) delta_bwd(dev, l, d, dx, du, scratch, dy, x, u, T, run);
}

int dc_linear_trains(const dc_linear *l, int adapter)
{
    const dc_delta *d = adapter >= 0 ? l->delta[adapter] : NULL;
    return l->w->grad || (l->bias && l->bias->grad) || (d && (d->dA || d->dB));
}
