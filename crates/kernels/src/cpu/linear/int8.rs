//! Eight-bit products: weights are quantised once, per output, inputs per row as they come; sums are exact integers.
//!
//! Columns of the input that are far larger than the others would take all precision from their rows. They are split
//! off, quantised to 15 bits with a scale of their own, and multiplied as two digits of eight bits each.
#![allow(unsafe_code)]

use super::super::element::Element;
use super::super::shared::SharedMut;
use super::super::tile::COLUMNS;
use super::super::{Operand, by_dtype};
use super::finish::{Finish, Products};
use super::grid::{Block, Grid};
use super::int8_tile::{Kernel, Rows, Widened, bytes, bytes_mut, multiply_tile};
use super::line::{Line, Quad};
use crate::level::vectorised;
use crate::outliers::outlying_columns;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;

/// The most inputs for which sums of products of a byte and a signed byte fit in 31 bits.
const MOST_INPUTS: usize = 1 << 16;
/// Quads of inputs that are summed before the sum is put aside.
const QUADS: usize = 128;
/// The largest quantised value of weights and of inputs.
const LARGEST: f32 = 127.0;
/// The unit of the second digit of an outlying input, in units of the first.
const DIGIT: i32 = 128;
/// Rows that one task quantises.
const ROWS: usize = 16;

/// Quantised weights `[N, K]`.
pub struct Int8Panels {
    /// `[N / 32, K / 4, 32, 4]`, in the kernel's order; zeros past the last output and input.
    lines: Vec<Line<Quad>>,
    /// `[N]`, padded: the scale of an output's weights.
    scales: Vec<Line<f32>>,
    /// `[N]`, padded: the sum of an output's weights.
    sums: Vec<Line<i32>>,
    inputs: usize,
}

/// Quantised inputs `[M, K]`, plus the kernel's offset.
struct QuantisedInputs {
    values: Vec<u8>,
    /// Bytes from row to row; not a power of two, at which all rows would share a few sets of the CPU's cache.
    stride: usize,
    scales: Vec<f32>,
    outliers: Outliers,
}

/// The columns that were split off [`QuantisedInputs`].
struct Outliers {
    columns: Vec<usize>,
    /// High and low digit, `[M, stride]` each.
    digits: [Vec<u8>; 2],
    stride: usize,
    scales: Vec<f32>,
}

impl Int8Panels {
    /// Quantises and packs `weight [N, K]`.
    pub fn new(weight: &Tensor) -> Result<Self> {
        by_dtype!(weight.dtype(), pack(weight))
    }

    fn quads(&self) -> usize {
        Kernel::current().lines(self.inputs)
    }

    fn panel(&self, panel: usize) -> &[Line<Quad>] {
        &self.lines[panel * self.quads()..(panel + 1) * self.quads()]
    }
}

fn pack<T: Element>(weight: &Tensor) -> Result<Int8Panels> {
    let (outputs, inputs) = weight.dims2()?;
    if inputs > MOST_INPUTS {
        bail!("linear: {inputs} inputs are more than the {MOST_INPUTS} that 8-bit weights may have");
    }
    let weight = weight.contiguous()?;
    let operand = Operand::new(&weight)?;
    let rows = operand.slice::<T>()?;
    let kernel = Kernel::current();
    let (panels, quads) = (outputs.div_ceil(COLUMNS), kernel.lines(inputs));
    let mut packed = Int8Panels {
        lines: vec![Line([[0; 4]; COLUMNS]); panels * quads],
        scales: vec![Line([0.0; COLUMNS]); panels],
        sums: vec![Line([0; COLUMNS]); panels],
        inputs,
    };
    if inputs > 0 {
        let parts = packed.lines.par_chunks_mut(quads).zip(&mut packed.scales).zip(&mut packed.sums);
        let parts = parts.zip(rows.par_chunks(COLUMNS * inputs));
        parts.for_each_init(
            || (vec![0f32; inputs], vec![0u8; inputs]),
            |(wide, rounded), (((lines, scales), sums), rows)| {
                for (column, row) in rows.chunks(inputs).enumerate() {
                    T::widen(row, wide);
                    scales.0[column] = round(wide, rounded, 0);
                    let bytes = bytes_mut(lines);
                    for (i, &value) in rounded.iter().enumerate() {
                        bytes[kernel.place(column, i)] = value as i8;
                        sums.0[column] += i32::from(value as i8);
                    }
                }
            },
        );
    }
    Ok(packed)
}

