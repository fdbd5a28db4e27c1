// What no test of Kinora's reaches of the emulated driver: captures, graphs, their memory, and what they forbid. build.sh runs it.
#include <cstdio>
#include <cstdlib>
#include <cuda.h>

static void expect(int line, CUresult found, CUresult wanted) {
    if (found == wanted) return;
    std::fprintf(stderr, "test.cpp:%d: error %d instead of %d\n", line, found, wanted);
    std::exit(1);
}
static void expect(int line, bool held) {
    if (held) return;
    std::fprintf(stderr, "test.cpp:%d: not so\n", line);
    std::exit(1);
}
#define IS(call, wanted) expect(__LINE__, call, wanted)
#define OK(call) expect(__LINE__, call, CUDA_SUCCESS)
#define HOLDS(what) expect(__LINE__, bool(what))

static CUstream stream, other;
static CUfunction fill;

static CUresult launch(CUdeviceptr to, float value) {
    size_t count = 16;
    void* arguments[] = {&to, &value, &count};
    return cuLaunchKernel(fill, 1, 1, 1, 32, 1, 1, 0, stream, arguments, nullptr);
}

static float first(CUdeviceptr from) {
    float value;
    OK(cuMemcpyDtoHAsync(&value, from, sizeof value, stream));
    return value;
}
static bool poisoned(CUdeviceptr from) { return first(from) != first(from); }

static CUstreamCaptureStatus status() {
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(stream, &status));
    return status;
}

static CUgraphExec instantiate(CUgraph graph, unsigned long long flags) {
    CUgraphExec instance;
    OK(cuGraphInstantiateWithFlags(&instance, graph, flags));
    return instance;
}

