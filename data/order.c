/* data/order.c */
#include "data/order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/rng.h"

/* Documents of one source stand together in a set: a run. An epoch shows `shown` of it. */
typedef struct run {
    int64_t first, n, shown, before; /* `before`: shown of all runs before it */
} run;

/* A document of the window, or a bin's place in `members`. */
typedef struct item {
    int64_t doc, length, order;
} item;

typedef struct bin {
    int64_t used, first, n; /* tokens; members of it */
} bin;

struct dc_loader {
    dc_set *set;
    dc_loader_options o;
    run *runs;
    size_t n_runs;
    int64_t shown; /* documents an epoch shows */
    int64_t times; /* how often it shows one at most */
    dc_position at;
    /* the packed window that is loaded */
    int64_t epoch, window; /* -1: none */
    item *items;
    int64_t *bin_of; /* by item */
    bin *bins;
    int64_t n_bins, room_items;
    /* the micro-batch, and the most that one can be */
    dc_packed batch;
    int64_t max_T, max_B, max_M;
    int32_t *ids, *pos, *cu, *rows, *labels, *cu_rows;
    uint8_t *mask;
    float *weight;
    int64_t *docs;
};

static int find_runs(dc_loader *l, dc_error *err)
{
    const int64_t n = dc_set_docs(l->set);
    size_t room = 0;
    for (int64_t d = 0; d < n; d++) {
        if (!l->n_runs || dc_set_doc_source(l->set, d) != dc_set_doc_source(l->set, d - 1)) {
            if (dc_grow(&l->runs, l->n_runs, &room, sizeof *l->runs))
                return dc_fail_memory(err, sizeof *l->runs, "the order of data");
            l->runs[l->n_runs++] = (run){.first = d};
        }
        l->runs[l->n_runs - 1].n++;
    }
    for (size_t i = 0; i < l->n_runs; i++) {
        run *r = &l->runs[i];
        const uint32_t source = dc_set_doc_source(l->set, r->first);
        const double weight = l->o.weights && source < l->o.n_weights ? l->o.weights[source] : 1;
        if (!(weight >= 0 && weight <= 1e6))
            return dc_fail(err, DC_EUSAGE, "source %u of the data has weight %g; 0 to 1e6 is possible",
                           (unsigned)source, weight);
        r->before = l->shown;
        r->shown = (int64_t)llround((double)r->n * weight);
        l->shown += r->shown;
        const int64_t times = (r->shown + r->n - 1) / r->n;
        l->times = times > l->times ? times : l->times;
    }
    return DC_OK;
}

/* The document shown at place i of an epoch, 0 <= i < shown. */
static int64_t document_at(const dc_loader *l, int64_t epoch, int64_t i)
{
    const int64_t v =
        l->o.shuffle ? (int64_t)dc_permute((uint64_t)i, (uint64_t)l->shown, l->o.seed, (uint64_t)epoch) : i;
    size_t low = 0, high = l->n_runs - 1;
    while (low < high) {
        const size_t middle = (low + high + 1) / 2;
        if (l->runs[middle].before <= v) low = middle;
        else high = middle - 1;
    }
    const run *r = &l->runs[low];
    const int64_t j = (v - r->before) % r->n, round = (v - r->before) / r->n, part = r->shown % r->n;
    if ((round + 1) * r->n <= r->shown) return r->first + j;
    /* The last round shows only `part` documents of the run: each epoch the next ones along a circle on which all of them stand, so that none
     * comes a second time before all others came. */
    const int64_t place = (epoch % r->n * part + j) % r->n;
    return r->first +
           (l->o.shuffle ? (int64_t)dc_permute((uint64_t)place, (uint64_t)r->n, l->o.seed, UINT64_MAX - low) : place);
}

static int longest_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? 1 : -1;
    return (x->order > y->order) - (x->order < y->order);
}

