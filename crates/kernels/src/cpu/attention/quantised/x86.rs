//! Products of 8-bit integers and of bf16, in tiles of 14 rows and 32 columns like those of f32.

use super::super::KEYS;
use super::GROUP;
use crate::cpu::tile::COLUMNS;
use half::bf16;
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;

/// Rows of a tile.
const ROWS: usize = 14;

/// A panel of 32 keys.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// `[D / 4, 32, 4]`.
    pub data: &'a [i8],
    /// `[32]`: what the sums start with.
    pub starts: &'a [i32],
    /// `[32]`: what one unit stands for.
    pub units: &'a [f32],
}

/// Where 32 columns of a result go: element `(i, j)` to `data[i · row + j]`; added to what is there, or written over it.
pub struct Out<'a> {
    pub data: &'a mut [f32],
    pub row: usize,
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

/// `scores [m, KEYS]`, of which 32 columns, `= q [m, D / 4, 4] · keys`, times the units of both.
///
/// # Safety
/// The machine has AVX-512 with VNNI.
pub unsafe fn score(q: &[u8], units: &[f32], keys: Keys, scores: &mut [f32]) {
    let depth = keys.data.len() / COLUMNS;
    assert!(keys.starts.len() == COLUMNS && keys.units.len() == COLUMNS && depth.is_multiple_of(GROUP));
    assert!(q.len() == units.len() * depth && scores.len() + KEYS >= units.len() * KEYS + COLUMNS);
    for (first, units) in (0..).step_by(ROWS).zip(units.chunks(ROWS)) {
        let (q, out) = (q[first * depth..].as_ptr(), scores[first * KEYS..].as_mut_ptr());
        // SAFETY: all lengths were checked; the instructions are there.
        unsafe { by_rows!(score_rows, units.len(), (q, units, keys, out), 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn score_rows<const R: usize>(q: *const u8, units: &[f32], keys: Keys, out: *mut f32) {
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

/// `out = weights [m, KEYS] · values [pairs, 32, 2]`.
///
/// # Safety
/// The machine has AVX-512 with BF16.
pub unsafe fn gather(weights: &[[bf16; KEYS]], values: &[bf16], out: &mut Out) {
    assert!(values.len() <= KEYS * COLUMNS && out.data.len() + out.row >= weights.len() * out.row + COLUMNS);
    for (first, weights) in (0..).step_by(ROWS).zip(weights.chunks(ROWS)) {
        let at = out.data[first * out.row..].as_mut_ptr();
        let args = (out.row, out.accumulate);
        // SAFETY: all lengths were checked; the instructions are there.
        unsafe { by_rows!(gather_rows, weights.len(), (weights, values, at, args), 1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn gather_rows<const R: usize>(
    weights: &[[bf16; KEYS]],
    values: &[bf16],
    out: *mut f32,
    (row, accumulate): (usize, bool),
) {
    // SAFETY: `R` rows of the weights and of `out`, and pairs of values, as the caller has checked.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let (mut left, mut right) = (weights.as_ptr().cast::<bf16>(), values.as_ptr());
        for _ in 0..values.len() / (2 * COLUMNS) {
            let (low, high) = (load_pairs(right), load_pairs(right.add(COLUMNS)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32(left.add(i * KEYS).cast::<i32>().read_unaligned());
                let pair = std::mem::transmute::<__m512i, __m512bh>(pair);
                sums[0] = _mm512_dpbf16_ps(sums[0], pair, low);
                sums[1] = _mm512_dpbf16_ps(sums[1], pair, high);
            }
            left = left.add(2);
            right = right.add(2 * COLUMNS);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                let at = out.add(i * row + 16 * half);
                _mm512_storeu_ps(at, if accumulate { _mm512_add_ps(_mm512_loadu_ps(at), sum) } else { sum });
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
/// The machine has AVX-512 with BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn narrow(x: &[f32], out: &mut [bf16]) {
    for (x, out) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        // SAFETY: 32 elements each.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            let narrow = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), narrow);
        }
    }
}
