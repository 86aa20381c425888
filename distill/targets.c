/* distill/targets.c */
#include "distill/targets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"

enum { BLOCK = 256 };

int dc_target_scratch_new(dc_target_scratch *s, const dc_store_info *info, dc_error *err)
{
    const size_t V = (size_t)info->vocab_size;
    *s = (dc_target_scratch){.V = info->vocab_size};
    s->e = dc_malloc(V * sizeof *s->e);
    s->blocks = dc_malloc((V / BLOCK + 1) * sizeof *s->blocks);
    s->draws = dc_malloc((size_t)(info->n_samples + 1) * sizeof *s->draws);
    s->heap_z = dc_malloc((size_t)(info->topk + 1) * sizeof *s->heap_z);
    s->heap_id = dc_malloc((size_t)(info->topk + 1) * sizeof *s->heap_id);
    if (s->e && s->blocks && s->draws && s->heap_z && s->heap_id) return DC_OK;
    dc_target_scratch_release(s);
    return dc_fail_memory(err, V * sizeof *s->e, "a row of targets");
}

void dc_target_scratch_release(dc_target_scratch *s)
{
    dc_free(s->e);
    dc_free(s->blocks);
    dc_free(s->draws);
    dc_free(s->heap_z);
    dc_free(s->heap_id);
    *s = (dc_target_scratch){0};
}

/* exp(x) for x <= 0, relative error below 2e-7, without branches so that the compiler can use its lanes; 0 below -87.3.
 * exp(x) = 2^k e^f with k = round(x / ln 2), |f| <= ln(2) / 2; e^f by its Taylor series to the seventh power. */
