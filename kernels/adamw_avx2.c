/* kernels/adamw_avx2.c -- AdamW for AVX2 + FMA, in threads; bound by memory. The bits of PyTorch's CPU kernels:
 * lerp_ and addcmul_ fuse their last product and sum there, and do here; formulas in adamw_tmpl.c. */
#include "kernels/table.h"

#include <immintrin.h>
#include <math.h>

#include "core/pool.h"
#include "kernels/vec.h"

enum { BLOCK = 16384 };

typedef struct adamw {
    float *p, *m, *v;
    const float *g;
    int64_t n;
    float scale, decay, weight, beta2, square, root, eps, step;
    int from_end; /* lerp_ goes from the nearer end */
} adamw;

static inline void eight(const adamw *j, __m256 *p, __m256 *m, __m256 *v, __m256 g)
{
    g = _mm256_mul_ps(g, _mm256_set1_ps(j->scale));
    *m = _mm256_fmadd_ps(_mm256_set1_ps(j->weight), _mm256_sub_ps(g, *m), j->from_end ? g : *m);
    *v = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(j->square), g), g, _mm256_mul_ps(*v, _mm256_set1_ps(j->beta2)));
    const __m256 denominator =
        _mm256_add_ps(_mm256_div_ps(_mm256_sqrt_ps(*v), _mm256_set1_ps(j->root)), _mm256_set1_ps(j->eps));
    const __m256 change = _mm256_div_ps(_mm256_mul_ps(_mm256_set1_ps(j->step), *m), denominator);
    *p = _mm256_add_ps(_mm256_mul_ps(*p, _mm256_set1_ps(j->decay)), change);
}

static void block(void *context, int64_t i)
{
    const adamw *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    int64_t k = s.low;
    for (; k + 8 <= s.high; k += 8) {
        __m256 p = _mm256_loadu_ps(j->p + k), m = _mm256_loadu_ps(j->m + k), v = _mm256_loadu_ps(j->v + k);
        eight(j, &p, &m, &v, _mm256_loadu_ps(j->g + k));
        _mm256_storeu_ps(j->p + k, p);
        _mm256_storeu_ps(j->m + k, m);
        _mm256_storeu_ps(j->v + k, v);
    }
    if (k == s.high) return;
    const int64_t n = s.high - k;
    __m256 p = dc_load_n(j->p + k, n), m = dc_load_n(j->m + k, n), v = dc_load_n(j->v + k, n);
    eight(j, &p, &m, &v, dc_load_n(j->g + k, n));
    dc_store_n(j->p + k, n, p);
    dc_store_n(j->m + k, n, m);
    dc_store_n(j->v + k, n, v);
}

static void update(const dc_adamw_item *item, const dc_adamw *a)
{
    adamw j = {.p = item->p,
               .m = item->m,
               .v = item->v,
               .g = item->g,
               .n = item->n,
               .scale = (float)a->grad_scale,
               .decay = (float)(1 - a->lr * a->weight_decay),
               .weight = (float)(1 - a->beta1),
               .beta2 = (float)a->beta2,
               .square = (float)(1 - a->beta2),
               .root = (float)sqrt(1 - pow(a->beta2, (double)a->step)),
               .eps = (float)a->eps,
               .step = (float)(-a->lr / (1 - pow(a->beta1, (double)a->step)))};
    j.from_end = j.weight >= 0.5f;
    if (j.from_end) j.weight -= 1;
    dc_pool_for(dc_blocks(j.n, BLOCK), block, &j);
}

static void adamw_avx2(dc_dev *dev, const dc_adamw_item *items, size_t n_items, const dc_adamw *a)
{
    (void)dev;
    for (size_t i = 0; i < n_items; i++) {
        const dc_adamw one = dc_adamw_of(a, &items[i]);
        update(&items[i], &one);
    }
}

void dc_adamw_overlay_avx2(dc_ops *ops) { ops->adamw = adamw_avx2; }
