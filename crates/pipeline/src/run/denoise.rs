//! The middle stage: noise and contexts to latents.

use super::combine::combined;
use super::event::Event;
use super::observer::Observer;
use super::run_dir::RunDir;
use crate::families::capabilities::{Pass, StreamShape};
use crate::families::family::Predictor;
use crate::plan::Plan;
use crate::request::output::Predictions;
use crate::step_cache::{At, Predicted, StepCache};
use crate::{Error, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::TensorFile;
use kinora_dit::{ComputeAll, Reuse};
use kinora_sampler::{NoiseSource, Sampler, StepInfo, Streams};
use std::path::Path;
use std::time::{Duration, Instant};

/// Least time between two saves of the run's state.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Saving takes at most one part in so many of a run's time: the tensors of a step cache of a large clip are large.
const SAVE_SHARE: u32 = 10;

/// The steps of one run.
pub(crate) struct Denoiser<'a> {
    pub plan: &'a Plan,
    pub device: &'a Device,
    pub predictor: Box<dyn Predictor + 'a>,
    pub dtype: DType,
    /// Replaces the seeded noise, one tensor per stream.
    pub noise: Option<Streams>,
}

/// Everything that changes while a run goes on, besides the sampler.
struct Running<'a> {
    predictor: Box<dyn Predictor + 'a>,
    cache: Option<StepCache>,
    predictions: Predictions,
    /// The last estimate of the clip.
    shown: Option<Streams>,
}

impl Denoiser<'_> {
    /// Runs every step that is left: the clip's latents f32, as [`Predictor::clip`] gives them, and the predictions that it took.
    pub(crate) fn run(self, run_dir: Option<&RunDir>, observer: &mut Observer) -> Result<(Streams, Predictions)> {
        let (sampler, cache) = self.start(run_dir)?;
        let mut sampler = sampler.holding(self.predictor.held()?)?;
        let Self { plan, dtype, predictor, .. } = self;
        let (done, total, predictions) = (sampler.step_index(), plan.steps(), plan.passes().len());
        observer.tell(Event::Steps { done, total, predictions })?;
        let mut running = Running { predictor, cache, predictions: Predictions::default(), shown: None };
        let (mut saved, mut save_every) = (Instant::now(), SAVE_EVERY);
        while !sampler.is_done() {
            let start = Instant::now();
            // A step that is stopped half way is done again from its start.
            let cache = run_dir.and(running.cache.clone());
            let stepped =
                sampler.step(&mut |x: &Streams, info: StepInfo| running.denoised(plan, dtype, x, info, observer));
            if stepped.is_err() {
                running.cache = cache;
            }
            let told = stepped.and_then(|()| running.tell(&sampler, start.elapsed(), observer));
            let stopped = match told {
                Ok(()) => None,
                Err(error) if error.is_stop() => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(run_dir) = run_dir
                && (stopped.is_some() || saved.elapsed() > save_every)
            {
                let start = Instant::now();
                run_dir.save_state(&sampler, running.cache.as_ref())?;
                saved = Instant::now();
                save_every = SAVE_EVERY.max(SAVE_SHARE * start.elapsed());
            }
            if let Some(stopped) = stopped
                && !sampler.is_done()
            {
                return Err(stopped);
            }
        }
        Ok((running.predictor.clip(sampler.x())?, running.predictions))
    }

    /// The state of the run in `run_dir`, or that of a new one.
    fn start(&self, run_dir: Option<&RunDir>) -> Result<(Sampler, Option<StepCache>)> {
        let plan = self.plan;
        if let Some(run_dir) = run_dir
            && let Some(state) = run_dir.load_state(plan, self.device)?
        {
            return Ok(state);
        }
        let noise = match &self.noise {
            Some(noise) => noise.map(|_, noise| noise.to_device(self.device))?,
            None => seeded_noise(&plan.streams, plan.seed, self.device)?,
        };
        let x = self.predictor.start(noise)?;
        let sampler = Sampler::new(plan.sampler, plan.schedule.clone(), x, plan.seed)?;
        Ok((sampler, plan.cache.clone().map(StepCache::new)))
    }
}

