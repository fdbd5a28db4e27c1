//! The memory of the stages of a Wan model, from shapes alone.

use super::files::{built, dit_config, dit_key_maps, text_config, text_key_maps, vae_config, vae_key_maps};
use super::limits::RAY_CHANNELS;
use super::predictor::KV_CACHE_BYTES;
use crate::Result;
use crate::model::Model;
use crate::model::component::Component;
use crate::model::role::Role;
use crate::plan::memory::{Demand, PartMemory, PartsMemory};
use crate::plan::placement::Placement;
use crate::run::decode::writing_bytes;
use candle_core::DType;
use kinora_checkpoint::Weights;
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_text_encoder::Umt5;
use kinora_vae::Parts;
use kinora_vae::wan::WanVae;
use std::collections::BTreeMap;

/// The memory of each stage.
pub(super) fn memory(model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory> {
    let texts: Vec<usize> = demand.texts.iter().map(|&tokens| tokens.min(model.manifest.text_len)).collect();
    Ok(PartsMemory {
        text: text(model, placement, texts.iter().copied().max().unwrap_or(0))?,
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
    let frames = writing_bytes(&config.latent_format(), h, w);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(frames);
    // The configuration counts in f32.
    let bytes = bytes.saturating_mul(DType::F32.size_in_bytes() / placement.pixel_dtype().size_in_bytes());
    Ok(config.side_that_fits(h, w, threads, bytes))
}

/// The text encoder on a prompt of so many tokens.
fn text(model: &Model, placement: &Placement, tokens: usize) -> Result<PartMemory> {
    let (config, dtype) = (text_config(model)?, placement.dtype);
    let component = model.component(Role::TextEncoder)?;
    let headers = component.headers(&text_key_maps(), dtype)?.with_quant(placement.quant).planned_on(&placement.device);
    built(component.role, Umt5::new(&config, &headers))?;
    Ok(memory_of(&headers, config.working_bytes(tokens, dtype)))
}

/// The larger of the experts, with everything that the steps hold.
fn denoise(model: &Model, placement: &Placement, demand: &Demand, texts: &[usize]) -> Result<PartMemory> {
    let mut largest = PartMemory::default();
    for transformer in model.components(Role::Transformer) {
        let expert = expert(&dit_config(model, transformer)?, transformer, placement, demand, texts)?;
        largest = if expert.total() > largest.total() { expert } else { largest };
    }
    // The sampler's latents and the predictions, f32.
    let latents: usize = demand.latents.iter().product();
    largest.working += ((6 + 2 * texts.len()) * latents * DType::F32.size_in_bytes()) as u64;
    Ok(largest)
}

fn expert(
    config: &WanConfig,
    transformer: &Component,
    placement: &Placement,
    demand: &Demand,
    texts: &[usize],
) -> Result<PartMemory> {
    let (dtype, [_, f, h, w]) = (placement.dtype, demand.latents);
    let headers =
        transformer.headers(&dit_key_maps(), dtype)?.with_quant(placement.quant).planned_on(&placement.device);
    built(transformer.role, WanModel::new(config, &headers))?;
    let [pt, ph, pw] = config.patch_size;
    let tokens = (f / pt) * (h / ph) * (w / pw);
    let prepared: usize = texts.iter().map(|&text| config.prepared_bytes(text, dtype, KV_CACHE_BYTES)).sum();
    // A step cache keeps two tensors of the tokens' size per prediction, and holds one more meanwhile.
    let kept = if demand.cached { 2 * texts.len() + 1 } else { 0 };
    let kept = kept * tokens * config.dim() * dtype.size_in_bytes();
    let pixels = f * h * w * config.camera_scale.pow(2);
    let rays = if config.camera { RAY_CHANNELS * pixels * dtype.size_in_bytes() } else { 0 };
    let conditioning = rays + texts.len() * config.conditioning_bytes(tokens, dtype);
    let replays = placement.gpu_memory.is_some() && !placement.offload && !demand.cached;
    let replayed = if replays { texts.len() * config.replay_bytes(tokens, dtype) } else { 0 };
    let mut expert =
        memory_of(&headers, config.working_bytes(tokens, dtype) + prepared + conditioning + kept + replayed);
    if placement.offload {
        expert.weights -= offloaded_bytes(&headers, config.num_layers);
    }
    Ok(expert)
}

/// The bytes of the blocks that are not on the device where blocks are offloaded: two of each kind are. Blocks of one kind
/// have the same size.
fn offloaded_bytes(headers: &Weights, blocks: usize) -> u64 {
    let mut kinds: BTreeMap<usize, usize> = BTreeMap::new();
    for index in 0..blocks {
        *kinds.entry(headers.bytes_of(&format!("blocks.{index}."))).or_default() += 1;
    }
    kinds.into_iter().map(|(bytes, count)| (bytes * count.saturating_sub(2)) as u64).sum()
}

fn decode(model: &Model, placement: &Placement, demand: &Demand) -> Result<PartMemory> {
    let (config, dtype, [_, _, h, w]) = (vae_config(model)?, placement.pixel_dtype(), demand.latents);
    let component = model.component(Role::Vae)?;
    let headers = component.headers(&vae_key_maps(&config), dtype)?;
    built(component.role, WanVae::new(&config, &headers, Parts::Decoder))?;
    let threads = if placement.device.is_cpu() { demand.threads } else { 0 };
    let decoding = match demand.tile {
        Some(side) => config.tile_decoding_bytes(h, w, side, threads),
        None => config.decoding_bytes(h, w, threads),
    };
    let decoding = decoding * dtype.size_in_bytes() / DType::F32.size_in_bytes();
    Ok(memory_of(&headers, decoding + writing_bytes(&config.latent_format(), h, w)))
}

fn memory_of(headers: &Weights, working: usize) -> PartMemory {
    PartMemory { weights: headers.bytes() as u64, working: working as u64 }
}
