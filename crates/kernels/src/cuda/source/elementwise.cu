// Norms, rotary embedding, modulation and activations: one pass over memory each, arithmetic in f32.
#include "common.cuh"

// An operand [1|B, 1|L, C] over the rows of x [B, L, C]: how many rows of it an item and a token are worth.
struct Broadcast {
    const float* data;
    int per_item, per_token;
    __device__ const float* row(int64_t row, int tokens, int channels) const {
        return data + (row / tokens * per_item + row % tokens * per_token) * channels;
    }
};

template <typename T> struct Wide {
    static constexpr int COUNT = 16 / sizeof(T);
    using Type = Vec<T, COUNT>;
};

// Applies `f(i, x)` to elements i.. of a row in groups of 16 bytes, and writes what it leaves.
template <typename T, typename F> __device__ __forceinline__ void map_row(const T* x, T* out, int channels, F f) {
    constexpr int COUNT = Wide<T>::COUNT;
    for (int i = threadIdx.x * COUNT; i < channels; i += blockDim.x * COUNT) {
        auto in = *reinterpret_cast<const typename Wide<T>::Type*>(x + i);
        float value[COUNT];
#pragma unroll
        for (int j = 0; j < COUNT; j++) value[j] = to_f32(in.at[j]);
        f(i, value);
#pragma unroll
        for (int j = 0; j < COUNT; j++) in.at[j] = from_f32<T>(value[j]);
        *reinterpret_cast<typename Wide<T>::Type*>(out + i) = in;
    }
}

template <typename T, typename F> __device__ __forceinline__ float sum_row(const T* x, int channels, float* shared, F f) {
    constexpr int COUNT = Wide<T>::COUNT;
    float sum = 0;
    for (int i = threadIdx.x * COUNT; i < channels; i += blockDim.x * COUNT) {
        auto in = *reinterpret_cast<const typename Wide<T>::Type*>(x + i);
#pragma unroll
        for (int j = 0; j < COUNT; j++) sum += f(to_f32(in.at[j]));
    }
    return block_sum(sum, shared);
}

// Layer norm of each row, then `· weight + bias` or `· (1 + scale) + shift`.
template <typename T>
__device__ void layer_norm(const T* x, T* out, const float* weight, const float* bias, Broadcast shift, Broadcast scale, int tokens,
                           int channels, float eps) {
    __shared__ float shared[33];
    int64_t row = blockIdx.x;
    x += row * channels;
    out += row * channels;
    float mean = sum_row(x, channels, shared, [](float v) { return v; }) / channels;
    float variance = sum_row(x, channels, shared, [mean](float v) { return (v - mean) * (v - mean); }) / channels;
    float factor = rsqrtf(variance + eps);
    const float* shift_row = shift.data ? shift.row(row, tokens, channels) : nullptr;
    const float* scale_row = shift.data ? scale.row(row, tokens, channels) : nullptr;
    map_row(x, out, channels, [&](int at, float(&value)[Wide<T>::COUNT]) {
#pragma unroll
        for (int j = 0; j < Wide<T>::COUNT; j++) {
            float v = (value[j] - mean) * factor;
            if (weight) v *= weight[at + j];
            if (bias) v += bias[at + j];
            if (shift_row) v = v * (1.0f + scale_row[at + j]) + shift_row[at + j];
            value[j] = v;
        }
    });
}

// RMS norm of each row of x [B·L, N·D] where there is a weight, then rotation of pairs by angles [L, D / 2] where there
// are any.
template <typename T>
__device__ void rms_norm_rope(const T* x, T* out, const float* weight, const float* cosines, const float* sines, int tokens, int channels,
                              int width, float eps) {
    __shared__ float shared[33];
    int64_t row = blockIdx.x;
    x += row * channels;
    out += row * channels;
    float factor = 1;
    if (weight) factor = rsqrtf(sum_row(x, channels, shared, [](float v) { return v * v; }) / channels + eps);
    int64_t angles = row % tokens * (width / 2);
    map_row(x, out, channels, [&](int at, float(&value)[Wide<T>::COUNT]) {
#pragma unroll
        for (int j = 0; j < Wide<T>::COUNT; j++) value[j] *= weight ? factor * weight[at + j] : 1.0f;
        if (!cosines) return;
#pragma unroll
        for (int j = 0; j < Wide<T>::COUNT; j += 2) {
            int64_t pair = angles + (at + j) % width / 2;
            float c = cosines[pair], s = sines[pair], even = value[j], odd = value[j + 1];
            value[j] = even * c - odd * s;
            value[j + 1] = even * s + odd * c;
        }
    });
}

