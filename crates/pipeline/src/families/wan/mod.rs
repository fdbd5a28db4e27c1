//! Wan 2.1 and 2.2 (<https://github.com/Wan-Video/Wan2.2>): UMT5 text, one or two transformers, a causal VAE.

pub(crate) mod conditioning;

use super::{Family, Placement, Role};
use crate::model::source::{Model, Part};
use crate::plan::Limits;
use crate::plan::memory::{Demand, PartMemory, PartsMemory};
use crate::request::inputs::{Images, Takes};
use crate::run::codec::writing_bytes;
use crate::{Error, Result};
use candle_core::DType;
use kinora_checkpoint::{KeyMap, TensorInfo, Weights};
use kinora_dit::VideoDit;
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_image_encoder::{ClipPreprocess, ClipVision, ClipVisionConfig, ImageEncoder, ImageStage};
use kinora_text_encoder::{TextEncoder, TextStage, Tokenizer, Umt5, Umt5Config, umt5};
use kinora_vae::wan::{Config as VaeConfig, WanVae};
use kinora_vae::{Parts, VideoVae};

/// The family.
pub(crate) struct Wan;

const TEXT_ENCODER: &str = "text encoder";
const TRANSFORMER: &str = "transformer";
const VAE: &str = "VAE";
const IMAGE_ENCODER: &str = "image encoder";
/// Channels of the mask before a model's condition latents.
const MASK_CHANNELS: usize = 4;

/// The text encoder of every released Wan model, for files that come without a configuration:
/// <https://huggingface.co/google/umt5-xxl/blob/main/config.json>.
const UMT5_XXL: &str = r#"{"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu"}"#;

/// Words of a text encoder that is only measured: looking them up takes no time, the whole table much memory.
const SHORT_VOCABULARY: usize = 1024;

