//! Norms: over rows, and over channels in blocks of positions.
#![allow(unsafe_code)]

use super::element::Element;
use super::rows::{Broadcast, map_rows};
use super::shared::SharedMut;
use super::{Operand, by_dtype, math, to_f32};
use crate::level::vectorised;
use candle_core::{D, Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Positions that one task of [`channel_rms_norm`] takes.
const POSITIONS: usize = 512;

/// See [`crate::layer_norm`]; shapes are checked there.
pub fn layer_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    by_dtype!(x.dtype(), layer_norm_rows(x, weight, bias, eps as f32))
}

/// See [`crate::layer_norm_modulate`]; shapes are checked there.
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    by_dtype!(x.dtype(), layer_norm_modulate_rows(x, &to_f32(shift)?, &to_f32(scale)?, eps as f32))
}

/// See [`crate::rms_norm`]; shapes are checked there.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    by_dtype!(x.dtype(), rms_norm_rows(x, &to_f32(weight)?, eps as f32))
}

/// See [`crate::channel_rms_norm`]; shapes are checked there. With `silu`, applies that to the result.
pub fn channel_rms_norm(x: &Tensor, gamma: &Tensor, silu: bool) -> Result<Tensor> {
    if silu {
        by_dtype!(x.dtype(), over_channels(x, gamma, math::silu))
    } else {
        by_dtype!(x.dtype(), over_channels(x, gamma, |x| x))
    }
}

fn layer_norm_rows<T: Element>(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    let (weight, bias) = (weight.map(to_f32).transpose()?, bias.map(to_f32).transpose()?);
    let weight = weight.as_ref().map(Operand::new).transpose()?;
    let weight = weight.as_ref().map(Operand::slice::<f32>).transpose()?;
    let bias = bias.as_ref().map(Operand::new).transpose()?;
    let bias = bias.as_ref().map(Operand::slice::<f32>).transpose()?;
    map_rows::<T>(
        x,
        x.dim(D::Minus1)?,
        #[inline(always)]
        |_, x, out| {
            normalise(x, out, eps);
            if let Some(weight) = weight {
                out.iter_mut().zip(weight).for_each(|(out, weight)| *out *= weight);
            }
            if let Some(bias) = bias {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        },
    )
}

fn layer_norm_modulate_rows<T: Element>(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f32) -> Result<Tensor> {
    let (shift_data, scale_data) = (Operand::new(shift)?, Operand::new(scale)?);
    let shift = Broadcast::new(shift_data.slice()?, shift, x)?;
    let scale = Broadcast::new(scale_data.slice()?, scale, x)?;
    map_rows::<T>(
        x,
        x.dim(2)?,
        #[inline(always)]
        |row, x, out| {
            normalise(x, out, eps);
            for ((out, shift), scale) in out.iter_mut().zip(shift.row(row)).zip(scale.row(row)) {
                *out = *out * (1.0 + scale) + shift;
            }
        },
    )
}

fn rms_norm_rows<T: Element>(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let weight = Operand::new(weight)?;
    let weight = weight.slice::<f32>()?;
    map_rows::<T>(
        x,
        x.dim(D::Minus1)?,
        #[inline(always)]
        |_, x, out| {
            let mean_square = math::sum(x, |x| x * x) / x.len() as f32;
            let scale = 1.0 / (mean_square + eps).sqrt();
            for ((out, &x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        },
    )
}

/// `out = (x - mean) / sqrt(variance + eps)`.
#[inline(always)]
fn normalise(x: &[f32], out: &mut [f32], eps: f32) {
    let count = x.len() as f32;
    let mean = math::sum(x, |x| x) / count;
    let variance = math::sum(x, |x| (x - mean) * (x - mean)) / count;
    let scale = 1.0 / (variance + eps).sqrt();
    for (out, &x) in out.iter_mut().zip(x) {
        *out = (x - mean) * scale;
    }
}

fn over_channels<T: Element>(x: &Tensor, gamma: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let positions: usize = x.dims()[2..].iter().product();
    let (x, gamma) = (x.contiguous()?, to_f32(gamma)?);
    let (x_data, gamma_data) = (Operand::new(&x)?, Operand::new(&gamma)?);
    let (x_data, gamma) = (x_data.slice::<T>()?, gamma_data.slice::<f32>()?);
    let mut out = vec![T::zero(); x_data.len()];
    let shared = SharedMut::new(&mut out);
    let blocks = positions.div_ceil(POSITIONS);
    (0..batch * blocks).into_par_iter().for_each_init(Default::default, |scratch, task| {
        let position = task % blocks * POSITIONS;
        let block = Block {
            start: task / blocks * channels * positions + position,
            stride: positions,
            len: POSITIONS.min(positions - position),
        };
        vectorised(
            #[inline(always)]
            || block.norm(x_data, gamma, &f, &shared, scratch),
        );
    });
    Tensor::from_vec(out, x.dims(), &Device::Cpu)
}

/// Some positions of one item, in all its channels.
struct Block {
    start: usize,
    stride: usize,
    len: usize,
}

impl Block {
    #[inline(always)]
    fn norm<T: Element>(
        &self,
        x: &[T],
        gamma: &[f32],
        f: impl Fn(f32) -> f32,
        out: &SharedMut<T>,
        (widened, result): &mut (Vec<f32>, Vec<f32>),
    ) {
        let root = (gamma.len() as f32).sqrt();
        let mut scale = [0f32; POSITIONS];
        for channel in 0..gamma.len() {
            let x = T::as_f32(&x[self.range(channel)], widened);
            scale.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x * x);
        }
        for scale in &mut scale {
            let norm = scale.sqrt();
            *scale = root / if norm < 1e-12 { 1e-12 } else { norm };
        }
        for (channel, &gamma) in gamma.iter().enumerate() {
            let x = T::as_f32(&x[self.range(channel)], widened);
            // SAFETY: every block of every channel is a part of its own.
            let out = unsafe { out.part(self.range(channel)) };
            T::write_f32(
                out,
                result,
                #[inline(always)]
                |out| {
                    for ((out, &x), &scale) in out.iter_mut().zip(x).zip(&scale) {
                        *out = f(x * scale * gamma);
                    }
                },
            );
        }
    }

    fn range(&self, channel: usize) -> Range<usize> {
        let start = self.start + channel * self.stride;
        start..start + self.len
    }
}
