//! [`Plan`]: a request with every default filled in, checked and snapped to what the model allows.

pub(crate) mod enlarge;
pub(crate) mod fit;
mod frames;
pub(crate) mod guidance;
pub(crate) mod guide;
pub(crate) mod inputs;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod pace;
pub(crate) mod placement;
mod planned;
mod recipe;
mod sampling;
mod size;
pub(crate) mod sound;
mod within;

use crate::families::capabilities::{Capabilities, ClipShape, Limits, Pass, StreamShape};
use crate::model::manifest::Manifest;
use crate::plan::guidance::Combination;
use crate::plan::guide::Guide;
use crate::plan::sampling::Denoising;
use crate::request::Request;
use crate::request::attention::AttentionChoice;
use crate::request::inputs::Inputs;
use crate::request::path_text;
use crate::request::sampling::Sampling;
use crate::request::seed::random_seed;
use crate::step_cache::CacheRule;
use crate::{Error, Result};
pub(crate) use fit::in_tiles;
pub(crate) use frames::{fps_of_clip, token_grid};
use kinora_dit::Sparse;
use kinora_media::Readers;
use kinora_sampler::{SamplerKind, Schedule};
use kinora_vae::LatentFormat;
pub use planned::Planned;
pub(crate) use recipe::words_of;
use serde::Serialize;

/// One in so many steps, rounded up, has dense attention in a run with sparse attention: the first ones, in which a clip's
/// composition is decided.
const DENSE_PART: usize = 10;

/// A request with every default filled in, checked and snapped to what the model allows. It is the same on every machine;
/// [`Planned`] adds what depends on one.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The prompt as the user wrote it.
    pub prompt: String,
    /// The negative prompt; empty when there is none.
    pub negative_prompt: String,
    /// Width of the frames in pixels.
    pub width: usize,
    /// Height of the frames in pixels.
    pub height: usize,
    /// Pixel frames.
    pub frames: usize,
    /// Width and height of the file, if frames are cropped to it.
    pub cropped: Option<(usize, usize)>,
    /// `[C, F, H, W]` of the latents.
    pub latent_shape: [usize; 4],
    /// Pixel frames per latent frame, but for the first.
    pub temporal_factor: usize,
    /// Frames per second.
    pub fps: f64,
    /// All settings of denoising, as a recipe keeps them.
    pub sampling: Sampling,
    /// The sampler.
    pub sampler: SamplerKind,
    /// Noise levels and timesteps.
    pub schedule: Schedule,
    /// Guidance scales of the first and the second expert; 1 is off.
    pub guidance_scale: [f64; 2],
    /// How the predictions of a step become one.
    #[serde(skip)] // as a recipe has it, it is among the settings
    pub(crate) combination: Combination,
    /// Whether the unconditional prediction is scaled optimally (CFG-Zero*).
    pub cfg_zero_star: bool,
    /// Number of first steps whose velocity is zero.
    pub zero_init: usize,
    /// Noise levels above the first and up to the second are guided; `None` is all.
    pub guidance_interval: Option<[f64; 2]>,
    /// The step cache.
    #[serde(skip)] // as a recipe has it, it is among the settings
    pub cache: Option<CacheRule>,
    /// The self-attention; dense where sparse attention would leave nothing out.
    pub attention: AttentionChoice,
    /// Timestep below which the second expert works.
    pub boundary_timestep: Option<f64>,
    /// Seed of the noise.
    pub seed: u64,
    /// Conditioning inputs.
    pub inputs: Inputs,
    /// The latents that are sampled.
    #[serde(skip)]
    pub(crate) streams: Vec<StreamShape>,
    /// The inputs that the model accepts.
    #[serde(skip)]
    pub(crate) capabilities: Capabilities,
    /// The file whose noise replaces the seeded one.
    #[serde(with = "path_text")]
    pub init_latents: Option<std::path::PathBuf>,
}

impl Plan {
    /// Returns whether some step makes a second, unconditional prediction.
    pub fn guided(&self) -> bool {
        self.passes().contains(&Pass::Negative)
    }

    /// Passes of a guided step, in the order in which they are made.
    pub(crate) fn passes(&self) -> Vec<Pass> {
        let experts = if self.boundary_timestep.is_some() { 2 } else { 1 };
        self.combination.passes(&self.guidance_scale[..experts])
    }

