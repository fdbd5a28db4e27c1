//! Scaled dot-product attention.

use candle_core::{Result, Tensor};

/// `softmax(scale · q kᵀ + bias) v` over `q [B, L, N, D]`, `k v [B, S, N, D]`, `bias [1|B, N, L, S]` → `[B, L, N, D]`.
///
/// Scores and sums are f32; the result has `q`'s dtype.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    crate::reference::attention(q, k, v, scale, bias)
}
