// Packs the operands of attention on Hopper into tiles as shared memory holds them, in 16 bits or quantised to e4m3.
#pragma once
#include "hopper.cuh"

constexpr int KEYS = 128;  // keys of a tile
constexpr int PANEL = 64;  // 16-bit elements in 128 bytes

// The offset of part `part` (16 bytes) of row `row` in rows of 128 bytes, see matrix_descriptor.
__device__ __forceinline__ int exchanged(int row, int part) { return row * 128 + ((part ^ (row & 7)) << 4); }

// x [B, L, N, D] → [B·N, tiles, D / 64, rows, 64], rows past the last as zeros.
template <typename T> __device__ void pack_rows(const T* x, T* out, int length, int heads, int width, int rows, int tiles) {
    int panels = width / PANEL;
    int64_t parts = int64_t(tiles) * panels * rows * 8;
    int64_t index = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
    if (index >= parts) return;
    int part = index % 8;
    int row = index / 8 % rows;
    int panel = index / (8 * rows) % panels;
    int tile = index / (8 * rows * panels);
    int at = tile * rows + row;
    int batch = blockIdx.y / heads, head = blockIdx.y % heads;
    uint4 value = make_uint4(0, 0, 0, 0);
    if (at < length) {
        int64_t from = ((int64_t(batch) * length + at) * heads + head) * width + panel * PANEL + part * 8;
        value = *reinterpret_cast<const uint4*>(x + from);
    }
    char* base = reinterpret_cast<char*>(out) + (int64_t(blockIdx.y) * tiles * panels + int64_t(tile) * panels + panel) * rows * 128;
    *reinterpret_cast<uint4*>(base + exchanged(row, part)) = value;
}

// v [B, S, N, D] → [B·N, tiles, 2, D, 64]: columns as rows, 64 keys in each.
template <typename T> __device__ void pack_columns(const T* x, T* out, int length, int heads, int width, int tiles) {
    __shared__ T block[64][128 + 8];
    int batch = blockIdx.y / heads, head = blockIdx.y % heads;
    int first = blockIdx.x * 64;
    int parts = width / 8;
    for (int i = threadIdx.x; i < 64 * parts; i += blockDim.x) {
        int row = i / parts, part = i % parts;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (first + row < length) {
            int64_t from = ((int64_t(batch) * length + first + row) * heads + head) * width + part * 8;
            value = *reinterpret_cast<const uint4*>(x + from);
        }
        *reinterpret_cast<uint4*>(&block[row][part * 8]) = value;
    }
    __syncthreads();
    char* base = reinterpret_cast<char*>(out) + (int64_t(blockIdx.y) * tiles * 2 + blockIdx.x) * width * 128;
    for (int i = threadIdx.x; i < width * 8; i += blockDim.x) {
        int column = i % width, part = i / width;
        Vec<T, 8> value;
#pragma unroll
        for (int j = 0; j < 8; j++) value.at[j] = block[part * 8 + j][column];
        *reinterpret_cast<Vec<T, 8>*>(base + exchanged(column, part)) = value;
    }
}

// Sums of x [B, S, N, D] over parts of S, or largest magnitudes, in `out [B·N, parts, D]`. A block takes 32 columns.
template <typename T>
__device__ void reduce_rows(const T* x, float* out, int length, int heads, int width, int parts, bool largest) {
    __shared__ float lanes[8][33];
    int batch = blockIdx.y / heads, head = blockIdx.y % heads;
    int columns = width / 32, part = blockIdx.x / columns, lane = threadIdx.x / 32;
    int column = blockIdx.x % columns * 32 + threadIdx.x % 32;
    int rows = (length + parts - 1) / parts, end = min(length, (part + 1) * rows);
    float result = 0;
    for (int row = part * rows + lane; row < end; row += 8) {
        float value = to_f32(x[((int64_t(batch) * length + row) * heads + head) * width + column]);
        result = largest ? fmaxf(result, fabsf(value)) : result + value;
    }
    lanes[lane][threadIdx.x % 32] = result;
    __syncthreads();
    if (lane) return;
    for (int i = 1; i < 8; i++) result = largest ? fmaxf(result, lanes[i][threadIdx.x]) : result + lanes[i][threadIdx.x];
    out[(int64_t(blockIdx.y) * parts + part) * width + column] = result;
}

// The parts of `reduce_rows` as one, times `factor`, in `out [B·N, D]`.
extern "C" __global__ void reduce_parts(const float* x, float* out, int width, int parts, float factor, int largest) {
    int column = threadIdx.x;
    float result = 0;
    for (int part = 0; part < parts; part++) {
        float value = x[(int64_t(blockIdx.x) * parts + part) * width + column];
        result = largest ? fmaxf(result, value) : result + value;
    }
    out[blockIdx.x * width + column] = result * factor;
}