impl Family for Wan {
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
        } else if has("token_embedding.weight") || has("block.0.layer.0.SelfAttention.q.weight") {
            Some(Role::TextEncoder)
        } else if has("pre_layrnorm.weight") || has("visual.pre_norm.weight") {
            Some(Role::ImageEncoder)
        } else {
            None
        }
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

    fn limits(&self, model: &Model) -> Result<Limits> {
        let (vae, dit) = (vae_config(model)?, dit_config(model, 0)?);
        let latent_format = vae.latent_format();
        let takes = takes(model, &dit, latent_format.channels)?;
        if (model.transformers.len() == 2) != model.boundary.is_some() {
            let reason = "two experts and a boundary go together, one of them is missing".to_string();
            return Err(Error::NotAModel { path: model.place.clone(), reason });
        }
        Ok(Limits {
            latent_format,
            patch: dit.patch_size,
            reach: dit.rope_max_seq_len,
            boundary: model.boundary,
            scheduler: model.scheduler.clone(),
            takes,
        })
    }

    fn check(&self, model: &Model) -> Result<()> {
        let headers = headers_of(TEXT_ENCODER, &model.text_encoder, &text_key_maps(), DType::F32)?;
        built(TEXT_ENCODER, Umt5::new(&text_config(model)?, &headers))?;
        finished(TEXT_ENCODER, &headers)?;
        let config = vae_config(model)?;
        let headers = headers_of(VAE, &model.vae, &vae_key_maps(&config), DType::F32)?;
        built(VAE, WanVae::new(&config, &headers, Parts::Both))?;
        finished(VAE, &headers)?;
        for (index, part) in model.transformers.iter().enumerate() {
            let headers = headers_of(TRANSFORMER, part, &dit_key_maps(), DType::F32)?;
            built(TRANSFORMER, WanModel::new(&dit_config(model, index)?, &headers))?;
            finished(TRANSFORMER, &headers)?;
        }
        if let Some(part) = &model.image_encoder {
            let headers = headers_of(IMAGE_ENCODER, part, &image_key_maps(), DType::F32)?;
            built(IMAGE_ENCODER, ClipVision::check(&image_config(model)?, &headers))?;
            finished(IMAGE_ENCODER, &headers)?;
        }
        Ok(())
    }

    fn text_encoder(&self, model: &Model, placement: &Placement) -> Result<Box<dyn TextEncoder>> {
        let tokenizer = Tokenizer::from_bytes(&model.tokenizer.read()?)?; // first: it is small and may be damaged
        let weights = open(TEXT_ENCODER, &model.text_encoder, &text_key_maps(), placement)?;
        let encoder = built(TEXT_ENCODER, Umt5::new(&text_config(model)?, &weights))?;
        Ok(Box::new(TextStage::new(tokenizer, encoder, model.manifest.text_len)?))
    }

    fn dit(&self, model: &Model, expert: usize, placement: &Placement) -> Result<Box<dyn VideoDit>> {
        let (part, config) = (&model.transformers[expert], dit_config(model, expert)?);
        let weights = open(TRANSFORMER, part, &dit_key_maps(), placement)?;
        if placement.offload {
            return Ok(Box::new(built(TRANSFORMER, WanModel::streamed(&config, &weights))?));
        }
        Ok(Box::new(built(TRANSFORMER, WanModel::new(&config, &weights))?))
    }

    fn needs_image_encoder(&self, transformer: &[TensorInfo]) -> bool {
        let endings = ["img_emb.proj.1.weight", "image_embedder.ff.net.0.proj.weight"];
        transformer.iter().any(|tensor| endings.iter().any(|ending| tensor.name.ends_with(ending)))
    }

    fn image_encoder(&self, model: &Model, placement: &Placement) -> Result<Box<dyn ImageEncoder>> {
        let part = model.image_encoder.as_ref().ok_or_else(|| Error::NotAModel {
            path: model.place.clone(),
            reason: "its transformer looks at pictures, and it has no image encoder".to_string(),
        })?;
        // Read once per clip, and small: rounding it would save nothing.
        let placement = Placement { dtype: DType::F32, quant: None, ..placement.clone() };
        let weights = open(IMAGE_ENCODER, part, &image_key_maps(), &placement)?;
        let encoder = built(IMAGE_ENCODER, ClipVision::new(&image_config(model)?, &weights))?;
        let preprocess = match &model.image_processor {
            Some(config) => ClipPreprocess::from_json(config.to_string().as_bytes())?,
            None => ClipPreprocess::default(),
        };
        Ok(Box::new(ImageStage::new(encoder, preprocess)))
    }

    fn text_dim(&self, model: &Model) -> Result<usize> {
        Ok(dit_config(model, 0)?.text_dim)
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
        model.text_encoder.config = Some(config);
        Ok(all)
    }

    fn memory(&self, model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory> {
        let (dtype, [c, f, h, w]) = (placement.dtype, demand.latents);
        let texts: Vec<usize> = demand.texts.iter().map(|&tokens| tokens.min(model.manifest.text_len)).collect();
        let config = text_config(model)?;
        let headers =
            headers_of(TEXT_ENCODER, &model.text_encoder, &text_key_maps(), dtype)?.with_quant(placement.quant);
        built(TEXT_ENCODER, Umt5::new(&config, &headers))?;
        let text = memory_of(&headers, config.working_bytes(texts.iter().copied().max().unwrap_or(0), dtype));

        let mut denoise = PartMemory::default();
        for (index, expert) in model.transformers.iter().enumerate() {
            let config = dit_config(model, index)?;
            let headers = headers_of(TRANSFORMER, expert, &dit_key_maps(), dtype)?.with_quant(placement.quant);
            built(TRANSFORMER, WanModel::new(&config, &headers))?;
            let [pt, ph, pw] = config.patch_size;
            let tokens = (f / pt) * (h / ph) * (w / pw);
            let prepared =
                texts.iter().map(|&text| config.prepared_bytes(text, dtype, crate::run::denoise::CACHE_BYTES));
            // A step cache keeps two tensors of the tokens' size per prediction, and holds one more meanwhile.
            let kept = if demand.cached { 2 * texts.len() + 1 } else { 0 };
            let kept = kept * tokens * config.dim() * dtype.size_in_bytes();
            // The rays of a camera are as large as a clip of 24 channels, six for each of a latent frame's four frames.
            let pixels = f * h * w * config.camera_scale.pow(2);
            let rays = if config.camera { 24 * pixels * dtype.size_in_bytes() } else { 0 };
            let given = rays + texts.len() * config.conditioning_bytes(tokens, dtype);
            let replays = placement.gpu_memory.is_some() && !placement.offload && !demand.cached;
            let replayed = if replays { texts.len() * config.replay_bytes(tokens, dtype) } else { 0 };
            let working = config.working_bytes(tokens, dtype) + prepared.sum::<usize>() + given + kept + replayed;
            let mut expert = memory_of(&headers, working);
            if placement.offload {
                // Two of them are on the device.
                let blocks = headers.bytes_of("blocks.") as u64;
                expert.weights -= blocks - 2 * blocks.div_ceil(config.num_layers.max(2) as u64);
            }
            denoise = if expert.total() > denoise.total() { expert } else { denoise };
        }
        // The sampler's latents and the predictions, f32.
        let latents = (6 + 2 * texts.len()) * c * f * h * w * DType::F32.size_in_bytes();
        denoise.working += latents as u64;

        let config = vae_config(model)?;
        let dtype = vae_dtype(placement);
        let headers = headers_of(VAE, &model.vae, &vae_key_maps(&config), dtype)?;
        built(VAE, WanVae::new(&config, &headers, Parts::Decoder))?;
        let threads = if placement.device.is_cpu() { demand.threads } else { 0 };
        let decoding = match demand.tile {
            Some(side) => config.tile_decoding_bytes(h, w, side, threads),
            None => config.decoding_bytes(h, w, threads),
        };
        let decoding = decoding * dtype.size_in_bytes() / DType::F32.size_in_bytes();
        let working = decoding + writing_bytes(&config.latent_format(), h, w);
        Ok(PartsMemory { text, denoise, decode: memory_of(&headers, working) })
    }

    fn tile_that_fits(
        &self,
        model: &Model,
        placement: &Placement,
        [h, w]: [usize; 2],
        threads: usize,
        bytes: u64,
    ) -> Result<Option<usize>> {
        let config = vae_config(model)?;
        let frames = writing_bytes(&config.latent_format(), h, w);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(frames);
        // The configuration counts in f32.
        let bytes = bytes.saturating_mul(DType::F32.size_in_bytes() / vae_dtype(placement).size_in_bytes());
        Ok(config.side_that_fits(h, w, threads, bytes))
    }

    fn vae(&self, model: &Model, parts: Parts, placement: &Placement) -> Result<Box<dyn VideoVae>> {
        let config = vae_config(model)?;
        let placement = Placement { dtype: vae_dtype(placement), quant: None, ..placement.clone() };
        let weights = open(VAE, &model.vae, &vae_key_maps(&config), &placement)?;
        Ok(Box::new(built(VAE, WanVae::new(&config, &weights, parts))?))
    }
}

