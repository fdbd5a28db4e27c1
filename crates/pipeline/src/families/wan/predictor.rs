//! [`WanPredictor`]: the transformer, or the one of two experts that a timestep asks for, with everything that its
//! predictions are conditioned on.

use super::CONTEXT;
use super::conditioning::Conditions;
use super::files::{built, dit_config, dit_key_maps, open};
use crate::Result;
use crate::families::capabilities::{Limits, Pass};
use crate::families::family::{Predictor, Run, Tensors, TimedPass};
use crate::model::Model;
use crate::model::component::Component;
use crate::model::role::Role;
use crate::plan::placement::Placement;
use crate::run::warm::Lease;
use candle_core::{Device, Tensor};
use kinora_dit::wan::WanModel;
use kinora_dit::{ComputeAll, Conditioning, Prepared, Reuse, Sparse, VideoDit};
use kinora_sampler::{NoiseSource, StepInfo, Streams};

/// The most bytes, per prediction, of the keys and values of the text that stay the same over all steps.
pub(super) const KV_CACHE_BYTES: usize = 512 << 20;

/// The experts of one run: at most one is in memory.
pub(super) struct WanPredictor<'a> {
    run: Run<'a>,
    /// One per prediction, `[1, S, C]`.
    contexts: Vec<Tensor>,
    conditions: Conditions,
    resident: Option<Resident<'a>>,
    /// The inputs of the step under way, which its predictions share.
    inputs: Option<(StepInfo, Tensor, Tensor)>,
}

/// An expert in memory, with the contexts prepared for it.
struct Resident<'a> {
    expert: usize,
    dit: Lease<'a, WanModel>,
    prepared: Vec<Prepared>,
}

impl<'a> WanPredictor<'a> {
    pub(super) fn new(run: Run<'a>, prompts: Vec<Tensors>, conditions: Conditions) -> Self {
        let contexts = prompts.into_iter().filter_map(|mut contexts| contexts.remove(CONTEXT)).collect();
        Self { run, contexts, conditions, resident: None, inputs: None }
    }

    /// Makes `expert` the one in memory.
    fn load(&mut self, expert: usize) -> Result<&Resident<'a>> {
        if self.resident.as_ref().is_none_or(|resident| resident.expert != expert) {
            self.resident = None; // frees the other expert before this one is read
            let Run { model, placement, plan, warm, .. } = self.run;
            let name = format!("transformer {expert}{}", if placement.offload { ", streamed" } else { "" });
            let dit = warm.take(name, || load(model, &model.components(Role::Transformer)[expert], placement))?;
            let prepare = |context: &Tensor| {
                let context = context.to_dtype(placement.dtype)?;
                let conditioning = self.conditions.with_text(context, plan, placement.dtype)?;
                Ok(dit.prepare(&conditioning, KV_CACHE_BYTES)?)
            };
            let prepared = self.contexts.iter().map(prepare).collect::<Result<_>>()?;
            self.resident = Some(Resident { expert, dit, prepared });
        }
        Ok(self.resident.as_ref().expect("just filled"))
    }

    /// Latents with the clean frames in place, and the timestep: one for all tokens, or one for each.
    fn network_inputs(&self, x: &Tensor, timestep: f64, patch: [usize; 3]) -> Result<(Tensor, Tensor)> {
        let Some(clean) = &self.conditions.clean else {
            return Ok((x.clone(), Tensor::new(&[timestep as f32], &Device::Cpu)?));
        };
        let ([_, ph, pw], (_, _, _, h, w)) = (patch, x.dims5()?);
        let timesteps = clean.timesteps(timestep, (h / ph) * (w / pw))?;
        Ok((clean.put_into(x)?, timesteps.to_device(&Device::Cpu)?))
    }
}

impl Predictor for WanPredictor<'_> {
    fn start(&self, noise: Streams) -> Result<Streams> {
        let Some(start) = &self.conditions.start else { return Ok(noise) };
        let sigma = self.run.plan.schedule.sigmas()[0];
        noise.map(|_, noise| Ok(((start * (1.0 - sigma))? + (noise * sigma)?)?))
    }

    fn predict(&mut self, x: &Streams, step: StepInfo, pass: Pass, reuse: &mut dyn Reuse) -> Result<Streams> {
        let Run { placement, plan, .. } = self.run;
        let patch = self.load(plan.expert(step.timestep))?.dit.patch_size();
        if pass == Pass::Prompt || self.inputs.as_ref().is_none_or(|(of, _, _)| *of != step) {
            let (latents, timestep) = self.network_inputs(x.get(Limits::VIDEO)?, step.timestep, patch)?;
            self.inputs = Some((step, latents.to_dtype(placement.dtype)?, timestep));
        }
        let (_, latents, timestep) = self.inputs.as_ref().expect("just filled");
        let Resident { dit, prepared, .. } = self.resident.as_ref().expect("loaded above");
        let (context, sparse) = (usize::from(pass == Pass::Negative), plan.sparse_at(step.index));
        let velocity = dit.forward_with(latents, timestep, &prepared[context], sparse, reuse)?;
        Ok(Streams::single(Limits::VIDEO, velocity))
    }

    fn shown(&self, denoised: &Streams) -> Result<Streams> {
        match &self.conditions.clean {
            Some(clean) => denoised.map(|_, x| Ok(clean.put_into(x)?)),
            None => Ok(denoised.clone()),
        }
    }

    fn clip(&self, x: &Streams) -> Result<Streams> {
        let (references, frames) = (self.run.plan.inputs.references.len(), self.run.plan.latent_shape[1]);
        self.shown(x)?.map(|_, latents| Ok(latents.narrow(2, references, frames)?.contiguous()?))
    }
}

/// Loads one of the model's transformers, and returns the bytes of its weights too.
fn load(model: &Model, transformer: &Component, placement: &Placement) -> Result<(WanModel, u64)> {
    let config = dit_config(model, transformer)?;
    let weights = open(transformer, &dit_key_maps(), placement)?;
    let network =
        if placement.offload { WanModel::streamed(&config, &weights) } else { WanModel::new(&config, &weights) };
    Ok((built(transformer.role, network)?, weights.bytes() as u64))
}

/// A pass of the first expert over random `latents [C, F, H, W]`, with a random context of full length, and with sparse attention
/// where a share to keep is given.
pub(super) fn timed_pass(
    model: &Model,
    placement: &Placement,
    [c, f, h, w]: [usize; 4],
    keep: Option<f64>,
) -> Result<TimedPass> {
    let first = model.component(Role::Transformer)?;
    let (dit, _) = load(model, first, placement)?;
    let (text_len, text_dim) = (model.manifest.text_len, dit_config(model, first)?.text_dim);
    let Placement { device, dtype, .. } = placement;
    let mut noise = NoiseSource::new(0);
    let context = noise.randn_tensor((1, text_len, text_dim), device)?.to_dtype(*dtype)?;
    let latents = noise.randn_tensor((1, c, f, h, w), device)?.to_dtype(*dtype)?;
    let timestep = Tensor::new(&[500f32], device)?;
    let prepared = dit.prepare(&Conditioning::new(context), KV_CACHE_BYTES)?;
    let [pt, ph, pw] = dit.patch_size();
    let sparse = keep.map(|keep| Sparse { keep, references: 0, dense: false });
    let pass = move || {
        dit.forward_with(&latents, &timestep, &prepared, sparse, &mut ComputeAll)?;
        Ok(())
    };
    Ok(TimedPass { tokens: (f / pt) * (h / ph) * (w / pw), pass: Box::new(pass) })
}
