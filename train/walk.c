/* train/walk.c */
#include "train/walk.h"

#include <string.h>

#include "core/arena.h"

/* Per-row inputs and results: [N_ROWS, stride] of 4 bytes, on the device as one allocation, on the host as its mirror. */
enum { LABELS, W_CE, W_KD, N_IN, CE = N_IN, KD, TOP1, N_ROWS };

enum {
    SPAN = 8192,      /* rows whose inputs go to the device at once, and whose results are waited for once */
    ALIGNED_ROWS = 16 /* each chunk's rows begin at 64 bytes */
};

struct dc_walk {
    dc_model *m;
    int64_t chunk;
    int64_t slot, slots; /* a chunk's rows in the tables, a multiple of ALIGNED_ROWS; the chunks of a span */
    float *logits;       /* [chunk, V] on the device */
    float *capped; /* the same before the loss op, when the family caps logits: its gradient needs them; else NULL */
    char *rows;    /* of slots * slot rows, on the device */
    char *host;
};

static size_t rows_bytes(const dc_walk *w) { return (size_t)N_ROWS * (size_t)(w->slots * w->slot) * 4; }

int dc_walk_new(dc_walk **out, dc_model *m, int64_t chunk_bytes, dc_error *err)
{
    int rc = DC_OK;
    void *memory = NULL;
    dc_walk *w = dc_calloc(1, sizeof *w);
    if (!w) return dc_fail_memory(err, sizeof *w, "an objective");
    w->m = m;
    w->chunk = dc_head_chunk(m, chunk_bytes);
    if (!chunk_bytes && w->chunk > SPAN) w->chunk = SPAN;
    w->slot = (w->chunk + ALIGNED_ROWS - 1) / ALIGNED_ROWS * ALIGNED_ROWS;
    w->slots = w->slot < SPAN ? SPAN / w->slot : 1;
    w->host = dc_calloc(1, rows_bytes(w));
    if (!w->host) {
        rc = dc_fail_memory(err, rows_bytes(w), "an objective's rows");
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
    DC_TRY(dc_dev_alloc(m->dev, &memory, rows_bytes(w), "an objective's rows", err));
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
    return (size_t)w->chunk * row + rows_bytes(w);
}

int64_t dc_walk_chunk(const dc_walk *w) { return w->chunk; }

/* Some rows of a batch, chunk by chunk, as they stand in the tables. */
typedef struct span {
    int64_t first, n; /* of the batch's rows */
    int64_t stride;   /* of the tables: whole slots */
} span;

static span span_at(const dc_walk *w, const dc_packed *batch, int64_t first)
{
    const int64_t most = w->slots * w->chunk, left = batch->M - first, n = left < most ? left : most;
    return (span){first, n, (n + w->chunk - 1) / w->chunk * w->slot};
}

static int64_t place_of(const dc_walk *w, int64_t i) { return i / w->chunk * w->slot + i % w->chunk; }

static void *row_of(char *tables, const span *s, int which, int64_t place)
{
    return tables + (size_t)(which * s->stride + place) * 4;
}

/* Inputs of the loss op. */
static void put_rows(dc_walk *w, const dc_packed *batch, const span *s, const dc_walk_options *o)
{
    int32_t *labels = row_of(w->host, s, LABELS, 0);
    float *w_ce = row_of(w->host, s, W_CE, 0), *w_kd = row_of(w->host, s, W_KD, 0);
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t at = place_of(w, i);
        const double weight = (double)batch->weight[s->first + i] / o->denominator;
        labels[at] = batch->labels[s->first + i];
        w_ce[at] = (float)(o->ce_scale * weight);
        w_kd[at] = (float)(o->kd_scale * weight);
    }
    dc_dev_upload(w->m->dev, w->rows, w->host, (size_t)(N_IN * s->stride) * 4);
}

/* Results of the loss op into sums. */
static void take_rows(dc_walk *w, const dc_packed *batch, const span *s, const dc_walk_options *o, dc_losses *out)
{
    const float *ce = row_of(w->host, s, CE, 0), *kd = row_of(w->host, s, KD, 0);
    const int32_t *top1 = row_of(w->host, s, TOP1, 0);
    dc_dev_download(w->m->dev, row_of(w->host, s, CE, 0), row_of(w->rows, s, CE, 0),
                    (size_t)((N_ROWS - N_IN) * s->stride) * 4);
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t at = place_of(w, i);
        const double weight = (double)batch->weight[s->first + i];
        out->ce += weight * (double)ce[at];
        out->kd += weight * (double)kd[at];
        out->loss += weight * (o->ce_scale * (double)ce[at] + (o->kd_scale != 0 ? o->kd_scale * (double)kd[at] : 0));
        out->top1 += top1[at] == batch->labels[s->first + i];
        out->weight += weight;
        out->rows += 1;
    }
}

/* Rows [first, first + n) of the batch, one chunk, whose tables begin at `place`. */
static int run_chunk(dc_walk *w, dc_plan *plan, const dc_run *run, const dc_walk_options *o, const span *s,
                     int64_t first, int64_t n, dc_error *err)
{
    dc_model *m = w->m;
    const int64_t C = m->config.C, V = m->config.V, place = place_of(w, first - s->first);
    const dc_cview rows = dc_view_read(dc_view_at(dc_plan_hidden(plan), first * C));
    dc_head_fwd(m, w->logits, rows, n, run);
    dc_loss loss = {.M = n,
                    .V = V,
                    .ld = V,
                    .temperature = 1,
                    .kd_scale = 1,
                    .kind = DC_KD_NONE,
                    .labels = row_of(w->rows, s, LABELS, place),
                    .w_ce = row_of(w->rows, s, W_CE, place),
                    .w_kd = row_of(w->rows, s, W_KD, place),
                    .ce = row_of(w->rows, s, CE, place),
                    .kd = row_of(w->rows, s, KD, place),
                    .top1 = row_of(w->rows, s, TOP1, place),
                    .no_gradient = !o->gradient};
    const int rc = o->targets ? o->targets(o->context, &loss, first, n, err) : DC_OK;
    if (rc != DC_OK) return rc;
    if (w->capped && o->gradient) dc_dev_copy(m->dev, w->capped, w->logits, (size_t)(n * V) * sizeof(float));
    m->dev->op.loss(m->dev, w->logits, &loss);
    if (o->gradient)
        dc_head_bwd(m, dc_view_at(dc_plan_hidden_grad(plan), first * C), w->logits, w->capped, rows, n, run);
    return DC_OK;
}

int dc_walk_run(dc_walk *w, dc_plan *plan, const dc_packed *batch, const dc_run *run, const dc_walk_options *o,
                dc_losses *out, dc_error *err)
{
    DC_ASSERT(!o->gradient || dc_plan_hidden_grad(plan).data);
    for (int64_t begin = 0; begin < batch->M;) {
        const span s = span_at(w, batch, begin);
        put_rows(w, batch, &s, o);
        for (int64_t i = 0; i < s.n; i += w->chunk) {
            const int64_t n = s.n - i < w->chunk ? s.n - i : w->chunk;
            const int rc = run_chunk(w, plan, run, o, &s, begin + i, n, err);
            if (rc != DC_OK) return rc;
        }
        take_rows(w, batch, &s, o, out);
        begin += s.n;
    }
    return dc_dev_sync(w->m->dev, err);
}
