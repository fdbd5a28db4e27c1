//! Measures the released sizes with random weights: `sound SECONDS THREADS [ltx20|ltx23]` prints the time of each network and the peak of memory
//! beside its weights (Linux).
#![allow(clippy::print_stdout, reason = "an example says what it found")]

use candle_core::{DType, Device, Tensor};
use kinora_audio::ltx::{AudioVae, Config};
use kinora_audio::vocoder::{Vocoder, VocoderConfig};
use kinora_audio::{Parts, resample};
use kinora_checkpoint::Weights;
use kinora_kernels::LargeBlocks;
use mimalloc::MiMalloc;
use std::error::Error;
use std::time::Instant;

/// As in the binary, whose memory this is about.
#[global_allocator]
static ALLOCATOR: LargeBlocks<MiMalloc> = LargeBlocks(MiMalloc);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(seconds), Some(threads)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: sound SECONDS THREADS [ltx20|ltx23]".into());
    };
    let config = match arguments.get(2).map(String::as_str) {
        Some("ltx20") => VocoderConfig::ltx20(),
        _ => VocoderConfig::ltx23(),
    };
    let (seconds, threads): (f64, usize) = (seconds.parse()?, threads.parse()?);
    rayon_pool(threads)?;
    let weights = Weights::random(0, &Device::Cpu, DType::F32);
    let vae = AudioVae::new(&Config::ltx2(), &weights, Parts::Both)?;
    let latents = vae.format().latents_in(seconds);
    let random = Tensor::randn(0f32, 1f32, (1, 8, latents, 16), &Device::Cpu)?;
    let mel = measured("decode", Config::ltx2().decoding_bytes(latents, threads), || Ok(vae.decode(&random)?))?;
    measured("encode", Config::ltx2().encoding_bytes(mel.dim(2)?, threads), || Ok(vae.encode(&mel)?))?;
    let vocoder = Vocoder::new(&config, &weights)?;
    let waveform = measured("vocoder", config.bytes(mel.dim(2)?), || Ok(vocoder.forward(&mel)?))?;
    let rate = vae.format().sample_rate;
    let low = measured("resample", 0, || Ok(resample(&waveform, vocoder.sample_rate(), rate)?))?;
    let spectrogram = vae.mel_spectrogram()?;
    measured("mel spectrogram", 0, || Ok(spectrogram.forward(&low)?))?;
    Ok(())
}

/// Uses so many threads for everything that follows.
fn rayon_pool(threads: usize) -> Result<(), Box<dyn Error>> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?)
}

fn measured(
    name: &str,
    planned: usize,
    work: impl FnOnce() -> Result<Tensor, Box<dyn Error>>,
) -> Result<Tensor, Box<dyn Error>> {
    std::fs::write("/proc/self/clear_refs", "5")?; // the peak starts again
    let (before, start) = (resident("VmRSS:")?, Instant::now());
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = resident("VmHWM:")?.saturating_sub(before);
    let planned = planned / 1024 / 1024;
    println!("{name}: {:?} in {seconds:.2} s; {peak} MiB, planned {planned} MiB", result.dims());
    Ok(result)
}

/// Returns a line of this process's status, in MiB.
fn resident(name: &str) -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<usize>()? / 1024)
}
