//! The command line, as clap sees it.

mod bench;
mod files;
mod habits;
mod inputs;
mod model;
mod output;
mod prompt;
mod sampling;
mod serve;
mod shape;
mod story;

pub use bench::{BenchArgs, Format};
use clap::{Args, Parser, Subcommand};
pub use files::{DecodeArgs, EncodeArgs, InspectArgs, ModelsArgs, ModelsCommand, PullArgs, RerunArgs, ShowArgs};
pub use habits::{CompletionsArgs, ConfigArgs, ManArgs};
pub use inputs::{InputArgs, PreviewArgs};
use kinora::Request;
pub use model::{ComputeArgs, LoraArgs, ModelArgs};
pub use output::{OutputArgs, Print};
pub use prompt::{parse, prompt};
pub use sampling::{DenoisingArgs, SamplingArgs};
pub use serve::{HooksArgs, HooksCommand, KeysArgs, KeysCommand, ServeArgs, StoreArgs, WorkerArgs};
pub use shape::ShapeArgs;
use std::path::PathBuf;
pub use story::{ExtendArgs, StoryArgs, SuiteArgs};

/// Native video diffusion: a prompt goes in, an MP4 comes out.
#[derive(Debug, Parser)]
#[command(name = "kinora", version, long_version = crate::version::long(), max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Help of `--model`, of commands about a clip that is there already.
const RECORDED_MODEL: &str =
    "A known name, a model directory, or single files, instead of the model that made the clip";

/// Help of `--output` of a command whose clip is called so unless it is named.
macro_rules! clip_called {
    ($name:literal) => {
        |output| {
            output.help(concat!(
                "The clip: .mp4, .gif, .webp, .y4m, .safetensors (raw frames), or a pattern such as frames/%04d.png [default: ",
                $name,
                ", or with a number where that is taken]; - is an MP4 on standard output, gif:- a GIF. A file that is named here is replaced"
            ))
        }
    };
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a clip from a prompt.
    Generate(Box<GenerateArgs>),
    /// Print what `generate` would do, and how much memory it would need.
    Plan(Box<GenerateArgs>),
    /// Continue a clip from its end, once or several times.
    #[command(mut_arg("model", |model| model.help(RECORDED_MODEL)))]
    #[command(mut_arg("output", clip_called!("CLIP-extended.mp4")))]
    Extend(Box<ExtendArgs>),
    /// Make a clip of the shots that a file describes.
    #[command(mut_arg("output", clip_called!("STORY.mp4")))]
    Story(Box<StoryArgs>),
    /// Make a clip of every prompt in a file, and a page to compare them.
    #[command(mut_arg("no_ffmpeg", |arg| arg.hide(true)))] // no clip is read
    Suite(Box<SuiteArgs>),
    /// Turn saved latents into a clip.
    #[command(mut_arg("output", clip_called!("LATENTS.mp4")))]
    #[command(mut_arg("no_ffmpeg", |arg| arg.hide(true)))] // no clip is read
    Decode(DecodeArgs),
    /// Turn a clip into latents.
    Encode(EncodeArgs),
    /// Measure speed and memory.
    #[command(mut_arg("no_ffmpeg", |arg| arg.hide(true)))] // no clip is read
    Bench(BenchArgs),
    /// Print what a model, a file of one, a LoRA or a clip contains, and what is missing.
    Inspect(InspectArgs),
    /// List the known models, and which of them are on this machine.
    Models(ModelsArgs),
    /// Download a known model from the Hugging Face hub.
    Pull(PullArgs),
    /// Print the recipe stored in a clip.
    Show(ShowArgs),
    /// Make a clip again from the recipe stored in it; options replace its settings.
    #[command(mut_arg("model", |model| model.help(RECORDED_MODEL)))]
    #[command(mut_arg("output", clip_called!("kinora-SEED-again.mp4")))]
    Rerun(Box<RerunArgs>),
    /// Serve a page, a queue and the interfaces of a video generator.
    Serve(Box<ServeArgs>),
    /// Make, list, renew and end the keys of a server.
    Keys(KeysArgs),
    /// Show and renew the secrets with which a server signs webhooks.
    Hooks(HooksArgs),
    /// Print the settings that hold: options of a file and of the environment.
    Config(ConfigArgs),
    /// Print the completions of a shell for this command.
    Completions(CompletionsArgs),
    /// Write the manual's pages.
    Man(ManArgs),
    /// Make the clips that a server orders on standard input.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// `kinora generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// What the clip should show; - reads it from standard input, @FILE from a file.
    pub prompt: String,
    /// The negative prompt, things that the clip should not show; may be empty [default: the model's own].
    #[arg(long, value_name = "TEXT")]
    pub negative_prompt: Option<String>,
    /// Number of clips to make, with consecutive seeds.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub count: u64,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// LoRAs.
    #[command(flatten)]
    pub loras: LoraArgs,
    /// Size and length.
    #[command(flatten)]
    pub shape: ShapeArgs,
    /// Conditioning inputs.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Denoising.
    #[command(flatten)]
    pub denoising: DenoisingArgs,
    /// Files.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Previews.
    #[command(flatten)]
    pub preview: PreviewArgs,
    /// Start from the tensor `noise` [1, C, F, H, W] of this file instead of seeded noise.
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Stages")]
    pub init_latents: Option<PathBuf>,
    /// Save the denoised latents in this file, for `kinora decode`.
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Stages")]
    pub save_latents: Option<PathBuf>,
    /// Save the state of the run in this directory every few steps, and continue from a state that is there.
    #[arg(long, value_name = "DIR", help_heading = "Stages")]
    pub resume: Option<PathBuf>,
}

impl GenerateArgs {
    /// Returns the request that the options describe, with `prompt`.
    pub fn request(&self, prompt: &str) -> Request {
        let shape = &self.shape;
        let request = Request::new(prompt).size(shape.size()).frames(shape.frames).duration(shape.duration);
        let mut request = request.fps(shape.fps).inputs(self.inputs.inputs());
        request.negative_prompt.clone_from(&self.negative_prompt);
        request.init_latents.clone_from(&self.init_latents);
        self.denoising.apply(request)
    }
}
