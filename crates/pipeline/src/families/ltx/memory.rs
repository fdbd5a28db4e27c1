//! The memory of the stages of an LTX-2.x model, from shapes alone.

use super::limits::audio_latents;
use super::parts::{
    audio_config, built, connectors_config, connectors_key_maps, dit_config, dit_key_maps, text_config, text_key_maps,
    vae_config, vae_key_maps, vocoder_config,
};
use super::predictor::KV_CACHE_BYTES;
use crate::Result;
use crate::model::Model;
use crate::model::role::Role;
use crate::plan::memory::{Demand, PartMemory, PartsMemory};
use crate::plan::placement::Placement;
use crate::run::decode::writing_bytes;
use candle_core::DType;
use kinora_audio::ltx::AudioVae;
use kinora_audio::vocoder::{self, Vocoder};
use kinora_checkpoint::Weights;
use kinora_dit::ltx::{Geometry, LtxModel};
use kinora_text_encoder::{CausalLm, Connectors};
use kinora_vae::Parts;
use kinora_vae::ltx::LtxVae;

/// The memory of each stage.
pub(super) fn memory(model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory> {
    let texts: Vec<usize> = demand.texts.iter().map(|&tokens| tokens.min(model.manifest.text_len)).collect();
    Ok(PartsMemory {
        text: text(model, placement, &texts)?,
        denoise: denoise(model, placement, demand, &texts)?,
        decode: decode(model, placement, demand)?,
    })
}

/// The largest side of tiles with which frames of `h × w` latent pixels are decoded within `bytes`.
pub(super) fn tile_that_fits(
    model: &Model,
    placement: &Placement,
    [h, w]: [usize; 2],
    threads: usize,
    bytes: u64,
) -> Result<Option<usize>> {
    let config = vae_config(model)?;
    let format = config.latent_format(Vec::new(), Vec::new());
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(writing_bytes(&format, h, w));
    // The configuration counts in f32.
    let bytes = bytes.saturating_mul(DType::F32.size_in_bytes() / placement.pixel_dtype().size_in_bytes());
    Ok(config.side_that_fits(h, w, threads, bytes))
}

/// The language model, one layer of which is in memory at a time, then the connectors.
fn text(model: &Model, placement: &Placement, texts: &[usize]) -> Result<PartMemory> {
    let (config, connectors, dtype) = (text_config(model)?, connectors_config(model)?, placement.dtype);
    let longest = texts.iter().copied().max().unwrap_or(0);
    let headers = model.component(Role::TextEncoder)?.headers(&text_key_maps(), dtype)?;
    let headers = headers.planned_on(&placement.device);
    built(Role::TextEncoder, CausalLm::new(&config, &headers))?;
    let language = PartMemory {
        weights: config.weight_bytes(&headers) as u64,
        working: (config.working_bytes(&[longest], dtype) + connectors.feature_bytes(&[longest], dtype)) as u64,
    };
    let headers = model.component(Role::Connectors)?.headers(&connectors_key_maps(), dtype)?;
    let headers = headers.planned_on(&placement.device);
    built(Role::Connectors, Connectors::new(&connectors, &headers))?;
    let connecting = PartMemory {
        weights: connectors.weight_bytes(&headers) as u64,
        working: connectors.working_bytes(&[longest], model.manifest.text_len, dtype) as u64,
    };
    Ok(if language.total() > connecting.total() { language } else { connecting })
}

/// The transformer, with everything that the steps hold.
fn denoise(model: &Model, placement: &Placement, demand: &Demand, texts: &[usize]) -> Result<PartMemory> {
    let transformer = model.component(Role::Transformer)?;
    let (config, dtype, [_, f, h, w]) = (dit_config(model, transformer)?, placement.dtype, demand.latents);
    let headers =
        transformer.headers(&dit_key_maps(), dtype)?.with_quant(placement.quant).planned_on(&placement.device);
    built(transformer.role, LtxModel::new(&config, &headers))?;
    let fps = model.manifest.defaults.fps;
    let geometry = Geometry { video: [f, h, w], audio: audio_latents(model, f)?, frame_rate: fps };
    let rows = model.manifest.text_len;
    let prepared = texts.len() * config.prepared_bytes(rows, dtype, KV_CACHE_BYTES);
    let tokens = geometry.video_tokens() * config.video.dim() + geometry.audio * config.audio.dim();
    // A step cache keeps two tensors of the tokens' size per prediction, and holds one more meanwhile.
    let kept = if demand.cached { 2 * texts.len() + 1 } else { 0 } * tokens * dtype.size_in_bytes();
    let replays = placement.gpu_memory.is_some() && !placement.offload && !demand.cached;
    let replayed = if replays { texts.len() * config.replay_bytes(&geometry, dtype) } else { 0 };
    // The sampler's latents, and the predictions of up to four passes, f32.
    let latents = demand.latents.iter().product::<usize>() + geometry.audio * config.audio.channels;
    let sampled = 14 * latents * DType::F32.size_in_bytes();
    let working = config.working_bytes(&geometry, true, dtype) + prepared + kept + replayed + sampled;
    let mut part = memory_of(&headers, working);
    if placement.offload {
        let block = headers.bytes_of("transformer_blocks.0.");
        part.weights -= (block * config.num_layers.saturating_sub(2)) as u64;
    }
    Ok(part)
}

/// The decoder of frames; that of sound and the vocoder are in memory before it.
fn decode(model: &Model, placement: &Placement, demand: &Demand) -> Result<PartMemory> {
    let (config, dtype, [_, f, h, w]) = (vae_config(model)?, placement.pixel_dtype(), demand.latents);
    let component = model.component(Role::Vae)?;
    let headers = component.headers(&vae_key_maps(&config), dtype)?;
    built(component.role, LtxVae::new(&config, &headers, Parts::Decoder))?;
    let threads = if placement.device.is_cpu() { demand.threads } else { 0 };
    let decoding = match demand.tile {
        Some(side) => config.tile_decoding_bytes(h, w, side, threads),
        None => config.decoding_bytes(h, w, threads),
    };
    let decoding = decoding * dtype.size_in_bytes() / DType::F32.size_in_bytes();
    let format = config.latent_format(Vec::new(), Vec::new());
    let frames = memory_of(&headers, decoding + writing_bytes(&format, h, w));
    let sound = sound(model, f, threads)?;
    Ok(if sound.total() > frames.total() { sound } else { frames })
}

/// The decoder of sound and the vocoder, of a clip of so many latent frames.
fn sound(model: &Model, frames: usize, threads: usize) -> Result<PartMemory> {
    let (config, vocoder) = (audio_config(model)?, vocoder_config(model)?);
    let audio = model.component(Role::AudioVae)?.headers(&kinora_audio::ltx::key_maps(), DType::F32)?;
    built(Role::AudioVae, AudioVae::new(&config, &audio, kinora_audio::Parts::Decoder))?;
    let headers = model.component(Role::Vocoder)?.headers(&vocoder::key_maps(), DType::F32)?;
    built(Role::Vocoder, Vocoder::new(&vocoder, &headers))?;
    let latents = audio_latents(model, frames)?;
    let mel = latents * config.factor() - (config.factor() - 1);
    let working = config.decoding_bytes(latents, threads).max(vocoder.bytes(mel));
    Ok(PartMemory { weights: (audio.bytes() + headers.bytes()) as u64, working: working as u64 })
}

fn memory_of(headers: &Weights, working: usize) -> PartMemory {
    PartMemory { weights: headers.bytes() as u64, working: working as u64 }
}
