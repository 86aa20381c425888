/* tests/emu/emu_graph.cc -- stream capture and graphs: the calls are kept, and replayed in their order. */
#include "emu_stream.h"

#include <set>

struct CUgraphExec_st {
    std::shared_ptr<const std::vector<dc_emu_op>> ops; /* shared with launches under way: an update leaves them alone */
};

static std::set<CUgraph_st *> *graphs;
static std::set<CUgraphExec_st *> *execs;

static std::set<CUgraph_st *> &all_graphs()
{
    if (!graphs) graphs = new std::set<CUgraph_st *>();
    return *graphs;
}

static std::set<CUgraphExec_st *> &all_execs()
{
    if (!execs) execs = new std::set<CUgraphExec_st *>();
    return *execs;
}

void dc_emu_forget_graphs(void)
{
    for (CUgraph_st *g : all_graphs()) delete g;
    all_graphs().clear();
    for (CUgraphExec_st *x : all_execs()) delete x;
    all_execs().clear();
}

cudaError_t dc_emu_capture(CUstream_st *s, dc_emu_op op)
{
    if (s->capture->spoilt) return cudaErrorStreamCaptureInvalidated;
    s->captured++;
    s->capture->ops.push_back(std::move(op));
    return cudaSuccess;
}

cudaError_t dc_emu_capture_wait(CUstream_st *s, CUevent_st *event)
{
    if (!event->capture) {
        s->capture->spoilt = 1;
        return cudaErrorStreamCaptureIsolation;
    }
    if (s->capture && s->capture != event->capture) {
        s->capture->spoilt = event->capture->spoilt = 1;
        return cudaErrorStreamCaptureMerge;
    }
    if (!event->capture->origin) return cudaErrorCapturedEvent; /* that capture has ended */
    if (!s->capture) {
        s->capture = event->capture;
        s->captured = s->joined = 0;
    }
    s->captured++; /* the wait itself must come back to the origin too */
    if (event->stream->capture == s->capture && event->order > event->stream->joined)
        event->stream->joined = event->order;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    CUstream_st *s = dc_emu_stream_of(stream);
    if (!stream || stream == cudaStreamLegacy) return dc_emu_return(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return dc_emu_return(cudaErrorIllegalState);
    CUgraph_st *g = new CUgraph_st();
    g->origin = s;
    g->mode = mode;
    all_graphs().insert(g);
    s->capture = g;
    s->captured = s->joined = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *pGraph)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!pGraph) return dc_emu_return(cudaErrorInvalidValue);
    *pGraph = nullptr;
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    CUstream_st *s = dc_emu_stream_of(stream);
    CUgraph_st *g = s->capture;
    if (!g) return dc_emu_return(cudaErrorIllegalState);
    if (g->origin != s) return dc_emu_return(cudaErrorStreamCaptureUnmatched);
    cudaError_t e = g->spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (CUstream_st *other : dc_emu_capture_streams(g)) {
        if (other != s && other->joined < other->captured && e == cudaSuccess) e = cudaErrorStreamCaptureUnjoined;
        other->capture = nullptr;
    }
    g->origin = nullptr;
    if (e == cudaSuccess) *pGraph = g;
    else cudaGraphDestroy(g);
    return dc_emu_return(e);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *pCaptureStatus)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!pCaptureStatus) return dc_emu_return(cudaErrorInvalidValue);
    if (!dc_emu_valid_stream(stream)) return dc_emu_return(cudaErrorInvalidResourceHandle);
    const CUgraph_st *g = dc_emu_stream_of(stream)->capture;
    *pCaptureStatus = !g          ? cudaStreamCaptureStatusNone
                      : g->spoilt ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *numNodes)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_graphs().count(graph) || !numNodes || nodes) return dc_emu_return(cudaErrorInvalidValue);
    *numNodes = graph->ops.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *pGraphExec, cudaGraph_t graph, unsigned long long)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!pGraphExec || !all_graphs().count(graph) || graph->origin) return dc_emu_return(cudaErrorInvalidValue);
    CUgraphExec_st *x = new CUgraphExec_st();
    x->ops = std::make_shared<const std::vector<dc_emu_op>>(graph->ops);
    all_execs().insert(x);
    *pGraphExec = x;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graphExec, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    const cudaError_t e = dc_emu_usable();
    if (e != cudaSuccess) return e;
    if (!all_execs().count(graphExec)) return dc_emu_return(cudaErrorInvalidValue);
    const auto ops = graphExec->ops;
    return dc_emu_return(dc_emu_enqueue(stream, DC_EMU_OP_GRAPH, [ops] {
        for (const dc_emu_op &op : *ops)
            if (dc_emu_sticky() == cudaSuccess) dc_emu_do(op);
        return dc_emu_sticky();
    }));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t graphExec, cudaStream_t)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    return dc_emu_return(all_execs().count(graphExec) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t hGraphExec, cudaGraph_t hGraph,
                                cudaGraphExecUpdateResultInfo *resultInfo)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_execs().count(hGraphExec) || !all_graphs().count(hGraph) || !resultInfo)
        return dc_emu_return(cudaErrorInvalidValue);
    const std::vector<dc_emu_op> &old = *hGraphExec->ops;
    *resultInfo = {cudaGraphExecUpdateSuccess, nullptr, nullptr};
    if (old.size() != hGraph->ops.size()) resultInfo->result = cudaGraphExecUpdateErrorTopologyChanged;
    for (size_t i = 0; i < old.size() && resultInfo->result == cudaGraphExecUpdateSuccess; i++)
        if (old[i].kind != hGraph->ops[i].kind) resultInfo->result = cudaGraphExecUpdateErrorNodeTypeChanged;
    if (resultInfo->result != cudaGraphExecUpdateSuccess) return dc_emu_return(cudaErrorGraphExecUpdateFailure);
    hGraphExec->ops = std::make_shared<const std::vector<dc_emu_op>>(hGraph->ops);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graphExec)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_execs().erase(graphExec)) return dc_emu_return(cudaErrorInvalidValue);
    delete graphExec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    const std::lock_guard<std::recursive_mutex> lock(dc_emu_mutex);
    if (!all_graphs().erase(graph)) return dc_emu_return(cudaErrorInvalidValue);
    delete graph;
    return cudaSuccess;
}
