/* distill/teach.c -- the capture. */
#include "distill/teach.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/stop.h"
#include "distill/targets.h"
#include "model/head.h"

enum { LANES = 64 }; /* rows of a chunk that are worked on at once at most: each has its own scratch */

typedef struct capture {
    dc_plan *plan;
    dc_model *m;
    dc_run run;
    dc_set *set;
    dc_store_writer *writer;
    const dc_store_info *info;
    int64_t per_row; /* entries a row may have */
    /* the batch */
    int64_t T, B, M, max_T, max_B, max_M;
    int32_t *ids, *pos, *cu, *rows, *labels;
    int64_t *docs, *doc_rows; /* [B] numbers; [B + 1] first rows */
    /* results of the batch */
    dc_row_targets *targets; /* [max_M], pointing into the two below */
    int32_t *target_ids;
    float *target_p, *logsumexp;
    /* head */
    float *logits, *host;
    int64_t chunk;
    dc_target_scratch scratch[LANES];
    int64_t n_scratch;
    /* sums */
    double mass, dot, full2, kept2, ce;
    dc_teach_result *out;
} capture;

static void close_all(capture *c)
{
    for (int64_t i = 0; i < c->n_scratch; i++) dc_target_scratch_release(&c->scratch[i]);
    dc_dev_free(c->m->dev, c->logits);
    void *memory[] = {c->ids,      c->pos,     c->cu,         c->rows,     c->labels,    c->docs,
                      c->doc_rows, c->targets, c->target_ids, c->target_p, c->logsumexp, c->host};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) dc_free(memory[i]);
    dc_store_writer_free(c->writer);
}

static int open_all(capture *c, dc_error *err)
{
    const dc_plan_options *o = dc_plan_options_of(c->plan);
    c->max_T = o->max_tokens, c->max_B = o->max_docs, c->max_M = o->max_rows ? o->max_rows : o->max_tokens;
    c->per_row = c->info->kind == DC_TARGETS_SAMPLED ? c->info->n_samples : c->info->topk;
    const size_t T = (size_t)c->max_T, B = (size_t)c->max_B, M = (size_t)c->max_M, K = (size_t)c->per_row;
    c->chunk = dc_head_chunk(c->m, 32 << 20);
    if (c->chunk > LANES) c->chunk = LANES;
    const size_t logit_bytes = (size_t)c->chunk * (size_t)c->m->config.V * sizeof(float);
    c->ids = dc_malloc(T * 4), c->pos = dc_malloc(T * 4), c->rows = dc_malloc(T * 4), c->labels = dc_malloc(T * 4);
    c->cu = dc_malloc((B + 1) * 4), c->docs = dc_malloc(B * 8), c->doc_rows = dc_malloc((B + 1) * 8);
    c->targets = dc_calloc(M, sizeof *c->targets);
    c->target_ids = dc_malloc(M * K * 4), c->target_p = dc_malloc(M * K * 4), c->logsumexp = dc_malloc(M * 4);
    c->host = dc_malloc(logit_bytes);
    if (!c->ids || !c->pos || !c->rows || !c->labels || !c->cu || !c->docs || !c->doc_rows || !c->targets ||
        !c->target_ids || !c->target_p || !c->logsumexp || !c->host)
        return dc_fail_memory(err, M * K * 8 + logit_bytes, "a capture");
    for (size_t i = 0; i < M; i++) c->targets[i].ids = c->target_ids + i * K, c->targets[i].p = c->target_p + i * K;
    for (c->n_scratch = 0; c->n_scratch < c->chunk; c->n_scratch++) {
        const int rc = dc_target_scratch_new(&c->scratch[c->n_scratch], c->info, err);
        if (rc != DC_OK) return rc;
    }
    void *memory = NULL;
    const int rc = dc_dev_alloc(c->m->dev, &memory, logit_bytes, "a chunk of logits", err);
    c->logits = memory;
    return rc;
}