    /// Passes of a step of `expert` at the noise level `sigma`, in the order in which they are made.
    pub(crate) fn passes_at(&self, expert: usize, sigma: f64) -> Vec<Pass> {
        // Noise levels are those that f32 holds: 0.8 of the list is then 0.8 of the interval.
        let inside = |[low, high]: [f64; 2]| (low as f32) < sigma as f32 && sigma as f32 <= high as f32;
        if self.guidance_interval.is_none_or(inside) {
            self.combination.passes(&self.guidance_scale[expert..=expert])
        } else {
            vec![Pass::Prompt]
        }
    }

    /// Returns the prompt as the text encoder reads it: with the camera's move, unless the network has an input for it.
    pub fn spoken_prompt(&self) -> String {
        match &self.inputs.camera {
            Some(camera) if self.inputs.says_camera(self.capabilities) => camera.in_prompt(&self.prompt),
            _ => self.prompt.clone(),
        }
    }

    /// Returns the expert that works at `timestep`.
    pub(crate) fn expert(&self, timestep: f64) -> usize {
        self.boundary_timestep.map_or(0, |boundary| usize::from(timestep < boundary))
    }

    /// Returns how the self-attention of a step leaves blocks out, if that of the run does; the first steps do not.
    pub(crate) fn sparse_at(&self, step: usize) -> Option<Sparse> {
        let dense = step < self.steps().div_ceil(DENSE_PART);
        self.attention.keep().map(|keep| Sparse { keep, references: self.inputs.references.len(), dense })
    }

    /// Returns the number of denoising steps.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Fills in the defaults of `manifest`, and checks everything that [`check`] does not; returns the plan and its notices,
    /// sentences about changed values and other facts worth knowing. The result depends on the arguments alone.
    pub(crate) fn new(
        request: &Request,
        probed: Probed,
        manifest: &Manifest,
        limits: &Limits,
    ) -> Result<(Self, Vec<String>)> {
        let mut notices = Vec::new();
        experiments(&request.inputs, manifest, limits, probed.continues, &mut notices);
        taken_as_text(&request.prompt, &mut notices);
        let Probed { guide, seed, .. } = probed;
        let ((width, height), cropped) = size::size(request, guide, manifest, limits, &mut notices)?;
        let fps = frames::fps(request, guide, manifest, &mut notices)?;
        let frames = frames::frames(request, guide, manifest, limits, fps, &mut notices)?;
        let LatentFormat { channels, spatial_factor, temporal_factor, .. } = limits.latent_format;
        let latent_frames = limits.latent_format.latent_frames(frames);
        let latent_shape @ [_, f, h, w] = [channels, latent_frames, height / spatial_factor, width / spatial_factor];
        let references = request.inputs.references.len();
        let grid = token_grid([channels, f + references, h, w], limits)?;
        let denoising = Denoising::new(request, manifest, limits, grid, &mut notices)?;
        let plan = Self {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone().unwrap_or(manifest.defaults.negative_prompt.clone()),
            width,
            height,
            cropped,
            frames,
            latent_shape,
            temporal_factor,
            fps,
            sampling: denoising.sampling,
            sampler: denoising.sampler,
            schedule: denoising.schedule,
            guidance_scale: denoising.guidance_scale,
            combination: denoising.combination,
            cfg_zero_star: denoising.cfg_zero_star,
            zero_init: denoising.zero_init,
            guidance_interval: denoising.guidance_interval,
            cache: denoising.cache,
            attention: denoising.attention,
            boundary_timestep: limits.boundary_timestep,
            seed,
            inputs: request.inputs.clone(),
            streams: limits.streams(ClipShape { latents: latent_shape, references, seconds: frames as f64 / fps }),
            capabilities: limits.capabilities,
            init_latents: request.init_latents.clone(),
        };
        Ok((plan, notices))
    }
}

/// Everything that a plan depends on beside the request and the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probed {
    /// Size and length of the picture or clip among the conditioning inputs.
    pub guide: Guide,
    /// The seed of the noise; random if nothing names one.
    pub seed: u64,
    /// Whether the clip continues another one.
    pub continues: bool,
}

