//! The middle stage: noise and contexts to latents.

use crate::families::wan::conditioning::Conditions;
use crate::families::{Family, Placement};
use crate::model::source::Model;
use crate::plan::Plan;
use crate::request::output::Predictions;
use crate::run::event::Event;
use crate::run::run_dir::RunDir;
use crate::step_cache::{At, Predicted, StepCache};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_dit::{ComputeAll, Prepared, Reuse, VideoDit};
use kinora_sampler::{NoiseSource, Sampler, StepInfo, Streams, cfg, cfg_zero_star, check_finite, x0_from_velocity};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// Least time between two saves of the run's state.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Saving takes at most one part in so many of a run's time: what a step cache keeps of a large clip is large.
const SAVE_SHARE: u32 = 10;

/// What may be spent, per prediction, on keys and values of the text that stay the same over all steps.
pub(crate) const CACHE_BYTES: usize = 512 << 20;

/// The name of the latent stream of frames.
pub(crate) const VIDEO: &str = "video";

/// The experts of one run: at most one is in memory.
pub(crate) struct Denoiser<'a> {
    pub family: &'static dyn Family,
    pub model: &'a Model,
    pub placement: &'a Placement,
    pub plan: &'a Plan,
    /// Context of the prompt and, when the plan is guided, of the negative prompt: `[1, S, C]`.
    pub contexts: Vec<Tensor>,
    /// Everything else that a prediction is conditioned on.
    pub conditions: Conditions,
    /// What to start from instead of seeded noise, `[1, C, F, H, W]`.
    pub noise: Option<Tensor>,
}

/// What changes while a run goes on, besides the sampler.
struct Running {
    resident: Option<Resident>,
    cache: Option<StepCache>,
    predictions: Predictions,
    /// The last estimate of the clip.
    denoised: Option<Tensor>,
}

/// An expert in memory, with the contexts made ready for it.
struct Resident {
    expert: usize,
    dit: Box<dyn VideoDit>,
    prepared: Vec<Prepared>,
}

