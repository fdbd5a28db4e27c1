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

// A row of x in the registers of a warp: each lane holds up to `HELD` groups of 16 bytes.
template <typename T, int HELD> struct Row {
    static constexpr int COUNT = Wide<T>::COUNT;
    typename Wide<T>::Type held[HELD];
    int channels, lane;

    __device__ __forceinline__ Row(const T* x, int channels) : channels(channels), lane(threadIdx.x % 32) {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) < channels) held[k] = *reinterpret_cast<const typename Wide<T>::Type*>(x + at(k));
        }
    }

    __device__ __forceinline__ int at(int k) const { return (k * 32 + lane) * COUNT; }

    // The sum of `f` over all elements.
    template <typename F> __device__ __forceinline__ float sum(F f) const {
        float sum = 0;
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) >= channels) break;
#pragma unroll
            for (int j = 0; j < COUNT; j++) sum += f(to_f32(held[k].at[j]));
        }
        return warp_sum(sum);
    }

    // Keeps what `f(i, x)` leaves of elements i..
    template <typename F> __device__ __forceinline__ void map(F f) {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) >= channels) break;
            float value[COUNT];
#pragma unroll
            for (int j = 0; j < COUNT; j++) value[j] = to_f32(held[k].at[j]);
            f(at(k), value);
#pragma unroll
            for (int j = 0; j < COUNT; j++) held[k].at[j] = from_f32<T>(value[j]);
        }
    }

    __device__ __forceinline__ void write(T* out) const {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) < channels) *reinterpret_cast<typename Wide<T>::Type*>(out + at(k)) = held[k];
        }
    }

    // Writes the row in 8 bits and its scale: the same bits as `quantise_rows` writes.
    template <bool WHOLE> __device__ __forceinline__ void write_quantised(uint8_t* out, float* scale) const {
        float most = 0;
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) >= channels) break;
#pragma unroll
            for (int j = 0; j < COUNT; j++) most = fmaxf(most, fabsf(to_f32(held[k].at[j])));
        }
        most = warp_max(most);
        if (lane == 0) *scale = most / Eight<WHOLE>::LARGEST;
        float units = most > 0 ? Eight<WHOLE>::LARGEST / most : 0.0f;
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            if (at(k) >= channels) break;
            Vec<uint8_t, COUNT> quantised;
#pragma unroll
            for (int j = 0; j < COUNT; j++) quantised.at[j] = Eight<WHOLE>::of(to_f32(held[k].at[j]) * units);
            *reinterpret_cast<Vec<uint8_t, COUNT>*>(out + at(k)) = quantised;
        }
    }
};

// The row of this warp.
__device__ __forceinline__ int64_t warp_row() { return blockIdx.x * int64_t(blockDim.x / 32) + threadIdx.x / 32; }

// Layer norm of each row, or RMS norm, which keeps its mean, then `· weight + bias` or `· (1 + scale) + shift`; `write(row, values)`
// takes the results.
template <typename T, int HELD, typename Write>
__device__ void layer_norm(const T* x, Write write, const float* weight, const float* bias, Broadcast shift, Broadcast scale, int64_t rows,
                           int tokens, int channels, int keeps_mean, float eps) {
    constexpr int COUNT = Wide<T>::COUNT;
    int64_t row = warp_row();
    if (row >= rows) return;
    Row<T, HELD> values(x + row * channels, channels);
    float mean = keeps_mean ? 0.0f : values.sum([](float v) { return v; }) / channels;
    float variance = values.sum([mean](float v) { return (v - mean) * (v - mean); }) / channels;
    float factor = rsqrtf(variance + eps);
    const float* shift_row = shift.data ? shift.row(row, tokens, channels) : nullptr;
    const float* scale_row = shift.data ? scale.row(row, tokens, channels) : nullptr;
    values.map([&](int at, float(&value)[COUNT]) {
        Vec<float, COUNT> times, plus;
        if (shift_row) times = parameters<COUNT>(scale_row + at), plus = parameters<COUNT>(shift_row + at);
        if (weight) times = parameters<COUNT>(weight + at);
        if (bias) plus = parameters<COUNT>(bias + at);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            float v = (value[j] - mean) * factor;
            if (weight) v *= times.at[j];
            if (bias) v += plus.at[j];
            if (shift_row) v = v * (1.0f + times.at[j]) + plus.at[j];
            value[j] = v;
        }
    });
    write(row, values);
}

