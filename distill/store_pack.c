/* distill/store_pack.c -- rows of targets to the bytes of a store and back. */
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/half.h"
#include "distill/store_private.h"

enum { VARINT = 5 }; /* the most bytes of a 32-bit number, 7 bits a byte, the low ones first */

static const float largest_half = 65504;

void dc_rows_release(dc_rows *rows)
{
    dc_free(rows->first);
    dc_free(rows->ids);
    dc_free(rows->p);
    dc_free(rows->entropy);
    dc_free(rows->teacher_ce);
    *rows = (dc_rows){0};
}

void dc_store_doc_release(dc_store_doc *d)
{
    for (int c = 0; c < DC_STORE_COLUMNS; c++) dc_free(d->data[c]);
    *d = (dc_store_doc){0};
}

int64_t dc_store_doc_items(const dc_store_doc *d, dc_store_column column)
{
    return column == DC_STORE_IDS ? d->ids : column == DC_STORE_VALUES ? d->values : d->M;
}

int dc_store_doc_room(dc_store_doc *d, dc_store_column column, size_t bytes, dc_error *err)
{
    if (d->room[column] >= bytes && d->data[column]) return DC_OK;
    const size_t room = bytes + bytes / 2 + 64;
    void *fresh = dc_realloc(d->data[column], room);
    if (!fresh) return dc_fail_memory(err, room, "a document's targets");
    d->data[column] = fresh, d->room[column] = room;
    return DC_OK;
}

/* ---- to bytes ---- */

static uint8_t *put_varint(uint8_t *to, uint32_t value)
{
    for (; value > 0x7f; value >>= 7) *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

static uint16_t to_half(float x) { return dc_f32_to_f16(x > largest_half ? largest_half : x); }

/* The half number next below -|x|; -inf stays. */
static uint16_t below(uint16_t half) { return (half & 0x7fff) < 0x7c00 ? (uint16_t)((half + 1) | 0x8000) : half; }

/* Log-probabilities of one row, rounded to nearest. Where these would add up to more than 1, they are rounded down: the mass of the
 * others must not become negative. */
static void put_logs(uint16_t *to, const float *p, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        to[i] = (uint16_t)(dc_f32_to_f16((float)log((double)p[i])) | 0x8000); /* log(1) is stored as -0 */
        sum += exp((double)dc_f16_to_f32(to[i]));
    }
    for (int64_t i = 0; sum > 1 && i < n; i++)
        if ((double)dc_f16_to_f32(to[i]) > log((double)p[i])) to[i] = below(to[i]);
}

static uint8_t *put_counts(uint8_t *to, const float *p, int64_t n, int64_t n_samples)
{
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = llround((double)p[i] * (double)n_samples);
        DC_ASSERT(count >= 1);
        to = put_varint(to, (uint32_t)(count - 1));
        total += count;
    }
    DC_ASSERT(total == n_samples);
    return to;
}

static uint8_t *put_ids(uint8_t *to, const int32_t *ids, int64_t n, int64_t vocab_size)
{
    int64_t next = 0; /* the least id that may follow */
    for (int64_t i = 0; i < n; i++) {
        DC_ASSERT(ids[i] >= next && ids[i] < vocab_size);
        to = put_varint(to, (uint32_t)(ids[i] - next));
        next = (int64_t)ids[i] + 1;
    }
    return to;
}

static int64_t per_row(const dc_store_info *info)
{
    return info->kind == DC_TARGETS_SAMPLED ? info->n_samples : info->topk;
}

static int pack_room(dc_store_doc *d, int64_t M, int64_t entries, const dc_store_info *info, dc_error *err)
{
    const size_t rows = (size_t)M, n = (size_t)entries;
    int rc = DC_OK;
    DC_TRY(dc_store_doc_room(d, DC_STORE_N, rows * 2, err));
    DC_TRY(dc_store_doc_room(d, DC_STORE_ENTROPY, rows * 2, err));
    DC_TRY(dc_store_doc_room(d, DC_STORE_CE, rows * 2, err));
    DC_TRY(dc_store_doc_room(d, DC_STORE_LOGSUMEXP, rows * 4, err));
    DC_TRY(dc_store_doc_room(d, DC_STORE_IDS, n * VARINT, err));
    DC_TRY(dc_store_doc_room(d, DC_STORE_VALUES, n * (info->kind == DC_TARGETS_SAMPLED ? VARINT : 2), err));
done:
    return rc;
}

