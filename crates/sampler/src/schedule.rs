//! [`Schedule`]: the noise levels of a run and their timesteps.
//!
//! The three schedules that diffusers 0.42 has for flow models, number for number
//! (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/schedulers/scheduling_unipc_multistep.py>,
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/schedulers/scheduling_dpmsolver_multistep.py>,
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py>),
//! and explicit lists. The shift is that of <https://arxiv.org/abs/2403.03206>, section 5.3.2.

use serde::{Deserialize, Serialize};

use crate::Error;

/// The factor from sigmas to timesteps.
const TRAIN_TIMESTEPS: f64 = 1000.0;

/// The most steps that a schedule may have.
pub const MAX_STEPS: usize = 1000;

/// The distance of the first sigma from 1 in the schedules of the multistep solvers, which need a finite log-SNR.
pub(crate) const SIGMA_MARGIN: f64 = 1e-6;

/// Falling noise levels with a final 0, and the timestep of each but the last.
///
/// Every number is rounded to f32 as diffusers does: near sigma 1 the log-SNR, and with it the result, depends on that
/// rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Schedule {
    sigmas: Vec<f64>,
    timesteps: Vec<f64>,
}

impl Schedule {
    /// Returns the schedule of `unipc`, which Wan uses: sigma from 1 to 1/1000 in even steps, shifted, the first a millionth
    /// below 1; timesteps are cut to whole numbers, sigmas are not.
    pub fn flow(steps: usize, shift: f64) -> Result<Self, Error> {
        check_steps(steps)?;
        check_shift(shift)?;
        let step = (1.0 / TRAIN_TIMESTEPS - 1.0) / steps as f64;
        let mut sigmas: Vec<f64> = (0..steps).map(|i| shifted(i as f64 * step + 1.0, shift)).collect();
        if (sigmas[0] - 1.0).abs() < SIGMA_MARGIN {
            sigmas[0] -= SIGMA_MARGIN;
        }
        let timesteps = sigmas.iter().map(|sigma| (sigma * TRAIN_TIMESTEPS).trunc()).collect();
        Self::checked(sigmas, timesteps)
    }

    /// Returns the schedule of `dpm++2m`: sigma from 999/1000 towards 0 in even steps, shifted; timesteps are cut to whole
    /// numbers, sigmas are not.
    pub fn flow_dpm(steps: usize, shift: f64) -> Result<Self, Error> {
        check_steps(steps)?;
        check_shift(shift)?;
        let step = (1.0 / TRAIN_TIMESTEPS - 1.0) / steps as f64;
        // In diffusers' order of operations: the last digit of f32 depends on it.
        let sigmas: Vec<f64> = (1..=steps).rev().map(|i| shifted(1.0 - (i as f64 * step + 1.0), shift)).collect();
        let timesteps = sigmas.iter().map(|sigma| (sigma * TRAIN_TIMESTEPS).trunc()).collect();
        Self::checked(sigmas, timesteps)
    }

    /// Returns the schedule of the flow-match Euler scheduler: even steps from 1 to the shifted 1/1000, then shifted (again,
    /// for the last); timesteps are not cut.
    pub fn flow_match_euler(steps: usize, shift: f64) -> Result<Self, Error> {
        check_steps(steps)?;
        check_shift(shift)?;
        let end = |sigma: f32| f64::from(shift as f32 * sigma / (1.0 + (shift - 1.0) as f32 * sigma)) * TRAIN_TIMESTEPS;
        let (first, last) = (end(1.0), end(1.0 / TRAIN_TIMESTEPS as f32));
        let step = (last - first) / (steps.max(2) - 1) as f64;
        let timestep = |i: usize| if i > 0 && i + 1 == steps { last } else { i as f64 * step + first };
        Self::from_exact_sigmas((0..steps).map(|i| shifted(timestep(i) / TRAIN_TIMESTEPS, shift)).collect())
    }

    /// Returns even steps from 1 to 1/`steps`, shifted, and, where a `terminal` is given, stretched so that the last level
    /// before 0 is `terminal`; timesteps are not cut. It is the schedule of the flow-match Euler scheduler for pipelines that
    /// list their own sigmas, with an exponential shift of `shift.ln()`.
    ///
    /// # Errors
    /// [`Error::Steps`], [`Error::Shift`], and [`Error::Terminal`] for a terminal that is not between 0 and 1.
    pub fn even(steps: usize, shift: f64, terminal: Option<f64>) -> Result<Self, Error> {
        check_steps(steps)?;
        check_shift(shift)?;
        let (last, shift) = (1.0 / steps as f64, shift as f32);
        let step = (last - 1.0) / (steps.max(2) - 1) as f64;
        let level = |i: usize| if i > 0 && i + 1 == steps { last } else { i as f64 * step + 1.0 };
        // In f32 and in diffusers' order of operations.
        let mut sigmas: Vec<f32> = (0..steps).map(|i| shift / (shift + (1.0 / level(i) as f32 - 1.0))).collect();
        if let Some(terminal) = terminal {
            stretch(&mut sigmas, terminal)?;
        }
        Self::from_exact_sigmas(sigmas.into_iter().map(f64::from).collect())
    }

