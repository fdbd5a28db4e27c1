//! Peak memory of streamed decoding, with random weights: it must not grow with the number of frames.
//!
//! `cargo run -p kinora-vae --example decode_memory -- wan21|wan22|small WIDTH HEIGHT FRAMES` (Linux)
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::LargeBlocks;
use kinora_vae::wan::{Config, WanVae};
use kinora_vae::{Parts, VideoVae};
use mimalloc::MiMalloc;
use std::error::Error;
use std::time::Instant;

/// As in the binary, whose memory this is about.
#[global_allocator]
static ALLOCATOR: LargeBlocks<MiMalloc> = LargeBlocks(MiMalloc);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, width, height, count] = arguments.as_slice() else {
        return Err("usage: decode_memory wan21|wan22|small WIDTH HEIGHT FRAMES".into());
    };
    let vae = WanVae::new(&config(model)?, &Weights::random(0, &Device::Cpu, DType::F32), Parts::Decoder)?;
    let format = vae.latent_format();
    let (width, height) =
        (width.parse::<usize>()? / format.spatial_factor, height.parse::<usize>()? / format.spatial_factor);
    let loaded = peak_mib()?;

    let start = Instant::now();
    let mut decoder = vae.decoder()?;
    let (mut frames_done, mut peaks) = (0, Vec::new());
    for _ in 0..format.latent_frames(count.parse()?) {
        let latents = Tensor::randn(0f32, 1f32, (1, format.channels, 1, height, width), &Device::Cpu)?;
        frames_done += frames(decoder.push(&latents)?)?;
        peaks.push(peak_mib()?);
    }
    frames_done += frames(decoder.finish()?)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{model}: {frames_done} frames in {seconds:.1} s; peak MiB: {loaded} loaded, after each push {peaks:?}");
    Ok(())
}

fn frames(pixels: Option<Tensor>) -> Result<usize, Box<dyn Error>> {
    Ok(pixels.map(|pixels| pixels.dim(2)).transpose()?.unwrap_or(0))
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
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? / 1024)
}
