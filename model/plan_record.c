/* model/plan_record.c -- passes that a device queues at once.
 *
 * A training step of a small model is thousands of launches, which take longer than their work. Between embedding and last attention every
 * step works on T rows, so that two batches with the same T queue the same ops: the second time they are recorded, and from the third
 * time on replayed. Ids, positions, documents and the counter of dropout are read from the plan's tables, which each batch
 * fills anew. Decoding, whose tables of pages change with each token, is not recorded. */
#include "model/plan_private.h"

#include <string.h>

#include "core/log.h"

static int has_symbol(const dc_plan *p, const dc_step *s, dc_symbol symbol)
{
    for (int i = 0; i < DC_STEP_OUT; i++)
        if (s->out[i] >= 0 && p->buffers[s->out[i]].rows == symbol) return 1;
    for (int i = 0; i < DC_STEP_IN; i++)
        if (s->in[i] >= 0 && p->buffers[s->in[i]].rows == symbol) return 1;
    return 0;
}

/* The longest stretch within [first, end). */
static dc_stretch find_stretch(const dc_plan *p, int first, int end)
{
    dc_stretch best = {first, first}, at = best;
    for (int i = first; i < end; i++) {
        at.end = i + 1;
        if (has_symbol(p, &p->steps[i], DC_SYMBOL_M)) at.first = at.end;
        if (at.end - at.first > best.end - best.first) best = at;
    }
    return best;
}

void dc_plan_record_init(dc_plan *p)
{
    p->records = dc_dev_records(p->dev);
    p->stretch[0] = find_stretch(p, 0, p->objective);
    p->stretch[1] = find_stretch(p, p->objective + 1, p->n_steps);
}

static void forget(dc_plan *p, dc_shape *s)
{
    for (int i = 0; i < DC_PASSES; i++) dc_dev_recording_free(p->dev, s->recording[i]);
    *s = (dc_shape){0};
}

void dc_plan_record_release(dc_plan *p)
{
    for (int i = 0; i < DC_SHAPES; i++) forget(p, &p->shapes[i]);
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static uint64_t mix_pointer(uint64_t h, const void *p) { return mix(h, (uint64_t)(uintptr_t)p); }

static uint64_t mix_weight(uint64_t h, const dc_weight *w)
{
    return w ? mix_pointer(mix_pointer(h, w->data.data), w->grad) : mix(h, 0);
}

static uint64_t mix_delta(uint64_t h, const dc_delta *d)
{
    uint32_t factors[2];
    if (!d) return mix(h, 0);
    memcpy(factors, &d->scale, sizeof *factors);
    memcpy(factors + 1, &d->dropout, sizeof *factors);
    h = mix_pointer(mix_pointer(h, d->a.data), d->b.data);
    h = mix_pointer(mix_pointer(h, d->dA), d->dB);
    h = mix_pointer(h, d->joint);
    h = mix(h, (uint64_t)d->R << 32 | d->place);
    return mix(h, (uint64_t)factors[0] << 32 | factors[1]);
}

/* Deltas and gradients are read through the model at each run: who moves them must not meet an old recording. */
static uint64_t hash_operands(const dc_plan *p)
{
    uint64_t h = 0;
    for (int pass = 0; pass < DC_PASSES; pass++) {
        for (int i = p->stretch[pass].first; i < p->stretch[pass].end; i++) {
            const dc_step *s = &p->steps[i];
            h = mix_weight(h, s->weight);
            if (!s->linear) continue;
            h = mix_weight(mix_weight(h, s->linear->w), s->linear->bias);
            h = mix_delta(h, p->run.adapter >= 0 ? s->linear->delta[p->run.adapter] : NULL);
        }
    }
    return h;
}

static int same(const dc_shape *a, const dc_shape *b)
{
    return a->T == b->T && a->B == b->B && a->adapter == b->adapter && a->training == b->training &&
           a->seed == b->seed && a->operands == b->operands;
}

/* B up to a power of two, within the plan's bound. */
static void round_documents(dc_plan *p)
{
    int64_t B = 1;
    while (B < p->B) B *= 2;
    if (B > p->o.max_docs) B = p->o.max_docs;
    while (p->B < B) p->cu_seqlens[++p->B] = (int32_t)p->T;
}

void dc_plan_record_batch(dc_plan *p)
{
    p->shape = NULL;
    if (!p->records || p->kv || p->profile) return;
    round_documents(p);
    const dc_shape want = {.T = p->T,
                           .B = p->B,
                           .adapter = p->run.adapter,
                           .training = p->run.training,
                           .seed = p->run.seed,
                           .operands = hash_operands(p)};
    dc_shape *s = p->shapes;
    for (int i = 0; i < DC_SHAPES; i++) {
        dc_shape *at = &p->shapes[i];
        if (at->used && same(at, &want)) {
            s = at;
            break;
        }
        if (at->used < s->used) s = at;
    }
    if (!s->used || !same(s, &want)) {
        forget(p, s);
        *s = want;
    }
    s->used = ++p->forwards;
    p->shape = s;
}

static void run_plainly(dc_plan *p, int first, int end)
{
    for (int i = first; i < end; i++) dc_plan_step(p, &p->steps[i]);
}

/* Records the stretch; a device that cannot, whatever the reason, is not asked again. */
static dc_recording *record(dc_plan *p, dc_stretch at)
{
    dc_recording *r = NULL;
    dc_error err = {0};
    int rc = dc_dev_record(p->dev, &err);
    if (rc == DC_OK) {
        run_plainly(p, at.first, at.end);
        rc = dc_dev_recorded(p->dev, &r, &err);
    }
    if (rc != DC_OK) {
        dc_log(DC_LOG_WARN, "passes are not recorded but queued op by op, which is slower: %s", err.message);
        p->records = 0;
    }
    return r;
}

void dc_plan_record_run(dc_plan *p, int pass, int first, int end)
{
    const dc_stretch at = p->stretch[pass];
    dc_recording **r = &p->shape->recording[pass];
    if (!*r && p->records && p->shape->ran[pass]) *r = record(p, at);
    if (!*r) {
        p->shape->ran[pass] = 1;
        run_plainly(p, first, end);
        return;
    }
    run_plainly(p, first, at.first);
    dc_dev_replay(p->dev, *r);
    run_plainly(p, at.end, end);
}
