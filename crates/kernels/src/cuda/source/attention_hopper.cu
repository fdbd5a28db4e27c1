// Attention on Hopper: two warpgroups of 64 queries each over tiles of 128 keys, fed by a third that copies.
//
// The structure is that of FlashAttention-3 (https://arxiv.org/abs/2407.08608): while the tensor cores multiply the
// last tile's probabilities with its values, the next tile's softmax is computed. Operands are packed beforehand into
// tiles as shared memory holds them, so that a tile is one contiguous copy.
#include "hopper.cuh"

constexpr int ROWS = 64;     // queries of a warpgroup
constexpr int KEYS = 128;    // of a tile
constexpr int STAGES = 2;
constexpr int PANEL = 64;    // 16-bit elements in 128 bytes

// Where part `part` (16 bytes) of row `row` lies in rows of 128 bytes, see matrix_descriptor.
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

// Mean of x [B, S, N, D] over S in `out [B·N, D]`. A block takes 32 columns.
template <typename T> __device__ void mean_of_rows(const T* x, float* out, int length, int heads, int width) {
    __shared__ float sums[8][33];
    int batch = blockIdx.y / heads, head = blockIdx.y % heads;
    int column = blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    float sum = 0;
    for (int row = lane; row < length; row += 8) sum += to_f32(x[((int64_t(batch) * length + row) * heads + head) * width + column]);
    sums[lane][threadIdx.x % 32] = sum;
    __syncthreads();
    if (lane == 0) {
        for (int i = 1; i < 8; i++) sum += sums[i][threadIdx.x % 32];
        out[blockIdx.y * width + column] = sum / length;
    }
}

// x [B, L, N, 128] → e4m3 [B·N, tiles, rows, 128] and a scale per row. `mean` is taken away where there is one: it adds
// the same to all scores of a query, which softmax does not see. A warp takes a row, a block a tile; with `shared`, all
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

struct Parameters {
    const float* key_bias;      // [1|B, S] or null
    const float* query_scales;  // [B·N, L padded], with scores of 8 bits
    const float* key_scales;    // [B·N, tiles], likewise
    int queries, keys, heads;
    int bias_stride;  // S, or 0 where all items share the bias
    float scale;      // of the scores, times log2(e)
};

template <typename T, int D, bool FP8> struct Shared {
    static constexpr int WIDTH = FP8 ? 1 : sizeof(T);
    static constexpr int QUERY_BYTES = ROWS * D * WIDTH;
    static constexpr int KEY_BYTES = KEYS * D * WIDTH;
    static constexpr int VALUE_BYTES = KEYS * D * sizeof(T);
    static constexpr int KEYS_AT = 2 * QUERY_BYTES;
    static constexpr int VALUES_AT = KEYS_AT + STAGES * KEY_BYTES;
    static constexpr int BARRIERS_AT = VALUES_AT + STAGES * VALUE_BYTES;
    static constexpr int BYTES = BARRIERS_AT + 128 + 1024;  // and room to align
};

template <typename T, int D, bool FP8>
__device__ __forceinline__ void scores(float (&s)[KEYS / 2], uint32_t queries, uint32_t keys) {
    constexpr int STEPS = FP8 ? D / 32 : D / 16;
    using Operand = typename std::conditional<FP8, fp8, T>::type;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        // Panels of 128 bytes, of which a step takes 32.
        uint32_t query_at = queries + step / 4 * ROWS * 128 + step % 4 * 32;
        uint32_t key_at = keys + step / 4 * KEYS * 128 + step % 4 * 32;
        wgmma(s, matrix_descriptor(query_at), matrix_descriptor(key_at), step > 0, Operand());
    }
}

template <typename T, int D>
__device__ __forceinline__ void add_values(float (&o)[D / 2], const uint32_t (&p)[KEYS / 16][4], uint32_t values) {
#pragma unroll
    for (int step = 0; step < KEYS / 16; step++) {
        uint32_t value_at = values + step / 4 * D * 128 + step % 4 * 32;
        wgmma(o, p[step], matrix_descriptor(value_at), 1, T());
    }
}

// Lets one warpgroup issue its products while the other computes its softmax.
__device__ __forceinline__ void take_turn(int consumer) { asm volatile("bar.sync %0, 256;\n" ::"r"(1 + consumer) : "memory"); }
__device__ __forceinline__ void give_turn(int consumer) { asm volatile("bar.arrive %0, 256;\n" ::"r"(2 - consumer) : "memory"); }

