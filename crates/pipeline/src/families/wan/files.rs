//! The files of Wan's models: their roles, variants, configurations and names of tensors.

use super::limits::vae_dtype;
use crate::families::Role;
use crate::model::source::{Model, Part};
use crate::plan::placement::Placement;
use crate::{Error, Result};
use candle_core::DType;
use kinora_checkpoint::{KeyMap, TensorInfo, Weights};
use kinora_dit::wan::WanConfig;
use kinora_image_encoder::{ClipPreprocess, ClipVision, ClipVisionConfig, ImageStage};
use kinora_text_encoder::{Umt5Config, umt5};
use kinora_vae::Parts;
use kinora_vae::wan::{Config as VaeConfig, WanVae};

pub(super) const TEXT_ENCODER: &str = "text encoder";
pub(super) const TRANSFORMER: &str = "transformer";
pub(super) const VAE: &str = "VAE";
pub(super) const IMAGE_ENCODER: &str = "image encoder";

/// The text encoder of every released Wan model, for files that come without a configuration:
/// <https://huggingface.co/google/umt5-xxl/blob/main/config.json>.
pub(super) const UMT5_XXL: &str = r#"{"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu"}"#;

/// The role of a file with these tensors.
pub(super) fn role(tensors: &[TensorInfo]) -> Option<Role> {
    let has = |ending: &str| tensors.iter().any(|tensor| tensor.name.ends_with(ending));
    if has("patch_embedding.weight") && (has("blocks.0.self_attn.q.weight") || has("blocks.0.attn1.to_q.weight")) {
        Some(Role::Transformer)
    } else if has("decoder.conv1.weight") || has("decoder.conv_in.weight") {
        Some(Role::Vae)
    } else if has("token_embedding.weight") || has("block.0.layer.0.SelfAttention.q.weight") {
        Some(Role::TextEncoder)
    } else if has("pre_layrnorm.weight") || has("visual.pre_norm.weight") {
        Some(Role::ImageEncoder)
    } else {
        None
    }
}

/// The known variant whose transformers have these tensors.
pub(super) fn variant(transformer: &[TensorInfo], experts: usize) -> Option<&'static str> {
    let has = |part: &str| transformer.iter().any(|tensor| tensor.name.contains(part));
    let is_patch = |tensor: &&TensorInfo| {
        tensor.name.ends_with("patch_embedding.weight") && !tensor.name.contains("vace_patch_embedding")
    };
    let patch = transformer.iter().find(is_patch)?;
    let &[dim, channels, 1, 2, 2] = patch.shape.as_slice() else { return None };
    let (vace, camera) = (has("vace_patch_embedding."), has("control_adapter."));
    let pair = has("img_emb.emb_pos") || has("image_embedder.pos_embed");
    match (dim, channels, experts) {
        (1536, 16, 1) if vace => Some("wan2.1-vace-1.3b"),
        (1536, 16, 1) => Some("wan2.1-t2v-1.3b"),
        (1536, 32, 1) if camera => Some("wan2.1-fun-camera-1.3b"),
        (3072, 48, 1) => Some("wan2.2-ti2v-5b"),
        (5120, 16, 1) if vace => Some("wan2.1-vace-14b"),
        (5120, 16, 1) => Some("wan2.1-t2v-14b"),
        (5120, 16, 2) => Some("wan2.2-t2v-a14b"),
        (5120, 32, 1) if camera => Some("wan2.1-fun-camera-14b"),
        (5120, 36, 1) if pair => Some("wan2.1-flf2v-14b"),
        // 480p and 720p have the same shapes.
        (5120, 36, 1) if has("img_emb.") || has("image_embedder.") => Some("wan2.1-i2v-14b-480p"),
        (5120, 36, 2) if camera => Some("wan2.2-fun-camera-a14b"),
        (5120, 36, 2) => Some("wan2.2-i2v-a14b"),
        _ => None,
    }
}

/// Whether the transformer attends to an image encoder's hidden states.
pub(super) fn needs_image_encoder(transformer: &[TensorInfo]) -> bool {
    let endings = ["img_emb.proj.1.weight", "image_embedder.ff.net.0.proj.weight"];
    transformer.iter().any(|tensor| endings.iter().any(|ending| tensor.name.ends_with(ending)))
}

pub(super) fn image_config(model: &Model) -> Result<ClipVisionConfig> {
    match model.image_encoder.as_ref().and_then(|part| part.config.as_ref()) {
        Some(config) => Ok(ClipVisionConfig::from_json(config.to_string().as_bytes())?),
        None => Ok(ClipVisionConfig::default()),
    }
}

