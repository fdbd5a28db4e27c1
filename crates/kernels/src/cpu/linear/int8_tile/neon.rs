//! Products of signed bytes in the registers of NEON, by the three sets of instructions that it has for them.
//!
//! Two of them are written as assembly, because Rust has no stable functions for them.

use super::super::super::pairs::by_rows;
use super::super::super::tile::COLUMNS;
use super::super::line::{Line, Quad};
use super::Rows;
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;
use std::arch::asm;

/// Up to 4 rows of half a panel: 16 sums, four registers of the panel, two pairs of inputs.
///
/// # Safety
/// As many rows as `out` has, `stride` apart, each of four bytes per line of the panel.
pub unsafe fn neon(rows: *const u8, stride: usize, panel: &[Line<Quad>], out: &mut [Line<i32>], accumulate: bool) {
    for first in (0..COLUMNS).step_by(16) {
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(neon_rows, out.len(), (rows, stride, panel, out, first, accumulate), 1 2 3 4) }
    }
}

/// Up to 8 rows of a quarter of a panel: 16 sums, two registers of the panel, and 8 of the rows, each four quads long.
///
/// # Safety
/// As many rows as `out` has, `stride` apart, each of four bytes per line of the panel; dot products of bytes.
pub unsafe fn dotprod(rows: *const u8, stride: usize, panel: &[Line<Quad>], out: &mut [Line<i32>], accumulate: bool) {
    for first in (0..COLUMNS).step_by(8) {
        // SAFETY: as the caller vouches.
        unsafe { by_rows!(dotprod_rows, out.len(), (rows, stride, panel, out, first, accumulate), 1 2 3 4 5 6 7 8) }
    }
}

/// Up to 12 rows of a quarter of a panel: 24 sums, four registers of the panel, one of a pair of rows.
///
/// # Safety
/// Products of matrices of bytes.
pub unsafe fn i8mm(pairs: PairsFrom, panel: &[Line<Quad>], out: &mut [Line<i32>], accumulate: bool) {
    let count = out.len().div_ceil(2);
    assert!(panel.len().is_multiple_of(2), "inputs in eights");
    assert!((count - 1) * pairs.stride + 8 * panel.len() <= pairs.bytes.len(), "rows are too short");
    for first in (0..COLUMNS).step_by(8) {
        // SAFETY: lengths were checked; instructions as the caller vouches.
        unsafe { by_rows!(i8mm_pairs, count, (pairs, panel, out, first, accumulate), 1 2 3 4 5 6) }
    }
}

/// Rows of bytes in pairs, eight inputs of one row beside those of the other.
#[derive(Default)]
pub struct RowPairs {
    bytes: Vec<u8>,
    /// Bytes from pair to pair; not a power of two, at which all would share a few sets of the CPU's cache.
    stride: usize,
}

/// [`RowPairs`] from one of the pairs on.
#[derive(Clone, Copy)]
pub struct PairsFrom<'a> {
    bytes: &'a [u8],
    stride: usize,
}

impl RowPairs {
    /// Takes `4 · quads` inputs, a multiple of eight, of `count` rows. The partner of a last single row has any bytes.
    pub fn set(&mut self, rows: Rows, count: usize, quads: usize) {
        self.stride = 8 * quads + 64;
        let len = count.div_ceil(2) * self.stride;
        self.bytes.resize(self.bytes.len().max(len), 0);
        for (i, row) in rows.bytes.chunks(rows.stride).take(count).enumerate() {
            let pair = &mut self.bytes[i / 2 * self.stride..][..8 * quads];
            let eights = row[..4 * quads].as_chunks::<8>().0;
            for (out, inputs) in pair.as_chunks_mut::<16>().0.iter_mut().zip(eights) {
                out[i % 2 * 8..][..8].copy_from_slice(inputs);
            }
        }
    }

    /// The rows from `first`, which is even, without the first `skipped` quads, also even.
    pub fn from(&self, first: usize, skipped: usize) -> PairsFrom<'_> {
        PairsFrom { bytes: &self.bytes[first / 2 * self.stride + 8 * skipped..], stride: self.stride }
    }
}