template <typename T, int D, bool FP8, bool TURNS>
__device__ void attend(const T* queries, const T* keys, const T* values, T* out, const Parameters parameters) {
    using Layout = Shared<T, D, FP8>;
    extern __shared__ char raw[];
    char* memory = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(raw) + 1023) & ~uintptr_t(1023));
    uint32_t base = shared_address(memory);
    uint64_t* barriers = reinterpret_cast<uint64_t*>(memory + Layout::BARRIERS_AT);
    uint64_t *query_full = barriers, *key_full = barriers + 1, *key_empty = key_full + STAGES;
    uint64_t *value_full = key_empty + STAGES, *value_empty = value_full + STAGES;
    int tiles = (parameters.keys + KEYS - 1) / KEYS;
    int query_tiles = gridDim.x * 2;
    int item = blockIdx.y;  // batch · heads + head

    if (threadIdx.x == 0) {
        barrier_init(query_full, 1);
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(key_full + stage, 1);
            barrier_init(value_full + stage, 1);
            barrier_init(key_empty + stage, 8);
            barrier_init(value_empty + stage, 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    }
    __syncthreads();

    int group = threadIdx.x / 128;
    if (group == 0) {
        fewer_registers<24>();
        if (threadIdx.x == 0) {
            const char* query_from = reinterpret_cast<const char*>(queries) + (int64_t(item) * query_tiles + blockIdx.x * 2) * Layout::QUERY_BYTES;
            const char* key_from = reinterpret_cast<const char*>(keys) + int64_t(item) * tiles * Layout::KEY_BYTES;
            const char* value_from = reinterpret_cast<const char*>(values) + int64_t(item) * tiles * Layout::VALUE_BYTES;
            barrier_expect(query_full, 2 * Layout::QUERY_BYTES);
            copy_bulk(base, query_from, 2 * Layout::QUERY_BYTES, query_full);
            for (int tile = 0; tile < tiles; tile++) {
                int stage = tile % STAGES;
                uint32_t parity = (tile / STAGES & 1) ^ 1;  // the first round finds all empty
                barrier_wait(key_empty + stage, parity);
                barrier_expect(key_full + stage, Layout::KEY_BYTES);
                copy_bulk(base + Layout::KEYS_AT + stage * Layout::KEY_BYTES, key_from + int64_t(tile) * Layout::KEY_BYTES, Layout::KEY_BYTES, key_full + stage);
                barrier_wait(value_empty + stage, parity);
                barrier_expect(value_full + stage, Layout::VALUE_BYTES);
                copy_bulk(base + Layout::VALUES_AT + stage * Layout::VALUE_BYTES, value_from + int64_t(tile) * Layout::VALUE_BYTES, Layout::VALUE_BYTES, value_full + stage);
            }
        }
        return;
    }
    more_registers<240>();
    int consumer = group - 1, lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
    int row = blockIdx.x * 2 * ROWS + consumer * ROWS + warp * 16 + lane / 4;  // and the one 8 below
    uint32_t my_queries = base + consumer * Layout::QUERY_BYTES;
    const float* bias = parameters.key_bias ? parameters.key_bias + item / parameters.heads * parameters.bias_stride : nullptr;

    float scale[2] = {parameters.scale, parameters.scale};
    if constexpr (FP8) {
        for (int half = 0; half < 2; half++) scale[half] *= parameters.query_scales[int64_t(item) * query_tiles * ROWS + row + 8 * half];
    }
    float s[KEYS / 2], o[D / 2], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, fade[2];
    uint32_t p[KEYS / 16][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) s[i] = 0;

    // The scores in `s` become exponentials, and `fade` what earlier results are to be multiplied by.
    auto softmax = [&](int tile) {
        float factor[2] = {scale[0], scale[1]};
        if constexpr (FP8) {
            float key_scale = parameters.key_scales[item * tiles + tile];
            factor[0] *= key_scale;
            factor[1] *= key_scale;
        }
        int first = tile * KEYS + lane % 4 * 2;
        if (bias) {
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) {
                int key = first + i / 4 * 8 + i % 2;
                s[i] += key < parameters.keys ? bias[key] * LOG2E / parameters.scale : 0.0f;
            }
        }
        if ((tile + 1) * KEYS > parameters.keys) {
#pragma unroll
            for (int i = 0; i < KEYS / 2; i++) {
                if (first + i / 4 * 8 + i % 2 >= parameters.keys) s[i] = -INFINITY;
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = s[2 * half];
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++) largest = fmaxf(largest, fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            float new_most = fmaxf(most[half], largest * factor[half]);
            fade[half] = exp2_fast(most[half] - new_most);
            most[half] = new_most;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    float& score = s[4 * i + 2 * half + j];
                    score = exp2_fast(fmaf(score, factor[half], -new_most));
                    sum += score;
                }
            }
            total[half] = total[half] * fade[half] + sum;
        }
    };
    auto to_operand = [&] {
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
#pragma unroll
            for (int j = 0; j < 4; j++) p[step][j] = pack2<T>(s[8 * step + 2 * j], s[8 * step + 2 * j + 1]);
        }
    };
    auto key_at = [&](int tile) { return base + Layout::KEYS_AT + tile % STAGES * Layout::KEY_BYTES; };
    auto value_at = [&](int tile) { return base + Layout::VALUES_AT + tile % STAGES * Layout::VALUE_BYTES; };
    auto full = [](int tile) { return uint32_t(tile / STAGES & 1); };

    barrier_wait(query_full, 0);
    barrier_wait(key_full, 0);
    hold(s);
    wgmma_fence();
    scores<T, D, FP8>(s, my_queries, key_at(0));
    wgmma_commit();
    wgmma_wait<0>();
    hold(s);
    if (lane == 0) barrier_arrive(key_empty);
    softmax(0);
    to_operand();

    if (TURNS && consumer == 1 && tiles > 1) give_turn(consumer);
    for (int tile = 1; tile < tiles; tile++) {
        barrier_wait(key_full + tile % STAGES, full(tile));
        barrier_wait(value_full + (tile - 1) % STAGES, full(tile - 1));  // products follow each other without a branch
        if (TURNS) take_turn(consumer);
        hold(s);
        hold(o);
        hold(p);
        wgmma_fence();
        scores<T, D, FP8>(s, my_queries, key_at(tile));
        wgmma_commit();
        add_values<T, D>(o, p, value_at(tile - 1));
        wgmma_commit();
        if (TURNS && (consumer == 0 || tile + 1 < tiles)) give_turn(consumer);
        wgmma_wait<1>();
        hold(s);
        if (lane == 0) barrier_arrive(key_empty + tile % STAGES);
        softmax(tile);
        wgmma_wait<0>();
        hold(o);
        if (lane == 0) barrier_arrive(value_empty + (tile - 1) % STAGES);
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] *= fade[i / 2 % 2];
        to_operand();
    }
    barrier_wait(value_full + (tiles - 1) % STAGES, full(tiles - 1));
    hold(o);
    hold(p);
    wgmma_fence();
    add_values<T, D>(o, p, value_at(tiles - 1));
    wgmma_commit();
    wgmma_wait<0>();
    hold(o);

