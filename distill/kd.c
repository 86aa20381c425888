/* distill/kd.c */
#include "distill/kd.h"

#include <string.h>

#include "core/arena.h"
#include "train/walk.h"

typedef struct kd {
    dc_objective base;
    dc_walk *walk;
    dc_model *student;
    dc_kd_options o;
    /* from a store */
    dc_store *store;
    dc_rows rows; /* targets of the batch, on the host */
    int64_t per_row;
    char *device;   /* a chunk's targets: first, ids, p, entropy */
    int64_t *first; /* a chunk's row starts, from 0, on the host */
    /* online */
    dc_plan *teacher;
    dc_run teacher_run;
    float *teacher_logits; /* [chunk, V] on the device */
    dc_view teacher_hidden;
} kd;

dc_kd_options dc_kd_defaults(void) { return (dc_kd_options){.kd_ratio = 0.5, .temperature = 1, .t2_scale = 1}; }

static void set_common(const kd *k, dc_loss *loss)
{
    loss->temperature = (float)k->o.temperature;
    loss->kd_scale = k->o.t2_scale ? (float)(k->o.temperature * k->o.temperature) : 1;
}

/* Where the parts of a chunk's targets stand in the one device allocation. */
typedef struct parts {
    int64_t *first;
    int32_t *ids;
    float *p, *entropy;
} parts;

static size_t padded(int64_t n, size_t size) { return ((size_t)n * size + 63) / 64 * 64; }

static size_t parts_bytes(int64_t chunk, int64_t per_row)
{
    return padded(chunk + 1, 8) + 2 * padded(chunk * per_row, 4) + padded(chunk, 4);
}

static parts parts_of(char *base, int64_t chunk, int64_t per_row)
{
    char *ids = base + padded(chunk + 1, 8), *p = ids + padded(chunk * per_row, 4),
         *entropy = p + padded(chunk * per_row, 4);
    return (parts){.first = (void *)base, .ids = (void *)ids, .p = (void *)p, .entropy = (void *)entropy};
}

static int store_targets(void *context, dc_loss *loss, int64_t first, int64_t n, dc_error *err)
{
    kd *k = context;
    (void)err;
    dc_dev *dev = k->student->dev;
    const parts at = parts_of(k->device, dc_walk_chunk(k->walk), k->per_row);
    const int64_t begin = k->rows.first[first], count = k->rows.first[first + n] - begin;
    for (int64_t i = 0; i <= n; i++) k->first[i] = k->rows.first[first + i] - begin;
    dc_dev_upload(dev, at.first, k->first, (size_t)(n + 1) * sizeof *k->first);
    dc_dev_upload(dev, at.ids, k->rows.ids + begin, (size_t)count * sizeof *at.ids);
    dc_dev_upload(dev, at.p, k->rows.p + begin, (size_t)count * sizeof *at.p);
    dc_dev_upload(dev, at.entropy, k->rows.entropy + first, (size_t)n * sizeof *at.entropy);
    set_common(k, loss);
    loss->kind = dc_store_info_of(k->store)->kind == DC_TARGETS_SAMPLED ? DC_KD_SAMPLED : DC_KD_TOPK_TAIL;
    loss->first = at.first, loss->ids = at.ids, loss->p = at.p, loss->entropy = at.entropy;
    return DC_OK;
}

static int online_targets(void *context, dc_loss *loss, int64_t first, int64_t n, dc_error *err)
{
    kd *k = context;
    (void)err;
    dc_model *teacher = dc_plan_model(k->teacher);
    dc_head_fwd(teacher, k->teacher_logits, dc_view_read(dc_view_at(k->teacher_hidden, first * teacher->config.C)), n,
                &k->teacher_run);
    set_common(k, loss);
    loss->kind = DC_KD_DENSE;
    loss->teacher = k->teacher_logits;
    return DC_OK;
}

static int run_kd(dc_objective *self, dc_plan *plan, const dc_packed *batch, const dc_run *run, double denominator,
                  int gradient, dc_losses *out, dc_error *err)
{
    kd *k = (kd *)self;
    const dc_walk_options o = {.ce_scale = 1 - k->o.kd_ratio,
                               .kd_scale = k->o.kd_ratio,
                               .denominator = denominator,
                               .gradient = gradient,
                               .targets = k->store ? store_targets : online_targets,
                               .context = k};
    if (k->store) { /* on a card, while the forward computes */
        k->rows.M = 0;
        for (int64_t b = 0; b < batch->B; b++) {
            const int rc =
                dc_store_read(k->store, &k->rows, batch->docs[b], batch->cu_rows[b + 1] - batch->cu_rows[b], err);
            if (rc != DC_OK) return rc;
        }
    } else {
        const dc_batch teacher_batch = dc_batch_of(batch);
        dc_forward(k->teacher, &teacher_batch, &k->teacher_run);
        k->teacher_hidden = dc_plan_hidden(k->teacher);
    }
    return dc_walk_run(k->walk, plan, batch, run, &o, out, err);
}

