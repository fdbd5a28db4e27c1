//! [`Plan`]: a request with every default filled in, checked and snapped to what the model allows.

use crate::manifest::Manifest;
use crate::request::{Request, Size};
use crate::{Error, Result};
use kinora_sampler::{SamplerKind, Schedule};
use kinora_vae::LatentFormat;

/// The largest side of a clip, in pixels.
const LONGEST_SIDE: usize = 4096;
/// The most frames of one clip: 10 minutes at 24 frames a second.
const MOST_FRAMES: usize = 14_401;
/// The most tokens of one clip: attention to more would take any machine days for a step.
const MOST_TOKENS: usize = 1 << 22;
/// The most denoising steps.
const MOST_STEPS: usize = 1000;

/// What a model allows, from its own files.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub latent_format: LatentFormat,
    /// Patch of the transformer over frames, rows, columns.
    pub patch: [usize; 3],
    /// Patches along each axis that the transformer has positions for.
    pub reach: usize,
    /// Noise level (of 1) below which the second expert works.
    pub boundary: Option<f64>,
    /// Shift that the model directory's scheduler configuration gives.
    pub shift: Option<f64>,
}

/// A validated request: nothing is left open.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As the user wrote it.
    pub prompt: String,
    /// Empty when there is none.
    pub negative_prompt: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Pixel frames.
    pub frames: usize,
    /// `[C, F, H, W]` of the latents.
    pub latent_shape: [usize; 4],
    /// Frames per second.
    pub fps: f64,
    /// The sampler.
    pub sampler: SamplerKind,
    /// Shift of the schedule; not used with explicit sigmas.
    pub shift: f64,
    /// Explicit sigmas, when the request gave them.
    pub sigmas: Option<Vec<f64>>,
    /// Noise levels and timesteps.
    pub schedule: Schedule,
    /// Guidance of the (first, second) expert; 1 is off.
    pub guidance_scale: [f64; 2],
    /// CFG-Zero*.
    pub cfg_zero_star: bool,
    /// Timestep below which the second expert works.
    pub boundary_timestep: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// File that replaces the noise.
    pub init_latents: Option<std::path::PathBuf>,
    /// What was changed or is worth knowing, one sentence each.
    pub notices: Vec<String>,
}

impl Plan {
    /// Whether a second, unconditional prediction is made.
    pub fn guided(&self) -> bool {
        self.guidance_scale[0] > 1.0
    }

    /// Denoising steps.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Fills in the defaults of `manifest` and checks everything that can be checked without weights.
    pub(crate) fn new(request: &Request, manifest: &Manifest, limits: &Limits) -> Result<Self> {
        let mut notices = Vec::new();
        if request.prompt.trim().is_empty() {
            return Err(Error::request("the prompt is empty", "say what the clip should show"));
        }
        let (width, height) = size(request, manifest, limits, &mut notices)?;
        let fps = within("frames per second", request.fps.unwrap_or(manifest.defaults.fps), 1.0, 240.0)?;
        let frames = frames(request, manifest, limits, fps, &mut notices)?;
        let sampler = sampler(request, manifest)?;
        let shift = within("shift", request.shift.or(limits.shift).unwrap_or(manifest.defaults.shift), 0.01, 100.0)?;
        let schedule = schedule(request, manifest, sampler, shift)?;
        let guidance_scale = guidance(request, manifest, limits)?;
        if schedule.steps() < manifest.defaults.fewest_steps {
            notices.push(format!(
                "{} steps are few: {} needs about {} unless its weights are distilled",
                schedule.steps(),
                manifest.name,
                manifest.defaults.steps
            ));
        }
        let LatentFormat { channels, spatial_factor, .. } = limits.latent_format;
        let latent_frames = limits.latent_format.latent_frames(frames);
        let latent_shape = [channels, latent_frames, height / spatial_factor, width / spatial_factor];
        check_reach(latent_shape, limits)?;
        Ok(Self {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone().unwrap_or(manifest.defaults.negative_prompt.clone()),
            width,
            height,
            frames,
            latent_shape,
            fps,
            sampler,
            shift,
            sigmas: request.sigmas.clone(),
            schedule,
            guidance_scale,
            cfg_zero_star: request.cfg_zero_star,
            boundary_timestep: limits.boundary.map(|boundary| boundary * 1000.0),
            seed: request.seed.unwrap_or_else(random_seed),
            init_latents: request.init_latents.clone(),
            notices,
        })
    }
}

fn size(request: &Request, manifest: &Manifest, limits: &Limits, notices: &mut Vec<String>) -> Result<(usize, usize)> {
    let (own_width, own_height) = (manifest.defaults.width as f64, manifest.defaults.height as f64);
    let own_ratio = own_width / own_height;
    let (asked_width, asked_height) = match request.size {
        Size::Default => (own_width, own_height),
        Size::Pixels { width, height } => match (width.map(|w| w as f64), height.map(|h| h as f64)) {
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => (width, width / own_ratio),
            (None, Some(height)) => (height * own_ratio, height),
            (None, None) => (own_width, own_height),
        },
        Size::Aspect { ratio, resolution } => {
            let ratio = ratio.unwrap_or(own_ratio);
            let area = resolution.map_or(own_width * own_height, |resolution| resolution.area() as f64);
            ((area * ratio).sqrt(), (area / ratio).sqrt())
        }
    };
    let factor = limits.latent_format.spatial_factor;
    let (step_h, step_w) = (factor * limits.patch[1], factor * limits.patch[2]);
    for (name, asked) in [("width", asked_width), ("height", asked_height)] {
        if !(1.0..=LONGEST_SIDE as f64).contains(&asked) {
            let what = format!("{name} {asked:.0} is outside 1 to {LONGEST_SIDE} pixels");
            return Err(Error::request(what, "--resolution 480p, 720p or 1080p choose usual sizes"));
        }
    }
    // Half a step rounds down: 1280×720 becomes the 1280×704 that Wan 2.2 TI2V was trained on, not 1280×736.
    let snap = |asked: f64, step: usize| ((asked / step as f64 - 1e-6).round() as usize).max(1) * step;
    let (width, height) = (snap(asked_width, step_w), snap(asked_height, step_h));
    if (asked_width.round() as usize, asked_height.round() as usize) != (width, height) {
        notices.push(format!(
            "{asked_width:.0}×{asked_height:.0} became {width}×{height}: the model's sizes are multiples of {step_w}×{step_h}"
        ));
    }
    Ok((width, height))
}

