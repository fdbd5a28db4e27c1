//! Products of 8-bit integers, in tiles of 6 rows and 16 columns like those of bf16.

use super::super::KEYS;
use super::Keys;
use crate::cpu::pairs::{self, by_rows};
use crate::cpu::tile::COLUMNS;
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;
use std::arch::asm;

/// Elements of a query or key that one instruction multiplies and adds.
pub const GROUP: usize = 8;
/// What is added to the elements of queries: nothing, as they are multiplied with their sign.
pub const OFFSET: i32 = 0;
/// Rows of a tile.
const ROWS: usize = 6;
/// Columns of a tile.
const WIDTH: usize = 16;

/// Whether this machine multiplies 8-bit integers and bf16.
pub fn available() -> bool {
    pairs::available()
}

/// Whether products are of pairs in 16 bits.
pub fn in_pairs() -> bool {
    false
}

/// `scores [m, KEYS]`, of which 32 columns, `= q [m, D / 8, 8] · keys`, times the units of both.
///
/// # Safety
/// [`available`].
pub unsafe fn score(q: &[u8], _: &[u16], units: &[f32], keys: Keys, scores: &mut [f32]) {
    let depth = keys.data.len() / COLUMNS;
    assert!(keys.starts.len() == COLUMNS && keys.units.len() == COLUMNS && depth.is_multiple_of(GROUP));
    assert!(q.len() == units.len() * depth && scores.len() + KEYS >= units.len() * KEYS + COLUMNS);
    for (first, units) in (0..).step_by(ROWS).zip(units.chunks(ROWS)) {
        let (q, out) = (&q[first * depth..], scores[first * KEYS..].as_mut_ptr());
        for column in (0..COLUMNS).step_by(WIDTH) {
            // SAFETY: all lengths were checked; the instructions are there.
            unsafe { by_rows!(score_pairs, units.len().div_ceil(2), (q, units, keys, column, out), 1 2 3) }
        }
    }
}

/// Sixteen columns of `P` pairs of rows; the last pair may be one row.
#[target_feature(enable = "neon,i8mm")]
unsafe fn score_pairs<const P: usize>(q: &[u8], units: &[f32], keys: Keys, first: usize, out: *mut f32) {
    let depth = keys.data.len() / COLUMNS;
    let mut start = [vdupq_n_s32(0); WIDTH / 2];
    for (start, columns) in start.iter_mut().zip(keys.starts[first..first + WIDTH].as_chunks::<2>().0) {
        // SAFETY: two columns.
        let columns = unsafe { vld1_s32(columns.as_ptr()) };
        *start = vcombine_s32(columns, columns);
    }
    let mut sums = [start; P];
    let (mut left, mut right) = (q.as_ptr().cast::<i8>(), keys.data.as_ptr().wrapping_add(GROUP * first));
    for _ in 0..depth / GROUP {
        // SAFETY: eight elements of every row, and of sixteen columns.
        unsafe {
            let mut pairs = [vdupq_n_s8(0); P];
            for (pair, rows) in pairs.iter_mut().enumerate() {
                let second = (2 * pair + 1).min(units.len() - 1);
                *rows = vcombine_s8(vld1_s8(left.add(2 * pair * depth)), vld1_s8(left.add(second * depth)));
            }
            for at in 0..WIDTH / 2 {
                let columns = vld1q_s8(right.add(2 * GROUP * at));
                for (sums, &rows) in sums.iter_mut().zip(&pairs) {
                    sums[at] = multiply_pairs(sums[at], rows, columns);
                }
            }
        }
        left = left.wrapping_add(GROUP);
        right = right.wrapping_add(GROUP * COLUMNS);
    }
    for (pair, sums) in sums.iter().enumerate() {
        for (at, columns) in sums.as_chunks::<2>().0.iter().enumerate() {
            let (low, high) = (vreinterpretq_s64_s32(columns[0]), vreinterpretq_s64_s32(columns[1]));
            let rows = [vzip1q_s64(low, high), vzip2q_s64(low, high)];
            for (row, sums) in (2 * pair..units.len()).zip(rows) {
                let column = first + 4 * at;
                // SAFETY: four columns of one of the rows.
                unsafe {
                    let unit = vmulq_n_f32(vld1q_f32(keys.units[column..column + 4].as_ptr()), units[row]);
                    let sums = vcvtq_f32_s32(vreinterpretq_s32_s64(sums));
                    vst1q_f32(out.add(row * KEYS + column), vmulq_f32(sums, unit));
                }
            }
        }
    }
}

/// `sum [2, 2] += a [2, 8] · b [2, 8]ᵀ`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn multiply_pairs(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: it reads and writes these registers alone.
    unsafe {
        asm!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
