// Shared by all kernels: element types, vector access, reductions.
#pragma once
#include <cstdint>
#include <type_traits>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

using bf16 = __nv_bfloat16;
using fp8 = __nv_fp8_storage_t;  // e4m3

constexpr float LOG2E = 1.4426950408889634f;

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_f32(half x) { return __half2float(x); }

template <typename T> __device__ __forceinline__ T from_f32(float x);
template <> __device__ __forceinline__ float from_f32(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_f32(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ half from_f32(float x) { return __float2half_rn(x); }

// Two elements in one register, the first in the low half.
template <typename T> __device__ __forceinline__ uint32_t pack2(float lo, float hi);
template <> __device__ __forceinline__ uint32_t pack2<bf16>(float lo, float hi) {
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<uint32_t*>(&v);
}
template <> __device__ __forceinline__ uint32_t pack2<half>(float lo, float hi) {
    __half2 v = __floats2half2_rn(lo, hi);
    return *reinterpret_cast<uint32_t*>(&v);
}

// `COUNT` elements that lie together, read and written at once.
template <typename T, int COUNT> struct alignas(sizeof(T) * COUNT) Vec {
    T at[COUNT];
};

// `COUNT` parameters from a multiple of 16 bytes on. Read one by one, lanes that are 32 bytes apart would take eight times as
// many cache lines.
template <int COUNT> __device__ __forceinline__ Vec<float, COUNT> parameters(const float* from) {
    static_assert(COUNT == 2 || COUNT % 4 == 0);
    using Part = typename std::conditional<COUNT == 2, float2, float4>::type;
    Vec<float, COUNT> all;
#pragma unroll
    for (int i = 0; i < COUNT; i += sizeof(Part) / sizeof(float))
        *reinterpret_cast<Part*>(all.at + i) = __ldg(reinterpret_cast<const Part*>(from + i));
    return all;
}

// Numbers of 8 bits: e4m3, or whole ones to 127.
template <bool WHOLE> struct Eight {
    static constexpr float LARGEST = WHOLE ? 127.0f : 448.0f;
    __device__ static __forceinline__ uint8_t of(float x) {
        if (WHOLE) return uint8_t(int8_t(max(-127, min(127, __float2int_rn(x)))));
        return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
    }
};

__device__ __forceinline__ float warp_sum(float x) {
    for (int offset = 16; offset; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int offset = 16; offset; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

// The most over all threads of a block of at most 1024; `shared` has 33 elements.
__device__ __forceinline__ float block_max(float x, float* shared) {
    x = warp_max(x);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    if (warp == 0) {
        float most = warp_max(lane < warps ? shared[lane] : -INFINITY);
        if (lane == 0) shared[32] = most;
    }
    __syncthreads();
    return shared[32];
}

// 2^x; results below the smallest normal number are zero.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ __half2 exp2_fast(__half2 x) {
    uint32_t y;
    asm("ex2.approx.f16x2 %0, %1;" : "=r"(y) : "r"(*reinterpret_cast<uint32_t*>(&x)));
    return *reinterpret_cast<__half2*>(&y);
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

// x / 2 · (1 + tanh(y)), in which the brackets are 2 / (1 + exp(-2 · y)): that keeps its digits where they are nearly zero, and
// takes a fraction of the instructions.
__device__ __forceinline__ float gelu_tanh(float x) {
    float y = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return __fdividef(x, 1.0f + __expf(-2.0f * y));
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
