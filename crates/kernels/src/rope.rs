//! Rotary position embedding.

use candle_core::{Result, Tensor};

/// Rotates interleaved pairs of `x [B, L, N, D]` by angles whose `cos`, `sin` are f32 `[L, D/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    crate::reference::rope(x, cos, sin)
}