static inline float exp_below(float x)
{
    const float lowest = -87.3f;
    const float y = x < lowest ? lowest : x;
    const float shifted = y * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer part lands in the low bits */
    const float k = shifted - 12582912.0f;
    const float f = (y - k * 0.693359375f) + k * 2.12194440e-4f;
    float r = 1.0f / 5040;
    r = r * f + 1.0f / 720;
    r = r * f + 1.0f / 120;
    r = r * f + 1.0f / 24;
    r = r * f + 1.0f / 6;
    r = r * f + 0.5f;
    r = r * f + 1;
    r = r * f + 1;
    const int32_t bits = ((int32_t)k + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < lowest ? 0 : r * scale;
}

typedef struct sums {
    double e, ez, e2; /* of exp, exp times (z - max) / t, exp squared */
} sums;

/* Fills e and blocks; sums in float within a block of 256, in double over blocks. */
static sums exponentials(dc_target_scratch *s, const float *z, float top, float inverse_t)
{
    sums total = {0, 0, 0};
    for (int64_t b = 0, at = 0; at < s->V; b++, at += BLOCK) {
        const int64_t n = s->V - at < BLOCK ? s->V - at : BLOCK;
        float *e = s->e + at, x[BLOCK], se = 0, sz = 0, s2 = 0;
        for (int64_t i = 0; i < n; i++) x[i] = (z[at + i] - top) * inverse_t;
        for (int64_t i = 0; i < n; i++) e[i] = exp_below(x[i]);
        for (int64_t i = 0; i < n; i++) se += e[i], sz += e[i] > 0 ? e[i] * x[i] : 0, s2 += e[i] * e[i];
        s->blocks[b] = (double)se;
        total.e += (double)se, total.ez += (double)sz, total.e2 += (double)s2;
    }
    return total;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Draws with replacement: sorted uniforms walk once along the cumulative sum. */
static void sample(dc_row_targets *out, dc_target_scratch *s, double total, const dc_store_info *info, int64_t doc,
                   int64_t row)
{
    const int64_t N = info->n_samples;
    for (int64_t k = 0; k < N; k += 2) {
        uint32_t u[4];
        dc_rng_u32x4(u, info->seed, DC_RNG_TEACH, (uint64_t)doc << 24 | (uint64_t)(k / 2), (uint32_t)row);
        s->draws[k] = dc_rng_f64(u[0], u[1]) * total;
        if (k + 1 < N) s->draws[k + 1] = dc_rng_f64(u[2], u[3]) * total;
    }
    qsort(s->draws, (size_t)N, sizeof *s->draws, ascending);
    /* u * total may round up to total, behind which no entry stands. */
    for (int64_t k = N - 1; k >= 0 && s->draws[k] >= total; k--) s->draws[k] = nextafter(total, 0);
    const int64_t n_blocks = (s->V + BLOCK - 1) / BLOCK;
    double before = 0; /* the sum of all blocks before b */
    int64_t b = 0, k = 0;
    out->n = 0;
    while (k < N) {
        while (b + 1 < n_blocks && before + s->blocks[b] <= s->draws[k]) before += s->blocks[b++];
        const int64_t end = (b + 1) * BLOCK < s->V ? (b + 1) * BLOCK : s->V;
        double sum = before;
        int64_t last = -1;
        for (int64_t i = b * BLOCK; i < end && k < N; i++) {
            if (!(s->e[i] > 0)) continue;
            last = i;
            sum += (double)s->e[i];
            int64_t count = 0;
            while (k < N && s->draws[k] < sum) count++, k++;
            if (count) out->ids[out->n] = (int32_t)i, out->p[out->n++] = (float)count;
        }
        /* A draw between this block's double sum and its float sum belongs to the block's last entry. */
        int64_t count = 0;
        while (k < N && last >= 0 && s->draws[k] < before + s->blocks[b]) count++, k++;
        if (count && out->n && out->ids[out->n - 1] == last) out->p[out->n - 1] += (float)count;
        else if (count) out->ids[out->n] = (int32_t)last, out->p[out->n++] = (float)count;
        if (b + 1 < n_blocks) before += s->blocks[b++];
    }
    for (int64_t i = 0; i < out->n; i++) out->p[i] /= (float)N; /* once: the store must give back the same bits */
}

/* Sinks entry i of a heap whose root is the least (logit, then highest id): what is thrown out first. */
static int below(const dc_target_scratch *s, int64_t a, int64_t b)
{
    return s->heap_z[a] < s->heap_z[b] || (!(s->heap_z[b] < s->heap_z[a]) && s->heap_id[a] > s->heap_id[b]);
}

static void sink(dc_target_scratch *s, int64_t n, int64_t i)
{
    for (;;) {
        int64_t least = i;
        for (int64_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++)
            if (below(s, c, least)) least = c;
        if (least == i) return;
        const float z = s->heap_z[i];
        const int32_t id = s->heap_id[i];
        s->heap_z[i] = s->heap_z[least], s->heap_id[i] = s->heap_id[least];
        s->heap_z[least] = z, s->heap_id[least] = id;
        i = least;
    }
}

static int by_id(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The topk greatest; of equal logits the lower ids. */
static void take_topk(dc_row_targets *out, dc_target_scratch *s, const float *z, double total, int64_t k)
{
    const int64_t n = k < s->V ? k : s->V;
    for (int64_t i = 0; i < n; i++) s->heap_z[i] = z[i], s->heap_id[i] = (int32_t)i;
    for (int64_t i = n / 2 - 1; i >= 0; i--) sink(s, n, i);
    for (int64_t i = n; i < s->V; i++)
        if (z[i] > s->heap_z[0]) {
            s->heap_z[0] = z[i], s->heap_id[0] = (int32_t)i;
            sink(s, n, 0);
        }
    memcpy(out->ids, s->heap_id, (size_t)n * sizeof *out->ids);
    qsort(out->ids, (size_t)n, sizeof *out->ids, by_id);
    for (int64_t i = 0; i < n; i++) out->p[i] = (float)((double)s->e[out->ids[i]] / total);
    out->n = n;
}

int dc_row_targets_make(dc_row_targets *out, dc_target_scratch *s, const float *logits, int32_t label,
                        const dc_store_info *info, int64_t doc, int64_t row, dc_error *err)
{
    const double t = info->temperature;
    float top = logits[0], worst = 0;
    if (label < 0 || label >= s->V)
        return dc_fail(err, DC_EMISMATCH,
                       "document %lld, loss row %lld: the label is token %d, the teacher's vocabulary has %lld",
                       (long long)doc, (long long)row, (int)label, (long long)s->V);
    for (int64_t v = 0; v < s->V; v++) {
        top = logits[v] > top ? logits[v] : top;
        worst += logits[v] * 0; /* NaN as soon as one is not finite */
    }
    if (worst != 0 || !isfinite(top))
        return dc_fail(err, DC_ENUMERIC, "document %lld, loss row %lld: the teacher's logits are not finite",
                       (long long)doc, (long long)row);
    sums at_t = exponentials(s, logits, top, 1);
    out->logsumexp = (float)((double)top + log(at_t.e));
    out->ce = (float)((double)top + log(at_t.e) - (double)logits[label]);
    if (t != 1) at_t = exponentials(s, logits, top, (float)(1 / t));
    out->entropy = (float)(log(at_t.e) - at_t.ez / at_t.e);
    if (info->kind == DC_TARGETS_SAMPLED) sample(out, s, at_t.e, info, doc, row);
    else take_topk(out, s, logits, at_t.e, info->topk);
    out->mass = out->dot = out->kept2 = 0;
    for (int64_t i = 0; i < out->n; i++) {
        const double p = (double)s->e[out->ids[i]] / at_t.e, kept = (double)out->p[i];
        out->mass += p, out->dot += p * kept, out->kept2 += kept * kept;
    }
    out->full2 = at_t.e2 / (at_t.e * at_t.e);
    return DC_OK;
}
