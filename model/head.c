/* model/head.c -- logits of a chunk of rows, and back. */
#include "model/head.h"

#include <math.h>

#include "core/pool.h"

/* Caps are applied by the host to logits where they lie: a device with memory of its own would need an op for it. */
typedef struct cap_job {
    float *x;       /* logits, or their gradient */
    const float *y; /* capped logits; NULL: apply the cap */
    int64_t V;
    float cap;
} cap_job;

/* y = cap * tanh(z / cap);  dz = dy * (1 - (y / cap)^2). */
static void cap_row(void *context, int64_t row)
{
    const cap_job *j = context;
    float *x = j->x + row * j->V;
    const float inverse = 1 / j->cap;
    if (!j->y) {
        for (int64_t i = 0; i < j->V; i++) x[i] = j->cap * tanhf(x[i] * inverse);
        return;
    }
    const float *y = j->y + row * j->V;
    for (int64_t i = 0; i < j->V; i++) {
        const float t = y[i] * inverse;
        x[i] *= 1 - t * t;
    }
}

void dc_head_fwd(dc_model *m, float *logits, const float *hidden, int64_t n, const dc_run *run)
{
    (void)run;
    const dc_config *c = &m->config;
    const dc_gemm g = {.c = {logits, DC_F32},
                       .a = {hidden, DC_F32},
                       .b = m->head.w->data,
                       .M = n,
                       .N = c->V,
                       .K = c->C,
                       .lda = c->C,
                       .ldb = c->C,
                       .ldc = c->V,
                       .trans_b = 1,
                       .alpha = c->logit_scale};
    m->dev->op.gemm(m->dev, &g);
    if (c->final_softcap > 0) {
        cap_job job = {logits, NULL, c->V, c->final_softcap};
        dc_pool_for(n, cap_row, &job);
    }
}

void dc_head_bwd(dc_model *m, float *dhidden, float *dlogits, const float *logits, const float *hidden, int64_t n,
                 const dc_run *run)
{
    (void)run;
    const dc_config *c = &m->config;
    if (c->final_softcap > 0) {
        DC_ASSERT(logits);
        cap_job job = {dlogits, logits, c->V, c->final_softcap};
        dc_pool_for(n, cap_row, &job);
    }
    const dc_gemm back = {.c = {dhidden, DC_F32},
                          .a = {dlogits, DC_F32},
                          .b = m->head.w->data,
                          .M = n,
                          .N = c->C,
                          .K = c->V,
                          .lda = c->V,
                          .ldb = c->C,
                          .ldc = c->C,
                          .alpha = c->logit_scale};
    m->dev->op.gemm(m->dev, &back);
    if (!m->head.w->grad) return;
    const dc_gemm weight = {.c = {m->head.w->grad, DC_F32},
                            .a = {dlogits, DC_F32},
                            .b = {hidden, DC_F32},
                            .M = c->V,
                            .N = c->C,
                            .K = n,
                            .lda = c->V,
                            .ldb = c->C,
                            .ldc = c->C,
                            .trans_a = 1,
                            .accumulate = 1,
                            .alpha = c->logit_scale};
    m->dev->op.gemm(m->dev, &weight);
}

int64_t dc_head_chunk(const dc_model *m, int64_t bytes)
{
    const int64_t n = bytes / (m->config.V * (int64_t)sizeof(float));
    return n > 0 ? n : 1;
}
