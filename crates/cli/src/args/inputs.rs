//! Conditioning inputs of a clip, and previews while it is made.

use clap::Args;
use kinora::{Camera, CameraMove, CameraPreset, Expand, Fit, Inputs, Source};
use std::path::PathBuf;

/// Pictures, clips and a camera that the clip is made from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pictures, clips, camera")]
pub struct InputArgs {
    /// Picture that the clip begins with: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Picture that the clip ends with.
    #[arg(long, value_name = "FILE")]
    pub last_image: Option<PathBuf>,
    /// How pictures and clips of another shape are fitted to the clip: crop, pad or stretch.
    #[arg(long, value_name = "HOW", default_value = "crop", hide_default_value = false)]
    pub fit: Fit,
    /// Clip to change: the new clip starts from its latents with noise added. A video, GIF, WebP, a folder of pictures
    /// or raw frames.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "last_image"])]
    pub video: Option<PathBuf>,
    /// How much of --video is replaced, above 0 and up to 1 [default: 0.8].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// Clip that controls the new one, for models that take `control`: depth, pose or edges, or frames in which --mask
    /// marks what is replaced.
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
    /// Picture or clip: white areas are generated, black areas are kept from --control, and the network sees grey edges
    /// as grey.
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// Pictures of what the clip should show, for models that take `control`.
    #[arg(long = "reference", num_args = 1.., value_name = "FILE")]
    pub references: Vec<PathBuf>,
    /// Enlarge the frames of --control at their sides, by fractions of their size: left=0.25,right=0.25, or one number
    /// for all sides.
    #[arg(long, value_name = "SIDES", allow_negative_numbers = true)]
    pub expand: Option<Expand>,
    /// How strongly the clip follows --control [default: 1].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub control_scale: Option<f64>,
    /// How the camera moves: horizontal, vertical, pan, tilt, roll, zoom, each from -10 to 10, such as pan=5,zoom=-3.
    #[arg(long, value_name = "AXES", conflicts_with_all = ["camera_preset", "camera_path"], allow_negative_numbers = true)]
    pub camera: Option<CameraMove>,
    /// A camera move by name: down-back, forward-up, left-turn-forward or right-turn-forward.
    #[arg(long, value_name = "NAME", conflicts_with = "camera_path")]
    pub camera_preset: Option<CameraPreset>,
    /// File of camera poses, one per line; docs/camera.md describes the format.
    #[arg(long, value_name = "FILE")]
    pub camera_path: Option<PathBuf>,
    /// Describe the camera move in the prompt [default: for models without camera control].
    #[arg(long, conflicts_with = "no_camera_in_prompt")]
    pub camera_in_prompt: bool,
    /// Do not describe the camera move in the prompt.
    #[arg(long)]
    pub no_camera_in_prompt: bool,
}

impl InputArgs {
    /// Returns the conditioning inputs that the options describe.
    pub fn inputs(&self) -> Inputs {
        let source = |path: &Option<PathBuf>| path.as_ref().map(Source::from);
        let camera = (self.camera.map(Camera::Move))
            .or(self.camera_preset.map(Camera::Preset))
            .or(self.camera_path.clone().map(Camera::Path));
        let camera_in_prompt = match (self.camera_in_prompt, self.no_camera_in_prompt) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let references: Vec<_> = self.references.iter().map(Source::from).collect();
        let inputs = Inputs::default().fit(self.fit).strength(self.strength).references(references);
        let inputs = inputs.expand(self.expand).control_scale(self.control_scale);
        let mut inputs = inputs.camera(camera).camera_in_prompt(camera_in_prompt);
        (inputs.image, inputs.last_image) = (source(&self.image), source(&self.last_image));
        (inputs.video, inputs.control, inputs.mask) = (source(&self.video), source(&self.control), source(&self.mask));
        inputs
    }
}

/// Previews of a clip while it is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Preview")]
pub struct PreviewArgs {
    /// Write a small animated preview of the latents to this file every few steps: .webp or .gif.
    #[arg(long, value_name = "FILE")]
    pub preview: Option<PathBuf>,
    /// Show previews in the terminal too, if it can show pictures (kitty, iTerm2, sixel).
    #[arg(long)]
    pub preview_in_terminal: bool,
    /// Steps between two previews.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub preview_every: u16,
}
