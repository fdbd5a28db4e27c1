//! [`rope`]: one pass over the tokens.

use super::element::Element;
use super::rows::map_rows;
use super::{Operand, by_dtype, to_f32};
use candle_core::{Result, Tensor};

/// See [`crate::rope`]; shapes are checked there.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    by_dtype!(x.dtype(), rotate_rows(x, &to_f32(cos)?, &to_f32(sin)?))
}

fn rotate_rows<T: Element>(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, tokens, heads, dim) = x.dims4()?;
    let half = dim / 2;
    let (cos, sin) = (Operand::new(cos)?, Operand::new(sin)?);
    let (cos, sin) = (cos.slice::<f32>()?, sin.slice::<f32>()?);
    map_rows::<T>(
        x,
        heads * dim,
        #[inline(always)]
        |row, x, out| {
            let token = row % tokens * half;
            let (cos, sin) = (&cos[token..token + half], &sin[token..token + half]);
            for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
                rotate_head(x, out, cos, sin);
            }
        },
    )
}

#[inline(always)]
fn rotate_head(x: &[f32], out: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (x, out) = (x.as_chunks::<2>().0, out.as_chunks_mut::<2>().0);
    for (((&[re, im], out), &cos), &sin) in x.iter().zip(out).zip(cos).zip(sin) {
        *out = [re * cos - im * sin, re * sin + im * cos];
    }
}
