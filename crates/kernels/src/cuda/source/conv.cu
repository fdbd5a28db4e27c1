// Convolutions over frames [B, H, W, C] as one matrix product per tile of 128 positions, whose left operand is gathered
// while it is copied: no image of columns is ever written. https://arxiv.org/abs/1410.0759, section 3.2.
//
// Sums run over frames under the kernel, then its rows, its columns and the channels; 64 numbers are a chunk, which may
// reach from one tap into the next because parts of 8 channels never do.
//
// A 3 × 3 kernel over a frame whose pixels were doubled sees four at a time, as 2 × 2 of the frame itself, whose weights are sums
// of its own. Which ones hangs on whether row and column of the result are odd: these four phases are convolutions of their own.
#if defined(KINORA_HOPPER)
#include "hopper.cuh"
#endif
#include "mma.cuh"

constexpr int POSITIONS = 128;
constexpr int CHUNK = 64;
constexpr int STAGES = 3;
constexpr int THREADS = 256;
constexpr int FRAMES = 3;

struct Parameters {
    const void* frames[FRAMES];  // null: zeros
    const void* weights;         // [phases, blocks of outputs, chunks, outputs of a block, 64], rows as shared memory holds them
    const float* bias;
    const void* residual;  // or null
    void* out;
    int batch, height, width, channels;
    int out_height, out_width, outputs;  // of one phase
    int kernel_frames, kernel_rows, kernel_columns;
    int stride, padding;
    int phased;  // whether blockIdx.z is a phase: of odd rows where it is 2 or 3, of odd columns where it is odd
};

// Copies 16 bytes through the first cache: neighbouring taps read the same positions again.
__device__ __forceinline__ void copy_async_cached(uint32_t to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}

// The offset of part `part` (16 bytes) of row `row` in rows of 128 bytes: no two of eight rows have it in the same banks.
__device__ __forceinline__ uint32_t exchanged(int row, int part) { return row * 128 + ((part ^ (row & 7)) << 4); }

// Copies one chunk after the other. A thread has the same part of several rows, and walks through the taps.
template <typename T, int OUTPUTS> struct Loader {
    static constexpr int A_BYTES = POSITIONS * 128;
    static constexpr int STAGE_BYTES = A_BYTES + OUTPUTS * 128;
    static constexpr int B_BYTES = OUTPUTS * 128;
    static constexpr int A_ROWS = POSITIONS * 8 / THREADS;

    const Parameters& p;
    int part = threadIdx.x % 8, row = threadIdx.x / 8;
    int top[A_ROWS], left[A_ROWS];  // where the kernel begins; far outside for rows that are not there
    int corner[A_ROWS];             // its element in a frame, which may have none there
    const char* weights;
    int channel, dx = 0, dy = 0, frame = 0;

    __device__ Loader(const Parameters& parameters, int64_t first, int block) : p(parameters), channel(part * 8) {
        int64_t positions = int64_t(p.batch) * p.out_height * p.out_width;
#pragma unroll
        for (int i = 0; i < A_ROWS; i++) {
            int64_t position = first + row + i * (THREADS / 8);
            bool inside = position < positions;
            int column = position % p.out_width;
            int line = position / p.out_width % p.out_height;
            int item = position / (int64_t(p.out_width) * p.out_height);
            top[i] = inside ? line * p.stride - p.padding + int(blockIdx.z / 2) : -(1 << 28);
            left[i] = column * p.stride - p.padding + int(blockIdx.z % 2);
            corner[i] = (item * p.height * p.width + top[i] * p.width + left[i]) * p.channels;
        }
        weights = static_cast<const char*>(p.weights) + int64_t(blockIdx.z * gridDim.y + block) * chunks() * B_BYTES;
        settle();
    }

    __device__ int chunks() const {
        return (p.kernel_frames * p.kernel_rows * p.kernel_columns * p.channels + CHUNK - 1) / CHUNK;
    }

    // Goes on to the tap that `channel` reaches into.
    __device__ __forceinline__ void settle() {
        while (channel >= p.channels) {
            channel -= p.channels;
            if (++dx < p.kernel_columns) continue;
            dx = 0;
            if (++dy < p.kernel_rows) continue;
            dy = 0;
            frame++;
        }
    }

    // Positions of the next chunk.
    __device__ __forceinline__ void load_positions(uint32_t stage) {
        const T* x = static_cast<const T*>(frame == 0 ? p.frames[0] : frame == 1 ? p.frames[1] : frame == 2 ? p.frames[2] : nullptr);
        bool there = x && frame < p.kernel_frames;
        int step = (dy * p.width + dx) * p.channels + channel;
#pragma unroll
        for (int i = 0; i < A_ROWS; i++) {
            int y = top[i] + dy, z = left[i] + dx;
            bool inside = there && unsigned(y) < unsigned(p.height) && unsigned(z) < unsigned(p.width);
            copy_async_cached(stage + exchanged(row + i * (THREADS / 8), part), inside ? x + corner[i] + step : static_cast<const T*>(p.weights), inside);
        }
        channel += CHUNK;
        settle();
    }

    // Weights of any chunk, which lie as they are wanted.
    __device__ __forceinline__ void load_weights(int chunk, uint32_t stage) {
        const char* from = weights + int64_t(chunk) * B_BYTES;
        for (int i = threadIdx.x * 16; i < B_BYTES; i += THREADS * 16)
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(stage + A_BYTES + i), "l"(from + i));
    }
};

