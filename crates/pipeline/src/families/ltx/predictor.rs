//! [`LtxPredictor`]: the transformer with the contexts of a run's prompts, and the picture that its clip begins with.

use super::limits::audio_latents;
use super::parts::{audio_config, dit_config, load_dit};
use super::{CONTEXTS, PICTURE};
use crate::families::capabilities::{Limits, Pass};
use crate::families::family::{Predictor, Run, Tensors, TimedPass};
use crate::model::Model;
use crate::model::role::Role;
use crate::plan::placement::Placement;
use crate::run::warm::Lease;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_dit::ltx::{Contexts, Geometry, LtxConfig, LtxModel, Prepared, Skips, StreamInput};
use kinora_dit::{ComputeAll, Reuse, Sparse};
use kinora_sampler::{Held, NoiseSource, StepInfo, Streams};

/// The most bytes, per prediction, of the keys and values of the text that passes share.
pub(super) const KV_CACHE_BYTES: usize = 512 << 20;
/// Returns the blocks whose self-attentions the perturbed pass skips: those of the manifest, or the last one of a model that has
/// fewer.
fn skipped(model: &Model, config: &LtxConfig) -> Vec<usize> {
    let released = &model.manifest.stg_blocks;
    if released.iter().all(|block| *block < config.num_layers) { released.clone() } else { vec![config.num_layers - 1] }
}

/// The networks of one run.
pub(super) struct LtxPredictor<'a> {
    run: Run<'a>,
    /// Of the prompt and of the negative prompt.
    contexts: Vec<Contexts>,
    /// The latent frame of the given picture, `[1, C, 1, h, w]`.
    picture: Option<Tensor>,
    resident: Option<Resident<'a>>,
}

/// The transformer in memory, with the contexts prepared for it.
struct Resident<'a> {
    dit: Lease<'a, LtxModel>,
    prepared: Vec<Prepared>,
    skipped: Vec<usize>,
}

impl<'a> LtxPredictor<'a> {
    pub(super) fn new(run: Run<'a>, prompts: Vec<Tensors>, mut conditioning: Tensors) -> Result<Self> {
        let of_prompt = |mut prompt: Tensors| {
            let [video, audio] = CONTEXTS.map(|name| prompt.remove(name));
            Some(Contexts { video: video?, audio: audio? })
        };
        let contexts = prompts.into_iter().filter_map(of_prompt).collect();
        let device = &run.placement.device;
        let picture = conditioning.remove(PICTURE).map(|picture| picture.to_device(device)).transpose()?;
        Ok(Self { run, contexts, picture, resident: None })
    }

    /// Loads the transformer, unless it is in memory.
    fn load(&mut self) -> Result<&Resident<'a>> {
        if self.resident.is_none() {
            let Run { model, placement, plan, warm, .. } = self.run;
            let name = format!("transformer{}", if placement.offload { ", streamed" } else { "" });
            let dit = warm.take(name, || load_dit(model, placement))?;
            // Keys and values that change from step to step serve the passes of one.
            let kv_cache_bytes = if plan.passes().len() > 1 { KV_CACHE_BYTES } else { 0 };
            let [_, f, h, w] = plan.latent_shape;
            let audio = plan.streams.iter().find(|stream| stream.name == Limits::AUDIO);
            let audio = audio.and_then(|stream| stream.shape.get(2)).copied().unwrap_or_default();
            let geometry = Geometry { video: [f, h, w], audio, frame_rate: plan.fps };
            let prepare = |contexts: &Contexts| {
                let cast = |context: &Tensor| context.to_dtype(placement.dtype);
                let contexts = Contexts { video: cast(&contexts.video)?, audio: cast(&contexts.audio)? };
                Ok(dit.prepare(&contexts, &geometry, kv_cache_bytes)?)
            };
            let prepared = self.contexts.iter().map(prepare).collect::<Result<_>>()?;
            let skipped = skipped(model, dit.config());
            self.resident = Some(Resident { dit, prepared, skipped });
        }
        Ok(self.resident.as_ref().expect("just filled"))
    }

    /// `x` of the video with the picture as its first latent frame.
    fn with_picture(&self, x: &Streams) -> Result<Streams> {
        let Some(picture) = &self.picture else { return Ok(x.clone()) };
        x.map(|name, x| {
            if name != Limits::VIDEO {
                return Ok(x.clone());
            }
            let frames = x.dim(2)?;
            Ok::<_, Error>(Tensor::cat(&[&picture.to_dtype(x.dtype())?, &x.narrow(2, 1, frames - 1)?], 2)?)
        })
    }
}

