//! Rotary position embedding over the halves of a head (<https://arxiv.org/abs/2104.09864>).

use candle_core::{D, DType, Result, Tensor};

/// Rotates channel `i` of every head of `x [B, S, N, D]` with channel `i + D/2`, by angles whose `cos`, `sin` are f32
/// `[S, 1|N, D/2]`. Computes in f32; the result has `x`'s dtype.
pub(crate) fn rotate_halves(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let wide = x.to_dtype(DType::F32)?;
    let (first, second) = (wide.narrow(D::Minus1, 0, half)?, wide.narrow(D::Minus1, half, half)?);
    let new_first = (first.broadcast_mul(cos)? - second.broadcast_mul(sin)?)?;
    let new_second = (second.broadcast_mul(cos)? + first.broadcast_mul(sin)?)?;
    Tensor::cat(&[new_first, new_second], D::Minus1)?.to_dtype(x.dtype())
}
