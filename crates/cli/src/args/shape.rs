//! Size and length of a clip.

use clap::Args;
use kinora::{Resolution, Size};

/// Size and length of the clip.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Size and length")]
pub struct ShapeArgs {
    /// Aspect ratio such as 16:9, 9:16 or 1:1; the area stays the same.
    #[arg(long, value_parser = kinora::parse_aspect, value_name = "W:H", conflicts_with_all = ["width", "height"])]
    pub aspect: Option<f64>,
    /// 480p (832×480), 720p (1280×720) or 1080p (1920×1080); with --aspect or a picture, only the area counts.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["width", "height"])]
    pub resolution: Option<Resolution>,
    /// Width in pixels.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub width: Option<usize>,
    /// Height in pixels.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub height: Option<usize>,
    /// Number of frames; rounded to one that the model can make (usually 4k + 1).
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
    /// Returns the size that the options describe.
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
