/* model/plan_mirror.c -- the backward steps: the forward's mirror, with what was not kept made again on demand.
 *
 * Every value is written by a group of forward steps with the same first output (a linear and the rope behind it). When a
 * backward step needs a value that was not kept, its group is repeated into new buffers, after the values that it needs in
 * turn. So keeping little (a layer's input) or much (all but norms and gated products) is a matter of the flags that
 * plan_build.c sets. The gradient of a value is set by the first backward step that gives to it, and added to by the
 * others. */
#include "model/plan_private.h"

#include "core/arena.h"
#include "model/linear.h"

typedef struct mirror {
    dc_plan *p;
    int n_forward; /* steps of the forward */
    int *now;      /* [n values] the buffer that holds a value at this point of the backward; -1: none */
    int *grad;     /* [n values] the buffer of its gradient; -1: none yet */
} mirror;

static int writes(const dc_step *s, int value)
{
    for (int i = 0; i < DC_STEP_OUT; i++)
        if (s->out[i] == value) return 1;
    return 0;
}

static int trains(const dc_plan *p, const dc_step *s)
{
    return (s->weight && s->weight->grad) || (s->linear && dc_linear_trains(s->linear, p->o.adapter));
}

/* A value's gradient is wanted when something that is trained lies below it. */
static void mark_wanted(dc_plan *p)
{
    for (int i = 0; i < p->objective; i++) {
        const dc_step *s = &p->steps[i];
        int wanted = trains(p, s);
        for (int k = 0; k < DC_STEP_IN; k++) wanted |= s->in[k] >= 0 && p->buffers[s->in[k]].wanted;
        for (int k = 0; k < DC_STEP_OUT; k++)
            if (s->out[k] >= 0) p->buffers[s->out[k]].wanted |= wanted;
    }
}

static int need(mirror *m, int value);

static int again(dc_plan *p, const dc_buffer *b)
{
    const dc_buffer_kind kind = b->kind == DC_BUFFER_VALUE ? DC_BUFFER_AGAIN : b->kind;
    const int made = dc_plan_add_buffer(p, b->name, b->layer, kind, b->rows, b->width);
    p->buffers[made].type = b->type;
    return made;
}

/* Repeats a forward step. Its outputs go to new buffers; one that was kept is written again with the same bits. */
static void repeat(mirror *m, int number)
{
    dc_plan *p = m->p;
    dc_step s = p->steps[number];
    for (int i = 0; i < DC_STEP_IN; i++)
        if (s.in[i] >= 0 && !writes(&p->steps[number], s.in[i])) s.in[i] = need(m, s.in[i]);
    for (int i = 0; i < DC_STEP_OUT; i++) {
        if (s.out[i] < 0) continue;
        const int old = s.out[i];
        const dc_buffer b = p->buffers[old];
        if (b.kind == DC_BUFFER_SCRATCH || m->now[old] < 0) m->now[old] = again(p, &b);
        s.out[i] = m->now[old];
        for (int k = 0; k < DC_STEP_IN; k++)
            if (p->steps[number].in[k] == old) s.in[k] = m->now[old];
    }
    s.again = 1;
    *dc_plan_add_step(p, s.op, s.layer) = s;
}

/* The buffer that holds a value, made again if it must be. */
static int need(mirror *m, int value)
{
    if (m->now[value] >= 0) return m->now[value];
    int group = -1;
    for (int i = 0; i < m->n_forward; i++) {
        const dc_step *s = &m->p->steps[i];
        if (group < 0 && writes(s, value)) group = s->out[0];
        if (group >= 0 && s->out[0] == group) repeat(m, i);
    }
    DC_ASSERT(m->now[value] >= 0);
    return m->now[value];
}

static int wanted(const mirror *m, int value) { return value >= 0 && m->p->buffers[value].wanted; }

/* The buffer of a value's gradient for a step that gives to it: a new one is to be set, not added to. */
static int into(mirror *m, int value, int *accumulate)
{
    *accumulate = m->grad[value] >= 0;
    if (!*accumulate) {
        const dc_buffer b = m->p->buffers[value];
        m->grad[value] = dc_plan_add_buffer(m->p, b.name, b.layer, DC_BUFFER_GRADIENT, b.rows, b.width);
    }
    return m->grad[value];
}

/* For steps that set a gradient and are the only ones that give to it. */
static int set(mirror *m, int value)
{
    int accumulate;
    const int b = into(m, value, &accumulate);
    DC_ASSERT(!accumulate);
    return b;
}

static void norm_bwd(mirror *m, const dc_step *f)
{
    const int x = need(m, f->in[0]), rstd = need(m, f->out[1]);
    int accumulate = 1;
    /* The gradient that comes in is needed by nobody else: unless there is one to add to, its buffer goes on. */
    if (m->grad[f->in[0]] < 0) m->grad[f->in[0]] = m->grad[f->out[0]], accumulate = 0;
    dc_step *s = dc_plan_add_step(m->p, DC_STEP_NORM_BWD, f->layer);
    s->out[0] = m->grad[f->in[0]], s->in[0] = m->grad[f->out[0]], s->in[1] = x, s->in[2] = rstd;
    s->weight = f->weight, s->heads = f->heads, s->accumulate = accumulate;
}

