// Memory of the device is the host's. What is new and what is freed is filled with ones, which as floating point is no number,
// so that a test notices who reads it.
#include "driver.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

namespace emulated {

std::recursive_mutex driver_lock;

static std::map<CUdeviceptr, Memory> all;

// Bytes that are used; the most at a time since that was asked for anew; what stays taken from the device to be used again.
struct Account {
    size_t used = 0, high = 0, reserved = 0;

    void add(size_t bytes) {
        used += bytes;
        high = std::max(high, used);
        reserved = std::max(reserved, used);
    }
};
static Account plain, pool, graphs;
static cuuint64_t release_threshold;

static size_t total() {
    static const char* asked = std::getenv("CUDA_EMULATOR_GIB");
    return (asked ? std::strtoull(asked, nullptr, 10) : 16) << 30;
}

// Counts `memory`, which comes into being (or goes).
static void count(const Memory& memory, bool comes) {
    if (memory.owner == Owner::Host) return;
    Account& account = memory.owner == Owner::Pool ? pool : memory.owner == Owner::Graph ? graphs : plain;
    account.add(comes ? memory.size : -memory.size);
    if (&account == &plain) plain.reserved = plain.used;
}

void trim_pool() { pool.reserved = std::max(pool.used, std::min<size_t>(pool.reserved, release_threshold)); }

CUresult allocate(CUdeviceptr* pointer, size_t size, Owner owner) {
    if (!pointer || (size == 0 && owner != Owner::Pool)) return CUDA_ERROR_INVALID_VALUE;
    if (size == 0) return *pointer = 0, CUDA_SUCCESS;
    if (owner != Owner::Host && size > total() - plain.used - pool.used - graphs.reserved) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t rounded = (size + 255) / 256 * 256;
    void* memory = std::aligned_alloc(256, rounded);
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(memory, 0xff, rounded);
    *pointer = reinterpret_cast<CUdeviceptr>(memory);
    Memory& entry = all[*pointer] = {size, owner, owner != Owner::Graph};
    if (entry.there) count(entry, true);
    return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr pointer) {
    auto found = all.find(pointer);
    if (found == all.end()) return CUDA_ERROR_INVALID_VALUE;
    if (found->second.there) count(found->second, false);
    std::memset(reinterpret_cast<void*>(pointer), 0xff, found->second.size);
    std::free(reinterpret_cast<void*>(pointer));
    all.erase(found);
    return CUDA_SUCCESS;
}

Memory* memory_at(CUdeviceptr pointer, size_t bytes) {
    auto after = all.upper_bound(pointer);
    if (after == all.begin()) return nullptr;
    auto& [start, memory] = *--after;
    return pointer - start <= memory.size && bytes <= memory.size - (pointer - start) ? &memory : nullptr;
}

Memory* memory_from(CUdeviceptr pointer) {
    auto found = all.find(pointer);
    return found == all.end() ? nullptr : &found->second;
}

void set_there(CUdeviceptr pointer, bool there) {
    Memory* memory = memory_from(pointer);
    std::memset(reinterpret_cast<void*>(pointer), 0xff, memory->size);
    if (memory->there != there) count(*memory, there);
    memory->there = there;
}

GraphMemory::~GraphMemory() {
    DRIVER_CALL;
    Memory* memory = memory_from(pointer);
    // What was launched and not freed is for its user to free.
    if (memory && !memory->there) release(pointer);
}

// Whether `bytes` at `pointer` are the device's now (or will be when a captured graph runs).
static bool usable(CUdeviceptr pointer, size_t bytes, CUstream stream) {
    Memory* memory = memory_at(pointer, bytes);
    return memory && memory->owner != Owner::Host && (memory->there || stream_of(stream)->capture);
}

CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream, bool from_host, bool to_host) {
    static const bool pageable = std::getenv("CUDA_EMULATOR_CAPTURES_PAGEABLE");
    if (bytes == 0) return CUDA_SUCCESS;
    if ((!from_host && !usable(from, bytes, stream)) || (!to_host && !usable(to, bytes, stream))) return CUDA_ERROR_INVALID_VALUE;
    for (auto [host, pointer] : {std::pair(from_host, from), std::pair(to_host, to)}) {
        // Such a copy waits for the stream, which a capture forbids.
        if (host && !memory_at(pointer, bytes) && stream_of(stream)->capture && !pageable)
            return invalidate(stream_of(stream)->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    CUDA_MEMCPY3D node = {};
    node.srcMemoryType = from_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    node.dstMemoryType = to_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    if (from_host) node.srcHost = reinterpret_cast<void*>(from);
    else node.srcDevice = from;
    if (to_host) node.dstHost = reinterpret_cast<void*>(to);
    else node.dstDevice = to;
    node.WidthInBytes = bytes;
    node.Height = node.Depth = 1;
    auto work = [=] { std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); };
    return submit(stream, work, CU_GRAPH_NODE_TYPE_MEMCPY, node);
}

template <typename T> CUresult fill(CUdeviceptr to, T value, size_t count, CUstream stream) {
    if (count == 0) return CUDA_SUCCESS;
    if (!usable(to, count * sizeof(T), stream) || to % sizeof(T)) return CUDA_ERROR_INVALID_VALUE;
    return submit(stream, [=] { std::fill_n(reinterpret_cast<T*>(to), count, value); }, CU_GRAPH_NODE_TYPE_MEMSET);
}

// Frees what is not a graph's; of that, ends the life of what is left of a launch.
static CUresult release_now(CUdeviceptr pointer) {
    Memory* memory = memory_from(pointer);
    if (!memory || memory->owner == Owner::Host || !memory->there) return CUDA_ERROR_INVALID_VALUE;
    if (memory->owner != Owner::Graph) return release(pointer);
    set_there(pointer, false);
    return CUDA_SUCCESS;
}

}  // namespace emulated

