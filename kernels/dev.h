/* kernels/dev.h -- a device: its memory, its stream of work, its table of ops.
 *
 * Ops are queued in order; dc_dev_sync waits for them and reports what went wrong, with the op's name. On a CPU every op
 * is done when it returns. One thread drives a device. Data move only at the seams: batches in, losses and metrics out,
 * checkpoints. */
#ifndef DC_KERNELS_DEV_H
#define DC_KERNELS_DEV_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dc_dev {
    dc_ops op;
    dc_dtype activation;            /* element type of activations: F32 on a CPU */
    const struct dc_dev_kind *kind; /* private: memory and transfers */
    void *state;                    /* private */
    char why[256];                  /* private: dc_dev_why */
};

typedef struct dc_dev_options {
    const char *name;        /* "auto", "cpu", "cuda", "cuda:1" */
    int card;                /* which card "auto" and "cuda" are: 0 is the first; behind the last it begins anew */
    dc_dtype activation;     /* NONE: the device's own, F32 on a CPU, BF16 on a card; F32 there is for comparisons */
    unsigned cpu_features;   /* for a CPU; ~0u: dc_cpu_allowed */
    dc_gemm_backend backend; /* BACKENDS: the best that is there; REF: no library, on a card too; others: a CPU's */
} dc_dev_options;

dc_dev_options dc_dev_defaults(void);
/* "auto" is a card when this program has CUDA and the card can be used, else the CPU. A device asked for by name that is not there
 * is DC_EUNKNOWN, with the reason. */
int dc_dev_open(dc_dev **out, const dc_dev_options *options, dc_error *err);
void dc_dev_close(dc_dev *dev); /* NULL is fine */
/* The n-th card, from 0, in a line: "NVIDIA H100 80GB HBM3, 79 GiB, compute capability 9.0". DC_EUNKNOWN, with the reason, when there is
 * none: no such card, no driver, no CUDA in this program. */
int dc_dev_card(char *text, size_t size, int n, dc_error *err);
/* "2 cores, AVX-512 BF16, own GEMM" for the start-up line. */
const char *dc_dev_describe(const dc_dev *dev);
/* Why "auto" is the CPU in a program with CUDA, in a line; else "". */
const char *dc_dev_why(const dc_dev *dev);
/* What must be equal for the same bits: processor path, GEMM backend and its version. Stands in checkpoints. */
const char *dc_dev_path(const dc_dev *dev);

/* Memory of the device, 64-byte aligned, contents undefined. `what` stands in the message. */
int dc_dev_alloc(dc_dev *dev, void **out, size_t bytes, const char *what, dc_error *err);
void dc_dev_free(dc_dev *dev, void *memory); /* NULL is fine */
/* Host memory seen from the device: the same pointer on a CPU, a copy elsewhere. The host memory must stay. */
int dc_dev_import(dc_dev *dev, const void **out, const void *host, size_t bytes, const char *what, dc_error *err);
void dc_dev_drop(dc_dev *dev, const void *imported);
void dc_dev_upload(dc_dev *dev, void *to, const void *host, size_t bytes);
void dc_dev_download(dc_dev *dev, void *host, const void *from, size_t bytes); /* waits */
void dc_dev_copy(dc_dev *dev, void *to, const void *from, size_t bytes);
int dc_dev_sync(dc_dev *dev, dc_error *err);

/* A list of ops that is queued again and again, with the same operands, can be recorded and then queued as one. What a recorded op reads in
 * memory it reads anew each time; what stands in its arguments (pointers, sizes, factors) stays. Between record and recorded ops do nothing
 * but be recorded, and nothing may be uploaded, downloaded or waited for; each op must have run once before with the same sizes. */
typedef struct dc_recording dc_recording;
int dc_dev_records(const dc_dev *dev); /* 0: there is no gain on this device (a CPU), and it does not */
int dc_dev_record(dc_dev *dev, dc_error *err);
/* On failure nothing was recorded: the ops have to be queued one by one. */
int dc_dev_recorded(dc_dev *dev, dc_recording **out, dc_error *err);
void dc_dev_replay(dc_dev *dev, const dc_recording *recording);
void dc_dev_recording_free(dc_dev *dev, dc_recording *recording); /* NULL is fine */

/* The queue of a device that works behind the caller's back, for a library that puts its own work there, a cudaStream_t; its device becomes the
 * thread's. NULL: there is none, as on a CPU. */
void *dc_dev_stream(const dc_dev *dev);

/* What the device could hold at most, its own memory or this machine's: 0 when unknown. */
size_t dc_dev_memory_bytes(const dc_dev *dev);
/* About how many bytes of logits suit a pass over the head: on a CPU what stays in its caches, on a card so many rows that products are bound by
 * arithmetic and not by reading the head anew for each chunk. The same for all cards, so that bits do not depend on their memory. */
size_t dc_dev_chunk_bytes(const dc_dev *dev);
/* Bytes of scratch the device keeps for its ops (panels of unpacked weights, attention tiles): for the plan's forecast. */
size_t dc_dev_scratch_bytes(const dc_dev *dev);

#ifdef __cplusplus
}
#endif
#endif