static void linear_bwd(mirror *m, const dc_step *f)
{
    dc_plan *p = m->p;
    const dc_linear *l = f->linear;
    const dc_delta *d = dc_plan_delta(p, l);
    const int dy = m->grad[f->out[0]], residual = f->in[1];
    /* y = residual + ...: one buffer is the gradient of both, all along the stream. */
    if (wanted(m, residual)) {
        DC_ASSERT(m->grad[residual] < 0);
        m->grad[residual] = dy;
    }
    const int training = dc_linear_trains(l, p->o.adapter);
    if (!training && !wanted(m, f->in[0])) return;
    const int joint = f->in[2];
    const int x = training ? need(m, f->in[0]) : -1, u = d && d->dB ? need(m, joint >= 0 ? joint : f->out[1]) : -1;
    int accumulate = 0;
    const int dx = wanted(m, f->in[0]) ? into(m, f->in[0], &accumulate) : -1;
    const dc_symbol rows = p->buffers[f->out[0]].rows;
    int du = -1, scratch = -1;
    if (joint >= 0) {
        int other;
        if (wanted(m, joint)) du = into(m, joint, &other);
    } else if (d && (d->dA || dx >= 0)) du = dc_plan_add_buffer(p, "du", f->layer, DC_BUFFER_SCRATCH, rows, d->R);
    if (f->out[2] >= 0) scratch = dc_plan_add_buffer(p, "dropped", f->layer, DC_BUFFER_SCRATCH, rows, l->in);
    dc_step *s = dc_plan_add_step(p, DC_STEP_LINEAR_BWD, f->layer);
    s->out[0] = dx, s->out[1] = du, s->out[2] = scratch, s->in[0] = dy, s->in[1] = x, s->in[2] = u;
    s->linear = l, s->accumulate = accumulate;
}

/* Behind the backward of its linears, which have set its du and begun dx. */
static void joint_bwd(mirror *m, const dc_step *f)
{
    dc_plan *p = m->p;
    int accumulate = 0;
    const dc_joint *j = dc_plan_delta(p, f->linear)->joint;
    const int x = j->dA ? need(m, f->in[0]) : -1, dx = wanted(m, f->in[0]) ? into(m, f->in[0], &accumulate) : -1;
    dc_step *s = dc_plan_add_step(p, DC_STEP_JOINT_BWD, f->layer);
    s->out[0] = dx, s->in[0] = m->grad[f->out[0]], s->in[1] = x;
    s->linear = f->linear, s->accumulate = accumulate;
}

static void attn_bwd(mirror *m, const dc_step *f)
{
    const int operands[] = {m->grad[f->out[0]], need(m, f->out[0]), need(m, f->out[1]),
                            need(m, f->in[0]),  need(m, f->in[1]),  need(m, f->in[2])};
    dc_step *s = dc_plan_add_step(m->p, DC_STEP_ATTN_BWD, f->layer);
    for (int i = 0; i < 6; i++) s->in[i] = operands[i];
    for (int i = 0; i < 3; i++) s->out[i] = set(m, f->in[i]);
}

/* The gradients of gate and up lie where gate and up were, which nobody needs any more. */
static void glu_bwd(mirror *m, const dc_step *f)
{
    const int gate = need(m, f->in[0]), up = need(m, f->in[1]);
    dc_step *s = dc_plan_add_step(m->p, DC_STEP_GLU_BWD, f->layer);
    s->in[0] = m->grad[f->out[0]], s->in[1] = gate, s->in[2] = up;
    s->out[0] = m->grad[f->in[0]] = gate;
    s->out[1] = m->grad[f->in[1]] = up;
    m->now[f->in[0]] = m->now[f->in[1]] = -1;
}

static void mirror_step(mirror *m, int number)
{
    const dc_step f = m->p->steps[number];
    if (!wanted(m, f.out[0])) return;
    dc_step *s;
    switch (f.op) {
    case DC_STEP_EMBED:
        s = dc_plan_add_step(m->p, DC_STEP_EMBED_BWD, f.layer);
        s->in[0] = m->grad[f.out[0]], s->in[1] = f.in[0], s->weight = f.weight;
        break;
    case DC_STEP_NORM: norm_bwd(m, &f); break;
    case DC_STEP_JOINT: joint_bwd(m, &f); break;
    case DC_STEP_LINEAR: linear_bwd(m, &f); break;
    case DC_STEP_ROPE:
        s = dc_plan_add_step(m->p, DC_STEP_ROPE_BWD, f.layer);
        s->out[0] = s->in[0] = m->grad[f.out[0]], s->in[1] = f.in[1], s->heads = f.heads;
        break;
    case DC_STEP_ATTN: attn_bwd(m, &f); break;
    case DC_STEP_GLU: glu_bwd(m, &f); break;
    case DC_STEP_GATHER:
        s = dc_plan_add_step(m->p, DC_STEP_GATHER_BWD, f.layer);
        s->out[0] = set(m, f.in[0]), s->in[0] = m->grad[f.out[0]], s->in[1] = f.in[1];
        break;
    default: DC_ASSERT(!"a forward step without a backward");
    }
}

int dc_plan_mirror(dc_plan *p, dc_error *err)
{
    const size_t n = (size_t)p->n_buffers;
    mirror m = {p, p->objective, dc_calloc(n, sizeof(int)), dc_calloc(n, sizeof(int))};
    int rc = DC_OK;
    if (!m.now || !m.grad) {
        rc = dc_fail_memory(err, 2 * n * sizeof(int), "the plan's backward");
        goto done;
    }
    mark_wanted(p);
    for (size_t i = 0; i < n; i++) {
        m.now[i] = p->buffers[i].keep || p->buffers[i].kind == DC_BUFFER_TABLE ? (int)i : -1;
        m.grad[i] = -1;
    }
    m.grad[p->hidden] = p->hidden_grad;
    for (int i = m.n_forward - 1; i >= 0; i--) mirror_step(&m, i);
done:
    dc_free(m.now);
    dc_free(m.grad);
    return rc;
}
