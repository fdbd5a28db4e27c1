// Attention on Hopper: two warpgroups of 64 queries each over tiles of 128 keys, fed by a third that copies.
//
// The structure is that of FlashAttention-3 (https://arxiv.org/abs/2407.08608): while the tensor cores multiply the
// last tile's probabilities with its values, the next tile's softmax is computed. Operands are packed beforehand
// (attention_pack.cuh), so that a tile is one contiguous copy.
#include "attention_pack.cuh"

constexpr int ROWS = 64;  // queries of a warpgroup
constexpr int STAGES = 2;

struct Parameters {
    const float* key_bias;      // [1|B, S] or null
    const float* query_scales;  // [B·N, L padded], with scores of 8 bits
    const float* key_scales;    // [B·N, tiles], likewise
    const float* value_scales;  // [B·N, D], likewise
    int queries, keys, heads;
    int bias_stride;  // S, or 0 where all items share the bias
    float scale;      // of the scores, times log2(e)
};

template <typename T, int D, bool FP8> struct Shared {
    static constexpr int WIDTH = FP8 ? 1 : sizeof(T);
    static constexpr int QUERY_BYTES = ROWS * D * WIDTH;
    static constexpr int KEY_BYTES = KEYS * D * WIDTH;
    static constexpr int VALUE_BYTES = KEYS * D * WIDTH;
    static constexpr int KEYS_AT = 2 * QUERY_BYTES;
    static constexpr int VALUES_AT = KEYS_AT + STAGES * KEY_BYTES;
    static constexpr int BARRIERS_AT = VALUES_AT + STAGES * VALUE_BYTES;
    static constexpr int BYTES = BARRIERS_AT + 128 + 1024;  // and room to align
};

// Exponentials of 8 bits are 2^8 times as large: the sum that they are divided by is too.
constexpr float LIFT = 8;

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

// The values of one tile alone: 8-bit products are summed with 14 bits, too few for a whole clip.
__device__ __forceinline__ void values_of_tile(float (&o)[64], const uint32_t (&p)[KEYS / 32][4], uint32_t values) {
#pragma unroll
    for (int step = 0; step < KEYS / 32; step++) wgmma(o, p[step], matrix_descriptor(values + step * 32), step > 0, fp8());
}

template <typename T, int D, bool FP8>
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
    float o[D / 2], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, fade[2];
    float tile_values[FP8 ? D / 2 : 1];
    uint32_t p[FP8 ? KEYS / 32 : KEYS / 16][4];
    uint32_t pairs[FP8 ? KEYS / 4 : 1];  // exponentials in f16
#pragma unroll
    for (int i = 0; i < D / 2; i++) o[i] = 0;
