//! [`Weights`]: a view of a checkpoint below one prefix, which returns tensors by canonical name and shape.

mod log;
mod matrices;
mod rows;

use crate::checkpoint::Checkpoint;
use crate::convert::Wanted;
use crate::file::TensorFile;
use crate::index::open_files;
use crate::random::RandomWeights;
use crate::similar::most_similar;
use crate::{Changes, Error, KeyMap, LoraError, Result};
use candle_core::{DType, Device, Shape, Tensor};
use kinora_formats::Blocks;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use log::{LoggedTensor, TensorLog};
pub use matrices::{LowRank, StoredMatrix};

/// A view of a checkpoint below one prefix. Cloning is cheap. All views of one checkpoint share the record of requested
/// tensors.
#[derive(Clone)]
pub struct Weights {
    inner: Arc<Inner>,
    prefix: String,
    quant: Option<Quant>,
    exact: bool,
    target: Option<Device>,
    zeros: bool,
    unread: bool,
    log: Option<TensorLog>,
    changes: Option<Arc<Changes>>,
}

/// The format to which the weights of linear layers are quantised when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// 8-bit integers with one scale per output channel.
    Int8,
    /// 8-bit floats (e4m3) with one scale per output channel.
    Fp8,
}

impl Quant {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Fp8];
}

struct Inner {
    source: Source,
    device: Device,
    dtype: DType,
    asked: Mutex<BTreeMap<String, Asked>>,
}

/// A tensor that was requested.
struct Asked {
    shape: Vec<usize>,
    bytes: usize,
}

enum Source {
    Files(Checkpoint),
    /// Checks every request against the files' headers and returns zeros; see [`Weights::headers_only`].
    Headers(Checkpoint),
    Tensors(HashMap<String, Tensor>),
    Random(RandomWeights),
    /// Returns zeros that take no memory; see [`Weights::recorder`].
    Recorder,
}

impl Display for Quant {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
        })
    }
}

impl FromStr for Quant {
    type Err = ();

    /// Parses the name that [`Display`] writes.
    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|quant| quant.to_string() == name).ok_or(())
    }
}

/// A summary of the loaded tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The number of tensors.
    pub tensors: usize,
    /// The number of elements of all tensors.
    pub parameters: usize,
    /// The stored size of all tensors, in bytes.
    pub bytes: usize,
    /// The number of tensors by stored dtype.
    pub dtypes: BTreeMap<String, usize>,
}

impl Weights {
    /// Opens the weights in `files` (safetensors, .pth, or a `.safetensors.index.json` in place of its shards), to be returned
    /// on `device` as `dtype`. Their names are those that the first fitting one of `key_maps` gives them; without a map, they
    /// are the canonical ones. Only headers are read here; tensors are read when they are requested.
    pub fn open(files: &[PathBuf], key_maps: &[&KeyMap], device: &Device, dtype: DType) -> Result<Self> {
        Self::from_files(open_files(files)?, key_maps, device, dtype)
    }

