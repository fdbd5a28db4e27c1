//! The command line, as clap sees it.

mod given;
mod story;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use given::{GivenArgs, PreviewArgs};
use kinora::bench::BenchPart;
use kinora::{Mode, Request, Resolution, SamplerKind, Size, UpscaleTarget};
use std::path::PathBuf;
pub use story::{ExtendArgs, StoryArgs, SuiteArgs};

/// Native video diffusion: a prompt goes in, an MP4 comes out.
#[derive(Debug, Parser)]
#[command(name = "kinora", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a clip from a prompt.
    Generate(Box<GenerateArgs>),
    /// Say what `generate` would do, and how much memory it would need.
    Plan(Box<GenerateArgs>),
    /// Go on where a clip ends, once or many times.
    Extend(Box<ExtendArgs>),
    /// Make a clip of several shots from a file.
    Story(Box<StoryArgs>),
    /// Run a file of prompts, and make a page to look at the clips.
    Suite(Box<SuiteArgs>),
    /// Turn saved latents into a clip.
    Decode(DecodeArgs),
    /// Turn a clip into latents.
    Encode(EncodeArgs),
    /// Measure speed and memory.
    Bench(BenchArgs),
    /// Say what a model directory or file is, and what is missing.
    Inspect(InspectArgs),
    /// List the known models and which are here.
    Models(ModelsArgs),
    /// Download a known model from the Hugging Face hub.
    Pull(PullArgs),
    /// Print the recipe stored in a clip.
    Show(ShowArgs),
    /// Make a clip again from the recipe stored in it.
    Rerun(RerunArgs),
}

/// Which model, and how it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A known name, a model directory, or single files (transformer, VAE, text encoder, tokenizer.json)
    /// [default: embedded].
    #[arg(long, num_args = 1.., value_name = "NAME|DIR|FILE")]
    pub model: Option<Vec<String>>,
    /// Dtype of the networks; f32 on the CPU by default, where bf16 halves the memory, and the time on CPUs that multiply it.
    #[arg(long, value_enum)]
    pub dtype: Option<DTypeArg>,
    /// Round the large matrices of transformer and text encoder: less memory, faster, slightly other clips.
    #[arg(long, value_enum)]
    pub quant: Option<QuantArg>,
    /// Where to compute.
    #[arg(long, default_value = "auto", value_name = "DEVICE", help = device_help())]
    pub device: String,
    /// Gigabytes of the GPU's memory to plan with; by default what is free. What does not fit waits in the host's memory.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub gpu_memory: Option<u64>,
    /// CPU threads; all cores by default. The result does not depend on it.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

fn device_help() -> String {
    let mut devices = kinora::devices();
    if cfg!(all(target_os = "linux", not(feature = "cuda"))) {
        devices.push("cuda or cuda:N with kinora-cuda beside this program");
    }
    format!("Where to compute: {}", devices.join(", "))
}

/// Dtypes of the networks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DTypeArg {
    /// 32-bit.
    F32,
    /// 16-bit, 8 bits of exponent.
    Bf16,
    /// 16-bit, 5 bits of exponent.
    F16,
}

/// How matrices are rounded.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum QuantArg {
    /// 8-bit integers.
    Int8,
    /// 8-bit floating point, on CUDA devices.
    Fp8,
}

impl ModelArgs {
    /// As the library takes it.
    pub fn load_options(&self) -> kinora::LoadOptions {
        kinora::LoadOptions {
            model: self.model.clone().unwrap_or_else(|| kinora::LoadOptions::default().model),
            dtype: self.dtype.map(|dtype| match dtype {
                DTypeArg::F32 => kinora::DType::F32,
                DTypeArg::Bf16 => kinora::DType::BF16,
                DTypeArg::F16 => kinora::DType::F16,
            }),
            quant: self.quant.map(|quant| match quant {
                QuantArg::Int8 => kinora::Quant::Int8,
                QuantArg::Fp8 => kinora::Quant::Fp8,
            }),
            device: self.device.clone(),
            threads: self.threads,
            gpu_memory: self.gpu_memory,
        }
    }
}

/// Gigabytes in bytes.
fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e6 => Ok((number * 1e9) as u64),
        _ => Err("a number of gigabytes, such as 8".into()),
    }
}

/// How the output is written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// The clip: .mp4, .gif, .webp, .safetensors (raw frames), or a pattern such as frames/%04d.png
    /// [default: kinora-SEED.mp4].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Do not store the recipe in the clip.
    #[arg(long)]
    pub no_metadata: bool,
    /// Constant quality of the video encoder, 0 (best) to 51.
    #[arg(long, value_name = "N")]
    pub quality: Option<u8>,
    /// Video encoder by its FFmpeg name, such as libx265 (builds with the ffmpeg feature).
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
    /// Decode in tiles of that many latent pixels per side, each through the whole clip [default: where frames do not fit
    /// in memory]. Meanwhile 6 bytes per pixel of every frame lie on disk.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..))]
    pub tile: Option<u16>,
    /// Enlarge the frames after decoding: 2x, 4x, or to a height such as 1080p (Lanczos).
    #[arg(long, value_name = "SIZE")]
    pub upscale: Option<UpscaleTarget>,
    /// Print the result as JSON on stdout, and no progress.
    #[arg(long)]
    pub json: bool,
}

