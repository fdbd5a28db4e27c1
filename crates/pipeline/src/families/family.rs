//! [`Family`]: the components of a family's models and their capabilities; [`Predictor`]: one run's networks, as the
//! sampler sees them.

use super::capabilities::{Limits, Pass};
use crate::Result;
use crate::model::Model;
use crate::model::component::Component;
use crate::model::family_files::FamilyFiles;
use crate::plan::Plan;
use crate::plan::memory::{Demand, PartsMemory};
use crate::plan::placement::Placement;
use crate::run::observer::Observer;
use crate::run::warm::Warm;
use candle_core::Tensor;
use kinora_checkpoint::LoraTarget;
use kinora_dit::Reuse;
use kinora_media::{Frame, Readers, Sound};
use kinora_sampler::{Held, StepInfo, Streams};
use kinora_text_encoder::Unread;
use kinora_vae::{Parts, VideoVae};
use std::collections::BTreeMap;

/// Tensors by name: a family makes and reads them, the pipeline only keeps them.
pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A text encoder in memory.
pub(crate) trait PromptEncoder: Send {
    /// Encodes one prompt, positive or negative: its text contexts, each `[1, S, C]`.
    ///
    /// # Errors
    /// The tokenizer's and the network's.
    fn encode(&self, prompt: &str) -> Result<Tensors>;
}

/// The end of a clip that a run continues.
#[derive(Debug, Clone)]
pub(crate) enum ClipEnd {
    /// Its last latent frames, `[1, C, F, h, w]`.
    Latents(Tensor),
    /// Its last frames, in the size of the new clip.
    Frames(Vec<Frame>),
}

/// A model on its devices, and the plan of one run.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub model: &'a Model,
    pub placement: &'a Placement,
    pub readers: &'a Readers,
    pub plan: &'a Plan,
    /// Networks of earlier runs.
    pub warm: &'a Warm,
}

/// One pass of a transformer that is only timed.
pub(crate) struct TimedPass {
    /// Tokens that attend to each other.
    pub tokens: usize,
    /// Computes the pass.
    pub pass: Box<dyn FnMut() -> Result<()>>,
}

/// The abilities of a family.
pub(crate) trait Family: FamilyFiles {
    /// The sizes, the schedule and the inputs that the model's configuration allows.
    ///
    /// # Errors
    /// Configurations that do not parse or contradict each other.
    fn limits(&self, model: &Model) -> Result<Limits>;

    /// Checks names and shapes of every component against its configuration, from the files' headers alone.
    ///
    /// # Errors
    /// The first component that would not load.
    fn check(&self, model: &Model) -> Result<()>;

    /// The tensors of one of the model's transformers by every name that LoRAs have for them, and those that only other
    /// variants of the family have.
    ///
    /// # Errors
    /// A configuration that does not parse, and headers that cannot be read.
    fn lora_target(&self, model: &Model, transformer: &Component) -> Result<LoraTarget>;

