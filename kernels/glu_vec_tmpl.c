/* kernels/glu_vec_tmpl.c -- gated activations in registers of DC_LANES floats, in threads; included by glu_avx2.c and
 * glu_avx512.c, which put vec_glu_fwd and vec_glu_bwd into the table. The exact GELU stays the reference's, block
 * by block: its erf has no vector form here. Formulas: glu_tmpl.c. */
#include "kernels/table.h"

#include "core/pool.h"
#include "kernels/vec.h"

enum { BLOCK = 8192 };

typedef struct glu {
    float *y, *dgate, *dup;
    const float *dy, *gate, *up;
    int64_t n;
    dc_act act;
} glu;

/* act(x), and its derivative. */
DC_INLINE dc_vec activated(dc_vec x, dc_act act, dc_vec *slope)
{
    const dc_vec one = dc_set(1.0f);
    dc_vec z = x, dz = one;
    if (act == DC_ACT_GELU_TANH) {
        const dc_vec a = dc_set(1.59576912160573071176f), x2 = dc_mul(x, x);
        const dc_vec ab = dc_set((float)(0.044715 * 1.59576912160573071176));
        z = dc_mul(x, dc_fma(ab, x2, a));
        dz = dc_fma(dc_mul(dc_set(3.0f), ab), x2, a);
    }
    const dc_vec e = dc_exp(dc_sub(dc_set(0), z));
    const dc_vec s = dc_div(one, dc_add(one, e)), value = dc_mul(x, s);
    *slope = dc_fma(dc_mul(value, dc_sub(one, s)), dz, s);
    return value;
}

DC_INLINE dc_vec load(const float *p, int64_t n) { return n >= DC_LANES ? dc_load(p) : dc_load_n(p, n); }

DC_INLINE void store(float *p, int64_t n, dc_vec v)
{
    if (n >= DC_LANES) dc_store(p, v);
    else dc_store_n(p, n, v);
}

DC_INLINE void fwd_span(const glu *j, dc_span s, dc_act act)
{
    for (int64_t i = s.low; i < s.high; i += DC_LANES) {
        const int64_t n = s.high - i;
        dc_vec slope;
        const dc_vec value = activated(load(j->gate + i, n), act, &slope);
        store(j->y + i, n, dc_mul(value, load(j->up + i, n)));
    }
}

static void fwd_block(void *context, int64_t i)
{
    const glu *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    switch (j->act) { /* a constant for each copy of the loop */
    case DC_ACT_SILU: fwd_span(j, s, DC_ACT_SILU); break;
    case DC_ACT_GELU_TANH: fwd_span(j, s, DC_ACT_GELU_TANH); break;
    default:
        dc_glu_fwd_ref(NULL, (dc_view){j->y + s.low, DC_F32}, (dc_cview){j->gate + s.low, DC_F32},
                       (dc_cview){j->up + s.low, DC_F32}, s.high - s.low, j->act);
    }
}

static void vec_glu_fwd(dc_dev *dev, dc_view y, dc_cview gate, dc_cview up, int64_t n, dc_act act)
{
    (void)dev;
    glu j = {.y = y.data, .gate = gate.data, .up = up.data, .n = n, .act = act};
    dc_pool_for(dc_blocks(n, BLOCK), fwd_block, &j);
}

DC_INLINE void bwd_span(const glu *j, dc_span s, dc_act act)
{
    for (int64_t i = s.low; i < s.high; i += DC_LANES) {
        const int64_t n = s.high - i;
        dc_vec slope;
        const dc_vec value = activated(load(j->gate + i, n), act, &slope);
        const dc_vec d = load(j->dy + i, n), u = load(j->up + i, n);
        store(j->dgate + i, n, dc_mul(dc_mul(d, u), slope));
        store(j->dup + i, n, dc_mul(d, value));
    }
}

static void bwd_block(void *context, int64_t i)
{
    const glu *j = context;
    const dc_span s = dc_block(i, j->n, BLOCK);
    switch (j->act) {
    case DC_ACT_SILU: bwd_span(j, s, DC_ACT_SILU); break;
    case DC_ACT_GELU_TANH: bwd_span(j, s, DC_ACT_GELU_TANH); break;
    default:
        dc_glu_bwd_ref(NULL, (dc_view){j->dgate + s.low, DC_F32}, (dc_view){j->dup + s.low, DC_F32},
                       (dc_cview){j->dy + s.low, DC_F32}, (dc_cview){j->gate + s.low, DC_F32},
                       (dc_cview){j->up + s.low, DC_F32}, s.high - s.low, j->act);
    }
}

static void vec_glu_bwd(dc_dev *dev, dc_view dgate, dc_view dup, dc_cview dy, dc_cview gate, dc_cview up, int64_t n,
                        dc_act act)
{
    (void)dev;
    glu j = {.dgate = dgate.data, .dup = dup.data, .dy = dy.data, .gate = gate.data, .up = up.data, .n = n, .act = act};
    dc_pool_for(dc_blocks(n, BLOCK), bwd_block, &j);
}
