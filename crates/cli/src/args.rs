//! The command line, as clap sees it.

mod bench;
mod files;
mod given;
mod model;
mod output;
mod shape;
mod story;

pub use bench::{BenchArgs, Format};
use clap::{Args, Parser, Subcommand};
pub use files::{DecodeArgs, EncodeArgs, InspectArgs, ModelsArgs, PullArgs, RerunArgs, ShowArgs};
pub use given::{GivenArgs, PreviewArgs};
use kinora::{Mode, Request, SamplerKind};
pub use model::ModelArgs;
pub use output::OutputArgs;
pub use shape::ShapeArgs;
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