impl QuantisedInputs {
    /// Quantises `x [M, K]`.
    fn new<T: Element>(kernel: Kernel, x: &[T], inputs: usize) -> Self {
        let offset = kernel.offset();
        let rows = x.len() / inputs;
        let row = |row: usize| &x[row * inputs..(row + 1) * inputs];
        let columns = outlying_columns(
            rows,
            inputs,
            #[inline(always)]
            |index, out| T::widen(row(index), out),
        );
        let stride = inputs.next_multiple_of(64) + 64;
        let few = 4 * kernel.lines(columns.len());
        let mut rounded = Self {
            values: vec![0; rows * stride],
            stride,
            scales: vec![0.0; rows],
            outliers: Outliers {
                digits: [vec![0; rows * few], vec![0; rows * few]],
                stride: few,
                scales: vec![0.0; rows],
                columns,
            },
        };
        let Outliers { columns, digits: [high, low], stride: few, scales } = &mut rounded.outliers;
        let blocks = rounded.values.par_chunks_mut(ROWS * stride).zip(rounded.scales.par_chunks_mut(ROWS));
        let digits = scales.par_chunks_mut(ROWS).enumerate();
        let (high, low) = (SharedMut::new(high), SharedMut::new(low));
        blocks.zip(digits).for_each_init(
            || vec![0f32; inputs],
            |wide, ((values, scales), (block, outlier_scales))| {
                let rows = values.chunks_exact_mut(stride).zip(scales).zip(outlier_scales).enumerate();
                for (i, ((values, scale), outlier_scale)) in rows {
                    let index = block * ROWS + i;
                    vectorised(|| T::widen(row(index), wide));
                    if *few > 0 {
                        let range = index * *few..(index + 1) * *few;
                        // SAFETY: every row is one task's own.
                        let digits = unsafe { [high.part(range.clone()), low.part(range)] };
                        *outlier_scale = take_out(wide, columns, digits, offset);
                    }
                    *scale = round(wide, &mut values[..inputs], offset);
                }
            },
        );
        rounded
    }
}

/// Replaces the elements at `columns` by zeros, writes them as two digits plus `offset`, and returns the unit of the lower
/// one.
fn take_out(x: &mut [f32], columns: &[usize], [high, low]: [&mut [u8]; 2], offset: i32) -> f32 {
    let taken: Vec<f32> = columns.iter().map(|&column| std::mem::take(&mut x[column])).collect();
    let scale = scale(&taken) / DIGIT as f32;
    let units = if scale > 0.0 { scale.recip() } else { 0.0 };
    for ((x, high), low) in taken.iter().zip(high).zip(low) {
        let value = (x * units).round_ties_even() as i32;
        let upper = (value + DIGIT / 2).div_euclid(DIGIT);
        *high = (upper + offset) as u8;
        *low = (value - upper * DIGIT + offset) as u8;
    }
    scale
}

/// `x [M, K] · weightᵀ`, finished.
pub(super) fn multiply<T: Element>(x: &[T], weight: &Int8Panels, finish: &Finish<T>) -> Vec<T> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let (rows, kernel) = (x.len() / weight.inputs, Kernel::current());
    let x = QuantisedInputs::new(kernel, x, weight.inputs);
    let grid = Grid::new(rows, weight.scales.len(), weight.inputs / 4);
    finish.collect(rows, |out| {
        grid.for_each(|block| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.multiply(kernel, &x, weight, &block);
                scratch.multiply_outliers(kernel, &x.outliers, weight, &block);
                let products = Int8Products { x: &x, weight, block: &block, scratch, offset: kernel.offset() };
                // SAFETY: every block is one task's own.
                unsafe { finish.write(&block, &products, out) };
            });
        });
    })
}

/// The memory of one task; sums are `[panels, rows]` of the block.
#[derive(Default)]
struct Scratch {
    sums: Vec<Line<i32>>,
    widened: Widened,
    /// `[panels, Q]`: weights of the outlying columns.
    columns: Vec<Line<Quad>>,
    /// `[panels]`: sums of those weights.
    column_sums: Vec<Line<i32>>,
    /// The sums of the high and of the low digits.
    digit_sums: [Vec<Line<i32>>; 2],
}

const ZEROS: Line<i32> = Line([0; COLUMNS]);

impl Scratch {
    fn multiply(&mut self, kernel: Kernel, x: &QuantisedInputs, weight: &Int8Panels, block: &Block) {
        let height = block.rows.len();
        self.sums.resize(height * block.panels.len(), ZEROS);
        for first in (0..weight.quads()).step_by(QUADS) {
            let len = QUADS.min(weight.quads() - first);
            let rows = Rows { bytes: &x.values[block.rows.start * x.stride + 4 * first..], stride: x.stride };
            self.widened.set(kernel, rows, height, len);
            for (sums, panel) in self.sums.chunks_exact_mut(height).zip(block.panels.clone()) {
                let part = |panel: usize| &weight.panel(panel)[first..first + len];
                let next = (panel + 1 < block.panels.end).then(|| part(panel + 1));
                multiply_tile(kernel, rows, (&self.widened, 0), part(panel), next, sums, first > 0);
            }
        }
    }

