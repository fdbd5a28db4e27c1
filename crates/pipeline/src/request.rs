//! [`Request`]: what a caller asks for; everything but the prompt has a default in the model's manifest.

use crate::cache::CacheSetting;
use crate::output::Output;
use kinora_sampler::SamplerKind;
use std::path::PathBuf;

/// One clip to generate. `None` means the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// What to show. English or Chinese for the Wan family.
    pub prompt: String,
    /// What to avoid; an empty text is allowed. Only used with guidance above 1.
    pub negative_prompt: Option<String>,
    /// Width and height.
    pub size: Size,
    /// Pixel frames; snapped to what the model allows (4k + 1). Excludes `duration`.
    pub frames: Option<usize>,
    /// Seconds; turned into frames with the frame rate.
    pub duration: Option<f64>,
    /// Frames per second of the file.
    pub fps: Option<f64>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Explicit noise levels, falling from at most 1; excludes `steps` and `shift`.
    pub sigmas: Option<Vec<f64>>,
    /// Explicit timesteps, falling from at most 1000, as published for distilled models; excludes `sigmas`, `steps`
    /// and `shift`.
    pub timesteps: Option<Vec<f64>>,
    /// Shift of the noise schedule.
    pub shift: Option<f64>,
    /// The sampler.
    pub sampler: Option<SamplerKind>,
    /// Classifier-free guidance; 1 turns it off.
    pub guidance_scale: Option<f64>,
    /// Guidance of the low-noise expert, on models with two.
    pub guidance_scale_2: Option<f64>,
    /// CFG-Zero*: optimal scale of the unconditional prediction, <https://arxiv.org/abs/2503.18886>.
    pub cfg_zero_star: bool,
    /// Zero-init of CFG-Zero*: so many first steps take a velocity of zero. `None` is 1 with `cfg_zero_star`, else 0.
    pub zero_init: Option<usize>,
    /// Guide only at noise levels above the first and up to the second, <https://arxiv.org/abs/2404.07724>.
    pub guidance_interval: Option<[f64; 2]>,
    /// Reuse of what earlier steps computed; `None` computes everything.
    pub cache: Option<CacheSetting>,
    /// Seed of the noise; random when `None`. The noise is the one that `PyTorch`'s CPU generator gives for this seed.
    pub seed: Option<u64>,
    /// A safetensors file whose tensor `noise` `[1, C, F, H, W]` replaces the seeded noise.
    pub init_latents: Option<PathBuf>,
    /// Where the results go.
    pub output: Output,
}

/// How the clip's size is given.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Size {
    /// The model's own.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// 832 × 480.
    P480,
    /// 1280 × 720.
    P720,
    /// 1920 × 1080.
    P1080,
}

impl Resolution {
    /// Pixels in a frame.
    pub fn area(self) -> usize {
        match self {
            Self::P480 => 832 * 480,
            Self::P720 => 1280 * 720,
            Self::P1080 => 1920 * 1080,
        }
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

/// Reads an aspect such as `16:9` or `2.39`: width / height between 1:8 and 8:1.
pub fn parse_aspect(text: &str) -> Result<f64, String> {
    let ratio = match text.split_once(':') {
        Some((w, h)) => w.trim().parse::<f64>().ok().zip(h.trim().parse::<f64>().ok()).map(|(w, h)| w / h),
        None => text.parse().ok(),
    };
    match ratio {
        Some(ratio) if (0.125..=8.0).contains(&ratio) => Ok(ratio),
        Some(_) => Err(format!("aspect `{text}` is outside 1:8 to 8:1")),
        None => Err(format!("`{text}` is not an aspect such as 16:9, 9:16 or 1:1")),
    }
}