fn frames(
    request: &Request,
    manifest: &Manifest,
    limits: &Limits,
    fps: f64,
    notices: &mut Vec<String>,
) -> Result<usize> {
    let asked = match (request.frames, request.duration) {
        (Some(_), Some(_)) => {
            return Err(Error::request("--frames and --duration are both given", "give one of the two"));
        }
        (Some(frames), None) => frames,
        (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => (seconds * fps).round().max(1.0) as usize,
        (None, Some(seconds)) => {
            return Err(Error::request(format!("a duration of {seconds} s is not possible"), "give seconds above 0"));
        }
        (None, None) => manifest.defaults.frames,
    };
    if asked == 0 || asked > MOST_FRAMES {
        let what = format!("{asked} frames are outside 1 to {MOST_FRAMES}");
        return Err(Error::request(what, format!("the model's default is {}", manifest.defaults.frames)));
    }
    let factor = limits.latent_format.temporal_factor;
    let frames = (asked - 1 + factor / 2) / factor * factor + 1;
    if frames != asked {
        notices.push(format!("{asked} frames became {frames}: the model makes {factor}k + 1"));
    }
    Ok(frames)
}

/// The transformer tells positions apart only so far along each axis, and all of them attend to each other.
pub(crate) fn check_reach([_, f, h, w]: [usize; 4], limits: &Limits) -> Result<()> {
    let Limits { latent_format, patch: [pt, ph, pw], reach, .. } = limits;
    let most_frames = latent_format.pixel_frames(reach * pt);
    let most_pixels = |patch: &usize| reach * patch * latent_format.spatial_factor;
    let axes = [
        ("frames", f > reach * pt, most_frames),
        ("pixels of height", h > reach * ph, most_pixels(ph)),
        ("pixels of width", w > reach * pw, most_pixels(pw)),
    ];
    if let Some((what, _, most)) = axes.iter().find(|(_, beyond, _)| *beyond) {
        let what = format!("the model has no positions for so many {what}, only for {most}");
        return Err(Error::request(what, "make the clip smaller or shorter"));
    }
    let tokens = (f / pt) * (h / ph) * (w / pw);
    if tokens > MOST_TOKENS {
        let what = format!("a clip of {tokens} tokens is beyond any machine, {MOST_TOKENS} are the limit");
        return Err(Error::request(what, "make the clip smaller or shorter"));
    }
    Ok(())
}

fn sampler(request: &Request, manifest: &Manifest) -> Result<SamplerKind> {
    match request.sampler {
        Some(kind) => Ok(kind),
        None => Ok(manifest.defaults.sampler.parse()?),
    }
}

fn schedule(request: &Request, manifest: &Manifest, sampler: SamplerKind, shift: f64) -> Result<Schedule> {
    if let Some(sigmas) = &request.sigmas {
        if request.steps.is_some() || request.shift.is_some() {
            return Err(Error::request("--sigmas excludes --steps and --shift", "the list says both already"));
        }
        return Ok(Schedule::from_sigmas(sigmas)?);
    }
    let steps = request.steps.unwrap_or(manifest.defaults.steps);
    if steps == 0 || steps > MOST_STEPS {
        let hint = format!("the model's default is {}", manifest.defaults.steps);
        return Err(Error::request(format!("{steps} steps are outside 1 to {MOST_STEPS}"), hint));
    }
    Ok(match sampler {
        SamplerKind::Euler | SamplerKind::Heun | SamplerKind::Lcm => Schedule::flow_match_euler(steps, shift)?,
        SamplerKind::DpmPp2m | SamplerKind::UniPc | SamplerKind::UniPcBh1 => Schedule::flow(steps, shift)?,
    })
}

fn guidance(request: &Request, manifest: &Manifest, limits: &Limits) -> Result<[f64; 2]> {
    if request.guidance_scale_2.is_some() && limits.boundary.is_none() {
        let what = "--guidance-scale-2 needs a model with two experts";
        return Err(Error::request(what, "Wan 2.2 A14B has two; leave it out here"));
    }
    let first = request.guidance_scale.unwrap_or(manifest.defaults.guidance_scale);
    let own_second = if request.guidance_scale.is_some() { None } else { manifest.defaults.guidance_scale_2 };
    let second = request.guidance_scale_2.or(own_second).unwrap_or(first);
    Ok([within("guidance scale", first, 0.0, 100.0)?, within("second guidance scale", second, 0.0, 100.0)?])
}

fn within(name: &str, value: f64, low: f64, high: f64) -> Result<f64> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        let shown = if value.abs() < 1e9 { value.to_string() } else { format!("{value:e}") };
        Err(Error::request(
            format!("{name} {shown} is outside {low} to {high}"),
            "leave it out for the model's default",
        ))
    }
}

/// A seed that fits 32 bits, so that it can be typed and other tools take it.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    u64::from(std::collections::hash_map::RandomState::new().build_hasher().finish() as u32)
}