/// `kinora generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What the clip should show.
    pub prompt: String,
    /// What to avoid; may be empty [default: the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Size and length.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// What it is made from.
    #[command(flatten)]
    pub given: GivenArgs,
    /// Denoising.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Previews.
    #[command(flatten)]
    pub preview: PreviewArgs,
    /// Make that many clips, with consecutive seeds.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub count: u64,
    /// Start from the tensor `noise` [1, C, F, H, W] of this file instead of seeded noise.
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Stages")]
    pub init_latents: Option<PathBuf>,
    /// Keep the denoised latents, for `kinora decode`.
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Stages")]
    pub save_latents: Option<PathBuf>,
    /// Keep the state of the run here every few steps, and continue from what is there.
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub resume: Option<PathBuf>,
}

/// Size and length of the clip.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Size and length")]
pub struct ShapeArgs {
    /// Aspect such as 16:9, 9:16 or 1:1; keeps the area.
    #[arg(long, value_parser = kinora::parse_aspect, value_name = "W:H", conflicts_with_all = ["width", "height"])]
    pub aspect: Option<f64>,
    /// 480p (832×480), 720p (1280×720) or 1080p (1920×1080); with --aspect or a picture, the area of these.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["width", "height"])]
    pub resolution: Option<Resolution>,
    /// Width in pixels.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub width: Option<usize>,
    /// Height in pixels.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub height: Option<usize>,
    /// Number of frames (4k + 1).
    #[arg(long, value_name = "N", conflicts_with = "duration", allow_negative_numbers = true)]
    pub frames: Option<usize>,
    /// Length in seconds.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub duration: Option<f64>,
    /// Frames per second.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub fps: Option<f64>,
}

impl ShapeArgs {
    /// As the library takes it.
    pub fn size(&self) -> Size {
        if self.aspect.is_some() || self.resolution.is_some() {
            Size::Aspect { ratio: self.aspect, resolution: self.resolution }
        } else if self.width.is_some() || self.height.is_some() {
            Size::Pixels { width: self.width, height: self.height }
        } else {
            Size::Default
        }
    }
}

/// How noise becomes latents.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Denoising")]
pub struct SamplingArgs {
    /// fast or quality: steps, sampler, shift, guidance and cache of the model's mode, where no other option gives them
    /// (`kinora models --show NAME` prints both).
    #[arg(long, value_name = "NAME")]
    pub mode: Option<Mode>,
    /// Denoising steps.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// How strongly to follow the prompt; 1 turns guidance off.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub guidance_scale: Option<f64>,
    /// The same for the low-noise expert of models with two.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub guidance_scale_2: Option<f64>,
    /// CFG-Zero*: scale the unconditional prediction optimally, and zero the velocity of the first step.
    #[arg(long)]
    pub cfg_zero_star: bool,
    /// Zero the velocity of so many first steps [default: 1 with --cfg-zero-star, else 0].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub zero_init: Option<usize>,
    /// Guide only at noise levels above LOW and up to HIGH, of 0 (clip) to 1 (noise).
    #[arg(long, value_name = "LOW,HIGH", value_parser = parse_interval)]
    pub guidance_interval: Option<Interval>,
    /// euler, heun, dpm++2m, unipc, unipc-bh1 or lcm.
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<SamplerKind>,
    /// Shift of the noise schedule.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub shift: Option<f64>,
    /// Explicit noise levels, such as 1,0.9375,0.8333,0.625.
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["steps", "shift"])]
    pub sigmas: Option<Vec<f64>>,
    /// Explicit timesteps, as published for distilled models, such as 1000,937.5,833.3,625.
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["steps", "shift", "sigmas"])]
    pub timesteps: Option<Vec<f64>>,
    /// Reuse what earlier steps computed: first-block, easycache, teacache or magcache, and a threshold such as
    /// first-block:0.05; faster, another clip [default: none].
    #[arg(long, value_name = "NAME[:X]", value_parser = parse_cache)]
    pub cache: Option<Cache>,
    /// Seed of the noise; random by default, printed and recorded.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
}

/// Two noise levels.
pub type Interval = [f64; 2];

/// A step cache, or `none`.
#[derive(Debug, Clone, Copy)]
pub struct Cache(Option<kinora::CacheSetting>);

fn parse_cache(text: &str) -> Result<Cache, String> {
    if text == "none" { Ok(Cache(None)) } else { text.parse().map(|setting| Cache(Some(setting))) }
}

fn parse_interval(text: &str) -> Result<Interval, String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let pair = numbers.and_then(|numbers| Interval::try_from(numbers).ok());
    pair.ok_or_else(|| format!("`{text}` is not two numbers such as 0.2,0.9"))
}

