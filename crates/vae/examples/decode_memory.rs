//! Peak memory of streamed decoding or encoding, with random weights: it must not grow with the number of frames. For LTX-2.x the
//! prediction is printed beside it.
//!
//! `cargo run -p kinora-vae --example decode_memory -- wan21|wan22|small|ltx20|ltx23 WIDTH HEIGHT FRAMES [encode]` (Linux)
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::LargeBlocks;
use kinora_vae::wan::{Config, WanVae};
use kinora_vae::{Parts, VideoVae, ltx};
use mimalloc::MiMalloc;
use std::error::Error;
use std::time::Instant;

/// As in the binary, whose memory this is about.
#[global_allocator]
static ALLOCATOR: LargeBlocks<MiMalloc> = LargeBlocks(MiMalloc);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, width, height, count, rest @ ..] = arguments.as_slice() else {
        return Err("usage: decode_memory MODEL WIDTH HEIGHT FRAMES [encode]".into());
    };
    let parts = if rest.is_empty() { Parts::Decoder } else { Parts::Encoder };
    let vae = load(model, parts)?;
    let format = vae.latent_format();
    let (width, height) =
        (width.parse::<usize>()? / format.spatial_factor, height.parse::<usize>()? / format.spatial_factor);
    let (loaded, resting) = (peak_mib()?, resident_mib()?);

    let start = Instant::now();
    let latent_frames = format.latent_frames(count.parse()?);
    let (done, peaks) = if parts == Parts::Decoder {
        decode(&*vae, [height, width], latent_frames)?
    } else {
        encode(&*vae, [height, width], latent_frames)?
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{model}: {done} frames in {seconds:.1} s; peak MiB: {loaded} loaded, then {peaks:?}");
    if let Some(config) = ltx_config(model) {
        let threads = std::thread::available_parallelism()?.get();
        let bytes = match parts {
            Parts::Decoder => config.decoding_bytes(height, width, threads),
            _ => config.encoding_bytes(height, width, threads),
        };
        let found = peaks.last().unwrap_or(&loaded) - resting;
        println!("predicted beside the weights: {} MiB, found {found} MiB", bytes / (1 << 20));
    }
    Ok(())
}

/// Returns the number of frames that were decoded, and the peak after each push and in the end.
fn decode(vae: &dyn VideoVae, [h, w]: [usize; 2], latent_frames: usize) -> Result<(usize, Vec<usize>), Box<dyn Error>> {
    let (mut decoder, mut done, mut peaks) = (vae.decoder()?, 0, Vec::new());
    for _ in 0..latent_frames {
        let latents = Tensor::randn(0f32, 1f32, (1, vae.latent_format().channels, 1, h, w), &Device::Cpu)?;
        done += frames(decoder.push(&latents)?)?;
        peaks.push(peak_mib()?);
    }
    while let Some(pixels) = decoder.drain()? {
        done += pixels.dim(2)?;
    }
    peaks.push(peak_mib()?);
    Ok((done, peaks))
}

/// Returns the number of frames that were encoded, and the peak after each push.
fn encode(vae: &dyn VideoVae, [h, w]: [usize; 2], latent_frames: usize) -> Result<(usize, Vec<usize>), Box<dyn Error>> {
    let (mut encoder, mut done, mut peaks) = (vae.encoder()?, 0, Vec::new());
    let factor = vae.latent_format().spatial_factor;
    for _ in 0..latent_frames {
        let wanted = encoder.wanted();
        let pixels = Tensor::zeros((1, 3, wanted, h * factor, w * factor), DType::F32, &Device::Cpu)?;
        encoder.push(&pixels)?;
        done += wanted;
        peaks.push(peak_mib()?);
    }
    Ok((done, peaks))
}

fn frames(pixels: Option<Tensor>) -> Result<usize, Box<dyn Error>> {
    Ok(pixels.map(|pixels| pixels.dim(2)).transpose()?.unwrap_or(0))
}

fn load(model: &str, parts: Parts) -> Result<Box<dyn VideoVae>, Box<dyn Error>> {
    let weights = Weights::random(0, &Device::Cpu, DType::F32);
    Ok(match ltx_config(model) {
        Some(config) => Box::new(ltx::LtxVae::new(&config, &weights, parts)?),
        None => Box::new(WanVae::new(&config(model)?, &weights, parts)?),
    })
}

fn ltx_config(model: &str) -> Option<ltx::Config> {
    match model {
        "ltx20" => Some(ltx::Config::ltx20()),
        "ltx23" => Some(ltx::Config::ltx23()),
        _ => None,
    }
}

fn config(model: &str) -> Result<Config, Box<dyn Error>> {
    match model {
        "wan21" => Ok(Config::wan21()),
        "wan22" => Ok(Config::wan22()),
        "small" => Ok(Config { base_dim: 16, ..Config::wan21() }),
        _ => Err(format!("no model is called {model}").into()),
    }
}

/// The most memory that this process ever had resident.
fn peak_mib() -> Result<usize, Box<dyn Error>> {
    status_mib("VmHWM:")
}

/// The memory that this process has resident now.
fn resident_mib() -> Result<usize, Box<dyn Error>> {
    status_mib("VmRSS:")
}

fn status_mib(name: &str) -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.ok_or_else(|| format!("no {name} in /proc/self/status"))?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? / 1024)
}
