//! [`Sampler`]: takes one step at a time, and can be saved after any step and continued later with the same bits.

use crate::solvers::{dpm_pp_2m, euler, heun, renoise};
use crate::unipc::{self, Past};
use crate::{Error, Held, NoiseSource, SamplerKind, Schedule, Streams, check_finite};

/// The position of a network evaluation in the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// The step, from 0.
    pub index: usize,
    /// The noise level of the latents.
    pub sigma: f64,
    /// The timestep that the network is given for this noise level.
    pub timestep: f64,
    /// 0, or 1 for the second evaluation within a step of Heun.
    pub evaluation: usize,
}

/// Latents on their way from noise to a clip, f32, in one stream or several.
#[derive(Debug, Clone)]
pub struct Sampler {
    pub(crate) kind: SamplerKind,
    pub(crate) schedule: Schedule,
    pub(crate) seed: u64,
    pub(crate) index: usize,
    pub(crate) x: Streams,
    /// The parts of `x` that no step changes.
    pub(crate) held: Held,
    pub(crate) memory: Memory,
}

/// The tensors that the multistep solvers keep from earlier steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// The corrected latents that the last prediction started from (`unipc` only).
    pub last_x: Option<Streams>,
    /// Estimates of x0, latest first.
    pub denoised: Vec<Streams>,
}

impl Sampler {
    /// Starts from `x`: in every stream noise of any shape (scaled to the first sigma, for a schedule that starts below
    /// 1).
    ///
    /// `seed` matters only to `lcm`, which adds fresh noise in every step. That noise continues the normals of the seed
    /// after those that `x` was drawn from, and is drawn in the same way: stream after stream, in their order.
    pub fn new(kind: SamplerKind, schedule: Schedule, x: Streams, seed: u64) -> Result<Self, Error> {
        let (x, held, memory) = (x.into_f32()?, Held::NOTHING, Memory::default());
        Ok(Self { kind, schedule, seed, index: 0, x, held, memory })
    }

    /// Leaves the latents that `held` marks as they are now in every step that follows, whatever is estimated there. Saved
    /// states do not have the masks: who restores one says them again.
    ///
    /// # Errors
    /// [`Error::NoStream`] or [`Error::Shape`] for a mask that is not of the latents.
    pub fn holding(mut self, held: Held) -> Result<Self, Error> {
        held.check(&self.x)?;
        self.held = held;
        Ok(self)
    }

    /// Takes one step. `denoise` is called once, or twice for `heun` (not on its last step). It gets the latents of all
    /// streams and where they stand, and returns the estimate of x0 for every stream, of the same names and shapes.
    ///
    /// After an error of `denoise` or of the step ([`Error::Done`], [`Error::OtherStreams`], [`Error::Shape`],
    /// [`Error::NotFinite`]), the sampler is unchanged, so the step can be repeated or the state saved.
    pub fn step<E: From<Error>>(
        &mut self,
        denoise: &mut dyn FnMut(&Streams, StepInfo) -> Result<Streams, E>,
    ) -> Result<(), E> {
        if self.is_done() {
            return Err(Error::Done { steps: self.schedule.steps() }.into());
        }
        let (sigma, next) = (self.sigma(0), self.sigma(1));
        let denoised = self.evaluate(denoise, &self.x, 0)?;
        let stepped = match self.kind {
            SamplerKind::Euler => euler(&self.x, &denoised, sigma, next),
            SamplerKind::Heun => {
                let guess = self.held.put(euler(&self.x, &denoised, sigma, next)?, &self.x)?;
                if next == 0.0 {
                    Ok(guess)
                } else {
                    let denoised_guess = self.evaluate(denoise, &guess, 1)?;
                    heun(&self.x, &denoised, &guess, &denoised_guess, sigma, next)
                }
            }
            SamplerKind::DpmPp2m => dpm_pp_2m(&self.x, &denoised, self.previous(0), sigma, next),
            SamplerKind::UniPc | SamplerKind::UniPcBh1 => return Ok(self.unipc_step(denoised)?),
            SamplerKind::Lcm => {
                self.fresh_noise().map_err(Error::from).and_then(|noise| renoise(&denoised, noise.as_ref(), next))
            }
        };
        Ok(self.advance(stepped?, None, denoised)?)
    }

