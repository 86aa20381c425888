/* model/head.c -- logits of a chunk of rows, and back. */
#include "model/head.h"

void dc_head_fwd(dc_model *m, float *logits, dc_cview hidden, int64_t n, const dc_run *run)
{
    (void)run;
    const dc_config *c = &m->config;
    const dc_gemm g = {.c = {logits, DC_F32},
                       .a = hidden,
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
    if (c->final_softcap > 0) m->dev->op.softcap_fwd(m->dev, logits, n * c->V, c->final_softcap);
}

void dc_head_bwd(dc_model *m, dc_view dhidden, float *dlogits, const float *logits, dc_cview hidden, int64_t n,
                 const dc_run *run)
{
    (void)run;
    const dc_config *c = &m->config;
    if (c->final_softcap > 0) {
        DC_ASSERT(logits);
        m->dev->op.softcap_bwd(m->dev, dlogits, logits, n * c->V, c->final_softcap);
    }
    const dc_gemm back = {.c = dhidden,
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
                            .b = hidden,
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
    if (!bytes) bytes = (int64_t)dc_dev_chunk_bytes(m->dev);
    const int64_t n = bytes / (m->config.V * (int64_t)sizeof(float));
    return n > 0 ? n : 1;
}
