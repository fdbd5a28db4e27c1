//! What a clip is made from, and looking at it meanwhile.

use clap::Args;
use kinora::{Camera, CameraMove, CameraPreset, Expand, Fit, Given};
use std::path::PathBuf;

/// Pictures, clips and a camera that the clip is made from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pictures, clips, camera")]
pub struct GivenArgs {
    /// The picture that the clip begins with: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The picture that the clip ends with.
    #[arg(long, value_name = "FILE")]
    pub last_image: Option<PathBuf>,
    /// How pictures and clips of another shape get the clip's: crop, pad or stretch.
    #[arg(long, value_name = "HOW", default_value = "crop", hide_default_value = false)]
    pub fit: Fit,
    /// A clip to change: the new one starts from its noised latents.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "last_image"])]
    pub video: Option<PathBuf>,
    /// How much of --video is replaced, above 0 to 1 [default: 0.8].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// A clip that controls the new one (VACE): depth, pose or edges, or frames of which --mask says what is replaced.
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
    /// A picture or clip: what is white in it is generated, what is black is kept from --control.
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// Pictures of what should be seen in the clip (VACE).
    #[arg(long = "reference", num_args = 1.., value_name = "FILE")]
    pub references: Vec<PathBuf>,
    /// Add to the sides of --control, in parts of its size: left=0.25,right=0.25, or one number for all.
    #[arg(long, value_name = "SIDES", allow_negative_numbers = true)]
    pub expand: Option<Expand>,
    /// How strongly --control is followed [default: 1].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub control_scale: Option<f64>,
    /// How the camera moves: horizontal, vertical, pan, tilt, roll, zoom, each from -10 to 10, such as pan=5,zoom=-3.
    #[arg(long, value_name = "AXES", conflicts_with_all = ["camera_preset", "camera_path"], allow_negative_numbers = true)]
    pub camera: Option<CameraMove>,
    /// down-back, forward-up, left-turn-forward or right-turn-forward.
    #[arg(long, value_name = "NAME", conflicts_with = "camera_path")]
    pub camera_preset: Option<CameraPreset>,
    /// Poses of the camera, one line each: docs/camera.md says how.
    #[arg(long, value_name = "FILE")]
    pub camera_path: Option<PathBuf>,
    /// Say the camera's move in the prompt [default: where the model has no camera control].
    #[arg(long, conflicts_with = "no_camera_in_prompt")]
    pub camera_in_prompt: bool,
    /// Do not say it there.
    #[arg(long)]
    pub no_camera_in_prompt: bool,
}

impl GivenArgs {
    /// As the library takes it.
    pub fn given(&self) -> Given {
        let camera = (self.camera.map(Camera::Move))
            .or(self.camera_preset.map(Camera::Preset))
            .or(self.camera_path.clone().map(Camera::Path));
        Given {
            image: self.image.clone(),
            last_image: self.last_image.clone(),
            fit: self.fit,
            video: self.video.clone(),
            strength: self.strength,
            control: self.control.clone(),
            mask: self.mask.clone(),
            references: self.references.clone(),
            expand: self.expand,
            control_scale: self.control_scale,
            camera,
            camera_in_prompt: match (self.camera_in_prompt, self.no_camera_in_prompt) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
        }
    }
}

/// Looking at a clip while it is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Preview")]
pub struct PreviewArgs {
    /// Write a small animated preview of the latents there every few steps: .webp or .gif.
    #[arg(long, value_name = "FILE")]
    pub preview: Option<PathBuf>,
    /// Show it in the terminal too, where that can show pictures (kitty, iTerm2, sixel).
    #[arg(long)]
    pub preview_in_terminal: bool,
    /// Steps from one preview to the next.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub preview_every: u16,
}
