//! Where a command writes its clip, and how.

use clap::Args;
use kinora::UpscaleTarget;
use std::path::PathBuf;

/// How the output is written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// The clip: .mp4, .gif, .webp, .safetensors (raw frames), or a pattern such as frames/%04d.png
    /// [default: kinora-SEED.mp4, or with a number where that is taken]. A file that is named here is replaced.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
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
    /// Enlarge the frames after decoding: 2x, 4x, or to a height such as 1080p (Lanczos).
    #[arg(long, value_name = "SIZE")]
    pub upscale: Option<UpscaleTarget>,
    /// Print the result as JSON on stdout, without progress.
    #[arg(long)]
    pub json: bool,
}
