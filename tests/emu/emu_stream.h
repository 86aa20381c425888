/* tests/emu/emu_stream.h -- queues and captures from inside; shared by emu_stream.cc and emu_graph.cc. */
#ifndef DC_EMU_STREAM_H
#define DC_EMU_STREAM_H

#include <deque>
#include <vector>

#include "emu_internal.h"

typedef struct dc_emu_op {
    dc_emu_kind kind;
    uint64_t order; /* over all streams */
    dc_emu_work work;
    CUstream_st *waits; /* an event's stream and the event's order there */
    uint64_t waits_order;
} dc_emu_op;

/* A capture under way or ended. */
struct CUgraph_st {
    std::vector<dc_emu_op> ops; /* in the order of the calls, which respects every event */
    CUstream_st *origin;
    enum cudaStreamCaptureMode mode;
    int spoilt;
};

struct CUstream_st {
    std::deque<dc_emu_op> queue;
    uint64_t done; /* order of the last one done */
    int non_blocking;
    CUgraph_st *capture;
    uint64_t captured; /* work captured from this stream so far; what of it another stream has waited for */
    uint64_t joined;
};

struct CUevent_st {
    CUstream_st *stream; /* of the last record; NULL: never */
    uint64_t order;
    double time;
    int timing;
    CUgraph_st *capture; /* recorded while its stream was captured */
};

CUstream_st *dc_emu_stream_of(cudaStream_t stream);
void dc_emu_do(const dc_emu_op &op);
cudaError_t dc_emu_push(CUstream_st *s, dc_emu_op op);
cudaError_t dc_emu_capture(CUstream_st *s, dc_emu_op op);
/* s waits for an event, one of them being captured: it joins the capture, or gathers a stream that had joined. */
cudaError_t dc_emu_capture_wait(CUstream_st *s, CUevent_st *event);
void dc_emu_forget_graphs(void);
/* Streams that take part in a capture. */
std::vector<CUstream_st *> dc_emu_capture_streams(const CUgraph_st *graph);

#endif
