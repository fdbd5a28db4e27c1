//! Guidance of estimates of x0, by up to four predictions of a step: the prompt's, and those that it is led away from.
//!
//! The sum of differences and the rescaling are those of diffusers' `LTX2Pipeline`
//! (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/pipelines/ltx2/pipeline_ltx2.py>). Skipped attention is
//! of <https://arxiv.org/abs/2411.18664>, rescaling of <https://arxiv.org/abs/2305.08891>, section 3.4.

use candle_core::{D, DType, Result, Tensor};

use crate::Error;

/// How strongly one latent stream is guided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Away from the estimate without the prompt; 1 is off.
    pub cfg: f64,
    /// Away from the estimate of a perturbed network; 0 is off.
    pub stg: f64,
    /// Away from the estimate of this stream without the others; 1 is off.
    pub modality: f64,
    /// Share, from 0 to 1, in which the result gets the standard deviation of the prompt's estimate; 0 is off.
    pub rescale: f64,
}

impl Guidance {
    /// No guidance: the prompt's estimate as it is.
    pub const OFF: Self = Self { cfg: 1.0, stg: 0.0, modality: 1.0, rescale: 0.0 };
}

impl Default for Guidance {
    fn default() -> Self {
        Self::OFF
    }
}

/// The estimates of x0 of one latent stream that the predictions of a step imply, `[B, ...]` f32, all of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Estimates<'a> {
    /// Of the prompt.
    pub cond: &'a Tensor,
    /// Of the negative prompt.
    pub uncond: Option<&'a Tensor>,
    /// Of the prompt, by the perturbed network.
    pub perturbed: Option<&'a Tensor>,
    /// Of the prompt, without the other streams.
    pub isolated: Option<&'a Tensor>,
}

/// Returns the guided estimate, `[B, ...]` f32: `c + (cfg - 1)(c - u) + stg (c - p) + (modality - 1)(c - i)`, in this order,
/// then rescaled. An estimate that is missing adds nothing.
///
/// # Errors
/// [`Error::Shape`] if an estimate differs in shape from the prompt's.
pub fn guided(estimates: &Estimates, guidance: &Guidance) -> std::result::Result<Tensor, Error> {
    let cond = estimates.cond.to_dtype(DType::F32)?;
    let terms = [
        ("the estimate without the prompt", guidance.cfg - 1.0, estimates.uncond),
        ("the perturbed estimate", guidance.stg, estimates.perturbed),
        ("the isolated estimate", guidance.modality - 1.0, estimates.isolated),
    ];
    let mut sum = cond.clone();
    for (what, weight, other) in terms {
        let Some(other) = other else { continue };
        if other.dims() != cond.dims() {
            let (found, expected) = (other.dims().to_vec(), cond.dims().to_vec());
            return Err(Error::Shape { what: what.into(), found, expected });
        }
        if weight != 0.0 {
            sum = (sum + ((&cond - other.to_dtype(DType::F32)?)? * weight)?)?;
        }
    }
    Ok(if guidance.rescale > 0.0 { rescaled(&sum, &cond, guidance.rescale)? } else { sum })
}

/// Mixes `guided` with the multiple of it that has the standard deviation of `cond`, in the ratio `share`.
fn rescaled(guided: &Tensor, cond: &Tensor, share: f64) -> Result<Tensor> {
    let ratio = (deviation(cond)? / deviation(guided)?)?; // [B, 1, ...]
    (guided.broadcast_mul(&ratio)? * share)? + (guided * (1.0 - share))?
}

/// Returns the standard deviation of each sample of `[B, ...]`, `[B, 1, ...]`, in the unbiased form.
fn deviation(x: &Tensor) -> Result<Tensor> {
    let count = x.elem_count() / x.dim(0)?;
    let mean = (sum_per_sample(x)? / count as f64)?;
    let squares = sum_per_sample(&x.broadcast_sub(&mean)?.sqr()?)?;
    (squares / (count as f64 - 1.0))?.sqrt()
}

/// Sums `[B, ...]` to `[B, 1, ...]`, axis by axis: one long f32 sum over a clip would lose digits.
pub(crate) fn sum_per_sample(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    let mut sum = x.clone();
    while sum.rank() > 1 {
        sum = sum.sum(D::Minus1)?;
    }
    let mut shape = vec![1; rank];
    if let (Some(first), Some(&b)) = (shape.first_mut(), x.dims().first()) {
        *first = b;
    }
    sum.reshape(shape)
}
