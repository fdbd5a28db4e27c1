//! Products of bf16 inputs and weights, on machines that compute them faster than products of f32 ([`pairs`]).
#![allow(unsafe_code)]

use super::super::Operand;
use super::super::element::Element;
use super::super::pairs::{self, GROUP, Out, Rows};
use super::super::tile::COLUMNS;
use super::finish::{Finish, Sums};
use super::grid::{Block, Grid};
use super::line::Line;
use crate::level::vectorised;
use candle_core::{DType, Result, Tensor};
use half::bf16;
use rayon::prelude::*;
use std::cell::RefCell;

/// Inputs that are summed before the sum is stored: so many of a panel fill the L1 cache.
const INPUTS: usize = 512;

/// Weights `[N, K]`.
pub struct PairPanels {
    /// `[N / 32, K / GROUP, 32, GROUP]`, as many lines for the groups of 32 outputs; zeros past the last output and input.
    lines: Vec<Line<bf16>>,
    inputs: usize,
}

impl PairPanels {
    /// Packs `weight [N, K]`, rounded to bf16.
    pub fn new(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.to_dtype(DType::BF16)?.contiguous()?;
        let operand = Operand::new(&weight)?;
        let rows = operand.slice::<bf16>()?;
        let depth = inputs.next_multiple_of(GROUP);
        let mut lines = vec![Line([bf16::ZERO; COLUMNS]); outputs.div_ceil(COLUMNS) * depth];
        if inputs > 0 {
            let panels = lines.par_chunks_mut(depth).zip(rows.par_chunks(COLUMNS * inputs));
            panels.for_each(|(panel, rows)| {
                for (column, row) in rows.chunks(inputs).enumerate() {
                    for (group, lines) in row.chunks(GROUP).zip(panel.as_chunks_mut::<GROUP>().0) {
                        let at = GROUP * column;
                        lines[at / COLUMNS].0[at % COLUMNS..][..group.len()].copy_from_slice(group);
                    }
                }
            });
        }
        Ok(Self { lines, inputs })
    }

    /// `K` in whole groups.
    fn depth(&self) -> usize {
        self.inputs.next_multiple_of(GROUP)
    }

    fn count(&self) -> usize {
        self.lines.len() / self.depth().max(1)
    }

    /// Part of a panel, `[len / GROUP, 32, GROUP]`.
    fn part(&self, panel: usize, first: usize, len: usize) -> &[bf16] {
        let lines = &self.lines[panel * self.depth() + first..][..len];
        // SAFETY: a line is its elements, without anything between them.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), len * COLUMNS) }
    }
}

/// `x [M, K] · weightᵀ`, finished; `x` is rounded to bf16.
pub(super) fn multiply<T: Element>(x: &[T], weight: &PairPanels, finish: &Finish<T>) -> Vec<T> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let rows = x.len() / weight.inputs;
    let grid = Grid::new(rows, weight.count(), weight.inputs);
    finish.collect(rows, |out| {
        grid.for_each(|block| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.multiply(x, weight, &block);
                let products = Sums { sums: &scratch.sums, height: block.rows.len() };
                // SAFETY: every block is one task's own.
                unsafe { finish.write(&block, &products, out) };
            });
        });
    })
}

/// The memory of one task.
#[derive(Default)]
struct Scratch {
    /// Rows of `x` for one part of the inputs.
    x: Vec<bf16>,
    /// `[panels, rows]` of the block.
    sums: Vec<Line<f32>>,
}

impl Scratch {
    /// `sums = x · weight` for one block.
    fn multiply<T: Element>(&mut self, x: &[T], weight: &PairPanels, block: &Block) {
        let (inputs, height) = (weight.inputs, block.rows.len());
        // Not a power of two, at which all rows would share a few sets of the CPU's cache.
        let stride = INPUTS + 32;
        self.x.resize(height * stride, bf16::ZERO);
        self.sums.resize(self.sums.len().max(height * block.panels.len()), Line([0.0; COLUMNS]));
        for first in (0..inputs).step_by(INPUTS) {
            let len = INPUTS.min(inputs - first);
            for (row, rounded) in block.rows.clone().zip(self.x.chunks_exact_mut(stride)) {
                let start = row * inputs + first;
                vectorised(
                    #[inline(always)]
                    || T::to_bf16(&x[start..start + len], &mut rounded[..len]),
                );
                rounded[len..len.next_multiple_of(GROUP)].fill(bf16::ZERO);
            }
            for (sums, panel) in self.sums.chunks_exact_mut(height).zip(block.panels.clone()) {
                let rows = Rows { data: &self.x, row: stride, count: height };
                // SAFETY: a line is its elements, without anything between them.
                let data = unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().cast(), height * COLUMNS) };
                let mut out = Out { data, row: COLUMNS, scale: 1.0, accumulate: first > 0 };
                let part = weight.part(panel, first, len.next_multiple_of(GROUP));
                // SAFETY: such weights are made where the instructions are available only.
                unsafe { pairs::multiply_tile(rows, part, None, &mut out) };
            }
        }
    }
}
