//! [`Packed`]: weights in panels of 32 outputs, in the order in which the kernels read them.
#![allow(unsafe_code)]

use super::super::tile::{COLUMNS, E4m3, E5m2};
use super::super::{Operand, multiplies_bf16};
use super::bf16::PairPanels;
use super::blocks::BlockWeights;
use super::int8::Int8Panels;
use super::line::{ByteLine, Line};
use candle_core::{DType, Result, Tensor, WithDType, bail};
use half::{bf16, f16};
use kinora_formats::{Format, Matrix, Scales};
use rayon::prelude::*;

/// Weights `[N, K]`, packed.
pub enum Packed {
    F32(Panels<f32>),
    Bf16(Panels<bf16>),
    F16(Panels<f16>),
    /// Weights for inputs that are bf16 or rounded to it.
    Pairs(PairPanels),
    Int8(Int8Panels),
    /// Eight-bit floats, and a scale per output.
    E4m3(BytePanels<E4m3>),
    E5m2(BytePanels<E5m2>),
    /// Blocks that are multiplied as whole numbers.
    Blocks(BlockWeights),
    /// Weights that are dequantised for each product.
    Stored(Matrix),
}

/// Panels `[N / 32, K, 32]`; outputs past the last are zeros.
pub struct Panels<T> {
    lines: Vec<Line<T>>,
    inputs: usize,
}

/// Panels `[N / 32, K, 32]` of single bytes, whose outputs have a scale each, `[N / 32]`.
pub struct BytePanels<T> {
    lines: Vec<ByteLine<T>>,
    inputs: usize,
    pub(super) scales: Vec<Line<f32>>,
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

    /// Takes weights as they are stored. Without `exact`, blocks are multiplied as whole numbers, with inputs that are quantised
    /// as they come; otherwise products are of f32.
    pub fn stored(matrix: Matrix, exact: bool) -> Result<Self> {
        if !exact && matrix.blocks().is_some() {
            return Ok(Self::Blocks(BlockWeights::new(matrix)?));
        }
        let per_output = match matrix.scales() {
            Scales::None => Some(vec![1.0; matrix.rows()]),
            Scales::Whole(scale) => Some(vec![*scale; matrix.rows()]),
            Scales::Rows(scales) => Some(scales.clone()),
            Scales::Blocks { .. } => None,
        };
        let Some(scales) = per_output.filter(|_| matrix.rotation() == 1) else { return Ok(Self::Stored(matrix)) };
        Ok(match matrix.format() {
            Format::F8E4m3 => Self::E4m3(BytePanels::new(&matrix, &scales, E4m3)),
            Format::F8E5m2 => Self::E5m2(BytePanels::new(&matrix, &scales, E5m2)),
            _ => Self::Stored(matrix),
        })
    }

    /// Whether weights are in a dtype of tensors, and are multiplied as f32.
    pub fn is_dense(&self) -> bool {
        matches!(self, Self::F32(_) | Self::Bf16(_) | Self::F16(_))
    }

    /// Whether products are of bf16.
    pub fn is_bf16(&self) -> bool {
        matches!(self, Self::Pairs(_))
    }

    /// Whether products are of integers.
    pub fn is_int8(&self) -> bool {
        matches!(self, Self::Int8(_) | Self::Blocks(_))
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
            panels.for_each(|(panel, rows)| transpose(rows, panel, |line| &mut line.0));
        }
        Ok(Self { lines, inputs })
    }
}

impl<T: Copy + Send + Sync> BytePanels<T> {
    /// Packs a matrix of single bytes with one scale per output.
    fn new(matrix: &Matrix, scales: &[f32], element: impl Fn(u8) -> T + Sync) -> Self {
        let inputs = matrix.columns();
        let mut lines = vec![ByteLine([element(0); COLUMNS]); matrix.rows().div_ceil(COLUMNS) * inputs];
        lines.par_chunks_mut(inputs.max(1)).enumerate().for_each(|(panel, lines)| {
            let rows = panel * COLUMNS..matrix.rows().min((panel + 1) * COLUMNS);
            let rows: Vec<T> = rows.flat_map(|row| matrix.row(row)[..inputs].iter().copied().map(&element)).collect();
            transpose(&rows, lines, |line| &mut line.0);
        });
        let line = |scales: &[f32]| Line(std::array::from_fn(|i| scales.get(i).copied().unwrap_or(0.0)));
        Self { lines, inputs, scales: scales.chunks(COLUMNS).map(line).collect() }
    }

    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.scales.len()
    }

    /// `K`.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The elements `[K, 32]` of one panel.
    pub(super) fn panel(&self, panel: usize) -> &[T] {
        let lines = &self.lines[panel * self.inputs..(panel + 1) * self.inputs];
        // SAFETY: a line is its elements, without anything between them.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * COLUMNS) }
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

    /// The elements `[K, 32]` of one panel.
    pub(super) fn panel(&self, panel: usize) -> &[T] {
        let lines = &self.lines[panel * self.inputs..(panel + 1) * self.inputs];
        // SAFETY: a line is its elements, without anything between them, as no element is a single byte.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * COLUMNS) }
    }
}

/// `rows [up to 32, K]` to `panel [K, 32]`, some inputs at a time, so that both stay in the L1 cache.
pub(super) fn transpose<T: Copy, L>(rows: &[T], panel: &mut [L], of_line: impl Fn(&mut L) -> &mut [T; COLUMNS]) {
    const STEP: usize = 64;
    let inputs = panel.len();
    for (block, lines) in panel.chunks_mut(STEP).enumerate() {
        for (column, row) in rows.chunks(inputs).enumerate() {
            for (line, &value) in lines.iter_mut().zip(&row[block * STEP..]) {
                of_line(line)[column] = value;
            }
        }
    }
}