static int in_order(const void *a, const void *b)
{
    const item *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

/* The fullest bin that still takes `length`, or a new one. Linear over at most a window's bins. */
static int64_t best_fit(dc_loader *l, int64_t length)
{
    int64_t best = -1;
    for (int64_t b = 0; b < l->n_bins; b++)
        if (l->bins[b].used + length <= l->o.max_length && (best < 0 || l->bins[b].used > l->bins[best].used)) best = b;
    if (best < 0) {
        best = l->n_bins++;
        l->bins[best] = (bin){0};
    }
    l->bins[best].used += length;
    l->bins[best].n++;
    return best;
}

/* Packs one window: items sorted by bin afterwards, in file of order within a bin. */
static void pack_window(dc_loader *l, int64_t epoch, int64_t window)
{
    const int64_t first = window * l->o.window;
    const int64_t n = l->shown - first < l->o.window ? l->shown - first : l->o.window;
    l->n_bins = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t doc = document_at(l, epoch, first + i);
        l->items[i] = (item){.doc = doc, .length = dc_set_doc_length(l->set, doc), .order = i};
    }
    if (l->o.packing) qsort(l->items, (size_t)n, sizeof *l->items, longest_first);
    for (int64_t i = 0; i < n; i++) {
        int64_t b;
        if (l->o.packing) {
            b = best_fit(l, l->items[i].length);
        } else {
            b = l->n_bins++;
            l->bins[b] = (bin){.used = l->items[i].length, .n = 1};
        }
        l->bin_of[l->items[i].order] = b;
    }
    /* Bins come out longest documents first: their order is shuffled, since it would else follow length. */
    const int shuffled = l->o.packing && l->o.shuffle;
    for (int64_t i = 0; i < n; i++) {
        const int64_t b = l->bin_of[l->items[i].order];
        const uint64_t place =
            shuffled ? dc_permute((uint64_t)b, (uint64_t)l->n_bins, l->o.seed + 1, (uint64_t)(epoch << 32 | window))
                     : (uint64_t)b;
        l->items[i].order += (int64_t)place * l->o.window;
    }
    qsort(l->items, (size_t)n, sizeof *l->items, in_order);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t place = l->items[i].order / l->o.window;
        if (i == 0 || place != l->items[i - 1].order / l->o.window) l->bins[count++] = (bin){.first = i};
        l->bins[count - 1].n++;
        l->bins[count - 1].used += l->items[i].length;
    }
    l->epoch = epoch, l->window = window;
}

static int64_t n_windows(const dc_loader *l) { return (l->shown + l->o.window - 1) / l->o.window; }

static void load_window(dc_loader *l)
{
    if (l->epoch != l->at.epoch || l->window != l->at.window) pack_window(l, l->at.epoch, l->at.window);
}

/* Moves behind the micro-batch at the present place; 1 when that was the epoch's last. */
static int advance(dc_loader *l)
{
    load_window(l);
    l->at.bin += l->o.batch_size;
    if (l->at.bin < l->n_bins) return 0;
    l->at.bin = 0;
    if (++l->at.window < n_windows(l)) return 0;
    l->at.window = 0;
    l->at.epoch++;
    return 1;
}

static int put_document(dc_loader *l, int64_t doc, dc_error *err)
{
    dc_packed *p = &l->batch;
    const int64_t n = dc_set_doc_length(l->set, doc);
    float weight;
    const int rc = dc_set_read(l->set, doc, l->ids + p->T, l->mask, &weight, err);
    if (rc != DC_OK) return rc;
    for (int64_t t = 0; t < n; t++) l->pos[p->T + t] = (int32_t)t;
    for (int64_t t = 1; t < n; t++)
        if (l->mask[t]) {
            l->rows[p->M] = (int32_t)(p->T + t - 1);
            l->labels[p->M] = l->ids[p->T + t];
            l->weight[p->M++] = weight;
        }
    p->T += n;
    l->docs[p->B++] = doc;
    l->cu[p->B] = (int32_t)p->T;
    l->cu_rows[p->B] = (int32_t)p->M;
    return DC_OK;
}

