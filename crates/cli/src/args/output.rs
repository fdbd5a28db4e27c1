//! Where a command writes its clip, and how.

use clap::{Args, ValueEnum};
use kinora::{UpscaleTarget, Upscaler};
use std::path::PathBuf;

/// How the output is written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct OutputArgs {
    /// The clip: .mp4, .gif, .webp, .y4m, .safetensors (raw frames), or a pattern such as frames/%04d.png
    /// [default: kinora-SEED.mp4, or with a number where that is taken]; - is an MP4 on standard output, gif:- a GIF. A file that is
    /// named here is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the clip's sound to this file as well: .wav, 32-bit floats.
    #[arg(long, value_name = "FILE")]
    pub audio_out: Option<PathBuf>,
    /// Do not store the recipe in the clip: the prompts, every setting, and the whole paths of the model and of what was
    /// given.
    #[arg(long)]
    pub no_metadata: bool,
    /// Constant quality of the video encoder, 0 (best) to 51.
    #[arg(long, value_name = "N")]
    pub quality: Option<u8>,
    /// Video encoder by its FFmpeg name, such as libx265 (in builds with the ffmpeg feature).
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
    /// Decode in tiles of N latent pixels per side, each through the whole clip [default: only where whole frames do
    /// not fit in memory]. Until the clip is complete, 6 bytes per pixel of every frame are on disk.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..))]
    pub tile: Option<u16>,
    /// Enlarge the frames after decoding: 2x, 4x, or to a height such as 1080p.
    #[arg(long, value_name = "SIZE")]
    pub upscale: Option<UpscaleTarget>,
    /// What enlarges them: lanczos (the kernel, quick), or span (a small network, sharper) [default: lanczos].
    #[arg(long, value_name = "NAME")]
    pub upscaler: Option<Upscaler>,
    /// Stop before the work if a file that is named here is there already.
    #[arg(long, overrides_with = "overwrite")]
    pub no_overwrite: bool,
    /// Replace files that are named here and there already, which is usual.
    #[arg(long, overrides_with = "no_overwrite")]
    pub overwrite: bool,
    /// What is printed on stdout at the end.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "summary")]
    pub print: Print,
    /// Print the result as JSON on stdout, without progress: --print json --quiet.
    #[arg(long, conflicts_with_all = ["print", "verbose"])]
    pub json: bool,
    /// Show neither progress nor notes.
    #[arg(short, long)]
    pub quiet: bool,
    /// Say what every stage took, and how much memory.
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
}

/// What is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Print {
    /// One line for people.
    Summary,
    /// The path of the clip.
    Path,
    /// Everything, as JSON.
    Json,
}

impl OutputArgs {
    /// Returns what is printed on stdout.
    pub fn printed(&self) -> Print {
        if self.json { Print::Json } else { self.print }
    }

    /// Returns whether neither progress nor notes are shown.
    pub fn is_quiet(&self) -> bool {
        self.quiet || self.json
    }
}