// RMS norm of each row of x [B·L, N·D] where there is a weight, then rotation of pairs by angles [L, D / 2] where there
// are any; D, the width, is a multiple of 8.
template <typename T, int HELD>
__device__ void rms_norm_rope(const T* x, T* out, const float* weight, const float* cosines, const float* sines, int64_t rows, int tokens,
                              int channels, int width, float eps) {
    constexpr int COUNT = Wide<T>::COUNT;
    int64_t row = warp_row();
    if (row >= rows) return;
    Row<T, HELD> values(x + row * channels, channels);
    float factor = 1;
    if (weight) factor = rsqrtf(values.sum([](float v) { return v * v; }) / channels + eps);
    int64_t angles = row % tokens * (width / 2);
    values.map([&](int at, float(&value)[COUNT]) {
        if (weight) {
            auto times = parameters<COUNT>(weight + at);
#pragma unroll
            for (int j = 0; j < COUNT; j++) value[j] *= factor * times.at[j];
        }
        if (!cosines) return;
        // Pairs of one group lie in one head, whose width is a multiple of the group's.
        int64_t pair = angles + at % width / 2;
        auto cos = parameters<COUNT / 2>(cosines + pair), sin = parameters<COUNT / 2>(sines + pair);
#pragma unroll
        for (int j = 0; j < COUNT; j += 2) {
            float c = cos.at[j / 2], s = sin.at[j / 2], even = value[j], odd = value[j + 1];
            value[j] = even * c - odd * s;
            value[j + 1] = even * s + odd * c;
        }
    });
    values.write(out + row * channels);
}

// RMS norm of each row of x [B·L, N·D], then the rotation of the first half of each head with its second by angles [L, N·D / 2];
// D / 2, half the width, is a multiple of 8.
template <typename T, int HELD>
__device__ void rms_norm_rope_split(const T* x, T* out, const float* weight, const float* cosines, const float* sines, int64_t rows,
                                    int tokens, int channels, int width, float eps) {
    constexpr int COUNT = Wide<T>::COUNT;
    int64_t row = warp_row();
    if (row >= rows) return;
    x += row * channels;
    Row<T, HELD> values(x, channels);
    float factor = rsqrtf(values.sum([](float v) { return v * v; }) / channels + eps);
    int64_t angles = row % tokens * (channels / 2);
    int half = width / 2;
    values.map([&](int at, float(&value)[COUNT]) {
        int within = at % width;
        bool second = within >= half;
        int other = second ? at - half : at + half;
        // A group lies in one half of a head; what it is rotated with is read again.
        auto with = *reinterpret_cast<const typename Wide<T>::Type*>(x + other);
        auto times = parameters<COUNT>(weight + at), times_with = parameters<COUNT>(weight + other);
        int64_t pair = angles + at / width * half + (second ? within - half : within);
        auto cos = parameters<COUNT>(cosines + pair), sin = parameters<COUNT>(sines + pair);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            float v = value[j] * (factor * times.at[j]), w = to_f32(with.at[j]) * (factor * times_with.at[j]);
            value[j] = second ? v * cos.at[j] + w * sin.at[j] : v * cos.at[j] - w * sin.at[j];
        }
    });
    values.write(out + row * channels);
}

