/* kernels/adamw_cuda.cu -- AdamW for a whole list of tensors in one launch: 28 bytes a parameter, each read and written once. The operations
 * of adamw_tmpl.c in its order, each rounded by itself (the compiler would fuse products and sums), so that a step gives the CPU's bits. */
#include "kernels/cuda_dev.h"

#include <math.h>

#include "kernels/cuda_list.cuh"
#include "kernels/cuda_vec.cuh"

enum { SPAN = 4096 };

/* A tensor of the list: its pointers, and what its rate and decay make of the scalars. */
typedef struct adamw_row {
    int64_t first; /* span of the list */
    int64_t n;
    float *p, *m, *v;
    const float *g;
    float decay, step;
} adamw_row;

/* The scalars that are everybody's, formed in double and rounded once. */
typedef struct adamw_scalars {
    float toward, away, beta2, square, eps, scale, root;
} adamw_scalars;

DC_DEVICE void update(float *p, float *m, float *v, float g, const adamw_row &r, const adamw_scalars &s)
{
    const float gi = __fmul_rn(g, s.scale), pi = __fmul_rn(*p, r.decay), far = __fsub_rn(gi, *m);
    *m = s.toward < 0.5f ? __fadd_rn(*m, __fmul_rn(s.toward, far)) : __fsub_rn(gi, __fmul_rn(far, s.away));
    *v = __fadd_rn(__fmul_rn(*v, s.beta2), __fmul_rn(__fmul_rn(s.square, gi), gi));
    const float under = __fadd_rn(__fdiv_rn(__fsqrt_rn(*v), s.root), s.eps);
    *p = __fadd_rn(pi, __fdiv_rn(__fmul_rn(r.step, *m), under));
}

static DC_KERNEL(DC_VEC_THREADS) adamw_spans(const adamw_row *rows, int n_rows, adamw_scalars s)
{
    const adamw_row r = rows[dc_list_find(&rows->first, sizeof *rows, n_rows, blockIdx.x)];
    const int64_t low = (blockIdx.x - r.first) * SPAN, high = min(low + SPAN, r.n);
    for (int64_t i = low + threadIdx.x * 4; i < high; i += DC_VEC_THREADS * 4) {
        float p[4], m[4], v[4], g[4];
        dc_load_some4(p, r.p + i, high - i);
        dc_load_some4(m, r.m + i, high - i);
        dc_load_some4(v, r.v + i, high - i);
        dc_load_some4(g, r.g + i, high - i);
#pragma unroll
        for (int k = 0; k < 4; k++) update(&p[k], &m[k], &v[k], g[k], r, s);
        dc_store_some4(r.p + i, p, high - i);
        dc_store_some4(r.m + i, m, high - i);
        dc_store_some4(r.v + i, v, high - i);
    }
}

static adamw_scalars scalars_of(const dc_adamw *a)
{
    adamw_scalars s;
    s.toward = static_cast<float>(1 - a->beta1);
    s.away = 1 - s.toward;
    s.beta2 = static_cast<float>(a->beta2);
    s.square = static_cast<float>(1 - a->beta2);
    s.eps = static_cast<float>(a->eps);
    s.scale = static_cast<float>(a->grad_scale);
    s.root = static_cast<float>(sqrt(1 - pow(a->beta2, static_cast<double>(a->step))));
    return s;
}

/* The next rows of the table: at most DC_LIST items. Returns how many; *spans counts theirs. */
static size_t adamw_table(adamw_row *rows, int64_t *spans, const dc_adamw_item *items, size_t n_items,
                          const dc_adamw *a)
{
    const double correction = 1 - pow(a->beta1, static_cast<double>(a->step));
    size_t n = 0;
    *spans = 0;
    for (; n < n_items && n < DC_LIST; n++) {
        const dc_adamw_item *const t = &items[n];
        const double lr = a->lr * t->lr_scale;
        rows[n] = {*spans,
                   t->n,
                   t->p,
                   t->m,
                   t->v,
                   t->g,
                   static_cast<float>(1 - lr * (t->decay ? a->weight_decay : 0)),
                   static_cast<float>(-lr / correction)};
        *spans += dc_ceil_div(t->n, SPAN);
    }
    return n;
}

static void adamw_cuda(dc_dev *dev, const dc_adamw_item *items, size_t n_items, const dc_adamw *a)
{
    adamw_row table[DC_LIST];
    for (size_t done = 0, n; done < n_items; done += n) {
        int64_t spans;
        n = adamw_table(table, &spans, items + done, n_items - done, a);
        const auto *rows = static_cast<const adamw_row *>(dc_cuda_stage(dev, table, n * sizeof *table, "adamw"));
        if (!rows) return;
        DC_LAUNCH(adamw_spans, static_cast<unsigned>(spans), DC_VEC_THREADS, 0, dc_cuda_stream(dev), rows,
                  static_cast<int>(n), scalars_of(a));
        dc_cuda_launched(dev, "adamw");
    }
}

void dc_adamw_overlay_cuda(dc_ops *ops) { ops->adamw = adamw_cuda; }
