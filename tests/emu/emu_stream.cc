/* tests/emu/emu_stream.cc -- queues of work, events, and what goes into the queues: kernels, copies, fills.
 *
 * Nothing that was queued happens until somebody waits for it, and then in the order of its own queue only: what another queue holds runs
 * before only if an event says so, or the legacy default stream's rule. So a missing wait shows as old data, every time. */
#include "emu_stream.h"

#include <chrono>
#include <set>
#include <string.h>

static CUstream_st legacy;               /* the default stream, as cudaStreamLegacy */
static std::set<CUstream_st *> *streams; /* the others */
static std::set<CUevent_st *> *events;
static uint64_t last_order;

static std::set<CUstream_st *> &all_streams()
{
    if (!streams) streams = new std::set<CUstream_st *>();
    return *streams;
}

static std::set<CUevent_st *> &all_events()
{
    if (!events) events = new std::set<CUevent_st *>();
    return *events;
}

int dc_emu_valid_stream(cudaStream_t stream)
{
    return !stream || stream == cudaStreamLegacy || all_streams().count(stream) != 0;
}

CUstream_st *dc_emu_stream_of(cudaStream_t stream) { return !stream || stream == cudaStreamLegacy ? &legacy : stream; }

int dc_emu_capturing(cudaStream_t stream) { return dc_emu_stream_of(stream)->capture != nullptr; }

cudaError_t dc_emu_forbid_capture(void)
{
    cudaError_t e = cudaSuccess;
    for (CUstream_st *s : all_streams())
        if (s->capture && s->capture->mode != cudaStreamCaptureModeRelaxed) {
            s->capture->spoilt = 1;
            e = cudaErrorStreamCaptureUnsupported;
        }
    return e;
}

std::vector<CUstream_st *> dc_emu_capture_streams(const CUgraph_st *graph)
{
    std::vector<CUstream_st *> found;
    for (CUstream_st *s : all_streams())
        if (s->capture == graph) found.push_back(s);
    return found;
}

/* ---- doing what was queued ---- */

static void run_until(CUstream_st *s, uint64_t order);

/* What the default stream's rule puts before work `order` of s: it waits for all streams that were not made "non-blocking", and they
 * for it. */
static void run_before(CUstream_st *s, uint64_t order)
{
    if (s == &legacy) {
        for (CUstream_st *other : all_streams())
            if (!other->non_blocking) run_until(other, order);
    } else if (!s->non_blocking) {
        run_until(&legacy, order);
    }
}

static void run_until(CUstream_st *s, uint64_t order)
{
    while (!s->queue.empty() && s->queue.front().order < order) {
        const dc_emu_op op = std::move(s->queue.front());
        s->queue.pop_front();
        run_before(s, op.order);
        if (op.waits && all_streams().count(op.waits)) run_until(op.waits, op.waits_order + 1);
        if (op.waits == &legacy) run_until(&legacy, op.waits_order + 1);
        if (dc_emu_sticky() == cudaSuccess) dc_emu_do(op);
        s->done = op.order;
    }
}

void dc_emu_do(const dc_emu_op &op)
{
    if (!op.work) return;
    dc_emu_region_open();
    op.work();
    dc_emu_region_close();
}

cudaError_t dc_emu_drain(cudaStream_t stream)
{
    CUstream_st *s = dc_emu_stream_of(stream);
    run_until(s, last_order + 1);
    return dc_emu_sticky();
}

cudaError_t dc_emu_drain_all(void)
{
    run_until(&legacy, last_order + 1);
    for (CUstream_st *s : all_streams()) run_until(s, last_order + 1);
    return dc_emu_sticky();
}

cudaError_t dc_emu_push(CUstream_st *s, dc_emu_op op)
{
    if (s == &legacy)
        for (CUstream_st *other : all_streams())
            if (other->capture && !other->non_blocking) {
                other->capture->spoilt = 1;
                return cudaErrorStreamCaptureImplicit;
            }
    if (s->capture) return dc_emu_capture(s, std::move(op));
    op.order = ++last_order;
    s->queue.push_back(std::move(op));
    if (!dc_emu_settings()->async) return run_until(s, last_order + 1), dc_emu_sticky();
    return cudaSuccess;
}

cudaError_t dc_emu_enqueue(cudaStream_t stream, dc_emu_kind kind, dc_emu_work work)
{
    if (!dc_emu_valid_stream(stream)) return cudaErrorInvalidResourceHandle;
    dc_emu_op op = {};
    op.kind = kind;
    op.work = std::move(work);
    return dc_emu_push(dc_emu_stream_of(stream), std::move(op));
}

void dc_emu_forget_streams(void)
{
    legacy.queue.clear();
    for (CUstream_st *s : all_streams()) delete s;
    all_streams().clear();
    for (CUevent_st *e : all_events()) delete e;
    all_events().clear();
    dc_emu_forget_graphs();
}

/* ---- kernels ---- */

