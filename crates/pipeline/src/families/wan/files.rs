//! The files of Wan's models: their roles, variants, configurations and names of tensors.

use crate::model::Model;
use crate::model::component::Component;
use crate::model::family_files::FamilyFiles;
use crate::model::role::Role;
use crate::plan::placement::Placement;
use crate::{Error, Result};
use candle_core::DType;
use kinora_checkpoint::{KeyMap, LoraTarget, TensorInfo, Weights};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_image_encoder::{ClipPreprocess, ClipVision, ClipVisionConfig, ImageStage};
use kinora_text_encoder::{Umt5Config, umt5};
use kinora_vae::Parts;
use kinora_vae::wan::{Config as VaeConfig, WanVae};
use serde_json::Value;

/// The text encoder of every released Wan model, for files that come without a configuration:
/// <https://huggingface.co/google/umt5-xxl/blob/main/config.json>.
pub(super) const UMT5_XXL: &str = r#"{"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu"}"#;

/// The width of the image encoder's hidden states in released models, and the rows of two pictures' in Wan 2.1 FLF2V.
const RELEASED_IMAGE_DIM: usize = 1280;
const RELEASED_PICTURE_ROWS: usize = 514;

/// Endings of names that text encoders have, in each of their layouts.
const TEXT_ENCODERS: [&str; 3] =
    ["token_embedding.weight", "block.0.layer.0.SelfAttention.q.weight", "enc.blk.0.attn_rel_b.weight"];

/// The family.
pub(crate) struct Wan;

impl FamilyFiles for Wan {
    fn name(&self) -> &'static str {
        "wan"
    }

    fn owns_pipeline(&self, class_name: &str) -> bool {
        ["WanPipeline", "WanImageToVideoPipeline", "WanVACEPipeline", "WanVideoToVideoPipeline"].contains(&class_name)
    }

    fn role(&self, tensors: &[TensorInfo]) -> Option<Role> {
        let has = |ending: &str| tensors.iter().any(|tensor| tensor.name.ends_with(ending));
        if has("patch_embedding.weight") && (has("blocks.0.self_attn.q.weight") || has("blocks.0.attn1.to_q.weight")) {
            Some(Role::Transformer)
        } else if has("decoder.conv1.weight") || has("decoder.conv_in.weight") {
            Some(Role::Vae)
        } else if TEXT_ENCODERS.into_iter().any(has) {
            Some(Role::TextEncoder)
        } else if has("pre_layrnorm.weight") || has("visual.pre_norm.weight") {
            Some(Role::ImageEncoder)
        } else {
            None
        }
    }

    fn needs(&self, transformer: &[TensorInfo], config: Option<&Value>) -> Vec<Role> {
        let endings = ["img_emb.proj.1.weight", "image_embedder.ff.net.0.proj.weight"];
        let mut names = transformer.iter().map(|tensor| &tensor.name);
        let attends = names.any(|name| endings.iter().any(|ending| name.ends_with(ending)));
        let mut roles = vec![Role::Transformer, Role::Vae, Role::TextEncoder];
        if attends || config.is_some_and(|config| config["image_dim"].is_u64()) {
            roles.push(Role::ImageEncoder);
        }
        roles
    }

    fn tokenizers(&self) -> &'static [&'static str] {
        &["google/umt5-xxl/tokenizer.json"]
    }

    fn variant(&self, transformer: &[TensorInfo], experts: usize) -> Option<&'static str> {
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
}

pub(super) fn image_config(model: &Model) -> Result<ClipVisionConfig> {
    match &model.component(Role::ImageEncoder)?.config {
        Some(config) => Ok(ClipVisionConfig::from_json(config.to_string().as_bytes())?),
        None => Ok(ClipVisionConfig::default()),
    }
}

pub(super) fn image_key_maps() -> Vec<KeyMap> {
    kinora_image_encoder::key_maps()
}

pub(super) fn text_config(model: &Model) -> Result<Umt5Config> {
    let config = model.component(Role::TextEncoder)?.config.as_ref();
    let json = config.map_or_else(|| UMT5_XXL.to_string(), ToString::to_string);
    Ok(Umt5Config::from_json(json.as_bytes())?)
}

pub(super) fn vae_config(model: &Model) -> Result<VaeConfig> {
    match (&model.component(Role::Vae)?.config, model.manifest.vae.as_deref()) {
        (Some(config), _) => Ok(VaeConfig::from_json(&config.to_string())?),
        (None, Some("wan2.2")) => Ok(VaeConfig::wan22()),
        (None, _) => Ok(VaeConfig::wan21()),
    }
}

