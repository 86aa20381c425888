/* export/parity.c */
#include "export/parity.h"

#include <math.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/stop.h"
#include "model/head.h"
#include "train/objective.h"

/* One of the two models, with a chunk of its logits. */
typedef struct side {
    dc_model *m;
    dc_run run;
    dc_plan *plan;
    float *logits; /* [chunk, V] on the device */
    float *host;   /* the same on the host */
    float *ce;     /* [chunk] device */
    int32_t *top1; /* [chunk] device */
    float *host_ce;
    int32_t *host_top1;
} side;

typedef struct pair {
    side ref, file;
    int64_t chunk, V;
    int32_t *labels; /* device */
    float *w, *kl, *host_kl;
    double nmse_num, nmse_den, ce_ref, ce_file, same;
} pair;

static int alloc(dc_dev *dev, void *out, size_t bytes, dc_error *err)
{
    return dc_dev_alloc(dev, out, bytes, "the parity check", err);
}

static int open_side(side *s, dc_model *m, int adapter, dc_loader *loader, int64_t chunk, dc_error *err)
{
    int rc = DC_OK;
    int64_t T, B, M;
    const size_t n = (size_t)chunk, bytes = n * (size_t)m->config.V * sizeof(float);
    s->m = m, s->run = (dc_run){.adapter = adapter};
    dc_loader_bounds(loader, &T, &B, &M);
    const dc_plan_options o = {.max_tokens = T, .max_docs = B, .max_rows = M, .adapter = adapter};
    DC_TRY(dc_plan_new(&s->plan, m, &o, err));
    DC_TRY(alloc(m->dev, &s->logits, bytes, err));
    DC_TRY(alloc(m->dev, &s->ce, n * 4, err));
    DC_TRY(alloc(m->dev, &s->top1, n * 4, err));
    s->host = dc_malloc(bytes), s->host_ce = dc_malloc(n * 4), s->host_top1 = dc_malloc(n * 4);
    if (!s->host || !s->host_ce || !s->host_top1) rc = dc_fail_memory(err, bytes, "the parity check");
done:
    return rc;
}

static void close_side(side *s)
{
    if (!s->m) return;
    dc_plan_free(s->plan);
    dc_dev_free(s->m->dev, s->logits);
    dc_dev_free(s->m->dev, s->ce);
    dc_dev_free(s->m->dev, s->top1);
    dc_free(s->host);
    dc_free(s->host_ce);
    dc_free(s->host_top1);
}

/* Logits, cross-entropy and greatest logit of rows [first, first + n); with `teacher` also KL(teacher || this). */
static void score_side(const pair *p, side *s, int64_t first, int64_t n, const float *teacher)
{
    dc_head_fwd(s->m, s->logits, dc_view_read(dc_view_at(dc_plan_hidden(s->plan), first * s->m->config.C)), n, &s->run);
    const dc_loss loss = {.M = n,
                          .V = p->V,
                          .ld = p->V,
                          .labels = p->labels,
                          .w_ce = p->w,
                          .w_kd = p->w,
                          .kind = teacher ? DC_KD_DENSE : DC_KD_NONE,
                          .teacher = teacher,
                          .temperature = 1,
                          .kd_scale = 1,
                          .ce = s->ce,
                          .kd = teacher ? p->kl : NULL,
                          .top1 = s->top1,
                          .no_gradient = 1};
    s->m->dev->op.loss(s->m->dev, s->logits, &loss);
    dc_dev_download(s->m->dev, s->host, s->logits, (size_t)(n * p->V) * sizeof(float));
    dc_dev_download(s->m->dev, s->host_ce, s->ce, (size_t)n * 4);
    dc_dev_download(s->m->dev, s->host_top1, s->top1, (size_t)n * 4);
}

