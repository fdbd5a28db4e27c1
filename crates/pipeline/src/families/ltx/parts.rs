//! The components of LTX-2.x: their configurations, their names of tensors, and how they are loaded.
//!
//! A component's configuration is that of a diffusers directory, that of all components in the metadata of an original file, or
//! what its tensors say.

use crate::model::Model;
use crate::model::component::Component;
use crate::model::role::Role;
use crate::plan::placement::Placement;
use crate::{Error, Result};
use candle_core::DType;
use kinora_audio::ltx::{AudioVae, Config as AudioConfig};
use kinora_audio::vocoder::{self, Vocoder, VocoderConfig};
use kinora_checkpoint::{KeyMap, Weights};
use kinora_dit::ltx::{LtxConfig, LtxModel};
use kinora_text_encoder::causal_lm::gemma;
use kinora_text_encoder::{CausalLm, CausalLmConfig, Connectors, ConnectorsConfig, LtxText, Tokenizer, ltx as text};
use kinora_vae::Parts;
use kinora_vae::ltx::{self as video, Config as VideoConfig, LtxVae};

/// The text of a component's configuration, unless its tensors have to say it. `part` names it in the metadata of an original
/// file, which describe all components.
fn described(component: &Component, part: &str) -> Option<String> {
    let config = component.config.as_ref()?;
    if config.get("_class_name").is_some() || config.get(part).is_some() { Some(config.to_string()) } else { None }
}

/// Canonical names and shapes of a component's tensors.
fn shapes(component: &Component, key_maps: &[KeyMap]) -> Result<Vec<(String, Vec<usize>)>> {
    Ok(component.headers(key_maps, DType::F32)?.shapes())
}

pub(super) fn dit_key_maps() -> Vec<KeyMap> {
    kinora_dit::ltx::key_maps().into()
}

/// The configuration of the transformer.
pub(super) fn dit_config(model: &Model, transformer: &Component) -> Result<LtxConfig> {
    match transformer.config.as_ref().or(model.manifest.transformer.as_ref()) {
        Some(config) if config["transformer"].is_object() => {
            Ok(LtxConfig::from_original_config(config.to_string().as_bytes())?)
        }
        Some(config) => Ok(LtxConfig::from_diffusers_config(config.to_string().as_bytes())?),
        None => Ok(LtxConfig::infer(&shapes(transformer, &dit_key_maps())?)?),
    }
}

/// Loads the transformer, and returns the bytes of its weights too.
pub(super) fn load_dit(model: &Model, placement: &Placement) -> Result<(LtxModel, u64)> {
    let transformer = model.component(Role::Transformer)?;
    let config = dit_config(model, transformer)?;
    let weights = open(transformer, &dit_key_maps(), placement)?;
    let network =
        if placement.offload { LtxModel::streamed(&config, &weights) } else { LtxModel::new(&config, &weights) };
    Ok((built(transformer.role, network)?, weights.bytes() as u64))
}

pub(super) fn text_key_maps() -> Vec<KeyMap> {
    gemma::key_maps().into()
}

pub(super) fn text_config(model: &Model) -> Result<CausalLmConfig> {
    let component = model.component(Role::TextEncoder)?;
    match &component.config {
        Some(config) => Ok(CausalLmConfig::from_gemma_json(config.to_string().as_bytes())?),
        None => Ok(CausalLmConfig::of_released_gemma(&shapes(component, &text_key_maps())?)),
    }
}

pub(super) fn connectors_key_maps() -> Vec<KeyMap> {
    text::key_maps().into()
}

pub(super) fn connectors_config(model: &Model) -> Result<ConnectorsConfig> {
    let component = model.component(Role::Connectors)?;
    match component.config.as_ref().filter(|config| config.get("caption_channels").is_some()) {
        Some(config) => Ok(ConnectorsConfig::from_json(config.to_string().as_bytes())?),
        None => Ok(ConnectorsConfig::of_released(&shapes(component, &connectors_key_maps())?)),
    }
}

/// Opens the tokenizer, the language model, whose layers are read when a prompt is encoded, and the connectors.
pub(super) fn open_text(model: &Model, placement: &Placement) -> Result<LtxText> {
    let tokenizer = Tokenizer::from_bytes(&model.tokenizer()?)?; // first: it is small and may be damaged
    // Each layer is read and used once: quantising it would take longer than it saves.
    let placement = &Placement { quant: None, ..placement.clone() };
    let weights = open(model.component(Role::TextEncoder)?, &text_key_maps(), placement)?;
    let language = built(Role::TextEncoder, CausalLm::new(&text_config(model)?, &weights))?;
    let weights = open(model.component(Role::Connectors)?, &connectors_key_maps(), placement)?;
    let connectors = built(Role::Connectors, Connectors::new(&connectors_config(model)?, &weights))?;
    Ok(LtxText::new(tokenizer, language, connectors, model.manifest.text_len)?)
}

pub(super) fn vae_key_maps(config: &VideoConfig) -> Vec<KeyMap> {
    vec![video::canonical_from_diffusers(config), video::canonical_from_combined(), video::original()]
}

pub(super) fn vae_config(model: &Model) -> Result<VideoConfig> {
    let component = model.component(Role::Vae)?;
    match (described(component, "vae"), model.manifest.vae.as_deref()) {
        (Some(json), _) => Ok(VideoConfig::from_json(&json)?),
        (None, Some("ltx-2.0")) => Ok(VideoConfig::ltx20()),
        (None, Some(_)) => Ok(VideoConfig::ltx23()),
        (None, None) => {
            let key_maps = [video::canonical_from_combined(), video::original()];
            Ok(VideoConfig::from_shapes(&shapes(component, &key_maps)?)?)
        }
    }
}

