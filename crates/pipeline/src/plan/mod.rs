//! [`Plan`]: a request with every default filled in, checked and snapped to what the model allows.

mod fit;
pub(crate) mod memory;
pub(crate) mod placement;

use crate::families::capabilities::{Capabilities, ClipShape, Limits, StreamShape};
use crate::model::manifest::Manifest;
use crate::plan::memory::MemoryPlan;
use crate::request::inputs::Given;
use crate::request::{Request, Resolution, Size};
use crate::step_cache::CacheRule;
use crate::{Error, Result};
use kinora_sampler::{SamplerKind, Schedule};
use kinora_vae::LatentFormat;

/// The largest side of a clip, in pixels.
const LONGEST_SIDE: usize = 4096;
/// No grid has this side: frames are made larger, and cut.
const FULL_HD: usize = 1080;
/// The most frames of one clip: 10 minutes at 24 frames a second.
const MOST_FRAMES: usize = 14_401;
/// The most tokens of one clip: attention to more would take any machine days for a step.
const MOST_TOKENS: usize = 1 << 22;
/// How much of a given clip is replaced unless the request says it.
const USUAL_STRENGTH: f64 = 0.8;
/// The most denoising steps.
const MOST_STEPS: usize = 1000;

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
    /// Pixels of the file, where it is cut out of the frames.
    pub cropped: Option<(usize, usize)>,
    /// `[C, F, H, W]` of the latents.
    pub latent_shape: [usize; 4],
    /// Pixel frames per latent frame, but for the first.
    pub temporal_factor: usize,
    /// Frames per second.
    pub fps: f64,
    /// The sampler.
    pub sampler: SamplerKind,
    /// Shift of the schedule; not used with explicit sigmas or timesteps.
    pub shift: f64,
    /// Explicit sigmas, when the request gave them.
    pub sigmas: Option<Vec<f64>>,
    /// Explicit timesteps, when the request gave them.
    pub timesteps: Option<Vec<f64>>,
    /// Noise levels and timesteps.
    pub schedule: Schedule,
    /// Steps before those that the strength of a changed clip leaves out.
    pub(crate) asked_steps: usize,
    /// Guidance of the (first, second) expert; 1 is off.
    pub guidance_scale: [f64; 2],
    /// CFG-Zero*: the optimised scale.
    pub cfg_zero_star: bool,
    /// First steps whose velocity is zero.
    pub zero_init: usize,
    /// Noise levels above the first and up to the second are guided; `None` is all.
    pub guidance_interval: Option<[f64; 2]>,
    /// Reuse of what earlier steps computed.
    pub cache: Option<CacheRule>,
    /// Timestep below which the second expert works.
    pub boundary_timestep: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// Pictures, clips and the camera that the clip is made from.
    pub given: Given,
    /// The latents that are sampled.
    pub(crate) streams: Vec<StreamShape>,
    /// The inputs that the model accepts.
    pub(crate) capabilities: Capabilities,
    /// Latent pixels per side of the tiles that are decoded one after the other, where it is asked for.
    pub tile: Option<usize>,
    /// File that replaces the noise.
    pub init_latents: Option<std::path::PathBuf>,
    /// What was changed or is worth knowing, one sentence each.
    pub notices: Vec<String>,
    /// What the run will need at most.
    pub memory: MemoryPlan,
    /// The transformer's blocks wait in the host's memory for their turn: a GPU has no room for all.
    pub offload: bool,
    /// The text encoder computes on the CPU, for the same reason.
    pub text_on_cpu: bool,
}

impl Plan {
    /// Whether a second, unconditional prediction is made in some step.
    pub fn guided(&self) -> bool {
        let experts = if self.boundary_timestep.is_some() { 2 } else { 1 };
        self.guidance_scale[..experts].iter().any(|scale| *scale > 1.0)
    }

    /// Predictions of a guided step: of the prompt and, in a guided run, of the negative prompt.
    pub(crate) fn predictions(&self) -> usize {
        if self.guided() { 2 } else { 1 }
    }

    /// The prompt as the text encoder reads it: with the camera's move, where the network is not told of it otherwise.
    pub fn spoken_prompt(&self) -> String {
        match &self.given.camera {
            Some(camera) if self.given.says_camera(self.capabilities) => camera.in_prompt(&self.prompt),
            _ => self.prompt.clone(),
        }
    }

    /// The expert that works at `timestep`.
    pub(crate) fn expert(&self, timestep: f64) -> usize {
        self.boundary_timestep.map_or(0, |boundary| usize::from(timestep < boundary))
    }

