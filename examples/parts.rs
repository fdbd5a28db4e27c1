//! A denoising loop of one's own over the parts of a model, each a crate that knows nothing of the others: text encoder, transformer,
//! sampler, VAE. Here the prompt fades into another one half way.
//! `cargo run --release -p kinora --example parts -- models/embedded "a red ball" "a blue ball"` takes a directory of Wan in diffusers' layout.
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use candle_core::{DType, Device, Tensor};
use kinora::{Picture, SamplerKind};
use kinora_checkpoint::Weights;
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{Conditioning, VideoDit};
use kinora_sampler::{NoiseSource, Sampler, Schedule, StepInfo, Streams, cfg, x0_from_velocity};
use kinora_text_encoder::{TextEncoder, TextStage, Tokenizer, Umt5, Umt5Config, umt5};
use kinora_vae::wan::{Config as VaeConfig, WanVae};
use kinora_vae::{Parts, VideoVae};
use std::error::Error;
use std::fs;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Tokens of a prompt: 512 in released models, 32 in the embedded one.
const TEXT_LEN: usize = 32;
const WIDTH: usize = 112;
const HEIGHT: usize = 64;
const FRAMES: usize = 17;
const STEPS: usize = 16;
const SHIFT: f64 = 3.0;
const GUIDANCE_SCALE: f64 = 3.0;
/// The name of the one stream of latents.
const VIDEO: &str = "video";

/// Makes the clip.
pub fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(model), Some(prompt)) = (words.next(), words.next()) else {
        return Err("give a directory and one or two prompts".into());
    };
    let then = words.next().unwrap_or_else(|| prompt.clone());
    let latents = denoise(model.as_ref(), &prompt, &then, 7)?;
    for (number, frame) in decode(model.as_ref(), &latents)?.iter().enumerate() {
        let path = std::env::temp_dir().join(format!("kinora-parts-{number:02}.png"));
        frame.write_png(&path)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Returns the latents `[1, C, F, h, w]` of a clip that begins with `prompt` and goes on with `then`.
pub fn denoise(model: &Path, prompt: &str, then: &str, seed: u64) -> Result<Tensor> {
    // Each part is dropped when its work is done, so that only one is in memory.
    let [first, second, negative] = {
        let text = text_encoder(model)?;
        [text.encode(prompt)?.tensor, text.encode(then)?.tensor, text.encode("")?.tensor]
    };
    let dit = transformer(model)?;
    let prepared = [&first, &second, &negative].map(|context| dit.prepare(&Conditioning::new(context.clone()), 0));
    let [first, second, negative] = prepared;
    let (first, second, negative) = (first?, second?, negative?);

    let format = vae_config(model)?.latent_format();
    let (h, w) = (HEIGHT / format.spatial_factor, WIDTH / format.spatial_factor);
    let shape = [1, format.channels, format.latent_frames(FRAMES), h, w];
    let noise = NoiseSource::new(seed).randn_tensor(&shape[..], &Device::Cpu)?;
    let x = Streams::single(VIDEO, noise);
    let mut sampler = Sampler::new(SamplerKind::UniPc, Schedule::flow(STEPS, SHIFT)?, x, seed)?;
    while !sampler.is_done() {
        sampler.step::<Box<dyn Error>>(&mut |x: &Streams, step: StepInfo| {
            println!("step {} of {STEPS}, noise level {:.3}", step.index + 1, step.sigma);
            let x = x.get(VIDEO)?;
            let timestep = Tensor::new(&[step.timestep as f32], &Device::Cpu)?;
            let context = if step.index < STEPS / 2 { &first } else { &second };
            let [with, without] = [context, &negative].map(|prepared| dit.forward(x, &timestep, prepared));
            let velocity = cfg(&with?, &without?, GUIDANCE_SCALE)?;
            Ok(Streams::single(VIDEO, x0_from_velocity(x, &velocity, step.sigma)?))
        })?;
    }
    Ok(sampler.x().get(VIDEO)?.clone())
}

/// Returns the frames of `latents [1, C, F, h, w]`.
pub fn decode(model: &Path, latents: &Tensor) -> Result<Vec<Picture>> {
    let config = vae_config(model)?;
    let key_maps = [kinora_vae::wan::canonical_from_diffusers(&config)];
    let vae = WanVae::new(&config, &weights(model, "vae", &key_maps)?, Parts::Decoder)?;
    let pixels = vae.decode(latents)?.squeeze(0)?; // [3, F, H, W], -1..1
    let pixels = ((pixels.clamp(-1f32, 1f32)? + 1.0)? * 127.5)?.round()?.to_dtype(DType::U8)?;
    let pixels = pixels.permute((1, 2, 3, 0))?; // [F, H, W, 3]
    let (frames, height, width, _) = pixels.dims4()?;
    let picture = |frame: usize| Ok(Picture::new(width, height, pixels.get(frame)?.flatten_all()?.to_vec1()?)?);
    (0..frames).map(picture).collect()
}

fn text_encoder(model: &Path) -> Result<TextStage> {
    let tokenizer = Tokenizer::from_bytes(&fs::read(model.join("tokenizer/tokenizer.json"))?)?;
    let config = Umt5Config::from_json(&fs::read(model.join("text_encoder/config.json"))?)?;
    let encoder = Umt5::new(&config, &weights(model, "text_encoder", &umt5::key_maps())?)?;
    Ok(TextStage::new(tokenizer, encoder, TEXT_LEN)?)
}

fn transformer(model: &Path) -> Result<WanModel> {
    let config = WanConfig::from_diffusers_config(&fs::read(model.join("transformer/config.json"))?)?;
    let key_maps = [kinora_dit::wan::canonical_from_diffusers()];
    Ok(WanModel::new(&config, &weights(model, "transformer", &key_maps)?)?)
}

fn vae_config(model: &Path) -> Result<VaeConfig> {
    Ok(VaeConfig::from_json(&fs::read_to_string(model.join("vae/config.json"))?)?)
}

/// Opens the safetensors files of a component; they are read when a module asks for its tensors.
fn weights(model: &Path, component: &str, key_maps: &[kinora_checkpoint::KeyMap]) -> Result<Weights> {
    let entries = fs::read_dir(model.join(component))?.collect::<std::io::Result<Vec<_>>>()?;
    let files = entries.iter().map(fs::DirEntry::path);
    let files: Vec<_> = files.filter(|file| file.extension().is_some_and(|name| name == "safetensors")).collect();
    let key_maps: Vec<_> = key_maps.iter().collect();
    Ok(Weights::open(&files, &key_maps, &Device::Cpu, DType::F32)?)
}
