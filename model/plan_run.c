/* model/plan_run.c -- running the list: each step's forward and backward side by side. */
#include "model/plan_private.h"

#include <string.h>

#include "core/log.h"
#include "model/linear.h"

static void *at(const dc_plan *p, int buffer) { return buffer >= 0 ? p->arena + p->buffers[buffer].offset : NULL; }

static dc_view view(const dc_plan *p, int buffer)
{
    const dc_view v = {at(p, buffer), buffer >= 0 ? p->buffers[buffer].type : p->dev->activation};
    return v;
}

static dc_cview cview(const dc_plan *p, int buffer) { return dc_view_read(view(p, buffer)); }

static int64_t rows_of(const dc_plan *p, int buffer) { return p->buffers[buffer].rows == DC_SYMBOL_T ? p->T : p->M; }

static void embed_fwd(dc_plan *p, const dc_step *s)
{
    const dc_config *c = &p->m->config;
    p->dev->op.embed_fwd(p->dev, view(p, s->out[0]), at(p, s->in[0]), s->weight->data, p->T, c->C, c->V,
                         c->embed_scale);
}

static void embed_bwd(dc_plan *p, const dc_step *s)
{
    const dc_config *c = &p->m->config;
    p->dev->op.embed_bwd(p->dev, s->weight->grad, at(p, s->in[1]), cview(p, s->in[0]), p->T, c->C, c->V,
                         c->embed_scale);
}

/* A row of `heads` parts is as many rows. */
static void norm_fwd(dc_plan *p, const dc_step *s)
{
    const int64_t rows = rows_of(p, s->in[0]) * s->heads, width = p->buffers[s->in[0]].width / s->heads;
    p->dev->op.rmsnorm_fwd(p->dev, view(p, s->out[0]), at(p, s->out[1]), cview(p, s->in[0]), s->weight->data, rows,
                           width, width, width, p->m->config.rms_eps, p->m->config.norm_offset);
}

static void norm_bwd(dc_plan *p, const dc_step *s)
{
    const int64_t rows = rows_of(p, s->in[1]) * s->heads, width = p->buffers[s->in[1]].width / s->heads;
    p->dev->op.rmsnorm_bwd(p->dev, view(p, s->out[0]), s->weight->grad, cview(p, s->in[0]), cview(p, s->in[1]),
                           at(p, s->in[2]), s->weight->data, rows, width, width, width, p->m->config.norm_offset,
                           !s->accumulate);
}

static void joint_fwd(dc_plan *p, const dc_step *s)
{
    dc_joint_fwd(p->dev, s->linear, view(p, s->out[0]), cview(p, s->in[0]), rows_of(p, s->out[0]), &p->run);
}

static void joint_bwd(dc_plan *p, const dc_step *s)
{
    dc_joint_bwd(p->dev, s->linear, view(p, s->out[0]), cview(p, s->in[0]), cview(p, s->in[1]), rows_of(p, s->in[0]),
                 s->accumulate, &p->run);
}

static void linear_fwd(dc_plan *p, const dc_step *s)
{
    const int residual = s->in[1];
    const int64_t rows = rows_of(p, s->out[0]);
    if (residual >= 0 && residual != s->out[0])
        dc_dev_copy(p->dev, at(p, s->out[0]), at(p, residual),
                    (size_t)(rows * s->linear->out) * dc_element_bytes(p->buffers[residual].type));
    dc_linear_fwd(p->dev, s->linear, view(p, s->out[0]), view(p, s->in[2] >= 0 ? s->in[2] : s->out[1]),
                  view(p, s->out[2]), cview(p, s->in[0]), rows, residual >= 0, &p->run);
}

static void linear_bwd(dc_plan *p, const dc_step *s)
{
    dc_linear_bwd(p->dev, s->linear, view(p, s->out[0]), view(p, s->out[1]), view(p, s->out[2]), cview(p, s->in[0]),
                  cview(p, s->in[1]), cview(p, s->in[2]), rows_of(p, s->in[0]), s->accumulate, &p->run);
}

static void rope(dc_plan *p, const dc_step *s, int sign)
{
    const dc_config *c = &p->m->config;
    p->dev->op.rope(p->dev, view(p, s->out[0]), at(p, s->in[1]), p->m->inv_freq, p->T, s->heads, c->D, c->n_rot, 0, 1,
                    sign);
}