/* Takes document `doc` into the batch, if it fits; *taken says so. */
static int take(capture *c, int64_t doc, int *taken, dc_error *err)
{
    const int64_t n = dc_set_doc_length(c->set, doc), rows = dc_set_doc_trained(c->set, doc);
    *taken = c->B < c->max_B && c->T + n <= c->max_T && c->M + rows <= c->max_M;
    if (!*taken && !c->B)
        return dc_fail(err, DC_ENOMEM, "document %lld has %lld tokens, more than the capture's plan of %lld holds",
                       (long long)doc, (long long)n, (long long)c->max_T);
    if (!*taken) return DC_OK;
    uint8_t *mask = (uint8_t *)(c->pos + c->T); /* n bytes in the place of n positions, which are written behind */
    const int rc = dc_set_read(c->set, doc, c->ids + c->T, mask, NULL, err);
    if (rc != DC_OK) return rc;
    for (int64_t t = 1; t < n; t++)
        if (mask[t]) {
            c->rows[c->M] = (int32_t)(c->T + t - 1);
            c->labels[c->M++] = c->ids[c->T + t];
        }
    for (int64_t t = 0; t < n; t++) c->pos[c->T + t] = (int32_t)t;
    c->T += n;
    c->docs[c->B++] = doc;
    c->cu[c->B] = (int32_t)c->T;
    c->doc_rows[c->B] = c->M;
    return DC_OK;
}

typedef struct lane_job {
    capture *c;
    int64_t first;
    dc_error errors[LANES];
} lane_job;

static void make_row(void *context, int64_t i)
{
    lane_job *j = context;
    capture *c = j->c;
    const int64_t m = j->first + i;
    int64_t b = 0;
    while (c->doc_rows[b + 1] <= m) b++;
    dc_row_targets_make(&c->targets[m], &c->scratch[i], c->host + i * c->m->config.V, c->labels[m], c->info, c->docs[b],
                        m - c->doc_rows[b], &j->errors[i]);
}

/* Targets of all rows of the batch. */
static int make_targets(capture *c, dc_error *err)
{
    const int64_t C = c->m->config.C, V = c->m->config.V;
    const dc_view hidden = dc_plan_hidden(c->plan);
    for (int64_t first = 0; first < c->M; first += c->chunk) {
        const int64_t n = c->M - first < c->chunk ? c->M - first : c->chunk;
        dc_head_fwd(c->m, c->logits, dc_view_read(dc_view_at(hidden, first * C)), n, &c->run);
        dc_dev_download(c->m->dev, c->host, c->logits, (size_t)(n * V) * sizeof(float));
        const int rc = dc_dev_sync(c->m->dev, err);
        if (rc != DC_OK) return rc;
        lane_job job = {.c = c, .first = first};
        dc_pool_for(n, make_row, &job);
        for (int64_t i = 0; i < n; i++)
            if (job.errors[i].code != DC_OK) return dc_fail(err, job.errors[i].code, "%s", job.errors[i].message);
    }
    return DC_OK;
}

static int put_document(capture *c, int64_t b, dc_rows *rows, dc_error *err)
{
    const int64_t begin = c->doc_rows[b], M = c->doc_rows[b + 1] - begin;
    rows->M = M;
    rows->first[0] = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < M; i++) {
        const dc_row_targets *t = &c->targets[begin + i];
        memcpy(rows->ids + at, t->ids, (size_t)t->n * sizeof *rows->ids);
        memcpy(rows->p + at, t->p, (size_t)t->n * sizeof *rows->p);
        at += t->n;
        rows->first[i + 1] = at;
        rows->entropy[i] = t->entropy, rows->teacher_ce[i] = t->ce, c->logsumexp[i] = t->logsumexp;
        c->mass += t->mass, c->dot += t->dot, c->full2 += t->full2, c->kept2 += t->kept2, c->ce += (double)t->ce;
    }
    c->out->docs++;
    c->out->rows += M;
    return dc_store_writer_add(c->writer, c->docs[b], rows, c->logsumexp, err);
}

