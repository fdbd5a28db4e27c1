//! Elementwise operators, fused where that saves a pass over memory.

use crate::reference;
use candle_core::{Result, Tensor};

/// `x · (1 + scale) + shift`, computed in f32; `scale`, `shift` are `[B, 1|L, C]` over `x [B, L, C]`; `x`'s dtype.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    reference::modulate(x, shift, scale)
}

/// `x + y · gate`, computed in f32; `gate` is `[B, 1|L, C]` over `x y [B, L, C]`; `x`'s dtype.
pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    reference::gate_residual(x, y, gate)
}

/// GELU, tanh approximation.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    reference::gelu_tanh(x)
}

/// GELU, exact.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    reference::gelu_erf(x)
}

/// `x · sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    reference::silu(x)
}

/// Doubles `H` and `W` of `x [B, C, F, H, W]` by repeating pixels (nearest-exact).
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    reference::upsample_nearest_2x(x)
}
