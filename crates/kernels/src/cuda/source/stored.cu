// Values of matrices as files store them (`kinora_formats::Matrix`): the same bits in f32, rounded once to the element of a product.
#include "common.cuh"

// As `stored.rs` numbers them.
enum Format { E4M3, E5M2, INT8, E2M1, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS };
enum ScaleFormat { NO_SCALES, F32_SCALES, E4M3_SCALES, E8M0_SCALES };

// Where the numbers of a matrix are, and what they mean.
struct Stored {
    const uint8_t* bytes;   // rows of `row_bytes`
    const uint8_t* scales;  // one for each `share` values of a row, times the one for all
    const float* whole;
    int64_t row_bytes;
    int columns, format, block_values, block_bytes, scale_format, share, rotation;
};

// The values that a thread takes at a time, from a multiple of their number on: they share the group of a block.
constexpr int RUN = 8;

__device__ const int8_t IQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

__device__ __forceinline__ float half_at(const uint8_t* bytes) {
    __half_raw raw;
    raw.x = static_cast<unsigned short>(bytes[0] | bytes[1] << 8);
    return to_f32(half(raw));
}

__device__ __forceinline__ float from_e4m3(uint8_t bits) { return to_f32(half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3))); }

__device__ __forceinline__ float from_e8m0(uint8_t bits) { return __uint_as_float(bits ? unsigned(bits) << 23 : 1u << 22); }

__device__ __forceinline__ float from_e2m1(int bits) {
    int exponent = bits >> 1 & 3, mantissa = bits & 1;
    int twice = exponent ? (2 + mantissa) << (exponent - 1) : mantissa;
    return (bits & 8 ? -0.5f : 0.5f) * twice;
}

// The scale and the offset of one of eight groups: six bits each, in twelve bytes.
__device__ __forceinline__ void k_scales(const uint8_t* block, int group, float& scale, float& offset) {
    const uint8_t* s = block + 4;
    int first, second;
    if (group < 4) {
        first = s[group] & 63, second = s[group + 4] & 63;
    } else {
        first = (s[group + 4] & 15) | s[group - 4] >> 6 << 4, second = s[group + 4] >> 4 | s[group] >> 6 << 4;
    }
    scale = half_at(block) * first;
    offset = -(half_at(block + 2) * second);
}

// Writes the values of a row of blocks from `column` on. `kinora_formats::Blocks` says the same of a whole block at a time.
__device__ __forceinline__ void block_values(const Stored& stored, const uint8_t* row, int column, float* values) {
    const uint8_t* block = row + column / stored.block_values * stored.block_bytes;
    int i = column % stored.block_values;
    float scale, offset = 0;
    int level[RUN];
    // Four bits of each: 16 bytes have 32 values, or 32 bytes 64, the first half of them in the low bits.
    auto nibbles = [&](const uint8_t* bytes, int half) {
        const uint8_t* from = bytes + i / (2 * half) * half + i % half;
        for (int j = 0; j < RUN; j++) level[j] = from[j] >> (i / half % 2 * 4) & 15;
    };
    // Two bits of each: 32 bytes have four runs of 32 values.
    auto pairs = [&](const uint8_t* bytes) {
        const uint8_t* from = bytes + i / 128 * 32 + i % 32;
        for (int j = 0; j < RUN; j++) level[j] = from[j] >> (i / 32 % 4 * 2) & 3;
    };
    // Another bit of each: bit `i` of a number of 32 bits.
    auto fifths = [&](const uint8_t* bytes) {
        for (int j = 0; j < RUN; j++) level[j] |= (bytes[i / 8] >> j & 1) << 4;
    };
    auto subtract = [&](int by) {
        for (int j = 0; j < RUN; j++) level[j] -= by;
    };
    auto look_up = [&] {
        for (int j = 0; j < RUN; j++) level[j] = IQ4[level[j]];
    };
    switch (stored.format) {
        case Q4_0:
            nibbles(block + 2, 16);
            subtract(8);
            scale = half_at(block);
            break;
        case Q4_1:
            nibbles(block + 4, 16);
            scale = half_at(block), offset = half_at(block + 2);
            break;
        case Q5_0:
            nibbles(block + 6, 16);
            fifths(block + 2);
            subtract(16);
            scale = half_at(block);
            break;
        case Q5_1:
            nibbles(block + 8, 16);
            fifths(block + 4);
            scale = half_at(block), offset = half_at(block + 2);
            break;
        case Q8_0:
            for (int j = 0; j < RUN; j++) level[j] = int8_t(block[2 + i + j]);
            scale = half_at(block);
            break;
        case Q2_K:
            pairs(block + 16);
            scale = half_at(block + 80) * (block[i / 16] & 15);
            offset = -(half_at(block + 82) * (block[i / 16] >> 4));
            break;
        case Q3_K: {
            pairs(block + 32);
            // The third bit is stored as whether 4 is not taken away.
            for (int j = 0; j < RUN; j++) level[j] -= (~block[i % 32 + j] >> (i / 32) & 1) << 2;
            int group = i / 16;
            const uint8_t* s = block + 96;
            int low = group < 8 ? s[group] & 15 : s[group - 8] >> 4, high = s[8 + group % 4] >> (2 * (group / 4)) & 3;
            scale = half_at(block + 108) * ((low | high << 4) - 32);
            break;
        }
        case Q4_K:
            nibbles(block + 16, 32);
            k_scales(block, i / 32, scale, offset);
            break;
        case Q5_K:
            nibbles(block + 48, 32);
            for (int j = 0; j < RUN; j++) level[j] |= (block[16 + i % 32 + j] >> (i / 32) & 1) << 4;
            k_scales(block, i / 32, scale, offset);
            break;
        case Q6_K: {
            // In each half of a block, 64 bytes have four bits of 128 values, the first 64 of them in the low bits.
            nibbles(block, 64);
            const uint8_t* high = block + 128 + i / 128 * 32 + i % 32;
            for (int j = 0; j < RUN; j++) level[j] |= (high[j] >> (i / 32 % 4 * 2) & 3) << 4;
            subtract(32);
            scale = half_at(block + 208) * int8_t(block[192 + i / 16]);
            break;
        }
        case IQ4_NL:
            nibbles(block + 2, 16);
            look_up();
            scale = half_at(block);
            break;
        default: {  // IQ4_XS
            nibbles(block + 8, 16);
            look_up();
            int group = i / 32, low = block[4 + group / 2] >> (4 * (group % 2)) & 15;
            int high = (block[2] | block[3] << 8) >> (2 * group) & 3;
            scale = half_at(block) * ((low | high << 4) - 32);
        }
    }
    // Products of scale and level are exact.
    for (int j = 0; j < RUN; j++) values[j] = scale * level[j] + offset;
}

