// The driver's state. All of it is behind one lock, which a call holds while its work runs: streams are in order, and nothing
// runs later than the call that asks for it, unless a stream is being captured.
#pragma once
#include <cuda.h>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace emulated {

using Work = std::function<void()>;

// Held by every call; recursive because graphs run calls.
extern std::recursive_mutex driver_lock;
#define DRIVER_CALL std::lock_guard<std::recursive_mutex> hold(::emulated::driver_lock)

// Memory ----------------------------------------------------------------------------------------------------------------------

// Whom memory is from, which says how it may be given back.
enum class Owner { Device, Pool, Host, Graph };

struct Memory {
    size_t size;
    Owner owner;
    bool there;  // false: a graph's, outside of its life in a launch
};

CUresult allocate(CUdeviceptr* pointer, size_t size, Owner owner);
CUresult release(CUdeviceptr pointer);
// What lies at `pointer` and fills at least `bytes` from there; null where that is not memory of ours.
Memory* memory_at(CUdeviceptr pointer, size_t bytes);
Memory* memory_from(CUdeviceptr pointer);  // that begins there
// What a graph's memory is while nobody may use it: filled with ones, as all memory is that nothing was written to.
void set_there(CUdeviceptr pointer, bool there);
void trim_pool();  // gives back what the pool keeps beyond its threshold, as it does where somebody waits
CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream, bool from_host, bool to_host);

// Graphs ----------------------------------------------------------------------------------------------------------------------

// Memory of a graph, with the graph and what was instantiated of it for owners.
struct GraphMemory {
    CUdeviceptr pointer;
    bool freed_inside = false;
    ~GraphMemory();
};

struct Node {
    Work run;
    CUgraphNodeType type;
    CUDA_MEMCPY3D copy;  // where it is one
};

struct Graph {
    std::vector<Node> nodes;
    std::vector<std::shared_ptr<GraphMemory>> memory;
    bool frees_of_others = false;
    int instances = 0;
};

struct Instance {
    Graph* graph;  // null once that is destroyed
    std::vector<Node> nodes;
    std::vector<std::shared_ptr<GraphMemory>> memory;
    bool frees_on_launch;
};

// Streams ---------------------------------------------------------------------------------------------------------------------

struct Stream;

struct Capture {
    std::unique_ptr<Graph> graph{new Graph};
    CUstreamCaptureMode mode;
    std::thread::id thread;
    Stream* origin;
    unsigned long long id;
    bool valid = true;
    std::set<Stream*> joined;    // all streams that are captured with the origin
    std::set<Stream*> unwaited;  // of those, the ones with work that the origin does not wait for yet
};

struct Stream {
    bool blocking = true;  // waits for the legacy stream
    Capture* capture = nullptr;
};

struct Event {
    bool timed = true, recorded = false;
    double at = 0;                   // in seconds
    unsigned long long capture = 0;  // that recorded it last
    std::set<Stream*> after;         // streams of that capture that it stands for
};

Stream* stream_of(CUstream handle);
// Runs `work`, or records it as a node where the stream is being captured.
CUresult submit(CUstream stream, Work work, CUgraphNodeType type = CU_GRAPH_NODE_TYPE_KERNEL, const CUDA_MEMCPY3D& copy = {});
// For calls that a capture forbids: an error, which ends the captures that forbid it.
CUresult not_while_capturing();
CUresult legacy_stream_call();
CUresult invalidate(Capture* capture, CUresult error);

}  // namespace emulated
