// Convolutions over frames [B, H, W, C] as one matrix product per tile of 128 positions, whose left operand is gathered
// while it is copied: no image of columns is ever written. https://arxiv.org/abs/1410.0759, section 3.2.
//
// Sums run over frames under the kernel, then its rows, its columns and the channels; 64 numbers are a chunk, which may
// reach from one tap into the next because parts of 8 channels never do.
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
    const void* frames[FRAMES];  // those that are there
    int taps[FRAMES];            // and where in the kernel each of them lies
    const void* weights;         // [outputs padded, kf · kh · kw · channels padded to 8]
    const float* bias;
    const void* residual;  // or null
    void* out;
    int present, batch, height, width, channels;
    int out_height, out_width, outputs;
    int kernel_rows, kernel_columns, inner;  // inner: length of a row of weights
    int stride, padding, upsample;
};

// Copies 16 bytes through the first cache: neighbouring taps read the same positions again.
__device__ __forceinline__ void copy_async_cached(uint32_t to, const void* from, bool there) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}

// Where part `part` (16 bytes) of row `row` lies in rows of 128 bytes: no two rows of eight have it in the same banks.
__device__ __forceinline__ uint32_t exchanged(int row, int part) { return row * 128 + ((part ^ (row & 7)) << 4); }

template <typename T, int OUTPUTS> struct Loader {
    static constexpr int A_BYTES = POSITIONS * 128;
    static constexpr int STAGE_BYTES = A_BYTES + OUTPUTS * 128;
    static constexpr int A_ROWS = POSITIONS * 8 / THREADS;
    static constexpr int B_ROWS = OUTPUTS * 8 / THREADS;

    const Parameters& p;
    int part, row;
    int corner_row[A_ROWS], corner_column[A_ROWS];
    int64_t item[A_ROWS];
    int first_output, parts_per_tap, total_parts;

    __device__ Loader(const Parameters& parameters, int64_t first, int first_output) : p(parameters), first_output(first_output) {
        part = threadIdx.x % 8;
        row = threadIdx.x / 8;
        parts_per_tap = p.channels / 8;
        total_parts = p.present * p.kernel_rows * p.kernel_columns * parts_per_tap;
        int64_t positions = int64_t(p.batch) * p.out_height * p.out_width;
        for (int i = 0; i < A_ROWS; i++) {
            int64_t position = first + row + i * (THREADS / 8);
            bool inside = position < positions;
            int column = position % p.out_width;
            int line = position / p.out_width % p.out_height;
            item[i] = position / (int64_t(p.out_width) * p.out_height) * p.height * p.width;
            corner_row[i] = inside ? line * p.stride - p.padding : -(1 << 28);  // far outside: zeros
            corner_column[i] = column * p.stride - p.padding;
        }
    }

    __device__ int chunks() const { return (total_parts + 7) / 8; }

    __device__ void load(int chunk, uint32_t stage) {
        int at = chunk * 8 + part;
        bool there = at < total_parts;
        int tap = at / parts_per_tap, channel = (at - tap * parts_per_tap) * 8;
        int taps = p.kernel_rows * p.kernel_columns;
        int frame = tap / taps, place = tap - frame * taps;
        int dy = place / p.kernel_columns, dx = place - dy * p.kernel_columns;
        frame = there ? frame : 0;
        const T* x = static_cast<const T*>(frame == 0 ? p.frames[0] : frame == 1 ? p.frames[1] : p.frames[2]);
        int kernel_frame = frame == 0 ? p.taps[0] : frame == 1 ? p.taps[1] : p.taps[2];
        int height = p.height << p.upsample, width = p.width << p.upsample;
#pragma unroll
        for (int i = 0; i < A_ROWS; i++) {
            int y = corner_row[i] + dy, z = corner_column[i] + dx;
            bool inside = there && unsigned(y) < unsigned(height) && unsigned(z) < unsigned(width);
            int64_t from = inside ? (item[i] + int64_t(y >> p.upsample) * p.width + (z >> p.upsample)) * p.channels + channel : 0;
            copy_async_cached(stage + exchanged(row + i * (THREADS / 8), part), x + from, inside);
        }
        const T* weights = static_cast<const T*>(p.weights) + int64_t(kernel_frame * taps + place) * p.channels + channel;
#pragma unroll
        for (int i = 0; i < B_ROWS; i++) {
            int output = row + i * (THREADS / 8);
            const T* from = there ? weights + int64_t(first_output + output) * p.inner : static_cast<const T*>(p.weights);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(stage + A_BYTES + exchanged(output, part)), "l"(from),
                         "r"(there ? 16 : 0));
        }
    }
};

template <typename T>
__device__ __forceinline__ void finish(const Parameters& p, int64_t position, int output, float first, float second) {
    int64_t positions = int64_t(p.batch) * p.out_height * p.out_width;
    if (position >= positions || output >= p.outputs) return;
    int64_t at = position * p.outputs + output;
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
    Load loader(p, first, first_output);
    int chunks = loader.chunks();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int warp_row = warp % 4 * 32, warp_output = warp / 4 * (OUTPUTS / 2);
    float sums[2][COLUMNS][4] = {};

    for (int chunk = 0; chunk < STAGES - 1; chunk++) {
        if (chunk < chunks) loader.load(chunk, base + chunk * Load::STAGE_BYTES);
        copy_commit();
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        int next = chunk + STAGES - 1;
        if (next < chunks) loader.load(next, base + next % STAGES * Load::STAGE_BYTES);
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
#pragma unroll
        for (int column = 0; column < COLUMNS; column++) {
            int64_t position = first + warp_row + i * 16 + lane / 4;
            int output = first_output + warp_output + column * 8 + lane % 4 * 2;
            finish<T>(p, position, output, sums[i][column][0], sums[i][column][1]);
            finish<T>(p, position + 8, output, sums[i][column][2], sums[i][column][3]);
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
    Load loader(p, first, first_output);
    int chunks = loader.chunks();
    int group = threadIdx.x / 128;
    float sums[OUTPUTS / 2];
#pragma unroll
    for (int i = 0; i < OUTPUTS / 2; i++) sums[i] = 0;

    for (int chunk = 0; chunk < STAGES - 1; chunk++) {
        if (chunk < chunks) loader.load(chunk, base + chunk * Load::STAGE_BYTES);
        copy_commit();
    }
    for (int chunk = 0; chunk < chunks; chunk++) {
        copy_wait<STAGES - 2>();
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
        if (next < chunks) loader.load(next, base + next % STAGES * Load::STAGE_BYTES);
        copy_commit();
    }
    wgmma_wait<0>();
    hold(sums);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int column = 0; column < OUTPUTS / 8; column++) {
        int64_t position = first + group * 64 + warp % 4 * 16 + lane / 4;
        int output = first_output + column * 8 + lane % 4 * 2;
        finish<T>(p, position, output, sums[4 * column], sums[4 * column + 1]);
        finish<T>(p, position + 8, output, sums[4 * column + 2], sums[4 * column + 3]);
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