impl Running<'_> {
    /// The estimate of x0 for the latents `x`, f32, at one noise level.
    fn denoised(
        &mut self,
        plan: &Plan,
        dtype: DType,
        x: &Streams,
        info: StepInfo,
        observer: &mut Observer,
    ) -> Result<Streams> {
        if info.index < plan.zero_init {
            self.predictions.skipped += plan.passes().len();
            return Ok(x.clone()); // a velocity of zero says that x is the clip
        }
        let velocities = self.velocities(plan, dtype, x, info, observer)?;
        let denoised = combined(plan, x, info, &velocities)?;
        self.shown = Some(self.predictor.shown(&denoised)?);
        Ok(denoised)
    }

    /// The velocities that the passes of a step give, in the networks' dtype; the prompt's come first.
    fn velocities(
        &mut self,
        plan: &Plan,
        dtype: DType,
        x: &Streams,
        info: StepInfo,
        observer: &mut Observer,
    ) -> Result<Vec<(Pass, Streams)>> {
        let Self { predictor, cache, predictions, .. } = self;
        let expert = plan.expert(info.timestep);
        if let Some(cache) = cache {
            cache.use_expert(expert);
        }
        let passes = plan.passes_at(expert, info.sigma);
        predictions.skipped += plan.passes().len().saturating_sub(passes.len());
        let mut velocities = Vec::with_capacity(passes.len());
        for pass in passes {
            let mut network = |reuse: &mut dyn Reuse| predictor.predict(x, info, pass, reuse);
            let at = At { step: info.index, prediction: pass as usize };
            let Predicted { velocity, reused } = match cache {
                Some(cache) => cache.predict(at, x, network)?,
                None => Predicted { velocity: network(&mut ComputeAll)?, reused: false },
            };
            *(if reused { &mut predictions.reused } else { &mut predictions.computed }) += 1;
            velocities.push((pass, velocity.map(|_, velocity| velocity.to_dtype(dtype))?));
            observer.tell(Event::NetworkCall)?;
        }
        Ok(velocities)
    }

    /// Tells the caller of the step that the sampler has just done.
    fn tell(&self, sampler: &Sampler, elapsed: Duration, observer: &mut Observer) -> Result<()> {
        let x = sampler.x();
        let (done, total) = (sampler.step_index(), sampler.schedule().steps());
        // The first stream shows the clip.
        let (latents, denoised) = (x.first(), self.shown.as_ref().unwrap_or(x).first());
        observer.tell(Event::Step { done, total, elapsed, latents, denoised })
    }
}

/// Noise of the seed, drawn stream after stream.
fn seeded_noise(streams: &[StreamShape], seed: u64, device: &Device) -> Result<Streams> {
    let mut source = NoiseSource::new(seed);
    let noise = |stream: &StreamShape| Ok((stream.name, source.randn_tensor(&stream.shape[..], device)?));
    Ok(Streams::new(streams.iter().map(noise).collect::<Result<Vec<_>>>()?)?)
}

/// The noise of a safetensors file, in f32: the tensor `noise` for the first stream, `noise_NAME` for each other one.
pub(crate) fn read_noise(path: &Path, streams: &[StreamShape]) -> Result<Streams> {
    let hint = if streams.len() == 1 {
        "the file needs a finite tensor `noise` [1, C, F, H, W] in the size of this clip's latents"
    } else {
        "the file needs a finite tensor `noise` [1, C, F, H, W] in the size of this clip's latents, and `noise_NAME` of each other stream"
    };
    let bad = |reason: String| Error::bad_file(path, reason, hint);
    let file = TensorFile::open(path)?;
    let infos = file.infos();
    let read = |(index, stream): (usize, &StreamShape)| {
        let name = StreamShape::named("noise", index, stream.name);
        let info = infos.iter().find(|info| info.name == name);
        let info = info.ok_or_else(|| bad(format!("it has no tensor `{name}`")))?;
        let shape = &stream.shape;
        if info.shape != *shape {
            return Err(bad(format!("`{name}` has shape {:?}, this clip needs {shape:?}", info.shape)));
        }
        let noise = file.tensor(&name)?.to_dtype(DType::F32)?;
        if !kinora_sampler::all_finite(&noise)? {
            return Err(bad(format!("`{name}` has NaN or infinite values")));
        }
        Ok((stream.name, noise))
    };
    Ok(Streams::new(streams.iter().enumerate().map(read).collect::<Result<Vec<_>>>()?)?)
}

#[cfg(all(test, feature = "embedded"))]
mod tests;
