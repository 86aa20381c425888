/* distill/store.h -- the teacher's targets on disk, keyed by document: captured once, good for any batch size, order, epoch or student.
 *
 * Files DIR/SET-00000.h5 of data/h5.h (format "decant.targets"). Row r of document d is its r-th loss position in the order of data/order.h's
 * cu_rows. Kinds:
 *   sampled  n_samples draws with replacement from the teacher's softmax at `temperature`: sorted ids and counts; gradient estimates are unbiased
 *            for losses linear in the teacher (forward KL), at this temperature only (arXiv 2503.16870).
 *   topk     the k greatest logits as log-probabilities at `temperature` (fp16 rounding stated in the header), their sum's complement is the tail
 *            mass, and the logsumexp at temperature 1.
 * Both keep the teacher's entropy at `temperature` and its own cross-entropy of the label a row. Ids are sorted and delta-coded as varints; bytes
 * a token are reported. The header names hashes of teacher, tokenizer, chat template and data; opening against others is
 * refused with the reason. A killed capture goes on behind its last published file. */
#ifndef DC_DISTILL_STORE_H
#define DC_DISTILL_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/hash.h"
#include "data/shard.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_targets { DC_TARGETS_SAMPLED, DC_TARGETS_TOPK } dc_targets;

typedef struct dc_store_info {
    dc_targets kind;
    int64_t n_samples, topk;
    double temperature;
    int64_t vocab_size;
    uint64_t seed;
    dc_hash teacher, data, tokenizer, chat_template;
} dc_store_info;

/* Targets of consecutive rows, as the loss op wants them (kernels/ops.h, dc_loss). Arrays grow and are reused. */
typedef struct dc_rows {
    int64_t M;
    int64_t *first; /* [M + 1] */
    int32_t *ids;
    float *p;          /* at `temperature`; sampled: counts / n_samples */
    float *entropy;    /* [M] */
    float *teacher_ce; /* [M] */
    size_t room_rows, room_items;
} dc_rows;

void dc_rows_release(dc_rows *rows);

typedef struct dc_store_writer dc_store_writer;

/* Continues an unfinished capture of the same info: *next_doc is the first document to add. Another info in DIR is DC_EMISMATCH. */
int dc_store_writer_new(dc_store_writer **out, int64_t *next_doc, const char *dir, const char *set,
                        const dc_store_info *info, dc_error *err);
/* All rows of the next document (M may be 0). `logsumexp` [M] at temperature 1 may be NULL for sampled. */
int dc_store_writer_add(dc_store_writer *w, int64_t doc, const dc_rows *rows, const float *logsumexp, dc_error *err);
int dc_store_writer_flush(dc_store_writer *w, dc_error *err);  /* publishes what there is: at a stop */
int dc_store_writer_commit(dc_store_writer *w, dc_error *err); /* all documents are in: marks the store complete */
int64_t dc_store_writer_bytes(const dc_store_writer *w);
void dc_store_writer_free(dc_store_writer *w);

typedef struct dc_store dc_store;

/* `expect` (or NULL) names what it must belong to: data, tokenizer, vocab_size, temperature and, unless zero, teacher. */
int dc_store_open(dc_store **out, const char *dir, const char *set, const dc_store_info *expect, dc_error *err);
void dc_store_close(dc_store *s);
const dc_store_info *dc_store_info_of(const dc_store *s);
int64_t dc_store_docs(const dc_store *s);
double dc_store_bytes_per_row(const dc_store *s);
/* Appends the document's rows to `rows` (reset by the caller: M = 0). Their number must be `expected`. */
int dc_store_read(dc_store *s, dc_rows *rows, int64_t doc, int64_t expected, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
