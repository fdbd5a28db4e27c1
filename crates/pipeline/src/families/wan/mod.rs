//! Wan 2.1 and 2.2 (<https://github.com/Wan-Video/Wan2.2>): UMT5 text, one or two transformers, a causal VAE.

mod conditioning;
mod files;
mod limits;
mod memory;
mod predictor;

use super::capabilities::Limits;
use super::family::{ClipEnd, Family, Predictor, PromptEncoder, Run, Tensors, TimedPass};
use crate::model::Model;
use crate::model::component::Component;
use crate::model::role::Role;
use crate::plan::Plan;
use crate::plan::memory::{Demand, PartsMemory};
use crate::plan::placement::Placement;
use crate::run::observer::Observer;
use crate::{Error, Result};
use candle_core::DType;
use conditioning::{Conditioner, Conditions};
pub(crate) use files::Wan;
use files::{
    UMT5_XXL, built, dit_config, dit_key_maps, finished, image_config, image_key_maps, image_preprocess, open,
    require_width, text_config, text_key_maps, vae_config, vae_key_maps,
};
use kinora_checkpoint::LoraTarget;
use kinora_dit::wan::WanModel;
use kinora_image_encoder::ClipVision;
use kinora_text_encoder::{TextEncoder, TextStage, Tokenizer, Umt5, Unread, clean_prompt};
use kinora_vae::wan::WanVae;
use kinora_vae::{Parts, VideoVae};
use predictor::WanPredictor;

/// The name of the one text context.
const CONTEXT: &str = "context";
/// Words of a text encoder that is only timed: looking them up takes no time, the whole table much memory.
const SHORT_VOCABULARY: usize = 1024;

impl Family for Wan {
    fn limits(&self, model: &Model) -> Result<Limits> {
        limits::limits(model)
    }

    fn check(&self, model: &Model) -> Result<()> {
        let (text, text_config) = (model.component(Role::TextEncoder)?, text_config(model)?);
        let headers = text.headers(&text_key_maps(), DType::F32)?;
        built(text.role, Umt5::new(&text_config, &headers))?;
        finished(text.role, &headers)?;
        TextStage::check(&Tokenizer::from_bytes(&model.tokenizer()?)?, &text_config, model.manifest.text_len)?;
        let (vae, config) = (model.component(Role::Vae)?, vae_config(model)?);
        let headers = vae.headers(&vae_key_maps(&config), DType::F32)?;
        built(vae.role, WanVae::new(&config, &headers, Parts::Both))?;
        finished(vae.role, &headers)?;
        for transformer in model.components(Role::Transformer) {
            let headers = transformer.headers(&dit_key_maps(), DType::F32)?;
            let config = dit_config(model, transformer)?;
            require_width(model, Role::TextEncoder, text_config.d_model, config.text_dim)?;
            if let Some(channels) = config.image_dim {
                require_width(model, Role::ImageEncoder, image_config(model)?.hidden_size, channels)?;
            }
            built(transformer.role, WanModel::new(&config, &headers))?;
            finished(transformer.role, &headers)?;
        }
        for image in model.components(Role::ImageEncoder) {
            let headers = image.headers(&image_key_maps(), DType::F32)?;
            built(image.role, ClipVision::check(&image_config(model)?, &headers))?;
            finished(image.role, &headers)?;
            image_preprocess(model)?;
        }
        Ok(())
    }

    fn lora_target(&self, model: &Model, transformer: &Component) -> Result<LoraTarget> {
        files::lora_target(model, transformer)
    }