impl Predictor for LtxPredictor<'_> {
    fn start(&self, noise: Streams) -> Result<Streams> {
        self.with_picture(&noise)
    }

    fn held(&self) -> Result<Held> {
        if self.picture.is_none() {
            return Ok(Held::NOTHING);
        }
        let frames = self.run.plan.latent_shape[1];
        let mask: Vec<f32> = (0..frames).map(|frame| if frame == 0 { 1.0 } else { 0.0 }).collect();
        Ok(Held::NOTHING
            .and(Limits::VIDEO, &Tensor::from_vec(mask, (1, 1, frames, 1, 1), &self.run.placement.device)?)?)
    }

    fn predict(&mut self, x: &Streams, step: StepInfo, pass: Pass, reuse: &mut dyn Reuse) -> Result<Streams> {
        let (plan, has_picture) = (self.run.plan, self.picture.is_some());
        let Resident { dit, prepared, skipped } = self.load()?;
        let timestep = Tensor::new(&[step.timestep as f32], &Device::Cpu)?;
        let [_, f, h, w] = plan.latent_shape;
        let token_timesteps = has_picture.then(|| {
            let of_token = |token: usize| if token < h * w { 0.0 } else { step.timestep as f32 };
            Tensor::from_iter((0..f * h * w).map(of_token), &Device::Cpu)?.unsqueeze(0)
        });
        let token_timesteps = token_timesteps.transpose()?;
        let video = StreamInput {
            latents: x.get(Limits::VIDEO)?,
            timestep: &timestep,
            token_timesteps: token_timesteps.as_ref(),
        };
        let audio = StreamInput { latents: x.get(Limits::AUDIO)?, timestep: &timestep, token_timesteps: None };
        let (prompt, skips) = match pass {
            Pass::Prompt => (0, Skips::default()),
            Pass::Negative => (1, Skips::default()),
            Pass::Perturbed => (0, Skips { self_attention: skipped, between_streams: false }),
            Pass::Isolated => (0, Skips { self_attention: &[], between_streams: true }),
        };
        let sparse = plan.sparse_at(step.index);
        let [video, audio] = dit.forward_with([video, audio], &prepared[prompt], skips, sparse, reuse)?;
        Ok(Streams::new(vec![(Limits::VIDEO, video), (Limits::AUDIO, audio)])?)
    }

    fn shown(&self, denoised: &Streams) -> Result<Streams> {
        self.with_picture(denoised)
    }

    fn clip(&self, x: &Streams) -> Result<Streams> {
        self.with_picture(x)
    }
}

/// A pass over random `latents [C, F, H, W]` and one second of sound for each three latent frames, with random contexts of full
/// length, and with sparse attention where a share to keep is given.
pub(super) fn timed_pass(
    model: &Model,
    placement: &Placement,
    [c, f, h, w]: [usize; 4],
    keep: Option<f64>,
) -> Result<TimedPass> {
    let (dit, _) = load_dit(model, placement)?;
    let config = dit_config(model, model.component(Role::Transformer)?)?;
    let (rows, Placement { device, dtype, .. }) = (model.manifest.text_len, placement);
    let mut noise = NoiseSource::new(0);
    let mut context = |width: usize| noise.randn_tensor((1, rows, width), device)?.to_dtype(*dtype);
    let [video, audio] = [&config.video, &config.audio].map(|stream| context(config.text_dim.unwrap_or(stream.dim())));
    let contexts = Contexts { video: video?, audio: audio? };
    let fps = model.manifest.defaults.fps;
    let sound = audio_latents(model, f)?;
    let geometry = Geometry { video: [f, h, w], audio: sound, frame_rate: fps };
    let prepared = dit.prepare(&contexts, &geometry, 0)?;
    let latents = noise.randn_tensor((1, c, f, h, w), device)?.to_dtype(*dtype)?;
    let bins = audio_config(model)?.latent_bins();
    let sound = noise.randn_tensor((1, config.audio.channels / bins, sound, bins), device)?.to_dtype(*dtype)?;
    let timestep = Tensor::new(&[500f32], &Device::Cpu)?.to_dtype(DType::F32)?;
    let sparse = keep.map(|keep| Sparse { keep, references: 0, dense: false });
    let pass = move || {
        let of = |latents| StreamInput { latents, timestep: &timestep, token_timesteps: None };
        dit.forward_with([of(&latents), of(&sound)], &prepared, Skips::default(), sparse, &mut ComputeAll)?;
        Ok(())
    };
    Ok(TimedPass { tokens: f * h * w, pass: Box::new(pass) })
}
