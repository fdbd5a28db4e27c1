// The instructions that kernels write out as assembly, each a function of its name, results first. translate.py makes calls
// of them.
#pragma once
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace emulated::ptx {

inline void ex2_approx_ftz_f32(float& y, float x) {
    constexpr float SMALLEST = std::numeric_limits<float>::min();
    y = exp2f(std::fabs(x) < SMALLEST ? 0.0f : x);
    if (y < SMALLEST) y = 0;
}

inline void ex2_approx_f16x2(uint32_t& y, uint32_t x) {
    uint16_t halves[2];
    for (int i = 0; i < 2; i++) halves[i] = __half_raw(__float2half_rn(exp2f(__half2float(__half_raw{uint16_t(x >> 16 * i)})))).x;
    y = halves[0] | uint32_t(halves[1]) << 16;
}

inline void cp_async_cg_shared_global(uint32_t to, const void* from, int bytes = 16) { copy_later(to, from, bytes != 0); }
inline void cp_async_ca_shared_global(uint32_t to, const void* from, int bytes = 16) { copy_later(to, from, bytes != 0); }
inline void cp_async_commit_group() { commit_copies(); }
inline void cp_async_wait_group(int pending) { wait_for_copies(pending); }

// Lanes 8i.. name the rows of matrix i, of which lane l gets the elements 2 (l % 4) and next of row l / 4, or of column l / 4.
struct Matrices {
    const uint16_t* row;
    uint32_t* to[4];

    template <bool TRANSPOSED> static void compute(void* const operands[32]) {
        const uint16_t* rows[32];
        for (int lane = 0; lane < 32; lane++) {
            if (!operands[lane]) fail("ldmatrix without all lanes of the warp");
            rows[lane] = static_cast<Matrices*>(operands[lane])->row;
        }
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 4; i++) {
                int line = lane / 4, pair = lane % 4 * 2;
                uint32_t low = TRANSPOSED ? rows[8 * i + pair][line] : rows[8 * i + line][pair];
                uint32_t high = TRANSPOSED ? rows[8 * i + pair + 1][line] : rows[8 * i + line][pair + 1];
                *static_cast<Matrices*>(operands[lane])->to[i] = low | high << 16;
            }
        }
    }
};

inline void ldmatrix_sync_aligned_m8n8_x4_shared_b16(uint32_t& d0, uint32_t& d1, uint32_t& d2, uint32_t& d3, uint32_t row) {
    Matrices operand{static_cast<const uint16_t*>(shared_pointer(row, 16)), {&d0, &d1, &d2, &d3}};
    meet(Matrices::compute<false>, &operand, ~0u);
}
inline void ldmatrix_sync_aligned_m8n8_x4_trans_shared_b16(uint32_t& d0, uint32_t& d1, uint32_t& d2, uint32_t& d3, uint32_t row) {
    Matrices operand{static_cast<const uint16_t*>(shared_pointer(row, 16)), {&d0, &d1, &d2, &d3}};
    meet(Matrices::compute<true>, &operand, ~0u);
}

// Eight numbers of 16 bits as f32.
template <bool BF16> void widen(const uint16_t* from, float* to) {
#if defined(__F16C__)
    if constexpr (!BF16) {
        _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
        return;
    }
#endif
    for (int i = 0; i < 8; i++) {
        if constexpr (BF16) {
            uint32_t bits = uint32_t(from[i]) << 16;
            std::memcpy(to + i, &bits, sizeof bits);
        } else {
            to[i] = __half2float(__half_raw{from[i]});
        }
    }
}

// d [16, 8] += a [16, 16] · b [16, 8]. Lane l has of rows l / 4 and l / 4 + 8 the columns 2 (l % 4) and next, of b it has those
// rows of column l / 4.
struct Product {
    float* d[4];
    uint32_t a[4], b[2];

    template <bool BF16> static void compute(void* const operands[32]) {
        typedef float Row __attribute__((vector_size(32)));  // eight numbers, multiplied at once
        uint16_t a[16][16], b[16][8];
        Row d[16], right[16];
        for (int lane = 0; lane < 32; lane++) {
            if (!operands[lane]) fail("mma without all lanes of the warp");
            const auto& own = *static_cast<const Product*>(operands[lane]);
            int line = lane / 4, pair = lane % 4 * 2;
            for (int i = 0; i < 4; i++) {
                std::memcpy(&a[line + i % 2 * 8][pair + i / 2 * 8], &own.a[i], 4);
                d[line + i / 2 * 8][pair + i % 2] = *own.d[i];
            }
            for (int i = 0; i < 2; i++) {
                b[pair + i * 8][line] = uint16_t(own.b[i]);
                b[pair + i * 8 + 1][line] = uint16_t(own.b[i] >> 16);
            }
        }
        for (int k = 0; k < 16; k++) widen<BF16>(b[k], reinterpret_cast<float*>(&right[k]));
        for (int m = 0; m < 16; m++) {
            float left[16];
            widen<BF16>(a[m], left);
            widen<BF16>(a[m] + 8, left + 8);
            for (int k = 0; k < 16; k++) d[m] += left[k] * right[k];
        }
        for (int lane = 0; lane < 32; lane++) {
            const auto& own = *static_cast<const Product*>(operands[lane]);
            for (int i = 0; i < 4; i++) *own.d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
        }
    }
};

inline void mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32(float& d0, float& d1, float& d2, float& d3, uint32_t a0, uint32_t a1,
                                                                uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    Product operand{{&d0, &d1, &d2, &d3}, {a0, a1, a2, a3}, {b0, b1}};
    meet(Product::compute<true>, &operand, ~0u);
}
inline void mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32(float& d0, float& d1, float& d2, float& d3, uint32_t a0, uint32_t a1,
                                                              uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    Product operand{{&d0, &d1, &d2, &d3}, {a0, a1, a2, a3}, {b0, b1}};
    meet(Product::compute<false>, &operand, ~0u);
}

}  // namespace emulated::ptx
