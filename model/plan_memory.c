/* model/plan_memory.c -- the life of each buffer, and its place in one arena.
 *
 * Buffers are placed from the largest to the smallest, each into the tightest gap that those already placed and alive at the
 * same time leave, at the lowest address among equals (greedy by size: Pisarchyk and Lee 2020, arXiv 2001.03288). A step's
 * operands are alive together, so none aliases another unless the step names one buffer twice. */
#include "model/plan_private.h"

#include <stdlib.h>

#include "core/arena.h"

enum { ALIGN = 64 };

static void touch(dc_buffer *b, int step)
{
    if (b->first < 0) b->first = step;
    b->last = step;
}

static void find_lives(dc_plan *p)
{
    for (int i = 0; i < p->n_steps; i++) {
        const dc_step *s = &p->steps[i];
        for (int k = 0; k < DC_STEP_OUT; k++)
            if (s->out[k] >= 0) touch(&p->buffers[s->out[k]], i);
        for (int k = 0; k < DC_STEP_IN; k++)
            if (s->in[k] >= 0) touch(&p->buffers[s->in[k]], i);
    }
    for (int i = 0; i < p->n_buffers; i++)
        if (p->buffers[i].kind == DC_BUFFER_TABLE) p->buffers[i].first = 0, p->buffers[i].last = p->n_steps - 1;
    /* The tap is read until the next forward by who has no backward, and its gradient may be. */
    if (!p->o.backward) touch(&p->buffers[p->hidden], p->n_steps - 1);
}

static int64_t bound(const dc_plan *p, dc_symbol rows)
{
    switch (rows) {
    case DC_SYMBOL_M: return p->o.max_rows;
    case DC_SYMBOL_B1: return p->o.max_docs + 1;
    case DC_SYMBOL_ONE: return 1;
    default: return p->o.max_tokens;
    }
}

static int find_sizes(dc_plan *p, dc_error *err)
{
    for (int i = 0; i < p->n_buffers; i++) {
        dc_buffer *b = &p->buffers[i];
        const int64_t rows = bound(p, b->rows), size = dc_dtype_get(b->type)->bytes;
        int64_t bytes;
        if (dc_mul_size(&bytes, rows, b->width) || dc_mul_size(&bytes, bytes, size) ||
            dc_add_size(&bytes, bytes, ALIGN - 1))
            return dc_fail(err, DC_ENOMEM,
                           "a pass over %lld tokens cannot be addressed: lower max_length or the batch size",
                           (long long)rows);
        b->bytes = (size_t)bytes / ALIGN * ALIGN;
    }
    return DC_OK;
}

/* Most bytes alive at one step: what no layout can do without. */
static int find_live_bytes(dc_plan *p, dc_error *err)
{
    int64_t *change = dc_calloc((size_t)p->n_steps + 1, sizeof *change);
    if (!change) return dc_fail_memory(err, ((size_t)p->n_steps + 1) * sizeof *change, "the plan's layout");
    for (int i = 0; i < p->n_buffers; i++) {
        const dc_buffer *b = &p->buffers[i];
        if (b->first < 0) continue;
        change[b->first] += (int64_t)b->bytes;
        change[b->last + 1] -= (int64_t)b->bytes;
    }
    int64_t live = 0, most = 0;
    for (int i = 0; i < p->n_steps; i++) {
        live += change[i];
        if (live > most) most = live;
    }
    p->live_bytes = (size_t)most;
    dc_free(change);
    return DC_OK;
}

static int by_size(const void *a, const void *b)
{
    const dc_buffer *x = *(const dc_buffer *const *)a, *y = *(const dc_buffer *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x > y) - (x < y);
}

/* Places b beside the n buffers of `placed`, which stand in order of address, and inserts it there. */
static void place(dc_buffer **placed, int n, dc_buffer *b)
{
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (int i = 0; i < n; i++) {
        const dc_buffer *other = placed[i];
        if (other->last < b->first || other->first > b->last) continue;
        if (other->offset > end && other->offset - end >= b->bytes && other->offset - end < best_gap)
            best = end, best_gap = other->offset - end;
        if (other->offset + other->bytes > end) end = other->offset + other->bytes;
    }
    b->offset = best < SIZE_MAX ? best : end;
    int at = n;
    for (; at > 0 && placed[at - 1]->offset > b->offset; at--) placed[at] = placed[at - 1];
    placed[at] = b;
}

int dc_plan_layout(dc_plan *p, dc_error *err)
{
    int rc = DC_OK;
    const size_t n = (size_t)p->n_buffers;
    dc_buffer **order = dc_calloc(2 * n, sizeof *order), **placed = order + n;
    if (!order) return dc_fail_memory(err, 2 * n * sizeof *order, "the plan's layout");
    find_lives(p);
    DC_TRY(find_sizes(p, err));
    DC_TRY(find_live_bytes(p, err));
    int used = 0;
    for (int i = 0; i < p->n_buffers; i++)
        if (p->buffers[i].first >= 0) order[used++] = &p->buffers[i];
    qsort(order, (size_t)used, sizeof *order, by_size);
    p->arena_bytes = 0;
    for (int i = 0; i < used; i++) {
        place(placed, i, order[i]);
        if (order[i]->offset + order[i]->bytes > p->arena_bytes) p->arena_bytes = order[i]->offset + order[i]->bytes;
    }
done:
    dc_free(order);
    return rc;
}
