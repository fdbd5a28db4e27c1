// Both operands are copied to how they are read and to the type of the sums; blocks of the result are then computed beside
// each other.
#include "gemm.h"
#include "runtime.h"

#include <cmath>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <limits>

namespace emulated {

// Results of one step: ROWS, which lie together, by COLUMNS.
constexpr int ROWS = 16, COLUMNS = 6;
constexpr int64_t PART = 256;  // terms that are summed by themselves first

struct E4m3 {
    uint8_t bits;
    operator float() const { return __half2float(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)); }
};

// Calls `f` with a pointer of the C++ type that `type` says.
template <typename F> static auto typed(const void* data, cudaDataType type, F f) {
    switch (type) {
        case CUDA_R_16F: return f(static_cast<const __half*>(data));
        case CUDA_R_16BF: return f(static_cast<const __nv_bfloat16*>(data));
        case CUDA_R_8F_E4M3: return f(static_cast<const E4m3*>(data));
        case CUDA_R_8I: return f(static_cast<const int8_t*>(data));
        case CUDA_R_32I: return f(static_cast<const int32_t*>(data));
        case CUDA_R_64F: return f(static_cast<const double*>(data));
        case CUDA_R_32F: return f(static_cast<const float*>(data));
        default: fail("matrices of type %d", int(type));
    }
}

template <typename T> static double widened(T x) { return double(x); }
static double widened(__half x) { return __half2float(x); }
static double widened(__nv_bfloat16 x) { return __bfloat162float(x); }
static double widened(E4m3 x) { return float(x); }

double number(const void* data, cudaDataType type, int64_t at) {
    return typed(data, type, [&](auto* values) { return widened(values[at]); });
}

size_t bytes_of(cudaDataType type) {
    switch (type) {
        case CUDA_R_8F_E4M3:
        case CUDA_R_8I: return 1;
        case CUDA_R_16F:
        case CUDA_R_16BF: return 2;
        case CUDA_R_32F:
        case CUDA_R_32I: return 4;
        case CUDA_R_64F: return 8;
        default: return 0;
    }
}

bool multiplies(cudaDataType a, cudaDataType b, cudaDataType c) {
    if (a != b || !bytes_of(a) || !bytes_of(c) || a == CUDA_R_32I) return false;
    if (a == CUDA_R_8I) return c == CUDA_R_32I;
    if (a == CUDA_R_64F) return c == CUDA_R_64F;
    return c == CUDA_R_32F || c == CUDA_R_16F || c == CUDA_R_16BF;
}

static void store(void* data, cudaDataType type, int64_t at, double value) {
    switch (type) {
        case CUDA_R_16F: static_cast<__half*>(data)[at] = __float2half_rn(float(value)); break;
        case CUDA_R_16BF: static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(float(value)); break;
        case CUDA_R_32I: static_cast<int32_t*>(data)[at] = int32_t(value); break;
        case CUDA_R_64F: static_cast<double*>(data)[at] = value; break;
        default: static_cast<float*>(data)[at] = float(value);
    }
}

static float gelu_tanh(float x) { return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x))); }

// Copies lines `first..first + width` of an operand (zeros beyond its last) to `to [inner, width]`. Elements of a line lie
// together where `lines_together`, otherwise lines do.
template <typename Sum, int WIDTH>
static void pack(const Operand& from, int64_t item, int64_t first, int64_t lines, int64_t inner, bool inner_together, Sum* to) {
    typed(from.data, from.type, [&](auto* values) {
        int64_t line_step = inner_together ? from.stride : 1, inner_step = inner_together ? 1 : from.stride;
        values += item * from.item;
        for (int i = 0; i < WIDTH; i++) {
            bool there = first + i < lines;
            auto* line = values + (there ? first + i : 0) * line_step;
            for (int64_t k = 0; k < inner; k++) to[k * WIDTH + i] = there ? Sum(widened(line[k * inner_step])) : Sum(0);
        }
        return 0;
    });
}

// sums [COLUMNS, ROWS] of a [inner, ROWS] and b [inner, COLUMNS].
template <typename Sum> static void step(const Sum* a, const Sum* b, int64_t inner, Sum (&sums)[COLUMNS][ROWS]) {
    constexpr int LANES = 32 / sizeof(Sum), VECTORS = ROWS / LANES;
    typedef Sum Vector __attribute__((vector_size(32)));
    Vector total[COLUMNS][VECTORS] = {};
    for (int64_t begin = 0; begin < inner; begin += PART) {
        Vector part[COLUMNS][VECTORS] = {};
        int64_t end = begin + PART < inner ? begin + PART : inner;
        for (int64_t k = begin; k < end; k++) {
            Vector left[VECTORS];
            std::memcpy(left, a + k * ROWS, sizeof left);
            for (int j = 0; j < COLUMNS; j++)
                for (int i = 0; i < VECTORS; i++) part[j][i] += left[i] * b[k * COLUMNS + j];
        }
        for (int j = 0; j < COLUMNS; j++)
            for (int i = 0; i < VECTORS; i++) total[j][i] += part[j][i];
    }
    std::memcpy(sums, total, sizeof sums);
}

static void finish(const Product& p, int64_t item, int64_t row, int64_t column, double sum) {
    int64_t at = item * p.c.item + column * p.c.stride + row;
    double value = p.alpha * sum;
    if (p.row_scales) value *= p.row_scales[row];
    if (p.column_scales) value *= p.column_scales[column];
    if (p.beta != 0) value += p.beta * number(p.c.data, p.c.type, at);
    if (p.bias) value += number(p.bias, p.bias_type, row);
    if (p.gelu) value = gelu_tanh(float(value));
    if (p.relu && value < 0) value = 0;
    store(const_cast<void*>(p.c.data), p.c.type, at, value);
}

template <typename Sum> static void multiply_as(const Product& p) {
    int64_t row_blocks = (p.rows + ROWS - 1) / ROWS, column_blocks = (p.columns + COLUMNS - 1) / COLUMNS;
    std::vector<Sum> a(row_blocks * ROWS * p.inner), b(column_blocks * COLUMNS * p.inner);
    for (int64_t item = 0; item < p.items; item++) {
        // A matrix that all items share stays as it is.
        if (item == 0 || p.a.item) parallel(row_blocks, [&](size_t i) {
            pack<Sum, ROWS>(p.a, item, i * ROWS, p.rows, p.inner, p.a.transposed, &a[i * ROWS * p.inner]);
        });
        if (item == 0 || p.b.item) parallel(column_blocks, [&](size_t j) {
            pack<Sum, COLUMNS>(p.b, item, j * COLUMNS, p.columns, p.inner, !p.b.transposed, &b[j * COLUMNS * p.inner]);
        });
        parallel(row_blocks, [&](size_t i) {
            for (int64_t j = 0; j < column_blocks; j++) {
                Sum sums[COLUMNS][ROWS];
                step(&a[i * ROWS * p.inner], &b[j * COLUMNS * p.inner], p.inner, sums);
                for (int64_t y = 0; y < COLUMNS && j * COLUMNS + y < p.columns; y++)
                    for (int64_t x = 0; x < ROWS && int64_t(i) * ROWS + x < p.rows; x++)
                        finish(p, item, i * ROWS + x, j * COLUMNS + y, double(sums[y][x]));
            }
        });
    }
}

void multiply(const Product& product) {
    switch (product.a.type) {
        case CUDA_R_8I: return multiply_as<int32_t>(product);
        case CUDA_R_64F: return multiply_as<double>(product);
        default: return multiply_as<float>(product);
    }
}

}  // namespace emulated
