//! [`multiply_tile`]: rows of bytes times a panel of 32 columns of signed bytes, four inputs at a time. Every kernel has
//! the same exact sums.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::super::tile::COLUMNS;
use super::line::{Line, Quad};
use crate::Level;

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
            Level::Portable => Self::Portable,
            Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => Self::Vnni,
            Level::Avx2 | Level::Avx512 => Self::Avx2,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_level(_: Level) -> Self {
        Self::Portable
    }
}

/// `out [M, 32] = rows [M, 4 Q] · panel [Q, 32, 4]`, plus `out` with `accumulate`; rows are `stride` apart.
pub(super) fn multiply_tile(
    kernel: Kernel,
    rows: &[u8],
    stride: usize,
    panel: &[Line<Quad>],
    out: &mut [Line<i32>],
    accumulate: bool,
) {
    let step = match kernel {
        Kernel::Vnni => 14,
        Kernel::Avx2 => 3,
        Kernel::Portable => 1,
    };
    assert!(out.is_empty() || (out.len() - 1) * stride + 4 * panel.len() <= rows.len(), "rows are too short");
    for (i, out) in out.chunks_mut(step).enumerate() {
        let rows = rows[i * step * stride..].as_ptr();
        // SAFETY: there are as many rows as the check above says, and the machine has what `Kernel::current` looked for.
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni => unsafe { x86::vnni(rows, stride, panel, out, accumulate) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { x86::avx2(rows, stride, panel, out, accumulate) },
            _ => unsafe { portable(rows, panel, &mut out[0], accumulate) },
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
            Level::ALL.into_iter().filter(|level| *level <= Level::of_machine()).map(Kernel::of_level).collect();
        for (rows, quads) in [(1, 1), (3, 7), (14, 40), (31, 130)] {
            let stride = 4 * quads + 5;
            // All bytes, the largest products among them.
            let x: Vec<u8> = (0..rows * stride).map(|i| if i % 5 == 0 { 255 } else { (i * 7919) as u8 }).collect();
            let weight = |quad: usize, column: usize, k: usize| match (quad + column) % 3 {
                0 => 127,
                1 => -127,
                _ => ((quad * 31 + column * 17 + k * 5) % 255) as i32 - 127,
            };
            let line =
                |quad| Line(std::array::from_fn(|column| std::array::from_fn(|k| weight(quad, column, k) as i8)));
            let panel: Vec<Line<Quad>> = (0..quads).map(line).collect();
            for &kernel in &kernels {
                for accumulate in [false, true] {
                    let mut found = vec![Line([9; COLUMNS]); rows];
                    multiply_tile(kernel, &x, stride, &panel, &mut found, accumulate);
                    for (row, found) in found.iter().enumerate() {
                        for (column, &found) in found.0.iter().enumerate() {
                            let input = |k: usize| i32::from(x[row * stride + k]);
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
