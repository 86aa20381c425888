/* tests/model/naive.c -- the decoder as its papers write it: one loop after another, in double. */
#include "tests/model/tiny.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float *poked;
static double poked_by;

void naive_poke(const float *at, double by)
{
    poked = at;
    poked_by = by;
}

static double number(const float *x, int64_t i) { return (double)x[i] + (x + i == poked ? poked_by : 0); }

static double weight(const dc_weight *w, int64_t i) { return number(w->data.data, i); }

static double *doubles(int64_t n) { return calloc((size_t)n, sizeof(double)); }

static void rmsnorm(const dc_config *c, double *y, const double *x, const dc_weight *w, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    const double r = 1 / sqrt(sum / (double)n + (double)c->rms_eps);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * r * ((double)c->norm_offset + weight(w, i));
}

/* Multipliers [T, in] of the delta's input. Behind the last attention the plan has only the wanted rows, and masks those. */
static float *masks(const dc_model *m, const dc_linear *l, const dc_batch *b, const dc_run *run)
{
    const dc_delta *d = run->adapter >= 0 ? l->delta[run->adapter] : NULL;
    const dc_layer *last = &m->layers[m->config.L - 1];
    const int gathered = l == &last->o || l == &last->gate || l == &last->up || l == &last->down;
    float *mask = malloc((size_t)(b->T * l->in) * sizeof *mask);
    for (int64_t i = 0; i < b->T * l->in; i++) mask[i] = 1;
    if (!d || !(d->dropout > 0) || !run->training) return mask;
    const dc_dropout drop = {d->dropout, run->seed, d->place, &run->step};
    const int64_t n = gathered ? b->M : b->T;
    m->dev->op.dropout(m->dev, (dc_view){mask, DC_F32}, (dc_cview){mask, DC_F32}, n * l->in, &drop, 0);
    for (int64_t i = b->M; gathered && i-- > 0;)
        memmove(mask + b->rows[i] * l->in, mask + i * l->in, (size_t)l->in * sizeof *mask);
    return mask;
}

/* y [T, out] += x W^T + b + scale * (x * mask) A^T B^T */
static void linear(const dc_model *m, double *y, const double *x, const dc_linear *l, const dc_batch *b,
                   const dc_run *run)
{
    const dc_delta *d = run->adapter >= 0 ? l->delta[run->adapter] : NULL;
    const int64_t T = b->T;
    float *mask = masks(m, l, b, run);
    double *u = doubles(d ? d->R : 1);
    for (int64_t t = 0; t < T; t++) {
        const double *xt = x + t * l->in;
        for (int64_t r = 0; d && r < d->R; r++) {
            u[r] = 0;
            for (int64_t i = 0; i < l->in; i++)
                u[r] += xt[i] * (double)mask[t * l->in + i] * number(d->A, r * l->in + i);
        }
        for (int64_t o = 0; o < l->out; o++) {
            double sum = l->bias ? weight(l->bias, o) : 0;
            for (int64_t i = 0; i < l->in; i++) sum += xt[i] * weight(l->w, o * l->in + i);
            for (int64_t r = 0; d && r < d->R; r++) sum += (double)d->scale * u[r] * number(d->B, o * d->R + r);
            y[t * l->out + o] += sum;
        }
    }
    free(u);
    free(mask);
}

static void rotate(const dc_config *c, double *head, int32_t pos)
{
    float inv_freq[DC_ROPE_PAIRS];
    dc_rope_frequencies(inv_freq, c);
    for (int64_t i = 0; i < c->n_rot / 2; i++) {
        const double a = (double)pos * (double)inv_freq[i], u = head[i], v = head[i + c->n_rot / 2];
        head[i] = u * cos(a) - v * sin(a);
        head[i + c->n_rot / 2] = u * sin(a) + v * cos(a);
    }
}

/* One token's one head over the tokens of its document before it. */
static void attend(const dc_config *c, double *o, const double *q, const double *k, const double *v, int64_t first,
                   int64_t t)
{
    double *s = doubles(t + 1), most = -INFINITY, sum = 0;
    if (c->window && t - c->window + 1 > first) first = t - c->window + 1;
    for (int64_t j = first; j <= t; j++) {
        for (int64_t i = 0; i < c->D; i++) s[j] += q[i] * k[j * c->K * c->D + i];
        s[j] *= (double)c->attn_scale;
        if (c->attn_softcap > 0) s[j] = (double)c->attn_softcap * tanh(s[j] / (double)c->attn_softcap);
        most = fmax(most, s[j]);
    }
    for (int64_t j = first; j <= t; j++) sum += s[j] = exp(s[j] - most);
    for (int64_t j = first; j <= t; j++)
        for (int64_t i = 0; i < c->D; i++) o[i] += s[j] / sum * v[j * c->K * c->D + i];
    free(s);
}