/// The products of two pairs of inputs are summed in 16 bits, which they fit as no weight is -128, before they are widened.
#[target_feature(enable = "neon")]
unsafe fn neon_rows<const R: usize>(
    rows: *const u8,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    first: usize,
    accumulate: bool,
) {
    let mut sums = [[vdupq_n_s32(0); 4]; R];
    for (i, line) in panel.iter().enumerate() {
        // Half a line has the first pair of inputs for all columns, the other half the second.
        let weights = line.0.as_ptr().cast::<i8>().wrapping_add(2 * first);
        // SAFETY: 16 columns of both pairs, and four inputs of R rows, as the caller vouches.
        unsafe {
            let left = [vld1q_s8(weights), vld1q_s8(weights.add(16))];
            let right = [vld1q_s8(weights.add(2 * COLUMNS)), vld1q_s8(weights.add(2 * COLUMNS + 16))];
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = rows.add(row * stride + 4 * i).cast::<i16>();
                let x = vreinterpretq_s8_s16(vdupq_n_s16(inputs.read_unaligned()));
                let y = vreinterpretq_s8_s16(vdupq_n_s16(inputs.add(1).read_unaligned()));
                for half in 0..2 {
                    let low = vmull_s8(vget_low_s8(left[half]), vget_low_s8(x));
                    let low = vmlal_s8(low, vget_low_s8(right[half]), vget_low_s8(y));
                    let high = vmlal_high_s8(vmull_high_s8(left[half], x), right[half], y);
                    sums[2 * half] = vpadalq_s16(sums[2 * half], low);
                    sums[2 * half + 1] = vpadalq_s16(sums[2 * half + 1], high);
                }
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        store(sums, &mut out.0[first..], accumulate);
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn dotprod_rows<const R: usize>(
    rows: *const u8,
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    first: usize,
    accumulate: bool,
) {
    let mut sums = [[vdupq_n_s32(0); 2]; R];
    let (lines, rest) = panel.as_chunks::<4>();
    let mut rows = rows.cast::<i8>();
    for lines in lines {
        let mut inputs = [vdupq_n_s8(0); R];
        for (row, inputs) in inputs.iter_mut().enumerate() {
            // SAFETY: sixteen inputs of R rows, as the caller vouches.
            *inputs = unsafe { vld1q_s8(rows.add(row * stride)) };
        }
        add_quads::<0, R>(&mut sums, &inputs, &lines[0], first);
        add_quads::<1, R>(&mut sums, &inputs, &lines[1], first);
        add_quads::<2, R>(&mut sums, &inputs, &lines[2], first);
        add_quads::<3, R>(&mut sums, &inputs, &lines[3], first);
        rows = rows.wrapping_add(16);
    }
    for line in rest {
        let mut inputs = [vdupq_n_s8(0); R];
        for (row, inputs) in inputs.iter_mut().enumerate() {
            // SAFETY: four inputs of R rows, as the caller vouches.
            *inputs =
                vreinterpretq_s8_s32(vdupq_n_s32(unsafe { rows.add(row * stride).cast::<i32>().read_unaligned() }));
        }
        add_quads::<0, R>(&mut sums, &inputs, line, first);
        rows = rows.wrapping_add(4);
    }
    for (sums, out) in sums.iter().zip(out) {
        store(sums, &mut out.0[first..], accumulate);
    }
}

/// Adds the products of one quad of each row's sixteen inputs with eight columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_quads<const LANE: i32, const R: usize>(
    sums: &mut [[int32x4_t; 2]; R],
    inputs: &[int8x16_t; R],
    line: &Line<Quad>,
    first: usize,
) {
    let weights = line.0[first..first + 8].as_ptr().cast::<i8>();
    // SAFETY: eight quads.
    let (low, high) = unsafe { (vld1q_s8(weights), vld1q_s8(weights.add(16))) };
    for (sums, inputs) in sums.iter_mut().zip(inputs) {
        sums[0] = dot::<LANE>(sums[0], low, *inputs);
        sums[1] = dot::<LANE>(sums[1], high, *inputs);
    }
}

/// `sum[j] += Σₖ a[4 j + k] · b[4 LANE + k]`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: i32>(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: it reads and writes these registers alone.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]", inout(vreg) sum, in(vreg) a, in(vreg) b, const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

#[target_feature(enable = "neon,i8mm")]
unsafe fn i8mm_pairs<const P: usize>(
    pairs: PairsFrom,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    first: usize,
    accumulate: bool,
) {
    let mut sums = [[vdupq_n_s32(0); 4]; P];
    for (i, lines) in panel.as_chunks::<2>().0.iter().enumerate() {
        // Two lines have eight inputs of each column.
        let weights = lines.as_ptr().cast::<i8>().wrapping_add(8 * first);
        // SAFETY: eight columns, and P pairs of eight inputs, as the caller has checked.
        unsafe {
            let weights = vld1q_s8_x4(weights);
            for (pair, sums) in sums.iter_mut().enumerate() {
                let inputs = vld1q_s8(pairs.bytes.as_ptr().add(pair * pairs.stride + 16 * i).cast());
                sums[0] = multiply_pairs(sums[0], inputs, weights.0);
                sums[1] = multiply_pairs(sums[1], inputs, weights.1);
                sums[2] = multiply_pairs(sums[2], inputs, weights.2);
                sums[3] = multiply_pairs(sums[3], inputs, weights.3);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_mut(2)) {
        let (low, high) = (rows_of(sums[0], sums[1]), rows_of(sums[2], sums[3]));
        for (row, out) in [[low[0], high[0]], [low[1], high[1]]].iter().zip(out) {
            store(row, &mut out.0[first..], accumulate);
        }
    }
}

/// Two rows of four columns from their halves.
#[inline]
#[target_feature(enable = "neon")]
fn rows_of(left: int32x4_t, right: int32x4_t) -> [int32x4_t; 2] {
    let (left, right) = (vreinterpretq_s64_s32(left), vreinterpretq_s64_s32(right));
    [vreinterpretq_s32_s64(vzip1q_s64(left, right)), vreinterpretq_s32_s64(vzip2q_s64(left, right))]
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

/// Writes the sums of four columns each to the first columns of `out`, or adds them.
#[inline]
#[target_feature(enable = "neon")]
fn store(sums: &[int32x4_t], out: &mut [i32], accumulate: bool) {
    for (sum, out) in sums.iter().zip(out.as_chunks_mut::<4>().0) {
        let at = out.as_mut_ptr();
        // SAFETY: four columns.
        unsafe { vst1q_s32(at, if accumulate { vaddq_s32(vld1q_s32(at), *sum) } else { *sum }) };
    }
}
