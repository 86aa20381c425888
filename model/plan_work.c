/* model/plan_work.c -- what a step of the last batch costs: operations, and bytes that must cross memory when no cache helps. */
#include "model/plan_private.h"

#include "model/linear.h"

static int64_t elements(const dc_plan *p, int buffer)
{
    const dc_buffer *b = &p->buffers[buffer];
    const int64_t rows[] = {[DC_SYMBOL_T] = p->T, [DC_SYMBOL_M] = p->M, [DC_SYMBOL_B1] = p->B + 1, [DC_SYMBOL_ONE] = 1};
    return rows[b->rows] * b->width;
}

static double size(const dc_plan *p, int buffer)
{
    return buffer >= 0 ? (double)dc_dtype_bytes(p->buffers[buffer].type, elements(p, buffer)) : 0;
}

static const dc_delta *active(const dc_plan *p, const dc_linear *l)
{
    return p->run.adapter >= 0 ? l->delta[p->run.adapter] : NULL;
}

/* ---- operations ---- */

/* Products of a linear, in multiply-adds of a token: forward; and backward, as far as the step goes. */
static double linear_flops(const dc_plan *p, const dc_step *s)
{
    const dc_linear *l = s->linear;
    const dc_delta *d = active(p, l);
    const double base = (double)l->in * (double)l->out, a = d ? (double)d->R * (double)l->in : 0;
    const double b = d ? (double)d->R * (double)l->out : 0;
    const int alone = d && !d->joint;
    if (s->op == DC_STEP_LINEAR) return base + alone * a + b;
    const int dx = s->out[0] >= 0;
    const double delta = d ? alone * (dx + (d->dA != NULL)) * a + ((s->out[1] >= 0) + (d->dB != NULL)) * b : 0;
    return (dx + (l->w->grad != NULL)) * base + delta;
}

static double joint_flops(const dc_plan *p, const dc_step *s)
{
    const dc_delta *d = active(p, s->linear);
    const double one = d ? (double)d->joint->R * (double)s->linear->in : 0;
    return s->op == DC_STEP_JOINT ? one : one * ((s->out[0] >= 0) + (d && d->joint->dA));
}

/* Pairs of tokens that attend to one another. Decoding's are not counted: the plan does not see the cache. */
static double attended(const dc_plan *p)
{
    double pairs = 0;
    for (int64_t b = 0; b < p->B && !p->kv; b++) {
        const double n = p->cu_seqlens[b + 1] - p->cu_seqlens[b], w = (double)p->m->config.window;
        pairs += w > 0 && w < n ? w * (n - w) + w * (w + 1) / 2 : n * (n + 1) / 2;
    }
    return pairs;
}

double dc_plan_flops(const dc_plan *p, const dc_step *s)
{
    const dc_config *c = &p->m->config;
    const int64_t rows = s->in[0] >= 0 && p->buffers[s->in[0]].rows == DC_SYMBOL_M ? p->M : p->T;
    switch (s->op) {
    case DC_STEP_LINEAR:
    case DC_STEP_LINEAR_BWD: return 2 * (double)rows * linear_flops(p, s);
    case DC_STEP_JOINT:
    case DC_STEP_JOINT_BWD: return 2 * (double)rows * joint_flops(p, s);
    case DC_STEP_ATTN: return 4 * attended(p) * (double)(c->H * c->D);
    case DC_STEP_ATTN_BWD: return 10 * attended(p) * (double)(c->H * c->D);
    default: return 0;
    }
}

/* ---- bytes: each op reads its operands once and writes its results once; what is added to is read too ---- */

/* A or B as products read it; and a gradient of it, which is added to. */
static double low_bytes(dc_cview w, int64_t R, int64_t width) { return (double)dc_dtype_bytes(w.type, R * width); }
static double sums_bytes(int64_t R, int64_t width) { return 8.0 * (double)R * (double)width; }

/* A part of an activation: R columns of as many rows as `like` has. */
static double columns(const dc_plan *p, int like, int64_t R)
{
    return size(p, like) / (double)p->buffers[like].width * (double)R;
}

