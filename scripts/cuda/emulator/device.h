// Stands before every source of kernels: the CUDA language as far as they use it, for a C++ compiler of the host.
//
// Include files come first, while nothing says that this is device code, so that the toolkit's give their versions for the
// host; afterwards a source that includes them again gets nothing.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <math.h>
#include <type_traits>

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <vector_functions.h>
#include <cuda/std/limits>

#include "runtime.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __launch_bounds__
#ifndef EMULATED_LISTING  // where kernels are listed by name, the word is what they are found by
#define __global__
#endif
#define __device__
#define __host__
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __CUDA_ARCH__ 900

extern thread_local __attribute__((tls_model("initial-exec"))) uint3 threadIdx, blockIdx;
extern thread_local __attribute__((tls_model("initial-exec"))) dim3 blockDim, gridDim;

inline void __syncthreads() { emulated::barrier(); }

namespace emulated {

inline void meet_only(void* const*) {}

// What a lane brings to a shuffle: its value, and whose it wants.
template <typename T> struct Shuffle {
    T value, result;
    unsigned from;
    static void compute(void* const operands[32]) {
        for (int lane = 0; lane < 32; lane++) {
            if (!operands[lane]) continue;
            auto& self = *static_cast<Shuffle*>(operands[lane]);
            const auto* other = static_cast<const Shuffle*>(operands[self.from]);
            if (other) self.result = other->value;
            else std::memset(static_cast<void*>(&self.result), 0xff, sizeof(T));  // undefined where that lane is not there
        }
    }
};

template <typename T> T shuffle(unsigned mask, T value, unsigned from) {
    Shuffle<T> operand{value, value, from};
    meet(Shuffle<T>::compute, &operand, mask);
    return operand.result;
}

inline unsigned lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32; }

}  // namespace emulated

inline void __syncwarp(unsigned mask = ~0u) { emulated::meet(emulated::meet_only, &mask, mask); }

template <typename T> T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    return emulated::shuffle(mask, value, (emulated::lane() & ~(width - 1)) | (from & (width - 1)));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    unsigned lane = emulated::lane(), from = lane ^ bits;
    return emulated::shuffle(mask, value, from / width == lane / width ? from : lane);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = emulated::lane();
    return emulated::shuffle(mask, value, lane % width + delta < unsigned(width) ? lane + delta : lane);
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    unsigned lane = emulated::lane();
    return emulated::shuffle(mask, value, lane % width >= delta ? lane - delta : lane);
}

// Through whatever cache, memory is memory.
template <typename T> T __ldg(const T* from) { return *from; }
template <typename T> T __ldcg(const T* from) { return *from; }
template <typename T> T __ldcs(const T* from) { return *from; }
template <typename T> void __stcs(T* to, T value) { *to = value; }

inline size_t __cvta_generic_to_shared(const void* pointer) { return emulated::shared_address(pointer); }

template <typename A, typename B> constexpr std::common_type_t<A, B> max(A a, B b) { return a > b ? a : b; }
template <typename A, typename B> constexpr std::common_type_t<A, B> min(A a, B b) { return a < b ? a : b; }

// Blocks run beside each other, so that these must be atomic indeed.
namespace emulated {

template <size_t SIZE> struct Bits;
template <> struct Bits<1> { using Type = uint8_t; };
template <> struct Bits<2> { using Type = uint16_t; };
template <> struct Bits<4> { using Type = uint32_t; };
template <> struct Bits<8> { using Type = uint64_t; };

// Replaces what is at `address` by `f` of it; what was there.
template <typename T, typename F> T atomically(T* address, F f) {
    using Word = typename Bits<sizeof(T)>::Type;
    Word* at = reinterpret_cast<Word*>(address);
    Word old = __atomic_load_n(at, __ATOMIC_RELAXED), wanted;
    T before;
    do {
        std::memcpy(static_cast<void*>(&before), &old, sizeof old);
        T after = f(before);
        std::memcpy(&wanted, &after, sizeof wanted);
    } while (!__atomic_compare_exchange_n(at, &old, wanted, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return before;
}

}  // namespace emulated

template <typename T> T atomicAdd(T* address, T value) {
    return emulated::atomically(address, [&](T old) { return T(old + value); });
}
template <typename T> T atomicMax(T* address, T value) {
    return emulated::atomically(address, [&](T old) { return old > value ? old : value; });
}
template <typename T> T atomicMin(T* address, T value) {
    return emulated::atomically(address, [&](T old) { return old < value ? old : value; });
}
template <typename T, typename U> T atomicMax(T* address, U value) { return atomicMax(address, T(value)); }
template <typename T, typename U> T atomicMin(T* address, U value) { return atomicMin(address, T(value)); }
template <typename T> T atomicCAS(T* address, T expected, T value) {
    return emulated::atomically(address, [&](T old) { return old == expected ? value : old; });
}

template <typename To, typename From> To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
inline float __int_as_float(int x) { return emulated_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulated_bits<int>(x); }
inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }
inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * M_SQRT1_2); }
inline float normcdff(float x) { return float(normcdf(double(x))); }
// The nearest whole number, the even one of two; the nearest there is outside of int's range, 0 for none.
inline int __float2int_rn(float x) {
    if (std::isnan(x)) return 0;
    return int(std::clamp<double>(std::nearbyint(x), INT32_MIN, INT32_MAX));
}

// Of 16 bits, as the device has them: in f32, rounded.
#define EMULATED_HALF(NAME, FUNCTION)                                                          \
    inline __half NAME(__half x) { return __float2half_rn(FUNCTION(__half2float(x))); }        \
    inline __nv_bfloat16 NAME(__nv_bfloat16 x) { return __float2bfloat16_rn(FUNCTION(__bfloat162float(x))); }
EMULATED_HALF(hsqrt, sqrtf)
EMULATED_HALF(hsin, sinf)
EMULATED_HALF(hcos, cosf)
EMULATED_HALF(hexp, expf)
EMULATED_HALF(hlog, logf)
#undef EMULATED_HALF

#include "ptx.h"
