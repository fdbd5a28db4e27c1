// The steps around cuBLASLt's products: quantisation to 8 bits, and the epilogues that the library lacks.
#include "common.cuh"

// Quantises rows of x [M, K], or their GELU, to 8 bits with a scale each. A block takes a row; a thread keeps `HELD` groups of
// 16 bytes of it in registers, and reads what is beyond them twice.
template <typename T, bool WHOLE>
__device__ void quantise_rows(const T* x, uint8_t* out, float* scales, int channels, bool gelu) {
    constexpr int COUNT = 16 / sizeof(T), HELD = 4;
    __shared__ float shared[33];
    int64_t row = blockIdx.x;
    x += row * channels;
    out += row * channels;
    float most = 0;
    auto read = [&](int i) {
        auto group = *reinterpret_cast<const Vec<T, COUNT>*>(x + i);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            if (gelu) group.at[j] = from_f32<T>(gelu_tanh(to_f32(group.at[j])));
            most = fmaxf(most, fabsf(to_f32(group.at[j])));
        }
        return group;
    };
    int step = blockDim.x * COUNT, first = threadIdx.x * COUNT;
    Vec<T, COUNT> held[HELD];
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        if (first + k * step < channels) held[k] = read(first + k * step);
    }
    for (int i = first + HELD * step; i < channels; i += step) read(i);
    most = block_max(most, shared);
    if (threadIdx.x == 0) scales[row] = most / Eight<WHOLE>::LARGEST;
    float units = most > 0 ? Eight<WHOLE>::LARGEST / most : 0.0f;
    auto write = [&](int i, const Vec<T, COUNT>& group) {
        Vec<uint8_t, COUNT> quantised;
#pragma unroll
        for (int j = 0; j < COUNT; j++) quantised.at[j] = Eight<WHOLE>::of(to_f32(group.at[j]) * units);
        *reinterpret_cast<Vec<uint8_t, COUNT>*>(out + i) = quantised;
    };
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        if (first + k * step < channels) write(first + k * step, held[k]);
    }
    for (int i = first + HELD * step; i < channels; i += step) write(i, read(i));
}

// out = epilogue(y · row scale · column scale + bias) over y [M, N]; `kind` is that of Epilogue. 0: nothing, 1: GELU, 2: SiLU,
// 3: · other, 4: + other, 5: other + · gate. A block takes a row, a thread eight columns.
template <typename Y, typename T>
__device__ void finish(const Y* y, T* out, const float* row_scales, const float* column_scales, const float* bias, const T* other,
                       const float* gate, int gate_item, int gate_token, int tokens, int columns, int kind) {
    int64_t row = blockIdx.x;
    float row_scale = row_scales ? row_scales[row] : 1.0f;
    const float* gates = gate + (row / tokens * gate_item + row % tokens * gate_token) * columns;
    for (int i = threadIdx.x * 8; i < columns; i += blockDim.x * 8) {
        auto in = *reinterpret_cast<const Vec<Y, 8>*>(y + row * columns + i);
        Vec<T, 8> second, result;
        Vec<float, 8> times, plus, gated;
        if (kind >= 3) second = *reinterpret_cast<const Vec<T, 8>*>(other + row * columns + i);
        if (row_scales) times = parameters<8>(column_scales + i);
        if (bias) plus = parameters<8>(bias + i);
        if (kind == 5) gated = parameters<8>(gates + i);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float v = float(in.at[j]);
            if (row_scales) v *= row_scale * times.at[j];
            if (bias) v += plus.at[j];
            if (kind == 1) v = gelu_tanh(v);
            else if (kind == 2) v = silu(v);
            else if (kind == 3) v *= to_f32(second.at[j]);
            else if (kind == 4) v += to_f32(second.at[j]);
            else if (kind == 5) v = to_f32(second.at[j]) + v * gated.at[j];
            result.at[j] = from_f32<T>(v);
        }
        *reinterpret_cast<Vec<T, 8>*>(out + row * columns + i) = result;
    }
}

#define FINISH(Y, T)                                                                                                                     \
    extern "C" __global__ void finish_##Y##_##T(const Y* y, T* out, const float* row_scales, const float* column_scales,                 \
                                                const float* bias, const T* other, const float* gate, int gate_item, int gate_token,     \
                                                int tokens, int columns, int kind) {                                                     \
        finish<Y, T>(y, out, row_scales, column_scales, bias, other, gate, gate_item, gate_token, tokens, columns, kind);                \
    }
#define QUANTISE(T)                                                                                                                         \
    extern "C" __global__ void quantise_rows_e4m3_##T(const T* x, uint8_t* out, float* scales, int channels, int gelu) {                    \
        quantise_rows<T, false>(x, out, scales, channels, gelu);                                                                            \
    }                                                                                                                                    \
    extern "C" __global__ void quantise_rows_int8_##T(const T* x, uint8_t* out, float* scales, int channels, int gelu) {                    \
        quantise_rows<T, true>(x, out, scales, channels, gelu);                                                                             \
    }
QUANTISE(float)
QUANTISE(bf16)
QUANTISE(half)
FINISH(int, float)
FINISH(int, bf16)
FINISH(int, half)
FINISH(float, float)
FINISH(bf16, bf16)
FINISH(bf16, float)
FINISH(bf16, half)
FINISH(half, half)
