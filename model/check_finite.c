/* model/check_finite.c -- looks for NaN and infinity in stored weights, by bits, without unpacking them. */
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "core/pool.h"
#include "core/stop.h"
#include "model/model_source.h"

/* Where floats stand in a type's block: the whole of a plain element, or the scales of a quantized block (ggml-common.h). */
typedef struct layout {
    dc_dtype type;
    int at[2]; /* offsets of the half floats in a block, -1: none */
} layout;

static const layout layouts[] = {{DC_Q4_0, {0, -1}}, {DC_Q4_1, {0, 2}},   {DC_Q5_0, {0, -1}},   {DC_Q5_1, {0, 2}},
                                 {DC_Q8_0, {0, -1}}, {DC_Q2_K, {80, 82}}, {DC_Q3_K, {108, -1}}, {DC_Q4_K, {0, 2}},
                                 {DC_Q5_K, {0, 2}},  {DC_Q6_K, {208, -1}}};

static const layout *layout_of(dc_dtype type)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].type == type) return &layouts[i];
    return NULL;
}

enum { CHUNK = 1 << 16 }; /* blocks */

/* All ones in the exponent: infinity or NaN. Counting first keeps the loops free of exits, so that compilers vectorize them. */
static int any_bad16(const uint8_t *data, int64_t n, uint16_t exponent)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, data + 2 * i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return bad;
}

static int any_bad32(const uint8_t *data, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad;
}

static int bad_block(const uint8_t *block, const layout *l)
{
    return any_bad16(block + l->at[0], 1, 0x7c00) || (l->at[1] >= 0 && any_bad16(block + l->at[1], 1, 0x7c00));
}

static int any_bad(const uint8_t *data, int64_t n, dc_dtype type)
{
    switch (type) {
    case DC_F32: return any_bad32(data, n);
    case DC_F16: return any_bad16(data, n, 0x7c00);
    case DC_BF16: return any_bad16(data, n, 0x7f80);
    default: break;
    }
    const layout *l = layout_of(type);
    const int64_t bytes = dc_dtype_get(type)->bytes;
    for (int64_t i = 0; l && i < n; i++)
        if (bad_block(data + i * bytes, l)) return 1;
    return 0;
}

typedef struct scan {
    const dc_source_tensor *t;
    int64_t blocks, bytes; /* of the tensor; of a block */
    _Atomic int64_t first; /* the first chunk with a bad value so far */
} scan;

static void scan_chunk(void *context, int64_t i)
{
    scan *s = context;
    if (i > s->first || dc_stop_requested()) return;
    const int64_t from = i * CHUNK, n = s->blocks - from < CHUNK ? s->blocks - from : CHUNK;
    if (!any_bad(s->t->data + from * s->bytes, n, s->t->type)) return;
    int64_t first = s->first;
    while (i < first && !atomic_compare_exchange_weak(&s->first, &first, i)) {}
}

int dc_source_check_finite(const dc_source_tensor *t, int64_t columns, dc_error *err)
{
    const dc_dtype_info *info = dc_dtype_get(t->type);
    const int64_t blocks = t->bytes / info->bytes, chunks = (blocks + CHUNK - 1) / CHUNK;
    scan s = {t, blocks, info->bytes, chunks};
    dc_pool_for(chunks, scan_chunk, &s);
    const int rc = dc_stop_check("the loading of weights", err);
    if (rc || s.first == chunks) return rc;
    int64_t i = s.first * CHUNK;
    while (!any_bad(t->data + i * info->bytes, 1, t->type)) i++;
    const long long element = (long long)i * info->block, row = element / columns, column = element % columns;
    return dc_fail(err, DC_ENUMERIC,
                   "%s: tensor %s: %s is not finite (row %lld, column %lld); the file is damaged, or its training "
                   "diverged",
                   t->file, t->name, info->block == 1 ? "a value" : "the scale of a block", row, column);
}
