//! Clips of several parts, and many clips.

use super::{ComputeArgs, DenoisingArgs, ModelArgs, OutputArgs, SamplingArgs, ShapeArgs};
use clap::Args;
use std::path::PathBuf;

/// `kinora extend`.
#[derive(Debug, Clone, Args)]
pub struct ExtendArgs {
    /// The clip to go on from: one that Kinora made, or any other that it reads.
    pub clip: PathBuf,
    /// What happens next [default: the prompt of the clip].
    pub prompt: Option<String>,
    /// What to avoid [default: as in the clip, else the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// How many seconds to add each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, allow_negative_numbers = true)]
    pub seconds: f64,
    /// How many times to add them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub times: u16,
    /// How the camera moves, such as pan=5,zoom=-3, or a preset.
    #[arg(long, value_name = "AXES|NAME")]
    pub camera: Option<String>,
    /// The model [default: the one that made the clip, else embedded].
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising; what is not given is as in the clip.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep what is done here, and go on from it after an interruption [default: beside the output, until it is done].
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub project: Option<PathBuf>,
}

/// `kinora story`.
#[derive(Debug, Clone, Args)]
pub struct StoryArgs {
    /// TOML with `[[shot]]` tables: prompt, seconds, join ("continue" or "cut"), camera, image, seed, `negative_prompt`.
    pub story: PathBuf,
    /// What to avoid, in shots that do not say it [default: the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Size; the length is that of one window, of which longer shots are made.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Denoising.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep what is done here, and go on from it after an interruption [default: beside the output, until it is done].
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub project: Option<PathBuf>,
}

/// `kinora suite`.
#[derive(Debug, Clone, Args)]
pub struct SuiteArgs {
    /// TOML with `[[prompt]]` tables: text, category, and what else there is to say.
    pub prompts: PathBuf,
    /// A column of the page: a model [default: embedded]. Repeat it for more columns.
    #[arg(long, value_name = "NAME|DIR")]
    pub model: Vec<String>,
    /// A column with other settings, such as steps=4 or mode=fast,cache=easycache; of every model. Repeat it for more.
    #[arg(long, value_name = "NAME=VALUE,…")]
    pub set: Vec<String>,
    /// Only prompts whose category begins with this.
    #[arg(long, value_name = "PREFIX")]
    pub category: Option<String>,
    /// Only the first so many of them.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Size and length of every clip.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Denoising of every clip, where its column has no other settings.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Seed of every clip; the same for all columns.
    #[arg(long, value_name = "N", default_value_t = 42, help_heading = "Denoising")]
    pub seed: u64,
    /// How the models run.
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// The folder of the page; clips that are there already are not made again.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}
