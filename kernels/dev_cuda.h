/* kernels/dev_cuda.h -- the state of a CUDA device; private to kernels/.
 *
 * Host memory reaches the device through one pinned ring: a piece is copied in, queued, and marked with an event; its place is
 * taken again when the event has come. Results for the host wait in a second pinned area until dc_dev_sync hands them out. */
#ifndef DC_KERNELS_DEV_CUDA_H
#define DC_KERNELS_DEV_CUDA_H

#include <cublasLt.h>

#include "kernels/cuda_dev.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DC_CUDA_RING = 16 << 20,   /* pinned, for what goes to the device */
    DC_CUDA_PIECE = 4 << 20,   /* of an upload, at most */
    DC_CUDA_RING_USES = 64,    /* pieces under way */
    DC_CUDA_TABLES = 8 << 20,  /* on the device, for dc_cuda_stage: several tables of one op */
    DC_CUDA_RESULTS = 1 << 20, /* pinned, for dc_cuda_result */
    DC_CUDA_RESULTS_MAX = 64   /* results under way */
};

typedef struct dc_cuda_use {
    size_t from, to;
    cudaEvent_t done;
} dc_cuda_use;

typedef struct dc_cuda_ring {
    unsigned char *base; /* pinned, DC_CUDA_RING bytes */
    size_t head;
    dc_cuda_use use[DC_CUDA_RING_USES]; /* a queue: `n` from `first` on, oldest first */
    unsigned first, n;
} dc_cuda_ring;

typedef struct dc_cuda_pending {
    void *host;
    size_t at, bytes;
} dc_cuda_pending;

typedef struct dc_cuda_block {
    void *memory;
    size_t bytes;
} dc_cuda_block;

struct dc_cuda_products; /* of gemm_cuda.cu: descriptors and algorithms by shape */

typedef struct dc_cuda_state {
    int index, multiprocessors, capability; /* capability: 90 for 9.0 */
    int groups;                             /* products by warpgroups can be used */
    size_t memory;                          /* the card's */
    char name[256];
    cudaStream_t stream;
    cublasLtHandle_t blas; /* NULL: products without the library */
    struct dc_cuda_products *products;
    dc_cuda_ring ring;
    unsigned char *results; /* pinned */
    dc_cuda_pending pending[DC_CUDA_RESULTS_MAX];
    size_t n_pending, results_used;
    unsigned char *tables, *scratch, *workspace; /* on the device */
    size_t scratch_bytes, scratch_room;          /* room: all of it, or less in a test */
    size_t workspace_bytes;                      /* of cuBLASLt */
    size_t tables_head;
    dc_cuda_block *blocks; /* what dc_dev_alloc and dc_dev_import handed out */
    size_t n_blocks, room, handed_out, peak;
    dc_error failed;        /* the first failure, until dc_dev_sync tells it */
    int records, recording; /* passes may be recorded; one is being */
    char describe[320], path[160];
} dc_cuda_state;

static inline dc_cuda_state *dc_cuda_state_of(const dc_dev *dev) { return (dc_cuda_state *)dev->state; }

/* Notes a failure of the op; DC_OK: nothing. */
int dc_cuda_note(dc_dev *dev, cudaError_t error, const char *op);

/* Does the card run code for sm_90a, and are its products by warpgroups right (attn_group_cuda.cu)? Uses the scratch; waits. */
int dc_cuda_has_groups(dc_dev *dev);

/* Made when a device is opened, freed when it is closed. */
int dc_cuda_products_new(struct dc_cuda_products **out, size_t workspace_bytes, dc_error *err);
void dc_cuda_products_free(struct dc_cuda_products *products);

#ifdef __cplusplus
}
#endif
#endif
