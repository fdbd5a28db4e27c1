//! Model families: which files are theirs and how their parts are built.
//!
//! A family is one file here plus one line in [`FAMILIES`].

pub(crate) mod wan;

use crate::model::source::Model;
use crate::plan::memory::{Demand, PartsMemory};
use crate::plan::{Limits, Plan};
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
    /// Bytes of a GPU's memory that may be taken, where the device says it.
    pub gpu_memory: Option<u64>,
    /// The transformer's blocks wait in the host's memory for their turn.
    pub offload: bool,
}

impl Placement {
    /// What `options` ask for, with the defaults of the device.
    pub(crate) fn of(options: &LoadOptions) -> Result<Self> {
        let (device, quant) = (crate::device::open(&options.device)?, options.quant);
        if let Err(unknown) = Level::asked() {
            let hint = format!("unset {LEVEL_VARIABLE}: the best level of this machine is found without it");
            return Err(Error::request(format!("{LEVEL_VARIABLE}: {unknown}"), hint));
        }
        if let Some(quant) = quant {
            check_quant(quant, &device)?;
        }
        let dtype = options.dtype.unwrap_or(if device.is_cpu() { DType::F32 } else { DType::BF16 });
        let free = kinora_kernels::gpu_free_bytes(&device)?;
        let gpu_memory = free.map(|free| options.gpu_memory.unwrap_or(free).min(free));
        Ok(Self { device, dtype, quant, gpu_memory, offload: false })
    }

    /// The same on the CPU, for what a GPU has no room for. Weights of 16 bits stay so, the arithmetic is f32.
    pub(crate) fn on_cpu(&self) -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, gpu_memory: None, ..self.clone() }
    }

    /// As the plan has it.
    pub(crate) fn planned(&self, plan: &Plan) -> Self {
        Self { offload: plan.offload, ..self.clone() }
    }
}

/// Checks that the device multiplies what is rounded so.
fn check_quant(quant: Quant, device: &Device) -> Result<()> {
    let hint = match (quant, device) {
        (Quant::Int8, Device::Cpu | Device::Cuda(_)) => return Ok(()),
        (Quant::Fp8, Device::Cuda(_)) if crate::device::has_fp8() => return Ok(()),
        (Quant::Fp8, Device::Cpu) => "use --quant int8, or --device cuda",
        (Quant::Fp8, Device::Cuda(_)) => "use --quant int8: 8-bit floating point needs compute capability 8.9",
        (_, Device::Metal(_)) => "leave --quant out, or use --device cpu",
    };
    Err(Error::request(format!("quantisation to {quant} does not work on this device"), hint))
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
    fn tile_that_fits(
        &self,
        model: &Model,
        placement: &Placement,
        size: [usize; 2],
        threads: usize,
        bytes: u64,
    ) -> Result<Option<usize>>;

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
