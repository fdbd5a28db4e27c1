//! Products of 8-bit integers, in tiles like those of f32: 14 rows and 32 columns with AVX-512, 6 and 16 with AVX-VNNI and with
//! AVX2, which multiplies them as pairs of 16 bits.

use super::super::KEYS;
use super::Keys;
use crate::Level;
use crate::cpu::pairs::by_rows;
use crate::cpu::tile::{self, COLUMNS};
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;

/// Elements of a query or key that one instruction multiplies and adds.
pub const GROUP: usize = 4;
/// What is added to the elements of queries, as bytes without a sign are multiplied with those that have one.
pub const OFFSET: i32 = 128;

/// Whether this machine multiplies 8-bit integers faster than f32.
pub fn available() -> bool {
    match Level::current() {
        Level::Avx512 => is_x86_feature_detected!("avx512vnni"),
        level => matches!(level, Level::Avx2 | Level::AvxVnni),
    }
}

/// Whether products are of pairs in 16 bits.
pub fn in_pairs() -> bool {
    Level::current() == Level::Avx2
}

/// `scores [m, KEYS]`, of which 32 columns, `= q [m, D / 4, 4] · keys`, times the units of both; `wide` is `q` in 16 bits, where
/// [`in_pairs`].
///
/// # Safety
/// These instructions are [`available`].
pub unsafe fn score(q: &[u8], wide: &[u16], units: &[f32], keys: Keys, scores: &mut [f32]) {
    let depth = keys.data.len() / COLUMNS;
    assert!(keys.starts.len() == COLUMNS && keys.units.len() == COLUMNS && depth.is_multiple_of(GROUP));
    assert!(q.len() == units.len() * depth && scores.len() + KEYS >= units.len() * KEYS + COLUMNS);
    let level = Level::current();
    let rows = tile::rows(level);
    assert!(level != Level::Avx2 || wide.len() == q.len());
    for (first, units) in (0..).step_by(rows).zip(units.chunks(rows)) {
        let (q, out) = (q[first * depth..].as_ptr(), scores[first * KEYS..].as_mut_ptr());
        // SAFETY: all lengths were checked; the instructions are there.
        unsafe {
            if level == Level::Avx512 {
                by_rows!(score_512, units.len(), (q, units, keys, out), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            } else if level == Level::Avx2 {
                let wide = wide[first * depth..].as_ptr();
                for column in [0, 16] {
                    by_rows!(score_pairs, units.len(), (wide, units, keys, out, column), 1 2 3 4 5 6);
                }
            } else {
                for column in [0, 16] {
                    by_rows!(score_256, units.len(), (q, units, keys, out, column), 1 2 3 4 5 6);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn score_512<const R: usize>(q: *const u8, units: &[f32], keys: Keys, out: *mut f32) {
    let depth = keys.data.len() / COLUMNS;
    // SAFETY: `R` rows of `q` and of `out`, and 32 columns of the keys, as the caller has checked.
    unsafe {
        let start = [keys.starts.as_ptr(), keys.starts.as_ptr().add(16)].map(|at| _mm512_loadu_si512(at.cast()));
        let mut sums = [start; R];
        let mut right = keys.data.as_ptr();
        for group in 0..depth / GROUP {
            let (low, high) = (_mm512_loadu_si512(right.cast()), _mm512_loadu_si512(right.add(64).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = q.add(i * depth + group * GROUP).cast::<i32>().read_unaligned();
                let left = _mm512_set1_epi32(left);
                sums[0] = _mm512_dpbusd_epi32(sums[0], left, low);
                sums[1] = _mm512_dpbusd_epi32(sums[1], left, high);
            }
            right = right.add(COLUMNS * GROUP);
        }
        let key_units = [keys.units.as_ptr(), keys.units.as_ptr().add(16)].map(|at| _mm512_loadu_ps(at));
        for (i, (sums, unit)) in sums.into_iter().zip(units).enumerate() {
            for (half, (sum, key_unit)) in sums.into_iter().zip(key_units).enumerate() {
                let unit = _mm512_mul_ps(_mm512_set1_ps(*unit), key_unit);
                _mm512_storeu_ps(out.add(i * KEYS + 16 * half), _mm512_mul_ps(_mm512_cvtepi32_ps(sum), unit));
            }
        }
    }
}

/// Sixteen columns from `column`.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn score_256<const R: usize>(q: *const u8, units: &[f32], keys: Keys, out: *mut f32, column: usize) {
    let depth = keys.data.len() / COLUMNS;
    // SAFETY: `R` rows of `q` and of `out`, and 32 columns of the keys, as the caller has checked.
    unsafe {
        let columns = [column, column + 8];
        let start = columns.map(|at| _mm256_loadu_si256(keys.starts.as_ptr().add(at).cast()));
        let mut sums = [start; R];
        let mut right = keys.data.as_ptr().add(column * GROUP);
        for group in 0..depth / GROUP {
            let (low, high) = (_mm256_loadu_si256(right.cast()), _mm256_loadu_si256(right.add(32).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = q.add(i * depth + group * GROUP).cast::<i32>().read_unaligned();
                let left = _mm256_set1_epi32(left);
                sums[0] = _mm256_dpbusd_avx_epi32(sums[0], left, low);
                sums[1] = _mm256_dpbusd_avx_epi32(sums[1], left, high);
            }
            right = right.wrapping_add(COLUMNS * GROUP);
        }
        write_256(sums, units, keys, columns, out);
    }
}

/// Sixteen columns from `column`, of keys whose elements lie in pairs.
#[target_feature(enable = "avx2")]
unsafe fn score_pairs<const R: usize>(q: *const u16, units: &[f32], keys: Keys, out: *mut f32, column: usize) {
    let depth = keys.data.len() / COLUMNS;
    // SAFETY: `R` rows of `q` and of `out`, and 32 columns of the keys, as the caller has checked.
    unsafe {
        let columns = [column, column + 8];
        let start = columns.map(|at| _mm256_loadu_si256(keys.starts.as_ptr().add(at).cast()));
        let mut sums = [start; R];
        let mut right = keys.data.as_ptr().add(2 * column);
        for pair in 0..depth / 2 {
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(right.cast()));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(right.add(16).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = _mm256_set1_epi32(q.add(i * depth + 2 * pair).cast::<i32>().read_unaligned());
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(left, low));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(left, high));
            }
            right = right.wrapping_add(2 * COLUMNS);
        }
        write_256(sums, units, keys, columns, out);
    }
}

/// Writes sums of two times eight columns, times the units of queries and keys.
///
/// # Safety
/// `R` rows of `out`, and AVX2.
#[target_feature(enable = "avx2")]
unsafe fn write_256<const R: usize>(
    sums: [[__m256i; 2]; R],
    units: &[f32],
    keys: Keys,
    columns: [usize; 2],
    out: *mut f32,
) {
    // SAFETY: as the caller vouches; there are 32 units of keys.
    unsafe {
        let key_units = columns.map(|at| _mm256_loadu_ps(keys.units.as_ptr().add(at)));
        for (i, (sums, unit)) in sums.into_iter().zip(units).enumerate() {
            for ((sum, key_unit), column) in sums.into_iter().zip(key_units).zip(columns) {
                let unit = _mm256_mul_ps(_mm256_set1_ps(*unit), key_unit);
                _mm256_storeu_ps(out.add(i * KEYS + column), _mm256_mul_ps(_mm256_cvtepi32_ps(sum), unit));
            }
        }
    }
}
