//! [`multiply_tile`](super::multiply_tile) for `AArch64`: its instruction multiplies four elements of two rows and of two
//! columns, and adds them to four sums.
//!
//! The instructions are written as assembly, because Rust has no stable functions for them.

use super::{Target, by_rows};
use crate::Level;
use crate::cpu::tile::COLUMNS;
use half::bf16;
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;
use std::arch::asm;

/// Rows of a tile.
pub const ROWS: usize = 6;
/// Elements that one instruction multiplies and adds.
pub const GROUP: usize = 4;
/// Columns of a tile.
const WIDTH: usize = 16;

/// See [`available`](super::available).
pub fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16") && Level::current() == Level::I8mm
}

/// One instruction does the work of four of f32.
pub fn fast() -> bool {
    available()
}

/// Up to 6 rows of half a panel: 24 sums, three registers of two rows each, and those of the panel one after the other.
///
/// # Safety
/// `count` rows of `left` and of `to` are as long as [`multiply_tile`](super::multiply_tile) checks, and the machine has the
/// instructions.
pub unsafe fn multiply(count: usize, left: *const bf16, row: usize, panel: &[bf16], to: &Target) {
    for first in (0..COLUMNS).step_by(WIDTH) {
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(tile, count.div_ceil(2), (count, left, row, panel, first, to), 1 2 3) }
    }
}

/// # Safety
/// As [`multiply`], of `P` pairs of rows; the last pair may be one row.
#[target_feature(enable = "neon,bf16")]
unsafe fn tile<const P: usize>(count: usize, left: *const bf16, row: usize, panel: &[bf16], first: usize, to: &Target) {
    let mut sums = [[vdupq_n_f32(0.0); WIDTH / 2]; P];
    let (mut left, mut right) = (left.cast::<u16>(), panel.as_ptr().cast::<u16>().wrapping_add(GROUP * first));
    for _ in 0..panel.len() / (GROUP * COLUMNS) {
        // SAFETY: four elements of every row, and of sixteen columns.
        unsafe {
            let mut pairs = [vdupq_n_u16(0); P];
            for (pair, rows) in pairs.iter_mut().enumerate() {
                let second = (2 * pair + 1).min(count - 1);
                *rows = vcombine_u16(vld1_u16(left.add(2 * pair * row)), vld1_u16(left.add(second * row)));
            }
            for at in 0..WIDTH / 2 {
                let columns = vld1q_u16(right.add(2 * GROUP * at));
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
            let (low, high) = (vreinterpretq_f64_f32(columns[0]), vreinterpretq_f64_f32(columns[1]));
            let rows = [vzip1q_f64(low, high), vzip2q_f64(low, high)];
            for (i, sums) in (2 * pair..count).zip(rows) {
                // SAFETY: four columns of one of the rows.
                unsafe {
                    let at = to.data.add(i * to.row + first + 4 * at);
                    let scaled = vmulq_n_f32(vreinterpretq_f32_f64(sums), to.scale);
                    vst1q_f32(at, if to.accumulate { vaddq_f32(vld1q_f32(at), scaled) } else { scaled });
                }
            }
        }
    }
}

/// `sum [2, 2] += a [2, 4] · b [2, 4]ᵀ`.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn multiply_pairs(mut sum: float32x4_t, a: uint16x8_t, b: uint16x8_t) -> float32x4_t {
    // SAFETY: it reads and writes these registers alone.
    unsafe {
        asm!("bfmmla {0:v}.4s, {1:v}.8h, {2:v}.8h", inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// See [`to_bf16`](super::to_bf16).
///
/// # Safety
/// The machine has the instructions.
#[target_feature(enable = "neon,bf16")]
pub unsafe fn to_bf16(x: &[f32], out: &mut [bf16]) {
    for (x, out) in x.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<8>().0) {
        // SAFETY: eight elements each; the instructions write one register.
        unsafe {
            let (low, high) = (vld1q_f32(x.as_ptr()), vld1q_f32(x.as_ptr().add(4)));
            let rounded: uint16x8_t;
            asm!("bfcvtn {0:v}.4h, {1:v}.4s", "bfcvtn2 {0:v}.8h, {2:v}.4s", out(vreg) rounded, in(vreg) low,
                in(vreg) high, options(pure, nomem, nostack, preserves_flags));
            vst1q_u16(out.as_mut_ptr().cast(), rounded);
        }
    }
}
