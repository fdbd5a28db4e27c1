// cuBLASLt as linear layers call it: one product with scales, a bias and an activation.
#include "driver.h"
#include "gemm.h"

#include <cstring>
#include <map>

using namespace emulated;

namespace {

// As cublasLt.h numbers them.
enum Status { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Attribute {
    SCALE_TYPE = 1,
    TRANSPOSE_A = 3,
    TRANSPOSE_B = 4,
    EPILOGUE = 7,
    BIAS_POINTER = 8,
    A_SCALE_POINTER = 17,
    B_SCALE_POINTER = 18,
    FAST_ACCUM = 25,
    BIAS_TYPE = 26,
    A_SCALE_MODE = 31,
    B_SCALE_MODE = 32,
};
enum Epilogue { DEFAULT = 1, RELU = 2, BIAS = 4, GELU = 32 };
enum ScaleMode { SCALAR = 0, OUTER_VECTOR = 3 };

struct Description {
    int compute;
    cudaDataType scale;
    std::map<int, uint64_t> attributes;  // values of up to 8 bytes

    uint64_t get(int attribute, uint64_t otherwise = 0) const {
        auto found = attributes.find(attribute);
        return found == attributes.end() ? otherwise : found->second;
    }
};

struct Layout {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t stride;
};

struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

bool known(int attribute) {
    switch (attribute) {
        case TRANSPOSE_A:
        case TRANSPOSE_B:
        case EPILOGUE:
        case BIAS_POINTER:
        case BIAS_TYPE:
        case A_SCALE_POINTER:
        case B_SCALE_POINTER:
        case A_SCALE_MODE:
        case B_SCALE_MODE:
        case FAST_ACCUM: return true;
        default: return false;
    }
}

// The product that is asked for; whether there is one such.
Status describe(const Description& d, const Layout& a, const Layout& b, const Layout& c, Product& product) {
    bool transpose_a = d.get(TRANSPOSE_A), transpose_b = d.get(TRANSPOSE_B);
    uint64_t rows = transpose_a ? a.columns : a.rows, inner = transpose_a ? a.rows : a.columns;
    uint64_t columns = transpose_b ? b.rows : b.columns;
    if ((transpose_b ? b.columns : b.rows) != inner || c.rows != rows || c.columns != columns) return INVALID_VALUE;
    if (!multiplies(a.type, b.type, c.type)) return NOT_SUPPORTED;
    uint64_t epilogue = d.get(EPILOGUE, DEFAULT);
    if (epilogue & ~uint64_t(DEFAULT | RELU | BIAS | GELU)) return NOT_SUPPORTED;
    bool eight_bits = bytes_of(a.type) == 1, whole = a.type == CUDA_R_8I;
    // Eight bits are multiplied where both operands have the inner numbers together, 16 at a time.
    if (eight_bits && (!transpose_a || transpose_b || inner % 16 || rows % 16)) return NOT_SUPPORTED;
    if (whole && (epilogue != DEFAULT || d.scale != CUDA_R_32I)) return NOT_SUPPORTED;
    product = {int64_t(rows), int64_t(columns), int64_t(inner), 1, {nullptr, a.type, a.stride, transpose_a},
               {nullptr, b.type, b.stride, transpose_b}, {nullptr, c.type, c.stride, false}};
    product.gelu = epilogue & GELU;
    product.relu = epilogue & RELU;
    if (epilogue & BIAS) product.bias = reinterpret_cast<const void*>(d.get(BIAS_POINTER));
    product.bias_type = cudaDataType(d.get(BIAS_TYPE, c.type));
    for (int mode : {A_SCALE_MODE, B_SCALE_MODE}) {
        auto pointer = reinterpret_cast<const float*>(d.get(mode == A_SCALE_MODE ? A_SCALE_POINTER : B_SCALE_POINTER));
        if (!pointer) continue;
        // On Hopper a scale for each row goes with e4m3 and results of 16 bits; others are not emulated.
        if (d.get(mode) != OUTER_VECTOR || a.type != CUDA_R_8F_E4M3 || bytes_of(c.type) != 2) return NOT_SUPPORTED;
        (mode == A_SCALE_MODE ? product.row_scales : product.column_scales) = pointer;
    }
    return SUCCESS;
}

}  // namespace

extern "C" {

Status cublasLtCreate(void** handle) {
    static int library;
    *handle = &library;
    return SUCCESS;
}
Status cublasLtDestroy(void*) { return SUCCESS; }

Status cublasLtMatmulDescCreate(Description** description, int compute, cudaDataType scale) {
    *description = new Description{compute, scale, {}};
    return SUCCESS;
}
Status cublasLtMatmulDescDestroy(Description* description) {
    delete description;
    return SUCCESS;
}
Status cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value, size_t bytes) {
    if (!known(attribute) || bytes > 8) return NOT_SUPPORTED;
    uint64_t wide = 0;
    std::memcpy(&wide, value, bytes);
    description->attributes[attribute] = wide;
    return SUCCESS;
}

Status cublasLtMatrixLayoutCreate(Layout** layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t stride) {
    *layout = new Layout{type, rows, columns, stride};
    return SUCCESS;
}
Status cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}

// Every product is computed in the one way there is, whatever is preferred.
Status cublasLtMatmulPreferenceCreate(void** preference) {
    *preference = new char;
    return SUCCESS;
}
Status cublasLtMatmulPreferenceDestroy(void* preference) {
    delete static_cast<char*>(preference);
    return SUCCESS;
}
Status cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return SUCCESS; }

Status cublasLtMatmulAlgoGetHeuristic(void*, const Description* description, const Layout* a, const Layout* b, const Layout*,
                                      const Layout* d, void*, int asked, Heuristic* results, int* found) {
    Product product;
    *found = 0;
    Status status = describe(*description, *a, *b, *d, product);
    if (status || asked < 1) return status;
    results[0] = {};
    *found = 1;
    return SUCCESS;
}

Status cublasLtMatmul(void*, const Description* description, const void* alpha, const void* a, const Layout* a_layout, const void* b,
                      const Layout* b_layout, const void* beta, const void* c, const Layout*, void* d, const Layout* d_layout,
                      const void*, void*, size_t, CUstream stream) {
    DRIVER_CALL;
    Product product;
    if (Status status = describe(*description, *a_layout, *b_layout, *d_layout, product)) return status;
    product.a.data = a;
    product.b.data = b;
    product.c.data = d;
    product.alpha = number(alpha, description->scale, 0);
    product.beta = number(beta, description->scale, 0);
    if (product.beta != 0 && c != d) return NOT_SUPPORTED;
    return submit(stream, [=] { multiply(product); }) ? EXECUTION_FAILED : SUCCESS;
}

}  // extern "C"
