// Products of matrices as cuBLAS and cuBLASLt ask for them: columns lie together.
#pragma once
#include <cstddef>
#include <cstdint>
#include <library_types.h>

namespace emulated {

struct Operand {
    const void* data;
    cudaDataType type;
    int64_t stride;      // between columns
    bool transposed;
    int64_t item = 0;    // between matrices
};

struct Product {
    int64_t rows, columns, inner, items = 1;
    Operand a, b;  // [rows, inner] and [inner, columns], before they are transposed
    Operand c;     // [rows, columns]; what `beta` multiplies is in it
    double alpha = 1, beta = 0;
    // And of cuBLASLt, over rows and columns of the result; null: none.
    const float *row_scales = nullptr, *column_scales = nullptr;
    const void* bias = nullptr;  // over rows
    cudaDataType bias_type = CUDA_R_32F;
    bool gelu = false, relu = false;
};

// Whether there are sums for operands and results of these types.
bool multiplies(cudaDataType a, cudaDataType b, cudaDataType c);
void multiply(const Product& product);
size_t bytes_of(cudaDataType type);  // 0: not known
double number(const void* data, cudaDataType type, int64_t at);

}  // namespace emulated
