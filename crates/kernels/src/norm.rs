//! Norms; statistics are always f32, and the result has `x`'s dtype.

use crate::elementwise::{check_modulation, silu};
use crate::profile::{Work, timed};
use crate::{cpu, cuda, on_cuda, reference};
use candle_core::{D, Result, Tensor, bail};

/// Layer norm over the last axis of `x`, optional affine `[C]`.
pub fn layer_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    for parameter in [weight, bias].into_iter().flatten() {
        check_parameter("layer_norm", parameter, x, x.dim(D::Minus1)?)?;
    }
    timed("layer_norm", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::layer_norm(x, weight, bias, eps);
        }
        on_cuda!(x, cuda::layer_norm(x, weight, bias, eps));
        reference::layer_norm(x, weight, bias, eps)
    })
}

/// [`layer_norm`] without parameters followed by [`modulate`](crate::modulate), in one pass and all in f32.
pub fn layer_norm_modulate(x: &Tensor, shift: &Tensor, scale: &Tensor, eps: f64) -> Result<Tensor> {
    check_modulation("layer_norm_modulate", x, &[shift, scale])?;
    timed("layer_norm_modulate", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::layer_norm_modulate(x, shift, scale, eps);
        }
        on_cuda!(x, cuda::layer_norm_modulate(x, shift, scale, eps));
        reference::layer_norm_modulate(x, shift, scale, eps)
    })
}

/// RMS norm over the last axis of `x`, times `weight [C]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check_parameter("rms_norm", weight, x, x.dim(D::Minus1)?)?;
    timed("rms_norm", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::rms_norm(x, weight, eps);
        }
        on_cuda!(x, cuda::rms_norm(x, weight, eps));
        reference::rms_norm(x, weight, eps)
    })
}

/// RMS norm over the last axis of `x [B, L, C]`, without a weight, followed by [`modulate`](crate::modulate) by shift and
/// scale `[1|B, 1|L, C]` where there are any, in one pass and all in f32.
pub fn rms_norm_modulate(x: &Tensor, modulation: Option<(&Tensor, &Tensor)>, eps: f64) -> Result<Tensor> {
    if let Some((shift, scale)) = modulation {
        check_modulation("rms_norm_modulate", x, &[shift, scale])?;
    }
    timed("rms_norm_modulate", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::rms_norm_modulate(x, modulation, eps);
        }
        on_cuda!(x, cuda::rms_norm_modulate(x, modulation, eps));
        reference::rms_norm_modulate(x, modulation, eps)
    })
}

/// [`rms_norm`] followed by [`silu`], on CPUs in one pass.
pub fn rms_norm_silu(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check_parameter("rms_norm_silu", weight, x, x.dim(D::Minus1)?)?;
    if !cpu::supports(x) {
        return silu(&rms_norm(x, weight, eps)?);
    }
    timed("rms_norm_silu", Work::Moves, || cpu::rms_norm_silu(x, weight, eps))
}

/// The Wan VAE's norm over the channels of `x [.., C]`: `x / max(‖x‖₂, 1e-12) · √C · gamma [C]`.
pub fn channel_rms_norm(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    check_parameter("channel_rms_norm", gamma, x, x.dim(D::Minus1)?)?;
    timed("channel_rms_norm", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::channel_rms_norm(x, gamma, false);
        }
        on_cuda!(x, cuda::channel_rms_norm(x, gamma, false));
        reference::channel_rms_norm(x, gamma)
    })
}

/// [`channel_rms_norm`] followed by [`silu`](crate::silu), in one pass.
pub fn channel_rms_norm_silu(x: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    check_parameter("channel_rms_norm_silu", gamma, x, x.dim(D::Minus1)?)?;
    timed("channel_rms_norm_silu", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::channel_rms_norm(x, gamma, true);
        }
        on_cuda!(x, cuda::channel_rms_norm(x, gamma, true));
        reference::channel_rms_norm_silu(x, gamma)
    })
}

pub(crate) fn check_parameter(operator: &str, parameter: &Tensor, x: &Tensor, channels: usize) -> Result<()> {
    if parameter.dims() != [channels] {
        bail!("{operator}: parameter {:?} does not fit x {:?}", parameter.dims(), x.dims());
    }
    Ok(())
}