    fn multiply_outliers(&mut self, kernel: Kernel, x: &Outliers, weight: &Int8Panels, block: &Block) {
        if x.columns.is_empty() {
            return;
        }
        let height = block.rows.len();
        let quads = x.stride / 4;
        self.columns.resize(quads * block.panels.len(), Line([[0; 4]; COLUMNS]));
        self.column_sums.clear();
        for (columns, panel) in self.columns.chunks_exact_mut(quads).zip(block.panels.clone()) {
            self.column_sums.push(gather(kernel, weight.panel(panel), &x.columns, columns));
        }
        for (digits, sums) in x.digits.iter().zip(&mut self.digit_sums) {
            sums.resize(height * block.panels.len(), ZEROS);
            let rows = Rows { bytes: &digits[block.rows.start * x.stride..], stride: x.stride };
            self.widened.set(kernel, rows, height, quads);
            for (sums, columns) in sums.chunks_exact_mut(height).zip(self.columns.chunks_exact(quads)) {
                multiply_tile(kernel, rows, (&self.widened, 0), columns, None, sums, false);
            }
        }
    }
}

/// The sums in [`Scratch`] with the scales of inputs and weights.
struct Int8Products<'a> {
    x: &'a QuantisedInputs,
    weight: &'a Int8Panels,
    block: &'a Block,
    scratch: &'a Scratch,
    offset: i32,
}

impl Products for Int8Products<'_> {
    #[inline(always)]
    fn get(&self, row: usize, panel: usize) -> [f32; COLUMNS] {
        let Self { x, weight, block, scratch, offset } = self;
        let at = panel * block.rows.len() + row;
        let (index, scale) = (block.panels.start + panel, x.scales[block.rows.start + row]);
        let (sums, weight_sums) = (&scratch.sums[at].0, &weight.sums[index].0);
        let mut y = [0f32; COLUMNS];
        for ((y, sum), weight_sum) in y.iter_mut().zip(sums).zip(weight_sums) {
            *y = (sum - offset * weight_sum) as f32 * scale;
        }
        if !x.outliers.columns.is_empty() {
            let scale = x.outliers.scales[block.rows.start + row];
            let [high, low] = [&scratch.digit_sums[0][at].0, &scratch.digit_sums[1][at].0];
            for (((y, high), low), weight_sum) in y.iter_mut().zip(high).zip(low).zip(&scratch.column_sums[panel].0) {
                let offset = offset * weight_sum;
                *y += ((high - offset) * DIGIT + (low - offset)) as f32 * scale;
            }
        }
        for (y, scale) in y.iter_mut().zip(&weight.scales[index].0) {
            *y *= scale;
        }
        y
    }
}

/// Copies `columns` of a panel to `out` and returns their sums.
fn gather(kernel: Kernel, panel: &[Line<Quad>], columns: &[usize], out: &mut [Line<Quad>]) -> Line<i32> {
    let mut sums = ZEROS;
    out.fill(Line([[0; 4]; COLUMNS]));
    let (from, to) = (bytes(panel), bytes_mut(out));
    for (i, &column) in columns.iter().enumerate() {
        let weights = from[kernel.place(0, column)..].iter().step_by(kernel.beside());
        let places = to[kernel.place(0, i)..].iter_mut().step_by(kernel.beside());
        for ((sum, &weight), place) in sums.0.iter_mut().zip(weights).zip(places) {
            *place = weight;
            *sum += i32::from(weight);
        }
    }
    sums
}

/// Quantises `x`, adds `offset`, 0 or 128, and returns the scale; NaN if an element is NaN or infinite.
pub(super) fn round(x: &[f32], out: &mut [u8], offset: i32) -> f32 {
    /// Adding it to a small number leaves that number's nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    vectorised(
        #[inline(always)]
        || {
            let scale = scale(x);
            let units = if scale > 0.0 { scale.recip() } else { 0.0 };
            for (out, x) in out.iter_mut().zip(x) {
                *out = ((x * units + ROUND).to_bits() as u8) ^ offset as u8;
            }
            scale
        },
    )
}

/// Returns the scale at which the largest element is [`LARGEST`]; 0 if all are so small that they count as zeros.
#[inline(always)]
fn scale(x: &[f32]) -> f32 {
    // Bits of positive numbers are ordered as the numbers are, with those that are not finite above.
    let largest = x.iter().fold(0, |largest: u32, x| largest.max(x.abs().to_bits()));
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        f32::NAN
    } else if largest < 1e-30 {
        0.0
    } else {
        largest / LARGEST
    }
}