static void attention(const dc_model *m, double *x, const dc_layer *l, const dc_batch *b, const dc_run *run)
{
    const dc_config *c = &m->config;
    const int64_t T = b->T, qw = c->H * c->D, kw = c->K * c->D;
    double *h = doubles(T * c->C), *q = doubles(T * qw), *k = doubles(T * kw), *v = doubles(T * kw),
           *o = doubles(T * qw);
    for (int64_t t = 0; t < T; t++) rmsnorm(c, h + t * c->C, x + t * c->C, l->attn_norm, c->C);
    linear(m, q, h, &l->q, b, run);
    linear(m, k, h, &l->k, b, run);
    linear(m, v, h, &l->v, b, run);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < c->H; i++) {
            double *head = q + t * qw + i * c->D;
            if (c->qk_norm) rmsnorm(c, head, head, l->q_norm, c->D);
            rotate(c, head, b->pos[t]);
        }
        for (int64_t i = 0; i < c->K; i++) {
            double *head = k + t * kw + i * c->D;
            if (c->qk_norm) rmsnorm(c, head, head, l->k_norm, c->D);
            rotate(c, head, b->pos[t]);
        }
    }
    for (int64_t doc = 0; doc < b->B; doc++)
        for (int64_t t = b->cu_seqlens[doc]; t < b->cu_seqlens[doc + 1]; t++)
            for (int64_t i = 0; i < c->H; i++) {
                const int64_t kv = i / (c->H / c->K) * c->D;
                attend(c, o + t * qw + i * c->D, q + t * qw + i * c->D, k + kv, v + kv, b->cu_seqlens[doc], t);
            }
    linear(m, x, o, &l->o, b, run);
    free(h), free(q), free(k), free(v), free(o);
}

static double act(dc_act kind, double x)
{
    switch (kind) {
    case DC_ACT_SILU: return x / (1 + exp(-x));
    case DC_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case DC_ACT_GELU_ERF: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    }
    return NAN;
}

static void feed_forward(const dc_model *m, double *x, const dc_layer *l, const dc_batch *b, const dc_run *run)
{
    const dc_config *c = &m->config;
    const int64_t T = b->T;
    double *h = doubles(T * c->C), *gate = doubles(T * c->F), *up = doubles(T * c->F);
    for (int64_t t = 0; t < T; t++) rmsnorm(c, h + t * c->C, x + t * c->C, l->ffn_norm, c->C);
    linear(m, gate, h, &l->gate, b, run);
    linear(m, up, h, &l->up, b, run);
    for (int64_t i = 0; i < T * c->F; i++) gate[i] = act(c->act, gate[i]) * up[i];
    linear(m, x, gate, &l->down, b, run);
    free(h), free(gate), free(up);
}

double *naive_hidden(const dc_model *m, const dc_batch *b, const dc_run *run)
{
    const dc_config *c = &m->config;
    double *x = doubles(b->T * c->C);
    for (int64_t t = 0; t < b->T; t++)
        for (int64_t i = 0; i < c->C; i++)
            x[t * c->C + i] = (double)c->embed_scale * weight(m->embed, b->ids[t] * c->C + i);
    for (int64_t layer = 0; layer < c->L; layer++) {
        attention(m, x, &m->layers[layer], b, run);
        feed_forward(m, x, &m->layers[layer], b, run);
    }
    for (int64_t t = 0; t < b->T; t++) rmsnorm(c, x + t * c->C, x + t * c->C, m->final_norm, c->C);
    return x;
}

void naive_logits(double *logits, const dc_model *m, const double *hidden)
{
    const dc_config *c = &m->config;
    for (int64_t v = 0; v < c->V; v++) {
        double z = 0;
        for (int64_t i = 0; i < c->C; i++) z += hidden[i] * weight(m->head.w, v * c->C + i);
        z *= (double)c->logit_scale;
        logits[v] = c->final_softcap > 0 ? (double)c->final_softcap * tanh(z / (double)c->final_softcap) : z;
    }
}
