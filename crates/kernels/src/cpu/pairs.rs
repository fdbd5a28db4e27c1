//! [`multiply_tile`]: products of bf16, two of which AVX-512's instruction for them multiplies and adds to a sum in f32.
//! Products are exact; numbers below the smallest normal one count as zeros.
#![allow(unsafe_code)]

use super::tile::COLUMNS;
use crate::Level;
use half::bf16;
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// Rows of a tile.
const ROWS: usize = 14;

/// Whether this machine has the instructions, and they may be used.
pub fn available() -> bool {
    is_x86_feature_detected!("avx512bf16") && Level::current() == Level::Avx512
}

/// Whether they take half the time of f32, as on AMD's processors. On the Intel processor that was measured they take
/// twice as long.
pub fn fast() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    let vendor = || {
        let about = __cpuid(0);
        [about.ebx, about.edx, about.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
    };
    available() && *AMD.get_or_init(vendor)
}

/// Left matrix `[m, 2 · pairs]`: element `(i, p)` is at `data[i · row + p]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [bf16],
    pub row: usize,
    pub count: usize,
}

/// 32 columns of a result: element `(i, j)`, times `scale`, goes to `data[i · row + j]`, and is added to it if
/// `accumulate`.
pub struct Out<'a> {
    pub data: &'a mut [f32],
    pub row: usize,
    pub scale: f32,
    pub accumulate: bool,
}

/// Calls `$f::<R>` with `R` the number of rows, so that the sums are registers.
macro_rules! by_rows {
    ($f:ident, $rows:expr, $args:tt, $($r:literal)*) => {
        match $rows {
            $($r => by_rows!(@ $f, $r, $args),)*
            _ => unreachable!("more rows than registers"),
        }
    };
    (@ $f:ident, $r:literal, ($($arg:expr),*)) => { $f::<$r>($($arg),*) };
}
pub(super) use by_rows;

/// `out [m, 32] = rows [m, 2 · pairs] · panel [pairs, 32, 2]`.
///
/// # Safety
/// These instructions are [`available`].
pub unsafe fn multiply_tile(rows: Rows, panel: &[bf16], out: &mut Out) {
    let Rows { data, row, count } = rows;
    if count == 0 {
        return;
    }
    let inputs = panel.len() / COLUMNS;
    assert!(panel.len().is_multiple_of(2 * COLUMNS), "pairs of 32 columns");
    assert!((count - 1) * row + inputs <= data.len() && (count - 1) * out.row + COLUMNS <= out.data.len());
    for first in (0..count).step_by(ROWS) {
        let left = data[first * row..].as_ptr();
        let to = Target {
            data: out.data[first * out.row..].as_mut_ptr(),
            row: out.row,
            scale: out.scale,
            accumulate: out.accumulate,
        };
        // SAFETY: all lengths were checked; the instructions are there.
        unsafe { by_rows!(tile, ROWS.min(count - first), (left, row, panel, &to), 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
    }
}

/// [`Out`] from a tile's first row on.
struct Target {
    data: *mut f32,
    row: usize,
    scale: f32,
    accumulate: bool,
}

/// # Safety
/// `R` rows of `left` and of `to` are as long as [`multiply_tile`] checks, and the machine has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile<const R: usize>(left: *const bf16, row: usize, panel: &[bf16], to: &Target) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let (mut left, mut right) = (left, panel.as_ptr());
        for _ in 0..panel.len() / (2 * COLUMNS) {
            let (low, high) = (load_pairs(right), load_pairs(right.add(COLUMNS)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32(left.add(i * row).cast::<i32>().read_unaligned());
                let pair = std::mem::transmute::<__m512i, __m512bh>(pair);
                sums[0] = _mm512_dpbf16_ps(sums[0], pair, low);
                sums[1] = _mm512_dpbf16_ps(sums[1], pair, high);
            }
            left = left.wrapping_add(2);
            right = right.add(2 * COLUMNS);
        }
        let scale = _mm512_set1_ps(to.scale);
        for (i, sums) in sums.into_iter().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                let at = to.data.add(i * to.row + 16 * half);
                let scaled = _mm512_mul_ps(sum, scale);
                _mm512_storeu_ps(at, if to.accumulate { _mm512_add_ps(_mm512_loadu_ps(at), scaled) } else { scaled });
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_pairs(at: *const bf16) -> __m512bh {
    // SAFETY: the caller has 32 elements there; all bits are numbers.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())) }
}

/// Rounds `x` to bf16; lengths are equal multiples of 32.
///
/// # Safety
/// These instructions are [`available`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn to_bf16(x: &[f32], out: &mut [bf16]) {
    for (x, out) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        // SAFETY: 32 elements each.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded);
        }
    }
}
