/* train/comm_nccl.c -- tensors of CUDA devices go from rank to rank by NCCL, on the device's own stream. */
#include <nccl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "train/comm_engine.h"

typedef struct nccl_state {
    dc_dev *dev;
    ncclComm_t comm;
} nccl_state;

static int failure(ncclResult_t result, ncclComm_t comm, const char *call, dc_error *err)
{
    const char *more = ncclGetLastError(comm);
    if (!more) more = "";
    return dc_fail(err, DC_EIO, "%s: %s%s%s", call, ncclGetErrorString(result), *more ? ": " : "", more);
}

static const char *nccl_library(void)
{
    static char name[48];
    int v = 0;
    ncclGetVersion(&v);
    snprintf(name, sizeof name, "NCCL %d.%d.%d", v / 10000, v / 100 % 100, v % 100);
    return name;
}

static int nccl_make_id(unsigned char id[DC_COMM_ID], dc_error *err)
{
    ncclUniqueId made;
    _Static_assert(sizeof made == DC_COMM_ID, "an id is broadcast whole");
    const ncclResult_t r = ncclGetUniqueId(&made);
    if (r != ncclSuccess) return failure(r, NULL, "ncclGetUniqueId", err);
    memcpy(id, &made, sizeof made);
    return DC_OK;
}

static int nccl_open(void **state, dc_dev *dev, const unsigned char id[DC_COMM_ID], int64_t rank, int64_t size,
                     dc_error *err)
{
    ncclUniqueId made;
    nccl_state *s = dc_calloc(1, sizeof *s);
    if (!s) return dc_fail_memory(err, sizeof *s, "the ranks of a run");
    memcpy(&made, id, sizeof made);
    s->dev = dev;
    dc_dev_stream(dev); /* a communicator is of the thread's device */
    const ncclResult_t r = ncclCommInitRank(&s->comm, (int)size, made, (int)rank);
    if (r != ncclSuccess) {
        dc_free(s);
        return failure(r, NULL, "ncclCommInitRank", err);
    }
    *state = s;
    return DC_OK;
}

static void nccl_close(void *state, int failed)
{
    nccl_state *s = state;
    if (failed) ncclCommAbort(s->comm); /* the other waits for what is queued */
    else ncclCommDestroy(s->comm);
    dc_free(s);
}

/* Looks at both until the stream is done: when a rank is gone it never is, and NCCL alone says so. */
static int wait_for(const nccl_state *s, const char *call, dc_error *err)
{
    const struct timespec nap = {.tv_nsec = 50000};
    const cudaStream_t stream = dc_dev_stream(s->dev);
    ncclResult_t r = ncclSuccess;
    for (int busy = 1; busy && r == ncclSuccess;) {
        busy = cudaStreamQuery(stream) == cudaErrorNotReady;
        const ncclResult_t asked = ncclCommGetAsyncError(s->comm, &r);
        if (asked != ncclSuccess) r = asked;
        if (!busy) continue;
        cudaGetLastError(); /* "not ready" is kept as an error, which the next launch would find */
        nanosleep(&nap, NULL);
    }
    return r == ncclSuccess ? dc_dev_sync(s->dev, err) : failure(r, s->comm, call, err);
}

typedef ncclResult_t queue_fn(const nccl_state *s, const dc_floats *x);

static ncclResult_t queue_sum(const nccl_state *s, const dc_floats *x)
{
    return ncclAllReduce(x->data, (void *)(uintptr_t)x->data, (size_t)x->n, ncclFloat, ncclSum, s->comm,
                         dc_dev_stream(s->dev));
}

static ncclResult_t queue_share(const nccl_state *s, const dc_floats *x)
{
    return ncclBroadcast(x->data, (void *)(uintptr_t)x->data, (size_t)x->n, ncclFloat, 0, s->comm,
                         dc_dev_stream(s->dev));
}

/* All tensors in one group, which NCCL carries out as one. */
static int exchange(const nccl_state *s, queue_fn *queue, const char *call, const dc_floats *items, size_t n_items,
                    dc_error *err)
{
    ncclResult_t r = ncclGroupStart();
    if (r != ncclSuccess) return failure(r, s->comm, "ncclGroupStart", err);
    for (size_t i = 0; r == ncclSuccess && i < n_items; i++) r = queue(s, &items[i]);
    const ncclResult_t end = ncclGroupEnd();
    if (r == ncclSuccess) r = end;
    return r == ncclSuccess ? wait_for(s, call, err) : failure(r, s->comm, call, err);
}

static int nccl_sum(void *state, const dc_floats *items, size_t n_items, dc_error *err)
{
    return exchange(state, queue_sum, "ncclAllReduce", items, n_items, err);
}

static int nccl_share(void *state, const dc_floats *items, size_t n_items, dc_error *err)
{
    return exchange(state, queue_share, "ncclBroadcast", items, n_items, err);
}

static const dc_comm_link nccl = {nccl_library, nccl_make_id, nccl_open, nccl_close, nccl_sum, nccl_share};

const dc_comm_link *dc_comm_stream_link(void) { return &nccl; }