static dc_attn attention(const dc_plan *p)
{
    const dc_config *c = &p->m->config;
    const dc_attn a = {p->cu_seqlens, at(p, p->cu),    p->T,     p->B, c->H, c->K, c->D,
                       c->attn_scale, c->attn_softcap, c->window};
    return a;
}

static void attn_fwd(dc_plan *p, const dc_step *s)
{
    const dc_view o = view(p, s->out[0]);
    const dc_cview q = cview(p, s->in[0]), k = cview(p, s->in[1]), v = cview(p, s->in[2]);
    if (p->kv) {
        dc_kv_attend(p->kv, s->layer, o, q, k, v);
        return;
    }
    const dc_attn a = attention(p);
    p->dev->op.attn_fwd(p->dev, o, at(p, s->out[1]), q, k, v, &a);
}

static void attn_bwd(dc_plan *p, const dc_step *s)
{
    const dc_attn a = attention(p);
    p->dev->op.attn_bwd(p->dev, view(p, s->out[0]), view(p, s->out[1]), view(p, s->out[2]), cview(p, s->in[0]),
                        cview(p, s->in[1]), at(p, s->in[2]), cview(p, s->in[3]), cview(p, s->in[4]), cview(p, s->in[5]),
                        &a);
}

static void glu_fwd(dc_plan *p, const dc_step *s)
{
    const dc_config *c = &p->m->config;
    p->dev->op.glu_fwd(p->dev, view(p, s->out[0]), cview(p, s->in[0]), cview(p, s->in[1]), rows_of(p, s->in[0]) * c->F,
                       c->act);
}

static void glu_bwd(dc_plan *p, const dc_step *s)
{
    const dc_config *c = &p->m->config;
    p->dev->op.glu_bwd(p->dev, view(p, s->out[0]), view(p, s->out[1]), cview(p, s->in[0]), cview(p, s->in[1]),
                       cview(p, s->in[2]), rows_of(p, s->in[1]) * c->F, c->act);
}

static void gather_fwd(dc_plan *p, const dc_step *s)
{
    p->dev->op.gather(p->dev, view(p, s->out[0]), cview(p, s->in[0]), at(p, s->in[1]), p->M,
                      p->buffers[s->out[0]].width);
}

static void gather_bwd(dc_plan *p, const dc_step *s)
{
    const int64_t width = p->buffers[s->out[0]].width;
    p->dev->op.fill(p->dev, view(p, s->out[0]), 0, p->T * width);
    if (p->M) p->dev->op.scatter_add(p->dev, view(p, s->out[0]), cview(p, s->in[0]), at(p, s->in[1]), p->M, width);
}

/* A batch may want no row at all (a piece of a long prompt): only the backward of the gather has then anything to do. */
static int has_rows(const dc_plan *p, const dc_step *s)
{
    if (p->M || s->op == DC_STEP_GATHER_BWD) return 1;
    for (int i = 0; i < DC_STEP_OUT; i++)
        if (s->out[i] >= 0 && p->buffers[s->out[i]].rows == DC_SYMBOL_M) return 0;
    return s->in[0] < 0 || p->buffers[s->in[0]].rows == DC_SYMBOL_T;
}

void dc_plan_step(dc_plan *p, const dc_step *s)
{
    if (!has_rows(p, s)) return;
    switch (s->op) {
    case DC_STEP_EMBED: embed_fwd(p, s); break;
    case DC_STEP_EMBED_BWD: embed_bwd(p, s); break;
    case DC_STEP_NORM: norm_fwd(p, s); break;
    case DC_STEP_NORM_BWD: norm_bwd(p, s); break;
    case DC_STEP_JOINT: joint_fwd(p, s); break;
    case DC_STEP_JOINT_BWD: joint_bwd(p, s); break;
    case DC_STEP_LINEAR: linear_fwd(p, s); break;
    case DC_STEP_LINEAR_BWD: linear_bwd(p, s); break;
    case DC_STEP_ROPE: rope(p, s, 1); break;
    case DC_STEP_ROPE_BWD: rope(p, s, -1); break;
    case DC_STEP_ATTN: attn_fwd(p, s); break;
    case DC_STEP_ATTN_BWD: attn_bwd(p, s); break;
    case DC_STEP_GLU: glu_fwd(p, s); break;
    case DC_STEP_GLU_BWD: glu_bwd(p, s); break;
    case DC_STEP_GATHER: gather_fwd(p, s); break;
    case DC_STEP_GATHER_BWD: gather_bwd(p, s); break;
    case DC_STEP_OBJECTIVE: break;
    case DC_STEP_OPS: DC_ASSERT(!"a step"); break;
    }
}