// The offset of a position's outputs in this phase; below 0 if it has none.
__device__ __forceinline__ int64_t place(const Parameters& p, int64_t position) {
    if (position >= int64_t(p.batch) * p.out_height * p.out_width) return -1;
    if (!p.phased) return position * p.outputs;
    int64_t line = position / p.out_width, column = position % p.out_width;  // of all items, one after the other
    return ((2 * line + blockIdx.z / 2) * 2 * p.out_width + 2 * column + blockIdx.z % 2) * p.outputs;
}

template <typename T>
__device__ __forceinline__ void finish(const Parameters& p, int64_t place, int output, float first, float second) {
    if (place < 0 || output >= p.outputs) return;
    int64_t at = place + output;
    T* out = static_cast<T*>(p.out);
    const T* residual = static_cast<const T*>(p.residual);
    first += p.bias[output];
    if (residual) first += to_f32(residual[at]);
    if (output + 1 < p.outputs) {
        second += p.bias[output + 1];
        if (residual) second += to_f32(residual[at + 1]);
        if (p.outputs % 2 == 0) {
            *reinterpret_cast<uint32_t*>(out + at) = pack2<T>(first, second);
            return;
        }
        out[at + 1] = from_f32<T>(second);
    }
    out[at] = from_f32<T>(first);
}

