// Graphs that were captured, and their launches.
#include "driver.h"

using namespace emulated;

extern "C" {

CUresult cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph of, unsigned long long flags) {
    DRIVER_CALL;
    auto* graph = reinterpret_cast<Graph*>(of);
    bool frees = flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH, from_device = flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH;
    if (frees && from_device) return CUDA_ERROR_INVALID_VALUE;
    // A graph with memory of its own has one instance at a time.
    if (graph->instances && (!graph->memory.empty() || graph->frees_of_others)) return CUDA_ERROR_NOT_SUPPORTED;
    graph->instances++;
    *handle = reinterpret_cast<CUgraphExec>(new Instance{graph, graph->nodes, graph->memory, frees});
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream) {
    DRIVER_CALL;
    auto& instance = *reinterpret_cast<Instance*>(handle);
    if (Capture* capture = stream_of(stream)->capture) return invalidate(capture, CUDA_ERROR_NOT_SUPPORTED);
    for (auto& memory : instance.memory) {
        if (!memory_from(memory->pointer)->there) continue;
        // It is left of the launch before.
        if (!instance.frees_on_launch) return CUDA_ERROR_INVALID_VALUE;
        set_there(memory->pointer, false);
    }
    return submit(stream, [&] {
        for (const Node& node : instance.nodes) node.run();
    });
}

CUresult cuGraphUpload(CUgraphExec, CUstream stream) {
    DRIVER_CALL;
    return submit(stream, [] {}, CU_GRAPH_NODE_TYPE_EMPTY);
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    DRIVER_CALL;
    auto* instance = reinterpret_cast<Instance*>(handle);
    if (instance->graph) instance->graph->instances--;
    delete instance;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph handle) {
    DRIVER_CALL;
    delete reinterpret_cast<Graph*>(handle);
    return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
    DRIVER_CALL;
    auto& graph = *reinterpret_cast<Graph*>(handle);
    for (size_t i = 0; nodes && i < *count; i++)
        nodes[i] = i < graph.nodes.size() ? reinterpret_cast<CUgraphNode>(&graph.nodes[i]) : nullptr;
    if (!nodes || *count > graph.nodes.size()) *count = graph.nodes.size();
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
    *type = reinterpret_cast<Node*>(handle)->type;
    return CUDA_SUCCESS;
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode handle, CUDA_MEMCPY3D* copy) {
    const Node& node = *reinterpret_cast<Node*>(handle);
    if (node.type != CU_GRAPH_NODE_TYPE_MEMCPY) return CUDA_ERROR_INVALID_VALUE;
    *copy = node.copy;
    return CUDA_SUCCESS;
}

}  // extern "C"
