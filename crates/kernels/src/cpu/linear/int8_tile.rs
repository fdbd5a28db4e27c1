//! [`multiply_tile`]: rows of bytes times a panel of 32 columns of signed bytes, four inputs at a time. Every kernel has
//! the same exact sums.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::super::fetch::Fetch;
use super::super::tile::COLUMNS;
use super::line::{Line, Quad};
use crate::Level;
use crate::level::vectorised;

/// The instructions that a product uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "no architecture has all of them")]
pub(super) enum Kernel {
    Portable,
    Avx2,
    /// Dot products of bytes in 256 bits.
    AvxVnni,
    /// Those of AVX-512.
    Avx512Vnni,
    Neon,
    /// NEON with its dot products of bytes.
    Dotprod,
    /// NEON with its products of two rows and two columns of eight bytes.
    I8mm,
}

impl Kernel {
    /// The one for the level of this process.
    pub fn current() -> Self {
        Self::of_level(Level::current())
    }

    #[cfg(target_arch = "x86_64")]
    fn of_level(level: Level) -> Self {
        match level {
            Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => Self::Avx512Vnni,
            Level::AvxVnni => Self::AvxVnni,
            Level::Avx2 | Level::Avx512 => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_level(level: Level) -> Self {
        match level {
            Level::Neon => Self::Neon,
            Level::Dotprod => Self::Dotprod,
            Level::I8mm => Self::I8mm,
            _ => Self::Portable,
        }
    }

    /// Its instructions, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "what the compiler makes for every machine",
            Self::Avx2 => "widened to 16 bits, sums of pairs in 256 bits",
            Self::AvxVnni => "dot products of four in 256 bits",
            Self::Avx512Vnni => "dot products of four in 512 bits",
            Self::Neon => "widened to 16 bits",
            Self::Dotprod => "dot products of four in 128 bits",
            Self::I8mm => "products of two by two in 128 bits",
        }
    }

    /// What is added to signed inputs: x86 multiplies bytes that are not signed with signed ones.
    pub fn offset(self) -> i32 {
        match self {
            Self::Portable | Self::Avx2 | Self::AvxVnni | Self::Avx512Vnni => 128,
            Self::Neon | Self::Dotprod | Self::I8mm => 0,
        }
    }

    /// The lines of a panel that hold the weights of so many inputs.
    pub fn lines(self, inputs: usize) -> usize {
        match self {
            Self::I8mm => 2 * inputs.div_ceil(8),
            _ => inputs.div_ceil(4),
        }
    }

    /// Where a panel has the weight of an input of one of 32 outputs, counted in bytes from its start. It lies beside the three
    /// others of the output's quad, beside the other of its pair for products of pairs, or among the eight that an
    /// instruction multiplies, which then take two lines.
    #[inline]
    pub fn place(self, output: usize, input: usize) -> usize {
        let (k, line) = (input % 4, 4 * COLUMNS);
        let first = match self {
            Self::Portable | Self::AvxVnni | Self::Avx512Vnni | Self::Dotprod => input / 4 * line + k,
            Self::Avx2 | Self::Neon => input / 4 * line + k / 2 * 2 * COLUMNS + k % 2,
            Self::I8mm => input / 8 * 2 * line + input % 8,
        };
        first + output * self.beside()
    }

    /// Bytes from the weight of an output to that of the next.
    #[inline]
    pub fn beside(self) -> usize {
        match self {
            Self::Portable | Self::AvxVnni | Self::Avx512Vnni | Self::Dotprod => 4,
            Self::Avx2 | Self::Neon => 2,
            Self::I8mm => 8,
        }
    }
}

/// The bytes of a panel.
pub(super) fn bytes(panel: &[Line<Quad>]) -> &[i8] {
    // SAFETY: a line is its bytes, without anything between them.
    unsafe { std::slice::from_raw_parts(panel.as_ptr().cast(), size_of_val(panel)) }
}

/// The bytes of a panel.
pub(super) fn bytes_mut(panel: &mut [Line<Quad>]) -> &mut [i8] {
    // SAFETY: a line is its bytes, without anything between them.
    unsafe { std::slice::from_raw_parts_mut(panel.as_mut_ptr().cast(), size_of_val(panel)) }
}

/// Rows of bytes, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
}

/// Rows of bytes in the form that the kernel multiplies.
#[derive(Default)]
pub(super) struct Widened {
    wide: Vec<u16>,
    /// From row to row in `wide`.
    stride: usize,
    #[cfg(target_arch = "aarch64")]
    pairs: neon::RowPairs,
}

impl Widened {
    /// Takes `4 · quads` inputs of `count` rows.
    pub fn set(&mut self, kernel: Kernel, rows: Rows, count: usize, quads: usize) {
        #[cfg(target_arch = "aarch64")]
        if kernel == Kernel::I8mm {
            self.pairs.set(rows, count, quads);
        }
        if kernel != Kernel::Avx2 || count == 0 {
            return;
        }
        // Not a power of two, at which all rows would share a few sets of the CPU's cache.
        let stride = (4 * quads).next_multiple_of(32) + 32;
        self.stride = stride;
        self.wide.resize(self.wide.len().max(count * stride), 0);
        vectorised(
            #[inline(always)]
            || {
                let bytes = rows.bytes.chunks(rows.stride);
                for (wide, bytes) in self.wide.chunks_exact_mut(stride).zip(bytes).take(count) {
                    for (wide, &byte) in wide.iter_mut().zip(&bytes[..4 * quads]) {
                        *wide = u16::from(byte);
                    }
                }
            },
        );
    }
}