    /// Returns the current latents: noise at first, those of the clip after the last step.
    pub fn x(&self) -> &Streams {
        &self.x
    }

    /// Returns the number of steps done.
    pub fn step_index(&self) -> usize {
        self.index
    }

    /// Returns whether every step is done.
    pub fn is_done(&self) -> bool {
        self.index >= self.schedule.steps()
    }

    /// Returns the method.
    pub fn kind(&self) -> SamplerKind {
        self.kind
    }

    /// Returns the schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Returns how many estimates of x0 the sampler keeps after `index` steps, and whether it keeps corrected latents.
    pub(crate) fn memory_size(kind: SamplerKind, index: usize) -> (usize, bool) {
        match kind {
            SamplerKind::Euler | SamplerKind::Heun | SamplerKind::Lcm => (0, false),
            SamplerKind::DpmPp2m => (index.min(1), false),
            SamplerKind::UniPc | SamplerKind::UniPcBh1 => (index.min(2), index > 0),
        }
    }

    fn unipc_step(&mut self, denoised: Streams) -> Result<(), Error> {
        let (sigma, next) = (self.sigma(0), self.sigma(1));
        let corrected = match (&self.memory.last_x, self.previous(0)) {
            (Some(x), Some(last)) => {
                unipc::correct(self.kind, &Past { x, last, before: self.previous(1) }, &denoised, sigma)?
            }
            _ => self.x.clone(),
        };
        let x = unipc::predict(self.kind, &corrected, &denoised, self.previous(0), sigma, next)?;
        self.advance(x, Some(corrected), denoised)
    }

    /// Calls the network at the noise level of this step or, for `evaluation` 1, of the next step.
    fn evaluate<E: From<Error>>(
        &self,
        denoise: &mut dyn FnMut(&Streams, StepInfo) -> Result<Streams, E>,
        x: &Streams,
        evaluation: usize,
    ) -> Result<Streams, E> {
        let (sigma, timestep) = (self.sigma(evaluation), self.schedule.timesteps()[self.index + evaluation]);
        let denoised = denoise(x, StepInfo { index: self.index, sigma, timestep, evaluation })?;
        denoised.check_like(x, "the estimate of x0")?;
        // Where latents are held, the estimate is the latents: every solver then stays there, up to rounding.
        Ok(self.held.put(denoised.into_f32().map_err(Error::from)?, x)?)
    }

    fn advance(&mut self, x: Streams, last_x: Option<Streams>, denoised: Streams) -> Result<(), Error> {
        let (step, steps, sigma) = (self.index + 1, self.schedule.steps(), self.sigma(0));
        let x = self.held.put(x, &self.x)?;
        for (name, tensor) in x.iter() {
            let what = || x.describe(&format!("the result of step {step} of {steps} (sigma {sigma:.4})"), name);
            check_finite(tensor, what)?;
        }
        let (kept, _) = Self::memory_size(self.kind, step);
        self.memory.denoised.insert(0, denoised);
        self.memory.denoised.truncate(kept);
        self.memory.last_x = last_x;
        self.x = x;
        self.index = step;
        Ok(())
    }

    /// Returns the noise level `ahead` steps after this one.
    fn sigma(&self, ahead: usize) -> f64 {
        self.schedule.sigmas()[self.index + ahead]
    }

    /// Returns the noise level and the estimate of x0 of an earlier step; `back` is 0 for the last one.
    fn previous(&self, back: usize) -> Option<(f64, &Streams)> {
        let index = self.index.checked_sub(back + 1)?;
        Some((self.schedule.sigmas()[index], self.memory.denoised.get(back)?))
    }

    /// Returns the noise that `lcm` adds in this step, or none on the last step. It is counted from the seed, so that the
    /// generator's state needs no saving.
    fn fresh_noise(&self) -> candle_core::Result<Option<Streams>> {
        if self.sigma(1) == 0.0 {
            return Ok(None);
        }
        let mut source = NoiseSource::new(self.seed);
        for _ in 0..=self.index {
            self.x.iter().for_each(|(_, x)| source.skip_randn(x.elem_count()));
        }
        self.x.map(|_, x| source.randn_tensor(x.shape(), x.device())).map(Some)
    }
}