    /// The names of a prompt's text contexts.
    fn context_names(&self) -> &'static [&'static str];

    /// Loads the text encoder, and returns the bytes of its weights too.
    ///
    /// # Errors
    /// Files that are damaged or do not belong together.
    fn text_encoder(&self, model: &Model, placement: &Placement) -> Result<(Box<dyn PromptEncoder>, u64)>;

    /// The end of `prompt` for which its contexts have no room; reads no weights. A model without files does not know it.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    fn unread(&self, model: &Model, prompt: &str) -> Result<Option<Unread>>;

    /// The words of `prompt` that the text encoder's vocabulary does not have; reads no weights.
    ///
    /// # Errors
    /// A tokenizer that cannot be read.
    fn unknown_words(&self, model: &Model, prompt: &str) -> Result<Vec<String>>;

    /// Encodes the conditioning inputs of a run that continues `end`, before its first step: tensors that
    /// [`Family::predictor`] takes back. The encoders are in memory only as long as they work.
    ///
    /// # Errors
    /// Inputs that cannot be read, components that do not load, and a stop.
    fn condition(&self, run: Run, end: Option<&ClipEnd>, observer: &mut Observer) -> Result<Tensors>;

    /// Whether [`Family::condition`] has anything to encode.
    fn is_conditioned(&self, plan: &Plan, end: Option<&ClipEnd>) -> bool;

    /// The networks of a run with the contexts of the prompt and, where the plan is guided, of the negative prompt, and
    /// with what [`Family::condition`] made.
    ///
    /// # Errors
    /// Conditioning tensors that are not of this run.
    fn predictor<'a>(
        &self,
        run: Run<'a>,
        prompts: Vec<Tensors>,
        conditioning: Tensors,
    ) -> Result<Box<dyn Predictor + 'a>>;

    /// Loads the VAE, or half of it, and returns the bytes of its weights too.
    ///
    /// # Errors
    /// Files that are damaged or do not belong together.
    fn vae(&self, model: &Model, parts: Parts, placement: &Placement) -> Result<(Box<dyn VideoVae>, u64)>;

    /// Decodes the sound of a clip from `latents`, which has a stream of it; none by a family that makes none.
    ///
    /// # Errors
    /// Files that are damaged or do not belong together; latents of another shape.
    fn sound(&self, model: &Model, placement: &Placement, latents: &Streams) -> Result<Option<Sound>> {
        let _ = (model, placement, latents);
        Ok(None)
    }

    /// The memory of each stage, from shapes alone.
    ///
    /// # Errors
    /// Configurations that do not parse, and headers that cannot be read.
    fn memory(&self, model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory>;

    /// Operations of one prediction for latents of `[C, F, H, W]`, as far as they grow with the clip.
    ///
    /// # Errors
    /// A configuration that does not parse.
    fn operations(&self, model: &Model, latents: [usize; 4]) -> Result<f64>;

    /// The largest side of tiles, in latent pixels, with which frames of `h × w` are decoded within `bytes`; `None` where
    /// whole frames are.
    ///
    /// # Errors
    /// A configuration that does not parse.
    fn tile_that_fits(
        &self,
        model: &Model,
        placement: &Placement,
        size: [usize; 2],
        threads: usize,
        bytes: u64,
    ) -> Result<Option<usize>>;

    /// Loads a transformer for passes over `latents [C, F, H, W]` that are timed, with random inputs, and with sparse attention
    /// that keeps a share where one is given.
    ///
    /// # Errors
    /// Files that are damaged, and sizes that the transformer does not allow.
    fn timed_pass(
        &self,
        model: &Model,
        placement: &Placement,
        latents: [usize; 4],
        keep: Option<f64>,
    ) -> Result<TimedPass>;

    /// Keeps only the first `layers` of the text encoder of a model with random weights, and a small table of words;
    /// returns the number of layers that it had.
    ///
    /// # Errors
    /// More layers than there are, or none.
    fn shorten_text_encoder(&self, model: &mut Model, layers: usize) -> Result<usize>;

    /// Keeps only the first `layers` blocks of the transformer of a model with random weights; returns the number that it had.
    ///
    /// # Errors
    /// More blocks than there are, or none.
    fn shorten_transformer(&self, model: &mut Model, layers: usize) -> Result<usize>;
}

/// The networks of one run. Latents are f32 streams on the device, in the order and of the shapes that
/// [`Limits::streams`] has.
pub(crate) trait Predictor {
    /// The latents that the first step starts from, made from `noise`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    fn start(&self, noise: Streams) -> Result<Streams>;

    /// The parts of the latents that no step changes, as [`Predictor::start`] has made them.
    ///
    /// # Errors
    /// A tensor operation that fails.
    fn held(&self) -> Result<Held> {
        Ok(Held::NOTHING)
    }

    /// The velocities for the latents `x`, in the networks' dtype. Steps begin with [`Pass::Prompt`]; other passes are those
    /// that [`Limits`] allow.
    ///
    /// # Errors
    /// A network that does not load, or an operation that fails.
    fn predict(&mut self, x: &Streams, step: StepInfo, pass: Pass, reuse: &mut dyn Reuse) -> Result<Streams>;

    /// The estimate of x0 with the parts of the clip that are known already.
    ///
    /// # Errors
    /// A tensor operation that fails.
    fn shown(&self, denoised: &Streams) -> Result<Streams>;

    /// The clip's latents after the last step: those of the video, `[1, C, F, H, W]`, are first; other streams have the shape
    /// that [`Limits::streams`] has.
    ///
    /// # Errors
    /// A tensor operation that fails.
    fn clip(&self, x: &Streams) -> Result<Streams>;
}
