/* tests/model/tiny.c */
#include "tests/model/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double tiny_uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11) / 4503599627370496.0 - 1.0;
}

void tiny_fill(float *x, int64_t n, double scale, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    for (int64_t i = 0; i < n; i++) x[i] = (float)(scale * tiny_uniform(&state));
}

dc_dev *tiny_dev(void)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    if (dc_dev_open(&dev, NULL, &err)) fail_msg("%s", err.message);
    return dev;
}

/* A row whose checkpoint has the tensors that the switches ask for. */
static const dc_family *family(const char *hf_type)
{
    for (size_t i = 0; dc_family_at(i); i++)
        if (!strcmp(dc_family_hf_type(dc_family_at(i)), hf_type)) return dc_family_at(i);
    fail_msg("no family %s", hf_type);
    return NULL;
}

static dc_config config(tiny_kind kind)
{
    dc_config c = {.family = family("llama"),
                   .C = 20,
                   .L = 3,
                   .H = 4,
                   .K = 2,
                   .D = 6,
                   .F = 28,
                   .V = 50,
                   .max_position = 128,
                   .n_rot = 6,
                   .rope = {.type = DC_ROPE_DEFAULT, .theta = 100},
                   .rms_eps = 1e-5f,
                   .embed_scale = 1,
                   .logit_scale = 1,
                   .act = DC_ACT_SILU,
                   .dtype = DC_F32,
                   .bos = -1,
                   .eos = -1};
    if (kind == QWEN2) c.family = family("qwen2"), c.H = 5, c.K = 1, c.D = 4, c.n_rot = 4, c.q_bias = 1, c.tied = 1;
    if (kind == QWEN3) c.family = family("qwen3"), c.D = 8, c.n_rot = 8, c.qk_norm = 1;
    if (kind == ODD) {
        c.H = 2, c.K = 2, c.D = 10, c.n_rot = 4, c.window = 5, c.norm_offset = 1, c.attn_softcap = 2,
        c.final_softcap = 3;
        c.embed_scale = 2.5f, c.logit_scale = 0.5f, c.act = DC_ACT_GELU_TANH, c.tied = 1;
        c.q_bias = c.o_bias = c.mlp_bias = 1;
    }
    c.attn_scale = 1 / sqrtf((float)c.D);
    return c;
}

dc_model *tiny_model(dc_dev *dev, tiny_kind kind, int frozen)
{
    dc_model *m = NULL;
    dc_error err = {0};
    const dc_config c = config(kind);
    if (dc_model_init(&m, dev, &c, 1, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        const int64_t n = w->spec.n_dims == 2 ? w->spec.shape[0] * w->spec.shape[1] : w->spec.shape[0];
        const int matrix = w->spec.n_dims == 2;
        tiny_fill(w->owned, n, matrix ? 0.4 : 0.3, i + 10);
        if (strstr(w->spec.hf, "norm.weight"))
            for (int64_t k = 0; k < n; k++) w->owned[k] += 1 - c.norm_offset;
        if (frozen) w->grad = w->owned = NULL;
    }
    if (frozen) m->trainable = 0;
    return m;
}

void tiny_zero_grad(dc_model *m)
{
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        const int64_t n = w->spec.n_dims == 2 ? w->spec.shape[0] * w->spec.shape[1] : w->spec.shape[0];
        if (w->grad) memset(w->grad, 0, (size_t)n * sizeof(float));
    }
}

static float *aligned(int64_t n, double scale, uint64_t seed)
{
    float *x = aligned_alloc(64, ((size_t)n * sizeof(float) + 63) / 64 * 64);
    assert_non_null(x);
    tiny_fill(x, n, scale, seed);
    return x;
}

static size_t group_end(const tiny_adapter *a, size_t first)
{
    size_t end = first;
    while (end < a->n && dc_model_first_reader(end) == first) end++;
    return end;
}

