//! Guidance as functions of two velocities, and the estimate of x0 that a prediction implies.
//!
//! Predictions are velocities `[B, ...]` of one shape and one dtype; the result has that dtype, and is rounded to it
//! where diffusers rounds.

use candle_core::{DType, Result, Tensor};

use crate::Error;
use crate::guided::sum_per_sample;

/// Keeps the scale of CFG-Zero* finite where the unconditional prediction is zero.
const NORM_EPS: f64 = 1e-8;

/// Returns classifier-free guidance, `uncond + scale * (cond - uncond)`, <https://arxiv.org/abs/2207.12598>.
pub fn cfg(cond: &Tensor, uncond: &Tensor, scale: f64) -> std::result::Result<Tensor, Error> {
    check_pair(cond, uncond)?;
    // The product is rounded once, as in PyTorch: candle would round the scale to the dtype as well.
    let direction = ((cond - uncond)?.to_dtype(DType::F32)? * scale)?.to_dtype(cond.dtype())?;
    Ok((uncond + direction)?)
}

/// Returns CFG-Zero*: guidance from the multiple of `uncond` that lies nearest to `cond`, one multiple per sample,
/// <https://arxiv.org/abs/2503.18886>, algorithm 1. Its other half, a velocity of zero in the first steps, needs no
/// prediction: in those steps `denoised` is the latents themselves.
pub fn cfg_zero_star(cond: &Tensor, uncond: &Tensor, scale: f64) -> std::result::Result<Tensor, Error> {
    check_pair(cond, uncond)?;
    let (cond_f32, uncond_f32) = (cond.to_dtype(DType::F32)?, uncond.to_dtype(DType::F32)?);
    let dot = sum_per_sample(&(&cond_f32 * &uncond_f32)?)?;
    let norm = (sum_per_sample(&uncond_f32.sqr()?)? + NORM_EPS)?;
    let multiple = (dot / norm)?.to_dtype(cond.dtype())?; // [B, 1, ...]
    cfg(cond, &uncond.broadcast_mul(&multiple)?, scale)
}

/// Returns `x0 = x - sigma * velocity`, in f32 whatever the dtype of the velocity.
pub fn x0_from_velocity(x: &Tensor, velocity: &Tensor, sigma: f64) -> Result<Tensor> {
    x.to_dtype(DType::F32)? - (velocity.to_dtype(DType::F32)? * sigma)?
}

fn check_pair(cond: &Tensor, uncond: &Tensor) -> std::result::Result<(), Error> {
    if cond.dims() == uncond.dims() {
        return Ok(());
    }
    let (found, expected) = (uncond.dims().to_vec(), cond.dims().to_vec());
    Err(Error::Shape { what: "the unconditional prediction".into(), found, expected })
}
