//! [`multiply_tile`](super::multiply_tile) for NEON.

use super::{Out, Panel, Rows, Stored};
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;

/// Columns of a tile.
const COLUMNS: usize = 8;

/// Up to 8 rows of a quarter of a panel: 16 sums, two registers of the panel, and 8 of the rows, each four elements long.
/// So many sums hide the latency of four multiplications a cycle, and of four registers that are read, all 16 are multiplied.
///
/// # Safety
/// The conditions of [`multiply_tile`](super::multiply_tile).
pub unsafe fn multiply<T: Stored>([m, n, k]: [usize; 3], rows: Rows, panel: Panel<T>, out: Out) {
    for first in (0..n).step_by(COLUMNS) {
        let panel = Panel { data: panel.data.wrapping_add(first), ..panel };
        let out = Out { data: out.data.wrapping_add(first), ..out };
        let n = COLUMNS.min(n - first);
        // SAFETY: as the caller vouches.
        unsafe {
            match m {
                1 => tile::<T, 1>(n, k, rows, panel, out),
                2 => tile::<T, 2>(n, k, rows, panel, out),
                3 => tile::<T, 3>(n, k, rows, panel, out),
                4 => tile::<T, 4>(n, k, rows, panel, out),
                5 => tile::<T, 5>(n, k, rows, panel, out),
                6 => tile::<T, 6>(n, k, rows, panel, out),
                7 => tile::<T, 7>(n, k, rows, panel, out),
                8 => tile::<T, 8>(n, k, rows, panel, out),
                _ => unreachable!("more rows than registers"),
            }
        }
    }
}

#[target_feature(enable = "neon")]
unsafe fn tile<T: Stored, const R: usize>(n: usize, k: usize, rows: Rows, panel: Panel<T>, out: Out) {
    let mut sums = [[vdupq_n_f32(0.0); 2]; R];
    let (mut left, mut right) = (rows.data, panel.data);
    // Elements of a row that are neighbours are read four at a time.
    let quads = if rows.step == 1 { k / 4 } else { 0 };
    for _ in 0..quads {
        // SAFETY: four steps of `k`, of R rows and 8 columns that the caller vouches for.
        unsafe {
            let elements: [float32x4_t; R] = std::array::from_fn(|i| vld1q_f32(left.add(i * rows.row)));
            add::<0, R>(&mut sums, &elements, T::load8(right));
            add::<1, R>(&mut sums, &elements, T::load8(right.wrapping_add(panel.row)));
            add::<2, R>(&mut sums, &elements, T::load8(right.wrapping_add(2 * panel.row)));
            add::<3, R>(&mut sums, &elements, T::load8(right.wrapping_add(3 * panel.row)));
        }
        left = left.wrapping_add(4);
        right = right.wrapping_add(4 * panel.row);
    }
    for _ in 4 * quads..k {
        // SAFETY: one step of `k`, of R rows and 8 columns that the caller vouches for.
        unsafe {
            let elements: [float32x4_t; R] = std::array::from_fn(|i| vld1q_dup_f32(left.add(i * rows.row)));
            add::<0, R>(&mut sums, &elements, T::load8(right));
        }
        left = left.wrapping_add(rows.step);
        right = right.wrapping_add(panel.row);
    }
    for (i, sums) in sums.iter().enumerate() {
        let mut row = [0f32; COLUMNS];
        // SAFETY: the array has eight elements; the first `n` of the output row are the caller's own.
        let out_row = unsafe {
            vst1q_f32(row.as_mut_ptr(), sums[0]);
            vst1q_f32(row.as_mut_ptr().add(4), sums[1]);
            std::slice::from_raw_parts_mut(out.data.add(i * out.row), n)
        };
        for (out_element, sum) in out_row.iter_mut().zip(row) {
            *out_element = if out.accumulate { *out_element + sum } else { sum };
        }
    }
}

/// Adds the products of one element per row with eight columns.
#[inline]
#[target_feature(enable = "neon")]
fn add<const LANE: i32, const R: usize>(
    sums: &mut [[float32x4_t; 2]; R],
    elements: &[float32x4_t; R],
    right: float32x4x2_t,
) {
    for (sums, element) in sums.iter_mut().zip(elements) {
        sums[0] = vfmaq_laneq_f32::<LANE>(sums[0], right.0, *element);
        sums[1] = vfmaq_laneq_f32::<LANE>(sums[1], right.1, *element);
    }
}

/// # Safety
/// Eight readable elements.
#[inline]
#[target_feature(enable = "neon")]
pub unsafe fn load8_f32(at: *const f32) -> float32x4x2_t {
    // SAFETY: as the caller vouches.
    unsafe { float32x4x2_t(vld1q_f32(at), vld1q_f32(at.add(4))) }
}

/// # Safety
/// Eight readable elements.
#[inline]
#[target_feature(enable = "neon")]
pub unsafe fn load8_bf16(at: *const half::bf16) -> float32x4x2_t {
    // SAFETY: as the caller vouches.
    let bits = unsafe { vld1q_u16(at.cast()) };
    let (low, high) = (vshll_n_u16::<16>(vget_low_u16(bits)), vshll_high_n_u16::<16>(bits));
    float32x4x2_t(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
}

/// # Safety
/// Eight readable elements.
#[inline]
#[target_feature(enable = "neon")]
pub unsafe fn load8_f16(at: *const half::f16) -> float32x4x2_t {
    // SAFETY: as the caller vouches.
    let bits = vreinterpretq_f16_u16(unsafe { vld1q_u16(at.cast()) });
    float32x4x2_t(vcvt_f32_f16(vget_low_f16(bits)), vcvt_high_f32_f16(bits))
}

/// # Safety
/// Eight readable bytes.
#[inline]
#[target_feature(enable = "neon")]
pub unsafe fn load8_e4m3(at: *const u8) -> float32x4x2_t {
    // SAFETY: as the caller vouches.
    let wide = vmovl_s8(vreinterpret_s8_u8(unsafe { vld1_u8(at) }));
    // The sign fills the upper byte: what is not it or the seven bits goes.
    let bits = vandq_u16(vreinterpretq_u16_s16(vshlq_n_s16::<7>(wide)), vdupq_n_u16(0xbf80));
    let half = vreinterpretq_f16_u16(bits);
    let times = vdupq_n_f32(256.0);
    float32x4x2_t(vmulq_f32(vcvt_f32_f16(vget_low_f16(half)), times), vmulq_f32(vcvt_high_f32_f16(half), times))
}

/// # Safety
/// Eight readable bytes.
#[inline]
#[target_feature(enable = "neon")]
pub unsafe fn load8_e5m2(at: *const u8) -> float32x4x2_t {
    // SAFETY: as the caller vouches.
    let half = vreinterpretq_f16_u16(vshll_n_u8::<8>(unsafe { vld1_u8(at) }));
    float32x4x2_t(vcvt_f32_f16(vget_low_f16(half)), vcvt_high_f32_f16(half))
}
