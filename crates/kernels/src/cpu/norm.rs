//! Norms over rows.

use super::element::Element;
use super::rows::{Broadcast, map_rows};
use super::{Operand, by_dtype, math, to_f32};
use candle_core::{D, Result, Tensor};

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
    by_dtype!(x.dtype(), rms_norm_rows(x, &to_f32(weight)?, eps as f32, |x| x))
}

/// See [`crate::rms_norm_silu`]; shapes are checked there.
pub fn rms_norm_silu(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    by_dtype!(x.dtype(), rms_norm_rows(x, &to_f32(weight)?, eps as f32, math::silu))
}

/// See [`crate::rms_norm_modulate`]; shapes are checked there.
pub fn rms_norm_modulate(x: &Tensor, modulation: Option<(&Tensor, &Tensor)>, eps: f64) -> Result<Tensor> {
    match modulation {
        Some((shift, scale)) => {
            by_dtype!(x.dtype(), rms_norm_modulate_rows(x, &to_f32(shift)?, &to_f32(scale)?, eps as f32))
        }
        None => by_dtype!(x.dtype(), plain_rms_norm_rows(x, eps as f32)),
    }
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

fn rms_norm_rows<T: Element>(x: &Tensor, weight: &Tensor, eps: f32, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let weight = Operand::new(weight)?;
    let weight = weight.slice::<f32>()?;
    map_rows::<T>(
        x,
        x.dim(D::Minus1)?,
        #[inline(always)]
        |_, x, out| {
            let scale = rms_scale(x, eps);
            for ((out, &x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = f(x * scale * weight);
            }
        },
    )
}

fn plain_rms_norm_rows<T: Element>(x: &Tensor, eps: f32) -> Result<Tensor> {
    map_rows::<T>(
        x,
        x.dim(D::Minus1)?,
        #[inline(always)]
        |_, x, out| {
            let scale = rms_scale(x, eps);
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = x * scale);
        },
    )
}

fn rms_norm_modulate_rows<T: Element>(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f32) -> Result<Tensor> {
    let (shift_data, scale_data) = (Operand::new(shift)?, Operand::new(scale)?);
    let shift = Broadcast::new(shift_data.slice()?, shift, x)?;
    let scale = Broadcast::new(scale_data.slice()?, scale, x)?;
    map_rows::<T>(
        x,
        x.dim(2)?,
        #[inline(always)]
        |row, x, out| {
            let factor = rms_scale(x, eps);
            for (((out, &x), shift), scale) in out.iter_mut().zip(x).zip(shift.row(row)).zip(scale.row(row)) {
                *out = x * factor * (1.0 + scale) + shift;
            }
        },
    )
}

/// Returns the factor of a row in [`rms_norm`], beside the weight.
#[inline(always)]
pub(super) fn rms_scale(x: &[f32], eps: f32) -> f32 {
    let mean_square = math::sum(x, |x| x * x) / x.len() as f32;
    1.0 / (mean_square + eps).sqrt()
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
    let gamma = to_f32(gamma)?;
    let gamma = Operand::new(&gamma)?;
    let gamma = gamma.slice::<f32>()?;
    let root = (gamma.len() as f32).sqrt();
    map_rows::<T>(
        x,
        gamma.len(),
        #[inline(always)]
        |_, x, out| {
            let norm = math::sum(x, |x| x * x).sqrt();
            let scale = root / if norm < 1e-12 { 1e-12 } else { norm };
            for ((out, &x), &gamma) in out.iter_mut().zip(x).zip(gamma) {
                *out = f(x * scale * gamma);
            }
        },
    )
}