static int run_batch(pair *p, const dc_packed *packed, dc_parity *out, dc_error *err)
{
    int rc = DC_OK;
    const dc_batch batch = dc_batch_of(packed);
    DC_TRY(dc_forward(p->ref.plan, &batch, &p->ref.run, err));
    DC_TRY(dc_forward(p->file.plan, &batch, &p->file.run, err));
    for (int64_t first = 0; first < packed->M; first += p->chunk) {
        const int64_t n = packed->M - first < p->chunk ? packed->M - first : p->chunk;
        dc_dev_upload(p->ref.m->dev, p->labels, packed->labels + first, (size_t)n * 4);
        score_side(p, &p->ref, first, n, NULL);
        score_side(p, &p->file, first, n, p->ref.logits);
        dc_dev_download(p->ref.m->dev, p->host_kl, p->kl, (size_t)n * 4);
        DC_TRY(dc_dev_sync(p->ref.m->dev, err));
        for (int64_t i = 0; i < n; i++) {
            const float *a = p->ref.host + i * p->V, *b = p->file.host + i * p->V;
            for (int64_t v = 0; v < p->V; v++) {
                const double d = (double)a[v] - (double)b[v];
                p->nmse_num += d * d, p->nmse_den += (double)a[v] * (double)a[v];
            }
            out->kl += (double)p->host_kl[i];
            out->kl_max = (double)p->host_kl[i] > out->kl_max ? (double)p->host_kl[i] : out->kl_max;
            p->same += p->ref.host_top1[i] == p->file.host_top1[i];
            p->ce_ref += (double)p->ref.host_ce[i], p->ce_file += (double)p->file.host_ce[i];
        }
        out->tokens += n;
    }
done:
    return rc;
}

static int open_pair(pair *p, dc_model *reference, int adapter, dc_model *file, int file_adapter, dc_loader *loader,
                     dc_error *err)
{
    int rc = DC_OK;
    p->V = reference->config.V;
    if (file->config.V != p->V)
        return dc_fail(err, DC_EMISMATCH, "the file has a vocabulary of %lld, the model one of %lld",
                       (long long)file->config.V, (long long)p->V);
    p->chunk = dc_head_chunk(reference, 16 << 20);
    const size_t n = (size_t)p->chunk;
    DC_TRY(open_side(&p->ref, reference, adapter, loader, p->chunk, err));
    DC_TRY(open_side(&p->file, file, file_adapter, loader, p->chunk, err));
    DC_TRY(alloc(reference->dev, &p->labels, n * 4, err));
    DC_TRY(alloc(reference->dev, &p->w, n * 4, err));
    DC_TRY(alloc(reference->dev, &p->kl, n * 4, err));
    reference->dev->op.fill(reference->dev, dc_floats_view(p->w), 1, p->chunk);
    p->host_kl = dc_malloc(n * 4);
    if (!p->host_kl) rc = dc_fail_memory(err, n * 4, "the parity check");
done:
    return rc;
}

int dc_parity_measure(dc_parity *out, dc_model *reference, int adapter, dc_model *file, int file_adapter,
                      dc_loader *loader, int64_t max_tokens, dc_error *err)
{
    int rc = DC_OK, ended = 0;
    pair p = {0};
    dc_packed packed;
    *out = (dc_parity){0};
    DC_TRY(open_pair(&p, reference, adapter, file, file_adapter, loader, err));
    dc_loader_seek(loader, (dc_position){0});
    while (!ended && (!max_tokens || out->tokens < max_tokens)) {
        DC_TRY(dc_stop_check("the parity check", err));
        DC_TRY(dc_loader_next(loader, &packed, &ended, err));
        DC_TRY(run_batch(&p, &packed, out, err));
    }
    const double n = out->tokens ? (double)out->tokens : 1;
    out->kl /= n;
    out->top1 = p.same / n;
    out->ppl_reference = exp(p.ce_ref / n);
    out->ppl_file = exp(p.ce_file / n);
    out->nmse = p.nmse_den > 0 ? p.nmse_num / p.nmse_den : 0;
    if (!isfinite(out->kl) || !isfinite(out->ppl_reference) || !isfinite(out->ppl_file) || !isfinite(out->nmse))
        rc = dc_fail(err, DC_ENUMERIC,
                     "the parity check: the logits of the model or of the file are not finite (perplexities %g and %g)",
                     out->ppl_reference, out->ppl_file);
done:
    close_side(&p.ref);
    close_side(&p.file);
    dc_dev_free(reference->dev, p.labels);
    dc_dev_free(reference->dev, p.w);
    dc_dev_free(reference->dev, p.kl);
    dc_free(p.host_kl);
    return rc;
}

json_t *dc_parity_json(const dc_parity *p)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)p->tokens, "kl", p->kl, "kl_max",
                     p->kl_max, "top1", p->top1, "ppl_reference", p->ppl_reference, "ppl_file", p->ppl_file, "nmse",
                     p->nmse);
}
