//! Products of bytes in the registers of AVX2 and AVX-512.

use super::super::super::pairs::by_rows;
use super::super::super::tile::COLUMNS;
use super::super::line::{Line, Quad};
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;

/// Up to 14 rows: 28 sums, two registers of the panel, one of four inputs.
///
/// # Safety
/// As many rows as `out` has, `stride` apart, each of four bytes per line of the panel; AVX-512 with VNNI.
pub unsafe fn avx512_vnni(
    rows: *const u8,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    accumulate: bool,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        by_rows!(avx512_vnni_rows, out.len(), (rows, stride, panel, out, accumulate), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// Up to 6 rows of half a panel: 12 sums, two registers of the panel, one of four inputs.
///
/// # Safety
/// As many rows as `out` has, `stride` apart, each of four bytes per line of the panel; AVX2 and AVX-VNNI.
pub unsafe fn avx_vnni(rows: *const u8, stride: usize, panel: &[Line<Quad>], out: &mut [Line<i32>], accumulate: bool) {
    for first in (0..COLUMNS).step_by(16) {
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(avx_vnni_rows, out.len(), (rows, stride, panel, out, first, accumulate), 1 2 3 4 5 6) }
    }
}

/// Up to 6 rows of half a panel: 12 sums, two registers of the panel, one of two inputs.
///
/// # Safety
/// As many rows as `out` has, `stride` apart, each of four inputs per line of the panel; AVX2.
pub unsafe fn avx2(rows: *const u16, stride: usize, panel: &[Line<Quad>], out: &mut [Line<i32>], accumulate: bool) {
    for first in (0..COLUMNS).step_by(16) {
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(avx2_rows, out.len(), (rows, stride, panel, out, first, accumulate), 1 2 3 4 5 6) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
unsafe fn avx512_vnni_rows<const R: usize>(
    rows: *const u8,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_si512(); 2]; R];
    for (i, line) in panel.iter().enumerate() {
        let at = line.0.as_ptr();
        // SAFETY: a line has two registers; rows as the caller vouches.
        unsafe {
            let (low, high) = (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(16).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = _mm512_set1_epi32(rows.add(row * stride + 4 * i).cast::<i32>().read_unaligned());
                sums[0] = _mm512_dpbusd_epi32(sums[0], inputs, low);
                sums[1] = _mm512_dpbusd_epi32(sums[1], inputs, high);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        for (half, &sum) in sums.iter().enumerate() {
            // SAFETY: a line has two registers.
            unsafe {
                let at = out.0.as_mut_ptr().add(16 * half);
                let kept = if accumulate { _mm512_loadu_si512(at.cast()) } else { _mm512_setzero_si512() };
                _mm512_storeu_si512(at.cast(), _mm512_add_epi32(kept, sum));
            }
        }
    }
}

/// Bytes are widened to 16 bits: the instruction that multiplies them as they are would cut off large sums.
#[target_feature(enable = "avx2")]
unsafe fn avx2_rows<const R: usize>(
    rows: *const u16,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    first: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    // Half a line has the first pair of inputs for all columns, the other half the second.
    let (mut rows, mut weights) = (rows, panel.as_ptr().cast::<i8>().wrapping_add(2 * first));
    for _ in 0..2 * panel.len() {
        // SAFETY: 16 columns of two bytes, and two inputs of R rows, as the caller vouches.
        unsafe {
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.cast()));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(16).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = _mm256_set1_epi32(rows.add(row * stride).cast::<i32>().read_unaligned());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(inputs, low));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(inputs, high));
            }
        }
        rows = rows.wrapping_add(2);
        weights = weights.wrapping_add(2 * COLUMNS);
    }
    // SAFETY: AVX2, as the caller vouches.
    unsafe { add_256(&sums, out, first, accumulate) };
}

/// Bytes are multiplied as they are, four products to a sum.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni_rows<const R: usize>(
    rows: *const u8,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    first: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    for (i, line) in panel.iter().enumerate() {
        let at = line.0[first..first + 16].as_ptr();
        // SAFETY: half a line has two registers; rows as the caller vouches.
        unsafe {
            let (low, high) = (_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(8).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = _mm256_set1_epi32(rows.add(row * stride + 4 * i).cast::<i32>().read_unaligned());
                sums[0] = _mm256_dpbusd_avx_epi32(sums[0], inputs, low);
                sums[1] = _mm256_dpbusd_avx_epi32(sums[1], inputs, high);
            }
        }
    }
    // SAFETY: AVX2, as the caller vouches.
    unsafe { add_256(&sums, out, first, accumulate) };
}

/// Writes the sums of sixteen columns from `first`, or adds them.
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
unsafe fn add_256<const R: usize>(sums: &[[__m256i; 2]; R], out: &mut [Line<i32>], first: usize, accumulate: bool) {
    for (sums, out) in sums.iter().zip(out) {
        for (sum, out) in sums.iter().zip(out.0[first..first + 16].as_chunks_mut::<8>().0) {
            let at = out.as_mut_ptr();
            // SAFETY: eight columns.
            unsafe {
                let kept = if accumulate { _mm256_loadu_si256(at.cast()) } else { _mm256_setzero_si256() };
                _mm256_storeu_si256(at.cast(), _mm256_add_epi32(kept, *sum));
            }
        }
    }
}