impl SamplingArgs {
    /// `request` with what is given here.
    pub fn apply(&self, request: Request) -> Request {
        // A mode replaces what an earlier clip was made with.
        let request = match self.mode {
            None => request,
            Some(_) => Request {
                steps: None,
                sigmas: None,
                timesteps: None,
                shift: None,
                sampler: None,
                guidance_scale: None,
                guidance_scale_2: None,
                cache: None,
                ..request
            },
        };
        let explicit = self.steps.is_some() || self.sigmas.is_some() || self.timesteps.is_some();
        // A list of steps replaces an earlier one, of whichever kind.
        let earlier = if explicit { Request::default() } else { request.clone() };
        Request {
            mode: self.mode.or(request.mode),
            steps: self.steps.or(earlier.steps),
            sigmas: self.sigmas.clone().or(earlier.sigmas),
            timesteps: self.timesteps.clone().or(earlier.timesteps),
            shift: self.shift.or(request.shift.filter(|_| self.sigmas.is_none() && self.timesteps.is_none())),
            sampler: self.sampler.or(request.sampler),
            guidance_scale: self.guidance_scale.or(request.guidance_scale),
            guidance_scale_2: self.guidance_scale_2.or(request.guidance_scale_2),
            cfg_zero_star: self.cfg_zero_star || request.cfg_zero_star,
            zero_init: self.zero_init.or(request.zero_init),
            guidance_interval: self.guidance_interval.or(request.guidance_interval),
            cache: self.cache.map_or(request.cache, |Cache(setting)| setting),
            no_cache: self.cache.map_or(request.no_cache, |Cache(setting)| setting.is_none()),
            seed: self.seed.or(request.seed),
            ..request
        }
    }
}

impl GenerateArgs {
    /// As the library takes it.
    pub fn request(&self) -> Request {
        let shape = &self.shape;
        self.sampling.apply(Request {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            size: shape.size(),
            frames: shape.frames,
            duration: shape.duration,
            fps: shape.fps,
            given: self.given.given(),
            init_latents: self.init_latents.clone(),
            ..Request::default()
        })
    }
}

/// `kinora decode`.
#[derive(Debug, Clone, Args)]
pub struct DecodeArgs {
    /// Latents that `kinora generate --save-latents` or `kinora encode` wrote.
    pub latents: PathBuf,
    /// Frames per second [default: as recorded with the latents, else the model's].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub fps: Option<f64>,
    /// The model whose VAE to use.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `kinora encode`.
#[derive(Debug, Clone, Args)]
pub struct EncodeArgs {
    /// The clip: an MP4 (H.264 without B-frames; any file in builds with ffmpeg) or raw frames.
    pub clip: PathBuf,
    /// Where the latents go.
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// The model whose VAE to use.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `kinora bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The model to measure.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure the real architecture of a known variant with random weights instead: no files needed.
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    pub random: Option<String>,
    /// Width, height and frames of the clip, such as 832x480x81 [default: the model's].
    #[arg(long, value_name = "WxHxF")]
    pub size: Option<String>,
    /// What to measure.
    #[arg(long, value_enum, default_value = "all")]
    pub what: What,
    /// Timed runs of each part; the median is printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// With --random: build and measure only so many layers of the text encoder, and count the time for all.
    #[arg(long, value_name = "N", requires = "random")]
    pub text_layers: Option<usize>,
    /// How to print.
    #[arg(long, value_enum, default_value = "md")]
    pub format: Format,
    /// An earlier result (printed with --format json): say how much faster this one is.
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// Parts of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The text encoder.
    Text,
    /// One forward of the transformer.
    Dit,
    /// Decoding.
    Vae,
    /// Encoding.
    Encode,
    /// Everything.
    All,
}

impl What {
    /// As the library takes it.
    pub fn parts(self) -> Vec<BenchPart> {
        match self {
            Self::Text => vec![BenchPart::Text],
            Self::Dit => vec![BenchPart::Dit],
            Self::Vae => vec![BenchPart::Vae],
            Self::Encode => vec![BenchPart::Encode],
            Self::All => BenchPart::ALL.to_vec(),
        }
    }
}

/// Formats of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown.
    Md,
    /// JSON.
    Json,
    /// Comma-separated values.
    Csv,
}

/// `kinora inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A model directory or a file.
    pub path: PathBuf,
    /// Print every tensor.
    #[arg(long)]
    pub tensors: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `kinora models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Print everything that is known of one model: its defaults, its modes, what it takes.
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `kinora pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// A name from `kinora models`.
    pub name: String,
}

/// `kinora show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// A clip that Kinora wrote.
    pub clip: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `kinora rerun`.
#[derive(Debug, Clone, Args)]
pub struct RerunArgs {
    /// A clip that Kinora wrote.
    pub clip: PathBuf,
    /// Use this model instead of the recorded one.
    #[arg(long, num_args = 1.., value_name = "NAME|DIR|FILE")]
    pub model: Option<Vec<String>>,
    /// Where to compute.
    #[arg(long, default_value = "auto", value_name = "DEVICE", help = device_help())]
    pub device: String,
    /// CPU threads.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
}
