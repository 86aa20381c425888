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

struct dc_parity_reference {
    side ref;
    dc_loader *loader;
    int64_t max_tokens, chunk, V;
    int32_t *labels; /* device */
    float *w, *kl, *host_kl;
    void *hidden; /* [max_tokens + a batch, C] of activations on the device; NULL: the layers run each time */
    int kept;     /* it is filled */
};

/* One comparison. */
typedef struct pair {
    dc_parity_reference *r;
    side file;
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

/* Logits, cross-entropy and greatest logit of n hidden rows; with `teacher` also KL(teacher || this). */
static void score_side(const dc_parity_reference *r, side *s, dc_view hidden, int64_t n, const float *teacher)
{
    dc_head_fwd(s->m, s->logits, dc_view_read(hidden), n, &s->run);
    const dc_loss loss = {.M = n,
                          .V = r->V,
                          .ld = r->V,
                          .labels = r->labels,
                          .w_ce = r->w,
                          .w_kd = r->w,
                          .kind = teacher ? DC_KD_DENSE : DC_KD_NONE,
                          .teacher = teacher,
                          .temperature = 1,
                          .kd_scale = 1,
                          .ce = s->ce,
                          .kd = teacher ? r->kl : NULL,
                          .top1 = s->top1,
                          .no_gradient = 1};
    s->m->dev->op.loss(s->m->dev, s->logits, &loss);
    dc_dev_download(s->m->dev, s->host, s->logits, (size_t)(n * r->V) * sizeof(float));
    dc_dev_download(s->m->dev, s->host_ce, s->ce, (size_t)n * 4);
    dc_dev_download(s->m->dev, s->host_top1, s->top1, (size_t)n * 4);
}

/* The reference's hidden rows of a batch whose first is row `at` of all. */
static void reference_hidden(dc_parity_reference *r, dc_view *out, const dc_batch *batch, int64_t at)
{
    const dc_model *m = r->ref.m;
    const int64_t C = m->config.C;
    if (!r->kept) {
        dc_forward(r->ref.plan, batch, &r->ref.run);
        *out = dc_plan_hidden(r->ref.plan);
    }
    if (!r->hidden) return;
    const dc_view here = dc_view_at((dc_view){r->hidden, m->dev->activation}, at * C);
    if (!r->kept)
        dc_dev_copy(m->dev, here.data, out->data, (size_t)(batch->M * C) * dc_element_bytes(m->dev->activation));
    *out = here;
}

static void add_row(pair *p, dc_parity *out, int64_t i)
{
    const dc_parity_reference *r = p->r;
    const float *a = r->ref.host + i * r->V, *b = p->file.host + i * r->V;
    for (int64_t v = 0; v < r->V; v++) {
        const double d = (double)a[v] - (double)b[v];
        p->nmse_num += d * d, p->nmse_den += (double)a[v] * (double)a[v];
    }
    out->kl += (double)r->host_kl[i];
    out->kl_max = (double)r->host_kl[i] > out->kl_max ? (double)r->host_kl[i] : out->kl_max;
    p->same += r->ref.host_top1[i] == p->file.host_top1[i];
    p->ce_ref += (double)r->ref.host_ce[i], p->ce_file += (double)p->file.host_ce[i];
}

static int run_batch(pair *p, const dc_packed *packed, dc_parity *out, dc_error *err)
{
    int rc = DC_OK;
    dc_parity_reference *r = p->r;
    dc_dev *dev = r->ref.m->dev;
    dc_view hidden = {0};
    const dc_batch batch = dc_batch_of(packed);
    reference_hidden(r, &hidden, &batch, out->tokens);
    dc_forward(p->file.plan, &batch, &p->file.run);
    const dc_view file_hidden = dc_plan_hidden(p->file.plan);
    for (int64_t first = 0; first < packed->M; first += r->chunk) {
        const int64_t n = packed->M - first < r->chunk ? packed->M - first : r->chunk;
        dc_dev_upload(dev, r->labels, packed->labels + first, (size_t)n * 4);
        score_side(r, &r->ref, dc_view_at(hidden, first * r->ref.m->config.C), n, NULL);
        score_side(r, &p->file, dc_view_at(file_hidden, first * p->file.m->config.C), n, r->ref.logits);
        dc_dev_download(dev, r->host_kl, r->kl, (size_t)n * 4);
        DC_TRY(dc_dev_sync(dev, err));
        for (int64_t i = 0; i < n; i++) add_row(p, out, i);
        out->tokens += n;
    }
done:
    return rc;
}

static int reference_open(dc_parity_reference *r, dc_model *m, int adapter, int keep, dc_error *err)
{
    int rc = DC_OK;
    int64_t T, B, M;
    r->V = m->config.V;
    r->chunk = dc_head_chunk(m, 16 << 20);
    const size_t n = (size_t)r->chunk;
    DC_TRY(open_side(&r->ref, m, adapter, r->loader, r->chunk, err));
    DC_TRY(alloc(m->dev, &r->labels, n * 4, err));
    DC_TRY(alloc(m->dev, &r->w, n * 4, err));
    DC_TRY(alloc(m->dev, &r->kl, n * 4, err));
    m->dev->op.fill(m->dev, dc_floats_view(r->w), 1, r->chunk);
    r->host_kl = dc_malloc(n * 4);
    if (!r->host_kl) {
        rc = dc_fail_memory(err, n * 4, "the parity check");
        goto done;
    }
    if (!keep) goto done;
    dc_loader_bounds(r->loader, &T, &B, &M);
    DC_TRY(alloc(m->dev, &r->hidden,
                 (size_t)(r->max_tokens + M) * (size_t)m->config.C * dc_element_bytes(m->dev->activation), err));
done:
    return rc;
}

static int reference_new(dc_parity_reference **out, dc_model *reference, int adapter, dc_loader *loader,
                         int64_t max_tokens, int keep, dc_error *err)
{
    dc_parity_reference *r = dc_calloc(1, sizeof *r);
    if (!r) return dc_fail_memory(err, sizeof *r, "the parity check");
    r->loader = loader, r->max_tokens = max_tokens;
    const int rc = reference_open(r, reference, adapter, keep, err);
    if (rc == DC_OK) *out = r;
    else dc_parity_reference_free(r);
    return rc;
}

int dc_parity_reference_new(dc_parity_reference **out, dc_model *reference, int adapter, dc_loader *loader,
                            int64_t max_tokens, dc_error *err)
{
    DC_ASSERT(max_tokens > 0);
    return reference_new(out, reference, adapter, loader, max_tokens, 1, err);
}

void dc_parity_reference_free(dc_parity_reference *r)
{
    if (!r) return;
    if (r->ref.m) {
        dc_dev *dev = r->ref.m->dev;
        dc_dev_free(dev, r->labels);
        dc_dev_free(dev, r->w);
        dc_dev_free(dev, r->kl);
        dc_dev_free(dev, r->hidden);
    }
    close_side(&r->ref);
    dc_free(r->host_kl);
    dc_free(r);
}

int dc_parity_against(dc_parity *out, dc_parity_reference *r, dc_model *file, int file_adapter, dc_error *err)
{
    int rc = DC_OK, ended = 0;
    pair p = {.r = r};
    dc_packed packed;
    *out = (dc_parity){0};
    if (file->config.V != r->V)
        return dc_fail(err, DC_EMISMATCH, "the file has a vocabulary of %lld, the model one of %lld",
                       (long long)file->config.V, (long long)r->V);
    DC_TRY(open_side(&p.file, file, file_adapter, r->loader, r->chunk, err));
    dc_loader_seek(r->loader, (dc_position){0});
    while (!ended && (!r->max_tokens || out->tokens < r->max_tokens)) {
        DC_TRY(dc_stop_check("the parity check", err));
        DC_TRY(dc_loader_next(r->loader, &packed, &ended, err));
        DC_TRY(run_batch(&p, &packed, out, err));
    }
    r->kept = r->hidden != NULL;
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
    close_side(&p.file);
    return rc;
}

int dc_parity_measure(dc_parity *out, dc_model *reference, int adapter, dc_model *file, int file_adapter,
                      dc_loader *loader, int64_t max_tokens, dc_error *err)
{
    dc_parity_reference *r = NULL;
    int rc = reference_new(&r, reference, adapter, loader, max_tokens, 0, err);
    if (rc == DC_OK) rc = dc_parity_against(out, r, file, file_adapter, err);
    dc_parity_reference_free(r);
    return rc;
}

json_t *dc_parity_json(const dc_parity *p)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)p->tokens, "kl", p->kl, "kl_max",
                     p->kl_max, "top1", p->top1, "ppl_reference", p->ppl_reference, "ppl_file", p->ppl_file, "nmse",
                     p->nmse);
}
