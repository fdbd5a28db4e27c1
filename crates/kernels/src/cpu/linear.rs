//! [`linear`]: blocks of rows and of outputs, each a product of tiles in registers over packed weights.
//!
//! Sums run over the inputs in order, a part of them at a time, so that the bits do not depend on the blocks.
#![allow(unsafe_code)]

mod bf16;
mod blocks;
mod blocks_tile;
mod finish;
mod grid;
mod int8;
mod int8_tile;
mod line;
mod panels;
mod side;
mod stored;

pub use panels::Packed;

use super::element::Element;
use super::rows::Broadcast;
use super::tile::{COLUMNS, Out, Panel, Rows, Stored, multiply_tile};
use super::{Operand, by_dtype, to_f32};
use crate::level::vectorised;
use crate::{Epilogue, Level};
use candle_core::{Device, Result, Tensor};
use finish::{Finish, Side, Sums, Then};
use grid::{Block, Grid};
use line::Line;
use side::SideRows;
use std::cell::RefCell;
use stored::{Dequantised, Weights};

/// Bytes after which addresses share a set of the L1 cache.
const PAGE: usize = 4096;
/// Inputs that are summed before the sum is stored: so many of a panel fit in the L2 cache with the rows.
const INPUTS: usize = 512;

/// What multiplies 8-bit integers, in words.
pub fn int8_products() -> &'static str {
    int8_tile::Kernel::current().name()
}

/// What [`linear`] adds to a product: rows `[.., R]`, and dense weights `[N, R]` that they are multiplied with.
pub type Beside<'a> = (Tensor, &'a Packed);

/// See [`crate::linear`]; shapes are checked there, `shape` is that of the result.
pub fn linear(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    beside: &[Beside],
    epilogue: Epilogue,
    shape: Vec<usize>,
) -> Result<Tensor> {
    by_dtype!(x.dtype(), typed(x, weight, bias, beside, epilogue, shape))
}

