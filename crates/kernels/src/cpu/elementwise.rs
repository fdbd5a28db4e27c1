//! [`modulate`], [`gate_residual`], activations and [`upsample_nearest_2x`]: one pass over memory each.

use super::element::Element;
use super::rows::{Broadcast, map_rows};
use super::{CHUNK, Operand, by_dtype, math, to_f32};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// See [`crate::gelu_tanh`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), map(x, math::gelu_tanh))
}

/// See [`crate::silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), map(x, math::silu))
}

/// See [`crate::modulate`]; shapes are checked there.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), modulate_rows(x, &to_f32(shift)?, &to_f32(scale)?))
}

/// See [`crate::gate_residual`]; shapes are checked there.
pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), gate_residual_rows(x, &to_f32(y)?, &to_f32(gate)?))
}

/// See [`crate::upsample_nearest_2x`].
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), upsample(x))
}

fn map<T: Element>(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    map_rows::<T>(
        x,
        CHUNK,
        #[inline(always)]
        |_, x, out| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = f(x);
            }
        },
    )
}

fn modulate_rows<T: Element>(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let (shift_data, scale_data) = (Operand::new(shift)?, Operand::new(scale)?);
    let shift = Broadcast::new(shift_data.slice()?, shift, x)?;
    let scale = Broadcast::new(scale_data.slice()?, scale, x)?;
    map_rows::<T>(
        x,
        x.dim(2)?,
        #[inline(always)]
        |row, x, out| {
            for (((out, &x), shift), scale) in out.iter_mut().zip(x).zip(shift.row(row)).zip(scale.row(row)) {
                *out = x * (1.0 + scale) + shift;
            }
        },
    )
}

fn gate_residual_rows<T: Element>(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    let (y_data, gate_data) = (Operand::new(y)?, Operand::new(gate)?);
    let y = Broadcast::new(y_data.slice()?, y, x)?;
    let gate = Broadcast::new(gate_data.slice()?, gate, x)?;
    map_rows::<T>(
        x,
        x.dim(2)?,
        #[inline(always)]
        |row, x, out| {
            for (((out, &x), y), gate) in out.iter_mut().zip(x).zip(y.row(row)).zip(gate.row(row)) {
                *out = x + y * gate;
            }
        },
    )
}

fn upsample<T: Element>(x: &Tensor) -> Result<Tensor> {
    let (b, c, f, h, w) = x.dims5()?;
    let x = x.contiguous()?;
    let operand = Operand::new(&x)?;
    let mut out = vec![T::zero(); 4 * x.elem_count()];
    if w > 0 {
        out.par_chunks_mut(4 * w).zip(operand.slice::<T>()?.par_chunks(w)).for_each(|(out, x)| {
            let (upper, lower) = out.split_at_mut(2 * w);
            for (pair, &x) in upper.chunks_exact_mut(2).zip(x) {
                pair.fill(x);
            }
            lower.copy_from_slice(upper);
        });
    }
    Tensor::from_vec(out, (b, c, f, 2 * h, 2 * w), &Device::Cpu)
}
