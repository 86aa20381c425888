/* train/params.c */
#include "train/params.h"

#include <math.h>

#include "core/arena.h"

int dc_params_add(dc_params *p, const dc_param *item, dc_error *err)
{
    if (dc_grow(&p->items, p->n, &p->room, sizeof *p->items) ||
        dc_grow(&p->grads, p->n, &p->grads_room, sizeof *p->grads) ||
        dc_grow(&p->sums, p->n, &p->sums_room, sizeof *p->sums))
        return dc_fail_memory(err, sizeof *item, "the list of parameters");
    p->grads[p->n] = (dc_floats){item->grad, item->n};
    p->items[p->n++] = *item;
    return DC_OK;
}

int dc_params_add_model(dc_params *p, dc_model *m, dc_error *err)
{
    p->dev = m->dev;
    for (size_t i = 0; i < m->n_weights; i++) {
        dc_weight *w = &m->weights[i];
        if (!w->grad) continue;
        dc_param item = {
            .name = w->spec.hf, .data = w->owned, .grad = w->grad, .n_dims = w->spec.n_dims, .n = 1, .lr_scale = 1};
        for (int d = 0; d < w->spec.n_dims; d++) item.shape[d] = w->spec.shape[d], item.n *= w->spec.shape[d];
        item.decay = w->spec.n_dims > 1;
        const int rc = dc_params_add(p, &item, err);
        if (rc != DC_OK) return rc;
    }
    return DC_OK;
}

int64_t dc_params_count(const dc_params *p)
{
    int64_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += p->items[i].n;
    return n;
}

void dc_params_zero_grad(const dc_params *p)
{
    if (p->flat_grads.n > 0) { /* what stands between them is zero as it is */
        DC_ASSERT(p->items[0].grad == p->flat_grads.data);
        p->dev->op.fill(p->dev, dc_floats_view(p->items[0].grad), 0, p->flat_grads.n);
        return;
    }
    for (size_t i = 0; i < p->n; i++) p->dev->op.fill(p->dev, dc_floats_view(p->items[i].grad), 0, p->items[i].n);
}

int dc_params_grad_norm(const dc_params *p, double *norm, dc_error *err)
{
    double total = 0;
    p->dev->op.sumsq(p->dev, p->sums, p->grads, p->n);
    const int rc = dc_dev_sync(p->dev, err);
    if (rc != DC_OK) return rc;
    for (size_t i = 0; i < p->n; i++) {
        if (!isfinite(p->sums[i]))
            return dc_fail(err, DC_ENUMERIC, "the gradient of %s is not finite (sum of squares %g)", p->items[i].name,
                           p->sums[i]);
        total += p->sums[i];
    }
    *norm = sqrt(total);
    return DC_OK;
}

void dc_params_release(dc_params *p)
{
    dc_free(p->items);
    dc_free(p->grads);
    dc_free(p->sums);
    *p = (dc_params){0};
}
