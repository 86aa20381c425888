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
    if (s->op == DC_STEP_LINEAR) return base + a + b;
    const int dx = s->out[0] >= 0;
    const double delta = d ? (dx + (d->dA != NULL)) * a + ((s->out[1] >= 0) + (d->dB != NULL)) * b : 0;
    return (dx + (l->w->grad != NULL)) * base + delta;
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
    case DC_STEP_ATTN: return 4 * attended(p) * (double)(c->H * c->D);
    case DC_STEP_ATTN_BWD: return 10 * attended(p) * (double)(c->H * c->D);
    default: return 0;
    }
}

/* ---- bytes: each op reads its operands once and writes its results once; what is added to is read too ---- */

/* A, B and their gradients. */
static double low_bytes(const dc_delta *d, int64_t width) { return 4.0 * (double)d->R * (double)width; }

/* y = x W' (+ residual), u = x A', y += u B'. */
static double linear_bytes(const dc_plan *p, const dc_step *s)
{
    const dc_linear *l = s->linear;
    const dc_delta *d = active(p, l);
    const double x = size(p, s->in[0]), y = size(p, s->out[0]), u = size(p, s->out[1]), dropped = size(p, s->out[2]);
    double bytes = x + y + (double)dc_dtype_bytes(l->w->data.type, l->in * l->out);
    if (s->in[1] >= 0) bytes += y;                              /* the product is added to the residual */
    if (s->in[1] >= 0 && s->in[1] != s->out[0]) bytes += 2 * y; /* which is copied to its place */
    if (d) bytes += x + low_bytes(d, l->in) + u + u + low_bytes(d, l->out) + 2 * y + 2 * dropped;
    return bytes;
}

/* dx = dy W; dW += dy' x; dB += dy' u, du = dy B, dA += du' x, dx += du A. */
static double linear_bwd_bytes(const dc_plan *p, const dc_step *s)
{
    const dc_linear *l = s->linear;
    const dc_delta *d = active(p, l);
    const double dy = size(p, s->in[0]), x = size(p, s->in[1]), u = size(p, s->in[2]);
    const double dx = size(p, s->out[0]), du = size(p, s->out[1]), dropped = size(p, s->out[2]);
    double bytes = 0;
    if (dx > 0) bytes += dy + (double)dc_dtype_bytes(l->w->data.type, l->in * l->out) + dx * (s->accumulate ? 2 : 1);
    if (l->w->grad) bytes += dy + x + 8.0 * (double)l->in * (double)l->out;
    if (d && d->dB) bytes += dy + u + 2 * low_bytes(d, l->out);
    if (d && du > 0) bytes += dy + low_bytes(d, l->out) + du;
    if (d && d->dA) bytes += du + x + 2 * dropped + 2 * low_bytes(d, l->in);
    if (d && dx > 0) bytes += du + low_bytes(d, l->in) + 2 * dx + 2 * dropped;
    return bytes;
}

double dc_plan_traffic(const dc_plan *p, const dc_step *s)
{
    double bytes = 0;
    if (s->op == DC_STEP_LINEAR) return linear_bytes(p, s);
    if (s->op == DC_STEP_LINEAR_BWD) return linear_bwd_bytes(p, s);
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
