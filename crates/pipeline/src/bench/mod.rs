//! Speed and memory of a model's parts, with its own weights or with random ones of the same shapes.

mod report;

use crate::families::capabilities::Limits;
use crate::families::family::{Family, TimedPass};
use crate::families::{family_of, find_model, random_model};
use crate::model::Model;
use crate::model::manifest::Manifest;
pub use crate::plan::machine::peak_memory;
use crate::plan::machine::reset_peak;
use crate::plan::placement::Placement;
use crate::plan::token_grid;
use crate::{AttentionChoice, Error, LoadOptions, Result, device};
use kinora_checkpoint::Blocks;
use kinora_kernels::profile::{profiled, profiled_on};
use kinora_kernels::{gpu_peak_bytes, gpu_reset_peak_bytes};
use kinora_sampler::NoiseSource;
use kinora_vae::Parts;
use report::Runs;
pub use report::{BenchReport, Cpu, Measurement, OperatorShare, Peak, Rates};
use std::time::Instant;

/// The measurements to take.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchOptions {
    /// The model and where it runs.
    pub load: LoadOptions,
    /// Take random weights of this known variant instead of `load.model`.
    pub random: Option<String>,
    /// Width, height and frames; `None` is the model's own.
    pub size: Option<[usize; 3]>,
    /// The parts to measure, in this order.
    pub parts: Vec<BenchPart>,
    /// Build only so many layers of a text encoder with random weights, and scale the time to all of them.
    pub text_layers: Option<usize>,
    /// The same for the blocks of a transformer.
    pub dit_layers: Option<usize>,
    /// The form of random matrices, where they are not dense.
    pub blocks: Option<Blocks>,
    /// The transformer's self-attention.
    pub attention: AttentionChoice,
    /// Timed runs of each part, after one that is not timed.
    pub runs: usize,
}

/// A part of a model, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchPart {
    /// The text encoder.
    Text,
    /// One forward of the transformer.
    Dit,
    /// Decoding with the VAE.
    Vae,
    /// Encoding with the VAE.
    Encode,
}

impl BenchPart {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Text, Self::Dit, Self::Vae, Self::Encode];

    /// As it stands in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Dit => "dit",
            Self::Vae => "vae",
            Self::Encode => "encode",
        }
    }
}

/// The row of runs with `layers.0` of `layers.1` layers, if only some were measured.
fn scaled(
    runs: Runs,
    layers: Option<(usize, usize)>,
    part: BenchPart,
    work: String,
    peak: Option<Peak>,
) -> Measurement {
    match layers {
        Some((some, all)) => {
            let work = format!("{work} ({some} of {all} layers, counted for all)");
            runs.scaled(all as f64 / some as f64).measurement(part, work, 1.0, peak)
        }
        None => runs.measurement(part, work, 1.0, peak),
    }
}

struct Bench {
    model: Model,
    family: &'static dyn Family,
    limits: Limits,
    placement: Placement,
    size: [usize; 3],
    runs: usize,
    /// Layers of the text encoder that are measured, and how many there are.
    text_layers: Option<(usize, usize)>,
    /// The same for the transformer.
    dit_layers: Option<(usize, usize)>,
    attention: AttentionChoice,
    peak: Option<Peak>,
}

/// Measures what `options` ask for, one row per part; `on_part` is called with the name of each before it starts.
///
/// # Errors
/// A model that is not there or does not load, and sizes that it cannot make.
pub fn bench(options: &BenchOptions, mut on_part: impl FnMut(&str) + Send) -> Result<BenchReport> {
    let threads = device::threads(options.load.threads)?;
    let (placement, _) = Placement::of(&options.load, &threads)?;
    let mut model = match &options.random {
        Some(name) => random_model(name)?.in_blocks(options.blocks),
        None => find_model(&options.load.model)?,
    };
    let family = family_of(&model)?;
    let limits = family.limits(&model)?;
    model.add_loras(&options.load, family)?;
    if options.random.is_none() {
        family.check(&model)?;
    }
    let text_layers = match options.text_layers.filter(|_| options.random.is_some()) {
        Some(wanted) => Some((wanted, family.shorten_text_encoder(&mut model, wanted)?)),
        None => None,
    };
    let dit_layers = match options.dit_layers.filter(|_| options.random.is_some()) {
        Some(wanted) => Some((wanted, family.shorten_transformer(&mut model, wanted)?)),
        None => None,
    };
    let Manifest { defaults, .. } = &model.manifest;
    let size = options.size.unwrap_or([defaults.width, defaults.height, defaults.frames]);
    let mut bench = Bench {
        placement,
        size,
        runs: options.runs.max(1),
        model,
        family,
        limits,
        text_layers,
        dit_layers,
        attention: options.attention,
        peak: None,
    };
    bench.check_size()?;
    threads.install(|| {
        let mut cpu = None;
        if bench.placement.device.is_cpu() {
            let kinora_kernels::Peak { f32, bf16, int8 } = kinora_kernels::peak();
            bench.peak = Some(Peak { f32, bf16, int8 });
            cpu = Some(Cpu::measured()?);
        }
        let mut rows = Vec::new();
        for part in &options.parts {
            on_part(part.name());
            rows.push(match part {
                BenchPart::Text => bench.text()?,
                BenchPart::Dit => bench.dit()?,
                BenchPart::Vae => bench.vae()?,
                BenchPart::Encode => bench.encode()?,
            });
        }
        let (version, threads) = (env!("CARGO_PKG_VERSION").to_string(), threads.current_num_threads());
        Ok(BenchReport { version, threads, peak: bench.peak, cpu, parts: rows })
    })
}