using namespace emulated;

extern "C" {

CUresult cuMemAlloc(CUdeviceptr* pointer, size_t size) {
    DRIVER_CALL;
    CUresult error = not_while_capturing();
    return error ? error : allocate(pointer, size, Owner::Device);
}

CUresult cuMemFree(CUdeviceptr pointer) {
    DRIVER_CALL;
    if (!pointer) return CUDA_SUCCESS;
    CUresult error = not_while_capturing();
    return error ? error : release_now(pointer);
}

CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t size, CUstream stream) {
    DRIVER_CALL;
    Capture* capture = stream_of(stream)->capture;
    if (!capture) return allocate(pointer, size, Owner::Pool);
    if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (size == 0) return *pointer = 0, CUDA_SUCCESS;
    if (CUresult error = allocate(pointer, size, Owner::Graph)) return invalidate(capture, error);
    auto memory = std::make_shared<GraphMemory>();
    memory->pointer = *pointer;
    capture->graph->memory.push_back(memory);
    return submit(stream, [at = *pointer] { set_there(at, true); }, CU_GRAPH_NODE_TYPE_MEM_ALLOC);
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
    DRIVER_CALL;
    if (!pointer) return CUDA_SUCCESS;
    Capture* capture = stream_of(stream)->capture;
    if (!capture) return release_now(pointer);
    if (!capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    Memory* memory = memory_from(pointer);
    if (!memory || memory->owner != Owner::Graph) return invalidate(capture, CUDA_ERROR_INVALID_VALUE);
    bool own = false;
    for (auto& candidate : capture->graph->memory) {
        if (candidate->pointer != pointer) continue;
        if (candidate->freed_inside) return invalidate(capture, CUDA_ERROR_INVALID_VALUE);
        own = candidate->freed_inside = true;
    }
    if (!own) capture->graph->frees_of_others = true;
    return submit(stream, [=] { set_there(pointer, false); }, CU_GRAPH_NODE_TYPE_MEM_FREE);
}

CUresult cuMemHostAlloc(void** pointer, size_t size, unsigned) {
    DRIVER_CALL;
    CUresult error = not_while_capturing();
    return error ? error : allocate(reinterpret_cast<CUdeviceptr*>(pointer), size, Owner::Host);
}

CUresult cuMemFreeHost(void* pointer) {
    DRIVER_CALL;
    Memory* memory = memory_from(reinterpret_cast<CUdeviceptr>(pointer));
    if (!memory || memory->owner != Owner::Host) return CUDA_ERROR_INVALID_VALUE;
    CUresult error = not_while_capturing();
    return error ? error : release(reinterpret_cast<CUdeviceptr>(pointer));
}

CUresult cuMemGetInfo(size_t* free, size_t* all) {
    DRIVER_CALL;
    *all = total();
    *free = total() - plain.reserved - pool.reserved - graphs.reserved;
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    DRIVER_CALL;
    return copy(to, reinterpret_cast<CUdeviceptr>(from), bytes, stream, true, false);
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    DRIVER_CALL;
    return copy(reinterpret_cast<CUdeviceptr>(to), from, bytes, stream, false, true);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    DRIVER_CALL;
    return copy(to, from, bytes, stream, false, false);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t bytes, CUstream stream) {
    return cuMemcpyDtoDAsync(to, from, bytes, stream);
}
CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    DRIVER_CALL;
    CUresult error = legacy_stream_call();
    return error ? error : cuMemcpyHtoDAsync(to, from, bytes, CU_STREAM_LEGACY);
}
CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    DRIVER_CALL;
    CUresult error = legacy_stream_call();
    return error ? error : cuMemcpyDtoHAsync(to, from, bytes, CU_STREAM_LEGACY);
}
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    DRIVER_CALL;
    CUresult error = legacy_stream_call();
    return error ? error : cuMemcpyDtoDAsync(to, from, bytes, CU_STREAM_LEGACY);
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    DRIVER_CALL;
    return fill(to, value, count, stream);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    DRIVER_CALL;
    return fill(to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    DRIVER_CALL;
    return fill(to, value, count, stream);
}
CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) {
    DRIVER_CALL;
    CUresult error = legacy_stream_call();
    return error ? error : fill(to, value, count, CU_STREAM_LEGACY);
}