pub(super) fn image_key_maps() -> Vec<KeyMap> {
    kinora_image_encoder::key_maps()
}

pub(super) fn text_config(model: &Model) -> Result<Umt5Config> {
    let json = model.text_encoder.config.as_ref().map_or_else(|| UMT5_XXL.to_string(), ToString::to_string);
    Ok(Umt5Config::from_json(json.as_bytes())?)
}

pub(super) fn vae_config(model: &Model) -> Result<VaeConfig> {
    match (&model.vae.config, model.manifest.vae.as_deref()) {
        (Some(config), _) => Ok(VaeConfig::from_json(&config.to_string())?),
        (None, Some("wan2.2")) => Ok(VaeConfig::wan22()),
        (None, _) => Ok(VaeConfig::wan21()),
    }
}

pub(super) fn dit_config(model: &Model, expert: usize) -> Result<WanConfig> {
    let part = &model.transformers[expert];
    if let Some(config) = part.config.as_ref().or(model.manifest.transformer.as_ref()) {
        return Ok(WanConfig::from_diffusers_config(config.to_string().as_bytes())?);
    }
    Ok(WanConfig::infer(&headers_of(TRANSFORMER, part, &dit_key_maps(), DType::F32)?.shapes())?)
}

pub(super) fn text_key_maps() -> [KeyMap; 2] {
    [umt5::canonical_from_transformers(), KeyMap::identity("original")]
}

pub(super) fn vae_key_maps(config: &VaeConfig) -> [KeyMap; 2] {
    [kinora_vae::wan::canonical_from_diffusers(config), KeyMap::identity("original")]
}

pub(super) fn dit_key_maps() -> [KeyMap; 2] {
    [kinora_dit::wan::canonical_from_diffusers(), KeyMap::identity("original")]
}

/// Loads the VAE, or half of it.
pub(super) fn load_vae(model: &Model, parts: Parts, placement: &Placement) -> Result<WanVae> {
    let config = vae_config(model)?;
    let placement = Placement { dtype: vae_dtype(placement), quant: None, ..placement.clone() };
    let weights = open(VAE, &model.vae, &vae_key_maps(&config), &placement)?;
    built(VAE, WanVae::new(&config, &weights, parts))
}

/// Loads the image encoder, of a model that has one.
pub(super) fn load_image_encoder(model: &Model, placement: &Placement) -> Result<ImageStage> {
    let part = model.image_encoder.as_ref().ok_or_else(|| Error::NotAModel {
        path: model.place.clone(),
        reason: "its transformer looks at pictures, and it has no image encoder".to_string(),
    })?;
    // It runs once per clip, and it is small: quantising it would save nothing.
    let placement = Placement { dtype: DType::F32, quant: None, ..placement.clone() };
    let weights = open(IMAGE_ENCODER, part, &image_key_maps(), &placement)?;
    let encoder = built(IMAGE_ENCODER, ClipVision::new(&image_config(model)?, &weights))?;
    let preprocess = match &model.image_processor {
        Some(config) => ClipPreprocess::from_json(config.to_string().as_bytes())?,
        None => ClipPreprocess::default(),
    };
    Ok(ImageStage::new(encoder, preprocess))
}

pub(super) fn open(
    component: &'static str,
    part: &Part,
    key_maps: &[KeyMap],
    placement: &Placement,
) -> Result<Weights> {
    let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
    let weights = part.weights(&key_maps, &placement.device, placement.dtype);
    Ok(weights.map_err(|source| Error::Component { component, source })?.with_quant(placement.quant))
}

/// Weights that check a module against the files without reading data.
pub(super) fn headers_of(component: &'static str, part: &Part, key_maps: &[KeyMap], dtype: DType) -> Result<Weights> {
    let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
    part.headers(&key_maps, dtype).map_err(|source| Error::Component { component, source })
}

pub(super) fn finished(component: &'static str, headers: &Weights) -> Result<()> {
    headers.finish().map(drop).map_err(|source| Error::Component { component, source })
}

/// Says which part it is that misses a tensor or holds a bad one.
pub(super) fn built<T, E: Into<Error>>(component: &'static str, module: std::result::Result<T, E>) -> Result<T> {
    module.map_err(|error| match error.into() {
        Error::Text(kinora_text_encoder::Error::Checkpoint(source))
        | Error::Dit(kinora_dit::Error::Checkpoint(source))
        | Error::Image(kinora_image_encoder::Error::Checkpoint(source))
        | Error::Vae(kinora_vae::Error::Checkpoint(source)) => Error::Component { component, source },
        other => other,
    })
}
