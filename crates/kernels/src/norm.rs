//! Norms; statistics are always f32.

use crate::reference;
use candle_core::{Result, Tensor};

/// Layer norm over the last axis of `x`, optional affine `[C]`; the result has `x`'s dtype.
pub fn layer_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    reference::layer_norm(x, weight, bias, eps)
}

/// RMS norm over the last axis of `x`, times `weight [C]`; the result has `x`'s dtype.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    reference::rms_norm(x, weight, eps)
}

/// The Wan VAE's norm over channels of `x [B, C, ..]`: `x / max(‖x‖₂, 1e-12) · √C · gamma [C]`.
pub fn channel_rms_norm(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    reference::channel_rms_norm(x, gamma)
}

/// [`channel_rms_norm`] followed by [`silu`](crate::silu), in one pass.
pub fn channel_rms_norm_silu(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    reference::channel_rms_norm_silu(x, gamma)
}