void dc_emu_launch_call(const struct dc_emu_call *call, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const dc_emu_call c = *call;
    const std::shared_ptr<void> args(c.call, free); /* trivially destructible: CUDA copies arguments as bytes */
    cudaError_t e = dc_emu_usable();
    if (e == cudaSuccess) e = dc_emu_check_launch(&c);
    if (e == cudaSuccess) e = dc_emu_check_args(&c);
    if (e == cudaSuccess)
        e = dc_emu_enqueue(stream, DC_EMU_OP_KERNEL, [c, args] {
            (void)args;
            return dc_emu_run_grid(&c);
        });
    dc_emu_return(e);
}

/* ---- copies and fills ---- */

static cudaError_t check_side(const void *p, size_t n, int device)
{
    const dc_emu_place place = dc_emu_place_of(p, n);
    if (place == DC_EMU_WILD) {
        char text[96];
        return dc_emu_fail(cudaErrorInvalidValue, "copy or fill of %zu bytes %s", n,
                           dc_emu_describe_pointer(p, text, sizeof text));
    }
    return (place == DC_EMU_DEVICE) == device ? cudaSuccess : cudaErrorInvalidValue;
}

/* Which way a copy goes, after checking that the pointers are what `kind` says. */
static cudaError_t check_copy(int *to_device, int *from_device, void *dst, const void *src, size_t n,
                              enum cudaMemcpyKind kind)
{
    switch (kind) {
    case cudaMemcpyHostToHost: *to_device = 0, *from_device = 0; break;
    case cudaMemcpyHostToDevice: *to_device = 1, *from_device = 0; break;
    case cudaMemcpyDeviceToHost: *to_device = 0, *from_device = 1; break;
    case cudaMemcpyDeviceToDevice: *to_device = 1, *from_device = 1; break;
    case cudaMemcpyDefault:
        *to_device = dc_emu_place_of(dst, 0) == DC_EMU_DEVICE;
        *from_device = dc_emu_place_of(src, 0) == DC_EMU_DEVICE;
        break;
    default: return cudaErrorInvalidMemcpyDirection;
    }
    const cudaError_t e = check_side(dst, n, *to_device);
    return e == cudaSuccess ? check_side(src, n, *from_device) : e;
}

/* Copies `height` rows. Pageable memory is staged at once on the way in, and waited for on the way out, as the runtime does. */
static cudaError_t copy(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width, size_t height,
                        enum cudaMemcpyKind kind, cudaStream_t stream, int wait)
{
    if (!dc_emu_valid_stream(stream)) return cudaErrorInvalidResourceHandle;
    if (width == 0 || height == 0) return cudaSuccess;
    if (!dst || !src || dpitch < width || spitch < width) return cudaErrorInvalidValue;
    int to_device = 0, from_device = 0;
    const size_t to_bytes = dpitch * (height - 1) + width, from_bytes = spitch * (height - 1) + width;
    cudaError_t e = check_copy(&to_device, &from_device, dst, src, from_bytes > to_bytes ? to_bytes : from_bytes, kind);
    if (e == cudaSuccess) e = check_side(dst, to_bytes, to_device);
    if (e == cudaSuccess) e = check_side(src, from_bytes, from_device);
    if (e != cudaSuccess) return e;
    const int capturing = dc_emu_capturing(stream);
    std::shared_ptr<void> staged;
    if (!from_device && !capturing && dc_emu_place_of(src, from_bytes) == DC_EMU_PAGEABLE) {
        staged = std::shared_ptr<void>(malloc(from_bytes), free);
        if (!staged) return cudaErrorMemoryAllocation;
        memcpy(staged.get(), src, from_bytes);
    }
    if (!to_device && !capturing && dc_emu_place_of(dst, to_bytes) == DC_EMU_PAGEABLE) wait = 1;
    dc_emu_counters.copies++;
    e = dc_emu_enqueue(stream, DC_EMU_OP_COPY, [=] {
        const char *from = (const char *)(staged ? staged.get() : src);
        for (size_t row = 0; row < height; row++) memmove((char *)dst + row * dpitch, from + row * spitch, width);
        return cudaSuccess;
    });
    if (e != cudaSuccess || !wait) return e;
    return capturing ? dc_emu_forbid_capture() : dc_emu_drain(stream);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    return e != cudaSuccess ? e : dc_emu_return(copy(dst, count, src, count, count, 1, kind, stream, 0));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    return e != cudaSuccess ? e : dc_emu_return(copy(dst, dpitch, src, spitch, width, height, kind, stream, 0));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    const int inside = dc_emu_place_of(dst, 0) == DC_EMU_DEVICE && dc_emu_place_of(src, 0) == DC_EMU_DEVICE;
    return dc_emu_return(copy(dst, count, src, count, count, 1, kind, nullptr, !inside));
}

cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    if (count == 0) return cudaSuccess;
    if (dc_emu_place_of(devPtr, count) != DC_EMU_PINNED) e = check_side(devPtr, count, 1);
    if (e != cudaSuccess) return dc_emu_return(e);
    return dc_emu_return(dc_emu_enqueue(stream, DC_EMU_OP_SET, [=] {
        memset(devPtr, value, count);
        return cudaSuccess;
    }));
}

cudaError_t cudaMemset(void *devPtr, int value, size_t count) { return cudaMemsetAsync(devPtr, value, count, nullptr); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *userData)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!fn) return dc_emu_return(cudaErrorInvalidValue);
    return dc_emu_return(dc_emu_enqueue(stream, DC_EMU_OP_HOST, [=] {
        dc_emu_region_close(); /* it is host code */
        fn(userData);
        dc_emu_region_open();
        return cudaSuccess;
    }));
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned flags)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!pStream || flags > cudaStreamNonBlocking) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    CUstream_st *s = new CUstream_st();
    s->non_blocking = flags == cudaStreamNonBlocking;
    all_streams().insert(s);
    *pStream = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *pStream) { return cudaStreamCreateWithFlags(pStream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *pStream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(pStream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
    if (leastPriority) *leastPriority = 0;
    if (greatestPriority) *greatestPriority = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_streams().count(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    const cudaError_t e = dc_emu_drain(stream);
    all_streams().erase(stream);
    delete stream;
    return dc_emu_return(e);
}

/* Damage of guard zones belongs to what ran before this wait. */
static cudaError_t after_wait(cudaError_t e)
{
    const cudaError_t damage = e == cudaSuccess ? dc_emu_check_guards() : e;
    return dc_emu_return(damage);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    if (dc_emu_capturing(stream) || dc_emu_forbid_capture() != cudaSuccess) {
        dc_emu_forbid_capture();
        return dc_emu_return(cudaErrorStreamCaptureUnsupported);
    }
    return after_wait(dc_emu_drain(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    CUstream_st *s = dc_emu_stream_of(stream);
    if (s->queue.empty()) return dc_emu_return(dc_emu_sticky());
    run_until(s, s->queue.front().order + 1); /* nothing else would ever make it ready */
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (dc_emu_forbid_capture() != cudaSuccess) return dc_emu_return(cudaErrorStreamCaptureUnsupported);
    return after_wait(dc_emu_drain_all());
}

/* ---- events ---- */

static double now_ms()
{
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!event) return dc_emu_return(cudaErrorInvalidValue);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    CUevent_st *v = new CUevent_st();
    v->timing = !(flags & cudaEventDisableTiming);
    all_events().insert(v);
    *event = v;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_events().erase(event)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!all_events().count(event) || !dc_emu_valid_stream(stream))
        return dc_emu_return(cudaErrorInvalidResourceHandle);
    CUstream_st *s = dc_emu_stream_of(stream);
    event->capture = s->capture;
    event->stream = s;
    if (s->capture) return event->order = s->captured, cudaSuccess;
    dc_emu_op op = {};
    op.kind = DC_EMU_OP_RECORD;
    op.work = [event] {
        if (all_events().count(event)) event->time = now_ms();
        return cudaSuccess;
    };
    event->order = last_order + 1;
    return dc_emu_return(dc_emu_push(s, std::move(op)));
}

/* Recorded work that has not happened. */
static int is_pending(const CUevent_st *e)
{
    if (!e->stream || (e->stream != &legacy && !all_streams().count(e->stream))) return 0;
    return !e->stream->queue.empty() && e->stream->queue.front().order <= e->order;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!all_events().count(event) || !dc_emu_valid_stream(stream))
        return dc_emu_return(cudaErrorInvalidResourceHandle);
    CUstream_st *s = dc_emu_stream_of(stream);
    if (event->capture || s->capture) return dc_emu_return(dc_emu_capture_wait(s, event));
    if (!is_pending(event)) return cudaSuccess;
    dc_emu_op op = {};
    op.kind = DC_EMU_OP_WAIT;
    op.waits = event->stream;
    op.waits_order = event->order;
    return dc_emu_return(dc_emu_push(s, std::move(op)));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!all_events().count(event)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    if (event->capture) return dc_emu_return(cudaErrorCapturedEvent);
    if (!is_pending(event)) return dc_emu_return(dc_emu_sticky());
    run_until(event->stream, event->stream->queue.front().order + 1);
    return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!all_events().count(event)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    if (event->capture) return dc_emu_return(cudaErrorCapturedEvent);
    if (is_pending(event)) run_until(event->stream, event->order + 1);
    return after_wait(dc_emu_sticky());
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!ms) return dc_emu_return(cudaErrorInvalidValue);
    if (!all_events().count(start) || !all_events().count(end) || !start->stream || !end->stream || !start->timing ||
        !end->timing)
        return dc_emu_return(cudaErrorInvalidResourceHandle);
    if (is_pending(start) || is_pending(end)) return dc_emu_return(cudaErrorNotReady);
    *ms = (float)(end->time - start->time);
    return cudaSuccess;
}
