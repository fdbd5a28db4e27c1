//! [`rope`], [`rms_norm_rope`] and [`rms_norm_rope_split`]: one pass over the tokens.

use super::element::Element;
use super::norm::rms_scale;
use super::rows::map_rows;
use super::{Operand, by_dtype, to_f32};
use candle_core::{Result, Tensor};

/// See [`crate::rope`]; shapes are checked there.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), rotate_rows(x, &to_f32(cos)?, &to_f32(sin)?))
}

/// See [`crate::rms_norm_rope`]; shapes are checked there.
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), norm_and_rotate_rows(x, &to_f32(weight)?, eps as f32, &to_f32(cos)?, &to_f32(sin)?))
}

/// See [`crate::rms_norm_rope_split`]; shapes are checked there.
pub fn rms_norm_rope_split(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), norm_and_rotate_halves(x, &to_f32(weight)?, eps as f32, &to_f32(cos)?, &to_f32(sin)?))
}

fn rotate_rows<T: Element>(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, tokens, heads, dim) = x.dims4()?;
    let (cos, sin) = (Operand::new(cos)?, Operand::new(sin)?);
    let angles = Angles { cos: cos.slice()?, sin: sin.slice()?, tokens, dim };
    map_rows::<T>(
        x,
        heads * dim,
        #[inline(always)]
        |row, x, out| {
            out.copy_from_slice(x);
            angles.rotate(row, out);
        },
    )
}

fn norm_and_rotate_rows<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Tensor> {
    let (_, tokens, heads, dim) = x.dims4()?;
    let (cos, sin, weight) = (Operand::new(cos)?, Operand::new(sin)?, Operand::new(weight)?);
    let angles = Angles { cos: cos.slice()?, sin: sin.slice()?, tokens, dim };
    let weight = weight.slice::<f32>()?;
    map_rows::<T>(
        x,
        heads * dim,
        #[inline(always)]
        |row, x, out| {
            let scale = rms_scale(x, eps);
            for ((out, &x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
            angles.rotate(row, out);
        },
    )
}

fn norm_and_rotate_halves<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Tensor> {
    let (_, tokens, heads, dim) = x.dims4()?;
    let (cos, sin, weight) = (Operand::new(cos)?, Operand::new(sin)?, Operand::new(weight)?);
    let (cos, sin, weight) = (cos.slice::<f32>()?, sin.slice::<f32>()?, weight.slice::<f32>()?);
    let half = dim / 2;
    map_rows::<T>(
        x,
        heads * dim,
        #[inline(always)]
        |row, x, out| {
            let scale = rms_scale(x, eps);
            for ((out, &x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
            let token = row % tokens * heads * half;
            let angles = cos[token..].chunks_exact(half).zip(sin[token..].chunks_exact(half));
            for (head, (cos, sin)) in out.chunks_exact_mut(dim).zip(angles) {
                let (first, second) = head.split_at_mut(half);
                for (((first, second), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let (re, im) = (*first, *second);
                    (*first, *second) = (re * cos - im * sin, im * cos + re * sin);
                }
            }
        },
    )
}

/// Cosines and sines `[L, D/2]`.
struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    tokens: usize,
    dim: usize,
}

impl Angles<'_> {
    /// Rotates all heads of one row, `x [N·D]`.
    #[inline(always)]
    fn rotate(&self, row: usize, x: &mut [f32]) {
        let half = self.dim / 2;
        let token = row % self.tokens * half;
        let (cos, sin) = (&self.cos[token..token + half], &self.sin[token..token + half]);
        for head in x.chunks_exact_mut(self.dim) {
            for ((pair, &cos), &sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [re, im] = *pair;
                *pair = [re * cos - im * sin, re * sin + im * cos];
            }
        }
    }
}