// One pool, whose handle is any address.
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* handle, CUdevice) {
    *handle = reinterpret_cast<CUmemoryPool>(&pool);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(CUmemoryPool* handle, CUdevice device) { return cuDeviceGetDefaultMemPool(handle, device); }

CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    DRIVER_CALL;
    cuuint64_t& result = *static_cast<cuuint64_t*>(value);
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: result = release_threshold; break;
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: result = pool.used; break;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: result = pool.high; break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: result = pool.reserved; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    DRIVER_CALL;
    cuuint64_t wanted = *static_cast<cuuint64_t*>(value);
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: release_threshold = wanted; break;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            if (wanted != 0) return CUDA_ERROR_INVALID_VALUE;
            pool.high = pool.used;
            break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool, size_t least) {
    DRIVER_CALL;
    pool.reserved = std::max(pool.used, std::min(pool.reserved, least));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice) {
    DRIVER_CALL;
    graphs.reserved = graphs.used;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice, CUgraphMem_attribute attribute, void* value) {
    DRIVER_CALL;
    cuuint64_t& result = *static_cast<cuuint64_t*>(value);
    switch (attribute) {
        case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT: result = graphs.used; break;
        case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH: result = graphs.high; break;
        case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT: result = graphs.reserved; break;
        default: return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice, CUgraphMem_attribute attribute, void* value) {
    DRIVER_CALL;
    if (attribute != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || *static_cast<cuuint64_t*>(value) != 0) return CUDA_ERROR_INVALID_VALUE;
    graphs.high = graphs.used;
    return CUDA_SUCCESS;
}

}  // extern "C"
