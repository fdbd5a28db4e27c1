//! [`PackedConv`]: convolutions of channels-last frames, by Winograd's algorithm where that fits, else directly; both
//! are products of rows of pixels and panels of 32 outputs.
#![allow(unsafe_code)]

mod direct;
mod transform;
mod winograd;

use super::tile::COLUMNS;
use super::{Operand, from_f32, to_f32};
use crate::FrameConvOptions;
use candle_core::{Device, Result, Shape, Tensor, bail};
use std::mem::MaybeUninit;

/// A convolution's weights and bias, packed.
pub struct PackedConv {
    /// `[panel, kf, kh·kw, C, 32]`, zeros past the last output.
    weight: Vec<f32>,
    /// `[panel, 32]`, zeros past the last output.
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    kernel: [usize; 3],
    options: FrameConvOptions,
}

/// The operands of one call.
struct Problem<'a> {
    conv: &'a PackedConv,
    /// `[B, H, W, C]` under every temporal tap.
    frames: Vec<Option<&'a [f32]>>,
    /// `[B, H', W', O]`.
    residual: Option<&'a [f32]>,
    batch: usize,
    size: [usize; 2],
    out_size: [usize; 2],
}

impl PackedConv {
    /// Packs `weight [O, C, kf, kh, kw]` and `bias [O]`.
    pub fn new(weight: &Tensor, bias: &Tensor, options: FrameConvOptions) -> Result<Self> {
        let (outputs, inputs, kf, kh, kw) = weight.dims5()?;
        let (weight, bias_tensor) = (to_f32(weight)?, to_f32(bias)?);
        let (weight, bias_data) = (Operand::new(&weight)?, Operand::new(&bias_tensor)?);
        let (weight, columns) = (weight.slice::<f32>()?, outputs.next_multiple_of(COLUMNS));
        let (taps, mut bias) = (kf * kh * kw, vec![0f32; columns]);
        bias[..outputs].copy_from_slice(bias_data.slice()?);
        let mut packed = vec![0f32; columns * taps * inputs];
        for (output, weight) in weight.chunks_exact(taps * inputs).enumerate() {
            let panel = output / COLUMNS * taps * inputs * COLUMNS;
            for (at, weight) in weight.iter().enumerate() {
                let (input, tap) = (at / taps, at % taps);
                packed[panel + (tap * inputs + input) * COLUMNS + output % COLUMNS] = *weight;
            }
        }
        Ok(Self { weight: packed, bias, inputs, outputs, kernel: [kf, kh, kw], options })
    }

    /// See [`crate::FrameConv::forward`]; shapes are checked there, `out_size` is that of the result.
    pub fn forward(
        &self,
        frames: &[Option<&Tensor>],
        residual: Option<&Tensor>,
        out_size: [usize; 2],
    ) -> Result<Tensor> {
        let Some(first) = frames.iter().flatten().next() else { bail!("convolution: no frames") };
        let (dtype, (batch, h, w, _)) = (first.dtype(), first.dims4()?);
        let frames: Vec<Option<Tensor>> =
            frames.iter().map(|frame| frame.map(to_f32).transpose()).collect::<Result<_>>()?;
        let residual = residual.map(to_f32).transpose()?;
        let frame_data: Vec<Option<Operand>> =
            frames.iter().map(|x| x.as_ref().map(Operand::new).transpose()).collect::<Result<_>>()?;
        let residual_data = residual.as_ref().map(Operand::new).transpose()?;
        let problem = Problem {
            conv: self,
            frames: frame_data.iter().map(|x| x.as_ref().map(Operand::slice).transpose()).collect::<Result<_>>()?,
            residual: residual_data.as_ref().map(Operand::slice).transpose()?,
            batch,
            size: [h, w],
            out_size,
        };
        let shape = Shape::from((batch, out_size[0], out_size[1], self.outputs));
        let mut out = Vec::with_capacity(shape.elem_count());
        problem.compute(&mut out.spare_capacity_mut()[..shape.elem_count()]);
        // SAFETY: every element was written.
        unsafe { out.set_len(shape.elem_count()) };
        from_f32(&Tensor::from_vec(out, shape, &Device::Cpu)?, dtype)
    }

    fn panels(&self) -> usize {
        self.bias.len() / COLUMNS
    }

    /// `[kh·kw, C, 32]` of a panel and a temporal tap.
    fn panel(&self, panel: usize, tap: usize) -> &[f32] {
        let [kf, kh, kw] = self.kernel;
        let len = kh * kw * self.inputs * COLUMNS;
        &self.weight[(panel * kf + tap) * len..][..len]
    }
}

impl Problem<'_> {
    /// Writes every element of `out [B, H', W', O]`.
    fn compute(&self, out: &mut [MaybeUninit<f32>]) {
        let [_, kh, kw] = self.conv.kernel;
        if [kh, kw] == [3, 3] && self.conv.options.stride == 1 { self.winograd(out) } else { self.direct(out) }
    }

    /// One item's pixels under a temporal tap.
    fn frame(&self, tap: usize, item: usize) -> Option<&[f32]> {
        let len = self.size[0] * self.size[1] * self.conv.inputs;
        self.frames[tap].map(|frame| &frame[item * len..(item + 1) * len])
    }

    /// One item's part of the residual.
    fn residual(&self, item: usize) -> Option<&[f32]> {
        let len = self.out_size[0] * self.out_size[1] * self.conv.outputs;
        self.residual.map(|residual| &residual[item * len..(item + 1) * len])
    }
}