// Tensor cores of any GPU: eight warps, 4 × 2, of 32 positions and half of the outputs each.
template <typename T, int OUTPUTS> __device__ void convolve_mma(const Parameters& p) {
    extern __shared__ char memory[];
    using Load = Loader<T, OUTPUTS>;
    constexpr int COLUMNS = OUTPUTS / 16;  // of 8 outputs each
    uint32_t base = (shared_address(memory) + 127) & ~127u;
    int64_t first = int64_t(blockIdx.x) * POSITIONS;
    int first_output = blockIdx.y * OUTPUTS;
    Load loader(p, first, blockIdx.y);
    int chunks = loader.chunks();
    auto load = [&](int chunk) {
        uint32_t stage = base + chunk % STAGES * Load::STAGE_BYTES;
        loader.load_positions(stage);
        loader.load_weights(chunk, stage);
    };
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int warp_row = warp % 4 * 32, warp_output = warp / 4 * (OUTPUTS / 2);
    float sums[2][COLUMNS][4] = {};

    for (int chunk = 0; chunk < STAGES - 1; chunk++) {
        if (chunk < chunks) load(chunk);
        copy_commit();
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        int next = chunk + STAGES - 1;
        if (next < chunks) load(next);
        copy_commit();
        uint32_t a_at = base + chunk % STAGES * Load::STAGE_BYTES, b_at = a_at + Load::A_BYTES;
#pragma unroll
        for (int step = 0; step < CHUNK / 16; step++) {
            uint32_t a[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) load_matrices_at(a[i], a_at + exchanged(warp_row + i * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
            for (int column = 0; column < COLUMNS / 2; column++) {
                uint32_t b[4];
                load_matrices_at(b, b_at + exchanged(warp_output + column * 16 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    mma<T>(sums[i][2 * column], a[i], b[0], b[1]);
                    mma<T>(sums[i][2 * column + 1], a[i], b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int64_t position = first + warp_row + i * 16 + lane / 4;
        int64_t upper = place(p, position), lower = place(p, position + 8);
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
            int output = first_output + warp_output + column * 8 + lane % 4 * 2;
            finish<T>(p, upper, output, sums[i][column][0], sums[i][column][1]);
            finish<T>(p, lower, output, sums[i][column][2], sums[i][column][3]);
        }
    }
}

#if defined(KINORA_HOPPER)
// Hopper: two warpgroups of 64 positions and all outputs each.
template <typename T, int OUTPUTS> __device__ void convolve_wgmma(const Parameters& p) {
    extern __shared__ char memory[];
    using Load = Loader<T, OUTPUTS>;
    uint32_t base = (shared_address(memory) + 1023) & ~1023u;
    int64_t first = int64_t(blockIdx.x) * POSITIONS;
    int first_output = blockIdx.y * OUTPUTS;
    Load loader(p, first, blockIdx.y);
    int chunks = loader.chunks();
    __shared__ uint64_t full[STAGES];
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) barrier_init(full + stage, 1);
        asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    }
    __syncthreads();
    auto load = [&](int chunk) {
        int stage = chunk % STAGES;
        uint32_t at = base + stage * Load::STAGE_BYTES;
        if (threadIdx.x == 0) {
            barrier_expect(full + stage, Load::B_BYTES);
            copy_bulk(at + Load::A_BYTES, loader.weights + int64_t(chunk) * Load::B_BYTES, Load::B_BYTES, full + stage);
        }
        loader.load_positions(at);
    };
    int group = threadIdx.x / 128;
    float sums[OUTPUTS / 2];
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i++) sums[i] = 0;

    for (int chunk = 0; chunk < STAGES - 1; chunk++) {
        if (chunk < chunks) load(chunk);
        copy_commit();
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<STAGES - 2>();
        barrier_wait(full + chunk % STAGES, chunk / STAGES & 1);
        wgmma_wait<0>();
        hold(sums);
        asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");  // what was copied is read by another unit
        __syncthreads();  // and the chunk before is done with everywhere: its place can be filled
        uint32_t a_at = base + chunk % STAGES * Load::STAGE_BYTES, b_at = a_at + Load::A_BYTES;
        hold(sums);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < CHUNK / 16; step++)
            wgmma(sums, matrix_descriptor(a_at + group * 64 * 128 + step * 32), matrix_descriptor(b_at + step * 32), 1, T());
        wgmma_commit();
        int next = chunk + STAGES - 1;
        if (next < chunks) load(next);
        copy_commit();
    }
    wgmma_wait<0>();
    hold(sums);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int64_t position = first + group * 64 + warp % 4 * 16 + lane / 4;
    int64_t upper = place(p, position), lower = place(p, position + 8);
#pragma unroll
    for (int column = 0; column < OUTPUTS / 8; column++) {
        int output = first_output + column * 8 + lane % 4 * 2;
        finish<T>(p, upper, output, sums[4 * column], sums[4 * column + 1]);
        finish<T>(p, lower, output, sums[4 * column + 2], sums[4 * column + 3]);
    }
}
#endif

#define CONVOLVE(T, OUTPUTS, BACKEND)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) convolve_##OUTPUTS##_##T##_##BACKEND(const Parameters p) { \
        convolve_##BACKEND<T, OUTPUTS>(p);                                                                              \
    }
#define SIZES(T, BACKEND) CONVOLVE(T, 32, BACKEND) CONVOLVE(T, 64, BACKEND) CONVOLVE(T, 96, BACKEND) CONVOLVE(T, 128, BACKEND)
SIZES(bf16, mma)
SIZES(half, mma)
#if defined(KINORA_HOPPER)
SIZES(bf16, wgmma)
SIZES(half, wgmma)
#endif
