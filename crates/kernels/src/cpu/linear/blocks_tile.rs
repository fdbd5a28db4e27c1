//! [`add_products`]: rows of bytes times a panel of 32 columns of bytes in groups, each of which has a scale and an offset of
//! its own in every column.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::super::tile::COLUMNS;
use super::int8_tile::{Kernel, Rows, Widened, bytes_mut, multiply_tile};
use super::line::{Line, Quad};
use crate::level::vectorised;
use kinora_formats::Unpacked;

/// Columns of weights that are taken apart together.
pub const BESIDE: usize = 8;
/// Inputs that are put in their places together.
const PIECE: usize = 32;

/// Rows of inputs, for the weights of one [`Part`].
pub struct Inputs<'a> {
    pub rows: Rows<'a>,
    pub widened: &'a Widened,
    /// One scale per row, and the distance from row to row.
    pub scales: (&'a [f32], usize),
    /// One sum per group and row, and the distance from row to row; none where weights have no offsets.
    pub sums: (&'a [f32], usize),
}

/// Weights of 32 columns for some inputs, taken apart.
#[derive(Default)]
pub struct Part {
    /// `[G, group / 4]` lines, each group in the order of [`Kernel::place`].
    lines: Vec<Line<Quad>>,
    /// `[G]`: what products of a group begin with, because inputs are stored plus [`Kernel::offset`].
    starts: Vec<Line<i32>>,
    /// `[G]`.
    scales: Vec<Line<f32>>,
    /// `[G]`, or none.
    offsets: Vec<Line<f32>>,
    /// Lines of a group.
    depth: usize,
    /// Inputs of a group.
    group: usize,
}

impl Part {
    /// Makes room for `len` inputs in groups of `group`, all zeros.
    pub fn reset(&mut self, kernel: Kernel, len: usize, group: usize, has_offsets: bool) {
        let groups = len / group;
        self.group = group;
        self.depth = kernel.lines(group);
        // Columns past the last keep what they had, as long as it is a number: nobody reads their sums.
        self.lines.resize(groups * self.depth, Line([[0; 4]; COLUMNS]));
        self.starts.resize(groups, Line([0; COLUMNS]));
        self.scales.resize(groups, Line([0.0; COLUMNS]));
        self.offsets.resize(if has_offsets { groups } else { 0 }, Line([0.0; COLUMNS]));
    }

    /// Puts blocks of `values` weights into eight columns, the first of which is `column`, from the input `first` on.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn put(&mut self, kernel: Kernel, column: usize, first: usize, values: usize, unpacked: &[Unpacked; BESIDE]) {
        let (group, offset) = (self.group, kernel.offset());
        let first_group = first / group;
        let lines = bytes_mut(&mut self.lines[first_group * self.depth..]);
        for (at, lines) in (0..values).step_by(PIECE).zip(lines.chunks_exact_mut(PIECE * COLUMNS)) {
            let levels = unpacked.each_ref().map(|unpacked| unpacked.levels[at..].first_chunk().unwrap_or(&[0; PIECE]));
            place(kernel, levels, column, lines);
        }
        for i in 0..values / group {
            let (starts, scales) = (&mut self.starts[first_group + i].0, &mut self.scales[first_group + i].0);
            let columns = starts[column..].iter_mut().zip(&mut scales[column..]).zip(unpacked);
            for ((start, scale), unpacked) in columns {
                let levels = &unpacked.levels[i * group..(i + 1) * group];
                *start = -offset * levels.iter().map(|&x| i32::from(x)).sum::<i32>();
                *scale = unpacked.scales[i];
            }
            if let Some(offsets) = self.offsets.get_mut(first_group + i) {
                for (offset, unpacked) in offsets.0[column..].iter_mut().zip(unpacked) {
                    *offset = unpacked.offsets[i];
                }
            }
        }
    }
}

/// Puts 32 inputs of eight columns in their places.
#[allow(clippy::inline_always)]
#[inline(always)]
fn place(kernel: Kernel, levels: [&[i8; PIECE]; BESIDE], column: usize, lines: &mut [i8]) {
    #[cfg(target_arch = "x86_64")]
    if x86::place(kernel, levels, column, lines) {
        return;
    }
    for (column, levels) in (column..).zip(levels) {
        match kernel.beside() {
            2 => scatter::<2>(levels, column, lines),
            4 => scatter::<4>(levels, column, lines),
            _ => scatter::<8>(levels, column, lines),
        }
    }
}

/// Writes `N` values beside each other for every column.
#[allow(clippy::inline_always)]
#[inline(always)]
fn scatter<const N: usize>(levels: &[i8], column: usize, lines: &mut [i8]) {
    let places = lines.as_chunks_mut::<N>().0;
    for (levels, place) in levels.as_chunks::<N>().0.iter().zip(places[column..].iter_mut().step_by(COLUMNS)) {
        *place = *levels;
    }
}

/// `out [M, 32] += scale · Σ (scale · (rows · lines) + offset · sum)`, the sum over the groups of `part`, in order; `products` is
/// memory for `M` lines.
pub fn add_products(
    kernel: Kernel,
    inputs: &Inputs,
    part: &Part,
    products: &mut Vec<Line<i32>>,
    out: &mut [Line<f32>],
) {
    #[cfg(target_arch = "x86_64")]
    if x86::add_products(kernel, inputs, part, out) {
        return;
    }
    let quads = part.group / 4;
    products.resize(out.len(), Line([0; COLUMNS]));
    let mut sums = vec![Line([0f32; COLUMNS]); out.len()];
    for (group, lines) in part.lines.chunks_exact(part.depth).enumerate() {
        let rows = Rows { bytes: &inputs.rows.bytes[group * part.group..], ..inputs.rows };
        multiply_tile(kernel, rows, (inputs.widened, group * quads), lines, None, products, false);
        let (start, scale) = (&part.starts[group].0, &part.scales[group].0);
        vectorised(
            #[inline(always)]
            || {
                for (row, (sums, products)) in sums.iter_mut().zip(&*products).enumerate() {
                    for (i, sum) in sums.0.iter_mut().enumerate() {
                        *sum += (products.0[i] + start[i]) as f32 * scale[i];
                    }
                    if let Some(offset) = part.offsets.get(group) {
                        let of_inputs = inputs.sums.0[row * inputs.sums.1 + group];
                        sums.0.iter_mut().zip(&offset.0).for_each(|(sum, offset)| *sum += offset * of_inputs);
                    }
                }
            },
        );
    }
    for (row, (out, sums)) in out.iter_mut().zip(&sums).enumerate() {
        let scale = inputs.scales.0[row * inputs.scales.1];
        out.0.iter_mut().zip(&sums.0).for_each(|(out, sum)| *out += sum * scale);
    }
}