// x [B, L, N, 128] → e4m3 [B·N, tiles, rows, 128] and a scale per row. `mean` is subtracted if there is one: it adds
// the same to all scores of a query, which does not change the softmax. A warp takes a row, a block a tile; with `shared`, all
// rows of a tile share its scale.
template <typename T>
__device__ void pack_rows_fp8(const T* x, const float* mean, fp8* out, float* scales, int length, int heads, int rows, int tiles, bool shared) {
    __shared__ float buffer[33];
    int batch = blockIdx.y / heads, head = blockIdx.y % heads, tile = blockIdx.x;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    auto load = [&](int row, float (&value)[4]) {
        int at = tile * rows + row;
#pragma unroll
        for (int j = 0; j < 4; j++) value[j] = 0;
        if (at >= length) return;
        Vec<T, 4> v = *reinterpret_cast<const Vec<T, 4>*>(x + ((int64_t(batch) * length + at) * heads + head) * 128 + lane * 4);
#pragma unroll
        for (int j = 0; j < 4; j++) value[j] = to_f32(v.at[j]) - (mean ? mean[blockIdx.y * 128 + lane * 4 + j] : 0.0f);
    };
    float most = 0;
    if (shared) {
        for (int row = warp; row < rows; row += warps) {
            float value[4];
            load(row, value);
#pragma unroll
            for (int j = 0; j < 4; j++) most = fmaxf(most, fabsf(value[j]));
        }
        most = block_max(most, buffer);
        if (threadIdx.x == 0) scales[blockIdx.y * tiles + tile] = fmaxf(most, 1e-20f) / 448.0f;
    }
    for (int row = warp; row < rows; row += warps) {
        float value[4];
        load(row, value);
        if (!shared) {
            most = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) most = fmaxf(most, fabsf(value[j]));
            most = warp_max(most);
            if (lane == 0) scales[(int64_t(blockIdx.y) * tiles + tile) * rows + row] = fmaxf(most, 1e-20f) / 448.0f;
        }
        float units = 448.0f / fmaxf(most, 1e-20f);
        uint32_t packed = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) packed |= uint32_t(__nv_cvt_float_to_fp8(value[j] * units, __NV_SATFINITE, __NV_E4M3)) << (8 * j);
        char* base = reinterpret_cast<char*>(out) + (int64_t(blockIdx.y) * tiles + tile) * rows * 128;
        *reinterpret_cast<uint32_t*>(base + exchanged(row, lane / 4) + lane % 4 * 4) = packed;
    }
}

// v [B, S, N, 128] → e4m3 [B·N, tiles, 128, 128], columns as rows, each divided by its scale. In groups of 32, keys lie in
// the order in which a thread has their scores: see to_operand.
template <typename T>
__device__ void pack_columns_fp8(const T* x, const float* scales, fp8* out, int length, int heads, int tiles) {
    __shared__ T block[KEYS][128 + 8];
    int batch = blockIdx.y / heads, head = blockIdx.y % heads;
    int first = blockIdx.x * KEYS;
    for (int i = threadIdx.x; i < KEYS * 16; i += blockDim.x) {
        int row = i / 16, part = i % 16;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (first + row < length) value = *reinterpret_cast<const uint4*>(x + ((int64_t(batch) * length + first + row) * heads + head) * 128 + part * 8);
        *reinterpret_cast<uint4*>(&block[row][part * 8]) = value;
    }
    __syncthreads();
    char* base = reinterpret_cast<char*>(out) + (int64_t(blockIdx.y) * tiles + blockIdx.x) * 128 * KEYS;
    for (int i = threadIdx.x; i < 128 * 8; i += blockDim.x) {
        int column = i % 128, part = i / 128;
        float scale = scales[blockIdx.y * 128 + column], units = scale > 0 ? 1.0f / scale : 0.0f;
        Vec<fp8, 16> value;
#pragma unroll
        for (int j = 0; j < 16; j++) {
            // Place part · 16 + j, of which place % 32 is 16 · upper + 4 · thread + r.
            int upper = part % 2 * 16, thread = j / 4, r = j % 4;
            int key = part / 2 * 32 + upper + (r < 2 ? 2 * thread + r : 8 + 2 * thread + r - 2);
            value.at[j] = __nv_cvt_float_to_fp8(to_f32(block[key][column]) * units, __NV_SATFINITE, __NV_E4M3);
        }
        *reinterpret_cast<Vec<fp8, 16>*>(base + exchanged(column, part)) = value;
    }
}

#define PACKING(T)                                                                                                                  \
    extern "C" __global__ void pack_rows_##T(const T* x, T* out, int length, int heads, int width, int rows, int tiles) {          \
        pack_rows<T>(x, out, length, heads, width, rows, tiles);                                                                    \
    }                                                                                                                               \
    extern "C" __global__ void pack_columns_##T(const T* x, T* out, int length, int heads, int width, int tiles) {                  \
        pack_columns<T>(x, out, length, heads, width, tiles);                                                                       \
    }                                                                                                                               \
    extern "C" __global__ void reduce_rows_##T(const T* x, float* out, int length, int heads, int width, int parts, int largest) {  \
        reduce_rows<T>(x, out, length, heads, width, parts, largest);                                                               \
    }                                                                                                                               \
    extern "C" __global__ void pack_columns_fp8_##T(const T* x, const float* scales, fp8* out, int length, int heads, int tiles) {  \
        pack_columns_fp8<T>(x, scales, out, length, heads, tiles);                                                                  \
    }                                                                                                                               \
    extern "C" __global__ void pack_rows_fp8_##T(const T* x, const float* mean, fp8* out, float* scales, int length, int heads,     \
                                                 int rows, int tiles, int shared) {                                                 \
        pack_rows_fp8<T>(x, mean, out, scales, length, heads, rows, tiles, shared);                                                 \
    }
PACKING(bf16)
PACKING(half)
