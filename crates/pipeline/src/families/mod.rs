//! Model families: which files are theirs and how their parts are built.
//!
//! A family is one file here plus one line in [`FAMILIES`].

mod wan;

use crate::memory::{Demand, PartsMemory};
use crate::plan::Limits;
use crate::source::Model;
use crate::{Error, LoadOptions, Result};
use candle_core::{DType, Device};
use kinora_checkpoint::{Quant, TensorInfo};
use kinora_dit::VideoDit;
use kinora_image_encoder::ImageEncoder;
use kinora_kernels::{LEVEL_VARIABLE, Level};
use kinora_text_encoder::TextEncoder;
use kinora_vae::{Parts, VideoVae};

/// Every family that the library knows.
pub(crate) static FAMILIES: &[&dyn Family] = &[&wan::Wan];

/// Where a network computes and in which dtype.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub device: Device,
    pub dtype: DType,
    pub quant: Option<Quant>,
}

impl Placement {
    /// What `options` ask for, with the defaults of the device.
    pub(crate) fn of(options: &LoadOptions) -> Result<Self> {
        let (device, quant) = (crate::device::open(&options.device)?, options.quant);
        if let Err(unknown) = Level::asked() {
            let hint = format!("unset {LEVEL_VARIABLE}: the best level of this machine is found without it");
            return Err(Error::request(format!("{LEVEL_VARIABLE}: {unknown}"), hint));
        }
        if let Some(quant) = quant
            && !device.is_cpu()
        {
            let what = format!("quantisation to {quant} works on the CPU only");
            return Err(Error::request(what, "leave --quant out, or use --device cpu"));
        }
        let dtype = options.dtype.unwrap_or(if device.is_cpu() { DType::F32 } else { DType::BF16 });
        Ok(Self { device, dtype, quant })
    }
}

/// What a single file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Transformer,
    Vae,
    TextEncoder,
    ImageEncoder,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Transformer, Self::Vae, Self::TextEncoder, Self::ImageEncoder];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "VAE",
            Self::TextEncoder => "text encoder",
            Self::ImageEncoder => "image encoder",
        }
    }
}

/// What a family can do.
pub(crate) trait Family: Sync {
    /// Its name in manifests.
    fn name(&self) -> &'static str;

    /// Whether a diffusers pipeline of this class belongs to the family.
    fn owns_pipeline(&self, class_name: &str) -> bool;

    /// What a single file with these tensors is, if it belongs to the family.
    fn role(&self, tensors: &[TensorInfo]) -> Option<Role>;

    /// Name of the known variant that a transformer with these tensors belongs to; `experts` is how many there are.
    fn variant(&self, transformer: &[TensorInfo], experts: usize) -> Option<&'static str>;

    /// What the model allows, from its configuration.
    fn limits(&self, model: &Model) -> Result<Limits>;

    /// Checks names and shapes of every part against its configuration, from the files' headers alone.
    fn check(&self, model: &Model) -> Result<()>;

    /// Builds the text stage.
    fn text_encoder(&self, model: &Model, placement: &Placement) -> Result<Box<dyn TextEncoder>>;

    /// Whether a transformer with these tensors also needs an image encoder.
    fn needs_image_encoder(&self, transformer: &[TensorInfo]) -> bool;

    /// Builds the image encoder, of a model that has one.
    fn image_encoder(&self, model: &Model, placement: &Placement) -> Result<Box<dyn ImageEncoder>>;

    /// Builds expert number `expert`.
    fn dit(&self, model: &Model, expert: usize, placement: &Placement) -> Result<Box<dyn VideoDit>>;

    /// Channels of the text context.
    fn text_dim(&self, model: &Model) -> Result<usize>;

    /// Leaves the text encoder of a model with random weights only its first `layers`, and a small table of words;
    /// returns how many it had.
    fn shorten_text_encoder(&self, model: &mut Model, layers: usize) -> Result<usize>;

    /// What each part takes, from shapes alone.
    fn memory(&self, model: &Model, placement: &Placement, demand: &Demand) -> Result<PartsMemory>;

    /// The largest side of tiles, in latent pixels, with which frames of `h × w` are decoded within `bytes`; `None` where
    /// whole frames are.
    fn tile_that_fits(&self, model: &Model, size: [usize; 2], threads: usize, bytes: u64) -> Result<Option<usize>>;

    /// Builds the VAE, or half of it.
    fn vae(&self, model: &Model, parts: Parts, placement: &Placement) -> Result<Box<dyn VideoVae>>;
}

/// The family of `model`.
pub(crate) fn family_of(model: &Model) -> Result<&'static dyn Family> {
    let name = &model.manifest.family;
    let known = FAMILIES.iter().copied().find(|family| family.name() == name);
    known.ok_or_else(|| Error::NotAModel {
        path: model.place.clone(),
        reason: format!("its family `{name}` is not known"),
    })
}