int dc_store_pack(dc_store_doc *d, const dc_rows *rows, const float *logsumexp, const dc_store_info *info,
                  dc_error *err)
{
    const int64_t M = rows->M, entries = M ? rows->first[M] - rows->first[0] : 0;
    const int rc = pack_room(d, M, entries, info, err);
    if (rc != DC_OK) return rc;
    const int sampled = info->kind == DC_TARGETS_SAMPLED, narrow = per_row(info) <= UINT8_MAX;
    uint8_t *ids = d->data[DC_STORE_IDS], *counts = d->data[DC_STORE_VALUES], *n8 = d->data[DC_STORE_N];
    uint16_t *n16 = d->data[DC_STORE_N], *logs = d->data[DC_STORE_VALUES], *entropy = d->data[DC_STORE_ENTROPY],
             *ce = d->data[DC_STORE_CE];
    for (int64_t r = 0; r < M; r++) {
        const int64_t at = rows->first[r], n = rows->first[r + 1] - at;
        DC_ASSERT(n >= 1 && n <= per_row(info));
        if (narrow) n8[r] = (uint8_t)n;
        else n16[r] = (uint16_t)n;
        entropy[r] = to_half(rows->entropy[r]), ce[r] = to_half(rows->teacher_ce[r]);
        ids = put_ids(ids, rows->ids + at, n, info->vocab_size);
        if (sampled) counts = put_counts(counts, rows->p + at, n, info->n_samples);
        else put_logs(logs, rows->p + at, n), logs += n;
    }
    d->M = M;
    d->ids = ids - (uint8_t *)d->data[DC_STORE_IDS];
    d->values = sampled ? counts - (uint8_t *)d->data[DC_STORE_VALUES] : entries;
    DC_ASSERT(sampled || logsumexp || !M);
    if (!sampled && M) memcpy(d->data[DC_STORE_LOGSUMEXP], logsumexp, (size_t)M * sizeof *logsumexp);
    return DC_OK;
}

/* ---- from bytes ---- */

/* The number at *at, which moves behind it; -1 when the bytes end or it has more than 32 bits. */
static int64_t get_varint(const uint8_t **at, const uint8_t *end)
{
    uint64_t value = 0;
    for (int shift = 0; *at < end && shift < 7 * VARINT; shift += 7) {
        const uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value <= UINT32_MAX ? (int64_t)value : -1;
    }
    return -1;
}

static int grow(void *array, size_t items, size_t size, dc_error *err)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *fresh = dc_realloc(old, items * size);
    if (!fresh) return dc_fail_memory(err, items * size, "stored targets");
    memcpy(array, &fresh, sizeof fresh);
    return DC_OK;
}

static int rows_room(dc_rows *rows, int64_t M, int64_t entries, dc_error *err)
{
    const size_t need_rows = (size_t)(rows->M + M) + 1,
                 need_items = (size_t)((rows->M ? rows->first[rows->M] : 0) + entries) + 1;
    int rc = DC_OK;
    if (rows->room_rows < need_rows) {
        const size_t room = need_rows + need_rows / 2;
        DC_TRY(grow(&rows->first, room, sizeof *rows->first, err));
        DC_TRY(grow(&rows->entropy, room, sizeof *rows->entropy, err));
        DC_TRY(grow(&rows->teacher_ce, room, sizeof *rows->teacher_ce, err));
        rows->room_rows = room;
    }
    if (rows->room_items < need_items) {
        const size_t room = need_items + need_items / 2;
        DC_TRY(grow(&rows->ids, room, sizeof *rows->ids, err));
        DC_TRY(grow(&rows->p, room, sizeof *rows->p, err));
        rows->room_items = room;
    }
done:
    return rc;
}