impl Probed {
    /// Opens the clip, or reads the picture, that `request` names. `seed` replaces a random one if the request has none.
    pub(crate) fn new(request: &Request, seed: Option<u64>, continues: bool, readers: &Readers) -> Result<Self> {
        // A continuation has the size of the clip before.
        let guide = if continues { Guide::default() } else { Guide::probe(&request.inputs, readers)? };
        Ok(Self { guide, seed: request.seed.or(seed).unwrap_or_else(random_seed), continues })
    }
}

/// Checks the prompt and the conditioning inputs of `request`; opens no file.
pub(crate) fn check(request: &Request, manifest: &Manifest, limits: &Limits, continues: bool) -> Result<()> {
    if kinora_text_encoder::is_blank(&request.prompt) {
        return Err(Error::request("the prompt is empty", "say what the clip should show"));
    }
    request.inputs.check(limits.capabilities, &manifest.name, continues)
}

/// Adds a notice of conditioning inputs that the model accepts, but was not trained with.
fn experiments(inputs: &Inputs, manifest: &Manifest, limits: &Limits, continues: bool, notices: &mut Vec<String>) {
    if limits.capabilities.untrained {
        let untrained = [("a last frame", inputs.last_image.is_some()), ("continuing a clip", continues)];
        let untrained = untrained.iter().filter(|(_, asked)| *asked);
        notices
            .extend(untrained.map(|(what, _)| format!("{what} is an experiment: {} did not learn it", manifest.name)));
    }
}

/// Adds a notice of the notation of other tools, which the text encoder reads letter by letter.
fn taken_as_text(prompt: &str, notices: &mut Vec<String>) {
    let is_weighted =
        |inner: &str| inner.rsplit_once(':').is_some_and(|(_, weight)| weight.trim().parse::<f32>().is_ok());
    let mut brackets = prompt.split('(').skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    if brackets.any(is_weighted) || prompt.contains("<lora:") || prompt.contains("embedding:") {
        let text =
            "weights such as `(word:1.4)`, `<lora:…>` and `embedding:…` mean nothing here: they are read as text";
        notices.push(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::capabilities::{GuidanceKind, Levels};
    use crate::request::Size;

    fn limits(spatial_factor: usize) -> Limits {
        let latent_format =
            LatentFormat { channels: 1, temporal_factor: 4, spatial_factor, mean: vec![0.0], std: vec![1.0] };
        Limits {
            latent_format,
            patch: [1, 2, 2],
            reach: 1024,
            boundary_timestep: None,
            scheduler: None,
            capabilities: Capabilities::default(),
            sound: None,
            shift: None,
            levels: Levels::OfSampler,
            guidance: GuidanceKind::Velocities,
        }
    }

    fn plan(size: Size, guide: Guide, spatial_factor: usize) -> (Plan, Vec<String>) {
        let request = Request { prompt: "a red ball".into(), size, ..Request::default() };
        let probed = Probed { guide, seed: 7, continues: false };
        let manifest = &Manifest::known()[0];
        Plan::new(&request, probed, manifest, &limits(spatial_factor)).expect("a plan")
    }

    #[test]
    fn a_clip_that_is_given_guides_size_length_and_rate() {
        let guide = Guide { ratio: Some(1.0), frames: Some(30), fps: Some(24.0) };
        let (guided, notices) = plan(Size::Default, guide, 8);
        assert_eq!((guided.width, guided.height), (624, 624), "the area of the default");
        assert_eq!((guided.frames, guided.fps, guided.seed), (29, 24.0, 7));
        assert!(notices.is_empty(), "nothing else was asked for: {notices:?}");
    }

    #[test]
    fn half_a_step_rounds_down_and_full_hd_is_cropped() {
        let pixels = |width, height| Size::Pixels { width: Some(width), height: Some(height) };
        let (plan_720, notices) = plan(pixels(1280, 720), Guide::default(), 16);
        assert_eq!((plan_720.width, plan_720.height, plan_720.cropped), (1280, 704, None));
        assert!(notices.iter().any(|notice| notice.contains("1280×720 became 1280×704")), "{notices:?}");
        let (plan_1080, _) = plan(pixels(1920, 1080), Guide::default(), 8);
        assert_eq!((plan_1080.height, plan_1080.cropped), (1088, Some((1920, 1080))));
        assert_eq!(plan_1080.latent_shape, [1, 21, 136, 240]);
    }
}