fn typed<T: Element>(
    x: &Tensor,
    weight: &Packed,
    bias: Option<&Tensor>,
    beside: &[Beside],
    epilogue: Epilogue,
    shape: Vec<usize>,
) -> Result<Tensor> {
    let (x, bias) = (x.contiguous()?, bias.map(to_f32).transpose()?);
    let (other, gate) = match epilogue {
        Epilogue::None | Epilogue::GeluTanh | Epilogue::Silu => (None, None),
        Epilogue::Product(other) | Epilogue::Residual(other) => (Some(other.contiguous()?), None),
        Epilogue::GatedResidual { x, gate } => (Some(x.contiguous()?), Some(to_f32(gate)?)),
    };
    let (x_data, bias_data) = (Operand::new(&x)?, bias.as_ref().map(Operand::new).transpose()?);
    let other_data = other.as_ref().map(Operand::new).transpose()?;
    let gate_data = gate.as_ref().map(Operand::new).transpose()?;
    let other_slice = other_data.as_ref().map_or(Ok(&[] as &[T]), Operand::slice)?;
    let then = match epilogue {
        Epilogue::None => Then::Nothing,
        Epilogue::GeluTanh => Then::GeluTanh,
        Epilogue::Silu => Then::Silu,
        Epilogue::Product(_) => Then::Product(other_slice),
        Epilogue::Residual(_) => Then::Residual(other_slice),
        Epilogue::GatedResidual { x, gate } => {
            let gate_slice = gate_data.as_ref().map_or(Ok(&[] as &[f32]), Operand::slice)?;
            Then::GatedResidual(other_slice, Broadcast::new(gate_slice, gate, x)?)
        }
    };
    let bias = bias_data.as_ref().map(Operand::slice).transpose()?;
    let rows: Vec<Tensor> = beside.iter().map(|(rows, _)| to_f32(rows)).collect::<Result<_>>()?;
    let rows: Vec<Operand> = rows.iter().map(Operand::new).collect::<Result<_>>()?;
    let sides = rows.iter().zip(beside).map(|(rows, &(_, weight))| {
        let side: Box<dyn Side> = Box::new(SideRows { rows: rows.slice()?, weight });
        Ok(side)
    });
    let sides = sides.collect::<Result<_>>()?;
    let finish = Finish { outputs: shape.last().copied().unwrap_or(0), sides, bias, then };
    let x = x_data.slice::<T>()?;
    let out = match weight {
        Packed::F32(panels) => multiply(x, panels, &[], &finish),
        Packed::Bf16(panels) => multiply(x, panels, &[], &finish),
        Packed::F16(panels) => multiply(x, panels, &[], &finish),
        Packed::E4m3(weight) => multiply(x, weight, &weight.scales, &finish),
        Packed::E5m2(weight) => multiply(x, weight, &weight.scales, &finish),
        Packed::Stored(matrix) => multiply::<T, f32>(x, matrix, &[], &finish),
        Packed::Blocks(weight) => blocks::multiply(x, weight, &finish),
        Packed::Pairs(panels) => bf16::multiply(x, panels, &finish),
        Packed::Int8(panels) => int8::multiply(x, panels, &finish),
    };
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// `x [M, K] · weightᵀ`, times `scales [N / 32]` if there are any, finished.
fn multiply<T: Element, W: Stored>(
    x: &[T],
    weight: &impl Weights<W>,
    scales: &[Line<f32>],
    finish: &Finish<T>,
) -> Vec<T> {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let rows = x.len() / weight.inputs();
    let grid = Grid::new(rows, weight.count(), weight.inputs());
    finish.collect(rows, |out| {
        grid.for_each(|block| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.multiply(x, weight, &block);
                if !scales.is_empty() {
                    let sums = scratch.sums.chunks_exact_mut(block.rows.len());
                    for (sums, scale) in sums.zip(&scales[block.panels.clone()]) {
                        let each = sums.iter_mut().flat_map(|sums| sums.0.iter_mut().zip(&scale.0));
                        each.for_each(|(sum, scale)| *sum *= scale);
                    }
                }
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
    /// Rows of `x`, as f32, for one part of the inputs.
    x: Vec<f32>,
    /// `[panels, rows]` of the block.
    sums: Vec<Line<f32>>,
}

impl Scratch {
    /// `sums = x · weight` for one block.
    fn multiply<T: Element, W: Stored>(&mut self, x: &[T], weight: &impl Weights<W>, block: &Block) {
        let (inputs, height) = (weight.inputs(), block.rows.len());
        let parts = inputs.div_ceil(INPUTS);
        let step = inputs.div_ceil(parts).next_multiple_of(weight.unit());
        let mut dequantised = Dequantised::default();
        // Rows that are f32 are read where they are, unless all of them would share a few sets of the CPU's cache.
        let in_place = T::if_f32(x).filter(|_| !(size_of::<f32>() * inputs).is_multiple_of(PAGE));
        let stride = step.next_multiple_of(16) + 16;
        self.x.resize(self.x.len().max(if in_place.is_some() { 0 } else { height * stride }), 0.0);
        self.sums.resize(self.sums.len().max(height * block.panels.len()), Line([0.0; COLUMNS]));
        let level = Level::current();
        for first in (0..inputs).step_by(step) {
            let len = step.min(inputs - first);
            let rows = if let Some(x) = in_place {
                Rows { data: x[block.rows.start * inputs + first..].as_ptr(), row: inputs, step: 1 }
            } else {
                for (row, wide) in block.rows.clone().zip(self.x.chunks_exact_mut(stride)) {
                    let start = row * inputs + first;
                    vectorised(|| T::widen(&x[start..start + len], &mut wide[..len]));
                }
                Rows { data: self.x.as_ptr(), row: stride, step: 1 }
            };
            for (sums, panel) in self.sums.chunks_exact_mut(height).zip(block.panels.clone()) {
                let lines = weight.part(panel, first, len, &mut dequantised);
                // AVX-512 is through with a panel so soon that these hints are in its way (measured).
                let next = (level != Level::Avx512 && panel + 1 < block.panels.end)
                    .then(|| weight.place(panel + 1, first))
                    .flatten();
                let panel = Panel { data: lines.as_ptr(), row: COLUMNS, next };
                let out = Out { data: sums.as_mut_ptr().cast(), row: COLUMNS, accumulate: first > 0 };
                // SAFETY: `x` has `height` rows of `len`, the panel `len` lines, `sums` `height` lines.
                unsafe { multiply_tile(level, [height, COLUMNS, len], rows, panel, out) };
            }
        }
    }
}