// x / max(‖x‖, 1e-12) · √C · gamma over the channels of each position, then SiLU if asked for. `lanes` of a warp, a power of
// two, take a position.
template <typename T>
__device__ void channel_rms_norm(const T* x, T* out, const float* gamma, int64_t rows, int channels, int lanes, bool activate) {
    constexpr int COUNT = Wide<T>::COUNT;
    constexpr int HELD = 4;  // groups that a lane keeps in registers
    int64_t row = (blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / lanes;
    int lane = threadIdx.x % lanes;
    bool there = row < rows;
    x += row * channels;
    out += row * channels;
    typename Wide<T>::Type held[HELD];
    float sum = 0;
    if (there) {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            int i = (k * lanes + lane) * COUNT;
            if (i >= channels) break;
            held[k] = *reinterpret_cast<const typename Wide<T>::Type*>(x + i);
#pragma unroll
            for (int j = 0; j < COUNT; j++) sum += to_f32(held[k].at[j]) * to_f32(held[k].at[j]);
        }
        for (int i = (HELD * lanes + lane) * COUNT; i < channels; i += lanes * COUNT)
            for (int j = 0; j < COUNT; j++) sum += to_f32(x[i + j]) * to_f32(x[i + j]);
    }
    for (int offset = lanes / 2; offset; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (!there) return;
    float factor = sqrtf(float(channels)) / fmaxf(sqrtf(sum), 1e-12f);
    auto result = [&](float gamma, float v) {
        v *= factor * gamma;
        return from_f32<T>(activate ? silu(v) : v);
    };
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int i = (k * lanes + lane) * COUNT;
        if (i >= channels) break;
        auto gammas = parameters<COUNT>(gamma + i);
#pragma unroll
        for (int j = 0; j < COUNT; j++) held[k].at[j] = result(gammas.at[j], to_f32(held[k].at[j]));
        *reinterpret_cast<typename Wide<T>::Type*>(out + i) = held[k];
    }
    for (int i = (HELD * lanes + lane) * COUNT; i < channels; i += lanes * COUNT)
        for (int j = 0; j < COUNT; j++) out[i + j] = result(gamma[i + j], to_f32(x[i + j]));
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
    constexpr int COUNT = Wide<T>::COUNT;
    int64_t row = blockIdx.x;
    const float* shift_row = y ? nullptr : shift.row(row, tokens, channels);
    const float* scale_row = scale.row(row, tokens, channels);
    const T* other = y + row * channels;
    for (int i = threadIdx.x * COUNT; i < channels; i += blockDim.x * COUNT) {
        auto value = *reinterpret_cast<const typename Wide<T>::Type*>(x + row * channels + i);
        typename Wide<T>::Type second;
        Vec<float, COUNT> times = parameters<COUNT>(scale_row + i), plus;
        if (y) second = *reinterpret_cast<const typename Wide<T>::Type*>(other + i);
        else plus = parameters<COUNT>(shift_row + i);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            float v = to_f32(value.at[j]);
            if (y) v += to_f32(second.at[j]) * times.at[j];
            else v = v * (1.0f + times.at[j]) + plus.at[j];
            value.at[j] = from_f32<T>(v);
        }
        *reinterpret_cast<typename Wide<T>::Type*>(out + row * channels + i) = value;
    }
}

// y · 2 · sigmoid(gate), one gate for each `width` elements. A thread takes 16 bytes.
template <typename T> __device__ void gate_heads(const T* y, const T* gates, T* out, int64_t groups, int width) {
    constexpr int COUNT = Wide<T>::COUNT;
    for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < groups; i += int64_t(gridDim.x) * blockDim.x) {
        float gate = 2.0f / (1.0f + expf(-to_f32(gates[i * COUNT / width])));
        auto value = *reinterpret_cast<const typename Wide<T>::Type*>(y + i * COUNT);
#pragma unroll
        for (int j = 0; j < COUNT; j++) value.at[j] = from_f32<T>(to_f32(value.at[j]) * gate);
        *reinterpret_cast<typename Wide<T>::Type*>(out + i * COUNT) = value;
    }
}

// Channels of x [.., W, C] that become positions [.., W · side, outputs]; rows of the result are `side` times those of x. A
// thread takes 16 bytes of the result.
template <typename T>
__device__ void repeat_channels(const T* x, T* out, int64_t groups, int width, int channels, int outputs, int frames, int side, int index) {
    constexpr int COUNT = Wide<T>::COUNT;
    int repeats = outputs * frames * side * side / channels;
    for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < groups; i += int64_t(gridDim.x) * blockDim.x) {
        int first = int(i % (outputs / COUNT)) * COUNT;
        int64_t position = i / (outputs / COUNT);
        int column = int(position % (width * side));
        int64_t row = position / (width * side);
        const T* from = x + ((row / side) * width + column / side) * channels;
        Vec<T, COUNT> group;
#pragma unroll
        for (int j = 0; j < COUNT; j++)
            group.at[j] = from[((((first + j) * frames + index) * side + int(row % side)) * side + column % side) / repeats];
        *reinterpret_cast<Vec<T, COUNT>*>(out + i * COUNT) = group;
    }
}

