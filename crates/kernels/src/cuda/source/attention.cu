// Attention on every GPU with 16-bit tensor cores: four warps of 16 queries each over tiles of 64 keys, scores and sums
// in f32, after FlashAttention-2 (https://arxiv.org/abs/2307.08691).
#include "mma.cuh"

constexpr int QUERIES = 64;
constexpr int KEYS = 64;
constexpr int BLOCK = 128;

struct Parameters {
    const float* key_bias;  // [1|B, S] or null
    // Where the list of each head's block of BLOCK queries begins, [B·N · blocks + 1], and the lists: the blocks of BLOCK keys
    // that it visits; null where all are.
    const uint32_t *starts, *chosen;
    int queries, keys, heads;
    int bias_stride;  // S, or 0 where all items share the bias
    float scale;      // of the scores, times log2(e)
};

// Copies `KEYS` rows of D elements, from `first` on, to rows of D + 8 in shared memory.
template <typename T, int D>
__device__ __forceinline__ void load_rows(T* to, const T* from, int first, int length, int64_t stride) {
    constexpr int PARTS = D / 8;
    for (int i = threadIdx.x; i < KEYS * PARTS; i += 128) {
        int row = i / PARTS, part = i % PARTS;
        bool there = first + row < length;
        copy_async(to + row * (D + 8) + part * 8, from + (there ? first + row : 0) * stride + part * 8, there);
    }
}

template <typename T, int D>
__device__ void attend(const T* queries, const T* keys, const T* values, T* out, const Parameters parameters) {
    extern __shared__ char memory[];
    T* query_rows = reinterpret_cast<T*>(memory);
    T* key_rows = query_rows + QUERIES * (D + 8);
    T* value_rows = key_rows + 2 * KEYS * (D + 8);
    int batch = blockIdx.y / parameters.heads, head = blockIdx.y % parameters.heads;
    int64_t stride = int64_t(parameters.heads) * D;
    queries += (int64_t(batch) * parameters.queries * parameters.heads + head) * D;
    out += (int64_t(batch) * parameters.queries * parameters.heads + head) * D;
    keys += (int64_t(batch) * parameters.keys * parameters.heads + head) * D;
    values += (int64_t(batch) * parameters.keys * parameters.heads + head) * D;
    const float* bias = parameters.key_bias ? parameters.key_bias + batch * parameters.bias_stride : nullptr;
    int tiles = (parameters.keys + KEYS - 1) / KEYS;
    const uint32_t* chosen = nullptr;
    if (parameters.starts) {
        int blocks = (parameters.queries + BLOCK - 1) / BLOCK;
        const uint32_t* start = parameters.starts + int64_t(blockIdx.y) * blocks + blockIdx.x / (BLOCK / QUERIES);
        chosen = parameters.chosen + start[0];
        tiles = (start[1] - start[0]) * (BLOCK / KEYS);
    }
    // The first key of a tile; past the last key, where a block is the last one and short.
    auto first_of = [=](int tile) {
        return chosen ? chosen[tile / (BLOCK / KEYS)] * BLOCK + tile % (BLOCK / KEYS) * KEYS : tile * KEYS;
    };
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    load_rows<T, D>(query_rows, queries, blockIdx.x * QUERIES, parameters.queries, stride);
    load_rows<T, D>(key_rows, keys, first_of(0), parameters.keys, stride);
    load_rows<T, D>(value_rows, values, first_of(0), parameters.keys, stride);
    copy_commit();

    float o[D / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
    uint32_t q[D / 16][4];
    for (int tile = 0; tile < tiles; tile++) {
        int stage = tile % 2;
        if (tile + 1 < tiles) {
            int next = (stage ^ 1) * KEYS * (D + 8);
            load_rows<T, D>(key_rows + next, keys, first_of(tile + 1), parameters.keys, stride);
            load_rows<T, D>(value_rows + next, values, first_of(tile + 1), parameters.keys, stride);
            copy_commit();
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        __syncthreads();
        if (tile == 0) {
#pragma unroll
            for (int step = 0; step < D / 16; step++)
                load_matrices(q[step], query_rows + (warp * 16 + lane % 16) * (D + 8) + step * 16 + lane / 16 * 8);
        }
        const T* k = key_rows + stage * KEYS * (D + 8);
        const T* v = value_rows + stage * KEYS * (D + 8);
        float s[KEYS / 8][4] = {};
#pragma unroll
        for (int step = 0; step < D / 16; step++) {
#pragma unroll
            for (int column = 0; column < KEYS / 16; column++) {
                uint32_t b[4];  // two columns of 8 keys, each over 16 elements
                load_matrices(b, k + (column * 16 + lane / 16 * 8 + lane % 8) * (D + 8) + step * 16 + lane / 8 % 2 * 8);
                mma<T>(s[2 * column], q[step], b[0], b[1]);
                mma<T>(s[2 * column + 1], q[step], b[2], b[3]);
            }
        }
        int first = first_of(tile) + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < KEYS / 8; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = first + i * 8 + j % 2;
                float score = s[i][j] * parameters.scale;
                if (bias) score += key < parameters.keys ? bias[key] * LOG2E : 0.0f;
                s[i][j] = key < parameters.keys ? score : -INFINITY;
            }
        }
        uint32_t p[KEYS / 16][4];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = -INFINITY;
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++) largest = fmaxf(largest, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            float new_most = fmaxf(most[half], largest);
            float fade = exp2_fast(most[half] - new_most), sum = 0;
            most[half] = new_most;
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++) {
                float lo = exp2_fast(s[i][2 * half] - new_most), hi = exp2_fast(s[i][2 * half + 1] - new_most);
                sum += lo + hi;
                p[i / 2][i % 2 * 2 + half] = pack2<T>(lo, hi);
            }
            total[half] = total[half] * fade + sum;
#pragma unroll
            for (int i = 0; i < D / 8; i++) {
                o[i][2 * half] *= fade;
                o[i][2 * half + 1] *= fade;
            }
        }
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
#pragma unroll
            for (int column = 0; column < D / 16; column++) {
                uint32_t b[4];
                load_matrices_transposed(b, v + (step * 16 + lane % 16) * (D + 8) + column * 16 + lane / 16 * 8);
                mma<T>(o[2 * column], p[step], b[0], b[1]);
                mma<T>(o[2 * column + 1], p[step], b[2], b[3]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        float share = 1.0f / sum;
        int at = blockIdx.x * QUERIES + warp * 16 + lane / 4 + 8 * half;
        if (at >= parameters.queries) continue;
        T* to = out + at * stride + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            *reinterpret_cast<uint32_t*>(to + i * 8) = pack2<T>(o[i][2 * half] * share, o[i][2 * half + 1] * share);
    }
}

#define ATTEND(T, D)                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) attend_##D##_##T(const T* queries, const T* keys, const T* values, T* out,     \
                                                                       const Parameters parameters) {                               \
        attend<T, D>(queries, keys, values, out, parameters);                                                                       \
    }
#define WIDTHS(T) ATTEND(T, 32) ATTEND(T, 64) ATTEND(T, 80) ATTEND(T, 96) ATTEND(T, 128)
WIDTHS(bf16)
WIDTHS(half)