/// The configuration of one of the model's transformers.
pub(super) fn dit_config(model: &Model, transformer: &Component) -> Result<WanConfig> {
    if let Some(config) = transformer.config.as_ref().or(model.manifest.transformer.as_ref()) {
        return Ok(WanConfig::from_diffusers_config(config.to_string().as_bytes())?);
    }
    Ok(WanConfig::infer(&transformer.headers(&dit_key_maps(), DType::F32)?.shapes())?)
}

pub(super) fn text_key_maps() -> [KeyMap; 3] {
    umt5::key_maps()
}

pub(super) fn vae_key_maps(config: &VaeConfig) -> [KeyMap; 2] {
    let original = KeyMap::identity("original").anchored(["decoder.conv1.weight"]);
    [kinora_vae::wan::canonical_from_diffusers(config), original]
}

pub(super) fn dit_key_maps() -> [KeyMap; 2] {
    [kinora_dit::wan::canonical_from_diffusers(), KeyMap::identity("original").anchored(["patch_embedding.weight"])]
}

/// The tensors of one of the model's transformers, for LoRAs. LoRAs of models that attend to pictures are used with models
/// that do not, too: the parts for pictures are those that only other variants have.
pub(super) fn lora_target(model: &Model, transformer: &Component) -> Result<LoraTarget> {
    let config = dit_config(model, transformer)?;
    let tensors = |config: &WanConfig| {
        let recorder = Weights::recorder();
        built(transformer.role, WanModel::new(config, &recorder))?;
        Ok::<_, Error>(recorder.asked())
    };
    let attending = WanConfig {
        image_dim: config.image_dim.or(Some(RELEASED_IMAGE_DIM)),
        pos_embed_seq_len: config.pos_embed_seq_len.or(Some(RELEASED_PICTURE_ROWS)),
        ..config.clone()
    };
    let key_maps = dit_key_maps();
    Ok(LoraTarget::new(tensors(&config)?, &key_maps).with_siblings(tensors(&attending)?.into_keys(), &key_maps))
}

/// Loads the VAE, or half of it, and returns the bytes of its weights too.
pub(super) fn load_vae(model: &Model, parts: Parts, placement: &Placement) -> Result<(WanVae, u64)> {
    let config = vae_config(model)?;
    let placement = Placement { dtype: placement.pixel_dtype(), quant: None, ..placement.clone() };
    let weights = open(model.component(Role::Vae)?, &vae_key_maps(&config), &placement)?;
    let vae = built(Role::Vae, WanVae::new(&config, &weights, parts))?;
    Ok((vae, weights.bytes() as u64))
}

/// Loads the image encoder, of a model that has one.
pub(super) fn load_image_encoder(model: &Model, placement: &Placement) -> Result<ImageStage> {
    // It runs once per clip, and it is small: quantising it would save nothing.
    let placement = Placement { dtype: DType::F32, quant: None, ..placement.clone() };
    let weights = open(model.component(Role::ImageEncoder)?, &image_key_maps(), &placement)?;
    let encoder = built(Role::ImageEncoder, ClipVision::new(&image_config(model)?, &weights))?;
    Ok(ImageStage::new(encoder, image_preprocess(model)?))
}

/// What the image encoder does to pictures first.
pub(super) fn image_preprocess(model: &Model) -> Result<ClipPreprocess> {
    match &model.image_processor {
        Some(config) => Ok(ClipPreprocess::from_json(config.to_string().as_bytes())?),
        None => Ok(ClipPreprocess::default()),
    }
}

/// Checks that an encoder makes hidden states of as many channels as the transformer takes.
pub(super) fn require_width(model: &Model, encoder: Role, makes: usize, takes: usize) -> Result<()> {
    if makes == takes {
        return Ok(());
    }
    let name = encoder.name();
    Err(Error::request(
        format!("the {name} of `{}` makes {makes} channels, its transformer takes {takes}", model.place.display()),
        format!("take transformer and {name} from one model"),
    ))
}

/// The weights of a component where `placement` has them.
pub(super) fn open(component: &Component, key_maps: &[KeyMap], placement: &Placement) -> Result<Weights> {
    let weights = component.weights(key_maps, &placement.device, placement.dtype)?;
    Ok(weights.with_quant(placement.quant).with_exact(placement.exact))
}

/// Checks that the component's module asked for every tensor of its files.
pub(super) fn finished(role: Role, headers: &Weights) -> Result<()> {
    headers.finish().map(drop).map_err(|source| Error::component(role.name(), source))
}

/// Names the component that misses a tensor or holds a bad one.
pub(super) fn built<T, E: Into<Error>>(role: Role, module: std::result::Result<T, E>) -> Result<T> {
    module.map_err(|error| match error.into() {
        Error::Weights(source) => Error::Component { component: role.name(), source },
        other => other,
    })
}