/// As in diffusers' examples the VAE stays f32 whatever the transformer's dtype: it is where 16 bits show. On CUDA
/// devices, whose tensor cores take no f32, it has the 16 bits with the longer mantissa, unless the transformer is f32.
fn vae_dtype(placement: &Placement) -> DType {
    if placement.device.is_cuda() && placement.dtype != DType::F32 { DType::F16 } else { DType::F32 }
}

/// What the transformer's configuration and the VAE's `channels` say that it can be given.
fn takes(model: &Model, dit: &WanConfig, channels: usize) -> Result<Takes> {
    let wrong = |reason: String| Err(Error::NotAModel { path: model.place.clone(), reason });
    let (inputs, outputs) = (dit.in_channels, dit.out_channels);
    if outputs != channels || inputs < channels {
        return wrong(format!("its transformer goes from {inputs} to {outputs} channels, its VAE has {channels}"));
    }
    let (encoder, pair) = (dit.image_dim.is_some(), dit.pos_embed_seq_len.is_some());
    let camera = dit.camera;
    let images = match inputs - channels {
        0 if !dit.vace_layers.is_empty() => Images::Control,
        0 if model.clean_frames => Images::CleanFrames,
        0 => Images::None,
        extra if extra == channels => Images::Channels { mask: false, encoder, pair },
        extra if extra == channels + MASK_CHANNELS => Images::Channels { mask: true, encoder, pair },
        extra => {
            return wrong(format!("its transformer takes {extra} channels beside the latents, for what is unknown"));
        }
    };
    Ok(Takes { images, camera })
}

fn image_config(model: &Model) -> Result<ClipVisionConfig> {
    match model.image_encoder.as_ref().and_then(|part| part.config.as_ref()) {
        Some(config) => Ok(ClipVisionConfig::from_json(config.to_string().as_bytes())?),
        None => Ok(ClipVisionConfig::default()),
    }
}

fn image_key_maps() -> Vec<KeyMap> {
    kinora_image_encoder::key_maps()
}

fn text_config(model: &Model) -> Result<Umt5Config> {
    let json = model.text_encoder.config.as_ref().map_or_else(|| UMT5_XXL.to_string(), ToString::to_string);
    Ok(Umt5Config::from_json(json.as_bytes())?)
}