/// Loads the VAE, or half of it, and returns the bytes of its weights too.
pub(super) fn load_vae(model: &Model, parts: Parts, placement: &Placement) -> Result<(LtxVae, u64)> {
    let config = vae_config(model)?;
    let placement = Placement { dtype: placement.pixel_dtype(), quant: None, ..placement.clone() };
    let weights = open(model.component(Role::Vae)?, &vae_key_maps(&config), &placement)?;
    let vae = built(Role::Vae, LtxVae::new(&config, &weights, parts))?;
    Ok((vae, weights.bytes() as u64))
}

pub(super) fn audio_config(model: &Model) -> Result<AudioConfig> {
    let component = model.component(Role::AudioVae)?;
    match described(component, "audio_vae") {
        Some(json) => Ok(AudioConfig::from_json(&json)?),
        None => Ok(AudioConfig::infer(&shapes(component, &kinora_audio::ltx::key_maps())?)?),
    }
}

pub(super) fn vocoder_config(model: &Model) -> Result<VocoderConfig> {
    let component = model.component(Role::Vocoder)?;
    match described(component, "vocoder") {
        Some(json) => Ok(VocoderConfig::from_json(&json)?),
        None => Ok(VocoderConfig::infer(&shapes(component, &vocoder::key_maps())?)?),
    }
}

/// Loads the decoder of sound and the vocoder, which compute in f32 whatever the rest does.
pub(super) fn load_sound(model: &Model, placement: &Placement) -> Result<(AudioVae, Vocoder)> {
    let placement = &Placement { dtype: DType::F32, quant: None, ..placement.clone() };
    let weights = open(model.component(Role::AudioVae)?, &kinora_audio::ltx::key_maps(), placement)?;
    let vae = AudioVae::new(&audio_config(model)?, &weights, kinora_audio::Parts::Decoder);
    let weights = open(model.component(Role::Vocoder)?, &vocoder::key_maps(), placement)?;
    let vocoder = Vocoder::new(&vocoder_config(model)?, &weights);
    Ok((built(Role::AudioVae, vae)?, built(Role::Vocoder, vocoder)?))
}

/// Checks names and shapes of every component against its configuration, from the files' headers alone.
///
/// # Errors
/// The first component that would not load, and components of different models.
pub(super) fn check(model: &Model) -> Result<()> {
    let (text, language) = (model.component(Role::TextEncoder)?, text_config(model)?);
    let headers = text.headers(&text_key_maps(), DType::F32)?;
    built(text.role, CausalLm::new(&language, &headers))?;
    finished(text.role, &headers)?;
    let (component, connectors) = (model.component(Role::Connectors)?, connectors_config(model)?);
    let headers = component.headers(&connectors_key_maps(), DType::F32)?;
    built(component.role, Connectors::new(&connectors, &headers))?;
    finished(component.role, &headers)?;
    LtxText::check(&Tokenizer::from_bytes(&model.tokenizer()?)?, &language, &connectors, model.manifest.text_len)?;
    let transformer = model.component(Role::Transformer)?;
    let headers = transformer.headers(&dit_key_maps(), DType::F32)?;
    let dit = dit_config(model, transformer)?;
    require_widths(model, &connectors, &dit)?;
    built(transformer.role, LtxModel::new(&dit, &headers))?;
    finished(transformer.role, &headers)?;
    let (vae, config) = (model.component(Role::Vae)?, vae_config(model)?);
    let headers = vae.headers(&vae_key_maps(&config), DType::F32)?;
    built(vae.role, LtxVae::new(&config, &headers, Parts::Both))?;
    finished(vae.role, &headers)?;
    check_sound(model)
}

fn check_sound(model: &Model) -> Result<()> {
    let audio = model.component(Role::AudioVae)?;
    let headers = audio.headers(&kinora_audio::ltx::key_maps(), DType::F32)?;
    built(audio.role, AudioVae::new(&audio_config(model)?, &headers, kinora_audio::Parts::Both))?;
    finished(audio.role, &headers)?;
    let component = model.component(Role::Vocoder)?;
    let headers = component.headers(&vocoder::key_maps(), DType::F32)?;
    built(component.role, Vocoder::new(&vocoder_config(model)?, &headers))?;
    finished(component.role, &headers)
}

/// Checks that the connectors make contexts of the widths that the transformer takes.
fn require_widths(model: &Model, connectors: &ConnectorsConfig, dit: &LtxConfig) -> Result<()> {
    let takes = [&dit.video, &dit.audio].map(|stream| dit.text_dim.unwrap_or(stream.dim()));
    let makes = [&connectors.video, &connectors.audio].map(kinora_text_encoder::ltx::ConnectorConfig::dim);
    if makes == takes {
        return Ok(());
    }
    let place = model.place.display();
    let what = format!("the text connectors of `{place}` make {makes:?} channels, its transformer takes {takes:?}");
    Err(Error::request(what, "take transformer and text connectors from one model"))
}

/// The weights of a component where `placement` has them.
pub(super) fn open(component: &Component, key_maps: &[KeyMap], placement: &Placement) -> Result<Weights> {
    let weights = component.weights(key_maps, &placement.device, placement.dtype)?;
    Ok(weights.with_quant(placement.quant).with_exact(placement.exact))
}

/// Checks that the component's module asked for every tensor of its files.
fn finished(role: Role, headers: &Weights) -> Result<()> {
    headers.finish().map(drop).map_err(|source| Error::component(role.name(), source))
}

/// Names the component that misses a tensor or holds a bad one.
pub(super) fn built<T, E: Into<Error>>(role: Role, module: std::result::Result<T, E>) -> Result<T> {
    module.map_err(|error| match error.into() {
        Error::Weights(source) => Error::Component { component: role.name(), source },
        other => other,
    })
}
