//! The options of commands on existing files: clips, latents and models.

use super::{DenoisingArgs, LoraArgs, ModelArgs, OutputArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `kinora decode`.
#[derive(Debug, Clone, Args)]
pub struct DecodeArgs {
    /// Latents from `kinora generate --save-latents` or `kinora encode`.
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
    /// The clip: a video, GIF, WebP, a folder of pictures, or raw frames (.safetensors).
    pub clip: PathBuf,
    /// The file that the latents are written to.
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// The model whose VAE to use.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `kinora inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A known name, a model directory, or files, as after --model; a LoRA; a clip or picture.
    #[arg(required = true, num_args = 1..)]
    pub model: Vec<PathBuf>,
    /// Print every tensor.
    #[arg(long)]
    pub tensors: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `kinora models`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    /// The action, if it is not to list them.
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// Print everything that is known about one model: its inputs, its defaults and its modes.
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The actions on models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    /// Delete a downloaded model from the cache of the Hugging Face hub, which other programs share.
    Rm {
        /// A name from `kinora models`.
        name: String,
        /// Say what would be deleted, and delete nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `kinora pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// A name from `kinora models`.
    pub name: String,
    /// Accept the licence of a gated model, which is asked for once.
    #[arg(long)]
    pub accept_licence: bool,
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
    /// The model and how it runs.
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRAs, instead of those of the recipe.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// Denoising; settings that are not given are those of the recipe.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
}