static size_t bytes(const dc_objective *self)
{
    const kd *k = (const kd *)self;
    const int64_t chunk = dc_walk_chunk(k->walk);
    const size_t targets =
        k->store ? parts_bytes(chunk, k->per_row) : (size_t)chunk * (size_t)k->student->config.V * sizeof(float);
    return dc_walk_bytes(k->walk) + targets;
}

static void kd_free(dc_objective *self)
{
    kd *k = (kd *)self;
    if (!k) return;
    dc_walk_free(k->walk);
    dc_dev_free(k->student->dev, k->device);
    dc_dev_free(k->student->dev, k->teacher_logits);
    dc_rows_release(&k->rows);
    dc_free(k->first);
    dc_free(k);
}

static int kd_new(kd **out, dc_model *student, const dc_kd_options *o, dc_error *err)
{
    kd *k = dc_calloc(1, sizeof *k);
    if (!k) return dc_fail_memory(err, sizeof *k, "an objective");
    k->base = (dc_objective){.name = "forward_kl",
                             .has_kd = 1,
                             .measure = dc_objective_weigh,
                             .run = run_kd,
                             .bytes = bytes,
                             .free = kd_free};
    k->student = student, k->o = *o;
    const int rc = dc_walk_new(&k->walk, student, o->chunk_bytes, err);
    if (rc == DC_OK) *out = k;
    else kd_free(&k->base);
    return rc;
}

int dc_objective_kd_store(dc_objective **out, dc_model *student, dc_store *store, const dc_kd_options *o, dc_error *err)
{
    int rc = DC_OK;
    kd *k = NULL;
    void *memory = NULL;
    const dc_store_info *info = dc_store_info_of(store);
    if (info->vocab_size != student->config.V)
        return dc_fail(err, DC_EMISMATCH, "the stored targets are over %lld tokens, the student's vocabulary has %lld",
                       (long long)info->vocab_size, (long long)student->config.V);
    DC_TRY(kd_new(&k, student, o, err));
    k->store = store;
    k->per_row = info->kind == DC_TARGETS_SAMPLED ? info->n_samples : info->topk;
    const int64_t chunk = dc_walk_chunk(k->walk);
    k->first = dc_malloc((size_t)(chunk + 1) * sizeof *k->first);
    if (!k->first) {
        rc = dc_fail_memory(err, (size_t)chunk * sizeof *k->first, "an objective's targets");
        goto done;
    }
    DC_TRY(dc_dev_alloc(student->dev, &memory, parts_bytes(chunk, k->per_row), "a chunk of targets", err));
    k->device = memory;
done:
    if (rc == DC_OK) *out = &k->base;
    else if (k) kd_free(&k->base);
    return rc;
}

int dc_objective_kd_online(dc_objective **out, dc_model *student, dc_plan *teacher, int teacher_adapter,
                           const dc_kd_options *o, dc_error *err)
{
    int rc = DC_OK;
    kd *k = NULL;
    void *memory = NULL;
    DC_TRY(dc_kd_check(dc_plan_model(teacher), student, err));
    DC_TRY(kd_new(&k, student, o, err));
    k->teacher = teacher;
    k->teacher_run = (dc_run){.adapter = teacher_adapter};
    DC_TRY(dc_dev_alloc(student->dev, &memory,
                        (size_t)dc_walk_chunk(k->walk) * (size_t)student->config.V * sizeof(float),
                        "a chunk of the teacher's logits", err));
    k->teacher_logits = memory;
done:
    if (rc == DC_OK) *out = &k->base;
    else if (k) kd_free(&k->base);
    return rc;
}

int dc_kd_check(const dc_model *teacher, const dc_model *student, dc_error *err)
{
    if (teacher->config.V == student->config.V) return DC_OK;
    return dc_fail(
        err, DC_EMISMATCH,
        "teacher and student do not share a vocabulary: %lld and %lld entries. Use a student of the same family.",
        (long long)teacher->config.V, (long long)student->config.V);
}
