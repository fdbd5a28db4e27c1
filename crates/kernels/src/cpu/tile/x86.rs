//! [`multiply_tile`](super::multiply_tile) for AVX2 and AVX-512.

use super::{Out, Panel, Rows, Stored};
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;

/// Calls `$f::<T, R>` with `R` the number of rows, so that the sums are registers.
macro_rules! by_rows {
    ($f:ident, $t:ident, $m:expr, $args:tt, $($r:literal)*) => {
        match $m {
            $($r => by_rows!(@ $f, $t, $r, $args),)*
            _ => unreachable!("more rows than registers"),
        }
    };
    (@ $f:ident, $t:ident, $r:literal, ($($arg:expr),*)) => { $f::<$t, $r>($($arg),*) };
}

/// Up to 14 rows: 28 sums, two registers of the panel, one broadcast element.
///
/// # Safety
/// The conditions of [`multiply_tile`](super::multiply_tile).
pub unsafe fn avx512<T: Stored>([m, n, k]: [usize; 3], rows: Rows, panel: Panel<T>, out: Out) {
    // SAFETY: as the caller vouches.
    unsafe { by_rows!(avx512_rows, T, m, (n, k, rows, panel, out), 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
}

/// Up to 6 rows of half a panel: 12 sums, two registers of the panel, one broadcast element.
///
/// # Safety
/// The conditions of [`multiply_tile`](super::multiply_tile).
pub unsafe fn avx2<T: Stored>([m, n, k]: [usize; 3], rows: Rows, panel: Panel<T>, out: Out) {
    for first in (0..n).step_by(16) {
        let panel = Panel { data: panel.data.wrapping_add(first), ..panel };
        let out = Out { data: out.data.wrapping_add(first), ..out };
        let n = 16.min(n - first);
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(avx2_rows, T, m, (n, k, rows, panel, out), 1 2 3 4 5 6) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn avx512_rows<T: Stored, const R: usize>(n: usize, k: usize, rows: Rows, panel: Panel<T>, out: Out) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let (mut left, mut right) = (rows.data, panel.data);
    for _ in 0..k {
        // SAFETY: step `p` of `k`, of R rows and 32 columns that the caller vouches for.
        unsafe {
            let (low, high) = (T::load16(right), T::load16(right.add(16)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let element = _mm512_set1_ps(*left.add(i * rows.row));
                sums[0] = _mm512_fmadd_ps(element, low, sums[0]);
                sums[1] = _mm512_fmadd_ps(element, high, sums[1]);
            }
        }
        left = left.wrapping_add(rows.step);
        right = right.wrapping_add(panel.row);
    }
    let mask = ((1u64 << n) - 1) as u32;
    for (i, sums) in sums.iter().enumerate() {
        for (half, mask) in [mask as u16, (mask >> 16) as u16].into_iter().enumerate() {
            let at = out.data.wrapping_add(i * out.row + 16 * half);
            // SAFETY: the mask leaves columns below `n`, which are the caller's own.
            unsafe {
                let kept = if out.accumulate { _mm512_maskz_loadu_ps(mask, at) } else { _mm512_setzero_ps() };
                let sum = _mm512_add_ps(kept, sums[half]);
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2_rows<T: Stored, const R: usize>(n: usize, k: usize, rows: Rows, panel: Panel<T>, out: Out) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let (mut left, mut right) = (rows.data, panel.data);
    for _ in 0..k {
        // SAFETY: step `p` of `k`, of R rows and 16 columns that the caller vouches for.
        unsafe {
            let (low, high) = (T::load8(right), T::load8(right.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let element = _mm256_set1_ps(*left.add(i * rows.row));
                sums[0] = _mm256_fmadd_ps(element, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(element, high, sums[1]);
            }
        }
        left = left.wrapping_add(rows.step);
        right = right.wrapping_add(panel.row);
    }
    for (i, sums) in sums.iter().enumerate() {
        let at = out.data.wrapping_add(i * out.row);
        for (half, &sum) in sums.iter().enumerate() {
            let (at, columns) = (at.wrapping_add(8 * half), n.saturating_sub(8 * half));
            // SAFETY: the first `n` elements of the output row are the caller's own.
            unsafe {
                if columns >= 8 {
                    let sum = if out.accumulate { _mm256_add_ps(_mm256_loadu_ps(at), sum) } else { sum };
                    _mm256_storeu_ps(at, sum);
                } else {
                    let mut last = [0f32; 8];
                    _mm256_storeu_ps(last.as_mut_ptr(), sum);
                    let out_row = std::slice::from_raw_parts_mut(at, columns);
                    for (out_element, sum) in out_row.iter_mut().zip(last) {
                        *out_element = if out.accumulate { *out_element + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// # Safety
/// Sixteen readable elements and AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn load16_f32(at: *const f32) -> __m512 {
    // SAFETY: as the caller vouches.
    unsafe { _mm512_loadu_ps(at) }
}

/// # Safety
/// Sixteen readable elements and AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn load16_bf16(at: *const half::bf16) -> __m512 {
    // SAFETY: as the caller vouches.
    let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(at.cast()) });
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
}

/// # Safety
/// Sixteen readable elements and AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn load16_f16(at: *const half::f16) -> __m512 {
    // SAFETY: as the caller vouches.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
}

/// # Safety
/// Eight readable elements and AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn load8_f32(at: *const f32) -> __m256 {
    // SAFETY: as the caller vouches.
    unsafe { _mm256_loadu_ps(at) }
}

/// # Safety
/// Eight readable elements and AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn load8_bf16(at: *const half::bf16) -> __m256 {
    // SAFETY: as the caller vouches.
    let bits = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(at.cast()) });
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
}

/// # Safety
/// Eight readable elements, AVX2 and F16C.
#[target_feature(enable = "avx2,f16c")]
pub unsafe fn load8_f16(at: *const half::f16) -> __m256 {
    // SAFETY: as the caller vouches.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
}

/// # Safety
/// Sixteen readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub unsafe fn load16_e4m3(at: *const u8) -> __m512 {
    // SAFETY: as the caller vouches.
    let wide = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(at.cast()) });
    // The sign fills the upper byte: what is not it or the seven bits goes.
    let bits = _mm256_and_si256(_mm256_slli_epi16::<7>(wide), _mm256_set1_epi16(0xbf80u16 as i16));
    _mm512_mul_ps(_mm512_cvtph_ps(bits), _mm512_set1_ps(256.0))
}

/// # Safety
/// Sixteen readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub unsafe fn load16_e5m2(at: *const u8) -> __m512 {
    // SAFETY: as the caller vouches.
    let wide = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(at.cast()) });
    _mm512_cvtph_ps(_mm256_slli_epi16::<8>(wide))
}

/// # Safety
/// Eight readable bytes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub unsafe fn load8_e4m3(at: *const u8) -> __m256 {
    // SAFETY: as the caller vouches.
    let wide = _mm_cvtepi8_epi16(unsafe { _mm_loadl_epi64(at.cast()) });
    let bits = _mm_and_si128(_mm_slli_epi16::<7>(wide), _mm_set1_epi16(0xbf80u16 as i16));
    _mm256_mul_ps(_mm256_cvtph_ps(bits), _mm256_set1_ps(256.0))
}

/// # Safety
/// Eight readable bytes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub unsafe fn load8_e5m2(at: *const u8) -> __m256 {
    // SAFETY: as the caller vouches.
    let wide = _mm_cvtepi8_epi16(unsafe { _mm_loadl_epi64(at.cast()) });
    _mm256_cvtph_ps(_mm_slli_epi16::<8>(wide))
}
