//! [`modulate`], [`gate_residual`] and activations: one pass over memory each.

use super::element::Element;
use super::rows::{Broadcast, map_rows};
use super::{CHUNK, Operand, by_dtype, math, to_f32};
use candle_core::{Result, Tensor};

/// See [`crate::gelu_tanh`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), map(x, math::gelu_tanh))
}

/// See [`crate::silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), map(x, math::silu))
}

/// See [`crate::leaky_relu`].
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let slope = slope as f32;
    by_dtype!(
        x.dtype(),
        map(
            x,
            #[inline(always)]
            |x| if x < 0.0 { slope * x } else { x }
        )
    )
}

/// See [`crate::modulate`]; shapes are checked there.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), modulate_rows(x, &to_f32(shift)?, &to_f32(scale)?))
}

/// See [`crate::gate_residual`]; shapes are checked there.
pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), gate_residual_rows(x, &to_f32(y)?, &to_f32(gate)?))
}

/// See [`crate::gate_heads`]; shapes are checked there.
pub fn gate_heads(y: &Tensor, gates: &Tensor) -> Result<Tensor> {
    by_dtype!(y.dtype(), gate_head_rows(y, &to_f32(gates)?))
}

/// See [`crate::parameter_free_attention`]; shapes are checked there.
pub fn parameter_free_attention(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), parameter_free_attention_rows(x, &to_f32(y)?))
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

fn gate_head_rows<T: Element>(y: &Tensor, gates: &Tensor) -> Result<Tensor> {
    let (_, _, heads, dim) = y.dims4()?;
    let gates = Operand::new(gates)?;
    let gates = gates.slice::<f32>()?;
    map_rows::<T>(
        y,
        heads * dim,
        #[inline(always)]
        |row, y, out| {
            let heads = out.chunks_exact_mut(dim).zip(y.chunks_exact(dim)).zip(&gates[row * heads..]);
            for ((out, y), &gate) in heads {
                let gate = 2.0 * math::sigmoid(gate);
                out.iter_mut().zip(y).for_each(|(out, &y)| *out = y * gate);
            }
        },
    )
}

fn parameter_free_attention_rows<T: Element>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y_data = Operand::new(y)?;
    let y = y_data.slice::<f32>()?;
    map_rows::<T>(
        x,
        CHUNK,
        #[inline(always)]
        |row, x, out| {
            for ((out, &x), &y) in out.iter_mut().zip(x).zip(&y[row * CHUNK..]) {
                *out = (x + y) * (math::sigmoid(y) - 0.5);
            }
        },
    )
}
