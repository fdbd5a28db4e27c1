//! [`Packed`]: weights in panels of 32 outputs, in the order in which the kernels read them.

use super::super::tile::COLUMNS;
use super::super::{Operand, multiplies_bf16};
use super::bf16::PairPanels;
use super::int8::Int8Panels;
use super::line::Line;
use candle_core::{DType, Result, Tensor, WithDType, bail};
use half::{bf16, f16};
use rayon::prelude::*;

/// Weights `[N, K]`, packed.
pub enum Packed {
    F32(Panels<f32>),
    Bf16(Panels<bf16>),
    F16(Panels<f16>),
    /// Weights for inputs that are bf16 or rounded to it.
    Pairs(PairPanels),
    Int8(Int8Panels),
}

/// Panels `[N / 32, K, 32]`; outputs past the last are zeros.
pub struct Panels<T> {
    lines: Vec<Line<T>>,
    inputs: usize,
}

impl Packed {
    /// Packs `weight [N, K]`.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Ok(match weight.dtype() {
            DType::F32 => Self::F32(Panels::new(weight)?),
            DType::BF16 => Self::Bf16(Panels::new(weight)?),
            DType::F16 => Self::F16(Panels::new(weight)?),
            dtype => bail!("no CPU kernel for {dtype:?}"),
        })
    }

    /// Packs `weight [N, K]` for inputs of its dtype.
    pub fn for_own_dtype(weight: &Tensor) -> Result<Self> {
        if multiplies_bf16(weight.dtype()) {
            return Ok(Self::Pairs(PairPanels::new(weight)?));
        }
        Self::new(weight)
    }

    /// Whether products are of bf16.
    pub fn is_bf16(&self) -> bool {
        matches!(self, Self::Pairs(_))
    }

    /// Whether products are of integers.
    pub fn is_int8(&self) -> bool {
        matches!(self, Self::Int8(_))
    }

    /// Quantises `weight [N, K]` to eight bits and packs it.
    pub fn int8(weight: &Tensor) -> Result<Self> {
        Ok(Self::Int8(Int8Panels::new(weight)?))
    }
}

impl<T: WithDType> Panels<T> {
    fn new(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let operand = Operand::new(&weight)?;
        let rows = operand.slice::<T>()?;
        let mut lines = vec![Line([T::zero(); COLUMNS]); outputs.div_ceil(COLUMNS) * inputs];
        if inputs > 0 {
            let panels = lines.par_chunks_mut(inputs).zip(rows.par_chunks(COLUMNS * inputs));
            panels.for_each(|(panel, rows)| transpose(rows, panel));
        }
        Ok(Self { lines, inputs })
    }
}

impl<T> Panels<T> {
    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.lines.len() / self.inputs.max(1)
    }

    /// `K`.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The lines `[K, 32]` of one panel.
    pub(super) fn panel(&self, panel: usize) -> &[Line<T>] {
        &self.lines[panel * self.inputs..(panel + 1) * self.inputs]
    }
}

/// `rows [up to 32, K]` to `panel [K, 32]`, some inputs at a time, so that both stay in the L1 cache.
fn transpose<T: Copy>(rows: &[T], panel: &mut [Line<T>]) {
    const STEP: usize = 64;
    let inputs = panel.len();
    for (block, lines) in panel.chunks_mut(STEP).enumerate() {
        for (column, row) in rows.chunks(inputs).enumerate() {
            for (line, &value) in lines.iter_mut().zip(&row[block * STEP..]) {
                line.0[column] = value;
            }
        }
    }
}