fn vae_config(model: &Model) -> Result<VaeConfig> {
    match (&model.vae.config, model.manifest.vae.as_deref()) {
        (Some(config), _) => Ok(VaeConfig::from_json(&config.to_string())?),
        (None, Some("wan2.2")) => Ok(VaeConfig::wan22()),
        (None, _) => Ok(VaeConfig::wan21()),
    }
}

fn dit_config(model: &Model, expert: usize) -> Result<WanConfig> {
    let part = &model.transformers[expert];
    if let Some(config) = part.config.as_ref().or(model.manifest.transformer.as_ref()) {
        return Ok(WanConfig::from_diffusers_config(config.to_string().as_bytes())?);
    }
    Ok(WanConfig::infer(&headers_of(TRANSFORMER, part, &dit_key_maps(), DType::F32)?.shapes())?)
}

fn text_key_maps() -> [KeyMap; 2] {
    [umt5::canonical_from_transformers(), KeyMap::identity("original")]
}

fn vae_key_maps(config: &VaeConfig) -> [KeyMap; 2] {
    [kinora_vae::wan::canonical_from_diffusers(config), KeyMap::identity("original")]
}

fn dit_key_maps() -> [KeyMap; 2] {
    [kinora_dit::wan::canonical_from_diffusers(), KeyMap::identity("original")]
}

fn open(component: &'static str, part: &Part, key_maps: &[KeyMap], placement: &Placement) -> Result<Weights> {
    let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
    let weights = part.weights(&key_maps, &placement.device, placement.dtype);
    Ok(weights.map_err(|source| Error::Component { component, source })?.with_quant(placement.quant))
}

/// Weights that check a module against the files without reading data.
fn headers_of(component: &'static str, part: &Part, key_maps: &[KeyMap], dtype: DType) -> Result<Weights> {
    let key_maps: Vec<&KeyMap> = key_maps.iter().collect();
    part.headers(&key_maps, dtype).map_err(|source| Error::Component { component, source })
}

fn memory_of(headers: &Weights, working: usize) -> PartMemory {
    PartMemory { weights: headers.bytes() as u64, working: working as u64 }
}

fn finished(component: &'static str, headers: &Weights) -> Result<()> {
    headers.finish().map(drop).map_err(|source| Error::Component { component, source })
}

/// Says which part it is that misses a tensor or holds a bad one.
fn built<T, E: Into<Error>>(component: &'static str, module: std::result::Result<T, E>) -> Result<T> {
    module.map_err(|error| match error.into() {
        Error::Text(kinora_text_encoder::Error::Checkpoint(source))
        | Error::Dit(kinora_dit::Error::Checkpoint(source))
        | Error::Image(kinora_image_encoder::Error::Checkpoint(source))
        | Error::Vae(kinora_vae::Error::Checkpoint(source)) => Error::Component { component, source },
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Manifests say what the configurations mean, and how large they are.
    #[test]
    fn known_variants_are_what_their_manifests_say() {
        for manifest in crate::Manifest::known() {
            let model = Model::random(&manifest.name).expect("a known name");
            let limits = Wan.limits(&model).unwrap_or_else(|error| panic!("{}: {error}", manifest.name));
            assert_eq!(limits.takes.words(), manifest.takes, "{}", manifest.name);
            let mut parameters = 0;
            for (index, part) in model.transformers.iter().enumerate() {
                let headers = headers_of(TRANSFORMER, part, &dit_key_maps(), DType::F32).expect("a recorder");
                built(TRANSFORMER, WanModel::new(&dit_config(&model, index).expect("a configuration"), &headers))
                    .unwrap_or_else(|error| panic!("{}: {error}", manifest.name));
                let tensors = headers.asked();
                parameters += tensors.values().map(|shape| shape.iter().product::<usize>()).sum::<usize>();
            }
            assert_eq!(parameters as u64, manifest.parameters.transformer, "{}", manifest.name);
        }
    }

    #[test]
    fn a_shortened_text_encoder_says_how_many_layers_it_had() {
        let mut model = Model::random("wan2.1-t2v-1.3b").expect("a known name");
        for layers in [0, 25] {
            assert!(matches!(Wan.shorten_text_encoder(&mut model, layers), Err(Error::Request { .. })));
        }
        assert_eq!(Wan.shorten_text_encoder(&mut model, 2).expect("2 of 24"), 24);
        let config = text_config(&model).expect("a configuration");
        assert_eq!((config.num_layers, config.d_model), (2, 4096));
    }
}
