//! One step of each simple solver, as weights on the latents and on the estimates of x0.
//!
//! All of them follow `dx/dsigma = (x - x0) / sigma`, the flow ODE written with x0; weights are computed in f64 and
//! meet f32 tensors in [`combine`] alone.

use crate::schedule::SIGMA_MARGIN;
use crate::{Error, Streams};

type Result<T> = std::result::Result<T, Error>;

/// Returns the sum of `weight * tensor` in every stream; a weight of 0 leaves its streams out. All terms have the names and
/// shapes of the first.
pub(crate) fn combine(terms: &[(f64, &Streams)]) -> Result<Streams> {
    let mut sum: Option<Streams> = None;
    for (weight, streams) in terms.iter().filter(|(weight, _)| *weight != 0.0) {
        let term = streams.map(|_, tensor| tensor * *weight)?;
        sum = Some(match sum {
            Some(sum) => sum.zip(&term, |_, sum, term| Ok::<_, Error>((sum + term)?))?,
            None => term,
        });
    }
    Ok(sum.map_or_else(|| terms[0].1.map(|_, tensor| tensor.zeros_like()), Ok)?)
}

/// `ln(alpha / sigma)` of the flow, alpha = 1 - sigma; infinite at sigma 0.
pub(crate) fn log_snr(sigma: f64) -> f64 {
    (1.0 - sigma).ln() - sigma.ln()
}

/// Keeps the log-SNR finite for schedules that start at exactly 1: at most the first sigma of `Schedule::flow`.
pub(crate) fn below_one(sigma: f64) -> f64 {
    sigma.min(f64::from((1.0 - SIGMA_MARGIN) as f32))
}

/// Euler from `sigma` to `next`: x0 and x are mixed in the ratio of the noise levels.
pub(crate) fn euler(x: &Streams, denoised: &Streams, sigma: f64, next: f64) -> Result<Streams> {
    let kept = next / sigma;
    combine(&[(kept, x), (1.0 - kept, denoised)])
}

/// Heun's second half: the mean of the slopes at both ends, `guess` being the Euler step and `denoised_guess` the
/// estimate there. `next` is above 0.
pub(crate) fn heun(
    x: &Streams,
    denoised: &Streams,
    guess: &Streams,
    denoised_guess: &Streams,
    sigma: f64,
    next: f64,
) -> Result<Streams> {
    let half = 0.5 * (next - sigma);
    let (here, there) = (half / sigma, half / next);
    combine(&[(1.0 + here, x), (-here, denoised), (there, guess), (-there, denoised_guess)])
}

/// DPM-Solver++(2M), the midpoint form, <https://arxiv.org/abs/2211.01095>, algorithm 2. `previous` is the noise level
/// of the step before and its estimate; the first step and the one to sigma 0 are of first order.
pub(crate) fn dpm_pp_2m(
    x: &Streams,
    denoised: &Streams,
    previous: Option<(f64, &Streams)>,
    sigma: f64,
    next: f64,
) -> Result<Streams> {
    let Some((previous_sigma, previous)) = previous.filter(|_| next > 0.0) else {
        return euler(x, denoised, sigma, next);
    };
    let (sigma, previous_sigma) = (below_one(sigma), below_one(previous_sigma));
    let h = log_snr(next) - log_snr(sigma);
    let r = (log_snr(sigma) - log_snr(previous_sigma)) / h;
    let pull = -(1.0 - next) * (-h).exp_m1();
    let slope = 0.5 * pull / r;
    combine(&[(next / sigma, x), (pull + slope, denoised), (-slope, previous)])
}

/// The consistency step: x0 noised afresh to the level `next`, where `noise` is needed only above 0.
pub(crate) fn renoise(denoised: &Streams, noise: Option<&Streams>, next: f64) -> Result<Streams> {
    match noise {
        Some(noise) => combine(&[(1.0 - next, denoised), (next, noise)]),
        None => Ok(denoised.clone()),
    }
}
