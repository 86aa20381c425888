/* train/walk.c */
#include "train/walk.h"

#include <string.h>

#include "core/arena.h"

/* Per-row inputs and results: on the device as one allocation, on the host as its mirror. */
enum { LABELS, W_CE, W_KD, N_IN, CE = N_IN, KD, TOP1, N_ROWS };

struct dc_walk {
    dc_model *m;
    int64_t chunk;
    float *logits; /* [chunk, V] on the device */
    float *capped; /* the same before the loss op, when the family caps logits: its gradient needs them; else NULL */
    char *rows;    /* [N_ROWS, chunk] of 4 bytes, on the device */
    char *host;
};

int dc_walk_new(dc_walk **out, dc_model *m, int64_t chunk_bytes, dc_error *err)
{
    int rc = DC_OK;
    void *memory = NULL;
    dc_walk *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(err, sizeof *w, "an objective");
    w->m = m;
    w->chunk = dc_head_chunk(m, chunk_bytes ? chunk_bytes : 32 << 20);
    const size_t row_bytes = (size_t)N_ROWS * (size_t)w->chunk * 4;
    w->host = dc_malloc(row_bytes);
    if (!w->host) {
        rc = dc_fail_memory(err, row_bytes, "an objective's rows");
        goto done;
    }
    DC_TRY(dc_dev_alloc(m->dev, &memory, (size_t)w->chunk * (size_t)m->config.V * sizeof(float), "a chunk of logits",
                        err));
    w->logits = memory;
    if (m->config.final_softcap > 0) {
        DC_TRY(dc_dev_alloc(m->dev, &memory, (size_t)w->chunk * (size_t)m->config.V * sizeof(float),
                            "a chunk of capped logits", err));
        w->capped = memory;
    }
    DC_TRY(dc_dev_alloc(m->dev, &memory, row_bytes, "an objective's rows", err));
    w->rows = memory;
done:
    if (rc == DC_OK) *out = w;
    else dc_walk_free(w);
    return rc;
}

void dc_walk_free(dc_walk *w)
{
    if (!w) return;
    dc_dev_free(w->m->dev, w->logits);
    dc_dev_free(w->m->dev, w->capped);
    dc_dev_free(w->m->dev, w->rows);
    dc_free(w->host);
    dc_free(w);
}

size_t dc_walk_bytes(const dc_walk *w)
{
    const size_t row = (size_t)w->m->config.V * sizeof(float) * (w->capped ? 2 : 1);
    return (size_t)w->chunk * (row + N_ROWS * 4);
}

int64_t dc_walk_chunk(const dc_walk *w) { return w->chunk; }

static void *device_row(const dc_walk *w, int which) { return w->rows + (size_t)which * (size_t)w->chunk * 4; }
static void *host_row(const dc_walk *w, int which) { return w->host + (size_t)which * (size_t)w->chunk * 4; }

/* Inputs of the loss op for rows [first, first + n). */
static void put_rows(dc_walk *w, const dc_packed *batch, int64_t first, int64_t n, const dc_walk_options *o)
{
    int32_t *labels = host_row(w, LABELS);
    float *w_ce = host_row(w, W_CE), *w_kd = host_row(w, W_KD);
    memcpy(labels, batch->labels + first, (size_t)n * sizeof *labels);
    for (int64_t i = 0; i < n; i++) {
        const double weight = (double)batch->weight[first + i] / o->denominator;
        w_ce[i] = (float)(o->ce_scale * weight);
        w_kd[i] = (float)(o->kd_scale * weight);
    }
    dc_dev_upload(w->m->dev, w->rows, w->host, (size_t)N_IN * (size_t)w->chunk * 4);
}

/* Results of the loss op into sums. */
static void take_rows(dc_walk *w, const dc_packed *batch, int64_t first, int64_t n, const dc_walk_options *o,
                      dc_losses *out)
{
    const size_t behind = (size_t)N_IN * (size_t)w->chunk * 4;
    dc_dev_download(w->m->dev, w->host + behind, w->rows + behind, (size_t)(N_ROWS - N_IN) * (size_t)w->chunk * 4);
    const float *ce = host_row(w, CE), *kd = host_row(w, KD);
    const int32_t *top1 = host_row(w, TOP1);
    for (int64_t i = 0; i < n; i++) {
        const double weight = (double)batch->weight[first + i];
        out->ce += weight * (double)ce[i];
        out->kd += weight * (double)kd[i];
        out->loss += weight * (o->ce_scale * (double)ce[i] + (o->kd_scale != 0 ? o->kd_scale * (double)kd[i] : 0));
        out->top1 += top1[i] == batch->labels[first + i];
        out->weight += weight;
        out->rows += 1;
    }
}

int dc_walk_run(dc_walk *w, dc_plan *plan, const dc_packed *batch, const dc_run *run, const dc_walk_options *o,
                dc_losses *out, dc_error *err)
{
    int rc = DC_OK;
    dc_model *m = w->m;
    const int64_t C = m->config.C, V = m->config.V;
    const dc_view hidden = dc_plan_hidden(plan), dhidden = dc_plan_hidden_grad(plan);
    DC_ASSERT(!o->gradient || dhidden.data);
    for (int64_t first = 0; first < batch->M; first += w->chunk) {
        const int64_t n = batch->M - first < w->chunk ? batch->M - first : w->chunk;
        const dc_cview rows = dc_view_read(dc_view_at(hidden, first * C));
        dc_head_fwd(m, w->logits, rows, n, run);
        put_rows(w, batch, first, n, o);
        dc_loss loss = {.M = n,
                        .V = V,
                        .ld = V,
                        .temperature = 1,
                        .kd_scale = 1,
                        .kind = DC_KD_NONE,
                        .labels = device_row(w, LABELS),
                        .w_ce = device_row(w, W_CE),
                        .w_kd = device_row(w, W_KD),
                        .ce = device_row(w, CE),
                        .kd = device_row(w, KD),
                        .top1 = device_row(w, TOP1),
                        .no_gradient = !o->gradient};
        if (o->targets) DC_TRY(o->targets(o->context, &loss, first, n, err));
        if (w->capped && o->gradient) dc_dev_copy(m->dev, w->capped, w->logits, (size_t)(n * V) * sizeof(float));
        m->dev->op.loss(m->dev, w->logits, &loss);
        take_rows(w, batch, first, n, o, out);
        if (o->gradient) dc_head_bwd(m, dc_view_at(dhidden, first * C), w->logits, w->capped, rows, n, run);
    }
    DC_TRY(dc_dev_sync(m->dev, err));
done:
    return rc;
}
