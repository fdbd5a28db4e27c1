// cuBLAS as candle calls it: products of many matrices at a time.
#include "driver.h"
#include "gemm.h"

using namespace emulated;

namespace {

// As cublas_api.h numbers them.
enum Status { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Compute { COMPUTE_16F = 64, COMPUTE_16F_PEDANTIC = 65, COMPUTE_64F = 70, COMPUTE_64F_PEDANTIC = 71, COMPUTE_32I = 72 };

struct Handle {
    CUstream stream = nullptr;
};

// The type of alpha and beta.
cudaDataType factor_type(int compute) {
    switch (compute) {
        case COMPUTE_16F:
        case COMPUTE_16F_PEDANTIC: return CUDA_R_16F;
        case COMPUTE_64F:
        case COMPUTE_64F_PEDANTIC: return CUDA_R_64F;
        case COMPUTE_32I: return CUDA_R_32I;
        default: return CUDA_R_32F;
    }
}

}  // namespace

extern "C" {

Status cublasCreate_v2(Handle** handle) {
    *handle = new Handle;
    return SUCCESS;
}
Status cublasDestroy_v2(Handle* handle) {
    delete handle;
    return SUCCESS;
}
Status cublasSetStream_v2(Handle* handle, CUstream stream) {
    handle->stream = stream;
    return SUCCESS;
}
Status cublasSetWorkspace_v2(Handle*, void*, size_t) { return SUCCESS; }
Status cublasSetMathMode(Handle*, int) { return SUCCESS; }

Status cublasGemmStridedBatchedEx(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a,
                                  cudaDataType a_type, int a_stride, long long a_item, const void* b, cudaDataType b_type, int b_stride,
                                  long long b_item, const void* beta, void* c, cudaDataType c_type, int c_stride, long long c_item,
                                  int items, int compute, int) {
    DRIVER_CALL;
    if (m < 0 || n < 0 || k < 0 || items < 0 || c_stride < m) return INVALID_VALUE;
    if (a_stride < (transpose_a ? k : m) || b_stride < (transpose_b ? n : k)) return INVALID_VALUE;
    if (!multiplies(a_type, b_type, c_type)) return NOT_SUPPORTED;
    Product product{m, n, k, items, {a, a_type, a_stride, transpose_a != 0, a_item}, {b, b_type, b_stride, transpose_b != 0, b_item},
                    {c, c_type, c_stride, false, c_item}};
    product.alpha = number(alpha, factor_type(compute), 0);
    product.beta = number(beta, factor_type(compute), 0);
    return submit(handle->stream, [=] { multiply(product); }) ? EXECUTION_FAILED : SUCCESS;
}

Status cublasGemmEx(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a,
                    cudaDataType a_type, int a_stride, const void* b, cudaDataType b_type, int b_stride, const void* beta, void* c,
                    cudaDataType c_type, int c_stride, int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type, a_stride, 0, b, b_type, b_stride, 0,
                                      beta, c, c_type, c_stride, 0, 1, compute, algorithm);
}

Status cublasDgemmStridedBatched(Handle* handle, int transpose_a, int transpose_b, int m, int n, int k, const double* alpha,
                                 const double* a, int a_stride, long long a_item, const double* b, int b_stride, long long b_item,
                                 const double* beta, double* c, int c_stride, long long c_item, int items) {
    return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, CUDA_R_64F, a_stride, a_item, b, CUDA_R_64F,
                                      b_stride, b_item, beta, c, CUDA_R_64F, c_stride, c_item, items, COMPUTE_64F, 0);
}

}  // extern "C"
