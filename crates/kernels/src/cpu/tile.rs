//! [`multiply_tile`]: the product of some rows and a panel of 32 columns, summed in registers. The matrix products of
//! every operator are made of it.
//!
//! Panels may be stored as bf16 or f16: they are widened in registers; products and sums are f32. The order of the
//! sums depends on the shapes and the level alone.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::fetch::Fetch;
use crate::Level;
use half::{bf16, f16};
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::float32x4x2_t;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

/// Columns of a panel.
pub const COLUMNS: usize = 32;

/// Left matrix: element `(i, p)` is at `data + i · row + p · step`.
#[derive(Clone, Copy)]
pub struct Rows {
    pub data: *const f32,
    pub row: usize,
    pub step: usize,
}

/// Right matrix: element `(p, j)` is at `data + p · row + j`; all 32 columns must be readable.
#[derive(Clone, Copy)]
pub struct Panel<T> {
    pub data: *const T,
    pub row: usize,
    /// The panel that will be used next, of as many rows or fewer and without gaps: it is brought into the cache meanwhile.
    pub next: Option<*const T>,
}

impl<T> Panel<T> {
    pub fn new(data: *const T, row: usize) -> Self {
        Self { data, row, next: None }
    }
}

/// Result: element `(i, j)` is at `data + i · row + j`; it is added to with `accumulate`, otherwise overwritten.
#[derive(Clone, Copy)]
pub struct Out {
    pub data: *mut f32,
    pub row: usize,
    pub accumulate: bool,
}

/// The element types of panels.
pub trait Stored: Copy + Send + Sync {
    fn widen(self) -> f32;

    /// Sixteen elements.
    ///
    /// # Safety
    /// They must be readable, and the machine must have AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16(at: *const Self) -> __m512;

    /// Eight elements.
    ///
    /// # Safety
    /// They must be readable, and the machine must have AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(at: *const Self) -> __m256;

    /// Eight elements.
    ///
    /// # Safety
    /// They must be readable.
    #[cfg(target_arch = "aarch64")]
    unsafe fn load8(at: *const Self) -> float32x4x2_t;
}

/// Rows of a tile: as many as there are registers for their sums.
pub fn rows(level: Level) -> usize {
    match level {
        Level::Avx512 => 14,
        Level::Avx2 | Level::AvxVnni => 6,
        Level::Neon | Level::Dotprod | Level::I8mm => 8,
        Level::Portable => PORTABLE_ROWS,
    }
}

/// `out [m, n] = rows [m, k] · panel [k, n]` (plus `out`, with `accumulate`), `n` at most 32.
///
/// # Safety
/// All elements lie within the caller's allocations, those of `out` are the caller's own, and the machine has `level`.
pub unsafe fn multiply_tile<T: Stored>(level: Level, [m, n, k]: [usize; 3], rows: Rows, panel: Panel<T>, out: Out) {
    debug_assert!(n <= COLUMNS, "{n} columns");
    let step = self::rows(level);
    let mut fetch = Fetch::new(panel.next, k * COLUMNS, m.div_ceil(step));
    for first in (0..m).step_by(step) {
        fetch.part();
        let size = [step.min(m - first), n, k];
        let rows = Rows { data: rows.data.wrapping_add(first * rows.row), ..rows };
        let out = Out { data: out.data.wrapping_add(first * out.row), ..out };
        // SAFETY: parts of what the caller vouches for.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::avx512(size, rows, panel, out),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 | Level::AvxVnni => x86::avx2(size, rows, panel, out),
                #[cfg(target_arch = "aarch64")]
                Level::Neon | Level::Dotprod | Level::I8mm => neon::multiply(size, rows, panel, out),
                _ => portable(size, rows, panel, out),
            }
        }
    }
}

const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 8;

