/* model/plan_build.c -- from a config's switches to the list of forward steps. */
#include "model/plan_private.h"

#include "core/arena.h"

/* Room for a layer's steps and buffers: forward, the forward again, backward. plan_mirror.c asserts that they suffice. */
enum { LAYER_STEPS = 62, LAYER_BUFFERS = 116, OTHER_STEPS = 16, OTHER_BUFFERS = 32 };

int dc_plan_add_buffer(dc_plan *p, const char *name, int layer, dc_buffer_kind kind, dc_symbol rows, int64_t width)
{
    DC_ASSERT(p->n_buffers < p->buffer_room);
    dc_buffer *b = &p->buffers[p->n_buffers];
    *b = (dc_buffer){.name = name, .layer = layer, .kind = kind, .rows = rows, .width = width, .first = -1, .last = -1};
    b->type = kind == DC_BUFFER_TABLE ? DC_I32 : p->dev->activation;
    return p->n_buffers++;
}

dc_step *dc_plan_add_step(dc_plan *p, dc_step_op op, int layer)
{
    DC_ASSERT(p->n_steps < p->step_room);
    dc_step *s = &p->steps[p->n_steps++];
    *s = (dc_step){.op = op, .layer = layer, .heads = 1};
    for (int i = 0; i < DC_STEP_OUT; i++) s->out[i] = -1;
    for (int i = 0; i < DC_STEP_IN; i++) s->in[i] = -1;
    return s;
}

const dc_delta *dc_plan_delta(const dc_plan *p, const dc_linear *l)
{
    return p->o.adapter >= 0 ? l->delta[p->o.adapter] : NULL;
}

/* Are a layer's inner values kept? With checkpoint only the residual stream between layers is. The last layer is spared the
 * repeat: its values are used first, and living longer than a repeat would let them they raise no peak. */
static int kept(const dc_plan *p, int layer) { return !p->o.checkpoint || layer < 0 || layer == p->m->config.L - 1; }

static int value(dc_plan *p, const char *name, int layer, dc_symbol rows, int64_t width, int keep)
{
    const int b = dc_plan_add_buffer(p, name, layer, DC_BUFFER_VALUE, rows, width);
    p->buffers[b].keep = keep;
    return b;
}

static int statistic(dc_plan *p, const char *name, int layer, dc_symbol rows, int64_t width, int keep)
{
    const int b = value(p, name, layer, rows, width, keep);
    p->buffers[b].type = DC_F32;
    return b;
}

/* Normalizes x in `heads` parts of a row. What comes out of the two norms of a layer is cheap to make again and not kept. */
static int norm(dc_plan *p, int layer, const char *name, int x, const dc_weight *w, int64_t heads, int keep)
{
    const dc_buffer in = p->buffers[x];
    const int y = value(p, name, layer, in.rows, in.width, keep);
    const int rstd = p->o.backward ? statistic(p, "rstd", layer, in.rows, heads, kept(p, layer)) : -1;
    dc_step *s = dc_plan_add_step(p, DC_STEP_NORM, layer);
    s->out[0] = y, s->out[1] = rstd, s->in[0] = x;
    s->weight = w, s->heads = heads;
    return y;
}

/* u of those of n linears whose deltas are joint; -1: none are. */
static int joint(dc_plan *p, int layer, const dc_linear *const *l, int n, int x, int keep)
{
    for (int i = 0; i < n; i++) {
        const dc_delta *d = dc_plan_delta(p, l[i]);
        if (!d || !d->joint) continue;
        const int u = value(p, "u", layer, p->buffers[x].rows, d->joint->R, keep);
        dc_step *s = dc_plan_add_step(p, DC_STEP_JOINT, layer);
        s->out[0] = u, s->in[0] = x, s->linear = l[i];
        return u;
    }
    return -1;
}

/* y = linear(x), or residual + linear(x). Without a backward the sum goes to the residual's own buffer. `joint`: u of a joint delta. */
static int linear(dc_plan *p, int layer, const char *name, const dc_linear *l, int x, int residual, int joint, int keep)
{
    const int in_place = residual >= 0 && !p->o.backward;
    const dc_symbol rows = p->buffers[x].rows;
    const int y = in_place ? residual : value(p, name, layer, rows, l->out, keep);
    const dc_delta *d = dc_plan_delta(p, l);
    int u = -1, scratch = -1;
    if (d && !d->joint) {
        u = value(p, "u", layer, rows, d->R, keep);
        if (d->dropout > 0) scratch = dc_plan_add_buffer(p, "dropped", layer, DC_BUFFER_SCRATCH, rows, l->in);
    }
    dc_step *s = dc_plan_add_step(p, DC_STEP_LINEAR, layer);
    s->out[0] = y, s->out[1] = u, s->out[2] = scratch, s->in[0] = x, s->in[1] = residual;
    s->in[2] = d && d->joint ? joint : -1;
    s->linear = l;
    return y;
}

static void rope(dc_plan *p, int layer, int x, int64_t heads)
{
    dc_step *s = dc_plan_add_step(p, DC_STEP_ROPE, layer);
    s->out[0] = s->in[0] = x, s->in[1] = p->pos;
    s->heads = heads;
}

/* The rows of x with a loss. */
static int gather(dc_plan *p, int layer, const char *name, int x)
{
    const int y = value(p, name, layer, DC_SYMBOL_M, p->buffers[x].width, 1);
    dc_step *s = dc_plan_add_step(p, DC_STEP_GATHER, layer);
    s->out[0] = y, s->in[0] = x, s->in[1] = p->rows;
    return y;
}

