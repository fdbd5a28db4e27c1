// The device, its context, modules and launches.
#include "driver.h"
#include "runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace emulated {

// What a module's function is to the driver: a kernel, and how much shared memory a launch may ask for.
struct Function {
    const Kernel* kernel;
    size_t shared = 48 << 10;
};

constexpr int MAJOR = 9, MINOR = 0;
constexpr size_t MOST_SHARED = 227 << 10;

static thread_local CUcontext current;
static int context;  // there is one, and this is where it is

}  // namespace emulated

using namespace emulated;

extern "C" {

// For functions that are not emulated: all of them call this.
int emulated_missing(const char* name) {
    static const bool trace = std::getenv("CUDA_EMULATOR_TRACE");
    if (trace) std::fprintf(stderr, "CUDA emulator: there is no %s\n", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
    *count = 1;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    std::snprintf(name, length, "Emulated GPU");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    size_t free;
    return cuMemGetInfo(&free, bytes);
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = MAJOR; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = MINOR; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 2; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 48 << 10; break;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = MOST_SHARED; break;
        default: return CUresult(emulated_missing("cuDeviceGetAttribute of that attribute"));
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice) {
    *handle = reinterpret_cast<CUcontext>(&context);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxDestroy(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext handle) {
    current = handle;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* handle) {
    *handle = current;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
    *device = 0;
    return current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuGetErrorName(CUresult error, const char** text) {
    static thread_local char name[32];
    std::snprintf(name, sizeof name, "CUDA error %d", int(error));
    *text = name;
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }

// Kernels are found by name alone: a module's image does not matter.
CUresult cuModuleLoadData(CUmodule* module, const void*) {
    DRIVER_CALL;
    *module = reinterpret_cast<CUmodule>(&context);
    return not_while_capturing();
}
CUresult cuModuleLoad(CUmodule* module, const char*) { return cuModuleLoadData(module, nullptr); }
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction* handle, CUmodule, const char* name) {
    DRIVER_CALL;
    static std::map<const Kernel*, Function> functions;
    const Kernel* kernel = find_kernel(name);
    if (!kernel) {
        emulated_missing(name);
        return CUDA_ERROR_NOT_FOUND;
    }
    Function& function = functions[kernel];
    function.kernel = kernel;
    *handle = reinterpret_cast<CUfunction>(&function);
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    DRIVER_CALL;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value < 0 || size_t(value) > MOST_SHARED) return CUDA_ERROR_INVALID_VALUE;
    reinterpret_cast<Function*>(handle)->shared = size_t(value);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    DRIVER_CALL;
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) *value = 1024;
    else if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) *value = int(reinterpret_cast<Function*>(handle)->shared);
    else return CUresult(emulated_missing("cuFuncGetAttribute of that attribute"));
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared, CUstream stream, void** arguments, void** extra) {
    DRIVER_CALL;
    const Function& function = *reinterpret_cast<Function*>(handle);
    dim3 grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    size_t threads = size_t(block_x) * block_y * block_z;
    if (!grid_x || !grid_y || !grid_z || grid_x > 0x7fffffff || grid_y > 65535 || grid_z > 65535) return CUDA_ERROR_INVALID_VALUE;
    if (!threads || threads > 1024 || block_z > 64 || shared > function.shared || extra) return CUDA_ERROR_INVALID_VALUE;
    if (!stream_of(stream)->capture) {
        return submit(stream, [&] { run_grid(*function.kernel, grid, block, shared, arguments); });
    }
    // The caller's arguments are gone when the graph runs.
    std::vector<std::vector<char>> copies;
    for (size_t i = 0; i < function.kernel->sizes.size(); i++) {
        const char* from = static_cast<const char*>(arguments[i]);
        copies.emplace_back(from, from + function.kernel->sizes[i]);
    }
    return submit(stream, [=, kernel = function.kernel] {
        std::vector<void*> pointers;
        for (const auto& copy : copies) pointers.push_back(const_cast<char*>(copy.data()));
        run_grid(*kernel, grid, block, shared, pointers.data());
    });
}

}  // extern "C"