    /// Does the same as [`Weights::open`] with files that are already open, such as [`TensorFile::from_static`].
    pub fn from_files(files: Vec<TensorFile>, key_maps: &[&KeyMap], device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self::new(Source::Files(Checkpoint::new(files, key_maps)?), device, dtype))
    }

    /// Opens the weights in `files` for a module that is built only to check whether they fit it. Names, shapes and dtypes are
    /// checked as always, but no data is read: every request returns zeros (a broadcast scalar) of the dtype that
    /// [`Weights::open`] would return for a model of `dtype`.
    pub fn headers_only(files: Vec<TensorFile>, key_maps: &[&KeyMap], dtype: DType) -> Result<Self> {
        Ok(Self::new(Source::Headers(Checkpoint::new(files, key_maps)?), &Device::Cpu, dtype))
    }

    /// Returns weights from tensors in memory, to be returned on `device` as `dtype`.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, device: &Device, dtype: DType) -> Self {
        Self::new(Source::Tensors(tensors), device, dtype)
    }

    /// Returns weights without data: every request is recorded and returns zeros (a broadcast scalar), so that a module can be
    /// asked which names and shapes it needs. See [`Weights::asked`].
    pub fn recorder() -> Self {
        Self::recorder_of(DType::F32)
    }

    /// Returns a [`Weights::recorder`] for a model of `dtype`.
    pub fn recorder_of(dtype: DType) -> Self {
        Self::new(Source::Recorder, &Device::Cpu, dtype)
    }

    /// Returns weights that answer every request with random numbers of a plausible scale (variance 1/fan-in, norms around
    /// one, small biases), the same for the same seed and name. They serve to measure a model's speed without its checkpoint.
    pub fn random(seed: u64, device: &Device, dtype: DType) -> Self {
        Self::random_in_blocks(seed, device, dtype, None)
    }

    /// Returns [`Weights::random`] whose matrices are stored in ggml's blocks, as far as linear layers take them so.
    pub fn random_in_blocks(seed: u64, device: &Device, dtype: DType, blocks: Option<Blocks>) -> Self {
        Self::new(Source::Random(RandomWeights::new(seed, blocks)), device, dtype)
    }

    fn new(source: Source, device: &Device, dtype: DType) -> Self {
        let inner = Inner { source, device: device.clone(), dtype, asked: Mutex::default() };
        Self {
            inner: Arc::new(inner),
            prefix: String::new(),
            quant: None,
            exact: false,
            target: None,
            zeros: false,
            unread: false,
            log: None,
            changes: None,
        }
    }

    /// Returns the view below `name`: `weights.pp("blocks").pp(0)`.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        let prefix = self.full(&name.to_string());
        Self { prefix, ..self.clone() }
    }

    /// Returns the same view with this format for linear layers; `None` leaves their weights as they are stored. Requests
    /// return unquantised tensors in any case: the layers quantise them.
    #[must_use]
    pub fn with_quant(&self, quant: Option<Quant>) -> Self {
        Self { quant, ..self.clone() }
    }

    /// Returns the same view for linear layers that multiply quantised weights in f32, not as whole numbers with inputs that are
    /// quantised, too.
    #[must_use]
    pub fn with_exact(&self, exact: bool) -> Self {
        Self { exact, ..self.clone() }
    }

    /// Returns whether linear layers below this view multiply quantised weights in f32.
    pub fn exact(&self) -> bool {
        self.exact
    }

    /// Returns the same view for layers that are to compute on `device`, though the tensors are elsewhere, as placeholders are: so
    /// [`Weights::bytes`] are those of the form that weights have there.
    #[must_use]
    pub fn planned_on(&self, device: &Device) -> Self {
        Self { target: Some(device.clone()), ..self.clone() }
    }

    /// Returns the device on which layers below this view compute.
    pub fn target(&self) -> &Device {
        self.target.as_ref().unwrap_or(&self.inner.device)
    }

    /// Returns the same view for matrices that are made as zeros and may have stayed so: elsewhere a matrix of zeros is an
    /// error, because what it makes would not depend on what goes in.
    #[must_use]
    pub fn allowing_zeros(&self) -> Self {
        Self { zeros: true, ..self.clone() }
    }

    /// Returns the same view for a module that is built only to check whether the tensors fit it, because it reads them later and
    /// more than once: requests count, and are answered as by [`Weights::headers_only`].
    #[must_use]
    pub fn unread(&self) -> Self {
        Self { unread: true, ..self.clone() }
    }

    /// Returns the same view with these changes, by full canonical name. A tensor that has some is read in f32, changed, and
    /// rounded once, on the CPU. Its stored dtype ([`Weights::get_stored`]) is the model's: the 16 bits in which an f32 model's
    /// file may have it would round most of a small change away. Linear layers keep those of low rank apart ([`Weights::low_rank`]).
    #[must_use]
    pub fn with_changes(&self, changes: Arc<Changes>) -> Self {
        Self { changes: Some(changes), ..self.clone() }
    }

    /// Returns the format to which linear layers below this view are quantised.
    pub fn quant(&self) -> Option<Quant> {
        self.quant
    }

    /// Returns the device of the returned tensors.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Returns the dtype of the tensors that [`Weights::get`] returns.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// Returns the tensor `name` below this view, which must have `shape`, in the model's dtype.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, is not of floating point, or holds NaN, infinite values, or, as a
    /// matrix in a file, nothing but zeros.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.get_dtype(name, shape, self.inner.dtype)
    }

    /// Does the same as [`Weights::get`] with a dtype of the caller's choice (norms and modulation stay f32).
    pub fn get_dtype(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.ask(self.full(name), &shape.into(), Some(dtype))
    }

    /// Does the same as [`Weights::get`] with the stored dtype (large tables are converted row by row, when used). 8-bit floats
    /// are returned as bf16, which holds all of them exactly.
    pub fn get_stored(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.ask(self.full(name), &shape.into(), None)
    }

    /// Returns the tensor of the full name `name`; without a `dtype`, in the stored one.
    fn ask(&self, name: String, shape: &Shape, dtype: Option<DType>) -> Result<Tensor> {
        let changes = self.changes.as_deref().filter(|changes| !changes.of(&name).is_empty());
        let tensor = match (changes, &self.inner.source) {
            (None, _) => self.stored_tensor(&name, shape, dtype, &self.inner.device)?,
            (Some(_), _) if self.answers_zeros() => {
                let dtype = dtype.unwrap_or(self.inner.dtype);
                self.stored_tensor(&name, shape, Some(dtype), &self.inner.device)?
            }
            (Some(changes), _) => {
                let dtype = dtype.unwrap_or(self.inner.dtype);
                let original = self.stored_tensor(&name, shape, Some(DType::F32), &Device::Cpu)?;
                let changed = |original| changes.apply_on(&name, &original, dtype, &self.inner.device);
                original.map(changed).transpose()?
            }
        };
        let Some(tensor) = tensor else { return Err(self.missing(name)) };
        let asked = Asked { shape: shape.dims().to_vec(), bytes: shape.elem_count() * tensor.dtype().size_in_bytes() };
        self.add_to_log(&name, "", [tensor.clone()]);
        self.lock().insert(name, asked);
        Ok(tensor)
    }

    /// Returns the tensor without changes, or `None` if there is none of that name.
    fn stored_tensor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        Ok(match &self.inner.source {
            Source::Files(checkpoint) if !self.unread => {
                let wanted = Wanted { dtype: self.inner.dtype, device, zeros: self.zeros };
                checkpoint.get(name, shape.dims(), dtype, &wanted)?
            }
            Source::Tensors(tensors) => match tensors.get(name) {
                Some(tensor) => Some(from_memory(name, tensor, shape, dtype.unwrap_or(tensor.dtype()), device)?),
                None => None,
            },
            Source::Random(random) if !self.unread => {
                Some(random.get(name, shape.dims(), dtype.unwrap_or(self.inner.dtype), device)?)
            }
            Source::Headers(checkpoint) | Source::Files(checkpoint) => match checkpoint.check(name, shape.dims())? {
                Some(stored) => Some(placeholder(shape, dtype.unwrap_or(stored), device)?),
                None => None,
            },
            Source::Recorder | Source::Random(_) => {
                Some(placeholder(shape, dtype.unwrap_or(self.inner.dtype), device)?)
            }
        })
    }

    /// Whether requests of tensors in files are answered with zeros that take no memory.
    fn answers_zeros(&self) -> bool {
        self.unread || matches!(self.inner.source, Source::Headers(_) | Source::Recorder)
    }

    /// Returns whether the checkpoint has the tensor `name` below this view (recorders and random weights have none).
    pub fn contains(&self, name: &str) -> bool {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint.contains(&self.full(name)),
            Source::Tensors(tensors) => tensors.contains_key(&self.full(name)),
            Source::Random(_) | Source::Recorder => false,
        }
    }

    /// Returns the canonical names and shapes that were requested so far, over all views.
    pub fn asked(&self) -> BTreeMap<String, Vec<usize>> {
        self.lock().iter().map(|(name, asked)| (name.clone(), asked.shape.clone())).collect()
    }

    /// Returns the bytes of all tensors returned so far, over all views, or of the forms recorded by [`Weights::kept_in`].
    /// Placeholders count as the real tensors would.
    pub fn bytes(&self) -> usize {
        self.lock().values().map(|asked| asked.bytes).sum()
    }

    /// Returns [`Weights::bytes`] of the tensors whose canonical names start with `prefix`.
    pub fn bytes_of(&self, prefix: &str) -> usize {
        let asked = self.lock();
        asked.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, asked)| asked.bytes).sum()
    }

    /// Returns the canonical names and shapes of all tensors of the checkpoint.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.names().map(|name| (name.to_string(), self.shape_of(name).unwrap_or_default())).collect()
    }

    fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint.info(name).map(|info| info.shape),
            Source::Tensors(tensors) => tensors.get(name).map(|tensor| tensor.dims().to_vec()),
            Source::Random(_) | Source::Recorder => None,
        }
    }

    /// Checks that every tensor of the checkpoint was requested, and returns a summary.
    ///
    /// # Errors
    /// [`Error::Unused`] with the names of the other tensors, and [`LoraError::Unused`] if changes of this view were not.
    pub fn finish(&self) -> Result<LoadReport> {
        let asked = self.lock();
        let mut names: Vec<String> =
            self.names().filter(|name| !asked.contains_key(*name)).map(str::to_string).collect();
        names.sort();
        if !names.is_empty() {
            return Err(Error::Unused { names });
        }
        let mut changed = self.changes.iter().flat_map(|changes| changes.names());
        if let Some(tensor) = changed.find(|name| !asked.contains_key(*name)) {
            return Err(LoraError::Unused { tensor: tensor.to_string() }.into());
        }
        let mut report = LoadReport::default();
        for (name, Asked { shape, .. }) in asked.iter() {
            let elements = shape.iter().product();
            let (dtype, bytes) = self.stored(name, elements);
            report.tensors += 1;
            report.parameters += elements;
            report.bytes += bytes;
            *report.dtypes.entry(dtype).or_default() += 1;
        }
        Ok(report)
    }

    /// Returns the stored dtype and size in bytes of a tensor.
    fn stored(&self, name: &str, elements: usize) -> (String, usize) {
        let candle = |dtype: DType| (dtype.as_str().to_string(), elements * dtype.size_in_bytes());
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint
                .info(name)
                .map(|info| (info.format.to_string().to_lowercase(), info.bytes))
                .unwrap_or_default(),
            Source::Tensors(tensors) => tensors.get(name).map(|tensor| candle(tensor.dtype())).unwrap_or_default(),
            Source::Random(_) | Source::Recorder => candle(self.inner.dtype),
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => Box::new(checkpoint.names()),
            Source::Tensors(tensors) => Box::new(tensors.keys().map(String::as_str)),
            Source::Random(_) | Source::Recorder => Box::new(std::iter::empty()),
        }
    }

    /// Returns the error for a missing tensor. Tensors that were not requested yet are suggested first.
    fn missing(&self, name: String) -> Error {
        let asked = self.lock();
        let unasked = self.names().filter(|name| !asked.contains_key(*name));
        let similar = most_similar(&name, unasked).or_else(|| most_similar(&name, self.names()));
        Error::Missing { name, similar }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Asked>> {
        // The table is consistent after every insertion, so a panic elsewhere does not spoil it.
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

/// Returns zeros that take no memory.
fn placeholder(shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape.clone())?)
}

fn from_memory(name: &str, tensor: &Tensor, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    if tensor.dims() != shape.dims() {
        let (found, expected) = (tensor.dims().to_vec(), shape.dims().to_vec());
        return Err(Error::Shape { name: name.to_string(), found, expected });
    }
    // Zero times NaN or infinity is NaN.
    if !(tensor * 0.0)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        return Err(Error::NotFinite { name: name.to_string() });
    }
    Ok(tensor.to_device(device)?.to_dtype(dtype)?)
}
