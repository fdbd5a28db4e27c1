// Streams, events and what becomes of them while they are captured.
#include "driver.h"

#include <chrono>
#include <map>

namespace emulated {

static std::map<unsigned long long, Capture*> captures;  // under way, by number
static Stream legacy;
static thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

Stream* stream_of(CUstream handle) {
    static thread_local Stream own;
    if (!handle || handle == CU_STREAM_LEGACY) return &legacy;
    if (handle == CU_STREAM_PER_THREAD) return &own;
    return reinterpret_cast<Stream*>(handle);
}

CUresult invalidate(Capture* capture, CUresult error) {
    capture->valid = false;
    return error;
}

CUresult submit(CUstream handle, Work work, CUgraphNodeType type, const CUDA_MEMCPY3D& copy) {
    Stream* stream = stream_of(handle);
    if (!stream->capture) {
        if (stream == &legacy)
            if (CUresult error = legacy_stream_call()) return error;
        work();
        return CUDA_SUCCESS;
    }
    Capture& capture = *stream->capture;
    if (!capture.valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    // The order in which work is captured is one in which it may run.
    capture.graph->nodes.push_back({std::move(work), type, copy});
    if (stream != capture.origin) capture.unwaited.insert(stream);
    return CUDA_SUCCESS;
}

CUresult not_while_capturing() {
    CUresult result = CUDA_SUCCESS;
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return result;
    for (auto& [_, capture] : captures) {
        bool own = capture->thread == std::this_thread::get_id();
        bool forbids = own ? capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED
                           : capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (forbids) result = invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return result;
}

CUresult legacy_stream_call() {
    CUresult result = CUDA_SUCCESS;
    for (auto& [_, capture] : captures)
        for (Stream* stream : capture->joined)
            if (stream->blocking) result = invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return result ? result : not_while_capturing();
}

// Waiting for a stream: never for one that is captured.
static CUresult wait_for(Stream* stream) {
    if (stream->capture) return invalidate(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    trim_pool();
    return stream == &legacy ? legacy_stream_call() : not_while_capturing();
}

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static CUresult wait_for(Event* event) {
    auto capture = captures.find(event->capture);
    if (capture != captures.end()) return invalidate(capture->second, CUDA_ERROR_CAPTURED_EVENT);
    return not_while_capturing();
}

}  // namespace emulated

using namespace emulated;

extern "C" {

CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) {
    DRIVER_CALL;
    auto* stream = new Stream;
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    *handle = reinterpret_cast<CUstream>(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream* handle, unsigned flags) { return cuStreamCreateWithPriority(handle, flags, 0); }

CUresult cuStreamDestroy(CUstream handle) {
    DRIVER_CALL;
    Stream* stream = stream_of(handle);
    if (stream->capture) {
        stream->capture->valid = false;
        stream->capture->joined.erase(stream);
        stream->capture->unwaited.erase(stream);
        if (stream->capture->origin == stream) {
            for (Stream* other : stream->capture->joined) other->capture = nullptr;
            captures.erase(stream->capture->id);
            delete stream->capture;
        }
    }
    delete stream;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    DRIVER_CALL;
    return wait_for(stream_of(handle));
}
CUresult cuStreamQuery(CUstream handle) { return cuStreamSynchronize(handle); }

CUresult cuCtxSynchronize() {
    DRIVER_CALL;
    for (auto& [_, capture] : captures) capture->valid = false;
    trim_pool();
    return captures.empty() ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult cuEventCreate(CUevent* handle, unsigned flags) {
    DRIVER_CALL;
    auto* event = new Event;
    event->timed = !(flags & CU_EVENT_DISABLE_TIMING);
    *handle = reinterpret_cast<CUevent>(event);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle) {
    DRIVER_CALL;
    delete reinterpret_cast<Event*>(handle);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent handle, CUstream on) {
    DRIVER_CALL;
    auto* event = reinterpret_cast<Event*>(handle);
    Stream* stream = stream_of(on);
    if (Capture* capture = stream->capture) {
        if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        event->capture = capture->id;
        event->after = {stream};
        return CUDA_SUCCESS;
    }
    event->capture = 0;
    event->recorded = true;
    event->at = now();
    return CUDA_SUCCESS;
}

// A stream that waits for an event of a capture becomes part of it.
CUresult cuStreamWaitEvent(CUstream handle, CUevent on, unsigned) {
    DRIVER_CALL;
    auto* event = reinterpret_cast<Event*>(on);
    Stream* stream = stream_of(handle);
    auto found = captures.find(event->capture);
    Capture* capture = found == captures.end() ? nullptr : found->second;
    if (stream->capture && !stream->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!capture) return stream->capture ? invalidate(stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION) : CUDA_SUCCESS;
    if (stream->capture && stream->capture != capture) {
        stream->capture->valid = false;
        return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    if (!stream->capture) {
        stream->capture = capture;
        capture->joined.insert(stream);
        capture->unwaited.insert(stream);
    }
    for (Stream* other : event->after)
        if (other != stream) capture->unwaited.erase(other);
    if (stream != capture->origin) capture->unwaited.insert(stream);
    return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent handle) {
    DRIVER_CALL;
    return wait_for(reinterpret_cast<Event*>(handle));
}
CUresult cuEventQuery(CUevent handle) { return cuEventSynchronize(handle); }

CUresult cuEventElapsedTime(float* milliseconds, CUevent first, CUevent second) {
    DRIVER_CALL;
    auto *from = reinterpret_cast<Event*>(first), *to = reinterpret_cast<Event*>(second);
    if (!from->recorded || !to->recorded || !from->timed || !to->timed) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = float((to->at - from->at) * 1e3);
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    std::swap(*mode, thread_mode);
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    DRIVER_CALL;
    static unsigned long long number;
    Stream* stream = stream_of(handle);
    if (stream == &legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return invalidate(stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    auto* capture = new Capture;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = stream;
    capture->id = ++number;
    capture->joined = {stream};
    stream->capture = captures[capture->id] = capture;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    DRIVER_CALL;
    *graph = nullptr;
    Stream* stream = stream_of(handle);
    Capture* capture = stream->capture;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != std::this_thread::get_id())
        return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    CUresult result = !capture->valid             ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                      : capture->unwaited.empty() ? CUDA_SUCCESS
                                                  : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    if (!result) *graph = reinterpret_cast<CUgraph>(capture->graph.release());
    for (Stream* other : capture->joined) other->capture = nullptr;
    captures.erase(capture->id);
    delete capture;
    return result;
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph, const CUgraphNode** nodes,
                                const CUgraphEdgeData** edges, size_t* count) {
    DRIVER_CALL;
    Stream* stream = stream_of(handle);
    // Asking the legacy stream waits for the streams that wait for it.
    if (stream == &legacy)
        for (auto& [_, capture] : captures)
            if (capture->origin->blocking) return invalidate(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    Capture* capture = stream->capture;
    *status = !capture         ? CU_STREAM_CAPTURE_STATUS_NONE
              : capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                               : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    if (!capture) return CUDA_SUCCESS;
    if (id) *id = capture->id;
    if (graph) *graph = reinterpret_cast<CUgraph>(capture->graph.get());
    if (nodes) *nodes = nullptr;
    if (edges) *edges = nullptr;
    if (count) *count = 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    return cuStreamGetCaptureInfo(handle, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}

}  // extern "C"
