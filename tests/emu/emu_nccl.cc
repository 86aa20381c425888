/* tests/emu/emu_nccl.cc -- NCCL between processes of one machine, through shared memory.
 *
 * The unique id is the name of a piece of shared memory, which rank 0 unlinks as soon as all have it. A collective is queued like a kernel;
 * when it is done, each rank puts a part into its slot, all meet, each takes what it needs from the slots, all meet again. Sums
 * run in the order of ranks, in double for floating types, so that every rank gets the same bits. Ranks that do not call the same
 * collective, or do not come within DC_EMU_NCCL_TIMEOUT seconds (60), get an error where NCCL would hang. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emu_internal.h"
#include "nccl.h"

enum { MAX_RANKS = 64, SLOT_BYTES = 1 << 20 };

typedef enum collective { ALL_REDUCE, BROADCAST, REDUCE_SCATTER, ALL_GATHER } collective;

/* What a rank is about to do; all must be about to do the same. */
typedef struct task {
    collective what;
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;
    uint64_t count;
} task;

typedef struct shared_state {
    int n_ranks, arrived, generation, failed;
    task tasks[MAX_RANKS];
} shared_state;

struct ncclComm {
    int rank, n_ranks, device;
    shared_state *shared;
    unsigned char *slots;
    size_t mapped;
    ncclResult_t error;
};

typedef struct queued {
    ncclComm_t comm;
    task t;
    const void *send;
    void *recv;
    cudaStream_t stream;
} queued;

static thread_local std::vector<queued> *group;
static thread_local int group_depth;

/* ---- meeting ---- */

static double timeout_seconds()
{
    const char *text = getenv("DC_EMU_NCCL_TIMEOUT");
    return text ? atof(text) : 60;
}

static double now_seconds()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* All ranks come, or all that wait give up. */
static ncclResult_t meet(ncclComm_t c)
{
    shared_state *s = c->shared;
    const int generation = __atomic_load_n(&s->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&s->arrived, 1, __ATOMIC_ACQ_REL) == c->n_ranks) {
        __atomic_store_n(&s->arrived, 0, __ATOMIC_RELAXED);
        __atomic_add_fetch(&s->generation, 1, __ATOMIC_RELEASE);
        return ncclSuccess;
    }
    const double until = now_seconds() + timeout_seconds();
    const struct timespec nap = {0, 20000};
    while (__atomic_load_n(&s->generation, __ATOMIC_ACQUIRE) == generation) {
        if (__atomic_load_n(&s->failed, __ATOMIC_RELAXED) || now_seconds() > until) {
            __atomic_store_n(&s->failed, 1, __ATOMIC_RELAXED);
            return ncclRemoteError;
        }
        nanosleep(&nap, nullptr);
    }
    return ncclSuccess;
}

/* ---- numbers ---- */

static size_t type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    }
    return 0;
}

template <class T> static T combined(ncclRedOp_t op, T a, T b)
{
    switch (op) {
    case ncclSum:
    case ncclAvg: return (T)(a + b);
    case ncclProd: return (T)(a * b);
    case ncclMax: return a > b ? a : b;
    case ncclMin: break;
    }
    return a < b ? a : b;
}

/* out[i] = slot 0 [i] op slot 1 [i] ..., computed as Wide, which is a T that sums of the machine's ranks fit into. */
template <class T, class Wide> static void reduce(const ncclComm *c, ncclRedOp_t op, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        Wide r = (Wide)((const T *)c->slots)[i];
        for (int rank = 1; rank < c->n_ranks; rank++)
            r = combined<Wide>(op, r, (Wide)((const T *)(c->slots + (size_t)rank * SLOT_BYTES))[i]);
        if (op == ncclAvg) r = (Wide)(r / (Wide)c->n_ranks);
        ((T *)out)[i] = (T)r;
    }
}

typedef struct bf16_value {
    unsigned short bits;
    bf16_value(double v) : bits(dc_emu_bf16_bits((float)v)) {}
    operator double() const { return (double)__uint_as_float((unsigned)bits << 16); }
} bf16_value;

typedef struct half_value {
    unsigned short bits;
    half_value(double v) : bits(dc_emu_half_bits((float)v)) {}
    operator double() const { return (double)dc_emu_half_value(bits); }
} half_value;