/* y = x W' (+ residual), u = x A', y += u B'. */
static double linear_bytes(const dc_plan *p, const dc_step *s)
{
    const dc_linear *l = s->linear;
    const dc_delta *d = active(p, l);
    const double x = size(p, s->in[0]), y = size(p, s->out[0]), u = size(p, s->out[1]), dropped = size(p, s->out[2]);
    double bytes = x + y + (double)dc_dtype_bytes(l->w->data.type, l->in * l->out);
    if (s->in[1] >= 0) bytes += y;                              /* the product is added to the residual */
    if (s->in[1] >= 0 && s->in[1] != s->out[0]) bytes += 2 * y; /* which is copied to its place */
    if (d && !d->joint) bytes += x + low_bytes(d->a, d->R, l->in) + u + 2 * dropped;
    if (d) bytes += columns(p, s->out[0], d->R) + low_bytes(d->b, d->R, l->out) + 2 * y;
    return bytes;
}

/* dx = dy W; dW += dy' x; dB += dy' u, du = dy B, dA += du' x, dx += du A. */
static double linear_bwd_bytes(const dc_plan *p, const dc_step *s)
{
    const dc_linear *l = s->linear;
    const dc_delta *d = active(p, l);
    const double dy = size(p, s->in[0]), x = size(p, s->in[1]), dropped = size(p, s->out[2]);
    const double dx = size(p, s->out[0]), du = d && s->out[1] >= 0 ? columns(p, s->in[0], d->R) : 0;
    double bytes = 0;
    if (dx > 0) bytes += dy + (double)dc_dtype_bytes(l->w->data.type, l->in * l->out) + dx * (s->accumulate ? 2 : 1);
    if (l->w->grad) bytes += dy + x + 8.0 * (double)l->in * (double)l->out;
    if (d && d->dB) bytes += dy + du + sums_bytes(d->R, l->out);
    if (d && du > 0) bytes += dy + low_bytes(d->b, d->R, l->out) + du;
    if (!d || d->joint) return bytes;
    if (d->dA) bytes += du + x + 2 * dropped + sums_bytes(d->R, l->in);
    if (dx > 0) bytes += du + low_bytes(d->a, d->R, l->in) + 2 * dx + 2 * dropped;
    return bytes;
}

/* u = x a'; dA += du' x, dx += du a. */
static double joint_bytes(const dc_plan *p, const dc_step *s)
{
    const dc_delta *d = active(p, s->linear);
    const double in = size(p, s->in[0]), x = size(p, s->in[1]), out = size(p, s->out[0]);
    if (!d) return 0;
    const double a = low_bytes(d->joint->a, d->joint->R, s->linear->in);
    if (s->op == DC_STEP_JOINT) return in + a + out;
    return (d->joint->dA ? in + x + sums_bytes(d->joint->R, s->linear->in) : 0) +
           (out > 0 ? in + a + out * (s->accumulate ? 2 : 1) : 0);
}

double dc_plan_traffic(const dc_plan *p, const dc_step *s)
{
    double bytes = 0;
    if (s->op == DC_STEP_LINEAR) return linear_bytes(p, s);
    if (s->op == DC_STEP_LINEAR_BWD) return linear_bwd_bytes(p, s);
    if (s->op == DC_STEP_JOINT || s->op == DC_STEP_JOINT_BWD) return joint_bytes(p, s);
    for (int i = 0; i < DC_STEP_IN; i++) bytes += size(p, s->in[i]);
    for (int i = 0; i < DC_STEP_OUT; i++) bytes += size(p, s->out[i]);
    if (s->op == DC_STEP_NORM || s->op == DC_STEP_NORM_BWD)
        bytes += (double)dc_dtype_bytes(s->weight->data.type, p->buffers[s->in[0]].width / s->heads);
    if (s->op == DC_STEP_NORM_BWD && s->accumulate) bytes += size(p, s->out[0]);
    if (s->op == DC_STEP_EMBED) /* rows of the table */
        bytes += (double)(p->T * dc_dtype_bytes(s->weight->data.type, p->m->config.C));
    if (s->op == DC_STEP_EMBED_BWD) bytes += 8 * (double)elements(p, s->in[0]);
    if (s->op == DC_STEP_GATHER) bytes -= size(p, s->in[0]) - size(p, s->out[0]); /* of the rows that are taken */
    if (s->op == DC_STEP_GATHER_BWD) bytes += 2 * size(p, s->in[0]);
    return bytes;
}