__device__ __forceinline__ void stored_values(const Stored& stored, int64_t row, int column, float* values) {
    const uint8_t* bytes = stored.bytes + row * stored.row_bytes;
    if (stored.format >= Q4_0) {
        block_values(stored, bytes, column, values);
    } else {
        for (int j = 0; j < RUN; j++) {
            int at = column + j;
            switch (stored.format) {
                case E4M3: values[j] = from_e4m3(bytes[at]); break;
                case E5M2: values[j] = to_f32(half(__nv_cvt_fp8_to_halfraw(bytes[at], __NV_E5M2))); break;
                case INT8: values[j] = int8_t(bytes[at]); break;
                default: values[j] = from_e2m1(bytes[at / 2] >> (at % 2 ? 0 : 4));
            }
        }
    }
    int64_t at = row * ((stored.columns + stored.share - 1) / stored.share) + column / stored.share;
    float scale = *stored.whole;
    switch (stored.scale_format) {
        case F32_SCALES: scale *= reinterpret_cast<const float*>(stored.scales)[at]; break;
        case E4M3_SCALES: scale *= from_e4m3(stored.scales[at]); break;
        case E8M0_SCALES: scale *= from_e8m0(stored.scales[at]); break;
    }
    for (int j = 0; j < RUN; j++) values[j] *= scale;
}

// Writes rows of values from `first` on to out [rows, columns]. A block takes `chunk` columns of a row, which are whole groups of
// the rotation and meet in shared memory where there is one.
template <typename T> __device__ void dequantise(const Stored& stored, T* out, int64_t first, int chunk) {
    extern __shared__ float shared[];
    int start = blockIdx.y * chunk, count = min(chunk, stored.columns - start);
    out += int64_t(blockIdx.x) * stored.columns + start;
    for (int i = threadIdx.x * RUN; i < count; i += blockDim.x * RUN) {
        float values[RUN];
        stored_values(stored, first + blockIdx.x, start + i, values);
        Vec<T, RUN> rounded;
        for (int j = 0; j < RUN; j++) {
            if (stored.rotation > 1) shared[i + j] = values[j];
            rounded.at[j] = from_f32<T>(values[j]);
        }
        *reinterpret_cast<Vec<T, RUN>*>(out + i) = rounded;
    }
    if (stored.rotation == 1) return;
    // The sums of `kinora_formats::rotate`, in its order.
    for (int step = 1; step < stored.rotation; step *= 4) {
        __syncthreads();
        for (int i = threadIdx.x; i < count / 4; i += blockDim.x) {
            float* at = shared + i / step * 4 * step + i % step;
            float a = at[0], b = at[step], c = at[2 * step], d = at[3 * step], sum = (a + b) + (c + d);
            at[0] = sum - 2 * d, at[step] = sum - 2 * c, at[2 * step] = sum - 2 * b, at[3 * step] = sum - 2 * a;
        }
    }
    __syncthreads();
    float scale = 1 / sqrtf(float(stored.rotation));  // a power of two
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = from_f32<T>(shared[i] * scale);
}

#define DEQUANTISE(T)                                                                                                                \
    extern "C" __global__ void dequantise_##T(Stored stored, T* out, int64_t first, int chunk) {                                    \
        dequantise<T>(stored, out, first, chunk);                                                                                    \
    }
DEQUANTISE(float)
DEQUANTISE(bf16)
DEQUANTISE(half)