/* Forward, targets and store of the gathered batch. */
static int finish_batch(capture *c, dc_rows *rows, dc_error *err)
{
    int rc = dc_stop_check("teach", err);
    if (rc != DC_OK) return rc;
    if (c->M) {
        const dc_batch batch = {
            .T = c->T, .B = c->B, .M = c->M, .ids = c->ids, .pos = c->pos, .cu_seqlens = c->cu, .rows = c->rows};
        dc_forward(c->plan, &batch, &c->run);
        rc = make_targets(c, err);
    }
    for (int64_t b = 0; rc == DC_OK && b < c->B; b++) rc = put_document(c, b, rows, err);
    c->T = c->B = c->M = 0;
    return rc;
}

static int rows_room(const capture *c, dc_rows *rows, dc_error *err)
{
    const size_t M = (size_t)c->max_M, K = (size_t)c->per_row;
    rows->first = dc_malloc((M + 1) * sizeof *rows->first);
    rows->ids = dc_malloc(M * K * sizeof *rows->ids);
    rows->p = dc_malloc(M * K * sizeof *rows->p);
    rows->entropy = dc_malloc(M * sizeof *rows->entropy);
    rows->teacher_ce = dc_malloc(M * sizeof *rows->teacher_ce);
    if (rows->first && rows->ids && rows->p && rows->entropy && rows->teacher_ce) return DC_OK;
    return dc_fail_memory(err, M * K * 8, "a capture");
}

static void finish(const capture *c, double began)
{
    dc_teach_result *out = c->out;
    const double rows = out->rows ? (double)out->rows : 1, cosine = c->dot / sqrt(c->full2 * c->kept2);
    out->mass = c->mass / rows;
    out->teacher_nll = c->ce / rows;
    out->angle = out->rows ? acos(cosine < 1 ? cosine : 1) * 180 / 3.14159265358979323846 : 0;
    out->bytes = dc_store_writer_bytes(c->writer);
    out->seconds = dc_now() - began;
}

static int walk(capture *c, int64_t doc, dc_rows *rows, dc_error *err)
{
    const int64_t docs = dc_set_docs(c->set);
    int rc = DC_OK;
    int64_t tokens = 0;
    const double began = dc_now();
    dc_progress bar;
    dc_progress_begin(&bar, "teach", docs);
    c->cu[0] = 0, c->doc_rows[0] = 0;
    while (rc == DC_OK && doc < docs) {
        int taken = 1;
        while (rc == DC_OK && doc < docs && taken) {
            rc = take(c, doc, &taken, err);
            doc += taken;
        }
        tokens += c->T;
        if (rc == DC_OK) rc = finish_batch(c, rows, err);
        dc_progress_update(&bar, doc, NULL, (double)tokens / (dc_now() - began), "tok/s");
    }
    dc_progress_end(&bar);
    return rc;
}

int dc_teach(dc_teach_result *out, dc_plan *teacher, int adapter, dc_set *set, const char *dir, const char *set_name,
             const dc_store_info *info, dc_error *err)
{
    int rc = DC_OK;
    int64_t next = 0;
    dc_rows rows = {0};
    const double began = dc_now();
    *out = (dc_teach_result){0};
    capture c = {.plan = teacher,
                 .m = dc_plan_model(teacher),
                 .run = {.adapter = adapter},
                 .set = set,
                 .info = info,
                 .out = out};
    DC_TRY(open_all(&c, err));
    DC_TRY(rows_room(&c, &rows, err));
    DC_TRY(dc_store_writer_new(&c.writer, &next, dir, set_name, info, err));
    out->kept = next;
    rc = walk(&c, next, &rows, err);
    if (rc == DC_OK) DC_TRY(dc_store_writer_commit(c.writer, err));
    else if (rc == DC_ESTOPPED) dc_store_writer_flush(c.writer, NULL);
    finish(&c, began);
done:
    dc_rows_release(&rows);
    close_all(&c);
    return rc;
}