    fn context_names(&self) -> &'static [&'static str] {
        &[CONTEXT]
    }

    fn text_encoder(&self, model: &Model, placement: &Placement) -> Result<(Box<dyn PromptEncoder>, u64)> {
        let tokenizer = Tokenizer::from_bytes(&model.tokenizer()?)?; // first: it is small and may be damaged
        let weights = open(model.component(Role::TextEncoder)?, &text_key_maps(), placement)?;
        let encoder = built(Role::TextEncoder, Umt5::new(&text_config(model)?, &weights))?;
        let stage = OneContext(TextStage::new(tokenizer, encoder, model.manifest.text_len)?);
        Ok((Box::new(stage), weights.bytes() as u64))
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

    fn is_conditioned(&self, plan: &Plan, end: Option<&ClipEnd>) -> bool {
        conditioning::is_needed(plan, end)
    }

    fn condition(&self, run: Run, end: Option<&ClipEnd>, observer: &mut Observer) -> Result<Tensors> {
        Ok(Conditioner { run, end, images: limits::images(run.model)? }.encode(observer)?.tensors())
    }

    fn predictor<'a>(
        &self,
        run: Run<'a>,
        prompts: Vec<Tensors>,
        conditioning: Tensors,
    ) -> Result<Box<dyn Predictor + 'a>> {
        let conditions = Conditions::restored(conditioning, &run.placement.device)?;
        Ok(Box::new(WanPredictor::new(run, prompts, conditions)))
    }

    fn vae(&self, model: &Model, parts: Parts, placement: &Placement) -> Result<(Box<dyn VideoVae>, u64)> {
        let (vae, bytes) = files::load_vae(model, parts, placement)?;
        Ok((Box::new(vae), bytes))
    }

    fn memory(&self, model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory> {
        memory::memory(model, placement, demand)
    }

    fn operations(&self, model: &Model, [_, f, h, w]: [usize; 4]) -> Result<f64> {
        let config = dit_config(model, model.component(Role::Transformer)?)?;
        let [pt, ph, pw] = config.patch_size;
        Ok(config.operations((f / pt) * (h / ph) * (w / pw)))
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

    fn shorten_text_encoder(&self, model: &mut Model, layers: usize) -> Result<usize> {
        let all = text_config(model)?.num_layers;
        if !(1..=all).contains(&layers) {
            let what = format!("{layers} layers of the text encoder are outside 1 to {all}");
            return Err(Error::request(what, "2 are enough to tell the time of all"));
        }
        let mut config: serde_json::Value = serde_json::from_str(UMT5_XXL).expect("a constant; a test reads it");
        config["num_layers"] = layers.into();
        config["vocab_size"] = SHORT_VOCABULARY.into();
        model.component_mut(Role::TextEncoder)?.config = Some(config);
        Ok(all)
    }

    fn shorten_transformer(&self, model: &mut Model, layers: usize) -> Result<usize> {
        let transformer = model.component(Role::Transformer)?;
        let all = dit_config(model, transformer)?.num_layers;
        let config = transformer.config.clone().or_else(|| model.manifest.transformer.clone());
        match config {
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

/// The text stage of a family whose prompts have one context.
struct OneContext(TextStage);

impl PromptEncoder for OneContext {
    fn encode(&self, prompt: &str) -> Result<Tensors> {
        Ok([(CONTEXT.to_string(), self.0.encode(prompt)?.tensor)].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::random_model;

    /// Manifests say what the configurations mean, and how large they are.
    #[test]
    fn known_variants_are_what_their_manifests_say() {
        for manifest in crate::Manifest::known().into_iter().filter(|manifest| manifest.family == "wan") {
            let model = random_model(&manifest.name).expect("a known name");
            let limits = Wan.limits(&model).unwrap_or_else(|error| panic!("{}: {error}", manifest.name));
            assert_eq!(limits.capabilities.words(), manifest.takes, "{}", manifest.name);
            let mut parameters = 0;
            for transformer in model.components(Role::Transformer) {
                let headers = transformer.headers(&dit_key_maps(), DType::F32).expect("a recorder");
                let config = dit_config(&model, transformer).expect("a configuration");
                built(transformer.role, WanModel::new(&config, &headers))
                    .unwrap_or_else(|error| panic!("{}: {error}", manifest.name));
                let tensors = headers.asked();
                parameters += tensors.values().map(|shape| shape.iter().product::<usize>()).sum::<usize>();
            }
            assert_eq!(parameters as u64, manifest.parameters.transformer(), "{}", manifest.name);
        }
    }

    #[test]
    fn a_shortened_text_encoder_says_how_many_layers_it_had() {
        let mut model = random_model("wan2.1-t2v-1.3b").expect("a known name");
        for layers in [0, 25] {
            assert!(matches!(Wan.shorten_text_encoder(&mut model, layers), Err(Error::Request { .. })));
        }
        assert_eq!(Wan.shorten_text_encoder(&mut model, 2).expect("2 of 24"), 24);
        let config = text_config(&model).expect("a configuration");
        assert_eq!((config.num_layers, config.d_model), (2, 4096));
    }

    #[test]
    fn a_shortened_transformer_keeps_its_width() {
        let mut model = random_model("wan2.1-t2v-1.3b").expect("a known model");
        for layers in [0, 31] {
            assert!(matches!(Wan.shorten_transformer(&mut model, layers), Err(Error::Request { .. })));
        }
        assert_eq!(Wan.shorten_transformer(&mut model, 2).expect("2 of 30"), 30);
        let config = dit_config(&model, model.component(Role::Transformer).expect("a transformer"));
        let config = config.expect("a configuration");
        assert_eq!((config.num_layers, config.dim()), (2, 1536));
    }
}