    /// Returns the schedule with these falling noise levels in (0, 1], without a shift. A final 0 is optional. Timesteps are
    /// 1000·sigma.
    pub fn from_sigmas(sigmas: &[f64]) -> Result<Self, Error> {
        Self::from_exact_sigmas(sigmas.strip_suffix(&[0.0]).unwrap_or(sigmas).to_vec())
    }

    /// Returns the schedule with these falling timesteps in (0, 1000], as published for distilled models
    /// (`1000, 937.5, 833.3, 625`), without a shift. A final 0 is optional. Sigmas are timestep / 1000.
    pub fn from_timesteps(timesteps: &[f64]) -> Result<Self, Error> {
        let timesteps = timesteps.strip_suffix(&[0.0]).unwrap_or(timesteps);
        check_steps(timesteps.len())?;
        check_timesteps(timesteps)?;
        let sigmas = timesteps.iter().map(|&t| f64::from(t as f32 / TRAIN_TIMESTEPS as f32)).collect();
        Self::checked(sigmas, timesteps.to_vec())
    }

    /// Returns the schedule without its first `skipped` steps; an error if no step is left.
    pub fn after(&self, skipped: usize) -> Result<Self, Error> {
        let skipped = skipped.min(self.steps());
        check_steps(self.steps() - skipped)?;
        Ok(Self { sigmas: self.sigmas[skipped..].to_vec(), timesteps: self.timesteps[skipped..].to_vec() })
    }

    /// Returns the noise levels, one more than there are steps; the last is 0.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// Returns the timestep that the network is given at each step.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// Returns the number of steps, at least 1.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    fn from_exact_sigmas(sigmas: Vec<f64>) -> Result<Self, Error> {
        let timesteps = sigmas.iter().map(|&sigma| f64::from(sigma as f32 * TRAIN_TIMESTEPS as f32)).collect();
        Self::checked(sigmas, timesteps)
    }

    /// `sigmas` come without the final 0, one for each of `timesteps`.
    fn checked(sigmas: Vec<f64>, timesteps: Vec<f64>) -> Result<Self, Error> {
        check_steps(sigmas.len())?;
        let mut sigmas = rounded_to_f32(sigmas);
        if let Some((index, &sigma)) = sigmas.iter().enumerate().find(|(_, s)| !(**s > 0.0 && **s <= 1.0)) {
            return Err(Error::SigmaRange { index, sigma });
        }
        if let Some(i) = sigmas.windows(2).position(|pair| pair[1] >= pair[0]) {
            return Err(Error::SigmaOrder { index: i + 1, previous: sigmas[i], sigma: sigmas[i + 1] });
        }
        check_timesteps(&timesteps)?;
        sigmas.push(0.0);
        Ok(Self { sigmas, timesteps: rounded_to_f32(timesteps) })
    }
}

/// A schedule as it is stored in a file, before it is checked.
#[derive(Deserialize)]
struct Parts {
    sigmas: Vec<f64>,
    timesteps: Vec<f64>,
}

impl TryFrom<Parts> for Schedule {
    type Error = Error;

    fn try_from(Parts { mut sigmas, timesteps }: Parts) -> Result<Self, Error> {
        let (count, last) = (sigmas.len(), sigmas.pop().unwrap_or(f64::NAN));
        if sigmas.len() != timesteps.len() || last != 0.0 {
            return Err(Error::ScheduleParts { sigmas: count, timesteps: timesteps.len(), last });
        }
        Self::checked(sigmas, timesteps)
    }
}

fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// Stretches falling noise levels about 1, so that the last is `terminal`. One that is 1 stays.
fn stretch(sigmas: &mut [f32], terminal: f64) -> Result<(), Error> {
    if !(terminal > 0.0 && terminal < 1.0) {
        return Err(Error::Terminal { terminal });
    }
    if let Some(last) = sigmas.last().copied().filter(|last| *last < 1.0) {
        let scale = (1.0 - last) / (1.0 - terminal) as f32;
        for sigma in sigmas.iter_mut() {
            *sigma = 1.0 - (1.0 - *sigma) / scale;
        }
    }
    Ok(())
}

fn rounded_to_f32(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|value| f64::from(value as f32)).collect()
}

fn check_steps(steps: usize) -> Result<(), Error> {
    if (1..=MAX_STEPS).contains(&steps) { Ok(()) } else { Err(Error::Steps { steps }) }
}

fn check_shift(shift: f64) -> Result<(), Error> {
    if shift.is_finite() && shift > 0.0 { Ok(()) } else { Err(Error::Shift { shift }) }
}

fn check_timesteps(timesteps: &[f64]) -> Result<(), Error> {
    match timesteps.iter().enumerate().find(|(_, t)| !(0.0..=TRAIN_TIMESTEPS).contains(*t)) {
        Some((index, &timestep)) => Err(Error::TimestepRange { index, timestep }),
        None => Ok(()),
    }
}