/* A and dA of those of the group that are wanted, one below the other; joint when there are several and none drops. */
static void group_new(tiny_adapter *a, size_t first, int64_t R, float dropout, int (*wanted)(size_t linear))
{
    const int64_t in = dc_model_linear_at(a->m, first)->in;
    dc_joint *j = &a->joints[first];
    float *const A = aligned(3 * R * in, 0, 1), *const dA = aligned(3 * R * in, 0, 1);
    int members = 0;
    j->a = (dc_cview){A, DC_F32}, j->dA = dA;
    for (size_t i = first; i < group_end(a, first); i++) {
        dc_linear *l = dc_model_linear_at(a->m, i);
        if (wanted && !wanted(i)) continue;
        const uint64_t seed = 100 * (uint64_t)a->slot + 4 * i + 1000;
        const float *const B = aligned(l->out * R, 0.4, seed + 1);
        tiny_fill(A + members * R * in, R * in, 0.4, seed);
        a->deltas[i] = (dc_delta){.A = A + members * R * in,
                                  .B = B,
                                  .a = {A + members * R * in, DC_F32},
                                  .b = {B, DC_F32},
                                  .dA = dA + members * R * in,
                                  .dB = aligned(l->out * R, 0, seed),
                                  .R = R,
                                  .scale = 0.7f,
                                  .dropout = dropout,
                                  .place = (uint32_t)i,
                                  .first = members * R};
        l->delta[a->slot] = &a->deltas[i];
        j->R = ++members * R;
    }
    for (size_t i = first; i < group_end(a, first); i++)
        if (a->deltas[i].R && members > 1 && dropout == 0) a->deltas[i].joint = j;
}

tiny_adapter tiny_adapter_new(dc_model *m, int slot, int64_t R, float dropout, int (*wanted)(size_t linear))
{
    const size_t n = dc_model_n_linears(m);
    tiny_adapter a = {calloc(n, sizeof(dc_delta)), calloc(n, sizeof(dc_joint)), n, m, slot};
    assert_true(a.deltas && a.joints);
    for (size_t i = 0; i < n; i = group_end(&a, i)) group_new(&a, i, R, dropout, wanted);
    return a;
}

void tiny_adapter_zero_grad(const tiny_adapter *a)
{
    for (size_t i = 0; i < a->n; i++) {
        const dc_linear *l = dc_model_linear_at(a->m, i);
        const dc_delta *d = &a->deltas[i];
        if (!d->R) continue;
        memset(d->dA, 0, (size_t)(d->R * l->in) * sizeof(float));
        memset(d->dB, 0, (size_t)(d->R * l->out) * sizeof(float));
    }
}

void tiny_adapter_free(tiny_adapter *a)
{
    for (size_t i = 0; i < a->n; i++) {
        dc_delta *d = &a->deltas[i];
        if (!d->R) continue;
        dc_model_linear_at(a->m, i)->delta[a->slot] = NULL;
        free((void *)(uintptr_t)d->B);
        free(d->dB);
    }
    for (size_t i = 0; i < a->n; i++) free((void *)(uintptr_t)a->joints[i].a.data), free(a->joints[i].dA);
    free(a->joints);
    free(a->deltas);
}

void tiny_batch_init(tiny_batch *f, const dc_model *m, const int *lengths, int stride)
{
    uint64_t state = 77;
    memset(f, 0, sizeof *f);
    dc_batch *b = &f->b;
    for (; *lengths; lengths++) {
        for (int i = 0; i < *lengths; i++) {
            assert_true(b->T < TINY_T && b->B < TINY_B);
            f->pos[b->T] = i;
            f->ids[b->T] = (int32_t)((tiny_uniform(&state) + 1) / 2 * (double)m->config.V);
            if (b->T % stride == stride - 1) f->rows[b->M++] = (int32_t)b->T;
            b->T++;
        }
        f->cu_seqlens[++b->B] = (int32_t)b->T;
    }
    b->ids = f->ids, b->pos = f->pos, b->cu_seqlens = f->cu_seqlens, b->rows = f->rows;
}
