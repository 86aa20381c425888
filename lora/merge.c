/* lora/merge.c -- rows of merged weights. */
#include <string.h>

#include "core/pool.h"
#include "lora/adapter_private.h"

typedef struct job {
    float *out;
    const float *A, *B; /* host; B from the first row wanted */
    int64_t in, R;
    float scale;
} job;

/* One row: W + scale * (B A), the product summed over R in order before it is scaled, as PEFT's get_delta_weight does. */
static void merge_row(void *context, int64_t row)
{
    const job *j = context;
    float *out = j->out + row * j->in;
    const float *b = j->B + row * j->R;
    enum { PIECE = 512 };
    float sum[PIECE];
    for (int64_t c = 0; c < j->in; c += PIECE) {
        const int64_t n = j->in - c < PIECE ? j->in - c : PIECE;
        memset(sum, 0, sizeof sum);
        for (int64_t r = 0; r < j->R; r++)
            for (int64_t i = 0; i < n; i++) sum[i] += b[r] * j->A[r * j->in + c + i];
        for (int64_t i = 0; i < n; i++) out[c + i] += j->scale * sum[i];
    }
}

int dc_lora_prepare_merge(dc_lora *l, dc_error *err)
{
    const size_t bytes = (size_t)l->numbers * sizeof(float);
    if (!l->host) l->host = dc_malloc(bytes);
    if (!l->host) return dc_fail_memory(err, bytes, "an adapter's copy for merging");
    dc_dev_download(l->m->dev, l->host, l->data, bytes);
    return dc_dev_sync(l->m->dev, err);
}

void dc_lora_merged_rows(void *lora, const dc_weight *w, float *out, int64_t row, int64_t n)
{
    dc_lora *l = lora;
    dc_weight_rows(l->m, w, out, row, n);
    DC_ASSERT(l->host); /* dc_lora_prepare_merge */
    for (size_t i = 0; i < l->n_linears; i++) {
        const dc_linear *linear = dc_model_linear_at(l->m, i);
        if (linear->w != w || !l->targets[i].r) continue;
        const dc_delta *d = &l->deltas[i];
        const job j = {.out = out,
                       .A = l->host + (d->A - l->data),
                       .B = l->host + (d->B - l->data) + row * d->R,
                       .in = linear->in,
                       .R = d->R,
                       .scale = d->scale};
        dc_pool_for(n, merge_row, (void *)&j);
    }
}