    /// Whether the prediction of `expert` at the noise level `sigma` is guided.
    pub(crate) fn guided_at(&self, expert: usize, sigma: f64) -> bool {
        // Noise levels are those that f32 holds: 0.8 of the list is then 0.8 of the interval.
        let inside = |[low, high]: [f64; 2]| (low as f32) < sigma as f32 && sigma as f32 <= high as f32;
        let inside = self.guidance_interval.is_none_or(inside);
        inside && self.guidance_scale[expert] > 1.0
    }

    /// Denoising steps.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Fills in the defaults of `manifest` and checks everything that can be checked without weights.
    /// `goes_on` says that the clip continues another one.
    pub(crate) fn new(request: &Request, manifest: &Manifest, limits: &Limits, goes_on: bool) -> Result<Self> {
        let request = &request.with_mode(manifest)?;
        let mut notices = Vec::new();
        if request.prompt.trim().is_empty() {
            return Err(Error::request("the prompt is empty", "say what the clip should show"));
        }
        request.given.check(limits.capabilities, &manifest.name, goes_on)?;
        if limits.capabilities.untrained {
            let untrained = [("a last frame", request.given.last_image.is_some()), ("continuing a clip", goes_on)];
            let untrained = untrained.iter().filter(|(_, asked)| *asked);
            notices.extend(
                untrained.map(|(what, _)| format!("{what} is an experiment: {} did not learn it", manifest.name)),
            );
        }
        let guide = Guide::of(&request.given, goes_on)?;
        let ((width, height), cropped) = size(request, guide, manifest, limits, &mut notices)?;
        let own_fps = guide.fps.unwrap_or(manifest.defaults.fps);
        let fps = within("frames per second", request.fps.unwrap_or(own_fps), 1.0, 240.0)?;
        let frames = frames(request, guide, manifest, limits, fps, &mut notices)?;
        let sampler = sampler(request, manifest, limits)?;
        let own_shift = limits.scheduler.as_ref().and_then(|scheduler| scheduler.shift);
        let shift = within("shift", request.shift.or(own_shift).unwrap_or(manifest.defaults.shift), 0.01, 100.0)?;
        let schedule = schedule(request, manifest, sampler, shift)?;
        let asked_steps = schedule.steps();
        let schedule = match (&request.given.video, request.given.strength.unwrap_or(USUAL_STRENGTH)) {
            (Some(_), strength) => weakened(&schedule, strength)?,
            (None, _) => schedule,
        };
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
        let references = request.given.references.len();
        check_reach([channels, latent_frames + references, latent_shape[2], latent_shape[3]], limits)?;
        let zero_init = zero_init(request, schedule.steps())?;
        let rule = |setting| CacheRule::new(setting, manifest, sampler, schedule.steps());
        let cache = request.cache.map(rule).transpose()?;
        let plan = Self {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone().unwrap_or(manifest.defaults.negative_prompt.clone()),
            width,
            height,
            cropped,
            frames,
            latent_shape,
            temporal_factor: limits.latent_format.temporal_factor,
            fps,
            sampler,
            shift,
            sigmas: request.sigmas.clone(),
            timesteps: request.timesteps.clone(),
            schedule,
            asked_steps,
            guidance_scale,
            cfg_zero_star: request.cfg_zero_star,
            zero_init,
            guidance_interval: request.guidance_interval.map(interval).transpose()?,
            cache,
            boundary_timestep: limits.boundary_timestep,
            seed: request.seed.unwrap_or_else(random_seed),
            given: request.given.clone(),
            streams: (limits.streams)(ClipShape { latents: latent_shape, references }),
            capabilities: limits.capabilities,
            tile: request.output.tile,
            init_latents: request.init_latents.clone(),
            notices,
            memory: MemoryPlan::default(),
            offload: false,
            text_on_cpu: false,
        };
        Ok(plan.with_notices_of_guidance(request))
    }

    /// Says which settings of `request` do nothing because guidance is off.
    fn with_notices_of_guidance(mut self, request: &Request) -> Self {
        let settings = [
            ("the negative prompt", request.negative_prompt.as_ref().is_some_and(|text| !text.trim().is_empty())),
            ("CFG-Zero*", request.cfg_zero_star || self.zero_init > 0),
            ("the guidance interval", request.guidance_interval.is_some()),
        ];
        let unused: Vec<&str> = settings.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if !self.guided() && !unused.is_empty() {
            let verb = if unused.len() == 1 { "does" } else { "do" };
            self.notices.push(format!("guidance is off (scale 1): {} {verb} nothing", unused.join(" and ")));
        }
        if !self.guided() {
            self.zero_init = 0;
        }
        self
    }
}