impl Denoiser<'_> {
    /// Runs every step that is left; `[1, C, F, H, W]` f32, and the predictions that it took.
    pub(crate) fn run(
        &self,
        run_dir: Option<&RunDir>,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(Tensor, Predictions)> {
        let (mut sampler, cache) = self.start(run_dir)?;
        let total = self.plan.steps();
        let mut running = Running { resident: None, cache, predictions: Predictions::default(), denoised: None };
        let (mut saved, mut save_every) = (Instant::now(), SAVE_EVERY);
        while !sampler.is_done() {
            let start = Instant::now();
            // A step that is stopped half way is done again from its start.
            let cache = run_dir.and(running.cache.clone());
            let stepped = sampler.step(&mut |streams: &Streams, info: StepInfo| {
                streams.map(|_, x| self.denoised(x, info, &mut running, on_event))
            });
            if stepped.is_err() {
                running.cache = cache;
            }
            let stopped = match stepped {
                Ok(()) => {
                    let (done, elapsed, latents) = (sampler.step_index(), start.elapsed(), sampler.x().get(VIDEO)?);
                    let denoised = running.denoised.as_ref().unwrap_or(latents);
                    on_event(Event::Step { done, total, elapsed, latents, denoised }).is_break()
                }
                Err(Error::Stopped { .. }) => true,
                Err(error) => return Err(error),
            };
            if let Some(run_dir) = run_dir
                && (stopped || saved.elapsed() > save_every)
            {
                let start = Instant::now();
                run_dir.save_state(&sampler, running.cache.as_ref())?;
                saved = Instant::now();
                save_every = SAVE_EVERY.max(SAVE_SHARE * start.elapsed());
            }
            if stopped && !sampler.is_done() {
                return Err(Error::Stopped { resumable: run_dir.map(|dir| dir.path().to_path_buf()) });
            }
        }
        let latents = sampler.x().get(VIDEO)?;
        let latents = match &self.conditions.clean {
            Some(clean) => clean.put_into(latents)?,
            None => latents.clone(),
        };
        // Reference pictures come before the clip.
        let references = self.plan.given.references.len();
        let clip = latents.narrow(2, references, self.plan.latent_shape[1])?.contiguous()?;
        Ok((clip, running.predictions))
    }

    /// The state of the run in `run_dir`, or that of a new one.
    fn start(&self, run_dir: Option<&RunDir>) -> Result<(Sampler, Option<StepCache>)> {
        let plan = self.plan;
        if let Some(run_dir) = run_dir
            && let Some(state) = run_dir.load_state(plan, &self.placement.device)?
        {
            return Ok(state);
        }
        let [c, f, h, w] = plan.sampled_shape();
        let noise = match &self.noise {
            Some(noise) => noise.to_device(&self.placement.device)?,
            None => NoiseSource::new(plan.seed).randn_tensor((1, c, f, h, w), &self.placement.device)?,
        };
        let x = match &self.conditions.start {
            Some(start) => {
                let sigma = plan.schedule.sigmas()[0];
                ((start * (1.0 - sigma))? + (noise * sigma)?)?
            }
            None => noise,
        };
        let sampler = Sampler::new(plan.sampler, plan.schedule.clone(), Streams::single(VIDEO, x), plan.seed)?;
        Ok((sampler, plan.cache.clone().map(StepCache::new)))
    }

    /// The estimate of x0 for latents `x [1, C, F, H, W]` f32 at one noise level.
    fn denoised(
        &self,
        x: &Tensor,
        info: StepInfo,
        running: &mut Running,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Tensor> {
        if info.index < self.plan.zero_init {
            running.predictions.skipped += self.contexts.len();
            return Ok(x.clone()); // a velocity of zero says that x is the clip
        }
        let expert = self.plan.expert(info.timestep);
        let mut velocities = self.velocities(x, info, expert, running, on_event)?;
        let scale = self.plan.guidance_scale[expert];
        let velocity = match velocities.as_slice() {
            [cond, uncond] if self.plan.cfg_zero_star => cfg_zero_star(cond, uncond, scale)?,
            [cond, uncond] => cfg(cond, uncond, scale)?,
            _ => velocities.swap_remove(0),
        };
        let velocity = velocity.to_dtype(DType::F32)?;
        check_finite(&velocity, || {
            format!(
                "the network's output at step {} of {} (timestep {})",
                info.index + 1,
                self.plan.steps(),
                info.timestep
            )
        })?;
        let denoised = x0_from_velocity(x, &velocity, info.sigma)?;
        running.denoised = Some(match &self.conditions.clean {
            Some(clean) => clean.put_into(&denoised)?,
            None => denoised.clone(),
        });
        Ok(denoised)
    }

    /// The velocity for the prompt and, where the step is guided, for the negative prompt, in the networks' dtype.
    fn velocities(
        &self,
        x: &Tensor,
        info: StepInfo,
        expert: usize,
        running: &mut Running,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Vec<Tensor>> {
        let Running { resident, cache, predictions, .. } = running;
        let resident = self.load(expert, resident)?;
        if let Some(cache) = cache {
            cache.use_expert(expert);
        }
        let (latents, timestep) = match &self.conditions.clean {
            Some(clean) => {
                let [_, ph, pw] = resident.dit.patch_size();
                let [_, _, h, w] = self.plan.latent_shape;
                let timesteps = clean.timesteps(info.timestep, (h / ph) * (w / pw))?;
                (clean.put_into(x)?, timesteps.to_device(&Device::Cpu)?)
            }
            None => (x.clone(), Tensor::new(&[info.timestep as f32], &Device::Cpu)?),
        };
        let latents = latents.to_dtype(self.placement.dtype)?;
        let count = if self.plan.guided_at(expert, info.sigma) { 2 } else { 1 };
        predictions.skipped += resident.prepared.len().saturating_sub(count);
        let mut velocities = Vec::with_capacity(count);
        for (prediction, prepared) in resident.prepared.iter().take(count).enumerate() {
            let network =
                |reuse: &mut dyn Reuse| Ok(resident.dit.forward_with(&latents, &timestep, prepared, reuse)?);
            let at = At { step: info.index, prediction };
            let Predicted { velocity, reused } = match cache {
                Some(cache) => cache.predict(at, x, network)?,
                None => Predicted { velocity: network(&mut ComputeAll)?, reused: false },
            };
            *(if reused { &mut predictions.reused } else { &mut predictions.computed }) += 1;
            velocities.push(velocity.to_dtype(self.placement.dtype)?);
            if on_event(Event::NetworkCall).is_break() {
                return Err(Error::Stopped { resumable: None });
            }
        }
        Ok(velocities)
    }

    /// Makes `expert` the one in memory.
    fn load<'r>(&self, expert: usize, resident: &'r mut Option<Resident>) -> Result<&'r Resident> {
        if resident.as_ref().is_none_or(|resident| resident.expert != expert) {
            *resident = None; // frees the other expert before this one is read
            let dit = self.family.dit(self.model, expert, self.placement)?;
            let prepare = |context: &Tensor| {
                let dtype = self.placement.dtype;
                let conditioning = self.conditions.with_text(context.to_dtype(dtype)?, self.plan, dtype)?;
                Ok(dit.prepare(&conditioning, CACHE_BYTES)?)
            };
            let prepared = self.contexts.iter().map(prepare).collect::<Result<_>>()?;
            *resident = Some(Resident { expert, dit, prepared });
        }
        Ok(resident.as_ref().expect("just filled"))
    }
}

/// The tensor `noise [1, C, F, H, W]` of a safetensors file, in f32.
pub(crate) fn read_noise(path: &Path, [c, f, h, w]: [usize; 4]) -> Result<Tensor> {
    let hint = "the file needs a finite tensor `noise` [1, C, F, H, W] in the size of this clip's latents";
    let bad = |reason: String| Error::BadFile { path: path.to_path_buf(), reason, hint };
    let file = TensorFile::open(path)?;
    let infos = file.infos();
    let info = infos.iter().find(|info| info.name == "noise").ok_or_else(|| bad("it has no tensor `noise`".into()))?;
    let shape = [1, c, f, h, w];
    if info.shape != shape {
        return Err(bad(format!("`noise` has shape {:?}, this clip needs {shape:?}", info.shape)));
    }
    let noise = file.tensor("noise")?.to_dtype(DType::F32)?;
    if !kinora_sampler::all_finite(&noise)? {
        return Err(bad("`noise` has NaN or infinite values".into()));
    }
    Ok(noise)
}