#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        float share = 1.0f / sum;
        int at = row + 8 * half;
        if (at >= parameters.queries) continue;
        int batch = item / parameters.heads, head = item % parameters.heads;
        T* to = out + ((int64_t(batch) * parameters.queries + at) * parameters.heads + head) * D + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            *reinterpret_cast<uint32_t*>(to + i * 8) = pack2<T>(o[4 * i + 2 * half] * share, o[4 * i + 2 * half + 1] * share);
    }
}

#define PACKING(T)                                                                                                                  \
    extern "C" __global__ void pack_rows_##T(const T* x, T* out, int length, int heads, int width, int rows, int tiles) {          \
        pack_rows<T>(x, out, length, heads, width, rows, tiles);                                                                    \
    }                                                                                                                               \
    extern "C" __global__ void pack_columns_##T(const T* x, T* out, int length, int heads, int width, int tiles) {                  \
        pack_columns<T>(x, out, length, heads, width, tiles);                                                                       \
    }                                                                                                                               \
    extern "C" __global__ void mean_of_rows_##T(const T* x, float* out, int length, int heads, int width) {                         \
        mean_of_rows<T>(x, out, length, heads, width);                                                                              \
    }                                                                                                                               \
    extern "C" __global__ void pack_rows_fp8_##T(const T* x, const float* mean, fp8* out, float* scales, int length, int heads,     \
                                                 int rows, int tiles, int shared) {                                                 \
        pack_rows_fp8<T>(x, mean, out, scales, length, heads, rows, tiles, shared);                                                 \
    }
PACKING(bf16)
PACKING(half)

#define ATTEND(NAME, T, D, FP8, TURNS)                                                                                              \
    extern "C" __global__ void __launch_bounds__(384, 1) NAME(const T* queries, const T* keys, const T* values, T* out,             \
                                                              const Parameters parameters) {                                        \
        attend<T, D, FP8, TURNS>(queries, keys, values, out, parameters);                                                           \
    }
ATTEND(attend_64_bf16, bf16, 64, false, false)
ATTEND(attend_64_half, half, 64, false, false)
ATTEND(attend_128_bf16, bf16, 128, false, false)
ATTEND(attend_128_half, half, 128, false, false)
ATTEND(attend_128_bf16_turns, bf16, 128, false, true)
ATTEND(attend_128_bf16_fp8, bf16, 128, true, false)
ATTEND(attend_128_half_fp8, half, 128, true, false)
ATTEND(attend_128_bf16_fp8_turns, bf16, 128, true, true)
