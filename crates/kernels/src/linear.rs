//! Dense linear layers.

use candle_core::{Result, Tensor};

/// `x [.., K] · weightᵀ [N, K] + bias [N]` → `[.., N]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    crate::reference::linear(x, weight, bias)
}