int dc_loader_next(dc_loader *l, dc_packed *out, int *epoch_ended, dc_error *err)
{
    const dc_position before = l->at;
    int ended = 0;
    for (int64_t i = 0; i < l->o.rank; i++) ended |= advance(l);
    load_window(l);
    l->batch.T = l->batch.B = l->batch.M = 0;
    const int64_t last = l->at.bin + l->o.batch_size < l->n_bins ? l->at.bin + l->o.batch_size : l->n_bins;
    for (int64_t b = l->at.bin; b < last; b++)
        for (int64_t i = 0; i < l->bins[b].n; i++) {
            const int rc = put_document(l, l->items[l->bins[b].first + i].doc, err);
            if (rc != DC_OK) {
                l->at = before;
                return rc;
            }
        }
    for (int64_t i = l->o.rank; i < l->o.ranks; i++) ended |= advance(l);
    if (epoch_ended) *epoch_ended = ended;
    *out = l->batch;
    return DC_OK;
}

dc_position dc_loader_position(const dc_loader *l) { return l->at; }

void dc_loader_seek(dc_loader *l, dc_position position)
{
    const int possible = position.epoch >= 0 && position.window >= 0 && position.bin >= 0;
    l->at = possible ? position : (dc_position){0};
    if (l->at.window < n_windows(l)) {
        load_window(l);
        if (l->at.bin < l->n_bins) return;
        l->at.bin = 0;
        if (++l->at.window < n_windows(l)) return;
    }
    l->at = (dc_position){.epoch = l->at.epoch + 1};
}

int64_t dc_loader_epoch_batches(dc_loader *l)
{
    const dc_position before = l->at;
    int64_t n = 1;
    l->at.window = l->at.bin = 0;
    while (!advance(l)) n++;
    l->at = before;
    return n;
}

void dc_loader_bounds(dc_loader *l, int64_t *T, int64_t *B, int64_t *M) { *T = l->max_T, *B = l->max_B, *M = l->max_M; }

static int greatest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The sum of the k greatest of the set's lengths or trained counts, when each document may stand in a micro-batch `times` times. */
static int64_t sum_of_greatest(const dc_set *set, int64_t (*value)(const dc_set *, int64_t), int64_t k, int64_t times,
                               int64_t *work)
{
    const int64_t n = dc_set_docs(set);
    int64_t sum = 0;
    for (int64_t d = 0; d < n; d++) work[d] = value(set, d);
    qsort(work, (size_t)n, sizeof *work, greatest_first);
    for (int64_t i = 0; i < k && i / times < n; i++) sum += work[i / times];
    return sum;
}

static int find_bounds(dc_loader *l, dc_error *err)
{
    const int64_t n = dc_set_docs(l->set);
    int64_t *work = dc_malloc((size_t)n * sizeof *work), shortest = INT64_MAX;
    if (!work) return dc_fail_memory(err, (size_t)n * sizeof *work, "the order of data");
    for (int64_t d = 0; d < n; d++)
        shortest = dc_set_doc_length(l->set, d) < shortest ? dc_set_doc_length(l->set, d) : shortest;
    const int64_t documents = l->o.packing ? l->o.max_length / shortest : 1; /* of a sequence at most */
    l->max_B = l->o.window; /* a micro-batch stays within its window, which is not larger than the epoch */
    if (documents <= l->max_B / l->o.batch_size) l->max_B = documents * l->o.batch_size;
    l->max_T = sum_of_greatest(l->set, dc_set_doc_length, l->max_B, l->times, work);
    l->max_M = sum_of_greatest(l->set, dc_set_doc_trained, l->max_B, l->times, work);
    if (l->o.packing && l->max_T / l->o.max_length >= l->o.batch_size) l->max_T = l->o.batch_size * l->o.max_length;
    if (l->max_M > l->max_T) l->max_M = l->max_T;
    dc_free(work);
    if (l->max_T <= INT32_MAX) return DC_OK;
    return dc_fail(err, DC_ENOMEM,
                   "a micro-batch of %lld sequences may have %lld tokens: lower train.per_device_train_batch_size",
                   (long long)l->o.batch_size, (long long)l->max_T);
}

