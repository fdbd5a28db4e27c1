//! The options of commands that make a clip of several windows, or many clips.

use super::{ComputeArgs, DenoisingArgs, LoraArgs, ModelArgs, OutputArgs, SamplingArgs, ShapeArgs};
use clap::Args;
use std::path::PathBuf;

/// `kinora extend`.
#[derive(Debug, Clone, Args)]
pub struct ExtendArgs {
    /// The clip to continue: one that Kinora made, or any other that it can read.
    pub clip: PathBuf,
    /// What happens next; - reads it from standard input [default: the prompt of the clip].
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// The negative prompt, things that the continuation should not show [default: as in the clip, else the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Seconds to add each time.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, allow_negative_numbers = true)]
    pub seconds: f64,
    /// How many times to add that many seconds.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub times: u16,
    /// How the camera moves: axes such as pan=5,zoom=-3, or the name of a preset.
    #[arg(long, value_name = "AXES|NAME")]
    pub camera: Option<String>,
    /// The model [default: the one that made the clip, else embedded].
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRAs.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// Denoising; other settings are as in the clip.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep intermediate results in this directory, and continue from them after an interruption [default: beside the
    /// output, until the clip is complete].
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub project: Option<PathBuf>,
}

/// `kinora story`.
#[derive(Debug, Clone, Args)]
pub struct StoryArgs {
    /// TOML with `[[shot]]` tables: prompt, seconds, join ("continue" or "cut"), camera, image, seed,
    /// `negative_prompt`.
    pub story: PathBuf,
    /// The negative prompt of shots without a `negative_prompt` [default: the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRAs.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// Size, and the length of one window; longer shots are made of several windows.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Denoising.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Keep intermediate results in this directory, and continue from them after an interruption [default: beside the
    /// output, until the clip is complete].
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub project: Option<PathBuf>,
}

/// `kinora suite`.
#[derive(Debug, Clone, Args)]
pub struct SuiteArgs {
    /// TOML with `[[prompt]]` tables: text and, optionally, category, english, `known_hard`, note.
    pub prompts: PathBuf,
    /// Model of a column of the page [default: embedded]. Repeat it for more columns.
    #[arg(long, value_name = "NAME|DIR")]
    pub model: Vec<String>,
    /// Settings of a column, such as steps=4 or mode=fast,cache=easycache. Repeat it for more columns of every model.
    #[arg(long, value_name = "NAME=VALUE,…")]
    pub set: Vec<String>,
    /// Use only prompts whose category begins with this.
    #[arg(long, value_name = "PREFIX")]
    pub category: Option<String>,
    /// Use only the first N of them.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of every clip; the same for all columns.
    #[arg(long, value_name = "N", default_value_t = 42, allow_negative_numbers = true, value_parser = fixed_seed)]
    pub seed: u64,
    /// The directory of the page; clips that are already there are not made again.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Size and length of every clip.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Denoising of every clip, where its column has no other settings.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// How the models run.
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// LoRAs of every model.
    #[command(flatten)]
    pub loras: LoraArgs,
}

/// Reads a seed that all clips share.
fn fixed_seed(text: &str) -> Result<u64, String> {
    let needed = "all clips have one seed: write a number";
    kinora::parse_seed(text)?.fixed().ok_or_else(|| needed.to_string())
}
