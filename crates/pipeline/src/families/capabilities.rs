//! [`Capabilities`]: the conditioning inputs that a model accepts; [`Limits`]: the sizes and the schedule that it allows.

use crate::model::scheduler::Scheduler;
use kinora_sampler::DynamicShift;
use kinora_vae::LatentFormat;
use serde::Serialize;

/// The conditioning inputs, beside a prompt, that a model accepts. How it uses them is its family's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
pub struct Capabilities {
    /// The picture that a clip begins with.
    pub image: ImageInput,
    /// The picture that a clip ends with.
    pub last_image: LastImageInput,
    /// A control clip with its mask, references and expansion.
    pub control: bool,
    /// The path of a camera, as input of the network.
    pub camera: bool,
    /// A clip whose noised latents a run starts from.
    pub video: bool,
    /// The end of a clip that the new one continues.
    pub continuation: Option<Continuation>,
    /// It makes sound as well.
    pub sound: bool,
    /// It accepts a last image and continues clips, and was not trained to.
    pub untrained: bool,
}

/// Whether a model accepts a first image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageInput {
    /// No.
    #[default]
    No,
    /// With or without one.
    Optional,
    /// Only with one, or with a last image that stands alone.
    Required,
}

/// Whether a model accepts a last image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastImageInput {
    /// No.
    #[default]
    No,
    /// With or without a first image.
    Alone,
    /// Every clip needs a first and a last image.
    Required,
}

/// The part of a clip that its continuation is conditioned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Continuation {
    /// So many latent frames: the old and the new clip are decoded as one stream.
    Latents {
        /// Latent frames that are taken over.
        frames: usize,
        /// Latent frames before them that an encoder must see to encode them right.
        context: usize,
    },
    /// So many decoded frames, which the new clip repeats.
    Frames(usize),
}

impl Capabilities {
    /// The same as words, in the order of [`crate::Manifest::takes`].
    pub fn words(self) -> Vec<&'static str> {
        let all = [
            ("image", self.image != ImageInput::No),
            ("last-image", self.last_image != LastImageInput::No),
            ("control", self.control),
            ("camera", self.camera),
        ];
        all.into_iter().filter(|(_, accepts)| *accepts).map(|(word, _)| word).collect()
    }
}

/// A pass of the networks in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// With the prompt.
    Prompt,
    /// With the negative prompt.
    Negative,
    /// With the prompt, by a network that is perturbed.
    Perturbed,
    /// With the prompt, each latent stream without the others.
    Isolated,
}

impl Pass {
    /// The number of passes that a step can have; `pass as usize` is below.
    pub(crate) const MOST: usize = 4;
}

/// A latent tensor that the sampler walks from noise to a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamShape {
    pub name: &'static str,
    /// With the batch of 1.
    pub shape: Vec<usize>,
}

impl StreamShape {
    /// The name that a file with the `tensor` of each of several streams has for that of number `index`: the plain one for
    /// the first stream, which shows the clip, `latents_audio` for others.
    pub(crate) fn named(tensor: &str, index: usize, stream: &str) -> String {
        if index == 0 { tensor.to_string() } else { format!("{tensor}_{stream}") }
    }
}

/// The clip whose latent streams a family is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClipShape {
    /// `[C, F, H, W]` of the video's latents.
    pub latents: [usize; 4],
    /// Reference images.
    pub references: usize,
    /// Duration.
    pub seconds: f64,
}

/// The sizes and the schedule that a model allows, as its own files say.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub latent_format: LatentFormat,
    /// Patch of the transformer over frames, rows, columns.
    pub patch: [usize; 3],
    /// Patches along each axis that the transformer has positions for.
    pub reach: usize,
    /// Timestep below which the second expert works.
    pub boundary_timestep: Option<f64>,
    /// The model directory's scheduler.
    pub scheduler: Option<Scheduler>,
    pub capabilities: Capabilities,
    /// The latents of sound that the model makes beside those of the video.
    pub sound: Option<SoundLatents>,
    /// The shift of the noise schedule that the model's own files ask for, if they do.
    pub shift: Option<Shift>,
    /// The noise levels of settings that list none.
    pub levels: Levels,
    pub guidance: GuidanceKind,
}

/// The latents of sound, `[1, C, L, M]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SoundLatents {
    pub channels: usize,
    /// Bins of a channel.
    pub bins: usize,
    /// Latents of a second.
    pub rate: f64,
}

impl SoundLatents {
    /// The number of latents of so many seconds: the nearest one, halves to the even one, and at least one.
    pub(crate) fn length(&self, seconds: f64) -> usize {
        ((seconds * self.rate).round_ties_even() as usize).max(1)
    }
}

impl Limits {
    /// The name of the stream of the video, and that of the sound.
    pub(crate) const VIDEO: &str = "video";
    pub(crate) const AUDIO: &str = "audio";

    /// The latent streams of a clip: its video, with the latents of reference images before its own, then its sound. Noise is drawn
    /// in their order.
    pub(crate) fn streams(&self, clip: ClipShape) -> Vec<StreamShape> {
        let [c, f, h, w] = clip.latents;
        let video = StreamShape { name: Self::VIDEO, shape: vec![1, c, f + clip.references, h, w] };
        let audio = self.sound.map(|sound| {
            let shape = vec![1, sound.channels, sound.length(clip.seconds), sound.bins];
            StreamShape { name: Self::AUDIO, shape }
        });
        [video].into_iter().chain(audio).collect()
    }
}

/// What guides a model's clips, and with it the passes that its family can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuidanceKind {
    /// The velocities of the prompt and the negative prompt, by one scale.
    Velocities,
    /// Estimates of x0, by scales for every kind of [`Pass`] and for each latent stream.
    Estimates,
}

/// A shift of noise schedules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shift {
    /// The same for every clip.
    Fixed(f64),
    /// By the size of the clip.
    Dynamic(DynamicShift),
}

impl Shift {
    /// The shift of a clip of so many tokens.
    pub(crate) fn of(self, tokens: usize) -> f64 {
        match self {
            Self::Fixed(shift) => shift,
            Self::Dynamic(shift) => shift.shift(tokens),
        }
    }
}

/// The noise levels of a number of steps, before they are shifted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Levels {
    /// Those that the sampler's scheduler has in diffusers.
    OfSampler,
    /// Even ones, stretched to end at a level, if there is one; the same for every sampler.
    Even(Option<f64>),
}