/// What the given pictures and clips say about size and length, where the request does not.
#[derive(Debug, Clone, Copy, Default)]
struct Guide {
    /// Width / height.
    ratio: Option<f64>,
    frames: Option<usize>,
    fps: Option<f64>,
}

impl Guide {
    fn of(given: &Given, goes_on: bool) -> Result<Self> {
        if goes_on {
            return Ok(Self::default()); // its size is that of the clip before
        }
        if let Some(path) = given.video.as_ref().or(given.control.as_ref()) {
            let clip = kinora_media::open(path)?;
            let spec = clip.spec();
            let expand = given.expand.unwrap_or_default();
            let width = spec.width as f64 * (1.0 + expand.left + expand.right);
            let height = spec.height as f64 * (1.0 + expand.top + expand.bottom);
            let still = clip.frames() == Some(1);
            let fps = (!still).then(|| spec.fps.as_f64());
            return Ok(Self { ratio: Some(width / height), frames: clip.frames().filter(|_| !still), fps });
        }
        let picture = given.image.as_ref().or(given.last_image.as_ref());
        let picture = picture.map(kinora_media::read_image).transpose()?;
        Ok(Self { ratio: picture.map(|picture| picture.width as f64 / picture.height as f64), ..Self::default() })
    }
}

/// Width and height.
type Sides = (usize, usize);

/// The size that frames are made in, and the one that they are cut to.
fn size(
    request: &Request,
    guide: Guide,
    manifest: &Manifest,
    limits: &Limits,
    notices: &mut Vec<String>,
) -> Result<(Sides, Option<Sides>)> {
    let (mut own_width, mut own_height) = (manifest.defaults.width as f64, manifest.defaults.height as f64);
    if let Some(ratio) = guide.ratio {
        let area = own_width * own_height;
        (own_width, own_height) = ((area * ratio).sqrt(), (area / ratio).sqrt());
    }
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
            // A resolution that is named is meant as it is known, unless a picture or the model is upright or square.
            let named = resolution.map(Resolution::ratio).filter(|_| guide.ratio.is_none() && own_ratio > 1.0);
            let ratio = ratio.or(named).unwrap_or(own_ratio);
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
    let full_hd = |asked: f64| (asked - FULL_HD as f64).abs() < 0.5;
    let snap = |asked: f64, step: usize| {
        let steps = if full_hd(asked) { FULL_HD.div_ceil(step) } else { (asked / step as f64 - 1e-6).round() as usize };
        steps.max(1) * step
    };
    let (width, height) = (snap(asked_width, step_w), snap(asked_height, step_h));
    let cut = |asked: f64, size: usize| if full_hd(asked) { FULL_HD } else { size };
    let (cut_width, cut_height) = (cut(asked_width, width), cut(asked_height, height));
    let cropped = ((cut_width, cut_height) != (width, height)).then_some((cut_width, cut_height));
    // A size that only follows from a picture's shape was not asked for.
    let own = guide.ratio.is_some() && request.size == Size::Default;
    if let Some((cut_width, cut_height)) = cropped {
        notices.push(format!("made as {width}×{height} and cut to {cut_width}×{cut_height}"));
    }
    let (asked_width, asked_height) = (asked_width.round() as usize, asked_height.round() as usize);
    if !own && (asked_width, asked_height) != (cut_width, cut_height) {
        notices.push(format!(
            "{asked_width}×{asked_height} became {cut_width}×{cut_height}: the model's sizes are multiples of {step_w}×{step_h}"
        ));
    }
    Ok(((width, height), cropped))
}

fn frames(
    request: &Request,
    guide: Guide,
    manifest: &Manifest,
    limits: &Limits,
    fps: f64,
    notices: &mut Vec<String>,
) -> Result<usize> {
    let factor = limits.latent_format.temporal_factor;
    let asked = match (request.frames, request.duration) {
        (Some(_), Some(_)) => {
            return Err(Error::request("--frames and --duration are both given", "give one of the two"));
        }
        (Some(frames), None) => frames,
        (None, Some(seconds)) if seconds.is_finite() && seconds > 0.0 => (seconds * fps).round().max(1.0) as usize,
        (None, Some(seconds)) => {
            return Err(Error::request(format!("a duration of {seconds} s is not possible"), "give seconds above 0"));
        }
        (None, None) => guide.frames.map_or(manifest.defaults.frames, |frames| {
            // No more than there are.
            (frames.min(manifest.defaults.frames).max(1) - 1) / factor * factor + 1
        }),
    };
    if asked == 0 || asked > MOST_FRAMES {
        let what = format!("{asked} frames are outside 1 to {MOST_FRAMES}");
        return Err(Error::request(what, format!("the model's default is {}", manifest.defaults.frames)));
    }
    let frames = (asked - 1 + factor / 2) / factor * factor + 1;
    if frames != asked {
        notices.push(format!("{asked} frames became {frames}: the model makes {factor}k + 1"));
    }
    Ok(frames)
}

