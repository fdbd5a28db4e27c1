//! LTX-2.x (<https://github.com/Lightricks/LTX-2>): Gemma text, one transformer of video and sound, an autoencoder for each, a vocoder.

mod files;
mod limits;
mod memory;
mod parts;
mod predictor;

use super::capabilities::Limits;
use super::family::{ClipEnd, Family, Predictor, PromptEncoder, Run, Tensors, TimedPass};
use crate::model::Model;
use crate::model::component::Component;
use crate::model::role::Role;
use crate::plan::Plan;
use crate::plan::memory::{Demand, PartsMemory};
use crate::plan::placement::Placement;
use crate::run::encode::{Encoding, fitted};
use crate::run::observer::Observer;
use crate::{Error, Result};
pub(crate) use files::Ltx;
use kinora_checkpoint::{LoraTarget, Weights};
use kinora_dit::ltx::LtxModel;
use kinora_media::Sound;
use kinora_sampler::{Streams, check_finite};
use kinora_text_encoder::{LtxText, Tokenizer, Unread, clean_prompt};
use kinora_vae::{Parts, VideoVae};
use predictor::LtxPredictor;

/// The names of a prompt's contexts, for the video and for the sound.
const CONTEXTS: [&str; 2] = ["video", "audio"];
/// The name of a given picture's latent frame.
const PICTURE: &str = "picture";

impl Family for Ltx {
    fn limits(&self, model: &Model) -> Result<Limits> {
        limits::limits(model)
    }

    fn check(&self, model: &Model) -> Result<()> {
        parts::check(model)
    }

    fn lora_target(&self, model: &Model, transformer: &Component) -> Result<LoraTarget> {
        let recorder = Weights::recorder();
        parts::built(transformer.role, LtxModel::new(&parts::dit_config(model, transformer)?, &recorder))?;
        Ok(LoraTarget::new(recorder.asked(), &parts::dit_key_maps()))
    }

    fn context_names(&self) -> &'static [&'static str] {
        &CONTEXTS
    }

    fn text_encoder(&self, model: &Model, placement: &Placement) -> Result<(Box<dyn PromptEncoder>, u64)> {
        // Its weights stay in their files.
        Ok((Box::new(TwoContexts(parts::open_text(model, placement)?)), 0))
    }

    fn unread(&self, model: &Model, prompt: &str) -> Result<Option<Unread>> {
        if model.component(Role::TextEncoder)?.weights.blobs.is_empty() {
            return Ok(None);
        }
        Unread::of(prompt, model.manifest.text_len, || Ok(Tokenizer::from_bytes(&model.tokenizer()?)?))
    }

    fn unknown_words(&self, model: &Model, prompt: &str) -> Result<Vec<String>> {
        Ok(Tokenizer::from_bytes(&model.tokenizer()?)?.unknown_words(&clean_prompt(prompt))?)
    }

    fn is_conditioned(&self, plan: &Plan, _: Option<&ClipEnd>) -> bool {
        plan.inputs.image.is_some()
    }

    fn condition(&self, run: Run, _: Option<&ClipEnd>, observer: &mut Observer) -> Result<Tensors> {
        let Run { model, placement, plan, warm, .. } = run;
        let Some(picture) = &plan.inputs.image else { return Ok(Tensors::new()) };
        let picture = fitted(kinora_media::read_image(picture)?, plan.width, plan.height, plan.inputs.fit)?;
        let vae = warm.vae(Parts::Encoder, || self.vae(model, Parts::Encoder, placement))?;
        let source = "the given picture";
        let mut encoding = Encoding { vae: vae.as_ref(), device: &placement.device, source, observer };
        Ok([(PICTURE.to_string(), encoding.encode(1, |_| Ok(picture.to_frame()))?)].into())
    }

    fn predictor<'a>(
        &self,
        run: Run<'a>,
        prompts: Vec<Tensors>,
        conditioning: Tensors,
    ) -> Result<Box<dyn Predictor + 'a>> {
        Ok(Box::new(LtxPredictor::new(run, prompts, conditioning)?))
    }

    fn vae(&self, model: &Model, parts: Parts, placement: &Placement) -> Result<(Box<dyn VideoVae>, u64)> {
        let (vae, bytes) = parts::load_vae(model, parts, placement)?;
        Ok((Box::new(vae), bytes))
    }

    fn sound(&self, model: &Model, placement: &Placement, latents: &Streams) -> Result<Option<Sound>> {
        let (vae, vocoder) = parts::load_sound(model, placement)?;
        let waveform = vocoder.forward(&vae.decode(latents.get(Limits::AUDIO)?)?)?;
        check_finite(&waveform, || "the decoded sound".into())?;
        let (_, channels, _) = waveform.dims3()?;
        let samples = waveform.flatten_all()?.to_vec1::<f32>()?;
        Ok(Some(Sound::new(vocoder.sample_rate() as u32, channels, samples)?))
    }

    fn memory(&self, model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory> {
        memory::memory(model, placement, demand)
    }

    fn operations(&self, model: &Model, [_, f, h, w]: [usize; 4]) -> Result<f64> {
        let config = parts::dit_config(model, model.component(Role::Transformer)?)?;
        let sound = limits::audio_latents(model, f)?;
        Ok(config.operations([f * h * w, sound]))
    }

    fn tile_that_fits(
        &self,
        model: &Model,
        placement: &Placement,
        size: [usize; 2],
        threads: usize,
        bytes: u64,
    ) -> Result<Option<usize>> {
        memory::tile_that_fits(model, placement, size, threads, bytes)
    }

    fn timed_pass(
        &self,
        model: &Model,
        placement: &Placement,
        latents: [usize; 4],
        keep: Option<f64>,
    ) -> Result<TimedPass> {
        predictor::timed_pass(model, placement, latents, keep)
    }

    fn shorten_text_encoder(&self, _: &mut Model, _: usize) -> Result<usize> {
        let what = "the text encoder of this model is read layer by layer, and is not measured";
        Err(Error::request(what, "measure the other parts"))
    }

    fn shorten_transformer(&self, model: &mut Model, layers: usize) -> Result<usize> {
        let transformer = model.component(Role::Transformer)?;
        let all = parts::dit_config(model, transformer)?.num_layers;
        match transformer.config.clone().or_else(|| model.manifest.transformer.clone()) {
            Some(mut config) if (1..=all).contains(&layers) => {
                config["num_layers"] = layers.into();
                model.component_mut(Role::Transformer)?.config = Some(config);
                Ok(all)
            }
            _ => {
                let what = format!("{layers} blocks of the transformer are outside 1 to {all}");
                Err(Error::request(what, "2 are enough to tell the time of all"))
            }
        }
    }
}

/// The text stage, whose prompts have a context for each stream.
struct TwoContexts(LtxText);

impl PromptEncoder for TwoContexts {
    fn encode(&self, prompt: &str) -> Result<Tensors> {
        let mut encoded = self.0.encode(&[prompt], |_, _| Ok(()))?;
        let contexts = encoded.remove(0).contexts;
        Ok(CONTEXTS.map(String::from).into_iter().zip([contexts.video, contexts.audio]).collect())
    }
}