static int allocate(dc_loader *l, dc_error *err)
{
    int64_t longest = 0;
    for (int64_t d = 0; d < dc_set_docs(l->set); d++)
        longest = dc_set_doc_length(l->set, d) > longest ? dc_set_doc_length(l->set, d) : longest;
    if (l->o.packing && longest > l->o.max_length)
        return dc_fail(err, DC_EMISMATCH,
                       "a document of the set has %lld tokens, a packed sequence only %lld: run `decant prepare` with "
                       "this max_length",
                       (long long)longest, (long long)l->o.max_length);
    const int rc = find_bounds(l, err);
    if (rc != DC_OK) return rc;
    const int64_t T = l->max_T, B = l->max_B, M = l->max_M;
    const size_t W = (size_t)l->o.window;
    l->items = dc_malloc(W * sizeof *l->items), l->bins = dc_malloc(W * sizeof *l->bins),
    l->bin_of = dc_malloc(W * sizeof *l->bin_of);
    l->ids = dc_malloc((size_t)T * 4), l->pos = dc_malloc((size_t)T * 4), l->mask = dc_malloc((size_t)longest);
    l->rows = dc_malloc((size_t)(M + 1) * 4), l->labels = dc_malloc((size_t)(M + 1) * 4),
    l->weight = dc_malloc((size_t)(M + 1) * 4);
    l->cu = dc_calloc((size_t)(B + 1), 4), l->cu_rows = dc_calloc((size_t)(B + 1), 4),
    l->docs = dc_malloc((size_t)B * 8);
    if (!l->items || !l->bins || !l->bin_of || !l->ids || !l->pos || !l->mask || !l->rows || !l->labels || !l->weight ||
        !l->cu || !l->cu_rows || !l->docs)
        return dc_fail_memory(err, W * sizeof *l->items + (size_t)T * 8, "the order of data");
    l->batch = (dc_packed){.ids = l->ids,
                           .pos = l->pos,
                           .cu_seqlens = l->cu,
                           .rows = l->rows,
                           .labels = l->labels,
                           .weight = l->weight,
                           .docs = l->docs,
                           .cu_rows = l->cu_rows};
    return DC_OK;
}

int dc_loader_new(dc_loader **out, dc_set *set, const dc_loader_options *options, dc_error *err)
{
    int rc = DC_OK;
    dc_loader *l = dc_calloc(1, sizeof *l);
    if (!l) return dc_fail_memory(err, sizeof *l, "a loader");
    l->set = set, l->o = *options, l->epoch = l->window = -1;
    if (!l->o.window) l->o.window = 1024;
    if (!l->o.ranks) l->o.ranks = 1;
    DC_ASSERT(l->o.batch_size > 0 && l->o.rank >= 0 && l->o.rank < l->o.ranks);
    DC_TRY(find_runs(l, err));
    l->o.weights = NULL; /* the caller's */
    if (l->shown < 1) {
        rc = dc_fail(err, DC_EMISMATCH,
                     "the set has no documents to show; look at the rejects file and the weights of its sources");
        goto done;
    }
    if (!l->o.packing || l->o.window > l->shown) l->o.window = l->shown;
    DC_TRY(allocate(l, err));
done:
    if (rc == DC_OK) *out = l;
    else dc_loader_free(l);
    return rc;
}

void dc_loader_free(dc_loader *l)
{
    if (!l) return;
    void *memory[] = {l->runs, l->items,  l->bin_of,  l->bins, l->ids,    l->pos, l->cu,
                      l->rows, l->labels, l->cu_rows, l->mask, l->weight, l->docs};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) dc_free(memory[i]);
    dc_free(l);
}
