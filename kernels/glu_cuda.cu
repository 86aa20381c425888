/* kernels/glu_cuda.cu -- gated activations. Bound by memory: 3 elements a result forward, 5 backward (6 and 10 bytes of bf16), read and
 * written once. Formulas: glu_tmpl.c. */
#include "kernels/cuda_dev.h"
#include "kernels/cuda_vec.cuh"

/* act(x) and its derivative. */
DC_DEVICE float activated(float x, dc_act act, float *slope)
{
    if (act == DC_ACT_GELU_ERF) {
        const float p = 0.5f * (1.0f + erff(x * 0.70710678118654752440f));
        *slope = p + x * expf(x * x * -0.5f) * 0.39894228040143267794f;
        return x * p;
    }
    float z = x, dz = 1.0f; /* the sigmoid's argument and its derivative */
    if (act == DC_ACT_GELU_TANH) {
        const float a = 1.59576912160573071176f, ab = 0.07135481627260025f; /* 2 sqrt(2 / pi), and 0.044715 of it */
        z = x * (a + ab * x * x);
        dz = a + 3.0f * ab * x * x;
    }
    const float s = 1.0f / (1.0f + expf(-z));
    *slope = s + x * s * (1.0f - s) * dz;
    return x * s;
}

template <typename T>
static DC_KERNEL(DC_VEC_THREADS) glu_forward(T *y, const T *gate, const T *up, int64_t n, dc_act act)
{
    const int64_t i = dc_vec_first(8);
    float g[8], u[8], unused;
    if (i >= n) return;
    dc_load_some(g, gate + i, n - i);
    dc_load_some(u, up + i, n - i);
#pragma unroll
    for (int k = 0; k < 8; k++) g[k] = activated(g[k], act, &unused) * u[k];
    dc_store_some(y + i, g, n - i);
}

/* A thread reads all it needs before it writes: dgate and dup may be gate and up, hence no `restrict`. */
template <typename T>
static DC_KERNEL(DC_VEC_THREADS)
    glu_backward(T *dgate, T *dup, const T *dy, const T *gate, const T *up, int64_t n, dc_act act)
{
    const int64_t i = dc_vec_first(8);
    float g[8], u[8], d[8];
    if (i >= n) return;
    dc_load_some(g, gate + i, n - i);
    dc_load_some(u, up + i, n - i);
    dc_load_some(d, dy + i, n - i);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        float slope;
        const float value = activated(g[k], act, &slope);
        g[k] = d[k] * u[k] * slope;
        u[k] = d[k] * value;
    }
    dc_store_some(dgate + i, g, n - i);
    dc_store_some(dup + i, u, n - i);
}

template <typename T>
static void launch_forward(dc_dev *dev, void *y, const void *gate, const void *up, int64_t n, dc_act act)
{
    DC_LAUNCH(glu_forward<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(y),
              static_cast<const T *>(gate), static_cast<const T *>(up), n, act);
    dc_cuda_launched(dev, "glu_fwd");
}

static void glu_fwd_cuda(dc_dev *dev, dc_view y, dc_cview gate, dc_cview up, int64_t n, dc_act act)
{
    DC_ASSERT(gate.type == y.type && up.type == y.type);
    DC_BY_ACTIVATION(y.type, launch_forward, dev, y.data, gate.data, up.data, n, act);
}

template <typename T>
static void launch_backward(dc_dev *dev, void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                            int64_t n, dc_act act)
{
    DC_LAUNCH(glu_backward<T>, dc_vec_blocks(n, 8), DC_VEC_THREADS, 0, dc_cuda_stream(dev), static_cast<T *>(dgate),
              static_cast<T *>(dup), static_cast<const T *>(dy), static_cast<const T *>(gate),
              static_cast<const T *>(up), n, act);
    dc_cuda_launched(dev, "glu_bwd");
}

static void glu_bwd_cuda(dc_dev *dev, dc_view dgate, dc_view dup, dc_cview dy, dc_cview gate, dc_cview up, int64_t n,
                         dc_act act)
{
    DC_ASSERT(dup.type == dgate.type && dy.type == dgate.type && gate.type == dgate.type && up.type == dgate.type);
    DC_BY_ACTIVATION(dgate.type, launch_backward, dev, dgate.data, dup.data, dy.data, gate.data, up.data, n, act);
}

void dc_glu_overlay_cuda(dc_ops *ops)
{
    ops->glu_fwd = glu_fwd_cuda;
    ops->glu_bwd = glu_bwd_cuda;
}