// Work that is captured runs when the graph is launched, and then only; so does what it allocates come and go.
static void memory_within(CUdeviceptr x) {
    CUdeviceptr y;
    CUgraph graph;
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    HOLDS(status() == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    OK(cuMemAllocAsync(&y, 64, stream));
    OK(launch(y, 3));
    OK(cuMemcpyDtoDAsync(x, y, 64, stream));
    OK(cuMemFreeAsync(y, stream));
    OK(cuStreamEndCapture(stream, &graph));
    HOLDS(poisoned(x));
    CUgraphNode nodes[4];
    CUgraphNodeType type;
    CUDA_MEMCPY3D copy;
    size_t count = 4;
    OK(cuGraphGetNodes(graph, nodes, &count));
    OK(cuGraphNodeGetType(nodes[2], &type));
    OK(cuGraphMemcpyNodeGetParams(nodes[2], &copy));
    HOLDS(count == 4 && type == CU_GRAPH_NODE_TYPE_MEMCPY && copy.srcDevice == y && copy.WidthInBytes == 64);
    CUgraphExec instance = instantiate(graph, 0), second;
    IS(cuGraphInstantiateWithFlags(&second, graph, 0), CUDA_ERROR_NOT_SUPPORTED);
    for (int i = 0; i < 2; i++) {
        OK(cuMemsetD32Async(x, 0, 16, stream));
        OK(cuGraphLaunch(instance, stream));
        HOLDS(first(x) == 3);
    }
    float value;
    IS(cuMemcpyDtoHAsync(&value, y, sizeof value, stream), CUDA_ERROR_INVALID_VALUE);
    OK(cuGraphExecDestroy(instance));
    OK(cuGraphDestroy(graph));
}

// What a graph does not free is there after a launch, and in the way of the next one unless that frees it.
static void memory_left(bool frees) {
    CUdeviceptr y;
    CUgraph graph;
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(cuMemAllocAsync(&y, 64, stream));
    OK(launch(y, 5));
    OK(cuStreamEndCapture(stream, &graph));
    CUgraphExec instance = instantiate(graph, frees ? CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH : 0);
    OK(cuGraphLaunch(instance, stream));
    HOLDS(first(y) == 5);
    IS(cuGraphLaunch(instance, stream), frees ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
    OK(cuMemFreeAsync(y, stream));
    IS(cuMemFreeAsync(y, stream), CUDA_ERROR_INVALID_VALUE);
    OK(cuGraphLaunch(instance, stream));
    OK(cuGraphExecDestroy(instance));
    OK(cuGraphDestroy(graph));
    HOLDS(first(y) == 5);
    OK(cuMemFreeAsync(y, stream));
}

template <typename F> static void forbidden(int line, CUdeviceptr x, CUresult wanted, F call) {
    CUgraph graph;
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(launch(x, 1));
    expect(line, call(), wanted);
    HOLDS(status() == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    IS(launch(x, 1), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    IS(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    HOLDS(!graph && status() == CU_STREAM_CAPTURE_STATUS_NONE);
    OK(launch(x, 1));
}
#define FORBIDDEN(call, error) forbidden(__LINE__, x, error, [&] { return call; })

static void forbidden_calls(CUdeviceptr x) {
    CUdeviceptr outside, none;
    CUevent event;
    float value = 0;
    OK(cuMemAllocAsync(&outside, 64, stream));
    OK(cuEventCreate(&event, CU_EVENT_DEFAULT));
    OK(cuEventRecord(event, stream));
    FORBIDDEN(cuMemFreeAsync(outside, stream), CUDA_ERROR_INVALID_VALUE);
    FORBIDDEN(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuStreamSynchronize(other), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuCtxSynchronize(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuMemcpyDtoHAsync(&value, x, sizeof value, stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuMemcpyHtoDAsync(x, &value, sizeof value, stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuMemcpyHtoD(x, &value, sizeof value), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuMemAlloc(&none, 4), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    FORBIDDEN(cuStreamWaitEvent(stream, event, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    FORBIDDEN((cuEventRecord(event, stream), cuEventSynchronize(event)), CUDA_ERROR_CAPTURED_EVENT);
    OK(cuEventDestroy(event));
    OK(cuMemFreeAsync(outside, stream));
}

// A stream that waits for a captured event is captured too, and must be waited for in turn. Pinned memory is read by launches.
static void two_streams(CUdeviceptr x, bool joined) {
    CUgraph graph;
    CUevent event;
    void* pinned;
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(cuMemHostAlloc(&pinned, 64, 0));
    OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(other, event, 0));
    OK(cuMemcpyHtoDAsync(x, pinned, sizeof(float), other));
    if (joined) {
        OK(cuEventRecord(event, other));
        OK(cuStreamWaitEvent(stream, event, 0));
    }
    IS(cuStreamEndCapture(stream, &graph), joined ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    if (joined) {
        CUgraphExec instance = instantiate(graph, 0);
        OK(cuGraphDestroy(graph));
        *static_cast<float*>(pinned) = 7;
        OK(cuGraphLaunch(instance, stream));
        HOLDS(first(x) == 7);
        OK(cuGraphExecDestroy(instance));
    }
    OK(cuMemFreeHost(pinned));
    OK(cuEventDestroy(event));
}

// What was freed counts as taken until the pool gives it back.
static void accounts() {
    size_t before, during, after, all;
    CUdeviceptr x;
    OK(cuMemGetInfo(&before, &all));
    OK(cuMemAllocAsync(&x, 1 << 20, stream));
    OK(cuMemGetInfo(&during, &all));
    OK(cuMemFreeAsync(x, stream));
    OK(cuMemGetInfo(&after, &all));
    HOLDS(during < before && after == during);
    OK(cuStreamSynchronize(stream));
    OK(cuMemGetInfo(&after, &all));
    HOLDS(after >= before);
    IS(cuMemAlloc(&x, all), CUDA_ERROR_OUT_OF_MEMORY);
}

int main() {
    CUcontext context;
    CUmodule module;
    CUdeviceptr x;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoadData(&module, ""));
    OK(cuModuleGetFunction(&fill, module, "fill_f32"));
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuMemAllocAsync(&x, 64, stream));
    HOLDS(poisoned(x));
    memory_within(x);
    memory_left(false);
    memory_left(true);
    forbidden_calls(x);
    two_streams(x, false);
    two_streams(x, true);
    accounts();
    OK(cuMemFreeAsync(x, stream));
    OK(cuStreamDestroy(other));
    OK(cuStreamDestroy(stream));
}