/// Arrays that fit the sixteen registers of SSE2 and half of those of NEON.
unsafe fn portable<T: Stored>([m, n, k]: [usize; 3], rows: Rows, panel: Panel<T>, out: Out) {
    for first in (0..n).step_by(PORTABLE_COLUMNS) {
        let mut sums = [[0f32; PORTABLE_COLUMNS]; PORTABLE_ROWS];
        for p in 0..k {
            // SAFETY: `p < k`, and all 32 columns are readable.
            let right: [f32; PORTABLE_COLUMNS] =
                std::array::from_fn(|j| unsafe { (*panel.data.add(p * panel.row + first + j)).widen() });
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: within the `m` rows; those past the last repeat it.
                let left = unsafe { *rows.data.add(i.min(m - 1) * rows.row + p * rows.step) };
                for (sum, right) in sums.iter_mut().zip(right) {
                    // Without a fused instruction, the fused function would be a slow call.
                    *sum = if cfg!(target_arch = "aarch64") { left.mul_add(right, *sum) } else { *sum + left * right };
                }
            }
        }
        for (i, sums) in sums.iter().enumerate().take(m) {
            for (j, sum) in sums.iter().enumerate().take(n - first) {
                // SAFETY: within `[m, n]` of the output, which is the caller's own.
                let out_element = unsafe { &mut *out.data.add(i * out.row + first + j) };
                *out_element = if out.accumulate { *out_element + sum } else { *sum };
            }
        }
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load16(at: *const Self) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load16_f32(at) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> __m256 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load8_f32(at) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> float32x4x2_t {
        // SAFETY: as the caller vouches.
        unsafe { neon::load8_f32(at) }
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load16(at: *const Self) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load16_bf16(at) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> __m256 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load8_bf16(at) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> float32x4x2_t {
        // SAFETY: as the caller vouches.
        unsafe { neon::load8_bf16(at) }
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load16(at: *const Self) -> __m512 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load16_f16(at) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> __m256 {
        // SAFETY: as the caller vouches.
        unsafe { x86::load8_f16(at) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn load8(at: *const Self) -> float32x4x2_t {
        // SAFETY: as the caller vouches.
        unsafe { neon::load8_f16(at) }
    }
}

/// An eight-bit float, e4m3.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct E4m3(pub u8);

/// An eight-bit float, e5m2.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct E5m2(pub u8);

/// Eight-bit floats are f16 with bits left out: e4m3 is one with a smaller exponent, so that its value is 256 times that of
/// the f16 with the same bits.
macro_rules! float8 {
    ($type:ty, $widen:ident, $load16:ident, $load8:ident) => {
        impl Stored for $type {
            #[inline(always)]
            fn widen(self) -> f32 {
                kinora_formats::$widen(self.0)
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load16(at: *const Self) -> __m512 {
                // SAFETY: as the caller vouches.
                unsafe { x86::$load16(at.cast()) }
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn load8(at: *const Self) -> __m256 {
                // SAFETY: as the caller vouches.
                unsafe { x86::$load8(at.cast()) }
            }

            #[cfg(target_arch = "aarch64")]
            #[inline(always)]
            unsafe fn load8(at: *const Self) -> float32x4x2_t {
                // SAFETY: as the caller vouches.
                unsafe { neon::$load8(at.cast()) }
            }
        }
    };
}

float8!(E4m3, f32_from_e4m3, load16_e4m3, load8_e4m3);
float8!(E5m2, f32_from_e5m2, load16_e5m2, load8_e5m2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, whose sums are exact in every order and every storage.
    fn whole(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 9) as f32 - 4.0).collect()
    }

    fn check<T: Stored>(store: impl Fn(f32) -> T) {
        for level in Level::of_machine() {
            for (m, n, k) in [(1, 1, 1), (14, 32, 40), (15, 31, 7), (29, 17, 3), (6, 16, 33), (3, 9, 0)] {
                let (step, row) = (2, 2 * k + 3);
                let left = whole(m * row + 1, 1);
                let right = whole((k + 1) * 40, 2);
                let panel: Vec<T> = right.iter().map(|&x| store(x)).collect();
                for accumulate in [false, true] {
                    let mut found = vec![7f32; m * 35];
                    let rows = Rows { data: left.as_ptr(), row, step };
                    let panel = Panel::new(panel.as_ptr(), 40);
                    let out = Out { data: found.as_mut_ptr(), row: 35, accumulate };
                    // SAFETY: the buffers are longer than these sizes need.
                    unsafe { multiply_tile(level, [m, n, k], rows, panel, out) };
                    for (at, &found) in found.iter().enumerate() {
                        let (i, j) = (at / 35, at % 35);
                        let product: f32 = (0..k).map(|p| left[i * row + p * step] * right[p * 40 + j]).sum();
                        let kept = if accumulate || j >= n { 7.0 } else { 0.0 };
                        let expected = if j < n { product + kept } else { kept };
                        assert!(found.to_bits() == expected.to_bits(), "{level:?} {m}x{n}x{k} at {i}, {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_of_every_level_and_storage_are_exact_on_whole_numbers() {
        check(|x| x);
        check(bf16::from_f32);
        check(f16::from_f32);
        check(|x| E5m2((f16::from_f32(x).to_bits() >> 8) as u8));
        let bytes = |x: f32| (0..=255).find(|byte| kinora_formats::f32_from_e4m3(*byte).to_bits() == x.to_bits());
        check(|x| E4m3(bytes(x).unwrap()));
    }
}