// x / max(‖x‖, 1e-12) · √C · gamma over the channels of each position, then SiLU if asked for. A warp takes a position.
template <typename T> __device__ void channel_rms_norm(const T* x, T* out, const float* gamma, int64_t rows, int channels, bool activate) {
    constexpr int COUNT = Wide<T>::COUNT;
    constexpr int HELD = 4;  // groups that a lane keeps in registers
    int64_t row = blockIdx.x * int64_t(blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32;
    x += row * channels;
    out += row * channels;
    typename Wide<T>::Type held[HELD];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int i = (k * 32 + lane) * COUNT;
        if (i >= channels) break;
        held[k] = *reinterpret_cast<const typename Wide<T>::Type*>(x + i);
#pragma unroll
        for (int j = 0; j < COUNT; j++) sum += to_f32(held[k].at[j]) * to_f32(held[k].at[j]);
    }
    for (int i = (HELD * 32 + lane) * COUNT; i < channels; i += 32 * COUNT)
        for (int j = 0; j < COUNT; j++) sum += to_f32(x[i + j]) * to_f32(x[i + j]);
    float factor = sqrtf(float(channels)) / fmaxf(sqrtf(warp_sum(sum)), 1e-12f);
    auto result = [&](int at, float v) {
        v *= factor * gamma[at];
        return from_f32<T>(activate ? silu(v) : v);
    };
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int i = (k * 32 + lane) * COUNT;
        if (i >= channels) break;
#pragma unroll
        for (int j = 0; j < COUNT; j++) held[k].at[j] = result(i + j, to_f32(held[k].at[j]));
        *reinterpret_cast<typename Wide<T>::Type*>(out + i) = held[k];
    }
    for (int i = (HELD * 32 + lane) * COUNT; i < channels; i += 32 * COUNT)
        for (int j = 0; j < COUNT; j++) out[i + j] = result(i + j, to_f32(x[i + j]));
}

// 0: SiLU, 1: GELU (tanh), 2: GELU (erf).
template <typename T> __device__ void activate(const T* x, T* out, int64_t count, int kind) {
    for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x) {
        float v = to_f32(x[i]);
        out[i] = from_f32<T>(kind == 0 ? silu(v) : kind == 1 ? gelu_tanh(v) : 0.5f * v * (1.0f + erff(v * 0.7071067811865476f)));
    }
}

// x · (1 + scale) + shift, or x + y · gate where there is a y.
template <typename T>
__device__ void modulate(const T* x, const T* y, T* out, Broadcast shift, Broadcast scale, int tokens, int channels) {
    int64_t row = blockIdx.x;
    const float* shift_row = y ? nullptr : shift.row(row, tokens, channels);
    const float* scale_row = scale.row(row, tokens, channels);
    const T* other = y + row * channels;
    map_row(x + row * channels, out + row * channels, channels, [&](int at, float(&value)[Wide<T>::COUNT]) {
#pragma unroll
        for (int j = 0; j < Wide<T>::COUNT; j++) {
            if (y) value[j] += to_f32(other[at + j]) * scale_row[at + j];
            else value[j] = value[j] * (1.0f + scale_row[at + j]) + shift_row[at + j];
        }
    });
}

#define KERNELS(T)                                                                                                                       \
    extern "C" __global__ void layer_norm_##T(const T* x, T* out, const float* weight, const float* bias, const float* shift,            \
                                              int shift_item, int shift_token, const float* scale, int scale_item, int scale_token,      \
                                              int tokens, int channels, float eps) {                                                     \
        layer_norm<T>(x, out, weight, bias, {shift, shift_item, shift_token}, {scale, scale_item, scale_token}, tokens, channels, eps);  \
    }                                                                                                                                    \
    extern "C" __global__ void rms_norm_rope_##T(const T* x, T* out, const float* weight, const float* cosines, const float* sines,      \
                                                 int tokens, int channels, int width, float eps) {                                       \
        rms_norm_rope<T>(x, out, weight, cosines, sines, tokens, channels, width, eps);                                                  \
    }                                                                                                                                    \
    extern "C" __global__ void channel_rms_norm_##T(const T* x, T* out, const float* gamma, int64_t rows, int channels, int activate) {  \
        channel_rms_norm<T>(x, out, gamma, rows, channels, activate);                                                                    \
    }                                                                                                                                    \
    extern "C" __global__ void activate_##T(const T* x, T* out, int64_t count, int kind) { activate<T>(x, out, count, kind); }           \
    extern "C" __global__ void modulate_##T(const T* x, const T* y, T* out, const float* shift, int shift_item, int shift_token,         \
                                            const float* scale, int scale_item, int scale_token, int tokens, int channels) {             \
        modulate<T>(x, y, out, {shift, shift_item, shift_token}, {scale, scale_item, scale_token}, tokens, channels);                    \
    }
KERNELS(float)
KERNELS(bf16)
KERNELS(half)