#pragma unroll
    for (int i = 0; i < (FP8 ? D / 2 : 1); i++) tile_values[i] = 0;

    // The scores in `s` become exponentials (those of 8 bits in `pairs`), and `fade` what earlier results are multiplied by.
    auto softmax = [&](int tile, float (&s)[KEYS / 2]) {
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
            if constexpr (FP8) {
                // Two at a time in f16, which has more bits than e4m3, to which they are rounded.
                __half2 sums = __float2half2_rn(0);
#pragma unroll
                for (int i = 0; i < KEYS / 8; i++) {
                    float shift = LIFT - new_most;
                    __half2 pair = exp2_fast(__floats2half2_rn(fmaf(s[4 * i + 2 * half], factor[half], shift),
                                                               fmaf(s[4 * i + 2 * half + 1], factor[half], shift)));
                    sums = __hadd2(sums, pair);
                    pairs[2 * i + half] = *reinterpret_cast<uint32_t*>(&pair);
                }
                sum = __low2float(sums) + __high2float(sums);
            } else {
#pragma unroll
                for (int i = 0; i < KEYS / 8; i++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float& score = s[4 * i + 2 * half + j];
                        score = exp2_fast(fmaf(score, factor[half], -new_most));
                        sum += score;
                    }
                }
            }
            total[half] = total[half] * fade[half] + sum;
        }
    };
    // A thread has two neighbouring keys of every eight; as an operand of 8 bits it should have four of every sixteen.
    auto to_operand = [&](const float (&s)[KEYS / 2]) {
        if constexpr (FP8) {
#pragma unroll
            for (int step = 0; step < KEYS / 32; step++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    int at = 8 * step + 4 * (j / 2) + j % 2;
                    p[step][j] = to_e4m3(pairs[at]) | to_e4m3(pairs[at + 2]) << 16;
                }
            }
        } else {
#pragma unroll
            for (int step = 0; step < KEYS / 16; step++) {
#pragma unroll
                for (int j = 0; j < 4; j++) p[step][j] = pack2<T>(s[8 * step + 2 * j], s[8 * step + 2 * j + 1]);
            }
        }
    };
    auto add = [&](uint32_t values) {
        if constexpr (FP8) values_of_tile(tile_values, p, values);
        else add_values<T, D>(o, p, values);
    };
    // After the products: earlier results fade as `fade` says, and 8-bit ones of this tile are added.
    auto settle = [&](const float (&by)[2]) {
        if constexpr (FP8) hold(tile_values);
        else hold(o);
#pragma unroll
        for (int i = 0; i < D / 2; i++) {
            if constexpr (FP8) o[i] = (o[i] + tile_values[i]) * by[i / 2 % 2];
            else o[i] *= by[i / 2 % 2];
        }
    };
    auto key_at = [&](int tile) { return base + Layout::KEYS_AT + tile % STAGES * Layout::KEY_BYTES; };
    auto value_at = [&](int tile) { return base + Layout::VALUES_AT + tile % STAGES * Layout::VALUE_BYTES; };
    auto full = [](int tile) { return uint32_t(tile / STAGES & 1); };

    barrier_wait(query_full, 0);
    barrier_wait(key_full, 0);
    {
        float s[KEYS / 2];
        wgmma_fence();
        scores<T, D, FP8>(s, my_queries, key_at(0));
        wgmma_commit();
        wgmma_wait<0>();
        hold(s);
        if (lane == 0) barrier_arrive(key_empty);
        softmax(0, s);
        to_operand(s);
    }

    for (int tile = 1; tile < tiles; tile++) {
        barrier_wait(key_full + tile % STAGES, full(tile));
        barrier_wait(value_full + (tile - 1) % STAGES, full(tile - 1));  // products follow each other without a branch
        float s[KEYS / 2];
        hold(o);
        hold(tile_values);
        hold(p);
        wgmma_fence();
        scores<T, D, FP8>(s, my_queries, key_at(tile));
        wgmma_commit();
        add(value_at(tile - 1));
        wgmma_commit();
        wgmma_wait<1>();
        hold(s);
        if (lane == 0) barrier_arrive(key_empty + tile % STAGES);
        softmax(tile, s);
        wgmma_wait<0>();
        if (lane == 0) barrier_arrive(value_empty + (tile - 1) % STAGES);
        settle(fade);
        to_operand(s);
    }
    barrier_wait(value_full + (tiles - 1) % STAGES, full(tiles - 1));
    hold(o);
    hold(tile_values);
    hold(p);
    wgmma_fence();
    add(value_at(tiles - 1));
    wgmma_commit();
    wgmma_wait<0>();
    const float whole[2] = {1, 1};
    settle(whole);
    if constexpr (FP8) {
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] *= parameters.value_scales[item * D + i / 4 * 8 + lane % 4 * 2 + i % 2];
    }

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

#define ATTEND(NAME, T, D, FP8)                                                                                          \
    extern "C" __global__ void __launch_bounds__(384, 1) NAME(const T* queries, const T* keys, const T* values, T* out, \
                                                              const Parameters parameters) {                            \
        attend<T, D, FP8>(queries, keys, values, out, parameters);                                                      \
    }
ATTEND(attend_64_bf16, bf16, 64, false)
ATTEND(attend_64_half, half, 64, false)
ATTEND(attend_128_bf16, bf16, 128, false)
ATTEND(attend_128_half, half, 128, false)
ATTEND(attend_128_bf16_fp8, bf16, 128, true)
ATTEND(attend_128_half_fp8, half, 128, true)