impl Bench {
    fn text(&self) -> Result<Measurement> {
        let (encoder, _) = self.family.text_encoder(&self.model, &self.placement)?;
        let tokens = self.model.manifest.text_len;
        let prompt = "x ".repeat(2 * tokens); // more than enough: cut to `tokens`
        let runs = self.time(|| encoder.encode(&prompt).map(drop))?;
        let work = format!("a prompt of {tokens} tokens");
        Ok(scaled(runs, self.text_layers, BenchPart::Text, work, self.peak))
    }

    fn dit(&self) -> Result<Measurement> {
        let [_, c, f, h, w] = self.latent_shape();
        let keep = self.attention.keep();
        if keep.is_some() {
            self.placement.check_sparse()?;
        }
        let latents = [c, f, h, w];
        let TimedPass { tokens, mut pass } = self.family.timed_pass(&self.model, &self.placement, latents, keep)?;
        let runs = self.time(&mut pass)?;
        let attention = if keep.is_some() { format!(", {} attention", self.attention) } else { String::new() };
        let work = format!("a step without guidance, {tokens} tokens{attention}");
        Ok(scaled(runs, self.dit_layers, BenchPart::Dit, work, self.peak))
    }

    fn vae(&self) -> Result<Measurement> {
        let (vae, _) = self.family.vae(&self.model, Parts::Decoder, &self.placement)?;
        let shape = self.latent_shape();
        let latents = NoiseSource::new(0).randn_tensor(&shape[..], &self.placement.device)?;
        let runs = self.time(|| {
            let mut decoder = vae.decoder()?;
            for frame in 0..shape[2] {
                decoder.push(&latents.narrow(2, frame, 1)?)?;
            }
            decoder.finish()?;
            Ok(())
        })?;
        let (frames, work) = self.coding("decoding");
        Ok(runs.measurement(BenchPart::Vae, work, frames, self.peak))
    }

    fn encode(&self) -> Result<Measurement> {
        let (vae, _) = self.family.vae(&self.model, Parts::Encoder, &self.placement)?;
        let ([width, height, _], latent_frames) = (self.size, self.latent_shape()[2]);
        let shape = (1, 3, self.limits.latent_format.temporal_factor, height, width);
        let pixels = NoiseSource::new(0).randn_tensor(shape, &self.placement.device)?.clamp(-1f32, 1f32)?;
        let runs = self.time(|| {
            let mut encoder = vae.encoder()?;
            for _ in 0..latent_frames {
                encoder.push(&pixels.narrow(2, 0, encoder.wanted())?)?;
            }
            Ok(())
        })?;
        let (frames, work) = self.coding("encoding");
        Ok(runs.measurement(BenchPart::Encode, work, frames, self.peak))
    }

    /// Frames of the clip, and the VAE's work in words.
    fn coding(&self, verb: &str) -> (f64, String) {
        let frames = self.limits.latent_format.pixel_frames(self.latent_shape()[2]);
        (frames as f64, format!("{verb} {frames} frames of {}×{}", self.size[0], self.size[1]))
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
            return token_grid([c, f, h, w], &self.limits).map(drop);
        }
        let hint =
            format!("width and height are multiples of {step_w} and {step_h} up to 4096, with one frame at least");
        Err(Error::request(format!("a size of {width}x{height}x{frames} is not possible"), hint))
    }

    fn time(&self, mut run: impl FnMut() -> Result<()>) -> Result<Runs> {
        // Now, with the part loaded, what is left of the one before has been given back.
        let own_peak = reset_peak();
        gpu_reset_peak_bytes(&self.placement.device)?;
        let device = &self.placement.device;
        run()?;
        device.synchronize()?;
        let (mut seconds, mut operators): (Vec<f64>, _) = (Vec::with_capacity(self.runs), Vec::new());
        for _ in 0..self.runs {
            let start = Instant::now();
            let (done, profile) = if device.is_cpu() { profiled(&mut run) } else { (run(), Vec::new()) };
            done?;
            device.synchronize()?; // others compute behind the caller's back
            let elapsed = start.elapsed().as_secs_f64();
            if seconds.iter().all(|other| elapsed < *other) {
                operators = profile;
            }
            seconds.push(elapsed);
        }
        if !device.is_cpu() {
            // A run of its own: waiting for every operator takes time.
            let (done, profile) = profiled_on(device, &mut run);
            done?;
            operators = profile;
        }
        seconds.sort_by(f64::total_cmp);
        let (peak_memory, own_peak) = match gpu_peak_bytes(device)? {
            Some(peak) => (Some(peak), true),
            None => (peak_memory(), own_peak),
        };
        Ok(Runs { seconds, operators, peak_memory, own_peak })
    }
}