static void reduce_type(const ncclComm *c, const task *t, void *out, size_t n)
{
    switch (t->type) {
    case ncclInt8: reduce<int8_t, int64_t>(c, t->op, out, n); break;
    case ncclUint8: reduce<uint8_t, uint64_t>(c, t->op, out, n); break;
    case ncclInt32: reduce<int32_t, int64_t>(c, t->op, out, n); break;
    case ncclUint32: reduce<uint32_t, uint64_t>(c, t->op, out, n); break;
    case ncclInt64: reduce<int64_t, int64_t>(c, t->op, out, n); break;
    case ncclUint64: reduce<uint64_t, uint64_t>(c, t->op, out, n); break;
    case ncclFloat16: reduce<half_value, double>(c, t->op, out, n); break;
    case ncclBfloat16: reduce<bf16_value, double>(c, t->op, out, n); break;
    case ncclFloat32: reduce<float, double>(c, t->op, out, n); break;
    case ncclFloat64: reduce<double, double>(c, t->op, out, n); break;
    }
}

/* ---- collectives ---- */

typedef struct exchange {
    const queued *q;
    size_t element, n; /* n: elements of this part */
    const unsigned char *send;
    unsigned char *recv;
} exchange;

/* One part of at most SLOT_BYTES: `gives` ranks fill their slots, `takes` ranks use them. */
static ncclResult_t exchange_part(const exchange *x, int gives, int takes)
{
    const queued *q = x->q;
    ncclComm_t c = q->comm;
    if (gives) memcpy(c->slots + (size_t)c->rank * SLOT_BYTES, x->send, x->n * x->element);
    ncclResult_t r = meet(c);
    if (r != ncclSuccess) return r;
    if (takes) {
        switch (q->t.what) {
        case ALL_REDUCE:
        case REDUCE_SCATTER: reduce_type(c, &q->t, x->recv, x->n); break;
        case BROADCAST: memcpy(x->recv, c->slots + (size_t)q->t.root * SLOT_BYTES, x->n * x->element); break;
        case ALL_GATHER:
            for (int rank = 0; rank < c->n_ranks; rank++)
                memcpy(x->recv + (size_t)rank * q->t.count * x->element, c->slots + (size_t)rank * SLOT_BYTES,
                       x->n * x->element);
            break;
        }
    }
    return meet(c);
}

static ncclResult_t run_parts(const queued *q)
{
    const ncclComm *c = q->comm;
    const size_t element = type_bytes(q->t.type), part = SLOT_BYTES / element;
    const int rounds = q->t.what == REDUCE_SCATTER ? c->n_ranks : 1;
    for (int round = 0; round < rounds; round++)
        for (size_t first = 0; first < q->t.count; first += part) {
            exchange x = {q, element, q->t.count - first < part ? q->t.count - first : part, nullptr, nullptr};
            x.send = (const unsigned char *)q->send + ((size_t)round * q->t.count + first) * element;
            x.recv = (unsigned char *)q->recv + first * element;
            const int gives = q->t.what != BROADCAST || c->rank == q->t.root;
            const ncclResult_t r = exchange_part(&x, gives, q->t.what != REDUCE_SCATTER || c->rank == round);
            if (r != ncclSuccess) return r;
        }
    return ncclSuccess;
}

static ncclResult_t agree(const queued *q)
{
    ncclComm_t c = q->comm;
    shared_state *s = c->shared;
    s->tasks[c->rank] = q->t;
    ncclResult_t r = meet(c);
    if (r != ncclSuccess) return r;
    int same = 1;
    for (int rank = 0; rank < c->n_ranks; rank++) {
        const task *t = &s->tasks[rank];
        same &= t->what == q->t.what && t->type == q->t.type && t->op == q->t.op && t->root == q->t.root &&
                t->count == q->t.count;
    }
    r = meet(c);
    return r == ncclSuccess && !same ? ncclInvalidUsage : r;
}

static cudaError_t run(const queued *q)
{
    ncclResult_t r = agree(q);
    dc_emu_counters.collectives++;
    if (r == ncclSuccess) r = run_parts(q);
    if (r == ncclSuccess) return cudaSuccess;
    q->comm->error = r;
    return dc_emu_fail(cudaErrorLaunchFailure, "NCCL: rank %d of %d: %s", q->comm->rank, q->comm->n_ranks,
                       r == ncclInvalidUsage ? "the ranks do not call the same collective"
                                             : "another rank does not come");
}

