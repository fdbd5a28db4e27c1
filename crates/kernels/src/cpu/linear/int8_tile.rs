//! [`multiply_tile`]: rows of bytes times a panel of 32 columns of signed bytes, four inputs at a time. Every kernel has
//! the same exact sums.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::super::tile::COLUMNS;
use super::line::{Line, Quad};
use crate::Level;
use crate::level::vectorised;

/// The offset that makes bytes of signed inputs.
pub(super) const OFFSET: i32 = 128;

/// The instructions that a product uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Portable,
    Avx2,
    /// AVX-512 with its dot products of bytes.
    Vnni,
}

impl Kernel {
    /// The one for the level of this process.
    pub fn current() -> Self {
        Self::of_level(Level::current())
    }

    #[cfg(target_arch = "x86_64")]
    fn of_level(level: Level) -> Self {
        match level {
            Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => Self::Vnni,
            Level::Avx2 | Level::AvxVnni | Level::Avx512 => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_level(_: Level) -> Self {
        Self::Portable
    }

    /// Where the weight of input `k` of four, of one of 32 outputs, lies in their line: beside the output's others or, as
    /// products of pairs want it, beside the other of its pair.
    pub fn place(self, output: usize, k: usize) -> (usize, usize) {
        match self {
            Self::Portable | Self::Vnni => (output, k),
            Self::Avx2 => {
                let at = k / 2 * 2 * COLUMNS + 2 * output + k % 2;
                (at / 4, at % 4)
            }
        }
    }
}

/// Rows of bytes, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
}

/// Rows of bytes in the form that the kernel multiplies.
#[derive(Default)]
pub(super) struct Widened(Vec<u16>);

impl Widened {
    /// Takes `4 · quads` inputs of `count` rows.
    pub fn set(&mut self, kernel: Kernel, rows: Rows, count: usize, quads: usize) {
        if kernel != Kernel::Avx2 || count == 0 {
            return;
        }
        let stride = Self::stride(quads);
        self.0.resize(self.0.len().max(count * stride), 0);
        vectorised(
            #[inline(always)]
            || {
                let bytes = rows.bytes.chunks(rows.stride);
                for (wide, bytes) in self.0.chunks_exact_mut(stride).zip(bytes).take(count) {
                    for (wide, &byte) in wide.iter_mut().zip(&bytes[..4 * quads]) {
                        *wide = u16::from(byte);
                    }
                }
            },
        );
    }

    /// Not a power of two, at which all rows would share a few sets of the CPU's cache.
    fn stride(quads: usize) -> usize {
        (4 * quads).next_multiple_of(32) + 32
    }
}

/// `out [M, 32] = rows [M, 4 Q] · panel [Q, 32, 4]`, plus `out` with `accumulate`; `widened` has the same inputs of the same
/// rows.
pub(super) fn multiply_tile(
    kernel: Kernel,
    rows: Rows,
    widened: &Widened,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    accumulate: bool,
) {
    let (step, stride, len) = match kernel {
        Kernel::Vnni => (14, rows.stride, rows.bytes.len()),
        Kernel::Avx2 => (6, Widened::stride(panel.len()), widened.0.len()),
        Kernel::Portable => (1, rows.stride, rows.bytes.len()),
    };
    assert!(out.is_empty() || (out.len() - 1) * stride + 4 * panel.len() <= len, "rows are too short");
    for (i, out) in out.chunks_mut(step).enumerate() {
        let first = i * step * stride;
        // SAFETY: there are as many rows as the check above says, and the machine has what `Kernel::current` looked for.
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni => unsafe { x86::vnni(rows.bytes[first..].as_ptr(), stride, panel, out, accumulate) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::avx2(widened.0[first..].as_ptr(), stride, panel, out, accumulate) },
            _ => unsafe { portable(rows.bytes[first..].as_ptr(), panel, &mut out[0], accumulate) },
        }
    }
}

/// One row's product.
///
/// # Safety
/// The row has four readable bytes per line of the panel.
unsafe fn portable(row: *const u8, panel: &[Line<Quad>], out: &mut Line<i32>, accumulate: bool) {
    if !accumulate {
        *out = Line([0; COLUMNS]);
    }
    for (i, line) in panel.iter().enumerate() {
        // SAFETY: as the caller vouches.
        let inputs = unsafe { row.add(4 * i).cast::<[u8; 4]>().read() }.map(i32::from);
        for (sum, weights) in out.0.iter_mut().zip(&line.0) {
            for (input, &weight) in inputs.iter().zip(weights) {
                *sum += input * i32::from(weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_the_same_sums() {
        let kernels: Vec<Kernel> =
            Level::of_machine().map(Kernel::of_level).collect();
        for (rows, quads) in [(1, 1), (3, 7), (14, 40), (31, 130)] {
            let stride = 4 * quads + 5;
            // All bytes, the largest products among them.
            let x: Vec<u8> = (0..rows * stride).map(|i| if i % 5 == 0 { 255 } else { (i * 7919) as u8 }).collect();
            let weight = |quad: usize, column: usize, k: usize| match (quad + column) % 3 {
                0 => 127,
                1 => -127,
                _ => ((quad * 31 + column * 17 + k * 5) % 255) as i32 - 127,
            };
            for &kernel in &kernels {
                let mut panel = vec![Line([[0; 4]; COLUMNS]); quads];
                for (quad, line) in panel.iter_mut().enumerate() {
                    for (column, k) in (0..COLUMNS).flat_map(|column| (0..4).map(move |k| (column, k))) {
                        let (group, at) = kernel.place(column, k);
                        line.0[group][at] = weight(quad, column, k) as i8;
                    }
                }
                let (mut widened, x) = (Widened::default(), Rows { bytes: &x, stride });
                widened.set(kernel, x, rows, quads);
                for accumulate in [false, true] {
                    let mut found = vec![Line([9; COLUMNS]); rows];
                    multiply_tile(kernel, x, &widened, &panel, &mut found, accumulate);
                    for (row, found) in found.iter().enumerate() {
                        for (column, &found) in found.0.iter().enumerate() {
                            let input = |k: usize| i32::from(x.bytes[row * stride + k]);
                            let products = (0..4 * quads).map(|k| input(k) * weight(k / 4, column, k % 4));
                            let expected = products.sum::<i32>() + if accumulate { 9 } else { 0 };
                            assert_eq!(found, expected, "{kernel:?} {rows}x{quads} at {row}, {column}");
                        }
                    }
                }
            }
        }
    }
}