static int get_ids(int32_t *ids, int64_t n, const uint8_t **at, const uint8_t *end, int64_t vocab_size)
{
    int64_t next = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t gap = get_varint(at, end);
        if (gap < 0 || gap >= vocab_size - next) return -1;
        ids[i] = (int32_t)(next + gap);
        next += gap + 1;
    }
    return 0;
}

static int get_counts(float *p, int64_t n, const uint8_t **at, const uint8_t *end, int64_t n_samples)
{
    int64_t left = n_samples;
    for (int64_t i = 0; i < n; i++) {
        const int64_t more = get_varint(at, end);
        if (more < 0 || more >= left) return -1;
        left -= more + 1;
        p[i] = (float)(more + 1) / (float)n_samples;
    }
    return left ? -1 : 0;
}

/* Log-probabilities are not positive; the probabilities of a row add up to at most 1 in double, to the last bit. */
static int get_logs(float *p, int64_t n, const uint16_t *logs, const float *p_of)
{
    int64_t top = 0;
    double others = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(logs[i] & 0x8000) || (logs[i] & 0x7fff) > 0x7c00) return -1;
        p[i] = p_of[logs[i] & 0x7fff];
        if (p[i] > p[top]) top = i;
    }
    for (int64_t i = 0; i < n; i++) others += i != top ? (double)p[i] : 0;
    if (others + (double)p[top] > 1) {
        p[top] = others < 1 ? (float)(1 - others) : 0;
        if (others + (double)p[top] > 1) p[top] = nextafterf(p[top], 0);
    }
    return others > 1 ? -1 : 0;
}

/* Entries of row r, 0 when there may not be so many. */
static int64_t entries_of(const dc_store_doc *d, int64_t r, int64_t most)
{
    const int64_t n =
        most <= UINT8_MAX ? ((const uint8_t *)d->data[DC_STORE_N])[r] : ((const uint16_t *)d->data[DC_STORE_N])[r];
    return n <= most ? n : 0;
}

int dc_store_unpack(dc_rows *rows, const dc_store_doc *d, const float *p_of, const dc_store_info *info,
                    const char *where, dc_error *err)
{
    const int sampled = info->kind == DC_TARGETS_SAMPLED;
    const uint8_t *id = d->data[DC_STORE_IDS], *const ids_end = id + d->ids;
    const uint8_t *count = d->data[DC_STORE_VALUES], *const counts_end = count + d->values;
    const uint16_t *logs = d->data[DC_STORE_VALUES], *entropy = d->data[DC_STORE_ENTROPY], *ce = d->data[DC_STORE_CE];
    int64_t entries = 0;
    for (int64_t r = 0; r < d->M; r++) {
        const int64_t n = entries_of(d, r, per_row(info));
        if (n == 0)
            return dc_fail(err, DC_EFORMAT, "%s: row %lld has an impossible number of entries", where, (long long)r);
        entries += n;
    }
    if (entries > d->ids || (sampled ? entries > d->values : entries != d->values))
        return dc_fail(err, DC_EFORMAT, "%s: %lld entries are not in %lld bytes of ids and %lld values", where,
                       (long long)entries, (long long)d->ids, (long long)d->values);
    const int rc = rows_room(rows, d->M, entries, err);
    if (rc != DC_OK) return rc;
    if (rows->M == 0) rows->first[0] = 0;
    for (int64_t r = 0; r < d->M; r++) {
        const int64_t n = entries_of(d, r, per_row(info)), m = rows->M + r, at = rows->first[m];
        int bad = get_ids(rows->ids + at, n, &id, ids_end, info->vocab_size);
        if (sampled) bad |= get_counts(rows->p + at, n, &count, counts_end, info->n_samples);
        else bad |= get_logs(rows->p + at, n, logs, p_of), logs += n;
        if (bad) return dc_fail(err, DC_EFORMAT, "%s: row %lld is damaged", where, (long long)r);
        rows->first[m + 1] = at + n;
        rows->entropy[m] = dc_f16_to_f32(entropy[r]), rows->teacher_ce[m] = dc_f16_to_f32(ce[r]);
    }
    if (id != ids_end || (sampled && count != counts_end))
        return dc_fail(err, DC_EFORMAT, "%s: bytes behind its last row", where);
    rows->M += d->M;
    return DC_OK;
}