impl Widened {
    /// All rows, and the distance from one to the next.
    #[cfg(target_arch = "x86_64")]
    pub fn rows(&self) -> (&[u16], usize) {
        (&self.wide, self.stride)
    }
}

/// `out [M, 32] = rows [M, 4 Q] · panel [Q, 32, 4]`, plus `out` with `accumulate`; `widened` has inputs of the same rows, which
/// begin with those of `rows` after `skipped` quads. Meanwhile the panel `next`, of the same size or smaller, is brought into
/// the cache.
pub(super) fn multiply_tile(
    kernel: Kernel,
    rows: Rows,
    (widened, skipped): (&Widened, usize),
    panel: &[Line<Quad>],
    next: Option<&[Line<Quad>]>,
    out: &mut [Line<i32>],
    accumulate: bool,
) {
    let (step, stride, len) = match kernel {
        Kernel::Avx512Vnni => (14, rows.stride, rows.bytes.len()),
        Kernel::AvxVnni => (6, rows.stride, rows.bytes.len()),
        Kernel::Avx2 => (6, widened.stride, widened.wide.len() - 4 * skipped),
        Kernel::Portable => (1, rows.stride, rows.bytes.len()),
        Kernel::Neon => (4, rows.stride, rows.bytes.len()),
        Kernel::Dotprod => (8, rows.stride, rows.bytes.len()),
        Kernel::I8mm => (12, rows.stride, rows.bytes.len()),
    };
    assert!(out.is_empty() || (out.len() - 1) * stride + 4 * panel.len() <= len, "rows are too short");
    let mut fetch = Fetch::new(next.map(<[_]>::as_ptr), next.map_or(0, <[_]>::len), out.len().div_ceil(step));
    for (i, out) in out.chunks_mut(step).enumerate() {
        fetch.part();
        let first = i * step * stride;
        // SAFETY: there are as many rows as the check above says, and the machine has what `Kernel::current` looked for.
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => unsafe {
                x86::avx512_vnni(rows.bytes[first..].as_ptr(), stride, panel, out, accumulate);
            },
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => unsafe { x86::avx_vnni(rows.bytes[first..].as_ptr(), stride, panel, out, accumulate) },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe {
                x86::avx2(widened.wide[4 * skipped + first..].as_ptr(), stride, panel, out, accumulate);
            },
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::neon(rows.bytes[first..].as_ptr(), stride, panel, out, accumulate) },
            #[cfg(target_arch = "aarch64")]
            Kernel::Dotprod => unsafe { neon::dotprod(rows.bytes[first..].as_ptr(), stride, panel, out, accumulate) },
            #[cfg(target_arch = "aarch64")]
            Kernel::I8mm => unsafe { neon::i8mm(widened.pairs.from(i * step, skipped), panel, out, accumulate) },
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
        let kernels: Vec<Kernel> = Level::of_machine().map(Kernel::of_level).collect();
        for (rows, quads) in [(1, 1), (3, 7), (14, 40), (31, 130)] {
            let stride = 4 * quads + 5;
            // All bytes, the largest products among them.
            let inputs: Vec<u8> = (0..rows * stride).map(|i| if i % 5 == 0 { 255 } else { (i * 7919) as u8 }).collect();
            let weight = |quad: usize, column: usize, k: usize| match (quad + column) % 3 {
                0 => 127,
                1 => -127,
                _ => ((quad * 31 + column * 17 + k * 5) % 255) as i32 - 127,
            };
            for &kernel in &kernels {
                let mut panel = vec![Line([[0; 4]; COLUMNS]); kernel.lines(4 * quads)];
                for (column, k) in (0..COLUMNS).flat_map(|column| (0..4 * quads).map(move |k| (column, k))) {
                    bytes_mut(&mut panel)[kernel.place(column, k)] = weight(k / 4, column, k % 4) as i8;
                }
                let signed = |byte: u8| i32::from(byte) - 128;
                let bytes: Vec<u8> = inputs.iter().map(|&byte| (signed(byte) + kernel.offset()) as u8).collect();
                let (mut widened, x) = (Widened::default(), Rows { bytes: &bytes, stride });
                widened.set(kernel, x, rows, panel.len());
                for accumulate in [false, true] {
                    let mut found = vec![Line([9; COLUMNS]); rows];
                    multiply_tile(kernel, x, (&widened, 0), &panel, None, &mut found, accumulate);
                    for (row, found) in found.iter().enumerate() {
                        for (column, &found) in found.0.iter().enumerate() {
                            let input = |k: usize| signed(inputs[row * stride + k]) + kernel.offset();
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