/* ---- figures ---- */

/* Each step waited for. */
static void run_profiled(dc_plan *p, int first, int end)
{
    for (int i = first; i < end; i++) {
        const dc_step *s = &p->steps[i];
        const double start = dc_now();
        dc_plan_step(p, s);
        dc_dev_sync(p->dev, NULL);
        dc_step_time *t = &p->times[s->op];
        t->seconds += dc_now() - start;
        t->flops += dc_plan_flops(p, s);
        t->bytes += dc_plan_traffic(p, s);
        t->calls++;
    }
}

static void run_steps(dc_plan *p, int pass, int first, int end)
{
    if (p->profile) run_profiled(p, first, end);
    else if (p->shape) dc_plan_record_run(p, pass, first, end);
    else
        for (int i = first; i < end; i++) dc_plan_step(p, &p->steps[i]);
}

/* ---- the passes ---- */

static void check_batch(const dc_plan *p, const dc_batch *b, const dc_run *run)
{
    DC_ASSERT(b->T > 0 && b->T <= p->o.max_tokens && b->B > 0 && b->B <= p->o.max_docs);
    DC_ASSERT(b->M >= 0 && b->M <= p->o.max_rows);
    DC_ASSERT(b->cu_seqlens[0] == 0 && b->cu_seqlens[b->B] == b->T);
    for (int64_t i = 0; i < b->B; i++) DC_ASSERT(b->cu_seqlens[i] <= b->cu_seqlens[i + 1]);
    for (int64_t t = 0; t < b->T; t++) DC_ASSERT(b->ids[t] >= 0 && b->ids[t] < p->m->config.V);
    for (int64_t i = 0; i < b->M; i++) DC_ASSERT(b->rows[i] > (i ? b->rows[i - 1] : -1) && b->rows[i] < b->T);
    DC_ASSERT(run->adapter == -1 || run->adapter == p->o.adapter);
    DC_ASSERT(!b->kv || !p->o.backward);
}

/* Its values may have changed since the last forward. */
static void narrow_adapter(dc_plan *p, const dc_adapter *a)
{
    if (a->narrow.data) p->dev->op.narrow(p->dev, a->narrow, a->values, a->n);
}

void dc_forward(dc_plan *p, const dc_batch *b, const dc_run *run)
{
    check_batch(p, b, run);
    p->T = b->T, p->B = b->B, p->M = b->M, p->kv = b->kv, p->run = *run;
    p->run.device_step = at(p, p->step);
    memcpy(p->cu_seqlens, b->cu_seqlens, (size_t)(b->B + 1) * sizeof *p->cu_seqlens);
    dc_plan_record_batch(p);
    dc_dev_upload(p->dev, at(p, p->ids), b->ids, (size_t)b->T * sizeof *b->ids);
    dc_dev_upload(p->dev, at(p, p->pos), b->pos, (size_t)b->T * sizeof *b->pos);
    dc_dev_upload(p->dev, at(p, p->cu), p->cu_seqlens, (size_t)(p->B + 1) * sizeof *p->cu_seqlens);
    if (b->M) dc_dev_upload(p->dev, at(p, p->rows), b->rows, (size_t)b->M * sizeof *b->rows);
    dc_dev_upload(p->dev, at(p, p->step), &run->step, sizeof run->step);
    if (run->adapter >= 0) narrow_adapter(p, &p->m->adapters[run->adapter]);
    run_steps(p, 0, 0, p->objective);
    p->ran = 1;
}

void dc_backward(dc_plan *p)
{
    DC_ASSERT(p->o.backward && p->ran && p->run.adapter == p->o.adapter);
    run_steps(p, 1, p->objective + 1, p->n_steps);
    p->ran = 0; /* gradients lie where values were */
}