static ncclResult_t issue(const queued *q)
{
    const queued copy = *q;
    const cudaError_t e = dc_emu_enqueue(q->stream, DC_EMU_OP_LIBRARY, [copy] { return run(&copy); });
    return e == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

static ncclResult_t submit(collective what, const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const size_t element = type_bytes(type);
    if (!comm || !element || op > ncclAvg || root < 0 || root >= comm->n_ranks) return ncclInvalidArgument;
    const size_t n = (size_t)comm->n_ranks;
    const size_t send_bytes = count * element * (what == REDUCE_SCATTER ? n : 1);
    const size_t recv_bytes = count * element * (what == ALL_GATHER ? n : 1);
    const int sends = what != BROADCAST || comm->rank == root;
    if ((sends && dc_emu_place_of(send, send_bytes) != DC_EMU_DEVICE) ||
        dc_emu_place_of(recv, recv_bytes) != DC_EMU_DEVICE)
        return ncclInvalidArgument;
    const queued q = {comm, {what, type, op, root, count}, send, recv, stream};
    if (group_depth) return group->push_back(q), ncclSuccess;
    return issue(&q);
}

ncclResult_t ncclAllReduce(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    return submit(ALL_REDUCE, sendbuff, recvbuff, count, datatype, op, 0, comm, stream);
}

ncclResult_t ncclBroadcast(const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return submit(BROADCAST, sendbuff, recvbuff, count, datatype, ncclSum, root, comm, stream);
}

ncclResult_t ncclReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount, ncclDataType_t datatype,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return submit(REDUCE_SCATTER, sendbuff, recvbuff, recvcount, datatype, op, 0, comm, stream);
}

ncclResult_t ncclAllGather(const void *sendbuff, void *recvbuff, size_t sendcount, ncclDataType_t datatype,
                           ncclComm_t comm, cudaStream_t stream)
{
    return submit(ALL_GATHER, sendbuff, recvbuff, sendcount, datatype, ncclSum, 0, comm, stream);
}

ncclResult_t ncclGroupStart(void)
{
    if (!group) group = new std::vector<queued>();
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (!group_depth) return ncclInvalidUsage;
    if (--group_depth) return ncclSuccess;
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    ncclResult_t r = ncclSuccess;
    for (const queued &q : *group)
        if (r == ncclSuccess) r = issue(&q);
    delete group;
    group = nullptr;
    return r;
}

/* ---- communicators ---- */

ncclResult_t ncclGetVersion(int *version)
{
    if (!version) return ncclInvalidArgument;
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *uniqueId)
{
    static int n;
    if (!uniqueId) return ncclInvalidArgument;
    memset(uniqueId, 0, sizeof *uniqueId);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(uniqueId->internal, sizeof uniqueId->internal, "/dc-emu-nccl-%d-%d-%lld%09ld", (int)getpid(),
             __atomic_add_fetch(&n, 1, __ATOMIC_RELAXED), (long long)t.tv_sec, t.tv_nsec);
    return ncclSuccess;
}

static ncclResult_t map_shared(ncclComm_t c, const char *name)
{
    const size_t head = (sizeof(shared_state) + 4095) / 4096 * 4096;
    c->mapped = head + (size_t)c->n_ranks * SLOT_BYTES;
    const int fd = shm_open(name, O_RDWR | O_CREAT, 0600);
    if (fd < 0) return ncclSystemError;
    const int bad = ftruncate(fd, (off_t)c->mapped);
    void *p = bad ? MAP_FAILED : mmap(nullptr, c->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return ncclSystemError;
    c->shared = (shared_state *)p;
    c->slots = (unsigned char *)p + head;
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank)
{
    if (!comm || nranks < 1 || nranks > MAX_RANKS || rank < 0 || rank >= nranks) return ncclInvalidArgument;
    if (commId.internal[0] != '/' || !memchr(commId.internal, 0, sizeof commId.internal)) return ncclInvalidArgument;
    if (dc_emu_usable() != cudaSuccess) return ncclUnhandledCudaError;
    ncclComm_t c = new ncclComm();
    c->rank = rank;
    c->n_ranks = nranks;
    cudaGetDevice(&c->device);
    ncclResult_t r = map_shared(c, commId.internal);
    if (r == ncclSuccess) {
        r = meet(c);
        if (rank == 0 || r != ncclSuccess) shm_unlink(commId.internal);
    }
    if (r == ncclSuccess) {
        *comm = c;
    } else {
        if (c->shared) munmap(c->shared, c->mapped);
        delete c;
    }
    return r;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) { return comm ? ncclSuccess : ncclInvalidArgument; }

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!comm) return ncclSuccess;
    __atomic_store_n(&comm->shared->failed, 1, __ATOMIC_RELAXED);
    munmap(comm->shared, comm->mapped);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (!comm) return ncclSuccess;
    {
        const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
        dc_emu_drain_all(); /* queued collectives still need it */
    }
    munmap(comm->shared, comm->mapped);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    if (!comm || !count) return ncclInvalidArgument;
    *count = comm->n_ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
{
    if (!comm || !device) return ncclInvalidArgument;
    *device = comm->device;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    if (!comm || !rank) return ncclInvalidArgument;
    *rank = comm->rank;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *asyncError)
{
    if (!comm || !asyncError) return ncclInvalidArgument;
    *asyncError = comm->error;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    case ncclNumResults: break;
    }
    return "unknown result code";
}

const char *ncclGetLastError(ncclComm_t) { return dc_emu_report(); }
