//! `unipc` of order 2 over estimates of x0, <https://arxiv.org/abs/2302.04867>, as diffusers runs it for flow models.
//!
//! A step first corrects the latents with the estimate made at the uncorrected ones, then predicts the next from the
//! corrected. The first step and the one to sigma 0 are of first order, so for the last one the result is x0 itself.
//! (There diffusers computes `∞ · 0` with bh1 and returns NaN; the limit is what both variants give here.)

use crate::solvers::{below_one, combine, log_snr};
use crate::{Error, SamplerKind, Streams};

/// What the steps before left: the corrected latents that the last prediction started from, the noise levels and
/// the estimates, latest first.
pub(crate) struct Past<'a> {
    pub x: &'a Streams,
    pub last: (f64, &'a Streams),
    pub before: Option<(f64, &'a Streams)>,
}

/// The latents at `sigma` again, now that the estimate there is known.
pub(crate) fn correct(kind: SamplerKind, past: &Past, denoised: &Streams, sigma: f64) -> Result<Streams, Error> {
    let (last_sigma, last) = past.last;
    let step = Interval::new(kind, last_sigma, sigma);
    let Some((before_sigma, before)) = past.before else {
        let slope = 0.5 * step.weight;
        return combine(&[(step.kept, past.x), (step.pull - slope, last), (slope, denoised)]);
    };
    // The 2×2 system of the paper's equation 5, solved by hand.
    let r = step.ratio_to(before_sigma);
    let [b1, b2] = step.moments();
    let rho_before = (b1 - b2) / (1.0 - r);
    let (to_before, to_here) = (step.weight * rho_before / r, step.weight * (b1 - rho_before));
    combine(&[(step.kept, past.x), (step.pull - to_before - to_here, last), (to_before, before), (to_here, denoised)])
}

/// The latents at `next`. `before` is the noise level of the step before and its estimate.
pub(crate) fn predict(
    kind: SamplerKind,
    x: &Streams,
    denoised: &Streams,
    before: Option<(f64, &Streams)>,
    sigma: f64,
    next: f64,
) -> Result<Streams, Error> {
    let step = Interval::new(kind, sigma, next);
    let Some((before_sigma, before)) = before.filter(|_| next > 0.0) else {
        return combine(&[(step.kept, x), (step.pull, denoised)]);
    };
    let slope = 0.5 * step.weight / step.ratio_to(before_sigma);
    combine(&[(step.kept, x), (step.pull - slope, denoised), (slope, before)])
}

/// The coefficients of one interval between noise levels.
struct Interval {
    from: f64,
    /// Length in log-SNR, negated: the paper's h for estimates of x0.
    hh: f64,
    /// The paper's B(h).
    b_h: f64,
    /// Weight of the latents at the start.
    kept: f64,
    /// Weight of the estimate at the start.
    pull: f64,
    /// Weight of the differences between estimates.
    weight: f64,
}

impl Interval {
    fn new(kind: SamplerKind, from: f64, to: f64) -> Self {
        let from = below_one(from);
        let hh = log_snr(from) - log_snr(to);
        let b_h = if kind == SamplerKind::UniPcBh1 { hh } else { hh.exp_m1() };
        let alpha = 1.0 - to;
        Self { from, hh, b_h, kept: to / from, pull: -alpha * hh.exp_m1(), weight: -alpha * b_h }
    }

    /// Where an earlier noise level lies, in lengths of this interval from its start: below 0.
    fn ratio_to(&self, earlier: f64) -> f64 {
        (log_snr(self.from) - log_snr(below_one(earlier))) / self.hh
    }

    /// The right side of the corrector's system.
    fn moments(&self) -> [f64; 2] {
        let phi_2 = self.hh.exp_m1() / self.hh - 1.0;
        let phi_3 = phi_2 / self.hh - 0.5;
        [phi_2 / self.b_h, 2.0 * phi_3 / self.b_h]
    }
}
