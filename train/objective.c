/* train/objective.c -- cross-entropy. */
#include "train/objective.h"

#include "core/arena.h"
#include "train/walk.h"

typedef struct cross_entropy {
    dc_objective base;
    dc_walk *walk;
} cross_entropy;

int dc_objective_weigh(dc_objective *self, const dc_packed *batch, double *weight, dc_error *err)
{
    (void)self, (void)err;
    *weight = 0;
    for (int64_t i = 0; i < batch->M; i++) *weight += (double)batch->weight[i];
    return DC_OK;
}

static int run_walk(dc_objective *self, dc_plan *plan, const dc_packed *batch, const dc_run *run, double denominator,
                    int gradient, dc_losses *out, dc_error *err)
{
    const dc_walk_options o = {.ce_scale = 1, .denominator = denominator, .gradient = gradient};
    return dc_walk_run(((cross_entropy *)self)->walk, plan, batch, run, &o, out, err);
}

static size_t bytes(const dc_objective *self) { return dc_walk_bytes(((const cross_entropy *)self)->walk); }

static void objective_free(dc_objective *self)
{
    if (!self) return;
    dc_walk_free(((cross_entropy *)self)->walk);
    dc_free(self);
}

int dc_objective_cross_entropy(dc_objective **out, dc_model *m, int64_t chunk_bytes, dc_error *err)
{
    cross_entropy *o = dc_calloc(1, sizeof *o);
    if (!o) return dc_fail_memory(err, sizeof *o, "an objective");
    o->base = (dc_objective){.name = "cross_entropy",
                             .measure = dc_objective_weigh,
                             .run = run_walk,
                             .bytes = bytes,
                             .free = objective_free};
    const int rc = dc_walk_new(&o->walk, m, chunk_bytes, err);
    if (rc == DC_OK) *out = &o->base;
    else dc_free(o);
    return rc;
}

dc_batch dc_batch_of(const dc_packed *p)
{
    return (dc_batch){
        .T = p->T, .B = p->B, .M = p->M, .ids = p->ids, .pos = p->pos, .cu_seqlens = p->cu_seqlens, .rows = p->rows};
}
