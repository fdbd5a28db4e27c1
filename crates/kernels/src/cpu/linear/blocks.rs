//! Products over ggml's blocks as they are stored: of whole numbers within a group, and summed over groups in f32.
//!
//! Inputs are quantised to eight bits as they come, with one scale per 256 of a row, as ggml does for its larger blocks.
//! Weights stay in the file's bytes; each task takes apart what it multiplies, which its rows share.
#![allow(unsafe_code)]

use super::super::element::Element;
use super::super::tile::COLUMNS;
use super::blocks_tile::{BESIDE, Inputs, Part, add_products};
use super::finish::{Finish, Sums};
use super::grid::Grid;
use super::int8::round;
use super::int8_tile::{Kernel, Rows, Widened};
use super::line::Line;
use crate::level::vectorised;
use candle_core::{Result, bail};
use kinora_formats::{Blocks, Matrix, Unpacked};
use rayon::prelude::*;
use std::cell::RefCell;

/// Inputs of a row that share a scale.
const CHUNK: usize = 256;
/// Most rows of a block: so many share the weights that are taken apart for them, and fit half of a small L2 cache.
const ROWS: usize = 448;

/// Weights `[N, K]` in ggml's blocks.
pub struct BlockWeights {
    matrix: Matrix,
    blocks: Blocks,
}

impl BlockWeights {
    /// Takes a matrix of blocks.
    pub fn new(matrix: Matrix) -> Result<Self> {
        match matrix.blocks() {
            Some(blocks) => Ok(Self { matrix, blocks }),
            None => bail!("a matrix of {} is not one of blocks", matrix.format()),
        }
    }

    fn inputs(&self) -> usize {
        self.matrix.columns()
    }

    /// Takes apart the weights of one panel for the inputs from `first`.
    fn unpack(&self, kernel: Kernel, panel: usize, first: usize, len: usize, part: &mut Part) {
        let (values, bytes, group) = (self.blocks.values(), self.blocks.bytes(), self.blocks.group());
        part.reset(kernel, len, group, self.blocks.has_offsets());
        let rows = panel * COLUMNS..self.matrix.rows().min((panel + 1) * COLUMNS);
        vectorised(
            #[inline(always)]
            || {
                let mut unpacked: [Unpacked; BESIDE] = std::array::from_fn(|_| Unpacked::default());
                for column in (0..rows.len()).step_by(BESIDE) {
                    let rows = rows.start + column..rows.end.min(rows.start + column + BESIDE);
                    for block in 0..len / values {
                        let at = (first / values + block) * bytes;
                        for (unpacked, row) in unpacked.iter_mut().zip(rows.clone()) {
                            self.blocks.unpack(&self.matrix.row(row)[at..at + bytes], unpacked);
                        }
                        part.put(kernel, column, block * values, values, &unpacked);
                    }
                }
            },
        );
    }
}

/// Rows of inputs, quantised.
struct QuantisedInputs {
    /// `[M, stride]`.
    values: Vec<u8>,
    stride: usize,
    /// `[M, K / 256]`, rounded up.
    scales: Vec<f32>,
    /// `[M, K / group]`: sums of the values in each group of weights, where they have offsets.
    sums: Vec<f32>,
}

impl QuantisedInputs {
    /// Quantises `x [M, K]` for weights in groups of `group`, if they have offsets.
    fn new<T: Element>(kernel: Kernel, x: &[T], inputs: usize, group: Option<usize>) -> Self {
        let rows = x.len() / inputs;
        let stride = inputs.next_multiple_of(64) + 64;
        let (chunks, groups) = (inputs.div_ceil(CHUNK), group.map_or(0, |group| inputs / group));
        let mut quantised = Self {
            values: vec![0; rows * stride],
            stride,
            scales: vec![0.0; rows * chunks],
            sums: vec![0.0; rows * groups],
        };
        let offset = kernel.offset();
        let parts = quantised.values.par_chunks_mut(stride).zip(quantised.scales.par_chunks_mut(chunks));
        let write = |wide: &mut Vec<f32>, row: usize, values: &mut [u8], scales: &mut [f32]| {
            vectorised(|| T::widen(&x[row * inputs..(row + 1) * inputs], wide));
            for ((x, values), scale) in wide.chunks(CHUNK).zip(values.chunks_mut(CHUNK)).zip(scales) {
                *scale = round(x, &mut values[..x.len()], offset);
            }
        };
        parts
            .enumerate()
            .for_each_init(|| vec![0f32; inputs], |wide, (row, (values, scales))| write(wide, row, values, scales));
        if let Some(group) = group {
            let rows = quantised.sums.par_chunks_mut(groups).zip(quantised.values.par_chunks(stride));
            rows.for_each(|(sums, values)| sum_groups(&values[..inputs], group, offset, sums));
        }
        quantised
    }
}

/// Writes the sum of each group of inputs, which were stored plus `offset`.
fn sum_groups(values: &[u8], group: usize, offset: i32, sums: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (sum, values) in sums.iter_mut().zip(values.chunks_exact(group)) {
                let signed =
                    |value: &u8| if offset == 0 { i32::from(*value as i8) } else { i32::from(*value) - offset };
                *sum = values.iter().map(signed).sum::<i32>() as f32;
            }
        },
    );
}

/// `x [M, K] · weightᵀ`, finished.
pub(super) fn multiply<T: Element>(x: &[T], weight: &BlockWeights, finish: &Finish<T>) -> Vec<T> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let (inputs, kernel) = (weight.inputs(), Kernel::current());
    let rows = x.len() / inputs;
    let group = weight.blocks.group();
    let x = QuantisedInputs::new(kernel, x, inputs, weight.blocks.has_offsets().then_some(group));
    let grid = Grid::with_rows(rows, weight.matrix.rows().div_ceil(COLUMNS), inputs / 4, ROWS);
    finish.collect(rows, |out| {
        grid.for_each(|block| {
            SCRATCH.with_borrow_mut(|scratch| {
                let height = block.rows.len();
                scratch.sums.clear();
                scratch.sums.resize(height * block.panels.len(), Line([0.0; COLUMNS]));
                for (chunk, first) in (0..inputs).step_by(CHUNK).enumerate() {
                    let len = CHUNK.min(inputs - first);
                    let rows = Rows { bytes: &x.values[block.rows.start * x.stride + first..], stride: x.stride };
                    scratch.widened.set(kernel, rows, height, len / 4);
                    let chunks = inputs.div_ceil(CHUNK);
                    let scales = &x.scales[block.rows.start * chunks + chunk..];
                    let groups = if x.sums.is_empty() { 0 } else { inputs / group };
                    let group_sums =
                        if groups == 0 { &[] } else { &x.sums[block.rows.start * groups + first / group..] };
                    for (sums, panel) in scratch.sums.chunks_exact_mut(height).zip(block.panels.clone()) {
                        weight.unpack(kernel, panel, first, len, &mut scratch.part);
                        let inputs = Inputs {
                            rows,
                            widened: &scratch.widened,
                            scales: (scales, chunks),
                            sums: (group_sums, groups),
                        };
                        add_products(kernel, &inputs, &scratch.part, &mut scratch.products, sums);
                    }
                }
                let products = Sums { sums: &scratch.sums, height };
                // SAFETY: every block is one task's own.
                unsafe { finish.write(&block, &products, out) };
            });
        });
    })
}

/// The memory of one task.
#[derive(Default)]
struct Scratch {
    widened: Widened,
    part: Part,
    /// For kernels that have no registers for them.
    products: Vec<Line<i32>>,
    /// `[panels, rows]` of the block.
    sums: Vec<Line<f32>>,
}