#define ROUNDED(T, HELD, NAME, WHOLE)                                                                                                    \
    extern "C" __global__ void layer_norm_##NAME##_##HELD##_##T(                                                                         \
        const T* x, uint8_t* out, float* scales, const float* weight, const float* bias, const float* shift, int shift_item,             \
        int shift_token, const float* scale, int scale_item, int scale_token, int64_t rows, int tokens, int channels,                    \
        int keeps_mean, float eps) {                                                                                                     \
        auto write = [&](int64_t row, const Row<T, HELD>& values) {                                                                      \
            values.template write_quantised<WHOLE>(out + row * channels, scales + row);                                                    \
        };                                                                                                                               \
        layer_norm<T, HELD>(x, write, weight, bias, {shift, shift_item, shift_token}, {scale, scale_item, scale_token}, rows, tokens,    \
                            channels, keeps_mean, eps);                                                                                  \
    }
#define ROWS(T, HELD)                                                                                                                    \
    extern "C" __global__ void layer_norm_##HELD##_##T(const T* x, T* out, const float* weight, const float* bias, const float* shift,   \
                                                       int shift_item, int shift_token, const float* scale, int scale_item,              \
                                                       int scale_token, int64_t rows, int tokens, int channels,                          \
                                                       int keeps_mean, float eps) {                                                      \
        auto write = [&](int64_t row, const Row<T, HELD>& values) { values.write(out + row * channels); };                               \
        layer_norm<T, HELD>(x, write, weight, bias, {shift, shift_item, shift_token}, {scale, scale_item, scale_token}, rows, tokens,    \
                            channels, keeps_mean, eps);                                                                                  \
    }                                                                                                                                    \
    ROUNDED(T, HELD, e4m3, false)                                                                                                        \
    ROUNDED(T, HELD, int8, true)                                                                                                         \
    extern "C" __global__ void rms_norm_rope_##HELD##_##T(const T* x, T* out, const float* weight, const float* cosines,                 \
                                                          const float* sines, int64_t rows, int tokens, int channels, int width,         \
                                                          float eps) {                                                                   \
        rms_norm_rope<T, HELD>(x, out, weight, cosines, sines, rows, tokens, channels, width, eps);                                      \
    }                                                                                                                                    \
    extern "C" __global__ void rms_norm_rope_split_##HELD##_##T(const T* x, T* out, const float* weight, const float* cosines,           \
                                                                const float* sines, int64_t rows, int tokens, int channels,              \
                                                                int width, float eps) {                                                  \
        rms_norm_rope_split<T, HELD>(x, out, weight, cosines, sines, rows, tokens, channels, width, eps);                                \
    }
#define KERNELS(T)                                                                                                                       \
    ROWS(T, 2)                                                                                                                           \
    ROWS(T, 6)                                                                                                                           \
    ROWS(T, 12)                                                                                                                          \
    ROWS(T, 20)                                                                                                                          \
    ROWS(T, 40)                                                                                                                          \
    extern "C" __global__ void channel_rms_norm_##T(const T* x, T* out, const float* gamma, int64_t rows, int channels, int lanes,       \
                                                    int activate) {                                                                      \
        channel_rms_norm<T>(x, out, gamma, rows, channels, lanes, activate);                                                             \
    }                                                                                                                                    \
    extern "C" __global__ void activate_##T(const T* x, T* out, int64_t count, int kind) { activate<T>(x, out, count, kind); }           \
    extern "C" __global__ void gate_heads_##T(const T* y, const T* gates, T* out, int64_t groups, int width) {                           \
        gate_heads<T>(y, gates, out, groups, width);                                                                                     \
    }                                                                                                                                    \
    extern "C" __global__ void repeat_channels_##T(const T* x, T* out, int64_t groups, int width, int channels, int outputs, int frames, \
                                                   int side, int index) {                                                                \
        repeat_channels<T>(x, out, groups, width, channels, outputs, frames, side, index);                                               \
    }                                                                                                                                    \
    extern "C" __global__ void modulate_##T(const T* x, const T* y, T* out, const float* shift, int shift_item, int shift_token,         \
                                            const float* scale, int scale_item, int scale_token, int tokens, int channels) {             \
        modulate<T>(x, y, out, {shift, shift_item, shift_token}, {scale, scale_item, scale_token}, tokens, channels);                    \
    }
KERNELS(float)
KERNELS(bf16)
KERNELS(half)