/// Of `schedule` the last steps, a part of `strength` of them, as in diffusers.
fn weakened(schedule: &Schedule, strength: f64) -> Result<Schedule> {
    let steps = schedule.steps();
    let left = ((steps as f64 * strength) as usize).min(steps);
    if left == 0 {
        let what = format!("a strength of {strength} leaves none of {steps} steps");
        return Err(Error::request(what, "give a larger --strength, or more --steps"));
    }
    Ok(schedule.after(steps - left)?)
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

fn sampler(request: &Request, manifest: &Manifest, limits: &Limits) -> Result<SamplerKind> {
    let own = limits.scheduler.as_ref().map(|scheduler| scheduler.sampler.as_ref());
    match (request.sampler, own) {
        (Some(kind), _) | (None, Some(Ok(&kind))) => Ok(kind),
        (None, None) => Ok(manifest.defaults.sampler.parse()?),
        (None, Some(Err(reason))) => {
            let what = format!("scheduler/scheduler_config.json asks for what no sampler here does: {reason}");
            Err(Error::request(what, format!("choose one, such as --sampler {}", manifest.defaults.sampler)))
        }
    }
}

fn schedule(request: &Request, manifest: &Manifest, sampler: SamplerKind, shift: f64) -> Result<Schedule> {
    let explicit = request.sigmas.is_some() || request.timesteps.is_some();
    if explicit && (request.steps.is_some() || request.shift.is_some()) {
        return Err(Error::request(
            "--sigmas and --timesteps exclude --steps and --shift",
            "the list says both already",
        ));
    }
    match (&request.sigmas, &request.timesteps) {
        (Some(_), Some(_)) => {
            return Err(Error::request("--sigmas and --timesteps are both given", "give one of the two"));
        }
        (Some(sigmas), None) => return Ok(Schedule::from_sigmas(sigmas)?),
        (None, Some(timesteps)) => return Ok(Schedule::from_timesteps(timesteps)?),
        (None, None) => {}
    }
    let steps = request.steps.unwrap_or(manifest.defaults.steps);
    if steps == 0 || steps > MOST_STEPS {
        let hint = format!("the model's default is {}", manifest.defaults.steps);
        return Err(Error::request(format!("{steps} steps are outside 1 to {MOST_STEPS}"), hint));
    }
    Ok(match sampler {
        SamplerKind::Euler | SamplerKind::Heun | SamplerKind::Lcm => Schedule::flow_match_euler(steps, shift)?,
        SamplerKind::DpmPp2m => Schedule::flow_dpm(steps, shift)?,
        SamplerKind::UniPc | SamplerKind::UniPcBh1 => Schedule::flow(steps, shift)?,
    })
}

fn guidance(request: &Request, manifest: &Manifest, limits: &Limits) -> Result<[f64; 2]> {
    if request.guidance_scale_2.is_some() && limits.boundary_timestep.is_none() {
        let what = "--guidance-scale-2 needs a model with two experts";
        return Err(Error::request(what, "Wan 2.2 A14B has two; leave it out here"));
    }
    let first = request.guidance_scale.unwrap_or(manifest.defaults.guidance_scale);
    let own_second = if request.guidance_scale.is_some() { None } else { manifest.defaults.guidance_scale_2 };
    let second = request.guidance_scale_2.or(own_second).unwrap_or(first);
    Ok([within("guidance scale", first, 0.0, 100.0)?, within("second guidance scale", second, 0.0, 100.0)?])
}

/// The paper's zero-init takes the first step unless the request says otherwise.
fn zero_init(request: &Request, steps: usize) -> Result<usize> {
    let zeroed = request.zero_init.unwrap_or(usize::from(request.cfg_zero_star));
    if zeroed < steps || zeroed == 0 {
        return Ok(zeroed);
    }
    let what = format!("{zeroed} of {steps} steps cannot be zeroed: nothing would be left to predict");
    Err(Error::request(what, "1 is usual, 0 turns it off"))
}

fn interval([low, high]: [f64; 2]) -> Result<[f64; 2]> {
    if (0.0..=1.0).contains(&low) && low < high && high <= 1.0 {
        return Ok([low, high]);
    }
    let what = format!("a guidance interval from {low} to {high} is not possible");
    Err(Error::request(what, "noise levels rise from 0 (clip) to 1 (noise), such as 0.2,0.9"))
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
