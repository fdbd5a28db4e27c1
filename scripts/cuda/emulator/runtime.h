// What kernels and the driver share: how a grid of threads is run, and what a kernel looks like to a launch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <vector_types.h>

namespace emulated {

// One kernel: a function whose arguments are read from where `arguments` point, as cuLaunchKernel takes them.
struct Kernel {
    const char* name;
    void (*call)(void* const* arguments);
    std::vector<size_t> sizes;  // of the arguments in bytes
};

// Makes a kernel known by its name; every translation unit of kernels does it for its own when the library is loaded.
struct Register {
    explicit Register(Kernel kernel);
};
const Kernel* find_kernel(const std::string& name);

template <auto FUNCTION> struct Launchable;
template <typename... Arguments, void (*FUNCTION)(Arguments...)> struct Launchable<FUNCTION> {
    template <size_t... I> static void unpack(void* const* arguments, std::index_sequence<I...>) {
        FUNCTION(*static_cast<std::remove_cv_t<Arguments>*>(arguments[I])...);
    }
    static void call(void* const* arguments) { unpack(arguments, std::index_sequence_for<Arguments...>()); }
    static Kernel kernel(const char* name) { return {name, call, {sizeof(Arguments)...}}; }
};

// Runs all blocks, spread over the processors; returns when all are done.
void run_grid(const Kernel& kernel, dim3 grid, dim3 block, size_t shared, void* const* arguments);

// Calls `f(i)` for i below `count`, spread over the processors.
void parallel(size_t count, const std::function<void(size_t)>& f);

// What follows is for running threads only.

// Waits for all threads of the block that still run.
void barrier();

// Lanes of a warp meet: the last of those in `mask` that still run computes for all of them. `operands` has what each lane
// brought, null for those that are not there.
using Meeting = void (*)(void* const operands[32]);
void meet(Meeting compute, void* operand, uint32_t mask);

// The block's memory of the size that the launch asked for, and where 16 bytes of it lie by their shared address.
char* dynamic_shared();
uint32_t shared_address(const void* pointer);
void* shared_pointer(uint32_t address, size_t bytes);

// 16 bytes on their way to shared memory; they arrive when they are waited for, and not before.
void copy_later(uint32_t to, const void* from, bool there);
void commit_copies();
void wait_for_copies(size_t pending);

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emulated