/* x + o(attention(norm(x))). Behind the last attention no row looks at another: from there on only those with a loss are
 * computed. */
static int attention(dc_plan *p, int layer, int x)
{
    const dc_config *c = &p->m->config;
    const dc_layer *w = &p->m->layers[layer];
    const int keep = kept(p, layer);
    const int h = norm(p, layer, "h", x, w->attn_norm, 1, 0);
    const dc_linear *const readers[] = {&w->q, &w->k, &w->v};
    const int u = joint(p, layer, readers, 3, h, keep);
    int q = linear(p, layer, "q", &w->q, h, -1, u, keep);
    int k = linear(p, layer, "k", &w->k, h, -1, u, keep);
    const int v = linear(p, layer, "v", &w->v, h, -1, u, keep);
    if (c->qk_norm) {
        q = norm(p, layer, "q_normed", q, w->q_norm, c->H, keep);
        k = norm(p, layer, "k_normed", k, w->k_norm, c->K, keep);
    }
    rope(p, layer, q, c->H);
    rope(p, layer, k, c->K);
    int o = value(p, "o", layer, DC_SYMBOL_T, c->H * c->D, keep);
    const int lse = p->o.backward ? statistic(p, "lse", layer, DC_SYMBOL_T, c->H, keep) : -1;
    dc_step *s = dc_plan_add_step(p, DC_STEP_ATTN, layer);
    s->out[0] = o, s->out[1] = lse, s->in[0] = q, s->in[1] = k, s->in[2] = v;
    if (layer == c->L - 1) {
        o = gather(p, layer, "o_rows", o);
        x = gather(p, layer, "x_rows", x);
    }
    return linear(p, layer, "x_mid", &w->o, o, x, -1, keep);
}

/* x + down(act(gate(norm(x))) * up(norm(x))). The product, as wide as gate and up, is made again rather than kept. */
static int feed_forward(dc_plan *p, int layer, int x)
{
    const dc_layer *w = &p->m->layers[layer];
    const int keep = kept(p, layer);
    const int h = norm(p, layer, "h_ffn", x, w->ffn_norm, 1, 0);
    const dc_linear *const readers[] = {&w->gate, &w->up};
    const int u = joint(p, layer, readers, 2, h, keep);
    const int gate = linear(p, layer, "gate", &w->gate, h, -1, u, keep);
    const int up = linear(p, layer, "up", &w->up, h, -1, u, keep);
    const int y = value(p, "glu", layer, p->buffers[gate].rows, p->m->config.F, 0);
    dc_step *s = dc_plan_add_step(p, DC_STEP_GLU, layer);
    s->out[0] = y, s->in[0] = gate, s->in[1] = up;
    return linear(p, layer, "x", &w->down, y, x, -1, 1);
}

/* The final norm, and the place where the objective takes over. */
static void finish(dc_plan *p, int x)
{
    p->hidden = norm(p, -1, "hidden", x, p->m->final_norm, 1, 1);
    if (p->o.backward)
        p->hidden_grad = dc_plan_add_buffer(p, "hidden", -1, DC_BUFFER_GRADIENT, DC_SYMBOL_M, p->m->config.C);
    p->objective = p->n_steps;
    dc_step *s = dc_plan_add_step(p, DC_STEP_OBJECTIVE, -1);
    s->in[0] = p->hidden, s->out[0] = p->hidden_grad;
}

int dc_plan_build(dc_plan *p, dc_error *err)
{
    const int L = (int)p->m->config.L;
    p->step_room = L * LAYER_STEPS + OTHER_STEPS;
    p->buffer_room = L * LAYER_BUFFERS + OTHER_BUFFERS;
    p->steps = dc_calloc((size_t)p->step_room, sizeof *p->steps);
    p->buffers = dc_calloc((size_t)p->buffer_room, sizeof *p->buffers);
    if (!p->steps || !p->buffers)
        return dc_fail_memory(err,
                              (size_t)p->step_room * sizeof *p->steps + (size_t)p->buffer_room * sizeof *p->buffers,
                              "the plan's list of steps");
    p->ids = dc_plan_add_buffer(p, "ids", -1, DC_BUFFER_TABLE, DC_SYMBOL_T, 1);
    p->pos = dc_plan_add_buffer(p, "pos", -1, DC_BUFFER_TABLE, DC_SYMBOL_T, 1);
    p->rows = dc_plan_add_buffer(p, "rows", -1, DC_BUFFER_TABLE, DC_SYMBOL_M, 1);
    p->cu = dc_plan_add_buffer(p, "cu_seqlens", -1, DC_BUFFER_TABLE, DC_SYMBOL_B1, 1);
    p->step = dc_plan_add_buffer(p, "step", -1, DC_BUFFER_TABLE, DC_SYMBOL_ONE, 1);
    p->hidden_grad = -1;

    int x = value(p, "x", -1, DC_SYMBOL_T, p->m->config.C, 1);
    dc_step *s = dc_plan_add_step(p, DC_STEP_EMBED, -1);
    s->out[0] = x, s->in[0] = p->ids, s->weight = p->m->embed;
    for (int layer = 0; layer < L; layer++) x = feed_forward(p, layer, attention(p, layer, x));
    finish(p, x);
    return DC_OK;
}
