//! Speed and memory of a model's parts, with its own weights or with random ones of the same shapes.

use crate::families::{Family, Placement, family_of};
use crate::manifest::Manifest;
use crate::plan::{Limits, check_reach};
use crate::source::Model;
use crate::{Error, LoadOptions, Result, device};
use candle_core::{DType, Tensor};
use kinora_dit::Conditioning;
use kinora_sampler::NoiseSource;
use serde::Serialize;
use std::time::Instant;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchOptions {
    /// The model and where it runs.
    pub load: LoadOptions,
    /// Take random weights of this known variant instead of `load.model`.
    pub random: Option<String>,
    /// Width, height and frames; `None` is the model's own.
    pub size: Option<[usize; 3]>,
    /// Measure the text encoder.
    pub text: bool,
    /// Measure the transformer.
    pub dit: bool,
    /// Measure VAE decoding.
    pub vae: bool,
    /// Timed runs of each part, after one that is not timed.
    pub runs: usize,
}

/// One measured part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// `text`, `dit` or `vae`.
    pub part: &'static str,
    /// What one run is, in words.
    pub work: String,
    /// Median seconds of a run.
    pub seconds: f64,
    /// Fastest run.
    pub fastest: f64,
    /// Slowest run.
    pub slowest: f64,
    /// Runs (steps for the transformer, prompts for the text encoder, frames for the VAE) per second, by the median.
    pub per_second: f64,
    /// 10⁹ floating-point operations per second, by the median; not counted for the VAE.
    pub gflops: Option<f64>,
    /// Highest resident memory of the process so far, bytes (Linux).
    pub peak_memory: Option<u64>,
}

struct Bench {
    model: Model,
    family: &'static dyn Family,
    limits: Limits,
    placement: Placement,
    size: [usize; 3],
    runs: usize,
}

/// Measures what `options` ask for, one row per part; `on_part` is called with the name of each before it starts.
///
/// # Errors
/// A model that is not there or does not load, and sizes that it cannot make.
pub fn bench(options: &BenchOptions, mut on_part: impl FnMut(&str) + Send) -> Result<Vec<Measurement>> {
    let device = device::open(&options.load.device)?;
    let dtype = options.load.dtype.unwrap_or(if device.is_cpu() { DType::F32 } else { DType::BF16 });
    let model = match &options.random {
        Some(name) => Model::random(name)?,
        None => Model::find(&options.load.model)?,
    };
    let family = family_of(&model)?;
    let limits = family.limits(&model)?;
    if options.random.is_none() {
        family.check(&model)?;
    }
    let Manifest { defaults, .. } = &model.manifest;
    let size = options.size.unwrap_or([defaults.width, defaults.height, defaults.frames]);
    let bench =
        Bench { placement: Placement { device, dtype }, size, runs: options.runs.max(1), model, family, limits };
    bench.check_size()?;
    device::threads(options.load.threads)?.install(|| {
        let mut rows = Vec::new();
        let parts: [(&str, bool, Measure); 3] =
            [("text", options.text, Bench::text), ("dit", options.dit, Bench::dit), ("vae", options.vae, Bench::vae)];
        for (name, wanted, measure) in parts {
            if wanted {
                on_part(name);
                rows.push(measure(&bench)?);
            }
        }
        Ok(rows)
    })
}

type Measure = fn(&Bench) -> Result<Measurement>;

impl Bench {
    fn text(&self) -> Result<Measurement> {
        let encoder = self.family.text_encoder(&self.model, &self.placement)?;
        let tokens = self.model.manifest.text_len;
        let prompt = "x ".repeat(2 * tokens); // more than enough: cut to `tokens`
        let flops = self.family.text_flops(&self.model, tokens)?;
        let times = self.time(|| encoder.encode(&prompt).map(drop).map_err(Error::from))?;
        Ok(measurement("text", format!("a prompt of {tokens} tokens"), &times, 1.0, Some(flops)))
    }

    fn dit(&self) -> Result<Measurement> {
        let dit = self.family.dit(&self.model, 0, &self.placement)?;
        let shape = self.latent_shape();
        let (text_len, text_dim) = (self.model.manifest.text_len, self.family.text_dim(&self.model)?);
        let (device, dtype) = (&self.placement.device, self.placement.dtype);
        let mut noise = NoiseSource::new(0);
        let context = noise.randn_tensor((1, text_len, text_dim), device)?.to_dtype(dtype)?;
        let latents = noise.randn_tensor(&shape[..], device)?.to_dtype(dtype)?;
        let timestep = Tensor::new(&[500f32], device)?;
        let prepared = dit.prepare(&Conditioning::new(context), crate::denoise::CACHE_BYTES)?;
        let patch = dit.patch_size();
        let tokens = (shape[2] / patch[0]) * (shape[3] / patch[1]) * (shape[4] / patch[2]);
        let flops = self.family.dit_flops(&self.model, tokens)?;
        let times = self.time(|| {
            // Reading one value back waits for devices that compute behind the caller's back.
            dit.forward(&latents, &timestep, &prepared)?
                .flatten_all()?
                .get(0)?
                .to_dtype(DType::F32)?
                .to_scalar::<f32>()?;
            Ok(())
        })?;
        Ok(measurement("dit", format!("a step without guidance, {tokens} tokens"), &times, 1.0, Some(flops)))
    }

    fn vae(&self) -> Result<Measurement> {
        let vae = self.family.vae(&self.model, &self.placement)?;
        let shape = self.latent_shape();
        let latents = NoiseSource::new(0).randn_tensor(&shape[..], &self.placement.device)?;
        let times = self.time(|| {
            let mut decoder = vae.decoder();
            for frame in 0..shape[2] {
                decoder.push(&latents.narrow(2, frame, 1)?)?;
            }
            Ok(())
        })?;
        let frames = self.limits.latent_format.pixel_frames(shape[2]);
        let work = format!("decoding {frames} frames of {}×{}", self.size[0], self.size[1]);
        Ok(measurement("vae", work, &times, frames as f64, None))
    }

    fn latent_shape(&self) -> [usize; 5] {
        let format = &self.limits.latent_format;
        let [width, height, frames] = self.size;
        let factor = format.spatial_factor;
        [1, format.channels, format.latent_frames(frames), height / factor, width / factor]
    }

    fn check_size(&self) -> Result<()> {
        let [width, height, frames] = self.size;
        let factor = self.limits.latent_format.spatial_factor;
        let (step_h, step_w) = (factor * self.limits.patch[1], factor * self.limits.patch[2]);
        let fits = |size: usize, step: usize| size > 0 && size <= 4096 && size.is_multiple_of(step);
        if fits(width, step_w) && fits(height, step_h) && frames > 0 {
            let [_, c, f, h, w] = self.latent_shape();
            return check_reach([c, f, h, w], &self.limits);
        }
        let hint =
            format!("width and height are multiples of {step_w} and {step_h} up to 4096, with one frame at least");
        Err(Error::request(format!("a size of {width}x{height}x{frames} is not possible"), hint))
    }

    /// Seconds of each timed run, sorted.
    fn time(&self, mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        run()?;
        let mut times = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn measurement(part: &'static str, work: String, times: &[f64], units: f64, flops: Option<f64>) -> Measurement {
    let seconds = times[times.len() / 2];
    Measurement {
        part,
        work,
        seconds,
        fastest: times[0],
        slowest: times[times.len() - 1],
        per_second: units / seconds,
        gflops: flops.map(|flops| flops / seconds / 1e9),
        peak_memory: peak_memory(),
    }
}

/// Highest resident set of this process, where the system says it (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
