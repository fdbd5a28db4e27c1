//! [`Request`]: the clip that a caller asks for; everything but the prompt has a default in the model's manifest.

pub(crate) mod attention;
pub(crate) mod builders;
pub(crate) mod cache;
pub(crate) mod files;
pub(crate) mod inputs;
pub(crate) mod load;
pub(crate) mod lora;
pub(crate) mod output;
pub(crate) mod path_text;
pub(crate) mod recipe;
pub(crate) mod sampling;
pub(crate) mod seed;
pub(crate) mod story;
pub(crate) mod text;
pub(crate) mod upscaler;

use crate::request::builders::builders;
use crate::request::inputs::Inputs;
use crate::request::output::Output;
use crate::request::sampling::Sampling;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One clip to generate. `None` means the model's default.
///
/// ```
/// use kinora::{Inputs, Request, Sampling};
///
/// let request = Request::new("a red ball").seed(7).frames(17).sampling(Sampling::default().steps(12));
/// assert_eq!(request.sampling.steps, Some(12));
/// let request = request.inputs(Inputs::default().image("first.png"));
/// assert_eq!(serde_json::to_value(&request).unwrap()["inputs"]["image"], "first.png");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Request {
    /// What the clip should show, in a language that the model's text encoder was trained on.
    pub prompt: String,
    /// The negative prompt: things that the clip should not show; may be empty. Only used with guidance above 1.
    pub negative_prompt: Option<String>,
    /// Width and height.
    pub size: Size,
    /// Pixel frames, snapped to a number that the model can make (usually 4k + 1). Excludes `duration`.
    pub frames: Option<usize>,
    /// Length in seconds; the frame rate turns it into frames.
    pub duration: Option<f64>,
    /// Frames per second of the file.
    pub fps: Option<f64>,
    /// The name of a [`Preset`](crate::Preset), whose settings are taken for those that `sampling` leaves open.
    pub preset: Option<String>,
    /// The model's fast or quality settings, for those that `sampling` leaves open.
    pub mode: Option<Mode>,
    /// Settings of denoising.
    pub sampling: Sampling,
    /// Seed of the noise; random when `None`. The noise is the one that `PyTorch`'s CPU generator gives for this seed.
    pub seed: Option<u64>,
    /// Conditioning inputs: pictures, clips and a camera.
    pub inputs: Inputs,
    /// A safetensors file whose tensor `noise` `[1, C, F, H, W]` replaces the seeded noise. Models of several latent streams
    /// need one more for each other stream, such as `noise_audio`.
    #[serde(with = "path_text")]
    pub init_latents: Option<PathBuf>,
    /// The files that results are written to.
    pub output: Output,
}

impl Request {
    /// A clip of what `prompt` says, with the model's defaults for everything else.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }
}

builders! {
    Request {
        prompt: String,
        negative_prompt: String => Some,
        size: Size,
        frames: Option<usize>,
        duration: Option<f64>,
        fps: Option<f64>,
        preset: String => Some,
        mode: Option<Mode>,
        sampling: Sampling,
        seed: Option<u64>,
        inputs: Inputs,
        init_latents: PathBuf => Some,
        output: Output,
    }
}

/// One of a model's two sets of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Fast, at some cost in quality.
    Fast,
    /// The best quality.
    Quality,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "quality" => Ok(Self::Quality),
            _ => Err(format!("`{text}` is not one of fast, quality")),
        }
    }
}

/// The size of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// The model's own size.
    #[default]
    Default,
    /// Width and height in pixels; one missing side keeps the model's aspect.
    Pixels {
        /// Width.
        width: Option<usize>,
        /// Height.
        height: Option<usize>,
    },
    /// An aspect (width / height) over an area, or over the model's own area.
    Aspect {
        /// Width / height; `None` is the model's own.
        ratio: Option<f64>,
        /// The area to keep.
        resolution: Option<Resolution>,
    },
}

/// A named area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// 832 × 480.
    #[serde(rename = "480p")]
    P480,
    /// 1280 × 720.
    #[serde(rename = "720p")]
    P720,
    /// 1920 × 1080.
    #[serde(rename = "1080p")]
    P1080,
}

impl Resolution {
    /// Width and height.
    fn sides(self) -> (usize, usize) {
        match self {
            Self::P480 => (832, 480),
            Self::P720 => (1280, 720),
            Self::P1080 => (1920, 1080),
        }
    }

    /// Pixels in a frame.
    pub fn area(self) -> usize {
        self.sides().0 * self.sides().1
    }

    /// Width / height.
    pub(crate) fn ratio(self) -> f64 {
        self.sides().0 as f64 / self.sides().1 as f64
    }
}

impl std::str::FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "480p" => Ok(Self::P480),
            "720p" => Ok(Self::P720),
            "1080p" => Ok(Self::P1080),
            _ => Err(format!("`{text}` is not one of 480p, 720p, 1080p")),
        }
    }
}

/// The longest shape of a clip, as width / height or height / width.
pub(crate) const LONGEST_RATIO: f64 = 8.0;

/// Reads an aspect such as `16:9` or `2.39`: width / height between 1:8 and 8:1.
pub fn parse_aspect(text: &str) -> Result<f64, String> {
    let ratio = match text.split_once(':') {
        Some((w, h)) => w.trim().parse::<f64>().ok().zip(h.trim().parse::<f64>().ok()).map(|(w, h)| w / h),
        None => text.parse().ok(),
    };
    match ratio {
        Some(ratio) if (1.0 / LONGEST_RATIO..=LONGEST_RATIO).contains(&ratio) => Ok(ratio),
        Some(_) => Err(format!("aspect `{text}` is outside 1:8 to 8:1")),
        None => Err(format!("`{text}` is not an aspect such as 16:9, 9:16 or 1:1")),
    }
}
